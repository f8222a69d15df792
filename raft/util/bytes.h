/* Bytes: slices (borrowed), buffers (owned, growing), and little-endian reading and writing with
 * bounds. Every format of the project is written with buf_put_* and read with reader_*.
 *
 * A reader never reads past its end: the first short read marks it bad, and from then on every read
 * gives zeros and empty slices. So a decoder reads all its fields and asks reader_ok() once, before
 * it acts on any of them; lengths that size an allocation are checked against reader_left() first.
 */
#ifndef RAFT_UTIL_BYTES_H
#define RAFT_UTIL_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Single values in place. */
static inline uint16_t get_u16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static inline uint32_t get_u32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static inline uint64_t get_u64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

static inline void set_u16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

static inline void set_u32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static inline void set_u64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

/* Big-endian, where the bytewise order of keys must be the order of the numbers. */
uint64_t get_u64_be(const uint8_t *at);
void set_u64_be(uint8_t *at, uint64_t value);

/* Borrowed bytes; whoever made the slice says how long they live. data may be NULL when len is 0.
 */
struct slice {
    const uint8_t *data;
    size_t len;
};

static inline struct slice slice_of(const void *data, size_t len)
{
    return (struct slice){(const uint8_t *)data, len};
}

/* The bytes of a C string without its terminator. */
static inline struct slice slice_text(const char *text)
{
    return slice_of(text, strlen(text));
}

bool slice_equal(struct slice a, struct slice b);

/* Bytewise (unsigned) order, a prefix before its extensions: <0, 0, >0. */
int slice_compare(struct slice a, struct slice b);
bool slice_has_prefix(struct slice text, struct slice prefix);

/* Owned, growing bytes. {0} is an empty buffer; buf_fini releases and empties it. */
struct buf {
    uint8_t *data;
    size_t len;
    size_t capacity;
};

void buf_fini(struct buf *buf);
/* Room for so many bytes more. */
void buf_reserve(struct buf *buf, size_t more);

/* Length 0, memory kept. */
static inline void buf_clear(struct buf *buf)
{
    buf->len = 0;
}

/* Appends `len` bytes of undefined content and returns where they begin. */
static inline uint8_t *buf_extend(struct buf *buf, size_t len)
{
    if (len > buf->capacity - buf->len) {
        buf_reserve(buf, len);
    }
    buf->len += len;
    return buf->data + buf->len - len;
}

static inline void buf_put(struct buf *buf, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(buf_extend(buf, len), data, len);
    }
}

static inline void buf_put_slice(struct buf *buf, struct slice slice)
{
    buf_put(buf, slice.data, slice.len);
}

static inline void buf_put_u8(struct buf *buf, uint8_t value)
{
    *buf_extend(buf, 1) = value;
}

static inline void buf_put_u16(struct buf *buf, uint16_t value)
{
    set_u16(buf_extend(buf, 2), value);
}

static inline void buf_put_u32(struct buf *buf, uint32_t value)
{
    set_u32(buf_extend(buf, 4), value);
}

static inline void buf_put_u64(struct buf *buf, uint64_t value)
{
    set_u64(buf_extend(buf, 8), value);
}

/* A u32 length, then the bytes. */
void buf_put_bytes(struct buf *buf, struct slice slice);
/* Overwrites the u32 at `offset`, which must lie inside: for lengths known only at the end. */
void buf_set_u32(struct buf *buf, size_t offset, uint32_t value);
/* Formatted text, without a terminator. */
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline struct slice buf_slice(const struct buf *buf)
{
    return slice_of(buf->data, buf->len);
}

/* Hands the content over and leaves `from` empty. */
static inline struct buf buf_take(struct buf *from)
{
    struct buf taken = *from;
    *from = (struct buf){0};
    return taken;
}

/* Bounded reading of bytes that others wrote. */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static inline struct reader reader_of(struct slice slice)
{
    return (struct reader){slice.data, slice.data == NULL ? NULL : slice.data + slice.len, false};
}

static inline size_t reader_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

static inline bool reader_ok(const struct reader *reader)
{
    return !reader->bad;
}

/* Everything was read and nothing was short. */
static inline bool reader_done(const struct reader *reader)
{
    return !reader->bad && reader->at == reader->end;
}

/* The next `len` bytes, borrowed from what is read. */
static inline struct slice reader_take(struct reader *reader, size_t len)
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

static inline uint8_t reader_u8(struct reader *reader)
{
    struct slice s = reader_take(reader, 1);

    return s.len == 1 ? s.data[0] : 0;
}

static inline uint16_t reader_u16(struct reader *reader)
{
    struct slice s = reader_take(reader, 2);

    return s.len == 2 ? get_u16(s.data) : 0;
}

static inline uint32_t reader_u32(struct reader *reader)
{
    struct slice s = reader_take(reader, 4);

    return s.len == 4 ? get_u32(s.data) : 0;
}

static inline uint64_t reader_u64(struct reader *reader)
{
    struct slice s = reader_take(reader, 8);

    return s.len == 8 ? get_u64(s.data) : 0;
}

/* A u32 length, at most `max`, then so many bytes. A longer one marks the reader bad. */
struct slice reader_bytes(struct reader *reader, size_t max);

#endif
