/* fail_tool: small things that the failure tests need and the shell has not.
 *   fail_tool clock FILE OFFSET_S RATE   makes, or changes, the clock of fail_clock.c
 *   fail_tool freeze DIR | thaw DIR      writes to that file system wait until it is thawed
 *   fail_tool shutdown DIR               the file system forgets what was not synced, and from now
 *                                        on refuses every write with an error
 *   fail_tool write-back DIR SEED        pushes out a random part of what is not synced: after a
 *                                        shutdown some pages are new and some are old
 *   fail_tool probe                      whether the kernel has what is needed; says what not
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/cluster/fail_clock.h"

#define EXT4_SHUTDOWN    _IOR('X', 125, uint32_t) /* EXT4_IOC_SHUTDOWN */
#define EXT4_NO_LOGFLUSH 2u                       /* EXT4_GOING_FLAGS_NOLOGFLUSH */

static int fail(const char *what)
{
    fprintf(stderr, "fail_tool: %s: %s\n", what, strerror(errno));
    return 1;
}

/* ---- Clocks ---- */

static int64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int set_clock(const char *path, double offset_s, double rate)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct fail_clock *clock;
    int64_t now;

    if (fd < 0 || ftruncate(fd, sizeof(*clock)) != 0) {
        return fail(path);
    }
    clock = mmap(NULL, sizeof(*clock), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (clock == MAP_FAILED) {
        return fail(path);
    }
    atomic_fetch_add(&clock->version, 1);
    now = monotonic_ns();
    if (clock->rate == 0.0) {
        clock->since_wrong_ns = now; /* new: right until now */
    } else {
        clock->since_wrong_ns += (int64_t)((double)(now - clock->since_real_ns) * clock->rate);
    }
    clock->since_real_ns = now;
    clock->rate = rate;
    clock->wall_offset_ns = (int64_t)(offset_s * 1e9);
    atomic_fetch_add(&clock->version, 1);
    munmap(clock, sizeof(*clock));
    return 0;
}

/* ---- Disks ---- */

static int control_disk(const char *path, const char *verb)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), done;
    uint32_t flags = EXT4_NO_LOGFLUSH;

    if (fd < 0) {
        return fail(path);
    }
    if (strcmp(verb, "freeze") == 0) {
        done = ioctl(fd, FIFREEZE, 0);
    } else if (strcmp(verb, "thaw") == 0) {
        done = ioctl(fd, FITHAW, 0);
        done = done != 0 && errno == EINVAL ? 0 : done; /* it was not frozen */
    } else {
        done = ioctl(fd, EXT4_SHUTDOWN, &flags);
    }
    close(fd);
    return done == 0 ? 0 : fail(verb);
}

/* A random file of the directory, each as likely. */
static bool choose_file(const char *path, char chosen[600])
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    long n = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_type == DT_REG && random() % ++n == 0) {
            snprintf(chosen, 600, "%.300s/%.255s", path, entry->d_name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n > 0;
}

static int write_back(const char *path, unsigned seed)
{
    char chosen[600];
    int fd;

    srandom(seed);
    if (!choose_file(path, chosen)) {
        return 0;
    }
    fd = open(chosen, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        off_t size = lseek(fd, 0, SEEK_END);
        off_t at = (off_t)(random() % (size + 1)) & ~(off_t)4095;

        sync_file_range(fd, at, 4096 * (1 + random() % 8),
                        SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        close(fd);
    }
    return 0;
}

/* ---- What there is ---- */

static int probe(void)
{
    int fd;

    if (geteuid() != 0) {
        printf("needs root, for namespaces and loop devices\n");
        return 1;
    }
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        printf("needs /dev/net/tun: %s\n", strerror(errno));
        return 1;
    }
    close(fd);
    fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        printf("needs loop devices: %s\n", strerror(errno));
        return 1;
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "clock") == 0 && atof(argv[4]) > 0) {
        return set_clock(argv[2], atof(argv[3]), atof(argv[4]));
    }
    if (argc == 3 && (strcmp(argv[1], "freeze") == 0 || strcmp(argv[1], "thaw") == 0 ||
                      strcmp(argv[1], "shutdown") == 0)) {
        return control_disk(argv[2], argv[1]);
    }
    if (argc == 4 && strcmp(argv[1], "write-back") == 0) {
        return write_back(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
    }
    if (argc == 2 && strcmp(argv[1], "probe") == 0) {
        return probe();
    }
    fprintf(stderr, "usage: fail_tool clock FILE OFFSET_S RATE | freeze DIR | thaw DIR | "
                    "shutdown DIR | write-back DIR SEED | probe\n");
    return 2;
}
