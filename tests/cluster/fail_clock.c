/* fail_clock: clocks that are wrong, for processes of the failure tests; loaded with LD_PRELOAD.
 *
 * FAIL_CLOCK names a file of one struct fail_clock, mapped and shared, that the test writes while
 * the process runs: how far the wall clock is off, and how fast time passes. Rate changes keep the
 * monotonic clock continuous, as a clock that is slewed; the offset is added to the wall clock
 * alone, as by an administrator or a broken NTP server. Waiting with a deadline and sleeping take
 * as long as the wrong clock says.
 *
 * The writer (fail_clock_set) writes even numbers of `version` around each change, as a seqlock.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/cluster/fail_clock.h"

static struct fail_clock *shared;
static int (*real_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t,
                             const struct timespec *);

static int64_t to_ns(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static struct timespec of_ns(int64_t ns)
{
    return (struct timespec){ns / 1000000000, ns % 1000000000};
}

static int64_t real_ns(clockid_t clock)
{
    struct timespec now;

    syscall(SYS_clock_gettime, clock, &now);
    return to_ns(&now);
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAIL_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*shared), PROT_READ, MAP_SHARED, fd, 0);

    *(void **)&real_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    *(void **)&real_clockwait = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    if (fd >= 0) {
        close(fd);
    }
    if (map != MAP_FAILED) {
        shared = map;
    }
}

/* A copy that is whole. */
static struct fail_clock look(void)
{
    struct fail_clock clock = {.rate = 1.0};
    uint64_t before, after;

    if (shared == NULL) {
        return clock;
    }
    do {
        before = atomic_load(&shared->version);
        clock.wall_offset_ns = shared->wall_offset_ns;
        clock.rate = shared->rate;
        clock.since_real_ns = shared->since_real_ns;
        clock.since_wrong_ns = shared->since_wrong_ns;
        after = atomic_load(&shared->version);
    } while (before != after || before % 2 != 0);
    return clock;
}

/* How far the wrong clock is ahead of the monotonic one. */
static int64_t ahead_ns(const struct fail_clock *clock, int64_t monotonic_ns)
{
    int64_t passed = monotonic_ns - clock->since_real_ns;

    if (clock->rate == 1.0) {
        return clock->since_wrong_ns - clock->since_real_ns;
    }
    return clock->since_wrong_ns + (int64_t)((double)passed * clock->rate) - monotonic_ns;
}

static int64_t wrong_ns(clockid_t id)
{
    struct fail_clock clock = look();
    int64_t ahead = ahead_ns(&clock, real_ns(CLOCK_MONOTONIC));

    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) {
        ahead += clock.wall_offset_ns;
    }
    return real_ns(id) + ahead;
}

static int is_wrong(clockid_t id)
{
    return id == CLOCK_MONOTONIC || id == CLOCK_REALTIME || id == CLOCK_MONOTONIC_RAW ||
           id == CLOCK_MONOTONIC_COARSE || id == CLOCK_REALTIME_COARSE || id == CLOCK_BOOTTIME;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (shared == NULL || !is_wrong(id)) {
        return (int)syscall(SYS_clock_gettime, id, now);
    }
    *now = of_ns(wrong_ns(id));
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int64_t ns = wrong_ns(CLOCK_REALTIME);

    (void)zone;
    *now = (struct timeval){ns / 1000000000, ns % 1000000000 / 1000};
    return 0;
}

time_t time(time_t *out)
{
    time_t now = (time_t)(wrong_ns(CLOCK_REALTIME) / 1000000000);

    if (out != NULL) {
        *out = now;
    }
    return now;
}

/* ---- Waiting ---- */

/* A deadline on the wrong clock as one on the monotonic clock. */
static struct timespec right_deadline(clockid_t id, const struct timespec *deadline)
{
    struct fail_clock clock = look();
    int64_t left = to_ns(deadline) - wrong_ns(id);
    double real_left = left <= 0 ? 0 : (double)left / clock.rate;

    return of_ns(real_ns(CLOCK_MONOTONIC) + (int64_t)real_left);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t id,
                           const struct timespec *deadline)
{
    struct timespec right;

    if (shared == NULL) {
        return real_clockwait(cond, mutex, id, deadline);
    }
    right = right_deadline(id, deadline);
    return real_clockwait(cond, mutex, CLOCK_MONOTONIC, &right);
}

/* Which clock a condition has can't be asked. The two are decades apart, so the deadline tells. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline)
{
    if (shared == NULL) {
        return real_timedwait(cond, mutex, deadline);
    }
    return pthread_cond_clockwait(
        cond, mutex, deadline->tv_sec > 1000000000 ? CLOCK_REALTIME : CLOCK_MONOTONIC, deadline);
}

static int right_wait_ms(int wait_ms)
{
    struct fail_clock clock = look();

    return wait_ms <= 0 ? wait_ms : (int)((double)wait_ms / clock.rate) + 1;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int wait_ms)
{
    return (int)syscall(SYS_epoll_pwait, fd, events, n, right_wait_ms(wait_ms), NULL, 8);
}

int poll(struct pollfd *fds, nfds_t n, int wait_ms)
{
    return (int)syscall(SYS_poll, fds, n, right_wait_ms(wait_ms));
}

int nanosleep(const struct timespec *request, struct timespec *rest)
{
    struct fail_clock clock = look();
    struct timespec right = of_ns((int64_t)((double)to_ns(request) / clock.rate));

    return (int)syscall(SYS_nanosleep, &right, rest);
}

int usleep(useconds_t us)
{
    struct timespec request = {us / 1000000, (long)(us % 1000000) * 1000};

    return nanosleep(&request, NULL);
}
