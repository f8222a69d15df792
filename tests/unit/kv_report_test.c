/* A group whose replicas changed tells the controller, until the controller knows: then the
 * configurations list the replicas that there are, and who follows them asks those. */
#include "tests/sim/kv_fixture.h"

#define CONTROLLER 0 /* the only one: the first node */

/* The replicas of a group as another group's configuration lists them. */
static const struct spec *listed(struct fixture *f, size_t group)
{
    const struct config_group *found =
        shard_config_find(kv_sm_config(fixture_sm(f, 1)), fixture_gid(group));

    assert_non_null(found);
    return &found->replicas;
}

static void remove_replica(struct fixture *f, size_t group, uint32_t id)
{
    struct answer answer = {0};
    struct proto_request remove = {.op = PROTO_REPLICA};

    remove.replica.kind = PROTO_REPLICA_REMOVE;
    remove.replica.gid = fixture_gid(group);
    remove.replica.id = id;
    remove.replica.configuration_index =
        raft_configuration_index(group_raft(kv_server_group(fixture_server(f, group, 0))));
    assert_int_equal(fixture_ask(f, group, &remove, 10000, &answer), ST_OK);
    answer_fini(&answer);
}

/* Two groups of three, of which each owns some shards. */
static void begin(struct fixture *f, uint64_t seed)
{
    fixture_init(f, 2, 3, seed);
    fixture_start(f);
    fixture_join(f, 0);
    fixture_settle(f, fixture_join(f, 1), 3);
    assert_int_equal(listed(f, 0)->n, 3);
}

static void a_change_of_the_replicas_is_listed(void **state)
{
    struct fixture f;
    config_num before;

    (void)state;
    begin(&f, 61);
    before = kv_sm_config(fixture_sm(&f, 1))->num;
    remove_replica(&f, 0, 3);
    world_run_ms(f.world, 5000);
    assert_int_equal(listed(&f, 0)->n, 2);
    assert_null(spec_find(listed(&f, 0), 3));
    assert_int_equal(listed(&f, 1)->n, 3);
    assert_int_equal(kv_sm_config(fixture_sm(&f, 1))->num, before + 1); /* told once, that is all */
    /* Whoever leads next has nothing to tell. */
    world_crash(f.world, fixture_node(&f, 0, fixture_leader(&f, 0)));
    fixture_start_group(&f, 0);
    world_run_ms(f.world, 5000);
    assert_int_equal(kv_sm_config(fixture_sm(&f, 1))->num, before + 1);
    fixture_fini(&f);
}

static void what_the_controller_missed_is_told_again(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 62);
    world_crash(f.world, CONTROLLER);
    remove_replica(&f, 0, 2);
    world_run_ms(f.world, 8000);
    world_start(f.world, CONTROLLER);
    world_run_ms(f.world, 8000);
    assert_int_equal(listed(&f, 0)->n, 2);
    assert_null(spec_find(listed(&f, 0), 2));
    fixture_fini(&f);
}

/* The leader that was to tell it is gone before it could: the next one does. */
static void the_next_leader_tells_it(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 63);
    world_crash(f.world, CONTROLLER);
    remove_replica(&f, 0, fixture_leader(&f, 0) == 0 ? 2 : 1);
    world_crash(f.world, fixture_node(&f, 0, fixture_leader(&f, 0)));
    world_start(f.world, CONTROLLER);
    world_run_ms(f.world, 1000);
    fixture_start_group(&f, 0);
    world_run_ms(f.world, 8000);
    assert_int_equal(listed(&f, 0)->n, 2);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_of_the_replicas_is_listed),
        cmocka_unit_test(what_the_controller_missed_is_told_again),
        cmocka_unit_test(the_next_leader_tells_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
