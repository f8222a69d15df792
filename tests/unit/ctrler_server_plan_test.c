/* Unit tests of shardctrler/ctrler_server: pauses and dry runs, with three replicas and a client
 * that speaks the protocol by hand (tests/sim/ctrler_trio.h). */
#include "tests/cmocka.h"

#include "shardctrler/ctrler_server.h"
#include "tests/sim/ctrler_machine.h"
#include "tests/sim/ctrler_trio.h"

static void a_pause_is_answered_with_the_number_it_made(void **state)
{
    struct trio trio;
    struct proto_request pause = {.op = PROTO_PAUSE, .pause = {.paused = true}};
    struct shard_config config;

    (void)state;
    trio_begin(&trio, 15);
    trio_join(&trio, 1);
    pause.pause.session = trio_next_session(&trio);
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &pause)->admin.num, 2);
    /* Every replica knows it, whatever crashes. */
    for (size_t node = 0; node < TRIO_N; node++) {
        world_crash(trio.world, node);
        world_start(trio.world, node);
    }
    config = trio_query(&trio, UINT64_MAX);
    assert_true(config.num == 2 && config.moves_paused);
    shard_config_fini(&config);
    trio_end(&trio);
}

static raft_index last_index(const struct trio *trio, size_t node)
{
    return raft_last_index(group_raft(world_group(trio->world, node)));
}

static void a_dry_run_is_a_read(void **state)
{
    struct trio trio;
    struct proto_join_group group;
    struct proto_request request;
    const struct proto_response *response;
    struct shard_config planned;
    struct reader reader;
    raft_index last;
    size_t node;

    (void)state;
    trio_begin(&trio, 16);
    trio_join(&trio, 1);
    node = trio_leader(&trio);
    last = last_index(&trio, node);
    request = trio_join_request(&trio, &group, 2);
    request.join.session = (struct proto_session){0}; /* it needs none */
    request.dry_run = true;
    response = trio_ask(&trio, node, &request);
    assert_int_equal(response->status, ST_OK);
    assert_int_equal(response->admin.num, 2);
    reader = reader_of(response->admin.planned);
    assert_true(shard_config_decode(&reader, &planned) && reader_done(&reader));
    assert_int_equal(planned.num, 2);
    assert_int_equal(ctrler_machine_load(&planned, 2), TRIO_SHARDS / 2);
    shard_config_fini(&planned);
    assert_int_equal(ctrler_server_config(trio_server(&trio, node))->num, 1);
    /* What the change would be refused with. */
    request = trio_join_request(&trio, &group, 1);
    request.dry_run = true;
    response = trio_ask(&trio, node, &request);
    assert_int_equal(response->status, ST_EXISTS);
    assert_true(slice_equal(response->text, slice_text("group 1 is a member already")));
    /* A move to where the shard is: the present configuration. */
    request = (struct proto_request){.op = PROTO_MOVE, .dry_run = true, .move = {.gid = 1}};
    response = trio_ask(&trio, node, &request);
    assert_int_equal(response->admin.num, 1);
    assert_true(response->admin.planned.len > 0);
    assert_int_equal(last_index(&trio, node), last); /* nothing was proposed */
    trio_end(&trio);
}

/* Linearizable: who can't reach a majority can't know what others have changed. */
static void a_leader_cut_off_plans_nothing(void **state)
{
    struct trio trio;
    struct proto_request request = {
        .op = PROTO_MOVE, .dry_run = true, .deadline_ms = 5000, .move = {.gid = 1}};
    struct trio_asked *asked;
    size_t node;

    (void)state;
    trio_begin(&trio, 17);
    trio_join(&trio, 1);
    node = trio_leader(&trio);
    trio_cut_off(&trio, node, true);
    asked = trio_post(&trio, node, &request);
    world_run_ms(trio.world, 5000);
    assert_int_equal(asked->answers, 1);
    assert_int_not_equal(asked->response.status, ST_OK);
    assert_int_not_equal(asked->response.status, ST_UNKNOWN);
    request.request_id = 0;
    assert_int_equal(trio_ask(&trio,
                              (node + 1) % TRIO_N == trio_leader(&trio) ? (node + 2) % TRIO_N
                                                                        : (node + 1) % TRIO_N,
                              &request)
                         ->status,
                     ST_NOT_LEADER);
    trio_cut_off(&trio, node, false);
    trio_end(&trio);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pause_is_answered_with_the_number_it_made),
        cmocka_unit_test(a_dry_run_is_a_read),
        cmocka_unit_test(a_leader_cut_off_plans_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
