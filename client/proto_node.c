/* A replica's row of `status` as bytes: u32 gid, u32 id, u8 role, u64 term, u32 leader, u64
 * first_index, last_index, commit_index, applied_index, snapshot_index, db_bytes, log_bytes,
 * uptime_s, config, incarnation, group_incarnation, 16 bytes cluster id, u8 ready (1) and read-only
 * (2), version as bytes, u32 n_shards, n x (u16 shard, u8 state, u64 epoch, u64 keys, u64 bytes),
 * u32 n_moves, n x (u16 shard, u32 from, u32 to, u64 num, u8 phase, u64 bytes_done, bytes_total,
 * keys_done, keys_total, rate, seconds_left, pause_us).
 */
#include "client/proto_private.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define SHARD_ROW_BYTES 27
#define MOVE_ROW_BYTES  75

bool proto_read_bool(struct reader *reader)
{
    uint8_t value = reader_u8(reader);

    if (value > 1) {
        reader->bad = true;
    }
    return value == 1;
}

static void encode_shards(const struct proto_node_status *node, struct buf *out)
{
    ASSERT(node->n_shards <= SHARD_MAX_COUNT);
    buf_put_u32(out, node->n_shards);
    for (uint32_t i = 0; i < node->n_shards; i++) {
        const struct proto_shard_status *shard = &node->shards[i];

        buf_put_u16(out, (uint16_t)shard->shard);
        buf_put_u8(out, shard->state);
        buf_put_u64(out, shard->epoch);
        buf_put_u64(out, shard->keys);
        buf_put_u64(out, shard->bytes);
    }
}

static void encode_moves(const struct proto_node_status *node, struct buf *out)
{
    ASSERT(node->n_moves <= SHARD_MAX_COUNT);
    buf_put_u32(out, node->n_moves);
    for (uint32_t i = 0; i < node->n_moves; i++) {
        const struct proto_move_status *move = &node->moves[i];

        buf_put_u16(out, (uint16_t)move->shard);
        buf_put_u32(out, move->from);
        buf_put_u32(out, move->to);
        buf_put_u64(out, move->num);
        buf_put_u8(out, move->phase);
        buf_put_u64(out, move->bytes_done);
        buf_put_u64(out, move->bytes_total);
        buf_put_u64(out, move->keys_done);
        buf_put_u64(out, move->keys_total);
        buf_put_u64(out, move->rate);
        buf_put_u64(out, move->seconds_left);
        buf_put_u64(out, move->pause_us);
    }
}

void proto_node_status_encode(const struct proto_node_status *node, struct buf *out)
{
    ASSERT(node->version.len <= PROTO_MAX_VERSION);
    buf_put_u32(out, node->gid);
    buf_put_u32(out, node->id);
    buf_put_u8(out, node->role);
    buf_put_u64(out, node->term);
    buf_put_u32(out, node->leader);
    buf_put_u64(out, node->first_index);
    buf_put_u64(out, node->last_index);
    buf_put_u64(out, node->commit_index);
    buf_put_u64(out, node->applied_index);
    buf_put_u64(out, node->snapshot_index);
    buf_put_u64(out, node->db_bytes);
    buf_put_u64(out, node->log_bytes);
    buf_put_u64(out, node->uptime_s);
    buf_put_u64(out, node->config);
    buf_put_u64(out, node->incarnation);
    buf_put_u64(out, node->group_incarnation);
    buf_put(out, node->cluster_id, sizeof(node->cluster_id));
    buf_put_u8(out, (uint8_t)(node->ready | node->read_only << 1));
    buf_put_bytes(out, node->version);
    encode_shards(node, out);
    encode_moves(node, out);
}

static bool decode_shards(struct reader *reader, struct proto_node_status *node)
{
    uint32_t n = reader_u32(reader);

    if (n > SHARD_MAX_COUNT || reader_left(reader) < (size_t)n * SHARD_ROW_BYTES) {
        return false;
    }
    node->n_shards = n;
    node->shards = mem_zalloc(n * sizeof(node->shards[0]));
    for (uint32_t i = 0; i < n; i++) {
        struct proto_shard_status *shard = &node->shards[i];

        shard->shard = proto_read_shard(reader);
        shard->state = reader_u8(reader);
        shard->epoch = reader_u64(reader);
        shard->keys = reader_u64(reader);
        shard->bytes = reader_u64(reader);
    }
    return reader_ok(reader);
}

static bool decode_moves(struct reader *reader, struct proto_node_status *node)
{
    uint32_t n = reader_u32(reader);

    if (n > SHARD_MAX_COUNT || reader_left(reader) < (size_t)n * MOVE_ROW_BYTES) {
        return false;
    }
    node->n_moves = n;
    node->moves = mem_zalloc(n * sizeof(node->moves[0]));
    for (uint32_t i = 0; i < n; i++) {
        struct proto_move_status *move = &node->moves[i];

        move->shard = proto_read_shard(reader);
        move->from = reader_u32(reader);
        move->to = reader_u32(reader);
        move->num = reader_u64(reader);
        move->phase = reader_u8(reader);
        move->bytes_done = reader_u64(reader);
        move->bytes_total = reader_u64(reader);
        move->keys_done = reader_u64(reader);
        move->keys_total = reader_u64(reader);
        move->rate = reader_u64(reader);
        move->seconds_left = reader_u64(reader);
        move->pause_us = reader_u64(reader);
    }
    return reader_ok(reader);
}

bool proto_node_status_decode(struct reader *reader, struct proto_node_status *node)
{
    struct slice cluster_id;
    uint8_t flags;

    node->gid = reader_u32(reader);
    node->id = reader_u32(reader);
    node->role = reader_u8(reader);
    node->term = reader_u64(reader);
    node->leader = reader_u32(reader);
    node->first_index = reader_u64(reader);
    node->last_index = reader_u64(reader);
    node->commit_index = reader_u64(reader);
    node->applied_index = reader_u64(reader);
    node->snapshot_index = reader_u64(reader);
    node->db_bytes = reader_u64(reader);
    node->log_bytes = reader_u64(reader);
    node->uptime_s = reader_u64(reader);
    node->config = reader_u64(reader);
    node->incarnation = reader_u64(reader);
    node->group_incarnation = reader_u64(reader);
    cluster_id = reader_take(reader, sizeof(node->cluster_id));
    flags = reader_u8(reader);
    if (flags > 3) {
        reader->bad = true;
    }
    node->ready = (flags & 1) != 0;
    node->read_only = (flags & 2) != 0;
    node->version = reader_bytes(reader, PROTO_MAX_VERSION);
    if (!reader_ok(reader)) {
        return false;
    }
    memcpy(node->cluster_id, cluster_id.data, sizeof(node->cluster_id));
    return decode_shards(reader, node) && decode_moves(reader, node);
}
