/* copy_pace: see copy_pace.h. */
#include "shardkv/copy_pace.h"

#include "raft/util/assert.h"

#define BUSY_LOAD   100  /* client operations a second that are worth yielding to */
#define BURST_MS    200  /* of the rate, saved up while nothing was copied */
#define REST_FACTOR 2    /* times as long as a piece took */
#define MAX_REST_MS 1000 /* a copy never stands still for longer */

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
    uint64_t from_ms = pace->due_ms;

    if (pace->bytes_per_s == 0) {
        return;
    }
    if (from_ms + BURST_MS < now_ms) {
        from_ms = now_ms - BURST_MS;
    }
    pace->due_ms = from_ms + bytes * 1000 / pace->bytes_per_s;
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
    uint64_t next_ms = pace->due_ms > pace->rest_ms ? pace->due_ms : pace->rest_ms;

    return next_ms > now_ms ? next_ms : now_ms;
}
