/* A leader that is removed leads until that is committed, and no longer (thesis 4.2.2). */
#include "tests/unit/core_change_story.h"

static void a_leader_removes_itself_and_hands_over(void **state)
{
    struct cores *cores = cores_led(3, 14);
    raft_id leader;

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 1), ST_OK);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    cores_run(cores, 50); /* far less than an election timeout */
    leader = cores_leader(cores);
    assert_true(leader == 2 || leader == 3);
    cores_run(cores, 500);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    assert_int_equal(raft_latest_configuration(core_of(cores, leader))->n, 2);
    propose_settled(cores, leader, 1);
    cores_run(cores, 5000);
    assert_int_equal(cores_leader(cores), leader);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    cores_destroy(cores);
}

static void a_removed_leader_does_not_count_itself(void **state)
{
    struct cores *cores = cores_led(3, 15);
    raft_index final;

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 1), ST_OK);
    for (raft_id id = 2; id <= 3; id++) {
        cores_persist(cores, 1);
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, id);
        cores_persist(cores, id);
        cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, id, 1);
    }
    /* The final configuration is 2 and 3: 1 and 2 are no majority of it. */
    final = raft_configuration_index(core_of(cores, 1));
    assert_int_equal(cores_flags(cores, 1, 1), 0);
    cores_isolate(cores, 3);
    cores_settle(cores);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_LEADER);
    assert_int_equal(raft_commit_index(core_of(cores, 1)), final - 1);
    /* Nor does it stay in office by itself and 2. */
    cores_run(cores, 500);
    assert_true(raft_role(core_of(cores, 1)) != RAFT_LEADER);
    cores_heal(cores);
    cores_run(cores, 2000);
    assert_true(cores_leader(cores) == 2 || cores_leader(cores) == 3);
    assert_int_equal(raft_latest_configuration(core_of(cores, 2))->n, 2);
    assert_int_equal(raft_latest_configuration(core_of(cores, 3))->n, 2);
    cores_destroy(cores);
}

/* The only one that has the configuration without it: nobody else can win against its log. */
static void a_removed_leader_stands_again_until_that_is_committed(void **state)
{
    struct cores *cores = cores_led(2, 28);

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 1), ST_OK);
    cores_persist(cores, 1);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND, 1, 2);
    cores_persist(cores, 2);
    cores_deliver_one(cores, RAFT_MESSAGE_APPEND_REPLY, 2, 1);
    assert_int_equal(cores_flags(cores, 1, 1), 0);
    assert_int_equal(cores_flags(cores, 2, 1), RAFT_VOTER_OLD);
    cores_persist(cores, 1);
    cores_crash(cores, 1);
    cores_drop_all(cores);
    cores_start(cores, 1);
    cores_run(cores, 5000);
    assert_int_equal(cores_leader(cores), 2);
    assert_int_equal(raft_latest_configuration(core_of(cores, 2))->n, 1);
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    cores_destroy(cores);
}

static void a_removed_leader_without_a_successor_steps_down_in_time(void **state)
{
    struct cores *cores = cores_led(3, 16);

    (void)state;
    assert_int_equal(cores_configure(cores, 1, RAFT_CHANGE_REMOVE, 1), ST_OK);
    for (int i = 0; i < 60 && raft_role(core_of(cores, 1)) == RAFT_LEADER; i++) {
        size_t at;

        cores_run(cores, 10);
        while ((at = cores_find(cores, RAFT_MESSAGE_TIMEOUT_NOW, 0, 0)) != SIZE_MAX) {
            cores_drop(cores, at);
        }
        if (raft_configuration_index(core_of(cores, 1)) <= raft_commit_index(core_of(cores, 1)) &&
            cores_flags(cores, 1, 1) == 0) {
            cores_cut(cores, 1, 2);
            cores_cut(cores, 1, 3);
        }
    }
    assert_int_equal(raft_role(core_of(cores, 1)), RAFT_FOLLOWER);
    cores_run(cores, 2000);
    assert_true(cores_leader(cores) >= 2);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_removes_itself_and_hands_over),
        cmocka_unit_test(a_removed_leader_does_not_count_itself),
        cmocka_unit_test(a_removed_leader_stands_again_until_that_is_committed),
        cmocka_unit_test(a_removed_leader_without_a_successor_steps_down_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
