/* Unit tests of cluster time: stamps grow whatever clocks, leaders and crashes do. */
#include "raft/util/mem.h"
#include "raft/wire.h"
#include "tests/unit/rsm_story.h"

#define HOUR_US (3600ll * 1000000)

/* ---- Stamps ---- */

static void stamps_grow_over_leaders_whose_clocks_jump(void **state)
{
    struct bench *bench = started(3, 15);
    int64_t skews[] = {-5 * HOUR_US / 100, 20 * HOUR_US / 100, 0, -10 * HOUR_US / 100};

    (void)state;
    for (size_t round = 0; round < 8; round++) { /* the bench asserts that stamps grow */
        raft_id leader = bench_leader(bench);
        bench_replica(bench, leader)->skew_us = skews[round % 4];
        bench_inc(bench);
        bench_inc(bench);
        bench_crash(bench, leader, 0);
        bench_inc(bench);
        bench_start(bench, leader);
    }
    bench_converge(bench);
    bench_destroy(&bench);
}

/* The new leader's clock is behind the stamp of an entry that it has, but has not applied yet. */
static void an_entry_is_stamped_above_what_was_applied_before_it(void **state)
{
    struct bench *bench = started(3, 24);
    raft_id old = bench_leader(bench), next = 0;
    struct bench_call ahead, behind;

    (void)state;
    bench_replica(bench, old)->skew_us = HOUR_US;
    bench_replica(bench, old)->deaf = true;
    bench_propose(bench, old, "inc", &ahead);
    bench_run(bench, 10);
    bench_replica(bench, old)->cut = true;
    for (int i = 0; i < 5000 && next == 0; i++) {
        bench_turn(bench);
        for (raft_id id = 1; id <= 3; id++) {
            next = id != old && group_is_leader(bench_replica(bench, id)->group) ? id : next;
        }
    }
    bench_propose(bench, next, "inc", &behind);
    assert_true(bench_run_until_ended(bench, &behind, 1000));
    assert_int_equal(behind.status, ST_OK);
    assert_string_equal(behind.result, "2");
    assert_true(group_last_stamp(bench_replica(bench, next)->group) > (uint64_t)HOUR_US);
    bench_replica(bench, old)->cut = bench_replica(bench, old)->deaf = false;
    bench_converge(bench); /* the bench asserts the same stamps everywhere */
    bench_destroy(&bench);
}

static void stamps_survive_a_restart_of_everybody(void **state)
{
    struct bench *bench = bench_create(3, 16);
    uint64_t before;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 1;
    bench_start_all(bench);
    for (raft_id id = 1; id <= 3; id++) {
        bench_replica(bench, id)->skew_us = HOUR_US;
    }
    bench_inc(bench);
    bench_converge(bench);
    bench_run(bench, 100);
    before = group_last_stamp(bench_replica(bench, 1)->group);
    assert_true(before > (uint64_t)HOUR_US);
    for (raft_id id = 1; id <= 3; id++) {
        bench_crash(bench, id, 0);
        bench_replica(bench, id)->skew_us = 0; /* and the clocks jump back by an hour */
    }
    bench_start_all(bench);
    bench_inc(bench);
    assert_true(group_last_stamp(bench_replica(bench, bench_leader(bench))->group) > before);
    bench_destroy(&bench);
}

static void min_stamp_and_the_services_floor_bound_a_stamp(void **state)
{
    struct bench *bench = started(1, 17);
    struct group *group = bench_replica(bench, 1)->group;
    struct bench_call call;
    uint64_t wanted;

    (void)state;
    bench_inc(bench);
    wanted = group_last_stamp(group) + HOUR_US;
    bench_propose_stamped(bench, 1, "inc", wanted, &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_true(group_last_stamp(group) == wanted + 1);
    bench_replica(bench, 1)->floor = wanted + HOUR_US;
    bench_inc(bench);
    assert_true(group_last_stamp(group) >= wanted + HOUR_US);
    bench_destroy(&bench);
}

static void a_min_stamp_far_in_the_future_is_refused(void **state)
{
    struct bench *bench = started(1, 18);
    struct group *group = bench_replica(bench, 1)->group;
    struct bench_call far, near;

    (void)state;
    bench_inc(bench);
    bench_propose_stamped(bench, 1, "inc", group_last_stamp(group) + 2 * SESSION_MAX_AHEAD_US,
                          &far);
    bench_propose_stamped(bench, 1, "inc", group_last_stamp(group), &near);
    assert_true(bench_run_until_ended(bench, &near, 100));
    assert_int_equal(far.status, ST_INVALID);
    assert_int_equal(near.status, ST_OK);
    assert_int_equal(bench_counter(bench, 1), 2);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stamps_grow_over_leaders_whose_clocks_jump),
        cmocka_unit_test(an_entry_is_stamped_above_what_was_applied_before_it),
        cmocka_unit_test(stamps_survive_a_restart_of_everybody),
        cmocka_unit_test(min_stamp_and_the_services_floor_bound_a_stamp),
        cmocka_unit_test(a_min_stamp_far_in_the_future_is_refused),
    };

    return cmocka_run_group_tests_name("rsm_stamp", tests, NULL, NULL);
}
