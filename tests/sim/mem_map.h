/* mem_map: an ordered map of byte strings whose copies cost nothing.
 *
 * A map is a treap of immutable, counted nodes: a change copies the nodes on its path that others
 * share and leaves those others alone. So a checkpoint, a snapshot and "the state before the crash"
 * are each one more reference to a root. The shape follows from the keys alone (a node's priority
 * is a hash of its key), so the same content is always the same tree. One thread.
 */
#ifndef TESTS_SIM_MEM_MAP_H
#define TESTS_SIM_MEM_MAP_H

#include "raft/util/bytes.h"

struct mem_map_node;

/* {0} is an empty map. */
struct mem_map {
    struct mem_map_node *root;
    size_t n;       /* keys */
    uint64_t bytes; /* of all keys and values */
};

/* Another map with the same content, independent from now on. */
struct mem_map mem_map_copy(const struct mem_map *map);
void mem_map_fini(struct mem_map *map);

/* Copies both. Replaces the value of a key that is there. */
void mem_map_put(struct mem_map *map, struct slice key, struct slice value);
/* False if the key was not there. */
bool mem_map_remove(struct mem_map *map, struct slice key);
/* The value; valid until the map is changed. */
bool mem_map_get(const struct mem_map *map, struct slice key, struct slice *value);
/* The first key at or above `from` (above it, if `after`); false at the end. The slices are valid
 * until the map is changed. */
bool mem_map_seek(const struct mem_map *map, struct slice from, bool after, struct slice *key,
                  struct slice *value);

#endif
