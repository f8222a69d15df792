/* The iterations of the key/value suites; see kv_suite.h. The scripted scenarios are in
 * kv_suite_scripts.c. */
#include "tests/sim/kv_suite.h"

#include <stdio.h>

#include "raft/util/assert.h"

#define MAX_RAFT_STATE      1000
#define APPEND_ITERATION_MS 5000
#define ELECTION_TIMEOUT_MS 1000 /* the suites' unit of sleep */

#define N_SHARDS 64 /* so that each client's key can have one of its own */

struct kv_cluster *kv_suite_cluster_of_shards(const char *name, size_t servers, bool unreliable,
                                              bool snapshots, uint32_t n_shards)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = 1,
                                         .n_replicas = servers,
                                         .n_shards = n_shards,
                                         .max_raft_state =
                                             snapshots ? MAX_RAFT_STATE : KV_NO_SNAPSHOTS,
                                         .record = true,
                                         .seed = 4000 + servers};
    struct kv_cluster *c = kv_cluster_create(name, &options);

    kv_cluster_join_now(c, 0);
    kv_cluster_set_unreliable(c, unreliable);
    return c;
}

struct kv_cluster *kv_suite_cluster(const char *name, size_t servers, bool unreliable,
                                    bool snapshots)
{
    return kv_suite_cluster_of_shards(name, servers, unreliable, snapshots, N_SHARDS);
}

void kv_suite_split(struct kv_cluster *c, size_t servers, const bool *side)
{
    for (size_t i = 0; i < servers; i++) {
        for (size_t j = i + 1; j < servers; j++) {
            world_cut_pair(kv_cluster_world(c), kv_cluster_node(c, 0, i), kv_cluster_node(c, 0, j),
                           side[i] != side[j]);
        }
    }
}

void kv_suite_heal(struct kv_cluster *c, size_t servers)
{
    const bool one_side[9] = {false};

    ASSERT(servers <= 9);
    kv_suite_split(c, servers, one_side);
}

static void split_at_random(struct kv_cluster *c, size_t servers)
{
    struct rng *rng = world_rng(kv_cluster_world(c));
    bool side[9];

    ASSERT(servers <= 9);
    for (size_t i = 0; i < servers; i++) {
        side[i] = rng_below(rng, 2) == 0;
    }
    kv_suite_split(c, servers, side);
}

/* Splits every 1.0 to 1.2 s for so long, when the clients stop; the last split lasts its time. */
static void partitions(struct kv_cluster *c, size_t servers, struct kv_load *load, uint64_t ms)
{
    struct rng *rng = world_rng(kv_cluster_world(c));

    while (ms > 0) {
        uint64_t lasts = ELECTION_TIMEOUT_MS + rng_below(rng, 200);
        uint64_t with_clients = lasts < ms ? lasts : ms;

        split_at_random(c, servers);
        kv_load_run_ms(load, with_clients);
        ms -= with_clients;
        if (ms == 0) {
            kv_load_stop(load);
            kv_load_run_ms(load, lasts - with_clients);
        }
    }
}

static void iterate(struct kv_cluster *c, const struct kv_scenario *s, struct kv_load *load,
                    uint64_t ms)
{
    if (s->partition) {
        kv_load_run_ms(load, ELECTION_TIMEOUT_MS);
        partitions(c, s->servers, load, ms);
        kv_suite_heal(c, s->servers);
        kv_load_run_ms(load, ELECTION_TIMEOUT_MS);
    } else {
        kv_load_run_ms(load, ms);
        kv_load_stop(load);
    }
    if (s->restart) {
        kv_cluster_stop_group(c, 0);
        kv_load_run_ms(load, ELECTION_TIMEOUT_MS);
        kv_cluster_start_group(c, 0);
    }
    kv_load_finish(load);
    kv_load_check(load);
    kv_cluster_check_limits(c);
}

uint64_t kv_suite_run(struct kv_cluster *c, const struct kv_scenario *s, uint64_t iteration_ms,
                      const struct kv_load_options *options)
{
    struct kv_load *load = kv_load_create(c, options);
    uint64_t unknown;

    for (int i = 0; i < KV_SUITE_ITERATIONS; i++) {
        if (i > 0) {
            kv_load_resume(load);
        }
        iterate(c, s, load, iteration_ms);
    }
    ASSERT(kv_load_done(load) >= s->clients * KV_SUITE_ITERATIONS);
    unknown = kv_load_unknown(load);
    kv_load_check_and_destroy(&load);
    kv_cluster_destroy(&c);
    return unknown;
}

void kv_suite_append_row(const struct kv_scenario *s)
{
    struct kv_load_options load = {.n_clients = s->clients,
                                   .begin_with_put = true,
                                   .random_keys = s->random_keys,
                                   .get_ratio = s->random_keys ? 45 : 50,
                                   .put_ratio = 5};

    kv_suite_run(kv_suite_cluster(s->name, s->servers, s->unreliable, s->snapshots), s,
                 APPEND_ITERATION_MS, &load);
}
