/* A snapshot arrives on a disk that runs full at its beginning, at its end, or in the very moment
 * of the switch. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "tests/unit/state_mount.h"
#include "tests/unit/state_stream.h"

#define VALUE_BYTES 5000
#define N_VALUES    110 /* a stream that fits in 1 MiB once, but not twice */

/* The directory whose sync finds no room, after what was renamed in it is there; or NULL. */
static const char *_Atomic full_directory;

/* Stands before the C library's. */
int fsync(int fd)
{
    const char *full = full_directory;
    char link[64], path[400];
    ssize_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    path[len > 0 ? len : 0] = '\0';
    if (full != NULL && strcmp(path, full) == 0) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

/* LevelDB's next sync writes all, and says that there was no room. */
static atomic_bool sync_lies;

int fdatasync(int fd)
{
    int result = (int)syscall(SYS_fdatasync, fd);

    if (atomic_exchange(&sync_lies, false)) {
        errno = ENOSPC;
        return -1;
    }
    return result;
}

static void read_large_stream(struct stream *stream)
{
    static char value[VALUE_BYTES];
    struct kit source;

    kit_init(&source);
    kit_open(&source);
    memset(value, 'v', sizeof(value) - 1);
    for (int i = 0; i < N_VALUES; i++) {
        char key[32];

        snprintf(key, sizeof(key), "x%05d", i);
        kit_put(&source, 0, key, value);
    }
    kit_checkpoint(&source, 100, NULL, 0);
    stream_read(stream, &source, 50000);
    kit_fini(&source);
}

/* Takes every block of the kit's file system. */
static void take_all_room(const struct kit *kit, char path[80])
{
    static const char bytes[4096];
    int fd;

    snprintf(path, 80, "%.63s/ballast", kit->path);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, bytes, sizeof(bytes)) > 0) {
    }
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

/* A database that could not be made leaves nothing, however often it is tried. */
static void a_transfer_that_finds_no_room_leaves_nothing(void **state)
{
    struct stream stream = {0};
    struct kit kit;
    char ballast[80];

    (void)state;
    kit_init(&kit);
    mount_size(&kit, 1024, false);
    kit_open(&kit);
    fill_old(&kit);
    read_large_stream(&stream);
    take_all_room(&kit, ballast);
    for (int i = 0; i < 5; i++) {
        send_chunk(&kit, &stream, 0, 0, ST_NO_SPACE);
        assert_int_equal(count_databases(&kit), 1);
    }
    assert_int_equal(unlink(ballast), 0);
    send_chunk(&kit, &stream, 0, chunk_end(&stream, 0), ST_OK);
    assert_int_equal(count_databases(&kit), 2);
    stream_fini(&stream);
    unmount(&kit);
}

/* Everything was received, but there is no room to move it into tables: CURRENT must not name a
 * database whose records are in LevelDB's log alone. */
static void without_room_for_tables_the_state_is_not_switched(void **state)
{
    struct stream stream = {0};
    struct kit kit;

    (void)state;
    kit_init(&kit);
    mount_size(&kit, 1024, false);
    kit.options.write_buffer_bytes = 4u << 20; /* no table before the end */
    kit_open(&kit);
    fill_old(&kit);
    read_large_stream(&stream);
    for (size_t i = 0; i + 1 < stream.n; i++) {
        send_chunk(&kit, &stream, i, chunk_end(&stream, i), ST_OK);
    }
    send_last(&kit, &stream, ST_NO_SPACE);
    expect_old(&kit);
    assert_int_equal(count_databases(&kit), 1);
    assert_int_equal(mount("tmpfs", kit.path, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    send_from(&kit, &stream, 0);
    kit_expect(&kit, 0, "old", NULL);
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit, 1, 10), ST_OK);
    assert_int_equal(kit.meta.index, 100);
    stream_fini(&stream);
    unmount(&kit);
}

/* What the checkpoint wrote can be read, though perhaps not after a crash: it must not pass for the
 * checkpoint before, which a snapshot would then be sent as. */
static void an_uncertain_checkpoint_on_a_full_disk_is_the_end(void **state)
{
    struct kit kit;
    struct kit_event *event;
    char path[120];

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    fill_old(&kit);
    kit_put(&kit, 0, "key", "newer");
    snprintf(path, sizeof(path), "%s/db-1", kit.state);
    assert_int_equal(access(path, F_OK), 0);
    full_directory = path;
    kit_begin_checkpoint(&kit, 20, 3, "x", NULL, 0);
    event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_IO);
    kit_free_event(&event);
    full_directory = NULL;
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit, 1, 20), ST_OK);
    assert_int_equal(kit.meta.index, 20); /* it is there after all */
    kit_expect(&kit, 0, "key", "newer");
    kit_fini(&kit);
}

/* A snapshot is of the checkpoint that LevelDB shows, under its name. */
static void a_checkpoint_that_is_there_after_all_is_what_a_snapshot_is_of(void **state)
{
    struct io_snapshot snapshot = {0};
    struct kit_event *event;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    kit_put(&kit, 0, "key", "old");
    kit_checkpoint(&kit, 10, NULL, 0);
    kit_put(&kit, 0, "key", "newer");
    sync_lies = true;
    kit_begin_checkpoint(&kit, 20, 3, "x", NULL, 0);
    event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_NO_SPACE);
    kit_free_event(&event);
    kit_begin_checkpoint(&kit, 20, 3, "x", NULL, 0); /* opens it again, and then waits its turn */
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    assert_int_equal(snapshot.index, 20);
    kit.io->ops->snapshot_close(kit.io, snapshot.id);
    event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, ST_OK);
    assert_int_equal(event->event.checkpoint.index, 20);
    kit_free_event(&event);
    kit_put(&kit, 0, "key", "newest");
    kit_checkpoint(&kit, 30, NULL, 0);
    kit_expect(&kit, 0, "key", "newest");
    kit_fini(&kit);
}

/* CURRENT names the new state, though perhaps not after a crash: nothing may be added to the old
 * one, even though a full disk passes. The next start decides. */
static void an_uncertain_switch_on_a_full_disk_is_the_end(void **state)
{
    struct pair pair;
    struct kit_event *event;

    (void)state;
    pair_init(&pair);
    for (size_t i = 0; i + 1 < pair.stream.n; i++) {
        send_chunk(&pair.target, &pair.stream, i, chunk_end(&pair.stream, i), ST_OK);
    }
    full_directory = pair.target.state;
    send_last(&pair.target, &pair.stream, ST_IO);
    full_directory = NULL;
    for (int i = 0; i < 3; i++) {
        kit_begin_checkpoint(&pair.target, 20, 3, "x", NULL, 0);
        event = kit_wait(&pair.target, IO_EVENT_CHECKPOINT);
        assert_int_equal(event->event.checkpoint.status, ST_IO);
        kit_free_event(&event);
    }
    kit_close(&pair.target);
    assert_int_equal(kit_try_open(&pair.target, 1, 10), ST_OK);
    assert_int_equal(pair.target.meta.index, 100);
    expect_source(&pair.target, "first");
    pair_fini(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transfer_that_finds_no_room_leaves_nothing),
        cmocka_unit_test(without_room_for_tables_the_state_is_not_switched),
        cmocka_unit_test(an_uncertain_checkpoint_on_a_full_disk_is_the_end),
        cmocka_unit_test(a_checkpoint_that_is_there_after_all_is_what_a_snapshot_is_of),
        cmocka_unit_test(an_uncertain_switch_on_a_full_disk_is_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
