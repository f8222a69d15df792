/* A snapshot that was being received when the power went: torn ends of its database, and real power
 * loss on a file system that forgets. What was told to be durable must be there, so that the sender
 * goes on and does not begin again.
 *
 * The stream is one that never ends: a header, then one record a chunk, all of the same size.
 */
#include "tests/unit/crash_fs_kit.h"

#define INDEX          1000
#define HEADER_BYTES   (4 + 2 + 2 + 4 + 8 + 8 + 4 + 4)
#define VALUE_BYTES    9000
#define KEY_BYTES      8
#define RECORD_BYTES   (1 + 8 + 1 + 4 + KEY_BYTES + 4 + VALUE_BYTES)
#define ROUNDS         25
#define MAX_ROUNDS     500
#define CHILD_ARGUMENT "--child"

/* The chunk at the offset. */
static void make_chunk(uint64_t offset, struct buf *chunk)
{
    char key[KEY_BYTES + 1];

    buf_clear(chunk);
    if (offset == 0) {
        buf_put(chunk, "SKSS", 4);
        buf_put_u16(chunk, 1);
        buf_put_u16(chunk, 0);
        buf_put_u32(chunk, 7);
        buf_put_u64(chunk, INDEX);
        buf_put_u64(chunk, 3);
        buf_put_u32(chunk, 0);
        buf_put_u32(chunk, 0);
        assert_int_equal(chunk->len, HEADER_BYTES);
        return;
    }
    snprintf(key, sizeof(key), "%08d", (int)((offset - HEADER_BYTES) / RECORD_BYTES));
    buf_put_u8(chunk, 1);
    buf_put_u64(chunk, 0);
    buf_put_u8(chunk, 1);
    buf_put_bytes(chunk, slice_text(key));
    buf_put_u32(chunk, VALUE_BYTES);
    memset(buf_extend(chunk, VALUE_BYTES), key[KEY_BYTES - 1], VALUE_BYTES);
    assert_int_equal(chunk->len, RECORD_BYTES);
}

/* Sends the chunk at the offset; gives the status, and what is durable then. */
static enum status send_chunk(struct kit *kit, uint64_t offset, uint64_t *durable)
{
    struct kit_event *event;
    struct buf chunk = {0};
    enum status status;

    make_chunk(offset, &chunk);
    kit->io->ops->install_chunk(kit->io, INDEX, 3, offset, buf_slice(&chunk), false);
    event = kit_wait(kit, IO_EVENT_INSTALL_CHUNK);
    status = event->event.install.status;
    *durable = event->event.install.offset;
    kit_free_event(&event);
    buf_fini(&chunk);
    return status;
}

/* How far it got: what a chunk out of turn is answered with. */
static uint64_t ask_durable(struct kit *kit)
{
    uint64_t durable;

    assert_int_equal(send_chunk(kit, HEADER_BYTES + 1000000 * (uint64_t)RECORD_BYTES, &durable),
                     ST_OK);
    return durable;
}

/* ---- Torn ends ---- */

static void send_some(struct kit *kit, int n)
{
    uint64_t durable = 0;

    for (int i = 0; i < n; i++) {
        assert_int_equal(send_chunk(kit, durable, &durable), ST_OK);
    }
    assert_int_equal(durable, HEADER_BYTES + (n - 1) * (uint64_t)RECORD_BYTES);
}

/* Spoils a byte of LevelDB's log file of the unfinished database, so far from its end. */
static void spoil_log(const struct kit *kit, off_t from_end)
{
    char path[120];
    off_t size;
    int fd;

    snprintf(path, sizeof(path), "%s/db-2/000003.log", kit->state);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    size = lseek(fd, 0, SEEK_END);
    assert_true(size > from_end);
    assert_int_equal(pwrite(fd, "\x55\xaa\x55", 3, size - from_end), 3);
    close(fd);
}

static void a_torn_last_chunk_costs_only_that_chunk(void **state)
{
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    send_some(&kit, 10);
    kit_close(&kit);
    spoil_log(&kit, 100);
    kit_open(&kit);
    assert_int_equal(ask_durable(&kit), HEADER_BYTES + 8 * RECORD_BYTES);
    kit_fini(&kit);
}

/* What lost a chunk in its middle can't be gone on with. */
static void a_hole_costs_all_of_it(void **state)
{
    struct kit kit;
    uint64_t durable;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    send_some(&kit, 20);
    kit_close(&kit);
    spoil_log(&kit, 15 * RECORD_BYTES);
    kit_open(&kit);
    assert_int_equal(ask_durable(&kit), 0);
    assert_int_equal(send_chunk(&kit, 0, &durable), ST_OK);
    assert_int_equal(durable, HEADER_BYTES);
    kit_fini(&kit);
}

/* ---- Power loss ---- */

_Noreturn static void child_main(const char *path, int pipe)
{
    uint64_t durable;
    struct kit kit;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    kit_init_at(&kit, path);
    kit.options.write_buffer_bytes = 64u << 10;
    if (kit_try_open(&kit, 0, 0) != ST_OK) {
        _exit(0);
    }
    durable = ask_durable(&kit);
    for (;;) {
        if (send_chunk(&kit, durable, &durable) != ST_OK ||
            write(pipe, &durable, sizeof(durable)) != (ssize_t)sizeof(durable)) {
            _exit(0); /* the disk is gone */
        }
    }
}

/* Lets a child receive for a while, then takes the power away. Gives what it told to be durable. */
static uint64_t receive_until_crash(struct crash_fs *fs, struct rng *rng, uint64_t told)
{
    uint64_t ms = rng_between(rng, 15, 60);
    char directory[120], fd[16];
    int ends[2];
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    snprintf(fd, sizeof(fd), "%d", ends[1]);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "state_resume_test", CHILD_ARGUMENT, fs->mount, fd, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    snprintf(directory, sizeof(directory), "%s/state/db-2", fs->mount);
    for (uint64_t i = 0; i < ms; i++) {
        usleep(1000);
        while (read(ends[0], &told, sizeof(told)) == (ssize_t)sizeof(told)) {
        }
        if (rng_below(rng, 4) == 0) {
            crash_fs_write_back(directory, rng);
        }
    }
    /* What it tells from here on may be overtaken by the shutdown: ext4 lets a sync succeed then.
     */
    assert_true(crash_fs_shut_down(fs));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ends[0]);
    assert_true(crash_fs_unmount(fs));
    assert_true(crash_fs_mount(fs));
    return told;
}

static int make_fs(void **state)
{
    *state = mem_zalloc(sizeof(struct crash_fs));
    return 0;
}

static int end_fs(void **state)
{
    crash_fs_destroy(*state);
    mem_free(*state);
    return 0;
}

static void chunks_told_to_be_durable_survive_power_loss(void **state)
{
    struct crash_fs *fs = *state;
    const char *reason = crash_fs_create(fs);
    uint64_t told = 0;
    struct rng rng;

    if (reason != NULL) {
        fprintf(stderr, "skipped: %s\n", reason);
        skip();
    }
    rng_init(&rng, 3);
    /* On a busy machine a round is short: as many more as it takes to be worth something. */
    for (int round = 0; round < ROUNDS || told <= 20 * RECORD_BYTES; round++) {
        struct kit kit;

        assert_true(round < MAX_ROUNDS);
        told = receive_until_crash(fs, &rng, told);
        kit_init_at(&kit, fs->mount);
        kit_open(&kit);
        assert_true(ask_durable(&kit) >= told);
        kit_fini_at(&kit);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_torn_last_chunk_costs_only_that_chunk),
        cmocka_unit_test(a_hole_costs_all_of_it),
        cmocka_unit_test_setup_teardown(chunks_told_to_be_durable_survive_power_loss, make_fs,
                                        end_fs),
    };

    if (argc == 4 && strcmp(argv[1], CHILD_ARGUMENT) == 0) {
        child_main(argv[2], atoi(argv[3]));
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
