/* disk: see disk.h, and store_free_bytes of store.h. */
#include "raft/store/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void disk_format_error(char *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error, STORE_ERROR_BYTES, format, arguments);
    va_end(arguments);
    for (char *at = error; *at != '\0'; at++) {
        if (*at == '\n' || *at == '\r') {
            *at = ' ';
        }
    }
}

enum status disk_status_of(int errnum)
{
    return errnum == ENOSPC || errnum == EDQUOT ? ST_NO_SPACE : ST_IO;
}

enum status disk_fail(char *error, const char *what, const char *path, int errnum)
{
    char reason[128];

    disk_format_error(error, "%s %s: %s", what, path, strerror_r(errnum, reason, sizeof(reason)));
    return disk_status_of(errnum);
}

enum status disk_fail_open(char *error, const char *what, const char *path, int errnum)
{
    enum status status = disk_fail(error, what, path, errnum);
    bool not_ours = errnum == EACCES || errnum == EPERM || errnum == EROFS || errnum == ENOTDIR ||
                    errnum == ENOENT || errnum == ENAMETOOLONG || errnum == ELOOP;

    return not_ours ? ST_INVALID : status;
}

char *disk_join(const char *directory, const char *name)
{
    struct buf path = {0};

    buf_printf(&path, "%s/%s", directory, name);
    buf_put_u8(&path, 0);
    return (char *)path.data;
}

enum status disk_sync_dir(const char *path, char *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = ST_OK;

    if (fd < 0) {
        return disk_fail(error, "open directory", path, errno);
    }
    if (fsync(fd) != 0) {
        status = disk_fail(error, "sync directory", path, errno);
    }
    close(fd);
    return status;
}

/* The directory that holds the name `path`. */
static char *disk_parent(const char *path)
{
    char *parent = mem_copy_string(path);
    size_t len = strlen(parent);

    while (len > 1 && parent[len - 1] == '/') {
        parent[--len] = '\0';
    }
    while (len > 0 && parent[len - 1] != '/') {
        parent[--len] = '\0';
    }
    while (len > 1 && parent[len - 1] == '/') {
        parent[--len] = '\0';
    }
    if (len == 0) {
        mem_free(parent);
        return mem_copy_string(".");
    }
    return parent;
}

enum status disk_make_dir(const char *path, char *error)
{
    bool made = mkdir(path, 0700) == 0;
    enum status status = ST_OK;
    struct stat found;
    char *parent;

    if (!made && errno != EEXIST) {
        return disk_fail_open(error, "make directory", path, errno);
    }
    if (stat(path, &found) != 0) {
        return disk_fail_open(error, "look at", path, errno);
    }
    if (!S_ISDIR(found.st_mode)) {
        return disk_fail_open(error, "open directory", path, ENOTDIR);
    }
    /* Who made it may have ended before its name was durable. One that lies where we may not look
     * was made by somebody else. */
    parent = disk_parent(path);
    if (made || access(parent, R_OK) == 0) {
        status = disk_sync_dir(parent, error);
    }
    mem_free(parent);
    return status;
}

/* Reads to the end or to one byte more than `max`. 0 or an errno. */
static int disk_read_all(int fd, size_t max, struct buf *content)
{
    while (content->len <= max) {
        size_t room = max + 1 - content->len;
        size_t start = content->len;
        ssize_t got;

        room = room > 65536 ? 65536 : room;
        got = read(fd, buf_extend(content, room), room);
        content->len = start + (got > 0 ? (size_t)got : 0);
        if (got == 0) {
            return 0;
        }
        if (got < 0 && errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

enum status disk_read_file(const char *path, size_t max, struct buf *content, char *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int errnum;

    buf_clear(content);
    if (fd < 0) {
        return errno == ENOENT ? ST_NOT_FOUND : disk_fail_open(error, "open", path, errno);
    }
    errnum = disk_read_all(fd, max, content);
    close(fd);
    if (errnum != 0) {
        return disk_fail(error, "read", path, errnum);
    }
    if (content->len > max) {
        disk_format_error(error, "%s is damaged: longer than %zu bytes", path, max);
        return ST_CORRUPT;
    }
    return ST_OK;
}

/* Writes and syncs a new file. 0 or an errno. */
static int disk_write_all(const char *path, struct slice content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t done = 0;
    int errnum = 0;

    if (fd < 0) {
        return errno;
    }
    while (done < content.len && errnum == 0) {
        ssize_t put = write(fd, content.data + done, content.len - done);

        if (put >= 0) {
            done += (size_t)put;
        } else if (errno != EINTR) {
            errnum = errno;
        }
    }
    if (errnum == 0 && fsync(fd) != 0) {
        errnum = errno;
    }
    if (close(fd) != 0 && errnum == 0) {
        errnum = errno;
    }
    return errnum;
}

enum status disk_write_file(const char *directory, const char *name, struct slice content,
                            char *error)
{
    char *path = disk_join(directory, name);
    struct buf temporary = {0};
    enum status status;
    int errnum;

    buf_printf(&temporary, "%s.tmp", path);
    buf_put_u8(&temporary, 0);
    errnum = disk_write_all((char *)temporary.data, content);
    if (errnum != 0) {
        status = disk_fail(error, "write", (char *)temporary.data, errnum);
    } else if (rename((char *)temporary.data, path) != 0) {
        status = disk_fail(error, "replace", path, errno);
    } else {
        status = disk_sync_dir(directory, error);
    }
    if (status != ST_OK) {
        unlink((char *)temporary.data); /* of no use; gone if it was renamed */
    }
    buf_fini(&temporary);
    mem_free(path);
    return status;
}

enum status disk_list_dir(const char *path, void (*each)(void *arg, const char *name), void *arg,
                          char *error)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    int errnum;

    if (directory == NULL) {
        return errno == ENOENT ? ST_NOT_FOUND : disk_fail_open(error, "list", path, errno);
    }
    errno = 0;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            each(arg, entry->d_name);
        }
        errno = 0;
    }
    errnum = errno;
    closedir(directory);
    return errnum == 0 ? ST_OK : disk_fail(error, "list", path, errnum);
}

uint64_t disk_dir_bytes(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    uint64_t bytes = 0;

    if (directory == NULL) {
        return 0;
    }
    while ((entry = readdir(directory)) != NULL) {
        struct stat found;

        if (fstatat(dirfd(directory), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(found.st_mode)) {
            bytes += (uint64_t)found.st_size;
        }
    }
    closedir(directory);
    return bytes;
}

uint64_t store_free_bytes(const char *path)
{
    struct statvfs found;

    if (statvfs(path, &found) != 0) {
        return UINT64_MAX;
    }
    ASSERT(found.f_frsize > 0);
    return (uint64_t)found.f_bavail * found.f_frsize;
}

uint64_t store_total_bytes(const char *path)
{
    struct statvfs found;

    if (statvfs(path, &found) != 0 || found.f_blocks == 0) {
        return UINT64_MAX;
    }
    return (uint64_t)found.f_blocks * found.f_frsize;
}
