/* A server whose replica lost its data has its group take it in again, by itself: both servers, in
 * a simulated world. What is asked in which order: rejoin_test. */
#include "tests/sim/ctrler_trio.h"
#include "tests/sim/kv_fixture.h"

/* Its disk is lost, and it is started as `--rebuild` does. */
static void rebuild(struct world *world, size_t node)
{
    world_crash(world, node);
    world_wipe(world, node);
    world_join(world, node);
    world_start(world, node);
}

/* Whether the replica votes, as what it is now, and has applied all that the leader has. */
static bool is_whole(struct world *world, size_t node, struct group *leader)
{
    struct group *group = world_group(world, node);
    const struct raft *raft = group_raft(group);
    const struct raft_server *self =
        raft_configuration_find(raft_latest_configuration(raft), raft_self(raft));

    return self != NULL && self->flags == RAFT_VOTER &&
           raft_configuration_index(raft) <= raft_commit_index(raft) &&
           group_applied_index(group) == group_applied_index(leader);
}

static void a_replica_of_a_group_is_taken_in_again(void **state)
{
    struct fixture f;
    size_t lost, node;

    (void)state;
    fixture_init(&f, 1, 3, 1);
    f.rejoins = true;
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fixture_put(&f, "key", "value");
    lost = (fixture_leader(&f, 0) + 1) % 3;
    node = fixture_node(&f, 0, lost);
    rebuild(f.world, node);
    world_run_ms(f.world, 8000); /* the old one is silent for five election timeouts first */
    assert_true(
        is_whole(f.world, node, kv_server_group(fixture_server(&f, 0, fixture_leader(&f, 0)))));
    /* It counts: with one of the others gone the group goes on. */
    world_crash(f.world, fixture_node(&f, 0, (lost + 1) % 3));
    fixture_check(&f, "key", "value");
    fixture_put(&f, "key", "another");
    fixture_fini(&f);
}

static void a_controller_is_taken_in_again(void **state)
{
    struct trio trio;
    size_t lost;

    (void)state;
    trio_begin(&trio, 2);
    trio.rejoins = true;
    trio_join(&trio, 1);
    lost = (trio_leader(&trio) + 1) % TRIO_N;
    rebuild(trio.world, lost);
    world_run_ms(trio.world, 8000);
    assert_true(is_whole(trio.world, lost, world_group(trio.world, trio_leader(&trio))));
    world_crash(trio.world, (lost + 1) % TRIO_N);
    trio_join(&trio, 2);
    trio_end(&trio);
}

/* Nobody asks for one that need not: the group decides about its replicas, they do not. */
static void who_is_not_rebuilt_waits_to_be_added(void **state)
{
    struct trio trio;
    size_t lost;

    (void)state;
    trio_begin(&trio, 3);
    lost = (trio_leader(&trio) + 1) % TRIO_N;
    rebuild(trio.world, lost);
    world_run_ms(trio.world, 8000);
    assert_false(is_whole(trio.world, lost, world_group(trio.world, trio_leader(&trio))));
    trio_end(&trio);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_of_a_group_is_taken_in_again),
        cmocka_unit_test(a_controller_is_taken_in_again),
        cmocka_unit_test(who_is_not_rebuilt_waits_to_be_added),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
