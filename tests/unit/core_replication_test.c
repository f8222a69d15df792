/* Log replication (paper 5.3): what is sent, what is kept, what is committed, and how two logs that
 * differ come together again. */
#include "tests/unit/core_harness.h"

/* An Append with entries first..first+n-1 of `entry_term`, all no-ops. */
static void inject_append(struct world *world, raft_id from, raft_id to, raft_term term,
                          raft_index prev, raft_term prev_term, raft_term entry_term, size_t n,
                          raft_index commit)
{
    struct raft_message message = {
        .type = RAFT_MESSAGE_APPEND, .from = from, .to = to, .term = term};
    struct raft_entry entries[16];

    ASSERT(n <= 16);
    world->static_members = false; /* nobody has these entries, so no majority does */
    for (size_t i = 0; i < n; i++) {
        entries[i] =
            (struct raft_entry){.index = prev + 1 + i, .term = entry_term, .type = RAFT_ENTRY_NOOP};
    }
    message.append.prev_log_index = prev;
    message.append.prev_log_term = prev_term;
    message.append.commit_index = commit;
    message.append.entries = entries;
    message.append.n_entries = n;
    world_inject(world, &message);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, from, to);
}

/* What replica `from` answered last; there must be just one answer. */
static struct raft_append_reply take_reply(struct world *world, raft_id from)
{
    struct raft_message message;

    world_persist(world, from);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, from, 0), 1);
    message = world_peek(world, world_find(world, RAFT_MESSAGE_APPEND_REPLY, from, 0));
    world_drop(world, world_find(world, RAFT_MESSAGE_APPEND_REPLY, from, 0));
    return message.append_reply;
}

static void a_command_commits_and_everyone_learns_it_at_once(void **state)
{
    struct world *world = world_create(3, 1);

    (void)state;
    world_elect(world, 1);
    for (raft_index index = 3; index < 10; index++) {
        assert_int_equal(world_propose(world, 1), ST_OK);
        assert_int_equal(world->last.first_index, index);
        assert_int_equal(world->last.term, 2);
        world_settle(world); /* without a tick: not on heartbeats */
        for (raft_id id = 1; id <= 3; id++) {
            assert_int_equal(raft_commit_index(core_of(world, id)), index);
        }
    }
    assert_int_equal(world_propose(world, 2), ST_NOT_LEADER);
    world_destroy(world);
}

static void a_batch_is_one_append_a_follower(void **state)
{
    struct world *world = world_create(3, 2);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose_sized(world, 1, 100, 20), ST_OK);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND, 1, 2), 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND, 1, 3), 1);
    world_settle(world);
    assert_int_equal(raft_commit_index(core_of(world, 3)), 102);
    world_destroy(world);
}

static void appends_are_split_by_bytes_and_bounded_in_flight(void **state)
{
    struct world *world = world_create_empty(3, 3);

    (void)state;
    world->options.max_message_bytes = 4 * (RAFT_MESSAGE_APPEND + 1000);
    world->options.max_inflight_messages = 5;
    world->options.max_inflight_bytes = 1u << 20;
    for (raft_id id = 1; id <= 3; id++) {
        world_start(world, id);
        world_persist(world, id);
    }
    world_elect(world, 1);
    assert_int_equal(world_propose_sized(world, 1, 30, 1000), ST_OK); /* 3 fit in one Append */
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND, 1, 2), 5);
    assert_int_equal(world_progress(world, 1, 2).next_index, 3 + 15);
    assert_int_equal(world_propose(world, 1), ST_OK); /* full: waits */
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND, 1, 2), 5);
    world_settle(world);
    assert_int_equal(raft_commit_index(core_of(world, 2)), 33);
    /* By bytes. */
    world_crash(world, 1);
    world->options.max_inflight_messages = 100;
    world->options.max_inflight_bytes = 5000;
    world_start(world, 1);
    world_elect(world, 1);
    assert_int_equal(world_propose_sized(world, 1, 30, 1000), ST_OK);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND, 1, 2), 2);
    world_settle(world);
    world_assert_converged(world);
    world_destroy(world);
}

static void an_entry_larger_than_a_message_travels_alone(void **state)
{
    struct world *world = world_create(3, 4);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose_sized(world, 1, 2, 300u << 10), ST_OK);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND, 1, 2), 2);
    world_settle(world);
    assert_int_equal(raft_commit_index(core_of(world, 3)), 4);
    world_destroy(world);
}

static void proposals_beyond_the_uncommitted_limit_are_refused(void **state)
{
    struct world *world = world_create_empty(3, 5);

    (void)state;
    world->options.max_uncommitted_bytes = 10000;
    for (raft_id id = 1; id <= 3; id++) {
        world_start(world, id);
        world_persist(world, id);
    }
    world_elect(world, 1);
    assert_int_equal(world_propose_sized(world, 1, 9, 1000), ST_OK);
    assert_int_equal(world_propose_sized(world, 1, 1, 1000), ST_BUSY);
    world_settle(world);
    assert_int_equal(world_propose_sized(world, 1, 1, 20000), ST_OK); /* alone it may */
    assert_int_equal(world_propose_sized(world, 1, 1, 8), ST_BUSY);
    world_settle(world);
    assert_int_equal(world_propose_sized(world, 1, 1, 8), ST_OK);
    world_destroy(world);
}

/* Pitfall: truncating on every Append. A late short one must not take away what came after it. */
static void a_late_append_removes_nothing(void **state)
{
    struct world *world = world_create(3, 6);

    (void)state;
    inject_append(world, 2, 1, 3, 1, 1, 3, 5, 0); /* entries 2..6 */
    assert_int_equal(take_reply(world, 1).match_index, 6);
    inject_append(world, 2, 1, 3, 1, 1, 3, 2, 0); /* 2..3 again, late */
    assert_int_equal(world->nodes[1].n_writes, 0);
    assert_int_equal(take_reply(world, 1).match_index, 3);
    assert_int_equal(raft_last_index(core_of(world, 1)), 6);
    inject_append(world, 2, 1, 3, 2, 3, 3, 0, 0); /* and an empty one */
    assert_int_equal(raft_last_index(core_of(world, 1)), 6);
    assert_int_equal(disk_last_index(&world->nodes[1].disk), 6);
    world_destroy(world);
}

static void a_conflict_replaces_the_entry_and_all_that_follow(void **state)
{
    struct world *world = world_create(3, 7);

    (void)state;
    inject_append(world, 2, 1, 3, 1, 1, 3, 5, 2); /* 2..6 of term 3, 2 is committed */
    (void)take_reply(world, 1);
    inject_append(world, 3, 1, 4, 3, 3, 4, 1, 2); /* 4 of term 4 */
    assert_int_equal(take_reply(world, 1).match_index, 4);
    assert_int_equal(raft_last_index(core_of(world, 1)), 4);
    assert_int_equal(raft_term_at(core_of(world, 1), 3), 3);
    assert_int_equal(raft_term_at(core_of(world, 1), 4), 4);
    assert_int_equal(disk_last_index(&world->nodes[1].disk), 4);
    world_destroy(world);
}

static void nothing_below_the_commit_index_is_ever_replaced(void **state)
{
    struct world *world = world_create(3, 8);

    (void)state;
    inject_append(world, 2, 1, 3, 1, 1, 3, 5, 6); /* 2..6, all committed */
    (void)take_reply(world, 1);
    inject_append(world, 3, 1, 4, 3, 3, 4, 6, 0); /* contradicts 4..6 */
    world_persist(world, 1);
    assert_int_equal(raft_last_index(core_of(world, 1)), 6);
    assert_int_equal(raft_term_at(core_of(world, 1), 4), 3);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, 1, 0), 0);
    /* An old prev with nothing new is answered by what is known to agree. */
    inject_append(world, 3, 1, 4, 2, 3, 4, 0, 0);
    assert_int_equal(take_reply(world, 1).match_index, 6);
    world_destroy(world);
}

static void the_commit_index_stops_at_the_last_new_entry(void **state)
{
    struct world *world = world_create(3, 9);

    (void)state;
    inject_append(world, 2, 1, 3, 1, 1, 3, 5, 0); /* 2..6 of term 3 */
    (void)take_reply(world, 1);
    /* The leader of term 4 has committed 5 entries, of which this replica has verified 3. */
    inject_append(world, 3, 1, 4, 3, 3, 4, 0, 5);
    assert_int_equal(raft_commit_index(core_of(world, 1)), 3);
    world_destroy(world);
}

static void malformed_appends_are_ignored(void **state)
{
    struct world *world = world_create(3, 10);

    (void)state;
    inject_append(world, 2, 1, 3, 1, 1, 9, 1, 0);              /* entry of a term to come */
    inject_append(world, 2, 1, 3, 1, 3, 2, 1, 0);              /* terms fall */
    inject_append(world, 2, 1, 3, 0, 1, 3, 1, 0);              /* a term before the log */
    inject_append(world, 2, 1, 3, UINT64_MAX - 1, 1, 3, 1, 0); /* index runs over */
    world_persist(world, 1);
    assert_int_equal(raft_last_index(core_of(world, 1)), 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, 1, 0), 0);
    world_destroy(world);
}

static void a_rejection_tells_where_the_logs_may_agree(void **state)
{
    struct world *world = world_create(3, 11);
    struct raft_append_reply reply;

    (void)state;
    inject_append(world, 2, 1, 3, 1, 1, 2, 3, 0); /* 2..4 of term 2 */
    (void)take_reply(world, 1);
    inject_append(world, 2, 1, 3, 4, 2, 3, 4, 0); /* 5..8 of term 3 */
    (void)take_reply(world, 1);
    inject_append(world, 3, 1, 5, 20, 5, 5, 0, 0); /* far ahead: the end of the log */
    reply = take_reply(world, 1);
    assert_true(reply.rejected);
    assert_int_equal(reply.rejected_index, 20);
    assert_int_equal(reply.hint_index, 8);
    assert_int_equal(reply.hint_term, 3);
    inject_append(world, 3, 1, 5, 7, 2, 5, 0, 0); /* the leader has term 2 there: past term 3 */
    reply = take_reply(world, 1);
    assert_int_equal(reply.hint_index, 4);
    assert_int_equal(reply.hint_term, 2);
    world_destroy(world);
}

/* Backup (scenarios 2.1): long diverging logs come together in a round trip a term, not an entry.
 */
static void diverging_logs_take_one_round_trip_a_term(void **state)
{
    struct world *world = world_create(3, 12);
    raft_term term;
    uint64_t rejections;

    (void)state;
    /* Replica 3 has 50 doomed entries of each of the terms 2, 4 and 6. */
    for (term = 2; term <= 6; term += 2) {
        for (size_t i = 0; i < 5; i++) {
            raft_index last = raft_last_index(core_of(world, 3));

            inject_append(world, 2, 3, term, last, raft_term_at(core_of(world, 3), last), term, 10,
                          0);
            (void)take_reply(world, 3);
        }
    }
    /* Replica 1 has 60 entries of each of the terms 3, 5 and 7, but for the last 10. */
    for (term = 3; term <= 7; term += 2) {
        for (size_t i = 0; i < 6; i++) {
            raft_index last = raft_last_index(core_of(world, 1));

            inject_append(world, 2, 1, term, last, raft_term_at(core_of(world, 1), last), term, 10,
                          0);
            (void)take_reply(world, 1);
        }
    }
    world_elect(world, 1);
    rejections = 0;
    world_run(world, 200);
    world_assert_converged(world);
    rejections = world->n_sent[RAFT_MESSAGE_APPEND_REPLY];
    assert_in_range(rejections, 1, 36 + 15 + 20); /* planting took 36 + 15 answers */
    world_destroy(world);
}

static void heartbeats_carry_no_more_than_what_the_follower_has(void **state)
{
    struct world *world = world_create(3, 13);
    struct raft_message heartbeat;

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 3);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(world_propose(world, 1), ST_OK);
        world_settle(world);
    }
    world->now_ms += 60;
    world_tick(world, 1);
    heartbeat = world_peek(world, world_find(world, RAFT_MESSAGE_HEARTBEAT, 1, 3));
    assert_int_equal(heartbeat.heartbeat.commit_index, 2);
    heartbeat = world_peek(world, world_find(world, RAFT_MESSAGE_HEARTBEAT, 1, 2));
    assert_int_equal(heartbeat.heartbeat.commit_index, 7);
    world_destroy(world);
}

static void a_lost_append_is_found_by_an_empty_one_and_sent_again(void **state)
{
    struct world *world = world_create(3, 14);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose_sized(world, 1, 10, 1000), ST_OK);
    world_cut(world, 1, 3);
    world_settle(world);
    world_heal(world);
    assert_int_equal(raft_commit_index(core_of(world, 1)), 12);
    assert_int_equal(raft_last_index(core_of(world, 3)), 2);
    world->bytes_sent = 0;
    world_run(world, 150);
    world_assert_converged(world);
    assert_in_range(world->bytes_sent, 10000, 12000); /* the entries travelled once more */
    world_destroy(world);
}

static void a_lost_acknowledgement_costs_no_entries(void **state)
{
    struct world *world = world_create(3, 15);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose_sized(world, 1, 10, 1000), ST_OK);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, 3);
    world_persist(world, 3);
    world_drop(world, world_find(world, RAFT_MESSAGE_APPEND_REPLY, 3, 1));
    world_settle(world);
    world->bytes_sent = 0;
    world_run(world, 150);
    assert_int_equal(world_progress(world, 1, 3).match_index, 12);
    assert_in_range(world->bytes_sent, 1, 1000);
    world_destroy(world);
}

static void stale_answers_change_nothing(void **state)
{
    struct world *world = world_create(3, 16);
    struct raft_message reply = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};

    (void)state;
    world_elect(world, 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(world_propose(world, 1), ST_OK);
        world_settle(world);
    }
    assert_int_equal(world_progress(world, 1, 2).match_index, 7);
    reply.term = raft_current_term(core_of(world, 1));
    reply.append_reply.match_index = 3; /* late: match_index never falls */
    world_inject(world, &reply);
    world_settle(world);
    assert_int_equal(world_progress(world, 1, 2).match_index, 7);
    reply.append_reply = (struct raft_append_reply){
        .rejected = true, .rejected_index = 5, .hint_index = 2, .hint_term = 2};
    world_inject(world, &reply); /* a rejection below what is known to match */
    world_settle(world);
    assert_int_equal(world_progress(world, 1, 2).state, RAFT_REPLICATE);
    assert_int_equal(world_progress(world, 1, 2).next_index, 8);
    reply.append_reply = (struct raft_append_reply){.match_index = 1000}; /* never sent */
    world_inject(world, &reply);
    world_settle(world);
    assert_int_equal(world_progress(world, 1, 2).match_index, 7);
    /* An answer of an older term: with it alone the entry must not commit. */
    world_isolate(world, 3);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_drop_all(world);
    world_persist(world, 1);
    reply.term--;
    reply.append_reply = (struct raft_append_reply){.match_index = 8};
    world_inject(world, &reply);
    world_deliver_one(world, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    assert_int_equal(raft_commit_index(core_of(world, 1)), 7);
    world_destroy(world);
}

static void a_broken_link_is_probed_at_once_when_it_is_back(void **state)
{
    struct world *world = world_create(3, 17);

    (void)state;
    world_elect(world, 1);
    world_cut(world, 1, 3);
    world_link(world, 1, 3, false);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(world_propose(world, 1), ST_OK);
        world_settle(world);
    }
    assert_int_equal(world_progress(world, 1, 3).state, RAFT_PROBE);
    world_heal(world);
    world_link(world, 1, 3, true);
    world_settle(world); /* without a tick */
    assert_int_equal(world_progress(world, 1, 3).state, RAFT_REPLICATE);
    world_assert_converged(world);
    world_destroy(world);
}

/* Rejoin (scenarios 2.1): a deposed leader's doomed entries give way. */
static void a_deposed_leaders_entries_are_replaced(void **state)
{
    struct world *world = world_create(3, 18);

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(world_propose(world, 1), ST_OK); /* doomed */
    }
    world_settle(world);
    world_elect(world, 2);
    assert_int_equal(world_propose(world, 2), ST_OK);
    world_settle(world);
    world_isolate(world, 2);
    world->nodes[1].link_up = world->nodes[3].link_up = UINT64_MAX;
    world_run(world, 2000);
    world_heal(world);
    world_run(world, 2000);
    world_assert_converged(world);
    assert_int_equal(raft_term_at(core_of(world, 1), 3), 3);
    world_destroy(world);
}

/* Count and RPCBytes (scenarios 2.1). */
static void messages_are_few(void **state)
{
    struct world *world = world_create(3, 19);
    uint64_t before;

    (void)state;
    world_run(world, 700);
    assert_true(world_leader(world) != 0);
    world->n_sent[RAFT_MESSAGE_APPEND] = 0;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(world_propose(world, world_leader(world)), ST_OK);
    }
    world_settle(world);
    world_assert_converged(world);
    assert_in_range(world->n_sent[RAFT_MESSAGE_APPEND], 24, 30);
    before = world->n_sent[RAFT_MESSAGE_HEARTBEAT] + world->n_sent[RAFT_MESSAGE_APPEND];
    world_run(world, 1000);
    assert_in_range(world->n_sent[RAFT_MESSAGE_HEARTBEAT] + world->n_sent[RAFT_MESSAGE_APPEND] -
                        before,
                    10, 42);
    world->bytes_sent = 0;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(world_propose_sized(world, world_leader(world), 1, 5000), ST_OK);
        world_settle(world);
    }
    assert_in_range(world->bytes_sent, 100000, 110000);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_commits_and_everyone_learns_it_at_once),
        cmocka_unit_test(a_batch_is_one_append_a_follower),
        cmocka_unit_test(appends_are_split_by_bytes_and_bounded_in_flight),
        cmocka_unit_test(an_entry_larger_than_a_message_travels_alone),
        cmocka_unit_test(proposals_beyond_the_uncommitted_limit_are_refused),
        cmocka_unit_test(a_late_append_removes_nothing),
        cmocka_unit_test(a_conflict_replaces_the_entry_and_all_that_follow),
        cmocka_unit_test(nothing_below_the_commit_index_is_ever_replaced),
        cmocka_unit_test(the_commit_index_stops_at_the_last_new_entry),
        cmocka_unit_test(malformed_appends_are_ignored),
        cmocka_unit_test(a_rejection_tells_where_the_logs_may_agree),
        cmocka_unit_test(diverging_logs_take_one_round_trip_a_term),
        cmocka_unit_test(heartbeats_carry_no_more_than_what_the_follower_has),
        cmocka_unit_test(a_lost_append_is_found_by_an_empty_one_and_sent_again),
        cmocka_unit_test(a_lost_acknowledgement_costs_no_entries),
        cmocka_unit_test(stale_answers_change_nothing),
        cmocka_unit_test(a_broken_link_is_probed_at_once_when_it_is_back),
        cmocka_unit_test(a_deposed_leaders_entries_are_replaced),
        cmocka_unit_test(messages_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
