/* The order of effects: what a message promises is durable before the message leaves (paper,
 * Figure 2: "persistent state, updated on stable storage before responding to RPCs"), and nothing
 * else waits for a disk. */
#include "tests/unit/core_harness.h"

static void a_vote_leaves_only_after_it_is_durable(void **state)
{
    struct world *world = world_create(3, 1);

    (void)state;
    world_timeout(world, 1);
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 1, 2); /* pre-vote: promises nothing */
    assert_int_equal(world_count(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1), 1);
    world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1);
    /* A candidate asks for votes only once its vote for itself is durable. */
    world_drop(world, world_find(world, RAFT_MESSAGE_REQUEST_VOTE, 1, 3));
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_CANDIDATE);
    assert_int_equal(world->n_flying, 0);
    world_persist(world, 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_REQUEST_VOTE, 1, 0), 2);
    /* And who grants it answers only once the vote is durable. */
    world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 1, 2);
    assert_int_equal(world_count(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1), 0);
    assert_int_equal(world->nodes[2].disk.hard_state.voted_for, 0);
    world_persist(world, 2);
    assert_int_equal(world->nodes[2].disk.hard_state.voted_for, 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_VOTE_REPLY, 2, 1), 1);
    world_destroy(world);
}

static void an_append_is_acknowledged_only_after_it_is_durable(void **state)
{
    struct world *world = world_create(3, 2);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, 2);
    assert_int_equal(raft_last_index(core_of(world, 2)), 3);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, 2, 1), 0);
    world_persist(world, 2);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, 2, 1), 1);
    world_destroy(world);
}

/* The same Append again brings nothing to write, but what it acknowledges may not be durable yet.
 */
static void a_repeated_append_is_not_acknowledged_before_the_first_write(void **state)
{
    struct world *world = world_create(3, 3);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_deliver(world, world_find(world, RAFT_MESSAGE_APPEND, 1, 2), true);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, 2);
    assert_int_equal(world->nodes[2].n_writes, 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, 2, 1), 0);
    assert_int_equal(world->nodes[2].n_held, 2);
    world_destroy(world);
}

static void a_leader_sends_at_once_and_counts_itself_when_durable(void **state)
{
    struct world *world = world_create(3, 4);

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose(world, 1), ST_OK);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND, 1, 0), 2); /* nothing is durable */
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, 2);
    world_persist(world, 2);
    world_deliver_one(world, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    assert_int_equal(raft_commit_index(core_of(world, 1)), 2); /* one durable copy of three */
    world_persist(world, 1);
    assert_int_equal(raft_commit_index(core_of(world, 1)), 3);
    world_destroy(world);
}

static void followers_commit_without_the_leaders_disk(void **state)
{
    struct world *world = world_create(3, 5);

    (void)state;
    world_elect(world, 1);
    world->nodes[1].slow_disk = true;
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_settle(world);
    assert_int_equal(world->nodes[1].n_writes, 1);
    for (raft_id id = 1; id <= 3; id++) {
        assert_int_equal(raft_commit_index(core_of(world, id)), 3);
    }
    /* The leader crashes and has lost it; the group has not. */
    world_crash(world, 1);
    world_start(world, 1);
    assert_int_equal(raft_last_index(core_of(world, 1)), 2);
    world->nodes[1].slow_disk = false;
    world_run(world, 2000);
    world_assert_converged(world);
    assert_int_equal(raft_term_at(core_of(world, 1), 3), 2);
    world_destroy(world);
}

/* A write that was overwritten before it was durable must not count for what replaced it. */
static void a_finished_write_does_not_count_for_what_replaced_it(void **state)
{
    struct world *world = world_create(3, 6);
    struct raft_message append = {.type = RAFT_MESSAGE_APPEND, .from = 3, .to = 2, .term = 7};
    struct raft_entry entry = {.index = 3, .term = 7, .type = RAFT_ENTRY_NOOP};

    (void)state;
    world_elect(world, 1);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, 2); /* entry 3 of term 2, not durable */
    append.append.prev_log_index = 2;
    append.append.prev_log_term = 2;
    append.append.entries = &entry;
    append.append.n_entries = 1;
    world_inject(world, &append);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 3, 2); /* replaces it by entry 3 of term 7 */
    assert_int_equal(world->nodes[2].n_writes, 2);
    world_persist_one(world, 2);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, 2, 3), 0);
    assert_int_equal(disk_term_at(&world->nodes[2].disk, 3), 2);
    /* It leads next: its own entry 3 counts only after the second write. */
    world_persist_one(world, 2);
    assert_int_equal(world_count(world, RAFT_MESSAGE_APPEND_REPLY, 2, 3), 1);
    assert_int_equal(disk_term_at(&world->nodes[2].disk, 3), 7);
    world_destroy(world);
}

static void a_term_is_not_told_before_it_is_durable(void **state)
{
    struct world *world = world_create(3, 7);
    struct raft_message heartbeat = {.type = RAFT_MESSAGE_HEARTBEAT, .from = 3, .to = 1, .term = 4};

    (void)state;
    world_inject(world, &heartbeat);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 3, 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 1, 3), 0);
    world_persist(world, 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 1, 3), 1);
    /* From then on heartbeats are answered whatever the disk does. */
    world->nodes[1].slow_disk = true;
    world_inject(world, &heartbeat);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 3, 1);
    assert_int_equal(world_count(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 1, 3), 2);
    world_destroy(world);
}

static void a_restarted_group_goes_on_with_everything_acknowledged(void **state)
{
    struct world *world = world_create(5, 8);

    (void)state;
    for (int round = 0; round < 5; round++) {
        world_run(world, 1500);
        for (int i = 0; i < 10; i++) {
            assert_int_equal(world_propose(world, world_leader(world)), ST_OK);
            world_settle(world);
        }
        for (raft_id id = 1; id <= 5; id++) {
            world_crash(world, id);
        }
        world_drop_all(world);
        for (raft_id id = 1; id <= 5; id++) {
            world_start(world, id);
            assert_true(raft_last_index(core_of(world, id)) >= world->committed_max);
        }
    }
    world_run(world, 1500);
    world_assert_converged(world);
    assert_true(world->committed_max >= 50);
    world_destroy(world);
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
