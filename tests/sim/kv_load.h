/* kv_load: clients that work without end in a simulated cluster, each on a key of its own or all on
 * one, and know what they must read: the public suites' exactly-once check. Each append carries a
 * token "x <client> <number> y"; at the end every token is there once and in its client's order.
 */
#ifndef TESTS_SIM_KV_LOAD_H
#define TESTS_SIM_KV_LOAD_H

#include "tests/sim/kv_cluster.h"

struct kv_load;

struct kv_load_options {
    size_t n_clients;
    bool one_key;            /* all append to the same key */
    uint32_t get_ratio;      /* per cent of the operations that read (own keys only) */
    uint64_t pause_ms;       /* between a client's operations */
    uint64_t max_operations; /* of each client; 0: no bound */
};

/* Client i works on kv_cluster_key(i), or all on key 0. */
struct kv_load *kv_load_create(struct kv_cluster *cluster, const struct kv_load_options *options);
/* Runs the world and the load for so long. */
void kv_load_run_ms(struct kv_load *load, uint64_t ms);
/* Begins nothing more, and waits until all that is outstanding ended, or the bound of operations is
 * reached by everyone. Fails the test after 120 s. */
void kv_load_finish(struct kv_load *load);
uint64_t kv_load_done(const struct kv_load *load); /* operations that ended */
/* Reads every key by a client of its own: each token once, in order. Then releases the load. */
void kv_load_check_and_destroy(struct kv_load **load);

#endif
