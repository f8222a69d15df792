#include "tests/simulator/workload.h"

#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/simulator/faults.h"

#define MAX_SLOTS   64
#define MAX_KEYS    2000
#define MAX_UNKNOWN 12 /* writes of unknown end of one key: then another key takes its place */

struct client {
    struct kv_client *kv;
    size_t outstanding;
    bool must_end_ok; /* the faults are over */
    size_t n_ended_ok;
};

struct key {
    char name[24];
    char twin[24];   /* another key of its shard, always written with it; empty: it has none */
    struct buf seen; /* what somebody read last, to compare with */
    uint32_t n_unknown;
};

/* A key and its twin are one register: whoever writes one writes the other alike, in one write, so
 * a get of either, and a scan, must see the same history. A write that is not atomic would show.
 *
 * Operations choose among the keys in the slots. A history with many writes that may take effect at
 * any time, or never, is beyond any checker: such a key retires, to be read at the end only. */
struct workload {
    struct run *run;
    struct rng arrivals, choices, followers;
    struct client clients[PLAN_MAX_CLIENTS];
    struct history *history;
    size_t n_outstanding;
    uint64_t n_values;
    struct key keys[MAX_KEYS]; /* all that ever were; the history's numbers */
    size_t n_keys;
    size_t slots[MAX_SLOTS]; /* keys; two neighbours share a shard */
    struct buf scratch;
};

/* One operation, from its begin to its end. */
struct operation {
    struct workload *workload;
    struct client *client;
    enum operation_kind kind;
    size_t key;
    bool of_twin; /* a get, or a condition */
    uint64_t start_us;
    size_t n_keys; /* that there were at its beginning */
    size_t n_notes;
    size_t notes[2]; /* in the history: one for each key */
};

static const char *const kind_names[] = {
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

static bool is_twin(const struct workload *workload, size_t key)
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

static void count_unknown(struct workload *workload, size_t number)
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

/* ---- The end of an operation ---- */

static void count_end(struct run_report *report, enum status status)
{
    switch (status) {
    case ST_OK:
    case ST_NOT_FOUND:
    case ST_MISMATCH:
        report->ok++;
        break;
    case ST_UNKNOWN:
        report->unknown++;
        break;
    default:
        report->refused++;
        break;
    }
}

static void begin_get_of(struct workload *workload, size_t client, size_t key, bool of_twin);

/* A client that reads what another one just wrote would notice a server that is behind. */
static void follow(struct workload *workload, size_t key)
{
    const struct plan *plan = &workload->run->plan;
    bool follows = rng_below(&workload->followers, 100) < plan->follow_percent;
    size_t client = rng_below(&workload->followers, plan->n_clients);
    bool of_twin = rng_below(&workload->followers, 2) == 0;

    if (follows && workload->clients[client].outstanding < plan->max_outstanding) {
        begin_get_of(workload, client, key, of_twin);
    }
}

/* Both keys of a pair tell the same length, or whether they were there. */
static void check_twins(const struct operation *operation, const struct clerk_end *end)
{
    const struct workload *workload = operation->workload;
    const struct kv_write_result *result = end->result;

    if (!is_twin(workload, operation->key) || result == NULL || end->status != ST_OK) {
        return;
    }
    if (result->n_outputs != 2 || result->outputs[0] != result->outputs[1]) {
        check_fail("a write of two keys is atomic", "client %zu: %s %s: outputs %u and %u",
                   (size_t)(operation->client - workload->clients), kind_names[operation->kind],
                   workload->keys[operation->key].name, result->outputs[0], result->outputs[1]);
    }
}

/* The history wants the end of each key's part by itself. */
static void note_ends(struct operation *operation, const struct clerk_end *end)
{
    struct workload *workload = operation->workload;

    for (size_t i = 0; i < operation->n_notes; i++) {
        struct clerk_end part = *end;
        struct kv_write_result result = {0};

        if (end->result != NULL) {
            result = *end->result;
            if (i > 0 && i < result.n_outputs) {
                result.outputs[0] = result.outputs[i];
            }
            part.result = &result;
        }
        if (is_twin(workload, operation->key)) {
            part.version = 0; /* each of the two keys counts for itself */
        }
        history_end(workload->history, operation->notes[i], world_now_us(workload->run->world),
                    &part);
        if (end->status == ST_UNKNOWN) {
            count_unknown(workload, history_at(workload->history, operation->notes[i])->key);
        }
    }
}

/* ---- Scans ---- */

static const struct proto_record *find_record(const struct clerk_end *end, const char *name)
{
    for (size_t i = 0; i < end->n_records; i++) {
        if (slice_equal(end->records[i].key, slice_text(name))) {
            return &end->records[i];
        }
    }
    return NULL;
}

/* Notes what a scan says of one key: a get that found it, or one that did not; nothing about keys
 * beyond the end of a result that was cut. Returns whether it was among the records. */
static bool note_scanned(const struct operation *operation, const struct clerk_end *end, size_t key,
                         const char *name)
{
    struct workload *workload = operation->workload;
    const struct proto_record *record = find_record(end, name);
    bool covered =
        !end->more || (end->n_records > 0 &&
                       slice_compare(slice_text(name), end->records[end->n_records - 1].key) <= 0);
    struct history_operation noted = {.key = key,
                                      .client = (size_t)(operation->client - workload->clients),
                                      .type = HISTORY_GET,
                                      .outcome = record != NULL ? HISTORY_OK : HISTORY_NOT_FOUND,
                                      .start_us = operation->start_us - 1, /* its order is late */
                                      .end_us = world_now_us(workload->run->world)};

    if (covered) {
        noted.value = record != NULL ? record->value : noted.value;
        history_add(workload->history, &noted);
    }
    return record != NULL;
}

/* Each key of a scan is linearizable, by itself. */
static void note_scan(const struct operation *operation, const struct clerk_end *end)
{
    const struct workload *workload = operation->workload;
    size_t n = 0;

    if (end->status != ST_OK) {
        return;
    }
    for (size_t key = 0; key < workload->n_keys; key++) {
        const struct key *scanned = &workload->keys[key];
        bool is_new = key >= operation->n_keys; /* it came while the scan was under way */

        if (is_new) {
            n += find_record(end, scanned->name) != NULL;
            n += is_twin(workload, key) && find_record(end, scanned->twin) != NULL;
            continue;
        }
        n += note_scanned(operation, end, key, scanned->name);
        n += is_twin(workload, key) && note_scanned(operation, end, key, scanned->twin);
    }
    if (n != end->n_records) {
        check_fail("a scan gives keys that were written", "%zu of %zu", n, end->n_records);
    }
}

/* ---- Every end ---- */

static bool is_answer(enum status status)
{
    return status == ST_OK || status == ST_NOT_FOUND || status == ST_MISMATCH;
}

/* Without faults everything succeeds; but a client whose first try went to a connection that was
 * just found broken, and whose second is refused since its record was evicted or the group's clock
 * is days behind, can't know what became of the first. */
static void check_served(const struct operation *operation, const struct clerk_end *end)
{
    struct workload *workload = operation->workload;
    const struct client *client = operation->client;
    bool is_evicted =
        end->status == ST_UNKNOWN && strstr(end->reason, status_text(ST_SESSION_EXPIRED)) != NULL;

    workload->run->report.unknown_at_end += client->must_end_ok && is_evicted;
    if (client->must_end_ok && !is_answer(end->status) && !is_evicted) {
        check_fail("without faults every operation succeeds", "client %zu: %s %s ended %s: %s",
                   (size_t)(client - workload->clients), kind_names[operation->kind],
                   workload->keys[operation->key].name, status_name(end->status), end->reason);
    }
}

static void on_end(void *context, const struct clerk_end *end)
{
    struct operation *operation = context;
    struct workload *workload = operation->workload;
    struct client *client = operation->client;

    events_note(&workload->run->events, "client %zu: %s %s ended %s",
                (size_t)(client - workload->clients), kind_names[operation->kind],
                workload->keys[operation->key].name, status_name(end->status));
    count_end(&workload->run->report, end->status);
    check_twins(operation, end);
    note_ends(operation, end);
    if (operation->kind == OPERATION_KIND_SCAN) {
        note_scan(operation, end);
    }
    if (operation->kind == OPERATION_KIND_GET && end->status == ST_OK) {
        buf_clear(&workload->keys[operation->key].seen);
        buf_put_slice(&workload->keys[operation->key].seen, end->value);
    }
    check_served(operation, end);
    client->n_ended_ok += is_answer(end->status);
    client->outstanding--;
    workload->n_outstanding--;
    if (end->status == ST_OK && !client->must_end_ok && operation->kind != OPERATION_KIND_GET &&
        operation->kind != OPERATION_KIND_SCAN) {
        follow(workload, operation->key);
    }
    mem_free(operation);
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
              on_end, operation);
}

static void begin_scan(struct operation *operation, uint64_t now_ms, uint64_t ms)
{
    clerk_scan(kv_client_clerk(operation->client->kv), slice_text("{t"), (struct slice){0}, 30,
               now_ms, now_ms + ms, on_end, operation);
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
    clerk_write(kv_client_clerk(operation->client->kv), &write, now_ms, now_ms + choice->ms, on_end,
                operation);
}

static void begin(struct workload *workload, const struct choice *choice)
{
    struct client *client = &workload->clients[choice->client];
    struct operation *operation = mem_zalloc(sizeof(*operation));
    uint64_t now_ms = world_now_ms(workload->run->world);

    *operation = (struct operation){.workload = workload,
                                    .client = client,
                                    .kind = choice->kind,
                                    .key = choice->key,
                                    .of_twin = choice->of_twin && is_twin(workload, choice->key),
                                    .start_us = world_now_us(workload->run->world),
                                    .n_keys = workload->n_keys};
    events_note(&workload->run->events, "client %zu: %s %s begins", choice->client,
                kind_names[choice->kind], workload->keys[choice->key].name);
    client->outstanding++;
    workload->n_outstanding++;
    workload->run->report.begun++;
    if (choice->kind == OPERATION_KIND_GET) {
        begin_get(operation, now_ms, choice->ms);
    } else if (choice->kind == OPERATION_KIND_SCAN) {
        begin_scan(operation, now_ms, choice->ms);
    } else {
        begin_write(operation, choice, now_ms);
    }
    world_reschedule(workload->run->world, kv_client_number(client->kv));
}

static void begin_get_of(struct workload *workload, size_t client, size_t key, bool of_twin)
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

        if (!choice.of_twin || is_twin(workload, choice.key)) {
            begin(workload, &choice);
        }
    }
    await_all(workload, ms);
}
