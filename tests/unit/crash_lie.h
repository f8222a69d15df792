/* A disk that lies: fsync and fdatasync of this program do nothing for files of one kind, which
 * can't be opened for writes that are synced, either. For one program alone, whose calls of libc
 * these replace. */
#ifndef TESTS_UNIT_CRASH_LIE_H
#define TESTS_UNIT_CRASH_LIE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *lie = ""; /* in the child: files with this in their path are not synced */

static bool is_lie(int fd)
{
    char link[64], path[400];
    ssize_t len;

    if (lie[0] == '\0') {
        return false;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    path[len > 0 ? len : 0] = '\0';
    return strstr(path, lie) != NULL;
}

/* These stand before the C library's, for libleveldb too. */
int fsync(int fd)
{
    return is_lie(fd) ? 0 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return is_lie(fd) ? 0 : (int)syscall(SYS_fdatasync, fd);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list arguments;

    if (lie[0] != '\0' && (flags & O_DSYNC) != 0 && strstr(path, lie) != NULL) {
        errno = EINVAL;
        return -1;
    }
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#endif
