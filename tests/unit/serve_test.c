/* Unit tests of client/serve: what is answered here and what reaches the service; bounds; rubbish.
 */
#include "tests/unit/serve_probe.h"

/* ---- Answered here ---- */

static void ping_is_answered_with_the_servers_header(void **state)
{
    struct probe probe;
    struct proto_request ping = {.op = PROTO_PING, .request_id = 0xabcdef};
    struct proto_response response;

    (void)state;
    probe_begin(&probe);
    send_request(&probe, &ping);
    response = last_answer(&probe);
    assert_int_equal(response.op, PROTO_PING);
    assert_int_equal(response.status, ST_OK);
    assert_int_equal(response.request_id, 0xabcdef);
    assert_int_equal(response.leader_hint, 1);
    assert_int_equal(response.config, 33);
    assert_int_equal(response.cluster_time, group_last_stamp(probe.group));
    assert_int_equal(probe.n_tickets, 0);
    probe_end(&probe);
}

static void status_tells_what_raft_knows_and_what_the_service_adds(void **state)
{
    struct probe probe;
    struct proto_request request = {.op = PROTO_STATUS, .request_id = 1};
    struct proto_response response;

    (void)state;
    for (int with_shards = 0; with_shards < 2; with_shards++) {
        probe_begin(&probe);
        probe.with_shards = with_shards;
        send_request(&probe, &request);
        response = last_answer(&probe);
        assert_int_equal(response.status, ST_OK);
        assert_int_equal(response.node.gid, 5);
        assert_int_equal(response.node.id, 1);
        assert_int_equal(response.node.role, RAFT_LEADER);
        assert_int_equal(response.node.leader, 1);
        assert_true(response.node.ready);
        assert_int_equal(response.node.term, raft_current_term(group_raft(probe.group)));
        assert_int_equal(response.node.last_index, raft_last_index(group_raft(probe.group)));
        assert_int_equal(response.node.commit_index, response.node.last_index);
        assert_int_equal(response.node.applied_index, response.node.last_index);
        assert_int_equal(response.node.first_index, 1);
        assert_int_equal(response.node.snapshot_index, 0);
        assert_int_equal(response.node.log_bytes, probe.log->ops->bytes(probe.log));
        assert_int_equal(response.node.uptime_s, 2);
        assert_int_equal(response.node.config, 33);
        assert_int_equal(response.node.group_incarnation, 4711);
        assert_int_equal(response.node.n_shards, with_shards * 2);
        assert_int_equal(response.node.n_moves, with_shards);
        probe_end(&probe);
    }
}

static void transfer_says_whether_it_began(void **state)
{
    struct probe probe;
    struct proto_request request = {.op = PROTO_TRANSFER, .request_id = 1, .transfer = {.to = 9}};

    (void)state;
    probe_begin(&probe);
    send_request(&probe, &request);
    assert_int_equal(last_answer(&probe).status, ST_INVALID);
    assert_int_equal(probe.n_tickets, 0);
    probe_end(&probe);
}

/* ---- The service's ---- */

static struct proto_request config_request(uint64_t id)
{
    return (struct proto_request){.op = PROTO_CONFIG, .request_id = id, .config = {.num = 0}};
}

/* Answers end at the event that brought them about, whether the group sees that or not. */
static void how_long_a_request_took_goes_by_the_events_of_the_server(void **state)
{
    struct probe probe;
    struct proto_request request = config_request(7);
    struct io_event event = {.type = IO_EVENT_ENDPOINT_MESSAGE};
    struct buf text = {0};

    (void)state;
    probe_begin(&probe);
    send_request(&probe, &request);
    assert_int_equal(probe.n_tickets, 1);
    assert_int_equal(probe.tickets[0].begun_us, probe.now_ms * 1000);
    event.now_ms = probe.now_ms + 7000;
    event.now_us = event.now_ms * 1000;
    serve_observe(probe.serve, &event);
    serve_refuse(probe.serve, &probe.tickets[0], ST_CONFLICT, NULL);
    probe.n_tickets = 0;
    serve_put_metrics(probe.serve, &text);
    buf_put_u8(&text, 0);
    assert_non_null(
        strstr((const char *)text.data, "shardkv_request_duration_seconds_sum{op=\"config\"} 7"));
    buf_fini(&text);
    probe_end(&probe);
}

static void other_requests_become_tickets_and_answers_find_their_way(void **state)
{
    struct probe probe;
    struct proto_request request = config_request(7);
    struct proto_response response;

    (void)state;
    probe_begin(&probe);
    request.deadline_ms = 500;
    send_request(&probe, &request);
    assert_int_equal(probe.n_tickets, 1);
    assert_int_equal(probe.n_answers, 0);
    assert_int_equal(serve_pending(probe.serve), 1);
    assert_int_equal(probe.tickets[0].op, PROTO_CONFIG);
    assert_int_equal(probe.tickets[0].deadline_ms, probe.now_ms + 500);
    serve_refuse(probe.serve, &probe.tickets[0], ST_CONFLICT, "no and no");
    probe.n_tickets = 0;
    world_run_ms(probe.world, 100);
    response = last_answer(&probe);
    assert_int_equal(response.op, PROTO_CONFIG);
    assert_int_equal(response.status, ST_CONFLICT);
    assert_int_equal(response.request_id, 7);
    assert_true(slice_equal(response.text, slice_text("no and no")));
    assert_int_equal(serve_pending(probe.serve), 0);
    probe_end(&probe);
}

static void without_a_deadline_nobody_hurries(void **state)
{
    struct probe probe;
    struct proto_request request = config_request(7);

    (void)state;
    probe_begin(&probe);
    send_request(&probe, &request);
    assert_true(probe.tickets[0].deadline_ms == UINT64_MAX);
    probe_end(&probe);
}

static void beyond_the_bound_the_service_is_busy_but_the_replica_can_be_asked(void **state)
{
    struct probe probe;
    struct proto_request ping = {.op = PROTO_PING, .request_id = 99};

    (void)state;
    probe_begin(&probe);
    for (uint64_t id = 1; id <= MAX_PENDING + 1; id++) {
        struct proto_request request = config_request(id);
        send_request(&probe, &request);
    }
    assert_int_equal(probe.n_tickets, MAX_PENDING);
    assert_int_equal(probe.n_answers, 1);
    assert_int_equal(last_answer(&probe).status, ST_BUSY);
    assert_int_equal(last_answer(&probe).request_id, MAX_PENDING + 1);
    send_request(&probe, &ping);
    assert_int_equal(last_answer(&probe).status, ST_OK);
    /* One answered, one more may come. */
    serve_refuse(probe.serve, &probe.tickets[--probe.n_tickets], ST_BUSY, NULL);
    {
        struct proto_request request = config_request(50);
        send_request(&probe, &request);
    }
    assert_int_equal(probe.n_tickets, MAX_PENDING);
    probe_end(&probe);
}

/* What a stranger asks as if it were a server is refused, what clients ask is not. */
static void strangers_ask_only_what_clients_may(void **state)
{
    static struct proto_confirm shard = {.shard = 1, .epoch = 1};
    struct proto_request for_servers[] = {
        {.op = PROTO_CONFIRM, .confirm = {.gid = 1, .incarnation = 2, .n = 1, .shards = &shard}},
        {.op = PROTO_BIND, .confirm = {.gid = 1, .incarnation = 2}},
        {.op = PROTO_SHARD_PULL, .shard_pull = {.num = 2, .to = 2, .copy_id = 1, .max_bytes = 9}},
        {.op = PROTO_SHARD_RELEASE, .shard_release = {.num = 2, .to = 2}},
        {.op = PROTO_SHARD_WHERE},
        {.op = PROTO_CONFIG, .config = {.num = 1, .gid = 1, .incarnation = 2}},
    };
    struct probe probe;

    (void)state;
    for (size_t i = 0; i < sizeof(for_servers) / sizeof(for_servers[0]); i++) {
        probe_begin(&probe);
        for_servers[i].request_id = i + 1;
        probe.asks_as_stranger = true;
        send_request(&probe, &for_servers[i]);
        assert_int_equal(probe.n_answers, 1);
        assert_int_equal(last_answer(&probe).status, ST_DENIED);
        assert_int_equal(last_answer(&probe).request_id, i + 1);
        assert_int_equal(probe.n_tickets, 0);
        probe.asks_as_stranger = false;
        send_request(&probe, &for_servers[i]);
        assert_int_equal(probe.n_tickets, 1);
        probe_end(&probe);
    }
    probe_begin(&probe);
    probe.asks_as_stranger = true;
    {
        struct proto_request request = config_request(50);

        send_request(&probe, &request);
    }
    assert_int_equal(probe.n_tickets, 1);
    probe_end(&probe);
}

/* ---- Rubbish ---- */

static void a_malformed_request_is_refused_under_its_id(void **state)
{
    struct probe probe;
    struct proto_request request = config_request(0x1122334455667788);
    struct proto_response response;
    struct buf bytes = {0};

    (void)state;
    probe_begin(&probe);
    proto_request_encode(&request, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        send_bytes(&probe, slice_of(bytes.data, len));
        response = last_answer(&probe);
        assert_int_equal(probe.n_answers, (int)len + 1);
        assert_int_equal(response.status, ST_MALFORMED);
        assert_true(response.request_id == (len >= 12 ? request.request_id : 0));
        assert_int_equal(response.op, len >= 12 ? PROTO_CONFIG : PROTO_PING);
    }
    assert_int_equal(probe.n_tickets, 0);
    buf_fini(&bytes);
    probe_end(&probe);
}

static void another_version_is_refused_as_such(void **state)
{
    struct probe probe;
    struct proto_request request = config_request(5);
    struct buf bytes = {0};

    (void)state;
    probe_begin(&probe);
    proto_request_encode(&request, &bytes);
    bytes.data[0] = PROTO_VERSION + 1;
    send_bytes(&probe, buf_slice(&bytes));
    assert_int_equal(last_answer(&probe).status, ST_VERSION);
    assert_int_equal(last_answer(&probe).request_id, 5);
    buf_fini(&bytes);
    probe_end(&probe);
}

/* Every op byte, known or not, with any bytes behind it: answered or a ticket, never a crash. */
/* Every answer is counted by kind and end, whoever gave it. */
static void answers_are_counted(void **state)
{
    struct probe probe;
    struct proto_request ping = {.op = PROTO_PING, .request_id = 1};
    struct proto_request get = {.op = PROTO_GET, .request_id = 2, .get.key = slice_text("key")};
    struct buf text = {0};

    (void)state;
    probe_begin(&probe);
    send_request(&probe, &ping);
    send_request(&probe, &ping);
    send_request(&probe, &get); /* answered 100 ms later, by the service */
    serve_refuse(probe.serve, &probe.tickets[0], ST_NOT_LEADER, NULL);
    probe.n_tickets = 0;
    send_bytes(&probe, slice_text("rubbish"));
    serve_put_metrics(probe.serve, &text);
    buf_put_u8(&text, 0);
    for (size_t i = 0; i < 7; i++) {
        static const char *const lines[] = {
            "\nshardkv_requests_pending 0\n",
            "\nshardkv_requests_total{op=\"ping\",status=\"ok\"} 2\n",
            "\nshardkv_requests_total{op=\"ping\",status=\"version\"} 1\n",
            "\nshardkv_requests_total{op=\"get\",status=\"ok\"} 0\n",
            "\nshardkv_requests_total{op=\"get\",status=\"not_leader\"} 1\n",
            "\nshardkv_request_duration_seconds_bucket{op=\"get\",le=\"0.032768\"} 0\n",
            "\nshardkv_request_duration_seconds_bucket{op=\"get\",le=\"0.131072\"} 1\n"};

        if (strstr((const char *)text.data, lines[i]) == NULL) {
            fail_msg("not there: %s in %s", lines[i], (const char *)text.data);
        }
    }
    assert_null(strstr((const char *)text.data, "op=\"write\",le=")); /* none came */
    buf_fini(&text);
    probe_end(&probe);
}

static void an_unknown_kind_of_request_is_refused(void **state)
{
    struct probe probe;
    struct rng rng;

    (void)state;
    rng_init(&rng, 17);
    probe_begin(&probe);
    for (int op = 0; op < 256; op++) {
        uint8_t bytes[64] = {PROTO_VERSION, (uint8_t)op, 0, 0, 42};
        int before = probe.n_answers;

        for (size_t i = 24; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)rng_next(&rng);
        }
        send_bytes(&probe, slice_of(bytes, 24 + rng_below(&rng, sizeof(bytes) - 24)));
        assert_int_equal(probe.n_answers + (int)probe.n_tickets, before + 1);
        if (probe.n_tickets > 0) {
            serve_refuse(probe.serve, &probe.tickets[0], ST_INVALID, NULL);
            probe.n_tickets = 0;
            world_run_ms(probe.world, 100);
        }
        assert_int_equal(last_answer(&probe).request_id, 42);
    }
    probe_end(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ping_is_answered_with_the_servers_header),
        cmocka_unit_test(status_tells_what_raft_knows_and_what_the_service_adds),
        cmocka_unit_test(transfer_says_whether_it_began),
        cmocka_unit_test(how_long_a_request_took_goes_by_the_events_of_the_server),
        cmocka_unit_test(other_requests_become_tickets_and_answers_find_their_way),
        cmocka_unit_test(without_a_deadline_nobody_hurries),
        cmocka_unit_test(beyond_the_bound_the_service_is_busy_but_the_replica_can_be_asked),
        cmocka_unit_test(strangers_ask_only_what_clients_may),
        cmocka_unit_test(a_malformed_request_is_refused_under_its_id),
        cmocka_unit_test(another_version_is_refused_as_such),
        cmocka_unit_test(answers_are_counted),
        cmocka_unit_test(an_unknown_kind_of_request_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
