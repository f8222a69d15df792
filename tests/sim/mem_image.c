/* mem_image: see the header. */
#include "tests/sim/mem_image.h"

#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

uint64_t mem_key_range(struct slice key)
{
    ASSERT(key.len >= MEM_PREFIX_BYTES);
    return get_u64_be(key.data);
}

void mem_image_fini(struct mem_image *image)
{
    mem_map_fini(&image->map);
    mem_free(image->ranges);
    buf_fini(&image->extra);
    *image = (struct mem_image){0};
}

struct mem_image mem_image_copy(const struct mem_image *image)
{
    struct mem_image copy = *image;

    copy.map = mem_map_copy(&image->map);
    copy.ranges = mem_copy(image->ranges, image->n_ranges * sizeof(*image->ranges));
    copy.extra = (struct buf){0};
    buf_put_slice(&copy.extra, buf_slice(&image->extra));
    return copy;
}

bool mem_image_has_range(const struct mem_image *image, uint64_t range)
{
    bool has = range == 0;

    for (size_t i = 0; i < image->n_ranges && !has; i++) {
        has = image->ranges[i] == range;
    }
    return has;
}

void mem_image_to_stream(const struct mem_image *image, group_id group, struct buf *out)
{
    struct slice key = slice_of(NULL, 0), value;
    bool after = false;

    ASSERT(out->len == 0);
    buf_put_u32(out, group);
    buf_put_u64(out, image->index);
    buf_put_u64(out, image->term);
    buf_put_bytes(out, buf_slice(&image->extra));
    buf_put_u32(out, (uint32_t)image->n_ranges);
    for (size_t i = 0; i < image->n_ranges; i++) {
        buf_put_u64(out, image->ranges[i]);
    }
    while (mem_map_seek(&image->map, key, after, &key, &value)) {
        if (mem_image_has_range(image, mem_key_range(key))) {
            buf_put_bytes(out, key);
            buf_put_bytes(out, value);
        }
        after = true;
    }
    buf_put_u32(out, crc32c(0, out->data, out->len));
}

bool mem_image_from_stream(struct slice stream, group_id group, struct mem_image *image)
{
    struct reader reader;
    uint32_t n;

    if (stream.len < 4 ||
        crc32c(0, stream.data, stream.len - 4) != get_u32(stream.data + stream.len - 4)) {
        return false;
    }
    stream.len -= 4;
    reader = reader_of(stream);
    if (reader_u32(&reader) != group) {
        return false;
    }
    image->index = reader_u64(&reader);
    image->term = reader_u64(&reader);
    buf_put_slice(&image->extra, reader_bytes(&reader, stream.len));
    n = reader_u32(&reader);
    if (!reader_ok(&reader) || n > reader_left(&reader) / 8) {
        return false;
    }
    image->ranges = mem_alloc(n * sizeof(*image->ranges));
    image->n_ranges = n;
    for (uint32_t i = 0; i < n; i++) {
        image->ranges[i] = reader_u64(&reader);
    }
    while (reader_ok(&reader) && reader_left(&reader) > 0) {
        struct slice key = reader_bytes(&reader, stream.len);
        struct slice value = reader_bytes(&reader, stream.len);
        if (!reader_ok(&reader) || key.len < MEM_PREFIX_BYTES) {
            return false;
        }
        mem_map_put(&image->map, key, value);
    }
    return reader_done(&reader);
}
