/* disk_shim: a disk that fails or hangs on demand, under a server that is started with
 * LD_PRELOAD=libdisk_shim.so. Files beside a data directory DIR say what happens to its syncs, and
 * to its writes that are synced by themselves:
 *
 *   DIR.wal-eio     those of the Raft log fail
 *   DIR.state-eio   those of the state fail
 *   DIR.hang        all of them wait until that file is gone
 *   DIR.hung        (made here) one waits
 *
 * A failed sync drops nothing here: what a disk loses then is the business of crash_fs_test.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHIM_PATH 4096

/* Whether there is a file of that name beside the data directory. */
static bool is_asked(const char *directory, size_t len, const char *what)
{
    char path[SHIM_PATH + 32];

    snprintf(path, sizeof(path), "%.*s.%s", (int)len, directory, what);
    return access(path, F_OK) == 0;
}

static void tell_hung(const char *directory, size_t len)
{
    char path[SHIM_PATH + 32];
    int fd;

    snprintf(path, sizeof(path), "%.*s.hung", (int)len, directory);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
    }
}

/* 0, or the errno that the sync of this descriptor fails with. */
static int fault_of(int fd)
{
    char link[64], path[SHIM_PATH];
    const char *wal, *state;
    ssize_t n;
    size_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    wal = strstr(path, "/wal");
    state = strstr(path, "/state");
    if (wal == NULL && state == NULL) {
        return 0;
    }
    len = (size_t)((wal != NULL ? wal : state) - path);
    while (is_asked(path, len, "hang")) {
        tell_hung(path, len);
        usleep(5000);
    }
    return is_asked(path, len, wal != NULL ? "wal-eio" : "state-eio") ? EIO : 0;
}

int fsync(int fd)
{
    int fault = fault_of(fd);

    errno = fault;
    return fault != 0 ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    int fault = fault_of(fd);

    errno = fault;
    return fault != 0 ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static ssize_t synced_write(int fd, const void *data, size_t len, off_t offset)
{
    int flags = fcntl(fd, F_GETFL);
    int fault = flags >= 0 && (flags & O_DSYNC) != 0 ? fault_of(fd) : 0;

    errno = fault;
    return fault != 0 ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return synced_write(fd, data, len, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t offset)
{
    return synced_write(fd, data, len, offset);
}
