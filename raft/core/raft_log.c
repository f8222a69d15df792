/* The Raft log in memory: an array that grows at its end, loses its end when a leader overwrites it
 * and its beginning when a snapshot covers it. The beginning goes by moving `head`; the array is
 * closed up only when more than half of it is unused, so that compaction costs O(1) an entry. */
#include "raft/core/raft_log.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

uint64_t raft_log_entry_bytes(const struct raft_entry *entry)
{
    return RAFT_ENTRY_OVERHEAD + (entry->data == NULL ? 0 : entry->data->len);
}

void raft_log_init(struct raft_log *log, raft_index snapshot_index, raft_term snapshot_term)
{
    ASSERT((snapshot_index == 0) == (snapshot_term == 0));
    *log = (struct raft_log){.snapshot_index = snapshot_index, .snapshot_term = snapshot_term};
}

void raft_log_fini(struct raft_log *log)
{
    raft_log_truncate(log, log->snapshot_index + 1);
    ASSERT(log->n == 0 && log->bytes == 0);
    mem_free(log->entries);
    *log = (struct raft_log){0};
}

raft_index raft_log_last_index(const struct raft_log *log)
{
    return log->snapshot_index + log->n;
}

raft_term raft_log_last_term(const struct raft_log *log)
{
    return raft_log_term_at(log, raft_log_last_index(log));
}

const struct raft_entry *raft_log_entry_at(const struct raft_log *log, raft_index index)
{
    const struct raft_entry *entry;

    if (index <= log->snapshot_index || index - log->snapshot_index > log->n) {
        return NULL;
    }
    entry = &log->entries[log->head + (index - log->snapshot_index - 1)];
    ASSERT(entry->index == index);
    return entry;
}

raft_term raft_log_term_at(const struct raft_log *log, raft_index index)
{
    const struct raft_entry *entry;

    if (index == log->snapshot_index) {
        return log->snapshot_term;
    }
    entry = raft_log_entry_at(log, index);
    return entry == NULL ? 0 : entry->term;
}

bool raft_log_matches(const struct raft_log *log, raft_index index, raft_term term)
{
    return index >= log->snapshot_index && index <= raft_log_last_index(log) &&
           raft_log_term_at(log, index) == term;
}

raft_index raft_log_find_by_term(const struct raft_log *log, raft_index index, raft_term term)
{
    raft_index low = log->snapshot_index;
    raft_index high = index < raft_log_last_index(log) ? index : raft_log_last_index(log);

    /* Terms never fall along the log, so the boundary can be found by halving. */
    while (low < high) {
        raft_index middle = low + (high - low + 1) / 2;

        if (raft_log_term_at(log, middle) <= term) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

void raft_log_append(struct raft_log *log, struct raft_entry entry)
{
    ASSERT(entry.index == raft_log_last_index(log) + 1);
    ASSERT(entry.term >= raft_log_last_term(log) && entry.term > 0);
    MEM_GROW(log->entries, log->capacity, log->head + log->n + 1);
    log->entries[log->head + log->n++] = entry;
    log->bytes += raft_log_entry_bytes(&entry);
}

/* Gives an entry's data back. */
static void release(struct raft_log *log, struct raft_entry *entry)
{
    uint64_t bytes = raft_log_entry_bytes(entry);

    ASSERT(log->bytes >= bytes);
    log->bytes -= bytes;
    blob_unref(&entry->data);
}

void raft_log_truncate(struct raft_log *log, raft_index from)
{
    ASSERT(from > log->snapshot_index);
    while (raft_log_last_index(log) >= from) {
        release(log, &log->entries[log->head + --log->n]);
    }
}

void raft_log_compact(struct raft_log *log, raft_index index)
{
    ASSERT(index >= log->snapshot_index && index <= raft_log_last_index(log));
    log->snapshot_term = raft_log_term_at(log, index);
    for (; log->snapshot_index < index; log->snapshot_index++) {
        release(log, &log->entries[log->head++]);
        log->n--;
    }
    if (log->head > log->capacity / 2) {
        memmove(log->entries, log->entries + log->head, log->n * sizeof(*log->entries));
        log->head = 0;
    }
}

void raft_log_reset(struct raft_log *log, raft_index snapshot_index, raft_term snapshot_term)
{
    ASSERT(snapshot_index > 0 && snapshot_term > 0);
    raft_log_truncate(log, log->snapshot_index + 1);
    ASSERT(log->n == 0 && log->bytes == 0);
    log->head = 0;
    log->snapshot_index = snapshot_index;
    log->snapshot_term = snapshot_term;
}
