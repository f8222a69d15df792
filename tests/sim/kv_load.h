/* kv_load: clients that work without end in a simulated cluster and know what they must see: the
 * work of the public suites' clients, in virtual time.
 *
 * Appends (kv_load_append.c): each append carries a token "x <client> <number> y". Clients have a
 * key each, or all append to one: at the end every token is there, once, in its client's order, and
 * where the append's answer said. Or they write and read random keys, and nothing but the history
 * tells right from wrong.
 *
 * Versions (kv_load_version.c): compare-and-set of values "<version>:<token>", each followed by a
 * get: at the end a key's version is the number of its sets.
 *
 * Locks (kv_load_lock.c): clients take one lock in turn; nobody ever meets another under it.
 *
 * If the cluster records, every operation is noted and the history checked: in the cluster's own,
 * or, for clients with a key each, piece by piece in one per client, which bounds its memory (the
 * key is quiet between two operations, and its value known, so a piece may begin there).
 */
#ifndef TESTS_SIM_KV_LOAD_H
#define TESTS_SIM_KV_LOAD_H

#include "tests/sim/kv_cluster.h"

struct kv_load;

enum kv_load_work { KV_LOAD_APPENDS, KV_LOAD_VERSIONS, KV_LOAD_LOCKS };

struct kv_load_options {
    enum kv_load_work work;
    size_t n_clients;
    bool one_key;            /* appends: all to the same key, and no gets */
    bool random_keys;        /* appends: to any of n_clients keys; versions: to any of 100 keys */
    bool begin_with_put;     /* own keys: each (re)start puts "" first */
    uint32_t get_ratio;      /* appends: per cent of the operations that read */
    uint32_t put_ratio;      /* random keys: per cent that replace */
    uint64_t pause_ms;       /* between a client's operations */
    uint64_t max_operations; /* of each client; 0: no bound */
    uint64_t deadline_ms;    /* of an operation; 0: 120 s. Appends must end well within it */
    bool no_unknown;         /* versions: no set may end unknown */
};

/* Client i works on a key of its own, or all on the same. */
struct kv_load *kv_load_create(struct kv_cluster *cluster, const struct kv_load_options *options);
/* Runs the world and the load for so long. */
void kv_load_run_ms(struct kv_load *load, uint64_t ms);
/* From now on nothing is begun, until kv_load_resume. */
void kv_load_stop(struct kv_load *load);
/* Stops, unless a bound of operations is to be reached by everyone first, and waits until all that
 * is outstanding ended. Fails the test after 120 s. */
void kv_load_finish(struct kv_load *load);
void kv_load_resume(struct kv_load *load);
uint64_t kv_load_done(const struct kv_load *load);    /* operations that ended */
uint64_t kv_load_unknown(const struct kv_load *load); /* writes among them with an unknown end */
/* After a finish: reads every key by a client of its own and compares. */
void kv_load_check(struct kv_load *load);
/* The same, then releases the load. */
void kv_load_check_and_destroy(struct kv_load **load);

#endif
