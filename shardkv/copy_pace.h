/* copy_pace: when the next piece of a shard may be asked for, so that copies don't crowd out
 * clients: full speed when nobody else works, and only a part of the time when somebody does.
 *
 * Two bounds, for all copies that arrive at a group together. A rate in bytes a second, which the
 * operator sets: a bucket that may go into debt for one piece. And a share of the time: while
 * clients are served here or at the source, one piece at a time, and after each a rest in
 * proportion to the time that it took; so a group that gets slower under load copies less.
 */
#ifndef SHARDKV_COPY_PACE_H
#define SHARDKV_COPY_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct copy_pace {
    uint64_t bytes_per_s; /* 0: no bound */
    uint64_t due_us;      /* the bucket is out of debt */
    uint64_t rest_ms;     /* the rest is over */
    uint32_t source_load; /* what the sources said last, client operations a second */
};

void copy_pace_init(struct copy_pace *pace, uint64_t bytes_per_s);
/* Whether clients are served, here (`load` operations a second) or at the sources. */
bool copy_pace_yields(const struct copy_pace *pace, uint32_t load);
/* A piece of so many bytes was asked for at began_ms and is here. */
void copy_pace_spend(struct copy_pace *pace, uint64_t bytes, uint64_t now_ms);
/* It is applied: the rest begins, if there is to be one. */
void copy_pace_applied(struct copy_pace *pace, uint64_t began_ms, uint64_t now_ms, uint32_t load);
/* When the next piece may be asked for: now_ms or later. */
uint64_t copy_pace_next_ms(const struct copy_pace *pace, uint64_t now_ms);

#endif
