/* workload: see workload.h. */
#include "tests/simulator/workload_internal.h"

#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/simulator/faults.h"

const char *const workload_kind_names[] = {
    [OPERATION_KIND_GET] = "get",
    [OPERATION_KIND_PUT] = "put",
    [OPERATION_KIND_APPEND] = "append",
    [OPERATION_KIND_DELETE] = "delete",
    [OPERATION_KIND_CAS_ABSENT] = "cas-absent",
    [OPERATION_KIND_CAS_VALUE] = "cas-value",
    [OPERATION_KIND_MANY] = "write-both",
    [OPERATION_KIND_SCAN] = "scan",
};

static bool has_twins(size_t slot)
{
    return slot / 2 % 3 == 1;
}

bool workload_has_twin(const struct workload *workload, size_t key)
{
    return workload->keys[key].twin[0] != '\0';
}

/* A new key takes the slot; its shard stays. */
static void fill_slot(struct workload *workload, size_t slot)
{
    struct key *key = &workload->keys[workload->n_keys];

    ASSERT(workload->n_keys < MAX_KEYS);
    snprintf(key->name, sizeof(key->name), "{t%zu}%zu", slot / 2, workload->n_keys);
    if (has_twins(slot)) {
        snprintf(key->twin, sizeof(key->twin), "{t%zu}%zub", slot / 2, workload->n_keys);
    }
    workload->slots[slot] = workload->n_keys++;
}

void workload_count_unknown(struct workload *workload, size_t number)
{
    struct key *key = &workload->keys[number];

    if (++key->n_unknown != MAX_UNKNOWN || workload->n_keys == MAX_KEYS) {
        return;
    }
    for (size_t slot = 0; slot < workload->run->plan.n_keys; slot++) {
        if (workload->slots[slot] == number) {
            fill_slot(workload, slot);
        }
    }
}

struct workload *workload_create(struct run *run)
{
    struct workload *workload = mem_zalloc(sizeof(*workload));

    ASSERT(run->plan.n_keys <= MAX_SLOTS && run->plan.n_clients <= PLAN_MAX_CLIENTS);
    workload->run = run;
    workload->arrivals = plan_stream(run->plan.seed, "arrivals");
    workload->choices = plan_stream(run->plan.seed, "operations");
    workload->followers = plan_stream(run->plan.seed, "followers");
    workload->history = history_create();
    for (size_t i = 0; i < run->plan.n_keys; i++) {
        fill_slot(workload, i);
    }
    for (size_t i = 0; i < run->plan.n_clients; i++) {
        workload->clients[i].kv = kv_client_create(run->cluster);
    }
    return workload;
}

void workload_destroy(struct workload **workload)
{
    struct workload *w = *workload;

    for (size_t i = 0; i < w->run->plan.n_clients; i++) {
        kv_client_destroy(&w->clients[i].kv);
    }
    for (size_t i = 0; i < w->n_keys; i++) {
        buf_fini(&w->keys[i].seen);
    }
    buf_fini(&w->scratch);
    history_destroy(&w->history);
    mem_free(w);
    *workload = NULL;
}

/* ---- The beginning ---- */

static struct slice name_of(const struct operation *operation)
{
    const struct key *key = &operation->workload->keys[operation->key];

    return slice_text(operation->of_twin ? key->twin : key->name);
}

/* What is drawn for one operation. */
struct choice {
    enum operation_kind kind;
    size_t client, slot, key;
    uint64_t ms;
    uint64_t types[2]; /* of OPERATION_KIND_MANY */
    uint32_t limit;    /* of a scan */
    bool large, of_twin;
};

static struct choice choose(struct workload *workload)
{
    const struct plan *plan = &workload->run->plan;
    struct rng *rng = &workload->choices;
    struct choice choice = {0};
    uint64_t sum = 0, at, key = UINT64_MAX;

    for (size_t i = 0; i < OPERATION_KIND_N; i++) {
        sum += plan->shares[i];
    }
    at = rng_below(rng, sum);
    while (at >= plan->shares[choice.kind]) {
        at -= plan->shares[choice.kind++];
    }
    choice.client = rng_below(rng, plan->n_clients);
    for (uint32_t i = 0; i < plan->skew; i++) { /* the least of some: low numbers are hot */
        uint64_t other = rng_below(rng, plan->n_keys);
        key = other < key ? other : key;
    }
    choice.slot = key;
    choice.key = workload->slots[key];
    choice.ms = rng_between(rng, plan->operation_ms_min, plan->operation_ms_max);
    choice.types[0] = rng_below(rng, 3);
    choice.types[1] = rng_below(rng, 3);
    choice.of_twin = rng_below(rng, 2) == 0;
    choice.limit = 1 + (uint32_t)rng_below(rng, 40);
    if (choice.kind == OPERATION_KIND_MANY && has_twins(choice.slot)) {
        choice.kind = (enum operation_kind)(OPERATION_KIND_PUT + choice.types[0]);
    }
    choice.large = rng_below(rng, 1000000) < plan->large_ppm;
    return choice;
}

/* Unlike any other value of this run. Valid until the next call. */
static struct slice next_value(struct workload *workload, size_t client, bool large)
{
    buf_clear(&workload->scratch);
    buf_printf(&workload->scratch, "c%zu.%llu;", client, (unsigned long long)workload->n_values++);
    if (large) {
        memset(buf_extend(&workload->scratch, workload->run->plan.large_bytes), 'x',
               workload->run->plan.large_bytes);
    }
    return buf_slice(&workload->scratch);
}

static void note_begin(struct operation *operation, size_t key, enum history_type type,
                       const struct kv_condition *condition, struct slice argument)
{
    struct workload *workload = operation->workload;
    struct history_operation noted = {.key = key,
                                      .client = (size_t)(operation->client - workload->clients),
                                      .type = type,
                                      .argument = argument,
                                      .start_us = world_now_us(workload->run->world)};

    if (condition != NULL) {
        noted.condition = *condition;
    }
    operation->notes[operation->n_notes++] = history_begin(workload->history, &noted);
}

static void begin_get(struct operation *operation, uint64_t now_ms, uint64_t ms)
{
    note_begin(operation, operation->key, HISTORY_GET, NULL, (struct slice){0});
    clerk_get(kv_client_clerk(operation->client->kv), name_of(operation), now_ms, now_ms + ms,
              workload_on_end, operation);
}

static void begin_scan(struct operation *operation, uint32_t limit, uint64_t now_ms, uint64_t ms)
{
    clerk_scan(kv_client_clerk(operation->client->kv), slice_text("{t"), (struct slice){0}, limit,
               now_ms, now_ms + ms, workload_on_end, operation);
    operation->workload->run->report.scans++;
}

static void add_operation(struct kv_write *write, enum kv_operation_type type, const char *name,
                          struct slice value)
{
    write->operations[write->n_operations++] = (struct kv_operation){
        type, slice_text(name), type == KV_DELETE ? (struct slice){0} : value};
}

/* Both keys of the slot's pair, each in its own way. */
static void add_pair(struct operation *operation, const struct choice *choice, struct slice value,
                     struct kv_write *write)
{
    static const enum history_type noted_as[] = {HISTORY_PUT, HISTORY_APPEND, HISTORY_DELETE};
    const struct workload *workload = operation->workload;
    size_t first = choice->slot & ~(size_t)1;

    for (size_t i = 0; i < 2 && first + i < workload->run->plan.n_keys; i++) {
        size_t key = workload->slots[first + i];

        add_operation(write, (enum kv_operation_type)(KV_PUT + choice->types[i]),
                      workload->keys[key].name, value);
        note_begin(operation, key, noted_as[choice->types[i]], NULL, write->operations[i].value);
    }
}

static void add_one(struct operation *operation, struct slice value, struct kv_write *write)
{
    static const struct {
        enum kv_operation_type type;
        enum history_type noted_as;
    } kinds[] = {
        [OPERATION_KIND_PUT] = {KV_PUT, HISTORY_PUT},
        [OPERATION_KIND_APPEND] = {KV_APPEND, HISTORY_APPEND},
        [OPERATION_KIND_DELETE] = {KV_DELETE, HISTORY_DELETE},
        [OPERATION_KIND_CAS_ABSENT] = {KV_PUT, HISTORY_CAS},
        [OPERATION_KIND_CAS_VALUE] = {KV_PUT, HISTORY_CAS},
    };
    const struct key *key = &operation->workload->keys[operation->key];

    if (kinds[operation->kind].noted_as == HISTORY_CAS) {
        bool absent = operation->kind == OPERATION_KIND_CAS_ABSENT;

        write->n_conditions = 1;
        write->conditions[0] =
            (struct kv_condition){absent ? KV_IF_ABSENT : KV_IF_VALUE, name_of(operation),
                                  absent ? (struct slice){0} : buf_slice(&key->seen)};
    }
    add_operation(write, kinds[operation->kind].type, key->name, value);
    if (key->twin[0] != '\0') {
        add_operation(write, kinds[operation->kind].type, key->twin, value);
    }
    note_begin(operation, operation->key, kinds[operation->kind].noted_as, &write->conditions[0],
               write->operations[0].value);
}

static void begin_write(struct operation *operation, const struct choice *choice, uint64_t now_ms)
{
    struct slice value = next_value(operation->workload, choice->client, choice->large);
    struct kv_write write = {0};

    if (choice->kind == OPERATION_KIND_MANY) {
        add_pair(operation, choice, value, &write);
    } else {
        add_one(operation, value, &write);
    }
    clerk_write(kv_client_clerk(operation->client->kv), &write, now_ms, now_ms + choice->ms,
                workload_on_end, operation);
}

static void begin(struct workload *workload, const struct choice *choice)
{
    struct client *client = &workload->clients[choice->client];
    struct operation *operation = mem_zalloc(sizeof(*operation));
    uint64_t now_ms = world_now_ms(workload->run->world);

    *operation =
        (struct operation){.workload = workload,
                           .client = client,
                           .kind = choice->kind,
                           .key = choice->key,
                           .of_twin = choice->of_twin && workload_has_twin(workload, choice->key),
                           .start_us = world_now_us(workload->run->world),
                           .n_keys = workload->n_keys};
    events_note(&workload->run->events, "client %zu: %s %s begins", choice->client,
                workload_kind_names[choice->kind], workload->keys[choice->key].name);
    client->outstanding++;
    workload->n_outstanding++;
    workload->run->report.begun++;
    if (choice->kind == OPERATION_KIND_GET) {
        begin_get(operation, now_ms, choice->ms);
    } else if (choice->kind == OPERATION_KIND_SCAN) {
        begin_scan(operation, choice->limit, now_ms, choice->ms);
    } else {
        begin_write(operation, choice, now_ms);
    }
    world_reschedule(workload->run->world, kv_client_number(client->kv));
}

void workload_begin_get(struct workload *workload, size_t client, size_t key, bool of_twin)
{
    struct choice choice = {.kind = OPERATION_KIND_GET,
                            .client = client,
                            .key = key,
                            .of_twin = of_twin,
                            .ms = workload->run->plan.operation_ms_max};

    begin(workload, &choice);
}

void workload_begin(struct workload *workload)
{
    const struct plan *plan = &workload->run->plan;
    struct choice choice;

    if (rng_below(&workload->arrivals, 100000) >= plan->operations_per_100_s) {
        return;
    }
    choice = choose(workload);
    for (size_t i = 0; i < plan->n_clients; i++) {
        if (workload->clients[choice.client].outstanding < plan->max_outstanding) {
            begin(workload, &choice);
            return;
        }
        choice.client = (choice.client + 1) % plan->n_clients;
    }
}

void workload_replace_client(struct workload *workload, size_t number)
{
    struct client *client = &workload->clients[number];

    events_note(&workload->run->events, "client %zu ends, another one comes", number);
    kv_client_destroy(&client->kv);
    ASSERT(client->outstanding == 0);
    client->kv = kv_client_create(workload->run->cluster);
}

size_t workload_client_number(const struct workload *workload, size_t client)
{
    return kv_client_number(workload->clients[client].kv);
}

size_t workload_outstanding(const struct workload *workload)
{
    return workload->n_outstanding;
}

const struct history *workload_history(const struct workload *workload)
{
    return workload->history;
}

/* ---- Without faults ---- */

static void await_all(struct workload *workload, uint64_t ms)
{
    uint64_t end_ms = world_now_ms(workload->run->world) + ms + 1000;

    while (workload->n_outstanding > 0 && world_now_ms(workload->run->world) < end_ms) {
        faults_run_ms(workload->run->faults, 10);
        faults_restart_halted(workload->run->faults);
    }
    if (workload->n_outstanding > 0) {
        check_fail("every operation ends", "%zu did not", workload->n_outstanding);
    }
}

/* An operation of every client that has not had `n` answers yet; whether there is one. */
static bool serve_once(struct workload *workload, enum operation_kind kind, size_t n, uint64_t ms)
{
    bool any = false;

    for (size_t i = 0; i < workload->run->plan.n_clients; i++) {
        struct choice choice = choose(workload);

        if (workload->clients[i].n_ended_ok < n) {
            choice.kind = kind;
            choice.client = i;
            choice.ms = ms;
            choice.large = false;
            begin(workload, &choice);
            any = true;
        }
    }
    await_all(workload, ms);
    return any;
}

void workload_serve_again(struct workload *workload, uint64_t ms)
{
    static const enum operation_kind kinds[] = {OPERATION_KIND_PUT, OPERATION_KIND_GET,
                                                OPERATION_KIND_APPEND};

    for (size_t i = 0; i < workload->run->plan.n_clients; i++) {
        workload->clients[i].must_end_ok = true;
        workload->clients[i].n_ended_ok = 0;
    }
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        unsigned rounds = 0;

        while (serve_once(workload, kinds[k], k + 1, ms)) {
            if (++rounds > 5) {
                check_fail("without faults every client is served", "not after %u rounds", rounds);
            }
        }
    }
}

void workload_read_all(struct workload *workload, uint64_t ms)
{
    for (size_t i = 0; i < 2 * workload->n_keys; i++) {
        struct choice choice = {.kind = OPERATION_KIND_GET,
                                .client = i % workload->run->plan.n_clients,
                                .key = i / 2,
                                .of_twin = i % 2 == 1,
                                .ms = ms};

        if (!choice.of_twin || workload_has_twin(workload, choice.key)) {
            begin(workload, &choice);
        }
    }
    await_all(workload, ms);
}
