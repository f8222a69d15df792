/* nng_threads: see nng_threads.h.
 *
 * nng hands what its poller received over to a pool of threads, two a core, and wakes one for each
 * piece. With several of them asleep each small message costs a wake-up, and a wait for the lock of
 * nng's queue, which the poller still holds when it wakes; and they take each other's place on the
 * cores. With one, which is mostly awake when there is much to do, 64 clients were served with a
 * quarter more operations a second, and one client with a quarter less latency. There is no setting
 * for it in nng 1.5: so the others are given a callback each that does not return.
 */
#include "raft/net/nng_threads.h"

#include <nng/nng.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "raft/util/assert.h"

#define NNG_THREADS_A_CORE  2  /* of nng 1.5 */
#define NNG_THREADS_MAX     16 /* of nng 1.5 */
#define NNG_THREADS_WAIT_MS 200

/* A callback, seen from the thread that asked for it. */
struct errand {
    nng_aio *aio;
    bool begun;
    bool over; /* it may return */
};

struct pool {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct errand parked[NNG_THREADS_MAX], probe;
    bool kept_one;
};

static struct pool pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* On a thread of nng's. */
static void errand_run(void *arg)
{
    struct errand *errand = arg;

    pthread_mutex_lock(&pool.mutex);
    errand->begun = true;
    pthread_cond_broadcast(&pool.changed);
    while (!errand->over) {
        pthread_cond_wait(&pool.changed, &pool.mutex);
    }
    pthread_mutex_unlock(&pool.mutex);
}

/* Whether a thread of nng's took the errand up in time. */
static bool errand_begin(struct errand *errand)
{
    struct timespec until;
    int result = 0;
    bool begun;

    if (nng_aio_alloc(&errand->aio, errand_run, errand) != 0) {
        return false;
    }
    ASSERT(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_nsec += NNG_THREADS_WAIT_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    nng_sleep_aio(0, errand->aio);
    pthread_mutex_lock(&pool.mutex);
    while (!errand->begun && result == 0) {
        result = pthread_cond_timedwait(&pool.changed, &pool.mutex, &until);
    }
    begun = errand->begun;
    pthread_mutex_unlock(&pool.mutex);
    return begun;
}

/* The thread that has it, or will have it, is free again. */
static void errand_end(struct errand *errand)
{
    pthread_mutex_lock(&pool.mutex);
    errand->over = true;
    pthread_cond_broadcast(&pool.changed);
    pthread_mutex_unlock(&pool.mutex);
    nng_aio_free(errand->aio); /* waits for it */
    *errand = (struct errand){0};
}

/* Parks a thread, if callbacks still run without it. */
static bool park_one(struct errand *parked)
{
    bool run;

    pool.probe.over = true; /* it returns at once */
    run = errand_begin(parked) && errand_begin(&pool.probe);
    if (!run) {
        errand_end(parked); /* another nng, with fewer threads: this was its last one */
    }
    errand_end(&pool.probe);
    return run;
}

/* Waits are measured by a clock that nobody sets. */
static void pool_init(void)
{
    pthread_condattr_t attributes;

    ASSERT(pthread_condattr_init(&attributes) == 0);
    ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&pool.changed, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

static void keep_one(void)
{
    long n = NNG_THREADS_A_CORE * sysconf(_SC_NPROCESSORS_ONLN);

    pool_init();
    n = n < NNG_THREADS_MAX ? n : NNG_THREADS_MAX;
    pool.kept_one = n > 0;
    for (long i = 0; i < n - 1 && pool.kept_one; i++) {
        pool.kept_one = park_one(&pool.parked[i]);
    }
}

bool nng_threads_keep_one(void)
{
    pthread_once(&once, keep_one);
    return pool.kept_one;
}
