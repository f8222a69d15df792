/* Shared by workload.c (how operations begin) and workload_end.c (how they end). */
#ifndef TESTS_SIMULATOR_WORKLOAD_INTERNAL_H
#define TESTS_SIMULATOR_WORKLOAD_INTERNAL_H

#include "tests/simulator/workload.h"

#define MAX_SLOTS   64
#define MAX_KEYS    2000
#define MAX_UNKNOWN 10 /* writes of unknown end of one key: then another key takes its place */

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

extern const char *const workload_kind_names[];

/* Whether the key has a twin. */
bool workload_has_twin(const struct workload *workload, size_t key);
/* A write of the key ended, and its end is not known. */
void workload_count_unknown(struct workload *workload, size_t key);
/* The client gets the key, or its twin. */
void workload_begin_get(struct workload *workload, size_t client, size_t key, bool of_twin);
/* The clerk_done of every operation; context: the operation, which is freed. */
void workload_on_end(void *context, const struct clerk_end *end);

#endif
