/* The order of effects: what a message promises is durable before the message leaves (paper,
 * Figure 2: "persistent state, updated on stable storage before responding to RPCs"), and nothing
 * else waits for a disk. */
#include "tests/sim/core_harness.h"

static void a_vote_leaves_only_after_it_is_durable(void **state)
{
    struct cores *cores = cores_create(3, 1);

    (void)state;
    cores_timeout(cores, 1);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 2); /* pre-vote: promises nothing */
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1), 1);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    /* A candidate asks for votes only once its vote for itself is durable. */
    cores_drop(cores, cores_find(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 3));
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_CANDIDATE);
    assert_int_equal(cores->n_flying, 0);
    cores_persist(cores, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 0), 2);
    /* And who grants it answers only once the vote is durable. */
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, 2);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1), 0);
    assert_int_equal(cores->nodes[2].disk.hard_state.voted_for, 0);
    cores_persist(cores, 2);
    assert_int_equal(cores->nodes[2].disk.hard_state.voted_for, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_VOTE_REPLY, 2, 1), 1);
    cores_destroy(cores);
}

static void an_append_is_acknowledged_only_after_it_is_durable(void **state)
{
    struct cores *cores = cores_create(3, 2);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    assert_int_equal(raft_last_index(core_of(cores, 2)), 3);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1), 0);
    cores_persist(cores, 2);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1), 1);
    cores_destroy(cores);
}

/* The same Append again brings nothing to write, but what it acknowledges may not be durable yet.
 */
static void a_repeated_append_is_not_acknowledged_before_the_first_write(void **state)
{
    struct cores *cores = cores_create(3, 3);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_deliver(cores, cores_find(cores, RAFT_MESSAGE_APPEND, 1, 2), true);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    assert_int_equal(cores->nodes[2].n_writes, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1), 0);
    assert_int_equal(cores->nodes[2].n_held, 2);
    cores_destroy(cores);
}

static void a_leader_sends_at_once_and_counts_itself_when_durable(void **state)
{
    struct cores *cores = cores_create(3, 4);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND, 1, 0), 2); /* nothing is durable */
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    cores_persist(cores, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 2); /* one durable copy of three */
    cores_persist(cores, 1);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 3);
    cores_destroy(cores);
}

static void followers_commit_without_the_leaders_disk(void **state)
{
    struct cores *cores = cores_create(3, 5);

    (void)state;
    cores_elect(cores, 1);
    cores->nodes[1].slow_disk = true;
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_settle(cores);
    assert_int_equal(cores->nodes[1].n_writes, 1);
    for (raft_id id = 1; id <= 3; id++) {
        assert_int_equal(raft_commit_index(core_of(cores, id)), 3);
    }
    /* The leader crashes and has lost it; the group has not. */
    cores_crash(cores, 1);
    cores_start(cores, 1);
    assert_int_equal(raft_last_index(core_of(cores, 1)), 2);
    cores->nodes[1].slow_disk = false;
    cores_run(cores, 2000);
    cores_assert_converged(cores);
    assert_int_equal(raft_term_at(core_of(cores, 1), 3), 2);
    cores_destroy(cores);
}

/* A write that was overwritten before it was durable must not count for what replaced it. */
static void a_finished_write_does_not_count_for_what_replaced_it(void **state)
{
    struct cores *cores = cores_create(3, 6);
    struct raft_message append = {.type = RAFT_MESSAGE_APPEND, .from = 3, .to = 2, .term = 7};
    struct raft_entry entry = {.index = 3, .term = 7, .type = RAFT_ENTRY_NOOP};

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2); /* entry 3 of term 2, not durable */
    append.append.prev_log_index = 2;
    append.append.prev_log_term = 2;
    append.append.entries = &entry;
    append.append.n_entries = 1;
    cores_inject(cores, &append);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 3, 2); /* replaces it by entry 3 of term 7 */
    assert_int_equal(cores->nodes[2].n_writes, 2);
    cores_persist_one(cores, 2);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 3), 0);
    assert_int_equal(core_disk_term_at(&cores->nodes[2].disk, 3), 2);
    /* It leads next: its own entry 3 counts only after the second write. */
    cores_persist_one(cores, 2);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 3), 1);
    assert_int_equal(core_disk_term_at(&cores->nodes[2].disk, 3), 7);
    cores_destroy(cores);
}

static void a_term_is_not_told_before_it_is_durable(void **state)
{
    struct cores *cores = cores_create(3, 7);
    struct raft_message heartbeat = {.type = RAFT_MESSAGE_HEARTBEAT, .from = 3, .to = 1, .term = 4};

    (void)state;
    cores_inject(cores, &heartbeat);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 3, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 1, 3), 0);
    cores_persist(cores, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 1, 3), 1);
    /* From then on heartbeats are answered whatever the disk does. */
    cores->nodes[1].slow_disk = true;
    cores_inject(cores, &heartbeat);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 3, 1);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 1, 3), 2);
    cores_destroy(cores);
}

static void a_restarted_group_goes_on_with_everything_acknowledged(void **state)
{
    struct cores *cores = cores_create(5, 8);

    (void)state;
    for (int round = 0; round < 5; round++) {
        cores_run(cores, 1500);
        for (int i = 0; i < 10; i++) {
            assert_int_equal(cores_propose(cores, cores_leader(cores)), ST_OK);
            cores_settle(cores);
        }
        for (raft_id id = 1; id <= 5; id++) {
            cores_crash(cores, id);
        }
        cores_drop_all(cores);
        for (raft_id id = 1; id <= 5; id++) {
            cores_start(cores, id);
            assert_true(raft_last_index(core_of(cores, id)) >= cores->committed_max);
        }
    }
    cores_run(cores, 1500);
    cores_assert_converged(cores);
    assert_true(cores->committed_max >= 50);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vote_leaves_only_after_it_is_durable),
        cmocka_unit_test(an_append_is_acknowledged_only_after_it_is_durable),
        cmocka_unit_test(a_repeated_append_is_not_acknowledged_before_the_first_write),
        cmocka_unit_test(a_leader_sends_at_once_and_counts_itself_when_durable),
        cmocka_unit_test(followers_commit_without_the_leaders_disk),
        cmocka_unit_test(a_finished_write_does_not_count_for_what_replaced_it),
        cmocka_unit_test(a_term_is_not_told_before_it_is_durable),
        cmocka_unit_test(a_restarted_group_goes_on_with_everything_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
