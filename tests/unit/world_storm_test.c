/* All faults of the simulated world at once, on five replicas with the shipped WAL (or, now and
 * then, mem_log): whatever happens to a minority's disks, the checkers of raft_cluster see nothing
 * wrong, and when it ends everybody else agrees again.
 *
 * STORM_SEEDS, STORM_SEED: see tests/seeds.h. */
#include "tests/cmocka.h"
#include "tests/seeds.h"
#include "tests/sim/raft_cluster.h"

#define STORM_N 5

struct storm {
    struct raft_cluster *cluster;
    struct world *world;
    struct rng *rng;
    size_t n_lost; /* disks that are damaged or gone: at most a minority */
    bool lost[STORM_N];
};

/* A disk may be too full, or an error too recent, for a start; only a lost one stays away. */
static void storm_start(struct storm *storm, size_t node)
{
    if (!world_is_running(storm->world, node)) {
        world_try_start(storm->world, node);
    }
}

static void storm_crash(struct storm *storm, size_t node)
{
    if (world_is_running(storm->world, node)) {
        if (rng_below(storm->rng, 4) == 0) {
            world_stop(storm->world, node);
        } else {
            world_crash(storm->world, node);
        }
    }
}

static void storm_lose(struct storm *storm, size_t node)
{
    if (storm->n_lost + 1 > STORM_N / 2 || storm->lost[node]) {
        return;
    }
    storm->n_lost++;
    storm->lost[node] = true;
    storm_crash(storm, node);
    if (rng_below(storm->rng, 2) == 0) {
        world_wipe(storm->world, node);
    } else {
        world_flip_bit(storm->world, node);
    }
    storm_start(storm, node);
}

static void storm_network(struct storm *storm, size_t node)
{
    struct world_faults faults = {.loss_ppm = (uint32_t)rng_below(storm->rng, 50000),
                                  .duplicate_ppm = (uint32_t)rng_below(storm->rng, 50000),
                                  .reorder_ppm = (uint32_t)rng_below(storm->rng, 100000),
                                  .tail_ppm = (uint32_t)rng_below(storm->rng, 10000),
                                  .tail_ms = 1000};
    size_t other = (node + 1 + rng_below(storm->rng, STORM_N - 1)) % STORM_N;
    bool on = rng_below(storm->rng, 2) == 0;

    switch (rng_below(storm->rng, 4)) {
    case 0:
        world_set_faults(storm->world, &faults);
        break;
    case 1:
        world_cut_one_way(storm->world, node, other, on);
        break;
    case 2:
        world_clog(storm->world, node, other, on);
        break;
    default:
        world_connect(storm->world, node, on);
        break;
    }
}

static void storm_disk(struct storm *storm, size_t node)
{
    struct world_disk disk = {.slow_factor = (uint32_t)rng_below(storm->rng, 50),
                              .stuck = rng_below(storm->rng, 3) == 0,
                              .full = rng_below(storm->rng, 3) == 0};

    if (rng_below(storm->rng, 2) == 0) {
        world_set_disk(storm->world, node, &disk);
    } else {
        world_fail_disk(storm->world, node,
                        (enum world_disk_fault)rng_below(storm->rng, WORLD_DISK_N_FAULTS));
    }
}

static void storm_once(struct storm *storm)
{
    size_t node = rng_below(storm->rng, STORM_N);

    switch (rng_below(storm->rng, 8)) {
    case 0:
        storm_crash(storm, node);
        break;
    case 1:
    case 2:
        storm_start(storm, node);
        break;
    case 3:
        storm_network(storm, node);
        break;
    case 4:
        storm_disk(storm, node);
        break;
    case 5:
        world_pause(storm->world, node, rng_below(storm->rng, 2) == 0);
        break;
    case 6:
        world_set_clock_rate(storm->world, node,
                             (uint32_t)rng_between(storm->rng, 800000, 1250000));
        world_set_clock_skew(storm->world, node, (int64_t)rng_below(storm->rng, 2000000) - 1000000);
        break;
    default:
        if (rng_below(storm->rng, 10) == 0) {
            storm_lose(storm, node);
        }
        break;
    }
}

/* Everybody is well, but for what is lost. */
static void storm_calm(struct storm *storm, bool crash)
{
    world_heal(storm->world);
    world_set_faults(storm->world, &(struct world_faults){0});
    for (size_t i = 0; i < STORM_N; i++) {
        world_pause(storm->world, i, false);
        world_set_disk(storm->world, i, &(struct world_disk){0});
        if (crash) {
            storm_crash(storm, i);
        }
        if (!world_is_running(storm->world, i) && !world_try_start(storm->world, i)) {
            assert_true(storm->lost[i]);
        }
    }
}

/* Commands of all sizes, so that segments of the log end. */
static void storm_submit(struct storm *storm, uint64_t i)
{
    uint8_t bytes[6000] = {0};
    size_t len = 8 + rng_below(storm->rng, 1 + rng_below(storm->rng, sizeof(bytes) - 8));

    set_u64(bytes, i);
    for (size_t node = 0; node < STORM_N; node++) {
        uint64_t number;
        raft_term term;
        raft_cluster_submit(storm->cluster, node, slice_of(bytes, len), &number, &term);
        raft_cluster_end_turns(storm->cluster);
    }
}

static void ride_out_a_storm(uint64_t seed)
{
    struct raft_cluster_options options = {
        .n = STORM_N, .seed = seed, .use_wal = seed % 4 != 0, .snapshots = seed % 3 != 0};
    struct storm storm = {.cluster = raft_cluster_create("storm", &options)};

    storm.world = raft_cluster_world(storm.cluster);
    storm.rng = world_rng(storm.world);
    for (uint64_t i = 0; i < 300; i++) {
        storm_submit(&storm, i);
        storm_once(&storm);
        world_run_ms(storm.world, rng_below(storm.rng, 200));
        if (rng_below(storm.rng, 15) == 0) {
            storm_calm(&storm, false);
            world_run_ms(storm.world, 1500);
        }
    }
    storm_calm(&storm, true);
    raft_cluster_sleep(storm.cluster, 3000);
    raft_cluster_agree_u64(storm.cluster, 1000000, STORM_N - storm.n_lost, true);
    raft_cluster_destroy(&storm.cluster);
}

static void all_faults_together_break_nothing(void **state)
{
    (void)state;
    seeds_run("STORM", 20, ride_out_a_storm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_faults_together_break_nothing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
