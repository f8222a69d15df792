/* ctrler_server: one replica of the controller, without its threads, sockets and files: events in
 * (raft/io.h), operations out. It joins the replicated state machine (ctrler_sm), its group, and
 * the client protocol (client/serve).
 *
 * Requests and their ends:
 *   CONFIG                  linearizable: a read round of the group, then answered from the state.
 * A group that shows its incarnation for the first time is bound to it before. JOIN LEAVE MOVE, dry
 * the same read round, then what the change would make of the state JOIN LEAVE MOVE PAUSE   a
 * proposal each; answered with the result of applying it CONFIRM BIND            likewise others
 * ST_INVALID: this is the controller
 */
#ifndef SHARDCTRLER_CTRLER_SERVER_H
#define SHARDCTRLER_CTRLER_SERVER_H

#include "client/shard_config.h"
#include "raft/rsm.h"

struct ctrler_server;

struct ctrler_server_options {
    struct group_options group; /* of group 0, as group_options_default made it, with bootstrap */
    uint64_t seed;              /* random: the cluster id is drawn from it, should this one begin */
    uint32_t n_shards;    /* wanted, a power of two; 0: SHARD_DEFAULT_COUNT, never a conflict */
    uint64_t incarnation; /* of this replica, for status */
    /* The group's replicas, of which this one lost its data: the group shall take it in again
     * (client/rejoin.h). Read while the server is created; NULL: it needs nothing of the kind. */
    const struct spec *rejoins;
    const char *version;       /* of the program, static */
    uint32_t max_pending;      /* requests being worked on; beyond: ST_BUSY */
    const struct trace *trace; /* may be NULL */
};

/* Fills in what is not asked of the caller; bootstrap is the group's SPEC. */
void ctrler_server_options_default(struct ctrler_server_options *options, raft_id id, uint64_t seed,
                                   const struct spec *spec);

/* Opens a replica on what its disk holds; as group_create, whose statuses it gives. The world
 * outlives the server. */
enum status ctrler_server_create(const struct ctrler_server_options *options,
                                 const struct group_world *world, struct io_log_content *log,
                                 const struct io_state_meta *state_meta, uint64_t now_ms,
                                 struct ctrler_server **server);
/* Requests still open are answered: changes with ST_UNKNOWN, reads with ST_SHUTDOWN. */
void ctrler_server_destroy(struct ctrler_server **server);

/* One event, of any type; IO_EVENT_STOP hands leadership over. */
void ctrler_server_step(struct ctrler_server *server, const struct io_event *event);
/* When the next TICK is due. */
uint64_t ctrler_server_next_deadline_ms(const struct ctrler_server *server);

/* The cluster's id (16 bytes), NULL as long as it is not known: for the hello and the identity on
 * disk. Once known it never changes. */
const uint8_t *ctrler_server_cluster_id(const struct ctrler_server *server);
/* Whether the number of shards that was wanted disagrees with the cluster's first log entry, which
 * gives *shards. False while that is not known. The program must refuse to run; a server that finds
 * out later halts with ST_CONFLICT. */
bool ctrler_server_shards_conflict(const struct ctrler_server *server, uint32_t *shards);

struct group *ctrler_server_group(const struct ctrler_server *server);
/* The latest configuration that this replica applied. */
const struct shard_config *ctrler_server_config(const struct ctrler_server *server);
/* Requests being worked on. */
uint32_t ctrler_server_pending(const struct ctrler_server *server);
/* Appends this service's metrics in Prometheus' text format; role, term, indexes and statistics are
 * the group's. */
void ctrler_server_metrics(const struct ctrler_server *server, struct buf *text);
/* What the two above look at. */
struct ctrler_sm;
struct serve;
const struct ctrler_sm *ctrler_server_sm(const struct ctrler_server *server);
const struct serve *ctrler_server_serve(const struct ctrler_server *server);
/* Whether the replica stopped serving for good (world->halt was called). */
bool ctrler_server_is_halted(const struct ctrler_server *server);

#endif
