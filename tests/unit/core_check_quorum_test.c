/* CheckQuorum (thesis 6.2), PreVote (9.6) and leader stickiness (4.2.3): a leader that nobody hears
 * gives up, and a replica that nobody misses disturbs nobody. */
#include "tests/sim/core_harness.h"

static void a_leader_without_a_majority_steps_down(void **state)
{
    struct cores *cores = cores_create(5, 1);

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 4);
    cores_isolate(cores, 5);
    cores_run(cores, 1000);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER); /* three of five */
    cores_isolate(cores, 3);
    cores_run(cores, 290);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_run(cores, 120);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_leader(core_of(cores, 1)), 0);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2); /* and its term does not rise */
    cores_run(cores, 3000);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    cores_destroy(cores);
}

static void a_leader_that_can_send_but_not_hear_steps_down(void **state)
{
    struct cores *cores = cores_create(3, 2);

    (void)state;
    cores_elect(cores, 1);
    cores_cut(cores, 2, 1);
    cores_cut(cores, 3, 1);
    cores_run(cores, 2000);
    assert_true(cores_leader(cores) == 2 || cores_leader(cores) == 3);
    cores_destroy(cores);
}

static void a_slow_disk_at_a_follower_is_no_silence(void **state)
{
    struct cores *cores = cores_create(3, 3);

    (void)state;
    cores_elect(cores, 1);
    cores->nodes[2].slow_disk = true;
    cores->nodes[3].slow_disk = true;
    for (int i = 0; i < 50; i++) { /* Appends flow, their answers wait for the disks */
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_run(cores, 20);
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_destroy(cores);
}

static void a_replica_that_was_cut_off_returns_without_a_stir(void **state)
{
    struct cores *cores = cores_create(3, 4);

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 3);
    cores_run(cores, 5000); /* many timeouts */
    assert_int_equal(raft_current_term(core_of(cores, 3)), 2);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_PRE_CANDIDATE);
    cores_heal(cores);
    cores_run(cores, 1000);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    assert_int_equal(raft_leader(core_of(cores, 3)), 1);
    cores_destroy(cores);
}

static void one_who_does_not_hear_the_leader_is_not_elected_by_those_who_do(void **state)
{
    struct cores *cores = cores_create(3, 5);

    (void)state;
    cores_elect(cores, 1);
    cores_cut(cores, 1, 3); /* 3 hears 2, and 2 hears both */
    cores_run(cores, 5000);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(cores, 2)), 2);
    cores_destroy(cores);
}

static void votes_are_ignored_while_a_leader_is_heard(void **state)
{
    struct cores *cores = cores_create(3, 6);
    struct raft_message request = {
        .type = RAFT_MESSAGE_REQUEST_VOTE, .from = 3, .to = 2, .term = 9};

    (void)state;
    cores_elect(cores, 1);
    request.request_vote.last_log_index = 100;
    request.request_vote.last_log_term = 8;
    cores_inject(cores, &request);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
    assert_int_equal(raft_current_term(core_of(cores, 2)), 2); /* not even the term */
    assert_int_equal(cores->n_flying, 0);
    request.to = 1; /* the leader itself ignores it, too */
    cores_inject(cores, &request);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 3, 1);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    request.to = 2;
    request.request_vote.transfer = true; /* with the flag it counts */
    cores_inject(cores, &request);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
    assert_int_equal(raft_current_term(core_of(cores, 2)), 9);
    cores_persist(cores, 2);
    assert_int_equal(cores->nodes[2].disk.hard_state.voted_for, 3);
    cores_destroy(cores);
}

static void after_the_minimum_timeout_votes_count_again(void **state)
{
    struct cores *cores = cores_create(3, 7);
    struct raft_message request = {
        .type = RAFT_MESSAGE_REQUEST_VOTE, .from = 3, .to = 2, .term = 9};

    (void)state;
    cores_elect(cores, 1);
    request.request_vote.last_log_index = 100;
    request.request_vote.last_log_term = 8;
    for (uint64_t ms = 0; ms <= 300; ms += 299 + (ms > 0)) {
        cores_drop_all(cores);
        cores->now_ms += ms == 0 ? 299 : 1;
        cores_inject(cores, &request);
        cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
        assert_int_equal(raft_current_term(core_of(cores, 2)), ms == 0 ? 2 : 9);
    }
    cores_destroy(cores);
}

static void a_pre_vote_changes_nothing_at_the_voter(void **state)
{
    struct cores *cores = cores_create(3, 8);
    struct raft_message request = {
        .type = RAFT_MESSAGE_REQUEST_VOTE, .from = 3, .to = 2, .term = 9};
    struct raft_message reply;
    uint64_t deadline = raft_next_deadline_ms(core_of(cores, 2));

    (void)state;
    request.request_vote =
        (struct raft_request_vote){.last_log_index = 1, .last_log_term = 1, .pre_vote = true};
    cores_inject(cores, &request);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 3, 2);
    reply = cores_peek(cores, cores_find(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 3));
    assert_true(reply.vote_reply.granted && reply.vote_reply.pre_vote);
    assert_int_equal(reply.term, 9);
    assert_int_equal(raft_current_term(core_of(cores, 2)), 1);
    assert_int_equal(raft_next_deadline_ms(core_of(cores, 2)), deadline);
    assert_int_equal(cores->nodes[2].n_writes, 0);
    cores_destroy(cores);
}

static void a_pre_candidate_behind_learns_the_term(void **state)
{
    struct cores *cores = cores_create(3, 9);

    (void)state;
    cores_isolate(cores, 3);
    cores_elect(cores, 1);
    assert_int_equal(cores_transfer(cores, 1, 2), ST_OK);
    cores_settle(cores); /* term 3 */
    cores_crash(cores, 1);
    cores_crash(cores, 2);
    cores_start(cores, 1);
    cores_start(cores, 2);
    cores_heal(cores);
    cores_timeout(cores, 3); /* of term 1, with a short log */
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(cores, 3)), 3);
    cores_run(cores, 2000);
    assert_true(cores_leader(cores) == 1 || cores_leader(cores) == 2);
    cores_destroy(cores);
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
