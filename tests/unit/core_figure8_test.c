/* The paper's Figure 8: an entry of an older term may be on a majority and still be overwritten, so
 * a leader must not commit it by counting; it commits with the first entry of the leader's own
 * term (5.4.2). */
#include "tests/unit/core_harness.h"

/* (a) Replica 1 leads term 2 and gets its entry only to 2. (b) Replica 5 leads term 3, elected by 3
 * and 4, and keeps its entry for itself. Their indexes are the same. */
static struct world *figure_8_until_b(void)
{
    struct world *world = world_create(5, 8);

    world_elect(world, 1); /* term 2, entry 2 is on all */
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, 2); /* entry 3 of term 2 */
    world_persist(world, 1);
    world_persist(world, 2);
    world_drop_all(world);
    world_crash(world, 1);
    world_crash(world, 2);
    world_timeout(world, 5);
    for (raft_id id = 3; id <= 4; id++) { /* pre-vote and vote */
        world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 5, id);
        world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, id, 5);
    }
    world_persist(world, 5);
    for (raft_id id = 3; id <= 4; id++) {
        world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 5, id);
        world_persist(world, id);
        world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, id, 5);
    }
    world_persist(world, 5);
    assert_int_equal(raft_role(core_of(world, 5)), RAFT_LEADER);
    assert_int_equal(raft_term_at(core_of(world, 5), 3), 3);
    world_drop_all(world); /* nobody gets entry 3 of term 3 */
    world_crash(world, 5);
    return world;
}

/* Elects replica 1 with the votes of 2 and 3, without letting its no-op out. */
static void elect_one_again(struct world *world)
{
    world_start(world, 1);
    world_start(world, 2);
    world_timeout(world, 1);
    for (int round = 0; round < 2; round++) {
        for (raft_id id = 2; id <= 3; id++) {
            world_deliver_one(world, RAFT_MESSAGE_REQUEST_VOTE, 1, id);
            world_persist(world, id);
            if (world_find(world, RAFT_MESSAGE_VOTE_REPLY, id, 1) != SIZE_MAX) {
                world_deliver_one(world, RAFT_MESSAGE_VOTE_REPLY, id, 1);
            }
        }
        if (raft_role(core_of(world, 1)) == RAFT_FOLLOWER) { /* 3 told it of term 3 */
            world_drop_all(world);
            world_timeout(world, 1);
            round = -1;
        }
        world_persist(world, 1);
    }
    assert_int_equal(raft_role(core_of(world, 1)), RAFT_LEADER);
    world_drop_all(world);
}

static struct raft_message entry_3_from_1(struct world *world, raft_id to, struct raft_entry *entry)
{
    struct raft_message append = {.type = RAFT_MESSAGE_APPEND, .from = 1, .to = to};

    *entry = *raft_entry_at(core_of(world, 1), 3);
    append.term = raft_current_term(core_of(world, 1));
    append.append.prev_log_index = 2;
    append.append.prev_log_term = 2;
    append.append.commit_index = 2;
    append.append.entries = entry;
    append.append.n_entries = 1;
    return append;
}

static void an_old_entry_on_a_majority_is_not_committed_by_counting(void **state)
{
    struct world *world = figure_8_until_b();
    struct raft_message append;
    struct raft_entry entry;

    (void)state;
    elect_one_again(world);
    /* (c) Entry 3 of term 2 gets to 2 and 3: with 1 itself that is a majority. */
    for (raft_id id = 2; id <= 3; id++) {
        append = entry_3_from_1(world, id, &entry);
        world_inject(world, &append);
        world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, id);
        world_persist(world, id);
        world_deliver_one(world, RAFT_MESSAGE_APPEND_REPLY, id, 1);
    }
    world_persist(world, 1);
    assert_int_equal(world_progress(world, 1, 2).match_index, 3);
    assert_int_equal(world_progress(world, 1, 3).match_index, 3);
    assert_true(raft_commit_index(core_of(world, 1)) < 3);
    /* (d) And rightly so: 5 may still lead and overwrite it everywhere. */
    world_drop_all(world);
    world_crash(world, 1);
    world_start(world, 5);
    for (int i = 0; i < 3 && raft_role(core_of(world, 5)) != RAFT_LEADER; i++) {
        world_timeout(world, 5); /* the first time it only learns the term */
        world_settle(world);
    }
    assert_int_equal(raft_role(core_of(world, 5)), RAFT_LEADER);
    world_run(world, 300);
    for (raft_id id = 2; id <= 5; id++) {
        assert_int_equal(raft_term_at(core_of(world, id), 3), 3);
        assert_true(raft_commit_index(core_of(world, id)) >= 4);
    }
    world_destroy(world);
}

static void it_commits_with_the_first_entry_of_the_leaders_own_term(void **state)
{
    struct world *world = figure_8_until_b();

    (void)state;
    elect_one_again(world);
    world_run(world, 300); /* (e) the no-op of the new term reaches a majority */
    assert_true(raft_commit_index(core_of(world, 1)) >= 4);
    assert_int_equal(raft_term_at(core_of(world, 3), 3), 2);
    world_start(world, 5);
    world_run(world, 2000);
    assert_int_equal(raft_term_at(core_of(world, 5), 3), 2);
    world_assert_converged(world);
    world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_entry_on_a_majority_is_not_committed_by_counting),
        cmocka_unit_test(it_commits_with_the_first_entry_of_the_leaders_own_term),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
