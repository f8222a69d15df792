/* wal_files: the operations of struct wal_files on the real file system. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/store.h"

static int posix_open(void *context, const char *path, bool create)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0644);

    (void)context;
    return fd >= 0 ? fd : -errno;
}

static void posix_close(void *context, int fd)
{
    (void)context;
    close(fd);
}

/* Reads go on after a short count: only the end of the file ends them. */
static int64_t posix_pread(void *context, int fd, void *data, size_t len, uint64_t offset)
{
    size_t done = 0;

    (void)context;
    while (done < len) {
        ssize_t n = pread(fd, (uint8_t *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

/* A signal or the kernel's limit per call may cut a write short without an error: go on. What is
 * still short then met an error, and the caller is told the count. */
static int64_t posix_pwrite(void *context, int fd, const void *data, size_t len, uint64_t offset)
{
    size_t done = 0;

    (void)context;
    while (done < len) {
        ssize_t n = pwrite(fd, (const uint8_t *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && done == 0) {
            return -errno;
        }
        if (n <= 0) {
            break;
        }
        done += (size_t)n;
    }
    return (int64_t)done;
}

static int posix_fdatasync(void *context, int fd)
{
    (void)context;
    return fdatasync(fd) == 0 ? 0 : -errno;
}

static int posix_allocate(void *context, int fd, uint64_t len)
{
    int result;

    (void)context;
    do {
        result = posix_fallocate(fd, 0, (off_t)len); /* gives the error, not errno */
    } while (result == EINTR);
    return -result;
}

static int64_t posix_size(void *context, int fd)
{
    struct stat info;

    (void)context;
    return fstat(fd, &info) == 0 ? (int64_t)info.st_size : -errno;
}

static int posix_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return rename(from, to) == 0 ? 0 : -errno;
}

static int posix_unlink(void *context, const char *path)
{
    (void)context;
    return unlink(path) == 0 ? 0 : -errno;
}

static int posix_sync_dir(void *context, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result;

    (void)context;
    if (fd < 0) {
        return -errno;
    }
    result = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return result;
}

static int posix_list(void *context, const char *path, void (*each)(void *arg, const char *name),
                      void *arg)
{
    DIR *dir = opendir(path);
    int result;

    (void)context;
    if (dir == NULL) {
        return -errno;
    }
    errno = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        each(arg, entry->d_name);
        errno = 0;
    }
    result = -errno;
    closedir(dir);
    return result;
}

static int posix_make_dir(void *context, const char *path)
{
    (void)context;
    return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : -errno;
}

static const struct wal_files posix_files = {
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .fdatasync = posix_fdatasync,
    .allocate = posix_allocate,
    .size = posix_size,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .make_dir = posix_make_dir,
};

const struct wal_files *wal_posix_files(void)
{
    return &posix_files;
}
