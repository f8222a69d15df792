/* Work of appends, puts and gets; see kv_load.h. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/kv_cluster_internal.h"
#include "tests/sim/kv_load_internal.h"
#include "tests/sim/linear.h"

/* Of a client's history; then it is checked, and another one begins. */
#define PIECE_BYTES (1u << 20)

#define OPERATION_BYTES 100 /* about what one takes there, without its value */

static bool has_own_key(const struct kv_load *load)
{
    return !load->options.one_key && !load->options.random_keys;
}

/* Few keys are spread over all the shards: each group gets some of them. */
static const char *worker_key(const struct kv_worker *worker)
{
    const struct kv_load *load = worker->load;
    size_t n_shards = load->cluster->options.n_shards, n = load->options.n_clients;
    size_t key = load->options.one_key ? 0 : worker->key;

    return kv_cluster_key(load->cluster, n < n_shards ? key * n_shards / n : key);
}

static void put_token(struct buf *text, size_t client, uint64_t number)
{
    buf_printf(text, "x %zu %llu y", client, (unsigned long long)number);
}

/* ---- The history, in pieces ---- */

static void history_begin_piece(struct kv_worker *worker, bool note)
{
    worker->history = history_create();
    worker->history_bytes = 0;
    if (note) {
        kv_cluster_note(worker->load->cluster, worker->history, worker_key(worker),
                        buf_slice(&worker->expected));
    }
    kv_client_record(worker->client, worker->history);
}

static void history_end_piece(struct kv_worker *worker)
{
    linear_must_hold(worker->history);
    history_destroy(&worker->history);
}

static void history_grow(struct kv_worker *worker)
{
    worker->history_bytes += OPERATION_BYTES + worker->outcome.value.len;
    if (worker->history != NULL && worker->history_bytes > PIECE_BYTES) {
        history_end_piece(worker);
        history_begin_piece(worker, true);
    }
}

/* ---- The work ---- */

static void append_create(struct kv_worker *worker)
{
    worker->key = worker->number;
    if (has_own_key(worker->load) && worker->load->cluster->history != NULL) {
        history_begin_piece(worker, false);
    }
}

static void append_resume(struct kv_worker *worker)
{
    worker->fresh = worker->load->options.begin_with_put && has_own_key(worker->load);
}

static void begin_write(struct kv_worker *worker, enum kv_step step)
{
    struct buf token = {0};

    worker->step = step;
    put_token(&token, worker->number, worker->n_tokens++);
    if (step == STEP_PUT) {
        kv_client_put(worker->client, worker_key(worker), buf_slice(&token),
                      kv_worker_deadline_ms(worker), &worker->outcome);
    } else {
        kv_client_append(worker->client, worker_key(worker), buf_slice(&token),
                         kv_worker_deadline_ms(worker), &worker->outcome);
        buf_put_slice(&worker->expected, buf_slice(&token));
    }
    buf_fini(&token);
}

static void append_begin(struct kv_worker *worker)
{
    const struct kv_load_options *options = &worker->load->options;
    struct rng *rng = world_rng(kv_cluster_world(worker->load->cluster));
    uint32_t drawn = (uint32_t)rng_below(rng, 100);

    if (options->random_keys) {
        worker->key = rng_below(rng, options->n_clients);
    }
    if (worker->fresh) {
        worker->fresh = false;
        worker->n_tokens = 0;
        buf_clear(&worker->expected);
        worker->step = STEP_FIRST_PUT;
        kv_client_put(worker->client, worker_key(worker), slice_text(""),
                      kv_worker_deadline_ms(worker), &worker->outcome);
    } else if (!options->one_key && drawn < options->get_ratio) {
        worker->step = STEP_GET;
        kv_client_get(worker->client, worker_key(worker), kv_worker_deadline_ms(worker),
                      &worker->outcome);
    } else {
        begin_write(worker, options->random_keys && drawn < options->get_ratio + options->put_ratio
                                ? STEP_PUT
                                : STEP_APPEND);
    }
}

static void append_end(struct kv_worker *worker)
{
    const struct kv_outcome *outcome = &worker->outcome;

    ASSERT(outcome->status == ST_OK ||
           (worker->step == STEP_GET && outcome->status == ST_NOT_FOUND));
    if (worker->step == STEP_GET && has_own_key(worker->load)) {
        ASSERT(slice_equal(buf_slice(&outcome->value), buf_slice(&worker->expected)));
    }
    if (worker->step == STEP_APPEND && has_own_key(worker->load)) {
        ASSERT(outcome->result.n_outputs == 1 &&
               outcome->result.outputs[0] == worker->expected.len);
    }
    if (worker->load->options.one_key) {
        MEM_GROW(worker->ends, worker->ends_capacity, worker->n_ends + 1);
        worker->ends[worker->n_ends++] = outcome->result.outputs[0];
    }
    history_grow(worker);
}

/* ---- At the end ---- */

/* The value is tokens and nothing else: each client's in order, from 0 to its last, each once, and
 * each where its answer said that it would end. */
static void check_one_key(struct kv_load *load, struct slice value)
{
    uint64_t *next = mem_zalloc(load->options.n_clients * sizeof(*next));
    struct buf text = {0};
    size_t at = 0;

    buf_put_slice(&text, value);
    buf_put_u8(&text, 0);
    while (at < value.len) {
        size_t client;
        unsigned long long number;
        int len = 0;

        ASSERT(sscanf((const char *)text.data + at, "x %zu %llu y%n", &client, &number, &len) == 2);
        ASSERT(len > 0 && client < load->options.n_clients && number == next[client]);
        at += (size_t)len;
        ASSERT(number < load->workers[client].n_ends && load->workers[client].ends[number] == at);
        next[client]++;
    }
    for (size_t i = 0; i < load->options.n_clients; i++) {
        ASSERT(next[i] == load->workers[i].n_tokens); /* none is lost */
    }
    buf_fini(&text);
    mem_free(next);
}

static void append_check(struct kv_load *load, struct kv_client *reader)
{
    size_t n = load->options.one_key ? 1 : load->options.n_clients;

    for (size_t i = 0; i < n; i++) {
        struct kv_worker *worker = &load->workers[i];
        struct buf value = {0};

        worker->key = worker->number;
        if (worker->history != NULL) {
            kv_client_record(reader, worker->history);
        }
        kv_get_now(reader, worker_key(worker), &value);
        if (load->options.one_key) {
            check_one_key(load, buf_slice(&value));
        } else if (has_own_key(load)) {
            ASSERT(slice_equal(buf_slice(&value), buf_slice(&worker->expected)));
        }
        buf_fini(&value);
    }
}

static void append_destroy(struct kv_worker *worker)
{
    kv_client_record(worker->client, NULL);
    if (worker->history != NULL) {
        history_end_piece(worker);
    }
    mem_free(worker->ends);
}

const struct kv_work_ops kv_append_work = {.create = append_create,
                                           .begin = append_begin,
                                           .end = append_end,
                                           .resume = append_resume,
                                           .check = append_check,
                                           .destroy = append_destroy};
