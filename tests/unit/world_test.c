/* The simulated world's faults: each does what its name says, on replicas of the shipped code. */
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/cmocka.h"
#include "tests/sim/raft_cluster.h"

#define N 3

static struct raft_cluster *begin_with(bool use_wal, bool snapshots, uint64_t seed)
{
    struct raft_cluster_options options = {
        .n = N, .seed = seed, .use_wal = use_wal, .snapshots = snapshots};

    return raft_cluster_create("world", &options);
}

static struct raft_cluster *begin(uint64_t seed)
{
    return begin_with(false, false, seed);
}

/* What one node is told, by an observer. */
struct looker {
    size_t node;
    uint64_t started, stopped, stepped, sent, from_peers, ups;
    uint64_t first_ms, last_ms; /* on the node's clock */
    bool told_low, told_room;
};

static void on_started(void *context, struct world *world, size_t node)
{
    struct looker *looker = context;

    assert_non_null(world_server(world, node));
    looker->started += node == looker->node;
}

static void on_stepped(void *context, struct world *world, size_t node,
                       const struct io_event *event)
{
    struct looker *looker = context;

    (void)world;
    if (node != looker->node) {
        return;
    }
    looker->stepped++;
    looker->from_peers += event->type == IO_EVENT_PEER_MESSAGE;
    looker->ups += event->type == IO_EVENT_PEER_UP;
    looker->told_low |= event->type == IO_EVENT_DISK_SPACE && event->disk.low;
    looker->told_room |= event->type == IO_EVENT_DISK_SPACE && !event->disk.low;
    looker->first_ms = looker->first_ms == 0 ? event->now_ms : looker->first_ms;
    looker->last_ms = event->now_ms;
}

static void on_sent(void *context, struct world *world, size_t node, raft_id to,
                    struct slice message)
{
    struct looker *looker = context;

    (void)world;
    assert_true(to != 0 && message.len > 0);
    looker->sent += node == looker->node;
}

static void on_stopping(void *context, struct world *world, size_t node)
{
    struct looker *looker = context;

    assert_non_null(world_server(world, node)); /* it can still be looked at */
    looker->stopped += node == looker->node;
}

static void look(struct raft_cluster *cluster, struct looker *looker, size_t node)
{
    struct world_observer observer = {looker, on_started, on_stepped, on_sent, on_stopping};

    *looker = (struct looker){.node = node};
    world_observe(raft_cluster_world(cluster), &observer);
}

static size_t follower_of(size_t leader)
{
    return (leader + 1) % N;
}

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
    assert_true(at_leader.from_peers > 0);
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

/* Its deadlines, too, come by its own clock: alone, it asks for votes twice as often. */
static uint64_t messages_alone(uint32_t rate_ppm)
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
    return looker.sent;
}

static void deadlines_come_by_the_nodes_own_clock(void **state)
{
    uint64_t usual = messages_alone(1000000), twice = messages_alone(2000000);

    (void)state;
    assert_in_range(twice * 100 / usual, 180, 220);
}

/* ---- Disks ---- */

static void with_the_wal_a_group_lives_through_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct raft_cluster *cluster = begin_with(true, seed % 2 == 0, seed);
        struct world *world = raft_cluster_world(cluster);
        uint64_t number = 0;
        raft_term term;

        for (uint64_t i = 0; i < 40; i++) {
            size_t node = rng_below(world_rng(world), N);
            raft_cluster_agree_u64(cluster, 3 * i, 1, true);
            for (uint64_t j = 1; j < 3; j++) { /* to be cut off in the middle of being written */
                raft_cluster_submit_u64(cluster, node, 3 * i + j, &number, &term);
            }
            world_run_ms(world, rng_below(world_rng(world), 2));
            world_crash(world, node);
            world_run_ms(world, rng_below(world_rng(world), 400));
            world_start(world, node);
        }
        raft_cluster_agree_u64(cluster, 1000, N, true);
        assert_true(world_log_bytes(world, 0) > 0);
        raft_cluster_destroy(&cluster);
    }
}

static void after_an_orderly_stop_nothing_is_lost(void **state)
{
    struct raft_cluster *cluster = begin_with(true, false, 21);
    struct world *world = raft_cluster_world(cluster);
    size_t leader = raft_cluster_check_leader(cluster);
    uint64_t number;
    raft_index last;
    raft_term term;

    (void)state;
    assert_true(raft_cluster_submit_u64(cluster, leader, 1, &number, &term));
    last = raft_last_index(group_raft(world_group(world, leader)));
    world_stop(world, leader); /* not synced yet */
    world_start(world, leader);
    assert_int_equal(raft_last_index(group_raft(world_group(world, leader))), last);
    raft_cluster_agree_u64(cluster, 2, N, true);
    raft_cluster_destroy(&cluster);
}

/* The replica with the fault ends by itself, the others go on, and it comes back. */
static void halts_and_comes_back(bool use_wal, enum world_disk_fault fault, uint64_t seed)
{
    struct raft_cluster *cluster = begin_with(use_wal, true, seed);
    struct world *world = raft_cluster_world(cluster);
    size_t node = follower_of(raft_cluster_check_leader(cluster));

    world_fail_disk(world, node, fault);
    for (uint64_t i = 0; i < 30; i++) {
        raft_cluster_agree_u64(cluster, i, N - 1, true);
    }
    assert_false(world_is_running(world, node));
    assert_non_null(world_halted(world, node));
    assert_null(world_unexplained_halt(world));
    world_start(world, node);
    assert_null(world_halted(world, node));
    raft_cluster_agree_u64(cluster, 99, N, true);
    raft_cluster_destroy(&cluster);
}

static void an_error_of_the_disk_ends_the_replica_alone(void **state)
{
    (void)state;
    halts_and_comes_back(true, WORLD_DISK_WRITE_ERROR, 31);
    halts_and_comes_back(true, WORLD_DISK_SYNC_ERROR, 32);
    halts_and_comes_back(false, WORLD_DISK_WRITE_ERROR, 33);
    halts_and_comes_back(false, WORLD_DISK_SYNC_ERROR, 34);
    halts_and_comes_back(true, WORLD_DISK_STATE_ERROR, 35);
}

static void a_slow_disk_is_slow_and_a_stuck_one_stands_still(void **state)
{
    struct raft_cluster *cluster = begin_with(true, false, 41);
    struct world *world = raft_cluster_world(cluster);
    size_t node = follower_of(raft_cluster_check_leader(cluster));
    uint64_t number, start_us, usual_us;

    (void)state;
    start_us = world_now_us(world);
    raft_cluster_agree_u64(cluster, 1, N, true);
    usual_us = world_now_us(world) - start_us;
    for (size_t i = 0; i < N; i++) {
        world_set_disk(world, i, &(struct world_disk){.slow_factor = 200});
    }
    start_us = world_now_us(world);
    raft_cluster_agree_u64(cluster, 2, N, true);
    assert_true(world_now_us(world) - start_us > usual_us + 15000);
    for (size_t i = 0; i < N; i++) {
        world_set_disk(world, i, &(struct world_disk){.stuck = i == node});
    }
    number = raft_cluster_agree_u64(cluster, 3, N - 1, true);
    raft_cluster_sleep(cluster, 3000);
    assert_int_equal(raft_cluster_applied(cluster, number),
                     N); /* committed, though not on its disk */
    world_set_disk(world, node, &(struct world_disk){0});
    raft_cluster_agree_u64(cluster, 4, N, true);
    assert_true(world_is_running(world, node));
    raft_cluster_destroy(&cluster);
}

static void a_full_disk_makes_read_only_and_ends(bool use_wal, uint64_t seed)
{
    struct raft_cluster *cluster = begin_with(use_wal, true, seed);
    struct world *world = raft_cluster_world(cluster);
    size_t leader = raft_cluster_check_leader(cluster);
    struct looker looker;
    uint64_t number;
    raft_term term;

    look(cluster, &looker, leader);
    for (uint64_t i = 0; i < 5; i++) {
        raft_cluster_agree_u64(cluster, i, N, true);
    }
    world_set_disk(world, leader, &(struct world_disk){.full = true});
    raft_cluster_sleep(cluster, 1);
    assert_true(looker.told_low);
    if (use_wal) { /* mem_log has no room set aside: the next write of any kind ends it */
        assert_true(group_is_read_only(world_group(world, leader)));
    }
    assert_false(raft_cluster_submit_u64(cluster, leader, 100, &number, &term));
    raft_cluster_sleep(cluster, 2000);
    world_set_disk(world, leader, &(struct world_disk){0});
    raft_cluster_sleep(cluster, 6000); /* until it tried to make a checkpoint again */
    if (world_is_running(world, leader)) {
        assert_true(looker.told_room);
        assert_false(group_is_read_only(world_group(world, leader)));
    } else {
        world_start(world, leader);
    }
    raft_cluster_agree_u64(cluster, 101, N, true);
    raft_cluster_destroy(&cluster);
}

static void a_full_disk_refuses_writes_until_there_is_room(void **state)
{
    (void)state;
    a_full_disk_makes_read_only_and_ends(true, 51);
    a_full_disk_makes_read_only_and_ends(false, 52);
}

/* A follower cannot refuse: it writes until it finds no space, and then stops. */
static void a_full_follower_halts_and_comes_back(void **state)
{
    struct raft_cluster *cluster = begin_with(true, false, 53);
    struct world *world = raft_cluster_world(cluster);
    size_t node = follower_of(raft_cluster_check_leader(cluster));
    uint8_t bytes[5000] = {0};

    (void)state;
    world_set_disk(world, node, &(struct world_disk){.full = true});
    for (uint64_t i = 0; i < 60; i++) {
        set_u64(bytes, i);
        raft_cluster_agree(cluster, slice_of(bytes, sizeof(bytes)), N - 1, true);
    }
    assert_false(world_is_running(world, node));
    assert_non_null(strstr(world_halted(world, node), "NO_SPACE"));
    world_set_disk(world, node, &(struct world_disk){0});
    world_start(world, node);
    raft_cluster_agree_u64(cluster, 1000, N, true);
    raft_cluster_destroy(&cluster);
}

static void a_flipped_bit_is_found_or_harmless(void **state)
{
    size_t found = 0, harmless = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct raft_cluster *cluster = begin_with(true, true, seed);
        struct world *world = raft_cluster_world(cluster);
        size_t node = rng_below(world_rng(world), N);

        for (uint64_t i = 0; i < 15; i++) {
            raft_cluster_agree_u64(cluster, i, N, true);
        }
        world_crash(world, node);
        assert_true(world_flip_bit(world, node));
        if (world_try_start(world, node)) {
            harmless++;
            raft_cluster_agree_u64(cluster, 100, N, true);
        } else {
            found++;
            assert_false(world_is_running(world, node));
            raft_cluster_agree_u64(cluster, 100, N - 1, true);
        }
        raft_cluster_destroy(&cluster);
    }
    assert_true(found > 0 && harmless > 0);
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
        cmocka_unit_test(a_wiped_replica_is_not_heard_and_does_no_harm),
        cmocka_unit_test(a_fast_clock_shows_more_time),
        cmocka_unit_test(deadlines_come_by_the_nodes_own_clock),
        cmocka_unit_test(with_the_wal_a_group_lives_through_crashes),
        cmocka_unit_test(after_an_orderly_stop_nothing_is_lost),
        cmocka_unit_test(an_error_of_the_disk_ends_the_replica_alone),
        cmocka_unit_test(a_slow_disk_is_slow_and_a_stuck_one_stands_still),
        cmocka_unit_test(a_full_disk_refuses_writes_until_there_is_room),
        cmocka_unit_test(a_full_follower_halts_and_comes_back),
        cmocka_unit_test(a_flipped_bit_is_found_or_harmless),
        cmocka_unit_test(an_observer_sees_a_life),
        cmocka_unit_test(one_seed_is_one_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
