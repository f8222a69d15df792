/* Responses as bytes. After the header, if the status is OK, NOT_FOUND or MISMATCH, by op:
 *
 *   GET                       value, u64 version
 *   WRITE                     a kv_write_result (its status is the header's)
 *   SCAN                      u8 more, u32 n, n x (key, value)
 *   STATUS                    a node status (proto_node.c)
 *   CONFIG                    an encoded shard_config
 *   JOIN, LEAVE, MOVE         u64 num, and of a dry run an encoded shard_config
 *   PAUSE                     u64 num
 *   REPLICA                   u64 configuration index
 *   REPLICAS                  the group's replicas (proto_replica.c)
 *   SHARD_PULL                u64 piece, u8 kind, u64 keys_total, u64 bytes_total, u32 load,
 *                             u32 strain, u8 frozen, body, cursor
 *   SHARD_WHERE               u8 held, u64 epoch
 *   the others                nothing
 *
 * With any other status a text follows, perhaps empty. */
#include "client/proto_private.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define SCAN_ROW_MIN_BYTES 9 /* two lengths and a key of one byte */

static bool has_body(enum status status)
{
    return status == ST_OK || status == ST_NOT_FOUND || status == ST_MISMATCH;
}

static void encode_scan(const struct proto_response *response, struct buf *out)
{
    ASSERT(response->scan.n <= PROTO_MAX_SCAN);
    buf_put_u8(out, response->scan.more);
    buf_put_u32(out, response->scan.n);
    for (uint32_t i = 0; i < response->scan.n; i++) {
        buf_put_bytes(out, response->scan.records[i].key);
        buf_put_bytes(out, response->scan.records[i].value);
    }
}

static void encode_body(const struct proto_response *response, struct buf *out)
{
    switch (response->op) {
    case PROTO_GET:
        buf_put_bytes(out, response->get.value);
        buf_put_u64(out, response->get.version);
        break;
    case PROTO_WRITE:
        ASSERT(response->write.status == response->status);
        kv_write_result_encode(&response->write, out);
        break;
    case PROTO_SCAN:
        encode_scan(response, out);
        break;
    case PROTO_STATUS:
        proto_node_status_encode(&response->node, out);
        break;
    case PROTO_CONFIG:
        buf_put_bytes(out, response->config_reply.encoded);
        break;
    case PROTO_JOIN:
    case PROTO_LEAVE:
    case PROTO_MOVE:
    case PROTO_PAUSE:
        buf_put_u64(out, response->admin.num);
        if (response->admin.planned.len > 0) {
            buf_put_bytes(out, response->admin.planned);
        }
        break;
    case PROTO_REPLICA:
        buf_put_u64(out, response->replica.configuration_index);
        break;
    case PROTO_REPLICAS:
        proto_replicas_encode(&response->replicas, out);
        break;
    case PROTO_SHARD_PULL:
        buf_put_u64(out, response->shard_pull.piece);
        buf_put_u8(out, response->shard_pull.kind);
        buf_put_u64(out, response->shard_pull.keys_total);
        buf_put_u64(out, response->shard_pull.bytes_total);
        buf_put_u32(out, response->shard_pull.load);
        buf_put_u32(out, response->shard_pull.strain);
        buf_put_u8(out, response->shard_pull.frozen);
        buf_put_bytes(out, response->shard_pull.body);
        buf_put_bytes(out, response->shard_pull.cursor);
        break;
    case PROTO_SHARD_WHERE:
        buf_put_u8(out, response->shard_where.held);
        buf_put_u64(out, response->shard_where.epoch);
        break;
    default: /* TRANSFER, PING, CONFIRM, BIND, SHARD_RELEASE: nothing */
        break;
    }
}

void proto_response_encode(const struct proto_response *response, struct buf *out)
{
    ASSERT(proto_op_is_valid((uint8_t)response->op));
    buf_put_u8(out, PROTO_VERSION);
    buf_put_u8(out, (uint8_t)response->op);
    buf_put_u16(out, (uint16_t)response->status);
    buf_put_u64(out, response->request_id);
    buf_put_u32(out, response->leader_hint);
    buf_put_u32(out, response->gid_hint);
    buf_put_u64(out, response->config);
    buf_put_u64(out, response->cluster_time);
    if (has_body(response->status)) {
        encode_body(response, out);
    } else {
        struct slice text = response->text;

        text.len = text.len > PROTO_MAX_TEXT ? PROTO_MAX_TEXT : text.len;
        buf_put_bytes(out, text);
    }
}

static bool decode_scan(struct reader *reader, struct proto_response *response)
{
    uint32_t n;

    response->scan.more = proto_read_bool(reader);
    n = reader_u32(reader);
    if (!reader_ok(reader) || n > PROTO_MAX_SCAN ||
        reader_left(reader) < (size_t)n * SCAN_ROW_MIN_BYTES) {
        return false;
    }
    response->scan.n = n;
    response->scan.records = mem_zalloc(n * sizeof(response->scan.records[0]));
    for (uint32_t i = 0; i < n; i++) {
        struct proto_record *record = &response->scan.records[i];

        record->key = proto_read_key(reader);
        record->value = reader_bytes(reader, KV_MAX_VALUE);
        /* A page is in order: the merge relies on it. */
        if (!reader_ok(reader) || (i > 0 && slice_compare(record[-1].key, record->key) >= 0)) {
            return false;
        }
    }
    return true;
}

static bool decode_pull(struct reader *reader, struct proto_response *response)
{
    response->shard_pull.piece = reader_u64(reader);
    response->shard_pull.kind = reader_u8(reader);
    response->shard_pull.keys_total = reader_u64(reader);
    response->shard_pull.bytes_total = reader_u64(reader);
    response->shard_pull.load = reader_u32(reader);
    response->shard_pull.strain = reader_u32(reader);
    response->shard_pull.frozen = proto_read_bool(reader);
    response->shard_pull.body = reader_bytes(reader, PROTO_MAX_PIECE);
    response->shard_pull.cursor = reader_bytes(reader, PROTO_MAX_CURSOR);
    return reader_ok(reader) && response->shard_pull.kind >= PROTO_PIECE_MORE &&
           response->shard_pull.kind <= PROTO_PIECE_VOID;
}

/* What a dry run is answered with stands at the end, and is never empty. */
static bool decode_admin(struct reader *reader, struct proto_response *response)
{
    response->admin.num = reader_u64(reader);
    if (response->op == PROTO_PAUSE || !reader_ok(reader) || reader_left(reader) == 0) {
        return reader_ok(reader);
    }
    response->admin.planned = reader_bytes(reader, PROTO_MAX_CONFIG);
    return reader_ok(reader) && response->admin.planned.len > 0;
}

static bool decode_body(struct reader *reader, struct proto_response *response)
{
    switch (response->op) {
    case PROTO_GET:
        response->get.value = reader_bytes(reader, KV_MAX_VALUE);
        response->get.version = reader_u64(reader);
        break;
    case PROTO_WRITE:
        return kv_write_result_decode(reader, &response->write) &&
               response->write.status == response->status;
    case PROTO_SCAN:
        return decode_scan(reader, response);
    case PROTO_STATUS:
        return proto_node_status_decode(reader, &response->node);
    case PROTO_CONFIG:
        response->config_reply.encoded = reader_bytes(reader, PROTO_MAX_CONFIG);
        break;
    case PROTO_JOIN:
    case PROTO_LEAVE:
    case PROTO_MOVE:
    case PROTO_PAUSE:
        return decode_admin(reader, response);
    case PROTO_REPLICA:
        response->replica.configuration_index = reader_u64(reader);
        break;
    case PROTO_REPLICAS:
        return proto_replicas_decode(reader, &response->replicas);
    case PROTO_SHARD_PULL:
        return decode_pull(reader, response);
    case PROTO_SHARD_WHERE:
        response->shard_where.held = proto_read_bool(reader);
        response->shard_where.epoch = reader_u64(reader);
        break;
    default: /* TRANSFER, PING, CONFIRM, BIND, SHARD_RELEASE: nothing */
        break;
    }
    return reader_ok(reader);
}

/* The fields of the header; false if they are not those of a response that this program knows. */
static bool decode_header(struct reader *reader, struct proto_response *response)
{
    uint8_t version = reader_u8(reader);
    uint8_t op = reader_u8(reader);
    uint16_t status = reader_u16(reader);

    response->request_id = reader_u64(reader);
    response->leader_hint = reader_u32(reader);
    response->gid_hint = reader_u32(reader);
    response->config = reader_u64(reader);
    response->cluster_time = reader_u64(reader);
    if (!reader_ok(reader) || version != PROTO_VERSION || !proto_op_is_valid(op) ||
        !status_is_valid(status)) {
        return false;
    }
    response->op = (enum proto_op)op;
    response->status = (enum status)status;
    return true;
}

bool proto_response_decode(struct slice message, struct proto_response *response)
{
    struct reader reader = reader_of(message);
    bool good;

    memset(response, 0, sizeof(*response));
    if (!decode_header(&reader, response)) {
        return false;
    }
    if (has_body(response->status)) {
        good = decode_body(&reader, response);
    } else {
        response->text = reader_bytes(&reader, PROTO_MAX_TEXT);
        good = reader_ok(&reader);
    }
    if (good && reader_done(&reader)) {
        return true;
    }
    proto_response_fini(response);
    return false;
}

void proto_response_fini(struct proto_response *response)
{
    if (has_body(response->status) && response->op == PROTO_SCAN) {
        mem_free(response->scan.records);
    } else if (has_body(response->status) && response->op == PROTO_STATUS) {
        mem_free(response->node.shards);
        mem_free(response->node.moves);
    } else if (has_body(response->status) && response->op == PROTO_REPLICAS) {
        mem_free(response->replicas.replicas);
    }
    memset(response, 0, sizeof(*response));
}

bool proto_response_peek(struct slice message, uint64_t *request_id, enum proto_op *op)
{
    struct reader reader = reader_of(message);
    struct proto_response response = {0};

    if (!decode_header(&reader, &response)) {
        return false;
    }
    *request_id = response.request_id;
    *op = response.op;
    return true;
}
