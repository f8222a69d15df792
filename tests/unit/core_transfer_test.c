/* Leadership transfer (thesis 3.10), asked for or because the leader's own disk is slow. */
#include "tests/sim/core_harness.h"

static void leadership_moves_at_once_and_skips_the_pre_vote(void **state)
{
    struct cores *cores = cores_create(3, 1);
    uint64_t votes;

    (void)state;
    cores_elect(cores, 1);
    votes = cores->n_sent[RAFT_MESSAGE_REQUEST_VOTE];
    assert_int_equal(cores_transfer(cores, 1, 2), ST_OK);
    cores_settle(cores); /* the others heard the leader this very moment: the flag overrides it */
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_REQUEST_VOTE] - votes, 2);
    cores_destroy(cores);
}

static void the_target_is_brought_up_to_date_first(void **state)
{
    struct cores *cores = cores_create(3, 2);

    (void)state;
    cores_elect(cores, 1);
    cores_cut(cores, 1, 3);
    cores_link(cores, 1, 3, RAFT_EVENT_PEER_DOWN);
    assert_int_equal(cores_propose_sized(cores, 1, 20, 10), ST_OK);
    cores_settle(cores);
    assert_int_equal(cores_transfer(cores, 1, 3), ST_OK);
    cores_settle(cores);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_TIMEOUT_NOW], 0);
    cores_heal(cores);
    cores_link(cores, 1, 3, RAFT_EVENT_PEER_UP);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_LEADER);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void no_proposals_while_handing_over_and_again_after_an_abort(void **state)
{
    struct cores *cores = cores_create(3, 3);

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 3);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_settle(cores);
    assert_int_equal(cores_transfer(cores, 1, 3), ST_OK);
    assert_int_equal(raft_leader(core_of(cores, 1)), 1);
    assert_int_equal(raft_next_leader(core_of(cores, 1)), 3);
    assert_int_equal(cores_propose(cores, 1), ST_BUSY);
    assert_int_equal(cores_transfer(cores, 1, 3), ST_OK);   /* the same again */
    assert_int_equal(cores_transfer(cores, 1, 2), ST_BUSY); /* another one */
    cores_run(cores, 299);
    assert_int_equal(cores_propose(cores, 1), ST_BUSY);
    cores_run(cores, 2);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_settle(cores);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), 4);
    cores_destroy(cores);
}

static void a_lost_timeout_now_is_repeated(void **state)
{
    struct cores *cores = cores_create(3, 4);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_transfer(cores, 1, 2), ST_OK);
    cores_drop(cores, cores_find(cores, RAFT_MESSAGE_TIMEOUT_NOW, 1, 2));
    cores_run(cores, 120);
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    cores_destroy(cores);
}

static void without_a_target_the_most_caught_up_voter_is_chosen(void **state)
{
    struct cores *cores = cores_create(5, 5);

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 2);
    cores_isolate(cores, 3);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_settle(cores);
    assert_int_equal(cores_transfer(cores, 1, 0), ST_OK);
    cores_heal(cores);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 4)), RAFT_LEADER);
    cores_destroy(cores);
}

/* A leader just elected does not know who lives: nobody answered it yet, and one is down. */
static void without_a_target_nobody_is_chosen_who_did_not_answer(void **state)
{
    struct cores *cores = cores_create(5, 12);

    (void)state;
    cores_crash(cores, 2);
    cores_timeout(cores, 1);
    for (int i = 0; i < 100 && raft_role(core_of(cores, 1)) != RAFT_LEADER; i++) {
        for (raft_id id = 1; id <= 5; id++) {
            if (id != 2) {
                cores_persist(cores, id);
            }
        }
        cores_deliver(cores, 0, false);
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(cores_transfer(cores, 1, 0), ST_INVALID);
    cores_settle(cores);
    assert_int_equal(cores_transfer(cores, 1, 0), ST_OK);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 3)), RAFT_LEADER);
    cores_destroy(cores);
}

static void bad_requests_are_refused(void **state)
{
    struct cores *cores = cores_create(3, 6);

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_transfer(cores, 2, 3), ST_NOT_LEADER);
    assert_int_equal(cores_transfer(cores, 1, 1), ST_INVALID);
    assert_int_equal(cores_transfer(cores, 1, 77), ST_INVALID);
    cores_destroy(cores);
}

static void timeout_now_from_an_old_leader_is_ignored(void **state)
{
    struct cores *cores = cores_create(3, 7);
    struct raft_message message = {.type = RAFT_MESSAGE_TIMEOUT_NOW, .from = 3, .to = 2, .term = 2};

    (void)state;
    cores_elect(cores, 3);
    cores_elect(cores, 1); /* term 3 */
    cores_inject(cores, &message);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(cores, 2)), 3);
    cores_destroy(cores);
}

static void reads_stay_linearizable_during_a_transfer(void **state)
{
    struct cores *cores = cores_create(3, 8);
    uint64_t read;

    (void)state;
    cores_elect(cores, 1);
    assert_int_equal(cores_transfer(cores, 1, 2), ST_OK);
    read = cores_read(cores, 1);
    /* The target takes over before the round of the read gets anywhere. */
    cores_deliver_one(cores, RAFT_MESSAGE_TIMEOUT_NOW, 1, 2);
    cores_persist(cores, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_REQUEST_VOTE, 2, 3);
    cores_persist(cores, 3);
    cores_deliver_one(cores, RAFT_MESSAGE_VOTE_REPLY, 3, 2);
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    assert_int_equal(cores_propose(cores, 2), ST_OK);
    cores_settle(cores);
    assert_true(cores->reads[read].answered);
    assert_int_equal(cores->reads[read].status, ST_NOT_LEADER);
    cores_destroy(cores);
}

/* ---- A slow disk ---- */

static void a_leader_with_a_slow_disk_hands_over(void **state)
{
    struct cores *cores = cores_create(3, 9);

    (void)state;
    cores_elect(cores, 1);
    cores->nodes[1].slow_disk = true;
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_run(cores, 299);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_run(cores, 200);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_true(cores_leader(cores) != 0 && cores_leader(cores) != 1);
    cores->nodes[1].slow_disk = false;
    cores_run(cores, 500);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* Disks that are slow together must not hand over in circles. */
static void nobody_takes_over_from_a_slow_disk_who_has_one_too(void **state)
{
    struct cores *cores = cores_create(3, 10);

    (void)state;
    cores_elect(cores, 1);
    for (raft_id id = 1; id <= 3; id++) {
        cores->nodes[id].slow_disk = true;
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_run(cores, 100);
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_TIMEOUT_NOW], 0);
    /* As soon as disks work again, one of their replicas takes over. */
    cores->nodes[2].slow_disk = false;
    cores->nodes[3].slow_disk = false;
    cores_run(cores, 100);
    assert_int_equal(raft_role(core_of(cores, 2)), RAFT_LEADER);
    cores_destroy(cores);
}

/* As on one machine: every write takes three election timeouts, those of the leader a little more.
 * Who takes over from it would wait for the same disk, and so would the election. */
static void disks_that_are_slow_together_keep_their_leader(void **state)
{
    struct cores *cores = cores_create(3, 12);
    const int late = 18; /* steps of 50 ms */

    (void)state;
    cores_elect(cores, 1);
    for (raft_id id = 1; id <= 3; id++) {
        cores->nodes[id].slow_disk = true;
    }
    for (int i = 0; i < 200; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_run(cores, 50);
        for (raft_id id = 1; id <= 3; id++) {
            if (i >= late + (id == 1 ? 2 : 0)) {
                cores_persist_one(cores, id);
            }
        }
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_TIMEOUT_NOW], 0);
    assert_true(raft_commit_index(core_of(cores, 1)) > 150);
    cores_destroy(cores);
}

static void an_idle_leader_with_a_quick_disk_stays(void **state)
{
    struct cores *cores = cores_create(3, 11);

    (void)state;
    cores_elect(cores, 1);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_run(cores, 100);
    }
    assert_int_equal(raft_current_term(core_of(cores, 1)), 2);
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_TIMEOUT_NOW], 0);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leadership_moves_at_once_and_skips_the_pre_vote),
        cmocka_unit_test(the_target_is_brought_up_to_date_first),
        cmocka_unit_test(no_proposals_while_handing_over_and_again_after_an_abort),
        cmocka_unit_test(a_lost_timeout_now_is_repeated),
        cmocka_unit_test(without_a_target_the_most_caught_up_voter_is_chosen),
        cmocka_unit_test(without_a_target_nobody_is_chosen_who_did_not_answer),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(timeout_now_from_an_old_leader_is_ignored),
        cmocka_unit_test(reads_stay_linearizable_during_a_transfer),
        cmocka_unit_test(a_leader_with_a_slow_disk_hands_over),
        cmocka_unit_test(nobody_takes_over_from_a_slow_disk_who_has_one_too),
        cmocka_unit_test(disks_that_are_slow_together_keep_their_leader),
        cmocka_unit_test(an_idle_leader_with_a_quick_disk_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
