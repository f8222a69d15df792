/* kv_server: one replica of a shard group, as a sink of events. It joins the group's runtime
 * (raft/rsm.h), its service (kv_sm), the clients' requests (client/serve.h), the watch on the
 * controller and the migrations. Pure: the world comes in as struct io_event and goes out through
 * the tables of raft/io.h.
 */
#ifndef SHARDKV_KV_SERVER_H
#define SHARDKV_KV_SERVER_H

#include "client/serve.h"
#include "raft/rsm.h"
#include "shardkv/migrate.h"

struct kv_server;

struct kv_server_options {
    /* gid, id, limits, bootstrap configuration, trace: see group_options_default. */
    struct group_options group;
    struct spec ctrlers;  /* the controller's replicas */
    uint64_t seed;        /* random: for the client id of this server, back-off, copy ids */
    uint64_t incarnation; /* of this replica, for status */
    /* The group's replicas, of which this one lost its data: the group shall take it in again
     * (client/rejoin.h). Read while the server is created; NULL: it needs nothing of the kind. */
    const struct spec *rejoins;
    const char *version;   /* of the program; static */
    uint32_t max_pending;  /* client requests being worked on; beyond, ST_BUSY */
    uint32_t max_sessions; /* records a shard; the same on every replica */
    uint32_t poll_ms;      /* how often the leader asks the controller for news */
    struct migrate_options migrate;
};

/* Everything but ctrlers, incarnation and the bootstrap configuration. */
void kv_server_options_default(struct kv_server_options *options, group_id gid, raft_id id,
                               uint64_t seed);

/* As group_create: takes log's references over; world's tables must outlive the server. */
enum status kv_server_create(const struct kv_server_options *options,
                             const struct group_world *world, struct io_log_content *log,
                             const struct io_state_meta *state_meta, uint64_t now_ms,
                             struct kv_server **server);
void kv_server_destroy(struct kv_server **server);

/* Every event; those of other groups are ignored. */
void kv_server_step(struct kv_server *server, const struct io_event *event);
/* When the next IO_EVENT_TICK is due. */
uint64_t kv_server_next_deadline_ms(const struct kv_server *server);

/* The cluster's id, 16 bytes; NULL until the group has learnt it. */
const uint8_t *kv_server_cluster_id(const struct kv_server *server);
struct group *kv_server_group(struct kv_server *server);
/* Why it serves nothing although its group could (static text); NULL: it does. */
const char *kv_server_trouble(const struct kv_server *server);
/* Appends this service's metrics in Prometheus' text format. */
void kv_server_metrics(struct kv_server *server, struct buf *text);

/* For tests and checkers: the replicated state as this replica has applied it. */
struct kv_sm;
const struct kv_sm *kv_server_sm(const struct kv_server *server);

#endif
