/* What the kinds of work of a load share. */
#ifndef TESTS_SIM_KV_LOAD_INTERNAL_H
#define TESTS_SIM_KV_LOAD_INTERNAL_H

#include "tests/sim/kv_load.h"

#define KV_LOAD_MAX_KEYS 100

/* What a worker is doing, or did last. */
enum kv_step {
    STEP_NONE,
    STEP_FIRST_PUT,
    STEP_APPEND,
    STEP_PUT,
    STEP_GET,
    STEP_SET, /* versions */
    STEP_TAKE,
    STEP_LOOK,
    STEP_READ_GUARD,
    STEP_SET_GUARD,
    STEP_CHECK_GUARD,
    STEP_CLEAR_GUARD,
    STEP_RELEASE
};

struct kv_worker {
    struct kv_load *load;
    struct kv_client *client;
    size_t number;
    struct kv_outcome outcome;
    bool busy;
    enum kv_step step;
    uint64_t n_operations;
    uint64_t idle_until_ms;
    uint64_t n_tokens;

    /* Appends. */
    bool fresh;          /* the first put is still to come */
    struct buf expected; /* own keys: the value */
    uint32_t *ends;      /* one key: where token i ended, as its answer said */
    size_t n_ends, ends_capacity;
    struct history *history; /* own keys: the piece of history being written */
    size_t history_bytes;

    /* Versions, by key: the value as last seen; empty: absent. Locks: [0] the lock, [1] the guard.
     */
    struct buf known[KV_LOAD_MAX_KEYS];
    struct buf fresh_value; /* being set */

    size_t key; /* appends and versions: the one it works on */
};

struct kv_work_ops {
    void (*create)(struct kv_worker *worker);
    void (*begin)(struct kv_worker *worker);  /* the next operation */
    void (*end)(struct kv_worker *worker);    /* looks at the outcome */
    void (*resume)(struct kv_worker *worker); /* at the start, and after a stop; NULL: nothing */
    void (*check)(struct kv_load *load, struct kv_client *reader);
    void (*destroy)(struct kv_worker *worker); /* its own; kv_load frees all bufs. NULL: nothing */
    /* Whether it may stop between two operations; NULL: always. */
    bool (*may_stop)(const struct kv_worker *worker);
};

struct kv_load {
    struct kv_cluster *cluster;
    struct kv_load_options options;
    const struct kv_work_ops *ops;
    struct kv_worker *workers;
    bool stopping;
    uint64_t done, unknown;
    uint64_t n_set[KV_LOAD_MAX_KEYS], n_maybe[KV_LOAD_MAX_KEYS]; /* versions */
    size_t holder;                                               /* locks; SIZE_MAX: nobody */
};

extern const struct kv_work_ops kv_append_work, kv_version_work, kv_lock_work;

uint64_t kv_worker_deadline_ms(const struct kv_worker *worker);

#endif
