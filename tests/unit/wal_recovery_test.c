/* Stories of starting the WAL again: what is accepted, what is refused and how it says so. */
#include "tests/unit/wal_story.h"

#include <errno.h>

#include "raft/util/crc32c.h"

/* The log must refuse to start, and name the file and the offset. */
static void expect_refusal(const char *name, size_t offset)
{
    char where[128];

    assert_int_equal(fixture_open(&fx), ST_CORRUPT);
    snprintf(where, sizeof(where), "%s at offset %zu:", name, offset);
    if (strstr(fx.error, where) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", fx.error, where);
    }
    assert_non_null(strstr(fx.error, STORE_REBUILD));
}

static void a_new_log_knows_nobody(void **state)
{
    struct io_log_content content;

    (void)state;
    wal_content(fx.wal, 7, &content);
    assert_int_equal(content.hard_state.term, 0);
    assert_int_equal(content.begin_index, 0);
    assert_int_equal(content.n_entries, 0);
    assert_null(content.entries);
}

static void what_was_written_comes_back(void **state)
{
    struct io_log_content content;

    (void)state;
    fixture_write_now(&fx, 1, 1, 10, 3, 100);
    fixture_vote(&fx, 1, 4, 2);
    fixture_write(&fx, 2, 1, 3, 4, 50);
    fixture_write(&fx, 1, 6, 2, 4, 100); /* overwrites 6..10 */
    wal_flush(fx.wal);
    fixture_kill(&fx);

    fixture_must_open(&fx);
    fixture_expect(&fx, 2, 0, 3, 50);
    wal_content(fx.wal, 1, &content);
    assert_int_equal(content.hard_state.term, 4);
    assert_int_equal(content.hard_state.voted_for, 2);
    assert_int_equal(content.n_entries, 7);
    assert_int_equal(content.entries[4].term, 3);
    assert_int_equal(content.entries[5].term, 4);
    assert_int_equal(content.entries[6].index, 7);
    content_fini(&content);
    wal_content(fx.wal, 1, &content); /* handed out once */
    assert_int_equal(content.n_entries, 0);
}

static void a_noop_has_no_data_and_an_empty_command_has_some(void **state)
{
    struct raft_entry entries[2] = {
        {1, 1, RAFT_ENTRY_NOOP, NULL},
        {2, 1, RAFT_ENTRY_COMMAND, blob_create(slice_of(NULL, 0))},
    };
    struct io_log_write write = {.group = 0, .token = 1, .entries = entries, .n_entries = 2};
    struct io_log_content content;

    (void)state;
    wal_io(fx.wal)->ops->write(wal_io(fx.wal), &write);
    blob_unref(&entries[1].data);
    wal_close(&fx.wal);
    fixture_must_open(&fx);
    wal_content(fx.wal, 0, &content);
    assert_int_equal(content.n_entries, 2);
    assert_int_equal(content.entries[0].type, RAFT_ENTRY_NOOP);
    assert_null(content.entries[0].data);
    assert_non_null(content.entries[1].data);
    content_fini(&content);
}

static void reset_begins_the_log_anew(void **state)
{
    struct raft_entry entry = {101, 9, RAFT_ENTRY_NOOP, NULL};
    struct io_log_write write = {.group = 1,
                                 .token = 1000,
                                 .has_hard_state = true,
                                 .hard_state = {9, 3},
                                 .entries = &entry,
                                 .n_entries = 1};
    struct io_log_content content;

    (void)state;
    fixture_write_now(&fx, 1, 1, 10, 3, 100);
    wal_io(fx.wal)->ops->reset(wal_io(fx.wal), 100, 8, &write);
    wal_flush(fx.wal);
    assert_int_equal(fx.tokens[fx.n_delivered - 1], 1000);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    wal_content(fx.wal, 1, &content);
    assert_int_equal(content.begin_index, 100);
    assert_int_equal(content.begin_term, 8);
    assert_int_equal(content.n_entries, 1);
    assert_int_equal(content.entries[0].index, 101);
    assert_int_equal(content.hard_state.voted_for, 3);
    content_fini(&content);
}

static void a_torn_write_is_dropped_whole(void **state)
{
    size_t dropped = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_log_content content;

        teardown(state);
        fixture_init(&fx, seed);
        fixture_must_open(&fx);
        fixture_write_now(&fx, 1, 1, 2, 1, 100);
        fx.disk.crash_in = fixture_block > 0 ? 1 : 1 + seed % 2; /* in the write, or in the sync */
        fixture_write(&fx, 1, 3, 10, 1, 300);
        wal_flush(fx.wal);
        assert_int_equal(fx.statuses[fx.n_delivered - 1], ST_IO);
        fixture_power_loss(&fx);
        fixture_must_open(&fx);
        wal_content(fx.wal, 1, &content);
        assert_true(content.n_entries == 2 || content.n_entries == 12);
        dropped += content.n_entries == 2 ? 1 : 0;
        content_fini(&content);
    }
    assert_in_range(dropped, 100, fixture_block > 0 ? 200 : 199);
}

/* Writes 3, 4, ... of the first segment: records 2, 3, ... of its file. */
static void write_five(void)
{
    for (raft_index i = 1; i <= 5; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 200);
    }
}

static void damage_in_the_middle_is_refused(void **state)
{
    size_t record, len;

    (void)state;
    write_five();
    record = fixture_record(&fx, "00000001.wal", 3);
    fixture_kill(&fx);
    faulty_files_flip(&fx.disk, "00000001.wal", record + 100, 0x10); /* in its payload */
    expect_refusal("00000001.wal", record);
    faulty_files_flip(&fx.disk, "00000001.wal", record + 100, 0x10);
    faulty_files_flip(&fx.disk, "00000001.wal", record + 16, 0x01); /* in its header */
    expect_refusal("00000001.wal", record);
    faulty_files_flip(&fx.disk, "00000001.wal", record + 16, 0x01);
    /* A whole sector of zeros, as some disks give for one they can't read. */
    memset(faulty_files_bytes(&fx.disk, "00000001.wal", &len) + record, 0, 512);
    expect_refusal("00000001.wal", record);
}

static void the_refused_log_is_left_alone(void **state)
{
    uint64_t changes;

    (void)state;
    write_five();
    fixture_kill(&fx);
    faulty_files_flip(&fx.disk, "00000001.wal", 50, 1);
    changes = fx.disk.changes;
    expect_refusal("00000001.wal", 0);
    assert_int_equal(fx.disk.changes, changes + 1); /* the sync of the directory's parent */
    faulty_files_flip(&fx.disk, "00000001.wal", 50, 1);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 5, 200);
}

static void rot_in_the_last_write_is_a_tear_unless_a_sync_point_follows(void **state)
{
    size_t record;

    (void)state;
    write_five();
    record = fixture_record(&fx, "00000001.wal", 6);
    fixture_kill(&fx);
    faulty_files_flip(&fx.disk, "00000001.wal", record + 100, 0x10);
    fixture_must_open(&fx); /* nothing says that the write was ever durable */
    fixture_expect(&fx, 1, 0, 4, 200);

    teardown(state);
    setup(state);
    write_five();
    wal_flush(fx.wal); /* idle */
    fixture_kill(&fx);
    faulty_files_flip(&fx.disk, "00000001.wal", record + 100, 0x10);
    expect_refusal("00000001.wal", record);
}

static void rot_after_a_clean_close_is_refused(void **state)
{
    size_t record;

    (void)state;
    write_five();
    wal_close(&fx.wal);
    record = fixture_record(&fx, "00000001.wal", 6);
    faulty_files_flip(&fx.disk, "00000001.wal", record + 4, 0x80);
    expect_refusal("00000001.wal", record);
}

static void page_cache_story(uint64_t seed)
{
    struct io_log_content content;
    size_t n;

    fixture_init(&fx, seed);
    fixture_must_open(&fx);
    fixture_write_now(&fx, 1, 1, 2, 1, 400);
    fx.disk.fail_in[FAULTY_SYNC] = 1; /* the write stays in memory, and no sync will write it */
    fx.disk.fail_errno[FAULTY_SYNC] = EIO;
    fixture_write(&fx, 1, 3, 8, 1, 400);
    wal_flush(fx.wal);
    assert_int_equal(fx.statuses[fx.n_delivered - 1], ST_IO);
    fixture_kill(&fx);

    fixture_must_open(&fx);
    wal_content(fx.wal, 1, &content);
    n = content.n_entries;
    content_fini(&content);
    assert_int_equal(n, 10); /* read from the page cache */
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 10, 400);
}

static void what_only_the_page_cache_held_is_durable_after_open(void **state)
{
    (void)state;
    if (fixture_block > 0) {
        skip(); /* nothing is there only */
    }
    for (uint64_t seed = 0; seed < 50; seed++) {
        fixture_fini(&fx);
        page_cache_story(seed);
    }
}

/* A write of two groups at once. The lengths are such that in the write after the first sync point
 * the second record begins a sector, so that a tear may keep either one whole. */
static void write_pair(raft_index index, raft_term term)
{
    fixture_write(&fx, 1, index, 1, term, index == 1 ? 900 : 883);
    fixture_write(&fx, 2, index, 1, term, index == 1 ? 900 : 300);
    wal_flush(fx.wal);
}

static raft_term term_of_second(group_id group)
{
    struct io_log_content content;
    raft_term term;

    wal_content(fx.wal, group, &content);
    assert_in_range(content.n_entries, 1, 2);
    term = content.n_entries == 2 ? content.entries[1].term : 0;
    content_fini(&content);
    return term;
}

static void a_torn_write_leaves_nothing_for_the_next_one(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        raft_term expected = 0;

        fixture_fini(&fx);
        fixture_init(&fx, seed);
        fixture_must_open(&fx);
        write_pair(1, 1);
        wal_flush(fx.wal); /* idle: a sync point */
        assert_int_equal(fixture_record(&fx, "00000001.wal", 5), 2120);
        for (raft_term term = 2; term <= 4; term++) {
            fx.disk.crash_in = 1;
            write_pair(2, term);
            fixture_power_loss(&fx);
            fixture_must_open(&fx);
            if (term_of_second(1) == term) {
                expected = term; /* it was whole: from now on it must stay */
            }
            fixture_power_loss(&fx);
            fixture_must_open(&fx);
            assert_int_equal(term_of_second(1), expected);
            fixture_kill(&fx);
            fixture_must_open(&fx);
            assert_int_equal(term_of_second(2), expected);
            if (expected > 0) {
                break;
            }
        }
    }
}

static void restarts_do_not_pile_up_segments(void **state)
{
    (void)state;
    write_five();
    for (int i = 0; i < 20; i++) {
        wal_close(&fx.wal);
        fixture_must_open(&fx);
        fixture_kill(&fx);
        fixture_must_open(&fx);
    }
    fixture_expect(&fx, 1, 0, 5, 200);
    assert_in_range(faulty_files_count(&fx.disk, ".wal"), 1, 2);
}

static void restarts_in_the_middle_of_work_take_no_space_that_they_do_not_use(void **state)
{
    uint64_t bytes;

    (void)state;
    for (raft_index i = 1; i <= 30; i++) { /* no checkpoint: every entry is still needed */
        fixture_write_now(&fx, 1, i, 1, 1, 200);
        if (i % 3 == 0) {
            fixture_power_loss(&fx);
        } else {
            fixture_kill(&fx);
        }
        fixture_must_open(&fx);
        fixture_expect(&fx, 1, 0, i, 200);
    }
    bytes = wal_io(fx.wal)->ops->bytes(wal_io(fx.wal));
    assert_in_range(bytes, FIXTURE_SEGMENT, 30 * 4096 + 3 * FIXTURE_SEGMENT);
    for (raft_index i = 31; i <= 60; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    fixture_compact(&fx, 1, 60, 1);
    wal_flush(fx.wal);
    wal_flush(fx.wal);
    assert_in_range(faulty_files_count(&fx.disk, ".wal"), 1, 2); /* and they go like others */
    for (raft_index i = 61; i <= 120; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000); /* some in a file that was cut short */
    }
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 60, 120, 1000);
}

/* ---- Segments that are not what they should be ---- */

/* Several segments of one group. */
static void write_many(size_t n)
{
    for (raft_index i = 1; i <= n; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
}

static void segments_follow_each_other(void **state)
{
    (void)state;
    write_many(100);
    assert_in_range(faulty_files_count(&fx.disk, ".wal"), 7, 9);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 100, 1000);
}

static void a_missing_segment_is_refused(void **state)
{
    static const char *const missing[] = {"00000001.wal", "00000002.wal", "00000004.wal"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        teardown(state);
        setup(state);
        write_many(100);
        wal_close(&fx.wal);
        faulty_files_remove(&fx.disk, missing[i]);
        expect_refusal(missing[i], 0);
    }
}

static void a_missing_newest_segment_is_refused(void **state)
{
    (void)state;
    write_many(35); /* two full ones and one begun */
    assert_int_equal(faulty_files_count(&fx.disk, ".wal"), 3);
    wal_close(&fx.wal);
    faulty_files_remove(&fx.disk, "00000003.wal");
    expect_refusal("00000003.wal", 0);
}

static void a_missing_newest_segment_that_recovery_made_is_refused(void **state)
{
    (void)state;
    write_many(3);
    fixture_kill(&fx); /* the last write is not proven: it moves */
    fixture_must_open(&fx);
    fixture_write_now(&fx, 1, 4, 1, 1, 1000);
    wal_close(&fx.wal);
    assert_true(faulty_files_exists(&fx.disk, "00000002.wal"));
    faulty_files_remove(&fx.disk, "00000002.wal");
    expect_refusal("00000002.wal", 0);
}

/* As after a restore from two backups. */
static void a_segment_of_another_time_is_refused(void **state)
{
    struct fixture other;

    (void)state;
    fixture_init(&other, 1);
    fixture_must_open(&other);
    fixture_vote(&other, 2, 6, 1);
    fixture_vote(&fx, 2, 5, 1);
    wal_flush(other.wal);
    wal_flush(fx.wal);
    write_many(40);
    for (raft_index i = 1; i <= 40; i++) {
        fixture_write_now(&other, 1, i, 1, 1, 1000);
    }
    wal_close(&fx.wal);
    faulty_files_copy(&other.disk, "00000001.wal", &fx.disk, "00000001.wal");
    expect_refusal("00000002.wal", 40);
    fixture_fini(&other);
}

static void two_damages_do_not_hide_each_other(void **state)
{
    size_t len, end;

    (void)state;
    write_many(40);
    wal_close(&fx.wal);
    while (faulty_files_count(&fx.disk, ".wal") > 2) {
        faulty_files_remove(&fx.disk, faulty_files_name(&fx.disk, ".wal", 2));
    }
    end = fixture_record(&fx, "00000001.wal", 17); /* header, sync point, 15 writes, END */
    assert_int_equal(faulty_files_bytes(&fx.disk, "00000001.wal", &len)[end + 12], 8);
    faulty_files_flip(&fx.disk, "00000001.wal", end + 20, 4);
    faulty_files_flip(&fx.disk, "00000002.wal", 3, 4); /* its preamble */
    expect_refusal("00000001.wal", end);
}

static void no_segment_at_all_is_refused_if_there_was_one(void **state)
{
    (void)state;
    write_many(40);
    fixture_compact(&fx, 1, 40, 1);
    wal_flush(fx.wal);
    wal_close(&fx.wal);
    assert_true(faulty_files_count(&fx.disk, ".free") > 0);
    while (faulty_files_count(&fx.disk, ".wal") > 0) {
        faulty_files_remove(&fx.disk, faulty_files_name(&fx.disk, ".wal", 0));
    }
    assert_int_equal(fixture_open(&fx), ST_CORRUPT);
}

static void a_misplaced_segment_is_refused(void **state)
{
    (void)state;
    write_many(40);
    wal_close(&fx.wal);
    faulty_files_copy(&fx.disk, "00000001.wal", &fx.disk, "00000009.wal");
    expect_refusal("00000009.wal", 0);
    assert_non_null(strstr(fx.error, "misplaced"));
}

static void a_segment_of_another_replica_is_refused(void **state)
{
    struct fixture other;

    (void)state;
    fixture_init(&other, 1);
    other.options.identity = 99;
    fixture_must_open(&other);
    write_many(5);
    wal_close(&fx.wal);
    faulty_files_copy(&other.disk, "00000001.wal", &fx.disk, "00000001.wal");
    expect_refusal("00000001.wal", 0);
    assert_non_null(strstr(fx.error, "another replica"));
    fixture_fini(&other);
}

static void a_newer_format_is_not_touched(void **state)
{
    uint8_t *bytes;
    size_t len;

    (void)state;
    wal_close(&fx.wal);
    bytes = faulty_files_bytes(&fx.disk, "00000001.wal", &len);
    set_u32(bytes + 8, 2);
    set_u32(bytes + 36, crc32c(0, bytes, 36));
    assert_int_equal(fixture_open(&fx), ST_VERSION);
    assert_non_null(strstr(fx.error, "00000001.wal"));
}

/* The log of the fixture, in a segment with id 2 instead of 1, all offsets and numbers the same. */
static void begin_in_segment_two(struct fixture *fixture)
{
    fixture_init(fixture, 5);
    fixture->disk.crash_in = 7; /* in the first write into segment 1 */
    assert_int_equal(fixture_open(fixture), ST_IO);
    faulty_files_kill(&fixture->disk);
    fixture_must_open(fixture);
    assert_true(faulty_files_exists(&fixture->disk, "00000002.wal"));
}

static void bytes_of_another_segment_are_not_accepted(void **state)
{
    struct fixture other;
    uint8_t *from, *to;
    size_t at, len;

    (void)state;
    write_five();
    begin_in_segment_two(&other);
    for (raft_index i = 1; i <= 3; i++) {
        fixture_write_now(&other, 1, i, 1, 1, 200);
    }
    /* What a recycled file may hold behind the end: whole records whose numbers would fit. */
    at = fixture_record(&fx, "00000001.wal", 5);
    from = faulty_files_bytes(&fx.disk, "00000001.wal", &len);
    to = faulty_files_bytes(&other.disk, "00000002.wal", &len);
    assert_memory_equal(from + at - 200, to + at - 200, 100); /* the logs are alike up to there */
    assert_int_equal(get_u64(from + at + 16), 6);
    fixture_die(&other);
    faulty_files_kill(&other.disk);
    memcpy(to + at, from + at, 1000);
    fixture_must_open(&other);
    fixture_expect(&other, 1, 0, 3, 200);
    fixture_fini(&other);
}

static void recycled_files_do_not_bring_old_entries_back(void **state)
{
    (void)state;
    for (raft_index i = 1; i <= 300; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
        if (i % 20 == 0) {
            fixture_compact(&fx, 1, i - 5, 1);
            wal_flush(fx.wal);
        }
        if (i % 7 == 0) {
            fixture_kill(&fx);
            fixture_must_open(&fx);
            fixture_expect(&fx, 1, i < 20 ? 0 : i / 20 * 20 - 5, i, 1000);
        }
    }
    assert_true(faulty_files_count(&fx.disk, ".wal") < 12);
}

static void an_unreadable_sector_is_an_error_not_a_tear(void **state)
{
    (void)state;
    write_five();
    fixture_kill(&fx);
    fx.disk.fail_in[FAULTY_READ] = 1;
    fx.disk.fail_errno[FAULTY_READ] = EIO;
    assert_int_equal(fixture_open(&fx), ST_IO);
    assert_non_null(strstr(fx.error, "00000001.wal"));
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 5, 200);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_new_log_knows_nobody),
        STORY(what_was_written_comes_back),
        STORY(a_noop_has_no_data_and_an_empty_command_has_some),
        STORY(reset_begins_the_log_anew),
        STORY(a_torn_write_is_dropped_whole),
        STORY(damage_in_the_middle_is_refused),
        STORY(the_refused_log_is_left_alone),
        STORY(rot_in_the_last_write_is_a_tear_unless_a_sync_point_follows),
        STORY(rot_after_a_clean_close_is_refused),
        STORY(what_only_the_page_cache_held_is_durable_after_open),
        STORY(a_torn_write_leaves_nothing_for_the_next_one),
        STORY(restarts_do_not_pile_up_segments),
        STORY(restarts_in_the_middle_of_work_take_no_space_that_they_do_not_use),
        STORY(segments_follow_each_other),
        STORY(a_missing_segment_is_refused),
        STORY(a_missing_newest_segment_is_refused),
        STORY(a_missing_newest_segment_that_recovery_made_is_refused),
        STORY(a_segment_of_another_time_is_refused),
        STORY(two_damages_do_not_hide_each_other),
        STORY(no_segment_at_all_is_refused_if_there_was_one),
        STORY(a_misplaced_segment_is_refused),
        STORY(a_segment_of_another_replica_is_refused),
        STORY(a_newer_format_is_not_touched),
        STORY(bytes_of_another_segment_are_not_accepted),
        STORY(recycled_files_do_not_bring_old_entries_back),
        STORY(an_unreadable_sector_is_an_error_not_a_tear),
    };
    return RUN_STORIES(tests);
}
