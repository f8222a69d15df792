#include "client/kv_gather.h"

#define GATHER_USUAL_MS     32
#define GATHER_TRY_MS       8
#define GATHER_BUSY         (4 * GATHER_USUAL_MS) /* requests from which on sharing pays */
#define GATHER_PAUSE_MIN_MS 32
#define GATHER_PAUSE_MAX_MS 2048

void kv_gather_init(struct kv_gather *gather)
{
    *gather = (struct kv_gather){.look_ms = UINT64_MAX, .pause_ms = GATHER_PAUSE_MIN_MS};
}

/* The other way stays if it brings as many with fewer looks, or many more. */
static bool try_is_good(const struct kv_gather *gather, bool waits, uint64_t elapsed_ms)
{
    uint64_t n = (uint64_t)gather->n * GATHER_USUAL_MS / elapsed_ms;

    return waits ? 5 * n >= 4 * (uint64_t)gather->usual : 4 * n > 5 * (uint64_t)gather->usual;
}

/* How it goes on after a try that so many milliseconds took; true: to wait. */
static bool end_try(struct kv_gather *gather, bool waits, uint64_t elapsed_ms)
{
    bool good = try_is_good(gather, waits, elapsed_ms);
    uint32_t pause_ms = good ? GATHER_PAUSE_MIN_MS : 2 * gather->pause_ms;

    gather->trying = false;
    gather->pause_ms = pause_ms < GATHER_PAUSE_MAX_MS ? pause_ms : GATHER_PAUSE_MAX_MS;
    gather->try_ms = gather->since_ms + elapsed_ms + gather->pause_ms;
    return waits == good;
}

/* The same after a time without a try. */
static bool end_usual(struct kv_gather *gather, bool waits, uint64_t elapsed_ms)
{
    gather->usual = (uint32_t)((uint64_t)gather->n * GATHER_USUAL_MS / elapsed_ms);
    if (gather->usual < GATHER_BUSY) {
        return false;
    }
    gather->trying = gather->since_ms + elapsed_ms >= gather->try_ms;
    return waits != gather->trying;
}

void kv_gather_looked(struct kv_gather *gather, uint32_t n, uint64_t now_ms)
{
    uint64_t elapsed_ms = now_ms - gather->since_ms;
    bool waits = gather->look_ms != UINT64_MAX;

    gather->n += n;
    if (elapsed_ms >= (gather->trying ? GATHER_TRY_MS : GATHER_USUAL_MS)) {
        waits = gather->trying ? end_try(gather, waits, elapsed_ms)
                               : end_usual(gather, waits, elapsed_ms);
        gather->since_ms = now_ms;
        gather->n = 0;
    }
    gather->look_ms = waits ? now_ms + 1 : UINT64_MAX;
}
