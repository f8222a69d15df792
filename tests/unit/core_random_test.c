/* The core against a hostile world, hundreds of seeds: messages are lost, repeated and reordered,
 * disks are slow, replicas crash and lose what is not durable, snapshots replace logs. The checkers
 * of the harness look at every step; in the end, with all faults off, the group must converge. */
#include <stdlib.h>

#include "tests/sim/core_harness.h"

#define ACTIONS 8000

struct odds {
    unsigned lose, repeat; /* of 100 deliveries */
    unsigned crash;        /* of 10000 actions */
    bool snapshots, in_order;
};

static void crash_or_start(struct cores *cores, struct rng *rng, raft_id id,
                           const struct odds *odds)
{
    if (cores->nodes[id].raft == NULL) {
        cores_start(cores, id);
    } else if (rng_below(rng, 10000) < odds->crash * 20) {
        cores_crash(cores, id);
    }
}

static void random_action(struct cores *cores, struct rng *rng, const struct odds *odds)
{
    raft_id id = (raft_id)rng_between(rng, 1, cores->n);
    struct core_node *node = &cores->nodes[id];
    uint64_t dice = rng_below(rng, 1000);

    if (dice < 20) {
        crash_or_start(cores, rng, id, odds);
        return;
    }
    if (dice < 25) {
        cores_heal(cores);
        if (rng_below(rng, 2) == 0) {
            cores_isolate(cores, id);
        }
        return;
    }
    if (dice < 600 || node->raft == NULL) {
        cores_deliver_any(cores, rng, odds->in_order, odds->lose, odds->repeat);
    } else if (dice < 800) {
        cores_work(cores, id);
    } else if (dice < 860) {
        cores->now_ms += rng_below(rng, 25);
        cores_tick(cores, id);
    } else if (dice < 930) {
        cores_propose_sized(cores, id, 1 + rng_below(rng, 3), 8 + rng_below(rng, 60));
    } else if (dice < 960) {
        cores_read_more(cores, id);
    } else if (dice < 970) {
        cores_transfer(cores, id, 0);
    } else if (dice < 985) {
        cores_link(cores, id, (raft_id)(id % cores->n + 1), RAFT_EVENT_PEER_UP + rng_below(rng, 3));
    } else if (odds->snapshots) {
        cores_checkpoint(cores, id);
    }
}

/* Faults off: within a few seconds there is one leader, and one more command is on all. */
static void converge(struct cores *cores)
{
    cores_recover(cores);
    cores_run(cores, 5000);
    assert_true(cores_leader(cores) != 0);
    cores_run(cores, 2000);
    assert_int_equal(cores_propose(cores, cores_leader(cores)), ST_OK);
    cores_run(cores, 500);
    cores_assert_converged(cores);
}

/* What the seeds of one test did, to see that they did anything. */
struct sums {
    uint64_t committed, leaders, reads, snapshots;
};

static void sum_up(const struct cores *cores, struct sums *sums)
{
    sums->committed += cores->committed_max;
    sums->leaders += cores_count_leaders(cores);
    for (size_t i = 0; i < cores->n_reads; i++) {
        sums->reads += cores->reads[i].answered && cores->reads[i].status == ST_OK;
    }
    for (raft_id id = 1; id <= cores->n; id++) {
        sums->snapshots += cores->nodes[id].snapshots_installed;
    }
}

static void run_seed(uint64_t seed, size_t n, const struct odds *odds, int actions,
                     struct sums *sums)
{
    struct cores *cores = cores_create_empty(n, seed);
    struct rng rng;

    rng_init(&rng, seed);
    cores->options.max_message_bytes = 200;
    cores->options.max_inflight_messages = 4;
    for (raft_id id = 1; id <= n; id++) {
        cores_start(cores, id);
    }
    for (int i = 0; i < actions; i++) {
        random_action(cores, &rng, odds);
    }
    converge(cores);
    sum_up(cores, sums);
    cores_destroy(cores);
}

static void run_seeds(uint64_t first, size_t seeds, const struct odds *odds)
{
    const char *only = getenv("CORE_SEED");
    struct sums sums = {0};

    if (only != NULL) { /* whichever story's it is: run in each */
        first = strtoull(only, NULL, 0);
        seeds = 1;
    }
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        print_message("seed %llu\r", (unsigned long long)seed);
        run_seed(seed, 3 + seed % 3, odds, ACTIONS, &sums);
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
