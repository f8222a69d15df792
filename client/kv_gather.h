/* kv_gather: when the loop thread looks for new requests.
 *
 * Each look costs about the same for one request as for twenty: a thread is woken, a packet goes to
 * the server and wakes two more there. So a stream of requests that come by themselves is looked
 * for once a millisecond, and shares its packets. But callers who wait for their answers do not
 * come while they wait, one alone above all: making them wait for company serves nobody. Which it
 * is, is tried: when many come, the loop does it the other way for a few milliseconds, and stays
 * with waiting as long as as many come as without. The tries become rare while they change nothing.
 *
 * Pure: time is passed in. The handle's mutex protects it.
 */
#ifndef CLIENT_KV_GATHER_H
#define CLIENT_KV_GATHER_H

#include <stdbool.h>
#include <stdint.h>

struct kv_gather {
    uint64_t look_ms;  /* when the loop looks by itself; UINT64_MAX: whenever a request comes */
    bool trying;       /* the other way, for a while */
    uint64_t since_ms; /* when the try, or the time before it, began, */
    uint32_t n;        /* and how many requests were taken since */
    uint32_t usual;    /* how many were taken lately in GATHER_USUAL_MS, without a try */
    uint64_t try_ms;   /* no try before this */
    uint32_t pause_ms; /* after the next one that changes nothing */
};

void kv_gather_init(struct kv_gather *gather);
/* Whether the loop must be told of a new request. */
static inline bool kv_gather_is_urgent(const struct kv_gather *gather)
{
    return gather->look_ms == UINT64_MAX;
}
/* The loop looked and took n requests. */
void kv_gather_looked(struct kv_gather *gather, uint32_t n, uint64_t now_ms);

#endif
