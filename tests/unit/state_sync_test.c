/* What the state store calls durable was synced: a file system shows that only when power fails, so
 * this test looks at the syncs themselves. */
#include <sys/syscall.h>

#include "raft/store/disk.h"
#include "tests/unit/state_stream.h"

static int syncs;        /* of LevelDB's log files */
static pthread_t loop;   /* the test's own thread */
static char synced[400]; /* the path of what it synced last */

static void note_sync(int fd)
{
    char link[64], path[400];
    ssize_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    path[len > 0 ? len : 0] = '\0';
    if (pthread_equal(pthread_self(), loop)) {
        memcpy(synced, path, sizeof(synced));
    }
    if (len > 4 && strcmp(path + len - 4, ".log") == 0) {
        __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST);
    }
}

/* These stand before the C library's, for libleveldb too. */
int fsync(int fd)
{
    note_sync(fd);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    note_sync(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

static int syncs_so_far(void)
{
    return __atomic_load_n(&syncs, __ATOMIC_SEQ_CST);
}

static void a_checkpoint_is_synced_before_it_is_told(void **state)
{
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    for (int i = 1; i <= 5; i++) {
        int before = syncs_so_far();

        kit_put(&kit, 0, "key", "value");
        kit_checkpoint(&kit, (raft_index)(10 * i), NULL, 0);
        assert_true(syncs_so_far() > before);
    }
    kit_fini(&kit);
}

static void each_chunk_is_synced_before_it_is_told(void **state)
{
    struct kit kit, source;
    struct stream stream = {0};

    (void)state;
    kit_init(&source);
    kit_open(&source);
    for (int i = 0; i < 50; i++) {
        char key[16];

        snprintf(key, sizeof(key), "k%d", i);
        kit_put(&source, 0, key, "value");
    }
    kit_checkpoint(&source, 100, NULL, 0);
    stream_read(&stream, &source, 200);
    assert_true(stream.n > 3);
    kit_init(&kit);
    kit_open(&kit);
    for (size_t i = 0; i < stream.n; i++) {
        bool last = i + 1 == stream.n;
        int before = syncs_so_far();
        struct kit_event *event;

        kit.io->ops->install_chunk(kit.io, 100, 3, stream.offsets[i], buf_slice(&stream.chunks[i]),
                                   last);
        event = kit_wait(&kit, last ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK);
        assert_int_equal(event->event.install.status, ST_OK);
        assert_true(syncs_so_far() > before);
        kit_free_event(&event);
    }
    stream_fini(&stream);
    kit_fini(&kit);
    kit_fini(&source);
}

/* A directory that was made by a process that ended before its name was durable. */
static void the_name_of_a_directory_is_synced_though_it_is_there(void **state)
{
    char error[STORE_ERROR_BYTES], root[64], directory[80];

    (void)state;
    kit_make_dir(root);
    snprintf(directory, sizeof(directory), "%s/state", root);
    for (int i = 0; i < 2; i++) {
        synced[0] = '\0';
        assert_int_equal(disk_make_dir(directory, error), ST_OK);
        assert_string_equal(synced, root);
    }
    kit_remove_tree(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_is_synced_before_it_is_told),
        cmocka_unit_test(each_chunk_is_synced_before_it_is_told),
        cmocka_unit_test(the_name_of_a_directory_is_synced_though_it_is_there),
    };

    loop = pthread_self();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
