/* Histories made by chance of a register that takes every operation at one moment between its start
 * and its end, so that they are linearizable. */
#ifndef TESTS_UNIT_LINEAR_REGISTER_H
#define TESTS_UNIT_LINEAR_REGISTER_H

#include <stdlib.h>

#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/sim/history.h"

/* ---- A plain register ---- */

struct cell {
    bool exists;
    struct buf value;
    uint64_t version;
};

static void cell_set(struct cell *cell, struct slice value, uint64_t *counter)
{
    buf_clear(&cell->value);
    buf_put_slice(&cell->value, value);
    cell->exists = true;
    cell->version = ++*counter;
}

static bool cell_allows(const struct cell *cell, const struct kv_condition *condition)
{
    if (condition->type == KV_IF_ABSENT) {
        return !cell->exists;
    }
    return cell->exists && slice_equal(buf_slice(&cell->value), condition->value);
}

/* Does the operation and fills in its answer; a get's value points into `memory`. */
static void cell_do(struct cell *cell, struct history_operation *operation, uint64_t *counter,
                    struct buf *memory)
{
    operation->outcome = HISTORY_OK;
    switch (operation->type) {
    case HISTORY_GET:
        operation->outcome = cell->exists ? HISTORY_OK : HISTORY_NOT_FOUND;
        buf_clear(memory);
        if (cell->exists) {
            buf_put_slice(memory, buf_slice(&cell->value));
            operation->value = buf_slice(memory);
            operation->version = cell->version;
        }
        break;
    case HISTORY_PUT:
        cell_set(cell, operation->argument, counter);
        break;
    case HISTORY_APPEND:
        buf_put_slice(&cell->value, operation->argument);
        cell->exists = true;
        cell->version = ++*counter;
        operation->output = (uint32_t)cell->value.len;
        break;
    case HISTORY_DELETE:
        operation->output = cell->exists ? 1 : 0;
        buf_clear(&cell->value);
        cell->exists = false;
        ++*counter;
        break;
    case HISTORY_CAS:
        if (cell_allows(cell, &operation->condition)) {
            cell_set(cell, operation->argument, counter);
        } else {
            operation->outcome = HISTORY_MISMATCH;
        }
        break;
    }
}

/* ---- Histories of a register ---- */

struct plan {
    uint32_t n_keys, n_clients, n_operations; /* operations of each client */
    uint32_t get, put, append, delete, cas;   /* weights */
    uint32_t unknown_percent, refused_percent;
    uint64_t pause_us, length_us; /* at most, between operations and of one */
    bool few_values;              /* "a" or "b" instead of tokens that are unique */
    uint32_t unversioned_percent; /* of gets: they don't tell the version, as scans */
};

struct draft {
    struct history_operation operation;
    uint64_t moment_us; /* at which it takes effect; UINT64_MAX: never */
    struct buf argument, expected, seen;
};

static enum history_type draw_type(const struct plan *plan, struct rng *rng)
{
    const uint32_t weights[] = {plan->get, plan->put, plan->append, plan->delete, plan->cas};
    uint64_t drawn =
        rng_below(rng, plan->get + plan->put + plan->append + plan->delete + plan->cas);
    int type = HISTORY_GET;

    while (drawn >= weights[type]) {
        drawn -= weights[type++];
    }
    return (enum history_type)type;
}

static void draw_value(const struct plan *plan, struct rng *rng, uint64_t number, struct buf *value)
{
    if (plan->few_values) {
        buf_printf(value, "%c", "ab"[rng_below(rng, 2)]);
    } else {
        buf_printf(value, "<%llu.%llx>", (unsigned long long)number,
                   (unsigned long long)rng_below(rng, 1u << 20));
    }
}

static void draw_fate(const struct plan *plan, struct rng *rng, struct draft *draft)
{
    struct history_operation *operation = &draft->operation;
    bool reads = operation->type == HISTORY_GET;

    /* Strictly inside: what ends when another begins came before it. */
    draft->moment_us = rng_between(rng, operation->start_us + 1, operation->end_us - 1);
    operation->outcome = HISTORY_OK;
    if (!reads && rng_below(rng, 100) < plan->unknown_percent) {
        operation->outcome = rng_below(rng, 4) == 0 ? HISTORY_PENDING : HISTORY_UNKNOWN;
        if (rng_below(rng, 2) == 0) {
            draft->moment_us = UINT64_MAX;
        } else if (rng_below(rng, 2) == 0) {
            draft->moment_us += rng_below(rng, 20 * plan->length_us);
        }
    } else if (rng_below(rng, 100) < plan->refused_percent) {
        operation->outcome = HISTORY_REFUSED;
        draft->moment_us = UINT64_MAX;
    }
}

static void draw(const struct plan *plan, struct rng *rng, size_t client, uint64_t number,
                 uint64_t start_us, struct draft *draft)
{
    struct history_operation *operation = &draft->operation;

    *draft = (struct draft){0};
    operation->client = client;
    operation->key = rng_below(rng, plan->n_keys);
    operation->type = draw_type(plan, rng);
    if (operation->type != HISTORY_GET && operation->type != HISTORY_DELETE) {
        draw_value(plan, rng, number, &draft->argument);
        operation->argument = buf_slice(&draft->argument);
    }
    operation->start_us = start_us;
    operation->end_us = start_us + rng_between(rng, 2, plan->length_us + 2);
    draw_fate(plan, rng, draft);
}

static int compare_moments(const void *a, const void *b)
{
    const struct draft *x = a, *y = b;

    return (x->moment_us > y->moment_us) - (x->moment_us < y->moment_us);
}

/* A condition that holds about half the time: on what is there now, or on something else. */
static void draw_condition(struct rng *rng, const struct cell *cell, struct draft *draft)
{
    struct kv_condition *condition = &draft->operation.condition;

    if (rng_below(rng, 3) == 0) {
        condition->type = KV_IF_ABSENT;
        return;
    }
    condition->type = KV_IF_VALUE;
    if (rng_below(rng, 2) == 0) {
        buf_put_slice(&draft->expected, buf_slice(&cell->value));
    } else {
        buf_printf(&draft->expected, "a");
    }
    condition->value = buf_slice(&draft->expected);
}

/* All operations, in the order of their moments, answered by a register for each key. */
static void answer_drafts(const struct plan *plan, struct rng *rng, struct draft *drafts, size_t n)
{
    struct cell *cells = mem_zalloc(plan->n_keys * sizeof(*cells));
    uint64_t counter = 0;

    qsort(drafts, n, sizeof(*drafts), compare_moments);
    for (size_t i = 0; i < n; i++) {
        struct draft *draft = &drafts[i];
        enum history_outcome outcome = draft->operation.outcome;
        struct cell *cell = &cells[draft->operation.key];
        counter += rng_below(rng, 2); /* another key of the shard */
        if (draft->operation.type == HISTORY_CAS) {
            draw_condition(rng, cell, draft);
        }
        if (draft->moment_us != UINT64_MAX) {
            cell_do(cell, &draft->operation, &counter, &draft->seen);
        }
        if (outcome != HISTORY_OK) {
            draft->operation.outcome = outcome;
        }
        if (plan->unversioned_percent > 0 && rng_below(rng, 100) < plan->unversioned_percent) {
            draft->operation.version = 0;
        }
    }
    for (size_t i = 0; i < plan->n_keys; i++) {
        buf_fini(&cells[i].value);
    }
    mem_free(cells);
}

static inline struct draft *make_drafts(const struct plan *plan, struct rng *rng)
{
    size_t n = (size_t)plan->n_clients * plan->n_operations;
    struct draft *drafts = mem_zalloc(n * sizeof(*drafts));

    for (size_t client = 0, i = 0; client < plan->n_clients; client++) {
        uint64_t now_us = 0;
        for (uint32_t j = 0; j < plan->n_operations; j++, i++) {
            now_us += rng_below(rng, plan->pause_us + 1);
            draw(plan, rng, client, i, now_us, &drafts[i]);
            now_us = drafts[i].operation.end_us;
        }
    }
    answer_drafts(plan, rng, drafts, n);
    return drafts;
}

static int compare_starts(const void *a, const void *b)
{
    const struct draft *x = a, *y = b;

    if (x->operation.start_us != y->operation.start_us) {
        return x->operation.start_us < y->operation.start_us ? -1 : 1;
    }
    return (x->operation.client > y->operation.client) -
           (x->operation.client < y->operation.client);
}

static struct history *make_history(struct draft *drafts, size_t n)
{
    struct history *history = history_create();

    qsort(drafts, n, sizeof(*drafts), compare_starts);
    for (size_t i = 0; i < n; i++) {
        history_add(history, &drafts[i].operation);
    }
    return history;
}

static void free_drafts(struct draft *drafts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_fini(&drafts[i].argument);
        buf_fini(&drafts[i].expected);
        buf_fini(&drafts[i].seen);
    }
    mem_free(drafts);
}

#endif
