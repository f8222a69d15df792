/* Overlay: see overlay.h. A red-black tree of entries, and beside it, per range, the bytes of the
 * live entries, so that `status` does not have to walk the tree.
 *
 * Entries with their keys, and values, are cut from blocks and given back all at once, with the
 * overlay: one by one they would cost the loop an allocation each, and the background thread a walk
 * through the tree at the end, with the allocator's lock in its hand. A value that has to grow gets
 * twice the room, so what lies idle is bounded by what is held. A large value is an allocation of
 * its own.
 */
#include "raft/store/overlay.h"

#include <uthash.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define OVERLAY_FIRST_BLOCK (8u << 10)
#define OVERLAY_BLOCK       (256u << 10)
#define OVERLAY_LARGE       (4u << 10) /* a value of more room than this is not in a block */

struct overlay_block {
    struct overlay_block *next;
    size_t used, size;
    uint8_t bytes[] __attribute__((aligned(8)));
};

struct overlay_range {
    uint64_t range;
    uint64_t bytes;
    UT_hash_handle hh;
};

RB_HEAD(overlay_tree, overlay_entry);

struct overlay {
    struct overlay_tree tree;
    struct overlay_range *ranges;     /* hash by range */
    struct overlay_range *last_range; /* the one used last: writes come in runs */
    struct overlay_block *blocks;     /* the first one has room */
    size_t count;                     /* entries, tombstones included */
    size_t n_large;                   /* values that are allocations of their own */
    uint64_t bytes;                   /* cut from blocks, and in large values */
    uint32_t references;
    bool frozen;
};

static int overlay_compare(struct overlay_entry *a, struct overlay_entry *b)
{
    if (a->range != b->range) {
        return a->range < b->range ? -1 : 1;
    }
    if (a->kind != b->kind) {
        return a->kind < b->kind ? -1 : 1;
    }
    return slice_compare(overlay_entry_key(a), overlay_entry_key(b));
}

/* RB_GENERATE_STATIC, whose attribute this C library does not know. */
RB_GENERATE_INTERNAL(overlay_tree, overlay_entry, link, overlay_compare,
                     __attribute__((unused)) static)

struct overlay *overlay_create(void)
{
    struct overlay *overlay = mem_zalloc(sizeof(*overlay));

    RB_INIT(&overlay->tree);
    overlay->references = 1;
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
    RB_FOREACH (entry, overlay_tree, &overlay->tree) {
        if (entry->value_capacity > OVERLAY_LARGE) {
            mem_free(entry->value);
        }
    }
}

void overlay_destroy(struct overlay **overlay)
{
    struct overlay *self = *overlay;
    struct overlay_range *range, *next_range;
    struct overlay_block *block;

    if (self == NULL) {
        return;
    }
    overlay_free_large(self);
    while ((block = self->blocks) != NULL) {
        self->blocks = block->next;
        mem_free(block);
    }
    HASH_ITER (hh, self->ranges, range, next_range) {
        HASH_DEL(self->ranges, range);
        mem_free(range);
    }
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

/* A key to look up, shaped as an entry. */
static struct overlay_entry overlay_probe(struct io_key key)
{
    ASSERT(key.key.len <= UINT32_MAX);
    return (struct overlay_entry){.range = key.range,
                                  .kind = key.kind,
                                  .key = key.key.data,
                                  .key_len = (uint32_t)key.key.len};
}

static struct overlay_range *overlay_get_range(struct overlay *overlay, uint64_t number)
{
    struct overlay_range *range = overlay->last_range;

    if (range != NULL && range->range == number) {
        return range;
    }
    HASH_FIND(hh, overlay->ranges, &number, sizeof(number), range);
    if (range == NULL) {
        range = mem_zalloc(sizeof(*range));
        range->range = number;
        HASH_ADD(hh, overlay->ranges, range, sizeof(range->range), range);
    }
    overlay->last_range = range;
    return range;
}

/* Counts an entry's content under its range, in or out. */
static void overlay_charge(struct overlay *overlay, const struct overlay_entry *entry, bool in)
{
    uint64_t content = entry->removed ? 0 : (uint64_t)entry->key_len + entry->value_len;
    struct overlay_range *range = overlay_get_range(overlay, entry->range);

    ASSERT(in || range->bytes >= content);
    range->bytes += in ? content : -content;
}

/* Gives back what was cut last. */
static void overlay_uncut(struct overlay *overlay, size_t n)
{
    n = (n + 7) & ~(size_t)7;
    ASSERT(overlay->blocks->used >= n);
    overlay->blocks->used -= n;
    overlay->bytes -= n;
}

static struct overlay_entry *overlay_cut_entry(struct overlay *overlay, struct io_key key)
{
    struct overlay_entry *entry = overlay_cut(overlay, sizeof(*entry) + key.key.len);
    uint8_t *bytes = (uint8_t *)(entry + 1);

    *entry = overlay_probe(key);
    entry->key = bytes;
    if (key.key.len > 0) {
        memcpy(bytes, key.key.data, key.key.len);
    }
    return entry;
}

/* The entry of this key, counted out so that the caller can change it; a new one if there is none.
 * One way down the tree, whether there is one or not: that way is most of what a write costs. */
static struct overlay_entry *overlay_edit(struct overlay *overlay, struct io_key key)
{
    struct overlay_entry *cut = overlay_cut_entry(overlay, key), *entry;

    ASSERT(!overlay->frozen);
    entry = RB_INSERT(overlay_tree, &overlay->tree, cut);
    if (entry != NULL) {
        overlay_uncut(overlay, sizeof(*cut) + key.key.len);
        overlay_charge(overlay, entry, false);
        return entry;
    }
    overlay->count++;
    return cut;
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
    size_t capacity = entry->value_capacity > 0 && 2 * (size_t)entry->value_capacity > len &&
                              len <= OVERLAY_LARGE / 2
                          ? 2 * (size_t)entry->value_capacity
                          : len;

    overlay_drop_value(overlay, entry);
    if (len == 0) {
        return;
    }
    if (capacity > OVERLAY_LARGE) {
        capacity = len;
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
    overlay_charge(overlay, entry, true);
}

void overlay_remove(struct overlay *overlay, struct io_key key)
{
    struct overlay_entry *entry = overlay_edit(overlay, key);

    overlay_drop_value(overlay, entry);
    entry->removed = true;
    overlay_charge(overlay, entry, true);
}

const struct overlay_entry *overlay_find(const struct overlay *overlay, struct io_key key)
{
    struct overlay_entry probe = overlay_probe(key);

    return RB_FIND(overlay_tree, (struct overlay_tree *)&overlay->tree, &probe);
}

const struct overlay_entry *overlay_seek(const struct overlay *overlay, struct io_key key)
{
    struct overlay_entry probe = overlay_probe(key);

    return RB_NFIND(overlay_tree, (struct overlay_tree *)&overlay->tree, &probe);
}

const struct overlay_entry *overlay_first(const struct overlay *overlay)
{
    return RB_MIN(overlay_tree, (struct overlay_tree *)&overlay->tree);
}

const struct overlay_entry *overlay_next(const struct overlay_entry *entry)
{
    return RB_NEXT(overlay_tree, NULL, (struct overlay_entry *)entry);
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
    struct overlay_range *range;

    HASH_FIND(hh, overlay->ranges, &number, sizeof(number), range);
    return range == NULL ? 0 : range->bytes;
}
