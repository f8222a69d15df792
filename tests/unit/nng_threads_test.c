/* Callbacks of nng on one thread, whatever is asked of it at once. */
#include "raft/net/nng_threads.h"

#include <nng/nng.h>
#include <pthread.h>
#include <unistd.h>

#include "tests/cmocka.h"

#define N_CALLBACKS 64

struct seen {
    pthread_mutex_t mutex;
    pthread_t thread;
    bool any;
    unsigned n, n_elsewhere;
};

struct call {
    nng_aio *aio;
    struct seen *seen;
};

static void note(void *arg)
{
    struct seen *seen = ((struct call *)arg)->seen;

    pthread_mutex_lock(&seen->mutex);
    if (!seen->any) {
        seen->thread = pthread_self();
        seen->any = true;
    }
    seen->n_elsewhere += !pthread_equal(seen->thread, pthread_self());
    seen->n++;
    pthread_mutex_unlock(&seen->mutex);
    usleep(1000); /* so that others would be wanted, if there were any */
}

static void run_callbacks(struct seen *seen)
{
    struct call calls[N_CALLBACKS];

    for (int i = 0; i < N_CALLBACKS; i++) {
        calls[i].seen = seen;
        assert_int_equal(nng_aio_alloc(&calls[i].aio, note, &calls[i]), 0);
        nng_sleep_aio(0, calls[i].aio);
    }
    for (int i = 0; i < N_CALLBACKS; i++) {
        nng_aio_wait(calls[i].aio);
        nng_aio_free(calls[i].aio);
    }
}

static void callbacks_run_on_one_thread_once_it_is_asked_for(void **state)
{
    struct seen before = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct seen after = {.mutex = PTHREAD_MUTEX_INITIALIZER};

    (void)state;
    run_callbacks(&before);
    assert_int_equal(before.n, N_CALLBACKS);
    assert_true(before.n_elsewhere > 0); /* else this test could not fail */
    assert_true(nng_threads_keep_one());
    assert_true(nng_threads_keep_one()); /* once is enough */
    run_callbacks(&after);
    assert_int_equal(after.n, N_CALLBACKS);
    assert_int_equal(after.n_elsewhere, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_run_on_one_thread_once_it_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
