/* Stories of a WAL on a full disk, and of the reserve. */
#include "tests/unit/wal_story.h"

static struct wal_stats statistics(void)
{
    struct wal_stats stats;

    wal_statistics(fx.wal, &stats);
    return stats;
}

/* Writes entries of 1000 bytes until one is not answered; gives its index. */
static raft_index write_until_it_waits(raft_index first)
{
    for (raft_index i = first; i < first + 200; i++) {
        size_t before = fx.n_delivered;

        fixture_write(&fx, 1, i, 1, 1, 1000);
        wal_flush(fx.wal);
        if (fx.n_delivered == before) {
            return i;
        }
        assert_int_equal(fx.statuses[before], ST_OK);
    }
    fail_msg("the disk does not get full");
    return 0;
}

static void a_write_that_finds_no_room_waits_for_it(void **state)
{
    raft_index i;
    uint64_t changes;

    (void)state;
    fx.disk.quota_bytes = 3 * FIXTURE_SEGMENT;
    i = write_until_it_waits(1);
    assert_in_range(i, 35, 50); /* three segments are full, and not a byte is torn */
    assert_true(statistics().no_room);
    changes = fx.disk.counts[FAULTY_WRITE];
    fixture_write(&fx, 1, i + 1, 1, 1, 1000);
    for (int n = 0; n < 5; n++) {
        wal_flush(fx.wal);
    }
    assert_int_equal(fx.n_delivered, i - 1); /* nobody is told anything */
    fx.disk.quota_bytes = 0;
    wal_flush(fx.wal);
    assert_int_equal(fx.n_delivered, i + 1); /* there is room: all that waited, in order */
    assert_int_equal(fx.tokens[i - 1] + 1, fx.tokens[i]);
    assert_int_equal(fx.statuses[i], ST_OK);
    assert_false(statistics().no_room);
    assert_true(fx.disk.counts[FAULTY_WRITE] > changes);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, i + 1, 1000);
}

static void what_waits_for_room_is_lost_with_the_process_and_was_never_acknowledged(void **state)
{
    raft_index i;

    (void)state;
    fx.disk.quota_bytes = 3 * FIXTURE_SEGMENT;
    i = write_until_it_waits(1);
    fx.disk.quota_bytes = 0;
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, i - 1, 1000);
    fixture_write_now(&fx, 1, i, 1, 1, 1000);
}

static void a_log_without_room_closes_in_order(void **state)
{
    raft_index i;

    (void)state;
    fx.disk.quota_bytes = 3 * FIXTURE_SEGMENT;
    i = write_until_it_waits(1);
    wal_close(&fx.wal);
    fx.disk.quota_bytes = 0;
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, i - 1, 1000);
}

static void a_smaller_segment_keeps_a_full_log_going(void **state)
{
    raft_index i;

    (void)state;
    fx.disk.quota_bytes = 3 * FIXTURE_SEGMENT + FIXTURE_SEGMENT / 2;
    i = write_until_it_waits(1);
    assert_in_range(i, 50, 58); /* half a segment more */
    fx.disk.quota_bytes = 0;
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, i - 1, 1000);
}

static uint64_t used_bytes(void)
{
    uint64_t bytes = 0;
    size_t len;

    for (size_t n = 0; faulty_files_name(&fx.disk, "", n) != NULL; n++) {
        faulty_files_bytes(&fx.disk, faulty_files_name(&fx.disk, "", n), &len);
        bytes += len;
    }
    return bytes;
}

/* A failed allocation holds for a moment all that is free, from which LevelDB and other processes
 * live. So it is not tried again and again. */
static void a_segment_in_advance_is_not_tried_without_room_for_it(void **state)
{
    uint64_t tries;

    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 1000);
    fx.disk.quota_bytes = used_bytes() + FIXTURE_SEGMENT - 1;
    tries = fx.disk.counts[FAULTY_ALLOCATE];
    for (int i = 0; i < 5; i++) {
        wal_flush(fx.wal); /* an idle moment */
        assert_true(statistics().no_room);
    }
    assert_int_equal(fx.disk.counts[FAULTY_ALLOCATE], tries);
    fx.disk.quota_bytes++;
    wal_flush(fx.wal);
    assert_false(statistics().no_room);
    assert_int_equal(fx.disk.counts[FAULTY_ALLOCATE], tries + 1);
}

/* A spare file that is shorter than a segment would keep what a failed try gave it. */
static void a_short_spare_file_does_not_grow_into_the_last_room(void **state)
{
    const struct wal_files *files = &fx.disk.files;
    const char *last;
    size_t len;
    int fd;

    (void)state;
    wal_close(&fx.wal);
    fd = files->open(files->context, "data/wal/00000077.free", true);
    assert_int_equal(files->allocate(files->context, fd, FIXTURE_SEGMENT / 2), 0);
    files->close(files->context, fd);
    fixture_must_open(&fx);
    fx.disk.quota_bytes = used_bytes() + FIXTURE_SEGMENT / 4;
    for (raft_index i = 1; i <= 60 && faulty_files_exists(&fx.disk, "00000077.free"); i++) {
        faulty_files_bytes(&fx.disk, "00000077.free", &len);
        assert_int_equal(len, FIXTURE_SEGMENT / 2);
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
        wal_flush(fx.wal);
    }
    assert_false(faulty_files_exists(&fx.disk, "00000077.free")); /* a write needed it, as it is */
    last = faulty_files_name(&fx.disk, ".wal", faulty_files_count(&fx.disk, ".wal") - 1);
    faulty_files_bytes(&fx.disk, last, &len);
    assert_int_equal(len, FIXTURE_SEGMENT / 2);
}

/* The same for a next segment that is there, and too small for one large write. */
static void a_write_that_waits_for_room_does_not_hold_any(void **state)
{
    uint64_t used;

    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 1000);
    wal_flush(fx.wal);
    used = used_bytes();
    fx.disk.quota_bytes = used + FIXTURE_SEGMENT;
    fixture_write(&fx, 1, 2, 4, 1, FIXTURE_SEGMENT);
    for (int i = 0; i < 3; i++) {
        wal_flush(fx.wal);
        assert_int_equal(fx.n_delivered, 1);
        assert_int_equal(used_bytes(), used);
    }
    fx.disk.quota_bytes = 0;
    wal_flush(fx.wal);
    assert_int_equal(fx.n_delivered, 2);
}

static void a_log_on_a_full_disk_starts_again(void **state)
{
    (void)state;
    for (raft_index i = 1; i <= 12; i++) { /* the next segment is made by now */
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    fx.disk.quota_bytes = 1;
    fixture_kill(&fx); /* in the middle of work: the end must be written anew */
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 12, 1000);
    for (int i = 0; i < 5; i++) {
        wal_close(&fx.wal);
        fixture_must_open(&fx);
        fixture_kill(&fx);
        fixture_must_open(&fx);
    }
}

static void no_space_for_a_new_log_is_said(void **state)
{
    (void)state;
    teardown(state);
    fixture_init(&fx, 3);
    fx.disk.quota_bytes = 100;
    assert_int_equal(fixture_open(&fx), ST_NO_SPACE);
    assert_non_null(strstr(fx.error, "00000001.wal"));
    fx.disk.quota_bytes = 0;
    fixture_must_open(&fx);
}

/* ---- The reserve ---- */

static uint64_t room_bytes; /* what the file system says is free */

static uint64_t told_free_bytes(const char *path)
{
    (void)path;
    return room_bytes;
}

static struct store_reserve *reserve_open(uint32_t pieces)
{
    struct store_reserve_options options;
    struct store_reserve *reserve;
    char error[STORE_ERROR_BYTES];

    store_reserve_options_default(&options, "data/reserve", FIXTURE_SEGMENT);
    options.piece_bytes = FIXTURE_SEGMENT;
    options.pieces = pieces;
    options.files = &fx.disk.files;
    options.free_bytes = told_free_bytes;
    assert_int_equal(store_reserve_open(&options, &reserve, error), ST_OK);
    return reserve;
}

static void the_reserve_becomes_a_segment_when_nothing_else_is_left(void **state)
{
    struct store_reserve *reserve;
    raft_index i;

    (void)state;
    fixture_kill(&fx);
    room_bytes = UINT64_MAX;
    reserve = reserve_open(2);
    assert_int_equal(store_reserve_bytes(reserve), 2 * FIXTURE_SEGMENT);
    fx.options.reserve = reserve;
    fixture_must_open(&fx);
    room_bytes = 0;
    fx.disk.quota_bytes = 5 * FIXTURE_SEGMENT; /* three segments and the reserve */
    i = write_until_it_waits(1);
    assert_int_equal(store_reserve_bytes(reserve), 0);
    assert_true(i > 60);
    fx.disk.quota_bytes = 0;
    wal_flush(fx.wal);
    assert_int_equal(store_reserve_bytes(reserve), 0); /* as much again must stay free */
    room_bytes = 2 * FIXTURE_SEGMENT;
    wal_flush(fx.wal);
    assert_int_equal(store_reserve_bytes(reserve), FIXTURE_SEGMENT); /* piece by piece */
    wal_flush(fx.wal);
    assert_int_equal(store_reserve_bytes(reserve), 2 * FIXTURE_SEGMENT);
    wal_flush(fx.wal);
    assert_int_equal(store_reserve_bytes(reserve), 2 * FIXTURE_SEGMENT);
    wal_close(&fx.wal);
    store_reserve_close(&reserve);
    fx.options.reserve = NULL;
}

static void a_start_on_a_full_disk_may_use_the_reserve(void **state)
{
    struct store_reserve *reserve;

    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 1000);
    room_bytes = UINT64_MAX;
    reserve = reserve_open(1);
    fx.options.reserve = reserve;
    fixture_kill(&fx); /* the only segment's end is not proven */
    while (faulty_files_count(&fx.disk, ".free") > 0) {
        faulty_files_remove(&fx.disk, faulty_files_name(&fx.disk, ".free", 0));
    }
    room_bytes = 0;
    fx.disk.quota_bytes = 1;
    fx.options.reserve = NULL;
    assert_int_equal(fixture_open(&fx), ST_NO_SPACE);
    fx.options.reserve = reserve;
    fx.disk.quota_bytes = 2 * FIXTURE_SEGMENT;
    fixture_must_open(&fx);
    assert_int_equal(store_reserve_bytes(reserve), 0);
    fixture_expect(&fx, 1, 0, 1, 1000);
    wal_close(&fx.wal);
    store_reserve_close(&reserve);
    fx.options.reserve = NULL;
}

static void a_reserve_is_found_again_and_fits_its_options(void **state)
{
    struct store_reserve *reserve;

    (void)state;
    fixture_kill(&fx);
    room_bytes = UINT64_MAX;
    reserve = reserve_open(3);
    store_reserve_close(&reserve);
    room_bytes = 0; /* nothing can be taken now */
    reserve = reserve_open(3);
    assert_int_equal(store_reserve_bytes(reserve), 3 * FIXTURE_SEGMENT);
    assert_false(store_reserve_is_short(reserve));
    assert_true(store_reserve_yield(reserve, 1));
    assert_true(store_reserve_is_short(reserve));
    store_reserve_close(&reserve);
    room_bytes = UINT64_MAX;
    reserve = reserve_open(2);
    store_reserve_started(reserve); /* from now on, half is for the next start */
    assert_true(store_reserve_yield(reserve, 100 * FIXTURE_SEGMENT));
    assert_false(store_reserve_yield(reserve, 1));
    assert_int_equal(store_reserve_bytes(reserve), FIXTURE_SEGMENT);
    store_reserve_close(&reserve);
    room_bytes = 0;
    reserve = reserve_open(1); /* fewer are wanted: the others go */
    assert_int_equal(store_reserve_bytes(reserve), FIXTURE_SEGMENT);
    assert_false(faulty_files_exists(&fx.disk, "2"));
    assert_true(store_reserve_yield(reserve, 100 * FIXTURE_SEGMENT));
    assert_false(store_reserve_yield(reserve, 1));
    assert_false(faulty_files_exists(&fx.disk, "1"));
    store_reserve_close(&reserve);
    assert_false(store_reserve_yield(NULL, 1));
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest stories[] = {
        STORY(a_write_that_finds_no_room_waits_for_it),
        STORY(what_waits_for_room_is_lost_with_the_process_and_was_never_acknowledged),
        STORY(a_log_without_room_closes_in_order),
        STORY(a_smaller_segment_keeps_a_full_log_going),
        STORY(the_reserve_becomes_a_segment_when_nothing_else_is_left),
        STORY(a_start_on_a_full_disk_may_use_the_reserve),
        STORY(a_reserve_is_found_again_and_fits_its_options),
        STORY(a_segment_in_advance_is_not_tried_without_room_for_it),
        STORY(a_short_spare_file_does_not_grow_into_the_last_room),
        STORY(a_write_that_waits_for_room_does_not_hold_any),
        STORY(a_log_on_a_full_disk_starts_again),
        STORY(no_space_for_a_new_log_is_said),
    };

    return RUN_STORIES(stories);
}
