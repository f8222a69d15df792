/* shard: the life of one shard in one group, as replicated state and pure transitions.
 *
 * Every configuration that gives the shard to this group or takes it away appends a transition to
 * the shard's own queue; only the head of the queue acts. So a shard that is stuck holds up no
 * other shard and no later configuration:
 *
 *   RECEIVE(num, from)  pieces arrive in a staging range (shard_chunk); when all of them are there,
 *                       shard_install makes it the live range and the shard serves at once
 *   SEND(num, to)       the shard goes on serving until the taker asks for it; shard_freeze ends
 *                       that, and shard_drop lets go of the data once the taker has it for good
 *   SEND(num, 0)        nobody shall own it: frozen as soon as this is the head, the data is kept
 *                       until a later configuration names an owner (maybe this group again)
 *
 * Fencing: a step names the configuration of its transition and acts only if exactly that
 * transition is the head and the state is the one that the step begins from; every other step is
 * old or too early and changes nothing. So each step is idempotent by (shard, configuration, step),
 * and at most one group serves a shard: a taker installs only what a frozen source gave out, and a
 * frozen shard serves again only if its configuration gave it to nobody else.
 *
 * These functions decide at apply, on every replica alike; they touch no state but struct shard.
 * What they want done to ranges comes back in struct shard_effect.
 */
#ifndef SHARDKV_SHARD_H
#define SHARDKV_SHARD_H

#include "client/shard_config.h"
#include "raft/util/bytes.h"

enum shard_state {
    SHARD_ABSENT = 0,  /* no data here that counts (there may be staging) */
    SHARD_SERVING = 1, /* the live range is the truth */
    SHARD_FROZEN = 2   /* the live range is immutable: handed over, or owned by nobody */
};

enum shard_transition_kind { SHARD_RECEIVE = 1, SHARD_SEND = 2 };

struct shard_transition {
    enum shard_transition_kind kind;
    config_num num; /* the configuration that asks for it */
    uint32_t gid;   /* from whom, to whom; SEND to 0: nobody */
};

/* The source still keeps its frozen copy: to be told that it may drop it. */
struct shard_release {
    config_num num;
    uint32_t gid;
};

/* An order-independent sum over entries (key, bytes): 128 bits, wrapping. */
struct shard_sum {
    uint64_t low, high;
    uint64_t count; /* entries */
    uint64_t bytes; /* of keys and values */
};
void shard_sum_add(struct shard_sum *sum, struct slice key, struct slice value);
void shard_sum_remove(struct shard_sum *sum, struct slice key, struct slice value);
bool shard_sum_equal(const struct shard_sum *a, const struct shard_sum *b);
void shard_sum_encode(const struct shard_sum *sum, struct buf *out);
void shard_sum_decode(struct reader *reader, struct shard_sum *sum);

/* The copy that is arriving for the RECEIVE at the head; copy_id 0: none has begun. */
struct shard_copy {
    uint64_t copy_id;
    uint64_t range;      /* staging */
    uint64_t next_piece; /* all before it were applied */
    struct buf cursor;   /* where the next one begins, opaque here */
    struct shard_sum records, sessions;
};

#define SHARD_MAX_CURSOR 8192u

struct shard {
    enum shard_state state;
    config_num epoch; /* the configuration under which it was installed or created here; 0: never */
    uint64_t range;   /* live; 0 while ABSENT */
    struct shard_copy copy;
    /* In ascending order of num. RECEIVE and SEND alternate, and only the last may be a SEND to 0.
     */
    struct shard_transition *queue;
    size_t n_queue, queue_capacity;
    /* At most one for a source: it can't give the shard away again before it has dropped it. */
    struct shard_release *releases;
    size_t n_releases, releases_capacity;
};

void shard_init(struct shard *shard);
void shard_fini(struct shard *shard);

/* The transition that acts now, or NULL. */
const struct shard_transition *shard_head(const struct shard *shard);
/* Whether this group will own or keep the shard once its queue is worked off. */
bool shard_is_held_at_end(const struct shard *shard);
/* Whether the shard is at rest: nothing to do for anyone. */
bool shard_is_settled(const struct shard *shard);

/* What a step did, for the caller to carry out. */
struct shard_effect {
    bool changed;        /* struct shard is to be written */
    uint64_t dropped[2]; /* these ranges are no longer part of the state */
    size_t n_dropped;
    bool created;         /* the shard begins empty: nobody ever owned it */
    bool installed;       /* staging became live */
    bool copy_was_broken; /* what arrived is not what was sent: thrown away, to be copied again */
};

/* Configuration num is adopted: `owner` shall own the shard, `from` was the last to own it. */
struct shard_change {
    config_num num;
    uint32_t me, owner, from;
};
/* Whether the configuration fits the shard's history: what this group holds or is to hold must come
 * from it, and what it is to receive from somebody else. */
bool shard_can_adopt(const struct shard *shard, const struct shard_change *change);
/* Ranges that begin are taken from *next_range, here and below. */
void shard_adopt(struct shard *shard, const struct shard_change *change, uint64_t *next_range,
                 struct shard_effect *effect);

/* SEND at the head: from here on the data does not change. */
void shard_freeze(struct shard *shard, config_num num, struct shard_effect *effect);
/* The taker has it: the frozen range goes, the next transition begins. */
void shard_drop(struct shard *shard, config_num num, struct shard_effect *effect);

/* Whether a piece is the next one of the copy. Piece 0 of another copy begins anew. True: the
 * caller puts the content into copy.range, then calls shard_chunk_end. */
bool shard_chunk(struct shard *shard, config_num num, uint64_t copy_id, uint64_t piece,
                 uint64_t *next_range, struct shard_effect *effect);
void shard_chunk_end(struct shard *shard, struct slice cursor);

/* What the source says at the end of a copy. */
struct shard_end {
    uint64_t copy_id;
    uint64_t pieces; /* how many the copy had before the end */
    struct shard_sum records, sessions;
    config_num epoch; /* of the source: under which it had the shard */
};
/* All pieces are there: effect->installed, or effect->copy_was_broken, or nothing. A copy without a
 * piece (an empty shard) gets its range here. */
void shard_install(struct shard *shard, config_num num, const struct shard_end *end,
                   uint64_t *next_range, struct shard_effect *effect);
/* The source has dropped it. */
void shard_released(struct shard *shard, config_num num, struct shard_effect *effect);

/* What a group answers to a taker or to one that lets go. */
enum shard_answer {
    SHARD_ANSWER_YES,       /* frozen for that transition: read, or drop */
    SHARD_ANSWER_FREEZE,    /* it is the head and still serving: freeze first */
    SHARD_ANSWER_NOT_READY, /* its configuration or its turn has not come */
    SHARD_ANSWER_DONE,      /* it was let go of */
    SHARD_ANSWER_REFUSED    /* that transition leads to another group */
};
/* About SEND(num, to), at a group that has adopted configurations up to `adopted`. */
enum shard_answer shard_answer(const struct shard *shard, config_num num, uint32_t to,
                               config_num adopted);

/* Format: u8 version = 2, u8 state, u64 epoch, u8 parts, then those parts that are there: 1 u64
 * range; 2 the copy: u64 copy_id, u64 range, u64 next_piece, bytes cursor, two sums of 4 x u64; 4
 * the queue: u32 n, n x (u8 kind, u64 num, u32 gid); 8 releases: u32 n, n x (u64 num, u32 gid).
 * Version 1, which is read, too, has no `parts` and all of them. */
void shard_encode(const struct shard *shard, struct buf *out);
/* Checks every invariant; on failure the shard is as after shard_init. */
bool shard_decode(struct reader *reader, struct shard *shard);
/* The invariants of the struct. */
bool shard_is_consistent(const struct shard *shard);

#endif
