/* Messages as bytes: a header of 12 bytes, then the fields of the type in the order of their
 * struct. One pair of functions a type; the tables at the end of the file choose. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/wire.h"

#define MESSAGE_FORMAT  1
#define MIN_ENTRY_BYTES 21 /* an encoded entry without data */
#define FLAG_0          1u
#define FLAG_1          2u

/* Booleans travel as one byte; a bit that this version does not know is malformed. */
static uint8_t read_flags(struct reader *reader, uint8_t known)
{
    uint8_t flags = reader_u8(reader);

    if ((flags & ~known) != 0) {
        reader->bad = true;
    }
    return flags;
}

static uint8_t flags_of(bool flag_0, bool flag_1)
{
    return (uint8_t)((flag_0 ? FLAG_0 : 0) | (flag_1 ? FLAG_1 : 0));
}

static void encode_request_vote(const struct raft_request_vote *request, struct buf *out)
{
    buf_put_u64(out, request->last_log_index);
    buf_put_u64(out, request->last_log_term);
    buf_put_u8(out, flags_of(request->pre_vote, request->transfer));
}

static void decode_request_vote(struct reader *reader, struct raft_request_vote *request)
{
    uint8_t flags;

    request->last_log_index = reader_u64(reader);
    request->last_log_term = reader_u64(reader);
    flags = read_flags(reader, FLAG_0 | FLAG_1);
    request->pre_vote = flags & FLAG_0;
    request->transfer = flags & FLAG_1;
}

static void encode_vote_reply(const struct raft_vote_reply *reply, struct buf *out)
{
    buf_put_u8(out, flags_of(reply->granted, reply->pre_vote));
}

static void decode_vote_reply(struct reader *reader, struct raft_vote_reply *reply)
{
    uint8_t flags = read_flags(reader, FLAG_0 | FLAG_1);

    reply->granted = flags & FLAG_0;
    reply->pre_vote = flags & FLAG_1;
}

static void encode_append(const struct raft_append *append, struct buf *out)
{
    ASSERT(append->n_entries <= WIRE_MAX_ENTRIES);
    buf_put_u64(out, append->prev_log_index);
    buf_put_u64(out, append->prev_log_term);
    buf_put_u64(out, append->commit_index);
    buf_put_u64(out, append->read_round);
    buf_put_u32(out, (uint32_t)append->n_entries);
    for (size_t i = 0; i < append->n_entries; i++) {
        wire_encode_entry(&append->entries[i], out);
    }
}

static void decode_append(struct reader *reader, struct raft_append *append)
{
    uint32_t n;

    append->prev_log_index = reader_u64(reader);
    append->prev_log_term = reader_u64(reader);
    append->commit_index = reader_u64(reader);
    append->read_round = reader_u64(reader);
    n = reader_u32(reader);
    if (!reader_ok(reader) || n > WIRE_MAX_ENTRIES || n > reader_left(reader) / MIN_ENTRY_BYTES) {
        reader->bad = true;
        return;
    }
    append->entries = n == 0 ? NULL : mem_zalloc(n * sizeof(*append->entries));
    while (append->n_entries < n &&
           wire_decode_entry(reader, &append->entries[append->n_entries])) {
        append->n_entries++;
    }
    ASSERT(append->n_entries == n || !reader_ok(reader));
}

static void encode_append_reply(const struct raft_append_reply *reply, struct buf *out)
{
    buf_put_u8(out, flags_of(reply->rejected, false));
    buf_put_u64(out, reply->match_index);
    buf_put_u64(out, reply->rejected_index);
    buf_put_u64(out, reply->hint_index);
    buf_put_u64(out, reply->hint_term);
    buf_put_u64(out, reply->read_round);
}

static void decode_append_reply(struct reader *reader, struct raft_append_reply *reply)
{
    reply->rejected = read_flags(reader, FLAG_0) & FLAG_0;
    reply->match_index = reader_u64(reader);
    reply->rejected_index = reader_u64(reader);
    reply->hint_index = reader_u64(reader);
    reply->hint_term = reader_u64(reader);
    reply->read_round = reader_u64(reader);
}

static void encode_install_snapshot(const struct raft_install_snapshot *chunk, struct buf *out)
{
    wire_encode_snapshot_meta(&chunk->meta, out);
    buf_put_u64(out, chunk->offset);
    buf_put_u8(out, flags_of(chunk->done, false));
    buf_put_u32(out, chunk->checksum);
    buf_put_bytes(out, blob_slice(chunk->data));
}

/* The checksum is checked by the core, which knows what to do about a damaged chunk. */
static void decode_install_snapshot(struct reader *reader, struct raft_install_snapshot *chunk)
{
    struct slice data;

    if (!wire_decode_snapshot_meta(reader, &chunk->meta)) {
        return;
    }
    chunk->offset = reader_u64(reader);
    chunk->done = read_flags(reader, FLAG_0) & FLAG_0;
    chunk->checksum = reader_u32(reader);
    data = reader_bytes(reader, WIRE_MAX_MESSAGE_BYTES);
    if (reader_ok(reader)) {
        chunk->data = blob_create(data);
    }
}

static void encode_install_snapshot_reply(const struct raft_install_snapshot_reply *reply,
                                          struct buf *out)
{
    buf_put_u64(out, reply->index);
    buf_put_u64(out, reply->offset);
    buf_put_u8(out, flags_of(reply->installed, false));
}

static void decode_install_snapshot_reply(struct reader *reader,
                                          struct raft_install_snapshot_reply *reply)
{
    reply->index = reader_u64(reader);
    reply->offset = reader_u64(reader);
    reply->installed = read_flags(reader, FLAG_0) & FLAG_0;
}

void wire_encode_message(const struct raft_message *message, struct buf *out)
{
    ASSERT(message->from <= SPEC_MAX_ID && message->to <= SPEC_MAX_ID);
    buf_put_u8(out, MESSAGE_FORMAT);
    buf_put_u8(out, (uint8_t)message->type);
    buf_put_u8(out, (uint8_t)message->from);
    buf_put_u8(out, (uint8_t)message->to);
    buf_put_u64(out, message->term);
    switch (message->type) {
    case RAFT_MESSAGE_REQUEST_VOTE:
        encode_request_vote(&message->request_vote, out);
        break;
    case RAFT_MESSAGE_VOTE_REPLY:
        encode_vote_reply(&message->vote_reply, out);
        break;
    case RAFT_MESSAGE_APPEND:
        encode_append(&message->append, out);
        break;
    case RAFT_MESSAGE_APPEND_REPLY:
        encode_append_reply(&message->append_reply, out);
        break;
    case RAFT_MESSAGE_HEARTBEAT:
        buf_put_u64(out, message->heartbeat.commit_index);
        buf_put_u64(out, message->heartbeat.read_round);
        break;
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        buf_put_u64(out, message->heartbeat_reply.read_round);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        encode_install_snapshot(&message->install_snapshot, out);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY:
        encode_install_snapshot_reply(&message->install_snapshot_reply, out);
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        break;
    }
}

static void decode_body(struct reader *reader, struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MESSAGE_REQUEST_VOTE:
        decode_request_vote(reader, &message->request_vote);
        break;
    case RAFT_MESSAGE_VOTE_REPLY:
        decode_vote_reply(reader, &message->vote_reply);
        break;
    case RAFT_MESSAGE_APPEND:
        decode_append(reader, &message->append);
        break;
    case RAFT_MESSAGE_APPEND_REPLY:
        decode_append_reply(reader, &message->append_reply);
        break;
    case RAFT_MESSAGE_HEARTBEAT:
        message->heartbeat.commit_index = reader_u64(reader);
        message->heartbeat.read_round = reader_u64(reader);
        break;
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        message->heartbeat_reply.read_round = reader_u64(reader);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        decode_install_snapshot(reader, &message->install_snapshot);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY:
        decode_install_snapshot_reply(reader, &message->install_snapshot_reply);
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        break;
    default:
        reader->bad = true;
    }
}

bool wire_decode_message(struct slice bytes, struct raft_message *message)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);

    memset(message, 0, sizeof(*message));
    message->type = reader_u8(&reader);
    message->from = reader_u8(&reader);
    message->to = reader_u8(&reader);
    message->term = reader_u64(&reader);
    if (!reader_ok(&reader) || format != MESSAGE_FORMAT || message->from == 0 || message->to == 0 ||
        message->term == 0 || bytes.len > WIRE_MAX_MESSAGE_BYTES) {
        memset(message, 0, sizeof(*message));
        return false;
    }
    decode_body(&reader, message);
    if (!reader_done(&reader)) {
        raft_message_fini(message);
        return false;
    }
    return true;
}
