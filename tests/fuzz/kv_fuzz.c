/* The bytes of a shard group: commands and their results, a shard's life, pieces of a copy,
 * records; and cursors, which takers hand back, read against shards of which a copy goes out. The
 * first byte says which. What is taken encodes to the same bytes. */
#include "shardkv/kv_command.h"
#include "shardkv/kv_ops.h"
#include "shardkv/kv_piece.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/kv_copy_story.h"

static void fuzz_command(struct slice bytes)
{
    struct kv_command command;
    struct buf again = {0};

    memset(&command, 0, sizeof(command));
    if (kv_command_decode(bytes, &command) == ST_OK) {
        kv_command_encode(&command, &again);
        ASSERT(slice_equal(bytes, buf_slice(&again)));
        buf_fini(&again);
    }
}

static void fuzz_result(struct slice bytes)
{
    struct kv_command_result outcome;
    struct buf again = {0};

    if (kv_command_result_decode(bytes, &outcome)) {
        kv_command_result_encode(&outcome, &again);
        ASSERT(slice_equal(bytes, buf_slice(&again)));
        buf_fini(&again);
    }
}

static void fuzz_shard(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct shard shard;
    struct buf again = {0};

    if (!shard_decode(&reader, &shard)) {
        ASSERT(shard.queue == NULL && shard.releases == NULL && shard.copy.cursor.data == NULL &&
               shard.outgoing.swept.data == NULL);
        return;
    }
    ASSERT(shard_is_consistent(&shard));
    shard_encode(&shard, &again);
    ASSERT(slice_equal(slice_of(bytes.data, bytes.len - reader_left(&reader)), buf_slice(&again)));
    shard_is_held_at_end(&shard);
    shard_is_settled(&shard);
    shard_fini(&shard);
    buf_fini(&again);
}

static void put_entry(const struct kv_entry *entry, struct buf *out)
{
    buf_put_u8(out, (uint8_t)entry->what);
    buf_put_bytes(out, entry->key);
    if (entry->what != KV_ENTRY_REMOVED && entry->what != KV_ENTRY_SESSION_REMOVED) {
        buf_put_bytes(out, entry->value);
    }
}

static void fuzz_body(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct kv_entry entry;
    struct buf again = {0};
    bool valid = kv_piece_body_is_valid(bytes);

    while (kv_entry_next(&reader, &entry)) {
        put_entry(&entry, &again);
        ASSERT(
            slice_equal(slice_of(bytes.data, bytes.len - reader_left(&reader)), buf_slice(&again)));
    }
    ASSERT(!valid || reader_done(&reader));
    buf_fini(&again);
}

static void fuzz_end(struct slice bytes)
{
    struct kv_piece_end end;

    if (kv_piece_end_decode(bytes, &end)) {
        ASSERT(kv_piece_body_is_valid(end.entries));
        ASSERT(end.entries.len < bytes.len);
    }
}

static void fuzz_record(struct slice bytes)
{
    struct kv_record record;
    struct buf again = {0};

    if (kv_record_decode(bytes, &record) == ST_OK) {
        kv_record_put_header(&again, record.version);
        buf_put_slice(&again, record.value);
        ASSERT(slice_equal(bytes, buf_slice(&again)));
        buf_fini(&again);
    }
}

/* Two sources: one frozen, one that serves and has swept a part. */
static void fuzz_cursor(struct slice bytes)
{
    static struct cluster *frozen, *serving;
    struct script script = script_of(bytes.data, bytes.len);
    struct kv_piece_source source;
    uint32_t max_bytes;
    struct kv_piece piece;
    struct slice cursor;

    if (frozen == NULL) {
        frozen = mem_zalloc(sizeof(*frozen));
        serving = mem_zalloc(sizeof(*serving));
        freeze_with_data(frozen);
        begin_move(serving, 100);
        serving->piece_bytes = 64;
        apply_copy_step(serving, A, S, 2, KV_COMMAND_COPY_BEGIN, wanted_copy(serving, B, S));
    }
    source = kv_sm_piece_source(sm_of(fuzz_u8(&script) % 2 == 0 ? frozen : serving, A), S);
    max_bytes = fuzz_u32(&script);
    cursor = fuzz_rest(&script);
    kv_piece_is_in_rounds(cursor);
    if (kv_piece_needs(&source, cursor) != KV_PIECE_READ) {
        return;
    }
    ASSERT(kv_piece_read(&source, cursor, max_bytes, &piece) == ST_OK);
    ASSERT(kv_piece_body_is_valid(buf_slice(&piece.body)));
    ASSERT(kv_piece_needs(&source, buf_slice(&piece.cursor)) != KV_PIECE_INVALID);
    ASSERT(piece.cursor.len <= SHARD_MAX_CURSOR);
    kv_piece_fini(&piece);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct slice bytes) = {
        fuzz_command, fuzz_result, fuzz_shard, fuzz_body, fuzz_end, fuzz_record, fuzz_cursor};
    struct script script = script_of(data, size);
    uint32_t which = fuzz_below(&script, sizeof(targets) / sizeof(targets[0]));

    targets[which](fuzz_rest(&script));
    return 0;
}
