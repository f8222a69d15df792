/* wal_files: the operations of struct wal_files on the real file system. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/store.h"

#define SECTOR_BYTES 512u
#define PAGE_BYTES   4096u

static int posix_open(void *context, const char *path, bool create)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0644);

    (void)context;
    return fd >= 0 ? fd : -errno;
}

/* To what a direct write must be aligned: by the kernel's word; 0: direct writes are not possible.
 * Kernels before 6.1 don't say: a page does then for all common disks. */
static uint32_t direct_block(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx info;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
        (info.stx_mask & STATX_DIOALIGN) != 0) {
        uint32_t block = info.stx_dio_offset_align > info.stx_dio_mem_align
                             ? info.stx_dio_offset_align
                             : info.stx_dio_mem_align;
        return info.stx_dio_offset_align == 0 || block >= SECTOR_BYTES ? block : SECTOR_BYTES;
    }
#else
    (void)fd;
#endif
    return PAGE_BYTES;
}

static int posix_open_direct(void *context, const char *path, uint32_t *block)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_DIRECT | O_DSYNC);

    (void)context;
    if (fd < 0) {
        return -errno;
    }
    *block = direct_block(fd);
    if (*block == 0) {
        close(fd);
        return -EINVAL;
    }
    return fd;
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

/* What is allocated and was never written is a hole to the file system. */
static uint64_t posix_written(void *context, int fd)
{
    off_t hole = lseek(fd, 0, SEEK_HOLE);

    (void)context;
    return hole >= 0 ? (uint64_t)hole : UINT64_MAX / 2; /* not known: nothing is to be gained */
}

static int posix_truncate(void *context, int fd, uint64_t len)
{
    (void)context;
    return ftruncate(fd, (off_t)len) == 0 ? 0 : -errno;
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

static uint64_t posix_free_bytes(void *context, const char *path)
{
    (void)context;
    return store_free_bytes(path);
}

static const struct wal_files posix_files = {
    .open = posix_open,
    .open_direct = posix_open_direct,
    .close = posix_close,
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .fdatasync = posix_fdatasync,
    .allocate = posix_allocate,
    .written = posix_written,
    .truncate = posix_truncate,
    .size = posix_size,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .make_dir = posix_make_dir,
    .free_bytes = posix_free_bytes,
};

const struct wal_files *wal_posix_files(void)
{
    return &posix_files;
}
