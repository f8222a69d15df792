#include "raft/store/wal_table.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define WAL_GROUP_BYTES 56u /* of one group in a segment's header */

/* ---- The groups ---- */

/* The place of the first group with an id not below `group`. */
static size_t table_position(const struct wal_table *table, group_id group)
{
    size_t low = 0, high = table->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->groups[middle].id < group) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct wal_group *wal_table_find(const struct wal_table *table, group_id group)
{
    size_t at = table_position(table, group);

    return at < table->n && table->groups[at].id == group ? &table->groups[at] : NULL;
}

struct wal_group *wal_table_group(struct wal_table *table, group_id group)
{
    size_t at = table_position(table, group);

    if (at < table->n && table->groups[at].id == group) {
        return &table->groups[at];
    }
    MEM_GROW(table->groups, table->capacity, table->n + 1);
    memmove(&table->groups[at + 1], &table->groups[at], (table->n - at) * sizeof(table->groups[0]));
    table->groups[at] = (struct wal_group){.id = group};
    table->n++;
    ASSERT(at == 0 || table->groups[at - 1].id < group);
    return &table->groups[at];
}

/* Gives up the entries [from, to) of the array. */
static void group_release(struct wal_group *group, size_t from, size_t to)
{
    ASSERT(from <= to && to <= group->n_entries);
    for (size_t i = from; i < to; i++) {
        blob_unref(&group->entries[i].data);
    }
    if (to > from) {
        memmove(&group->entries[from], &group->entries[to],
                (group->n_entries - to) * sizeof(group->entries[0]));
    }
    group->n_entries -= to - from;
}

void wal_table_fini(struct wal_table *table)
{
    for (size_t i = 0; i < table->n; i++) {
        group_release(&table->groups[i], 0, table->groups[i].n_entries);
        mem_free(table->groups[i].entries);
    }
    mem_free(table->groups);
    *table = (struct wal_table){.keeps_entries = table->keeps_entries};
}

void wal_table_copy(const struct wal_table *from, struct wal_table *to)
{
    ASSERT(from != to);
    *to = (struct wal_table){.n = from->n, .capacity = from->n};
    to->groups = mem_copy(from->groups, from->n * sizeof(from->groups[0]));
    for (size_t i = 0; i < to->n; i++) {
        to->groups[i].entries = NULL;
        to->groups[i].n_entries = 0;
        to->groups[i].capacity = 0;
    }
}

/* ---- Records ---- */

/* The log now ends at `last`: later entries go. */
static void group_truncate(struct wal_group *group, raft_index last)
{
    uint64_t drop = group->last_index - last;
    size_t n = drop < group->n_entries ? (size_t)drop : group->n_entries;

    ASSERT(last >= group->begin_index && last <= group->last_index);
    group_release(group, group->n_entries - n, group->n_entries);
    group->last_index = last;
}

/* The log now begins after (index, term): earlier entries go. */
static void group_begin_at(struct wal_group *group, raft_index index, raft_term term)
{
    uint64_t keep;

    ASSERT(index >= group->begin_index);
    if (index > group->last_index) {
        group->last_index = index;
        group_release(group, 0, group->n_entries);
    }
    keep = group->last_index - index;
    if (group->n_entries > keep) {
        group_release(group, 0, group->n_entries - (size_t)keep);
    }
    group->begin_index = index;
    group->begin_term = term;
    ASSERT(group->n_entries <= group->last_index - group->begin_index);
}

/* Terms never fall, and a vote once given in a term is never another's (paper, Figure 2). */
static bool apply_hard_state(struct wal_group *group, struct reader *reader)
{
    struct raft_hard_state next = {.term = reader_u64(reader), .voted_for = reader_u32(reader)};
    const struct raft_hard_state *old = &group->hard_state;

    if (!reader_done(reader) || next.term < old->term ||
        (next.term == old->term && old->voted_for != 0 && next.voted_for != old->voted_for)) {
        return false;
    }
    group->hard_state = next;
    return true;
}

static bool entry_decode(struct reader *reader, struct raft_entry *entry)
{
    struct slice data;
    uint8_t type;

    entry->index = reader_u64(reader);
    entry->term = reader_u64(reader);
    type = reader_u8(reader);
    data = reader_bytes(reader, WAL_MAX_PAYLOAD);
    if (!reader_ok(reader) || type < RAFT_ENTRY_NOOP || type > RAFT_ENTRY_CONFIGURATION) {
        return false;
    }
    entry->type = (enum raft_entry_type)type;
    entry->data = type == RAFT_ENTRY_NOOP && data.len == 0 ? NULL : blob_create(data);
    return true;
}

static bool apply_entries(struct wal_table *table, struct wal_group *group, struct reader *reader)
{
    raft_index first = reader_u64(reader);
    uint32_t n = reader_u32(reader);

    reader_u32(reader);
    if (!reader_ok(reader) || n == 0 || first <= group->begin_index ||
        first > group->last_index + 1) {
        return false;
    }
    group_truncate(group, first - 1);
    ASSERT(group->last_index == first - 1);
    if (!table->keeps_entries) {
        group->last_index += n;
        return true;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct raft_entry entry;
        if (!entry_decode(reader, &entry)) {
            return false;
        }
        MEM_GROW(group->entries, group->capacity, group->n_entries + 1);
        group->entries[group->n_entries++] = entry;
        group->last_index++;
        if (entry.index != group->last_index) {
            return false;
        }
    }
    return reader_done(reader);
}

static bool apply_begin(struct wal_group *group, enum wal_kind kind, struct reader *reader)
{
    raft_index index = reader_u64(reader);
    raft_term term = reader_u64(reader);

    if (!reader_done(reader)) {
        return false;
    }
    if (kind == WAL_COMPACT) {
        if (index <= group->begin_index) {
            return false;
        }
        group_begin_at(group, index, term);
        return true;
    }
    group_release(group, 0, group->n_entries);
    ASSERT(group->n_entries == 0);
    group->begin_index = group->last_index = index;
    group->begin_term = term;
    return true;
}

static bool apply_checkpoint(struct wal_group *group, struct reader *reader)
{
    uint64_t number = reader_u64(reader);
    raft_index index = reader_u64(reader);

    if (!reader_done(reader) || number <= group->checkpoint) {
        return false;
    }
    group->checkpoint = number;
    group->checkpoint_index = index;
    return true;
}

bool wal_table_apply(struct wal_table *table, const struct wal_record *record)
{
    struct reader reader = reader_of(record->payload);

    switch (record->kind) {
    case WAL_SEGMENT:
    case WAL_SYNC_POINT:
    case WAL_END:
    case WAL_MOVED:
        return true;
    case WAL_HARD_STATE:
        return apply_hard_state(wal_table_group(table, record->group), &reader);
    case WAL_ENTRIES:
        return apply_entries(table, wal_table_group(table, record->group), &reader);
    case WAL_RESET:
    case WAL_COMPACT:
        return apply_begin(wal_table_group(table, record->group), record->kind, &reader);
    case WAL_CHECKPOINT:
        return apply_checkpoint(wal_table_group(table, record->group), &reader);
    }
    return false;
}

/* ---- In a segment's header ---- */

void wal_table_encode(const struct wal_table *table, struct buf *out)
{
    ASSERT(table->n <= UINT32_MAX);
    buf_put_u32(out, (uint32_t)table->n);
    for (size_t i = 0; i < table->n; i++) {
        const struct wal_group *group = &table->groups[i];
        size_t at = out->len;

        buf_put_u32(out, group->id);
        buf_put_u64(out, group->hard_state.term);
        buf_put_u32(out, group->hard_state.voted_for);
        buf_put_u64(out, group->begin_index);
        buf_put_u64(out, group->begin_term);
        buf_put_u64(out, group->last_index);
        buf_put_u64(out, group->checkpoint);
        buf_put_u64(out, group->checkpoint_index);
        ASSERT(out->len - at == WAL_GROUP_BYTES);
    }
}

bool wal_table_decode(struct reader *reader, struct wal_table *table)
{
    uint32_t n = reader_u32(reader);

    ASSERT(table->n == 0);
    if (n > reader_left(reader) / WAL_GROUP_BYTES) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        group_id id = reader_u32(reader);
        struct wal_group *group;

        if (table->n > 0 && id <= table->groups[table->n - 1].id) {
            return false;
        }
        group = wal_table_group(table, id);
        group->hard_state.term = reader_u64(reader);
        group->hard_state.voted_for = reader_u32(reader);
        group->begin_index = reader_u64(reader);
        group->begin_term = reader_u64(reader);
        group->last_index = reader_u64(reader);
        group->checkpoint = reader_u64(reader);
        group->checkpoint_index = reader_u64(reader);
        if (group->last_index < group->begin_index) {
            return false;
        }
    }
    return reader_ok(reader);
}

bool wal_table_equal(const struct wal_table *a, const struct wal_table *b)
{
    struct buf x = {0}, y = {0};
    bool equal;

    wal_table_encode(a, &x);
    wal_table_encode(b, &y);
    equal = slice_equal(buf_slice(&x), buf_slice(&y));
    buf_fini(&x);
    buf_fini(&y);
    return equal;
}
