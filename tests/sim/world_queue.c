/* The queue of things to come. Items lie still in slots; the heap moves keys of 24 bytes, and knows
 * where each slot's key is, so that a deadline that moved can be taken out. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/world_internal.h"

static bool key_before(const struct queue_key *a, const struct queue_key *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void heap_set(struct queue *queue, size_t at, struct queue_key key)
{
    queue->heap[at] = key;
    queue->place[key.slot] = (uint32_t)at;
}

static void sift_up(struct queue *queue, size_t at, struct queue_key key)
{
    while (at > 0 && key_before(&key, &queue->heap[(at - 1) / 2])) {
        heap_set(queue, at, queue->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(queue, at, key);
}

static void sift_down(struct queue *queue, size_t at, struct queue_key key)
{
    for (;;) {
        size_t least = 2 * at + 1;
        if (least + 1 < queue->n && key_before(&queue->heap[least + 1], &queue->heap[least])) {
            least++;
        }
        if (least >= queue->n || !key_before(&queue->heap[least], &key)) {
            heap_set(queue, at, key);
            return;
        }
        heap_set(queue, at, queue->heap[least]);
        at = least;
    }
}

static uint32_t slot_take(struct queue *queue)
{
    if (queue->n_free > 0) {
        return queue->free[--queue->n_free];
    }
    MEM_GROW(queue->slots, queue->slots_capacity, queue->n_slots + 1);
    MEM_GROW(queue->place, queue->place_capacity, queue->n_slots + 1);
    return (uint32_t)queue->n_slots++;
}

static void slot_release(struct queue *queue, uint32_t slot)
{
    MEM_GROW(queue->free, queue->free_capacity, queue->n_free + 1);
    queue->free[queue->n_free++] = slot;
}

static void heap_remove(struct queue *queue, size_t at)
{
    struct queue_key last;

    ASSERT(at < queue->n);
    slot_release(queue, queue->heap[at].slot);
    last = queue->heap[--queue->n];
    if (at == queue->n) {
        return;
    }
    if (at > 0 && key_before(&last, &queue->heap[(at - 1) / 2])) {
        sift_up(queue, at, last);
    } else {
        sift_down(queue, at, last);
    }
}

uint32_t world_schedule(struct world *world, uint64_t delay_us, struct item *item)
{
    struct queue *queue = &world->queue;
    uint32_t slot = slot_take(queue);

    item->at_us = world->now_us + delay_us;
    queue->slots[slot] = *item;
    MEM_GROW(queue->heap, queue->capacity, queue->n + 1);
    sift_up(queue, queue->n++, (struct queue_key){item->at_us, queue->next_order++, slot});
    return slot;
}

void world_unschedule(struct world *world, uint32_t slot)
{
    struct queue *queue = &world->queue;

    ASSERT(slot < queue->n_slots && queue->heap[queue->place[slot]].slot == slot);
    buf_fini(&queue->slots[slot].bytes);
    heap_remove(queue, queue->place[slot]);
}

bool world_queue_pop(struct world *world, uint64_t end_us, struct item *item)
{
    struct queue *queue = &world->queue;

    if (queue->n == 0 || queue->heap[0].at_us > end_us) {
        return false;
    }
    *item = queue->slots[queue->heap[0].slot];
    heap_remove(queue, 0);
    if (item->at_us > world->now_us) {
        world->now_us = item->at_us;
    }
    return true;
}

void world_queue_fini(struct world *world)
{
    struct queue *queue = &world->queue;

    for (size_t i = 0; i < queue->n; i++) {
        buf_fini(&queue->slots[queue->heap[i].slot].bytes);
    }
    mem_free(queue->heap);
    mem_free(queue->slots);
    mem_free(queue->place);
    mem_free(queue->free);
}

void world_room_add(struct waiting_room *room, struct item *item)
{
    MEM_GROW(room->items, room->capacity, room->n + 1);
    room->items[room->n++] = *item;
    item->bytes = (struct buf){0};
}

void world_room_fini(struct waiting_room *room)
{
    for (size_t i = 0; i < room->n; i++) {
        buf_fini(&room->items[i].bytes);
    }
    mem_free(room->items);
    *room = (struct waiting_room){0};
}
