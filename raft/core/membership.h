/* Which configuration is in force at which index of the log. */
#ifndef RAFT_CORE_MEMBERSHIP_H
#define RAFT_CORE_MEMBERSHIP_H

#include "raft/raft.h"

struct membership_entry {
    raft_index index;
    struct raft_configuration configuration;
};

/* Invariants: at least one entry; indexes ascend; entries[0] was in force when the log begins (its
 * index is at most the snapshot's), the others are the configuration entries of the log. */
struct membership {
    struct membership_entry *entries;
    size_t n;
    size_t capacity;
};

void membership_init(struct membership *membership, raft_index index,
                     const struct raft_configuration *configuration);
void membership_fini(struct membership *membership);
const struct raft_configuration *membership_latest(const struct membership *membership);
raft_index membership_latest_index(const struct membership *membership);
const struct raft_configuration *membership_at(const struct membership *membership,
                                               raft_index index);

/* Whether the entry, if it is a configuration, can be adopted; for entries that come from peers. */
bool membership_entry_is_valid(const struct raft_entry *entry);
/* An entry was appended to the log: adopts it if it is a configuration. */
void membership_adopt(struct membership *membership, const struct raft_entry *entry);
/* The log lost its entries from `from` on: falls back to what was in force before. */
void membership_truncate(struct membership *membership, raft_index from);
/* The log now begins after `index`. */
void membership_compact(struct membership *membership, raft_index index);
/* The log was replaced by a snapshot. */
void membership_reset(struct membership *membership, raft_index index,
                      const struct raft_configuration *configuration);

#endif
