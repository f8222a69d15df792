/* Failing writes: what the state store says and does when the disk does not take them. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "tests/unit/state_stream.h"

static void expect_failed_checkpoint(struct kit *kit, enum status status)
{
    struct kit_event *event;

    kit_begin_checkpoint(kit, 1000, 3, "x", (uint64_t[]){3}, 1);
    event = kit_wait(kit, IO_EVENT_CHECKPOINT);
    assert_int_equal(event->event.checkpoint.status, status);
    kit_free_event(&event);
}

/* Puts n records, each with the value that it also makes in value[size]. */
static void fill(struct kit *kit, uint64_t range, int n, char *value, size_t size)
{
    memset(value, 'v', size);
    value[size - 1] = '\0';
    for (int i = 0; i < n; i++) {
        char key[32];

        snprintf(key, sizeof(key), "x%05d", i);
        kit_put(kit, range, key, value);
    }
}

/* A file system of 1 MiB under the kit; skips the test where that can't be had. */
static void mount_small(struct kit *kit)
{
    if (mount("tmpfs", kit->path, "tmpfs", 0, "size=1m") != 0) {
        kit_fini(kit);
        fprintf(stderr, "skipped: mounting a small file system needs root\n");
        skip();
    }
}

/* A failed checkpoint says so, now and ever after; reads go on; the next start finds the last one
 * that was finished. */
static void a_failed_write_is_told_and_not_tried_again(void **state)
{
    struct rlimit before, tight;
    struct io_snapshot snapshot;
    struct kit kit;
    char value[2000];

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    kit_put(&kit, 0, "kept", "value");
    kit_checkpoint(&kit, 50, NULL, 0);
    fill(&kit, 3, 100, value, sizeof(value));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 50000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    expect_failed_checkpoint(&kit, ST_IO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    expect_failed_checkpoint(&kit, ST_IO);
    kit_expect(&kit, 3, "x00099", value);
    kit_put(&kit, 3, "later", "still works");
    kit_expect(&kit, 3, "later", "still works");
    kit.io->ops->snapshot_open(kit.io, &snapshot);
    assert_int_equal(snapshot.index, 0);
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit, 1, 50), ST_OK);
    assert_int_equal(kit.meta.checkpoint, 1);
    kit_expect(&kit, 0, "kept", "value");
    kit_expect(&kit, 3, "x00099", NULL);
    kit_fini(&kit);
}

static void find_line(void *context, enum trace_level level, const char *line)
{
    bool *found = context;

    (void)level;
    *found = *found || strstr(line, "File too large") != NULL;
}

/* What fails between two checkpoints, the deletion of a dropped range above all: the later one ends
 * with the reason, though its own write was never tried. */
static void the_reason_of_a_failed_sweep_is_traced(void **state)
{
    enum status status = ST_OK;
    struct rlimit before, tight;
    char value[2000];
    bool found = false;
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit.trace = (struct trace){TRACE_WARN, &found, find_line};
    kit.options.sweep_pause_ms = 1;
    kit_open(&kit);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 1000;
    for (raft_index index = 1; status == ST_OK && index < 200; index++) {
        struct kit_event *event;

        fill(&kit, index, 100, value, sizeof(value));
        kit_checkpoint(&kit, 2 * index, &index, 1);
        kit.io->ops->drop_range(kit.io, index);
        kit_checkpoint(&kit, 2 * index + 1, NULL, 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        usleep(2000); /* in which the sweep may try to write; if not, in the next turn */
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        kit_begin_checkpoint(&kit, 2 * index + 1, 3, "x", NULL, 0);
        event = kit_wait(&kit, IO_EVENT_CHECKPOINT);
        status = event->event.checkpoint.status;
        kit_free_event(&event);
    }
    assert_int_equal(status, ST_IO);
    assert_true(found);
    kit_fini(&kit);
}

static void a_full_disk_is_told_as_such(void **state)
{
    struct kit kit;
    char value[5000];

    (void)state;
    kit_init(&kit);
    mount_small(&kit);
    kit_open(&kit);
    kit_checkpoint(&kit, 10, NULL, 0);
    fill(&kit, 3, 300, value, sizeof(value));
    expect_failed_checkpoint(&kit, ST_NO_SPACE);
    kit_close(&kit);
    umount2(kit.path, MNT_DETACH);
    kit_fini(&kit);
}

/* Disk full while a snapshot arrives: said so, thrown away, and the state goes on as before. */
static void a_full_disk_ends_a_transfer_and_not_the_store(void **state)
{
    struct kit kit, source;
    struct stream stream = {0};
    enum status status = ST_OK;
    char value[5000];

    (void)state;
    kit_init(&kit);
    mount_small(&kit);
    kit_open(&kit);
    kit_put(&kit, 0, "kept", "value");
    kit_checkpoint(&kit, 10, NULL, 0);
    kit_init(&source);
    kit_open(&source);
    fill(&source, 0, 300, value, sizeof(value));
    kit_checkpoint(&source, 100, NULL, 0);
    stream_read(&stream, &source, 50000);
    for (size_t i = 0; i < stream.n && status == ST_OK; i++) {
        struct kit_event *event;

        kit.io->ops->install_chunk(kit.io, 100, 3, stream.offsets[i], buf_slice(&stream.chunks[i]),
                                   i + 1 == stream.n);
        event = kit_wait(&kit, IO_EVENT_INSTALL_CHUNK);
        status = event->event.install.status;
        assert_true(status == ST_OK || event->event.install.offset == 0);
        kit_free_event(&event);
    }
    assert_int_equal(status, ST_NO_SPACE);
    kit_expect(&kit, 0, "kept", "value");
    kit_put(&kit, 0, "later", "value");
    kit_checkpoint(&kit, 20, NULL, 0); /* there is room again */
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit, 2, 20), ST_OK);
    kit_expect(&kit, 0, "later", "value");
    kit_close(&kit);
    umount2(kit.path, MNT_DETACH);
    kit_fini(&kit);
    stream_fini(&stream);
    kit_fini(&source);
}

/* The end of a snapshot that can't be written: the pointer still names the old state. */
static void a_failed_switch_leaves_the_old_state(void **state)
{
    struct rlimit before, tight;
    struct kit kit, source;
    struct stream stream = {0};
    char value[2000];

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    kit_put(&kit, 0, "kept", "value");
    kit_checkpoint(&kit, 10, NULL, 0);
    kit_init(&source);
    kit_open(&source);
    fill(&source, 0, 100, value, sizeof(value));
    kit_checkpoint(&source, 100, NULL, 0);
    stream_read(&stream, &source, 50000);
    assert_true(stream.n > 2);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 1000; /* enough for the pointer, too little for a chunk */
    for (size_t i = 0; i < stream.n; i++) {
        bool last = i + 1 == stream.n;
        struct kit_event *event;

        assert_int_equal(setrlimit(RLIMIT_FSIZE, last ? &tight : &before), 0);
        kit.io->ops->install_chunk(kit.io, 100, 3, stream.offsets[i], buf_slice(&stream.chunks[i]),
                                   last);
        event = kit_wait(&kit, last ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK);
        assert_int_equal(event->event.install.status, last ? ST_IO : ST_OK);
        kit_free_event(&event);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    kit_expect(&kit, 0, "kept", "value");
    kit_close(&kit);
    assert_int_equal(kit_try_open(&kit, 1, 10), ST_OK);
    assert_int_equal(kit.meta.index, 10);
    kit_expect(&kit, 0, "kept", "value");
    stream_fini(&stream);
    kit_fini(&kit);
    kit_fini(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_write_is_told_and_not_tried_again),
        cmocka_unit_test(the_reason_of_a_failed_sweep_is_traced),
        cmocka_unit_test(a_full_disk_is_told_as_such),
        cmocka_unit_test(a_full_disk_ends_a_transfer_and_not_the_store),
        cmocka_unit_test(a_failed_switch_leaves_the_old_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
