#include "raft/util/frame.h"

#include "raft/util/assert.h"
#include "raft/util/crc32c.h"

/* Offsets in the header. */
enum { AT_VERSION = 4, AT_KIND = 5, AT_RESERVED = 6, AT_GROUP = 8, AT_LENGTH = 12, AT_CRC = 16 };

/* The checksum covers the header up to the checksum itself, and the body. */
static uint32_t frame_checksum(const uint8_t *frame, size_t body_len)
{
    return crc32c(crc32c(0, frame, AT_CRC), frame + FRAME_HEADER_BYTES, body_len);
}

size_t frame_begin(struct buf *out, enum frame_kind kind, uint32_t group)
{
    size_t offset = out->len;
    uint8_t *header = buf_extend(out, FRAME_HEADER_BYTES);

    ASSERT(kind >= FRAME_HELLO && kind <= FRAME_PROOF);
    memset(header, 0, FRAME_HEADER_BYTES);
    set_u32(header, FRAME_MAGIC);
    header[AT_VERSION] = FRAME_VERSION;
    header[AT_KIND] = (uint8_t)kind;
    set_u32(header + AT_GROUP, group);
    return offset;
}

void frame_end(struct buf *out, size_t offset)
{
    uint8_t *header = out->data + offset;
    size_t body_len = out->len - offset - FRAME_HEADER_BYTES;

    ASSERT(offset + FRAME_HEADER_BYTES <= out->len);
    ASSERT(get_u32(header) == FRAME_MAGIC && get_u32(header + AT_LENGTH) == 0);
    ASSERT(body_len <= FRAME_MAX_BODY);
    set_u32(header + AT_LENGTH, (uint32_t)body_len);
    set_u32(header + AT_CRC, frame_checksum(header, body_len));
}

void frame_put_message(struct buf *out, uint32_t group, uint8_t type, struct slice message)
{
    ASSERT(message.len <= FRAME_FRAGMENT_BYTES);
    buf_put_u32(out, group);
    buf_put_u32(out, type); /* the type, and three reserved bytes of zero */
    buf_put_bytes(out, message);
}

/* Whether the bytes can be the beginning of a frame's magic; all four of them if there are. */
static bool magic_matches(struct slice bytes)
{
    uint8_t magic[4];

    set_u32(magic, FRAME_MAGIC);
    return bytes.len == 0 || memcmp(bytes.data, magic, bytes.len < 4 ? bytes.len : 4) == 0;
}

enum frame_result frame_decode(struct slice bytes, struct frame *frame, size_t *taken, size_t *need,
                               enum status *reason)
{
    uint32_t body_len;

    *taken = 0;
    *need = FRAME_HEADER_BYTES;
    *reason = ST_MALFORMED;
    if (!magic_matches(bytes)) {
        return FRAME_BAD;
    }
    if (bytes.len > AT_VERSION && bytes.data[AT_VERSION] != FRAME_VERSION) {
        *reason = ST_VERSION;
        return FRAME_BAD;
    }
    if (bytes.len < FRAME_HEADER_BYTES) {
        return FRAME_NEED_MORE;
    }
    body_len = get_u32(bytes.data + AT_LENGTH);
    if (bytes.data[AT_KIND] < FRAME_HELLO || bytes.data[AT_KIND] > FRAME_PROOF ||
        get_u16(bytes.data + AT_RESERVED) != 0 || body_len > FRAME_MAX_BODY) {
        return FRAME_BAD;
    }
    *need = FRAME_HEADER_BYTES + body_len;
    if (bytes.len < *need) {
        return FRAME_NEED_MORE;
    }
    if (get_u32(bytes.data + AT_CRC) != frame_checksum(bytes.data, body_len)) {
        return FRAME_BAD;
    }
    frame->kind = (enum frame_kind)bytes.data[AT_KIND];
    frame->group = get_u32(bytes.data + AT_GROUP);
    frame->body = slice_of(bytes.data + FRAME_HEADER_BYTES, body_len);
    *taken = *need;
    return FRAME_OK;
}

bool frame_next_message(struct reader *body, uint32_t *group, uint8_t *type, struct slice *message)
{
    uint32_t type_and_reserved;

    if (body->bad || reader_left(body) == 0) {
        return false;
    }
    *group = reader_u32(body);
    type_and_reserved = reader_u32(body);
    *message = reader_bytes(body, FRAME_FRAGMENT_BYTES);
    if (type_and_reserved > UINT8_MAX) {
        body->bad = true;
    }
    *type = (uint8_t)type_and_reserved;
    return reader_ok(body);
}

void frame_put_fragment(struct buf *out, const struct frame_fragment *fragment)
{
    size_t offset;

    ASSERT(fragment->total <= FRAME_MAX_MESSAGE);
    ASSERT(fragment->bytes.len > 0 && fragment->bytes.len <= FRAME_FRAGMENT_BYTES);
    ASSERT(fragment->offset + fragment->bytes.len <= fragment->total);
    buf_reserve(out, FRAME_HEADER_BYTES + FRAME_FRAGMENT_HEADER + fragment->bytes.len);
    offset = frame_begin(out, FRAME_FRAGMENT, fragment->group);
    buf_put_u32(out, fragment->stream);
    buf_put_u32(out, fragment->group);
    buf_put_u32(out, fragment->type);
    buf_put_u32(out, fragment->total);
    buf_put_u32(out, fragment->offset);
    buf_put_slice(out, fragment->bytes);
    frame_end(out, offset);
}

bool frame_decode_fragment(struct slice body, struct frame_fragment *fragment)
{
    struct reader reader = reader_of(body);
    uint32_t type_and_reserved;

    fragment->stream = reader_u32(&reader);
    fragment->group = reader_u32(&reader);
    type_and_reserved = reader_u32(&reader);
    fragment->total = reader_u32(&reader);
    fragment->offset = reader_u32(&reader);
    fragment->type = (uint8_t)type_and_reserved;
    fragment->bytes = reader_take(&reader, reader_left(&reader));
    return reader_ok(&reader) && type_and_reserved <= UINT8_MAX &&
           fragment->total <= FRAME_MAX_MESSAGE && fragment->bytes.len > 0 &&
           fragment->bytes.len <= FRAME_FRAGMENT_BYTES && fragment->offset < fragment->total &&
           fragment->bytes.len <= fragment->total - fragment->offset;
}
