/* ReadIndex (thesis 6.4): a read is answered only by a round of confirmations that began after it
 * arrived, and one round serves all reads that wait. */
#include "tests/unit/core_harness.h"

static void assert_waiting(struct world *world, uint64_t read)
{
    assert_false(world->reads[read].answered);
}

static void assert_served(struct world *world, uint64_t read, raft_index index)
{
    assert_true(world->reads[read].answered);
    assert_int_equal(world->reads[read].status, ST_OK);
    assert_int_equal(world->reads[read].index, index);
}

static void a_read_is_served_after_a_majority_confirmed(void **state)
{
    struct world *world = world_create(5, 1);
    uint64_t read;

    (void)state;
    world_elect(world, 1);
    read = world_read(world, 1);
    assert_waiting(world, read);
    assert_int_equal(world_count(world, RAFT_MESSAGE_HEARTBEAT, 1, 0), 4);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 1, 2);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 2, 1);
    assert_waiting(world, read); /* two of five */
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 1, 3);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 3, 1);
    assert_served(world, read, 2);
    world_destroy(world);
}

/* The rule that makes it linearizable: the confirmation must be younger than the read. */
static void a_round_that_began_before_the_read_does_not_confirm_it(void **state)
{
    struct world *world = world_create(3, 2);
    uint64_t first, second;

    (void)state;
    world_elect(world, 1);
    first = world_read(world, 1);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 1, 2);
    second = world_read(world, 1); /* the answer to the first round is on its way */
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 2, 1);
    assert_served(world, first, 2);
    assert_waiting(world, second);
    /* The old round again, from the other follower: still too old. */
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 1, 3);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 3, 1);
    assert_waiting(world, second);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT, 1, 3);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 3, 1);
    assert_served(world, second, 2);
    world_destroy(world);
}

static void one_round_serves_all_waiting_reads(void **state)
{
    struct world *world = world_create(3, 3);
    uint64_t reads[100];
    uint64_t before;

    (void)state;
    world_elect(world, 1);
    before = world->n_sent[RAFT_MESSAGE_HEARTBEAT];
    for (size_t i = 0; i < 100; i++) {
        reads[i] = world_read(world, 1);
    }
    world_settle(world);
    for (size_t i = 0; i < 100; i++) {
        assert_served(world, reads[i], 2);
    }
    /* One round for the first read, one for the 99 that came while it was under way. */
    assert_int_equal(world->n_sent[RAFT_MESSAGE_HEARTBEAT] - before, 4);
    world_destroy(world);
}

static void a_new_leader_waits_for_an_entry_of_its_own_term(void **state)
{
    struct world *world = world_create(3, 4);
    uint64_t read;

    (void)state;
    world_elect(world, 1);
    world_elect(world, 2);
    world_timeout(world, 3); /* a new leader whose no-op does not get through yet */
    while (world_find(world, RAFT_MESSAGE_APPEND, 3, 0) == SIZE_MAX) {
        world_persist(world, 1);
        world_persist(world, 2);
        world_persist(world, 3);
        if (raft_role(core_of(world, 3)) != RAFT_LEADER) {
            world_deliver(world, 0, false);
        }
    }
    while (world_find(world, RAFT_MESSAGE_APPEND, 3, 0) != SIZE_MAX) {
        world_drop(world, world_find(world, RAFT_MESSAGE_APPEND, 3, 0));
    }
    read = world_read(world, 3);
    while (world->n_flying > 0) {
        if (world->flying[0].type == RAFT_MESSAGE_APPEND) {
            world_drop(world, 0);
        } else {
            world_deliver(world, 0, false);
        }
    }
    assert_waiting(world, read); /* confirmed, but not ready */
    assert_false(raft_leader_ready(core_of(world, 3)));
    world_run(world, 200);
    assert_true(raft_leader_ready(core_of(world, 3)));
    assert_served(world, read, raft_commit_index(core_of(world, 3)));
    world_destroy(world);
}

static void a_deposed_leader_never_answers_a_read(void **state)
{
    struct world *world = world_create(3, 5);
    uint64_t read, later;

    (void)state;
    world_elect(world, 1);
    world_isolate(world, 1);
    world_elect(world, 2);
    assert_int_equal(world_propose(world, 2), ST_OK);
    world_settle(world);
    read = world_read(world, 1); /* believes that it leads */
    world_settle(world);
    assert_waiting(world, read);
    world_heal(world);
    world->now_ms += 50;
    world_tick(world, 1);
    world_settle(world);
    assert_true(world->reads[read].answered);
    assert_int_equal(world->reads[read].status, ST_NOT_LEADER);
    later = world_read(world, 1);
    assert_int_equal(world->reads[later].status, ST_NOT_LEADER);
    world_destroy(world);
}

static void a_lost_round_is_repeated_by_the_heartbeats(void **state)
{
    struct world *world = world_create(3, 6);
    uint64_t first, second;

    (void)state;
    world_elect(world, 1);
    first = world_read(world, 1);
    second = world_read(world, 1);
    world_drop_all(world);
    world_run(world, 60);
    assert_served(world, first, 2);
    assert_served(world, second, 2);
    world_destroy(world);
}

static void appends_confirm_rounds_too(void **state)
{
    struct world *world = world_create(3, 7);
    uint64_t read;

    (void)state;
    world_elect(world, 1);
    read = world_read(world, 1);
    world_drop_all(world);
    assert_int_equal(world_propose(world, 1), ST_OK);
    world_deliver_one(world, RAFT_MESSAGE_APPEND, 1, 2);
    world_persist(world, 2);
    world_deliver_one(world, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    assert_served(world, read, 2); /* the commit index when it arrived */
    world_destroy(world);
}

static void a_round_that_nobody_began_confirms_nothing(void **state)
{
    struct world *world = world_create(3, 8);
    struct raft_message reply = {.type = RAFT_MESSAGE_HEARTBEAT_REPLY, .from = 2, .to = 1};
    uint64_t read;

    (void)state;
    world_elect(world, 1);
    reply.term = raft_current_term(core_of(world, 1));
    reply.heartbeat_reply.read_round = 1000000;
    world_inject(world, &reply);
    world_deliver_one(world, RAFT_MESSAGE_HEARTBEAT_REPLY, 2, 1);
    read = world_read(world, 1);
    assert_waiting(world, read);
    world_destroy(world);
}

static void a_single_voter_confirms_by_itself(void **state)
{
    struct world *world = world_create(1, 9);

    (void)state;
    world_elect(world, 1);
    assert_served(world, world_read(world, 1), 2);
    world_destroy(world);
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
