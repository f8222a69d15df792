/* Unit tests of shardctrler/ctrler_server: three replicas and a client that speaks the protocol by
 * hand (tests/sim/ctrler_trio.h). How a cluster begins, changes and queries, failures, groups. */
#include "tests/cmocka.h"

#include "shardctrler/ctrler_server.h"
#include "tests/sim/ctrler_machine.h"
#include "tests/sim/ctrler_trio.h"
#include "tests/sim/world_internal.h"

/* ---- The beginning ---- */

static void a_leader_begins_the_cluster_by_itself(void **state)
{
    struct trio trio;
    uint8_t id[16];

    (void)state;
    trio_begin(&trio, 1);
    memcpy(id, ctrler_server_cluster_id(trio_server(&trio, trio_leader(&trio))), 16);
    for (size_t node = 0; node < TRIO_N; node++) {
        uint32_t shards;

        assert_memory_equal(ctrler_server_cluster_id(trio_server(&trio, node)), id, 16);
        assert_int_equal(ctrler_server_config(trio_server(&trio, node))->n_shards, TRIO_SHARDS);
        assert_false(ctrler_server_shards_conflict(trio_server(&trio, node), &shards));
    }
    /* All restart: the same cluster. */
    for (size_t node = 0; node < TRIO_N; node++) {
        world_crash(trio.world, node);
        world_start(trio.world, node);
    }
    assert_memory_equal(ctrler_server_cluster_id(trio_server(&trio, trio_leader(&trio))), id, 16);
    trio_end(&trio);
}

static void different_seeds_begin_different_clusters(void **state)
{
    struct trio a, b;

    (void)state;
    trio_begin(&a, 1);
    trio_begin(&b, 2);
    assert_memory_not_equal(ctrler_server_cluster_id(trio_server(&a, 0)),
                            ctrler_server_cluster_id(trio_server(&b, 0)), 16);
    trio_end(&a);
    trio_end(&b);
}

static void a_replica_with_other_shards_than_the_cluster_stops(void **state)
{
    struct trio trio;
    const char *reason;
    size_t odd;
    uint32_t shards;

    (void)state;
    trio_begin(&trio, 3);
    odd = (trio_leader(&trio) + 1) % TRIO_N;
    world_crash(trio.world, odd);
    trio.shards[odd] = 2 * TRIO_SHARDS;
    world_start(trio.world, odd);
    world_run_ms(trio.world, 3000);
    assert_true(ctrler_server_is_halted(trio_server(&trio, odd)));
    assert_true(ctrler_server_shards_conflict(trio_server(&trio, odd), &shards));
    assert_int_equal(shards, TRIO_SHARDS);
    reason = world_halted(trio.world, odd);
    assert_non_null(reason);
    assert_non_null(strstr(reason, "--shards is 128, but the cluster was created with 64"));
    /* One that says nothing of shards runs. */
    world_crash(trio.world, odd);
    trio.shards[odd] = 0;
    world_start(trio.world, odd);
    world_run_ms(trio.world, 3000);
    assert_false(ctrler_server_is_halted(trio_server(&trio, odd)));
    trio_end(&trio);
}

/* ---- Changes and queries ---- */

static void changes_are_answered_with_the_number_they_made(void **state)
{
    struct trio trio;
    struct shard_config config;
    uint32_t gid = 1;
    struct proto_request leave = {.op = PROTO_LEAVE, .leave = {.n = 1, .gids = &gid}};
    struct proto_request move = {.op = PROTO_MOVE, .move = {.shard = 5, .gid = 2}};
    const struct proto_response *response;

    (void)state;
    trio_begin(&trio, 4);
    assert_int_equal(trio_join(&trio, 1), 1);
    assert_int_equal(trio_join(&trio, 2), 2);
    config = trio_query(&trio, UINT64_MAX);
    assert_int_equal(config.num, 2);
    assert_int_equal(ctrler_machine_load(&config, 1), TRIO_SHARDS / 2);
    move.move.gid = config.shards[5] == 1 ? 2 : 1;
    shard_config_fini(&config);
    move.move.session = trio_next_session(&trio);
    response = trio_ask(&trio, trio_leader(&trio), &move);
    assert_int_equal(response->status, ST_OK);
    assert_int_equal(response->admin.num, 3);
    leave.leave.session = trio_next_session(&trio);
    response = trio_ask(&trio, trio_leader(&trio), &leave);
    assert_int_equal(response->admin.num, 4);
    assert_int_equal(response->config, 4);
    config = trio_query(&trio, 2);
    assert_int_equal(config.num, 2);
    shard_config_fini(&config);
    config = trio_query(&trio, 100);
    assert_int_equal(config.num, 4);
    assert_int_equal(ctrler_machine_load(&config, 2), TRIO_SHARDS);
    shard_config_fini(&config);
    trio_end(&trio);
}

static void refusals_say_why(void **state)
{
    struct trio trio;
    struct proto_join_group group;
    struct proto_request request;
    const struct proto_response *response;

    (void)state;
    trio_begin(&trio, 5);
    trio_join(&trio, 1);
    request = trio_join_request(&trio, &group, 1);
    response = trio_ask(&trio, trio_leader(&trio), &request);
    assert_int_equal(response->status, ST_EXISTS);
    assert_true(slice_equal(response->text, slice_text("group 1 is a member already")));
    assert_true(response->cluster_time > 1);
    request = (struct proto_request){.op = PROTO_GET, .get = {.key = slice_text("k")}};
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &request)->status, ST_INVALID);
    trio_end(&trio);
}

static void a_follower_names_the_leader(void **state)
{
    struct trio trio;
    size_t follower;
    struct proto_join_group group;
    struct proto_request requests[2] = {trio_config_request(UINT64_MAX)};

    (void)state;
    trio_begin(&trio, 6);
    requests[1] = trio_join_request(&trio, &group, 1);
    follower = (trio_leader(&trio) + 1) % TRIO_N;
    for (int i = 0; i < 2; i++) {
        const struct proto_response *response = trio_ask(&trio, follower, &requests[i]);

        assert_int_equal(response->status, ST_NOT_LEADER);
        assert_int_equal(response->leader_hint, trio_leader(&trio) + 1);
    }
    trio_end(&trio);
}

static void times_far_ahead_are_refused_before_they_are_proposed(void **state)
{
    struct trio trio;
    struct proto_join_group group;
    struct proto_request request;
    raft_index last;
    size_t node;

    (void)state;
    trio_begin(&trio, 7);
    node = trio_leader(&trio);
    last = raft_last_index(group_raft(world_group(trio.world, node)));
    request = trio_join_request(&trio, &group, 1);
    request.join.session.issued_at =
        group_last_stamp(world_group(trio.world, node)) + 25ull * 3600 * 1000000;
    assert_int_equal(trio_ask(&trio, node, &request)->status, ST_SESSION_EXPIRED);
    request.join.session.issued_at = 1;
    request.join.session.seq = 0;
    request.join.session.acked_seq = 0;
    assert_int_equal(trio_ask(&trio, node, &request)->status, ST_INVALID);
    assert_int_equal(raft_last_index(group_raft(world_group(trio.world, node))), last);
    /* Within a day it is fine, and the cluster's time follows. */
    request = trio_join_request(&trio, &group, 1);
    request.join.session.issued_at =
        group_last_stamp(world_group(trio.world, node)) + 23ull * 3600 * 1000000;
    assert_int_equal(trio_ask(&trio, node, &request)->status, ST_OK);
    assert_true(group_last_stamp(world_group(trio.world, node)) > request.join.session.issued_at);
    trio_end(&trio);
}

/* ---- Failures ---- */

/* The public suite's AgreeConfig, with its HistoricalQueries: whoever leads, every number gives the
 * same bytes. */
static void every_leader_gives_the_same_configurations(void **state)
{
    enum { CONFIGS = 8 };
    struct trio trio;
    struct buf kept[CONFIGS + 1] = {{0}};

    (void)state;
    trio_begin(&trio, 8);
    for (uint32_t gid = 1; gid <= CONFIGS; gid++) {
        trio_join(&trio, gid);
    }
    for (int down = -1; down < TRIO_N; down++) {
        if (down >= 0) {
            world_crash(trio.world, (size_t)down);
        }
        for (config_num num = 0; num <= CONFIGS; num++) {
            struct proto_request request = trio_config_request(num);
            const struct proto_response *response = trio_ask(&trio, trio_leader(&trio), &request);

            assert_int_equal(response->status, ST_OK);
            if (down < 0) {
                buf_put_slice(&kept[num], response->config_reply.encoded);
            }
            assert_true(slice_equal(response->config_reply.encoded, buf_slice(&kept[num])));
        }
        trio_forget_answers(&trio);
        if (down >= 0) {
            world_start(trio.world, (size_t)down);
            world_run_ms(trio.world, 1000);
        }
    }
    for (config_num num = 0; num <= CONFIGS; num++) {
        buf_fini(&kept[num]);
    }
    trio_end(&trio);
}

static void a_retry_at_the_next_leader_is_not_a_second_change(void **state)
{
    struct trio trio;
    struct proto_join_group group;
    struct proto_request request;
    const struct proto_response *response;
    size_t first;

    (void)state;
    trio_begin(&trio, 9);
    first = trio_leader(&trio);
    request = trio_join_request(&trio, &group, 1);
    assert_int_equal(trio_ask(&trio, first, &request)->admin.num, 1);
    world_crash(trio.world, first);
    response = trio_ask(&trio, trio_leader(&trio), &request);
    assert_int_equal(response->status, ST_OK);
    assert_int_equal(response->admin.num, 1);
    world_start(trio.world, first);
    trio_end(&trio);
}

/* A leader that is cut off from the others still hears its clients: it must not answer a query from
 * what it knows, and must not say that a change was refused while it may yet happen. */
static void a_leader_in_the_minority_gives_no_stale_answer(void **state)
{
    struct trio trio;
    struct proto_join_group group;
    struct proto_request change, read;
    struct trio_asked *changed, *was_read;
    struct shard_config config;
    size_t old;

    (void)state;
    trio_begin(&trio, 10);
    trio_join(&trio, 1);
    old = trio_leader(&trio);
    trio_cut_off(&trio, old, true);
    change = trio_join_request(&trio, &group, 2);
    read = trio_config_request(UINT64_MAX);
    changed = trio_post(&trio, old, &change);
    was_read = trio_post(&trio, old, &read);
    world_run_ms(trio.world, 5000);
    assert_int_equal(was_read->answers, 1);
    assert_int_equal(was_read->response.status, ST_NOT_LEADER);
    assert_int_equal(changed->answers, 0);    /* nobody knows yet */
    assert_int_equal(trio_join(&trio, 3), 2); /* the majority goes on */
    trio_cut_off(&trio, old, false);
    world_run_ms(trio.world, 2000);
    assert_int_equal(changed->answers, 1);
    assert_int_equal(changed->response.status, ST_NOT_LEADER); /* overwritten: never applied */
    config = trio_query(&trio, UINT64_MAX);
    assert_null(shard_config_find(&config, 2));
    shard_config_fini(&config);
    trio_end(&trio);
}

static void a_server_that_ends_answers_everybody(void **state)
{
    struct trio trio;
    struct proto_join_group group;
    struct proto_request change, read;
    struct trio_asked *changed, *was_read;
    size_t old;

    (void)state;
    trio_begin(&trio, 11);
    old = trio_leader(&trio);
    trio_cut_off(&trio, old, true);
    change = trio_join_request(&trio, &group, 2);
    read = trio_config_request(UINT64_MAX);
    changed = trio_post(&trio, old, &change);
    was_read = trio_post(&trio, old, &read);
    world_run_ms(trio.world, 30);
    assert_int_equal(ctrler_server_pending(trio_server(&trio, old)), 2);
    {
        struct ctrler_server *ending = trio_server(&trio, old);

        ctrler_server_destroy(&ending); /* the process is still there: its answers leave */
        trio.world->nodes[old]->server = NULL;
    }
    world_run_ms(trio.world, 100);
    assert_int_equal(changed->answers, 1);
    assert_int_equal(changed->response.status, ST_UNKNOWN);
    assert_int_equal(was_read->answers, 1);
    assert_int_equal(was_read->response.status, ST_SHUTDOWN);
    trio_end(&trio);
}

static void stop_hands_leadership_over(void **state)
{
    struct trio trio;
    struct io_event stop = {.type = IO_EVENT_STOP};
    struct proto_request read = trio_config_request(0);
    uint32_t heir;
    size_t old;

    (void)state;
    trio_begin(&trio, 12);
    old = trio_leader(&trio);
    stop.now_ms = world_now_ms(trio.world);
    stop.wall_us = 1;
    ctrler_server_step(trio_server(&trio, old), &stop);
    world_kick(trio.world, old);
    /* Before the other one leads, clients are told where to go. */
    assert_int_equal(trio_ask(&trio, old, &read)->status, ST_SHUTDOWN);
    heir = trio_ask(&trio, old, &read)->leader_hint;
    world_run_ms(trio.world, 150); /* well below an election timeout */
    assert_int_not_equal(trio_leader_now(&trio), TRIO_N);
    assert_int_not_equal(trio_leader_now(&trio), old);
    assert_int_equal(heir, trio_leader_now(&trio) + 1);
    assert_int_equal(trio_ask(&trio, old, &read)->leader_hint, heir);
    trio_end(&trio);
}

static void more_requests_than_the_bound_are_refused(void **state)
{
    struct trio trio;
    struct trio_asked *asked[4];
    size_t node;

    (void)state;
    trio_begin_without_start(&trio, 13);
    trio.max_pending = 6; /* half of it for one client */
    for (size_t i = 0; i < TRIO_N; i++) {
        world_start(trio.world, i);
    }
    node = trio_leader(&trio);
    for (size_t i = 0; i < TRIO_N; i++) {
        world_cut_pair(trio.world, node, (node + 1) % TRIO_N, true);
        world_cut_pair(trio.world, node, (node + 2) % TRIO_N, true);
    }
    for (int i = 0; i < 4; i++) {
        struct proto_request read = trio_config_request(0);

        asked[i] = trio_post(&trio, node, &read);
    }
    world_run_ms(trio.world, 50);
    assert_int_equal(ctrler_server_pending(trio_server(&trio, node)), 3);
    assert_int_equal(asked[3]->answers, 1);
    assert_int_equal(asked[3]->response.status, ST_BUSY);
    trio_end(&trio);
}

static void a_history_that_cannot_be_read_stops_the_replica(void **state)
{
    struct trio trio;
    struct proto_request old = trio_config_request(1);
    size_t node;

    (void)state;
    trio_begin(&trio, 14);
    trio_join(&trio, 1);
    trio_join(&trio, 2);
    node = trio_leader(&trio);
    mem_state_fail(trio.world->nodes[node]->state, MEM_STATE_FAIL_GET, ST_CORRUPT, 1);
    trio_post(&trio, node, &old); /* its answer may not make it out */
    world_run_ms(trio.world, 1000);
    assert_non_null(world_halted(trio.world, node));
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &old)->status, ST_OK);
    trio_end(&trio);
}

/* ---- Groups ---- */

static struct proto_request group_query(uint32_t gid, uint64_t incarnation)
{
    return (struct proto_request){
        .op = PROTO_CONFIG, .config = {.num = UINT64_MAX, .gid = gid, .incarnation = incarnation}};
}

static void a_group_is_bound_to_its_incarnation_at_its_first_query(void **state)
{
    struct trio trio;
    struct proto_request stranger = group_query(1, 77), fresh = group_query(1, 78);
    struct shard_config config;
    const struct proto_response *response;

    (void)state;
    trio_begin(&trio, 15);
    /* Before it joins, a group may look: nothing is bound. */
    config = trio_config_in(trio_ask(&trio, trio_leader(&trio), &stranger));
    assert_int_equal(config.num, 0);
    shard_config_fini(&config);
    trio_join(&trio, 1);
    config = trio_config_in(trio_ask(&trio, trio_leader(&trio), &stranger));
    assert_int_equal(shard_config_find(&config, 1)->incarnation, 77);
    assert_int_equal(config.num, 1);
    shard_config_fini(&config);
    /* Fresh disks under the same gid: refused, at every leader, also after restarts. */
    for (int round = 0; round < 2; round++) {
        response = trio_ask(&trio, trio_leader(&trio), &fresh);
        assert_int_equal(response->status, ST_CONFLICT);
        assert_true(response->text.len > 0);
        world_crash(trio.world, trio_leader(&trio));
        for (size_t node = 0; node < TRIO_N; node++) {
            if (!world_is_running(trio.world, node)) {
                trio_leader(&trio);
                world_start(trio.world, node);
            }
        }
    }
    config = trio_config_in(trio_ask(&trio, trio_leader(&trio), &stranger));
    shard_config_fini(&config);
    trio_end(&trio);
}

/* Two groups with one gid ask at the same moment: one of them is bound, the other told. */
static void of_two_incarnations_at_once_one_wins(void **state)
{
    struct trio trio;
    struct proto_request a = group_query(1, 77), b = group_query(1, 78);
    struct trio_asked *first, *second;
    size_t node;

    (void)state;
    trio_begin(&trio, 18);
    trio_join(&trio, 1);
    node = trio_leader(&trio);
    first = trio_post(&trio, node, &a);
    second = trio_post(&trio, node, &b);
    world_run_ms(trio.world, 1000);
    assert_int_equal(first->answers + second->answers, 2);
    assert_int_equal(first->response.status == ST_OK, second->response.status == ST_CONFLICT);
    assert_int_equal(second->response.status == ST_OK, first->response.status == ST_CONFLICT);
    trio_end(&trio);
}

static void groups_confirm_and_bind_through_the_protocol(void **state)
{
    struct trio trio;
    struct proto_confirm confirms[] = {{0, 1}, {1, 1}};
    struct proto_request confirm = {
        .op = PROTO_CONFIRM, .confirm = {.gid = 1, .incarnation = 77, .n = 2, .shards = confirms}};
    struct proto_request bind = {.op = PROTO_BIND, .confirm = {.gid = 1, .incarnation = 77}};

    (void)state;
    trio_begin(&trio, 16);
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &confirm)->status, ST_NO_GROUP);
    trio_join(&trio, 1);
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &bind)->status, ST_OK);
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &confirm)->status, ST_OK);
    confirms[1].epoch = 2;
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &confirm)->status, ST_CONFLICT);
    bind.confirm.incarnation = 78;
    assert_int_equal(trio_ask(&trio, trio_leader(&trio), &bind)->status, ST_CONFLICT);
    trio_end(&trio);
}

static void status_shows_each_replica_as_it_is(void **state)
{
    struct trio trio;

    (void)state;
    trio_begin(&trio, 17);
    trio_join(&trio, 1);
    world_run_ms(trio.world, 500);
    for (size_t node = 0; node < TRIO_N; node++) {
        struct proto_request request = {.op = PROTO_STATUS};
        const struct proto_response *response = trio_ask(&trio, node, &request);

        assert_int_equal(response->status, ST_OK);
        assert_int_equal(response->node.gid, 0);
        assert_int_equal(response->node.id, node + 1);
        assert_int_equal(response->node.incarnation, 100 + node + 1);
        assert_int_equal(response->node.role,
                         node == trio_leader(&trio) ? RAFT_LEADER : RAFT_FOLLOWER);
        assert_true(response->node.ready);
        assert_int_equal(response->node.config, 1);
        assert_int_equal(response->config, 1);
        assert_memory_equal(response->node.cluster_id,
                            ctrler_server_cluster_id(trio_server(&trio, node)), 16);
    }
    trio_end(&trio);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_begins_the_cluster_by_itself),
        cmocka_unit_test(different_seeds_begin_different_clusters),
        cmocka_unit_test(a_replica_with_other_shards_than_the_cluster_stops),
        cmocka_unit_test(changes_are_answered_with_the_number_they_made),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(a_follower_names_the_leader),
        cmocka_unit_test(times_far_ahead_are_refused_before_they_are_proposed),
        cmocka_unit_test(every_leader_gives_the_same_configurations),
        cmocka_unit_test(a_retry_at_the_next_leader_is_not_a_second_change),
        cmocka_unit_test(a_leader_in_the_minority_gives_no_stale_answer),
        cmocka_unit_test(a_server_that_ends_answers_everybody),
        cmocka_unit_test(stop_hands_leadership_over),
        cmocka_unit_test(more_requests_than_the_bound_are_refused),
        cmocka_unit_test(a_history_that_cannot_be_read_stops_the_replica),
        cmocka_unit_test(a_group_is_bound_to_its_incarnation_at_its_first_query),
        cmocka_unit_test(of_two_incarnations_at_once_one_wins),
        cmocka_unit_test(groups_confirm_and_bind_through_the_protocol),
        cmocka_unit_test(status_shows_each_replica_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
