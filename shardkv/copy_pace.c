/* copy_pace: see copy_pace.h. */
#include "shardkv/copy_pace.h"

#include "raft/util/assert.h"

#define BUSY_LOAD   100    /* client operations a second that are worth yielding to */
#define BURST_US    200000 /* of the rate, saved up while nothing was copied */
#define REST_FACTOR 7      /* times as long as a piece took */
#define MAX_REST_MS 1000   /* a copy never stands still for longer */

void copy_pace_init(struct copy_pace *pace, uint64_t bytes_per_s)
{
    *pace = (struct copy_pace){.bytes_per_s = bytes_per_s};
}

bool copy_pace_yields(const struct copy_pace *pace, uint32_t load)
{
    return load >= BUSY_LOAD || pace->source_load >= BUSY_LOAD;
}

void copy_pace_spend(struct copy_pace *pace, uint64_t bytes, uint64_t now_ms)
{
    uint64_t from_us = pace->due_us, now_us = now_ms * 1000;

    if (pace->bytes_per_s == 0) {
        return;
    }
    if (from_us + BURST_US < now_us) {
        from_us = now_us - BURST_US;
    }
    pace->due_us = from_us + bytes * 1000000 / pace->bytes_per_s;
}

void copy_pace_applied(struct copy_pace *pace, uint64_t began_ms, uint64_t now_ms, uint32_t load)
{
    uint64_t rest_ms = (now_ms - began_ms + 1) * REST_FACTOR;

    ASSERT(began_ms <= now_ms);
    if (copy_pace_yields(pace, load)) {
        pace->rest_ms = now_ms + (rest_ms < MAX_REST_MS ? rest_ms : MAX_REST_MS);
    }
}

uint64_t copy_pace_next_ms(const struct copy_pace *pace, uint64_t now_ms)
{
    uint64_t due_ms = (pace->due_us + 999) / 1000;
    uint64_t next_ms = due_ms > pace->rest_ms ? due_ms : pace->rest_ms;

    return next_ms > now_ms ? next_ms : now_ms;
}
