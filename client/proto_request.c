/* Requests as bytes. After the header, by op:
 *
 *   GET            u16 shard, key
 *   WRITE          a kv_write
 *   SCAN           u16 shard, prefix, after, u32 limit
 *   STATUS, PING   nothing
 *   TRANSFER       u32 to
 *   REPLICA        u8 kind, u32 gid, u32 id, u64 configuration_index, URL
 *   REPLICAS       nothing
 *   CONFIG         u64 num, u32 gid, u64 incarnation
 *   JOIN           session, u16 n, n x (u32 gid, u64 incarnation, SPEC)
 *   LEAVE          session, u16 n, n x u32 gid
 *   MOVE           session, u16 shard, u32 gid
 *   PAUSE          session, u8 paused
 *   CONFIRM        u32 gid, u64 incarnation, u32 n, n x (u16 shard, u64 epoch)
 *   BIND           u32 gid, u64 incarnation
 *   REPORT         u32 gid, u64 incarnation, u64 term, u64 index, SPEC
 *   SHARD_PULL     u16 shard, u64 num, u32 to, u64 copy_id, u64 piece, cursor, u32 max_bytes,
 *                  u8 anew
 *   SHARD_RELEASE  u16 shard, u64 num, u32 to
 *   SHARD_WHERE    u16 shard
 *
 * Bytes of any length stand with a u32 length before them. Nothing may follow. */
#include "client/proto_private.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define CONFIRM_ROW_BYTES 10
#define FLAG_DRY_RUN      1u

bool proto_op_is_valid(uint8_t op)
{
    switch ((enum proto_op)op) {
    case PROTO_GET:
    case PROTO_WRITE:
    case PROTO_SCAN:
    case PROTO_STATUS:
    case PROTO_TRANSFER:
    case PROTO_PING:
    case PROTO_REPLICA:
    case PROTO_REPLICAS:
    case PROTO_CONFIG:
    case PROTO_JOIN:
    case PROTO_LEAVE:
    case PROTO_MOVE:
    case PROTO_CONFIRM:
    case PROTO_BIND:
    case PROTO_PAUSE:
    case PROTO_REPORT:
    case PROTO_SHARD_PULL:
    case PROTO_SHARD_RELEASE:
    case PROTO_SHARD_WHERE:
        return true;
    }
    return false;
}

bool proto_is_for_servers(const struct proto_request *request)
{
    switch (request->op) {
    case PROTO_CONFIRM:
    case PROTO_BIND:
    case PROTO_REPORT:
    case PROTO_SHARD_PULL:
    case PROTO_SHARD_RELEASE:
    case PROTO_SHARD_WHERE:
        return true;
    case PROTO_CONFIG: /* who asks as a group tells its incarnation, and so may bind the gid */
        return request->config.gid != 0;
    default:
        return false;
    }
}

/* ---- Encoding ---- */

static void encode_join(const struct proto_request *request, struct buf *out)
{
    ASSERT(request->join.n <= PROTO_MAX_GROUPS);
    proto_session_encode(&request->join.session, out);
    buf_put_u16(out, (uint16_t)request->join.n);
    for (uint32_t i = 0; i < request->join.n; i++) {
        buf_put_u32(out, request->join.groups[i].gid);
        buf_put_u64(out, request->join.groups[i].incarnation);
        spec_encode(&request->join.groups[i].replicas, out);
    }
}

static void encode_leave(const struct proto_request *request, struct buf *out)
{
    ASSERT(request->leave.n <= PROTO_MAX_GROUPS);
    proto_session_encode(&request->leave.session, out);
    buf_put_u16(out, (uint16_t)request->leave.n);
    for (uint32_t i = 0; i < request->leave.n; i++) {
        buf_put_u32(out, request->leave.gids[i]);
    }
}

static void encode_confirm(const struct proto_request *request, struct buf *out)
{
    ASSERT(request->confirm.n <= SHARD_MAX_COUNT);
    buf_put_u32(out, request->confirm.gid);
    buf_put_u64(out, request->confirm.incarnation);
    if (request->op == PROTO_BIND) {
        return;
    }
    buf_put_u32(out, request->confirm.n);
    for (uint32_t i = 0; i < request->confirm.n; i++) {
        buf_put_u16(out, (uint16_t)request->confirm.shards[i].shard);
        buf_put_u64(out, request->confirm.shards[i].epoch);
    }
}

static void encode_report(const struct proto_request *request, struct buf *out)
{
    ASSERT(request->report.replicas->n >= 1);
    buf_put_u32(out, request->report.gid);
    buf_put_u64(out, request->report.incarnation);
    buf_put_u64(out, request->report.term);
    buf_put_u64(out, request->report.index);
    spec_encode(request->report.replicas, out);
}

static void encode_client_body(const struct proto_request *request, struct buf *out)
{
    switch (request->op) {
    case PROTO_GET:
        buf_put_u16(out, (uint16_t)request->get.shard);
        buf_put_bytes(out, request->get.key);
        break;
    case PROTO_SCAN:
        buf_put_u16(out, (uint16_t)request->scan.shard);
        buf_put_bytes(out, request->scan.prefix);
        buf_put_bytes(out, request->scan.after);
        buf_put_u32(out, request->scan.limit);
        break;
    case PROTO_TRANSFER:
        buf_put_u32(out, request->transfer.to);
        break;
    case PROTO_CONFIG:
        buf_put_u64(out, request->config.num);
        buf_put_u32(out, request->config.gid);
        buf_put_u64(out, request->config.incarnation);
        break;
    case PROTO_MOVE:
        proto_session_encode(&request->move.session, out);
        buf_put_u16(out, (uint16_t)request->move.shard);
        buf_put_u32(out, request->move.gid);
        break;
    case PROTO_PAUSE:
        proto_session_encode(&request->pause.session, out);
        buf_put_u8(out, request->pause.paused);
        break;
    case PROTO_REPLICA:
        proto_replica_encode(request, out);
        break;
    default: /* STATUS, PING, REPLICAS: nothing */
        break;
    }
}

static void encode_shard_body(const struct proto_request *request, struct buf *out)
{
    switch (request->op) {
    case PROTO_SHARD_PULL:
        buf_put_u16(out, (uint16_t)request->shard_pull.shard);
        buf_put_u64(out, request->shard_pull.num);
        buf_put_u32(out, request->shard_pull.to);
        buf_put_u64(out, request->shard_pull.copy_id);
        buf_put_u64(out, request->shard_pull.piece);
        buf_put_bytes(out, request->shard_pull.cursor);
        buf_put_u32(out, request->shard_pull.max_bytes);
        buf_put_u8(out, request->shard_pull.anew);
        break;
    case PROTO_SHARD_RELEASE:
        buf_put_u16(out, (uint16_t)request->shard_release.shard);
        buf_put_u64(out, request->shard_release.num);
        buf_put_u32(out, request->shard_release.to);
        break;
    default:
        ASSERT(request->op == PROTO_SHARD_WHERE);
        buf_put_u16(out, (uint16_t)request->shard_where.shard);
        break;
    }
}

/* Only what changes a configuration can be tried dry. */
static bool may_be_dry(enum proto_op op)
{
    return op == PROTO_JOIN || op == PROTO_LEAVE || op == PROTO_MOVE || op == PROTO_REPLICA;
}

void proto_request_encode(const struct proto_request *request, struct buf *out)
{
    ASSERT(proto_op_is_valid((uint8_t)request->op));
    ASSERT(!request->dry_run || may_be_dry(request->op));
    if (request->op == PROTO_WRITE) {
        buf_reserve(out, PROTO_REQUEST_HEADER_BYTES + proto_write_bytes(&request->write));
    }
    buf_put_u8(out, PROTO_VERSION);
    buf_put_u8(out, (uint8_t)request->op);
    buf_put_u16(out, request->dry_run ? FLAG_DRY_RUN : 0);
    buf_put_u64(out, request->request_id);
    buf_put_u32(out, request->deadline_ms);
    buf_put_u64(out, request->trace_id);
    switch (request->op) {
    case PROTO_WRITE:
        kv_write_encode(&request->write, out);
        break;
    case PROTO_JOIN:
        encode_join(request, out);
        break;
    case PROTO_LEAVE:
        encode_leave(request, out);
        break;
    case PROTO_CONFIRM:
    case PROTO_BIND:
        encode_confirm(request, out);
        break;
    case PROTO_REPORT:
        encode_report(request, out);
        break;
    case PROTO_SHARD_PULL:
    case PROTO_SHARD_RELEASE:
    case PROTO_SHARD_WHERE:
        encode_shard_body(request, out);
        break;
    default:
        encode_client_body(request, out);
        break;
    }
}

uint64_t proto_request_peek_id(struct slice message)
{
    ASSERT(message.len >= PROTO_REQUEST_HEADER_BYTES);
    return get_u64(message.data + 4);
}

void proto_request_retry(struct buf *message, uint64_t request_id, uint32_t deadline_ms)
{
    ASSERT(message->len >= PROTO_REQUEST_HEADER_BYTES);
    set_u64(message->data + 4, request_id);
    set_u32(message->data + 12, deadline_ms);
}

/* ---- Decoding ---- */

static bool decode_join(struct reader *reader, struct proto_request *request)
{
    uint16_t n;

    if (!proto_session_decode(reader, &request->join.session)) {
        return false;
    }
    n = reader_u16(reader);
    if (!reader_ok(reader) || n > PROTO_MAX_GROUPS) {
        return false;
    }
    request->join.groups = mem_zalloc(n * sizeof(request->join.groups[0]));
    for (request->join.n = 0; request->join.n < n; request->join.n++) {
        struct proto_join_group *group = &request->join.groups[request->join.n];

        group->gid = reader_u32(reader);
        group->incarnation = reader_u64(reader);
        if (!reader_ok(reader) || !spec_decode(reader, &group->replicas)) {
            return false;
        }
    }
    return true;
}

static bool decode_leave(struct reader *reader, struct proto_request *request)
{
    uint16_t n;

    if (!proto_session_decode(reader, &request->leave.session)) {
        return false;
    }
    n = reader_u16(reader);
    if (!reader_ok(reader) || n > PROTO_MAX_GROUPS) {
        return false;
    }
    request->leave.n = n;
    request->leave.gids = mem_zalloc(n * sizeof(request->leave.gids[0]));
    for (uint16_t i = 0; i < n; i++) {
        request->leave.gids[i] = reader_u32(reader);
    }
    return reader_ok(reader);
}

static bool decode_confirm(struct reader *reader, struct proto_request *request)
{
    uint32_t n;

    request->confirm.gid = reader_u32(reader);
    request->confirm.incarnation = reader_u64(reader);
    if (request->op == PROTO_BIND) {
        return reader_ok(reader);
    }
    n = reader_u32(reader);
    if (!reader_ok(reader) || n > SHARD_MAX_COUNT || reader_left(reader) != n * CONFIRM_ROW_BYTES) {
        return false;
    }
    request->confirm.n = n;
    request->confirm.shards = mem_zalloc(n * sizeof(request->confirm.shards[0]));
    for (uint32_t i = 0; i < n; i++) {
        request->confirm.shards[i].shard = proto_read_shard(reader);
        request->confirm.shards[i].epoch = reader_u64(reader);
    }
    return reader_ok(reader);
}

static bool decode_report(struct reader *reader, struct proto_request *request)
{
    request->report.gid = reader_u32(reader);
    request->report.incarnation = reader_u64(reader);
    request->report.term = reader_u64(reader);
    request->report.index = reader_u64(reader);
    if (!reader_ok(reader)) {
        return false;
    }
    request->report.replicas = mem_zalloc(sizeof(*request->report.replicas));
    return spec_decode(reader, request->report.replicas);
}

static bool decode_client_body(struct reader *reader, struct proto_request *request)
{
    switch (request->op) {
    case PROTO_GET:
        request->get.shard = proto_read_shard(reader);
        request->get.key = proto_read_key(reader);
        return reader_ok(reader);
    case PROTO_SCAN:
        request->scan.shard = proto_read_shard(reader);
        request->scan.prefix = reader_bytes(reader, KV_MAX_KEY);
        request->scan.after = reader_bytes(reader, KV_MAX_KEY);
        request->scan.limit = reader_u32(reader);
        return reader_ok(reader) && request->scan.limit <= PROTO_MAX_SCAN;
    case PROTO_TRANSFER:
        request->transfer.to = reader_u32(reader);
        return reader_ok(reader) && request->transfer.to <= SPEC_MAX_ID;
    case PROTO_CONFIG:
        request->config.num = reader_u64(reader);
        request->config.gid = reader_u32(reader);
        request->config.incarnation = reader_u64(reader);
        return reader_ok(reader);
    case PROTO_MOVE:
        if (!proto_session_decode(reader, &request->move.session)) {
            return false;
        }
        request->move.shard = proto_read_shard(reader);
        request->move.gid = reader_u32(reader);
        return reader_ok(reader);
    case PROTO_PAUSE:
        if (!proto_session_decode(reader, &request->pause.session)) {
            return false;
        }
        request->pause.paused = proto_read_bool(reader);
        return reader_ok(reader);
    case PROTO_REPLICA:
        return proto_replica_decode(reader, request);
    default: /* STATUS, PING, REPLICAS: nothing */
        return true;
    }
}

static bool decode_shard_body(struct reader *reader, struct proto_request *request)
{
    switch (request->op) {
    case PROTO_SHARD_PULL:
        request->shard_pull.shard = proto_read_shard(reader);
        request->shard_pull.num = reader_u64(reader);
        request->shard_pull.to = reader_u32(reader);
        request->shard_pull.copy_id = reader_u64(reader);
        request->shard_pull.piece = reader_u64(reader);
        request->shard_pull.cursor = reader_bytes(reader, PROTO_MAX_CURSOR);
        request->shard_pull.max_bytes = reader_u32(reader);
        request->shard_pull.anew = proto_read_bool(reader);
        return reader_ok(reader);
    case PROTO_SHARD_RELEASE:
        request->shard_release.shard = proto_read_shard(reader);
        request->shard_release.num = reader_u64(reader);
        request->shard_release.to = reader_u32(reader);
        return reader_ok(reader);
    default:
        ASSERT(request->op == PROTO_SHARD_WHERE);
        request->shard_where.shard = proto_read_shard(reader);
        return reader_ok(reader);
    }
}

static bool decode_body(struct reader *reader, struct proto_request *request)
{
    switch (request->op) {
    case PROTO_WRITE:
        return kv_write_decode(reader, &request->write);
    case PROTO_JOIN:
        return decode_join(reader, request);
    case PROTO_LEAVE:
        return decode_leave(reader, request);
    case PROTO_CONFIRM:
    case PROTO_BIND:
        return decode_confirm(reader, request);
    case PROTO_REPORT:
        return decode_report(reader, request);
    case PROTO_SHARD_PULL:
    case PROTO_SHARD_RELEASE:
    case PROTO_SHARD_WHERE:
        return decode_shard_body(reader, request);
    default:
        return decode_client_body(reader, request);
    }
}

bool proto_request_decode(struct slice message, struct proto_request *request)
{
    struct reader reader = reader_of(message);
    uint8_t version = reader_u8(&reader);
    uint8_t op = reader_u8(&reader);
    uint16_t flags = reader_u16(&reader);

    memset(request, 0, sizeof(*request));
    request->request_id = reader_u64(&reader);
    request->deadline_ms = reader_u32(&reader);
    request->trace_id = reader_u64(&reader);
    /* Later versions may set more flags; what they mean is not known here, so they are refused. */
    if (!reader_ok(&reader) || version != PROTO_VERSION || flags > FLAG_DRY_RUN ||
        !proto_op_is_valid(op) || (flags != 0 && !may_be_dry((enum proto_op)op))) {
        return false;
    }
    request->op = (enum proto_op)op;
    request->dry_run = flags == FLAG_DRY_RUN;
    if (decode_body(&reader, request) && reader_done(&reader)) {
        return true;
    }
    proto_request_fini(request);
    return false;
}

void proto_request_fini(struct proto_request *request)
{
    if (request->op == PROTO_JOIN) {
        mem_free(request->join.groups);
    } else if (request->op == PROTO_LEAVE) {
        mem_free(request->leave.gids);
    } else if (request->op == PROTO_CONFIRM) {
        mem_free(request->confirm.shards);
    } else if (request->op == PROTO_REPORT) {
        mem_free(request->report.replicas);
    }
    memset(request, 0, sizeof(*request));
}
