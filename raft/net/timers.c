#include "raft/net/timers.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void timers_fini(struct timers *timers)
{
    ASSERT(timers->n == 0);
    mem_free(timers->heap);
    *timers = (struct timers){0};
}

static void timers_put(struct timers *timers, size_t place, struct timer *timer)
{
    timers->heap[place] = timer;
    timer->place = place;
}

/* Moves the timer from `place` towards the root until its parent is not later. */
static size_t timers_rise(struct timers *timers, size_t place)
{
    struct timer *timer = timers->heap[place];

    while (place > 1 && timers->heap[place / 2]->at_ms > timer->at_ms) {
        timers_put(timers, place, timers->heap[place / 2]);
        place /= 2;
    }
    timers_put(timers, place, timer);
    return place;
}

/* Moves the timer from `place` towards the leaves until no child is earlier. */
static void timers_sink(struct timers *timers, size_t place)
{
    struct timer *timer = timers->heap[place];

    for (;;) {
        size_t child = 2 * place;

        if (child < timers->n && timers->heap[child + 1]->at_ms < timers->heap[child]->at_ms) {
            child++;
        }
        if (child > timers->n || timers->heap[child]->at_ms >= timer->at_ms) {
            break;
        }
        timers_put(timers, place, timers->heap[child]);
        place = child;
    }
    timers_put(timers, place, timer);
}

void timers_set(struct timers *timers, struct timer *timer, uint64_t at_ms)
{
    timer->at_ms = at_ms;
    if (timer->place == 0) {
        MEM_GROW(timers->heap, timers->capacity, timers->n + 2);
        timers_put(timers, ++timers->n, timer);
    }
    ASSERT(timers->heap[timer->place] == timer);
    timers_sink(timers, timers_rise(timers, timer->place));
}

void timers_cancel(struct timers *timers, struct timer *timer)
{
    size_t place = timer->place;
    struct timer *last;

    if (place == 0) {
        return;
    }
    ASSERT(place <= timers->n && timers->heap[place] == timer);
    last = timers->heap[timers->n--];
    timer->place = 0;
    if (last != timer) {
        timers_put(timers, place, last);
        timers_sink(timers, timers_rise(timers, place));
    }
}

uint64_t timers_next_ms(const struct timers *timers)
{
    return timers->n == 0 ? UINT64_MAX : timers->heap[1]->at_ms;
}

struct timer *timers_take_due(struct timers *timers, uint64_t now_ms)
{
    struct timer *first;

    if (timers_next_ms(timers) > now_ms) {
        return NULL;
    }
    first = timers->heap[1];
    timers_cancel(timers, first);
    return first;
}
