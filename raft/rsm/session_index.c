/* Session index: see session_index.h. Linear probing; a removal moves those that come behind and
 * could stand further in front, so there are no tombstones. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "raft/rsm/session_table.h"

#define FIRST_SLOTS 16u

/* Of 16 bytes that are random already. */
static uint64_t hash_of(const void *client)
{
    return XXH3_64bits(client, sizeof(((struct session_record *)0)->client.bytes));
}

void session_index_fini(struct session_index *index)
{
    mem_free(index->slots);
    *index = (struct session_index){0};
}

/* The slot of the client, or the empty one where it belongs. */
static uint32_t slot_of(const struct session_index *index, const void *client, uint64_t hash)
{
    uint32_t mask = index->n_slots - 1, at = (uint32_t)hash & mask;

    ASSERT(index->n < index->n_slots);
    while (index->slots[at].record != NULL &&
           (index->slots[at].hash != hash ||
            memcmp(index->slots[at].record->client.bytes, client,
                   sizeof(index->slots[at].record->client.bytes)) != 0)) {
        at = (at + 1) & mask;
    }
    return at;
}

struct session_record *session_index_find(const struct session_index *index, const void *client)
{
    return index->n == 0 ? NULL : index->slots[slot_of(index, client, hash_of(client))].record;
}

/* Room for one more: at most 5 of 8 slots are taken. */
static void make_room(struct session_index *index)
{
    struct session_index old = *index;

    if (8 * ((uint64_t)old.n + 1) <= 5 * (uint64_t)old.n_slots) {
        return;
    }
    index->n_slots = old.n_slots == 0 ? FIRST_SLOTS : 2 * old.n_slots;
    index->slots = mem_zalloc(index->n_slots * sizeof(index->slots[0]));
    for (uint32_t i = 0; i < old.n_slots; i++) {
        const struct session_slot *slot = &old.slots[i];

        if (slot->record != NULL) {
            index->slots[slot_of(index, slot->record->client.bytes, slot->hash)] = *slot;
        }
    }
    mem_free(old.slots);
}

void session_index_add(struct session_index *index, struct session_record *record)
{
    uint64_t hash = hash_of(record->client.bytes);
    uint32_t at;

    make_room(index);
    at = slot_of(index, record->client.bytes, hash);
    ASSERT(index->slots[at].record == NULL);
    index->slots[at] = (struct session_slot){hash, record};
    index->n++;
}

void session_index_remove(struct session_index *index, const struct session_record *record)
{
    uint32_t mask = index->n_slots - 1, empty, at;

    ASSERT(index->n > 0);
    empty = slot_of(index, record->client.bytes, hash_of(record->client.bytes));
    ASSERT(index->slots[empty].record == record);
    for (at = (empty + 1) & mask; index->slots[at].record != NULL; at = (at + 1) & mask) {
        uint32_t home = (uint32_t)index->slots[at].hash & mask;

        /* It may move to the front unless it stands at home, or between home and the hole. */
        if (((at - home) & mask) >= ((at - empty) & mask)) {
            index->slots[empty] = index->slots[at];
            empty = at;
        }
    }
    index->slots[empty] = (struct session_slot){0};
    index->n--;
}
