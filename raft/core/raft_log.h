/* The Raft log in memory: what follows the snapshot, without a gap. */
#ifndef RAFT_CORE_RAFT_LOG_H
#define RAFT_CORE_RAFT_LOG_H

#include "raft/raft.h"

/* Invariants: entry i of the array has index snapshot_index + 1 + i; terms never fall; the log owns
 * a reference of each entry's data; bytes is the sum of entry_bytes over all entries. */
struct raft_log {
    raft_index snapshot_index; /* the log begins after it; 0: at the beginning of time */
    raft_term snapshot_term;
    struct raft_entry *entries; /* n of them from entries[head] on */
    size_t head;
    size_t n;
    size_t capacity;
    uint64_t bytes;
};

/* What an entry counts in every limit of bytes: its data and a share for its header. */
#define RAFT_ENTRY_OVERHEAD 24
uint64_t raft_log_entry_bytes(const struct raft_entry *entry);

void raft_log_init(struct raft_log *log, raft_index snapshot_index, raft_term snapshot_term);
void raft_log_fini(struct raft_log *log);

raft_index raft_log_last_index(const struct raft_log *log);
raft_term raft_log_last_term(const struct raft_log *log);
/* NULL if the log does not hold that index. */
const struct raft_entry *raft_log_entry_at(const struct raft_log *log, raft_index index);
/* Of an entry or of the snapshot; 0 if not known. */
raft_term raft_log_term_at(const struct raft_log *log, raft_index index);
/* Whether the log (or the snapshot before it) holds an entry with that index and that term. Index 0
 * with term 0 is held by every log that begins at the beginning. */
bool raft_log_matches(const struct raft_log *log, raft_index index, raft_term term);
/* The highest index at or below `index` whose term is at most `term`; not below the snapshot. */
raft_index raft_log_find_by_term(const struct raft_log *log, raft_index index, raft_term term);

/* Takes the reference of the entry's data over. Its index must be the next one. */
void raft_log_append(struct raft_log *log, struct raft_entry entry);
/* Removes the entries from `from` on. */
void raft_log_truncate(struct raft_log *log, raft_index from);
/* Removes the entries up to `index`, which must be in the log or its snapshot. */
void raft_log_compact(struct raft_log *log, raft_index index);
/* Removes everything: the log begins again after a snapshot. */
void raft_log_reset(struct raft_log *log, raft_index snapshot_index, raft_term snapshot_term);

#endif
