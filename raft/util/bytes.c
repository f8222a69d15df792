#include "raft/util/bytes.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

int slice_compare(struct slice a, struct slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;

    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

bool slice_has_prefix(struct slice text, struct slice prefix)
{
    return text.len >= prefix.len && slice_equal(slice_of(text.data, prefix.len), prefix);
}

void buf_fini(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
}

void buf_reserve(struct buf *buf, size_t more)
{
    ASSERT(more <= SIZE_MAX / 8);
    MEM_GROW(buf->data, buf->capacity, buf->len + more);
}

uint8_t *buf_extend(struct buf *buf, size_t len)
{
    buf_reserve(buf, len);
    buf->len += len;
    return buf->data + buf->len - len;
}

void buf_put(struct buf *buf, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(buf_extend(buf, len), data, len);
    }
}

void buf_put_slice(struct buf *buf, struct slice slice)
{
    buf_put(buf, slice.data, slice.len);
}

void buf_put_u8(struct buf *buf, uint8_t value)
{
    *buf_extend(buf, 1) = value;
}

void buf_put_u16(struct buf *buf, uint16_t value)
{
    set_u16(buf_extend(buf, 2), value);
}

void buf_put_u32(struct buf *buf, uint32_t value)
{
    set_u32(buf_extend(buf, 4), value);
}

void buf_put_u64(struct buf *buf, uint64_t value)
{
    set_u64(buf_extend(buf, 8), value);
}

void buf_put_bytes(struct buf *buf, struct slice slice)
{
    ASSERT(slice.len <= UINT32_MAX);
    buf_put_u32(buf, (uint32_t)slice.len);
    buf_put_slice(buf, slice);
}

void buf_set_u32(struct buf *buf, size_t offset, uint32_t value)
{
    ASSERT(offset + 4 <= buf->len);
    set_u32(buf->data + offset, value);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);

    buf_reserve(buf, (size_t)len + 1);
    va_start(args, format);
    vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, format, args);
    va_end(args);
    buf->len += (size_t)len;
}

struct slice reader_take(struct reader *reader, size_t len)
{
    struct slice taken;

    if (reader->bad || len > reader_left(reader)) {
        reader->bad = true;
        return slice_of(NULL, 0);
    }
    taken = slice_of(reader->at, len);
    if (len > 0) {
        reader->at += len;
    }
    return taken;
}

struct slice reader_bytes(struct reader *reader, size_t max)
{
    uint32_t len = reader_u32(reader);

    if (len > max) {
        reader->bad = true;
    }
    return reader_take(reader, len);
}

uint8_t reader_u8(struct reader *reader)
{
    struct slice s = reader_take(reader, 1);
    return s.len == 1 ? s.data[0] : 0;
}

uint16_t reader_u16(struct reader *reader)
{
    struct slice s = reader_take(reader, 2);
    return s.len == 2 ? get_u16(s.data) : 0;
}

uint32_t reader_u32(struct reader *reader)
{
    struct slice s = reader_take(reader, 4);
    return s.len == 4 ? get_u32(s.data) : 0;
}

uint64_t reader_u64(struct reader *reader)
{
    struct slice s = reader_take(reader, 8);
    return s.len == 8 ? get_u64(s.data) : 0;
}

uint16_t get_u16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

uint32_t get_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

uint64_t get_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

void set_u16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

void set_u32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

void set_u64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

uint64_t get_u64_be(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return be64toh(value);
}

void set_u64_be(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof(value));
}
