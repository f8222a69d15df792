/* ReadIndex (thesis 6.4): a read is answered only by a round of confirmations that began after it
 * arrived, and one round serves all reads that wait. */
#include "tests/sim/core_harness.h"

static void assert_waiting(struct cores *cores, uint64_t read)
{
    assert_false(cores->reads[read].answered);
}

static void assert_served(struct cores *cores, uint64_t read, raft_index index)
{
    assert_true(cores->reads[read].answered);
    assert_int_equal(cores->reads[read].status, ST_OK);
    assert_int_equal(cores->reads[read].index, index);
}

static void a_read_is_served_after_a_majority_confirmed(void **state)
{
    struct cores *cores = cores_create(5, 1);
    uint64_t read;

    (void)state;
    cores_elect(cores, 1);
    read = cores_read(cores, 1);
    assert_waiting(cores, read);
    assert_int_equal(cores_count(cores, RAFT_MESSAGE_HEARTBEAT, 1, 0), 4);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 1, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 2, 1);
    assert_waiting(cores, read); /* two of five */
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 1, 3);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 3, 1);
    assert_served(cores, read, 2);
    cores_destroy(cores);
}

/* The rule that makes it linearizable: the confirmation must be younger than the read. */
static void a_round_that_began_before_the_read_does_not_confirm_it(void **state)
{
    struct cores *cores = cores_create(3, 2);
    uint64_t first, second;

    (void)state;
    cores_elect(cores, 1);
    first = cores_read(cores, 1);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 1, 2);
    second = cores_read(cores, 1); /* the answer to the first round is on its way */
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 2, 1);
    assert_served(cores, first, 2);
    assert_waiting(cores, second);
    /* The old round again, from the other follower: still too old. */
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 1, 3);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 3, 1);
    assert_waiting(cores, second);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT, 1, 3);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 3, 1);
    assert_served(cores, second, 2);
    cores_destroy(cores);
}

static void one_round_serves_all_waiting_reads(void **state)
{
    struct cores *cores = cores_create(3, 3);
    uint64_t reads[100];
    uint64_t before;

    (void)state;
    cores_elect(cores, 1);
    before = cores->n_sent[RAFT_MESSAGE_HEARTBEAT];
    for (size_t i = 0; i < 100; i++) {
        reads[i] = cores_read(cores, 1);
    }
    cores_settle(cores);
    for (size_t i = 0; i < 100; i++) {
        assert_served(cores, reads[i], 2);
    }
    /* One round for the first read, one for the 99 that came while it was under way. */
    assert_int_equal(cores->n_sent[RAFT_MESSAGE_HEARTBEAT] - before, 4);
    cores_destroy(cores);
}

static void a_new_leader_waits_for_an_entry_of_its_own_term(void **state)
{
    struct cores *cores = cores_create(3, 4);
    uint64_t read;

    (void)state;
    cores_elect(cores, 1);
    cores_elect(cores, 2);
    cores_timeout(cores, 3); /* a new leader whose no-op does not get through yet */
    while (cores_find(cores, RAFT_MESSAGE_APPEND, 3, 0) == SIZE_MAX) {
        cores_persist(cores, 1);
        cores_persist(cores, 2);
        cores_persist(cores, 3);
        if (raft_role(core_of(cores, 3)) != RAFT_LEADER) {
            cores_deliver(cores, 0, false);
        }
    }
    while (cores_find(cores, RAFT_MESSAGE_APPEND, 3, 0) != SIZE_MAX) {
        cores_drop(cores, cores_find(cores, RAFT_MESSAGE_APPEND, 3, 0));
    }
    read = cores_read(cores, 3);
    while (cores->n_flying > 0) {
        if (cores->flying[0].type == RAFT_MESSAGE_APPEND) {
            cores_drop(cores, 0);
        } else {
            cores_deliver(cores, 0, false);
        }
    }
    assert_waiting(cores, read); /* confirmed, but not ready */
    assert_false(raft_leader_ready(core_of(cores, 3)));
    cores_run(cores, 200);
    assert_true(raft_leader_ready(core_of(cores, 3)));
    assert_served(cores, read, raft_commit_index(core_of(cores, 3)));
    cores_destroy(cores);
}

static void a_deposed_leader_never_answers_a_read(void **state)
{
    struct cores *cores = cores_create(3, 5);
    uint64_t read, later;

    (void)state;
    cores_elect(cores, 1);
    cores_isolate(cores, 1);
    cores_elect(cores, 2);
    assert_int_equal(cores_propose(cores, 2), ST_OK);
    cores_settle(cores);
    read = cores_read(cores, 1); /* believes that it leads */
    cores_settle(cores);
    assert_waiting(cores, read);
    cores_heal(cores);
    cores->now_ms += 50;
    cores_tick(cores, 1);
    cores_settle(cores);
    assert_true(cores->reads[read].answered);
    assert_int_equal(cores->reads[read].status, ST_NOT_LEADER);
    later = cores_read(cores, 1);
    assert_int_equal(cores->reads[later].status, ST_NOT_LEADER);
    cores_destroy(cores);
}

static void a_lost_round_is_repeated_by_the_heartbeats(void **state)
{
    struct cores *cores = cores_create(3, 6);
    uint64_t first, second;

    (void)state;
    cores_elect(cores, 1);
    first = cores_read(cores, 1);
    second = cores_read(cores, 1);
    cores_drop_all(cores);
    cores_run(cores, 60);
    assert_served(cores, first, 2);
    assert_served(cores, second, 2);
    cores_destroy(cores);
}

static void appends_confirm_rounds_too(void **state)
{
    struct cores *cores = cores_create(3, 7);
    uint64_t read;

    (void)state;
    cores_elect(cores, 1);
    read = cores_read(cores, 1);
    cores_drop_all(cores);
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    cores_persist(cores, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    assert_served(cores, read, 2); /* the commit index when it arrived */
    cores_destroy(cores);
}

static void a_round_that_nobody_began_confirms_nothing(void **state)
{
    struct cores *cores = cores_create(3, 8);
    struct raft_message reply = {.type = RAFT_MESSAGE_HEARTBEAT_REPLY, .from = 2, .to = 1};
    uint64_t read;

    (void)state;
    cores_elect(cores, 1);
    reply.term = raft_current_term(core_of(cores, 1));
    reply.heartbeat_reply.read_round = 1000000;
    cores_inject(cores, &reply);
    cores_deliver_one(cores, RAFT_MESSAGE_HEARTBEAT_REPLY, 2, 1);
    read = cores_read(cores, 1);
    assert_waiting(cores, read);
    cores_destroy(cores);
}

static void a_single_voter_confirms_by_itself(void **state)
{
    struct cores *cores = cores_create(1, 9);

    (void)state;
    cores_elect(cores, 1);
    assert_served(cores, cores_read(cores, 1), 2);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_is_served_after_a_majority_confirmed),
        cmocka_unit_test(a_round_that_began_before_the_read_does_not_confirm_it),
        cmocka_unit_test(one_round_serves_all_waiting_reads),
        cmocka_unit_test(a_new_leader_waits_for_an_entry_of_its_own_term),
        cmocka_unit_test(a_deposed_leader_never_answers_a_read),
        cmocka_unit_test(a_lost_round_is_repeated_by_the_heartbeats),
        cmocka_unit_test(appends_confirm_rounds_too),
        cmocka_unit_test(a_round_that_nobody_began_confirms_nothing),
        cmocka_unit_test(a_single_voter_confirms_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
