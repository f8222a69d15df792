/* Unit tests of sessions that move with their shard: records that are put and removed, all of them
 * in their order, and who is told of what changes. */
#include "tests/unit/session_story.h"

/* ---- Records that come and go ---- */

static void a_record_that_is_put_replaces_the_clients(void **state)
{
    struct bench a = bench_create(4), b = bench_create(4);

    (void)state;
    submit(&a, op(1, 3, 0, 10), 20, "three");
    submit(&a, op(1, 7, 0, 10), 21, "seven");
    submit(&b, op(1, 5, 4, 10), 90, "five");
    submit(&b, op(2, 1, 0, 10), 50, "other");
    put_record(&a, &b, 1);
    assert_int_equal(session_count(b.table), 2);
    assert_kept(&b, op(1, 3, 0, 10), "three"); /* not acknowledged: nothing of the old one stays */
    assert_kept(&b, op(1, 7, 0, 10), "seven");
    assert_int_equal(check(&b, op(1, 5, 0, 10)), SESSION_APPLY);
    assert_kept(&b, op(2, 1, 0, 10), "other");
    reload(&b);
    assert_kept(&b, op(1, 7, 0, 10), "seven");
    assert_int_equal(check(&b, op(1, 5, 0, 10)), SESSION_APPLY);
    /* Its activity came along, the lower one: it is the next to go. */
    for (uint32_t client = 3; client <= 5; client++) {
        submit(&b, op(client, 1, 0, 99), 100 + client, "x");
    }
    assert_true(session_floor(b.table) == 21);
    assert_int_equal(check(&b, op(1, 7, 0, 10)), SESSION_EXPIRED);
    assert_kept(&b, op(2, 1, 0, 10), "other");
    bench_destroy(&a);
    bench_destroy(&b);
}

static void putting_twice_is_putting_once(void **state)
{
    struct bench a = bench_create(4), b = bench_create(4);
    uint64_t once;

    (void)state;
    submit(&a, op(1, 3, 0, 10), 20, "three");
    put_record(&a, &b, 1);
    once = written(&b);
    put_record(&a, &b, 1);
    assert_true(written(&b) == once && once == written(&a));
    assert_int_equal(session_count(b.table), 1);
    bench_destroy(&a);
    bench_destroy(&b);
}

/* What moves is bounded where it comes from; its floor comes separately. */
static void putting_evicts_nobody_and_leaves_the_floor(void **state)
{
    struct bench a = bench_create(8), b = bench_create(2);

    (void)state;
    for (uint32_t client = 1; client <= 8; client++) {
        submit(&a, op(client, 1, 0, 10), 20 + client, "x");
        put_record(&a, &b, client);
    }
    assert_int_equal(session_count(b.table), 8);
    assert_true(session_floor(b.table) == 0);
    assert_true(written(&a) == written(&b));
    bench_destroy(&a);
    bench_destroy(&b);
}

/* Full windows that come and go many times: what is counted is what is there. */
static void results_of_replaced_and_removed_records_do_not_count(void **state)
{
    struct bench a = bench_create(4), b = bench_create(4);

    (void)state;
    for (uint64_t seq = 1; seq <= SESSION_SEQ_WINDOW; seq++) {
        submit(&a, op(1, seq, 0, 10), 20 + seq, "x");
    }
    submit(&b, op(2, 1, 0, 10), 20, "kept");
    for (int i = 0; i < 50; i++) {
        put_record(&a, &b, 1);
        if (i % 2 == 0) {
            remove_record(&b, 1);
        }
    }
    submit(&b, op(3, 1, 0, 10), 2000, "x");
    assert_true(session_floor(b.table) == 0); /* nobody had to go */
    assert_kept(&b, op(2, 1, 0, 10), "kept");
    bench_destroy(&a);
    bench_destroy(&b);
}

static void a_removed_record_is_gone(void **state)
{
    struct bench bench = bench_create(4);
    struct session_key other = op(2, 1, 0, 10);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "one");
    submit(&bench, op(2, 1, 0, 10), 21, "two");
    remove_record(&bench, 1);
    assert_int_equal(session_count(bench.table), 1);
    assert_int_equal(check(&bench, op(1, 1, 0, 10)), SESSION_APPLY); /* the floor says the rest */
    assert_true(session_floor(bench.table) == 0);
    remove_record(&bench, 1);
    remove_record(&bench, 3);
    session_remove(bench.table, slice_of(other.client.bytes, 15));
    session_remove(bench.table, slice_of(NULL, 0)); /* not the floor either */
    session_raise_floor(bench.table, 5);
    session_remove(bench.table, slice_of(NULL, 0));
    reload(&bench);
    assert_int_equal(session_count(bench.table), 1);
    assert_true(session_floor(bench.table) == 5);
    assert_kept(&bench, op(2, 1, 0, 10), "two");
    bench_destroy(&bench);
}

/* ---- All records ---- */

/* Each visited client, and whether its record is the one that is written. */
struct visits {
    const struct bench *bench;
    struct buf told;
};

static void visit(void *context, struct slice client, struct slice record)
{
    struct visits *visits = context;
    struct buf stored = {0};

    assert_int_equal(client.len, 16);
    assert_int_equal(read_record(visits->bench, client, &stored), ST_OK);
    assert_true(slice_equal(record, buf_slice(&stored)));
    buf_printf(&visits->told, "%u ", get_u32(client.data));
    buf_fini(&stored);
}

static void assert_visited(const struct bench *bench, const char *expected)
{
    struct visits visits = {bench, {0}};

    session_table_each(bench->table, visit, &visits);
    buf_put_u8(&visits.told, 0);
    assert_string_equal((const char *)visits.told.data, expected);
    buf_fini(&visits.told);
}

static void all_records_are_visited_in_the_order_of_their_activity(void **state)
{
    struct bench bench = bench_create(8), other = bench_create(8);

    (void)state;
    assert_visited(&bench, "");
    submit(&bench, op(3, 1, 0, 10), 20, "a");
    submit(&bench, op(1, 1, 0, 10), 21, "b");
    submit(&bench, op(2, 1, 0, 10), 22, "c");
    session_raise_floor(bench.table, 5); /* not a record */
    assert_visited(&bench, "3 1 2 ");
    submit(&bench, op(3, 2, 1, 10), 23, "d");
    assert_visited(&bench, "1 2 3 ");
    reload(&bench);
    assert_visited(&bench, "1 2 3 ");
    /* Equal activity, whatever the order they came in: by client. */
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t client = 1 + (i * 5 + 3) % 6;
        struct bench from = bench_create(8);

        submit(&from, op(client, 1, 0, 10), client == 2 ? 90 : 40, "x");
        put_record(&from, &other, client);
        bench_destroy(&from);
    }
    assert_visited(&other, "1 3 4 5 6 2 ");
    remove_record(&other, 4);
    assert_visited(&other, "1 3 5 6 2 ");
    bench_destroy(&bench);
    bench_destroy(&other);
}

/* ---- The watch ---- */

/* "1 " for a client that has a record now, "1 gone " for one that has none. */
static void watched(void *context, struct slice client)
{
    struct visits *visits = context;
    struct buf stored = {0};
    enum status status = read_record(visits->bench, client, &stored);

    buf_printf(&visits->told, "%u %s", get_u32(client.data), status == ST_OK ? "" : "gone ");
    buf_fini(&stored);
}

static void assert_told(struct visits *visits, const char *expected)
{
    buf_put_u8(&visits->told, 0);
    assert_string_equal((const char *)visits->told.data, expected);
    buf_clear(&visits->told);
}

static void the_watch_is_told_of_every_commit_and_every_eviction(void **state)
{
    struct bench bench = bench_create(2);
    struct visits visits = {&bench, {0}};

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "a"); /* before anybody watches */
    session_table_watch(bench.table, watched, &visits);
    submit(&bench, op(1, 2, 0, 10), 21, "b");
    assert_told(&visits, "1 ");
    assert_int_equal(submit(&bench, op(1, 2, 0, 10), 22, "b"), SESSION_DUPLICATE);
    assert_int_equal(submit(&bench, op(1, 0, 0, 10), 22, "b"), SESSION_STALE);
    assert_told(&visits, "");
    submit(&bench, op(2, 1, 0, 10), 23, "c");
    submit(&bench, op(3, 1, 0, 10), 24, "d");
    assert_told(&visits, "2 3 1 gone ");
    session_table_watch(bench.table, NULL, NULL);
    submit(&bench, op(4, 1, 0, 30), 31, "e");
    assert_told(&visits, "");
    buf_fini(&visits.told);
    bench_destroy(&bench);
}

static void the_watch_is_not_told_of_what_comes_from_elsewhere(void **state)
{
    struct bench bench = bench_create(2), other = bench_create(2);
    struct visits visits = {&bench, {0}};

    (void)state;
    submit(&other, op(1, 1, 0, 10), 20, "a");
    session_table_watch(bench.table, watched, &visits);
    put_record(&other, &bench, 1);
    remove_record(&bench, 1);
    put_record(&other, &bench, 1);
    session_raise_floor(bench.table, 5);
    reload(&bench);
    assert_told(&visits, "");
    submit(&bench, op(2, 1, 0, 10), 21, "b"); /* it watches on after a load */
    assert_told(&visits, "2 ");
    buf_fini(&visits.told);
    bench_destroy(&bench);
    bench_destroy(&other);
}

/* More than one has to go at once: a table that was put together is over its limit. */
static void the_watch_is_told_of_each_that_is_evicted_at_once(void **state)
{
    struct bench bench = bench_create(2), other = bench_create(8);
    struct visits visits = {&bench, {0}};

    (void)state;
    for (uint32_t client = 1; client <= 3; client++) {
        submit(&other, op(client, 1, 0, 10), 20 + client, "x");
        put_record(&other, &bench, client);
    }
    session_table_watch(bench.table, watched, &visits);
    submit(&bench, op(4, 1, 0, 10), 30, "y");
    assert_told(&visits, "4 1 gone 2 gone ");
    assert_true(session_floor(bench.table) == 22);
    buf_fini(&visits.told);
    bench_destroy(&bench);
    bench_destroy(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_that_is_put_replaces_the_clients),
        cmocka_unit_test(putting_twice_is_putting_once),
        cmocka_unit_test(putting_evicts_nobody_and_leaves_the_floor),
        cmocka_unit_test(results_of_replaced_and_removed_records_do_not_count),
        cmocka_unit_test(a_removed_record_is_gone),
        cmocka_unit_test(all_records_are_visited_in_the_order_of_their_activity),
        cmocka_unit_test(the_watch_is_told_of_every_commit_and_every_eviction),
        cmocka_unit_test(the_watch_is_not_told_of_what_comes_from_elsewhere),
        cmocka_unit_test(the_watch_is_told_of_each_that_is_evicted_at_once),
    };

    return cmocka_run_group_tests_name("session_move", tests, NULL, NULL);
}
