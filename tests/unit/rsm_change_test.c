/* Orders to change who belongs to a group: how each ends, that links follow, that the new replica
 * has the state, and what a start finds in the midst of it. */
#include "tests/unit/rsm_story.h"

#define WITHIN_MS 5000

static bool has_peer(struct bench *bench, raft_id at, raft_id peer)
{
    const struct bench_replica *replica = bench_replica(bench, at);

    for (size_t i = 0; i < replica->n_peers; i++) {
        if (replica->peers[i] == peer) {
            return true;
        }
    }
    return false;
}

static void change_ok(struct bench *bench, enum group_change_kind kind, raft_id about)
{
    raft_id leader = bench_leader(bench);
    struct bench_call call;

    bench_change(bench, leader, kind, about, &call);
    assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    assert_int_equal(call.status, ST_OK);
    assert_true(call.index <= raft_commit_index(group_raft(bench_replica(bench, leader)->group)));
}

static raft_id add_one(struct bench *bench)
{
    raft_id id = bench_add(bench);

    bench_start(bench, id);
    change_ok(bench, GROUP_ADD_REPLICA, id);
    return id;
}

static void a_replica_is_added_and_has_the_state(void **state)
{
    struct bench *bench = started(3, 1);
    raft_id id;

    (void)state;
    bench_inc(bench);
    bench_inc(bench);
    id = add_one(bench);
    assert_int_equal(bench_flags(bench, bench_leader(bench), id) & RAFT_LEARNER, RAFT_LEARNER);
    bench_run(bench, 1000);
    assert_int_equal(bench_flags(bench, id, id), RAFT_VOTER);
    bench_inc(bench);
    bench_converge(bench);
    assert_int_equal(bench_counter(bench, id), 3);
    for (raft_id at = 1; at <= 4; at++) { /* all have links to all */
        for (raft_id peer = 1; peer <= 4; peer++) {
            assert_true(has_peer(bench, at, peer));
        }
    }
    bench_destroy(&bench);
}

static void a_replica_joins_by_a_snapshot_and_restarts(void **state)
{
    struct bench *bench = checkpointing(3, 2, 2000);
    struct bench_call call;
    raft_id id;

    (void)state;
    for (int i = 0; i < 50; i++) {
        bench_propose(bench, bench_leader(bench), "pad 100", &call);
        assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    }
    assert_true(raft_first_index(group_raft(bench_replica(bench, 1)->group)) > 3);
    id = add_one(bench);
    bench_run(bench, 2000);
    assert_int_equal(stats(bench, id)->snapshots_installed, 1);
    assert_int_equal(bench_flags(bench, id, id), RAFT_VOTER);
    for (int i = 0; i < 30; i++) { /* a checkpoint of its own */
        bench_propose(bench, bench_leader(bench), "pad 100", &call);
        assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    }
    bench_crash(bench, id, 0);
    bench_start(bench, id);
    assert_int_equal(bench_flags(bench, id, id), RAFT_VOTER);
    assert_true(has_peer(bench, id, 1));
    bench_converge(bench);
    bench_destroy(&bench);
}

static void an_empty_one_waits_for_its_group(void **state)
{
    struct bench *bench = started(3, 3);
    raft_id id = bench_add(bench);

    (void)state;
    bench_start(bench, id);
    assert_int_equal(bench_replica(bench, id)->n_peers, 0); /* whoever comes */
    assert_int_equal(bench_replica(bench, id)->peers_set, 1);
    assert_true(bench_replica(bench, id)->open);
    bench_run(bench, 3000);
    assert_int_equal(raft_last_index(group_raft(bench_replica(bench, id)->group)), 0);
    bench_crash(bench, id, 0);
    bench_start(bench, id);
    change_ok(bench, GROUP_ADD_REPLICA, id);
    bench_run(bench, 1000);
    assert_int_equal(bench_flags(bench, id, id), RAFT_VOTER);
    bench_destroy(&bench);
}

static void a_removal_ends_with_the_final_configuration(void **state)
{
    struct bench *bench = started(3, 4);
    raft_id leader = bench_leader(bench), other = bench_other(bench, leader);
    raft_index before = raft_last_index(group_raft(bench_replica(bench, leader)->group));
    struct bench_call call;

    (void)state;
    bench_change(bench, leader, GROUP_REMOVE_REPLICA, other, &call);
    assert_int_equal(call.ended, 0);
    assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    assert_int_equal(call.status, ST_OK);
    assert_int_equal(call.index, before + 2);
    assert_int_equal(bench_flags(bench, leader, other), 0);
    /* It is told, and then its link goes. */
    assert_true(has_peer(bench, leader, other));
    bench_run(bench, 1000);
    assert_int_equal(bench_flags(bench, other, other), 0);
    assert_false(has_peer(bench, leader, other));
    bench_inc(bench);
    bench_destroy(&bench);
}

static void a_leader_that_removes_itself_says_so(void **state)
{
    struct bench *bench = started(3, 5);
    raft_id leader = bench_leader(bench);
    struct bench_call call;

    (void)state;
    bench_change(bench, leader, GROUP_REMOVE_REPLICA, leader, &call);
    assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    assert_int_equal(call.status, ST_OK);
    bench_run(bench, 1000);
    assert_true(bench_leader(bench) != leader);
    assert_int_equal(bench_flags(bench, bench_leader(bench), leader), 0);
    bench_inc(bench);
    bench_converge(bench);
    bench_destroy(&bench);
}

static void orders_that_make_no_sense_are_refused_at_once(void **state)
{
    struct bench *bench = started(3, 6);
    raft_id leader = bench_leader(bench), other = bench_other(bench, leader);
    struct group_change bad = {GROUP_ADD_REPLICA, 9, "no url", 0};
    struct bench_call call, second;

    (void)state;
    bench_change(bench, other, GROUP_REMOVE_REPLICA, leader, &call);
    assert_int_equal(call.status, ST_NOT_LEADER);
    bench_change(bench, leader, GROUP_ADD_REPLICA, other, &call);
    assert_int_equal(call.status, ST_INVALID);
    bench_change(bench, leader, GROUP_REMOVE_REPLICA, 9, &call);
    assert_int_equal(call.status, ST_INVALID);
    bench_change(bench, leader, GROUP_FORCE_ALONE, other, &call);
    assert_int_equal(call.status, ST_INVALID);
    bench_run(bench, 2000);
    bench_change(bench, leader, GROUP_FORCE_ALONE, leader, &call);
    assert_int_equal(call.status, ST_INVALID);
    assert_true(strlen(call.reason) > 0);
    bench_change(bench, leader, (enum group_change_kind)7, other, &call);
    assert_int_equal(call.status, ST_INVALID);
    bench_change(bench, leader, GROUP_REMOVE_REPLICA, other, &call);
    bench_change(bench, leader, GROUP_ADD_REPLICA, 5, &second);
    assert_int_equal(second.status, ST_BUSY);
    assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    memset(&second, 0, sizeof(second));
    (void)bad;
    bench_destroy(&bench);
}

static void a_change_whose_leader_is_cut_off_ends_unknown(void **state)
{
    struct bench *bench = started(3, 7);
    raft_id leader = bench_leader(bench), id = bench_add(bench);
    struct bench_call call;

    (void)state;
    bench_replica(bench, leader)->cut = true;
    bench_change(bench, leader, GROUP_ADD_REPLICA, id, &call);
    assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    assert_int_equal(call.status, ST_UNKNOWN);
    bench_inc(bench); /* by another leader */
    bench_replica(bench, leader)->cut = false;
    bench_converge(bench);
    assert_int_equal(bench_flags(bench, leader, id), 0);
    bench_destroy(&bench);
}

static void a_group_that_ends_tells_what_waits(void **state)
{
    struct bench *bench = started(3, 8);
    raft_id leader = bench_leader(bench);
    struct io_event stop = {.type = IO_EVENT_STOP};
    struct bench_call call, late;

    (void)state;
    bench_change(bench, leader, GROUP_REMOVE_REPLICA, bench_other(bench, leader), &call);
    bench_event(bench, leader, &stop);
    bench_change(bench, leader, GROUP_ADD_REPLICA, 5, &late);
    assert_int_equal(late.status, ST_SHUTDOWN);
    bench_crash(bench, leader, 0);
    assert_int_equal(call.ended, 1);
    assert_int_equal(call.status, ST_UNKNOWN);
    bench_destroy(&bench);
}

static void all_restart_in_the_midst_of_a_removal(void **state)
{
    struct bench *bench = started(3, 9);
    raft_id leader = bench_leader(bench), other = bench_other(bench, leader);
    struct bench_call call;

    (void)state;
    bench_inc(bench);
    bench_change(bench, leader, GROUP_REMOVE_REPLICA, other, &call);
    bench_run(bench, 2);
    for (raft_id id = 1; id <= 3; id++) {
        bench_crash(bench, id, 9);
    }
    assert_int_equal(call.ended, 1);
    bench_start_all(bench);
    bench_run(bench, 2000);
    assert_false(raft_configuration_is_joint(
        raft_latest_configuration(group_raft(bench_replica(bench, bench_leader(bench))->group))));
    bench_inc(bench);
    bench_converge(bench);
    bench_destroy(&bench);
}

static void a_lost_replica_is_taken_back_as_another_one(void **state)
{
    struct bench *bench = started(3, 10);
    raft_id leader = bench_leader(bench), lost = bench_other(bench, leader);
    const struct group *group;

    (void)state;
    bench_inc(bench);
    bench_crash(bench, lost, 0);
    bench_wipe(bench, lost);
    bench_run(bench, 500);
    leader = bench_leader(bench);
    group = bench_replica(bench, leader)->group;
    /* Until it is removed, whoever was met first under the id is the one. */
    assert_int_equal(group_pinned_incarnation(group, lost, 42), 42);
    change_ok(bench, GROUP_REMOVE_REPLICA, lost);
    assert_int_equal(group_pinned_incarnation(group, lost, 42), 0);
    bench_start(bench, lost);
    change_ok(bench, GROUP_ADD_REPLICA, lost);
    assert_int_equal(group_pinned_incarnation(group, lost, 42), 42);
    bench_run(bench, 1000);
    assert_int_equal(bench_flags(bench, leader, lost), RAFT_VOTER);
    /* Promoted, it is named: whatever was believed before. */
    assert_int_equal(group_pinned_incarnation(group, lost, 42),
                     bench_replica(bench, lost)->incarnation);
    bench_inc(bench);
    bench_converge(bench);
    bench_destroy(&bench);
}

/* A leader that was down while a replica was removed and taken back as another one, and was told of
 * both at once, still believes that it is the first one. */
static void a_learner_is_promoted_by_a_leader_that_missed_the_removal(void **state)
{
    struct bench *bench = started(3, 13);
    raft_id leader = bench_leader(bench), lost = bench_other(bench, leader);
    uint64_t before = bench_replica(bench, lost)->incarnation;

    (void)state;
    bench_crash(bench, lost, 0);
    bench_wipe(bench, lost);
    bench_run(bench, 500);
    change_ok(bench, GROUP_REMOVE_REPLICA, lost);
    change_ok(bench, GROUP_ADD_REPLICA, lost);
    leader = bench_leader(bench);
    group_pin_incarnation(bench_replica(bench, leader)->group, lost, before);
    bench_start(bench, lost);
    bench_run(bench, 1000);
    assert_int_equal(bench_leader(bench), leader);
    assert_int_equal(bench_flags(bench, leader, lost), RAFT_VOTER);
    bench_inc(bench);
    bench_converge(bench);
    bench_destroy(&bench);
}

/* Its peers may all have been replaced while it was away. */
static void one_that_finds_no_leader_listens_to_others(void **state)
{
    struct bench *bench = started(3, 12);
    raft_id away = bench_other(bench, bench_leader(bench));

    (void)state;
    bench_run(bench, 100);
    assert_false(bench_replica(bench, away)->open);
    bench_replica(bench, away)->cut = true;
    bench_run(bench, 1000);
    assert_false(bench_replica(bench, away)->open);
    bench_run(bench, 4000);
    assert_true(bench_replica(bench, away)->open);
    assert_int_equal(bench_replica(bench, away)->n_peers, 3);
    bench_replica(bench, away)->cut = false;
    bench_run(bench, 1000);
    assert_false(bench_replica(bench, away)->open);
    bench_destroy(&bench);
}

static void one_that_is_left_goes_on_alone(void **state)
{
    struct bench *bench = started(3, 11);
    struct bench_call call;

    (void)state;
    assert_int_equal(bench_inc(bench), 1);
    bench_converge(bench);
    bench_crash(bench, 1, 0);
    bench_crash(bench, 2, 0);
    bench_run(bench, 3000);
    bench_propose(bench, 3, "inc", &call);
    bench_run(bench, 10);
    assert_int_equal(call.status, ST_NOT_LEADER);
    bench_change(bench, 3, GROUP_FORCE_ALONE, 3, &call);
    assert_true(bench_run_until_ended(bench, &call, WITHIN_MS));
    assert_int_equal(call.status, ST_OK);
    assert_int_equal(bench_inc(bench), 2);
    bench_wipe(bench, 1);
    bench_start(bench, 1);
    change_ok(bench, GROUP_ADD_REPLICA, 1);
    bench_run(bench, 1000);
    assert_int_equal(bench_flags(bench, 3, 1), RAFT_VOTER);
    bench_inc(bench);
    bench_converge(bench);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_is_added_and_has_the_state),
        cmocka_unit_test(a_replica_joins_by_a_snapshot_and_restarts),
        cmocka_unit_test(an_empty_one_waits_for_its_group),
        cmocka_unit_test(a_removal_ends_with_the_final_configuration),
        cmocka_unit_test(a_leader_that_removes_itself_says_so),
        cmocka_unit_test(orders_that_make_no_sense_are_refused_at_once),
        cmocka_unit_test(a_change_whose_leader_is_cut_off_ends_unknown),
        cmocka_unit_test(a_group_that_ends_tells_what_waits),
        cmocka_unit_test(all_restart_in_the_midst_of_a_removal),
        cmocka_unit_test(a_lost_replica_is_taken_back_as_another_one),
        cmocka_unit_test(a_learner_is_promoted_by_a_leader_that_missed_the_removal),
        cmocka_unit_test(one_that_finds_no_leader_listens_to_others),
        cmocka_unit_test(one_that_is_left_goes_on_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
