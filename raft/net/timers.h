/* timers: deadlines of the loop thread, as a binary heap of timers embedded in what they are about.
 * (nng's own timers are late by tens of milliseconds under load.)
 */
#ifndef RAFT_NET_TIMERS_H
#define RAFT_NET_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    uint64_t at_ms;
    size_t place; /* in the heap, from 1; 0: not set */
    void (*fired)(void *owner);
    void *owner;
};

struct timers {
    struct timer **heap; /* heap[1..n]; a parent is never later than its children */
    size_t n, capacity;
};

void timers_fini(struct timers *timers); /* none may be set */

/* Sets the timer, anew if it was set. */
void timers_set(struct timers *timers, struct timer *timer, uint64_t at_ms);
void timers_cancel(struct timers *timers, struct timer *timer); /* fine if it is not set */

/* When the first one is due; UINT64_MAX: none is set. */
uint64_t timers_next_ms(const struct timers *timers);
/* Takes the first one that is due out of the heap, unfired; NULL when none is due. */
struct timer *timers_take_due(struct timers *timers, uint64_t now_ms);

#endif
