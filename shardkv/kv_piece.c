/* kv_piece: see kv_piece.h. */
#include "shardkv/kv_piece.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_command.h"
#include "shardkv/kv_ops.h"

#define PIECE_FORMAT      1
#define CLIENT_ID_BYTES   16
#define MAX_SESSION_BYTES (1u << 20)
#define MAX_RECORD_BYTES  (KV_RECORD_HEADER_BYTES + KV_MAX_VALUE)

void kv_piece_fini(struct kv_piece *piece)
{
    buf_fini(&piece->body);
    buf_fini(&piece->cursor);
}

/* ---- Cursors ---- */

struct cursor {
    enum proto_piece_kind phase;
    struct slice last;
    struct shard_sum records, sessions;
};

static void cursor_encode(const struct cursor *cursor, struct buf *out)
{
    buf_put_u8(out, PIECE_FORMAT);
    buf_put_u8(out, (uint8_t)cursor->phase);
    buf_put_bytes(out, cursor->last);
    shard_sum_encode(&cursor->records, out);
    shard_sum_encode(&cursor->sessions, out);
    ASSERT(out->len <= SHARD_MAX_CURSOR);
}

static bool cursor_decode(struct slice bytes, struct cursor *cursor)
{
    struct reader reader = reader_of(bytes);
    uint8_t format, phase;

    *cursor = (struct cursor){.phase = PROTO_PIECE_RECORDS};
    if (bytes.len == 0) {
        return true;
    }
    format = reader_u8(&reader);
    phase = reader_u8(&reader);
    cursor->last = reader_bytes(&reader, KV_MAX_KEY);
    shard_sum_decode(&reader, &cursor->records);
    shard_sum_decode(&reader, &cursor->sessions);
    if (!reader_done(&reader) || format != PIECE_FORMAT || phase < PROTO_PIECE_RECORDS ||
        phase > PROTO_PIECE_END) {
        return false;
    }
    cursor->phase = (enum proto_piece_kind)phase;
    return true;
}

/* ---- Reading ---- */

/* One phase from the cursor on, until the piece is full or the phase is over. */
struct phase {
    const struct kv_piece_source *source;
    uint8_t kind; /* of the state's keys */
    struct shard_sum *sum;
    uint32_t max_bytes;
};

/* The first key to look at: the one after the last that was sent, which is it with a zero byte. */
static struct slice key_after(struct slice last, struct buf *memory)
{
    if (last.len == 0) {
        return last;
    }
    buf_put_slice(memory, last);
    buf_put_u8(memory, 0);
    return buf_slice(memory);
}

/* Appends entries to *body; *last is the key of the last one. *more: the phase has further ones. */
static enum status read_entries(const struct phase *phase, struct slice after, struct buf *body,
                                struct buf *last, bool *more)
{
    struct io_state *state = phase->source->state;
    struct buf memory = {0};
    struct io_key from = {phase->source->range, phase->kind, key_after(after, &memory)};
    struct io_iter *iter = state->ops->iter_open(state, from);
    struct slice key, value;
    enum status status;

    *more = false;
    while (state->ops->iter_next(iter, &key, &value)) {
        if (key.len == 0) {
            continue; /* the sessions' floor: it travels in the END */
        }
        if (body->len > 0 && body->len + key.len + value.len + 8 > phase->max_bytes) {
            *more = true;
            break;
        }
        buf_put_bytes(body, key);
        buf_put_bytes(body, value);
        shard_sum_add(phase->sum, key, value);
        buf_clear(last);
        buf_put_slice(last, key);
    }
    status = state->ops->iter_close(iter);
    buf_fini(&memory);
    return status;
}

static void put_end(const struct kv_piece_source *source, const struct cursor *cursor,
                    struct buf *body)
{
    buf_put_u8(body, PIECE_FORMAT);
    shard_sum_encode(&cursor->records, body);
    shard_sum_encode(&cursor->sessions, body);
    buf_put_u64(body, source->epoch);
    buf_put_u64(body, source->floor);
    buf_put_u64(body, source->version);
    buf_put_bytes(body, slice_of(NULL, 0));
}

static enum status read_phase(const struct kv_piece_source *source, struct cursor *cursor,
                              uint32_t max_bytes, struct buf *last, struct kv_piece *piece)
{
    bool sessions = cursor->phase == PROTO_PIECE_SESSIONS;
    struct phase phase = {source, sessions ? KV_KIND_SESSION : KV_KIND_DATA,
                          sessions ? &cursor->sessions : &cursor->records, max_bytes};
    bool more;
    enum status status = read_entries(&phase, cursor->last, &piece->body, last, &more);

    if (status != ST_OK) {
        return status;
    }
    piece->kind = cursor->phase;
    cursor->last = buf_slice(last);
    if (!more) {
        cursor->phase = sessions ? PROTO_PIECE_END : PROTO_PIECE_SESSIONS;
        cursor->last = slice_of(NULL, 0);
    }
    return ST_OK;
}

enum status kv_piece_read(const struct kv_piece_source *source, struct slice cursor_bytes,
                          uint32_t max_bytes, struct kv_piece *piece)
{
    struct cursor cursor;
    struct buf last = {0};
    enum status status = ST_OK;

    *piece = (struct kv_piece){0};
    ASSERT(source->range != 0);
    if (!cursor_decode(cursor_bytes, &cursor)) {
        return ST_INVALID;
    }
    if (max_bytes > PROTO_MAX_CHUNK) {
        max_bytes = PROTO_MAX_CHUNK;
    }
    /* An empty phase makes no piece: the next one begins at once. */
    while (status == ST_OK && piece->body.len == 0 && cursor.phase != PROTO_PIECE_END) {
        status = read_phase(source, &cursor, max_bytes, &last, piece);
    }
    if (status == ST_OK && piece->body.len > 0) {
        cursor_encode(&cursor, &piece->cursor);
    } else if (status == ST_OK) {
        piece->kind = PROTO_PIECE_END;
        put_end(source, &cursor, &piece->body);
    }
    buf_fini(&last);
    if (status != ST_OK) {
        kv_piece_fini(piece);
    }
    return status;
}

/* ---- Bodies ---- */

bool kv_piece_next_entry(struct reader *body, struct slice *key, struct slice *value)
{
    if (reader_left(body) == 0 || !reader_ok(body)) {
        return false;
    }
    *key = reader_bytes(body, KV_MAX_KEY);
    *value = reader_bytes(body, MAX_RECORD_BYTES);
    if (key->len == 0) {
        body->bad = true;
    }
    return reader_ok(body);
}

static bool entry_is_valid(uint8_t kind, struct slice key, struct slice value)
{
    struct kv_record record;

    if (kind == PROTO_PIECE_RECORDS) {
        return kv_record_decode(value, &record) == ST_OK;
    }
    return key.len == CLIENT_ID_BYTES && value.len <= MAX_SESSION_BYTES;
}

bool kv_piece_body_is_valid(uint8_t kind, struct slice body)
{
    struct reader reader = reader_of(body);
    struct slice key, value;

    if (kind != PROTO_PIECE_RECORDS && kind != PROTO_PIECE_SESSIONS) {
        return false;
    }
    while (kv_piece_next_entry(&reader, &key, &value)) {
        if (!entry_is_valid(kind, key, value)) {
            return false;
        }
    }
    return reader_done(&reader) && body.len > 0;
}

bool kv_piece_end_decode(struct slice body, struct kv_piece_end *end)
{
    struct reader reader = reader_of(body);
    uint8_t format = reader_u8(&reader);

    shard_sum_decode(&reader, &end->records);
    shard_sum_decode(&reader, &end->sessions);
    end->epoch = reader_u64(&reader);
    end->floor = reader_u64(&reader);
    end->version = reader_u64(&reader);
    end->chain = reader_bytes(&reader, KV_MAX_CHAIN);
    return reader_done(&reader) && format == PIECE_FORMAT;
}
