/* backoff: per shard, when it may be tried again after a failure. Doubles from BACKOFF_MIN_MS to
 * BACKOFF_MAX_MS; a success forgets it. */
#ifndef SHARDKV_BACKOFF_H
#define SHARDKV_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#define BACKOFF_MIN_MS   20
#define BACKOFF_SHORT_MS 50
#define BACKOFF_MAX_MS   1000

struct backoff {
    uint64_t until_ms;
    uint32_t failures;
};

static inline bool backoff_is_over(const struct backoff *backoff, uint64_t now_ms)
{
    return now_ms >= backoff->until_ms;
}

static inline void backoff_fail(struct backoff *backoff, uint64_t now_ms)
{
    uint32_t shift = backoff->failures < 6 ? backoff->failures : 6;
    uint64_t pause_ms = (uint64_t)BACKOFF_MIN_MS << shift;

    backoff->failures++;
    backoff->until_ms = now_ms + (pause_ms < BACKOFF_MAX_MS ? pause_ms : BACKOFF_MAX_MS);
}

/* What was asked for is soon to be had. */
static inline void backoff_shorten(struct backoff *backoff, uint64_t now_ms)
{
    if (backoff->until_ms > now_ms + BACKOFF_SHORT_MS) {
        backoff->until_ms = now_ms + BACKOFF_SHORT_MS;
    }
}

static inline void backoff_succeed(struct backoff *backoff)
{
    *backoff = (struct backoff){0};
}

#endif
