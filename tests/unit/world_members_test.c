/* Replicas come and go in the simulated world: the shipped runtime on simulated disks and links
 * that follow the configuration, under crashes, cuts, loss and slow disks, with all checkers of
 * Raft.
 *
 * MEMBERS_SEEDS, MEMBERS_SEED: see tests/seeds.h. */
#include "tests/cmocka.h"
#include "tests/seeds.h"
#include "tests/sim/raft_cluster.h"

static struct raft_cluster *cluster_of(size_t n, uint64_t seed, bool snapshots)
{
    return raft_cluster_create(
        "members", &(struct raft_cluster_options){.n = n, .seed = seed, .snapshots = snapshots});
}

/* All members are voters, under one configuration, and agree. */
static void settle(struct raft_cluster *cluster, size_t expected)
{
    size_t leader = raft_cluster_check_leader(cluster);

    for (int i = 0; i < 200; i++) {
        const struct raft_configuration *now;
        size_t n_voters = 0;

        leader = raft_cluster_check_leader(cluster);
        now = raft_cluster_configuration(cluster, leader);
        for (size_t at = 0; at < now->n; at++) {
            n_voters += now->servers[at].flags == RAFT_VOTER;
        }
        if (n_voters == now->n && now->n == expected) {
            break;
        }
        raft_cluster_sleep(cluster, 100);
    }
    assert_int_equal(raft_cluster_configuration(cluster, leader)->n, expected);
    assert_false(raft_configuration_is_joint(raft_cluster_configuration(cluster, leader)));
    raft_cluster_agree_u64(cluster, 7000 + expected, expected, true);
}

static void a_group_grows_and_shrinks(void **state)
{
    struct raft_cluster *cluster = cluster_of(1, 1, false);

    (void)state;
    raft_cluster_agree_u64(cluster, 1, 1, true);
    for (size_t n = 2; n <= 5; n++) {
        raft_id id = (raft_id)raft_cluster_add(cluster) + 1;

        raft_cluster_change(cluster, GROUP_ADD_REPLICA, id);
        settle(cluster, n);
    }
    for (size_t n = 4; n >= 2; n--) {
        raft_id leader = (raft_id)raft_cluster_check_leader(cluster) + 1;

        raft_cluster_change(cluster, GROUP_REMOVE_REPLICA, leader);
        raft_cluster_sleep(cluster, 1000);
        raft_cluster_disconnect(cluster, leader - 1);
        settle(cluster, n);
    }
    raft_cluster_destroy(&cluster);
}

static void a_lost_replica_is_replaced_under_its_id(void **state)
{
    struct raft_cluster *cluster = cluster_of(3, 2, true);
    size_t lost = (raft_cluster_check_leader(cluster) + 1) % 3;
    struct world *world = raft_cluster_world(cluster);

    (void)state;
    for (uint64_t i = 0; i < 60; i++) {
        raft_cluster_agree_u64(cluster, i, 3, true);
    }
    /* With an empty disk under its old id it is refused: it does not count, and is told nothing. */
    world_crash(world, lost);
    world_wipe(world, lost);
    world_start(world, lost);
    raft_cluster_agree_u64(cluster, 100, 2, true);
    raft_cluster_sleep(cluster, 2000);
    assert_int_equal(raft_commit_index(group_raft(world_group(world, lost))), 0);
    /* Removed and added, it is one of them again, by a snapshot. */
    raft_cluster_change(cluster, GROUP_REMOVE_REPLICA, (raft_id)lost + 1);
    raft_cluster_rejoin(cluster, lost);
    raft_cluster_change(cluster, GROUP_ADD_REPLICA, (raft_id)lost + 1);
    settle(cluster, 3);
    assert_true(raft_cluster_snapshots_installed(cluster, lost) > 0);
    /* It stays what it is over a restart, and counts. */
    raft_cluster_crash(cluster, lost);
    raft_cluster_revive(cluster, lost);
    raft_cluster_crash(cluster, (lost + 1) % 3);
    raft_cluster_agree_u64(cluster, 200, 2, true);
    raft_cluster_destroy(&cluster);
}

/* ---- At random ---- */

#define STEPS 120

struct upheaval {
    struct raft_cluster *cluster;
    struct world *world;
    struct rng rng;
    raft_id removing; /* 0: no removal is under way here */
    bool out[RAFT_CLUSTER_MAX + 1];
    bool busy; /* an order waits for its end */
    uint64_t n_added, n_removed, n_rejoined;
};

static void removal_ended(void *context, enum status status, const char *reason, raft_index index)
{
    struct upheaval *upheaval = context;

    (void)reason;
    (void)index;
    upheaval->busy = false;
    if (status == ST_OK) {
        upheaval->out[upheaval->removing] = true;
        upheaval->n_removed++;
    }
}

static void addition_ended(void *context, enum status status, const char *reason, raft_index index)
{
    struct upheaval *upheaval = context;

    (void)reason;
    (void)index;
    upheaval->busy = false;
    upheaval->n_added += status == ST_OK;
}

/* Orders that are made in any state of things; most are refused. */
static void order_something(struct upheaval *upheaval)
{
    size_t n = raft_cluster_size(upheaval->cluster);
    size_t at = rng_below(&upheaval->rng, n);
    raft_id about = (raft_id)rng_between(&upheaval->rng, 1, n);

    for (size_t i = 0; i < n; i++) { /* a leader, if one is to be found */
        if (world_is_running(upheaval->world, i) && !world_is_paused(upheaval->world, i) &&
            group_is_leader(world_group(upheaval->world, i))) {
            at = i;
        }
    }
    if (upheaval->busy || !world_is_running(upheaval->world, at) ||
        world_is_paused(upheaval->world, at)) {
        return;
    }
    upheaval->busy = true;
    if (upheaval->out[about] || raft_cluster_flags(upheaval->cluster, at, about) == 0) {
        if (upheaval->out[about]) {
            upheaval->out[about] = false;
            raft_cluster_rejoin(upheaval->cluster, about - 1);
            upheaval->n_rejoined++;
        }
        if (world_is_running(upheaval->world, at)) {
            raft_cluster_order(upheaval->cluster, at, GROUP_ADD_REPLICA, about, addition_ended,
                               upheaval);
        } else {
            upheaval->busy = false;
        }
    } else if (raft_cluster_configuration(upheaval->cluster, at)->n > 3) {
        upheaval->removing = about;
        raft_cluster_order(upheaval->cluster, at, GROUP_REMOVE_REPLICA, about, removal_ended,
                           upheaval);
    } else {
        upheaval->busy = false;
    }
}

static void disturb(struct upheaval *upheaval)
{
    size_t n = raft_cluster_size(upheaval->cluster);
    size_t node = rng_below(&upheaval->rng, n);
    size_t other = (node + 1 + rng_below(&upheaval->rng, n - 1)) % n;
    struct world_faults faults = {.loss_ppm = (uint32_t)rng_below(&upheaval->rng, 30000),
                                  .duplicate_ppm = (uint32_t)rng_below(&upheaval->rng, 30000),
                                  .reorder_ppm = (uint32_t)rng_below(&upheaval->rng, 50000)};

    switch (rng_below(&upheaval->rng, 7)) {
    case 0:
        if (world_is_running(upheaval->world, node)) {
            world_crash(upheaval->world, node);
        }
        break;
    case 1:
    case 2:
        for (size_t i = 0; i < n; i++) {
            if (!world_is_running(upheaval->world, i)) {
                world_start(upheaval->world, i);
            }
        }
        break;
    case 3:
        world_set_faults(upheaval->world, &faults);
        break;
    case 4:
        world_cut_pair(upheaval->world, node, other, rng_below(&upheaval->rng, 2) == 0);
        break;
    case 5:
        world_connect(upheaval->world, node, rng_below(&upheaval->rng, 4) != 0);
        break;
    default:
        world_heal(upheaval->world);
        break;
    }
}

/* Everybody is well. A member that was away while a replica under an old id was replaced can hear
 * of it only from one that it knows: leadership goes round. */
static void calm_down(struct upheaval *upheaval)
{
    size_t n = raft_cluster_size(upheaval->cluster);

    world_heal(upheaval->world);
    world_set_faults(upheaval->world, &(struct world_faults){0});
    for (size_t i = 0; i < n; i++) {
        if (!world_is_running(upheaval->world, i)) {
            world_start(upheaval->world, i);
        }
    }
    raft_cluster_sleep(upheaval->cluster, 10000);
}

static void run_upheaval(uint64_t seed)
{
    struct upheaval upheaval = {.cluster = cluster_of(3, seed, seed % 2 == 0)};
    size_t leader;

    upheaval.world = raft_cluster_world(upheaval.cluster);
    rng_init(&upheaval.rng, seed);
    for (int i = 0; i < 3; i++) {
        raft_cluster_add(upheaval.cluster);
    }
    for (int step = 0; step < STEPS; step++) {
        uint64_t number;
        raft_term term;

        if (rng_below(&upheaval.rng, 3) == 0) {
            disturb(&upheaval);
        } else {
            order_something(&upheaval);
        }
        for (size_t i = 0; i < raft_cluster_size(upheaval.cluster); i++) {
            if (raft_cluster_is_running(upheaval.cluster, i)) {
                (void)raft_cluster_submit_u64(upheaval.cluster, i, (uint64_t)step, &number, &term);
            }
        }
        raft_cluster_sleep(upheaval.cluster, rng_between(&upheaval.rng, 10, 400));
    }
    calm_down(&upheaval);
    leader = raft_cluster_check_leader(upheaval.cluster);
    settle(upheaval.cluster, raft_cluster_configuration(upheaval.cluster, leader)->n);
    print_message("seed %llu: %llu added, %llu removed, %llu came back\n", (unsigned long long)seed,
                  (unsigned long long)upheaval.n_added, (unsigned long long)upheaval.n_removed,
                  (unsigned long long)upheaval.n_rejoined);
    raft_cluster_destroy(&upheaval.cluster);
}

static void nothing_goes_wrong_while_replicas_come_and_go(void **state)
{
    (void)state;
    seeds_run("MEMBERS", 12, run_upheaval);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_grows_and_shrinks),
        cmocka_unit_test(a_lost_replica_is_replaced_under_its_id),
        cmocka_unit_test(nothing_goes_wrong_while_replicas_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
