#include "raft/util/bytes.h"

#include <stdarg.h>
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define BUF_LEAST 64 /* bytes of the first allocation: most messages and records are not smaller   \
                      */

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

void buf_reserve(struct buf *buf, size_t more)
{
    ASSERT(more <= SIZE_MAX / 8);
    if (buf->capacity - buf->len < more) {
        size_t need = buf->len + more;

        MEM_GROW(buf->data, buf->capacity, need < BUF_LEAST ? BUF_LEAST : need);
    }
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

struct slice reader_bytes(struct reader *reader, size_t max)
{
    uint32_t len = reader_u32(reader);

    if (len > max) {
        reader->bad = true;
    }
    return reader_take(reader, len);
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
