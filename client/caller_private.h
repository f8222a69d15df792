/* What the files of caller share: caller.c keeps the calls, caller_try.c decides where the next try
 * goes and what an answer means, caller_group.c remembers leaders.
 *
 * Invariants
 * - A call is in exactly one of two states: it waits for its current try (current_id != 0, a member
 *   of tries), or for the moment of the next one (current_id == 0, retry_at_ms).
 * - tries holds every try that may still be answered. A try that left it without an answer has set
 *   `lost`, unless it is certain that it was not applied.
 * - So a write is certainly not applied if and only if !lost and tries is empty.
 */
#ifndef CLIENT_CALLER_PRIVATE_H
#define CLIENT_CALLER_PRIVATE_H

#include "client/caller.h"
#include "raft/util/rng.h"
#include "raft/util/timers.h"

#define CALL_MAX_TRIES       8
#define CALL_SLOT_BITS       20
#define CALL_REASON_SIZE     384
#define NO_REPLICA           SIZE_MAX
#define CALLER_RECENT_GROUPS 256
#define CALLER_MAX_GUESTS    8

/* What is known of a group of replicas. Besides those that its calls name there may be guests:
 * replicas that joined the group since, of whom the others told as their leader. They are asked
 * only when they are said to lead. */
struct caller_group {
    uint64_t hash;
    struct spec replicas;
    size_t n_guests; /* their indexes follow those of `replicas` */
    struct spec_replica guests[CALLER_MAX_GUESTS];
    size_t leader;     /* index of the replica that leads, as far as known, or NO_REPLICA */
    bool confirmed;    /* it answered as leader; else a hint says so */
    bool ids_unknown;  /* the ids of `replicas` are not the servers' own (a list of URLs): hints say
                          nothing */
    size_t cursor;     /* where to begin when no leader is known */
    uint32_t n_calls;  /* that use it now */
    uint64_t last_use; /* serial of the last call */
    /* Until then the replica is tried last: it did not answer, or its connection broke. */
    uint64_t silent_until_ms[SPEC_MAX_REPLICAS + CALLER_MAX_GUESTS];
};

struct
try {
    uint64_t request_id;
    size_t replica;
};

struct call {
    uint64_t id; /* serial << CALL_SLOT_BITS | slot */
    struct caller *caller;
    uint32_t gid; /* of whom is asked, as the transport is told */
    struct caller_group *group;
    size_t prefer; /* index of the preferred replica, or NO_REPLICA */
    bool only_prefer;
    bool is_read;
    enum proto_op op;
    struct buf message; /* encoded; id and deadline are set for each try */
    uint64_t deadline_ms;
    caller_done done;
    void *context;

    struct timer timer;
    struct try tries[CALL_MAX_TRIES]; /* oldest first */
    size_t n_tries;
    bool lost; /* a try's end is unknown for good */
    uint64_t current_id;
    uint64_t retry_at_ms;
    size_t replica;      /* of the current or last try */
    size_t next_replica; /* where retry_at_ms leads */
    size_t rotation;     /* the last one asked without a hint: hints, which may be wrong, never keep
                            the others from their turn */
    uint32_t quick;      /* tries since the last pause that followed at once */
    uint32_t pause_ms;   /* the last one; 0: none yet */
    uint64_t leaderless_since_ms; /* when it first heard that nobody leads; 0: not yet */
    bool read_only; /* a leader without disk space refused it: the reason to tell at the end */
    bool retried;   /* only_prefer: a broken connection was tried again once */
    char *reason;   /* CALL_REASON_SIZE bytes, or NULL */
};

struct caller {
    struct caller_options options;
    struct rng rng;
    uint64_t id_mask; /* request ids of different callers on one connection don't collide */
    uint64_t serial;
    uint64_t now_ms; /* of the last event */
    struct call **slots;
    size_t n_slots, slots_capacity;
    uint32_t *free_slots;
    size_t n_free, free_capacity;
    size_t n_calls;
    struct timers timers;
    struct caller_group **groups;
    size_t n_groups, groups_capacity;
    struct caller_group *recent[CALLER_RECENT_GROUPS]; /* by hash: a shortcut into groups */
    uint64_t cluster_time;
    config_num config_heard;
    bool closing;
};

/* ---- caller_group.c ---- */
/* The group with these replicas, made when first asked for. */
struct caller_group *caller_group_get(struct caller *caller, const struct spec *replicas);
void caller_group_fini(struct caller *caller);
/* How many replicas can be asked, guests included; their URLs. */
size_t caller_group_size(const struct caller_group *group);
const char *caller_group_url(const struct caller_group *group, size_t replica);
/* The replica with that URL, taken in as a guest if it is none yet; NO_REPLICA: there is no room.
 */
size_t caller_group_guest(struct caller_group *group, uint32_t id, const char *url);
void caller_group_set_silent(struct caller *caller, const char *url, uint64_t until_ms);
/* Where a call begins. */
size_t caller_group_first(const struct caller_group *group, uint64_t now_ms);
/* The replica after that one in the rotation, silent ones last. */
size_t caller_group_after(const struct caller_group *group, size_t replica, uint64_t now_ms);

/* ---- caller_try.c ---- */
void caller_try_start(struct call *call, uint64_t now_ms, size_t replica);
/* The moment of the call's timer came: the deadline, a silent try, or the end of a pause. */
void caller_try_timer(struct call *call, uint64_t now_ms);
void caller_try_answer(struct call *call, uint64_t now_ms, size_t index,
                       const struct proto_response *response);
/* An answer that can't be read: the server is there, what it did is not known. */
void caller_try_garbled(struct call *call, uint64_t now_ms, size_t index);
/* The connection of tries[index] broke; unsent: before the try left. */
void caller_try_broken(struct call *call, uint64_t now_ms, size_t index, bool unsent);
/* Takes back what has not left: those tries are certain. */
void caller_try_withdraw(struct call *call);
/* Whether the call may have been applied, as far as all tries but the answered ones tell. */
bool caller_try_maybe_applied(const struct call *call);

/* ---- caller.c ---- */
/* Ends the call: calls done and releases it. */
void caller_end_call(struct call *call, enum status status, const struct proto_response *response,
                     const char *url);
void caller_set_reason(struct call *call, const char *url, const char *what, struct slice text);

#endif
