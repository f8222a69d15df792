/* wal_table: what the records of the log add up to, group by group.
 *
 * The same code runs in three places: recovery replays the records found on disk into a table that
 * keeps the entries; the loop thread applies what it queues, and the disk thread what it made
 * durable, to tables that keep only indices. The table of durable writes is what a new segment's
 * header carries, so that older segments are needed for nothing but their entries.
 *
 * Invariant: entries[], where kept, are the last n_entries of (begin_index, last_index]. Fewer than
 * that are known only while a log is replayed whose oldest segment began with a table that speaks
 * of entries in segments since recycled; records that follow must drop those.
 */
#ifndef RAFT_STORE_WAL_TABLE_H
#define RAFT_STORE_WAL_TABLE_H

#include "raft/store/wal_format.h"

struct wal_group {
    group_id id;
    struct raft_hard_state hard_state;
    raft_index begin_index; /* the log begins after it */
    raft_term begin_term;
    raft_index last_index; /* at least begin_index */
    uint64_t checkpoint;
    raft_index checkpoint_index;
    struct raft_entry *entries; /* owned, with their references; NULL where not kept */
    size_t n_entries;
    size_t capacity;
};

struct wal_table {
    bool keeps_entries;
    struct wal_group *groups; /* ascending id */
    size_t n;
    size_t capacity;
};

void wal_table_fini(struct wal_table *table);
/* A copy without entries. */
void wal_table_copy(const struct wal_table *from, struct wal_table *to);
struct wal_group *wal_table_find(const struct wal_table *table, group_id group);
/* Finds or adds the group. */
struct wal_group *wal_table_group(struct wal_table *table, group_id group);

/* Applies one record; those that say nothing of a group are fine and change nothing. False: the
 * payload is malformed, or contradicts what came before (a term that falls, a gap). */
bool wal_table_apply(struct wal_table *table, const struct wal_record *record);

/* The table in a segment's header: u32 count, then per group u32 id, u64 term, u32 voted_for, u64
 * begin index, begin term, last index, checkpoint number, checkpoint index. */
void wal_table_encode(const struct wal_table *table, struct buf *out);
/* Into an empty table. */
bool wal_table_decode(struct reader *reader, struct wal_table *table);
bool wal_table_equal(const struct wal_table *a, const struct wal_table *b);

#endif
