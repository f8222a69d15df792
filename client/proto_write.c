/* Writes and their results as bytes. The same encoding travels in requests and stands in the log.
 */
#include "client/proto_private.h"

#include "raft/util/assert.h"

#define WRITE_HEADER_BYTES (2 + 16 + 3 * 8 + 2) /* shard, session, counts */
#define PART_HEADER_BYTES  (1 + 4 + 4)          /* type, the lengths of key and value */

void proto_session_encode(const struct proto_session *session, struct buf *out)
{
    buf_put(out, session->client, sizeof(session->client));
    buf_put_u64(out, session->seq);
    buf_put_u64(out, session->acked_seq);
    buf_put_u64(out, session->issued_at);
}

bool proto_session_decode(struct reader *reader, struct proto_session *session)
{
    struct slice client = reader_take(reader, sizeof(session->client));

    session->seq = reader_u64(reader);
    session->acked_seq = reader_u64(reader);
    session->issued_at = reader_u64(reader);
    if (!reader_ok(reader)) {
        return false;
    }
    memcpy(session->client, client.data, sizeof(session->client));
    return true;
}

struct slice proto_read_key(struct reader *reader)
{
    struct slice key = reader_bytes(reader, KV_MAX_KEY);

    if (key.len == 0) {
        reader->bad = true;
    }
    return key;
}

shard_id proto_read_shard(struct reader *reader)
{
    shard_id shard = reader_u16(reader);

    if (shard >= SHARD_MAX_COUNT) {
        reader->bad = true;
    }
    return shard;
}

void kv_write_copy(struct kv_write *to, const struct kv_write *from)
{
    memcpy(to, from, offsetof(struct kv_write, conditions));
    memcpy(to->conditions, from->conditions, from->n_conditions * sizeof(from->conditions[0]));
    memcpy(to->operations, from->operations, from->n_operations * sizeof(from->operations[0]));
}

size_t proto_write_bytes(const struct kv_write *write)
{
    size_t total = WRITE_HEADER_BYTES;

    for (uint8_t i = 0; i < write->n_conditions; i++) {
        total += PART_HEADER_BYTES + write->conditions[i].key.len + write->conditions[i].value.len;
    }
    for (uint8_t i = 0; i < write->n_operations; i++) {
        total += PART_HEADER_BYTES + write->operations[i].key.len + write->operations[i].value.len;
    }
    return total;
}

void kv_write_encode(const struct kv_write *write, struct buf *out)
{
    ASSERT(write->shard < SHARD_MAX_COUNT);
    ASSERT(write->n_conditions <= KV_MAX_CONDITIONS);
    ASSERT(write->n_operations >= 1 && write->n_operations <= KV_MAX_OPERATIONS);
    buf_put_u16(out, (uint16_t)write->shard);
    proto_session_encode(&write->session, out);
    buf_put_u8(out, write->n_conditions);
    buf_put_u8(out, write->n_operations);
    for (uint8_t i = 0; i < write->n_conditions; i++) {
        buf_put_u8(out, (uint8_t)write->conditions[i].type);
        buf_put_bytes(out, write->conditions[i].key);
        buf_put_bytes(out, write->conditions[i].value);
    }
    for (uint8_t i = 0; i < write->n_operations; i++) {
        buf_put_u8(out, (uint8_t)write->operations[i].type);
        buf_put_bytes(out, write->operations[i].key);
        buf_put_bytes(out, write->operations[i].value);
    }
}

/* What has no use for a value must not carry one: equal writes have equal bytes. */
static bool decode_condition(struct reader *reader, struct kv_condition *condition)
{
    uint8_t type = reader_u8(reader);

    condition->key = proto_read_key(reader);
    condition->value = reader_bytes(reader, KV_MAX_VALUE);
    if (type != KV_IF_ABSENT && type != KV_IF_VALUE) {
        return false;
    }
    condition->type = (enum kv_condition_type)type;
    return reader_ok(reader) && (type == KV_IF_VALUE || condition->value.len == 0);
}

static bool decode_operation(struct reader *reader, struct kv_operation *operation)
{
    uint8_t type = reader_u8(reader);

    operation->key = proto_read_key(reader);
    operation->value = reader_bytes(reader, KV_MAX_VALUE);
    if (type != KV_PUT && type != KV_APPEND && type != KV_DELETE) {
        return false;
    }
    operation->type = (enum kv_operation_type)type;
    return reader_ok(reader) && (type != KV_DELETE || operation->value.len == 0);
}

bool kv_write_decode(struct reader *reader, struct kv_write *write)
{
    write->shard = proto_read_shard(reader);
    if (!proto_session_decode(reader, &write->session)) {
        return false;
    }
    write->n_conditions = reader_u8(reader);
    write->n_operations = reader_u8(reader);
    if (!reader_ok(reader) || write->n_conditions > KV_MAX_CONDITIONS || write->n_operations < 1 ||
        write->n_operations > KV_MAX_OPERATIONS) {
        return false;
    }
    for (uint8_t i = 0; i < write->n_conditions; i++) {
        if (!decode_condition(reader, &write->conditions[i])) {
            return false;
        }
    }
    for (uint8_t i = 0; i < write->n_operations; i++) {
        if (!decode_operation(reader, &write->operations[i])) {
            return false;
        }
    }
    return true;
}

void kv_write_result_encode(const struct kv_write_result *result, struct buf *out)
{
    ASSERT(result->n_outputs <= KV_MAX_OUTPUTS);
    buf_put_u16(out, (uint16_t)result->status);
    buf_put_u8(out, result->n_outputs);
    for (uint8_t i = 0; i < result->n_outputs; i++) {
        buf_put_u32(out, result->outputs[i]);
    }
}

bool kv_write_result_decode(struct reader *reader, struct kv_write_result *result)
{
    uint16_t status = reader_u16(reader);
    uint8_t n = reader_u8(reader);

    *result = (struct kv_write_result){0};
    if (!reader_ok(reader) || !status_is_valid(status) || n > KV_MAX_OUTPUTS) {
        return false;
    }
    result->status = (enum status)status;
    result->n_outputs = n;
    for (uint8_t i = 0; i < n; i++) {
        result->outputs[i] = reader_u32(reader);
    }
    return reader_ok(reader);
}
