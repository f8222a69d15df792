/* Random faults on a whole simulated cluster, from seeds: crashes, restarts, partitions, loss,
 * joins, leaves and moves, while clients append and read. Then the faults end: every client's
 * operations must come to their end, and every acknowledged token be there once and in order.
 *
 * CHAOS_SEEDS, CHAOS_SEED: see tests/seeds.h. */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "tests/seeds.h"
#include "tests/sim/kv_load.h"

#define N_GROUPS   3
#define N_REPLICAS 3
#define STEPS      40

static size_t n_nodes(void)
{
    return 3 + N_GROUPS * N_REPLICAS;
}

/* A node of a random group, such that its group keeps a majority when it goes. */
static size_t pick_victim(struct kv_cluster *c, const bool *down)
{
    struct rng *rng = world_rng(kv_cluster_world(c));
    size_t node = rng_below(rng, n_nodes());
    size_t first = node - node % 3, others_down = 0;

    for (size_t i = first; i < first + 3; i++) {
        others_down += i != node && down[i];
    }
    return others_down == 0 ? node : SIZE_MAX;
}

/* *uncertain: the end of an earlier change is not known; then a later one may be refused. */
static void change_configuration(struct kv_cluster *c, bool *joined, bool *uncertain)
{
    struct rng *rng = world_rng(kv_cluster_world(c));
    size_t group = rng_below(rng, N_GROUPS);
    size_t members = (size_t)joined[0] + joined[1] + joined[2];
    enum status status;

    if (!joined[group]) {
        status = kv_cluster_join(c, group, NULL);
        joined[group] = true;
    } else if (members > 1 && rng_below(rng, 2) == 0) {
        status = kv_cluster_leave(c, group, NULL);
        joined[group] = false;
    } else {
        status = kv_cluster_move(c, (shard_id)rng_below(rng, 16), kv_cluster_gid(group), NULL);
    }
    *uncertain |= status == ST_UNKNOWN;
    /* Certain or not known, but never a refusal, as far as the change was certainly possible. */
    ASSERT(status == ST_OK || *uncertain);
}

static void crash_or_restart(struct kv_cluster *c, bool *down)
{
    struct world *world = kv_cluster_world(c);
    size_t node = pick_victim(c, down);

    if (node == SIZE_MAX) {
        return;
    }
    if (!down[node]) {
        world_crash(world, node);
        down[node] = true;
    } else {
        world_start(world, node);
        down[node] = false;
    }
}

static void cut_or_heal(struct kv_cluster *c)
{
    struct world *world = kv_cluster_world(c);
    size_t a = rng_below(world_rng(world), n_nodes()), b = rng_below(world_rng(world), n_nodes());

    if (a != b) {
        world_cut_pair(world, a, b, rng_below(world_rng(world), 2) == 0);
    }
}

static void end_faults(struct kv_cluster *c, bool *down)
{
    struct world *world = kv_cluster_world(c);

    kv_cluster_set_unreliable(c, false);
    for (size_t i = 0; i < n_nodes(); i++) {
        for (size_t j = i + 1; j < n_nodes(); j++) {
            world_cut_pair(world, i, j, false);
        }
        if (down[i]) {
            world_start(world, i);
            down[i] = false;
        }
    }
}

static void run_seed(uint64_t seed)
{
    char name[32];
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = N_GROUPS,
                                         .n_replicas = N_REPLICAS,
                                         .snapshots = seed % 2 == 0,
                                         .seed = seed};
    struct kv_load_options load_options = {.n_clients = 8, .get_ratio = 40, .pause_ms = 3};
    bool down[16] = {0}, joined[N_GROUPS] = {true};
    bool uncertain = false;
    struct kv_cluster *c;
    struct kv_load *load;
    struct rng *rng;

    snprintf(name, sizeof(name), "chaos seed %llu", (unsigned long long)seed);
    c = kv_cluster_create(name, &options);
    rng = world_rng(kv_cluster_world(c));
    kv_cluster_join_now(c, 0);
    load = kv_load_create(c, &load_options);
    for (int step = 0; step < STEPS; step++) {
        switch (rng_below(rng, 6)) {
        case 0:
            change_configuration(c, joined, &uncertain);
            break;
        case 1:
        case 2:
            crash_or_restart(c, down);
            break;
        case 3:
            cut_or_heal(c);
            break;
        case 4:
            kv_cluster_set_unreliable(c, rng_below(rng, 2) == 0);
            break;
        default:
            break;
        }
        kv_load_run_ms(load, rng_below(rng, 600));
    }
    end_faults(c, down);
    kv_load_run_ms(load, 3000);
    kv_load_finish(load);
    kv_load_check_and_destroy(&load);
    kv_cluster_destroy(&c);
}

static void faults_lose_nothing(void **state)
{
    (void)state;
    seeds_run("CHAOS", 30, run_seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(faults_lose_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
