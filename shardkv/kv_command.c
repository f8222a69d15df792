/* kv_command: see kv_command.h for the formats. */
#include "shardkv/kv_command.h"

#include "raft/util/assert.h"

/* A piece's body: PROTO_MAX_CHUNK, or one larger record with its lengths. */
#define KV_MAX_BODY (PROTO_MAX_CHUNK + KV_MAX_VALUE + KV_MAX_KEY + 64)

static void encode_copy(const struct kv_command *command, struct buf *out)
{
    buf_put_u64(out, command->copy.copy_id);
    if (command->kind == KV_COMMAND_SWEEP) {
        buf_put_bytes(out, command->copy.from);
    }
    if (command->kind != KV_COMMAND_FREEZE) {
        buf_put_u32(out, command->copy.max_bytes);
    }
}

static void encode_arrival(const struct kv_command *command, struct buf *out)
{
    buf_put_u64(out, command->arrival.piece.copy_id);
    buf_put_u64(out, command->arrival.piece.number);
    buf_put_bytes(out, command->arrival.piece.begin);
    buf_put_bytes(out, command->arrival.body);
    if (command->kind == KV_COMMAND_CHUNK) {
        buf_put_bytes(out, command->arrival.cursor);
        return;
    }
    buf_put_u32(out, command->arrival.end.gid);
    shard_sum_encode(&command->arrival.end.records, out);
    shard_sum_encode(&command->arrival.end.sessions, out);
    buf_put_u64(out, command->arrival.end.epoch);
    buf_put_u64(out, command->arrival.floor);
    buf_put_u64(out, command->arrival.version);
}

static bool is_about_a_shard(enum kv_command_kind kind)
{
    return kind >= KV_COMMAND_FREEZE && kind <= KV_COMMAND_VOID;
}

void kv_command_encode_write(const struct kv_write *write, struct buf *out)
{
    buf_put_u8(out, KV_COMMAND_FORMAT);
    buf_put_u8(out, KV_COMMAND_WRITE);
    kv_write_encode(write, out);
}

void kv_command_encode(const struct kv_command *command, struct buf *out)
{
    if (command->kind == KV_COMMAND_WRITE) {
        kv_command_encode_write(&command->write, out);
        return;
    }
    buf_put_u8(out, KV_COMMAND_FORMAT);
    buf_put_u8(out, (uint8_t)command->kind);
    if (is_about_a_shard(command->kind)) {
        buf_put_u32(out, command->shard);
        buf_put_u64(out, command->num);
    }
    switch (command->kind) {
    case KV_COMMAND_INIT:
        buf_put_u64(out, command->init.incarnation);
        buf_put(out, command->init.cluster_id, sizeof(command->init.cluster_id));
        buf_put_u32(out, command->init.n_shards);
        break;
    case KV_COMMAND_CONFIG:
        buf_put_slice(out, command->config);
        break;
    case KV_COMMAND_WRITE:
        UNREACHABLE("encoded above");
    case KV_COMMAND_COPY_BEGIN:
    case KV_COMMAND_SWEEP:
    case KV_COMMAND_FREEZE:
        encode_copy(command, out);
        break;
    case KV_COMMAND_CHUNK:
    case KV_COMMAND_INSTALL:
        encode_arrival(command, out);
        break;
    case KV_COMMAND_DROP:
    case KV_COMMAND_RELEASED:
    case KV_COMMAND_VOID:
        break;
    }
}

static void decode_copy(struct reader *reader, struct kv_command *command)
{
    command->copy.copy_id = reader_u64(reader);
    command->copy.from = slice_of(NULL, 0);
    command->copy.max_bytes = 0;
    if (command->kind == KV_COMMAND_SWEEP) {
        command->copy.from = reader_bytes(reader, KV_MAX_KEY);
    }
    if (command->kind != KV_COMMAND_FREEZE) {
        command->copy.max_bytes = reader_u32(reader);
    }
}

static void decode_arrival(struct reader *reader, struct kv_command *command)
{
    command->arrival.piece.copy_id = reader_u64(reader);
    command->arrival.piece.number = reader_u64(reader);
    command->arrival.piece.begin = reader_bytes(reader, SHARD_MAX_CURSOR);
    command->arrival.body = reader_bytes(reader, KV_MAX_BODY);
    command->arrival.cursor = slice_of(NULL, 0);
    if (command->kind == KV_COMMAND_CHUNK) {
        command->arrival.cursor = reader_bytes(reader, SHARD_MAX_CURSOR);
        return;
    }
    command->arrival.end.gid = reader_u32(reader);
    shard_sum_decode(reader, &command->arrival.end.records);
    shard_sum_decode(reader, &command->arrival.end.sessions);
    command->arrival.end.epoch = reader_u64(reader);
    command->arrival.floor = reader_u64(reader);
    command->arrival.version = reader_u64(reader);
}

static void decode_init(struct reader *reader, struct kv_command *command)
{
    struct slice cluster_id;

    command->init.incarnation = reader_u64(reader);
    cluster_id = reader_take(reader, sizeof(command->init.cluster_id));
    if (reader_ok(reader)) {
        memcpy(command->init.cluster_id, cluster_id.data, cluster_id.len);
    }
    command->init.n_shards = reader_u32(reader);
}

enum status kv_command_decode(struct slice bytes, struct kv_command *command)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);
    bool ok = true;

    command->kind = (enum kv_command_kind)reader_u8(&reader);
    if (!reader_ok(&reader)) {
        return ST_CORRUPT;
    }
    if (format != KV_COMMAND_FORMAT || command->kind < KV_COMMAND_INIT ||
        command->kind > KV_COMMAND_VOID) {
        return ST_VERSION;
    }
    if (is_about_a_shard(command->kind)) {
        command->shard = reader_u32(&reader);
        command->num = reader_u64(&reader);
    }
    switch (command->kind) {
    case KV_COMMAND_INIT:
        decode_init(&reader, command);
        break;
    case KV_COMMAND_CONFIG:
        command->config = reader_take(&reader, reader_left(&reader));
        break;
    case KV_COMMAND_WRITE:
        ok = kv_write_decode(&reader, &command->write);
        break;
    case KV_COMMAND_COPY_BEGIN:
    case KV_COMMAND_SWEEP:
    case KV_COMMAND_FREEZE:
        decode_copy(&reader, command);
        break;
    case KV_COMMAND_CHUNK:
    case KV_COMMAND_INSTALL:
        decode_arrival(&reader, command);
        break;
    case KV_COMMAND_DROP:
    case KV_COMMAND_RELEASED:
    case KV_COMMAND_VOID:
        break;
    }
    return ok && reader_done(&reader) ? ST_OK : ST_CORRUPT;
}

void kv_command_result_encode(const struct kv_command_result *outcome, struct buf *out)
{
    buf_put_u16(out, (uint16_t)outcome->status);
    buf_put_u32(out, outcome->gid_hint);
    buf_put_slice(out, outcome->result);
}

bool kv_command_result_decode(struct slice bytes, struct kv_command_result *outcome)
{
    struct reader reader = reader_of(bytes);
    uint16_t status = reader_u16(&reader);

    outcome->gid_hint = reader_u32(&reader);
    outcome->result = reader_take(&reader, reader_left(&reader));
    outcome->status = (enum status)status;
    return reader_ok(&reader) && status_is_valid(status);
}
