/* Damage: lost checkpoints, flipped bits in LevelDB's files and in CURRENT, missing
 * files. What is never allowed: to open and to show something else than the last
 * finished checkpoint. */
#include <dirent.h>
#include <fcntl.h>
#include <leveldb/c.h>
#include <sys/stat.h>

#include "tests/unit/state_kit.h"

#define N_CHECKPOINTS 100
#define PAD_KIND      2

static const uint64_t ranges[] = {3};

/* Checkpoint n writes "n" under key n and under "latest". */
static void write_checkpoint(struct kit *kit, uint64_t n)
{
    char key[32];

    snprintf(key, sizeof(key), "%06d", (int)n);
    kit_put(kit, 3, key, key);
    kit_put(kit, 0, "latest", key);
    if (kit->pad > 0) { /* LevelDB drops its log file in blocks of 32 KiB: makes many of them */
        struct buf pad = {0};

        memset(buf_extend(&pad, kit->pad), 'p', kit->pad);
        kit->io->ops->put(kit->io, kit_key(3, PAD_KIND, key), buf_slice(&pad));
        buf_fini(&pad);
    }
    assert_int_equal(kit_checkpoint(kit, 10 * n, ranges, 1), n);
}

/* Whether the key has the value. False: the read failed with an error, which is right, too. */
static bool gets_right(struct kit *kit, struct io_key key, struct slice value)
{
    struct buf found = {0};
    enum status status = kit->io->ops->get(kit->io, key, &found);

    assert_true(status == ST_OK || status == ST_CORRUPT);
    assert_true(status != ST_OK || slice_equal(buf_slice(&found), value));
    buf_fini(&found);
    return status == ST_OK;
}

/* Whether everything up to checkpoint n reads as it should. False: a read failed with an error,
 * which is right, too. A wrong or missing value is a failure of the test. */
static bool reads_right(struct kit *kit, uint64_t n)
{
    struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(3, 1, ""));
    struct slice key, value;
    uint64_t i = 1;
    bool good;

    for (; kit->io->ops->iter_next(iter, &key, &value); i++) {
        char expected[32];

        snprintf(expected, sizeof(expected), "%06d", (int)i);
        assert_true(slice_equal(key, slice_text(expected)));
        assert_true(slice_equal(value, slice_text(expected)));
    }
    good = kit->io->ops->iter_close(iter) == ST_OK;
    assert_true(!good || i == n + 1);
    for (i = 1; i <= n; i++) {
        struct buf pad = {0};
        char expected[32];

        snprintf(expected, sizeof(expected), "%06d", (int)i);
        good = gets_right(kit, kit_key(3, 1, expected), slice_text(expected)) && good;
        if (kit->pad > 0) {
            memset(buf_extend(&pad, kit->pad), 'p', kit->pad);
            good = gets_right(kit, kit_key(3, PAD_KIND, expected), buf_slice(&pad)) && good;
        }
        buf_fini(&pad);
    }
    return good;
}

static void setup_padded(struct kit *kit, uint64_t n, size_t pad)
{
    kit_init(kit);
    kit->pad = pad;
    kit_open(kit);
    for (uint64_t i = 1; i <= n; i++) {
        write_checkpoint(kit, i);
    }
    kit_close(kit);
}

static void setup(struct kit *kit, uint64_t n)
{
    setup_padded(kit, n, 0);
}

/* ---- The chain of numbers ---- */

/* Sets a key of the closed database behind the store's back, or (NULL) removes it. */
static void change_db(const struct kit *kit, const char *key, size_t len, const char *value)
{
    leveldb_options_t *options = leveldb_options_create();
    leveldb_writeoptions_t *write = leveldb_writeoptions_create();
    char path[120];
    char *error = NULL;
    leveldb_t *db;

    snprintf(path, sizeof(path), "%s/db-1", kit->state);
    db = leveldb_open(options, path, &error);
    assert_null(error);
    if (value == NULL) {
        leveldb_delete(db, write, key, len, &error);
    } else {
        leveldb_put(db, write, key, len, value, strlen(value), &error);
    }
    assert_null(error);
    leveldb_close(db);
    leveldb_writeoptions_destroy(write);
    leveldb_options_destroy(options);
}

static void a_gap_in_the_numbers_is_damage(void **state)
{
    struct kit kit;
    char slot[] = "mckpt?";

    (void)state;
    setup(&kit, N_CHECKPOINTS);
    assert_int_equal(kit_try_open(&kit, N_CHECKPOINTS, 10 * N_CHECKPOINTS), ST_OK);
    kit_close(&kit);
    slot[5] = (N_CHECKPOINTS - 30) % 64;
    change_db(&kit, slot, 6, NULL);
    assert_int_equal(kit_try_open(&kit, 0, 0), ST_CORRUPT);
    assert_non_null(strstr(kit.error, "checkpoint 70 of 100"));
    assert_non_null(strstr(kit.error, kit.state));
    kit_fini(&kit);
}

static void a_state_older_than_the_log_knows_is_damage(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, 3);
    assert_int_equal(kit_try_open(&kit, 4, 30), ST_CORRUPT);
    assert_non_null(strstr(kit.error, kit.state));
    assert_int_equal(kit_try_open(&kit, 3, 31), ST_CORRUPT);
    assert_int_equal(kit_try_open(&kit, 3, 30), ST_OK);
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit, 2, 20), ST_OK); /* the log may not have heard of the last */
    assert_int_equal(kit.meta.checkpoint, 3);
    kit_fini(&kit);
}

static void keys_without_meta_or_with_half_of_it_are_damage(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, 3);
    change_db(&kit, "mmeta", 5, NULL);
    assert_int_equal(kit_try_open(&kit, 0, 0), ST_CORRUPT);
    assert_non_null(strstr(kit.error, STORE_REBUILD));
    change_db(&kit, "mmeta", 5, "\1");
    assert_int_equal(kit_try_open(&kit, 0, 0), ST_CORRUPT);
    assert_non_null(strstr(kit.error, STORE_REBUILD));
    kit_fini(&kit);
}

static void another_groups_state_is_refused(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, 1);
    kit.options.group = 8;
    assert_int_equal(kit_try_open(&kit, 0, 0), ST_WRONG_NODE);
    kit_fini(&kit);
}

/* ---- CURRENT and missing files ---- */

static void overwrite(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

static void every_flipped_bit_in_current_is_noticed(void **state)
{
    struct kit kit;
    char path[120], text[64];
    ssize_t len;
    int fd;

    (void)state;
    setup(&kit, 1);
    snprintf(path, sizeof(path), "%s/CURRENT", kit.state);
    fd = open(path, O_RDONLY);
    len = read(fd, text, sizeof(text));
    close(fd);
    assert_true(len > 5);
    for (ssize_t bit = 0; bit < len * 8; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        overwrite(path, text, (size_t)len);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        assert_int_equal(kit_try_open(&kit, 0, 0), ST_CORRUPT);
        assert_non_null(strstr(kit.error, "CURRENT"));
    }
    for (ssize_t cut = 0; cut < len; cut++) {
        overwrite(path, text, (size_t)cut);
        assert_int_equal(kit_try_open(&kit, 0, 0), ST_CORRUPT);
    }
    overwrite(path, text, (size_t)len);
    assert_int_equal(kit_try_open(&kit, 1, 10), ST_OK);
    kit_fini(&kit);
}

static void a_lost_current_is_not_a_first_start(void **state)
{
    struct kit kit;
    char path[120];

    (void)state;
    setup(&kit, 1);
    snprintf(path, sizeof(path), "%s/CURRENT", kit.state);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(kit_try_open(&kit, 0, 0), ST_CORRUPT); /* db-1 has had a checkpoint */
    assert_non_null(strstr(kit.error, "CURRENT"));
    assert_int_equal(kit_try_open(&kit, 1, 10), ST_CORRUPT);
    kit_fini(&kit);
}

static void a_lost_database_is_not_made_anew(void **state)
{
    struct kit kit;
    char path[120];

    (void)state;
    setup(&kit, 1);
    snprintf(path, sizeof(path), "%s/db-1", kit.state);
    kit_remove_tree(path);
    assert_int_equal(kit_try_open(&kit, 0, 0), ST_CORRUPT);
    assert_non_null(strstr(kit.error, "db-1"));
    kit_remove_tree(kit.state);
    assert_int_equal(kit_try_open(&kit, 1, 10), ST_CORRUPT); /* the log knows that there was one */
    assert_int_equal(kit_try_open(&kit, 0, 0), ST_OK);
    kit_fini(&kit);
}

/* A first start that a crash cut short leaves a database without a checkpoint and no CURRENT. */
static void a_first_start_that_was_cut_short_begins_again(void **state)
{
    struct kit kit;
    char path[120];

    (void)state;
    setup(&kit, 0);
    snprintf(path, sizeof(path), "%s/CURRENT", kit.state);
    assert_int_equal(unlink(path), 0);
    kit_open(&kit);
    assert_int_equal(kit.meta.checkpoint, 0);
    write_checkpoint(&kit, 1);
    kit_fini(&kit);
}

/* ---- Flipped bits ---- */

/* The path of one file of the database with that suffix, the largest; false if there is none. */
static bool find_file(const struct kit *kit, const char *suffix, char path[300], off_t *size)
{
    char directory[120];
    struct dirent *entry;
    DIR *dir;

    snprintf(directory, sizeof(directory), "%s/db-1", kit->state);
    dir = opendir(directory);
    if (dir == NULL) { /* the one that was installed in its place */
        snprintf(directory, sizeof(directory), "%s/db-2", kit->state);
        dir = opendir(directory);
    }
    assert_non_null(dir);
    *size = 0;
    while ((entry = readdir(dir)) != NULL) {
        const char *dot = strstr(entry->d_name, suffix);
        char one[300];
        struct stat found;

        snprintf(one, sizeof(one), "%s/%.100s", directory, entry->d_name);
        if (dot != NULL && stat(one, &found) == 0 && found.st_size > *size) {
            *size = found.st_size;
            snprintf(path, 300, "%s", one);
        }
    }
    closedir(dir);
    return *size > 0;
}

static void flip_bit(const char *path, off_t bit)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, bit / 8), 1);
    byte ^= (uint8_t)(1u << bit % 8);
    assert_int_equal(pwrite(fd, &byte, 1, bit / 8), 1);
    close(fd);
}

static void copy_tree(const char *from, const char *to)
{
    char command[300];

    kit_remove_tree(to);
    snprintf(command, sizeof(command), "cp -r %s %s", from, to);
    assert_int_equal(system(command), 0);
}

/* Flips one bit after the other in copies of the database. Gives how often it was noticed. The log
 * knows of the last checkpoint but one. */
static int flip_and_open(struct kit *kit, const char *suffix, uint64_t n, int rounds, uint64_t seed)
{
    char good[120], path[300];
    struct rng rng;
    int noticed = 0;
    off_t size;

    rng_init(&rng, seed);
    snprintf(good, sizeof(good), "%s.good", kit->state);
    copy_tree(kit->state, good);
    for (int round = 0; round < rounds; round++) {
        copy_tree(good, kit->state);
        assert_true(find_file(kit, suffix, path, &size));
        flip_bit(path, (off_t)rng_below(&rng, (uint64_t)size * 8));
        if (kit_try_open(kit, n - 1, 10 * (n - 1)) != ST_OK) {
            assert_non_null(strstr(kit->error, "db-"));
            /* A second start must not think better of it. */
            assert_int_not_equal(kit_try_open(kit, n - 1, 10 * (n - 1)), ST_OK);
            noticed++;
        } else {
            /* Only the very last checkpoint can be taken for a torn end. */
            assert_true(kit->meta.checkpoint == n || kit->meta.checkpoint == n - 1);
            noticed += !reads_right(kit, kit->meta.checkpoint);
            kit_close(kit);
        }
    }
    copy_tree(good, kit->state);
    return noticed;
}

/* Every bit of the installed database's log file in turn, as far as it goes. */
static void flip_after_install(struct kit *kit)
{
    char good[120], path[300];
    off_t size, bits;

    snprintf(good, sizeof(good), "%s.good", kit->state);
    copy_tree(kit->state, good);
    assert_true(find_file(kit, ".log", path, &size));
    bits = size * 8 > 100 ? 100 : size * 8;
    for (off_t i = 0; i < bits; i++) {
        copy_tree(good, kit->state);
        flip_bit(path, i * (size * 8 / bits));
        if (kit_try_open(kit, 40, 400) == ST_OK) {
            assert_true(reads_right(kit, 40));
            kit_close(kit);
        }
    }
}

static void flipped_bits_in_the_log_file_are_noticed(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, 25); /* all still in LevelDB's log file */
    assert_true(flip_and_open(&kit, ".log", 25, 150, 5) > 120);
    kit_fini(&kit);
}

/* The log file's batches of more checkpoints than the chain of numbers covers. When LevelDB begins
 * that file anew is its own affair: if it just has, there is nothing to damage yet. */
static void the_log_file_never_holds_more_checkpoints_than_the_chain(void **state)
{
    struct kit kit;
    uint64_t n = 150;
    const size_t pad = 1200;
    char path[300];
    off_t size;

    (void)state;
    setup_padded(&kit, n, pad);
    while (!find_file(&kit, ".log", path, &size) || size < (off_t)(10 * pad)) {
        kit_fini(&kit);
        n += 5;
        if (n > 250) { /* so slow is its thread that each close finds it at work */
            skip();
        }
        setup_padded(&kit, n, pad);
    }
    assert_true(flip_and_open(&kit, ".log", n, 60, 6) > 40);
    kit_fini(&kit);
}

/* The chunks of an installed snapshot carry no checkpoint number each: none of them may be left in
 * the log file. */
static void flipped_bits_after_an_install_are_noticed(void **state)
{
    struct kit kit;
    struct io_snapshot snapshot;
    struct kit_event *event;
    uint64_t offset = 0;
    bool done = false;

    (void)state;
    setup_padded(&kit, 40, 2000);
    kit_open(&kit);
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    while (!done) {
        struct kit_event *chunk = kit_read_chunk(&kit, snapshot.id, offset, 5000);

        done = chunk->event.snapshot.done;
        kit.io->ops->install_chunk(kit.io, 400, 3, offset, chunk->event.snapshot.data, done);
        offset += chunk->event.snapshot.data.len;
        event = kit_wait(&kit, done ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK);
        assert_int_equal(event->event.install.status, ST_OK);
        kit_free_event(&event);
        kit_free_event(&chunk);
    }
    kit.io->ops->snapshot_close(kit.io, snapshot.id);
    event = NULL;
    kit_begin_checkpoint(&kit, 410, 3, "x", ranges, 1); /* number 42 */
    event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
    kit_free_event(&event);
    kit_close(&kit);
    flip_after_install(&kit);
    kit_fini(&kit);
}

static void flipped_bits_in_tables_are_noticed(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, 60);
    kit_open(&kit); /* opening moves the log file's content into a table */
    kit_close(&kit);
    /* Flips in what nobody reads (the bloom filter, the footer's padding) may go unnoticed. */
    assert_true(flip_and_open(&kit, ".ldb", 60, 100, 7) > 50);
    kit_fini(&kit);
}

/* Writes keys until LevelDB has merged that table away, or a checkpoint fails. More than level 1
 * holds (10 MB) is enough, wherever the table is. */
static void merge_away(struct kit *kit, const char *table)
{
    enum status status = ST_OK;
    char value[4000];

    memset(value, 'm', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    for (raft_index step = 0; status == ST_OK && access(table, F_OK) == 0; step++) {
        struct kit_event *event;

        assert_true(step < 200);
        for (int i = 0; i < 100; i++) {
            char key[32];

            snprintf(key, sizeof(key), "%06d", (int)step * 100 + i);
            kit_put(kit, 0, key, value);
        }
        kit_begin_checkpoint(kit, 1000 + step, 3, "x", ranges, 1);
        event = kit_wait(kit, IO_EVENT_CHECKPOINT);
        status = event->event.checkpoint.status;
        kit_free_event(&event);
    }
}

/* LevelDB merges tables in the background. What is damaged must not come out of it as whole. */
static void a_merge_does_not_launder_damage(void **state)
{
    struct kit kit;
    char good[120], path[300];
    struct rng rng;
    off_t size;

    (void)state;
    setup_padded(&kit, 60, 1000);
    kit_open(&kit);
    kit_close(&kit);
    rng_init(&rng, 9);
    snprintf(good, sizeof(good), "%s.good", kit.state);
    copy_tree(kit.state, good);
    for (int round = 0; round < 4; round++) {
        copy_tree(good, kit.state);
        assert_true(find_file(&kit, ".ldb", path, &size));
        flip_bit(path, (off_t)rng_below(&rng, (uint64_t)size * 8));
        if (kit_try_open(&kit, 60, 600) == ST_OK) {
            merge_away(&kit, path);
            reads_right(&kit, 60);
            kit_close(&kit);
        }
    }
    kit_fini(&kit);
}

static void flipped_bits_in_the_manifest_are_noticed(void **state)
{
    struct kit kit;

    (void)state;
    setup(&kit, 60);
    kit_open(&kit);
    kit_close(&kit);
    flip_and_open(&kit, "MANIFEST", 60, 100, 8);
    kit_fini(&kit);
}

/* Pages of the last, unacknowledged batch that reached the disk in another order: it is dropped. */
static void a_torn_end_is_dropped(void **state)
{
    struct kit kit;
    char path[300];
    struct stat before, after;
    off_t size;
    uint8_t zeros[600] = {0};
    int fd;

    (void)state;
    setup(&kit, 20);
    assert_true(find_file(&kit, ".log", path, &size));
    assert_int_equal(stat(path, &before), 0);
    kit_open(&kit);
    kit_close(&kit);
    /* A batch of several blocks, whose first page is missing. */
    kit_open(&kit);
    for (int i = 0; i < 2000; i++) {
        char key[32];

        snprintf(key, sizeof(key), "x%05d", i);
        kit_put(&kit, 3, key, "a value that makes this batch long enough for several pages");
    }
    assert_true(find_file(&kit, ".log", path, &size) || size == 0);
    assert_int_equal(kit_checkpoint(&kit, 210, ranges, 1), 21);
    kit_close(&kit);
    assert_true(find_file(&kit, ".log", path, &size));
    assert_int_equal(stat(path, &after), 0);
    assert_true(size > 40000);
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, zeros, sizeof(zeros), size / 2), (ssize_t)sizeof(zeros));
    close(fd);
    assert_int_equal(kit_try_open(&kit, 20, 200), ST_OK);
    assert_int_equal(kit.meta.checkpoint, 20);
    assert_true(reads_right(&kit, 20));
    kit_close(&kit);
    /* Had the log known that it was durable, the same would be damage. */
    assert_int_equal(kit_try_open(&kit, 21, 210), ST_CORRUPT);
    kit_fini(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gap_in_the_numbers_is_damage),
        cmocka_unit_test(a_state_older_than_the_log_knows_is_damage),
        cmocka_unit_test(keys_without_meta_or_with_half_of_it_are_damage),
        cmocka_unit_test(another_groups_state_is_refused),
        cmocka_unit_test(every_flipped_bit_in_current_is_noticed),
        cmocka_unit_test(a_lost_current_is_not_a_first_start),
        cmocka_unit_test(a_lost_database_is_not_made_anew),
        cmocka_unit_test(a_first_start_that_was_cut_short_begins_again),
        cmocka_unit_test(flipped_bits_in_the_log_file_are_noticed),
        cmocka_unit_test(the_log_file_never_holds_more_checkpoints_than_the_chain),
        cmocka_unit_test(flipped_bits_after_an_install_are_noticed),
        cmocka_unit_test(flipped_bits_in_tables_are_noticed),
        cmocka_unit_test(a_merge_does_not_launder_damage),
        cmocka_unit_test(flipped_bits_in_the_manifest_are_noticed),
        cmocka_unit_test(a_torn_end_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
