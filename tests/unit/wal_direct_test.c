/* Stories of a WAL whose files are written directly, in whole blocks; what it shares with one that
 * is written through the page cache stands in the other tests, which tell their stories of both. */
#include "tests/unit/wal_story.h"

#include <errno.h>

static void begin_again(uint64_t seed, uint32_t block)
{
    fixture_fini(&fx);
    fixture_block = block;
    fixture_init(&fx, seed);
}

static int setup_direct(void **state)
{
    fixture_block = 512;
    return setup(state);
}

/* How far the file was ever written. */
static uint64_t written(const char *path)
{
    const struct wal_files *files = &fx.disk.files;
    int fd = files->open(files->context, path, false);
    uint64_t bytes;

    assert_true(fd >= 0);
    bytes = files->written(files->context, fd);
    files->close(files->context, fd);
    return bytes;
}

/* ---- Blocks ---- */

/* A torn block holds, sector by sector, what was written before or what comes now; both are the
 * same for what was acknowledged. */
static void a_torn_block_keeps_what_was_acknowledged_in_it(void **state)
{
    size_t torn = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct io_log_content content;

        begin_again(seed, seed % 2 == 0 ? 512 : 4096);
        fixture_must_open(&fx);
        for (raft_index i = 1; i <= 1 + seed % 40; i++) {
            fixture_write_now(&fx, 1, i, 1, 1, 20 + seed % 7);
        }
        fx.disk.crash_in = 1;
        fixture_write(&fx, 1, 2 + seed % 40, 4, 1, 300);
        wal_flush(fx.wal);
        assert_int_equal(fx.statuses[fx.n_delivered - 1], ST_IO);
        fixture_power_loss(&fx);
        fixture_must_open(&fx);
        wal_content(fx.wal, 1, &content);
        assert_true(content.n_entries == 1 + seed % 40 || content.n_entries == 5 + seed % 40);
        torn += content.n_entries == 1 + seed % 40;
        content_fini(&content);
    }
    assert_in_range(torn, 150, 299);
}

/* Going on in place, the log takes up the middle of a block. */
static void a_log_goes_on_in_the_middle_of_a_block(void **state)
{
    raft_index last = 0;

    (void)state;
    for (int life = 0; life < 40; life++) {
        fx.disk.block = life % 4 == 3 ? 0 : life % 2 == 0 ? 512 : 4096; /* or not directly at all */
        wal_close(&fx.wal);
        fixture_must_open(&fx);
        fixture_expect(&fx, 1, 0, last, 33);
        fixture_write_now(&fx, 1, last + 1, 2, 1, 33);
        last += 2;
    }
    assert_int_equal(faulty_files_count(&fx.disk, ".wal"), 1); /* always the same one */
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, last, 33);
}

static void a_long_write_goes_in_pieces(void **state)
{
    size_t writes;

    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 77);
    wal_flush(fx.wal);
    writes = fx.disk.counts[FAULTY_WRITE];
    fixture_write_now(&fx, 1, 2, 1, 1, 5u << 20);
    assert_true(fx.disk.counts[FAULTY_WRITE] >= writes + 6);
    fixture_write_now(&fx, 1, 3, 1, 1, 77);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    wal_close(&fx.wal);
}

/* ---- Where it can't be done ---- */

struct lines {
    char all[2048];
};

static void lines_emit(void *context, enum trace_level level, const char *line)
{
    struct lines *lines = context;
    size_t len = strlen(lines->all);

    (void)level;
    snprintf(lines->all + len, sizeof(lines->all) - len, "%s\n", line);
}

static void expect_way(const char *way)
{
    struct lines lines = {{0}};
    struct trace trace = {.level = TRACE_INFO, .context = &lines, .emit = lines_emit};

    fx.options.trace = &trace;
    fixture_must_open(&fx);
    if (strstr(lines.all, way) == NULL) {
        fail_msg("'%s' is not in: %s", way, lines.all);
    }
    for (raft_index i = 1; i <= 60; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
        if (i % 9 == 0) {
            wal_flush(fx.wal);
        }
    }
    fx.options.trace = NULL;
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 60, 1000);
}

static void the_start_says_how_the_log_is_written(void **state)
{
    (void)state;
    begin_again(1, 512);
    expect_way("log writes: direct, in blocks of 512 bytes");
    begin_again(2, 0);
    expect_way("log writes: buffered, because direct ones are refused: Invalid argument");
    begin_again(3, 100); /* no block that one can use */
    expect_way("log writes: buffered, because direct ones are refused: Invalid argument");
}

static void a_refusal_at_the_first_write_is_no_failure(void **state)
{
    (void)state;
    begin_again(1, 512);
    fx.disk.refuse_direct = true;
    expect_way("log writes: buffered, because direct ones are refused: Invalid argument");
    /* In the middle of a block, too. */
    begin_again(2, 512);
    fixture_must_open(&fx);
    fixture_write_now(&fx, 1, 1, 3, 1, 99);
    wal_close(&fx.wal);
    fx.disk.refuse_direct = true;
    fixture_must_open(&fx);
    fixture_write_now(&fx, 1, 4, 3, 1, 99);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 6, 99);
}

static void a_refusal_of_a_later_write_is_a_failure(void **state)
{
    (void)state;
    fx.disk.refuse_direct = true;
    fixture_write(&fx, 1, 1, 1, 1, 99);
    wal_flush(fx.wal);
    assert_int_equal(fx.statuses[0], ST_IO);
}

/* ---- Zeros ahead ---- */

static void blocks_are_written_before_the_log_gets_there(void **state)
{
    uint64_t writes;

    (void)state;
    wal_flush(fx.wal); /* idle */
    wal_flush(fx.wal);
    assert_int_equal(written("data/wal/00000001.wal"), FIXTURE_SEGMENT);
    assert_int_equal(written("data/wal/00000002.wal"), FIXTURE_SEGMENT);
    writes = fx.disk.counts[FAULTY_WRITE];
    for (raft_index i = 1; i <= 10; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    assert_int_equal(fx.disk.counts[FAULTY_WRITE], writes + 10); /* no others: all was ready */
}

static void a_busy_log_writes_ahead_in_steps(void **state)
{
    uint64_t ahead;

    (void)state;
    begin_again(1, 4096);
    fx.options.segment_bytes = 8u << 20;
    fixture_must_open(&fx);
    fixture_write_now(&fx, 1, 1, 1, 1, 1000);
    ahead = written("data/wal/00000001.wal");
    assert_in_range(ahead, 256u << 10, 300u << 10); /* one step, and not all at once */
    for (raft_index i = 2; i <= 1500; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 2000);
        ahead = written("data/wal/00000001.wal");
        assert_true(i < 10 || ahead >= i * 2000 + (700u << 10));
        assert_true(ahead <= i * 2100 + (1300u << 10) + 8192);
    }
}

static void used_segments_need_no_zeros(void **state)
{
    struct wal_stats before, after;
    uint64_t writes = 0;

    (void)state;
    for (raft_index i = 1; i <= 400; i++) {
        if (i == 200) {
            wal_statistics(fx.wal, &before);
            writes = fx.disk.counts[FAULTY_WRITE];
        }
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
        if (i > 3) {
            fixture_compact(&fx, 1, i - 3, 1);
        }
    }
    wal_statistics(fx.wal, &after);
    assert_true(after.recycled > before.recycled + 8);
    /* Besides the log's own writes, one that blanks the beginning of each segment. */
    assert_in_range(fx.disk.counts[FAULTY_WRITE] - writes, after.writes - before.writes,
                    after.writes - before.writes + after.recycled - before.recycled + 1);
}

static void zeros_that_find_no_room_are_done_without(void **state)
{
    (void)state;
    fixture_write_now(&fx, 1, 1, 1, 1, 10);
    begin_again(1, 512);
    fixture_must_open(&fx);
    fx.disk.fail_in[FAULTY_WRITE] = 2; /* the write itself, then the zeros */
    fx.disk.fail_errno[FAULTY_WRITE] = ENOSPC;
    for (raft_index i = 1; i <= 40; i++) {
        fixture_write_now(&fx, 1, i, 1, 1, 1000);
    }
    assert_int_equal(fx.disk.fail_in[FAULTY_WRITE], 0);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 40, 1000);
}

static void zeros_that_fail_end_the_log(void **state)
{
    (void)state;
    fx.disk.fail_in[FAULTY_WRITE] = 2;
    fx.disk.fail_errno[FAULTY_WRITE] = EIO;
    fixture_write_now(&fx, 1, 1, 1, 1, 1000); /* it was durable before */
    fixture_write(&fx, 1, 2, 1, 1, 1000);
    wal_flush(fx.wal);
    assert_int_equal(fx.statuses[1], ST_IO);
    fixture_power_loss(&fx);
    fixture_must_open(&fx);
    fixture_expect(&fx, 1, 0, 1, 1000);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup_direct, teardown)

int main(void)
{
    const struct CMUnitTest stories[] = {
        STORY(a_torn_block_keeps_what_was_acknowledged_in_it),
        STORY(a_log_goes_on_in_the_middle_of_a_block),
        STORY(a_long_write_goes_in_pieces),
        STORY(the_start_says_how_the_log_is_written),
        STORY(a_refusal_at_the_first_write_is_no_failure),
        STORY(a_refusal_of_a_later_write_is_a_failure),
        STORY(blocks_are_written_before_the_log_gets_there),
        STORY(a_busy_log_writes_ahead_in_steps),
        STORY(used_segments_need_no_zeros),
        STORY(zeros_that_find_no_room_are_done_without),
        STORY(zeros_that_fail_end_the_log),
    };

    return cmocka_run_group_tests(stories, NULL, NULL);
}
