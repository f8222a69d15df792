/* The WAL with its disk thread, on a real directory: group commit while a write is in flight, the
 * idle sync point, and processes that are killed. */
#include "tests/unit/wal_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- A mail with a thread on the other side ---- */

struct letter {
    struct letter *next;
    void (*run)(void *arg);
    void *arg;
};

struct post_office {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct letter *first, *last;
    /* Of the loop thread. */
    uint64_t delivered, failed;
    uint64_t last_token;
};

static void post(void *context, void (*run)(void *arg), void *arg)
{
    struct post_office *office = context;
    struct letter *letter = mem_alloc(sizeof(*letter));

    *letter = (struct letter){.run = run, .arg = arg};
    pthread_mutex_lock(&office->lock);
    if (office->first == NULL) {
        office->first = letter;
    } else {
        office->last->next = letter;
    }
    office->last = letter;
    pthread_cond_signal(&office->arrived);
    pthread_mutex_unlock(&office->lock);
}

static void deliver(void *context, struct io_event *event)
{
    struct post_office *office = context;

    ASSERT(event->type == IO_EVENT_LOG_WRITTEN);
    ASSERT(event->log.token == office->last_token + 1); /* in order, none twice */
    office->last_token = event->log.token;
    office->delivered++;
    office->failed += event->log.status != ST_OK ? 1 : 0;
}

/* Runs what has arrived; if nothing has, waits, at most ten seconds. */
static void receive(struct post_office *office)
{
    struct timespec until;
    struct letter *letter;
    int error = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&office->lock);
    while (office->first == NULL && error == 0) {
        error = pthread_cond_timedwait(&office->arrived, &office->lock, &until);
    }
    letter = office->first;
    office->first = office->last = NULL;
    pthread_mutex_unlock(&office->lock);
    assert_non_null(letter);
    while (letter != NULL) {
        struct letter *next = letter->next;
        letter->run(letter->arg);
        mem_free(letter);
        letter = next;
    }
}

/* ---- A disk whose syncs can be held ---- */

struct gate {
    struct wal_files files;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;
    bool waiting; /* a sync stands at the gate */
    uint64_t syncs;
};

/* Waits while the gate is held. */
static void gate_pass(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->syncs++;
    gate->waiting = gate->held;
    pthread_cond_broadcast(&gate->changed);
    while (gate->held) {
        pthread_cond_wait(&gate->changed, &gate->lock);
    }
    gate->waiting = false;
    pthread_mutex_unlock(&gate->lock);
}

static int gate_fdatasync(void *context, int fd)
{
    gate_pass(context);
    return wal_posix_files()->fdatasync(NULL, fd);
}

static int64_t gate_pwrite(void *context, int fd, const void *data, size_t len, uint64_t offset)
{
    if ((fcntl(fd, F_GETFL) & O_DSYNC) != 0) {
        gate_pass(context); /* a direct write is its own sync */
    }
    return wal_posix_files()->pwrite(NULL, fd, data, len, offset);
}

static void gate_hold(struct gate *gate, bool held)
{
    pthread_mutex_lock(&gate->lock);
    gate->held = held;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void gate_await_sync(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    while (!gate->waiting) {
        pthread_cond_wait(&gate->changed, &gate->lock);
    }
    pthread_mutex_unlock(&gate->lock);
}

static uint64_t gate_syncs(struct gate *gate)
{
    uint64_t syncs;

    pthread_mutex_lock(&gate->lock);
    syncs = gate->syncs;
    pthread_mutex_unlock(&gate->lock);
    return syncs;
}

/* ---- The fixture ---- */

static struct {
    char directory[64];
    char path[80];
    struct post_office office;
    struct gate gate;
    struct fixture fixture; /* for its helpers: options and wal */
} fx;

static bool buffered; /* the stories are told on files that can't be written directly */

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    memset(&fx, 0, sizeof(fx));
    snprintf(fx.directory, sizeof(fx.directory), "/tmp/wal_test_XXXXXX");
    assert_non_null(mkdtemp(fx.directory));
    snprintf(fx.path, sizeof(fx.path), "%s/wal", fx.directory);
    pthread_mutex_init(&fx.office.lock, NULL);
    pthread_cond_init(&fx.office.arrived, NULL);
    pthread_mutex_init(&fx.gate.lock, NULL);
    pthread_cond_init(&fx.gate.changed, NULL);
    fx.gate.files = *wal_posix_files();
    fx.gate.files.context = &fx.gate;
    fx.gate.files.fdatasync = gate_fdatasync;
    fx.gate.files.pwrite = gate_pwrite;
    if (buffered) {
        fx.gate.files.open_direct = NULL;
    }
    wal_options_default(&fx.fixture.options, fx.path);
    fx.fixture.options.segment_bytes = 256u << 10;
    fx.fixture.options.files = &fx.gate.files;
    fx.fixture.options.mail =
        (struct store_mail){.context = &fx.office, .post = post, .deliver = deliver};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wal_close(&fx.fixture.wal);
    while (fx.office.first != NULL) {
        receive(&fx.office);
    }
    nftw(fx.directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}

static void open_log(void)
{
    fixture_must_open(&fx.fixture);
}

static void receive_until(uint64_t delivered)
{
    while (fx.office.delivered < delivered) {
        receive(&fx.office);
    }
    assert_int_equal(fx.office.delivered, delivered);
    assert_int_equal(fx.office.failed, 0);
}

/* The first write is under way, and held up in its sync. */
static void open_in_the_first_sync(void)
{
    open_log();
    gate_hold(&fx.gate, true);
    fixture_write(&fx.fixture, 1, 1, 1, 1, 100);
    wal_flush(fx.fixture.wal);
    gate_await_sync(&fx.gate);
}

/* ---- Stories ---- */

static void all_that_gathers_during_a_write_is_one_write(void **state)
{
    uint64_t syncs;

    (void)state;
    open_in_the_first_sync();
    syncs = gate_syncs(&fx.gate);
    for (raft_index i = 2; i <= 1000; i++) {
        fixture_write(&fx.fixture, 1, i, 1, 1, 100);
        wal_flush(fx.fixture.wal);
    }
    assert_int_equal(fx.office.delivered, 0);
    gate_hold(&fx.gate, false);
    receive_until(1000);
    /* One for the 999; then perhaps a sync point, a segment made in advance, and in direct files
     * zeros ahead, after each of the two writes. */
    assert_in_range(gate_syncs(&fx.gate), syncs + 1, syncs + (buffered ? 3 : 7));
}

static void a_slow_disk_shows_in_the_statistics(void **state)
{
    struct wal_stats stats;

    (void)state;
    open_in_the_first_sync();
    wal_statistics(fx.fixture.wal, &stats);
    assert_true(stats.in_flight_us > 0); /* it shows while it lasts, not only when it is over */
    usleep(30000);                       /* the disk is slow */
    wal_statistics(fx.fixture.wal, &stats);
    assert_true(stats.in_flight_us >= 30000);
    gate_hold(&fx.gate, false);
    receive_until(1);
    wal_statistics(fx.fixture.wal, &stats); /* known as soon as the write is answered */
    assert_true(stats.last_write_us >= 30000);
    assert_true(stats.slowest_write_us >= stats.last_write_us);
    assert_true(stats.writes >= 1 && stats.records == 1 && stats.bytes > 0 && stats.segments == 1);
    assert_int_equal(histogram_count(&stats.write_us), stats.writes);
    assert_int_equal(histogram_count(&stats.sync_us), stats.writes);
    assert_true(stats.sync_us.sum_us >= 30000);
    assert_true(stats.write_us.sum_us >= stats.sync_us.sum_us);
}

/* META must not be told that there is a log before something of it is durable (raft/host). */
static void the_statistics_begin_with_the_first_durable_write(void **state)
{
    struct wal_stats stats;

    (void)state;
    open_in_the_first_sync();
    wal_statistics(fx.fixture.wal, &stats);
    gate_hold(&fx.gate, false);
    receive_until(1);
    assert_int_equal(stats.records, 0);
    assert_int_equal(stats.writes, 0);
    wal_statistics(fx.fixture.wal, &stats);
    assert_int_equal(stats.records, 1);

    /* What an earlier process wrote is not counted either. */
    wal_close(&fx.fixture.wal);
    open_log();
    wal_statistics(fx.fixture.wal, &stats);
    assert_int_equal(stats.records, 0);
    assert_int_equal(stats.writes, 0);
}

static void an_idle_thread_writes_a_sync_point(void **state)
{
    struct wal_stats stats = {0};
    uint64_t writes = 0;

    (void)state;
    open_log();
    fixture_write(&fx.fixture, 1, 1, 1, 1, 100);
    wal_flush(fx.fixture.wal);
    receive_until(1);
    for (int i = 0; i < 1000 && writes < 2; i++) { /* write, sync point */
        usleep(10000);
        wal_statistics(fx.fixture.wal, &stats);
        writes = stats.writes;
    }
    assert_true(writes >= 2);
    usleep(60000);
    wal_statistics(fx.fixture.wal, &stats);
    assert_in_range(stats.writes, 2, 3); /* and then rests */
}

static void close_writes_what_was_queued(void **state)
{
    (void)state;
    open_log();
    gate_hold(&fx.gate, true);
    for (raft_index i = 1; i <= 50; i++) {
        fixture_write(&fx.fixture, 1, i, 1, 1, 100);
        if (i % 2 == 0) {
            wal_flush(fx.fixture.wal);
        }
    }
    fixture_write(&fx.fixture, 2, 1, 1, 1, 100);
    gate_hold(&fx.gate, false);
    wal_close(&fx.fixture.wal);
    receive_until(51);
    open_log();
    fixture_expect(&fx.fixture, 1, 0, 50, 100);
    fixture_expect(&fx.fixture, 2, 0, 1, 100);
}

static void compaction_runs_beside_the_loop(void **state)
{
    struct wal_stats stats;

    (void)state;
    open_log();
    for (raft_index i = 1; i <= 1500; i++) {
        fixture_write(&fx.fixture, i % 3 == 0 ? 7 : 1, i % 3 == 0 ? i / 3 : i - i / 3, 1, 1, 2000);
        if (i % 100 == 0) {
            fixture_compact(&fx.fixture, 1, i - i / 3 - 10, 1);
            fixture_compact(&fx.fixture, 7, i / 3 - 10, 1);
            receive(&fx.office);
        }
        wal_flush(fx.fixture.wal);
        wal_statistics(fx.fixture.wal, &stats);
        wal_io(fx.fixture.wal)->ops->bytes(wal_io(fx.fixture.wal));
    }
    receive_until(1500);
    wal_close(&fx.fixture.wal);
    open_log();
    fixture_expect(&fx.fixture, 1, 990, 1000, 2000);
    fixture_expect(&fx.fixture, 7, 490, 500, 2000);
    wal_statistics(fx.fixture.wal, &stats);
    assert_in_range(stats.segments, 1, 3);
}

/* ---- Processes that are killed ---- */

/* The child: writes for ever, and tells each acknowledged index. */
static void child_run(int out, raft_index first)
{
    uint64_t told = 0;

    open_log();
    fx.office.delivered = 0;
    fx.fixture.next_token = 0;
    fx.office.last_token = 0;
    for (raft_index i = first;; i++) {
        fixture_write(&fx.fixture, 1, i, 1, 1, i % 50 == 0 ? 9000 : 120);
        wal_flush(fx.fixture.wal);
        if (i % 3 == 0) {
            receive(&fx.office);
        }
        if (fx.office.delivered > told) {
            uint64_t acknowledged = first + fx.office.delivered - 1;
            told = fx.office.delivered;
            if (write(out, &acknowledged, sizeof(acknowledged)) != sizeof(acknowledged)) {
                _exit(1);
            }
        }
    }
}

/* Gives the last index that the child told before it was killed. */
static raft_index run_and_kill(raft_index first, int messages)
{
    raft_index acknowledged = first - 1, told;
    int pipe_fds[2], status;
    pid_t child;

    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(pipe_fds[0]);
        child_run(pipe_fds[1], first);
    }
    close(pipe_fds[1]);
    while (messages-- > 0 && read(pipe_fds[0], &told, sizeof(told)) == (ssize_t)sizeof(told)) {
        acknowledged = told;
    }
    kill(child, SIGKILL);
    while (read(pipe_fds[0], &told, sizeof(told)) == (ssize_t)sizeof(told)) {
        acknowledged = told;
    }
    close(pipe_fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return acknowledged;
}

static void what_a_killed_process_acknowledged_is_there(void **state)
{
    raft_index last = 0;

    (void)state;
    fx.gate.files.pwrite = wal_posix_files()->pwrite;
    fx.gate.files.fdatasync = wal_posix_files()->fdatasync;
    for (int round = 0; round < 10; round++) {
        struct io_log_content content;
        raft_index acknowledged = run_and_kill(last + 1, 5 + round * 13);

        assert_true(acknowledged > last);
        fx.fixture.options.threaded = false;
        open_log();
        wal_content(fx.fixture.wal, 1, &content);
        assert_true(content.n_entries >= acknowledged);
        last = content.n_entries;
        assert_int_equal(content.entries[last - 1].index, last);
        content_fini(&content);
        wal_close(&fx.fixture.wal);
        fx.fixture.options.threaded = true;
    }
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(what_a_killed_process_acknowledged_is_there), /* forks: before any thread */
        STORY(all_that_gathers_during_a_write_is_one_write),
        STORY(a_slow_disk_shows_in_the_statistics),
        STORY(the_statistics_begin_with_the_first_durable_write),
        STORY(an_idle_thread_writes_a_sync_point),
        STORY(close_writes_what_was_queued),
        STORY(compaction_runs_beside_the_loop),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    buffered = true;
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
