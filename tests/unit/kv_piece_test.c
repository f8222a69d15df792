/* Copies of a shard in pieces: from any cursor, of any size, at any replica; sweeps, the change log
 * and rounds step by step. */
#include "tests/unit/kv_copy_story.h"

/* ---- A frozen shard ---- */

/* The whole shard as text, read in pieces of that size from cursor to cursor. */
static size_t read_all(struct cluster *cluster, size_t replica, uint32_t piece_bytes,
                       struct buf *entries)
{
    struct kv_piece_source source = kv_sm_piece_source(cluster->groups[A].replicas[replica].sm, S);
    struct buf cursor = {0};
    bool is_all = false;
    size_t n = 0;

    for (; !is_all; n++) {
        struct kv_piece piece;

        assert_true(n < 1000);
        assert_int_equal(kv_piece_needs(&source, buf_slice(&cursor)), KV_PIECE_READ);
        assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), piece_bytes, &piece), ST_OK);
        buf_fini(&cursor);
        assert_true(kv_piece_body_is_valid(buf_slice(&piece.body)));
        assert_true(piece.body.len <= piece_bytes || piece_bytes < 300);
        buf_put_slice(entries, buf_slice(&piece.body));
        is_all = piece.is_all;
        cursor = buf_take(&piece.cursor);
        kv_piece_fini(&piece);
    }
    buf_fini(&cursor);
    return n;
}

static void any_size_of_piece_and_any_replica_gives_the_same_shard(void **state)
{
    struct cluster cluster;
    struct buf expected = {0};

    (void)state;
    freeze_with_data(&cluster);
    assert_int_equal(read_all(&cluster, 0, PROTO_MAX_CHUNK, &expected), 1);
    assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.records.count, 13);
    for (uint32_t size = 1; size < 2000; size += 7) {
        struct buf entries = {0};

        read_all(&cluster, size % 2, size, &entries);
        assert_true(slice_equal(buf_slice(&entries), buf_slice(&expected)));
        buf_fini(&entries);
    }
    buf_fini(&expected);
    settle(&cluster);
    check_data(&cluster, B, S);
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
        struct slice cut = slice_of(cursor.data, len);

        assert_int_equal(kv_piece_read(&source, cut, 100, &piece), ST_INVALID);
        assert_int_equal(kv_piece_needs(&source, cut), KV_PIECE_INVALID);
    }
    cursor.data[0]++;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    assert_int_equal(kv_piece_needs(&source, buf_slice(&cursor)), KV_PIECE_INVALID);
    cursor.data[0]--;
    cursor.data[1] = 9;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    cursor.data[1] = 0;
    assert_int_equal(kv_piece_read(&source, buf_slice(&cursor), 100, &piece), ST_INVALID);
    buf_fini(&cursor);
    cluster_fini(&cluster);
}

static void an_end_that_is_cut_or_longer_is_none(void **state)
{
    struct cluster cluster;
    struct kv_piece_source source;
    struct kv_piece_end end;
    struct buf body = {0}, whole = {0};

    (void)state;
    freeze_with_data(&cluster);
    source = kv_sm_piece_source(sm_of(&cluster, A), S);
    kv_piece_end_encode(&source, 7, slice_of(NULL, 0), &body);
    assert_true(kv_piece_end_decode(buf_slice(&body), &end));
    assert_int_equal(end.frozen_ms, 7);
    assert_int_equal(end.records.count, 13);
    assert_int_equal(end.sessions.count, 4);
    assert_int_equal(end.version, 13);
    assert_int_equal(end.epoch, 1);
    assert_int_equal(end.entries.len, 0);
    for (size_t len = 0; len < body.len; len++) {
        assert_false(kv_piece_end_decode(slice_of(body.data, len), &end));
    }
    buf_put_slice(&whole, buf_slice(&body));
    buf_put_u8(&whole, KV_ENTRY_REMOVED);
    assert_false(kv_piece_end_decode(buf_slice(&whole), &end));
    buf_put_bytes(&whole, slice_text("key"));
    assert_true(kv_piece_end_decode(buf_slice(&whole), &end));
    buf_fini(&body);
    buf_fini(&whole);
    cluster_fini(&cluster);
}

/* ---- Step by step ---- */

static unsigned n_applied(const struct cluster *cluster, enum kv_command_kind kind)
{
    unsigned n = 0;

    for (size_t i = 0; i < cluster->n_history; i++) {
        struct kv_command command;

        assert_int_equal(kv_command_decode(buf_slice(&cluster->history[i].bytes), &command), ST_OK);
        n += command.kind == kind;
    }
    return n;
}

static void a_shard_that_fits_in_one_piece_goes_over_with_one(void **state)
{
    struct cluster cluster;

    (void)state;
    begin_move(&cluster, 100);
    cluster.piece_bytes = 1u << 20;
    settle(&cluster);
    check_data(&cluster, B, S);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_COPY_BEGIN), 1);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_SWEEP), 0);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_FREEZE), 1);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_CHUNK), 0);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_INSTALL), 1);
    cluster_fini(&cluster);
}

static void an_empty_shard_is_only_an_end(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    give(&cluster, S, B);
    settle(&cluster);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_SWEEP), 0);
    assert_int_equal(n_applied(&cluster, KV_COMMAND_CHUNK), 0);
    assert_int_equal(write_to(&cluster, B, 1, 1, KV_PUT, key_in(&cluster, S, 0), "v"), ST_OK);
    cluster_fini(&cluster);
}

/* What is left to send never depends on how often something is written. */
static void a_hot_key_is_noted_once(void **state)
{
    struct cluster cluster;
    struct buf before, after;

    (void)state;
    begin_move(&cluster, 100);
    cluster.piece_bytes = 1u << 20;
    assert_true(step(&cluster)); /* COPY_BEGIN, and all is swept */
    assert_true(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.is_swept);
    assert_int_equal(change_log_entries(&cluster), 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        assert_int_equal(write_to(&cluster, A, 7, i, KV_APPEND, key_in(&cluster, S, 3), "x"),
                         ST_OK);
    }
    assert_int_equal(change_log_entries(&cluster), 2); /* the key and its client */
    assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.n_noted, 2000);
    while (kv_sm_shard(sm_of(&cluster, A), S)->state != SHARD_FROZEN) {
        assert_true(step(&cluster));
    }
    before = dump(&cluster, A);
    settle(&cluster);
    after = dump(&cluster, B);
    assert_true(slice_equal(buf_slice(&before), buf_slice(&after)));
    buf_fini(&before);
    buf_fini(&after);
    cluster_fini(&cluster);
}

static void only_what_is_swept_is_noted(void **state)
{
    struct cluster cluster;
    char first[32], last[32];

    (void)state;
    begin_move(&cluster, 100);
    ordered_key(&cluster, 0, first);
    ordered_key(&cluster, 12, last);
    cluster.piece_bytes = 150;
    assert_true(step(&cluster)); /* COPY_BEGIN, and a first part is swept */
    assert_false(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.is_swept);
    assert_int_equal(write_to(&cluster, A, 7, 1, KV_DELETE, last, ""), ST_OK);
    assert_int_equal(change_log_entries(&cluster), 1); /* the client: sessions are not swept */
    assert_int_equal(write_to(&cluster, A, 7, 2, KV_DELETE, first, ""), ST_OK);
    assert_int_equal(change_log_entries(&cluster), 2);
    check_sum(&cluster);
    settle(&cluster);
    assert_value(&cluster, B, first, NULL);
    assert_value(&cluster, B, last, NULL);
    assert_int_equal(kv_sm_version(sm_of(&cluster, B), S), 15);
    cluster_fini(&cluster);
}

/* One piece a sweep: each ends where the sweep does, and the next begins there. */
static void a_piece_may_end_where_the_sweep_does(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes < 600; bytes += 3) {
        struct cluster cluster;

        begin_move(&cluster, 100);
        cluster.piece_bytes = bytes;
        assert_true(step(&cluster));
        while (!kv_sm_shard(sm_of(&cluster, A), S)->outgoing.is_swept) {
            struct kv_piece_source source = kv_sm_piece_source(sm_of(&cluster, A), S);
            const struct shard_copy *copy = &kv_sm_shard(sm_of(&cluster, B), S)->copy;

            /* Pieces have room for all that is swept, so they alternate with the sweeps. */
            cluster.piece_bytes = 100000;
            assert_int_equal(kv_piece_needs(&source, buf_slice(&copy->cursor)), KV_PIECE_READ);
            assert_true(step(&cluster));
            assert_int_equal(kv_piece_needs(&source, buf_slice(&copy->cursor)), KV_PIECE_SWEEP);
            cluster.piece_bytes = bytes;
            assert_true(step(&cluster));
        }
        settle(&cluster);
        check_data(&cluster, B, S);
        cluster_fini(&cluster);
    }
}

/* ---- Rounds ---- */

#define MANY 400 /* changes, more than go along with an END */

static void change_many(struct cluster *cluster, uint64_t seq)
{
    for (unsigned n = 0; n < MANY; n++) {
        assert_int_equal(
            write_to(cluster, A, 9, seq * MANY + n + 1, KV_PUT, key_in(cluster, S, 100 + n), "v"),
            ST_OK);
    }
}

static enum kv_piece_need need(struct cluster *cluster)
{
    struct kv_piece_source source = kv_sm_piece_source(sm_of(cluster, A), S);

    return kv_piece_needs(&source, buf_slice(&kv_sm_shard(sm_of(cluster, B), S)->copy.cursor));
}

static bool is_in_rounds(struct cluster *cluster)
{
    return kv_piece_is_in_rounds(buf_slice(&kv_sm_shard(sm_of(cluster, B), S)->copy.cursor));
}

static void it_is_frozen_when_few_changes_are_left(void **state)
{
    struct cluster cluster;
    unsigned n = 0;

    (void)state;
    begin_move(&cluster, 100);
    while (!is_in_rounds(&cluster)) {
        assert_true(step(&cluster));
    }
    assert_int_equal(need(&cluster), KV_PIECE_FREEZE);
    for (; need(&cluster) == KV_PIECE_FREEZE; n++) {
        assert_int_equal(write_to(&cluster, A, 9, n + 1, KV_PUT, key_in(&cluster, S, n), "v"),
                         ST_OK);
    }
    assert_true(n > 10 && n < 200);
    assert_int_equal(need(&cluster), KV_PIECE_READ);
    cluster.piece_bytes = 100000;
    assert_true(step(&cluster)); /* one round, and nothing is left */
    assert_int_equal(need(&cluster), KV_PIECE_FREEZE);
    settle(&cluster);
    cluster_fini(&cluster);
}

/* Writes that never end do not keep a shard for ever. */
static void it_is_frozen_after_so_many_rounds(void **state)
{
    struct cluster cluster;
    unsigned rounds = 0;

    (void)state;
    begin_move(&cluster, 100);
    while (!is_in_rounds(&cluster)) {
        assert_true(step(&cluster));
    }
    cluster.piece_bytes = 1u << 20;
    change_many(&cluster, 0);
    while (need(&cluster) != KV_PIECE_FREEZE) {
        assert_int_equal(need(&cluster), KV_PIECE_READ);
        assert_true(step(&cluster));
        rounds++;
        change_many(&cluster, rounds);
        assert_true(rounds < 100);
    }
    assert_true(rounds > 10);
    settle(&cluster);
    assert_value(&cluster, B, key_in(&cluster, S, 100), "v");
    cluster_fini(&cluster);
}

/* A value of more than may travel while the shard is frozen. */
static void write_large(struct cluster *cluster, uint64_t seq)
{
    char *value = mem_zalloc(KV_PIECE_FROZEN_BYTES + 1);

    memset(value, 'v', KV_PIECE_FROZEN_BYTES);
    assert_int_equal(write_to(cluster, A, 9, seq, KV_PUT, key_in(cluster, S, 100), value), ST_OK);
    mem_free(value);
}

/* One change of many bytes is sent while the shard is served; but not for ever. */
static void it_is_not_frozen_while_many_bytes_are_left(void **state)
{
    struct cluster cluster;
    unsigned rounds = 0;

    (void)state;
    begin_move(&cluster, 100);
    while (!is_in_rounds(&cluster)) {
        assert_true(step(&cluster));
    }
    cluster.piece_bytes = 1u << 20;
    assert_int_equal(need(&cluster), KV_PIECE_FREEZE);
    write_large(&cluster, 1);
    assert_int_equal(need(&cluster), KV_PIECE_READ);
    assert_true(step(&cluster));
    assert_int_equal(need(&cluster), KV_PIECE_FREEZE);
    write_large(&cluster, 2);
    while (need(&cluster) != KV_PIECE_FREEZE) {
        assert_true(step(&cluster));
        write_large(&cluster, ++rounds + 2);
        assert_true(rounds < 100);
    }
    assert_true(rounds > 10);
    settle(&cluster);
    cluster_fini(&cluster);
}

/* A round is as many pieces as it takes: what changed during a long base is no reason to freeze
 * before most of it is there. */
static void a_round_of_many_pieces_is_one_round(void **state)
{
    struct cluster cluster;
    uint64_t pieces;

    (void)state;
    begin_move(&cluster, 100);
    while (!is_in_rounds(&cluster)) {
        assert_true(step(&cluster));
    }
    change_many(&cluster, 0);
    pieces = kv_sm_shard(sm_of(&cluster, B), S)->copy.next_piece;
    cluster.piece_bytes = 60; /* an entry each */
    while (need(&cluster) != KV_PIECE_FREEZE) {
        assert_true(step(&cluster));
    }
    assert_true(kv_sm_shard(sm_of(&cluster, B), S)->copy.next_piece - pieces > MANY / 2);
    settle(&cluster);
    assert_value(&cluster, B, key_in(&cluster, S, 100), "v");
    cluster_fini(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_size_of_piece_and_any_replica_gives_the_same_shard),
        cmocka_unit_test(a_cursor_that_is_none_is_refused),
        cmocka_unit_test(an_end_that_is_cut_or_longer_is_none),
        cmocka_unit_test(a_shard_that_fits_in_one_piece_goes_over_with_one),
        cmocka_unit_test(an_empty_shard_is_only_an_end),
        cmocka_unit_test(a_hot_key_is_noted_once),
        cmocka_unit_test(only_what_is_swept_is_noted),
        cmocka_unit_test(a_piece_may_end_where_the_sweep_does),
        cmocka_unit_test(it_is_frozen_when_few_changes_are_left),
        cmocka_unit_test(it_is_frozen_after_so_many_rounds),
        cmocka_unit_test(it_is_not_frozen_while_many_bytes_are_left),
        cmocka_unit_test(a_round_of_many_pieces_is_one_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
