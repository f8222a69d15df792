/* Overlay: see overlay.h. A hash table finds the entries; a red-black tree, which only overlay_seek
 * fills, has those that somebody wanted in order. A write thus costs a look into the table, and not
 * a way down a tree through nodes that are in no cache. Beside them, per range, the bytes of the
 * live entries, so that `status` does not have to walk them.
 *
 * The table is open, by 64 bits of hash that stand in it: another key's entry is hardly ever looked
 * at. Nothing is ever taken out of it. Its order shows nowhere.
 *
 * Entries with their keys, and values, are cut from blocks and given back all at once, with the
 * overlay: one by one they would cost the loop an allocation each, and the background thread a walk
 * through them at the end, with the allocator's lock in its hand. A value that has to grow gets
 * twice the room, so what lies idle is bounded by what is held. A large value is an allocation of
 * its own.
 */
#include "raft/store/overlay.h"

#include <stdlib.h>

#include "raft/store/key_hash.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define OVERLAY_FIRST_BLOCK (8u << 10)
#define OVERLAY_BLOCK       (256u << 10)
#define OVERLAY_LARGE       (4u << 10) /* a value of more room than this is not in a block */
#define OVERLAY_FIRST_SLOTS 64u
#define OVERLAY_BUCKETS     64u /* of ranges, by number */

struct overlay_block {
    struct overlay_block *next;
    size_t used, size;
    uint8_t bytes[] __attribute__((aligned(8)));
};

struct overlay_slot {
    uint64_t hash;
    struct overlay_entry *entry; /* NULL: an empty slot */
};

RB_HEAD(overlay_tree, overlay_entry);

struct overlay {
    struct overlay_slot *slots; /* a power of two of them, or none */
    size_t n_slots;
    uint64_t seed;
    struct overlay_entry *oldest, *newest;
    struct overlay_tree tree;        /* those older than `unordered` */
    struct overlay_entry *unordered; /* NULL: all are in the tree */
    struct overlay_range *ranges[OVERLAY_BUCKETS];
    struct overlay_block *blocks; /* the first one has room */
    size_t count;                 /* entries, tombstones included */
    size_t n_large;               /* values that are allocations of their own */
    uint64_t bytes;               /* cut from blocks, in large values, and the slots */
    uint32_t references;
    bool frozen;
};

/* How an entry stands to a key. */
static int overlay_compare_key(const struct overlay_entry *entry, struct io_key key)
{
    if (entry->range->number != key.range) {
        return entry->range->number < key.range ? -1 : 1;
    }
    if (entry->kind != key.kind) {
        return entry->kind < key.kind ? -1 : 1;
    }
    return slice_compare(overlay_entry_key(entry), key.key);
}

static int overlay_compare(struct overlay_entry *a, struct overlay_entry *b)
{
    return overlay_compare_key(a, (struct io_key){b->range->number, b->kind, overlay_entry_key(b)});
}

/* RB_GENERATE_STATIC, whose attribute this C library does not know. */
RB_GENERATE_INTERNAL(overlay_tree, overlay_entry, link, overlay_compare,
                     __attribute__((unused)) static)

struct overlay *overlay_create(void)
{
    struct overlay *overlay = mem_zalloc(sizeof(*overlay));

    RB_INIT(&overlay->tree);
    overlay->references = 1;
    overlay->seed = key_hash_seed();
    return overlay;
}

struct overlay *overlay_ref(struct overlay *overlay)
{
    ASSERT(overlay->references > 0);
    overlay->references++;
    return overlay;
}

bool overlay_unref(struct overlay *overlay)
{
    ASSERT(overlay->references > 0);
    return --overlay->references == 0;
}

/* Values that are allocations of their own. */
static void overlay_free_large(struct overlay *overlay)
{
    struct overlay_entry *entry;

    if (overlay->n_large == 0) {
        return;
    }
    for (entry = overlay->oldest; entry != NULL; entry = entry->newer) {
        if (entry->value_capacity > OVERLAY_LARGE) {
            mem_free(entry->value);
        }
    }
}

void overlay_destroy(struct overlay **overlay)
{
    struct overlay *self = *overlay;
    struct overlay_block *block;

    if (self == NULL) {
        return;
    }
    overlay_free_large(self);
    while ((block = self->blocks) != NULL) {
        self->blocks = block->next;
        mem_free(block);
    }
    mem_free(self->slots);
    mem_free(self);
    *overlay = NULL;
}

static void *overlay_cut(struct overlay *overlay, size_t n)
{
    struct overlay_block *block = overlay->blocks;
    void *cut;

    n = (n + 7) & ~(size_t)7;
    if (block == NULL || block->size - block->used < n) {
        size_t size = block == NULL ? OVERLAY_FIRST_BLOCK : OVERLAY_BLOCK;

        size = n > size ? n : size;
        block = mem_alloc(sizeof(*block) + size);
        *block = (struct overlay_block){.next = overlay->blocks, .size = size};
        overlay->blocks = block;
    }
    cut = block->bytes + block->used;
    block->used += n;
    overlay->bytes += n;
    return cut;
}

void overlay_freeze(struct overlay *overlay)
{
    overlay->frozen = true;
}

/* ---- Ranges ---- */

static struct overlay_range *overlay_find_range(const struct overlay *overlay, uint64_t number)
{
    struct overlay_range *range = overlay->ranges[number % OVERLAY_BUCKETS];

    while (range != NULL && range->number != number) {
        range = range->next;
    }
    return range;
}

static struct overlay_range *overlay_get_range(struct overlay *overlay, uint64_t number)
{
    struct overlay_range *range = overlay_find_range(overlay, number);

    if (range == NULL) {
        struct overlay_range **bucket = &overlay->ranges[number % OVERLAY_BUCKETS];

        range = overlay_cut(overlay, sizeof(*range));
        *range = (struct overlay_range){.number = number, .next = *bucket};
        *bucket = range;
    }
    return range;
}

/* Counts an entry's content under its range, in or out. */
static void overlay_charge(const struct overlay_entry *entry, bool in)
{
    uint64_t content = entry->removed ? 0 : (uint64_t)entry->key_len + entry->value_len;
    struct overlay_range *range = entry->range;

    ASSERT(in || range->bytes >= content);
    range->bytes += in ? content : -content;
}

/* ---- Finding an entry ---- */

/* The slot of this key, or the empty one where it belongs. */
static struct overlay_slot *overlay_slot(const struct overlay *overlay, struct io_key key,
                                         uint64_t hash)
{
    size_t mask = overlay->n_slots - 1, at = (size_t)hash & mask;

    ASSERT(overlay->count < overlay->n_slots);
    while (overlay->slots[at].entry != NULL &&
           (overlay->slots[at].hash != hash ||
            overlay_compare_key(overlay->slots[at].entry, key) != 0)) {
        at = (at + 1) & mask;
    }
    return &overlay->slots[at];
}

/* Room for one more entry: at most 5 of 8 slots are taken. */
static void overlay_make_slots(struct overlay *overlay)
{
    struct overlay_slot *old = overlay->slots;
    size_t n_old = overlay->n_slots;
    size_t n = n_old == 0 ? OVERLAY_FIRST_SLOTS : 2 * n_old;

    if (8 * (overlay->count + 1) <= 5 * n_old) {
        return;
    }
    overlay->slots = mem_zalloc(n * sizeof(*old));
    overlay->n_slots = n;
    overlay->bytes += (n - n_old) * sizeof(*old);
    for (size_t i = 0; i < n_old; i++) {
        size_t at = (size_t)old[i].hash & (n - 1);

        while (old[i].entry != NULL && overlay->slots[at].entry != NULL) {
            at = (at + 1) & (n - 1);
        }
        if (old[i].entry != NULL) {
            overlay->slots[at] = old[i];
        }
    }
    mem_free(old);
}

/* ---- Writing ---- */

static struct overlay_entry *overlay_add(struct overlay *overlay, struct io_key key)
{
    struct overlay_range *range = overlay_get_range(overlay, key.range);
    struct overlay_entry *entry = overlay_cut(overlay, sizeof(*entry) + key.key.len);

    ASSERT(key.key.len <= UINT32_MAX);
    *entry =
        (struct overlay_entry){.range = range, .kind = key.kind, .key_len = (uint32_t)key.key.len};
    if (key.key.len > 0) {
        memcpy(entry + 1, key.key.data, key.key.len);
    }
    if (overlay->newest == NULL) {
        overlay->oldest = entry;
    } else {
        overlay->newest->newer = entry;
    }
    overlay->newest = entry;
    overlay->unordered = overlay->unordered == NULL ? entry : overlay->unordered;
    overlay->count++;
    return entry;
}

/* The entry of this key, counted out so that the caller can change it; a new one if there is none.
 */
static struct overlay_entry *overlay_edit(struct overlay *overlay, struct io_key key)
{
    uint64_t hash = key_hash(overlay->seed, key);
    struct overlay_slot *slot;

    ASSERT(!overlay->frozen);
    overlay_make_slots(overlay);
    slot = overlay_slot(overlay, key, hash);
    if (slot->entry == NULL) {
        *slot = (struct overlay_slot){hash, overlay_add(overlay, key)};
    } else {
        overlay_charge(slot->entry, false);
    }
    return slot->entry;
}

static void overlay_drop_value(struct overlay *overlay, struct overlay_entry *entry)
{
    if (entry->value_capacity > OVERLAY_LARGE) {
        ASSERT(overlay->n_large > 0 && overlay->bytes >= entry->value_capacity);
        overlay->n_large--;
        overlay->bytes -= entry->value_capacity;
        mem_free(entry->value);
    }
    entry->value = NULL;
    entry->value_len = 0;
    entry->value_capacity = 0;
}

/* Room for `len` bytes in place of the old value. */
static void overlay_make_room(struct overlay *overlay, struct overlay_entry *entry, size_t len)
{
    size_t old = entry->value_capacity;
    bool grows = old > 0 && old < len && len <= OVERLAY_LARGE / 2;
    size_t capacity = grows && 2 * old > len ? 2 * old : len;

    overlay_drop_value(overlay, entry);
    if (len == 0) {
        return;
    }
    if (capacity > OVERLAY_LARGE) {
        entry->value = mem_alloc(capacity);
        overlay->n_large++;
        overlay->bytes += capacity;
    } else {
        entry->value = overlay_cut(overlay, capacity);
    }
    entry->value_capacity = (uint32_t)capacity;
}

void overlay_put(struct overlay *overlay, struct io_key key, struct slice value)
{
    struct overlay_entry *entry = overlay_edit(overlay, key);

    ASSERT(value.len <= UINT32_MAX);
    /* Reuse the room of the old value, unless it is large and most of it would lie idle. */
    if (value.len > entry->value_capacity ||
        (entry->value_capacity > OVERLAY_LARGE && value.len < entry->value_capacity / 4)) {
        overlay_make_room(overlay, entry, value.len);
    }
    if (value.len > 0) {
        memcpy(entry->value, value.data, value.len);
    }
    entry->value_len = (uint32_t)value.len;
    entry->removed = false;
    overlay_charge(entry, true);
}

void overlay_remove(struct overlay *overlay, struct io_key key)
{
    struct overlay_entry *entry = overlay_edit(overlay, key);

    overlay_drop_value(overlay, entry);
    entry->removed = true;
    overlay_charge(entry, true);
}

/* ---- Reading ---- */

const struct overlay_entry *overlay_find(const struct overlay *overlay, struct io_key key)
{
    return overlay->count == 0 ? NULL
                               : overlay_slot(overlay, key, key_hash(overlay->seed, key))->entry;
}

static void overlay_make_order(struct overlay *overlay)
{
    struct overlay_entry *entry = overlay->unordered, *same;

    for (; entry != NULL; entry = entry->newer) {
        same = RB_INSERT(overlay_tree, &overlay->tree, entry);
        ASSERT(same == NULL);
    }
    overlay->unordered = NULL;
}

const struct overlay_entry *overlay_seek(struct overlay *overlay, struct io_key key)
{
    struct overlay_entry *entry, *found = NULL;

    overlay_make_order(overlay);
    entry = RB_ROOT(&overlay->tree);
    while (entry != NULL) {
        bool before = overlay_compare_key(entry, key) < 0;

        found = before ? found : entry;
        entry = before ? RB_RIGHT(entry, link) : RB_LEFT(entry, link);
    }
    return found;
}

const struct overlay_entry *overlay_next(const struct overlay_entry *entry)
{
    return RB_NEXT(overlay_tree, NULL, (struct overlay_entry *)entry);
}

/* What most comparisons need of an entry, so that they need not look at it. */
struct overlay_rank {
    uint64_t range;
    uint64_t head[2]; /* of the key, as numbers in its order; zeros behind its end */
    const struct overlay_entry *entry;
    uint8_t kind;
};

static struct overlay_rank overlay_rank_of(const struct overlay_entry *entry)
{
    struct overlay_rank rank = {.range = entry->range->number, .entry = entry, .kind = entry->kind};
    uint8_t head[sizeof(rank.head)] = {0};

    memcpy(head, entry + 1, entry->key_len < sizeof(head) ? entry->key_len : sizeof(head));
    rank.head[0] = get_u64_be(head);
    rank.head[1] = get_u64_be(head + 8);
    return rank;
}

static int overlay_compare_ranks(const void *one, const void *other)
{
    const struct overlay_rank *a = one, *b = other;

    if (a->range != b->range) {
        return a->range < b->range ? -1 : 1;
    }
    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }
    for (size_t i = 0; i < sizeof(a->head) / sizeof(a->head[0]); i++) {
        if (a->head[i] != b->head[i]) {
            return a->head[i] < b->head[i] ? -1 : 1;
        }
    }
    return slice_compare(overlay_entry_key(a->entry), overlay_entry_key(b->entry));
}

const struct overlay_entry **overlay_sort(const struct overlay *overlay)
{
    struct overlay_rank *ranks = mem_alloc((overlay->count + 1) * sizeof(*ranks));
    const struct overlay_entry **sorted = mem_alloc((overlay->count + 1) * sizeof(*sorted));
    const struct overlay_entry *entry = overlay->oldest;
    size_t n = 0;

    for (; entry != NULL; entry = entry->newer) {
        ranks[n++] = overlay_rank_of(entry);
    }
    ASSERT(n == overlay->count);
    qsort(ranks, n, sizeof(*ranks), overlay_compare_ranks);
    for (size_t i = 0; i < n; i++) {
        sorted[i] = ranks[i].entry;
    }
    mem_free(ranks);
    return sorted;
}

size_t overlay_count(const struct overlay *overlay)
{
    return overlay->count;
}

uint64_t overlay_bytes(const struct overlay *overlay)
{
    return overlay->bytes;
}

uint64_t overlay_range_bytes(const struct overlay *overlay, uint64_t number)
{
    const struct overlay_range *range = overlay_find_range(overlay, number);

    return range == NULL ? 0 : range->bytes;
}
