/* A full disk, and how the state recovers from it without a restart. */
#include "tests/unit/state_mount.h"
#include "tests/unit/state_stream.h"

static void put_many(struct kit *kit, uint64_t range, int from, int n, const char *value)
{
    for (int i = from; i < from + n; i++) {
        char key[32];

        snprintf(key, sizeof(key), "x%05d", i);
        kit_put(kit, range, key, value);
    }
}

static void expect_many(struct kit *kit, uint64_t range, int from, int n, const char *value)
{
    for (int i = from; i < from + n; i++) {
        char key[32];

        snprintf(key, sizeof(key), "x%05d", i);
        kit_expect(kit, range, key, value);
    }
}

static void checkpoint_ends(struct kit *kit, raft_index asked, enum status status,
                            raft_index answered)
{
    struct kit_event *event;

    kit_begin_checkpoint(kit, asked, 3, "x", (uint64_t[]){3}, 1);
    event = kit_wait(kit, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, status);
    assert_int_equal(event->event.checkpoint.index, answered);
    kit_free_event(&event);
}

static char value[3000];

/* A state that stands at index 10, on a disk too small for what is written next. */
static void begin_full(struct kit *kit)
{
    kit_init(kit);
    mount_size(kit, 1024, false);
    kit_open(kit);
    kit_put(kit, 0, "kept", "value");
    kit_checkpoint(kit, 10, NULL, 0);
    memset(value, 'v', sizeof(value) - 1);
    put_many(kit, 3, 0, 500, value);
}

static void writes_again_when_there_is_room(void **state)
{
    struct kit kit;

    (void)state;
    begin_full(&kit);
    checkpoint_ends(&kit, 1000, ST_NO_SPACE, 10);
    put_many(&kit, 3, 490, 20, "newer"); /* memory takes writes all the same */
    checkpoint_ends(&kit, 1010, ST_NO_SPACE, 10);
    kit_expect(&kit, 0, "kept", "value");
    expect_many(&kit, 3, 0, 490, value);
    expect_many(&kit, 3, 490, 20, "newer");

    mount_size(&kit, 65536, true);
    checkpoint_ends(&kit, 1020, ST_OK, 1000); /* the one that found no room */
    checkpoint_ends(&kit, 1020, ST_OK, 1020); /* what came after it */
    expect_many(&kit, 3, 0, 490, value);
    expect_many(&kit, 3, 490, 20, "newer");
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit, 3, 1020), ST_OK);
    assert_int_equal(kit.meta.checkpoint, 3);
    kit_expect(&kit, 0, "kept", "value");
    expect_many(&kit, 3, 0, 490, value);
    expect_many(&kit, 3, 490, 20, "newer");
    unmount(&kit);
}

/* A crash meanwhile: the last finished checkpoint, as always. */
static void a_crash_on_a_full_disk_goes_back_to_the_last_checkpoint(void **state)
{
    struct kit kit;

    (void)state;
    begin_full(&kit);
    checkpoint_ends(&kit, 1000, ST_NO_SPACE, 10);
    kit_close(&kit);
    mount_size(&kit, 65536, true);
    assert_int_equal(kit_try_open(&kit, 1, 10), ST_OK);
    assert_int_equal(kit.meta.index, 10);
    kit_expect(&kit, 0, "kept", "value");
    kit_expect(&kit, 3, "x00001", NULL);
    unmount(&kit);
}

/* Opening LevelDB again ends what reads it; the reader is told to begin anew, not that the state is
 * damaged. */
static void a_snapshot_that_was_open_is_lost(void **state)
{
    struct kit kit;
    struct io_snapshot snapshot, other;
    struct kit_event *event;

    (void)state;
    begin_full(&kit);
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    assert_int_equal(snapshot.index, 10);
    kit.io->ops->snapshot_read(kit.io, snapshot.id, 0, 1, 77);
    event = kit_wait(&kit, IO_EVENT_SNAPSHOT_READ);
    assert_int_equal(event->event.snapshot.status, ST_OK);
    kit_free_event(&event);
    checkpoint_ends(&kit, 1000, ST_NO_SPACE, 10);
    kit.io->ops->snapshot_open(kit.io, &other); /* what is there can still be sent */
    assert_int_equal(other.index, 10);
    kit.io->ops->snapshot_read(kit.io, other.id, 0, 1, 78);
    event = kit_wait(&kit, IO_EVENT_SNAPSHOT_READ);
    assert_int_equal(event->event.snapshot.status, ST_OK);
    kit_free_event(&event);

    mount_size(&kit, 65536, true);
    checkpoint_ends(&kit, 1000, ST_OK, 1000);
    kit.io->ops->snapshot_read(kit.io, snapshot.id, 0, 1, 79);
    event = kit_wait(&kit, IO_EVENT_SNAPSHOT_READ);
    assert_int_equal(event->event.snapshot.status, ST_CANCELLED);
    kit_free_event(&event);
    kit.io->ops->snapshot_close(kit.io, snapshot.id);
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    assert_int_equal(snapshot.index, 1000);
    kit.io->ops->snapshot_close(kit.io, snapshot.id);
    unmount(&kit); /* the other one is open still */
}

/* With a margin, nothing is begun that could fail: LevelDB stays whole and sees no error. */
static void without_room_nothing_is_begun(void **state)
{
    struct kit kit;

    (void)state;
    kit_init(&kit);
    mount_size(&kit, 65536, false);
    kit.options.room_bytes = 8u << 20;
    kit_open(&kit);
    kit_checkpoint(&kit, 10, NULL, 0);
    mount_size(&kit, 4096, true);
    put_many(&kit, 3, 0, 10, "little"); /* there is room for that, but not for the margin */
    checkpoint_ends(&kit, 20, ST_NO_SPACE, 10);
    checkpoint_ends(&kit, 20, ST_NO_SPACE, 10);
    expect_many(&kit, 3, 0, 10, "little");
    mount_size(&kit, 65536, true);
    checkpoint_ends(&kit, 30, ST_OK, 20);
    checkpoint_ends(&kit, 30, ST_OK, 30);
    unmount(&kit);
}

/* The reserve's space is enough for a checkpoint, which lets the log shrink. */
static void the_reserve_lets_a_checkpoint_through(void **state)
{
    struct store_reserve_options options;
    struct store_reserve *reserve;
    struct kit kit;
    char path[80], error[STORE_ERROR_BYTES];

    (void)state;
    kit_init(&kit);
    mount_size(&kit, 65536, false);
    snprintf(path, sizeof(path), "%.64s/reserve", kit.path);
    store_reserve_options_default(&options, path, 32u << 20);
    assert_int_equal(store_reserve_open(&options, &reserve, error), ST_OK);
    assert_int_equal(store_reserve_bytes(reserve), 32u << 20);
    kit.options.room_bytes = 8u << 20;
    kit.options.reserve = reserve;
    kit_open(&kit);
    kit_checkpoint(&kit, 10, NULL, 0);
    mount_size(&kit, (32 << 10) + 1024, true);
    put_many(&kit, 3, 0, 10, "little");
    checkpoint_ends(&kit, 20, ST_OK, 20);
    assert_in_range(store_reserve_bytes(reserve), 1, (32u << 20) - 1);
    unmount(&kit);
    store_reserve_close(&reserve);
}

/* Dropped ranges of a checkpoint that found no room are deleted after it went through. */
/* LevelDB, not a cache, is asked. */
static bool has_keys(struct kit *kit, uint64_t range)
{
    struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(range, 1, ""));
    struct slice key, content;
    bool found = kit->io->ops->iter_next(iter, &key, &content);

    assert_int_equal(kit->io->ops->iter_close(iter), ST_OK);
    return found;
}

static void a_range_dropped_meanwhile_is_deleted_in_the_end(void **state)
{
    struct kit kit;
    struct kit_event *event;

    (void)state;
    kit_init(&kit);
    mount_size(&kit, 1024, false);
    kit_open(&kit);
    kit_put(&kit, 5, "gone", "soon");
    kit_checkpoint(&kit, 10, (uint64_t[]){5}, 1);
    kit.io->ops->drop_range(kit.io, 5);
    memset(value, 'v', sizeof(value) - 1);
    put_many(&kit, 3, 0, 500, value);
    checkpoint_ends(&kit, 1000, ST_NO_SPACE, 10);
    kit_expect(&kit, 5, "gone", "soon"); /* the durable checkpoint has it */
    mount_size(&kit, 65536, true);
    checkpoint_ends(&kit, 1000, ST_OK, 1000);
    assert_false(kit.io->ops->drops_wait(kit.io));
    for (int i = 0; i < 2000 && has_keys(&kit, 5); i++) {
        usleep(5000);
    }
    assert_false(has_keys(&kit, 5));
    event = kit_take_event(&kit);
    assert_null(event);
    unmount(&kit);
}

/* A chunk that failed before LevelDB was opened again is answered only afterwards: that must not
 * have it opened once more. */
static void a_late_answer_does_not_open_it_once_more(void **state)
{
    struct kit kit;
    struct kit_event *event;

    (void)state;
    begin_full(&kit);
    checkpoint_ends(&kit, 1000, ST_NO_SPACE, 10);
    kit.io->ops->install_chunk(kit.io, 2000, 3, 0, slice_text("chunk"), false);
    kit_await_letter(&kit);
    mount_size(&kit, 65536, true);
    kit_begin_checkpoint(&kit, 1000, 3, "x", (uint64_t[]){3}, 1);
    event = kit_wait(&kit, IO_EVENT_INSTALL_CHUNK);
    assert_int_equal(event->event.install.status, ST_NO_SPACE);
    kit_free_event(&event);
    event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_OK);
    assert_int_equal(event->event.checkpoint.index, 1000);
    kit_free_event(&event);
    put_many(&kit, 3, 490, 20, "newer");
    checkpoint_ends(&kit, 1010, ST_OK, 1010);
    expect_many(&kit, 3, 0, 490, value);
    expect_many(&kit, 3, 490, 20, "newer");
    unmount(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_again_when_there_is_room),
        cmocka_unit_test(a_crash_on_a_full_disk_goes_back_to_the_last_checkpoint),
        cmocka_unit_test(a_snapshot_that_was_open_is_lost),
        cmocka_unit_test(without_room_nothing_is_begun),
        cmocka_unit_test(the_reserve_lets_a_checkpoint_through),
        cmocka_unit_test(a_range_dropped_meanwhile_is_deleted_in_the_end),
        cmocka_unit_test(a_late_answer_does_not_open_it_once_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
