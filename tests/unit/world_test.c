/* The simulated world's faults of network, processes and clocks, on replicas of the shipped code:
 * each does what its name says. And one seed is one run. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/world_story.h"

/* ---- Network ---- */

static void a_one_way_cut_passes_the_other_direction(void **state)
{
    struct raft_cluster *cluster = begin(1);
    size_t leader = raft_cluster_check_leader(cluster), deaf = follower_of(leader);
    struct world *world = raft_cluster_world(cluster);
    struct looker at_deaf, at_leader;
    uint64_t before;

    (void)state;
    look(cluster, &at_deaf, deaf);
    look(cluster, &at_leader, leader);
    world_cut_one_way(world, leader, deaf, true);
    world_cut_one_way(world, (leader + 2) % N, deaf, true);
    raft_cluster_sleep(cluster, 100);
    at_deaf = (struct looker){.node = deaf};
    at_leader = (struct looker){.node = leader};
    raft_cluster_sleep(cluster, 3000);
    assert_int_equal(at_deaf.from_peers, 0);
    assert_true(at_deaf.sent > 0); /* it asks for votes */
    assert_true(at_leader.from[deaf + 1] > 0);
    before = raft_cluster_last_number(cluster);
    raft_cluster_agree_u64(cluster, 7, N - 1, true);
    assert_int_equal(raft_cluster_applied(cluster, before + 1), N - 1);
    world_heal(world);
    raft_cluster_agree_u64(cluster, 8, N, true);
    raft_cluster_destroy(&cluster);
}

static void a_clogged_link_delivers_later_and_in_order(void **state)
{
    struct raft_cluster *cluster = begin(2);
    size_t leader = raft_cluster_check_leader(cluster), behind = follower_of(leader);
    struct world *world = raft_cluster_world(cluster);
    struct looker looker;
    uint64_t number;
    raft_term term;

    (void)state;
    look(cluster, &looker, behind);
    world_clog(world, leader, behind, true);
    raft_cluster_sleep(cluster, 1);
    looker.from_peers = 0;
    for (uint64_t i = 0; i < 20; i++) {
        assert_true(raft_cluster_submit_u64(cluster, leader, i, &number, &term));
        raft_cluster_sleep(cluster, 1);
    }
    raft_cluster_sleep(cluster, 20); /* the other one is told of the last commit */
    assert_int_equal(looker.from_peers, 0);
    assert_int_equal(raft_cluster_applied(cluster, number), N - 1);
    assert_true(world_counted(world)->clogged > 0);
    /* All at once, none before another that was sent before it: nothing has to be sent again. */
    world_clog(world, leader, behind, false);
    raft_cluster_sleep(cluster, 1);
    assert_true(looker.from_peers > 0);
    raft_cluster_sleep(cluster, 30);
    assert_int_equal(raft_cluster_applied(cluster, number), N);
    raft_cluster_destroy(&cluster);
}

/* How many of the messages of two seconds met their fate. */
static struct world_counts count_with(const struct world_faults *faults)
{
    struct raft_cluster *cluster = begin(3);
    struct world_counts counts;

    raft_cluster_check_leader(cluster);
    world_set_faults(raft_cluster_world(cluster), faults);
    for (uint64_t i = 0; i < 50; i++) {
        raft_cluster_agree_u64(cluster, i, 1, true);
    }
    counts = *world_counted(raft_cluster_world(cluster));
    raft_cluster_destroy(&cluster);
    return counts;
}

static void rates_hit_about_as_many_as_they_say(void **state)
{
    struct world_counts none = count_with(&(struct world_faults){0});
    struct world_counts twins = count_with(&(struct world_faults){.duplicate_ppm = 500000});
    struct world_counts late = count_with(
        &(struct world_faults){.reorder_ppm = 300000, .tail_ppm = 20000, .tail_ms = 500});
    struct world_counts lost = count_with(&(struct world_faults){.loss_ppm = 200000});

    (void)state;
    assert_int_equal(none.lost + none.duplicated + none.reordered + none.delayed, 0);
    assert_in_range(twins.duplicated * 100 / twins.messages, 20, 60);
    assert_in_range(late.reordered * 100 / late.messages, 20, 40);
    assert_in_range(late.delayed * 1000 / late.messages, 1, 50);
    assert_in_range(lost.lost * 100 / lost.messages, 10, 30);
}

static void healing_ends_everything(void **state)
{
    struct raft_cluster *cluster = begin(4);
    struct world *world = raft_cluster_world(cluster);

    (void)state;
    raft_cluster_check_leader(cluster);
    for (size_t i = 0; i < N; i++) {
        world_cut_one_way(world, i, (i + 1) % N, true);
        world_clog(world, (i + 1) % N, i, true);
    }
    world_connect(world, 0, false);
    world_cut_pair(world, 1, 2, true);
    raft_cluster_sleep(cluster, 3000);
    world_heal(world);
    raft_cluster_agree_u64(cluster, 1, N, true);
    raft_cluster_destroy(&cluster);
}

/* ---- Processes ---- */

static void a_paused_node_gets_everything_when_it_goes_on(void **state)
{
    struct raft_cluster *cluster = begin(5);
    size_t leader = raft_cluster_check_leader(cluster), sleeper = follower_of(leader);
    struct world *world = raft_cluster_world(cluster);
    struct looker looker;
    uint64_t number;

    (void)state;
    look(cluster, &looker, sleeper);
    world_pause(world, sleeper, true);
    assert_true(world_is_paused(world, sleeper));
    number = raft_cluster_agree_u64(cluster, 1, N - 1, true);
    raft_cluster_sleep(cluster, 2000);
    assert_int_equal(looker.stepped, 0);
    assert_int_equal(raft_cluster_applied(cluster, number), N - 1);
    world_pause(world, sleeper, false);
    raft_cluster_sleep(cluster, 5);
    assert_true(looker.from_peers > 10); /* heartbeats of two seconds */
    raft_cluster_agree_u64(cluster, 2, N, true);
    assert_int_equal(raft_cluster_applied(cluster, number), N);
    raft_cluster_destroy(&cluster);
}

static void a_paused_leader_is_replaced_and_learns_it(void **state)
{
    struct raft_cluster *cluster = begin(6);
    size_t leader = raft_cluster_check_leader(cluster);
    struct world *world = raft_cluster_world(cluster);

    (void)state;
    world_pause(world, leader, true);
    raft_cluster_sleep(cluster, 3000);
    raft_cluster_agree_u64(cluster, 1, N - 1, true);
    world_pause(world, leader, false);
    raft_cluster_agree_u64(cluster, 2, N, true);
    world_pause(world, leader, true); /* and a paused one can be killed */
    world_crash(world, leader);
    assert_false(world_is_paused(world, leader));
    world_start(world, leader);
    raft_cluster_agree_u64(cluster, 3, N, true);
    raft_cluster_destroy(&cluster);
}

/* As when the machine does not let them run: nobody was silent while nobody listened. */
static void who_was_stopped_takes_nobody_for_dead(void **state)
{
    struct raft_cluster *cluster = begin(8);
    size_t leader = raft_cluster_check_leader(cluster);
    struct world *world = raft_cluster_world(cluster);
    uint64_t term = raft_cluster_term(cluster, leader);

    (void)state;
    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < N; i++) {
            world_pause(world, i, true);
        }
        raft_cluster_sleep(cluster, 1000);
        for (size_t i = 0; i < N; i++) {
            world_pause(world, i, false);
        }
        raft_cluster_sleep(cluster, 200);
    }
    assert_int_equal(raft_cluster_check_leader(cluster), leader);
    assert_int_equal(raft_cluster_term(cluster, leader), term);
    raft_cluster_agree_u64(cluster, 1, N, true);
    raft_cluster_destroy(&cluster);
}

static void a_wiped_replica_is_not_heard_and_does_no_harm(void **state)
{
    struct raft_cluster *cluster = begin(7);
    size_t leader = raft_cluster_check_leader(cluster), lost = follower_of(leader);
    struct world *world = raft_cluster_world(cluster);
    struct looker looker, other;
    uint64_t number;

    (void)state;
    number = raft_cluster_agree_u64(cluster, 1, N, true);
    world_crash(world, lost);
    assert_false(world_is_wiped(world, lost));
    world_wipe(world, lost);
    world_start(world, lost);
    assert_true(world_is_wiped(world, lost));
    look(cluster, &looker, lost);
    look(cluster, &other, (leader + 2) % N);
    raft_cluster_sleep(cluster, 5000);
    assert_int_equal(looker.from_peers + looker.ups, 0);
    assert_true(looker.sent > 0);
    assert_false(raft_cluster_leads(cluster, lost));
    assert_int_equal(raft_cluster_applied(cluster, number), N - 1);
    /* Its vote for an empty log would lose what is committed: nobody gets it. */
    raft_cluster_disconnect(cluster, leader);
    raft_cluster_sleep(cluster, 5000);
    assert_false(raft_cluster_leads(cluster, (leader + 2) % N));
    raft_cluster_connect(cluster, leader);
    raft_cluster_agree_u64(cluster, 2, N - 1, true);
    raft_cluster_destroy(&cluster);
}

/* ---- Clocks ---- */

static void a_fast_clock_shows_more_time(void **state)
{
    struct raft_cluster *cluster = begin(8);
    size_t leader = raft_cluster_check_leader(cluster), fast = follower_of(leader);
    struct world *world = raft_cluster_world(cluster);
    struct looker looker;
    uint64_t ms;

    (void)state;
    world_set_clock_rate(world, fast, 1500000);
    look(cluster, &looker, fast);
    raft_cluster_sleep(cluster, 10000);
    ms = looker.last_ms - looker.first_ms;
    assert_in_range(ms, 14800, 15000);
    world_set_clock_rate(world, fast, 500000); /* from here, never back */
    looker.first_ms = looker.last_ms;
    raft_cluster_sleep(cluster, 10000);
    assert_in_range(looker.last_ms - looker.first_ms, 4900, 5200);
    raft_cluster_agree_u64(cluster, 1, N, true);
    raft_cluster_destroy(&cluster);
}

/* Its deadlines, too, come by its own clock: alone, it wakes twice as often. */
static uint64_t wakes_alone(uint32_t rate_ppm)
{
    struct raft_cluster *cluster = begin(9);
    struct world *world = raft_cluster_world(cluster);
    struct looker looker;

    world_crash(world, 1);
    world_crash(world, 2);
    world_set_clock_rate(world, 0, rate_ppm);
    look(cluster, &looker, 0);
    raft_cluster_sleep(cluster, 60000);
    assert_true(looker.last_ms > looker.first_ms);
    raft_cluster_destroy(&cluster);
    return looker.stepped;
}

static void deadlines_come_by_the_nodes_own_clock(void **state)
{
    uint64_t usual = wakes_alone(1000000), twice = wakes_alone(2000000);

    (void)state;
    assert_in_range(twice * 100 / usual, 180, 220);
}

/* ---- Looking on ---- */

static void an_observer_sees_a_life(void **state)
{
    struct raft_cluster *cluster = begin(61);
    struct world *world = raft_cluster_world(cluster);
    struct looker looker;
    uint64_t stepped;

    (void)state;
    look(cluster, &looker, 0);
    raft_cluster_check_leader(cluster);
    assert_true(looker.stepped > 0 && looker.sent > 0);
    world_crash(world, 0);
    stepped = looker.stepped;
    raft_cluster_sleep(cluster, 1000);
    assert_int_equal(looker.stepped, stepped);
    world_start(world, 0);
    assert_int_equal(looker.started, 1);
    assert_int_equal(looker.stopped, 1);
    raft_cluster_destroy(&cluster);
}

/* Everything that can go wrong, drawn from the seed; the record of it. */
static char *record_of(uint64_t seed)
{
    struct raft_cluster *cluster = begin_with(true, true, seed);
    struct world *world = raft_cluster_world(cluster);
    struct world_faults faults = {.loss_ppm = 20000,
                                  .duplicate_ppm = 20000,
                                  .reorder_ppm = 50000,
                                  .tail_ppm = 5000,
                                  .tail_ms = 300};
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);

    world_record(world, file);
    world_set_faults(world, &faults);
    for (uint64_t i = 0; i < 60; i++) {
        struct rng *rng = world_rng(world);
        size_t node = rng_below(rng, N), other = (node + 1) % N;
        uint64_t number;
        raft_term term;

        raft_cluster_submit_u64(cluster, node, i, &number, &term);
        switch (rng_below(rng, 6)) {
        case 0:
            if (world_is_running(world, node)) {
                world_crash(world, node);
            }
            world_start(world, node);
            break;
        case 1:
            world_cut_one_way(world, node, other, rng_below(rng, 2) == 0);
            break;
        case 2:
            world_clog(world, node, other, rng_below(rng, 2) == 0);
            break;
        case 3:
            world_pause(world, node, rng_below(rng, 2) == 0);
            break;
        case 4:
            world_set_clock_rate(world, node, (uint32_t)rng_between(rng, 900000, 1100000));
            break;
        default:
            world_set_disk(world, node, &(struct world_disk){.slow_factor = (uint32_t)i});
            break;
        }
        world_run_ms(world, rng_below(rng, 200));
    }
    world_heal(world);
    for (size_t i = 0; i < N; i++) {
        world_pause(world, i, false);
    }
    world_set_faults(world, &(struct world_faults){0});
    raft_cluster_agree_u64(cluster, 1000, N, true);
    raft_cluster_destroy(&cluster);
    fclose(file);
    assert_true(len > 1000);
    return text;
}

static void one_seed_is_one_run(void **state)
{
    char *one = record_of(71), *again = record_of(71), *other = record_of(72);

    (void)state;
    assert_string_equal(one, again);
    assert_true(strcmp(one, other) != 0);
    free(one);
    free(again);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_one_way_cut_passes_the_other_direction),
        cmocka_unit_test(a_clogged_link_delivers_later_and_in_order),
        cmocka_unit_test(rates_hit_about_as_many_as_they_say),
        cmocka_unit_test(healing_ends_everything),
        cmocka_unit_test(a_paused_node_gets_everything_when_it_goes_on),
        cmocka_unit_test(a_paused_leader_is_replaced_and_learns_it),
        cmocka_unit_test(who_was_stopped_takes_nobody_for_dead),
        cmocka_unit_test(a_wiped_replica_is_not_heard_and_does_no_harm),
        cmocka_unit_test(a_fast_clock_shows_more_time),
        cmocka_unit_test(deadlines_come_by_the_nodes_own_clock),
        cmocka_unit_test(an_observer_sees_a_life),
        cmocka_unit_test(one_seed_is_one_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
