/* Unit tests of sessions: the rule in every branch, eviction, what is written through. Moving is in
 * session_move_test.c and rsm_session_model_test.c. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/session_story.h"

/* ---- The rule ---- */

static void a_retry_gets_the_first_result_and_is_not_applied(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    assert_int_equal(submit(&bench, op(1, 1, 0, 10), 20, "one"), SESSION_APPLY);
    assert_int_equal(submit(&bench, op(1, 2, 0, 10), 21, "two"), SESSION_APPLY);
    assert_kept(&bench, op(1, 1, 0, 10), "one");
    assert_kept(&bench, op(1, 2, 0, 10), "two");
    /* Another client's seq 1 is another operation. */
    assert_int_equal(check(&bench, op(2, 1, 0, 10)), SESSION_APPLY);
    bench_destroy(&bench);
}

static void a_kept_result_is_answered_even_below_the_floor(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "one");
    session_raise_floor(bench.table, 100);
    assert_kept(&bench, op(1, 1, 0, 10), "one");
    bench_destroy(&bench);
}

static void what_is_acknowledged_is_forgotten_and_stale(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "one");
    submit(&bench, op(1, 2, 0, 10), 21, "two");
    assert_int_equal(submit(&bench, op(1, 3, 1, 10), 22, "three"), SESSION_APPLY);
    assert_int_equal(check(&bench, op(1, 1, 0, 10)), SESSION_STALE);
    assert_kept(&bench, op(1, 2, 0, 10), "two");
    /* Given up without ever being applied: stale as well. */
    submit(&bench, op(1, 9, 5, 10), 23, "nine");
    assert_int_equal(check(&bench, op(1, 4, 1, 10)), SESSION_STALE);
    assert_int_equal(check(&bench, op(1, 6, 1, 10)), SESSION_APPLY);
    bench_destroy(&bench);
}

static void acked_seq_of_a_record_never_falls(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    submit(&bench, op(1, 9, 5, 10), 20, "nine");
    assert_int_equal(submit(&bench, op(1, 7, 0, 10), 21, "seven"), SESSION_APPLY);
    assert_int_equal(check(&bench, op(1, 5, 0, 10)), SESSION_STALE);
    bench_destroy(&bench);
}

static void an_operation_that_contradicts_itself_is_stale(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    assert_int_equal(check(&bench, op(1, 0, 0, 10)), SESSION_STALE);
    assert_int_equal(check(&bench, op(1, 3, 3, 10)), SESSION_STALE);
    assert_int_equal(check(&bench, op(1, 3, UINT64_MAX, 10)), SESSION_STALE);
    bench_destroy(&bench);
}

static void the_window_bounds_what_is_kept_for_a_client(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    assert_int_equal(check(&bench, op(1, SESSION_SEQ_WINDOW + 1, 0, 10)), SESSION_STALE);
    assert_int_equal(submit(&bench, op(1, SESSION_SEQ_WINDOW, 0, 10), 20, "far"), SESSION_APPLY);
    assert_int_equal(check(&bench, op(1, SESSION_SEQ_WINDOW + 1, 0, 10)), SESSION_STALE);
    assert_int_equal(check(&bench, op(1, SESSION_SEQ_WINDOW + 1, 1, 10)), SESSION_APPLY);
    assert_int_equal(check(&bench, op(1, UINT64_MAX, 0, 10)), SESSION_STALE);
    assert_int_equal(check(&bench, op(1, UINT64_MAX, UINT64_MAX - 1, 10)), SESSION_APPLY);
    /* A late try with an old acked_seq is measured by what the record knows. */
    submit(&bench, op(1, 60, 50, 10), 21, "sixty");
    assert_int_equal(check(&bench, op(1, SESSION_SEQ_WINDOW + 50, 0, 10)), SESSION_APPLY);
    assert_int_equal(check(&bench, op(1, SESSION_SEQ_WINDOW + 51, 0, 10)), SESSION_STALE);
    bench_destroy(&bench);
}

static void a_full_window_of_results_is_kept_and_survives_a_load(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    for (uint64_t seq = SESSION_SEQ_WINDOW; seq > 0; seq--) {
        assert_int_equal(submit(&bench, op(1, seq, 0, 10), 2000 - seq, "r"), SESSION_APPLY);
    }
    reload(&bench);
    for (uint64_t seq = 1; seq <= SESSION_SEQ_WINDOW; seq++) {
        assert_kept(&bench, op(1, seq, 0, 10), "r");
    }
    bench_destroy(&bench);
}

static void issued_at_or_below_the_floor_is_expired(void **state)
{
    struct bench bench = bench_create(4);

    (void)state;
    session_raise_floor(bench.table, 100);
    assert_int_equal(check(&bench, op(1, 1, 0, 99)), SESSION_EXPIRED);
    assert_int_equal(check(&bench, op(1, 1, 0, 100)), SESSION_EXPIRED);
    assert_int_equal(check(&bench, op(1, 1, 0, 101)), SESSION_APPLY);
    session_raise_floor(bench.table, 50); /* it never falls */
    assert_true(session_floor(bench.table) == 100);
    bench_destroy(&bench);
}

/* ---- Eviction ---- */

static void a_full_table_evicts_the_least_recently_active(void **state)
{
    struct bench bench = bench_create(3);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "a");
    submit(&bench, op(2, 1, 0, 10), 21, "b");
    submit(&bench, op(3, 1, 0, 10), 22, "c");
    submit(&bench, op(1, 2, 0, 10), 23, "a2"); /* 2 is now the least recent */
    assert_true(session_floor(bench.table) == 0);
    submit(&bench, op(4, 1, 0, 10), 24, "d");
    assert_int_equal(session_count(bench.table), 3);
    assert_true(session_floor(bench.table) == 21);
    assert_kept(&bench, op(1, 1, 0, 10), "a");
    assert_kept(&bench, op(3, 1, 0, 10), "c");
    assert_kept(&bench, op(4, 1, 0, 10), "d");
    /* The forgotten operation comes again: it is refused, not applied a second time. */
    assert_int_equal(check(&bench, op(2, 1, 0, 10)), SESSION_EXPIRED);
    /* A new operation, issued after the client heard of the newer time, is fine. */
    assert_int_equal(check(&bench, op(2, 2, 1, 24)), SESSION_APPLY);
    bench_destroy(&bench);
}

static void eviction_is_the_same_whatever_the_order_of_insertion(void **state)
{
    uint32_t order[6] = {1, 2, 3, 4, 5, 6};
    uint64_t expected = 0;
    struct rng rng;

    (void)state;
    rng_init(&rng, 42);
    for (int round = 0; round < 50; round++) {
        struct bench bench = bench_create(6);
        for (size_t i = 5; i > 0; i--) {
            size_t j = (size_t)rng_below(&rng, i + 1);
            uint32_t swapped = order[i];
            order[i] = order[j];
            order[j] = swapped;
        }
        /* The same records, all but one with the same activity, come in from elsewhere. */
        for (size_t i = 0; i < 6; i++) {
            struct bench other = bench_create(6);
            struct session_key key = op(order[i], 1, 0, 10);
            session_commit(other.table, &key, order[i] == 4 ? 31 : 30, slice_text("r"));
            put_record(&other, &bench, order[i]);
            bench_destroy(&other);
        }
        submit(&bench, op(7, 1, 0, 39), 40, "r");
        submit(&bench, op(8, 1, 0, 39), 41, "r");
        assert_int_equal(session_count(bench.table), 6);
        assert_int_equal(check(&bench, op(1, 1, 0, 10)), SESSION_EXPIRED);
        assert_int_equal(check(&bench, op(2, 1, 0, 10)), SESSION_EXPIRED);
        assert_int_equal(check(&bench, op(3, 1, 0, 10)), SESSION_DUPLICATE);
        assert_true(round == 0 || written(&bench) == expected);
        expected = written(&bench);
        bench_destroy(&bench);
    }
}

static void the_client_just_served_is_never_the_one_evicted(void **state)
{
    struct bench bench = bench_create(1);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 100, "old but with a high activity");
    submit(&bench, op(2, 1, 0, 10), 50, "new");
    assert_int_equal(session_count(bench.table), 1);
    assert_kept(&bench, op(2, 1, 0, 10), "new");
    assert_true(session_floor(bench.table) == 100);
    bench_destroy(&bench);
}

static void results_of_few_clients_can_not_fill_the_memory(void **state)
{
    struct bench bench = bench_create(4);
    uint64_t stamp = 100;

    (void)state;
    for (uint32_t client = 1; client <= 4; client++) {
        for (uint64_t seq = 1; seq <= SESSION_SEQ_WINDOW; seq++) {
            assert_int_equal(submit(&bench, op(client, seq, 0, stamp - 1), stamp, "x"),
                             SESSION_APPLY);
            stamp++;
        }
    }
    assert_true(session_count(bench.table) < 4);
    assert_true(session_floor(bench.table) > 0);
    bench_destroy(&bench);
}

/* The floor covers issued_at even if a service forgot to bound the stamp from below. */
static void a_stamp_below_issued_at_does_not_break_the_floor(void **state)
{
    struct bench bench = bench_create(1);

    (void)state;
    submit(&bench, op(1, 1, 0, 500), 20, "a");
    submit(&bench, op(2, 1, 0, 500), 21, "b");
    assert_int_equal(check(&bench, op(1, 1, 0, 500)), SESSION_EXPIRED);
    bench_destroy(&bench);
}

/* ---- Written through ---- */

static void the_table_survives_a_load(void **state)
{
    struct bench bench = bench_create(2);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "a");
    submit(&bench, op(2, 1, 0, 10), 21, "b");
    submit(&bench, op(3, 5, 3, 30), 40, "");
    reload(&bench);
    assert_int_equal(session_count(bench.table), 2);
    assert_true(session_floor(bench.table) == 20);
    assert_kept(&bench, op(2, 1, 0, 10), "b");
    assert_kept(&bench, op(3, 5, 3, 30), "");
    assert_int_equal(check(&bench, op(3, 3, 0, 30)), SESSION_STALE);
    /* Activity survived too: the next to go is 2. */
    submit(&bench, op(4, 1, 0, 41), 42, "d");
    assert_int_equal(check(&bench, op(2, 1, 0, 10)), SESSION_EXPIRED);
    assert_kept(&bench, op(3, 5, 3, 30), "");
    bench_destroy(&bench);
}

static void a_record(struct buf *record)
{
    struct bench bench = bench_create(2);
    struct session_key key = op(1, 4, 2, 10);

    submit(&bench, key, 20, "four");
    submit(&bench, op(1, 6, 2, 10), 21, "six");
    assert_int_equal(read_record(&bench, slice_of(key.client.bytes, 16), record), ST_OK);
    bench_destroy(&bench);
}

static void damaged_records_are_noticed(void **state)
{
    struct bench bench = bench_create(2);
    struct session_key key = op(1, 0, 0, 0);
    struct slice client = slice_of(key.client.bytes, 16);
    struct buf record = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, 7);
    a_record(&record);
    for (size_t len = 0; len < record.len; len++) {
        assert_int_not_equal(session_put(bench.table, client, slice_of(record.data, len)), ST_OK);
    }
    assert_int_not_equal(session_put(bench.table, slice_of(client.data, 15), buf_slice(&record)),
                         ST_OK);
    assert_int_equal(session_count(bench.table), 0);
    for (int i = 0; i < 20000; i++) { /* must not crash; what decodes must encode and load */
        struct buf flipped = {0};
        uint64_t bit = rng_below(&rng, record.len * 8);
        buf_put_slice(&flipped, buf_slice(&record));
        flipped.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (session_put(bench.table, client, buf_slice(&flipped)) == ST_OK) {
            reload(&bench);
        }
        buf_fini(&flipped);
    }
    record.data[0] = 2;
    assert_int_equal(session_put(bench.table, client, buf_slice(&record)), ST_VERSION);
    buf_fini(&record);
    bench_destroy(&bench);
}

static void a_damaged_state_does_not_load(void **state)
{
    struct bench bench = bench_create(2);
    struct io_state *io = mem_state_io(bench.store);

    (void)state;
    submit(&bench, op(1, 1, 0, 10), 20, "a");
    mem_state_fail(bench.store, MEM_STATE_FAIL_GET, ST_IO, 1);
    assert_int_equal(session_table_load(bench.table), ST_IO);
    io->ops->put(io, (struct io_key){RANGE, KIND, slice_text("not an id")}, slice_text("x"));
    assert_int_equal(session_table_load(bench.table), ST_CORRUPT);
    bench_destroy(&bench);
}

static void keys_travel_as_bytes(void **state)
{
    struct session_key key = op(9, 3, 2, 77), back;
    struct buf bytes = {0};
    struct reader reader;

    (void)state;
    session_key_encode(&key, &bytes);
    assert_int_equal(bytes.len, SESSION_KEY_BYTES);
    reader = reader_of(buf_slice(&bytes));
    assert_true(session_key_decode(&reader, &back) && reader_done(&reader));
    assert_memory_equal(&key, &back, sizeof(key));
    for (size_t len = 0; len < bytes.len; len++) {
        reader = reader_of(slice_of(bytes.data, len));
        assert_false(session_key_decode(&reader, &back));
    }
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_retry_gets_the_first_result_and_is_not_applied),
        cmocka_unit_test(a_kept_result_is_answered_even_below_the_floor),
        cmocka_unit_test(what_is_acknowledged_is_forgotten_and_stale),
        cmocka_unit_test(acked_seq_of_a_record_never_falls),
        cmocka_unit_test(an_operation_that_contradicts_itself_is_stale),
        cmocka_unit_test(the_window_bounds_what_is_kept_for_a_client),
        cmocka_unit_test(a_full_window_of_results_is_kept_and_survives_a_load),
        cmocka_unit_test(issued_at_or_below_the_floor_is_expired),
        cmocka_unit_test(a_full_table_evicts_the_least_recently_active),
        cmocka_unit_test(eviction_is_the_same_whatever_the_order_of_insertion),
        cmocka_unit_test(the_client_just_served_is_never_the_one_evicted),
        cmocka_unit_test(results_of_few_clients_can_not_fill_the_memory),
        cmocka_unit_test(a_stamp_below_issued_at_does_not_break_the_floor),
        cmocka_unit_test(the_table_survives_a_load),
        cmocka_unit_test(damaged_records_are_noticed),
        cmocka_unit_test(a_damaged_state_does_not_load),
        cmocka_unit_test(keys_travel_as_bytes),
    };

    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
