/* Elections (paper 5.2, 5.4.1): who may lead, who votes, and when a vote may leave. */
#include "tests/sim/core_harness.h"

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
    struct cores *cores = cores_create(3, 1);
    size_t sent = 0;

    (void)state;
    cores_elect(cores, 2);
    for (size_t type = 0; type < 16; type++) {
        sent += cores->n_sent[type];
    }
    /* Two pre-votes, two votes, two Appends with the no-op, their answers, and the commit index. */
    assert_in_range(sent, 12, 16);
    assert_int_equal(raft_leader(core_of(cores, 1)), 2);
    assert_int_equal(raft_leader(core_of(cores, 3)), 2);
    assert_true(raft_leader_ready(core_of(cores, 2)));
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 2);
    assert_int_equal(raft_entry_at(core_of(cores, 2), 2)->type, RAFT_ENTRY_NOOP);
    cores_destroy(cores);
}

static void every_replica_begins_with_the_same_first_entry(void **state)
{
    struct cores *cores = cores_create(3, 2);

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        assert_int_equal(raft_last_index(core_of(cores, id)), 1);
        assert_int_equal(raft_term_at(core_of(cores, id), 1), 1);
        assert_int_equal(raft_current_term(core_of(cores, id)), 1);
        assert_int_equal(raft_latest_configuration(core_of(cores, id))->n, 3);
        assert_int_equal(cores->nodes[id].disk.n_entries, 1);
    }
    cores_destroy(cores);
}

static void a_replica_votes_once_in_a_term(void **state)
{
    struct cores *cores = cores_create(3, 3);
    struct raft_message first = vote_request(2, 1, 5, 10, 1);
    struct raft_message second = vote_request(3, 1, 5, 10, 1);
    struct raft_message reply;

    (void)state;
    cores_inject(cores, &first);
    cores_inject(cores, &second);
    cores_inject(cores, &first); /* repeated: the same answer */
    cores_deliver_one(cores, 0, 2, 1);
    cores_deliver_one(cores, 0, 3, 1);
    cores_deliver_one(cores, 0, 2, 1);
    cores_persist(cores, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_VOTE_REPLY, 1, 0), 3);
    for (size_t at; (at = cores_find(cores, RAFT_MESSAGE_VOTE_REPLY, 1, 2)) != SIZE_MAX;) {
        reply = cores_peek(cores, at);
        assert_true(reply.vote_reply.granted);
        assert_int_equal(reply.term, 5);
        cores_drop(cores, at);
    }
    reply = cores_peek(cores, cores_find(cores, RAFT_MESSAGE_VOTE_REPLY, 1, 3));
    assert_false(reply.vote_reply.granted);
    assert_int_equal(cores->nodes[1].disk.hard_state.voted_for, 2);
    cores_destroy(cores);
}

static void a_vote_survives_a_crash(void **state)
{
    struct cores *cores = cores_create(3, 4);
    struct raft_message first = vote_request(2, 1, 5, 10, 1);
    struct raft_message second = vote_request(3, 1, 5, 10, 1);

    (void)state;
    cores_inject(cores, &first);
    cores_deliver_one(cores, 0, 2, 1);
    cores_persist(cores, 1);
    cores_crash(cores, 1);
    cores_start(cores, 1);
    cores_drop_all(cores);
    cores_inject(cores, &second);
    cores_deliver_one(cores, 0, 3, 1);
    cores_persist(cores, 1);
    assert_false(
        cores_peek(cores, cores_find(cores, RAFT_MESSAGE_VOTE_REPLY, 1, 3)).vote_reply.granted);
    cores_destroy(cores);
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
        struct cores *cores = cores_create(3, 5);
        struct raft_message request;

        cores_elect(cores, 3); /* everyone has entry 2 of term 2 now */
        cores_crash(cores, 1);
        cores_start(cores, 1); /* hears no leader */
        cores_drop_all(cores);
        request = vote_request(2, 1, 7, table[i].index, table[i].term);
        cores_inject(cores, &request);
        cores_deliver_one(cores, 0, 2, 1);
        cores_persist(cores, 1);
        assert_int_equal(
            cores_peek(cores, cores_find(cores, RAFT_MESSAGE_VOTE_REPLY, 1, 2)).vote_reply.granted,
            table[i].granted);
        cores_destroy(cores);
    }
}

static void a_single_voter_leads_once_its_own_vote_is_durable(void **state)
{
    struct cores *cores = cores_create(1, 6);
    struct raft *raft = core_of(cores, 1);

    (void)state;
    cores_timeout(cores, 1);
    assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
    cores_persist_one(cores, 1); /* the vote */
    assert_int_equal(raft_role(raft), RAFT_LEADER);
    assert_int_equal(raft_commit_index(raft), 0);
    cores_persist_one(cores, 1); /* the no-op */
    assert_int_equal(raft_commit_index(raft), 2);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    assert_int_equal(raft_commit_index(raft), 2);
    cores_persist(cores, 1);
    assert_int_equal(raft_commit_index(raft), 3);
    assert_int_equal(cores->n_flying, 0);
    cores_destroy(cores);
}

/* An earlier write that finishes says nothing about the vote. */
static void an_own_vote_does_not_count_by_an_earlier_write(void **state)
{
    struct cores *cores = cores_create_empty(1, 6);

    (void)state;
    cores_start(cores, 1);
    cores_timeout(cores, 1);
    assert_int_equal(cores->nodes[1].n_writes, 2);
    cores_persist_one(cores, 1); /* the bootstrap entry */
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_CANDIDATE);
    cores_persist_one(cores, 1); /* the vote */
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_destroy(cores);
}

static void a_candidate_that_loses_steps_back_and_tries_again(void **state)
{
    struct cores *cores = cores_create(3, 7);
    struct raft_message no = {.type = RAFT_MESSAGE_VOTE_REPLY, .to = 1};

    (void)state;
    cores_timeout(cores, 1);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_PRE_CANDIDATE);
    no.vote_reply.pre_vote = true;
    no.term = 1;
    for (no.from = 2; no.from <= 3; no.from++) {
        cores_inject(cores, &no);
        cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, no.from, 1);
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 1);
    cores_elect(cores, 1);
    cores_destroy(cores);
}

static void answers_of_another_term_or_kind_do_not_count(void **state)
{
    struct cores *cores = cores_create(3, 8);
    struct raft *raft = core_of(cores, 1);
    struct raft_message yes = {.type = RAFT_MESSAGE_VOTE_REPLY, .from = 2, .to = 1};

    (void)state;
    cores_timeout(cores, 1); /* asks for a pre-vote of term 2 */
    yes.vote_reply.granted = true;
    yes.term = 1; /* a real vote of the term before */
    cores_inject(cores, &yes);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_PRE_CANDIDATE);
    yes.vote_reply.pre_vote = true;
    yes.term = 2;
    cores_inject(cores, &yes);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
    cores_persist(cores, 1);
    cores_inject(cores, &yes); /* the pre-vote again: no vote */
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
    yes.vote_reply.pre_vote = false;
    cores_inject(cores, &yes);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    assert_int_equal(raft_role(raft), RAFT_LEADER);
    cores_destroy(cores);
}

/* Delivers a granted vote or pre-vote from 2 to 1. */
static void grant(struct cores *cores, raft_term term, bool pre_vote)
{
    struct raft_message yes = {.type = RAFT_MESSAGE_VOTE_REPLY, .from = 2, .to = 1, .term = term};

    yes.vote_reply = (struct raft_vote_reply){.granted = true, .pre_vote = pre_vote};
    cores_inject(cores, &yes);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
}

/* The vote that it was given when it stood last time: for that term, and no other. */
static void a_late_vote_for_an_earlier_candidacy_does_not_count(void **state)
{
    struct cores *cores = cores_create(3, 16);
    struct raft *raft = core_of(cores, 1);

    (void)state;
    for (raft_term term = 2; term <= 3; term++) {
        cores_timeout(cores, 1);
        cores_drop_all(cores);
        assert_int_equal(raft_role(raft), RAFT_PRE_CANDIDATE);
        grant(cores, term, true);
        assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
        cores_persist(cores, 1);
        cores_drop_all(cores);
    }
    assert_true(raft_current_term(raft) == 3);
    grant(cores, 2, false);
    assert_int_equal(raft_role(raft), RAFT_CANDIDATE);
    grant(cores, 3, false);
    assert_int_equal(raft_role(raft), RAFT_LEADER);
    cores_destroy(cores);
}

/* Nobody was asked yet: a peer that says yes all the same makes no leader of a term that a crash
 * would make this replica forget. */
static void a_vote_before_the_own_one_is_durable_does_not_count(void **state)
{
    struct cores *cores = cores_create(3, 21);

    (void)state;
    cores->nodes[1].slow_disk = true;
    cores_timeout(cores, 1);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_CANDIDATE);
    for (raft_id from = 2; from <= 3; from++) {
        struct raft_message vote = {.type = RAFT_MESSAGE_VOTE_REPLY,
                                    .from = from,
                                    .to = 1,
                                    .term = raft_current_term(core_of(cores, 1)),
                                    .vote_reply = {.granted = true}};

        cores_inject(cores, &vote);
        cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, from, 1);
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_CANDIDATE);
    cores->nodes[1].slow_disk = false;
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_destroy(cores);
}

/* A vote may take longer than an election: it is waited for, by who asks and by who gives it. Else
 * no election on such disks is won before the next one begins. */
static void a_candidate_waits_until_it_could_ask(void **state)
{
    struct cores *cores = cores_create(3, 22);

    (void)state;
    cores->nodes[1].slow_disk = true;
    cores_timeout(cores, 1);
    cores_settle(cores); /* the pre-vote */
    cores_crash(cores, 2);
    cores_crash(cores, 3);
    cores_run(cores, 1500);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_CANDIDATE);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    cores_persist(cores, 1);
    assert_true(raft_next_deadline_ms(core_of(cores, 1)) >= cores->now_ms + 300);
    cores_run(cores, 700);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_PRE_CANDIDATE);
    cores_destroy(cores);
}

/* Who gave its vote gives the other as much time as if the disk had been quick. */
static void a_voter_waits_from_when_its_vote_left(void **state)
{
    struct cores *cores = cores_create(3, 23);

    (void)state;
    cores->nodes[2].slow_disk = true;
    cores_crash(cores, 3);
    cores_timeout(cores, 1);
    cores_run(cores, 1000);
    cores_crash(cores, 1);
    cores_persist(cores, 2);
    assert_int_equal(raft_current_term(core_of(cores, 2)), 2);
    assert_true(raft_next_deadline_ms(core_of(cores, 2)) >= cores->now_ms + 300);
    cores_destroy(cores);
}

static void a_leader_and_a_candidate_yield_to_a_higher_term(void **state)
{
    struct cores *cores = cores_create(3, 9);
    struct raft_message heartbeat = {.type = RAFT_MESSAGE_HEARTBEAT, .from = 3, .to = 1, .term = 9};

    (void)state;
    cores_elect(cores, 1);
    cores_inject(cores, &heartbeat);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 3, 1);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 9);
    assert_int_equal(raft_leader(core_of(cores, 1)), 3);
    assert_true(cores->last.role_changed);
    cores_destroy(cores);
}

static void a_deposed_leader_learns_it_from_the_answer(void **state)
{
    struct cores *cores = cores_create(3, 10);

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 1);
    cores_elect(cores, 2);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER); /* does not know yet */
    cores_heal(cores);
    cores->now_ms++;
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 3);
    cores_run(cores, 200);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* Pitfall: a vote request that is refused, or an Append of an old leader, must not keep a replica
 * from standing for election. */
static void only_a_leader_or_a_granted_vote_resets_the_timer(void **state)
{
    struct cores *cores = cores_create(3, 11);
    uint64_t deadline = raft_next_deadline_ms(core_of(cores, 1));
    struct raft_message behind = vote_request(2, 1, 5, 0, 0);
    struct raft_message stale = {.type = RAFT_MESSAGE_APPEND, .from = 3, .to = 1, .term = 1};
    struct raft_message good = vote_request(2, 1, 6, 9, 5);

    (void)state;
    cores->now_ms = deadline - 1;
    cores_inject(cores, &behind);
    cores_deliver_one(cores, 0, 2, 1);
    assert_int_equal(raft_next_deadline_ms(core_of(cores, 1)), deadline);
    cores_inject(cores, &stale);
    cores_deliver_one(cores, 0, 3, 1);
    assert_int_equal(raft_next_deadline_ms(core_of(cores, 1)), deadline);
    cores_inject(cores, &good);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 2, 1);
    assert_true(raft_next_deadline_ms(core_of(cores, 1)) >= cores->now_ms + 300);
    cores_destroy(cores);
}

static void a_vote_request_is_repeated_when_a_link_comes_up(void **state)
{
    struct cores *cores = cores_create(3, 12);

    (void)state;
    cores_timeout(cores, 1);
    cores_drop_all(cores); /* no link yet */
    cores_link(cores, 1, 2, RAFT_EVENT_PEER_UP);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 2), 1);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_destroy(cores);
}

/* The first in line stands as soon as the others may know as well, and wins at once: nobody waits
 * for a timeout, and nobody else stands. */
static void a_leader_whose_process_ended_is_replaced_at_once(void **state)
{
    struct cores *cores = cores_create(5, 21);
    uint64_t before_ms;
    raft_term term;

    (void)state;
    cores_elect(cores, 2);
    term = raft_current_term(core_of(cores, 2));
    before_ms = cores->now_ms;
    cores_crash(cores, 2);
    for (raft_id id = 5; id >= 1; id--) {
        if (id != 2) {
            cores_link(cores, id, 2, RAFT_EVENT_PEER_GONE);
            assert_int_equal(raft_leader(core_of(cores, id)), 0);
        }
    }
    for (raft_id id = 1, rank = 0; id <= 5; id++) { /* one after the other */
        if (id != 2) {
            assert_in_range(raft_next_deadline_ms(core_of(cores, id)),
                            before_ms + 300 / 16 + rank * (300 / 8),
                            before_ms + 300 / 16 + rank * (300 / 8) + 2);
            rank++;
        }
    }
    cores->now_ms = raft_next_deadline_ms(core_of(cores, 1));
    cores_tick(cores, 1);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), term + 1);
    cores_destroy(cores);
}

/* It was said of one that lives: whoever hears it refuses, and it leads on. Of others than the
 * leader it means nothing. */
static void who_takes_a_living_leader_for_gone_disturbs_nobody(void **state)
{
    struct cores *cores = cores_create(3, 22);
    raft_term term;

    (void)state;
    cores_elect(cores, 2);
    term = raft_current_term(core_of(cores, 2));
    cores_link(cores, 1, 3, RAFT_EVENT_PEER_GONE);
    cores_link(cores, 2, 3, RAFT_EVENT_PEER_GONE);
    assert_int_equal(raft_leader(core_of(cores, 1)), 2);
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    cores_link(cores, 1, 2, RAFT_EVENT_PEER_GONE);
    cores->now_ms = raft_next_deadline_ms(core_of(cores, 1));
    cores_tick(cores, 1);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_PRE_CANDIDATE);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(cores, 2)), term);
    cores->now_ms = raft_next_deadline_ms(core_of(cores, 2));
    cores_tick(cores, 2); /* its heartbeat */
    cores_settle(cores);
    assert_int_equal(raft_leader(core_of(cores, 1)), 2);
    cores_destroy(cores);
}

static void timeouts_are_drawn_anew_between_e_and_twice_e(void **state)
{
    struct cores *cores = cores_create(3, 13);
    uint64_t low = UINT64_MAX, high = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        uint64_t timeout;

        cores->now_ms = raft_next_deadline_ms(core_of(cores, 1));
        cores_tick(cores, 1);
        timeout = raft_next_deadline_ms(core_of(cores, 1)) - cores->now_ms;
        low = timeout < low ? timeout : low;
        high = timeout > high ? timeout : high;
        cores_drop_all(cores);
    }
    assert_in_range(low, 300, 320);
    assert_in_range(high, 580, 600);
    cores_destroy(cores);
}

static void a_group_elects_again_whatever_fails(void **state)
{
    struct cores *cores = cores_create(7, 14);

    (void)state;
    cores_run(cores, 2000);
    for (int round = 0; round < 9; round++) {
        raft_id old = cores_leader(cores);

        cores_heal(cores);
        cores_isolate(cores, old);
        cores_isolate(cores, old % 7 + 1);
        cores_isolate(cores, (old + 2) % 7 + 1);
        cores_run(cores, 2000);
        assert_true(cores_leader(cores) != 0 && cores_leader(cores) != old);
    }
    cores_heal(cores);
    cores_run(cores, 2000);
    cores_assert_converged(cores);
    cores_destroy(cores);
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
        cmocka_unit_test(a_late_vote_for_an_earlier_candidacy_does_not_count),
        cmocka_unit_test(a_vote_before_the_own_one_is_durable_does_not_count),
        cmocka_unit_test(a_candidate_waits_until_it_could_ask),
        cmocka_unit_test(a_voter_waits_from_when_its_vote_left),
        cmocka_unit_test(a_leader_and_a_candidate_yield_to_a_higher_term),
        cmocka_unit_test(a_deposed_leader_learns_it_from_the_answer),
        cmocka_unit_test(only_a_leader_or_a_granted_vote_resets_the_timer),
        cmocka_unit_test(a_vote_request_is_repeated_when_a_link_comes_up),
        cmocka_unit_test(a_leader_whose_process_ended_is_replaced_at_once),
        cmocka_unit_test(who_takes_a_living_leader_for_gone_disturbs_nobody),
        cmocka_unit_test(timeouts_are_drawn_anew_between_e_and_twice_e),
        cmocka_unit_test(a_group_elects_again_whatever_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
