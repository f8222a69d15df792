/* Whole shard servers, with a controller, in a simulated world: what clients and other groups get
 * to see. */
#include "shardkv/kv_ops.h"
#include "tests/sim/kv_fixture.h"
#include "tests/sim/mem_state.h"

static void a_group_serves_all_shards_once_it_has_joined(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request request = fixture_get_request("a");

    (void)state;
    fixture_init(&f, 1, 3, 1);
    fixture_start(&f);
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_WRONG_GROUP);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 0), NULL);
        fixture_put(&f, fixture_key(&f, shard, 0), "value");
        fixture_append(&f, fixture_key(&f, shard, 0), "+more");
        fixture_check(&f, fixture_key(&f, shard, 0), "value+more");
    }
    answer_fini(&answer);
    fixture_fini(&f);
}

static void shards_move_to_a_group_that_joins_and_back_when_it_leaves(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 2, 3, 2);
    fixture_start(&f);
    fixture_join(&f, 0);
    fixture_put_everywhere(&f, "one");
    fixture_settle(&f, fixture_join(&f, 1), 3);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 0), "one");
        fixture_append(&f, fixture_key(&f, shard, 0), "+two");
    }
    fixture_settle(&f, fixture_leave(&f, 0), 3);
    fixture_crash_group(&f, 0); /* it is needed no more */
    fixture_check_everywhere(&f, "one+two");
    fixture_fini(&f);
}

/* One group that serves everything. */
static void begin(struct fixture *f, size_t n_replicas, uint64_t seed)
{
    fixture_init(f, 1, n_replicas, seed);
    fixture_start(f);
    fixture_settle(f, fixture_join(f, 0), 1);
}

/* ---- Who answers ---- */

static void only_the_leader_answers_and_the_others_point_to_it(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request get, put;
    size_t leader;

    (void)state;
    begin(&f, 3, 3);
    leader = fixture_leader(&f, 0);
    get = fixture_get_request("key");
    put = fixture_write_request(&f, KV_PUT, "key", "value");
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fixture_ask_replica(&f, 0, i, &put, &answer),
                         i == leader ? ST_OK : ST_NOT_LEADER);
        assert_int_equal(fixture_ask_replica(&f, 0, i, &get, &answer),
                         i == leader ? ST_OK : ST_NOT_LEADER);
        assert_int_equal(answer.config, 1);
    }
    fixture_check(&f, "key", "value");
    answer_fini(&answer);
    fixture_fini(&f);
}

static void a_group_refuses_what_it_does_not_own_and_names_the_owner(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    const struct shard_config *config;

    (void)state;
    fixture_init(&f, 2, 1, 4);
    fixture_start(&f);
    fixture_join(&f, 0);
    fixture_settle(&f, fixture_join(&f, 1), 3);
    config = kv_sm_config(fixture_sm(&f, 0));
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        size_t owner = config->shards[shard] - fixture_gid(0);
        const char *key = fixture_key(&f, shard, 0);
        struct proto_request get = fixture_get_request(key);
        struct proto_request put = fixture_write_request(&f, KV_PUT, key, "v");

        assert_int_equal(fixture_ask(&f, 1 - owner, &put, 2000, &answer), ST_WRONG_GROUP);
        assert_int_equal(answer.gid_hint, fixture_gid(owner));
        assert_int_equal(fixture_ask(&f, 1 - owner, &get, 2000, &answer), ST_WRONG_GROUP);
        assert_int_equal(answer.gid_hint, fixture_gid(owner));
        assert_int_equal(fixture_ask(&f, owner, &put, 2000, &answer), ST_OK);
    }
    answer_fini(&answer);
    fixture_fini(&f);
}

static void a_group_on_fresh_disks_under_a_known_gid_does_not_serve(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request get = fixture_get_request("key");
    struct spec impostor;

    (void)state;
    begin(&f, 1, 5);
    fixture_put(&f, "key", "value");
    fixture_crash_group(&f, 0);
    world_make_spec(f.world, 999, 1, &impostor);
    fixture_add(&f, fixture_gid(0), &impostor, &fixture_kv_ops);
    world_run_ms(f.world, 3000);
    f.groups[0] = impostor;
    assert_int_equal(fixture_ask_replica(&f, 0, 0, &get, &answer), ST_NOT_READY);
    answer_fini(&answer);
    fixture_fini(&f);
}

/* Several calls wait for a server that is lost; the first of them goes on to one that was never
 * asked before, and the table of known servers grows while the others are still being told. */
static void lose_server_with_calls(uint64_t seed)
{
    struct fixture f;
    config_num num;

    fixture_init(&f, 2, 3, seed);
    f.n_ctrlers = 6; /* so that group 0 has the endpoints 7, 8, 9 */
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fixture_crash_group(&f, 1);
    num = fixture_join(&f, 1);
    fixture_crash_group(&f, 0);
    fixture_start_group(&f, 1);
    for (unsigned i = 0; i < 1500; i++) {
        struct io_event down = {.type = IO_EVENT_ENDPOINT_DOWN};

        world_run_ms(f.world, 1);
        down.now_ms = world_now_ms(f.world);
        down.endpoint.endpoint = 7 + i % 3;
        if (fixture_leader(&f, 1) != SIZE_MAX) {
            kv_server_step(fixture_server(&f, 1, fixture_leader(&f, 1)), &down);
        }
    }
    fixture_start_group(&f, 0);
    fixture_settle(&f, num, 3);
    fixture_fini(&f);
}

static void a_lost_server_is_remembered_while_calls_go_on_elsewhere(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) { /* each begins at another replica */
        lose_server_with_calls(seed);
    }
}

/* The configuration before its join still lists its old self, as whom its shards came from: it is
 * not that group, and begins at its own join. */
static void a_group_that_left_may_come_back_at_once_on_fresh_disks(void **state)
{
    struct fixture f;
    struct spec fresh;

    (void)state;
    fixture_init(&f, 2, 1, 8);
    fixture_start(&f);
    fixture_join(&f, 0);
    fixture_settle(&f, fixture_join(&f, 1), 3);
    fixture_put_everywhere(&f, "value");
    fixture_settle(&f, fixture_leave(&f, 1), 3);
    world_run_ms(f.world, 3000); /* the controller hears who has the shards now */
    fixture_crash_group(&f, 1);
    world_make_spec(f.world, 999, 1, &fresh);
    fixture_add(&f, fixture_gid(1), &fresh, &fixture_kv_ops);
    f.groups[1] = fresh;
    fixture_settle(&f, fixture_join(&f, 1), 1); /* whatever it was to give away, it did */
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_append(&f, fixture_key(&f, shard, 0), "+more");
        fixture_check(&f, fixture_key(&f, shard, 0), "value+more");
    }
    fixture_fini(&f);
}

/* ---- What is refused ---- */

static void requests_out_of_bounds_are_invalid(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request request;

    (void)state;
    begin(&f, 1, 6);
    request = fixture_get_request("key");
    request.get.shard = (request.get.shard + 1) % FIXTURE_SHARDS;
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_INVALID);
    request.get.shard = FIXTURE_SHARDS;
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_INVALID);
    request = fixture_write_request(&f, KV_PUT, "key", "value");
    request.write.shard = (request.write.shard + 1) % FIXTURE_SHARDS;
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_INVALID);
    request = fixture_write_request(&f, KV_PUT, "key", "value");
    request.write.session.issued_at = (world_now_us(f.world) + 1700000000000000u) * 2;
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_SESSION_EXPIRED);
    request = (struct proto_request){.op = PROTO_JOIN};
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_INVALID);
    fixture_check(&f, "key", NULL);
    answer_fini(&answer);
    fixture_fini(&f);
}

static void bytes_that_are_no_request_do_no_harm(void **state)
{
    struct fixture f;
    struct rng rng;

    (void)state;
    begin(&f, 1, 7);
    rng_init(&rng, 7);
    for (int i = 0; i < 2000; i++) {
        struct proto_request put = fixture_write_request(&f, KV_PUT, "key", "value");
        struct buf message = {0};

        proto_request_encode(&put, &message);
        for (uint64_t flips = rng_below(&rng, 4); flips > 0; flips--) {
            message.data[rng_below(&rng, message.len)] ^= (uint8_t)(1u << rng_below(&rng, 8));
        }
        message.len -= rng_below(&rng, 3) * rng_below(&rng, message.len) / 2;
        world_client_send(f.world, f.client, f.groups[0].replicas[0].url, &message);
    }
    world_run_ms(f.world, 1000);
    fixture_put(&f, "other", "value");
    fixture_check(&f, "other", "value");
    fixture_fini(&f);
}

/* ---- Writes and sessions ---- */

static void a_retry_is_answered_from_the_session(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request append;

    (void)state;
    begin(&f, 3, 8);
    append = fixture_write_request(&f, KV_APPEND, "key", "xy");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fixture_ask(&f, 0, &append, 5000, &answer), ST_OK);
        assert_int_equal(answer.write.outputs[0], 2);
        world_crash(f.world, fixture_node(&f, 0, fixture_leader(&f, 0)));
        world_run_ms(f.world, 1500); /* another one leads */
        fixture_start_group(&f, 0);
    }
    fixture_check(&f, "key", "xy");
    fixture_append(&f, "key", "z");
    assert_int_equal(fixture_ask(&f, 0, &append, 5000, &answer), ST_SESSION_STALE);
    fixture_check(&f, "key", "xyz");
    answer_fini(&answer);
    fixture_fini(&f);
}

static void an_expired_session_is_told_the_time(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request request;

    (void)state;
    fixture_init(&f, 1, 1, 9);
    f.max_sessions = 4;
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    for (uint8_t client = 1; client <= 6; client++) {
        f.seq = 0;
        f.issued_at = client == 1 ? 1 : answer.cluster_time;
        request = fixture_write_request(&f, KV_PUT, "key", "value");
        request.write.session.client[0] = client;
        assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_OK);
    }
    request.write.session.client[0] = 1; /* evicted meanwhile */
    request.write.session.issued_at = 1;
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_SESSION_EXPIRED);
    request.write.session.issued_at = answer.cluster_time;
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_OK);
    answer_fini(&answer);
    fixture_fini(&f);
}

static void negative_answers_are_answers(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request cas, large;
    uint8_t *bytes = mem_zalloc(KV_MAX_VALUE);

    (void)state;
    begin(&f, 1, 10);
    cas = fixture_write_request(&f, KV_PUT, "key", "new");
    cas.write.n_conditions = 1;
    cas.write.conditions[0] =
        (struct kv_condition){KV_IF_VALUE, slice_text("key"), slice_text("old")};
    assert_int_equal(fixture_ask(&f, 0, &cas, 2000, &answer), ST_MISMATCH);
    fixture_check(&f, "key", NULL);
    large = fixture_write_request(&f, KV_PUT, "key", "");
    large.write.operations[0].value = slice_of(bytes, KV_MAX_VALUE);
    assert_int_equal(fixture_ask(&f, 0, &large, 5000, &answer), ST_OK);
    large = fixture_write_request(&f, KV_APPEND, "key", "x");
    assert_int_equal(fixture_ask(&f, 0, &large, 5000, &answer), ST_TOO_LARGE);
    mem_free(bytes);
    answer_fini(&answer);
    fixture_fini(&f);
}

static void everything_is_there_after_a_power_cut(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 1, 3, 11);
    f.checkpoints = true;
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    for (unsigned i = 0; i < 200; i++) {
        fixture_append(&f, fixture_key(&f, i % FIXTURE_SHARDS, 0), "x");
        if (i % 50 == 49) {
            fixture_crash_group(&f, 0);
            fixture_start_group(&f, 0);
        }
    }
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 0), shard < 8 ? "xxxxxxxxxxxxx" : "xxxxxxxxxxxx");
    }
    fixture_fini(&f);
}

/* ---- Scans ---- */

static enum status scan(struct fixture *f, const char *prefix, const char *after, uint32_t limit,
                        struct answer *answer)
{
    struct proto_request request = {.op = PROTO_SCAN};

    request.scan.shard = shard_of_key(slice_text("{s}"), FIXTURE_SHARDS);
    request.scan.prefix = slice_text(prefix);
    request.scan.after = slice_text(after);
    request.scan.limit = limit;
    return fixture_ask(f, 0, &request, 2000, answer);
}

static void assert_page(const struct answer *answer, const char *expected, bool more)
{
    assert_int_equal(answer->bytes.len, strlen(expected));
    assert_memory_equal(answer->bytes.data, expected, strlen(expected));
    assert_int_equal(answer->more, more);
}

static void a_scan_gives_pages_in_bytewise_order(void **state)
{
    struct fixture f;
    struct answer answer = {0};

    (void)state;
    begin(&f, 1, 12);
    assert_int_equal(scan(&f, "", "", 10, &answer), ST_OK);
    assert_page(&answer, "", false);
    fixture_put(&f, "{s}c", "3");
    fixture_put(&f, "{s}a", "1");
    fixture_put(&f, "{s}b", "2");
    fixture_put(&f, "a{s}", "0");
    fixture_put(&f, "{s}", "-");
    assert_int_equal(scan(&f, "", "", 10, &answer), ST_OK);
    assert_page(&answer, "a{s}=0\n{s}=-\n{s}a=1\n{s}b=2\n{s}c=3\n", false);
    assert_int_equal(scan(&f, "{s}", "", 2, &answer), ST_OK);
    assert_page(&answer, "{s}=-\n{s}a=1\n", true);
    assert_int_equal(scan(&f, "{s}", "{s}a", 2, &answer), ST_OK);
    assert_page(&answer, "{s}b=2\n{s}c=3\n", false);
    assert_int_equal(scan(&f, "{s}", "{s}c", 2, &answer), ST_OK);
    assert_page(&answer, "", false);
    assert_int_equal(scan(&f, "{s}b", "a", 2, &answer), ST_OK); /* after lies before the prefix */
    assert_page(&answer, "{s}b=2\n", false);
    answer_fini(&answer);
    fixture_fini(&f);
}

static void a_page_is_bounded_in_bytes(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    char *large = mem_alloc(400001);

    (void)state;
    memset(large, 'x', 400000);
    large[400000] = '\0';
    begin(&f, 1, 13);
    fixture_put(&f, "{s}1", large);
    fixture_put(&f, "{s}2", large);
    fixture_put(&f, "{s}3", large);
    assert_int_equal(scan(&f, "{s}", "", 100, &answer), ST_OK);
    assert_true(answer.more);
    assert_true(answer.bytes.len < PROTO_SCAN_BYTES);
    mem_free(large);
    answer_fini(&answer);
    fixture_fini(&f);
}

/* ---- What it tells of itself ---- */

struct status_answer {
    struct answer answer; /* first: fixture_await looks at it */
    struct proto_node_status node;
    uint32_t by_state[6];
    uint64_t keys, bytes; /* of all shards */
};

static void on_status(void *context, const struct caller_end *end)
{
    struct status_answer *status = context;

    status->answer.ended = true;
    status->answer.status = end->status;
    if (end->status == ST_OK) {
        status->node = end->response->node;
        for (uint32_t i = 0; i < status->node.n_shards; i++) {
            status->by_state[status->node.shards[i].state]++;
            status->keys += status->node.shards[i].keys;
            status->bytes += status->node.shards[i].bytes;
        }
    }
}

static struct status_answer ask_status(struct fixture *f, size_t group, size_t i)
{
    struct caller_target target = {.replicas = f->groups[group], .only_prefer = true};
    struct proto_request request = {.op = PROTO_STATUS};
    struct status_answer status = {0};
    uint64_t now_ms = world_now_ms(f->world);

    strcpy(target.prefer, f->groups[group].replicas[i].url);
    caller_start(f->caller, &target, &request, true, now_ms, now_ms + 2000, on_status, &status);
    fixture_await(f, &status.answer);
    assert_int_equal(status.answer.status, ST_OK);
    return status;
}

static void status_shows_the_shards_and_their_moves(void **state)
{
    struct fixture f;
    struct status_answer status;
    struct buf metrics = {0};

    (void)state;
    fixture_init(&f, 2, 1, 14);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    status = ask_status(&f, 0, 0);
    assert_int_equal(status.node.gid, fixture_gid(0));
    assert_int_equal(status.node.config, 1);
    assert_true(status.node.ready);
    assert_true(status.node.group_incarnation != 0);
    assert_int_equal(status.by_state[PROTO_SHARD_SERVING], FIXTURE_SHARDS);
    assert_int_equal(status.node.n_moves, 0);
    fixture_crash_group(&f, 0);
    fixture_join(&f, 1); /* its shards can't come yet */
    world_run_ms(f.world, 500);
    status = ask_status(&f, 1, 0);
    assert_int_equal(status.by_state[PROTO_SHARD_WAITING], FIXTURE_SHARDS / 2);
    assert_int_equal(status.node.n_moves, FIXTURE_SHARDS / 2);
    fixture_start_group(&f, 0);
    fixture_settle(&f, 2, 3);
    status = ask_status(&f, 1, 0);
    assert_int_equal(status.by_state[PROTO_SHARD_SERVING], FIXTURE_SHARDS / 2);
    kv_server_metrics(fixture_server(&f, 1, 0), &metrics);
    buf_put_u8(&metrics, 0);
    assert_non_null(strstr((char *)metrics.data, "\nshardkv_shards{state=\"serving\"} 8\n"));
    assert_non_null(
        strstr((char *)metrics.data, "\nshardkv_moves_total{outcome=\"installed\"} 8\n"));
    buf_fini(&metrics);
    fixture_fini(&f);
}

static void status_estimates_keys_and_bytes(void **state)
{
    struct fixture f;
    struct status_answer status;

    (void)state;
    begin(&f, 1, 16);
    for (unsigned i = 0; i < 1500; i++) { /* more than one step of the census */
        fixture_put(&f, fixture_key(&f, i % FIXTURE_SHARDS, i), "12345678");
        fixture_put(&f, f.key, "87654321"); /* the same keys once more */
    }
    world_run_ms(f.world, 10000);
    status = ask_status(&f, 0, 0);
    assert_int_equal(status.keys, 1500);
    assert_true(status.bytes > 1500 * (8 + KV_RECORD_HEADER_BYTES) &&
                status.bytes < 1500 * (24 + KV_RECORD_HEADER_BYTES));
    fixture_fini(&f);
}

/* The log that it misses is gone, so it takes a snapshot, and then can't read what it installed: it
 * stops by itself, in good order, and the others go on. */
static void a_replica_that_cannot_read_what_it_installed_stops(void **state)
{
    struct fixture f;
    size_t behind, node;

    (void)state;
    fixture_init(&f, 1, 3, 17);
    f.checkpoints = true;
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    for (unsigned i = 0; i < 100; i++) {
        fixture_put(&f, fixture_key(&f, 0, i), "some bytes");
    }
    behind = (fixture_leader(&f, 0) + 1) % 3;
    node = fixture_node(&f, 0, behind);
    world_crash(f.world, node);
    for (unsigned i = 0; i < 200; i++) {
        fixture_put(&f, fixture_key(&f, 0, i), "other bytes");
    }
    world_start(f.world, node);
    world_run_ms(f.world, 1);
    assert_non_null(kv_sm_shard(kv_server_sm(fixture_server(&f, 0, behind)), 0));
    mem_state_fail((struct mem_state *)(uintptr_t)world_state(f.world, node), MEM_STATE_FAIL_GET,
                   ST_CORRUPT, 1);
    world_run_ms(f.world, 3000);
    assert_non_null(world_halted(f.world, node));
    fixture_check(&f, fixture_key(&f, 0, 7), "other bytes");
    world_crash(f.world, node);
    world_start(f.world, node);
    world_run_ms(f.world, 3000);
    assert_non_null(kv_sm_shard(kv_server_sm(fixture_server(&f, 0, behind)), 0));
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_serves_all_shards_once_it_has_joined),
        cmocka_unit_test(shards_move_to_a_group_that_joins_and_back_when_it_leaves),
        cmocka_unit_test(only_the_leader_answers_and_the_others_point_to_it),
        cmocka_unit_test(a_group_refuses_what_it_does_not_own_and_names_the_owner),
        cmocka_unit_test(a_group_on_fresh_disks_under_a_known_gid_does_not_serve),
        cmocka_unit_test(a_lost_server_is_remembered_while_calls_go_on_elsewhere),
        cmocka_unit_test(a_group_that_left_may_come_back_at_once_on_fresh_disks),
        cmocka_unit_test(requests_out_of_bounds_are_invalid),
        cmocka_unit_test(bytes_that_are_no_request_do_no_harm),
        cmocka_unit_test(a_retry_is_answered_from_the_session),
        cmocka_unit_test(an_expired_session_is_told_the_time),
        cmocka_unit_test(negative_answers_are_answers),
        cmocka_unit_test(everything_is_there_after_a_power_cut),
        cmocka_unit_test(a_scan_gives_pages_in_bytewise_order),
        cmocka_unit_test(a_page_is_bounded_in_bytes),
        cmocka_unit_test(status_shows_the_shards_and_their_moves),
        cmocka_unit_test(status_estimates_keys_and_bytes),
        cmocka_unit_test(a_replica_that_cannot_read_what_it_installed_stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
