/* Work of compare-and-set on versioned values; see kv_load.h. A value is "<version>:<token>"; a set
 * from version v has the whole value of version v for its condition, which is the same as a
 * condition on v alone, since no two values of a key carry the same version. */
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "tests/sim/kv_cluster_internal.h"
#include "tests/sim/kv_load_internal.h"

static size_t n_keys(const struct kv_load *load)
{
    return load->options.random_keys ? KV_LOAD_MAX_KEYS : 1;
}

static const char *key_text(const struct kv_load *load, size_t key, char *text, size_t size)
{
    if (!load->options.random_keys) {
        return "k";
    }
    snprintf(text, size, "k%zu", key);
    return text;
}

/* 0: no such key. */
static uint64_t version_of(struct slice value)
{
    char text[24] = {0};

    if (value.len == 0) {
        return 0;
    }
    memcpy(text, value.data, value.len < sizeof(text) - 1 ? value.len : sizeof(text) - 1);
    return strtoull(text, NULL, 10);
}

static void version_create(struct kv_worker *worker)
{
    worker->step = STEP_GET;
}

static void version_begin(struct kv_worker *worker)
{
    struct kv_load *load = worker->load;
    struct buf *known = &worker->known[worker->key];
    char text[16];

    if (worker->step == STEP_SET) {
        worker->step = STEP_GET;
        kv_client_get(worker->client, key_text(load, worker->key, text, sizeof(text)),
                      kv_worker_deadline_ms(worker), &worker->outcome);
        return;
    }
    worker->step = STEP_SET;
    worker->key = rng_below(world_rng(kv_cluster_world(load->cluster)), n_keys(load));
    known = &worker->known[worker->key];
    buf_clear(&worker->fresh_value);
    buf_printf(&worker->fresh_value, "%llu:%zu-%llu",
               (unsigned long long)version_of(buf_slice(known)) + 1, worker->number,
               (unsigned long long)worker->n_tokens++);
    kv_client_cas(worker->client, key_text(load, worker->key, text, sizeof(text)),
                  known->len == 0 ? KV_IF_ABSENT : KV_IF_VALUE, buf_slice(known),
                  buf_slice(&worker->fresh_value), kv_worker_deadline_ms(worker), &worker->outcome);
}

static void set_ended(struct kv_worker *worker)
{
    struct kv_load *load = worker->load;

    switch (worker->outcome.status) {
    case ST_OK:
        load->n_set[worker->key]++;
        break;
    case ST_UNKNOWN:
        ASSERT(!load->options.no_unknown);
        load->n_maybe[worker->key]++;
        break;
    case ST_MISMATCH:
        break;
    default: /* certainly not applied: in time, or for want of a server */
        ASSERT(worker->outcome.status == ST_TIMEOUT || worker->outcome.status == ST_UNAVAILABLE);
        break;
    }
}

static void get_ended(struct kv_worker *worker)
{
    const struct kv_outcome *outcome = &worker->outcome;
    struct buf *known = &worker->known[worker->key];

    if (outcome->status != ST_OK && outcome->status != ST_NOT_FOUND) {
        ASSERT(outcome->status == ST_TIMEOUT || outcome->status == ST_UNAVAILABLE);
        return;
    }
    /* What one client sees never goes back. */
    ASSERT(version_of(buf_slice(&outcome->value)) >= version_of(buf_slice(known)));
    buf_clear(known);
    buf_put_slice(known, buf_slice(&outcome->value));
}

static void version_end(struct kv_worker *worker)
{
    if (worker->step == STEP_SET) {
        set_ended(worker);
    } else {
        get_ended(worker);
    }
}

static void version_check(struct kv_load *load, struct kv_client *reader)
{
    for (size_t key = 0; key < n_keys(load); key++) {
        struct buf value = {0};
        char text[16];
        uint64_t version;

        kv_get_now(reader, key_text(load, key, text, sizeof(text)), &value);
        version = version_of(buf_slice(&value));
        ASSERT(version >= load->n_set[key] && version <= load->n_set[key] + load->n_maybe[key]);
        buf_fini(&value);
    }
}

const struct kv_work_ops kv_version_work = {
    .create = version_create, .begin = version_begin, .end = version_end, .check = version_check};
