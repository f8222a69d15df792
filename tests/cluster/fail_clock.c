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

/* What the clocks say at one moment. */
struct moment {
    int64_t monotonic_ns; /* the right one */
    int64_t ahead_ns;     /* of it the wrong one is */
    int64_t wall_offset_ns;
    double rate;
};

/* How far the wrong clock is ahead of the monotonic one. */
static int64_t ahead_of(double rate, int64_t since_real_ns, int64_t since_wrong_ns, int64_t now_ns)
{
    if (rate == 1.0) {
        return since_wrong_ns - since_real_ns;
    }
    return since_wrong_ns + (int64_t)((double)(now_ns - since_real_ns) * rate) - now_ns;
}

/* The time is read between the two looks at the version: with the old rate and a time from after a
 * change the clock would run ahead, and back at the next look. */
static struct moment look(void)
{
    struct moment moment = {.monotonic_ns = real_ns(CLOCK_MONOTONIC), .rate = 1.0};
    uint64_t before, after;

    if (shared == NULL) {
        return moment;
    }
    do {
        before = atomic_load(&shared->version);
        moment.wall_offset_ns = shared->wall_offset_ns;
        moment.rate = shared->rate;
        moment.monotonic_ns = real_ns(CLOCK_MONOTONIC);
        moment.ahead_ns = ahead_of(shared->rate, shared->since_real_ns, shared->since_wrong_ns,
                                   moment.monotonic_ns);
        after = atomic_load(&shared->version);
    } while (before != after || before % 2 != 0);
    return moment;
}

static int64_t wrong_ns(clockid_t id)
{
    struct moment moment = look();

    if (id == CLOCK_MONOTONIC) {
        return moment.monotonic_ns + moment.ahead_ns;
    }
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) {
        moment.ahead_ns += moment.wall_offset_ns;
    }
    return real_ns(id) + moment.ahead_ns;
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
    struct moment moment = look();
    int64_t left = to_ns(deadline) - wrong_ns(id);
    double real_left = left <= 0 ? 0 : (double)left / moment.rate;

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
    struct moment moment = look();

    return wait_ms <= 0 ? wait_ms : (int)((double)wait_ms / moment.rate) + 1;
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
    struct moment moment = look();
    struct timespec right = of_ns((int64_t)((double)to_ns(request) / moment.rate));

    return (int)syscall(SYS_nanosleep, &right, rest);
}

int usleep(useconds_t us)
{
    struct timespec request = {us / 1000000, (long)(us % 1000000) * 1000};

    return nanosleep(&request, NULL);
}
