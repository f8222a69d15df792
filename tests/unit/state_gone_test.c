/* After a drop, LevelDB's files hold nothing of the range: neither values nor keys, neither in
 * tables nor in its log file, nor in a file that it needs no more. Whatever was open meanwhile, and
 * whatever else went on. The tests read the files' bytes. */
#include <time.h>

#include <dirent.h>
#include <sys/wait.h>

#include "tests/unit/state_kit.h"

#define GONE        "THE-RANGE-THAT-GOES"
#define KEPT        "THE-RANGE-THAT-STAYS"
#define GONE_RANGE  4
#define N_KEYS      3000
#define VALUE_BYTES 400

/* Whether a file's bytes hold the text; a file that has just been removed does not. */
static bool file_holds(const char *path, const char *text)
{
    FILE *file = fopen(path, "rb");
    struct buf bytes = {0};
    bool holds;

    if (file == NULL) {
        return false;
    }
    for (size_t n = 1; n > 0;) {
        buf_reserve(&bytes, 65536);
        n = fread(bytes.data + bytes.len, 1, 65536, file);
        bytes.len += n;
    }
    fclose(file);
    holds = bytes.len > 0 && memmem(bytes.data, bytes.len, text, strlen(text)) != NULL;
    buf_fini(&bytes);
    return holds;
}

/* Whether any table or log file of the database does. */
static bool files_hold(const struct kit *kit, const char *text)
{
    char path[120], name[400];
    struct dirent *entry;
    bool holds = false;
    DIR *directory;

    snprintf(path, sizeof(path), "%s/db-1", kit->state);
    directory = opendir(path);
    assert_non_null(directory);
    while ((entry = readdir(directory)) != NULL) {
        if (strstr(entry->d_name, ".ldb") != NULL || strstr(entry->d_name, ".log") != NULL) {
            snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
            holds = file_holds(name, text) || holds;
        }
    }
    closedir(directory);
    return holds;
}

/* Keys and values that name the range they are of. */
static void fill(struct kit *kit, uint64_t range, int first, int step)
{
    const char *mark = range == GONE_RANGE ? GONE : KEPT;
    char key[64], value[VALUE_BYTES];

    for (int i = first; i < N_KEYS; i += step) {
        snprintf(key, sizeof(key), "%05d-%s", i, mark);
        memset(value, 'a' + i % 26, sizeof(value));
        memcpy(value, mark, strlen(mark));
        value[sizeof(value) - 1] = '\0';
        kit_put(kit, range, key, value);
    }
}

/* Ranges 3, 4 and 5, written in three checkpoints that each spread over all of them. */
static void setup_at(struct kit *kit, const char *path)
{
    kit_init_at(kit, path);
    kit->options.sweep_keys = 100;
    kit_open(kit);
    for (int i = 0; i < 3; i++) {
        for (uint64_t range = 3; range <= 5; range++) {
            fill(kit, range, i, 3);
        }
        kit_checkpoint(kit, 10 + (raft_index)i, (uint64_t[]){3, 4, 5}, 3);
    }
    assert_true(files_hold(kit, GONE));
}

static void setup(struct kit *kit)
{
    char path[64];

    kit_make_dir(path);
    setup_at(kit, path);
}

static void drop(struct kit *kit)
{
    kit->io->ops->drop_range(kit->io, GONE_RANGE);
    kit_checkpoint(kit, 50, (uint64_t[]){3, 5}, 2);
}

static void wait_until_gone(struct kit *kit)
{
    for (int i = 0; files_hold(kit, GONE); i++) {
        assert_true(i < 3000); /* 30 s */
        kit_pump(kit, 0);      /* the loop goes on: what was closed is given back there */
        usleep(10000);
    }
}

static void expect_the_others(struct kit *kit)
{
    for (uint64_t range = 3; range <= 5; range += 2) {
        struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(range, 1, ""));
        struct slice key, value;
        int n = 0;

        while (kit->io->ops->iter_next(iter, &key, &value)) {
            assert_int_equal(value.len, VALUE_BYTES - 1);
            n++;
        }
        assert_int_equal(kit->io->ops->iter_close(iter), ST_OK);
        assert_int_equal(n, N_KEYS);
    }
}

static void nothing_is_left_in_the_files(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit);
    drop(&kit);
    wait_until_gone(&kit);
    assert_true(kit.io->ops->range_bytes(kit.io, GONE_RANGE) == 0);
    expect_the_others(&kit);
    assert_true(files_hold(&kit, KEPT));
    kit_fini(&kit);
}

/* A small range lies in LevelDB's memory and log file only; its table would hold value and deletion
 * alike, at a level that nothing is compacted into. */
static void nothing_is_left_of_a_range_that_was_in_memory(void **state)
{
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit.options.write_buffer_bytes = 16u << 20;
    kit_open(&kit);
    kit_put(&kit, GONE_RANGE, "key", GONE);
    kit_put(&kit, 5, "key", KEPT);
    kit_checkpoint(&kit, 10, (uint64_t[]){4, 5}, 2);
    assert_true(files_hold(&kit, GONE));
    drop(&kit);
    wait_until_gone(&kit);
    kit_expect(&kit, 5, "key", KEPT);
    kit_fini(&kit);
}

/* A range that comes and goes within one checkpoint leaves nothing to do. */
static void many_small_ranges_go(void **state)
{
    struct kit kit;
    raft_index index = 10;

    (void)state;
    setup(&kit);
    for (uint64_t range = 20; range < 60; range++) {
        kit_put(&kit, range, "key " GONE, GONE);
        kit_checkpoint(&kit, ++index + 10, (uint64_t[]){3, 4, 5, range}, 4);
        kit.io->ops->drop_range(kit.io, range);
    }
    kit.io->ops->drop_range(kit.io, GONE_RANGE);
    kit_checkpoint(&kit, 100, (uint64_t[]){3, 5}, 2);
    wait_until_gone(&kit);
    expect_the_others(&kit);
    kit_fini(&kit);
}

/* Each checkpoint holds a LevelDB snapshot while it runs, which keeps what is deleted later;
 * between two of them there is a moment. */
static void nothing_is_left_though_checkpoints_go_on(void **state)
{
    struct kit kit;
    raft_index index = 50;

    (void)state;
    setup(&kit);
    drop(&kit);
    for (int i = 0; files_hold(&kit, GONE); i++) {
        assert_true(i < 1500);
        for (int j = 0; j < 3; j++) {
            kit_put(&kit, 9, "other", i % 2 == 0 ? "work" : "play");
            kit_checkpoint(&kit, ++index, (uint64_t[]){3, 5, 9}, 3);
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    expect_the_others(&kit);
    kit_fini(&kit);
}

static void a_snapshot_being_sent_only_delays_it(void **state)
{
    struct kit kit;
    struct io_snapshot snapshot;
    struct kit_event *event;

    (void)state;
    setup(&kit);
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    drop(&kit);
    event = kit_read_chunk(&kit, snapshot.id, 0, 100000); /* its iterator holds tables */
    kit_free_event(&event);
    usleep(100000);
    assert_true(files_hold(&kit, GONE));
    kit.io->ops->snapshot_close(kit.io, snapshot.id);
    wait_until_gone(&kit);
    expect_the_others(&kit);
    kit_fini(&kit);
}

/* An iteration holds the tables that it began with, even once nothing else needs them. */
static void an_iteration_only_delays_it(void **state)
{
    struct kit kit;
    struct io_iter *iter;
    struct slice key, value;

    (void)state;
    setup(&kit);
    iter = kit.io->ops->iter_open(kit.io, kit_key(3, 1, ""));
    assert_true(kit.io->ops->iter_next(iter, &key, &value));
    drop(&kit);
    usleep(300000);
    assert_int_equal(kit.io->ops->iter_close(iter), ST_OK);
    wait_until_gone(&kit);
    expect_the_others(&kit);
    kit_fini(&kit);
}

static bool range_shows(struct kit *kit)
{
    struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(GONE_RANGE, 1, ""));
    struct slice key, value;
    bool any = kit->io->ops->iter_next(iter, &key, &value);

    assert_int_equal(kit->io->ops->iter_close(iter), ST_OK);
    return any;
}

/* What a process of its own does (LevelDB's thread does not live on in a forked one): drops the
 * range and ends as if killed; after so many microseconds, or (0) when the last key is deleted,
 * with its values still in tables. */
static int drop_and_die(const char *path, const char *after)
{
    useconds_t us = (useconds_t)strtoul(after, NULL, 10);
    struct kit kit;

    setup_at(&kit, path);
    drop(&kit);
    if (us > 0) {
        usleep(us);
    }
    for (int i = 0; us == 0 && i < 1000000 && range_shows(&kit); i++) {
        usleep(10);
    }
    _exit(0);
}

static void run_until_dead(const char *path, unsigned after)
{
    char number[16];
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    snprintf(number, sizeof(number), "%u", after);
    if (child == 0) {
        execl("/proc/self/exe", "state_gone_test", path, number, (char *)NULL);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Killed at many points of the deletion: the next start goes on. */
static void a_crash_on_the_way_only_delays_it(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 12; n++) {
        struct kit kit;
        char path[64];

        kit_make_dir(path);
        run_until_dead(path, n < 6 ? 0 : n * 3000);
        kit_init_at(&kit, path);
        kit_open(&kit);
        kit.io->ops->keep_ranges(kit.io, (uint64_t[]){3, 5}, 2);
        wait_until_gone(&kit);
        expect_the_others(&kit);
        kit_fini(&kit);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_left_in_the_files),
        cmocka_unit_test(nothing_is_left_of_a_range_that_was_in_memory),
        cmocka_unit_test(many_small_ranges_go),
        cmocka_unit_test(nothing_is_left_though_checkpoints_go_on),
        cmocka_unit_test(a_snapshot_being_sent_only_delays_it),
        cmocka_unit_test(an_iteration_only_delays_it),
        cmocka_unit_test(a_crash_on_the_way_only_delays_it),
    };

    if (argc == 3) {
        return drop_and_die(argv[1], argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
