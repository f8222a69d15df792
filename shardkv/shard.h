/* shard: the life of one shard in one group, as replicated state and pure transitions.
 *
 * Every configuration that gives the shard to this group or takes it away appends a transition to
 * the shard's own queue; only the head of the queue acts. So a shard that is stuck holds up no
 * other shard and no later configuration:
 *
 *   RECEIVE(num, from)  pieces arrive in a staging range (shard_chunk); when all of them are there,
 *                       shard_install makes it the live range and the shard serves at once
 *   SEND(num, to)       the shard goes on serving while a copy of it goes out (shard_copy_begin,
 *                       shard_sweep) and what changes meanwhile is noted; shard_freeze ends that,
 *                       and shard_drop lets go of the data once the taker has it for good
 *   SEND(num, 0)        nobody shall own it: frozen as soon as this is the head, the data is kept
 *                       until a later configuration names an owner (maybe this group again)
 *
 * Until it is frozen, nobody but this group can have the shard. So a SEND that is not frozen
 * follows the newest configuration, whatever became of the group that was to get the shard: it goes
 * to the new owner, or nowhere if that is this group. The same holds for a shard that was frozen
 * for nobody and then given to somebody, until a copy of it begins. A group whose RECEIVE was
 * called off so learns it from the one that has the shard (SHARD_ANSWER_VOID), and forgets that it
 * was to pass the shard on, too (shard_void).
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
/* Of one entry. */
struct shard_sum shard_sum_of(struct slice key, struct slice value);
/* `sum` with all entries of `part` too, or without them. */
void shard_sum_join(struct shard_sum *sum, const struct shard_sum *part);
void shard_sum_part(struct shard_sum *sum, const struct shard_sum *part);
void shard_sum_add(struct shard_sum *sum, struct slice key, struct slice value);
void shard_sum_remove(struct shard_sum *sum, struct slice key, struct slice value);
bool shard_sum_equal(const struct shard_sum *a, const struct shard_sum *b);
void shard_sum_encode(const struct shard_sum *sum, struct buf *out);
void shard_sum_decode(struct reader *reader, struct shard_sum *sum);

/* The copy that is arriving for the RECEIVE at the head; copy_id 0: none has begun. */
struct shard_copy {
    uint64_t copy_id;
    uint64_t range;           /* staging */
    uint64_t next_piece;      /* all before it were applied */
    struct buf cursor;        /* where the next one begins, opaque here */
    struct shard_sum records; /* that are staged */
};

/* The copy that is going out for the SEND at the head; copy_id 0: none has begun.
 *
 * The shard is swept once, key by key, by entries of the log: what is swept counts in `records`,
 * and from then on every change of it is noted in the change log, under ascending numbers. So when
 * all is swept, `records` is the sum of the shard as it is now, whatever was sent of it. */
struct shard_outgoing {
    uint64_t copy_id;
    uint64_t range;   /* of the change log */
    bool is_swept;    /* to the end */
    struct buf swept; /* else: all keys up to this one; empty: none */
    uint64_t n_noted; /* changes; the next one has this number */
    struct shard_sum records;
};

#define SHARD_MAX_CURSOR 8192u

struct shard {
    enum shard_state state;
    /* The last configuration that gave it to this group and was carried out: it was installed or
     * created here under it, or was still here when a hand-over was called off by it; 0: none. */
    config_num epoch;
    uint64_t range; /* live; 0 while ABSENT */
    struct shard_copy copy;
    struct shard_outgoing outgoing;
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

/* SEND at the head: the taker is there, and its copy begins; one of another copy_id is forgotten.
 */
void shard_copy_begin(struct shard *shard, config_num num, uint64_t copy_id, uint64_t *next_range,
                      struct shard_effect *effect);
/* Whether this is the next step of that copy's sweep: `from` is where the last one ended. True: the
 * caller adds the next keys to outgoing.records, then calls shard_sweep_end. */
bool shard_sweep(const struct shard *shard, config_num num, uint64_t copy_id, struct slice from);
/* All keys up to `last` are swept; is_end: and there are no others. */
void shard_sweep_end(struct shard *shard, struct slice last, bool is_end);
/* Whether a change of this key's record counts: the key is swept. */
bool shard_notes_key(const struct shard *shard, struct slice key);
/* The copy is swept: from here on the data does not change. */
void shard_freeze(struct shard *shard, config_num num, uint64_t copy_id,
                  struct shard_effect *effect);
/* The taker has it: the frozen range goes, the next transition begins. */
void shard_drop(struct shard *shard, config_num num, struct shard_effect *effect);

/* A piece of a copy, by its number and the cursor at which it begins. */
struct shard_piece {
    uint64_t copy_id;
    uint64_t number;
    struct slice begin;
};
/* Whether a piece is the next one of the copy that arrives. Piece 0 of another copy begins anew.
 * True: the caller puts the content into copy.range, then calls shard_chunk_end, or for the last
 * piece shard_install. */
bool shard_chunk(struct shard *shard, config_num num, const struct shard_piece *piece,
                 uint64_t *next_range, struct shard_effect *effect);
void shard_chunk_end(struct shard *shard, struct slice cursor);

/* What the source says at the end of a copy. */
struct shard_end {
    struct shard_sum records, sessions;
    config_num epoch; /* of the source: under which it had the shard */
    uint32_t gid;     /* the source */
};
/* All pieces are there: effect->installed; or effect->copy_was_broken, if they are not what the
 * source has. `sessions` is the sum of what is staged. */
void shard_install(struct shard *shard, const struct shard_end *end,
                   const struct shard_sum *sessions, struct shard_effect *effect);
/* The group that has the shard says that the RECEIVE at the head will not happen: it is forgotten,
 * and the SEND to somebody after it. Nothing while there is none: its configuration is still to
 * come. */
void shard_void(struct shard *shard, config_num num, struct shard_effect *effect);
/* The source has dropped it. */
void shard_released(struct shard *shard, config_num num, struct shard_effect *effect);

/* What a group answers to a taker or to one that lets go, about SEND(num, to). What YES, VOID and
 * DONE say never becomes untrue. */
enum shard_answer {
    SHARD_ANSWER_YES,       /* it is the head: copy; or, when it is frozen, drop */
    SHARD_ANSWER_NOT_READY, /* its configuration or its turn has not come, or others have it */
    SHARD_ANSWER_VOID,      /* the shard is here, and no hand-over of that number will be */
    SHARD_ANSWER_DONE,      /* it was let go of */
    SHARD_ANSWER_REFUSED    /* that transition leads to another group */
};
/* At a group that has adopted configurations up to `adopted`. */
enum shard_answer shard_answer_pull(const struct shard *shard, config_num num, uint32_t to,
                                    config_num adopted);
enum shard_answer shard_answer_release(const struct shard *shard, config_num num, uint32_t to,
                                       config_num adopted);

/* Format: u8 version = 3, u8 state, u64 epoch, u8 parts, then those parts that are there: 1 u64
 * range; 2 the copy: u64 copy_id, u64 range, u64 next_piece, bytes cursor, a sum of 4 x u64; 4 the
 * queue: u32 n, n x (u8 kind, u64 num, u32 gid); 8 releases: u32 n, n x (u64 num, u32 gid); 16 the
 * outgoing copy: u64 copy_id, u64 range, u8 is_swept, bytes swept, u64 n_noted, a sum. */
void shard_encode(const struct shard *shard, struct buf *out);
/* Checks every invariant; on failure the shard is as after shard_init. */
bool shard_decode(struct reader *reader, struct shard *shard);
/* The invariants of the struct. */
bool shard_is_consistent(const struct shard *shard);

#endif
