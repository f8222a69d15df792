/* Clients that work without end and note what they do; see kv_clerks.h. */
#include "tests/sim/kv_clerks.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/kv_cluster_internal.h"
#include "tests/sim/linear.h"

#define OPERATION_MS 120000

struct worker {
    struct kv_clerks *clerks;
    struct kv_client *client;
    size_t number;
    bool busy;
    size_t key;
    bool has_read; /* `read` is what the key held, and the next operation writes it */
    bool existed;
    struct buf read;
    uint64_t n_writes;
    size_t operation; /* in the history */
    uint64_t start_us, idle_until_ms;
};

struct kv_clerks {
    struct kv_keys *keys;
    struct world *world;
    struct history *history;
    struct worker *workers;
    size_t n;
    uint64_t pause_ms;
    size_t pacer; /* client of the world whose deadlines end the pauses */
    bool stopping;
    uint64_t done, longest_us, longest_at_us;
};

static void begin(struct worker *worker);

static void on_end(void *context, const struct clerk_end *end)
{
    struct worker *worker = context;
    struct kv_clerks *clerks = worker->clerks;
    uint64_t now_us = world_now_us(clerks->world);

    ASSERT(worker->busy);
    ASSERT(end->status == ST_OK || end->status == ST_NOT_FOUND || end->status == ST_MISMATCH);
    history_end(clerks->history, worker->operation, now_us, end);
    worker->busy = false;
    clerks->done++;
    if (now_us - worker->start_us > clerks->longest_us) {
        clerks->longest_us = now_us - worker->start_us;
        clerks->longest_at_us = worker->start_us;
    }
    worker->has_read = !worker->has_read;
    if (worker->has_read) {
        worker->existed = end->status == ST_OK;
        buf_clear(&worker->read);
        buf_put_slice(&worker->read, end->value);
    }
    worker->idle_until_ms = now_us / 1000 + clerks->pause_ms;
    if (!clerks->stopping && clerks->pause_ms == 0) {
        begin(worker);
    } else {
        world_reschedule(clerks->world, clerks->pacer);
    }
}

/* ---- Operations ---- */

static void note(struct worker *worker, const struct history_operation *operation)
{
    worker->operation = history_begin(worker->clerks->history, operation);
}

static struct slice key_of(const struct worker *worker)
{
    return slice_text(worker->clerks->keys->names[worker->key]);
}

static void begin_get(struct worker *worker, struct history_operation *operation, uint64_t now_ms)
{
    worker->key = rng_below(world_rng(worker->clerks->world), KV_KEYS);
    operation->key = worker->key;
    operation->type = HISTORY_GET;
    note(worker, operation);
    clerk_get(kv_client_clerk(worker->client), key_of(worker), now_ms, now_ms + OPERATION_MS,
              on_end, worker);
}

static void begin_write(struct worker *worker, struct history_operation *operation, uint64_t now_ms)
{
    static const enum history_type types[8] = {HISTORY_APPEND, HISTORY_DELETE, HISTORY_CAS,
                                               HISTORY_CAS,    HISTORY_CAS,    HISTORY_CAS,
                                               HISTORY_CAS,    HISTORY_CAS};
    char text[48];
    struct kv_write write = {.n_operations = 1};

    snprintf(text, sizeof(text), "%zu.%llu,", worker->number,
             (unsigned long long)++worker->n_writes);
    operation->type = types[rng_below(world_rng(worker->clerks->world), 8)];
    operation->key = worker->key;
    write.operations[0] = (struct kv_operation){KV_PUT, key_of(worker), slice_text(text)};
    if (operation->type == HISTORY_APPEND) {
        write.operations[0].type = KV_APPEND;
    } else if (operation->type == HISTORY_DELETE) {
        write.operations[0] = (struct kv_operation){KV_DELETE, key_of(worker), slice_of(NULL, 0)};
    } else {
        write.n_conditions = 1;
        write.conditions[0] = (struct kv_condition){worker->existed ? KV_IF_VALUE : KV_IF_ABSENT,
                                                    key_of(worker), buf_slice(&worker->read)};
        operation->condition = write.conditions[0];
    }
    operation->argument = write.operations[0].value;
    note(worker, operation);
    clerk_write(kv_client_clerk(worker->client), &write, now_ms, now_ms + OPERATION_MS, on_end,
                worker);
}

static void begin(struct worker *worker)
{
    struct kv_clerks *clerks = worker->clerks;
    struct history_operation operation = {.client = worker->number};
    uint64_t now_ms = world_now_ms(clerks->world);

    ASSERT(!worker->busy && !clerks->stopping);
    worker->busy = true;
    worker->start_us = operation.start_us = world_now_us(clerks->world);
    clerks->keys->cluster->n_operations++;
    if (worker->has_read) {
        begin_write(worker, &operation, now_ms);
    } else {
        begin_get(worker, &operation, now_ms);
    }
}

/* ---- Pauses ---- */

static void pacer_tick(void *context, uint64_t now_ms)
{
    struct kv_clerks *clerks = context;

    for (size_t i = 0; i < clerks->n && !clerks->stopping; i++) {
        struct worker *worker = &clerks->workers[i];

        if (!worker->busy && worker->idle_until_ms <= now_ms) {
            begin(worker);
            world_reschedule(clerks->world, kv_client_number(worker->client));
        }
    }
}

static uint64_t pacer_deadline(void *context)
{
    const struct kv_clerks *clerks = context;
    uint64_t deadline_ms = UINT64_MAX;

    for (size_t i = 0; i < clerks->n && !clerks->stopping; i++) {
        const struct worker *worker = &clerks->workers[i];

        if (!worker->busy && worker->idle_until_ms < deadline_ms) {
            deadline_ms = worker->idle_until_ms;
        }
    }
    return deadline_ms;
}

static const struct world_client_ops pacer_ops = {.tick = pacer_tick,
                                                  .next_deadline_ms = pacer_deadline};

/* ---- The clerks as a whole ---- */

/* What the keys hold before the clerks begin. */
static void note_first_values(struct kv_clerks *clerks)
{
    const struct kv_write_result result = {.status = ST_OK, .n_outputs = 1};
    const struct clerk_end end = {.status = ST_OK, .reason = "", .result = &result};

    for (size_t i = 0; i < KV_KEYS; i++) {
        const char *value = (const char *)clerks->keys->values[i].data;
        struct history_operation operation = {.key = i,
                                              .client = clerks->n,
                                              .type = HISTORY_PUT,
                                              .argument = slice_text(value),
                                              .start_us = world_now_us(clerks->world)};

        history_end(clerks->history, history_begin(clerks->history, &operation),
                    world_now_us(clerks->world), &end);
    }
}

struct kv_clerks *kv_clerks_create(struct kv_keys *keys, size_t n, uint64_t pause_ms)
{
    struct kv_clerks *clerks = mem_zalloc(sizeof(*clerks));

    clerks->keys = keys;
    clerks->world = kv_cluster_world(keys->cluster);
    clerks->history = history_create();
    clerks->workers = mem_zalloc(n * sizeof(*clerks->workers));
    clerks->n = n;
    clerks->pause_ms = pause_ms;
    note_first_values(clerks);
    for (size_t i = 0; i < n; i++) {
        clerks->workers[i] = (struct worker){
            .clerks = clerks, .number = i, .idle_until_ms = world_now_ms(clerks->world)};
        clerks->workers[i].client = kv_client_create(keys->cluster);
    }
    clerks->pacer = world_add_client(clerks->world, &pacer_ops, clerks);
    return clerks;
}

uint64_t kv_clerks_done(const struct kv_clerks *clerks)
{
    return clerks->done;
}

static bool all_idle(void *context)
{
    const struct kv_clerks *clerks = context;

    for (size_t i = 0; i < clerks->n; i++) {
        if (clerks->workers[i].busy) {
            return false;
        }
    }
    return true;
}

void kv_clerks_finish(struct kv_clerks **clerks, const char *name)
{
    struct kv_clerks *c = *clerks;

    c->stopping = true;
    ASSERT(world_run_until(c->world, OPERATION_MS + 1000, all_idle, c));
    printf("%s: %llu operations, the longest lasted %.0f ms (at %.1f s)\n", name,
           (unsigned long long)c->done, (double)c->longest_us / 1000,
           (double)(c->longest_at_us - 1000000) / 1e6);
    linear_must_hold(c->history);
    history_destroy(&c->history);
    world_remove_client(c->world, c->pacer);
    for (size_t i = 0; i < c->n; i++) {
        kv_client_destroy(&c->workers[i].client);
        buf_fini(&c->workers[i].read);
    }
    mem_free(c->workers);
    mem_free(c);
    *clerks = NULL;
}
