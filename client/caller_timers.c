#include "client/caller_timers.h"

#include <stdbool.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void caller_timers_fini(struct caller_timers *timers)
{
    ASSERT(timers->n == 0);
    mem_free(timers->heap);
    *timers = (struct caller_timers){0};
}

static bool is_before(const struct caller_timer *a, const struct caller_timer *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void put(struct caller_timers *timers, size_t index, struct caller_timer *timer)
{
    timers->heap[index] = timer;
    timer->position = index + 1;
}

static void sift_up(struct caller_timers *timers, size_t index, struct caller_timer *timer)
{
    while (index > 0 && is_before(timer, timers->heap[(index - 1) / 2])) {
        put(timers, index, timers->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    put(timers, index, timer);
}

static void sift_down(struct caller_timers *timers, size_t index, struct caller_timer *timer)
{
    for (;;) {
        size_t child = 2 * index + 1;

        if (child + 1 < timers->n && is_before(timers->heap[child + 1], timers->heap[child])) {
            child++;
        }
        if (child >= timers->n || !is_before(timers->heap[child], timer)) {
            break;
        }
        put(timers, index, timers->heap[child]);
        index = child;
    }
    put(timers, index, timer);
}

void caller_timers_set(struct caller_timers *timers, struct caller_timer *timer, uint64_t at)
{
    timer->at = at;
    if (timer->position == 0) {
        MEM_GROW(timers->heap, timers->capacity, timers->n + 1);
        timers->n++;
        sift_up(timers, timers->n - 1, timer);
        return;
    }
    ASSERT(timers->heap[timer->position - 1] == timer);
    sift_up(timers, timer->position - 1, timer);
    sift_down(timers, timer->position - 1, timer);
}

void caller_timers_remove(struct caller_timers *timers, struct caller_timer *timer)
{
    size_t index = timer->position - 1;
    struct caller_timer *last;

    if (timer->position == 0) {
        return;
    }
    ASSERT(index < timers->n && timers->heap[index] == timer);
    timer->position = 0;
    last = timers->heap[--timers->n];
    if (last != timer) {
        sift_up(timers, index, last);
        sift_down(timers, last->position - 1, last);
    }
}

struct caller_timer *caller_timers_first(const struct caller_timers *timers)
{
    return timers->n > 0 ? timers->heap[0] : NULL;
}

uint64_t caller_timers_next(const struct caller_timers *timers)
{
    return timers->n > 0 ? timers->heap[0]->at : UINT64_MAX;
}
