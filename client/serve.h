/* serve: what every server does the same with its clients' messages: decode, bound, answer PING,
 * STATUS, TRANSFER, REPLICAS and REPLICA, remember who waits for what. The services (shardctrler,
 * shardkv) see decoded requests and hand back responses. */
#ifndef CLIENT_SERVE_H
#define CLIENT_SERVE_H

#include "client/proto.h"
#include "raft/rsm.h"

#define SERVE_MAX_PENDING_BYTES (256ull << 20)

struct serve;

struct serve_options {
    struct io_net *net;
    struct io_log *log; /* for its size in a status row; NULL: that of the entries in memory */
    struct group *group;
    group_id gid;
    raft_id id;
    uint64_t incarnation; /* of this replica */
    const char *version;
    uint64_t start_ms;
    uint32_t max_pending;       /* requests being worked on; beyond: ST_BUSY */
    uint64_t max_pending_bytes; /* likewise; 0: SERVE_MAX_PENDING_BYTES */
    /* Adds the service's part to a status row: incarnations, cluster id, shards, moves (arrays in
     * mem_alloc'ed memory; serve releases them). May be NULL. */
    void (*status)(void *context, struct proto_node_status *status);
    /* The number of the configuration that this server is at, for response headers. */
    config_num (*config)(void *context);
    void *context;
    const struct trace *trace;
};

/* Copies the options; what they point to must outlive the serve. */
struct serve *serve_create(const struct serve_options *options);
/* Every ticket must have been answered. */
void serve_destroy(struct serve **serve);

/* Who asked: kept by the service until it answers, exactly once, by serve_respond or serve_refuse.
 */
struct serve_ticket {
    io_conn conn;
    size_t bytes; /* of the request */
    uint64_t request_id;
    enum proto_op op;
    uint64_t deadline_ms; /* of the loop's clock; UINT64_MAX: none */
    uint64_t begun_us;    /* when it came, for statistics */
};

/* How many requests the service has taken and not answered yet. */
uint32_t serve_pending(const struct serve *serve);

/* Each event of the server passes here first: it tells the time, for statistics; what comes from
 * peers tells who is alive, and a client that is gone holds nothing any more. */
void serve_observe(struct serve *serve, const struct io_event *event);
/* Appends the metrics of all requests, also of those answered here, in Prometheus' text format. */
void serve_put_metrics(const struct serve *serve, struct buf *text);

/* Takes an IO_EVENT_CLIENT_MESSAGE. True: *request is for the service (slices point into the
 * message, valid during the event; proto_request_fini after use) and *ticket says whom to answer.
 * False: it was answered or dropped here. */
bool serve_message(struct serve *serve, const struct io_event *event, struct proto_request *request,
                   struct serve_ticket *ticket);

/* Answers: fills in op, request_id, hints, configuration and cluster time. An answer after the
 * ticket's deadline is sent too: the client decides. */
void serve_respond(struct serve *serve, const struct serve_ticket *ticket,
                   struct proto_response *response);
/* Answers with a status and one clause (may be NULL). */
void serve_refuse(struct serve *serve, const struct serve_ticket *ticket, enum status status,
                  const char *text);

/* Who votes in the group, as a SPEC: of the configuration in force if that is committed and no
 * change is under way; else false. */
bool serve_voters(const struct group *group, struct spec *voters);

#endif
