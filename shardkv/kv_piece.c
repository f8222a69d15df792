/* kv_piece: see kv_piece.h. */
#include "shardkv/kv_piece.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_command.h"
#include "shardkv/kv_ops.h"

#define PIECE_FORMAT      2
#define CLIENT_ID_BYTES   16
#define MAX_SESSION_BYTES (1u << 20)
#define MAX_RECORD_BYTES  (KV_RECORD_HEADER_BYTES + KV_MAX_VALUE)
#define ENTRY_OVERHEAD    9 /* what, two lengths */

/* So few changes go along with the END, if they have no more than KV_PIECE_FROZEN_BYTES: a fraction
 * of a millisecond. Once a few rounds have not come down to that, more may. */
#define FEW_CHANGES  32
#define SOME_CHANGES 128
#define FEW_ROUNDS   8
/* After so many rounds it is frozen anyway (a round is what had changed when it began): writes that
 * come in faster than they can be copied must not keep a shard where it is for ever. */
#define MAX_ROUNDS 32

void kv_piece_fini(struct kv_piece *piece)
{
    buf_fini(&piece->body);
    buf_fini(&piece->cursor);
}

/* ---- Cursors ---- */

enum phase { PHASE_RECORDS = 1, PHASE_SESSIONS = 2, PHASE_CHANGES = 3 };

struct cursor {
    enum phase phase;
    struct slice last;
    uint64_t change;
    uint64_t round_end; /* the last change of this round */
    uint32_t rounds;
};

static void cursor_encode(const struct cursor *cursor, struct buf *out)
{
    buf_put_u8(out, PIECE_FORMAT);
    buf_put_u8(out, (uint8_t)cursor->phase);
    buf_put_bytes(out, cursor->last);
    buf_put_u64(out, cursor->change);
    buf_put_u64(out, cursor->round_end);
    buf_put_u32(out, cursor->rounds);
    ASSERT(out->len <= SHARD_MAX_CURSOR);
}

static bool cursor_decode(struct slice bytes, struct cursor *cursor)
{
    struct reader reader = reader_of(bytes);
    uint8_t format, phase;

    *cursor = (struct cursor){.phase = PHASE_RECORDS};
    if (bytes.len == 0) {
        return true;
    }
    format = reader_u8(&reader);
    phase = reader_u8(&reader);
    cursor->phase = (enum phase)phase;
    cursor->last = reader_bytes(&reader, KV_MAX_KEY);
    cursor->change = reader_u64(&reader);
    cursor->round_end = reader_u64(&reader);
    cursor->rounds = reader_u32(&reader);
    return reader_done(&reader) && format == PIECE_FORMAT && phase >= PHASE_RECORDS &&
           phase <= PHASE_CHANGES;
}

bool kv_piece_is_in_rounds(struct slice bytes)
{
    struct cursor cursor;

    return cursor_decode(bytes, &cursor) && cursor.phase == PHASE_CHANGES;
}

uint32_t kv_piece_round(struct slice bytes)
{
    struct cursor cursor;

    return cursor_decode(bytes, &cursor) && cursor.phase == PHASE_CHANGES ? cursor.rounds : 0;
}

/* ---- Reading ---- */

struct reading {
    const struct kv_piece_source *source;
    uint32_t max_bytes;
    struct cursor cursor;
    struct buf last; /* what cursor.last points to */
    struct buf *body;
    bool is_full;
};

static void set_last(struct reading *reading, struct slice last)
{
    buf_clear(&reading->last);
    buf_put_slice(&reading->last, last);
    reading->cursor.last = buf_slice(&reading->last);
}

static void put_entry(struct reading *reading, enum kv_entry_what what, struct slice key,
                      struct slice value)
{
    buf_put_u8(reading->body, (uint8_t)what);
    buf_put_bytes(reading->body, key);
    if (what != KV_ENTRY_REMOVED && what != KV_ENTRY_SESSION_REMOVED) {
        buf_put_bytes(reading->body, value);
    }
}

static bool has_room(struct reading *reading, struct slice key, struct slice value)
{
    size_t len = reading->body->len;

    reading->is_full = len > 0 && len + key.len + value.len + ENTRY_OVERHEAD > reading->max_bytes;
    return !reading->is_full;
}

/* The first key to look at: the one after the last that was sent, which is it with a zero byte. */
static struct slice key_after(struct slice last, struct buf *memory)
{
    buf_put_slice(memory, last);
    buf_put_u8(memory, 0);
    return last.len == 0 ? last : buf_slice(memory);
}

/* The base: what is swept, in order of key; then the sessions, in order of client. A piece ends
 * where the sweep does. */
static enum status read_base(struct reading *reading)
{
    const struct kv_piece_source *source = reading->source;
    struct io_state *state = source->state;
    bool sessions = reading->cursor.phase == PHASE_SESSIONS;
    struct buf memory = {0};
    struct io_key from = {source->shard->range, sessions ? KV_KIND_SESSION : KV_KIND_DATA,
                          key_after(reading->cursor.last, &memory)};
    struct io_iter *iter = state->ops->iter_open(state, from);
    struct slice key, value;
    bool is_end = true;
    enum status status;

    ASSERT(!reading->is_full);
    while (is_end && state->ops->iter_next(iter, &key, &value)) {
        if (sessions && key.len == 0) {
            continue; /* the floor: it travels in the END */
        }
        is_end = (sessions || shard_notes_key(source->shard, key)) && has_room(reading, key, value);
        if (is_end) {
            put_entry(reading, sessions ? KV_ENTRY_SESSION : KV_ENTRY_RECORD, key, value);
            set_last(reading, key);
        }
    }
    status = state->ops->iter_close(iter);
    if (is_end && (sessions || source->shard->outgoing.is_swept)) {
        reading->cursor.phase = sessions ? PHASE_CHANGES : PHASE_SESSIONS;
        reading->cursor.last = slice_of(NULL, 0);
    } else if (!reading->is_full) {
        set_last(reading, buf_slice(&source->shard->outgoing.swept));
        reading->is_full = true;
    }
    buf_fini(&memory);
    return status;
}

/* What a noted change has come to. */
static enum status read_change(struct reading *reading, struct slice change, struct buf *memory)
{
    const struct kv_piece_source *source = reading->source;
    struct reader reader = reader_of(change);
    uint8_t kind = reader_u8(&reader);
    struct slice key = reader_take(&reader, reader_left(&reader));
    bool session = kind == KV_KIND_SESSION;
    enum status status;

    if (kind != KV_KIND_DATA && !session) {
        return ST_CORRUPT;
    }
    buf_clear(memory);
    status = source->state->ops->get(source->state,
                                     (struct io_key){source->shard->range, kind, key}, memory);
    if (status != ST_OK && status != ST_NOT_FOUND) {
        return status;
    }
    if (!has_room(reading, key, buf_slice(memory))) {
        return ST_OK;
    }
    if (status == ST_OK) {
        put_entry(reading, session ? KV_ENTRY_SESSION : KV_ENTRY_CHANGED, key, buf_slice(memory));
    } else {
        put_entry(reading, session ? KV_ENTRY_SESSION_REMOVED : KV_ENTRY_REMOVED, key,
                  slice_of(NULL, 0));
    }
    return ST_OK;
}

static enum status read_changes(struct reading *reading)
{
    struct io_state *state = reading->source->state;
    struct buf memory = {0};
    uint8_t number[8];
    struct io_key from = {reading->source->shard->outgoing.range, KV_KIND_CHANGE,
                          slice_of(number, sizeof(number))};
    struct io_iter *iter;
    struct slice key, change;
    enum status status = ST_OK, closed;

    set_u64_be(number, reading->cursor.change + 1);
    iter = state->ops->iter_open(state, from);
    while (status == ST_OK && !reading->is_full && state->ops->iter_next(iter, &key, &change)) {
        status = key.len == sizeof(number) ? read_change(reading, change, &memory) : ST_CORRUPT;
        if (status == ST_OK && !reading->is_full) {
            reading->cursor.change = get_u64_be(key.data);
        }
    }
    closed = state->ops->iter_close(iter);
    buf_fini(&memory);
    return status != ST_OK ? status : closed;
}

static enum status read_all(struct reading *reading)
{
    struct cursor *cursor = &reading->cursor;
    enum status status = ST_OK;

    if (cursor->phase == PHASE_CHANGES && cursor->change >= cursor->round_end) {
        cursor->round_end = reading->source->shard->outgoing.n_noted;
        cursor->rounds++;
    }
    while (status == ST_OK && !reading->is_full && reading->cursor.phase != PHASE_CHANGES) {
        status = read_base(reading);
    }
    if (status == ST_OK && !reading->is_full) {
        status = read_changes(reading);
    }
    return status;
}

enum status kv_piece_read(const struct kv_piece_source *source, struct slice cursor,
                          uint32_t max_bytes, struct kv_piece *piece)
{
    struct reading reading = {.source = source, .max_bytes = max_bytes, .body = &piece->body};
    enum status status;

    *piece = (struct kv_piece){0};
    ASSERT(source->shard->range != 0 && source->shard->outgoing.copy_id != 0);
    if (!cursor_decode(cursor, &reading.cursor)) {
        return ST_INVALID;
    }
    if (max_bytes > PROTO_MAX_CHUNK) {
        reading.max_bytes = PROTO_MAX_CHUNK;
    }
    status = read_all(&reading);
    if (status == ST_OK) {
        piece->is_all = !reading.is_full;
        cursor_encode(&reading.cursor, &piece->cursor);
    } else {
        kv_piece_fini(piece);
    }
    buf_fini(&reading.last);
    return status;
}

/* ---- What must come first ---- */

/* Few changes may have many bytes. If the state can't be read, kv_piece_read says so. */
static bool rest_is_small(const struct kv_piece_source *source, const struct cursor *cursor)
{
    struct buf body = {0};
    struct reading reading = {
        .source = source, .max_bytes = KV_PIECE_FROZEN_BYTES, .cursor = *cursor, .body = &body};
    bool is_small =
        read_changes(&reading) == ST_OK && !reading.is_full && body.len <= KV_PIECE_FROZEN_BYTES;

    ASSERT(cursor->phase == PHASE_CHANGES);
    buf_fini(&body);
    return is_small;
}

static bool must_freeze(const struct kv_piece_source *source, const struct cursor *cursor)
{
    uint64_t left = source->shard->outgoing.n_noted - cursor->change;

    if (source->shard->state != SHARD_SERVING || cursor->phase != PHASE_CHANGES) {
        return false;
    }
    return cursor->rounds >= MAX_ROUNDS ||
           (left <= (cursor->rounds <= FEW_ROUNDS ? FEW_CHANGES : SOME_CHANGES) &&
            rest_is_small(source, cursor));
}

enum kv_piece_need kv_piece_needs(const struct kv_piece_source *source, struct slice bytes)
{
    const struct shard_outgoing *outgoing = &source->shard->outgoing;
    struct cursor cursor;

    ASSERT(outgoing->copy_id != 0);
    if (!cursor_decode(bytes, &cursor) || cursor.change > outgoing->n_noted ||
        (cursor.phase != PHASE_RECORDS && !outgoing->is_swept)) {
        return KV_PIECE_INVALID;
    }
    if (!outgoing->is_swept && slice_compare(cursor.last, buf_slice(&outgoing->swept)) >= 0) {
        return KV_PIECE_SWEEP;
    }
    return must_freeze(source, &cursor) ? KV_PIECE_FREEZE : KV_PIECE_READ;
}

/* ---- The end ---- */

static void add_session(void *context, struct slice client, struct slice record)
{
    shard_sum_add(context, client, record);
}

void kv_piece_sum_sessions(const struct session_table *sessions, struct shard_sum *sum)
{
    *sum = (struct shard_sum){0};
    session_table_each(sessions, add_session, sum);
}

void kv_piece_end_encode(const struct kv_piece_source *source, uint32_t frozen_ms,
                         struct slice entries, struct buf *out)
{
    struct shard_sum sessions;

    ASSERT(source->shard->state == SHARD_FROZEN && source->shard->outgoing.is_swept);
    kv_piece_sum_sessions(source->sessions, &sessions);
    buf_put_u8(out, PIECE_FORMAT);
    shard_sum_encode(&source->shard->outgoing.records, out);
    shard_sum_encode(&sessions, out);
    buf_put_u64(out, source->shard->epoch);
    buf_put_u64(out, session_floor(source->sessions));
    buf_put_u64(out, source->version);
    buf_put_u32(out, frozen_ms);
    buf_put_slice(out, entries);
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
    end->frozen_ms = reader_u32(&reader);
    end->entries = reader_take(&reader, reader_left(&reader));
    return reader_ok(&reader) && format == PIECE_FORMAT && kv_piece_body_is_valid(end->entries);
}

/* ---- Bodies ---- */

bool kv_entry_next(struct reader *body, struct kv_entry *entry)
{
    uint8_t what;

    if (reader_left(body) == 0 || !reader_ok(body)) {
        return false;
    }
    what = reader_u8(body);
    entry->what = (enum kv_entry_what)what;
    entry->key = reader_bytes(body, KV_MAX_KEY);
    entry->value = slice_of(NULL, 0);
    if (entry->key.len == 0 || what < KV_ENTRY_RECORD || what > KV_ENTRY_SESSION_REMOVED) {
        body->bad = true;
    } else if (what != KV_ENTRY_REMOVED && what != KV_ENTRY_SESSION_REMOVED) {
        entry->value = reader_bytes(body, MAX_RECORD_BYTES);
    }
    return reader_ok(body);
}

static bool entry_is_valid(const struct kv_entry *entry)
{
    struct kv_record record;

    switch (entry->what) {
    case KV_ENTRY_RECORD:
    case KV_ENTRY_CHANGED:
        return kv_record_decode(entry->value, &record) == ST_OK;
    case KV_ENTRY_SESSION:
    case KV_ENTRY_SESSION_REMOVED:
        return entry->key.len == CLIENT_ID_BYTES && entry->value.len <= MAX_SESSION_BYTES;
    case KV_ENTRY_REMOVED:
        return true;
    }
    return false;
}

bool kv_piece_body_is_valid(struct slice body)
{
    struct reader reader = reader_of(body);
    struct kv_entry entry;

    while (kv_entry_next(&reader, &entry)) {
        if (!entry_is_valid(&entry)) {
            return false;
        }
    }
    return reader_done(&reader);
}
