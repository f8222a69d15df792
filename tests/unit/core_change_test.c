/* Replicas come and go (thesis 4): learners that are promoted by themselves, joint changes that
 * outlive their leader, and leaders that are removed. */
#include "tests/unit/core_change_story.h"

#define VOTER_BOTH (RAFT_VOTER | RAFT_VOTER_OLD)

/* ---- Coming ---- */

static void a_replica_is_added_catches_up_and_is_promoted(void **state)
{
    struct cores *cores = cores_led(3, 1);
    raft_id id = add_started(cores, 1);

    (void)state;
    assert_int_equal(cores_flags(cores, 1, id), RAFT_LEARNER);
    cores_run(cores, 1000);
    for (raft_id at = 1; at <= 4; at++) {
        assert_int_equal(cores_flags(cores, at, id), RAFT_VOTER);
        assert_false(is_joint(cores, at));
    }
    /* Under the incarnation as which it was met. */
    assert_int_equal(
        raft_configuration_find(raft_latest_configuration(core_of(cores, 1)), id)->incarnation,
        cores->nodes[id].incarnation);
    propose_settled(cores, 1, 2);
    cores_assert_converged(cores);
    /* It counts: of four, three are needed. */
    cores_isolate(cores, 2);
    propose_settled(cores, 1, 1);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), raft_last_index(core_of(cores, 1)));
    cores_isolate(cores, id);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), raft_last_index(core_of(cores, 1)) - 1);
    cores_destroy(cores);
}

/* A promotion may follow in the very step of a proposal: its entry comes behind. */
static void a_proposal_is_told_its_own_place(void **state)
{
    struct cores *cores = cores_led(3, 29);
    raft_id id = add_started(cores, 1);
    raft_index place;

    (void)state;
    for (int bound = 0; cores_progress(cores, 1, id).match_index == 0; bound++) {
        assert_true(bound < 100);
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        place = cores->last.first_index;
        assert_int_equal(raft_entry_at(core_of(cores, 1), place)->type, RAFT_ENTRY_COMMAND);
        cores_settle(cores);
    }
    for (int i = 0; i < 50; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        place = cores->last.first_index;
        assert_int_equal(raft_entry_at(core_of(cores, 1), place)->type, RAFT_ENTRY_COMMAND);
        cores_run(cores, 3);
    }
    cores_destroy(cores);
}

/* A round that lasted too long ends with an acknowledgement, and the next one, for which there is
 * nothing to send, ends with whatever comes next: here a proposal, whose entry is before that of
 * the promotion. */
static void a_proposal_that_a_promotion_follows_is_told_its_own_place(void **state)
{
    struct cores *cores = cores_led(3, 30);
    raft_id id = add_with_stuck_disk(cores, 1);
    raft_index last;

    (void)state;
    cores_run(cores, 400); /* the first round: longer than an election timeout */
    cores_persist(cores, id);
    cores->nodes[id].slow_disk = false;
    for (int bound = 0;
         cores_progress(cores, 1, id).match_index < raft_last_index(core_of(cores, 1)); bound++) {
        size_t at = cores_find(cores, 0, id, 1);

        assert_true(bound < 100);
        if (at == SIZE_MAX) {
            at = cores_find(cores, 0, 1, id);
        }
        if (at == SIZE_MAX) {
            cores_persist(cores, id);
        } else {
            cores_deliver(cores, at, false);
        }
    }
    assert_int_equal(cores_flags(cores, 1, id), RAFT_LEARNER);
    last = raft_last_index(core_of(cores, 1));
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER); /* in this step */
    assert_int_equal(raft_last_index(core_of(cores, 1)), last + 2);
    assert_int_equal(cores->last.first_index, last + 1);
    cores_run(cores, 1000);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void one_replica_grows_to_three(void **state)
{
    struct cores *cores = cores_led(1, 2);

    (void)state;
    for (int i = 0; i < 2; i++) {
        raft_id id = add_started(cores, 1);

        cores_run(cores, 1000);
        assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER);
    }
    cores_crash(cores, 1);
    cores_run(cores, 3000);
    assert_true(cores_leader(cores) >= 2);
    propose_settled(cores, cores_leader(cores), 1);
    cores_destroy(cores);
}

static void a_replica_joins_by_a_snapshot(void **state)
{
    struct cores *cores = cores_led(3, 3);
    raft_id id;

    (void)state;
    for (raft_id at = 1; at <= 3; at++) {
        cores_checkpoint(cores, at);
    }
    assert_true(raft_first_index(core_of(cores, 1)) > 2);
    id = add_started(cores, 1);
    cores_run(cores, 2000);
    assert_int_equal(cores->nodes[id].snapshots_installed, 1);
    assert_int_equal(cores_flags(cores, id, id), RAFT_VOTER);
    cores_assert_converged(cores);
    /* What it knows of the group survives in its own checkpoint. */
    cores_checkpoint(cores, id);
    cores_crash(cores, id);
    cores_start(cores, id);
    assert_int_equal(cores_flags(cores, id, id), RAFT_VOTER);
    cores_run(cores, 1000);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_learner_is_promoted_only_once_it_has_caught_up(void **state)
{
    struct cores *cores = cores_led(3, 4);
    raft_id id = add_with_stuck_disk(cores, 1); /* it is heard, but acknowledges nothing */

    (void)state;
    for (int i = 0; i < 20; i++) {
        cores_run(cores, 100);
        assert_int_equal(cores_propose(cores, 1), ST_OK);
    }
    assert_int_equal(cores_flags(cores, 1, id), RAFT_LEARNER);
    assert_true(cores_progress(cores, 1, id).recent_active);
    cores->nodes[id].slow_disk = false;
    cores_run(cores, 2000);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER);
    cores_destroy(cores);
}

static void a_learner_whose_rounds_last_too_long_stays_one(void **state)
{
    struct cores *cores = cores_led(3, 5);
    raft_id id = add_with_stuck_disk(cores, 1);

    (void)state;
    /* Its disk is behind by more than an election timeout, for ten rounds and a pause. */
    for (int i = 0; i < 14; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_run(cores, 400);
        cores_persist(cores, id);
        assert_int_equal(cores_propose(cores, 1), ST_OK);
    }
    assert_int_equal(cores_flags(cores, 1, id), RAFT_LEARNER);
    cores->nodes[id].slow_disk = false;
    cores_run(cores, 10000); /* a pause may have to end */
    assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER);
    cores_destroy(cores);
}

static void a_learner_that_is_not_there_holds_nothing_up(void **state)
{
    struct cores *cores = cores_led(3, 6);
    raft_id id = cores_add_node(cores);

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, id), ST_OK);
    cores_run(cores, 3000);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_LEARNER);
    assert_int_equal(cores_transfer(cores, 1, id), ST_INVALID);
    propose_settled(cores, 1, 1);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, id), ST_OK);
    assert_false(is_joint(cores, 1));
    cores_settle(cores);
    assert_int_equal(raft_latest_configuration(core_of(cores, 3))->n, 3);
    cores_destroy(cores);
}

/* ---- Rules ---- */

static void a_change_waits_for_the_leaders_term(void **state)
{
    struct cores *cores = cores_create(3, 7);

    (void)state;
    cores_add_node(cores);
    cores_timeout(cores, 1);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    cores_persist(cores, 1);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 3); /* the pre-vote */
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 2);
    cores_persist(cores, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    /* Its configuration is committed for all it knows, its term is not. */
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 4), ST_BUSY);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 3), ST_BUSY);
    assert_int_equal(cores_configure(cores, 2, RAFT_CHANGE_ADD, 4), ST_NOT_LEADER);
    cores_settle(cores);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 4), ST_OK);
    cores_destroy(cores);
}

/* A leader of a term in which it committed nothing yet, whose configuration is long committed. */
static void a_new_leader_waits_though_everything_old_is_committed(void **state)
{
    struct cores *cores = cores_led(3, 8);

    (void)state;
    cores_add_node(cores);
    cores_run(cores, 100);
    cores_assert_converged(cores);
    cores_isolate(cores, 1);
    cores_timeout(cores, 2);
    for (int i = 0; i < 8 && raft_role(core_of(cores, 2)) != RAFT_LEADER; i++) {
        cores_persist(cores, 2);
        cores_persist(cores, 3);
        if (cores_find(cores, RAFT_MESSAGE_REQUEST_VOTE, 2, 3) != SIZE_MAX) {
            cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 2, 3);
        } else if (cores_find(cores, RAFT_MESSAGE_VOTE_REPLY, 3, 2) != SIZE_MAX) {
            cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 3, 2);
        }
    }
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    assert_false(raft_leader_ready(core_of(cores, 2)));
    assert_true(raft_commit_index(core_of(cores, 2)) >=
                raft_configuration_index(core_of(cores, 2)));
    assert_int_equal(cores_configure(cores, 2, RAFT_CHANGE_ADD, 4), ST_BUSY);
    cores_destroy(cores);
}

static void one_change_at_a_time(void **state)
{
    struct cores *cores = cores_led(5, 9);

    (void)state;
    cores_add_node(cores);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 5), ST_OK);
    assert_true(is_joint(cores, 1));
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 4), ST_BUSY);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 6), ST_BUSY);
    /* Committed, the joint one is followed by the final one, which is not committed yet. */
    for (raft_id id = 2; id <= 4; id++) {
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, id);
        cores_persist(cores, id);
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, id, 1);
    }
    assert_false(is_joint(cores, 1));
    assert_true(raft_configuration_index(core_of(cores, 1)) > raft_commit_index(core_of(cores, 1)));
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 4), ST_BUSY);
    cores_settle(cores);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 4), ST_OK);
    cores_settle(cores);
    assert_int_equal(raft_latest_configuration(core_of(cores, 2))->n, 3);
    cores_destroy(cores);
}

/* An order means the configuration that somebody looked at. One that comes late, after the replica
 * was removed and another one added under its id, removes nobody. */
static void a_change_means_one_configuration(void **state)
{
    struct cores *cores = cores_led(3, 21);
    struct raft_event event = {.type = RAFT_EVENT_CONFIGURE,
                               .change = {.kind = RAFT_CHANGE_REMOVE, .id = 3}};
    raft_index looked_at = raft_configuration_index(core_of(cores, 1));

    (void)state;
    event.change.configuration_index = looked_at + 1; /* of a leader that nobody followed */
    cores_step(cores, 1, &event);
    assert_int_equal(cores->last.status, ST_CONFLICT);
    event.change.configuration_index = looked_at;
    cores_step(cores, 1, &event);
    assert_int_equal(cores->last.status, ST_OK);
    cores_step(cores, 1, &event); /* not yet known what the configuration will be */
    assert_int_equal(cores->last.status, ST_BUSY);
    cores_settle(cores);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 3), ST_OK);
    cores_settle(cores);
    cores_step(cores, 1, &event);
    assert_int_equal(cores->last.status, ST_CONFLICT);
    assert_true(strlen(cores->last.reason) > 0);
    event.change = (struct raft_change){RAFT_CHANGE_ADD, 4, "tcp://node4:7000", looked_at};
    cores_step(cores, 1, &event);
    assert_int_equal(cores->last.status, ST_CONFLICT);
    cores_settle(cores);
    assert_non_null(raft_configuration_find(raft_latest_configuration(core_of(cores, 2)), 3));
    cores_destroy(cores);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct cores *cores = cores_led(2, 10);
    struct raft_event event = {.type = RAFT_EVENT_CONFIGURE};

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 2), ST_INVALID);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 0), ST_INVALID);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 256), ST_INVALID);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 3), ST_INVALID);
    event.change = (struct raft_change){RAFT_CHANGE_ADD, 3, "tcp://node2:7000", 0};
    cores_step(cores, 1, &event);
    assert_int_equal(cores->last.status, ST_INVALID);
    event.change.address = "";
    cores_step(cores, 1, &event);
    assert_int_equal(cores->last.status, ST_INVALID);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 2), ST_OK);
    cores_settle(cores);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 1), ST_INVALID);
    for (raft_id id = 11; id < 19; id++) {
        assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, id), ST_OK);
        cores_drop_all(cores);
        cores_settle(cores);
    }
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_ADD, 19), ST_INVALID);
    cores_destroy(cores);
}

static void a_change_may_not_break_the_quorum(void **state)
{
    struct cores *cores = cores_led(3, 11);

    (void)state;
    cores_crash(cores, 3);
    cores_run(cores, 1000);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    /* Of 1 and 3, one would not answer; of 1 and 2, both do. */
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 2), ST_UNAVAILABLE);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 3), ST_OK);
    cores_run(cores, 1000);
    assert_int_equal(raft_latest_configuration(core_of(cores, 2))->n, 2);
    propose_settled(cores, 1, 1);
    cores_destroy(cores);
}

/* ---- Going ---- */

static void a_voter_is_removed_by_a_joint_configuration(void **state)
{
    struct cores *cores = cores_led(3, 12);

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 3), ST_OK);
    assert_int_equal(cores_flags(cores, 1, 1), VOTER_BOTH);
    assert_int_equal(cores_flags(cores, 1, 3), RAFT_VOTER_OLD);
    /* 1 and 3 are a majority of the old ones only. */
    cores_cut(cores, 1, 2);
    cores_settle(cores);
    assert_true(is_joint(cores, 1));
    cores_heal(cores);
    cores_run(cores, 200);
    assert_int_equal(raft_latest_configuration(core_of(cores, 1))->n, 2);
    /* It was told, so it does not stand for election any more. */
    assert_int_equal(cores_flags(cores, 3, 3), 0);
    assert_int_equal(raft_commit_index(core_of(cores, 3)),
                     raft_configuration_index(core_of(cores, 3)));
    cores_run(cores, 5000);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_FOLLOWER);
    assert_int_equal(cores_leader(cores), 1);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    propose_settled(cores, 1, 1);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_removed_replica_that_was_not_told_disturbs_nobody(void **state)
{
    struct cores *cores = cores_led(4, 13);

    (void)state;
    cores_isolate(cores, 4);
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 4), ST_OK);
    cores_run(cores, 1000);
    assert_int_equal(raft_latest_configuration(core_of(cores, 1))->n, 3);
    cores_heal(cores);
    cores_run(cores, 5000);
    assert_int_equal(cores_flags(cores, 4, 4), RAFT_VOTER); /* for all it knows */
    assert_int_equal(cores_leader(cores), 1);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    assert_int_equal(raft_current_term(core_of(cores, 4)), 2);
    cores_destroy(cores);
}

/* ---- Leaders change in the midst of it ---- */

static void the_next_leader_finishes_a_joint_change(void **state)
{
    struct cores *cores = cores_led(4, 17);

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 4), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    cores_persist(cores, 2);
    cores_crash(cores, 1); /* only 2 has it, and it is not committed */
    cores_drop_all(cores);
    cores_elect(cores, 2);
    cores_run(cores, 500);
    assert_int_equal(raft_latest_configuration(core_of(cores, 3))->n, 3);
    assert_int_equal(cores_flags(cores, 2, 4), 0);
    cores_start(cores, 1);
    cores_run(cores, 1000);
    assert_int_equal(raft_latest_configuration(core_of(cores, 1))->n, 3);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_change_that_the_next_leader_never_saw_is_void(void **state)
{
    struct cores *cores = cores_led(3, 18);
    raft_id id = add_started(cores, 1);

    (void)state;
    cores_persist(cores, 1);
    cores_drop_all(cores); /* nobody heard of it */
    cores_isolate(cores, 1);
    cores_elect(cores, 2);
    propose_settled(cores, 2, 1);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_LEARNER);
    cores_heal(cores);
    cores_run(cores, 500);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(cores_flags(cores, 1, id), 0);
    assert_int_equal(raft_latest_configuration(core_of(cores, 1))->n, 3);
    /* And can be made again. */
    assert_int_equal(cores_configure(cores, 2, RAFT_CHANGE_ADD, id), ST_OK);
    cores_run(cores, 1000);
    assert_int_equal(cores_flags(cores, 1, id), RAFT_VOTER);
    cores_destroy(cores);
}

static void everybody_restarts_in_the_midst_of_a_change(void **state)
{
    struct cores *cores = cores_led(3, 19);

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 3), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 3);
    for (raft_id id = 1; id <= 3; id++) {
        cores_persist(cores, id);
        cores_crash(cores, id);
    }
    cores_drop_all(cores);
    for (raft_id id = 1; id <= 3; id++) {
        cores_start(cores, id);
        assert_true(is_joint(cores, id));
    }
    cores_run(cores, 3000);
    assert_true(cores_leader(cores) != 0);
    cores_run(cores, 1000);
    assert_int_equal(raft_latest_configuration(core_of(cores, cores_leader(cores) == 1 ? 1 : 2))->n,
                     2);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_is_added_catches_up_and_is_promoted),
        cmocka_unit_test(a_proposal_is_told_its_own_place),
        cmocka_unit_test(a_proposal_that_a_promotion_follows_is_told_its_own_place),
        cmocka_unit_test(one_replica_grows_to_three),
        cmocka_unit_test(a_replica_joins_by_a_snapshot),
        cmocka_unit_test(a_learner_is_promoted_only_once_it_has_caught_up),
        cmocka_unit_test(a_learner_whose_rounds_last_too_long_stays_one),
        cmocka_unit_test(a_learner_that_is_not_there_holds_nothing_up),
        cmocka_unit_test(a_change_waits_for_the_leaders_term),
        cmocka_unit_test(a_new_leader_waits_though_everything_old_is_committed),
        cmocka_unit_test(one_change_at_a_time),
        cmocka_unit_test(a_change_means_one_configuration),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_change_may_not_break_the_quorum),
        cmocka_unit_test(a_voter_is_removed_by_a_joint_configuration),
        cmocka_unit_test(a_removed_replica_that_was_not_told_disturbs_nobody),
        cmocka_unit_test(the_next_leader_finishes_a_joint_change),
        cmocka_unit_test(a_change_that_the_next_leader_never_saw_is_void),
        cmocka_unit_test(everybody_restarts_in_the_midst_of_a_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
