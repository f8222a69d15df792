/* A snapshot arrives on a disk that runs full at its beginning, at its end, or in the very moment
 * of the switch. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>

#include "tests/unit/state_stream.h"

#define VALUE_BYTES 5000
#define N_VALUES    110 /* a stream that fits in 1 MiB once, but not twice */

static void mount_small(struct kit *kit)
{
    if (mount("tmpfs", kit->path, "tmpfs", 0, "size=1m") != 0) {
        kit_fini(kit);
        fprintf(stderr, "skipped: mounting a small file system needs root\n");
        skip();
    }
}

static void unmount(struct kit *kit)
{
    kit_close(kit);
    umount2(kit->path, MNT_DETACH);
    kit_fini(kit);
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
    mount_small(&kit);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transfer_that_finds_no_room_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
