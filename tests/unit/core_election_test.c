/* Elections (paper 5.2, 5.4.1): who may lead, who votes, and when a vote may leave. */
#include "tests/unit/core_harness.h"

static struct raft_message vote_request(raft_id from, raft_id to, raft_term term, raft_index index,
                                        raft_term log_term)
{
    struct raft_message message = {
        .type = RAFT_MESSAGE_REQUEST_VOTE, .from = from, .to = to, .term = term};

    message.request_vote.last_log_index = index;
    message.request_vote.last_log_term = log_term;
    return message;
}

static void a_replica_that_times_out_becomes_leader_with_few_messages(void **state)
{
    struct world *world = world_create(3, 1);
    size_t sent = 0;

    (void)state;
    world_elect(world, 2);
    for (size_t type = 0; type < 16; type++) {
        sent += world->n_sent[type];
    }
    /* Two pre-votes, two votes, two Appends with the no-op, their answers, and the commit index. */
    assert_in_range(sent, 12, 16);
    assert_int_equal(raft_leader(core_of(world, 1)), 2);
    assert_int_equal(raft_leader(core_of(world, 3)), 2);
    assert_true(raft_leader_ready(core_of(world, 2)));
    assert_int_equal(raft_commit_index(core_of(world, 1)), 2);
    assert_int_equal(raft_entry_at(core_of(world, 2), 2)->type, RAFT_ENTRY_NOOP);
    world_destroy(world);
}

static void every_replica_begins_with_the_same_first_entry(void **state)
{
    struct world *world = world_create(3, 2);

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        assert_int_equal(raft_last_index(core_of(world, id)), 1);
        assert_int_equal(raft_term_at(core_of(world, id), 1), 1);
        assert_int_equal(raft_current_term(core_of(world, id)), 1);
        assert_int_equal(raft_latest_configuration(core_of(world, id))->n, 3);
        assert_int_equal(world->nodes[id].disk.n_entries, 1);
    }
    world_destroy(world);
}

static void a_replica_votes_once_in_a_term(void **state)
{
    struct world *world = world_create(3, 3);
    struct raft_message first = vote_request(2, 1, 5, 10, 1);
    struct raft_message second = vote_request(3, 1, 5, 10, 1);
    struct raft_message reply;

    (void)state;
    world_inject(world, &first);
    world_inject(world, &second);
    world_inject(world, &first); /* repeated: the same answer */
    world_deliver_one(world, 0, 2, 1);
    world_deliver_one(world, 0, 3, 1);
    world_deliver_one(world, 0, 2, 1);
    world_persist(world, 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_VOTE_REPLY, 1, 0), 3);
    for (size_t at; (at = world_find(world, RAFT_MESSAGE_VOTE_REPLY, 1, 2)) != SIZE_MAX;) {
        reply = world_peek(world, at);
        assert_true(reply.vote_reply.granted);
        assert_int_equal(reply.term, 5);
        world_drop(world, at);
    }
    reply = world_peek(world, world_find(world, RAFT_MESSAGE_VOTE_REPLY, 1, 3));
    assert_false(reply.vote_reply.granted);
    assert_int_equal(world->nodes[1].disk.hard_state.voted_for, 2);
    world_destroy(world);
}

static void a_vote_survives_a_crash(void **state)
{
    struct world *world = world_create(3, 4);
    struct raft_message first = vote_request(2, 1, 5, 10, 1);
    struct raft_message second = vote_request(3, 1, 5, 10, 1);

    (void)state;
    world_inject(world, &first);
    world_deliver_one(world, 0, 2, 1);
    world_persist(world, 1);
    world_crash(world, 1);
    world_start(world, 1);
    world_drop_all(world);
    world_inject(world, &second);
    world_deliver_one(world, 0, 3, 1);
    world_persist(world, 1);
    assert_false(
        world_peek(world, world_find(world, RAFT_MESSAGE_VOTE_REPLY, 1, 3)).vote_reply.granted);
    world_destroy(world);
}

static void a_vote_is_not_given_to_a_log_that_is_behind(void **state)
{
    struct {
        raft_index index;
        raft_term term;
        bool granted;
    } table[] = {
        {2, 2, true},  /* the same */
        {3, 2, true},  /* longer */
        {1, 2, false}, /* shorter */
        {1, 3, true},  /* shorter but of a later term */
        {9, 1, false}, /* longer but of an older term */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world *world = world_create(3, 5);
        struct raft_message request;

        world_elect(world, 3); /* everyone has entry 2 of term 2 now */
        world_crash(world, 1);
        world_start(world, 1); /* hears no leader */
        world_drop_all(world);
        request = vote_request(2, 1, 7, table[i].index, table[i].term);
        world_inject(world, &request);
        world_deliver_one(world, 0, 2, 1);
        world_persist(world, 1);
        assert_int_equal(
            world_peek(world, world_find(world, RAFT_MESSAGE_VOTE_REPLY, 1, 2)).vote_reply.granted,
            table[i].granted);
        world_destroy(world);
    }
}

static void a_single_voter_leads_once_its_own_vote_is_durable(void **state)
{
    struct world *world = world_create(1, 6);
    struct raft *raft = core_of(world, 1);

    (void)state;
    world_timeout(world, 1);
    assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
    world_persist_one(world, 1); /* the vote */
    assert_int_equal(raft_role(raft), RAFT_LEADER);
    assert_int_equal(raft_commit_index(raft), 0);
    world_persist_one(world, 1); /* the no-op */
    assert_int_equal(raft_commit_index(raft), 2);
    assert_int_equal(world_propose(world, 1), ST_OK);
    assert_int_equal(raft_commit_index(raft), 2);
    world_persist(world, 1);
    assert_int_equal(raft_commit_index(raft), 3);
    assert_int_equal(world->n_flying, 0);
    world_destroy(world);
}

/* An earlier write that finishes says nothing about the vote. */
static void an_own_vote_does_not_count_by_an_earlier_write(void **state)
{
    struct world *world = world_create_empty(1, 6);

    (void)state;
    world_start(world, 1);
    world_timeout(world, 1);
    assert_int_equal(world->nodes[1].n_writes, 2);
    world_persist_one(world, 1); /* the bootstrap entry */
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_CANDIDATE);
    world_persist_one(world, 1); /* the vote */
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    world_destroy(world);
}

static void a_candidate_that_loses_steps_back_and_tries_again(void **state)
{
    struct world *world = world_create(3, 7);
    struct raft_message no = {.type = RAFT_MESSAGE_VOTE_REPLY, .to = 1};

    (void)state;
    world_timeout(world, 1);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_PRE_CANDIDATE);
    no.vote_reply.pre_vote = true;
    no.term = 1;
    for (no.from = 2; no.from <= 3; no.from++) {
        world_inject(world, &no);
        world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, no.from, 1);
    }
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(world, 1)), 1);
    world_elect(world, 1);
    world_destroy(world);
}

static void answers_of_another_term_or_kind_do_not_count(void **state)
{
    struct world *world = world_create(3, 8);
    struct raft *raft = core_of(world, 1);
    struct raft_message yes = {.type = RAFT_MESSAGE_VOTE_REPLY, .from = 2, .to = 1};

    (void)state;
    world_timeout(world, 1); /* asks for a pre-vote of term 2 */
    yes.vote_reply.granted = true;
    yes.term = 1; /* a real vote of the term before */
    world_inject(world, &yes);
    world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_PRE_CANDIDATE);
    yes.vote_reply.pre_vote = true;
    yes.term = 2;
    world_inject(world, &yes);
    world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
    world_persist(world, 1);
    world_inject(world, &yes); /* the pre-vote again: no vote */
    world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
    yes.vote_reply.pre_vote = false;
    world_inject(world, &yes);
    world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_LEADER);
    world_destroy(world);
}

static void a_leader_and_a_candidate_yield_to_a_higher_term(void **state)
{
    struct world *world = world_create(3, 9);
    struct raft_message heartbeat = {.type = RAFT_MESSAGE_HEARTBEAT, .from = 3, .to = 1, .term = 9};

    (void)state;
    world_elect(world, 1);
    world_inject(world, &heartbeat);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 3, 1);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(world, 1)), 9);
    assert_int_equal(raft_leader(core_of(world, 1)), 3);
    assert_true(world->last.role_changed);
    world_destroy(world);
}

static void a_deposed_leader_learns_it_from_the_answer(void **state)
{
    struct world *world = world_create(3, 10);

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 1);
    world_elect(world, 2);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER); /* does not know yet */
    world_heal(world);
    world->now_ms++;
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_settle(world);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(world, 1)), 3);
    world_run(world, 200);
    world_assert_converged(world);
    world_destroy(world);
}

/* Pitfall: a vote request that is refused, or an Append of an old leader, must not keep a replica
 * from standing for election. */
static void only_a_leader_or_a_granted_vote_resets_the_timer(void **state)
{
    struct world *world = world_create(3, 11);
    uint64_t deadline = raft_next_deadline_ms(core_of(world, 1));
    struct raft_message behind = vote_request(2, 1, 5, 0, 0);
    struct raft_message stale = {.type = RAFT_MESSAGE_APPEND, .from = 3, .to = 1, .term = 1};
    struct raft_message good = vote_request(2, 1, 6, 9, 5);

    (void)state;
    world->now_ms += 100;
    world_inject(world, &behind);
    world_deliver_one(world, 0, 2, 1);
    assert_int_equal(raft_next_deadline_ms(core_of(world, 1)), deadline);
    world_inject(world, &stale);
    world_deliver_one(world, 0, 3, 1);
    assert_int_equal(raft_next_deadline_ms(core_of(world, 1)), deadline);
    world_inject(world, &good);
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 2, 1);
    assert_true(raft_next_deadline_ms(core_of(world, 1)) >= world->now_ms + 300);
    world_destroy(world);
}

static void a_vote_request_is_repeated_when_a_link_comes_up(void **state)
{
    struct world *world = world_create(3, 12);

    (void)state;
    world_timeout(world, 1);
    world_drop_all(world); /* no link yet */
    world_link(world, 1, 2, true);
    assert_int_equal(world_count(world, RAFT_MESSAGE_REQUEST_VOTE, 1, 2), 1);
    world_settle(world);
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    world_destroy(world);
}

static void timeouts_are_drawn_anew_between_e_and_twice_e(void **state)
{
    struct world *world = world_create(3, 13);
    uint64_t low = UINT64_MAX, high = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        uint64_t timeout;

        world->now_ms = raft_next_deadline_ms(core_of(world, 1));
        world_tick(world, 1);
        timeout = raft_next_deadline_ms(core_of(world, 1)) - world->now_ms;
        low = timeout < low ? timeout : low;
        high = timeout > high ? timeout : high;
        world_drop_all(world);
    }
    assert_in_range(low, 300, 320);
    assert_in_range(high, 580, 600);
    world_destroy(world);
}

static void a_group_elects_again_whatever_fails(void **state)
{
    struct world *world = world_create(7, 14);

    (void)state;
    world_run(world, 2000);
    for (int round = 0; round < 9; round++) {
        raft_id old = world_leader(world);

        world_heal(world);
        world_isolate(world, old);
        world_isolate(world, old % 7 + 1);
        world_isolate(world, (old + 2) % 7 + 1);
        world_run(world, 2000);
        assert_true(world_leader(world) != 0 && world_leader(world) != old);
    }
    world_heal(world);
    world_run(world, 2000);
    world_assert_converged(world);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_that_times_out_becomes_leader_with_few_messages),
        cmocka_unit_test(every_replica_begins_with_the_same_first_entry),
        cmocka_unit_test(a_replica_votes_once_in_a_term),
        cmocka_unit_test(a_vote_survives_a_crash),
        cmocka_unit_test(a_vote_is_not_given_to_a_log_that_is_behind),
        cmocka_unit_test(a_single_voter_leads_once_its_own_vote_is_durable),
        cmocka_unit_test(an_own_vote_does_not_count_by_an_earlier_write),
        cmocka_unit_test(a_candidate_that_loses_steps_back_and_tries_again),
        cmocka_unit_test(answers_of_another_term_or_kind_do_not_count),
        cmocka_unit_test(a_leader_and_a_candidate_yield_to_a_higher_term),
        cmocka_unit_test(a_deposed_leader_learns_it_from_the_answer),
        cmocka_unit_test(only_a_leader_or_a_granted_vote_resets_the_timer),
        cmocka_unit_test(a_vote_request_is_repeated_when_a_link_comes_up),
        cmocka_unit_test(timeouts_are_drawn_anew_between_e_and_twice_e),
        cmocka_unit_test(a_group_elects_again_whatever_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
