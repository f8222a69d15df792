/* mem_image: one state at one point: a map, the ranges that are part of it, and where it stands.
 * The live state, the durable one and every open snapshot of mem_state is one. */
#ifndef TESTS_SIM_MEM_IMAGE_H
#define TESTS_SIM_MEM_IMAGE_H

#include "raft/io.h"
#include "tests/sim/mem_map.h"

#define MEM_PREFIX_BYTES 9 /* u64 range big-endian and u8 kind before a key */

struct mem_image {
    struct mem_map map;
    uint64_t *ranges; /* part of the state besides 0 */
    size_t n_ranges;
    uint64_t checkpoint; /* number */
    raft_index index;
    raft_term term;
    struct buf extra;
};

void mem_image_fini(struct mem_image *image);
/* Shares the map, copies the rest. */
struct mem_image mem_image_copy(const struct mem_image *image);
bool mem_image_has_range(const struct mem_image *image, uint64_t range);

/* The range of an encoded key. */
uint64_t mem_key_range(struct slice key);

/* A snapshot's stream: u32 group, u64 index, u64 term, u32 length and extra, u32 number of ranges
 * and each as u64, then (u32 length, key, u32 length, value) in order of key, and at last the u32
 * CRC32C of everything before. from_stream checks everything. */
void mem_image_to_stream(const struct mem_image *image, group_id group, struct buf *out);
bool mem_image_from_stream(struct slice stream, group_id group, struct mem_image *image);

#endif
