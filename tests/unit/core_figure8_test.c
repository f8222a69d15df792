/* The paper's Figure 8: an entry of an older term may be on a majority and still be overwritten, so
 * a leader must not commit it by counting; it commits with the first entry of the leader's own
 * term (5.4.2). */
#include "tests/sim/core_harness.h"

/* (a) Replica 1 leads term 2 and gets its entry only to 2. (b) Replica 5 leads term 3, elected by 3
 * and 4, and keeps its entry for itself. Their indexes are the same. */
static struct cores *figure_8_until_b(void)
{
    struct cores *cores = cores_create(5, 8);

    cores_elect(cores, 1); /* term 2, entry 2 is on all */
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2); /* entry 3 of term 2 */
    cores_persist(cores, 1);
    cores_persist(cores, 2);
    cores_drop_all(cores);
    cores_crash(cores, 1);
    cores_crash(cores, 2);
    cores_timeout(cores, 5);
    for (raft_id id = 3; id <= 4; id++) { /* pre-vote and vote */
        cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 5, id);
        cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, id, 5);
    }
    cores_persist(cores, 5);
    for (raft_id id = 3; id <= 4; id++) {
        cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 5, id);
        cores_persist(cores, id);
        cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, id, 5);
    }
    cores_persist(cores, 5);
    assert_int_equal(raft_role(core_of(cores, 5)), RAFT_LEADER);
    assert_int_equal(raft_term_at(core_of(cores, 5), 3), 3);
    cores_drop_all(cores); /* nobody gets entry 3 of term 3 */
    cores_crash(cores, 5);
    return cores;
}

/* Elects replica 1 with the votes of 2 and 3, without letting its no-op out. */
static void elect_one_again(struct cores *cores)
{
    cores_start(cores, 1);
    cores_start(cores, 2);
    cores_timeout(cores, 1);
    for (int round = 0; round < 2; round++) {
        for (raft_id id = 2; id <= 3; id++) {
            cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 1, id);
            cores_persist(cores, id);
            if (cores_find(cores, RAFT_MESSAGE_VOTE_REPLY, id, 1) != SIZE_MAX) {
                cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, id, 1);
            }
        }
        if (raft_role(core_of(cores, 1)) == RAFT_FOLLOWER) { /* 3 told it of term 3 */
            cores_drop_all(cores);
            cores_timeout(cores, 1);
            round = -1;
        }
        cores_persist(cores, 1);
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_drop_all(cores);
}

static struct raft_message entry_3_from_1(struct cores *cores, raft_id to, struct raft_entry *entry)
{
    struct raft_message append = {.type = RAFT_MESSAGE_APPEND, .from = 1, .to = to};

    *entry = *raft_entry_at(core_of(cores, 1), 3);
    append.term = raft_current_term(core_of(cores, 1));
    append.append.prev_log_index = 2;
    append.append.prev_log_term = 2;
    append.append.commit_index = 2;
    append.append.entries = entry;
    append.append.n_entries = 1;
    return append;
}

static void an_old_entry_on_a_majority_is_not_committed_by_counting(void **state)
{
    struct cores *cores = figure_8_until_b();
    struct raft_message append;
    struct raft_entry entry;

    (void)state;
    elect_one_again(cores);
    /* (c) Entry 3 of term 2 gets to 2 and 3: with 1 itself that is a majority. */
    for (raft_id id = 2; id <= 3; id++) {
        append = entry_3_from_1(cores, id, &entry);
        cores_inject(cores, &append);
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, id);
        cores_persist(cores, id);
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, id, 1);
    }
    cores_persist(cores, 1);
    assert_int_equal(cores_progress(cores, 1, 2).match_index, 3);
    assert_int_equal(cores_progress(cores, 1, 3).match_index, 3);
    assert_true(raft_commit_index(core_of(cores, 1)) < 3);
    /* (d) And rightly so: 5 may still lead and overwrite it everywhere. */
    cores_drop_all(cores);
    cores_crash(cores, 1);
    cores_start(cores, 5);
    for (int i = 0; i < 3 && raft_role(core_of(cores, 5)) != RAFT_LEADER; i++) {
        cores_timeout(cores, 5); /* the first time it only learns the term */
        cores_settle(cores);
    }
    assert_int_equal(raft_role(core_of(cores, 5)), RAFT_LEADER);
    cores_run(cores, 300);
    for (raft_id id = 2; id <= 5; id++) {
        assert_int_equal(raft_term_at(core_of(cores, id), 3), 3);
        assert_true(raft_commit_index(core_of(cores, id)) >= 4);
    }
    cores_destroy(cores);
}

static void it_commits_with_the_first_entry_of_the_leaders_own_term(void **state)
{
    struct cores *cores = figure_8_until_b();

    (void)state;
    elect_one_again(cores);
    cores_run(cores, 300); /* (e) the no-op of the new term reaches a majority */
    assert_true(raft_commit_index(core_of(cores, 1)) >= 4);
    assert_int_equal(raft_term_at(core_of(cores, 3), 3), 2);
    cores_start(cores, 5);
    cores_run(cores, 2000);
    assert_int_equal(raft_term_at(core_of(cores, 5), 3), 2);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_entry_on_a_majority_is_not_committed_by_counting),
        cmocka_unit_test(it_commits_with_the_first_entry_of_the_leaders_own_term),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
