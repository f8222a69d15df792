/* What a replica wrote durably, and how a write gets there. */
#include "tests/sim/core_harness_internal.h"

void cores_entries_free(struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        blob_unref(&entries[i].data);
    }
    mem_free(entries);
}

struct raft_entry *cores_entries_copy(const struct raft_entry *entries, size_t n)
{
    struct raft_entry *copy = mem_alloc(n * sizeof(*copy));

    for (size_t i = 0; i < n; i++) {
        copy[i] = entries[i];
        if (copy[i].data != NULL) {
            copy[i].data = blob_create(blob_slice(entries[i].data));
        }
    }
    return copy;
}

raft_index core_disk_last_index(const struct core_disk *disk)
{
    return disk->begin_index + disk->n_entries;
}

raft_term core_disk_term_at(const struct core_disk *disk, raft_index index)
{
    if (index == disk->begin_index) {
        return disk->begin_term;
    }
    if (index < disk->begin_index || index > core_disk_last_index(disk)) {
        return 0;
    }
    return disk->entries[index - disk->begin_index - 1].term;
}

void core_disk_truncate(struct core_disk *disk, raft_index from)
{
    while (disk->n_entries > 0 && core_disk_last_index(disk) >= from) {
        blob_unref(&disk->entries[--disk->n_entries].data);
    }
}

void core_disk_compact(struct core_disk *disk, raft_index index)
{
    size_t gone = 0;

    if (index <= disk->begin_index) {
        return;
    }
    ASSERT(index <= core_disk_last_index(disk));
    disk->begin_term = core_disk_term_at(disk, index);
    for (; disk->begin_index < index; disk->begin_index++) {
        blob_unref(&disk->entries[gone++].data);
    }
    SHIFT(disk->entries, disk->n_entries, gone);
}

void core_disk_apply(struct core_disk *disk, struct core_disk_write *write)
{
    if (write->has_hard_state) {
        disk->hard_state = write->hard_state;
    }
    if (write->reset) {
        core_disk_truncate(disk, disk->begin_index + 1);
        disk->begin_index = write->reset_index;
        disk->begin_term = write->reset_term;
    }
    if (write->n_entries > 0) {
        size_t n;

        core_disk_truncate(disk, write->entries[0].index);
        assert_true(write->entries[0].index == core_disk_last_index(disk) + 1);
        n = disk->n_entries + write->n_entries;
        disk->entries = mem_realloc(disk->entries, n * sizeof(*disk->entries));
        memcpy(disk->entries + disk->n_entries, write->entries,
               write->n_entries * sizeof(*write->entries));
        disk->n_entries = n;
    }
    mem_free(write->entries); /* their data belong to the disk now */
    *write = (struct core_disk_write){0};
}
