/* The instrument of scripts/migration-test.sh: what it makes of records, and what it knows of keys.
 */
#include <stdlib.h>
#include <string.h>

#include "client/shard_config.h"
#include "tests/cluster/move_load.h"
#include "tests/cmocka.h"

#define MS UINT64_C(1000000)

/* Successes that arrive every `every_ms` in [from_ms, to_ms) and take a tenth of a millisecond. */
static void succeed(struct records *records, uint64_t from_ms, uint64_t to_ms, uint64_t every_ms)
{
    for (uint64_t at = from_ms; at < to_ms; at += every_ms) {
        records_add(records, at * MS, at * MS + MS / 10, (at / every_ms) % 2 ? LOAD_PUT : LOAD_GET,
                    LOAD_OK);
    }
}

static struct tally tally_of(struct records *records, uint64_t from_ms, uint64_t to_ms)
{
    struct tally tally;

    records_tally(records, 1000 * MS, from_ms * MS, to_ms * MS, &tally);
    return tally;
}

static void steady_arrivals_show_their_interval_as_the_pause(void **state)
{
    struct records records;
    struct tally tally;

    (void)state;
    records_init(&records);
    succeed(&records, 1000, 3000, 1);
    tally = tally_of(&records, 1500, 2500);
    assert_int_equal(tally.ops, 1000);
    assert_int_equal(tally.ok, 1000);
    assert_float_equal(tally.pause_ms, 1.0, 1e-6);
    assert_float_equal(tally.pause_reads_ms, 2.0, 1e-6);
    assert_float_equal(tally.pause_writes_ms, 2.0, 1e-6);
    assert_float_equal(tally.p50_ms, 0.1, 1e-6);
    records_fini(&records);
}

/* What arrives in the pause ends after it, at the same moment: latencies count from the arrival. */
static void a_pause_is_seen_once_and_whole(void **state)
{
    struct records records;
    struct tally tally;

    (void)state;
    records_init(&records);
    succeed(&records, 1000, 2000, 1);
    for (uint64_t at = 2000; at < 2300; at++) {
        records_add(&records, at * MS, 2300 * MS, LOAD_GET, LOAD_OK);
    }
    succeed(&records, 2300, 4000, 1);
    tally = tally_of(&records, 1900, 2310);
    assert_float_equal(tally.pause_ms, 300.9, 1e-6);
    assert_float_equal(tally.max_ms, 300.0, 1e-6);
    assert_float_equal(tally_of(&records, 1100, 1900).pause_ms, 1.0, 1e-6);
    /* It reaches into the next phase, but belongs to the one that has its middle. */
    assert_float_equal(tally_of(&records, 1900, 2200).pause_ms, 300.9, 1e-6);
    assert_true(tally_of(&records, 2200, 3000).pause_ms < 1.2);
    /* A phase that lies within it has no success at all. */
    assert_float_equal(tally_of(&records, 2200, 2250).pause_ms, 300.9, 1e-6);
    records_fini(&records);
}

static void failures_do_not_end_a_pause(void **state)
{
    struct records records;
    struct tally tally;

    (void)state;
    records_init(&records);
    succeed(&records, 1000, 2000, 1);
    for (uint64_t at = 2000; at < 2100; at++) {
        records_add(&records, at * MS, at * MS + MS, LOAD_PUT, at % 2 ? LOAD_ERROR : LOAD_UNKNOWN);
    }
    succeed(&records, 2100, 2200, 1);
    tally = tally_of(&records, 1900, 2200);
    assert_float_equal(tally.pause_ms, 101.0, 1e-6);
    assert_int_equal(tally.errors, 50);
    assert_int_equal(tally.unknown, 50);
    assert_int_equal(tally.ok, 200);
    records_fini(&records);
}

static void a_pause_that_does_not_end_counts_to_the_end(void **state)
{
    struct records records;

    (void)state;
    records_init(&records);
    succeed(&records, 1000, 2000, 1);
    assert_true(tally_of(&records, 1900, 5000).pause_ms > 3000);
    records_fini(&records);
}

/* ---- Keys ---- */

static void tags_put_keys_into_the_shard_or_outside_it(void **state)
{
    struct key_table inside, outside;
    char text[LOAD_MAX_KEY];

    (void)state;
    keys_init(&inside, 'm', 100, 200, 1, 15, 16, true);
    keys_init(&outside, 'o', 100, 200, 64, 15, 16, false);
    for (uint32_t key = 0; key < 100; key++) {
        size_t len = keys_write_key(&inside, key, text);

        assert_int_equal(shard_of_key(slice_of(text, len), 16), 15);
        len = keys_write_key(&outside, key, text);
        assert_int_not_equal(shard_of_key(slice_of(text, len), 16), 15);
    }
    keys_fini(&inside);
    keys_fini(&outside);
}

static void a_value_tells_its_generation_and_any_changed_byte(void **state)
{
    struct key_table table;
    uint8_t value[203];
    struct shardkv_bytes bytes = {value, sizeof(value)};
    uint32_t generation;

    (void)state;
    keys_init(&table, 'm', 10, sizeof(value), 1, 3, 16, true);
    keys_write_value(&table, 7, 12345, value);
    assert_true(keys_read_value(&table, 7, bytes, &generation));
    assert_int_equal(generation, 12345);
    assert_false(keys_read_value(&table, 8, bytes, &generation));
    for (size_t i = 0; i < sizeof(value); i++) {
        value[i] ^= 1;
        assert_false(keys_read_value(&table, 7, bytes, &generation));
        value[i] ^= 1;
    }
    bytes.len--;
    assert_false(keys_read_value(&table, 7, bytes, &generation));
    keys_fini(&table);
}

static void the_last_acknowledged_write_must_be_there(void **state)
{
    struct key_table table;
    uint32_t key, generation;

    (void)state;
    keys_init(&table, 'm', 1, 200, 1, 3, 16, true);
    assert_true(keys_may_hold(&table, 0, 0)); /* the fill's */
    assert_true(keys_begin_put(&table, &key, &generation));
    assert_false(keys_begin_put(&table, &key, &generation)); /* one at a time */
    keys_end_put(&table, key, 1, LOAD_OK);
    assert_true(keys_may_hold(&table, 0, 1));
    assert_false(keys_may_hold(&table, 0, 0));
    assert_true(keys_begin_put(&table, &key, &generation));
    keys_end_put(&table, key, 2, LOAD_ERROR); /* certainly not applied */
    assert_false(keys_may_hold(&table, 0, 2));
    assert_true(keys_begin_put(&table, &key, &generation));
    keys_end_put(&table, key, 3, LOAD_UNKNOWN);
    assert_true(keys_may_hold(&table, 0, 3));
    assert_true(keys_may_hold(&table, 0, 1));
    assert_false(keys_may_hold(&table, 0, 4));
    keys_fini(&table);
}

/* A read of generation `generation` that began when `floor` was known to be there. */
static void read_back(struct key_table *table, uint32_t generation, uint32_t floor)
{
    uint8_t value[200];
    struct shardkv_result result = {.code = SHARDKV_OK, .value = {value, sizeof(value)}};

    keys_write_value(table, 0, generation, value);
    keys_end_get(table, 0, floor, &result);
}

static void a_read_may_not_be_stale_wrong_or_empty(void **state)
{
    struct key_table table;
    struct shardkv_result nothing = {.code = SHARDKV_NOT_FOUND};
    uint32_t key, generation, floor;

    (void)state;
    keys_init(&table, 'm', 1, 200, 1, 3, 16, true);
    for (int i = 0; i < 2; i++) {
        assert_true(keys_begin_put(&table, &key, &generation));
        keys_end_put(&table, key, generation, LOAD_OK);
    }
    keys_begin_get(&table, &floor);
    assert_int_equal(floor, 2);
    read_back(&table, 2, floor);
    assert_int_equal(table.stale_reads + table.wrong_reads + table.missing_reads, 0);
    read_back(&table, 1, floor);
    assert_int_equal(table.stale_reads, 1);
    read_back(&table, 3, floor); /* nobody has written it */
    assert_int_equal(table.wrong_reads, 1);
    keys_end_get(&table, 0, floor, &nothing);
    assert_int_equal(table.missing_reads, 1);
    keys_fini(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steady_arrivals_show_their_interval_as_the_pause),
        cmocka_unit_test(a_pause_is_seen_once_and_whole),
        cmocka_unit_test(failures_do_not_end_a_pause),
        cmocka_unit_test(a_pause_that_does_not_end_counts_to_the_end),
        cmocka_unit_test(tags_put_keys_into_the_shard_or_outside_it),
        cmocka_unit_test(a_value_tells_its_generation_and_any_changed_byte),
        cmocka_unit_test(the_last_acknowledged_write_must_be_there),
        cmocka_unit_test(a_read_may_not_be_stale_wrong_or_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
