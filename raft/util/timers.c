#include "raft/util/timers.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void timers_fini(struct timers *timers)
{
    ASSERT(timers->n == 0);
    mem_free(timers->heap);
    *timers = (struct timers){0};
}

static bool timer_is_before(const struct timer *a, const struct timer *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
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

    while (place > 1 && timer_is_before(timer, timers->heap[place / 2])) {
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

        if (child < timers->n && timer_is_before(timers->heap[child + 1], timers->heap[child])) {
            child++;
        }
        if (child > timers->n || !timer_is_before(timers->heap[child], timer)) {
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

struct timer *timers_first_due(const struct timers *timers, uint64_t now_ms)
{
    return timers->n > 0 && timers->heap[1]->at_ms <= now_ms ? timers->heap[1] : NULL;
}

struct timer *timers_take_due(struct timers *timers, uint64_t now_ms)
{
    struct timer *first = timers_first_due(timers, now_ms);

    if (first != NULL) {
        timers_cancel(timers, first);
    }
    return first;
}
