/* What the parts of core_harness offer each other. */
#ifndef TESTS_SIM_CORE_HARNESS_INTERNAL_H
#define TESTS_SIM_CORE_HARNESS_INTERNAL_H

#include "tests/sim/core_harness.h"

/* Removes the first `gone` of n items. */
#define SHIFT(items, n, gone)                                                                      \
    do {                                                                                           \
        (n) -= (gone);                                                                             \
        if ((gone) > 0 && (n) > 0) {                                                               \
            memmove((items), (items) + (gone), (n) * sizeof(*(items)));                            \
        }                                                                                          \
    } while (0)

/* ---- Steps: core_harness.c ---- */
uint64_t cores_mix(uint64_t a, uint64_t b);
struct core_node *cores_node(struct cores *cores, raft_id id);
void cores_send(struct cores *cores, struct buf bytes);
struct buf cores_encode(const struct raft_message *message);
void cores_carry_out(struct cores *cores, struct core_node *node, const struct raft_update *update);

/* ---- The disk: core_harness_disk.c ---- */
void cores_entries_free(struct raft_entry *entries, size_t n);
struct raft_entry *cores_entries_copy(const struct raft_entry *entries, size_t n);
void core_disk_truncate(struct core_disk *disk, raft_index from);
void core_disk_compact(struct core_disk *disk, raft_index index);
void core_disk_apply(struct core_disk *disk, struct core_disk_write *write);

/* ---- The checkers: core_harness_check.c ---- */
void cores_check_seen(struct cores *cores, const struct raft_entry *entry, raft_term prev);
void cores_check_leader(struct cores *cores, const struct core_node *node);
void cores_apply_one(struct cores *cores, struct core_node *node, raft_index index);

#endif
