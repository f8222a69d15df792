/* CheckQuorum (thesis 6.2), PreVote (9.6) and leader stickiness (4.2.3): a leader that nobody hears
 * gives up, and a replica that nobody misses disturbs nobody. */
#include "tests/unit/core_harness.h"

static void a_leader_without_a_majority_steps_down(void **state)
{
    struct world *world = world_create(5, 1);

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 4);
    world_isolate(world, 5);
    world_run(world, 1000);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER); /* three of five */
    world_isolate(world, 3);
    world_run(world, 290);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    world_run(world, 120);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_leader(core_of(world, 1)), 0);
    assert_int_equal(raft_current_term(core_of(world, 1)), 2); /* and its term does not rise */
    world_run(world, 3000);
    assert_int_equal(raft_current_term(core_of(world, 1)), 2);
    world_destroy(world);
}

static void a_leader_that_can_send_but_not_hear_steps_down(void **state)
{
    struct world *world = world_create(3, 2);

    (void)state;
    world_elect(world, 1);
    world_cut(world, 2, 1);
    world_cut(world, 3, 1);
    world_run(world, 2000);
    assert_true(world_leader(world) == 2 || world_leader(world) == 3);
    world_destroy(world);
}

static void a_slow_disk_at_a_follower_is_no_silence(void **state)
{
    struct world *world = world_create(3, 3);

    (void)state;
    world_elect(world, 1);
    world->nodes[2].slow_disk = true;
    world->nodes[3].slow_disk = true;
    for (int i = 0; i < 50; i++) { /* Appends flow, their answers wait for the disks */
        assert_int_equal(world_propose(world, 1), ST_OK);
        world_run(world, 20);
    }
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    world_destroy(world);
}

static void a_replica_that_was_cut_off_returns_without_a_stir(void **state)
{
    struct world *world = world_create(3, 4);

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 3);
    world_run(world, 5000); /* many timeouts */
    assert_int_equal(raft_current_term(core_of(world, 3)), 2);
    assert_int_equal(raft_role(core_of(world, 3)), RAFT_PRE_CANDIDATE);
    world_heal(world);
    world_run(world, 1000);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(world, 1)), 2);
    assert_int_equal(raft_leader(core_of(world, 3)), 1);
    world_destroy(world);
}

static void one_who_does_not_hear_the_leader_is_not_elected_by_those_who_do(void **state)
{
    struct world *world = world_create(3, 5);

    (void)state;
    world_elect(world, 1);
    world_cut(world, 1, 3); /* 3 hears 2, and 2 hears both */
    world_run(world, 5000);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(world, 2)), 2);
    world_destroy(world);
}

static void votes_are_ignored_while_a_leader_is_heard(void **state)
{
    struct world *world = world_create(3, 6);
    struct raft_message request = {
        .type = RAFT_MESSAGE_REQUEST_VOTE, .from = 3, .to = 2, .term = 9};

    (void)state;
    world_elect(world, 1);
    request.request_vote.last_log_index = 100;
    request.request_vote.last_log_term = 8;
    world_inject(world, &request);
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
    assert_int_equal(raft_current_term(core_of(world, 2)), 2); /* not even the term */
    assert_int_equal(world->n_flying, 0);
    request.to = 1; /* the leader itself ignores it, too */
    world_inject(world, &request);
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 3, 1);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    request.to = 2;
    request.request_vote.transfer = true; /* with the flag it counts */
    world_inject(world, &request);
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
    assert_int_equal(raft_current_term(core_of(world, 2)), 9);
    world_persist(world, 2);
    assert_int_equal(world->nodes[2].disk.hard_state.voted_for, 3);
    world_destroy(world);
}

static void after_the_minimum_timeout_votes_count_again(void **state)
{
    struct world *world = world_create(3, 7);
    struct raft_message request = {
        .type = RAFT_MESSAGE_REQUEST_VOTE, .from = 3, .to = 2, .term = 9};

    (void)state;
    world_elect(world, 1);
    request.request_vote.last_log_index = 100;
    request.request_vote.last_log_term = 8;
    for (uint64_t ms = 0; ms <= 300; ms += 299 + (ms > 0)) {
        world_drop_all(world);
        world->now_ms += ms == 0 ? 299 : 1;
        world_inject(world, &request);
        world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
        assert_int_equal(raft_current_term(core_of(world, 2)), ms == 0 ? 2 : 9);
    }
    world_destroy(world);
}

static void a_pre_vote_changes_nothing_at_the_voter(void **state)
{
    struct world *world = world_create(3, 8);
    struct raft_message request = {
        .type = RAFT_MESSAGE_REQUEST_VOTE, .from = 3, .to = 2, .term = 9};
    struct raft_message reply;
    uint64_t deadline = raft_next_deadline_ms(core_of(world, 2));

    (void)state;
    request.request_vote =
        (struct raft_request_vote){.last_log_index = 1, .last_log_term = 1, .pre_vote = true};
    world_inject(world, &request);
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
    reply = world_peek(world, world_find(world, RAFT_MESSAGE_VOTE_REPLY, 2, 3));
    assert_true(reply.vote_reply.granted && reply.vote_reply.pre_vote);
    assert_int_equal(reply.term, 9);
    assert_int_equal(raft_current_term(core_of(world, 2)), 1);
    assert_int_equal(raft_next_deadline_ms(core_of(world, 2)), deadline);
    assert_int_equal(world->nodes[2].n_writes, 0);
    world_destroy(world);
}

static void a_pre_candidate_behind_learns_the_term(void **state)
{
    struct world *world = world_create(3, 9);

    (void)state;
    world_isolate(world, 3);
    world_elect(world, 1);
    assert_int_equal(world_transfer(world, 1, 2), ST_OK);
    world_settle(world); /* term 3 */
    world_crash(world, 1);
    world_crash(world, 2);
    world_start(world, 1);
    world_start(world, 2);
    world_heal(world);
    world_timeout(world, 3); /* of term 1, with a short log */
    world_settle(world);
    assert_int_equal(raft_role(core_of(world, 3)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(world, 3)), 3);
    world_run(world, 2000);
    assert_true(world_leader(world) == 1 || world_leader(world) == 2);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_without_a_majority_steps_down),
        cmocka_unit_test(a_leader_that_can_send_but_not_hear_steps_down),
        cmocka_unit_test(a_slow_disk_at_a_follower_is_no_silence),
        cmocka_unit_test(a_replica_that_was_cut_off_returns_without_a_stir),
        cmocka_unit_test(one_who_does_not_hear_the_leader_is_not_elected_by_those_who_do),
        cmocka_unit_test(votes_are_ignored_while_a_leader_is_heard),
        cmocka_unit_test(after_the_minimum_timeout_votes_count_again),
        cmocka_unit_test(a_pre_vote_changes_nothing_at_the_voter),
        cmocka_unit_test(a_pre_candidate_behind_learns_the_term),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
