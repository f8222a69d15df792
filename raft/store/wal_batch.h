/* What one write of the log is to hold, on its way from the loop to the disk thread. */
#ifndef RAFT_STORE_WAL_BATCH_H
#define RAFT_STORE_WAL_BATCH_H

#include "raft/raft.h"

struct wal_token {
    group_id group;
    uint64_t token;
};

struct wal_batch {
    struct wal_batch *next;
    struct buf records; /* unsealed */
    struct wal_token *tokens;
    size_t n_tokens;
    size_t capacity;
};

struct wal_batch *wal_batch_create(void);
void wal_batch_destroy(struct wal_batch **batch);
/* Empties it for further use; with a long one, its memory goes. */
void wal_batch_clear(struct wal_batch *batch);
/* Appends the batch's content to `last`, which may be NULL; false if both together are too long. */
bool wal_batch_join(struct wal_batch *last, const struct wal_batch *batch);

#endif
