/* raft/store/state_writeback.c: tables go to the disk while they grow, and nothing else does. */
#include <fcntl.h>

#include "raft/store/state_private.h"
#include "tests/unit/state_kit.h"

#define PIECE   (512u << 10)
#define STEP_US 1000
#define STEPS   (KIT_PATIENCE_S * 1000000 / STEP_US)

/* Adds so many pieces to a file, and leaves it open. */
static int grow(const struct kit *kit, const char *name, int n)
{
    uint8_t *piece = mem_zalloc(PIECE);
    char path[160];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", kit->path, name);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(write(fd, piece, PIECE), PIECE);
    }
    mem_free(piece);
    return fd;
}

static void await_bytes(const struct state_writeback *writeback, uint64_t bytes)
{
    for (int i = 0; state_writeback_bytes(writeback) < bytes; i++) {
        assert_true(i < STEPS);
        usleep(STEP_US);
    }
}

static void a_table_goes_out_while_it_grows(void **state)
{
    struct state_writeback *writeback;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    writeback = state_writeback_open(kit.path);
    assert_non_null(writeback);
    for (int i = 1; i <= 4; i++) { /* nobody has synced or closed it */
        int fd = grow(&kit, "000005.ldb", 2);

        await_bytes(writeback, (uint64_t)i * 2 * PIECE);
        assert_int_equal(state_writeback_bytes(writeback), i * 2 * PIECE);
        close(fd);
    }
    close(grow(&kit, "000007.ldb", 3)); /* the next one, from its beginning */
    await_bytes(writeback, 10 * PIECE);
    state_writeback_close(&writeback);
    assert_null(writeback);
    kit_fini(&kit);
}

/* A checkpoint in LevelDB's log is synced at once: to write it out before gains nothing. Nor does a
 * little. */
static void other_files_and_little_are_left_alone(void **state)
{
    struct state_writeback *writeback;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    writeback = state_writeback_open(kit.path);
    close(grow(&kit, "000003.log", 8));
    close(grow(&kit, "a-name-that-is-longer-than-any-that-leveldb-gives-to-one-of-its-tables.ldb",
               8));
    close(grow(&kit, ".ldb", 8));
    close(grow(&kit, "000004.ldb", 1));
    close(grow(&kit, "000005.ldb", 2));
    await_bytes(writeback, 2 * PIECE);
    assert_int_equal(state_writeback_bytes(writeback), 2 * PIECE);
    state_writeback_close(&writeback);
    kit_fini(&kit);
}

static void what_is_gone_does_no_harm(void **state)
{
    struct state_writeback *writeback;
    struct kit kit;
    char path[160];

    (void)state;
    assert_null(state_writeback_open("/nowhere"));
    kit_init(&kit);
    writeback = state_writeback_open(kit.path);
    for (int i = 0; i < 50; i++) {
        char name[32];

        snprintf(name, sizeof(name), "%06d.ldb", i);
        close(grow(&kit, name, 1));
        snprintf(path, sizeof(path), "%s/%s", kit.path, name);
        assert_int_equal(unlink(path), 0);
    }
    close(grow(&kit, "000077.ldb", 2));
    await_bytes(writeback, 2 * PIECE);
    state_writeback_close(&writeback);
    kit_fini(&kit);
}

/* Whatever LevelDB calls its files: its tables are the ones. */
static void the_tables_of_a_database_are_watched(void **state)
{
    uint8_t *value = mem_zalloc(PIECE);
    struct state_db *db;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit.options.write_buffer_bytes = 16u << 20;
    assert_int_equal(mkdir(kit.state, 0700), 0);
    assert_int_equal(state_db_open(&kit.options, 1, true, true, &db, kit.error), ST_OK);
    for (char i = 'a'; i < 'e'; i++) {
        char *error = NULL;

        leveldb_put(db->db, db->loose, &i, 1, (const char *)value, PIECE, &error);
        assert_null(error);
    }
    assert_int_equal(state_writeback_bytes(db->writeback), 0);
    leveldb_compact_range(db->db, NULL, 0, NULL, 0);
    await_bytes(db->writeback, 2 * PIECE); /* the last of it may be too little */
    state_db_close(&db);
    mem_free(value);
    kit_fini(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_goes_out_while_it_grows),
        cmocka_unit_test(other_files_and_little_are_left_alone),
        cmocka_unit_test(what_is_gone_does_no_harm),
        cmocka_unit_test(the_tables_of_a_database_are_watched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
