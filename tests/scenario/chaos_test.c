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

/* What is broken now. */
struct faults {
    bool down[16];
    bool cut[16][16]; /* [a][b] with a < b */
};

/* Whether two replicas of every group are up and hear each other. Who changes the configuration
 * here waits for the end, and no fault ends meanwhile: so there must be somebody to answer. */
static bool majorities_stand(const struct faults *faults)
{
    for (size_t first = 0; first < n_nodes(); first += 3) {
        bool pair = false;

        for (size_t a = first; a < first + 3; a++) {
            for (size_t b = a + 1; b < first + 3; b++) {
                pair |= !faults->down[a] && !faults->down[b] && !faults->cut[a][b];
            }
        }
        if (!pair) {
            return false;
        }
    }
    return true;
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

static void crash_or_restart(struct kv_cluster *c, struct faults *faults)
{
    struct world *world = kv_cluster_world(c);
    size_t node = rng_below(world_rng(world), n_nodes());

    faults->down[node] = !faults->down[node];
    if (!majorities_stand(faults)) {
        faults->down[node] = !faults->down[node];
    } else if (faults->down[node]) {
        world_crash(world, node);
    } else {
        world_start(world, node);
    }
}

static void cut_or_heal(struct kv_cluster *c, struct faults *faults)
{
    struct world *world = kv_cluster_world(c);
    size_t a = rng_below(world_rng(world), n_nodes()), b = rng_below(world_rng(world), n_nodes());
    bool *cut = a < b ? &faults->cut[a][b] : &faults->cut[b][a], before = *cut;

    if (a == b) {
        return;
    }
    *cut = rng_below(world_rng(world), 2) == 0;
    if (!majorities_stand(faults)) {
        *cut = before;
    }
    world_cut_pair(world, a, b, *cut);
}

static void end_faults(struct kv_cluster *c, struct faults *faults)
{
    struct world *world = kv_cluster_world(c);

    kv_cluster_set_unreliable(c, false);
    for (size_t i = 0; i < n_nodes(); i++) {
        for (size_t j = i + 1; j < n_nodes(); j++) {
            world_cut_pair(world, i, j, false);
        }
        if (faults->down[i]) {
            world_start(world, i);
        }
    }
    *faults = (struct faults){0};
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
    bool joined[N_GROUPS] = {true};
    struct faults faults = {0};
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
            crash_or_restart(c, &faults);
            break;
        case 3:
            cut_or_heal(c, &faults);
            break;
        case 4:
            kv_cluster_set_unreliable(c, rng_below(rng, 2) == 0);
            break;
        default:
            break;
        }
        kv_load_run_ms(load, rng_below(rng, 600));
    }
    end_faults(c, &faults);
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
