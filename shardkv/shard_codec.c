/* shard_codec: struct shard as bytes, see shard.h. What is decoded was checked in full. */
#include "client/proto.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/shard.h"

#define SHARD_FORMAT 3

/* Most shards of most groups are absent and settled: they take 11 bytes. */
enum shard_part {
    PART_RANGE = 1,
    PART_COPY = 2,
    PART_QUEUE = 4,
    PART_RELEASES = 8,
    PART_OUTGOING = 16
};

static uint8_t parts_of(const struct shard *shard)
{
    return (uint8_t)((shard->range != 0 ? PART_RANGE : 0) |
                     (shard->copy.copy_id != 0 ? PART_COPY : 0) |
                     (shard->n_queue > 0 ? PART_QUEUE : 0) |
                     (shard->n_releases > 0 ? PART_RELEASES : 0) |
                     (shard->outgoing.copy_id != 0 ? PART_OUTGOING : 0));
}

static void encode_copy(const struct shard_copy *copy, struct buf *out)
{
    buf_put_u64(out, copy->copy_id);
    buf_put_u64(out, copy->range);
    buf_put_u64(out, copy->next_piece);
    buf_put_bytes(out, buf_slice(&copy->cursor));
    shard_sum_encode(&copy->records, out);
}

static void encode_outgoing(const struct shard_outgoing *outgoing, struct buf *out)
{
    buf_put_u64(out, outgoing->copy_id);
    buf_put_u64(out, outgoing->range);
    buf_put_u8(out, outgoing->is_swept);
    buf_put_bytes(out, buf_slice(&outgoing->swept));
    buf_put_u64(out, outgoing->n_noted);
    shard_sum_encode(&outgoing->records, out);
}

static void encode_queue(const struct shard *shard, struct buf *out)
{
    buf_put_u32(out, (uint32_t)shard->n_queue);
    for (size_t i = 0; i < shard->n_queue; i++) {
        buf_put_u8(out, (uint8_t)shard->queue[i].kind);
        buf_put_u64(out, shard->queue[i].num);
        buf_put_u32(out, shard->queue[i].gid);
    }
}

static void encode_releases(const struct shard *shard, struct buf *out)
{
    buf_put_u32(out, (uint32_t)shard->n_releases);
    for (size_t i = 0; i < shard->n_releases; i++) {
        buf_put_u64(out, shard->releases[i].num);
        buf_put_u32(out, shard->releases[i].gid);
    }
}

void shard_encode(const struct shard *shard, struct buf *out)
{
    uint8_t parts = parts_of(shard);

    ASSERT(shard_is_consistent(shard));
    buf_put_u8(out, SHARD_FORMAT);
    buf_put_u8(out, (uint8_t)shard->state);
    buf_put_u64(out, shard->epoch);
    buf_put_u8(out, parts);
    if (parts & PART_RANGE) {
        buf_put_u64(out, shard->range);
    }
    if (parts & PART_COPY) {
        encode_copy(&shard->copy, out);
    }
    if (parts & PART_QUEUE) {
        encode_queue(shard, out);
    }
    if (parts & PART_RELEASES) {
        encode_releases(shard, out);
    }
    if (parts & PART_OUTGOING) {
        encode_outgoing(&shard->outgoing, out);
    }
}

static void decode_copy(struct reader *reader, struct shard_copy *copy)
{
    copy->copy_id = reader_u64(reader);
    copy->range = reader_u64(reader);
    copy->next_piece = reader_u64(reader);
    buf_put_slice(&copy->cursor, reader_bytes(reader, SHARD_MAX_CURSOR));
    shard_sum_decode(reader, &copy->records);
}

static void decode_outgoing(struct reader *reader, struct shard_outgoing *outgoing)
{
    uint8_t is_swept;

    outgoing->copy_id = reader_u64(reader);
    outgoing->range = reader_u64(reader);
    is_swept = reader_u8(reader);
    reader->bad |= is_swept > 1; /* one state, one encoding */
    outgoing->is_swept = is_swept != 0;
    buf_put_slice(&outgoing->swept, reader_bytes(reader, KV_MAX_KEY));
    outgoing->n_noted = reader_u64(reader);
    shard_sum_decode(reader, &outgoing->records);
}

/* The array lengths are bounded by the bytes that are there. */
static void decode_queue(struct reader *reader, struct shard *shard)
{
    uint32_t n = reader_u32(reader);

    for (uint32_t i = 0; i < n && reader_ok(reader); i++) {
        MEM_GROW(shard->queue, shard->queue_capacity, shard->n_queue + 1);
        shard->queue[shard->n_queue].kind = (enum shard_transition_kind)reader_u8(reader);
        shard->queue[shard->n_queue].num = reader_u64(reader);
        shard->queue[shard->n_queue++].gid = reader_u32(reader);
    }
}

static void decode_releases(struct reader *reader, struct shard *shard)
{
    uint32_t n = reader_u32(reader);

    for (uint32_t i = 0; i < n && reader_ok(reader); i++) {
        MEM_GROW(shard->releases, shard->releases_capacity, shard->n_releases + 1);
        shard->releases[shard->n_releases].num = reader_u64(reader);
        shard->releases[shard->n_releases++].gid = reader_u32(reader);
    }
}

static void decode_parts(struct reader *reader, uint8_t parts, struct shard *shard)
{
    if (parts & PART_RANGE) {
        shard->range = reader_u64(reader);
    }
    if (parts & PART_COPY) {
        decode_copy(reader, &shard->copy);
    }
    if (parts & PART_QUEUE) {
        decode_queue(reader, shard);
    }
    if (parts & PART_RELEASES) {
        decode_releases(reader, shard);
    }
    if (parts & PART_OUTGOING) {
        decode_outgoing(reader, &shard->outgoing);
    }
}

/* A part that is there is not empty. */
bool shard_decode(struct reader *reader, struct shard *shard)
{
    uint8_t version = reader_u8(reader), state = reader_u8(reader), parts;

    shard_init(shard);
    shard->state = (enum shard_state)state;
    shard->epoch = reader_u64(reader);
    parts = reader_u8(reader);
    decode_parts(reader, parts, shard);
    if (!reader_ok(reader) || version != SHARD_FORMAT || parts != parts_of(shard) ||
        state > SHARD_FROZEN || !shard_is_consistent(shard)) {
        shard_fini(shard);
        return false;
    }
    return true;
}
