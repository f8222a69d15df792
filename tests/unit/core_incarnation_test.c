/* Who lost its disk is another replica under an old id: its answers do not count, it does not stand
 * for election, and it is taken back by a removal and an addition. And the last resort: a replica
 * that is left alone. */
#include "tests/unit/core_change_story.h"

/* ---- Incarnations ---- */

/* 3 was removed, lost its disk, and was taken back under its id. */
static void a_lost_replica_comes_back_under_its_id(void **state)
{
    struct cores *cores = cores_led(3, 20);

    (void)state;
    cores_crash(cores, 3);
    cores_run(cores, 500);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 3), ST_OK);
    cores_run(cores, 500);
    cores_wipe(cores, 3);
    cores_start(cores, 3);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 3), ST_OK);
    cores_run(cores, 1500);
    assert_int_equal(cores_flags(cores, 1, 3), RAFT_VOTER);
    assert_int_equal(
        raft_configuration_find(raft_latest_configuration(core_of(cores, 2)), 3)->incarnation,
        cores->nodes[3].incarnation);
    propose_settled(cores, 1, 1);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* A replica that the configuration names lost its disk: what it says does not count. */
static struct cores *cores_with_a_named_one_lost(uint64_t seed)
{
    struct cores *cores = cores_led(2, seed);
    raft_id id = add_started(cores, 1);

    cores_run(cores, 1000);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER);
    cores_crash(cores, id);
    cores_wipe(cores, id);
    cores_start(cores, id);
    return cores;
}

static void acknowledgements_of_another_incarnation_do_not_count(void **state)
{
    struct cores *cores = cores_with_a_named_one_lost(21);
    raft_index commit = raft_commit_index(core_of(cores, 1));

    (void)state;
    cores_isolate(cores, 2);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_run(cores, 250);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), commit);
    cores_run(cores, 1000); /* nor do they keep a leader in office */
    assert_true(raft_role(core_of(cores, 1)) != RAFT_LEADER);
    cores_destroy(cores);
}

static void votes_of_another_incarnation_do_not_count(void **state)
{
    struct cores *cores = cores_with_a_named_one_lost(22);

    (void)state;
    cores_crash(cores, 1);
    cores_run(cores, 5000);
    assert_int_equal(cores_leader(cores), 0);
    assert_int_equal(raft_current_term(core_of(cores, 2)), 2);
    cores_destroy(cores);
}

/* It is told the group's history, entry by entry, and stops where a replica of its id was a voter.
 */
static void one_that_lost_its_disk_does_not_stand_for_election(void **state)
{
    struct cores *cores = cores_create_empty(2, 23);
    raft_id id;

    (void)state;
    cores->options.max_message_bytes = 1;
    cores->options.max_inflight_messages = 1;
    cores_start_all(cores);
    cores_elect(cores, 1);
    id = add_started(cores, 1);
    cores_run(cores, 1000);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER);
    cores_crash(cores, id);
    cores_run(cores, 400);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, id), ST_OK);
    cores_run(cores, 400);
    cores_wipe(cores, id);
    cores_start(cores, id);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, id), ST_OK);
    for (int bound = 0; cores_flags(cores, id, id) != RAFT_VOTER; bound++) {
        assert_true(bound < 1000);
        for (raft_id at = 1; at <= 3; at++) {
            cores_persist(cores, at);
        }
        cores_deliver(cores, 0, false);
    }
    cores_persist(cores, id);
    cores_crash(cores, 1);
    cores_crash(cores, 2);
    cores_drop_all(cores);
    cores_run(cores, 5000);
    assert_int_equal(raft_role(core_of(cores, id)), RAFT_FOLLOWER);
    assert_int_equal(cores->n_flying, 0); /* it asked nobody */
    cores_start(cores, 1);
    cores_start(cores, 2);
    cores_run(cores, 5000);
    assert_int_equal(cores_flags(cores, 2, id), RAFT_VOTER);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_learner_is_who_it_was_at_first_contact(void **state)
{
    struct cores *cores = cores_led(3, 24);
    raft_id id = add_with_stuck_disk(cores, 1); /* met, but it acknowledged nothing */

    (void)state;
    cores_run(cores, 300);
    cores_crash(cores, id);
    cores_wipe(cores, id);
    cores_start(cores, id);
    cores->nodes[id].slow_disk = false;
    cores_run(cores, 3000);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_LEARNER);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, id), ST_OK);
    cores_settle(cores);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, id), ST_OK);
    cores_run(cores, 3000);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER);
    cores_destroy(cores);
}

/* A replica that joined and was told of a term only must not make a first entry of its own when it
 * is started as one that founds the group. */
static void one_that_joined_makes_no_first_entry(void **state)
{
    struct cores *cores = cores_led(3, 25);
    raft_id id = add_started(cores, 1);
    struct raft_message message = {.type = RAFT_MESSAGE_HEARTBEAT, .from = 1, .to = id, .term = 2};

    (void)state;
    cores_drop_all(cores);
    cores_inject(cores, &message);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 1, id);
    cores_persist(cores, id);
    assert_int_equal(raft_current_term(core_of(cores, id)), 2);
    cores_crash(cores, id);
    cores->nodes[id].joins = false;
    cores_start(cores, id);
    assert_int_equal(raft_last_index(core_of(cores, id)), 0);
    cores_run(cores, 1000);
    assert_int_equal(cores_flags(cores, id, id), RAFT_VOTER);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* ---- The last resort ---- */

static void a_replica_left_alone_goes_on_by_itself(void **state)
{
    struct cores *cores = cores_led(3, 26);
    raft_term term;
    raft_id id;

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_FORCE_ALONE, 1), ST_BUSY);
    cores_run(cores, 3000);
    for (id = 1; id <= 3; id++) { /* a majority is heard from, by the leader and by the others */
        assert_int_equal(cores_configure(cores, id, RAFT_CHANGE_FORCE_ALONE, id), ST_INVALID);
    }
    term = raft_current_term(core_of(cores, 2));
    cores_crash(cores, 1);
    cores_crash(cores, 3);
    cores->forced = true;
    cores->static_members = false;
    assert_int_equal(cores_configure(cores, 2, RAFT_CHANGE_FORCE_ALONE, 2), ST_INVALID);
    cores_run(cores, 3000);
    assert_int_equal(cores_leader(cores), 0);
    assert_int_equal(cores_configure(cores, 2, RAFT_CHANGE_FORCE_ALONE, 2), ST_OK);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    assert_true(raft_current_term(core_of(cores, 2)) > term + 100);
    assert_int_equal(raft_latest_configuration(core_of(cores, 2))->n, 1);
    propose_settled(cores, 2, 2);
    /* And grows again. */
    cores_wipe(cores, 3);
    cores_start(cores, 3);
    assert_int_equal(cores_configure(cores, 2, RAFT_CHANGE_ADD, 3), ST_OK);
    cores_run(cores, 1000);
    assert_int_equal(cores_flags(cores, 3, 3), RAFT_VOTER);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void only_a_voter_of_more_than_one_is_left_alone(void **state)
{
    struct cores *cores = cores_led(1, 27);
    raft_id id = cores_add_node(cores);

    (void)state;
    cores_start(cores, id);
    cores_run(cores, 3000);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_FORCE_ALONE, 1), ST_INVALID);
    assert_int_equal(cores_configure(cores, id, RAFT_CHANGE_FORCE_ALONE, id), ST_INVALID);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_replica_comes_back_under_its_id),
        cmocka_unit_test(acknowledgements_of_another_incarnation_do_not_count),
        cmocka_unit_test(votes_of_another_incarnation_do_not_count),
        cmocka_unit_test(one_that_lost_its_disk_does_not_stand_for_election),
        cmocka_unit_test(a_learner_is_who_it_was_at_first_contact),
        cmocka_unit_test(one_that_joined_makes_no_first_entry),
        cmocka_unit_test(a_replica_left_alone_goes_on_by_itself),
        cmocka_unit_test(only_a_voter_of_more_than_one_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
