/* Writing: one write at a time, the switch to the next segment, sync points, compaction. */
#include "raft/store/wal_disk.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

static struct wal_segment *current(const struct wal_disk *disk)
{
    ASSERT(disk->n_segments > 0);
    return &disk->segments[disk->n_segments - 1];
}

/* ---- Which segment holds what ---- */

struct wal_segment *wal_disk_add_segment(struct wal_disk *disk, uint64_t id, uint64_t bytes)
{
    ASSERT(disk->n_segments == 0 || current(disk)->id < id);
    MEM_GROW(disk->segments, disk->segments_capacity, disk->n_segments + 1);
    disk->segments[disk->n_segments] = (struct wal_segment){.id = id, .bytes = bytes};
    return &disk->segments[disk->n_segments++];
}

static struct wal_span *segment_span(struct wal_segment *segment, group_id group)
{
    for (size_t i = 0; i < segment->n_spans; i++) {
        if (segment->spans[i].group == group) {
            return &segment->spans[i];
        }
    }
    return NULL;
}

/* What a later record overwrote, no earlier segment is needed for. */
static void spans_lower(struct wal_disk *disk, size_t n, group_id group, raft_index last)
{
    for (size_t i = 0; i < n; i++) {
        struct wal_span *span = segment_span(&disk->segments[i], group);
        if (span != NULL && span->last > last) {
            span->last = last;
        }
    }
}

void wal_disk_note(struct wal_disk *disk, size_t at, const struct wal_record *record)
{
    struct wal_segment *segment = &disk->segments[at];
    struct wal_span *span;
    raft_index first;

    ASSERT(at < disk->n_segments);
    if (record->kind == WAL_RESET) {
        spans_lower(disk, at + 1, record->group, 0);
    }
    if (record->kind != WAL_ENTRIES) {
        return;
    }
    ASSERT(record->payload.len >= 16); /* it was applied to a table before */
    first = get_u64(record->payload.data);
    spans_lower(disk, at, record->group, first - 1);
    span = segment_span(segment, record->group);
    if (span == NULL) {
        MEM_GROW(segment->spans, segment->capacity, segment->n_spans + 1);
        span = &segment->spans[segment->n_spans++];
        span->group = record->group;
    }
    ASSERT(first > 0 && get_u32(record->payload.data + 8) > 0);
    span->last = first + get_u32(record->payload.data + 8) - 1;
}

static bool segment_is_needed(const struct wal_disk *disk, const struct wal_segment *segment)
{
    for (size_t i = 0; i < segment->n_spans; i++) {
        const struct wal_group *group = wal_table_find(&disk->table, segment->spans[i].group);
        ASSERT(group != NULL);
        if (segment->spans[i].last > group->begin_index) {
            return true;
        }
    }
    return false;
}

enum status wal_disk_release(struct wal_disk *disk)
{
    while (disk->poison == ST_OK && disk->n_segments > 1 &&
           !segment_is_needed(disk, &disk->segments[0])) {
        struct wal_segment oldest = disk->segments[0];

        if (wal_disk_recycle(disk, oldest.id, oldest.bytes) != ST_OK) {
            break;
        }
        mem_free(oldest.spans);
        disk->n_segments--;
        memmove(&disk->segments[0], &disk->segments[1],
                disk->n_segments * sizeof(disk->segments[0]));
    }
    return disk->poison;
}

uint64_t wal_disk_bytes(const struct wal_disk *disk)
{
    uint64_t bytes = disk->spare_bytes + (disk->next.ready ? disk->next.bytes : 0);

    for (size_t i = 0; i < disk->n_segments; i++) {
        bytes += disk->segments[i].bytes;
    }
    return bytes;
}

/* ---- Writing ---- */

static void count_write(struct wal_stats *stats, size_t bytes, uint64_t begin_us, uint64_t sync_us)
{
    stats->writes++;
    stats->bytes += bytes;
    stats->last_write_us = wal_now_us() - begin_us;
    if (stats->last_write_us > stats->slowest_write_us) {
        stats->slowest_write_us = stats->last_write_us;
    }
    histogram_add(&stats->write_us, stats->last_write_us);
    histogram_add(&stats->sync_us, sync_us);
}

/* Writes as the file allows. If the very first direct write of all is refused, nothing was written,
 * and it goes through the page cache. */
static const char *disk_write_through(struct wal_disk *disk, struct wal_file *file, uint64_t id,
                                      struct slice bytes, uint64_t offset, int *error)
{
    const char *failed = wal_writer_put(&disk->writer, file, bytes, offset, error);
    char path[WAL_PATH_BYTES];
    int fd;

    if (failed == NULL || !wal_writer_is_refused(&disk->writer, file, *error)) {
        return failed;
    }
    fd = disk->files->open(disk->files->context, wal_disk_path(disk, id, WAL_SUFFIX_SEGMENT, path),
                           false);
    if (fd < 0) {
        *error = fd;
        return "opening";
    }
    wal_writer_fall_back(&disk->writer, file, fd, *error);
    return wal_writer_put(&disk->writer, file, bytes, offset, error);
}

enum status wal_disk_put(struct wal_disk *disk, struct wal_file *file, uint64_t id,
                         struct buf *bytes, size_t skip, uint64_t offset, uint64_t write)
{
    uint64_t begin_us = wal_now_us();
    const char *failed;
    int error;

    ASSERT(disk->poison == ST_OK); /* a poisoned log is never written again */
    wal_seal(bytes->data + skip, bytes->len - skip,
             (struct wal_place){disk->identity, id, offset + skip}, write);
    failed = disk_write_through(disk, file, id, buf_slice(bytes), offset, &error);
    if (failed != NULL) {
        return wal_disk_fail(disk, error, failed, id, WAL_SUFFIX_SEGMENT);
    }
    count_write(&disk->stats, bytes->len, begin_us, disk->writer.sync_us);
    return ST_OK;
}

/* The same into the current segment, as the next write. */
static enum status disk_append(struct wal_disk *disk, struct buf *bytes, size_t skip)
{
    enum status status = wal_disk_put(disk, &disk->file, current(disk)->id, bytes, skip,
                                      disk->offset, disk->write_number + 1);

    if (status == ST_OK) {
        disk->write_number++;
        disk->offset += bytes->len;
        ASSERT(disk->offset <= current(disk)->bytes);
    }
    return status;
}

void wal_disk_apply(struct wal_disk *disk, size_t at, struct slice records)
{
    struct wal_record record;
    size_t offset = 0;

    while (wal_record_next(records, &offset, &record)) {
        bool applied = wal_table_apply(&disk->table, &record);
        ASSERT(applied); /* what the loop thread queued was checked there */
        wal_disk_note(disk, at, &record);
        disk->stats.records++;
    }
}

void wal_disk_encode_header(const struct wal_disk *disk, const struct wal_table *table, uint64_t id,
                            uint64_t prev, uint64_t prev_end, uint64_t prev_write, struct buf *out)
{
    size_t at;

    ASSERT(prev < id && out->len == 0);
    wal_preamble_encode(out, disk->identity, id);
    at = wal_record_begin(out, WAL_SEGMENT, 0);
    buf_put_u64(out, prev);
    buf_put_u64(out, prev_end);
    buf_put_u64(out, prev_write);
    wal_table_encode(table, out);
    wal_record_end(out, at);
}

/* Room for `bytes` more, and behind them always for a sync point and the record that ends the
 * segment. */
static bool fits(const struct wal_disk *disk, uint64_t bytes)
{
    return disk->offset + bytes + WAL_RESERVED_BYTES <= current(disk)->bytes;
}

/* The next segment is there, but too small for a write larger than a segment. */
static enum status next_grow(struct wal_disk *disk, uint64_t bytes)
{
    struct wal_next *next = &disk->next;
    enum status status = wal_disk_grow(disk, next->file.fd, next->id, WAL_SUFFIX_SEGMENT, bytes);

    if (status == ST_NO_SPACE && store_reserve_yield(disk->reserve, bytes)) {
        status = wal_disk_grow(disk, next->file.fd, next->id, WAL_SUFFIX_SEGMENT, bytes);
    }
    next->bytes = status == ST_OK ? bytes : next->bytes;
    return status;
}

/* Makes sure of a next segment of at least `bytes`. Only for a write that waits for it (`needed`),
 * a small one will do, and the reserve may be used. */
static enum status next_ensure(struct wal_disk *disk, uint64_t bytes, bool needed)
{
    struct wal_next *next = &disk->next;
    enum status status;
    uint64_t usual;

    ASSERT(disk->poison == ST_OK && bytes > 0);
    bytes = wal_disk_whole(bytes);
    usual = bytes < disk->segment_bytes ? disk->segment_bytes : bytes;
    if (next->ready) {
        return next->bytes < bytes ? next_grow(disk, bytes) : ST_OK;
    }
    next->id = disk->highest_id + 1;
    status = needed ? wal_disk_create_least(disk, next->id, usual, bytes, &next->file, &next->bytes)
                    : wal_disk_create_ahead(disk, next->id, usual, &next->file, &next->bytes);
    next->ready = status == ST_OK;
    next->failed = status == ST_NO_SPACE;
    return status;
}

void wal_disk_prepare(struct wal_disk *disk, bool idle)
{
    if (disk->poison != ST_OK || disk->next.ready || (disk->next.failed && !idle)) {
        return;
    }
    if (idle || disk->offset > current(disk)->bytes / 2) {
        next_ensure(disk, disk->segment_bytes, false);
    }
}

static bool zero_ahead(struct wal_disk *disk, struct wal_file *file, uint64_t id, uint64_t offset,
                       uint64_t bytes)
{
    bool more;
    int error = 0;
    const char *failed = wal_writer_zero_ahead(&disk->writer, file, offset, bytes, &more, &error);

    if (failed != NULL) {
        wal_disk_fail(disk, error, failed, id, WAL_SUFFIX_SEGMENT);
    }
    return more;
}

bool wal_disk_zero_ahead(struct wal_disk *disk)
{
    struct wal_next *next = &disk->next;

    if (disk->poison != ST_OK) {
        return false;
    }
    if (zero_ahead(disk, &disk->file, current(disk)->id, disk->offset, current(disk)->bytes)) {
        return true;
    }
    return disk->poison == ST_OK && next->ready &&
           zero_ahead(disk, &next->file, next->id, 0, next->bytes);
}

/* Ends the current segment and begins the next one with these records. Without room for that one,
 * nothing is begun: the current segment ends only when the next one is there. */
static enum status disk_switch(struct wal_disk *disk, struct buf *records)
{
    struct buf bytes = {0};
    uint64_t prev = current(disk)->id, prev_end;
    enum status status;
    struct wal_next next;

    /* Its id is known only once it is made; that changes neither length nor table. */
    wal_disk_encode_header(disk, &disk->table, UINT64_MAX, prev, 0, 0, &bytes);
    status = next_ensure(disk, bytes.len + records->len + WAL_RESERVED_BYTES, true);
    buf_clear(&bytes);
    if (status == ST_OK) {
        next = disk->next;
        ASSERT(next.ready && next.id > prev && next.file.fd >= 0);
        wal_encode_number(&bytes, WAL_END, next.id);
        status = disk_append(disk, &bytes, 0);
    }
    if (status == ST_OK) {
        prev_end = disk->offset;
        wal_writer_close(&disk->writer, &disk->file);
        disk->file = next.file;
        disk->offset = 0;
        disk->next = (struct wal_next){.file.fd = -1};
        wal_disk_add_segment(disk, next.id, next.bytes);
        buf_clear(&bytes);
        wal_disk_encode_header(disk, &disk->table, next.id, prev, prev_end, disk->write_number,
                               &bytes);
        buf_put_slice(&bytes, buf_slice(records));
        status = disk_append(disk, &bytes, WAL_PREAMBLE_BYTES);
    }
    buf_fini(&bytes);
    return status;
}

enum status wal_disk_write(struct wal_disk *disk, struct buf *records)
{
    enum status status;

    ASSERT(records->len > 0);
    if (disk->poison != ST_OK) {
        return disk->poison;
    }
    status = fits(disk, records->len) ? disk_append(disk, records, 0) : disk_switch(disk, records);
    if (status != ST_OK) {
        ASSERT(disk->poison != ST_OK || status == ST_NO_SPACE);
        return status;
    }
    disk->proven = false;
    wal_disk_apply(disk, disk->n_segments - 1, buf_slice(records));
    return ST_OK;
}

enum status wal_disk_sync_point(struct wal_disk *disk)
{
    struct buf bytes = {0};
    enum status status = disk->poison;

    if (status == ST_OK && !disk->proven) {
        wal_encode_sync_point(&bytes);
        status = disk_append(disk, &bytes, 0);
        disk->proven = status == ST_OK;
    }
    buf_fini(&bytes);
    return status;
}
