/* Leadership transfer (thesis 3.10), asked for or because the leader's own disk is slow. */
#include "tests/unit/core_harness.h"

static void leadership_moves_at_once_and_skips_the_pre_vote(void **state)
{
    struct world *world = world_create(3, 1);
    uint64_t votes;

    (void)state;
    world_elect(world, 1);
    votes = world->n_sent[RAFT_MESSAGE_REQUEST_VOTE];
    assert_int_equal(world_transfer(world, 1, 2), ST_OK);
    world_settle(world); /* the others heard the leader this very moment: the flag overrides it */
    assert_int_equal(raft_role(core_of(world, 2)), RAFT_LEADER);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_FOLLOWER);
    assert_int_equal(world->n_sent[RAFT_MESSAGE_REQUEST_VOTE] - votes, 2);
    world_destroy(world);
}

static void the_target_is_brought_up_to_date_first(void **state)
{
    struct world *world = world_create(3, 2);

    (void)state;
    world_elect(world, 1);
    world_cut(world, 1, 3);
    world_link(world, 1, 3, false);
    assert_int_equal(world_propose_sized(world, 1, 20, 10), ST_OK);
    world_settle(world);
    assert_int_equal(world_transfer(world, 1, 3), ST_OK);
    world_settle(world);
    assert_int_equal(world->n_sent[RAFT_MESSAGE_TIMEOUT_NOW], 0);
    world_heal(world);
    world_link(world, 1, 3, true);
    world_settle(world);
    assert_int_equal(raft_role(core_of(world, 3)), RAFT_LEADER);
    world_assert_converged(world);
    world_destroy(world);
}

static void no_proposals_while_handing_over_and_again_after_an_abort(void **state)
{
    struct world *world = world_create(3, 3);

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 3);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_settle(world);
    assert_int_equal(world_transfer(world, 1, 3), ST_OK);
    assert_int_equal(world_propose(world, 1), ST_BUSY);
    assert_int_equal(world_transfer(world, 1, 3), ST_OK);   /* the same again */
    assert_int_equal(world_transfer(world, 1, 2), ST_BUSY); /* another one */
    world_run(world, 299);
    assert_int_equal(world_propose(world, 1), ST_BUSY);
    world_run(world, 2);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_settle(world);
    assert_int_equal(raft_commit_index(core_of(world, 1)), 4);
    world_destroy(world);
}

static void a_lost_timeout_now_is_repeated(void **state)
{
    struct world *world = world_create(3, 4);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_transfer(world, 1, 2), ST_OK);
    world_drop(world, world_find(world, RAFT_MESSAGE_TIMEOUT_NOW, 1, 2));
    world_run(world, 120);
    assert_int_equal(raft_role(core_of(world, 2)), RAFT_LEADER);
    world_destroy(world);
}

static void without_a_target_the_most_caught_up_voter_is_chosen(void **state)
{
    struct world *world = world_create(5, 5);

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 2);
    world_isolate(world, 3);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_settle(world);
    assert_int_equal(world_transfer(world, 1, 0), ST_OK);
    world_heal(world);
    world_settle(world);
    assert_int_equal(raft_role(core_of(world, 4)), RAFT_LEADER);
    world_destroy(world);
}

static void bad_requests_are_refused(void **state)
{
    struct world *world = world_create(3, 6);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_transfer(world, 2, 3), ST_NOT_LEADER);
    assert_int_equal(world_transfer(world, 1, 1), ST_INVALID);
    assert_int_equal(world_transfer(world, 1, 77), ST_INVALID);
    world_destroy(world);
}

static void timeout_now_from_an_old_leader_is_ignored(void **state)
{
    struct world *world = world_create(3, 7);
    struct raft_message message = {.type = RAFT_MESSAGE_TIMEOUT_NOW, .from = 3, .to = 2, .term = 2};

    (void)state;
    world_elect(world, 3);
    world_elect(world, 1); /* term 3 */
    world_inject(world, &message);
    world_settle(world);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(world, 2)), 3);
    world_destroy(world);
}

static void reads_stay_linearizable_during_a_transfer(void **state)
{
    struct world *world = world_create(3, 8);
    uint64_t read;

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_transfer(world, 1, 2), ST_OK);
    read = world_read(world, 1);
    /* The target takes over before the round of the read gets anywhere. */
    world_deliver_one(world, RAFT_MESSAGE_TIMEOUT_NOW, 1, 2);
    world_persist(world, 2);
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 2, 3);
    world_persist(world, 3);
    world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, 3, 2);
    assert_int_equal(raft_role(core_of(world, 2)), RAFT_LEADER);
    assert_int_equal(world_propose(world, 2), ST_OK);
    world_settle(world);
    assert_true(world->reads[read].answered);
    assert_int_equal(world->reads[read].status, ST_NOT_LEADER);
    world_destroy(world);
}

/* ---- A slow disk ---- */

static void a_leader_with_a_slow_disk_hands_over(void **state)
{
    struct world *world = world_create(3, 9);

    (void)state;
    world_elect(world, 1);
    world->nodes[1].slow_disk = true;
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_run(world, 299);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    world_run(world, 200);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_FOLLOWER);
    assert_true(world_leader(world) != 0 && world_leader(world) != 1);
    world->nodes[1].slow_disk = false;
    world_run(world, 500);
    world_assert_converged(world);
    world_destroy(world);
}

/* Disks that are slow together must not hand over in circles. */
static void nobody_takes_over_from_a_slow_disk_who_has_one_too(void **state)
{
    struct world *world = world_create(3, 10);

    (void)state;
    world_elect(world, 1);
    for (raft_id id = 1; id <= 3; id++) {
        world->nodes[id].slow_disk = true;
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(world_propose(world, 1), ST_OK);
        world_run(world, 100);
    }
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(world, 1)), 2);
    assert_int_equal(world->n_sent[RAFT_MESSAGE_TIMEOUT_NOW], 0);
    /* As soon as disks work again, one of their replicas takes over. */
    world->nodes[2].slow_disk = false;
    world->nodes[3].slow_disk = false;
    world_run(world, 100);
    assert_int_equal(raft_role(core_of(world, 2)), RAFT_LEADER);
    world_destroy(world);
}

static void an_idle_leader_with_a_quick_disk_stays(void **state)
{
    struct world *world = world_create(3, 11);

    (void)state;
    world_elect(world, 1);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(world_propose(world, 1), ST_OK);
        world_run(world, 100);
    }
    assert_int_equal(raft_current_term(core_of(world, 1)), 2);
    assert_int_equal(world->n_sent[RAFT_MESSAGE_TIMEOUT_NOW], 0);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leadership_moves_at_once_and_skips_the_pre_vote),
        cmocka_unit_test(the_target_is_brought_up_to_date_first),
        cmocka_unit_test(no_proposals_while_handing_over_and_again_after_an_abort),
        cmocka_unit_test(a_lost_timeout_now_is_repeated),
        cmocka_unit_test(without_a_target_the_most_caught_up_voter_is_chosen),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(timeout_now_from_an_old_leader_is_ignored),
        cmocka_unit_test(reads_stay_linearizable_during_a_transfer),
        cmocka_unit_test(a_leader_with_a_slow_disk_hands_over),
        cmocka_unit_test(nobody_takes_over_from_a_slow_disk_who_has_one_too),
        cmocka_unit_test(an_idle_leader_with_a_quick_disk_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
