/* Installing snapshots: the stream of one store becomes the state of another, through interruptions
 * at every chunk, chunks of other snapshots, damage and crashes. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/unit/state_stream.h"

static void a_stream_becomes_the_state_of_another_store(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    expect_old(&pair.target); /* what was read is cached, and goes with its state */
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    kit_expect(&pair.target, 4, "old", NULL);

    /* It is durable at once, ahead of what the log knows, and goes on being a state. */
    kit_close(&pair.target);
    assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
    assert_int_equal(pair.target.meta.index, 100);
    assert_int_equal(pair.target.meta.term, 3);
    assert_int_equal(pair.target.meta.checkpoint, 2);
    assert_true(slice_equal(buf_slice(&pair.target.meta.extra), slice_text("extra")));
    expect_source(&pair.target, "first");
    kit_put(&pair.target, 5, "more", "later");
    assert_int_equal(kit_checkpoint(&pair.target, 120, (uint64_t[]){5, 9}, 2), 3);
    kit_close(&pair.target);
    assert_int_equal(kit_try_open(&pair.target, 3, 120), ST_OK);
    kit_expect(&pair.target, 5, "more", "later");
    assert_int_equal(count_databases(&pair.target), 1);
    pair_fini(&pair);
}

/* Cut off after every chunk in turn, by a crash: the old state stands, and the transfer goes on
 * where it was. */
static void goes_on_after_a_crash_at_every_chunk(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    for (size_t i = 0; i + 1 < pair.stream.n; i++) {
        send_chunk(&pair.target, &pair.stream, i, chunk_end(&pair.stream, i), ST_OK);
        expect_old(&pair.target);
        kit_close(&pair.target);
        assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
        assert_int_equal(pair.target.meta.index, 10);
        expect_old(&pair.target);
        /* The sender does not know and repeats an earlier one: told where to go on. */
        send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, i), ST_OK);
    }
    send_last(&pair.target, &pair.stream, ST_OK);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

static void a_chunk_out_of_turn_changes_nothing(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    send_chunk(&pair.target, &pair.stream, 1, 0, ST_OK);
    send_chunk(&pair.target, &pair.stream, pair.stream.n - 1, 0, ST_OK);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    send_chunk(&pair.target, &pair.stream, 2, chunk_end(&pair.stream, 0), ST_OK);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    send_from(&pair.target, &pair.stream, 1);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

/* The header is in the first chunk: one with nothing in it is damage, not a beginning. */
static void an_empty_first_chunk_is_refused(void **state)
{
    struct pair pair;
    struct kit_event *event;

    (void)state;
    pair_init(&pair);
    pair.target.io->ops->install_chunk(pair.target.io, 100, 3, 0, slice_of(NULL, 0), false);
    event = kit_wait(&pair.target, IO_EVENT_INSTALL_CHUNK);
    assert_int_equal(event->event.install.status, ST_CORRUPT);
    assert_int_equal(event->event.install.offset, 0);
    kit_free_event(&event);
    expect_old(&pair.target);
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

static void another_snapshot_begins_anew(void **state)
{
    struct pair pair;
    struct stream newer;
    struct kit_event *event;

    (void)state;
    pair_init(&pair);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    send_chunk(&pair.target, &pair.stream, 1, chunk_end(&pair.stream, 1), ST_OK);
    fill_source(&pair.source, 200, "second");
    stream_read(&newer, &pair.source, CHUNK);
    for (size_t i = 0; i < newer.n; i++) {
        pair.target.io->ops->install_chunk(pair.target.io, 200, 3, newer.offsets[i],
                                           buf_slice(&newer.chunks[i]), i + 1 == newer.n);
        event =
            kit_wait(&pair.target, i + 1 == newer.n ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK);
        assert_int_equal(event->event.install.status, ST_OK);
        kit_free_event(&event);
    }
    expect_source(&pair.target, "second");
    /* The older one is refused now: a follower never goes back. */
    send_chunk(&pair.target, &pair.stream, 0, 0, ST_CONFLICT);
    expect_source(&pair.target, "second");
    stream_fini(&newer);
    pair_fini(&pair);
}

static void an_unfinished_one_goes_when_the_state_has_passed_it(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    send_chunk(&pair.target, &pair.stream, 0, chunk_end(&pair.stream, 0), ST_OK);
    assert_int_equal(count_databases(&pair.target), 2);
    kit_checkpoint(&pair.target, 150, NULL, 0);
    assert_int_equal(count_databases(&pair.target), 1);
    send_chunk(&pair.target, &pair.stream, 1, 0, ST_CONFLICT);
    pair_fini(&pair);
}

/* One flipped bit anywhere is noticed at the latest at the end; the old state stands, also after a
 * restart, and a good transfer then succeeds. */
static void a_damaged_stream_is_refused_and_the_old_state_stands(void **state)
{
    struct pair pair;
    struct rng rng;

    (void)state;
    pair_init(&pair);
    rng_init(&rng, 11);
    for (int round = 0; round < 60; round++) {
        size_t victim = rng_below(&rng, pair.stream.n);
        size_t byte = rng_below(&rng, pair.stream.chunks[victim].len);
        uint8_t bit = (uint8_t)(1u << rng_below(&rng, 8));
        bool refused = false;

        pair.stream.chunks[victim].data[byte] ^= bit;
        for (size_t i = 0; i < pair.stream.n && !refused; i++) {
            struct kit_event *event = NULL;

            pair.target.io->ops->install_chunk(pair.target.io, 100, 3, pair.stream.offsets[i],
                                               buf_slice(&pair.stream.chunks[i]),
                                               i + 1 == pair.stream.n);
            while (event == NULL) {
                assert_true(kit_pump(&pair.target, KIT_PATIENCE_S));
                event = kit_take_event(&pair.target);
            }
            refused = event->event.install.status == ST_CORRUPT;
            assert_true(refused || event->event.install.status == ST_OK);
            assert_true(refused || event->event.type == IO_EVENT_INSTALL_CHUNK);
            assert_true(!refused || i >= victim);
            kit_free_event(&event);
        }
        assert_true(refused);
        pair.stream.chunks[victim].data[byte] ^= bit;
        expect_old(&pair.target);
        assert_int_equal(count_databases(&pair.target), 1);
        if (round % 20 == 0) {
            kit_close(&pair.target);
            assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
            expect_old(&pair.target);
        }
    }
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

/* Runs "verb from to". */
static void run(const char *verb, const char *from, const char *to)
{
    char command[300];

    snprintf(command, sizeof(command), "%s %s %s", verb, from, to);
    assert_int_equal(system(command), 0);
}

/* A crash when the new database was complete, but CURRENT not yet switched: the old state, and the
 * new database is of no use any more. */
static void a_crash_before_the_switch_leaves_the_old_state(void **state)
{
    struct pair pair;
    char kept[100], from[120], to[120];

    (void)state;
    pair_init(&pair);
    for (size_t i = 0; i + 1 < pair.stream.n; i++) {
        send_chunk(&pair.target, &pair.stream, i, chunk_end(&pair.stream, i), ST_OK);
    }
    kit_close(&pair.target);
    snprintf(kept, sizeof(kept), "%s.kept", pair.target.state);
    run("cp -r", pair.target.state, kept);
    kit_open(&pair.target);
    send_last(&pair.target, &pair.stream, ST_OK);
    kit_close(&pair.target);
    snprintf(from, sizeof(from), "%s/db-2", pair.target.state);
    snprintf(to, sizeof(to), "%s/db-2", kept);
    run("rm -r", to, "");
    run("mv", from, to);
    run("rm -r", pair.target.state, "");
    run("mv", kept, pair.target.state);
    assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
    assert_int_equal(pair.target.meta.index, 10);
    expect_old(&pair.target);
    /* The transfer begins anew. */
    send_chunk(&pair.target, &pair.stream, 3, 0, ST_OK);
    assert_int_equal(count_databases(&pair.target), 1);
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

/* What a crash right after the switch leaves: the old database, and odds and ends. */
static void left_overs_of_a_crash_after_the_switch_are_removed(void **state)
{
    struct pair pair;
    char path[120], from[120];

    (void)state;
    pair_init(&pair);
    send_from(&pair.target, &pair.stream, 0);
    kit_close(&pair.target);
    snprintf(path, sizeof(path), "%s/CURRENT.tmp", pair.target.state);
    close(open(path, O_WRONLY | O_CREAT, 0600));
    snprintf(path, sizeof(path), "%s/db-1", pair.target.state);
    snprintf(from, sizeof(from), "%s/db-2", pair.target.state);
    run("cp -r", from, path);
    snprintf(path, sizeof(path), "%s/db-9", pair.target.state);
    assert_int_equal(mkdir(path, 0700), 0);
    kit_open(&pair.target);
    expect_source(&pair.target, "first");
    kit_checkpoint(&pair.target, 200, NULL, 0); /* queued behind the cleaning up */
    assert_int_equal(count_databases(&pair.target), 1);
    pair_fini(&pair);
}

static void an_open_snapshot_outlives_an_install(void **state)
{
    struct pair pair;
    struct io_snapshot snapshot;
    struct kit_event *event;
    size_t first;

    (void)state;
    pair_init(&pair);
    pair.target.io->ops->snapshot_open(pair.target.io, &snapshot);
    event = kit_read_chunk(&pair.target, snapshot.id, 0, 1);
    first = event->event.snapshot.data.len;
    kit_free_event(&event);
    send_from(&pair.target, &pair.stream, 0);
    expect_source(&pair.target, "first");
    event = kit_read_chunk(&pair.target, snapshot.id, first, 1000);
    assert_int_equal(event->event.snapshot.status, ST_OK);
    assert_true(event->event.snapshot.done);
    assert_non_null(
        memmem(event->event.snapshot.data.data, event->event.snapshot.data.len, "state", 5));
    kit_free_event(&event);
    pair.target.io->ops->snapshot_close(pair.target.io, snapshot.id);
    pair_fini(&pair);
}

static void a_checkpoint_overtaken_by_an_install_is_cancelled(void **state)
{
    struct pair pair;
    struct kit_event *event;
    size_t last;

    (void)state;
    pair_init(&pair);
    last = pair.stream.n - 1;
    for (size_t i = 0; i < last; i++) {
        send_chunk(&pair.target, &pair.stream, i, chunk_end(&pair.stream, i), ST_OK);
    }
    pair.target.io->ops->install_chunk(pair.target.io, 100, 3, pair.stream.offsets[last],
                                       buf_slice(&pair.stream.chunks[last]), true);
    kit_put(&pair.target, 0, "old", "newer");
    kit_begin_checkpoint(&pair.target, 11, 2, "x", NULL, 0);
    kit_put(&pair.target, 0, "old", "newest");
    event = kit_wait(&pair.target, IO_EVENT_INSTALLED);
    assert_int_equal(event->event.install.status, ST_OK);
    kit_free_event(&event);
    expect_source(&pair.target, "first");
    event = kit_wait(&pair.target, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_CANCELLED);
    kit_free_event(&event);
    expect_source(&pair.target, "first");
    assert_int_equal(kit_checkpoint(&pair.target, 101, (uint64_t[]){5, 9}, 2), 3);
    kit_close(&pair.target);
    assert_int_equal(kit_try_open(&pair.target, 3, 101), ST_OK);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

/* The checkpoint is on disk, but not yet known to be finished: a snapshot shows the one before. */
/* Ends it, with everything right but what is asked to be wrong, sends it, gives the answer. */
/* Arbitrary bytes are refused, whatever they are. */
/* ---- Closing ---- */

static void closing_while_work_is_under_way_leaks_nothing(void **state)
{
    struct pair pair;
    struct io_snapshot snapshot;

    (void)state;
    pair_init(&pair);
    for (int round = 0; round < 20; round++) {
        kit_put(&pair.target, 0, "old", "state");
        pair.target.io->ops->snapshot_open(pair.target.io, &snapshot);
        kit_begin_checkpoint(&pair.target, 10, 2, "x", (uint64_t[]){4}, 1);
        pair.target.io->ops->snapshot_read(pair.target.io, snapshot.id, 0, 100, 1);
        pair.target.io->ops->keep_ranges(pair.target.io, (uint64_t[]){4}, 1);
        for (size_t i = 0; i + (round % 2) < pair.stream.n; i++) {
            pair.target.io->ops->install_chunk(pair.target.io, 100, 3, pair.stream.offsets[i],
                                               buf_slice(&pair.stream.chunks[i]),
                                               i + 1 == pair.stream.n);
        }
        pair.target.io->ops->snapshot_close(pair.target.io, snapshot.id);
        kit_close(&pair.target);
        kit_open(&pair.target);
        if (pair.target.meta.index == 100) { /* it came through: begin again with an old one */
            expect_source(&pair.target, "first");
            kit_fini(&pair.target);
            kit_init(&pair.target);
            kit_open(&pair.target);
            fill_old(&pair.target);
        }
        expect_old(&pair.target);
    }
    pair_fini(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_becomes_the_state_of_another_store),
        cmocka_unit_test(goes_on_after_a_crash_at_every_chunk),
        cmocka_unit_test(a_chunk_out_of_turn_changes_nothing),
        cmocka_unit_test(an_empty_first_chunk_is_refused),
        cmocka_unit_test(another_snapshot_begins_anew),
        cmocka_unit_test(an_unfinished_one_goes_when_the_state_has_passed_it),
        cmocka_unit_test(a_damaged_stream_is_refused_and_the_old_state_stands),
        cmocka_unit_test(a_crash_before_the_switch_leaves_the_old_state),
        cmocka_unit_test(left_overs_of_a_crash_after_the_switch_are_removed),
        cmocka_unit_test(an_open_snapshot_outlives_an_install),
        cmocka_unit_test(a_checkpoint_overtaken_by_an_install_is_cancelled),
        cmocka_unit_test(closing_while_work_is_under_way_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
