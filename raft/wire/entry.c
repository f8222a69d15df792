/* Entries, hard state and snapshot metadata as bytes: what messages are made of.
 * The formats are in raft/wire.h. */
#include "raft/util/assert.h"
#include "raft/wire.h"

/* The longest encoded configuration: every server with the longest address. */
#define MAX_CONFIGURATION_BYTES (2 + RAFT_MAX_SERVERS * (1 + 1 + 8 + 4 + SPEC_MAX_URL))

void wire_encode_entry(const struct raft_entry *entry, struct buf *out)
{
    ASSERT(entry->index > 0 && entry->term > 0);
    ASSERT((entry->type == RAFT_ENTRY_NOOP) == (entry->data == NULL));
    buf_put_u64(out, entry->index);
    buf_put_u64(out, entry->term);
    buf_put_u8(out, (uint8_t)entry->type);
    buf_put_bytes(out, blob_slice(entry->data));
}

bool wire_decode_entry(struct reader *reader, struct raft_entry *entry)
{
    uint8_t type;
    struct slice data;

    *entry = (struct raft_entry){0};
    entry->index = reader_u64(reader);
    entry->term = reader_u64(reader);
    type = reader_u8(reader);
    data = reader_bytes(reader, WIRE_MAX_ENTRY_BYTES);
    if (!reader_ok(reader) || entry->index == 0 || entry->term == 0 || type < RAFT_ENTRY_NOOP ||
        type > RAFT_ENTRY_CONFIGURATION || (type == RAFT_ENTRY_NOOP && data.len > 0)) {
        reader->bad = true;
        *entry = (struct raft_entry){0};
        return false;
    }
    entry->type = type;
    if (type != RAFT_ENTRY_NOOP) {
        entry->data = blob_create(data);
    }
    return true;
}

void wire_encode_snapshot_meta(const struct raft_snapshot_meta *meta, struct buf *out)
{
    size_t length_at;

    buf_put_u64(out, meta->index);
    buf_put_u64(out, meta->term);
    length_at = out->len;
    buf_put_u32(out, 0);
    raft_configuration_encode(&meta->configuration, out);
    ASSERT(out->len - length_at - 4 <= MAX_CONFIGURATION_BYTES);
    buf_set_u32(out, length_at, (uint32_t)(out->len - length_at - 4));
}

bool wire_decode_snapshot_meta(struct reader *reader, struct raft_snapshot_meta *meta)
{
    struct slice configuration;

    meta->index = reader_u64(reader);
    meta->term = reader_u64(reader);
    configuration = reader_bytes(reader, MAX_CONFIGURATION_BYTES);
    if (!reader_ok(reader) || (meta->index == 0) != (meta->term == 0) ||
        !raft_configuration_decode(configuration, &meta->configuration)) {
        reader->bad = true;
        return false;
    }
    return true;
}
