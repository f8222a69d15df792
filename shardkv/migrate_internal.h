/* Shared by migrate.c (which shards are on their way, and from where) and migrate_job.c (one of
 * them, piece by piece). */
#ifndef SHARDKV_MIGRATE_INTERNAL_H
#define SHARDKV_MIGRATE_INTERNAL_H

#include "shardkv/backoff.h"
#include "shardkv/copy_pace.h"
#include "shardkv/migrate.h"

struct job {
    struct migrate *migrate;
    bool in_use;
    bool ended;        /* the END or VOID arrived: nothing more to pull */
    bool is_frozen;    /* or may be: nobody serves the shard, nothing waits for the pace */
    bool is_extra;     /* beyond max_copies: only while it is urgent */
    bool takes_writes; /* INSTALL is proposed: what is proposed now comes behind it */
    bool failed;       /* give the slot back as soon as nothing is outstanding */
    shard_id shard;
    config_num num;
    uint32_t gid; /* the source */
    uint64_t copy_id;
    uint64_t piece; /* the next to pull, and where it begins */
    struct buf cursor;
    bool is_pulling;
    uint64_t call;
    uint64_t pulled_ms; /* when the last call began */
    uint32_t n_proposals;
    uint64_t pulled_us, answered_us, answer_us, piece_bytes; /* of the last piece, for traces */
    struct migrate_done done;                                /* what there will be to tell */
    uint64_t ended_ms;
    uint64_t window_ms, window_bytes; /* of the rate, since window_ms */
    uint64_t bytes_per_s;
    uint64_t keys_total, bytes_total;
};

/* What is remembered of each shard between two jobs. */
struct attempt {
    struct backoff backoff;
    uint32_t timeouts; /* in a row */
    uint32_t in_vain;  /* how often a group was asked that does not have the shard */
    uint32_t hint;     /* the group that was pointed at then; 0: none */
    bool anew;         /* the copy that has begun does not go on */
    bool was_broken;   /* the last copy was not what the source said at its end */
    /* The source said so, or was not heard of when it was asked for what it freezes the shard for
     * (a shard of one piece is frozen with the first one): nobody may serve the shard. */
    bool may_be_frozen;
};

/* A source that did not answer last time. */
struct silent_source {
    uint32_t gid;
};

struct migrate {
    struct kv_context *context;
    struct migrate_options options;
    struct copy_pace pace;
    struct job *jobs; /* slots: when max_copies are in use, only what is urgent begins */
    uint32_t n_slots;
    struct attempt *attempts;
    uint32_t n_shards;
    shard_id next_shard; /* where the next look for work begins: nobody is passed over for ever */
    struct silent_source *silent;
    size_t n_silent, silent_capacity;
    uint64_t due_ms;       /* look for work again at the latest */
    uint64_t seen_changes; /* or when the state machine moves */
    bool slot_was_freed;
    struct migrate_stats stats;
    struct migrate_done done[MIGRATE_MAX_DONE]; /* a ring */
    uint64_t n_done;
};

/* ---- migrate.c ---- */

struct attempt *migrate_attempt(const struct job *job);
void migrate_source_answered(struct migrate *migrate, uint32_t gid);
void migrate_source_was_silent(struct migrate *migrate, uint32_t gid);
bool migrate_is_paused(const struct migrate *migrate);
bool migrate_any_is_outstanding(const struct migrate *migrate);

/* ---- migrate_job.c ---- */

/* Goes on from the last applied piece of the copy that has begun, or begins a new one. */
void job_begin(struct job *job, shard_id id, uint32_t source);
/* Frees the slot of a job that is over, or asks for its next piece. */
void job_step(struct job *job);
/* When the pace lets it ask for its next piece; it may be past. */
uint64_t job_due_ms(const struct job *job);
/* The shard still waits for exactly this. */
bool job_is_current(const struct job *job);

#endif
