/* For the tests of shardkv: controllers and replica groups, the shipped servers, in a simulated
 * world, and a simple client that speaks the protocol by itself: it asks one group at a time and
 * sees every answer. Calls run the world until the answer is there. */
#ifndef TESTS_SIM_KV_FIXTURE_H
#define TESTS_SIM_KV_FIXTURE_H

#include <stdio.h>

#include "client/ctrler_clerk.h"
#include "raft/util/mem.h"
#include "shardctrler/ctrler_server.h"
#include "shardkv/kv_server.h"
#include "shardkv/kv_sm.h"
#include "tests/cmocka.h"
#include "tests/sim/world.h"

#define FIXTURE_SHARDS     16
#define FIXTURE_MAX_GROUPS 7
#define FIXTURE_WAIT_MS    60000

struct fixture {
    struct world *world;
    size_t n_ctrlers, n_groups, n_replicas;
    struct spec ctrlers, groups[FIXTURE_MAX_GROUPS];
    /* Options, to be set between init and start; 0: the default. */
    uint32_t piece_bytes, max_sessions, max_copies;
    uint64_t bytes_per_s; /* of shards that arrive */
    bool checkpoints;     /* small checkpoints, compacted logs */
    bool rejoins;         /* who joins its group (world_join) has itself taken in by it */
    struct caller *caller;
    struct ctrler_clerk *admin;
    size_t client;
    uint64_t seq;       /* of the client's session */
    uint64_t issued_at; /* the time it last heard of */
    char key[32];       /* fixture_key's memory */
};

/* The answer to the last call, in memory of its own. */
struct answer {
    bool ended;
    enum status status;
    uint32_t gid_hint;
    config_num config;
    uint64_t cluster_time;
    struct buf bytes; /* GET: the value; SCAN: "key=value\n" each */
    uint64_t version;
    bool more;
    struct kv_write_result write;
    config_num num;              /* of an administrative change */
    struct proto_response piece; /* PULL: kind and number */
    struct buf body, cursor;     /* and the rest */
};

/* ---- The cluster: kv_fixture_nodes.c ---- */
uint32_t fixture_gid(size_t group);
size_t fixture_node(const struct fixture *fixture, size_t group, size_t i);
void fixture_init(struct fixture *fixture, size_t n_groups, size_t n_replicas, uint64_t seed);
void fixture_start(struct fixture *fixture);
void fixture_fini(struct fixture *fixture);
/* Starts more replicas, say of a group that nobody should take for the real one. */
extern const struct world_node_ops fixture_kv_ops;
void fixture_add(struct fixture *fixture, group_id gid, const struct spec *spec,
                 const struct world_node_ops *ops);

/* ---- Asking and telling: kv_fixture.c ---- */
void answer_fini(struct answer *answer);
void fixture_await(struct fixture *fixture, struct answer *answer);
/* A call's end; its context is the struct answer. */
void fixture_on_end(void *context, const struct caller_end *end);
/* Asks one group; *answer is overwritten. Bounded by ms; then TIMEOUT, UNAVAILABLE or UNKNOWN. */
enum status fixture_ask(struct fixture *fixture, size_t group, const struct proto_request *request,
                        uint64_t ms, struct answer *answer);
/* Asks one replica and nobody else. */
enum status fixture_ask_replica(struct fixture *fixture, size_t group, size_t i,
                                const struct proto_request *request, struct answer *answer);
/* A key that lies in the shard; valid until the next call. */
const char *fixture_key(struct fixture *fixture, shard_id shard, unsigned n);
struct proto_request fixture_write_request(struct fixture *fixture, enum kv_operation_type type,
                                           const char *key, const char *value);
struct proto_request fixture_get_request(const char *key);
/* Asks the groups in turn until one answers other than "not mine". */
enum status fixture_ask_any(struct fixture *fixture, const struct proto_request *request,
                            struct answer *answer);
void fixture_put(struct fixture *fixture, const char *key, const char *value);
void fixture_append(struct fixture *fixture, const char *key, const char *value);
/* value NULL: there is no such key. */
void fixture_check(struct fixture *fixture, const char *key, const char *value);
/* The same with one key in each shard. */
void fixture_put_everywhere(struct fixture *fixture, const char *value);
void fixture_check_everywhere(struct fixture *fixture, const char *value);
config_num fixture_join(struct fixture *fixture, size_t group);
config_num fixture_leave(struct fixture *fixture, size_t group);
config_num fixture_move(struct fixture *fixture, shard_id shard, size_t group);
/* moves_paused, and time for the groups to hear of it. */
void fixture_set_paused(struct fixture *fixture, bool paused);

/* ---- Looking inside: kv_fixture_inside.c ---- */
struct kv_server *fixture_server(const struct fixture *fixture, size_t group, size_t i);
/* The replica of the group that leads, SIZE_MAX if none does. */
size_t fixture_leader(const struct fixture *fixture, size_t group);
/* The state of the group's leader; NULL while there is none. */
const struct kv_sm *fixture_sm(const struct fixture *fixture, size_t group);
/* Runs until those groups have adopted the configuration and no shard of theirs is moving. */
void fixture_settle(struct fixture *fixture, config_num num, unsigned groups);
void fixture_crash_group(struct fixture *fixture, size_t group);
void fixture_start_group(struct fixture *fixture, size_t group);

/* For the parts of the fixture. After every step of any server: at most one group's leader serves a
 * shard. */
void fixture_check_owners(void *context, void *server, size_t node);

#endif
