/* Clients that work without end; see kv_load.h. */
#include "tests/sim/kv_load.h"

#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define OPERATION_MS 120000

struct worker {
    struct kv_load *load;
    struct kv_client *client;
    size_t number;
    struct kv_outcome outcome;
    bool busy;
    bool reading;
    uint64_t n_tokens, n_operations;
    uint64_t idle_until_ms;
    struct buf expected; /* own keys */
};

struct kv_load {
    struct kv_cluster *cluster;
    struct kv_load_options options;
    struct worker *workers;
    bool stopping;
    uint64_t done;
};

static const char *worker_key(const struct worker *worker)
{
    return kv_cluster_key(worker->load->cluster,
                          worker->load->options.one_key ? 0 : worker->number);
}

static void put_token(struct buf *text, size_t client, uint64_t number)
{
    buf_printf(text, "x %zu %llu y", client, (unsigned long long)number);
}

static void begin(struct worker *worker)
{
    struct kv_load *load = worker->load;
    struct rng *rng = world_rng(kv_cluster_world(load->cluster));
    struct buf token = {0};

    worker->busy = true;
    worker->reading = !load->options.one_key && rng_below(rng, 100) < load->options.get_ratio;
    if (worker->reading) {
        kv_client_get(worker->client, worker_key(worker), OPERATION_MS, &worker->outcome);
        return;
    }
    put_token(&token, worker->number, worker->n_tokens);
    kv_client_append(worker->client, worker_key(worker), buf_slice(&token), OPERATION_MS,
                     &worker->outcome);
    buf_put_slice(&worker->expected, buf_slice(&token));
    worker->n_tokens++;
    buf_fini(&token);
}

static void end(struct worker *worker)
{
    struct kv_load *load = worker->load;

    if (worker->reading) {
        ASSERT(worker->outcome.status == ST_OK || worker->outcome.status == ST_NOT_FOUND);
        ASSERT(slice_equal(buf_slice(&worker->outcome.value), buf_slice(&worker->expected)));
    } else {
        ASSERT(worker->outcome.status == ST_OK);
    }
    kv_outcome_fini(&worker->outcome);
    worker->busy = false;
    worker->n_operations++;
    load->done++;
    worker->idle_until_ms = world_now_ms(kv_cluster_world(load->cluster)) + load->options.pause_ms;
}

static bool worker_may_begin(const struct worker *worker, uint64_t now_ms)
{
    const struct kv_load *load = worker->load;

    return !worker->busy && !load->stopping && now_ms >= worker->idle_until_ms &&
           (load->options.max_operations == 0 ||
            worker->n_operations < load->options.max_operations);
}

/* Ends and begins what is due; asked after every event of the world. */
static bool turn(void *context)
{
    struct kv_load *load = context;
    uint64_t now_ms = world_now_ms(kv_cluster_world(load->cluster));
    bool idle = true;

    for (size_t i = 0; i < load->options.n_clients; i++) {
        struct worker *worker = &load->workers[i];
        if (worker->busy && worker->outcome.ended) {
            end(worker);
        }
        if (worker_may_begin(worker, now_ms)) {
            begin(worker);
        }
        idle &= !worker->busy;
    }
    return load->stopping && idle;
}

struct kv_load *kv_load_create(struct kv_cluster *cluster, const struct kv_load_options *options)
{
    struct kv_load *load = mem_zalloc(sizeof(*load));

    load->cluster = cluster;
    load->options = *options;
    load->workers = mem_zalloc(options->n_clients * sizeof(*load->workers));
    for (size_t i = 0; i < options->n_clients; i++) {
        load->workers[i].load = load;
        load->workers[i].number = i;
        load->workers[i].client = kv_client_create(cluster);
    }
    return load;
}

void kv_load_run_ms(struct kv_load *load, uint64_t ms)
{
    ASSERT(!load->stopping);
    world_run_until(kv_cluster_world(load->cluster), ms, turn, load);
}

static bool all_have_enough(const struct kv_load *load)
{
    for (size_t i = 0; i < load->options.n_clients; i++) {
        if (load->workers[i].n_operations < load->options.max_operations) {
            return false;
        }
    }
    return true;
}

void kv_load_finish(struct kv_load *load)
{
    for (int second = 0; load->options.max_operations > 0 && !all_have_enough(load); second++) {
        ASSERT(second < 120);
        world_run_until(kv_cluster_world(load->cluster), 1000, turn, load);
    }
    load->stopping = true;
    ASSERT(world_run_until(kv_cluster_world(load->cluster), OPERATION_MS + 1000, turn, load));
}

uint64_t kv_load_done(const struct kv_load *load)
{
    return load->done;
}

/* All tokens of a client, in order, each once. */
static void check_tokens(const struct worker *worker, struct slice value)
{
    const char *at = (const char *)value.data;
    struct buf text = {0};

    buf_put_slice(&text, value);
    buf_put_u8(&text, 0);
    at = (const char *)text.data;
    for (uint64_t n = 0; n < worker->n_tokens; n++) {
        struct buf token = {0};
        const char *found;

        put_token(&token, worker->number, n);
        buf_put_u8(&token, 0);
        found = strstr(at, (const char *)token.data);
        if (found == NULL) {
            fprintf(stderr, "client %zu: token %llu is lost or out of order\n", worker->number,
                    (unsigned long long)n);
        }
        ASSERT(found != NULL);
        at = found + token.len - 1;
        ASSERT(strstr(at, (const char *)token.data) == NULL); /* not twice */
        buf_fini(&token);
    }
    buf_fini(&text);
}

void kv_load_check_and_destroy(struct kv_load **load)
{
    struct kv_load *l = *load;
    struct kv_client *reader = kv_client_create(l->cluster);

    for (size_t i = 0; i < l->options.n_clients; i++) {
        struct worker *worker = &l->workers[i];
        struct buf value = {0};
        kv_get_now(reader, worker_key(worker), &value);
        if (!l->options.one_key) {
            ASSERT(slice_equal(buf_slice(&value), buf_slice(&worker->expected)));
        }
        check_tokens(worker, buf_slice(&value));
        buf_fini(&value);
    }
    kv_client_destroy(&reader);
    for (size_t i = 0; i < l->options.n_clients; i++) {
        kv_client_destroy(&l->workers[i].client);
        buf_fini(&l->workers[i].expected);
    }
    mem_free(l->workers);
    mem_free(l);
    *load = NULL;
}
