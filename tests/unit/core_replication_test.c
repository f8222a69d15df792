/* Log replication (paper 5.3): what is sent, what is kept, what is committed, and how two logs that
 * differ come together again. */
#include "tests/sim/core_harness.h"

/* An Append with entries first..first+n-1 of `entry_term`, all no-ops. */
static void inject_append(struct cores *cores, raft_id from, raft_id to, raft_term term,
                          raft_index prev, raft_term prev_term, raft_term entry_term, size_t n,
                          raft_index commit)
{
    struct raft_message message = {
        .type = RAFT_MESSAGE_APPEND, .from = from, .to = to, .term = term};
    struct raft_entry entries[16];

    ASSERT(n <= 16);
    cores->static_members = false; /* nobody has these entries, so no majority does */
    for (size_t i = 0; i < n; i++) {
        entries[i] =
            (struct raft_entry){.index = prev + 1 + i, .term = entry_term, .type = RAFT_ENTRY_NOOP};
    }
    message.append.prev_log_index = prev;
    message.append.prev_log_term = prev_term;
    message.append.commit_index = commit;
    message.append.entries = entries;
    message.append.n_entries = n;
    cores_inject(cores, &message);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, from, to);
}

/* What replica `from` answered last; there must be just one answer. */
static struct raft_append_reply take_reply(struct cores *cores, raft_id from)
{
    struct raft_message message;

    cores_persist(cores, from);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, from, 0), 1);
    message = cores_peek(cores, cores_find(cores, RAFT_MESSAGE_APPEND_REPLY, from, 0));
    cores_drop(cores, cores_find(cores, RAFT_MESSAGE_APPEND_REPLY, from, 0));
    return message.append_reply;
}

static void a_command_commits_and_everyone_learns_it_at_once(void **state)
{
    struct cores *cores = cores_create(3, 1);

    (void)state;
    cores_elect(cores, 1);
    for (raft_index index = 3; index < 10; index++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        assert_int_equal(cores->last.first_index, index);
        assert_int_equal(cores->last.term, 2);
        cores_settle(cores); /* without a tick: not on heartbeats */
        for (raft_id id = 1; id <= 3; id++) {
            assert_int_equal(raft_commit_index(core_of(cores, id)), index);
        }
    }
    assert_int_equal(cores_propose(cores, 2), ST_NOT_LEADER);
    cores_destroy(cores);
}

/* The answer to what is on its way will carry the news anyway; sent at once it might overtake the
 * entries, and be rejected. */
static void the_commit_index_does_not_overtake_the_entries(void **state)
{
    struct cores *cores = cores_create(3, 11);

    (void)state;
    cores_elect(cores, 1);
    cores_settle(cores);
    cores_propose(cores, 1);
    cores_persist(cores, 1);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    cores_persist(cores, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1); /* it is committed */
    assert_int_equal(raft_commit_index(core_of(cores, 1)), raft_last_index(core_of(cores, 1)));
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 2), 1); /* tells */
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 3), 1); /* the entry, no more */
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), raft_commit_index(core_of(cores, 1)));
    cores_destroy(cores);
}

/* Of three, of which 1 leads and has just committed an entry; it waits 10 ms to tell the others. */
static struct cores *cores_with_a_commit_to_tell(uint64_t seed)
{
    struct cores *cores = cores_create_empty(3, seed);

    cores->options.commit_delay_ms = 10;
    cores_start_all(cores);
    cores_elect(cores, 1);
    cores_run(cores, 20);
    cores_propose(cores, 1);
    cores_settle(cores);
    return cores;
}

/* A commit alone is worth no message: the next Append tells it, or a ReadIndex round's heartbeat,
 * and only when neither leaves for a while an empty Append. */
static void a_commit_alone_is_told_after_a_while(void **state)
{
    struct cores *cores = cores_with_a_commit_to_tell(12);
    uint64_t sent;

    (void)state;
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 3);
    assert_int_equal(raft_commit_index(core_of(cores, 2)), 2);
    assert_int_equal(raft_next_deadline_ms(core_of(cores, 1)), cores->now_ms + 10);
    cores_propose(cores, 1);
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 2)), 3);
    sent = cores->n_sent[RAFT_MESSAGE_APPEND];
    cores_run(cores, 9);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_APPEND], sent);
    cores_run(cores, 1);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_APPEND], sent + 2);
    assert_int_equal(raft_commit_index(core_of(cores, 2)), 4);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), 4);
    cores_destroy(cores);
}

static void a_reads_heartbeat_tells_the_commit_too(void **state)
{
    struct cores *cores = cores_with_a_commit_to_tell(13);
    uint64_t sent;

    (void)state;
    cores_read(cores, 1);
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), 3);
    sent = cores->n_sent[RAFT_MESSAGE_APPEND];
    cores_run(cores, 20);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_APPEND], sent); /* nothing is left to tell */
    cores_destroy(cores);
}

static void a_batch_is_one_append_a_follower(void **state)
{
    struct cores *cores = cores_create(3, 2);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose_sized(cores, 1, 100, 20), ST_OK);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 2), 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 3), 1);
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), 102);
    cores_destroy(cores);
}

static void appends_are_split_by_bytes_and_bounded_in_flight(void **state)
{
    struct cores *cores = cores_create_empty(3, 3);

    (void)state;
    cores->options.max_message_bytes = 4 * (RAFT_MESSAGE_APPEND + 1000);
    cores->options.max_inflight_messages = 5;
    cores->options.max_inflight_bytes = 1u << 20;
    cores_start_all(cores);
    cores_elect(cores, 1);
    assert_int_equal(cores_propose_sized(cores, 1, 30, 1000), ST_OK); /* 3 fit in one Append */
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 2), 5);
    assert_int_equal(cores_progress(cores, 1, 2).next_index, 3 + 15);
    assert_int_equal(cores_propose(cores, 1), ST_OK); /* full: waits */
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 2), 5);
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 2)), 33);
    /* By bytes. */
    cores_crash(cores, 1);
    cores->options.max_inflight_messages = 100;
    cores->options.max_inflight_bytes = 5000;
    cores_start(cores, 1);
    cores_elect(cores, 1);
    assert_int_equal(cores_propose_sized(cores, 1, 30, 1000), ST_OK);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 2), 2);
    cores_settle(cores);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void an_entry_larger_than_a_message_travels_alone(void **state)
{
    struct cores *cores = cores_create(3, 4);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose_sized(cores, 1, 2, 300u << 10), ST_OK);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 2), 2);
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 3)), 4);
    cores_destroy(cores);
}

static void proposals_beyond_the_uncommitted_limit_are_refused(void **state)
{
    struct cores *cores = cores_create_empty(3, 5);

    (void)state;
    cores->options.max_uncommitted_bytes = 10000;
    cores_start_all(cores);
    cores_elect(cores, 1);
    assert_int_equal(cores_propose_sized(cores, 1, 9, 1000), ST_OK);
    assert_int_equal(cores_propose_sized(cores, 1, 1, 1000), ST_BUSY);
    cores_settle(cores);
    assert_int_equal(cores_propose_sized(cores, 1, 1, 20000), ST_OK); /* alone it may */
    assert_int_equal(cores_propose_sized(cores, 1, 1, 8), ST_BUSY);
    cores_settle(cores);
    assert_int_equal(cores_propose_sized(cores, 1, 1, 8), ST_OK);
    cores_destroy(cores);
}

/* Pitfall: truncating on every Append. A late short one must not take away what came after it. */
static void a_late_append_removes_nothing(void **state)
{
    struct cores *cores = cores_create(3, 6);

    (void)state;
    inject_append(cores, 2, 1, 3, 1, 1, 3, 5, 0); /* entries 2..6 */
    assert_int_equal(take_reply(cores, 1).match_index, 6);
    inject_append(cores, 2, 1, 3, 1, 1, 3, 2, 0); /* 2..3 again, late */
    assert_int_equal(cores->nodes[1].n_writes, 0);
    assert_int_equal(take_reply(cores, 1).match_index, 3);
    assert_int_equal(raft_last_index(core_of(cores, 1)), 6);
    inject_append(cores, 2, 1, 3, 2, 3, 3, 0, 0); /* and an empty one */
    assert_int_equal(raft_last_index(core_of(cores, 1)), 6);
    assert_int_equal(core_disk_last_index(&cores->nodes[1].disk), 6);
    cores_destroy(cores);
}

static void a_conflict_replaces_the_entry_and_all_that_follow(void **state)
{
    struct cores *cores = cores_create(3, 7);

    (void)state;
    inject_append(cores, 2, 1, 3, 1, 1, 3, 5, 2); /* 2..6 of term 3, 2 is committed */
    (void)take_reply(cores, 1);
    inject_append(cores, 3, 1, 4, 3, 3, 4, 1, 2); /* 4 of term 4 */
    assert_int_equal(take_reply(cores, 1).match_index, 4);
    assert_int_equal(raft_last_index(core_of(cores, 1)), 4);
    assert_int_equal(raft_term_at(core_of(cores, 1), 3), 3);
    assert_int_equal(raft_term_at(core_of(cores, 1), 4), 4);
    assert_int_equal(core_disk_last_index(&cores->nodes[1].disk), 4);
    cores_destroy(cores);
}

static void nothing_below_the_commit_index_is_ever_replaced(void **state)
{
    struct cores *cores = cores_create(3, 8);

    (void)state;
    inject_append(cores, 2, 1, 3, 1, 1, 3, 5, 6); /* 2..6, all committed */
    (void)take_reply(cores, 1);
    inject_append(cores, 3, 1, 4, 3, 3, 4, 6, 0); /* contradicts 4..6 */
    cores_persist(cores, 1);
    assert_int_equal(raft_last_index(core_of(cores, 1)), 6);
    assert_int_equal(raft_term_at(core_of(cores, 1), 4), 3);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, 1, 0), 0);
    /* An old prev with nothing new is answered by what is known to agree. */
    inject_append(cores, 3, 1, 4, 2, 3, 4, 0, 0);
    assert_int_equal(take_reply(cores, 1).match_index, 6);
    cores_destroy(cores);
}

static void the_commit_index_stops_at_the_last_new_entry(void **state)
{
    struct cores *cores = cores_create(3, 9);

    (void)state;
    inject_append(cores, 2, 1, 3, 1, 1, 3, 5, 0); /* 2..6 of term 3 */
    (void)take_reply(cores, 1);
    /* The leader of term 4 has committed 5 entries, of which this replica has verified 3. */
    inject_append(cores, 3, 1, 4, 3, 3, 4, 0, 5);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 3);
    cores_destroy(cores);
}

static void malformed_appends_are_ignored(void **state)
{
    struct cores *cores = cores_create(3, 10);

    (void)state;
    inject_append(cores, 2, 1, 3, 1, 1, 9, 1, 0);              /* entry of a term to come */
    inject_append(cores, 2, 1, 3, 1, 3, 2, 1, 0);              /* terms fall */
    inject_append(cores, 2, 1, 3, 0, 1, 3, 1, 0);              /* a term before the log */
    inject_append(cores, 2, 1, 3, UINT64_MAX - 1, 1, 3, 1, 0); /* index runs over */
    cores_persist(cores, 1);
    assert_int_equal(raft_last_index(core_of(cores, 1)), 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, 1, 0), 0);
    cores_destroy(cores);
}

static void a_rejection_tells_where_the_logs_may_agree(void **state)
{
    struct cores *cores = cores_create(3, 11);
    struct raft_append_reply reply;

    (void)state;
    inject_append(cores, 2, 1, 3, 1, 1, 2, 3, 0); /* 2..4 of term 2 */
    (void)take_reply(cores, 1);
    inject_append(cores, 2, 1, 3, 4, 2, 3, 4, 0); /* 5..8 of term 3 */
    (void)take_reply(cores, 1);
    inject_append(cores, 3, 1, 5, 20, 5, 5, 0, 0); /* far ahead: the end of the log */
    reply = take_reply(cores, 1);
    assert_true(reply.rejected);
    assert_int_equal(reply.rejected_index, 20);
    assert_int_equal(reply.hint_index, 8);
    assert_int_equal(reply.hint_term, 3);
    inject_append(cores, 3, 1, 5, 7, 2, 5, 0, 0); /* the leader has term 2 there: past term 3 */
    reply = take_reply(cores, 1);
    assert_int_equal(reply.hint_index, 4);
    assert_int_equal(reply.hint_term, 2);
    cores_destroy(cores);
}

/* Backup (scenarios 2.1): long diverging logs come together in a round trip a term, not an entry.
 */
static void diverging_logs_take_one_round_trip_a_term(void **state)
{
    struct cores *cores = cores_create(3, 12);
    raft_term term;
    uint64_t rejections;

    (void)state;
    /* Replica 3 has 50 doomed entries of each of the terms 2, 4 and 6. */
    for (term = 2; term <= 6; term += 2) {
        for (size_t i = 0; i < 5; i++) {
            raft_index last = raft_last_index(core_of(cores, 3));

            inject_append(cores, 2, 3, term, last, raft_term_at(core_of(cores, 3), last), term, 10,
                          0);
            (void)take_reply(cores, 3);
        }
    }
    /* Replica 1 has 60 entries of each of the terms 3, 5 and 7, but for the last 10. */
    for (term = 3; term <= 7; term += 2) {
        for (size_t i = 0; i < 6; i++) {
            raft_index last = raft_last_index(core_of(cores, 1));

            inject_append(cores, 2, 1, term, last, raft_term_at(core_of(cores, 1), last), term, 10,
                          0);
            (void)take_reply(cores, 1);
        }
    }
    cores_elect(cores, 1);
    rejections = 0;
    cores_run(cores, 200);
    cores_assert_converged(cores);
    rejections = cores->n_sent[RAFT_MESSAGE_APPEND_REPLY];
    assert_in_range(rejections, 1, 36 + 15 + 20); /* planting took 36 + 15 answers */
    cores_destroy(cores);
}

static void heartbeats_carry_no_more_than_what_the_follower_has(void **state)
{
    struct cores *cores = cores_create(3, 13);
    struct raft_message heartbeat;

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 3);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    cores->now_ms += 60;
    cores_tick(cores, 1);
    heartbeat = cores_peek(cores, cores_find(cores, RAFT_MESSAGE_HEARTBEAT, 1, 3));
    assert_int_equal(heartbeat.heartbeat.commit_index, 2);
    heartbeat = cores_peek(cores, cores_find(cores, RAFT_MESSAGE_HEARTBEAT, 1, 2));
    assert_int_equal(heartbeat.heartbeat.commit_index, 7);
    cores_destroy(cores);
}

static void a_lost_append_is_found_by_an_empty_one_and_sent_again(void **state)
{
    struct cores *cores = cores_create(3, 14);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose_sized(cores, 1, 10, 1000), ST_OK);
    cores_cut(cores, 1, 3);
    cores_settle(cores);
    cores_heal(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 12);
    assert_int_equal(raft_last_index(core_of(cores, 3)), 2);
    cores->bytes_sent = 0;
    cores_run(cores, 150);
    cores_assert_converged(cores);
    assert_in_range(cores->bytes_sent, 10000, 12000); /* the entries travelled once more */
    cores_destroy(cores);
}

static void a_lost_acknowledgement_costs_no_entries(void **state)
{
    struct cores *cores = cores_create(3, 15);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose_sized(cores, 1, 10, 1000), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 3);
    cores_persist(cores, 3);
    cores_drop(cores, cores_find(cores, RAFT_MESSAGE_APPEND_REPLY, 3, 1));
    cores_settle(cores);
    cores->bytes_sent = 0;
    cores_run(cores, 150);
    assert_int_equal(cores_progress(cores, 1, 3).match_index, 12);
    assert_in_range(cores->bytes_sent, 1, 1000);
    cores_destroy(cores);
}

static void stale_answers_change_nothing(void **state)
{
    struct cores *cores = cores_create(3, 16);
    struct raft_message reply = {.type = RAFT_MESSAGE_APPEND_REPLY, .from = 2, .to = 1};

    (void)state;
    cores_elect(cores, 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    assert_int_equal(cores_progress(cores, 1, 2).match_index, 7);
    reply.term = raft_current_term(core_of(cores, 1));
    reply.append_reply.match_index = 3; /* late: match_index never falls */
    cores_inject(cores, &reply);
    cores_settle(cores);
    assert_int_equal(cores_progress(cores, 1, 2).match_index, 7);
    reply.append_reply = (struct raft_append_reply){
        .rejected = true, .rejected_index = 5, .hint_index = 2, .hint_term = 2};
    cores_inject(cores, &reply); /* a rejection below what is known to match */
    cores_settle(cores);
    assert_int_equal(cores_progress(cores, 1, 2).state, RAFT_REPLICATE);
    assert_int_equal(cores_progress(cores, 1, 2).next_index, 8);
    reply.append_reply = (struct raft_append_reply){.match_index = 1000}; /* never sent */
    cores_inject(cores, &reply);
    cores_settle(cores);
    assert_int_equal(cores_progress(cores, 1, 2).match_index, 7);
    /* An answer of an older term: with it alone the entry must not commit. */
    cores_isolate(cores, 3);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_drop_all(cores);
    cores_persist(cores, 1);
    reply.term--;
    reply.append_reply = (struct raft_append_reply){.match_index = 8};
    cores_inject(cores, &reply);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 7);
    cores_destroy(cores);
}

static void a_broken_link_is_probed_at_once_when_it_is_back(void **state)
{
    struct cores *cores = cores_create(3, 17);

    (void)state;
    cores_elect(cores, 1);
    cores_cut(cores, 1, 3);
    cores_link(cores, 1, 3, RAFT_EVENT_PEER_DOWN);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    assert_int_equal(cores_progress(cores, 1, 3).state, RAFT_PROBE);
    cores_heal(cores);
    cores_link(cores, 1, 3, RAFT_EVENT_PEER_UP);
    cores_settle(cores); /* without a tick */
    assert_int_equal(cores_progress(cores, 1, 3).state, RAFT_REPLICATE);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* Rejoin (scenarios 2.1): a deposed leader's doomed entries give way. */
static void a_deposed_leaders_entries_are_replaced(void **state)
{
    struct cores *cores = cores_create(3, 18);

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK); /* doomed */
    }
    cores_settle(cores);
    cores_elect(cores, 2);
    assert_int_equal(cores_propose(cores, 2), ST_OK);
    cores_settle(cores);
    cores_isolate(cores, 2);
    cores->nodes[1].link_up = cores->nodes[3].link_up = UINT64_MAX;
    cores_run(cores, 2000);
    cores_heal(cores);
    cores_run(cores, 2000);
    cores_assert_converged(cores);
    assert_int_equal(raft_term_at(core_of(cores, 1), 3), 3);
    cores_destroy(cores);
}

/* Count and RPCBytes (scenarios 2.1). */
static void messages_are_few(void **state)
{
    struct cores *cores = cores_create(3, 19);
    uint64_t before;

    (void)state;
    cores_run(cores, 700);
    assert_true(cores_leader(cores) != 0);
    cores->n_sent[RAFT_MESSAGE_APPEND] = 0;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(cores_propose(cores, cores_leader(cores)), ST_OK);
    }
    cores_settle(cores);
    cores_assert_converged(cores);
    assert_in_range(cores->n_sent[RAFT_MESSAGE_APPEND], 24, 30);
    before = cores->n_sent[RAFT_MESSAGE_HEARTBEAT] + cores->n_sent[RAFT_MESSAGE_APPEND];
    cores_run(cores, 1000);
    assert_in_range(cores->n_sent[RAFT_MESSAGE_HEARTBEAT] + cores->n_sent[RAFT_MESSAGE_APPEND] -
                        before,
                    10, 42);
    cores->bytes_sent = 0;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(cores_propose_sized(cores, cores_leader(cores), 1, 5000), ST_OK);
        cores_settle(cores);
    }
    assert_in_range(cores->bytes_sent, 100000, 110000);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_commits_and_everyone_learns_it_at_once),
        cmocka_unit_test(the_commit_index_does_not_overtake_the_entries),
        cmocka_unit_test(a_commit_alone_is_told_after_a_while),
        cmocka_unit_test(a_reads_heartbeat_tells_the_commit_too),
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
