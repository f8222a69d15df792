#include "raft/store/wal_format.h"

#include "raft/util/assert.h"
#include "raft/util/crc32c.h"

static const uint8_t padding[8] = {0};
static const uint8_t wal_magic[8] = {'S', 'K', 'V', 'W', 'A', 'L', '\r', '\n'};

static uint32_t header_crc(const uint8_t *header, struct wal_place place)
{
    uint8_t bound[24];

    set_u64(bound, place.identity);
    set_u64(bound + 8, place.segment);
    set_u64(bound + 16, place.offset);
    return crc32c(crc32c(0, bound, sizeof(bound)), header + 4, WAL_HEADER_BYTES - 4);
}

static bool kind_is_valid(uint8_t kind)
{
    return kind >= WAL_SEGMENT && kind <= WAL_MOVED;
}

/* ---- Records ---- */

size_t wal_record_begin(struct buf *out, enum wal_kind kind, group_id group)
{
    size_t at = out->len;
    uint8_t *header;

    ASSERT(kind_is_valid((uint8_t)kind));
    ASSERT(at % 8 == 0);
    header = buf_extend(out, WAL_HEADER_BYTES);
    memset(header, 0, WAL_HEADER_BYTES);
    header[12] = (uint8_t)kind;
    set_u32(header + 24, group);
    return at;
}

void wal_record_end(struct buf *out, size_t at)
{
    size_t len = out->len - at - WAL_HEADER_BYTES;
    uint8_t *header;

    ASSERT(out->len >= at + WAL_HEADER_BYTES);
    ASSERT(len <= WAL_MAX_PAYLOAD);
    buf_put(out, padding, wal_record_bytes((uint32_t)len) - WAL_HEADER_BYTES - len);
    header = out->data + at;
    set_u32(header + 4, crc32c(0, header + WAL_HEADER_BYTES, len));
    set_u32(header + 8, (uint32_t)len);
}

void wal_seal(uint8_t *records, size_t len, struct wal_place place, uint64_t write)
{
    size_t at = 0;

    ASSERT(len > 0 && len % 8 == 0 && place.offset % 8 == 0);
    ASSERT(write > 0);
    while (at < len) {
        uint8_t *header = records + at;
        uint64_t bytes = wal_record_bytes(get_u32(header + 8));
        struct wal_place here = place;

        ASSERT(bytes <= len - at);
        here.offset = place.offset + at;
        header[13] = at + bytes == len ? 1 : 0;
        set_u64(header + 16, write);
        set_u32(header, header_crc(header, here));
        at += bytes;
    }
    ASSERT(at == len);
}

static void header_read(const uint8_t *bytes, struct wal_record *record)
{
    *record = (struct wal_record){.kind = (enum wal_kind)bytes[12],
                                  .last = bytes[13] == 1,
                                  .write = get_u64(bytes + 16),
                                  .group = get_u32(bytes + 24),
                                  .payload_crc = get_u32(bytes + 4),
                                  .payload_len = get_u32(bytes + 8)};
}

bool wal_header_parse(const uint8_t *bytes, struct wal_place place, struct wal_record *record)
{
    /* Cheap checks first: recovery tries this at every multiple of 8 of a damaged area. */
    if (!kind_is_valid(bytes[12]) || bytes[13] > 1 || get_u16(bytes + 14) != 0 ||
        get_u32(bytes + 28) != 0 || get_u32(bytes + 8) > WAL_MAX_PAYLOAD) {
        return false;
    }
    if (get_u32(bytes) != header_crc(bytes, place)) {
        return false;
    }
    header_read(bytes, record);
    return record->write > 0;
}

bool wal_record_next(struct slice records, size_t *at, struct wal_record *record)
{
    uint64_t bytes;

    if (*at == records.len) {
        return false;
    }
    ASSERT(records.len - *at >= WAL_HEADER_BYTES);
    header_read(records.data + *at, record);
    bytes = wal_record_bytes(record->payload_len);
    ASSERT(bytes <= records.len - *at);
    record->payload = slice_of(records.data + *at + WAL_HEADER_BYTES, record->payload_len);
    *at += bytes;
    return true;
}

/* ---- Preamble ---- */

void wal_preamble_encode(struct buf *out, uint64_t identity, uint64_t segment)
{
    size_t at = out->len;

    ASSERT(segment > 0);
    buf_put(out, wal_magic, sizeof(wal_magic));
    buf_put_u32(out, WAL_VERSION);
    buf_put_u32(out, 0);
    buf_put_u64(out, identity);
    buf_put_u64(out, segment);
    buf_put_u32(out, 0);
    buf_put_u32(out, crc32c(0, out->data + at, WAL_PREAMBLE_BYTES - 4));
    ASSERT(out->len - at == WAL_PREAMBLE_BYTES);
}

enum wal_preamble wal_preamble_parse(const uint8_t *bytes, uint64_t *identity, uint64_t *segment)
{
    if (memcmp(bytes, wal_magic, sizeof(wal_magic)) != 0 ||
        get_u32(bytes + WAL_PREAMBLE_BYTES - 4) != crc32c(0, bytes, WAL_PREAMBLE_BYTES - 4)) {
        return WAL_PREAMBLE_NONE;
    }
    *identity = get_u64(bytes + 16);
    *segment = get_u64(bytes + 24);
    return get_u32(bytes + 8) == WAL_VERSION ? WAL_PREAMBLE_OK : WAL_PREAMBLE_NEWER;
}

/* ---- Payloads ---- */

void wal_encode_number(struct buf *out, enum wal_kind kind, uint64_t next)
{
    size_t at = wal_record_begin(out, kind, 0);

    ASSERT(kind == WAL_END || kind == WAL_MOVED);
    buf_put_u64(out, next);
    wal_record_end(out, at);
    ASSERT(out->len - at == WAL_END_BYTES);
}

void wal_encode_sync_point(struct buf *out)
{
    wal_record_end(out, wal_record_begin(out, WAL_SYNC_POINT, 0));
}

void wal_encode_hard_state(struct buf *out, group_id group, const struct raft_hard_state *state)
{
    size_t at = wal_record_begin(out, WAL_HARD_STATE, group);

    buf_put_u64(out, state->term);
    buf_put_u32(out, state->voted_for);
    wal_record_end(out, at);
}

void wal_encode_pair(struct buf *out, enum wal_kind kind, group_id group, uint64_t a, uint64_t b)
{
    size_t at = wal_record_begin(out, kind, group);

    ASSERT(kind == WAL_RESET || kind == WAL_COMPACT || kind == WAL_CHECKPOINT);
    buf_put_u64(out, a);
    buf_put_u64(out, b);
    wal_record_end(out, at);
}

static void entry_encode(struct buf *out, const struct raft_entry *entry)
{
    struct slice data = blob_slice(entry->data);

    buf_put_u64(out, entry->index);
    buf_put_u64(out, entry->term);
    buf_put_u8(out, (uint8_t)entry->type);
    buf_put_bytes(out, data);
}

void wal_encode_entries(struct buf *out, group_id group, const struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t at = wal_record_begin(out, WAL_ENTRIES, group);
        size_t first = i;
        size_t count_at;

        buf_put_u64(out, entries[i].index);
        count_at = out->len;
        buf_put_u32(out, 0);
        buf_put_u32(out, 0);
        do {
            ASSERT(entries[i].index == entries[first].index + (i - first));
            entry_encode(out, &entries[i]);
            i++;
        } while (i < n && out->len - at + blob_slice(entries[i].data).len <= WAL_ENTRIES_BYTES);
        buf_set_u32(out, count_at, (uint32_t)(i - first));
        wal_record_end(out, at);
    }
}
