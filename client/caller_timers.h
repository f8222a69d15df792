/* caller_timers: a heap of moments, each inside the thing that it wakes. Equal moments come in
 * order of `order`, so that the same events always give the same sequence. */
#ifndef CLIENT_CALLER_TIMERS_H
#define CLIENT_CALLER_TIMERS_H

#include <stddef.h>
#include <stdint.h>

struct caller_timer {
    uint64_t at;
    uint64_t order;
    size_t position; /* in the heap plus one; 0: not set */
};

/* {0} is empty. Memory of the heap only: the timers belong to their owners. */
struct caller_timers {
    struct caller_timer **heap;
    size_t n;
    size_t capacity;
};

void caller_timers_fini(struct caller_timers *timers);
/* Sets the timer, or moves it. `order` of a timer that is set must not be changed by others. */
void caller_timers_set(struct caller_timers *timers, struct caller_timer *timer, uint64_t at);
/* A timer that is not set is fine. */
void caller_timers_remove(struct caller_timers *timers, struct caller_timer *timer);
/* The earliest, or NULL. */
struct caller_timer *caller_timers_first(const struct caller_timers *timers);
/* The moment of the earliest; UINT64_MAX if there is none. */
uint64_t caller_timers_next(const struct caller_timers *timers);

#endif
