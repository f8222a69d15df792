/* A frozen shard in pieces: from any cursor, of any size, at any replica; and what becomes of a
 * copy that is not what was sent. */
#include "tests/unit/kv_twins.h"

/* The whole shard as text, read in pieces of that size from cursor to cursor. */
static void read_all(struct cluster *cluster, size_t replica, uint32_t piece_bytes,
                     struct buf *entries, struct kv_piece_end *end, struct buf *memory)
{
    struct kv_piece_source source = kv_sm_piece_source(cluster->groups[A].replicas[replica].sm, S);
    struct buf cursor = {0};

    for (int i = 0; i < 1000; i++) {
        struct kv_piece piece;

        assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), piece_bytes, &piece), ST_OK);
        buf_fini(&cursor);
        if (piece.kind == PROTO_PIECE_END) {
            buf_put_slice(memory, buf_slice(&piece.body));
            assert_true(kv_piece_end_decode(buf_slice(memory), end));
            assert_int_equal(piece.cursor.len, 0);
            kv_piece_fini(&piece);
            return;
        }
        assert_true(kv_piece_body_is_valid((uint8_t)piece.kind, buf_slice(&piece.body)));
        assert_true(piece.body.len <= piece_bytes || piece_bytes < 300);
        buf_put_slice(entries, buf_slice(&piece.body));
        cursor = buf_take(&piece.cursor);
        kv_piece_fini(&piece);
    }
    fail();
}

static void any_size_of_piece_and_any_replica_gives_the_same_shard(void **state)
{
    struct cluster cluster;
    struct buf expected = {0}, memory = {0};
    struct kv_piece_end first, end;

    (void)state;
    freeze_with_data(&cluster);
    read_all(&cluster, 0, PROTO_MAX_CHUNK, &expected, &first, &memory);
    assert_int_equal(first.records.count, 13);
    assert_int_equal(first.sessions.count, 4);
    assert_int_equal(first.version, 13);
    for (uint32_t size = 1; size < 2000; size += 7) {
        struct buf entries = {0}, end_memory = {0};

        read_all(&cluster, size % 2, size, &entries, &end, &end_memory);
        assert_true(slice_equal(buf_slice(&entries), buf_slice(&expected)));
        assert_true(shard_sum_equal(&first.records, &end.records));
        assert_true(shard_sum_equal(&first.sessions, &end.sessions));
        buf_fini(&entries);
        buf_fini(&end_memory);
    }
    buf_fini(&expected);
    buf_fini(&memory);
    cluster_fini(&cluster);
}

static void a_cursor_that_is_none_is_refused(void **state)
{
    struct cluster cluster;
    struct kv_piece_source source;
    struct kv_piece piece;
    struct buf cursor = {0};

    (void)state;
    freeze_with_data(&cluster);
    source = kv_sm_piece_source(sm_of(&cluster, A), S);
    assert_int_equal(kv_piece_read(&source, slice_of(NULL, 0), 100, &piece), ST_OK);
    cursor = buf_take(&piece.cursor);
    kv_piece_fini(&piece);
    for (size_t len = 1; len < cursor.len; len++) {
        assert_int_equal(kv_piece_read(&source, slice_of(cursor.data, len), 100, &piece),
                         ST_INVALID);
    }
    cursor.data[0]++;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    cursor.data[0]--;
    cursor.data[1] = 9;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    buf_fini(&cursor);
    cluster_fini(&cluster);
}

static void an_empty_shard_is_only_an_end(void **state)
{
    struct cluster cluster;
    struct kv_command freeze = {.kind = KV_COMMAND_FREEZE, .shard = S, .num = 2};
    struct kv_piece_source source;
    struct kv_piece piece;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S, B);
    assert_int_equal(apply(&cluster, A, &freeze), ST_OK);
    source = kv_sm_piece_source(sm_of(&cluster, A), S);
    assert_int_equal(kv_piece_read(&source, slice_of(NULL, 0), 100, &piece), ST_OK);
    assert_int_equal(piece.kind, PROTO_PIECE_END);
    kv_piece_fini(&piece);
    settle(&cluster);
    assert_int_equal(write_to(&cluster, B, 1, 1, KV_PUT, key_in(&cluster, S, 0), "v"), ST_OK);
    cluster_fini(&cluster);
}

/* ---- Copies that are not what was sent ---- */

/* The command that was applied last; its slices point into the history. */
static struct kv_command decode_last(struct cluster *cluster)
{
    struct applied *last = &cluster->history[cluster->n_history - 1];
    struct kv_command command;

    assert_int_equal(kv_command_decode(buf_slice(&last->bytes), &command), ST_OK);
    return command;
}

static void a_copy_that_lost_an_entry_is_thrown_away_and_copied_again(void **state)
{
    struct cluster cluster;
    struct kv_command command, damaged;
    uint64_t range;

    (void)state;
    freeze_with_data(&cluster);
    cluster.piece_bytes = 500;
    assert_true(step(&cluster)); /* the first piece */
    command = decode_last(&cluster);
    assert_int_equal(command.kind, KV_COMMAND_CHUNK);
    /* A second copy begins anew, and its first piece lacks everything but the first entry. */
    damaged = command;
    damaged.chunk.copy_id = 999;
    damaged.chunk.body.len = 4 + get_u32(command.chunk.body.data);
    damaged.chunk.body.len += 4 + get_u32(command.chunk.body.data + damaged.chunk.body.len);
    assert_true(damaged.chunk.body.len < command.chunk.body.len);
    assert_int_equal(apply(&cluster, B, &damaged), ST_OK);
    range = kv_sm_shard(sm_of(&cluster, B), S)->copy.range;
    while (kv_sm_shard(sm_of(&cluster, B), S)->copy.copy_id == 999) {
        struct kv_sm *taker = sm_of(&cluster, B);
        const struct shard_copy *copy = &kv_sm_shard(taker, S)->copy;
        struct kv_piece_source source = kv_sm_piece_source(sm_of(&cluster, A), S);
        struct kv_piece_end end;
        struct kv_piece piece;

        assert_int_equal(kv_piece_read(&source, buf_slice(&copy->cursor), 1000, &piece), ST_OK);
        command = (struct kv_command){.shard = S, .num = 2};
        if (piece.kind == PROTO_PIECE_END) {
            assert_true(kv_piece_end_decode(buf_slice(&piece.body), &end));
            command.kind = KV_COMMAND_INSTALL;
            command.install.end =
                (struct shard_end){999, copy->next_piece, end.records, end.sessions, end.epoch};
            assert_int_equal(apply(&cluster, B, &command), ST_CORRUPT);
        } else {
            command.kind = KV_COMMAND_CHUNK;
            command.chunk.copy_id = 999;
            command.chunk.piece = copy->next_piece;
            command.chunk.kind = (uint8_t)piece.kind;
            command.chunk.body = buf_slice(&piece.body);
            command.chunk.cursor = buf_slice(&piece.cursor);
            assert_int_equal(apply(&cluster, B, &command), ST_OK);
        }
        kv_piece_fini(&piece);
    }
    assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->state, SHARD_ABSENT);
    settle(&cluster);
    assert_true(kv_sm_shard(sm_of(&cluster, B), S)->range > range);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

static void a_malformed_piece_changes_nothing(void **state)
{
    struct cluster cluster;
    struct kv_command command;
    uint64_t before;

    (void)state;
    freeze_with_data(&cluster);
    assert_true(step(&cluster));
    command = decode_last(&cluster);
    before = group_sum(&cluster, B);
    command.chunk.piece = 1;
    command.chunk.body.len--;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.chunk.body.len = 0;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.chunk.kind = PROTO_PIECE_END;
    assert_int_equal(apply(&cluster, B, &command), ST_MALFORMED);
    command.shard = TWINS_SHARDS;
    assert_int_equal(apply(&cluster, B, &command), ST_INVALID);
    assert_true(group_sum(&cluster, B) == before);
    settle(&cluster);
    check_data(&cluster, B, S);
    cluster_fini(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_size_of_piece_and_any_replica_gives_the_same_shard),
        cmocka_unit_test(a_cursor_that_is_none_is_refused),
        cmocka_unit_test(an_empty_shard_is_only_an_end),
        cmocka_unit_test(a_copy_that_lost_an_entry_is_thrown_away_and_copied_again),
        cmocka_unit_test(a_malformed_piece_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
