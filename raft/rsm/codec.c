/* Entry headers and checkpoint extras as bytes. See codec.h for the formats. */
#include "raft/rsm/codec.h"

#include "raft/util/assert.h"

void rsm_entry_header_write(const struct rsm_entry_header *header, uint8_t *at)
{
    ASSERT(header->stamp > 0);
    at[0] = RSM_ENTRY_FORMAT;
    at[1] = 0;
    set_u16(at + 2, 0);
    set_u64(at + 4, header->stamp);
    set_u64(at + 12, header->trace_id);
}

enum status rsm_entry_header_read(struct slice entry, struct rsm_entry_header *header,
                                  struct slice *command)
{
    struct reader reader = reader_of(entry);
    uint8_t format = reader_u8(&reader);
    uint8_t flags = reader_u8(&reader);
    uint16_t kind = reader_u16(&reader);

    header->stamp = reader_u64(&reader);
    header->trace_id = reader_u64(&reader);
    if (entry.len > 0 && format != RSM_ENTRY_FORMAT) {
        return ST_VERSION;
    }
    if (!reader_ok(&reader)) {
        return ST_CORRUPT;
    }
    /* Both are 0 in this format; another value has a meaning that this program does not know. */
    if (flags != 0 || kind != 0) {
        return ST_VERSION;
    }
    *command = reader_take(&reader, reader_left(&reader));
    ASSERT(reader_done(&reader));
    return ST_OK;
}

void rsm_extra_encode(const struct rsm_extra *extra, struct buf *out)
{
    size_t at;

    buf_put_u8(out, RSM_EXTRA_FORMAT);
    buf_put_u64(out, extra->stamp);
    at = out->len;
    buf_put_u32(out, 0);
    raft_configuration_encode(&extra->configuration, out);
    ASSERT(out->len - at - 4 <= UINT32_MAX);
    buf_set_u32(out, at, (uint32_t)(out->len - at - 4));
}

enum status rsm_extra_decode(struct slice bytes, struct rsm_extra *extra)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);
    struct slice configuration;

    extra->stamp = reader_u64(&reader);
    configuration = reader_bytes(&reader, bytes.len);
    if (bytes.len > 0 && format != RSM_EXTRA_FORMAT) {
        return ST_VERSION;
    }
    if (!reader_done(&reader) || !raft_configuration_decode(configuration, &extra->configuration)) {
        return ST_CORRUPT;
    }
    return ST_OK;
}
