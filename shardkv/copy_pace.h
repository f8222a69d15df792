/* copy_pace: when the next piece of a shard may be asked for, and how large it is to be, so that
 * copies don't crowd out clients: full speed when nobody else works, and while somebody does as
 * fast as clients don't feel much of it.
 *
 * Two bounds, for all copies that arrive at a group together. A rate in bytes a second, which the
 * operator sets: a bucket that may go into debt for one piece. And while clients are served here or
 * at the source, one piece at a time, at a rate that follows how long clients wait, here and at the
 * sources, compared with how long they wait without copies (shardkv/strain.h): it grows while they
 * feel little, and falls by a part when they feel too much, down to a floor: a copy never stands
 * still. Pieces are so large that one takes a few milliseconds of that rate: few bytes at a time
 * hurt others less than the same bytes at once. From time to time nothing is asked for during a
 * moment, to learn anew how long clients wait without copies.
 *
 * Of the rounds of changes, each but the first two is twice as fast as the last: so they get
 * shorter in the end, whatever is written meanwhile.
 */
#ifndef SHARDKV_COPY_PACE_H
#define SHARDKV_COPY_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct copy_pace {
    uint64_t bytes_per_s;     /* 0: no bound */
    uint64_t due_us;          /* the bucket is out of debt */
    uint64_t yielding_per_s;  /* bytes a second, while clients are served */
    uint64_t yielding_due_us; /* likewise */
    uint64_t window_ms;       /* the rate is looked at anew after this one */
    uint64_t window_bytes;    /* that came in it */
    uint64_t piece_ms;        /* when a piece came last */
    uint32_t felt;            /* by clients, percent of what is usual, smoothed */
    uint64_t held_until_ms;   /* to learn what is usual */
    uint64_t hold_ms;         /* the next time for that */
    uint32_t source_load;     /* what the sources said, client operations a second */
    uint32_t source_strain;   /* likewise, percent; 0: they don't know */
    uint64_t source_ms;       /* when */
};

void copy_pace_init(struct copy_pace *pace, uint64_t bytes_per_s);
/* What came with a piece: how many clients the source serves, and how much they feel. */
void copy_pace_hear(struct copy_pace *pace, uint32_t load, uint32_t strain, uint64_t now_ms);
/* Whether clients are served, here (`load` operations a second) or at the sources. */
bool copy_pace_yields(const struct copy_pace *pace, uint32_t load, uint64_t now_ms);
/* A piece of so many bytes was asked for at began_ms and is here. round: 0 for the base. */
void copy_pace_spend(struct copy_pace *pace, uint64_t bytes, uint32_t round, uint64_t began_ms,
                     uint64_t now_ms);
/* Follows what clients feel; strain: of those here, as copy_pace_hear has it. Called often. */
void copy_pace_follow(struct copy_pace *pace, uint32_t load, uint32_t strain, uint64_t now_ms);
/* When the next piece of a base may be asked for: now_ms or later. */
uint64_t copy_pace_next_ms(const struct copy_pace *pace, uint32_t load, uint64_t now_ms);
/* Likewise one of a round, which waits neither for the operator's rate nor to learn something. */
uint64_t copy_pace_next_of_round_ms(const struct copy_pace *pace, uint32_t load, uint64_t now_ms);
/* How large it is to be, at most max_bytes. */
uint32_t copy_pace_piece_bytes(const struct copy_pace *pace, uint32_t max_bytes, uint32_t round,
                               uint32_t load, uint64_t now_ms);

#endif
