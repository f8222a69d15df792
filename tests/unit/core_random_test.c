/* The core against a hostile world, hundreds of seeds: messages are lost, repeated and reordered,
 * disks are slow, replicas crash and lose what is not durable, snapshots replace logs. The checkers
 * of the harness look at every step; in the end, with all faults off, the group must converge. */
#include "tests/unit/core_harness.h"

#define ACTIONS 8000

struct odds {
    unsigned lose, repeat; /* of 100 deliveries */
    unsigned crash;        /* of 10000 actions */
    bool snapshots, in_order;
};

static void deliver_some(struct world *world, struct rng *rng, const struct odds *odds)
{
    size_t at;

    if (world->n_flying == 0) {
        return;
    }
    at = odds->in_order ? 0 : rng_below(rng, world->n_flying < 12 ? world->n_flying : 12);
    if (rng_below(rng, 100) < odds->lose) {
        world_drop(world, at);
    } else {
        world_deliver(world, at, rng_below(rng, 100) < odds->repeat);
    }
    while (world->n_flying > 300) {
        world_drop(world, rng_below(rng, world->n_flying));
    }
}

static void crash_or_start(struct world *world, struct rng *rng, raft_id id,
                           const struct odds *odds)
{
    if (world->nodes[id].raft == NULL) {
        world_start(world, id);
    } else if (rng_below(rng, 10000) < odds->crash * 20) {
        world_crash(world, id);
    }
}

static void random_action(struct world *world, struct rng *rng, const struct odds *odds)
{
    raft_id id = (raft_id)rng_between(rng, 1, world->n);
    struct node *node = &world->nodes[id];
    uint64_t dice = rng_below(rng, 1000);

    if (dice < 20) {
        crash_or_start(world, rng, id, odds);
        return;
    }
    if (dice < 25) {
        world_heal(world);
        if (rng_below(rng, 2) == 0) {
            world_isolate(world, id);
        }
        return;
    }
    if (dice < 600 || node->raft == NULL) {
        deliver_some(world, rng, odds);
    } else if (dice < 800) {
        if (node->n_writes > 0) {
            world_persist_one(world, id);
        }
        if (node->n_stores > 0) {
            world_store_chunk(world, id);
        }
        if (node->n_reads > 0) {
            world_read_chunk(world, id);
        }
    } else if (dice < 860) {
        world->now_ms += rng_below(rng, 25);
        world_tick(world, id);
    } else if (dice < 930) {
        world_propose_sized(world, id, 1 + rng_below(rng, 3), 8 + rng_below(rng, 60));
    } else if (dice < 960) {
        if (world->n_reads < WORLD_READS) {
            world_read(world, id);
        }
    } else if (dice < 970) {
        world_transfer(world, id, 0);
    } else if (dice < 985) {
        world_link(world, id, (raft_id)(id % world->n + 1), rng_below(rng, 2));
    } else if (odds->snapshots) {
        world_checkpoint(world, id);
    }
}

/* Faults off: within a few seconds there is one leader, and one more command is on all. */
static void converge(struct world *world)
{
    world_heal(world);
    for (raft_id id = 1; id <= world->n; id++) {
        if (world->nodes[id].raft == NULL) {
            world_start(world, id);
        }
    }
    world_run(world, 5000);
    assert_true(world_leader(world) != 0);
    world_run(world, 2000);
    assert_int_equal(world_propose(world, world_leader(world)), ST_OK);
    world_run(world, 500);
    world_assert_converged(world);
}

/* What the seeds of one test did, to see that they did anything. */
struct sums {
    uint64_t committed, leaders, reads, snapshots;
};

static void sum_up(const struct world *world, struct sums *sums)
{
    sums->committed += world->committed_max;
    for (size_t term = 0; term < WORLD_TERMS; term++) {
        sums->leaders += world->leader_of_term[term] != 0;
    }
    for (size_t i = 0; i < world->n_reads; i++) {
        sums->reads += world->reads[i].answered && world->reads[i].status == ST_OK;
    }
    for (raft_id id = 1; id <= world->n; id++) {
        sums->snapshots += world->nodes[id].snapshots_installed;
    }
}

static void run_seed(uint64_t seed, size_t n, const struct odds *odds, int actions,
                     struct sums *sums)
{
    struct world *world = world_create_empty(n, seed);
    struct rng rng;

    rng_init(&rng, seed);
    world->options.max_message_bytes = 200;
    world->options.max_inflight_messages = 4;
    for (raft_id id = 1; id <= n; id++) {
        world_start(world, id);
    }
    for (int i = 0; i < actions; i++) {
        random_action(world, &rng, odds);
    }
    converge(world);
    sum_up(world, sums);
    world_destroy(world);
}

static void run_seeds(uint64_t first, size_t seeds, const struct odds *odds)
{
    const char *only = getenv("CORE_SEED");
    struct sums sums = {0};

    for (uint64_t seed = first; seed < first + seeds; seed++) {
        if (only == NULL || strtoull(only, NULL, 0) == seed) {
            print_message("seed %llu\r", (unsigned long long)seed);
            run_seed(seed, 3 + seed % 3, odds, ACTIONS, &sums);
        }
    }
    print_message("%zu seeds: %llu committed, %llu leaders, %llu reads, %llu snapshots\n", seeds,
                  (unsigned long long)sums.committed, (unsigned long long)sums.leaders,
                  (unsigned long long)sums.reads, (unsigned long long)sums.snapshots);
    assert_true(only != NULL || (sums.committed > 20 * seeds && sums.leaders > 3 * seeds));
    assert_true(only != NULL || !odds->snapshots || sums.snapshots > seeds / 2);
}

static void safety_holds_with_loss_repetition_and_reordering(void **state)
{
    (void)state;
    run_seeds(1000, 80, &(struct odds){.lose = 10, .repeat = 10});
}

static void safety_holds_with_crashes(void **state)
{
    (void)state;
    run_seeds(2000, 80, &(struct odds){.lose = 5, .repeat = 5, .crash = 150});
}

static void safety_holds_with_snapshots_and_crashes(void **state)
{
    (void)state;
    run_seeds(3000, 80, &(struct odds){.lose = 5, .repeat = 5, .crash = 100, .snapshots = true});
}

static void safety_holds_on_ordered_links_with_slow_disks(void **state)
{
    (void)state;
    run_seeds(4000, 40, &(struct odds){.in_order = true, .crash = 50, .snapshots = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safety_holds_with_loss_repetition_and_reordering),
        cmocka_unit_test(safety_holds_with_crashes),
        cmocka_unit_test(safety_holds_with_snapshots_and_crashes),
        cmocka_unit_test(safety_holds_on_ordered_links_with_slow_disks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
