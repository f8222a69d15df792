/* Power loss: the real WAL and the real LevelDB over a file system that forgets what was not
 * synced.
 *
 * A child process (this program again, with arguments) opens META, the WAL and the state on the
 * file system, and does what a replica does: it writes log entries, now and then other ones in
 * place of the last, applies what is durable, takes checkpoints, compacts, installs snapshots. It
 * reports over a pipe what was acknowledged to it. At some moment the file system is shut down
 * under it, the child is killed, the file system mounted anew, and everything opened: what was
 * acknowledged must be there, and nothing that was not written. Then the next child goes on with
 * the same files.
 *
 * What an entry holds is a function of its index and term, what the state holds at index n one of
 * n.
 *
 * The last tests give the child a disk that lies about its syncs and expect the checks to notice: a
 * test that can't fail would show nothing.
 */
#include "tests/unit/crash_content.h"
#include "tests/unit/crash_fs_kit.h"
#include "tests/unit/crash_lie.h"

#define STORIES        6
#define ROUNDS         12
#define LIAR_ROUNDS    30
#define MAX_LATE       4096
#define MAX_CHILD_MS   90
#define CHILD_ARGUMENT "--child"

/* ---- The child ---- */

struct child {
    struct kit kit;
    struct rng rng;
    struct wal *wal;
    struct io_log *log;
    struct store_dir *dir;
    struct identity identity;
    struct log_model model; /* as written so far */
    uint64_t token;         /* of the last write */
    int pipe;
};

static void tell(const struct child *child, struct report report)
{
    if (write(child->pipe, &report, sizeof(report)) != (ssize_t)sizeof(report)) {
        _exit(1);
    }
}

/* An answer that says that the disk is gone ends the child. */
static void stop_unless_ok(enum status status)
{
    if (status != ST_OK) {
        _exit(0);
    }
}

static struct store_dir *open_dir(const char *path, struct identity *found, char *error)
{
    const struct identity self = {.gid = 7, .id = 1, .incarnation = 5};
    struct store_dir *dir;

    return store_dir_open(path, &self, &dir, found, error) == ST_OK ? dir : NULL;
}

static void await_log(struct child *child)
{
    struct kit_event *event;

    wal_flush(child->wal);
    event = kit_wait(&child->kit, IO_EVENT_LOG_WRITTEN);
    stop_unless_ok(event->event.log.status);
    assert_int_equal(event->event.log.token, child->token);
    kit_free_event(&event);
    tell(child, (struct report){.kind = TOLD_LOG_DURABLE});
}

/* Writes the entries from `first` to `last` in the term, in place of what stood there. */
static void child_write_log(struct child *child, raft_index first, raft_index last, raft_term term)
{
    const struct report report = {TOLD_WRITE, first, last, term};
    struct raft_entry entries[16];
    struct io_log_write write = {.group = 7, .entries = entries, .n_entries = last + 1 - first};
    struct buf value = {0};

    assert_true(write.n_entries <= 16);
    write.token = ++child->token;
    write.has_hard_state = term != child->model.term;
    write.hard_state.term = term;
    for (size_t i = 0; i < write.n_entries; i++) {
        entries[i] = (struct raft_entry){first + i, term, RAFT_ENTRY_COMMAND, NULL};
        entries[i].data = blob_create(value_of(first + i, LOG_SALT + term, &value));
    }
    tell(child, report);
    log_model_apply(&child->model, report);
    child->log->ops->write(child->log, &write);
    await_log(child);
    for (size_t i = 0; i < write.n_entries; i++) {
        blob_unref(&entries[i].data);
    }
    buf_fini(&value);
}

/* Sees to it that entry n is durable. Sometimes a new leader has other entries after n. */
static void child_advance_log(struct child *child, raft_index n)
{
    raft_index end = child->model.end;

    while (child->model.end < n) {
        end = child->model.end;
        child_write_log(child, end + 1, end + rng_between(&child->rng, 1, 6), child->model.term);
    }
    end = child->model.end;
    if (end > n && rng_below(&child->rng, 4) == 0) {
        raft_index from = rng_between(&child->rng, n + 1, end);

        child_write_log(child, from, from + rng_below(&child->rng, 4), child->model.term + 1);
    }
}

static void child_checkpoint(struct child *child, uint64_t n)
{
    struct kit *kit = &child->kit;
    uint64_t ranges[2], number;
    struct kit_event *event;

    kit_begin_checkpoint(kit, n, child->model.terms[n], "extra", ranges, ranges_of(n, ranges));
    event = kit_wait(kit, IO_EVENT_CHECKPOINT);
    stop_unless_ok(event->event.checkpoint.status);
    number = event->event.checkpoint.number;
    kit_free_event(&event);
    tell(child, (struct report){TOLD_CHECKPOINT, number, n, 0});
    child->log->ops->checkpoint(child->log, 7, number, n);
    if (n > child->model.begin_high + 3 && rng_below(&child->rng, 3) == 0) {
        child->model.begin_high = n - 3;
        tell(child, (struct report){TOLD_COMPACT, n - 3, 0, 0});
        child->log->ops->compact(child->log, 7, n - 3, child->model.terms[n - 3]);
    }
}

/* The log begins anew after what was installed. */
static void child_reset_log(struct child *child, raft_index n)
{
    const struct report report = {TOLD_RESET, n, 0, child->model.term};
    const struct io_log_write write = {.group = 7,
                                       .token = ++child->token,
                                       .has_hard_state = true,
                                       .hard_state.term = child->model.term};

    tell(child, report);
    log_model_apply(&child->model, report);
    child->log->ops->reset(child->log, n, child->model.terms[n], &write);
    await_log(child);
}

/* Takes the store's own snapshot and installs it: the same state in a new database. */
static void child_install(struct child *child, uint64_t n)
{
    struct kit *kit = &child->kit;
    struct io_snapshot snapshot;
    uint64_t offset = 0;
    bool done = false;

    kit->io->ops->snapshot_open(kit->io, &snapshot);
    while (!done) {
        struct kit_event *chunk = kit_read_chunk(kit, snapshot.id, offset, 20000);
        struct kit_event *answer;

        stop_unless_ok(chunk->event.snapshot.status);
        done = chunk->event.snapshot.done;
        kit->io->ops->install_chunk(kit->io, n, snapshot.term, offset, chunk->event.snapshot.data,
                                    done);
        answer = kit_wait_any(kit); /* also the last chunk's may fail before the switch */
        stop_unless_ok(answer->event.install.status);
        assert_int_equal(answer->event.type, done ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK);
        offset = answer->event.install.offset;
        kit_free_event(&chunk);
        kit_free_event(&answer);
    }
    kit->io->ops->snapshot_close(kit->io, snapshot.id);
    tell(child, (struct report){TOLD_INSTALLED, 0, n, 0});
    if (rng_below(&child->rng, 2) == 0) {
        child_reset_log(child, n);
    }
}

/* The power may have gone meanwhile; anything else is damage that a start found. */
_Noreturn static void end_unopened(const struct kit *kit, bool power_went)
{
    if (!power_went && lie[0] == '\0') {
        fprintf(stderr, "a start failed: %s\n", kit->error);
    }
    _exit(power_went ? 0 : 1);
}

/* Opens everything, as a replica does at its start. */
static void child_open(struct child *child)
{
    struct kit *kit = &child->kit;
    struct io_log_content content;
    enum status status;

    child->dir = open_dir(kit->path, &child->identity, kit->error);
    if (child->dir == NULL) {
        end_unopened(kit, strstr(kit->error, strerror(EIO)) != NULL);
    }
    status = open_wal(kit, &child->wal, &content);
    if (status == ST_OK) {
        status = kit_try_open(kit, content.checkpoint, content.checkpoint_index);
    }
    if (status != ST_OK) {
        end_unopened(kit, status == ST_IO);
    }
    child->log = wal_io(child->wal);
    child->model.term = content.hard_state.term;
    child->model.begin_high = content.begin_index;
    child->model.end = content.begin_index + content.n_entries;
    child->model.terms[content.begin_index] = content.begin_term;
    for (size_t i = 0; i < content.n_entries; i++) {
        child->model.terms[content.entries[i].index] = content.entries[i].term;
    }
    free_content(&content);
}

_Noreturn static void child_main(const char *path, uint64_t seed, int pipe)
{
    struct child *child = mem_zalloc(sizeof(*child));
    struct kit *kit = &child->kit;
    uint64_t ranges[2], n;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    kit_init_at(kit, path);
    kit->options.write_buffer_bytes = 64u << 10; /* LevelDB's log file changes often */
    rng_init(&child->rng, seed);
    child->pipe = pipe;
    child_open(child);
    kit->io->ops->keep_ranges(kit->io, ranges, ranges_of(kit->meta.index, ranges));
    if (child->model.term == 0) {
        child_write_log(child, 1, 1, 1);
    }
    for (n = kit->meta.index + 1;; n++) {
        child_advance_log(child, n);
        write_index(kit, n);
        if (range_of(n) != range_of(n - 1) && range_of(n) >= FIRST_RANGE + 2) {
            kit->io->ops->drop_range(kit->io, range_of(n) - 2);
        }
        child_checkpoint(child, n);
        if (rng_below(&child->rng, 12) == 0) {
            child_install(child, n);
            kit->io->ops->keep_ranges(kit->io, ranges, ranges_of(n, ranges));
        }
        if (rng_below(&child->rng, 8) == 0) {
            child->identity.peer_incarnations[2] = n;
            stop_unless_ok(store_dir_save(child->dir, &child->identity, kit->error));
            tell(child, (struct report){TOLD_SAVED, n, 0, 0});
        }
    }
}

/* ---- The parent ---- */

struct story {
    struct crash_fs fs;
    struct rng rng;
    const char *lie;               /* "": an honest disk */
    uint64_t number, index, saved; /* what was told to be durable */
    struct log_model log;
    struct report intent;         /* what may be there, too; kind 0: nothing */
    struct report late[MAX_LATE]; /* told while the power went: may be there or not */
    size_t n_late;
    uint64_t late_number, late_index;
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
              story->lie, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *pipe_end = ends[0];
    return pid;
}

static void take_report(struct story *story, struct report report)
{
    if (report.kind == TOLD_CHECKPOINT) {
        story->number = report.a;
        story->index = report.b;
    } else if (report.kind == TOLD_INSTALLED) {
        story->index = report.b;
    } else if (report.kind == TOLD_SAVED) {
        story->saved = report.a;
    } else if (report.kind == TOLD_COMPACT) {
        story->log.begin_high = report.a;
    } else if (report.kind == TOLD_LOG_DURABLE) {
        log_model_apply(&story->log, story->intent);
        story->intent.kind = 0;
    } else {
        story->intent = report;
    }
}

/* Takes what the child told before the power went. */
static void take_reports(struct story *story, int reports)
{
    struct report report;

    while (read(reports, &report, sizeof(report)) == (ssize_t)sizeof(report)) {
        take_report(story, report);
    }
}

/* What it told while the power went may be true or not: ext4 lets a sync succeed that the shutdown
 * has overtaken. */
static void keep_late_reports(struct story *story, int reports)
{
    struct report report;

    story->n_late = 0;
    story->late_number = story->number;
    story->late_index = story->index;
    while (read(reports, &report, sizeof(report)) == (ssize_t)sizeof(report)) {
        assert_true(story->n_late < MAX_LATE);
        story->late[story->n_late++] = report;
        if (report.kind == TOLD_CHECKPOINT) {
            story->late_number = report.a;
            story->late_index = report.b;
        }
    }
}

/* Pages reach the disk when the kernel likes. */
static void write_back(struct story *story)
{
    char directory[200];

    if (rng_below(&story->rng, 2) == 0) {
        snprintf(directory, sizeof(directory), "%s/wal", story->fs.mount);
    } else {
        snprintf(directory, sizeof(directory), "%s/state/db-%d", story->fs.mount,
                 (int)rng_between(&story->rng, 1, 6));
    }
    crash_fs_write_back(directory, &story->rng);
}

/* Lets the child work for a while, then takes the power away. */
static void run_child(struct story *story)
{
    uint64_t ms = rng_between(&story->rng, 15, MAX_CHILD_MS);
    int reports, status;
    pid_t pid = start_child(story, &reports);

    fcntl(reports, F_SETFL, O_NONBLOCK);
    for (uint64_t i = 0; i < ms; i++) {
        usleep(1000);
        take_reports(story, reports); /* always: the pipe must not fill up */
        if (rng_below(&story->rng, 4) == 0) {
            write_back(story);
        }
    }
    take_reports(story, reports);
    assert_true(crash_fs_shut_down(&story->fs));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    /* It ended by the kill or by the missing disk, not because it found something wrong. */
    if (story->lie[0] == '\0' && !WIFSIGNALED(status) && WEXITSTATUS(status) != 0) {
        fail_msg("the child ended with %d", WEXITSTATUS(status));
    }
    keep_late_reports(story, reports);
    close(reports);
    assert_true(crash_fs_unmount(&story->fs));
    assert_true(crash_fs_mount(&story->fs));
}

/* Goes on to what the log is with the next write that may be there. False: there is none. */
static bool advance_log_model(struct story *story, size_t *late)
{
    for (; story->intent.kind == 0 && *late < story->n_late; (*late)++) {
        struct report report = story->late[*late];

        if (report.kind == TOLD_COMPACT) {
            story->log.begin_high = report.a;
        } else if (report.kind == TOLD_WRITE || report.kind == TOLD_RESET) {
            story->intent = report;
        }
    }
    if (story->intent.kind == 0) {
        return false;
    }
    log_model_apply(&story->log, story->intent);
    story->intent.kind = 0;
    return true;
}

/* The log is what was acknowledged, or that and some of the writes under way, in order. */
static bool log_survived(struct story *story, const struct io_log_content *content, char *error)
{
    size_t late = 0;
    bool good = log_model_equals(&story->log, content);

    while (!good && advance_log_model(story, &late)) {
        good = log_model_equals(&story->log, content);
    }
    if (!good) {
        snprintf(error, STORE_ERROR_BYTES,
                 "expected, last, %d..%d in term %d, found %d..%d in term %d",
                 (int)story->log.begin_high, (int)story->log.end, (int)story->log.term,
                 (int)content->begin_index, (int)(content->begin_index + content->n_entries),
                 (int)content->hard_state.term);
    }
    story->intent.kind = 0;
    story->log.begin_low = content->begin_index;
    return good;
}

/* What is wrong after the crash; NULL: nothing. */
static const char *inspect(struct story *story, struct kit *kit, struct wal **wal)
{
    struct identity identity = {0};
    struct io_log_content content;
    struct store_dir *dir = open_dir(story->fs.mount, &identity, kit->error);
    bool saved = dir != NULL && identity.peer_incarnations[2] >= story->saved;
    const char *wrong = NULL;

    store_dir_close(&dir);
    if (!saved) {
        return "META does not open or is older than what was saved";
    }
    if (open_wal(kit, wal, &content) != ST_OK) {
        return "the WAL does not open";
    }
    if (!log_survived(story, &content, kit->error)) {
        wrong = "the WAL lost or invented entries";
    } else if (content.checkpoint > story->late_number ||
               content.checkpoint_index > story->late_index) {
        wrong = "the WAL knows a checkpoint that was not";
    } else if (kit_try_open(kit, story->number, story->index) != ST_OK) {
        wrong = "the state does not open";
    } else if (kit->meta.index > story->late_index + 1 || kit->meta.index > story->log.end ||
               kit->meta.index < content.begin_index) {
        wrong = "the state does not fit the log";
    } else if (!has_index(kit, kit->meta.index)) {
        wrong = "the state holds something else";
    }
    free_content(&content);
    return wrong;
}

/* Gives what is wrong; NULL: nothing. */
static const char *run_round(struct story *story, char error[STORE_ERROR_BYTES])
{
    struct wal *wal = NULL;
    const char *wrong;
    struct kit kit;

    run_child(story);
    kit_init_at(&kit, story->fs.mount);
    wrong = inspect(story, &kit, &wal);
    story->index = kit.meta.index;
    story->number = kit.meta.checkpoint;
    memcpy(error, kit.error, STORE_ERROR_BYTES);
    wal_close(&wal);
    kit_fini_at(&kit);
    return wrong;
}

static void begin_story(struct story *story, uint64_t seed, const char *disk_lie)
{
    const char *reason;

    *story = (struct story){.lie = disk_lie};
    rng_init(&story->rng, seed);
    reason = crash_fs_create(&story->fs);
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
    char error[STORE_ERROR_BYTES];
    const char *first = getenv("CRASH_FS_SEED"); /* to try others than the usual ones */
    uint64_t seed = first == NULL ? 1 : strtoull(first, NULL, 10);
    raft_index n_entries = 0;

    for (int i = 0; i < STORIES; i++, seed++) {
        begin_story(story, seed, "");
        for (int round = 0; round < ROUNDS; round++) {
            const char *wrong = run_round(story, error);

            if (wrong != NULL) {
                fail_msg("seed %d round %d: %s %s", (int)seed, round, wrong, error);
            }
        }
        n_entries += story->index;
        crash_fs_destroy(&story->fs);
    }
    /* It was worth something; over all stories, since a busy machine gets through little of each.
     */
    assert_true(n_entries > 20);
}

static void expect_noticed(struct story *story, const char *disk_lie)
{
    char error[STORE_ERROR_BYTES];
    bool noticed = false;

    for (uint64_t round = 0; round < LIAR_ROUNDS && !noticed; round++) {
        begin_story(story, 100 + round, disk_lie);
        noticed = run_round(story, error) != NULL;
        crash_fs_destroy(&story->fs);
    }
    assert_true(noticed);
}

static void a_disk_that_does_not_sync_the_log_is_noticed(void **state)
{
    expect_noticed(*state, "/wal/");
}

static void a_disk_that_does_not_sync_the_state_is_noticed(void **state)
{
    expect_noticed(*state, "/db-");
}

static void a_disk_that_does_not_sync_meta_is_noticed(void **state)
{
    expect_noticed(*state, "/META");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_acknowledged_survives_power_loss, make_story,
                                        end_story),
        cmocka_unit_test_setup_teardown(a_disk_that_does_not_sync_the_log_is_noticed, make_story,
                                        end_story),
        cmocka_unit_test_setup_teardown(a_disk_that_does_not_sync_the_state_is_noticed, make_story,
                                        end_story),
        cmocka_unit_test_setup_teardown(a_disk_that_does_not_sync_meta_is_noticed, make_story,
                                        end_story),
    };

    if (argc == 6 && strcmp(argv[1], CHILD_ARGUMENT) == 0) {
        lie = argv[5];
        child_main(argv[2], strtoull(argv[3], NULL, 10), atoi(argv[4]));
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
