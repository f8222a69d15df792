#include "raft/store/wal_scan.h"

#include "raft/util/assert.h"
#include "raft/util/crc32c.h"

#define WAL_WINDOW_BYTES (256u << 10) /* read at a time */

int wal_source_open(struct wal_source *source, const struct wal_files *files, const char *path,
                    uint64_t identity, uint64_t segment)
{
    int64_t size;

    *source =
        (struct wal_source){.files = files, .fd = -1, .identity = identity, .segment = segment};
    source->fd = files->open(files->context, path, false);
    if (source->fd < 0) {
        return source->fd;
    }
    size = files->size(files->context, source->fd);
    if (size < 0) {
        wal_source_close(source);
        return (int)size;
    }
    source->size = (uint64_t)size;
    return 0;
}

void wal_source_close(struct wal_source *source)
{
    if (source->fd >= 0) {
        source->files->close(source->files->context, source->fd);
        source->fd = -1;
    }
    buf_fini(&source->window);
}

const uint8_t *wal_source_bytes(struct wal_source *source, uint64_t offset, uint64_t len)
{
    uint64_t want;
    int64_t got;

    ASSERT(len > 0);
    if (offset > source->size || len > source->size - offset || source->error != 0) {
        return NULL;
    }
    if (offset >= source->window_at && offset - source->window_at + len <= source->window.len) {
        return source->window.data + (offset - source->window_at);
    }
    want = len > WAL_WINDOW_BYTES ? len : WAL_WINDOW_BYTES;
    if (want > source->size - offset) {
        want = source->size - offset;
    }
    buf_clear(&source->window);
    source->window_at = offset;
    got = source->files->pread(source->files->context, source->fd,
                               buf_extend(&source->window, (size_t)want), (size_t)want, offset);
    source->window.len = got > 0 ? (size_t)got : 0;
    if (got < 0) {
        source->error = (int)got;
    }
    return got >= 0 && (uint64_t)got >= len ? source->window.data : NULL;
}

static struct wal_place source_place(const struct wal_source *source, uint64_t offset)
{
    return (struct wal_place){source->identity, source->segment, offset};
}

bool wal_source_record(struct wal_source *source, uint64_t offset, struct wal_record *record)
{
    const uint8_t *bytes = wal_source_bytes(source, offset, WAL_HEADER_BYTES);

    ASSERT(offset % 8 == 0);
    if (bytes == NULL || !wal_header_parse(bytes, source_place(source, offset), record)) {
        return false;
    }
    bytes = wal_source_bytes(source, offset, wal_record_bytes(record->payload_len));
    if (bytes == NULL) {
        return false;
    }
    ASSERT(record->payload_len <= WAL_MAX_PAYLOAD);
    record->payload = slice_of(bytes + WAL_HEADER_BYTES, record->payload_len);
    return crc32c(0, record->payload.data, record->payload.len) == record->payload_crc;
}

/* ---- Writes ---- */

void wal_write_fini(struct wal_write *write)
{
    buf_fini(&write->records);
    *write = (struct wal_write){0};
}

/* Takes a record of the write in; `first` if it is the first one. */
static void write_add(struct wal_write *write, const struct wal_record *record, bool first)
{
    size_t at;

    switch (record->kind) {
    case WAL_SEGMENT:
        write->begins_segment = first;
        return;
    case WAL_END:
    case WAL_MOVED:
        write->next = record->payload.len == 8 ? get_u64(record->payload.data) : 0;
        /* fall through */
    case WAL_SYNC_POINT:
        write->only = first && record->last ? record->kind : write->only;
        return;
    default:
        at = wal_record_begin(&write->records, record->kind, record->group);
        buf_put_slice(&write->records, record->payload);
        wal_record_end(&write->records, at);
    }
}

bool wal_source_write(struct wal_source *source, uint64_t offset, uint64_t number,
                      struct wal_write *write, uint64_t *bad)
{
    struct wal_record record = {0};

    ASSERT(number > 0);
    *write = (struct wal_write){.number = number, .offset = offset, .end = offset};
    while (!record.last) {
        if (!wal_source_record(source, write->end, &record) || record.write != number) {
            *bad = write->end;
            wal_write_fini(write);
            return false;
        }
        write_add(write, &record, write->end == offset);
        write->end += wal_record_bytes(record.payload_len);
    }
    ASSERT(write->end > offset);
    return true;
}

uint64_t wal_source_highest(struct wal_source *source, uint64_t offset)
{
    uint64_t highest = 0;
    const uint8_t *bytes;

    ASSERT(offset % 8 == 0);
    /* A write is begun only after the one before is durable, so a header alone is proof, wherever
     * it is: pages and sectors of a write reach the disk in any order. */
    while ((bytes = wal_source_bytes(source, offset, WAL_HEADER_BYTES)) != NULL) {
        struct wal_record record;
        if (get_u64(bytes + 16) > highest &&
            wal_header_parse(bytes, source_place(source, offset), &record)) {
            highest = record.write;
        }
        offset += 8;
    }
    return highest;
}
