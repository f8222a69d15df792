/* Power loss: the real LevelDB over a file system that forgets what was not synced.
 *
 * A child process (this program again, with arguments) opens the store on the file system, writes,
 * and reports over a pipe what was acknowledged to it. At some moment the file system is shut down
 * under it, the child is killed, the file system mounted anew, and the store opened: everything
 * acknowledged must be there, and nothing that was not written. Then the next child goes on with
 * the same store. What is in the store at index n is a function of n alone.
 *
 * The last test gives the child a disk that lies about its syncs and expects the checks to notice:
 * a test that can't fail would show nothing.
 */
#include <sys/syscall.h>

#include "tests/unit/crash_fs_kit.h"

#define STORIES        6
#define ROUNDS         12
#define SLOTS          40 /* keys of range 0 that are overwritten in turn */
#define STEPS_A_RANGE  8  /* checkpoints after which a new range begins */
#define FIRST_RANGE    10
#define LIAR_ROUNDS    12
#define MAX_CHILD_MS   90
#define CHILD_ARGUMENT "--child"

/* ---- A disk that lies ---- */

static bool lying; /* in the child only: syncs are forgotten */

/* They stand before the C library's, for libleveldb too. */
int fsync(int fd)
{
    return lying ? 0 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return lying ? 0 : (int)syscall(SYS_fdatasync, fd);
}

/* ---- What is in the store at index n ---- */

static uint64_t range_of(uint64_t n)
{
    return FIRST_RANGE + n / STEPS_A_RANGE;
}

/* The ranges of checkpoint n: that of n and the one before. */
static size_t ranges_of(uint64_t n, uint64_t ranges[2])
{
    size_t count = 0;

    if (range_of(n) > FIRST_RANGE) {
        ranges[count++] = range_of(n) - 1;
    }
    ranges[count++] = range_of(n);
    return count;
}

/* The value that index n writes. */
static struct slice value_of(uint64_t n, uint64_t salt, struct buf *value)
{
    struct rng rng;
    size_t len;

    rng_init(&rng, n * 1000 + salt);
    len = rng_below(&rng, rng_below(&rng, 10) == 0 ? 9000 : 300);
    buf_clear(value);
    buf_put_u64(value, n);
    while (value->len < len) {
        buf_put_u64(value, rng_next(&rng));
    }
    return buf_slice(value);
}

static uint64_t keys_of(uint64_t n)
{
    return n * 7919 % 23;
}

static struct io_key slot_key(char text[32], uint64_t n)
{
    snprintf(text, 32, "slot%02d", (int)(n % SLOTS));
    return kit_key(0, 1, text);
}

static struct io_key own_key(char text[32], uint64_t n, uint64_t i)
{
    snprintf(text, 32, "%08d-%02d", (int)n, (int)i);
    return kit_key(range_of(n), 1, text);
}

static void write_index(struct kit *kit, uint64_t n)
{
    struct buf value = {0};
    char text[32];

    kit->io->ops->put(kit->io, slot_key(text, n), value_of(n, 0, &value));
    for (uint64_t i = 0; i < keys_of(n); i++) {
        kit->io->ops->put(kit->io, own_key(text, n, i), value_of(n, i + 1, &value));
    }
    buf_fini(&value);
}

static void check_value(struct kit *kit, struct io_key key, struct slice expected)
{
    struct buf found = {0};

    assert_int_equal(kit->io->ops->get(kit->io, key, &found), ST_OK);
    assert_true(slice_equal(buf_slice(&found), expected));
    buf_fini(&found);
}

/* The ranges of checkpoint n hold what the indices up to n wrote, and nothing else. */
static void check_range(struct kit *kit, uint64_t range, uint64_t n)
{
    struct io_iter *iter = kit->io->ops->iter_open(kit->io, kit_key(range, 1, ""));
    uint64_t at = (range - FIRST_RANGE) * STEPS_A_RANGE;
    struct buf value = {0};
    struct slice key, found;

    at = at == 0 ? 1 : at;
    for (; at <= n && range_of(at) == range; at++) {
        for (uint64_t i = 0; i < keys_of(at); i++) {
            char text[32];

            assert_true(kit->io->ops->iter_next(iter, &key, &found));
            assert_true(slice_equal(key, own_key(text, at, i).key));
            assert_true(slice_equal(found, value_of(at, i + 1, &value)));
        }
    }
    assert_false(kit->io->ops->iter_next(iter, &key, &found));
    assert_int_equal(kit->io->ops->iter_close(iter), ST_OK);
    buf_fini(&value);
}

static void check_index(struct kit *kit, uint64_t n)
{
    uint64_t ranges[2];
    size_t n_ranges = ranges_of(n, ranges);
    struct buf value = {0};

    for (uint64_t at = n > SLOTS ? n - SLOTS + 1 : 1; at <= n; at++) {
        char text[32];

        check_value(kit, slot_key(text, at), value_of(at, 0, &value));
    }
    for (size_t i = 0; i < n_ranges; i++) {
        check_range(kit, ranges[i], n);
    }
    buf_fini(&value);
}

/* ---- The child ---- */

/* What the child tells: durable from now on. */
struct report {
    uint64_t number; /* of a checkpoint; 0: none */
    uint64_t index;  /* of it, or of an install */
    uint64_t saved;  /* META was saved with this; 0: it is not about META */
};

static void tell(int pipe, struct report report)
{
    if (write(pipe, &report, sizeof(report)) != (ssize_t)sizeof(report)) {
        _exit(1);
    }
}

static struct store_dir *open_dir(const char *path, struct identity *found, char *error)
{
    const struct identity self = {.gid = 7, .id = 1, .incarnation = 5};
    struct store_dir *dir;

    return store_dir_open(path, &self, &dir, found, error) == ST_OK ? dir : NULL;
}

static void child_checkpoint(struct kit *kit, int pipe, uint64_t n)
{
    uint64_t ranges[2];
    struct kit_event *event;

    kit_begin_checkpoint(kit, n, 1, "extra", ranges, ranges_of(n, ranges));
    event = kit_wait(kit, IO_EVENT_CHECKPOINT);
    if (event->event.checkpoint.status != ST_OK) {
        _exit(0); /* the disk is gone */
    }
    tell(pipe, (struct report){event->event.checkpoint.number, event->event.checkpoint.index, 0});
    kit_free_event(&event);
}

/* Takes the store's own snapshot and installs it: the same state in a new database. */
static void child_install(struct kit *kit, int pipe, uint64_t n)
{
    struct io_snapshot snapshot;
    uint64_t offset = 0;
    bool done = false;

    kit->io->ops->snapshot_open(kit->io, &snapshot);
    while (!done) {
        struct kit_event *chunk = kit_read_chunk(kit, snapshot.id, offset, 20000);
        struct kit_event *answer;

        if (chunk->event.snapshot.status != ST_OK) {
            _exit(0);
        }
        done = chunk->event.snapshot.done;
        kit->io->ops->install_chunk(kit->io, n, 1, offset, chunk->event.snapshot.data, done);
        offset += chunk->event.snapshot.data.len;
        answer = kit_wait(kit, done ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK);
        if (answer->event.install.status != ST_OK) {
            _exit(0);
        }
        if (answer->event.install.offset > offset) { /* resumed from before the crash */
            offset = answer->event.install.offset;
        }
        kit_free_event(&chunk);
        kit_free_event(&answer);
    }
    kit->io->ops->snapshot_close(kit->io, snapshot.id);
    tell(pipe, (struct report){0, n, 0});
}

static int child_main(const char *path, uint64_t seed, int pipe)
{
    struct identity identity;
    struct store_dir *dir;
    struct kit kit;
    struct rng rng;
    uint64_t ranges[2], n;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    kit_init_at(&kit, path);
    kit.options.write_buffer_bytes = 64u << 10; /* LevelDB's log file changes often */
    rng_init(&rng, seed);
    dir = open_dir(path, &identity, kit.error);
    if (dir == NULL || kit_try_open(&kit, 0, 0) != ST_OK) {
        fprintf(stderr, "child: %s\n", kit.error);
        return 1;
    }
    kit.io->ops->keep_ranges(kit.io, ranges, ranges_of(kit.meta.index, ranges));
    for (n = kit.meta.index + 1;; n++) {
        write_index(&kit, n);
        if (range_of(n) != range_of(n - 1) && range_of(n) >= FIRST_RANGE + 2) {
            kit.io->ops->drop_range(kit.io, range_of(n) - 2);
        }
        child_checkpoint(&kit, pipe, n);
        if (rng_below(&rng, 12) == 0) {
            child_install(&kit, pipe, n);
            kit.io->ops->keep_ranges(kit.io, ranges, ranges_of(n, ranges));
        }
        if (rng_below(&rng, 8) == 0) {
            identity.peer_incarnations[2] = n;
            if (store_dir_save(dir, &identity, kit.error) != ST_OK) {
                _exit(0);
            }
            tell(pipe, (struct report){0, 0, n});
        }
    }
}

/* ---- The parent ---- */

struct story {
    struct crash_fs fs;
    struct rng rng;
    bool lying;
    struct report durable; /* the highest of each that was told */
    uint64_t losses;       /* lying: what the checks found */
};

static pid_t start_child(struct story *story, int *pipe_end)
{
    char seed[32], fd[32];
    int ends[2];
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    snprintf(seed, sizeof(seed), "%llu", (unsigned long long)rng_next(&story->rng));
    snprintf(fd, sizeof(fd), "%d", ends[1]);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "crash_fs_test", CHILD_ARGUMENT, story->fs.mount, seed, fd,
              story->lying ? "lying" : "honest", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *pipe_end = ends[0];
    return pid;
}

/* Lets it work for a while, with pages written back at random, then takes the power away. */
static void run_child(struct story *story)
{
    uint64_t ms = rng_between(&story->rng, 15, MAX_CHILD_MS);
    struct report report;
    char directory[200];
    int reports, status;
    pid_t pid = start_child(story, &reports);

    for (uint64_t i = 0; i < ms; i++) {
        usleep(1000);
        if (rng_below(&story->rng, 4) == 0) {
            snprintf(directory, sizeof(directory), "%s/state/db-%d", story->fs.mount,
                     (int)rng_between(&story->rng, 1, 6));
            crash_fs_write_back(directory, &story->rng);
        }
    }
    assert_true(crash_fs_shut_down(&story->fs));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    /* It ended by the kill or by the missing disk, not because it found something wrong. */
    assert_true(story->lying || WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    while (read(reports, &report, sizeof(report)) == (ssize_t)sizeof(report)) {
        story->durable.number = report.number > 0 ? report.number : story->durable.number;
        story->durable.index = report.index > 0 ? report.index : story->durable.index;
        story->durable.saved = report.saved > 0 ? report.saved : story->durable.saved;
    }
    close(reports);
    assert_true(crash_fs_unmount(&story->fs));
    assert_true(crash_fs_mount(&story->fs));
}

/* What does not depend on the content: whether everything opens, and is as new as it must be. */
static bool survived(struct story *story, struct kit *kit)
{
    struct identity identity = {0};
    struct store_dir *dir = open_dir(story->fs.mount, &identity, kit->error);
    bool good = dir != NULL && identity.peer_incarnations[2] >= story->durable.saved;

    store_dir_close(&dir);
    good = good && kit_try_open(kit, story->durable.number, story->durable.index) == ST_OK;
    return good && kit->meta.index <= story->durable.index + 1;
}

static void run_round(struct story *story)
{
    struct kit kit;

    run_child(story);
    kit_init_at(&kit, story->fs.mount);
    if (!survived(story, &kit)) {
        if (!story->lying) {
            fail_msg("after the crash: %s (checkpoint %llu, index %llu, saved %llu)", kit.error,
                     (unsigned long long)story->durable.number,
                     (unsigned long long)story->durable.index,
                     (unsigned long long)story->durable.saved);
        }
        story->losses++;
    } else if (!story->lying) {
        check_index(&kit, kit.meta.index);
        story->durable.index = kit.meta.index;
        story->durable.number = kit.meta.checkpoint;
    }
    kit_fini_at(&kit);
}

static void skip_without(const char *reason)
{
    if (reason != NULL) {
        fprintf(stderr, "skipped: %s\n", reason);
        skip();
    }
}

static int make_story(void **state)
{
    *state = mem_zalloc(sizeof(struct story));
    return 0;
}

/* Runs also after a failure. */
static int end_story(void **state)
{
    struct story *story = *state;

    crash_fs_destroy(&story->fs);
    mem_free(story);
    return 0;
}

static void what_was_acknowledged_survives_power_loss(void **state)
{
    struct story *story = *state;

    for (uint64_t seed = 1; seed <= STORIES; seed++) {
        rng_init(&story->rng, seed);
        skip_without(crash_fs_create(&story->fs));
        story->durable = (struct report){0};
        for (int round = 0; round < ROUNDS; round++) {
            run_round(story);
        }
        /* It was worth something. */
        assert_true(story->durable.index > 20);
        if (seed < STORIES) {
            crash_fs_destroy(&story->fs);
        }
    }
}

static void a_disk_that_lies_about_its_syncs_is_noticed(void **state)
{
    struct story *story = *state;

    story->lying = true;
    rng_init(&story->rng, 99);
    for (int round = 0; round < LIAR_ROUNDS && story->losses == 0; round++) {
        skip_without(crash_fs_create(&story->fs));
        story->durable = (struct report){0};
        run_round(story);
        if (story->losses == 0) {
            crash_fs_destroy(&story->fs);
        }
    }
    assert_true(story->losses > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_acknowledged_survives_power_loss, make_story,
                                        end_story),
        cmocka_unit_test_setup_teardown(a_disk_that_lies_about_its_syncs_is_noticed, make_story,
                                        end_story),
    };

    if (argc == 6 && strcmp(argv[1], CHILD_ARGUMENT) == 0) {
        lying = strcmp(argv[5], "lying") == 0;
        return child_main(argv[2], strtoull(argv[3], NULL, 10), atoi(argv[4]));
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
