/* What the files of the public library share: kv.c the handle and its thread, kv_request.c what an
 * operation does on that thread, kv_result.c results, kv_calls.c, kv_admin.c and kv_replica.c the
 * exported calls.
 *
 * A request is made on the caller's thread, handed over under the handle's mutex, and from then on
 * belongs to the loop thread until its callback. The mutex is never held while a callback runs or
 * while anything of the clerk is called. */
#ifndef CLIENT_KV_INTERNAL_H
#define CLIENT_KV_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "client/clerk.h"
#include "client/ctrler_clerk.h"
#include "client/kv.h"
#include "client/kv_gather.h"
#include "raft/net.h"

/* Keys and values in outstanding requests; beyond, SHARDKV_BUSY, unless nothing else is. */
#define KV_MAX_OUTSTANDING_BYTES (128u << 20)

enum kv_request_kind {
    KV_REQUEST_GET,
    KV_REQUEST_WRITE,
    KV_REQUEST_SCAN,
    KV_REQUEST_CONFIG,
    KV_REQUEST_JOIN,
    KV_REQUEST_LEAVE,
    KV_REQUEST_MOVE,
    KV_REQUEST_PAUSE,
    KV_REQUEST_STATUS,
    KV_REQUEST_TRANSFER,
    KV_REQUEST_MEMBERS,
    KV_REQUEST_REPLICA, /* add, remove, recover */
    KV_REQUEST_CANCEL   /* of another one; has no callback */
};

struct kv_request;
typedef void (*kv_request_found)(struct kv_request *request, const struct spec *replicas,
                                 uint64_t now_ms);

struct kv_request {
    struct shardkv *handle;
    enum kv_request_kind kind;
    uint64_t id;
    uint64_t deadline_ms;
    shardkv_callback callback; /* NULL once called */
    void *context;
    TAILQ_ENTRY(kv_request) link; /* of handle->pending, then of handle->started */

    size_t size;    /* of keys and values */
    uint8_t *bytes; /* a copy of them */
    struct slice key, after;
    uint32_t limit;
    struct kv_write *write;
    struct proto_join_group *groups;
    uint32_t *gids;
    uint32_t n;
    uint32_t gid, shard, to;
    bool paused;
    enum proto_replica_change change; /* REPLICA */
    bool is_plan;                     /* JOIN, LEAVE, MOVE: a dry run */
    uint64_t num;
    char url[SPEC_MAX_URL + 1];
    uint64_t target; /* CANCEL: the id */

    kv_request_found found; /* what to do with the group, once it is known */
    uint64_t operation;     /* of the clerk, or call of the caller; 0: none */
};

TAILQ_HEAD(kv_request_list, kv_request);

struct shardkv {
    /* Set by shardkv_open and constant. */
    uint32_t timeout_ms, max_outstanding;
    struct spec ctrlers;
    struct net *net;
    pthread_t thread;
    struct trace trace;
    void (*trace_line)(void *context, int level, const char *line);
    void *trace_context;

    /* Under the mutex. */
    pthread_mutex_t mutex;
    struct kv_request_list pending; /* not yet seen by the loop thread */
    bool posted;                    /* the loop thread has been told to look */
    struct kv_gather gather;        /* changed by the loop thread alone */
    bool answering;                 /* this thread runs callbacks, and looks at the turn's end */
    pthread_t answerer;
    bool closing;
    uint64_t next_id;
    uint32_t n_outstanding;
    size_t n_bytes;

    /* The loop thread's. */
    struct clerk *clerk; /* NULL once closed */
    struct ctrler_clerk *admin;
    struct kv_request_list started; /* and not released */
    struct kv_link **links;         /* by endpoint number */
    struct kv_link *last_link;      /* that was sent to */
    size_t n_links, links_capacity;
    config_num
        followed;      /* admin goes to the controllers of this configuration, or of a later one */
    bool answered;     /* in this turn */
    bool turn_is_over; /* but for what waits in `pending` */
    bool ending;
    /* The last server that refuses us, or we it, and why; empty once any server has answered. */
    char refusal[SPEC_MAX_URL + 200];
};

/* ---- kv.c ---- */
/* Hands the request over. SHARDKV_OK: its callback will be called. Else the request was released
 * and its callback will not be called. */
int kv_submit(struct kv_request *request, uint64_t *id);
/* The same with what the exported calls were given; `early` is an end found before (then request is
 * NULL). */
int kv_submit_async(struct kv_request *request, int early, shardkv_callback callback, void *context,
                    uint64_t *id);
/* Submits and waits for the end; `early` is an end found before that (then request is NULL): the
 * arguments are not as `rule` says. */
int kv_wait(struct shardkv *handle, struct kv_request *request, int early, const char *rule,
            struct shardkv_result **result);
/* The callback is called and the request counts no more; it is not released. */
void kv_request_answer(struct kv_request *request, struct shardkv_result *result);

/* ---- kv_link.c: a caller_transport; all on the loop thread ---- */
void kv_link_send(void *handle, uint32_t gid, const char *url, struct buf *message);
bool kv_link_withdraw(void *handle, const char *url, uint64_t request_id);
/* True: the message was for the link itself. */
bool kv_link_message(struct shardkv *handle, io_endpoint endpoint, struct slice message);
/* The connection broke or could not be made; true if requests may have left since the last time. */
bool kv_link_down(struct shardkv *handle, io_endpoint endpoint);
const char *kv_link_url(const struct shardkv *handle, io_endpoint endpoint);
void kv_link_fini(struct shardkv *handle);

/* ---- kv_request.c ---- */
struct kv_request *kv_request_create(struct shardkv *handle, enum kv_request_kind kind,
                                     uint32_t timeout_ms, shardkv_callback callback, void *context);
/* For who asks the one server at a URL: SHARDKV_INVALID and no request unless it is as kv_url_rule
 * says. */
int kv_request_for_url(struct shardkv *handle, enum kv_request_kind kind, const char *url,
                       uint32_t timeout_ms, struct kv_request **request);
extern const char *const kv_url_rule;
void kv_request_destroy(struct kv_request *request);
/* On the loop thread. */
void kv_request_start(struct kv_request *request, uint64_t now_ms);
void kv_request_cancel(struct kv_request *request, uint64_t now_ms);
/* The end: out of the list, to the user, and gone. */
void kv_request_finish(struct kv_request *request, struct shardkv_result *result);
/* For who asks one group: finds its replicas, by asking the controller for the configuration, and
 * then calls found with them. */
void kv_request_find_group(struct kv_request *request, kv_request_found found, uint64_t now_ms);

/* ---- kv_replica.c ---- */
void kv_replica_start(struct kv_request *request, uint64_t now_ms);

/* ---- kv_result.c ---- */
struct shardkv_result *kv_result_create(enum status status, const char *reason);
/* Adds to the message why no server could be asked. */
void kv_result_explain(struct shardkv_result *result, const char *refusal);
struct shardkv_result *kv_result_of_clerk(const struct clerk_end *end);
void kv_result_set_config(struct shardkv_result *result, const struct shard_config *config);
void kv_result_set_node(struct shardkv_result *result, const struct proto_node_status *node);
void kv_result_set_members(struct shardkv_result *result, const struct proto_replicas *replicas);

#endif
