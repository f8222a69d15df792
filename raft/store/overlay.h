/* Overlay: applied effects that are not yet in LevelDB, as an ordered map in memory.
 *
 * Keyed like the state by (range, kind, key bytewise). A removal is an entry too, a tombstone: it
 * hides what LevelDB holds. The state store writes into one overlay, the active one; when a
 * checkpoint begins it is frozen and handed to the background thread, which only reads it.
 *
 * Order is made only when it is asked for: most overlays are written, looked up by key, and sorted
 * once, off the loop thread, for their checkpoint (overlay_sort); overlay_seek is for iterations.
 *
 * Not thread-safe: an overlay belongs to the loop thread, which also counts the references. Of a
 * frozen one another thread may read the entries (overlay_sort), their count and their bytes, and
 * nothing else.
 */
#ifndef RAFT_STORE_OVERLAY_H
#define RAFT_STORE_OVERLAY_H

#include <bsd/sys/tree.h>

#include "raft/io.h"

/* What the entries of one range have in common. */
struct overlay_range {
    uint64_t number;
    uint64_t bytes; /* of its keys and values */
    struct overlay_range *next;
};

/* The key is right behind it. */
struct overlay_entry {
    RB_ENTRY(overlay_entry) link; /* in the tree, once order was asked for */
    struct overlay_entry *newer;  /* the one first written after it */
    struct overlay_range *range;
    uint8_t *value; /* value_len bytes */
    uint32_t key_len;
    uint32_t value_len;
    uint32_t value_capacity;
    uint8_t kind;
    bool removed; /* a tombstone; then there is no value */
};

struct overlay;

/* A new, empty overlay with one reference. */
struct overlay *overlay_create(void);
struct overlay *overlay_ref(struct overlay *overlay);
/* Gives a reference back and clears the pointer. True if it was the last one: then the caller must
 * overlay_destroy what it kept, on any thread. */
bool overlay_unref(struct overlay *overlay);
void overlay_destroy(struct overlay **overlay);

/* No writer touches it from now on; a put or a remove would be a bug and ends the process. */
void overlay_freeze(struct overlay *overlay);
void overlay_put(struct overlay *overlay, struct io_key key, struct slice value);
void overlay_remove(struct overlay *overlay, struct io_key key);

/* The entry of exactly this key, a tombstone included; NULL for none. */
const struct overlay_entry *overlay_find(const struct overlay *overlay, struct io_key key);
/* The first entry at or after the key; overlay_next the one after an entry; NULL at the end. What
 * was written since the last time is put in order first. */
const struct overlay_entry *overlay_seek(struct overlay *overlay, struct io_key key);
const struct overlay_entry *overlay_next(const struct overlay_entry *entry);
/* All entries by their keys, overlay_count of them; the caller frees the array. */
const struct overlay_entry **overlay_sort(const struct overlay *overlay);

static inline struct slice overlay_entry_key(const struct overlay_entry *entry)
{
    return slice_of(entry + 1, entry->key_len);
}

static inline struct slice overlay_entry_value(const struct overlay_entry *entry)
{
    return slice_of(entry->value, entry->value_len);
}

size_t overlay_count(const struct overlay *overlay);
/* What it takes in memory, about; what was overwritten by a longer value included. */
uint64_t overlay_bytes(const struct overlay *overlay);
/* The bytes of keys and values of one range. */
uint64_t overlay_range_bytes(const struct overlay *overlay, uint64_t range);

#endif
