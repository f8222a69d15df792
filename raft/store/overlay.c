/* Overlay: see overlay.h. A red-black tree of entries, and beside it, per range, the bytes of the
 * live entries, so that `status` does not have to walk the tree. An entry is one allocation with
 * its key, and another for its value, which an overwrite reuses when it fits.
 */
#include "raft/store/overlay.h"

#include <uthash.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* What an entry takes besides key and value: the struct and two allocations' headers. */
#define OVERLAY_ENTRY_BYTES (sizeof(struct overlay_entry) + 32)

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
    size_t count;                     /* entries, tombstones included */
    uint64_t bytes;                   /* sum over the entries; see overlay_charge */
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

void overlay_destroy(struct overlay **overlay)
{
    struct overlay *self = *overlay;
    struct overlay_entry *entry, *next;
    struct overlay_range *range, *next_range;

    if (self == NULL) {
        return;
    }
    RB_FOREACH_SAFE (entry, overlay_tree, &self->tree, next) {
        RB_REMOVE(overlay_tree, &self->tree, entry);
        mem_free(entry->value);
        mem_free(entry);
    }
    HASH_ITER (hh, self->ranges, range, next_range) {
        HASH_DEL(self->ranges, range);
        mem_free(range);
    }
    mem_free(self);
    *overlay = NULL;
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

/* Counts an entry in (or out): its memory in `bytes`, its content under its range. */
static void overlay_charge(struct overlay *overlay, const struct overlay_entry *entry, bool in)
{
    uint64_t memory = OVERLAY_ENTRY_BYTES + entry->key_len + entry->value_capacity;
    uint64_t content = entry->removed ? 0 : (uint64_t)entry->key_len + entry->value_len;
    struct overlay_range *range = overlay_get_range(overlay, entry->range);

    if (in) {
        overlay->bytes += memory;
        range->bytes += content;
        return;
    }
    ASSERT(overlay->bytes >= memory);
    ASSERT(range->bytes >= content);
    overlay->bytes -= memory;
    range->bytes -= content;
}

/* The entry of this key, counted out so that the caller can change it; a new one if there is none.
 */
static struct overlay_entry *overlay_edit(struct overlay *overlay, struct io_key key)
{
    struct overlay_entry probe = overlay_probe(key);
    struct overlay_entry *entry = RB_FIND(overlay_tree, &overlay->tree, &probe);
    uint8_t *bytes;

    ASSERT(!overlay->frozen);
    if (entry != NULL) {
        overlay_charge(overlay, entry, false);
        return entry;
    }
    entry = mem_zalloc(sizeof(*entry) + key.key.len);
    bytes = (uint8_t *)(entry + 1);
    if (key.key.len > 0) {
        memcpy(bytes, key.key.data, key.key.len);
    }
    entry->range = key.range;
    entry->kind = key.kind;
    entry->key = bytes;
    entry->key_len = (uint32_t)key.key.len;
    RB_INSERT(overlay_tree, &overlay->tree, entry);
    overlay->count++;
    return entry;
}

void overlay_put(struct overlay *overlay, struct io_key key, struct slice value)
{
    struct overlay_entry *entry = overlay_edit(overlay, key);

    ASSERT(value.len <= UINT32_MAX);
    /* Reuse the room of the old value, unless most of it would lie idle. */
    if (value.len > entry->value_capacity || value.len < entry->value_capacity / 4) {
        mem_free(entry->value);
        entry->value = value.len > 0 ? mem_alloc(value.len) : NULL;
        entry->value_capacity = (uint32_t)value.len;
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

    mem_free(entry->value);
    entry->value = NULL;
    entry->value_len = 0;
    entry->value_capacity = 0;
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
