#include "raft/store/wal_batch.h"

#include "raft/util/mem.h"

#define WAL_BATCH_KEPT  (256u << 10) /* so much memory an empty batch may hold on to */
#define WAL_BATCH_BYTES (8u << 20)   /* batches gather up to this; a single write may be larger */

struct wal_batch *wal_batch_create(void)
{
    return mem_zalloc(sizeof(struct wal_batch));
}

void wal_batch_destroy(struct wal_batch **batch)
{
    buf_fini(&(*batch)->records);
    mem_free((*batch)->tokens);
    mem_free(*batch);
    *batch = NULL;
}

void wal_batch_clear(struct wal_batch *batch)
{
    batch->next = NULL;
    batch->n_tokens = 0;
    if (batch->records.capacity > WAL_BATCH_KEPT) {
        buf_fini(&batch->records);
    }
    buf_clear(&batch->records);
}

bool wal_batch_join(struct wal_batch *last, const struct wal_batch *batch)
{
    if (last == NULL || last->records.len + batch->records.len > WAL_BATCH_BYTES) {
        return false;
    }
    buf_put_slice(&last->records, buf_slice(&batch->records));
    if (batch->n_tokens > 0) {
        MEM_GROW(last->tokens, last->capacity, last->n_tokens + batch->n_tokens);
        memcpy(&last->tokens[last->n_tokens], batch->tokens,
               batch->n_tokens * sizeof(batch->tokens[0]));
        last->n_tokens += batch->n_tokens;
    }
    return true;
}
