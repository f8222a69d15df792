/* What the files of clerk share: clerk.c the operations from start to end, clerk_call.c the calls
 * that an operation makes of groups, clerk_config.c the shard configuration, clerk_session.c the
 * identities of writes, clerk_scan.c the merge of a scan over all shards.
 *
 * Invariants
 * - An operation is in exactly one state; each state names what will move it on, and its timer is
 *   set such that it ends at its deadline whatever else happens.
 * - A write has its sequence number from its first call to its end, and no other write of the same
 *   client id has it.
 * - A write ends as certainly not applied only if maybe_applied is false: the flag gathers every
 *   try of every call.
 */
#ifndef CLIENT_CLERK_PRIVATE_H
#define CLIENT_CLERK_PRIVATE_H

#include <sys/queue.h>

#include "client/clerk.h"
#include "client/ctrler_clerk.h"
#include "raft/util/rng.h"
#include "raft/util/timers.h"

#define CLERK_SCAN_IN_FLIGHT 32
#define CLERK_REASON_SIZE    512

enum operation_type {
    OPERATION_GET,
    OPERATION_WRITE,
    OPERATION_PAGE, /* of one shard, part of a scan */
    OPERATION_SCAN  /* its pages make the calls */
};

enum operation_state {
    OPERATION_REFUSED, /* ends at the next tick, with `refusal` */
    OPERATION_QUEUED,  /* a write that waits for others to end */
    OPERATION_WAITING, /* for a configuration, or for the end of a pause */
    OPERATION_CALLING, /* the caller has it */
    OPERATION_SCANNING /* its pages are on their way */
};

/* One client id and its sequence numbers. A write that takes long holds acked_seq back; when the
 * servers' window is nearly full, later writes go under a new id, so that one dead group does not
 * hold up the writes to the others. */
struct clerk_session {
    uint8_t client[16];
    uint64_t next_seq;
    TAILQ_HEAD(, operation) writes; /* numbered and not ended, by seq */
};

struct scan; /* clerk_scan.c */

struct operation {
    struct clerk *clerk;
    uint64_t id; /* serial << SLOT_BITS | slot */
    enum operation_type type;
    enum operation_state state;
    uint64_t deadline_ms;
    clerk_done done; /* NULL for pages */
    void *context;
    struct timer timer;
    enum status refusal;
    char *reason; /* CLERK_REASON_SIZE bytes, or NULL */

    shard_id shard;
    uint8_t *bytes;             /* holds the keys and values */
    struct slice key;           /* GET */
    struct slice after, prefix; /* PAGE, SCAN */
    uint32_t limit;             /* PAGE, SCAN */
    struct kv_write *write;     /* WRITE */
    bool write_is_lent;         /* it is the caller's */
    bool counts;                /* WRITE: in n_writes, from its beginning to its end */

    uint64_t call;
    uint32_t gid;      /* that was called last */
    uint32_t hint_gid; /* to call next, whatever the configuration says; 0: none */
    uint32_t hops;     /* hints followed without a pause */
    uint32_t pause_ms;
    bool awaits_config; /* to be woken by the next configuration */
    bool suspect;       /* has been calling for long */
    bool redirecting;   /* its call is being cancelled to go elsewhere */
    bool maybe_applied;
    uint32_t reissues;
    struct clerk_session *session;     /* WRITE, once numbered */
    TAILQ_ENTRY(operation) in_session; /* by seq */
    TAILQ_ENTRY(operation) in_queue;   /* OPERATION_QUEUED */

    struct scan *scan;  /* SCAN: its own; PAGE: the one it is part of */
    uint32_t page_slot; /* PAGE */
};

struct clerk {
    struct clerk_options options;
    struct caller *caller;
    struct ctrler_clerk *ctrler;
    struct rng rng;
    uint64_t now_ms; /* of the event being handled */
    uint64_t serial;
    struct operation **slots;
    size_t n_slots, slots_capacity;
    uint32_t *free_slots;
    size_t n_free, free_capacity;
    size_t n_operations; /* without pages */
    struct timers timers;

    struct shard_config config; /* n_shards == 0: none yet */
    uint32_t *held_by; /* per shard: who served it last though the configuration says otherwise */
    bool refresh_wanted, refreshing;
    config_num heard; /* a server told of it, and the configuration was asked for because of that */
    uint64_t refresh_at_ms; /* not before */
    uint32_t refresh_pause_ms;
    char ctrler_reason[CLERK_REASON_SIZE]; /* why the last refresh failed; "" if it did not */

    struct clerk_session *session; /* for new writes */
    uint64_t session_generation;
    size_t n_writes;               /* begun and not ended, without queued ones */
    TAILQ_HEAD(, operation) queue; /* writes that wait for room */
    bool closing;
};

/* ---- clerk.c ---- */
struct operation *clerk_operation_create(struct clerk *clerk, enum operation_type type,
                                         uint64_t deadline_ms, clerk_done done, void *context);
/* Ends it: tells whoever waits, and releases it. A write that may have been applied ends as
 * ST_UNKNOWN whatever the refusal. response may be NULL. */
void clerk_operation_end(struct operation *operation, enum status status,
                         const struct proto_response *response);
/* Ends it with what is in *end: done is called once the clerk knows the operation no more. */
void clerk_operation_finish(struct operation *operation, const struct clerk_end *end);
void clerk_operation_end_cancelled(struct operation *operation);
void clerk_operation_release(struct operation *operation);
void clerk_operation_set_reason(struct operation *operation, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *clerk_operation_reason(const struct operation *operation, enum status status);

/* ---- clerk_call.c ---- */
/* Sends the operation to the group that has its shard, as far as known; else it waits. */
void clerk_call_dispatch(struct operation *operation, uint64_t now_ms);
void clerk_call_timer(struct operation *operation, uint64_t now_ms);
/* A newer configuration came: those that waited for it and those that call in vain go on. */
void clerk_call_config_changed(struct clerk *clerk, uint64_t now_ms);

/* ---- clerk_config.c ---- */
void clerk_config_refresh(struct clerk *clerk, uint64_t now_ms);
void clerk_config_tick(struct clerk *clerk, uint64_t now_ms);
uint64_t clerk_config_next_ms(const struct clerk *clerk);
/* A server may have told of a newer configuration than the one that is known. */
void clerk_config_heard(struct clerk *clerk, uint64_t now_ms);

/* ---- clerk_session.c ---- */
void clerk_session_init(struct clerk *clerk);
void clerk_session_fini(struct clerk *clerk);
/* Gives the write its identity, if it has none yet, and its present acked_seq. */
void clerk_session_number(struct operation *operation);
void clerk_session_end(struct operation *operation);

/* ---- clerk_scan.c ---- */
void clerk_scan_start(struct operation *operation, uint64_t now_ms);
/* A page ended, well (with its response) or not; releases the page. */
void clerk_scan_page_done(struct operation *page, enum status status,
                          const struct proto_response *response, uint64_t now_ms);
/* Cancels the pages and releases the scan's memory. */
void clerk_scan_fini(struct operation *operation);

#endif
