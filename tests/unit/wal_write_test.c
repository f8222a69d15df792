/* Stories of a running WAL: group commit, failure, compaction. */
#include "tests/unit/wal_story.h"

#include <errno.h>

static struct wal_stats statistics(void)
{
    struct wal_stats stats;

    wal_statistics(fx.wal, &stats);
    return stats;
}

/* ---- Group commit ---- */

static void one_sync_for_all_that_a_turn_wrote(void **state)
{
    uint64_t syncs, writes;

    (void)state;
    wal_flush(fx.wal); /* what is made ready in idle moments is ready */
    syncs = fx.disk.counts[FAULTY_SYNC];
    writes = fx.disk.counts[FAULTY_WRITE];
    for (group_id group = 0; group < 16; group++) {
        fixture_write(&fx, group, 1, 4, 1, 20);
    }
    assert_int_equal(fx.n_delivered, 0);
    wal_flush(fx.wal);
    assert_int_equal(fx.n_delivered, 16);
    for (size_t i = 0; i < 16; i++) {
        assert_int_equal(fx.tokens[i], i + 1);
        assert_int_equal(fx.statuses[i], ST_OK);
    }
    assert_int_equal(fx.disk.counts[FAULTY_SYNC], syncs + (fixture_block == 0)); /* direct: none */
    assert_int_equal(fx.disk.counts[FAULTY_WRITE], writes + 1);
    assert_int_equal(statistics().records, 16);
}

static void nothing_is_acknowledged_before_it_is_synced(void **state)
{
    (void)state;
    for (int i = 1; i <= 50; i++) {
        fixture_write_now(&fx, 1, (raft_index)i, 1, 1, 700);
        if (i % 5 == 0) {
            fixture_power_loss(&fx);
            fixture_must_open(&fx);
            fixture_expect(&fx, 1, 0, (raft_index)i, 700);
        }
    }
}

static void an_idle_log_gets_one_sync_point(void **state)
{
    uint64_t writes;

    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 10);
    writes = statistics().writes;
    wal_flush(fx.wal);
    wal_flush(fx.wal);
    wal_flush(fx.wal);
    assert_int_equal(statistics().writes, writes + 1);
}

static void a_write_without_content_is_answered_in_its_turn(void **state)
{
    struct io_log_write empty = {.group = 1, .token = 77};

    (void)state;
    fixture_write(&fx, 1, 1, 1, 1, 10);
    wal_io(fx.wal)->ops->write(wal_io(fx.wal), &empty);
    wal_flush(fx.wal);
    assert_int_equal(fx.n_delivered, 2);
    assert_int_equal(fx.tokens[1], 77);
    wal_io(fx.wal)->ops->write(wal_io(fx.wal), &empty);
    wal_flush(fx.wal);
    assert_int_equal(fx.n_delivered, 3);
}

static void a_write_larger_than_a_segment_gets_a_larger_one(void **state)
{
    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 100);
    fixture_write_now(&fx, 1, 2, 1, 1, 5 * FIXTURE_SEGMENT);
    fixture_write_now(&fx, 1, 3, 1, 1, 100);
    fixture_write_now(&fx, 2, 1, 60, 1, FIXTURE_SEGMENT / 16); /* many records in one write */
    assert_true(wal_io(fx.wal)->ops->bytes(wal_io(fx.wal)) > 9 * FIXTURE_SEGMENT);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 2, 0, 60, FIXTURE_SEGMENT / 16);
    fixture_compact(&fx, 2, 60, 1);
    fixture_compact(&fx, 1, 3, 1);
    wal_flush(fx.wal);
    wal_flush(fx.wal);
    assert_true(wal_io(fx.wal)->ops->bytes(wal_io(fx.wal)) < 9 * FIXTURE_SEGMENT);
}

static void an_entry_of_forty_mebibytes_is_carried(void **state)
{
    if (fixture_block == 512) {
        skip(); /* it takes its time, and is told twice already */
    }
    teardown(state);
    fixture_init(&fx, 1);
    fx.options.segment_bytes = 64u << 20;
    fixture_must_open(&fx);
    fixture_write_now(&fx, 1, 1, 1, 1, 40u << 20);
    fixture_write_now(&fx, 1, 2, 1, 1, 40u << 20);
    fixture_kill(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 2, 40u << 20);
}

/* ---- Failure ---- */

static void expect_poison(enum status status)
{
    uint64_t changes = fx.disk.changes;

    for (int i = 0; i < 3; i++) {
        fixture_vote(&fx, 9, 5 + (raft_term)i, 1);
        wal_flush(fx.wal);
        wal_flush(fx.wal);
        assert_int_equal(fx.statuses[fx.n_delivered - 1], status);
        assert_int_equal(fx.tokens[fx.n_delivered - 1], fx.next_token);
    }
    wal_close(&fx.wal);
    assert_int_equal(fx.disk.changes, changes); /* nothing was tried again */
}

static void fail_next(enum faulty_op op, int error)
{
    fx.disk.fail_in[op] = 1;
    fx.disk.fail_errno[op] = error;
}

/* What makes a write durable. */
static enum faulty_op syncing(void)
{
    return fixture_block == 0 ? FAULTY_SYNC : FAULTY_WRITE;
}

static void a_failed_write_poisons_the_log(void **state)
{
    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 10);
    fail_next(FAULTY_WRITE, EIO);
    fixture_write(&fx, 1, 2, 1, 1, 10);
    fixture_write(&fx, 2, 1, 1, 1, 10);
    wal_flush(fx.wal);
    assert_int_equal(fx.statuses[1], ST_IO);
    assert_int_equal(fx.statuses[2], ST_IO);
    expect_poison(ST_IO);
}

static void a_short_write_poisons_the_log(void **state)
{
    (void)state;
    fail_next(FAULTY_WRITE, ENOSPC);
    fx.disk.short_write = true;
    fixture_write(&fx, 1, 1, 1, 1, 5000);
    wal_flush(fx.wal);
    assert_int_equal(fx.statuses[0], ST_IO);
    expect_poison(ST_IO);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 0, 0);
}

static void a_failed_sync_poisons_the_log(void **state)
{
    uint64_t syncs;

    (void)state;
    fail_next(syncing(), EIO);
    fixture_write(&fx, 1, 1, 1, 1, 10);
    syncs = fx.disk.counts[syncing()];
    wal_flush(fx.wal);
    assert_int_equal(fx.statuses[0], ST_IO);
    expect_poison(ST_IO);
    assert_int_equal(fx.disk.counts[syncing()], syncs + 1);
}

static void a_failed_sync_of_a_sync_point_poisons_the_log(void **state)
{
    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 10);
    fail_next(syncing(), EIO);
    wal_flush(fx.wal);
    expect_poison(ST_IO);
}

struct lines {
    size_t n;
    char last[1024];
};

static int list_fails(void *context, const char *path, void (*each)(void *arg, const char *name),
                      void *arg)
{
    (void)context;
    (void)path;
    (void)each;
    (void)arg;
    return -EIO;
}

static void a_directory_that_is_not_listed_is_named(void **state)
{
    (void)state;
    wal_close(&fx.wal);
    fx.disk.files.list = list_fails;
    assert_int_equal(fixture_open(&fx), ST_IO);
    assert_non_null(strstr(fx.error, "listing data/wal failed"));
    assert_null(strstr(fx.error, "00000001.wal"));
}

static void lines_emit(void *context, enum trace_level level, const char *line)
{
    struct lines *lines = context;

    if (level == TRACE_ERROR) {
        lines->n++;
        snprintf(lines->last, sizeof(lines->last), "%s", line);
    }
}

static void reopen_traced(const struct trace *trace)
{
    wal_close(&fx.wal);
    fx.options.trace = trace;
    fixture_must_open(&fx);
}

static void the_reason_is_traced_once(void **state)
{
    struct lines lines = {0};
    struct trace trace = {.level = TRACE_INFO, .context = &lines, .emit = lines_emit};

    (void)state;
    reopen_traced(&trace);
    fail_next(syncing(), EIO);
    fixture_write(&fx, 1, 1, 1, 1, 10);
    wal_flush(fx.wal);
    expect_poison(ST_IO);
    assert_int_equal(lines.n, 1);
    assert_non_null(strstr(lines.last, fixture_block == 0
                                           ? "fdatasync on data/wal/00000001.wal failed"
                                           : "write on data/wal/00000001.wal failed"));
}

/* Between two writes the log may fail too: whoever writes next is not left without the reason. */
static void the_reason_of_an_idle_failure_is_traced_once(void **state)
{
    struct lines lines = {0};
    struct trace trace = {.level = TRACE_INFO, .context = &lines, .emit = lines_emit};

    (void)state;
    reopen_traced(&trace);
    fixture_write_now(&fx, 1, 1, 1, 1, 10);
    fail_next(syncing(), EIO);
    wal_flush(fx.wal); /* with nothing to write: a sync point */
    assert_int_equal(lines.n, 1);
    assert_non_null(strstr(lines.last, "00000001.wal failed: Input/output error"));
    expect_poison(ST_IO);
    assert_int_equal(lines.n, 1);
}

/* ---- Segments ---- */

static void compaction_recycles_segments(void **state)
{
    (void)state;
    for (raft_index i = 1; i <= 500; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
        if (i % 25 == 0) {
            fixture_compact(&fx, 1, i - 3, 1);
            wal_flush(fx.wal);
        }
    }
    assert_in_range(faulty_files_count(&fx.disk, ".wal"), 1, 4);
    assert_in_range(faulty_files_count(&fx.disk, ".free"), 0, 2);
    assert_true(statistics().recycled > 20);
    assert_in_range(statistics().segments, 1, 4);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 497, 500, 1000);
}

static void a_group_that_rests_keeps_its_entries_and_its_vote(void **state)
{
    struct io_log_content content;
    size_t pinned;

    (void)state;
    fixture_vote(&fx, 2, 6, 3);
    fixture_write(&fx, 2, 1, 2, 6, 50);
    fixture_vote(&fx, 3, 8, 1); /* a group with a vote and no entries pins nothing */
    wal_io(fx.wal)->ops->checkpoint(wal_io(fx.wal), 3, 12, 0);
    wal_flush(fx.wal);
    for (raft_index i = 1; i <= 100; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    fixture_compact(&fx, 1, 100, 1);
    wal_flush(fx.wal);
    pinned = faulty_files_count(&fx.disk, ".wal");
    assert_true(pinned >= 7); /* group 2 needs the oldest one */
    assert_true(faulty_files_exists(&fx.disk, "00000001.wal"));
    fixture_compact(&fx, 2, 2, 6);
    wal_flush(fx.wal);
    assert_true(faulty_files_count(&fx.disk, ".wal") <= 2);
    assert_false(faulty_files_exists(&fx.disk, "00000001.wal"));

    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    wal_content(fx.wal, 2, &content);
    assert_int_equal(content.hard_state.term, 6);
    assert_int_equal(content.hard_state.voted_for, 3);
    assert_int_equal(content.begin_index, 2);
    assert_int_equal(content.begin_term, 6);
    wal_content(fx.wal, 3, &content);
    assert_int_equal(content.hard_state.term, 8);
    assert_int_equal(content.hard_state.voted_for, 1);
    assert_int_equal(content.checkpoint, 12);
}

static void overwritten_entries_pin_nothing(void **state)
{
    (void)state;
    fixture_write_now(&fx, 2, 1, 5, 1, 50);
    for (raft_index i = 1; i <= 40; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    fixture_write_now(&fx, 2, 1, 1, 2, 50); /* another leader's log: all five are gone */
    fixture_compact(&fx, 1, 40, 1);
    wal_flush(fx.wal);
    assert_false(faulty_files_exists(&fx.disk, "00000001.wal"));
    fixture_kill(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 2, 0, 1, 50);
}

static void entries_before_a_reset_pin_nothing(void **state)
{
    struct io_log_write empty = {.group = 2, .token = 1000};

    (void)state;
    fixture_write_now(&fx, 2, 1, 50, 1, 50);
    for (raft_index i = 1; i <= 40; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    wal_io(fx.wal)->ops->reset(wal_io(fx.wal), 10, 2, &empty); /* a snapshot of another history */
    fixture_compact(&fx, 1, 40, 1);
    wal_flush(fx.wal);
    assert_false(faulty_files_exists(&fx.disk, "00000001.wal"));
    fixture_kill(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 2, 10, 10, 0);
}

static void old_news_of_compaction_and_checkpoints_is_ignored(void **state)
{
    struct io_log *log = wal_io(fx.wal);
    struct io_log_content content;

    (void)state;
    fixture_write_now(&fx, 1, 1, 10, 1, 10);
    log->ops->compact(log, 1, 5, 1);
    log->ops->compact(log, 1, 3, 1);
    log->ops->checkpoint(log, 1, 4, 5);
    log->ops->checkpoint(log, 1, 2, 3);
    wal_close(&fx.wal);
    fixture_must_open(&fx);
    wal_content(fx.wal, 1, &content);
    assert_int_equal(content.begin_index, 5);
    assert_int_equal(content.n_entries, 5);
    assert_int_equal(content.checkpoint, 4);
    assert_int_equal(content.checkpoint_index, 5);
    content_fini(&content);
}

static void the_next_segment_is_made_in_advance(void **state)
{
    uint64_t allocations;
    raft_index i;

    (void)state;
    for (i = 1; statistics().segments == 1 && fx.disk.counts[FAULTY_ALLOCATE] < 2; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    allocations = fx.disk.counts[FAULTY_ALLOCATE];
    assert_int_equal(statistics().segments, 1);
    for (; statistics().segments == 1; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    assert_int_equal(fx.disk.counts[FAULTY_ALLOCATE], allocations);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(one_sync_for_all_that_a_turn_wrote),
        STORY(nothing_is_acknowledged_before_it_is_synced),
        STORY(an_idle_log_gets_one_sync_point),
        STORY(a_write_without_content_is_answered_in_its_turn),
        STORY(a_write_larger_than_a_segment_gets_a_larger_one),
        STORY(an_entry_of_forty_mebibytes_is_carried),
        STORY(a_failed_write_poisons_the_log),
        STORY(a_short_write_poisons_the_log),
        STORY(a_failed_sync_poisons_the_log),
        STORY(a_failed_sync_of_a_sync_point_poisons_the_log),
        STORY(a_directory_that_is_not_listed_is_named),
        STORY(the_reason_is_traced_once),
        STORY(the_reason_of_an_idle_failure_is_traced_once),
        STORY(compaction_recycles_segments),
        STORY(a_group_that_rests_keeps_its_entries_and_its_vote),
        STORY(overwritten_entries_pin_nothing),
        STORY(entries_before_a_reset_pin_nothing),
        STORY(old_news_of_compaction_and_checkpoints_is_ignored),
        STORY(the_next_segment_is_made_in_advance),
    };
    return RUN_STORIES(tests);
}
