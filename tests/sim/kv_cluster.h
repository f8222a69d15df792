/* kv_cluster: controllers, replica groups and clients in a simulated world, all of them the shipped
 * code, with the helpers of the public key/value suites.
 *
 * Groups are numbered from 0 here; group g has gid 100 + g. Calls below that end in "now" run the
 * world until the answer is there and fail the test if it does not come.
 */
#ifndef TESTS_SIM_KV_CLUSTER_H
#define TESTS_SIM_KV_CLUSTER_H

#include "client/clerk.h"
#include "client/ctrler_clerk.h"
#include "shardkv/kv_sm.h"
#include "tests/sim/history.h"
#include "tests/sim/world.h"

#define KV_CLUSTER_MAX_GROUPS 10
#define KV_NO_SNAPSHOTS       (1ull << 40) /* as max_raft_state: the suites' -1 */

struct kv_cluster;
struct kv_client;

struct kv_cluster_options {
    size_t n_ctrlers;
    size_t n_groups;
    size_t n_replicas;                      /* of each group */
    size_t replicas[KV_CLUSTER_MAX_GROUPS]; /* of this group, if not 0 */
    uint32_t n_shards;                      /* 16 by default */
    bool unreliable;
    bool snapshots; /* small checkpoints, compacted logs */
    /* The suites' maxraftstate: a checkpoint, and a compaction, whenever so many bytes of log were
     * applied. 0: as `snapshots` says. */
    uint64_t max_raft_state;
    bool record; /* every client's operations, in a history that must be linearizable at the end */
    uint32_t snapshot_chunk_bytes; /* 0: the default */
    bool use_wal;                  /* see world_use_wal */
    bool may_halt;                 /* a replica that halted is no failure of the test */
    bool quiet;                    /* no statistics line */
    bool second_ctrlers;           /* three more controllers, of whom the groups know nothing */
    uint32_t max_sessions; /* records a shard, bytes of a moving shard's piece; 0: the defaults */
    uint32_t piece_bytes;
    uint32_t max_copies;  /* that arrive at a group at once; 0: the default */
    uint64_t bytes_per_s; /* of them; 0: as fast as can be */
    uint64_t seed;
};

/* Starts everything; no group has joined. name: for the statistics line. */
struct kv_cluster *kv_cluster_create(const char *name, const struct kv_cluster_options *options);
/* Checks that no replica halted; prints the statistics line. */
void kv_cluster_destroy(struct kv_cluster **cluster);

struct world *kv_cluster_world(struct kv_cluster *cluster);
void kv_cluster_sleep(struct kv_cluster *cluster, uint64_t ms);
void kv_cluster_set_unreliable(struct kv_cluster *cluster, bool unreliable);
uint32_t kv_cluster_gid(size_t group);
const struct spec *kv_cluster_spec(const struct kv_cluster *cluster, size_t group);
const struct spec *kv_cluster_ctrlers(const struct kv_cluster *cluster);

/* The world's number of replica i (from 0) of a group, or of a controller. */
size_t kv_cluster_node(const struct kv_cluster *cluster, size_t group, size_t i);
size_t kv_cluster_ctrler(const struct kv_cluster *cluster, size_t i);
size_t kv_cluster_n_replicas(const struct kv_cluster *cluster, size_t group);
/* The replica that leads, SIZE_MAX if none does. */
size_t kv_cluster_leader(const struct kv_cluster *cluster, size_t group);
size_t kv_cluster_ctrler_leader(const struct kv_cluster *cluster);

void kv_cluster_stop_group(struct kv_cluster *cluster, size_t group); /* all replicas, by a crash */
void kv_cluster_start_group(struct kv_cluster *cluster, size_t group);
/* Crashes and starts replica i of every group at once. */
void kv_cluster_stop_replica(struct kv_cluster *cluster, size_t i);
void kv_cluster_start_replica(struct kv_cluster *cluster, size_t i);

/* Fails the test if a replica of a group holds more log than 8 times max_raft_state; or, with
 * KV_NO_SNAPSHOTS, if one took, sent or installed a snapshot or holds a byte of one. */
void kv_cluster_check_limits(struct kv_cluster *cluster);
uint64_t kv_cluster_max_log_bytes(const struct kv_cluster *cluster); /* of all groups' replicas */

/* The state machine of replica i; NULL if it does not run. */
const struct kv_sm *kv_cluster_sm(const struct kv_cluster *cluster, size_t group, size_t i);

/* ---- Administration ---- */

/* A change's end; it must stay until then. */
struct kv_change {
    bool ended;
    enum status status;
    config_num num;
};
/* What a clerk of the controller calls at the end of a change; context: the struct kv_change. */
void kv_change_on_end(void *context, enum status status, config_num num, const char *text);
bool kv_change_has_ended(void *change); /* for world_run_until */

enum status kv_cluster_join(struct kv_cluster *cluster, size_t group, config_num *num);
enum status kv_cluster_leave(struct kv_cluster *cluster, size_t group, config_num *num);
enum status kv_cluster_move(struct kv_cluster *cluster, shard_id shard, uint32_t gid,
                            config_num *num);
void kv_cluster_join_now(struct kv_cluster *cluster, size_t group);
void kv_cluster_leave_now(struct kv_cluster *cluster, size_t group);
void kv_cluster_join_many_now(struct kv_cluster *cluster, const size_t *groups, uint32_t n);
void kv_cluster_leave_many_now(struct kv_cluster *cluster, const size_t *groups, uint32_t n);
/* A configuration (CONFIG_LATEST or a number), valid until the next query. */
const struct shard_config *kv_cluster_config(struct kv_cluster *cluster, config_num num);

/* ---- Clients ---- */

struct kv_client *kv_client_create(struct kv_cluster *cluster);
/* One whose clerk believes the second controllers, and the administration of those. */
struct kv_client *kv_client_create_astray(struct kv_cluster *cluster);
void kv_client_join_now(struct kv_client *client, size_t group);
/* Its operations are noted there from now on; NULL: nowhere. At first, in the cluster's history. */
void kv_client_record(struct kv_client *client, struct history *history);
/* Notes that the key holds this value now: how a history begins in the middle of a life. Nothing
 * else may be going on with the key. */
void kv_cluster_note(struct kv_cluster *cluster, struct history *history, const char *key,
                     struct slice value);
void kv_client_destroy(struct kv_client **client);
struct clerk *kv_client_clerk(struct kv_client *client);
size_t kv_client_number(const struct kv_client *client); /* in the world */
/* For changes that run beside other things; world_reschedule after each call. */
struct ctrler_clerk *kv_client_admin(struct kv_client *client);

/* One operation's end, in memory of its own. */
struct kv_outcome {
    bool ended;
    enum status status;
    struct buf value;
    uint64_t version; /* get */
    struct kv_write_result result;
    uint64_t start_us, end_us;
};
void kv_outcome_fini(struct kv_outcome *outcome);
/* Runs the world until it has ended; fails the test if it has not after so long. */
void kv_outcome_await(struct kv_cluster *cluster, struct kv_outcome *outcome, uint64_t ms);

/* Starts an operation; *outcome must stay until it ended. */
void kv_client_get(struct kv_client *client, const char *key, uint64_t ms,
                   struct kv_outcome *outcome);
void kv_client_put(struct kv_client *client, const char *key, struct slice value, uint64_t ms,
                   struct kv_outcome *outcome);
void kv_client_append(struct kv_client *client, const char *key, struct slice value, uint64_t ms,
                      struct kv_outcome *outcome);
/* Puts the value if the condition holds: KV_IF_ABSENT, or KV_IF_VALUE equal to `old`. */
void kv_client_cas(struct kv_client *client, const char *key, enum kv_condition_type type,
                   struct slice old, struct slice value, uint64_t ms, struct kv_outcome *outcome);

/* The same, run until they end; each must end OK within 60 s. */
void kv_put_now(struct kv_client *client, const char *key, const char *value);
void kv_append_now(struct kv_client *client, const char *key, const char *value);
/* Fails the test unless the value is exactly this; NULL: no such key. */
void kv_check_now(struct kv_client *client, const char *key, const char *value);
/* The value, appended; false if there is no such key. */
bool kv_get_now(struct kv_client *client, const char *key, struct buf *value);

/* Different keys; number i lies in shard i mod the number of shards. Static text of the cluster. */
const char *kv_cluster_key(struct kv_cluster *cluster, size_t i);

#endif
