/* Work of a lock made of compare-and-set; see kv_load.h.
 *
 * The lock is the key "l", the guard "l0"; both hold "<version>:<holder>", without a holder when
 * free. Whoever takes the lock finds the guard free, writes its name there, holds for 10 ms, finds
 * its name, frees the guard, then the lock.
 *
 * A set whose end is unknown may take effect late. So every set names the version that it replaces
 * and is repeated, the same, until its end is known: then it took effect once, or another did. Only
 * after taking the lock must one look who got it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/util/assert.h"
#include "tests/sim/kv_load_internal.h"

#define HOLD_MS 10
#define POLL_MS 5

enum { LOCK, GUARD };

static const char *const keys[] = {[LOCK] = "l", [GUARD] = "l0"};

static void parse(const struct buf *value, unsigned long long *version, size_t *holder)
{
    char text[48] = {0};

    ASSERT(value->len < sizeof(text));
    if (value->len > 0) {
        memcpy(text, value->data, value->len);
    }
    *version = 0;
    *holder = SIZE_MAX;
    ASSERT(value->len == 0 || sscanf(text, "%llu:%zu", version, holder) >= 1);
}

static size_t holder_of(const struct buf *value)
{
    unsigned long long version;
    size_t holder;

    parse(value, &version, &holder);
    return holder;
}

static void get(struct kv_worker *worker, int which)
{
    kv_client_get(worker->client, keys[which], kv_worker_deadline_ms(worker), &worker->outcome);
}

/* Replaces what was last seen of the key by its next version, with or without a holder. */
static void set(struct kv_worker *worker, int which, bool hold)
{
    const struct buf *known = &worker->known[which];
    unsigned long long version;
    size_t holder;

    parse(known, &version, &holder);
    buf_clear(&worker->fresh_value);
    buf_printf(&worker->fresh_value, "%llu:", version + 1);
    if (hold) {
        buf_printf(&worker->fresh_value, "%zu", worker->number);
    }
    kv_client_cas(worker->client, keys[which], known->len == 0 ? KV_IF_ABSENT : KV_IF_VALUE,
                  buf_slice(known), buf_slice(&worker->fresh_value), kv_worker_deadline_ms(worker),
                  &worker->outcome);
}

static void lock_create(struct kv_worker *worker)
{
    worker->step = STEP_LOOK;
}

static void lock_resume(struct kv_worker *worker)
{
    ASSERT(worker->step == STEP_LOOK);
}

static bool lock_may_stop(const struct kv_worker *worker)
{
    return worker->step == STEP_LOOK;
}

static void lock_begin(struct kv_worker *worker)
{
    switch (worker->step) {
    case STEP_LOOK:
        get(worker, LOCK);
        break;
    case STEP_TAKE:
        set(worker, LOCK, true);
        break;
    case STEP_READ_GUARD:
    case STEP_CHECK_GUARD:
        get(worker, GUARD);
        break;
    case STEP_SET_GUARD:
        set(worker, GUARD, true);
        break;
    case STEP_CLEAR_GUARD:
        set(worker, GUARD, false);
        break;
    default:
        ASSERT(worker->step == STEP_RELEASE);
        set(worker, LOCK, false);
        break;
    }
}

static void remember(struct kv_worker *worker, int which, const struct buf *value)
{
    buf_clear(&worker->known[which]);
    buf_put_slice(&worker->known[which], buf_slice(value));
}

static void looked(struct kv_worker *worker)
{
    struct kv_load *load = worker->load;

    remember(worker, LOCK, &worker->outcome.value);
    if (holder_of(&worker->known[LOCK]) == SIZE_MAX) {
        worker->step = STEP_TAKE;
    } else if (holder_of(&worker->known[LOCK]) == worker->number) {
        ASSERT(load->holder == SIZE_MAX); /* nobody else believes to hold it */
        load->holder = worker->number;
        load->n_set[0]++;
        worker->step = STEP_READ_GUARD;
    } else {
        worker->idle_until_ms += POLL_MS;
    }
}

/* A set's end is known: what was to be there was there, or is no more. */
static void set_ended(struct kv_worker *worker)
{
    switch (worker->step) {
    case STEP_TAKE: /* whoever got it */
        worker->step = STEP_LOOK;
        break;
    case STEP_SET_GUARD:
        remember(worker, GUARD, &worker->fresh_value);
        worker->idle_until_ms += HOLD_MS;
        worker->step = STEP_CHECK_GUARD;
        break;
    case STEP_CLEAR_GUARD:
        worker->load->holder = SIZE_MAX; /* from its release on, anybody may have it */
        worker->step = STEP_RELEASE;
        break;
    default:
        ASSERT(worker->step == STEP_RELEASE);
        worker->step = STEP_LOOK;
        break;
    }
}

static void got(struct kv_worker *worker)
{
    switch (worker->step) {
    case STEP_LOOK:
        looked(worker);
        break;
    case STEP_READ_GUARD:
        remember(worker, GUARD, &worker->outcome.value);
        ASSERT(holder_of(&worker->known[GUARD]) == SIZE_MAX); /* alone under the lock */
        worker->step = STEP_SET_GUARD;
        break;
    default:
        ASSERT(worker->step == STEP_CHECK_GUARD);
        ASSERT(slice_equal(buf_slice(&worker->outcome.value), buf_slice(&worker->known[GUARD])));
        worker->step = STEP_CLEAR_GUARD;
        break;
    }
}

static void lock_end(struct kv_worker *worker)
{
    switch (worker->outcome.status) {
    case ST_OK:
    case ST_NOT_FOUND:
    case ST_MISMATCH:
        if (worker->step == STEP_LOOK || worker->step == STEP_READ_GUARD ||
            worker->step == STEP_CHECK_GUARD) {
            got(worker);
        } else {
            set_ended(worker);
        }
        break;
    default: /* unknown, or not applied: the same again */
        ASSERT(worker->outcome.status == ST_UNKNOWN || worker->outcome.status == ST_TIMEOUT ||
               worker->outcome.status == ST_UNAVAILABLE);
        break;
    }
}

static void lock_check(struct kv_load *load, struct kv_client *reader)
{
    struct buf guard = {0};

    kv_get_now(reader, keys[GUARD], &guard);
    ASSERT(holder_of(&guard) == SIZE_MAX && load->holder == SIZE_MAX);
    printf("the lock was held %llu times\n", (unsigned long long)load->n_set[0]);
    ASSERT(load->n_set[0] > load->options.n_clients / 2); /* taken, and passed on */
    buf_fini(&guard);
}

const struct kv_work_ops kv_lock_work = {.create = lock_create,
                                         .begin = lock_begin,
                                         .end = lock_end,
                                         .resume = lock_resume,
                                         .check = lock_check,
                                         .may_stop = lock_may_stop};
