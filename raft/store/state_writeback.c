/* state_writeback: LevelDB's tables go to the disk while they are written.
 *
 * LevelDB writes a table, or what its memory held, of 16 MiB, into the page cache and then syncs
 * it: all of it goes to the disk at once, and what the log writes meanwhile waits behind it, on all
 * replicas that share the disk (13 ms were measured, and 1 ms behind a piece of 1 MiB). So a thread
 * watches the directory, and has the table that grows written out piece by piece.
 *
 * This makes nothing durable, and nobody relies on it: LevelDB's own sync finds less left to do. If
 * the system offers no watch, all is as it was. An error of the disk is told to LevelDB's
 * descriptor as well, so it is of no interest here.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define WRITEBACK_BYTES    (1 << 20) /* a piece */
#define WRITEBACK_PAUSE_MS 5         /* between looks at a table that grows */
#define WRITEBACK_NAME     64        /* "000123.ldb" */

struct state_writeback {
    pthread_t thread;
    int watch, stop; /* inotify, eventfd */
    int directory;
    char name[WRITEBACK_NAME]; /* the table that grows: LevelDB writes one at a time */
    off_t written;             /* of it */
    _Atomic uint64_t bytes;    /* of all tables */
};

static bool is_table(const char *name)
{
    size_t len = strlen(name);

    return len > 4 && len < WRITEBACK_NAME && strcmp(name + len - 4, ".ldb") == 0;
}

static void write_out(struct state_writeback *writeback)
{
    struct stat info;
    off_t more;
    int fd;

    if (fstatat(writeback->directory, writeback->name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return;
    }
    more = info.st_size - writeback->written;
    if (more < WRITEBACK_BYTES) {
        return;
    }
    fd = openat(writeback->directory, writeback->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return;
    }
    (void)sync_file_range(fd, writeback->written, more,
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                              SYNC_FILE_RANGE_WAIT_AFTER);
    close(fd);
    writeback->written = info.st_size;
    atomic_fetch_add(&writeback->bytes, (uint64_t)more);
}

static void look_at(struct state_writeback *writeback, const struct inotify_event *event)
{
    if (event->len == 0 || !is_table(event->name)) {
        return;
    }
    if (strcmp(event->name, writeback->name) != 0) {
        snprintf(writeback->name, sizeof(writeback->name), "%s", event->name);
        writeback->written = 0;
    }
    write_out(writeback);
}

/* False: to stop. */
static bool wait_for_events(const struct state_writeback *writeback)
{
    struct pollfd fds[] = {{.fd = writeback->stop, .events = POLLIN},
                           {.fd = writeback->watch, .events = POLLIN}};

    if (poll(fds, 1, WRITEBACK_PAUSE_MS) > 0) { /* what comes meanwhile is one look */
        return false;
    }
    while (poll(fds, 2, -1) < 0) {
        ASSERT(errno == EINTR);
    }
    return fds[0].revents == 0;
}

static void *state_writeback_main(void *arg)
{
    struct state_writeback *writeback = arg;
    _Alignas(struct inotify_event) char events[4096];

    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), STATE_WORKER_NICE);
    while (wait_for_events(writeback)) {
        ssize_t n = read(writeback->watch, events, sizeof(events));

        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const struct inotify_event *)(events + at);

            look_at(writeback, event);
            at += (ssize_t)(sizeof(*event) + event->len);
        }
    }
    return NULL;
}

struct state_writeback *state_writeback_open(const char *path)
{
    struct state_writeback *writeback = mem_zalloc(sizeof(*writeback));

    writeback->watch = inotify_init1(IN_CLOEXEC);
    writeback->stop = eventfd(0, EFD_CLOEXEC);
    writeback->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (writeback->watch >= 0 && writeback->stop >= 0 && writeback->directory >= 0 &&
        inotify_add_watch(writeback->watch, path, IN_MODIFY) >= 0 &&
        pthread_create(&writeback->thread, NULL, state_writeback_main, writeback) == 0) {
        return writeback;
    }
    close(writeback->watch);
    close(writeback->stop);
    close(writeback->directory);
    mem_free(writeback);
    return NULL;
}

uint64_t state_writeback_bytes(const struct state_writeback *writeback)
{
    return atomic_load(&writeback->bytes);
}

void state_writeback_close(struct state_writeback **writeback)
{
    struct state_writeback *self = *writeback;
    uint64_t one = 1;

    if (self == NULL) {
        return;
    }
    while (write(self->stop, &one, sizeof(one)) != sizeof(one)) {
        ASSERT(errno == EINTR);
    }
    pthread_join(self->thread, NULL);
    close(self->watch);
    close(self->stop);
    close(self->directory);
    mem_free(self);
    *writeback = NULL;
}
