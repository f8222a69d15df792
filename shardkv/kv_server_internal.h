/* Shared by kv_server.c (events and life), kv_requests.c (what clients ask), kv_handover.c (what
 * other groups ask), kv_status.c and kv_metrics.c. */
#ifndef SHARDKV_KV_SERVER_INTERNAL_H
#define SHARDKV_KV_SERVER_INTERNAL_H

#include <sys/queue.h>

#include "client/rejoin.h"
#include "shardkv/census.h"
#include "shardkv/config_watch.h"
#include "shardkv/confirm.h"
#include "shardkv/kv_server.h"
#include "shardkv/migrate.h"
#include "shardkv/release.h"
#include "shardkv/report.h"

struct kv_freeze {
    config_num num;
    uint64_t since_ms;
};

/* Reads that are confirmed, but for another turn. The first one of a connection waits on level 0,
 * its next one on level 1, and so on; lower levels go first, each oldest first. So who asks for
 * thousands of values waits for them, and nobody else does. Connections are told apart by their
 * number modulo KV_LATER_CONNS: who shares it with another shares the levels. What
 * gave much when it was last asked for begins a level further back: so two hundred connections that
 * ask for a large value each don't come before one that reads a small one. */
#define KV_LATER_LEVELS 8
#define KV_LATER_CONNS  4096
#define KV_LATER_KEYS   4096
#define KV_SMALL_ANSWER (64u << 10)
struct kv_later_reads {
    TAILQ_HEAD(, kv_request) levels[KV_LATER_LEVELS];
    TAILQ_HEAD(, kv_request) unconfirmed; /* those of whom is not known yet whether they may be */
    uint32_t of_conn[KV_LATER_CONNS];     /* how many wait */
    bool gave_much[KV_LATER_KEYS];        /* by what was asked for, hashed */
    uint32_t n;
};

struct kv_server {
    struct kv_server_options options;
    struct group_world world;
    struct rsm_service_ops ops;
    struct kv_context context;
    struct kv_sm *sm;
    struct group *group;
    struct serve *serve;
    struct caller *caller;
    struct ctrler_clerk *clerk;
    struct config_watch *watch;
    struct migrate *migrate;
    struct release *release;
    struct confirm *confirm;
    struct report *report;
    struct census *census;
    struct rejoin *rejoin;          /* NULL: the replica needs none */
    char (*urls)[SPEC_MAX_URL + 1]; /* by endpoint: whom it reaches; "" if unknown */
    size_t n_urls;
    struct buf command; /* memory for one that is being proposed */
    uint64_t wall_us;   /* of the event that is being handled */
    bool wake;          /* something was proposed after the group's turn ended: come back at once */
    uint64_t piece_bytes_sent;
    uint64_t turn_bytes; /* read for clients since the last turn ended */
    struct kv_later_reads later;
    TAILQ_HEAD(, kv_parked) parked;        /* for shards that are nearly here; oldest first */
    TAILQ_HEAD(, kv_request) parked_reads; /* likewise, and confirmed */
    uint32_t n_parked, n_parked_reads;
    size_t parked_bytes;
    uint64_t load_since_ms; /* client operations since then, for context.load */
    uint32_t load_count;
    struct kv_freeze *freezes; /* by shard: the last that this leader proposed; NULL: none yet */
    TAILQ_HEAD(, kv_request) writes; /* proposed, and nothing heard of them yet; oldest first */
    raft_term led_term;              /* the last in which this replica led; 0: none */
};

/* A request that waits for the group. It owns `bytes`; what it needs of the rest is copied. */
struct kv_request {
    struct kv_server *server;
    struct serve_ticket ticket;
    shard_id shard;
    config_num num;                           /* PULL, RELEASE */
    uint32_t to;                              /* PULL, RELEASE */
    uint32_t limit;                           /* SCAN: records; PULL: bytes */
    uint64_t copy_id, piece;                  /* PULL */
    bool anew;                                /* PULL */
    uint32_t steps;                           /* PULL: proposed for it so far */
    size_t split;                             /* SCAN: bytes = prefix ‖ after, split here */
    struct buf bytes;                         /* GET: key; PULL: cursor */
    void (*read)(struct kv_request *request); /* GET, SCAN: once confirmed */
    TAILQ_ENTRY(kv_request) in_later_reads;   /* a level, or unconfirmed */
    bool is_abandoned;                        /* GET, SCAN: who asked is gone */
    TAILQ_ENTRY(kv_request) in_parked_reads;
    uint64_t parked_until_ms;
    uint32_t later_level; /* of struct kv_later_reads */
    TAILQ_ENTRY(kv_request) in_writes;
    bool answered; /* WRITE: the client was told that its end is not known */
};
struct kv_request *kv_request_create(struct kv_server *server, const struct serve_ticket *ticket,
                                     shard_id shard);
void kv_request_destroy(struct kv_request *request);
/* Answers, and destroys it. */
void kv_request_refuse(struct kv_request *request, enum status status, const char *text);
void kv_request_wrong_group(struct kv_request *request, uint32_t gid_hint);
void kv_request_respond(struct kv_request *request, struct proto_response *response);

/* kv_requests.c: GET, WRITE, SCAN. kv_handover.c: SHARD_PULL, SHARD_RELEASE, SHARD_WHERE. */
void kv_server_get(struct kv_server *server, const struct serve_ticket *ticket,
                   const struct proto_request *request);
/* Tells all whose writes wait that their end is not known. */
void kv_server_give_writes_up(struct kv_server *server);
void kv_server_write(struct kv_server *server, const struct serve_ticket *ticket,
                     const struct proto_request *request);
void kv_server_scan(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request);
void kv_server_pull(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request);
void kv_server_release(struct kv_server *server, const struct serve_ticket *ticket,
                       const struct proto_request *request);
/* Reads that had to wait for a turn with room. */
void kv_server_read_later_ones(struct kv_server *server);
/* Nobody waits for their answers any more, of that connection or of all (0): nothing is read for
 * them, wherever they wait. */
void kv_server_drop_reads(struct kv_server *server, io_conn conn);
void kv_server_where(struct kv_server *server, const struct serve_ticket *ticket,
                     const struct proto_request *request);

/* When the shard was frozen here: milliseconds ago; 0 if that is not known. */
uint32_t kv_server_frozen_ms(const struct kv_server *server, shard_id shard);

/* kv_park.c. True: the request waits until its shard is here, and is answered then. */
bool kv_server_park(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request, struct slice message);
/* Whether a read, or a write, can go on though the shard is not here yet: it is served once the
 * shard is. */
bool kv_server_read_may_precede(const struct kv_server *server, shard_id shard);
bool kv_server_write_may_precede(const struct kv_server *server, shard_id shard);
/* The read is confirmed. True: it waits until its shard is here, and goes on then. */
bool kv_server_park_read(struct kv_server *server, struct kv_request *request);
/* Handles those that need not wait any longer. */
void kv_server_unpark(struct kv_server *server);
uint64_t kv_server_park_deadline_ms(const struct kv_server *server);
/* Refuses all of them: the server ends. */
void kv_server_drop_parked(struct kv_server *server);

/* kv_server.c: handles a request of a client or of another group. */
void kv_server_dispatch(struct kv_server *server, const struct serve_ticket *ticket,
                        const struct proto_request *request);

/* kv_status.c */
enum proto_shard_state kv_server_shown_state(const struct shard *shard);
/* For struct serve_options. */
void kv_server_status(void *server, struct proto_node_status *status);
config_num kv_server_config(void *server);

#endif
