/* Ranges that are let go: what drop_range and keep_ranges delete, when, and what they never touch.
 * The tests look into LevelDB itself, since the state does not show a dropped range. */
#include <leveldb/c.h>

#include "tests/unit/state_kit.h"

#define N_KEYS 300

/* How many keys of the range lie in the database db-1 of the closed state. */
static int count_on_disk(const struct kit *kit, uint64_t range)
{
    leveldb_options_t *options = leveldb_options_create();
    leveldb_readoptions_t *read = leveldb_readoptions_create();
    leveldb_iterator_t *iter;
    leveldb_t *db;
    char path[120];
    char *error = NULL;
    char start[9] = {'u'};
    int n = 0;

    snprintf(path, sizeof(path), "%s/db-1", kit->state);
    db = leveldb_open(options, path, &error);
    assert_null(error);
    set_u64_be((uint8_t *)start + 1, range);
    iter = leveldb_create_iterator(db, read);
    for (leveldb_iter_seek(iter, start, sizeof(start)); leveldb_iter_valid(iter);
         leveldb_iter_next(iter)) {
        size_t len;
        const char *key = leveldb_iter_key(iter, &len);

        if (len < sizeof(start) || memcmp(key, start, sizeof(start)) != 0) {
            break;
        }
        n++;
    }
    leveldb_iter_destroy(iter);
    leveldb_close(db);
    leveldb_readoptions_destroy(read);
    leveldb_options_destroy(options);
    return n;
}

static void fill_range(struct kit *kit, uint64_t range)
{
    for (int i = 0; i < N_KEYS; i++) {
        char key[32];

        snprintf(key, sizeof(key), "%05d", i);
        kit_put(kit, range, key, "a value of some bytes");
    }
}

/* Whether the range still shows in a store that reads its own LevelDB. */
static bool range_shows(struct kit *kit, uint64_t range)
{
    struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(range, 1, ""));
    struct slice key, value;
    bool any = kit->io->ops->iter_next(iter, &key, &value);

    assert_int_equal(kit->io->ops->iter_close(iter), ST_OK);
    return any;
}

/* Gives the background thread time until the range is gone. */
static void wait_until_gone(struct kit *kit, uint64_t range)
{
    for (int i = 0; range_shows(kit, range); i++) {
        assert_true(i < KIT_PATIENCE_S * 1000);
        kit_pump(kit, 0); /* the loop goes on: what was closed is given back there */
        usleep(1000);
    }
}

static void setup(struct kit *kit, const uint64_t *ranges, size_t n)
{
    kit_init(kit);
    kit->options.sweep_keys = 50; /* several pieces a range */
    kit_open(kit);
    kit_put(kit, 0, "own", "value");
    for (size_t i = 0; i < n; i++) {
        fill_range(kit, ranges[i]);
    }
    kit_checkpoint(kit, 10, ranges, n);
}

static void a_dropped_range_goes_after_a_checkpoint_without_it(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, (uint64_t[]){3, 4, 5}, 3);
    kit.io->ops->drop_range(kit.io, 4);
    kit_checkpoint(&kit, 20, (uint64_t[]){3, 5}, 2);
    wait_until_gone(&kit, 4);
    kit_close(&kit);
    assert_int_equal(count_on_disk(&kit, 0), 1);
    assert_int_equal(count_on_disk(&kit, 3), N_KEYS);
    assert_int_equal(count_on_disk(&kit, 4), 0);
    assert_int_equal(count_on_disk(&kit, 5), N_KEYS);
    kit_fini(&kit);
}

/* Before the checkpoint is durable a crash goes back to a state that still has the range. */
static void nothing_goes_before_the_checkpoint_is_durable(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, (uint64_t[]){3, 4}, 2);
    kit.io->ops->drop_range(kit.io, 4);
    usleep(50000); /* it would have been deleted long ago */
    assert_true(range_shows(&kit, 4));
    kit_close(&kit);
    assert_int_equal(count_on_disk(&kit, 4), N_KEYS);
    kit_fini(&kit);
}

/* A checkpoint that began before the drop still contains the range. */
static void a_checkpoint_in_flight_does_not_count(void **state)
{
    struct kit kit;
    struct kit_event *event;

    (void)state;
    setup(&kit, (uint64_t[]){3, 4}, 2);
    kit_begin_checkpoint(&kit, 15, 3, "x", (uint64_t[]){3, 4}, 2);
    kit.io->ops->drop_range(kit.io, 4);
    event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
    kit_free_event(&event);
    usleep(50000);
    assert_true(range_shows(&kit, 4));
    kit_checkpoint(&kit, 20, (uint64_t[]){3}, 1);
    wait_until_gone(&kit, 4);
    assert_true(range_shows(&kit, 3));
    kit_fini(&kit);
}

static void a_range_still_listed_waits_for_a_checkpoint_without_it(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, (uint64_t[]){3, 4}, 2);
    kit.io->ops->drop_range(kit.io, 4);
    kit_checkpoint(&kit, 20, (uint64_t[]){3, 4}, 2);
    usleep(50000);
    assert_true(range_shows(&kit, 4));
    kit_checkpoint(&kit, 21, (uint64_t[]){3}, 1);
    wait_until_gone(&kit, 4);
    kit_fini(&kit);
}

/* What a dropped range has only in memory never reaches the disk. */
static void writes_of_a_dropped_range_are_not_kept(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, (uint64_t[]){3}, 1);
    fill_range(&kit, 8);
    kit.io->ops->drop_range(kit.io, 8);
    kit_checkpoint(&kit, 20, (uint64_t[]){3}, 1);
    kit_close(&kit);
    assert_int_equal(count_on_disk(&kit, 8), 0);
    kit_fini(&kit);
}

/* LevelDB would keep what the snapshot shows anyway, and might never tidy it away. */
static void an_open_snapshot_keeps_the_range(void **state)
{
    struct kit kit;
    struct io_snapshot snapshot;
    struct kit_event *event;

    (void)state;
    setup(&kit, (uint64_t[]){4}, 1);
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    kit.io->ops->drop_range(kit.io, 4);
    kit_checkpoint(&kit, 20, NULL, 0);
    usleep(50000);
    assert_true(range_shows(&kit, 4));
    event = kit_read_chunk(&kit, snapshot.id, 0, 1u << 20);
    assert_true(event->event.snapshot.done);
    assert_true(event->event.snapshot.data.len > N_KEYS * 30);
    kit_free_event(&event);
    kit.io->ops->snapshot_close(kit.io, snapshot.id);
    wait_until_gone(&kit, 4);
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    event = kit_read_chunk(&kit, snapshot.id, 0, 1u << 20);
    assert_true(event->event.snapshot.data.len < 200);
    kit_free_event(&event);
    kit_fini(&kit);
}

/* After a start: what a crash left of dropped ranges goes, what is listed stays. */
static void keep_ranges_deletes_what_nobody_lists(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, (uint64_t[]){1, 2, 3, 900, UINT64_MAX - 1}, 5);
    kit_checkpoint(&kit, 20, (uint64_t[]){2, 900}, 2); /* the others: mapped by nobody any more */
    kit_close(&kit);
    kit_open(&kit);
    kit.io->ops->keep_ranges(kit.io, (uint64_t[]){2, 7, 900}, 3);
    wait_until_gone(&kit, 1);
    wait_until_gone(&kit, 3);
    wait_until_gone(&kit, UINT64_MAX - 1);
    kit_close(&kit);
    assert_int_equal(count_on_disk(&kit, 0), 1);
    assert_int_equal(count_on_disk(&kit, 2), N_KEYS);
    assert_int_equal(count_on_disk(&kit, 900), N_KEYS);
    kit_fini(&kit);
}

/* A range that the durable checkpoint contains waits, whoever says that it is not wanted. */
static void keep_ranges_spares_what_the_durable_checkpoint_contains(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, (uint64_t[]){3, 4}, 2);
    kit.io->ops->keep_ranges(kit.io, (uint64_t[]){3}, 1);
    usleep(50000);
    assert_true(range_shows(&kit, 4));
    kit_close(&kit);
    assert_int_equal(count_on_disk(&kit, 4), N_KEYS);
    kit_open(&kit);
    kit.io->ops->keep_ranges(kit.io, (uint64_t[]){3}, 1);
    kit_checkpoint(&kit, 20, (uint64_t[]){3}, 1);
    wait_until_gone(&kit, 4);
    assert_true(range_shows(&kit, 3));
    kit_fini(&kit);
}

/* Nor what a checkpoint in flight contains. */
static void keep_ranges_spares_what_a_checkpoint_in_flight_contains(void **state)
{
    struct kit kit;
    struct kit_event *event;

    (void)state;
    setup(&kit, (uint64_t[]){3}, 1);
    fill_range(&kit, 20);
    kit_begin_checkpoint(&kit, 15, 3, "x", (uint64_t[]){3, 20}, 2);
    kit.io->ops->keep_ranges(kit.io, (uint64_t[]){3}, 1);
    event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
    kit_free_event(&event);
    usleep(50000);
    assert_true(range_shows(&kit, 20));
    kit_checkpoint(&kit, 30, (uint64_t[]){3}, 1);
    wait_until_gone(&kit, 20);
    kit_fini(&kit);
}

/* Ranges given out after the call are not its business. */
static void keep_ranges_spares_ranges_that_come_later(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, (uint64_t[]){3}, 1);
    for (uint64_t range = 10; range < 30; range++) {
        kit.io->ops->keep_ranges(kit.io, (uint64_t[]){3}, 1);
        fill_range(&kit, range);
        kit_checkpoint(&kit, 10 + range, (uint64_t[]){3, range}, 2);
        assert_true(range_shows(&kit, range));
        kit.io->ops->drop_range(kit.io, range);
    }
    kit_close(&kit);
    assert_int_equal(count_on_disk(&kit, 29), N_KEYS);
    kit_fini(&kit);
}

/* Deleting much gives the space back. */
static void space_comes_back(void **state)
{
    struct kit kit;
    uint64_t before;
    char value[1024];
    struct rng rng;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    rng_init(&rng, 1);
    for (int i = 0; i < 40000; i++) {
        char key[32];

        snprintf(key, sizeof(key), "%06d", i);
        for (size_t j = 0; j < sizeof(value) - 1; j++) {
            value[j] = (char)('a' + rng_below(&rng, 26));
        }
        value[sizeof(value) - 1] = '\0';
        kit_put(&kit, 4, key, value);
    }
    assert_true(kit.io->ops->range_bytes(kit.io, 4) > 40000u * 1000);
    assert_true(kit.io->ops->range_bytes(kit.io, 5) == 0);
    kit_checkpoint(&kit, 10, (uint64_t[]){4}, 1);
    before = kit.io->ops->disk_bytes(kit.io);
    assert_true(before > 40000u * 1000);
    kit.io->ops->drop_range(kit.io, 4);
    kit_checkpoint(&kit, 20, NULL, 0);
    wait_until_gone(&kit, 4);
    for (int i = 0; kit.io->ops->disk_bytes(kit.io) > before / 100; i++) {
        assert_true(i < KIT_PATIENCE_S * 1000);
        kit_pump(&kit, 0); /* gives the last iteration back, and with it the tables that it held */
        usleep(1000);
    }
    kit_fini(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dropped_range_goes_after_a_checkpoint_without_it),
        cmocka_unit_test(nothing_goes_before_the_checkpoint_is_durable),
        cmocka_unit_test(a_checkpoint_in_flight_does_not_count),
        cmocka_unit_test(a_range_still_listed_waits_for_a_checkpoint_without_it),
        cmocka_unit_test(writes_of_a_dropped_range_are_not_kept),
        cmocka_unit_test(an_open_snapshot_keeps_the_range),
        cmocka_unit_test(keep_ranges_deletes_what_nobody_lists),
        cmocka_unit_test(keep_ranges_spares_what_the_durable_checkpoint_contains),
        cmocka_unit_test(keep_ranges_spares_what_a_checkpoint_in_flight_contains),
        cmocka_unit_test(keep_ranges_spares_ranges_that_come_later),
        cmocka_unit_test(space_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
