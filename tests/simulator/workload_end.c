/* How operations end: what the history notes, and what is checked at once. */
#include <string.h>

#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/simulator/workload_internal.h"

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

/* A client that reads what another one just wrote would notice a server that is behind. */
static void follow(struct workload *workload, size_t key)
{
    const struct plan *plan = &workload->run->plan;
    bool follows = rng_below(&workload->followers, 100) < plan->follow_percent;
    size_t client = rng_below(&workload->followers, plan->n_clients);
    bool of_twin = rng_below(&workload->followers, 2) == 0;

    if (follows && workload->clients[client].outstanding < plan->max_outstanding) {
        workload_begin_get(workload, client, key, of_twin);
    }
}

/* Both keys of a pair tell the same length, or whether they were there. */
static void check_twins(const struct operation *operation, const struct clerk_end *end)
{
    const struct workload *workload = operation->workload;
    const struct kv_write_result *result = end->result;

    if (!workload_has_twin(workload, operation->key) || result == NULL || end->status != ST_OK) {
        return;
    }
    if (result->n_outputs != 2 || result->outputs[0] != result->outputs[1]) {
        check_fail("a write of two keys is atomic", "client %zu: %s %s: outputs %u and %u",
                   (size_t)(operation->client - workload->clients),
                   workload_kind_names[operation->kind], workload->keys[operation->key].name,
                   result->outputs[0], result->outputs[1]);
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
        history_end(workload->history, operation->notes[i], world_now_us(workload->run->world),
                    &part);
        if (end->status == ST_UNKNOWN) {
            workload_count_unknown(workload,
                                   history_at(workload->history, operation->notes[i])->key);
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
            n += workload_has_twin(workload, key) && find_record(end, scanned->twin) != NULL;
            continue;
        }
        n += note_scanned(operation, end, key, scanned->name);
        n += workload_has_twin(workload, key) && note_scanned(operation, end, key, scanned->twin);
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
                   (size_t)(client - workload->clients), workload_kind_names[operation->kind],
                   workload->keys[operation->key].name, status_name(end->status), end->reason);
    }
}

void workload_on_end(void *context, const struct clerk_end *end)
{
    struct operation *operation = context;
    struct workload *workload = operation->workload;
    struct client *client = operation->client;

    events_note(&workload->run->events, "client %zu: %s %s ended %s",
                (size_t)(client - workload->clients), workload_kind_names[operation->kind],
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
