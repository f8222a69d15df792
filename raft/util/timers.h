/* timers: deadlines, as a binary heap of timers embedded in what they are about. It reads no clock:
 * whoever has one asks for the next deadline, waits, and takes out what is due. Equal moments come
 * in ascending `order`, so that the same events always give the same sequence.
 */
#ifndef RAFT_UTIL_TIMERS_H
#define RAFT_UTIL_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    uint64_t at_ms;
    uint64_t order;             /* among equal moments; not changed while the timer is set */
    size_t place;               /* in the heap, from 1; 0: not set */
    void *owner;                /* what the timer is embedded in */
    void (*fired)(void *owner); /* for loops whose timers mean different things, else NULL */
};

/* {0} is empty. The memory of the heap only: timers belong to their owners. */
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
/* The first one if it is due, still set; NULL when none is due. */
struct timer *timers_first_due(const struct timers *timers, uint64_t now_ms);
/* The same, and takes it out of the heap, unfired. */
struct timer *timers_take_due(struct timers *timers, uint64_t now_ms);

#endif
