/* Unit tests of session tables that write records later: what a checkpoint or whoever copies the
 * shard finds in the state. */
#include "raft/rsm/session_table.h"
#include "raft/util/rng.h"
#include "tests/unit/session_story.h"

static bool is_written(const struct bench *bench, uint32_t client)
{
    struct session_key key = op(client, 1, 0, 0);
    struct buf record = {0};
    enum status status =
        read_record(bench, slice_of(key.client.bytes, sizeof(key.client.bytes)), &record);

    buf_fini(&record);
    return status == ST_OK;
}

static struct bench bench_create_deferred(uint32_t max_records)
{
    struct bench bench = bench_create(max_records);

    session_table_defer(bench.table);
    return bench;
}

static void a_commit_is_written_when_the_table_is_saved(void **state)
{
    struct bench bench = bench_create_deferred(4);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "one");
    submit(&bench, op(2, 1, 0, 10), 21, "two");
    assert_kept(&bench, op(1, 1, 0, 10), "one");
    assert_false(is_written(&bench, 1) || is_written(&bench, 2));
    session_table_save(bench.table);
    submit(&bench, op(1, 2, 1, 10), 22, "three");
    session_table_save(bench.table);
    reload(&bench);
    assert_int_equal(check(&bench, op(1, 1, 0, 10)), SESSION_STALE);
    assert_kept(&bench, op(1, 2, 0, 10), "three");
    assert_kept(&bench, op(2, 1, 0, 10), "two");
    bench_destroy(&bench);
}

/* A start from the checkpoint before: the log will bring the operation once more. */
static void what_was_not_saved_is_not_known_after_a_load(void **state)
{
    struct bench bench = bench_create_deferred(4);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "one");
    session_table_save(bench.table);
    submit(&bench, op(1, 2, 0, 10), 21, "two");
    reload(&bench);
    assert_kept(&bench, op(1, 1, 0, 10), "one");
    assert_int_equal(submit(&bench, op(1, 2, 0, 10), 21, "two"), SESSION_APPLY);
    session_table_save(bench.table);
    reload(&bench);
    assert_kept(&bench, op(1, 2, 0, 10), "two");
    bench_destroy(&bench);
}

static void told(void *context, struct slice client)
{
    struct bench *bench = context;

    assert_true(is_written(bench, get_u32(client.data)));
}

/* Whoever copies the shard reads sessions in the state. */
static void nothing_is_put_off_while_somebody_watches(void **state)
{
    struct bench bench = bench_create_deferred(4);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "one");
    session_table_watch(bench.table, told, &bench);
    assert_true(is_written(&bench, 1));
    submit(&bench, op(2, 1, 0, 10), 21, "two");
    assert_true(is_written(&bench, 2));
    session_table_watch(bench.table, NULL, NULL);
    submit(&bench, op(3, 1, 0, 10), 22, "three");
    assert_false(is_written(&bench, 3));
    bench_destroy(&bench);
}

/* So that saving takes no long time, however many clients there are. */
static void few_records_wait_and_the_longest_unsaved_go_first(void **state)
{
    struct bench bench = bench_create_deferred(10 * SESSION_MAX_UNSAVED);

    (void)state;
    for (uint32_t client = 1; client <= 3 * SESSION_MAX_UNSAVED; client++) {
        submit(&bench, op(client, 1, 0, 10), 20 + client, "one");
        submit(&bench, op(1, client + 1, client, 10), 20 + client, "always"); /* waits only once */
    }
    for (uint32_t client = 2; client <= 3 * SESSION_MAX_UNSAVED; client++) {
        /* The first client is written now and then, and stands among the others again. */
        assert_true(is_written(&bench, client) == (client <= 2 * SESSION_MAX_UNSAVED + 1));
    }
    bench_destroy(&bench);
}

static void some_are_saved_the_longest_unsaved_first(void **state)
{
    struct bench bench = bench_create_deferred(8);

    (void)state;
    for (uint32_t client = 1; client <= 5; client++) {
        submit(&bench, op(client, 1, 0, 10), 20 + client, "one");
    }
    assert_int_equal(session_table_save_some(bench.table, 2), 2);
    submit(&bench, op(1, 2, 1, 10), 30, "two"); /* stands behind the others now */
    assert_int_equal(session_table_save_some(bench.table, 2), 2);
    for (uint32_t client = 1; client <= 5; client++) {
        assert_int_equal(is_written(&bench, client), client <= 4);
    }
    assert_int_equal(session_table_save_some(bench.table, 100), 2);
    assert_int_equal(session_table_save_some(bench.table, 100), 0);
    reload(&bench);
    assert_kept(&bench, op(1, 2, 0, 10), "two");
    bench_destroy(&bench);
}

static void an_unsaved_record_that_goes_is_not_written_later(void **state)
{
    struct bench bench = bench_create_deferred(2), other = bench_create(2);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "one");
    submit(&bench, op(2, 1, 0, 10), 21, "two");
    submit(&bench, op(3, 1, 0, 10), 22, "three"); /* evicts 1 */
    remove_record(&bench, 2);
    submit(&other, op(3, 9, 8, 30), 40, "from elsewhere");
    put_record(&other, &bench, 3);
    session_table_save(bench.table);
    assert_false(is_written(&bench, 1) || is_written(&bench, 2));
    reload(&bench);
    assert_kept(&bench, op(3, 9, 8, 30), "from elsewhere");
    assert_true(session_floor(bench.table) == 20);
    bench_destroy(&bench);
    bench_destroy(&other);
}

/* Two tables, one of which puts off, see the same; saved, they have written the same. */
static void a_saved_table_has_written_what_another_writes_at_once(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    for (int round = 0; round < 300; round++) {
        struct bench at_once = bench_create(6), late = bench_create_deferred(6);
        uint64_t stamp = 100;

        for (int step = 0; step < 200; step++) {
            uint32_t client = 1 + (uint32_t)rng_below(&rng, 12);
            uint64_t seq = 1 + rng_below(&rng, 60);
            struct session_key key = op(client, seq, rng_below(&rng, seq), stamp);

            stamp += 1 + rng_below(&rng, 3);
            assert_int_equal(submit(&at_once, key, stamp, "r"), submit(&late, key, stamp, "r"));
            if (rng_below(&rng, 40) == 0) {
                remove_record(&at_once, client);
                remove_record(&late, client);
            }
            if (rng_below(&rng, 20) == 0) {
                session_table_save(late.table);
                assert_true(written(&at_once) == written(&late));
                if (rng_below(&rng, 2) == 0) {
                    reload(&late);
                }
            }
        }
        assert_int_equal(session_count(at_once.table), session_count(late.table));
        bench_destroy(&at_once);
        bench_destroy(&late);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_is_written_when_the_table_is_saved),
        cmocka_unit_test(what_was_not_saved_is_not_known_after_a_load),
        cmocka_unit_test(nothing_is_put_off_while_somebody_watches),
        cmocka_unit_test(few_records_wait_and_the_longest_unsaved_go_first),
        cmocka_unit_test(some_are_saved_the_longest_unsaved_first),
        cmocka_unit_test(an_unsaved_record_that_goes_is_not_written_later),
        cmocka_unit_test(a_saved_table_has_written_what_another_writes_at_once),
    };

    return cmocka_run_group_tests_name("session_defer", tests, NULL, NULL);
}
