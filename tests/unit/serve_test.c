/* Unit tests of client/serve: one replica with a service that only keeps what it is asked, and one
 * client that sends it bytes. What is answered here and what reaches the service; bounds; rubbish.
 */
#include "tests/cmocka.h"

#include "client/serve.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/sim/world.h"

#define MAX_PENDING 3 /* of one connection: half of all */
#define MAX_TICKETS 8

/* A replica whose service answers when the test says so. */
struct probe {
    struct world *world;
    struct spec spec;
    size_t client;
    struct group *group;
    struct serve *serve;
    struct io_log *log;
    struct serve_ticket tickets[MAX_TICKETS];
    bool asks_as_stranger;
    size_t n_tickets;
    uint64_t now_ms;
    bool with_shards; /* status rows have some */
    /* The last answer, and how many came. */
    struct buf answer;
    int n_answers;
};

/* ---- The service ---- */

static enum status apply_nothing(void *service, const struct rsm_command *command,
                                 struct buf *result)
{
    (void)service;
    (void)command;
    (void)result;
    return ST_OK;
}

static void no_ranges(void *service, uint64_t **ranges, size_t *n, size_t *capacity)
{
    (void)service;
    (void)ranges;
    (void)n;
    (void)capacity;
}

static enum status restore_nothing(void *service)
{
    (void)service;
    return ST_OK;
}

static uint64_t no_floor(void *service)
{
    (void)service;
    return 1;
}

static void ignore_role(void *service, enum raft_role role, raft_term term, raft_id leader)
{
    (void)service;
    (void)role;
    (void)term;
    (void)leader;
}

static const struct rsm_service_ops service_ops = {apply_nothing, no_ranges, restore_nothing,
                                                   no_floor, ignore_role};

static void add_status(void *context, struct proto_node_status *node)
{
    struct probe *probe = context;

    node->group_incarnation = 4711;
    if (probe->with_shards) {
        node->n_shards = 2;
        node->shards = mem_zalloc(2 * sizeof(*node->shards));
        node->shards[1].shard = 1;
        node->n_moves = 1;
        node->moves = mem_zalloc(sizeof(*node->moves));
    }
}

static config_num some_config(void *context)
{
    (void)context;
    return 33;
}

/* ---- The node ---- */

static void *node_create(void *context, const struct world_parts *parts)
{
    struct probe *probe = context;
    struct group_options group;
    struct serve_options serve = {.net = parts->io.net,
                                  .log = parts->io.log,
                                  .gid = parts->gid,
                                  .id = parts->id,
                                  .version = "0.0-test",
                                  .start_ms = parts->now_ms,
                                  .max_pending = 2 * MAX_PENDING,
                                  .status = add_status,
                                  .config = some_config,
                                  .context = probe};

    group_options_default(&group, parts->gid, parts->id, parts->seed);
    raft_configuration_from_spec(&parts->spec, &group.bootstrap);
    assert_int_equal(group_create(&group, &parts->io, &service_ops, probe, parts->log_content,
                                  parts->state_meta, parts->now_ms, &probe->group),
                     ST_OK);
    serve.group = probe->group;
    probe->serve = serve_create(&serve);
    probe->log = parts->io.log;
    return probe;
}

static void node_destroy(void **server)
{
    struct probe *probe = *server;

    for (size_t i = 0; i < probe->n_tickets; i++) {
        serve_refuse(probe->serve, &probe->tickets[i], ST_SHUTDOWN, NULL);
    }
    serve_destroy(&probe->serve);
    group_destroy(&probe->group);
    *server = NULL;
}

static void node_step(void *server, const struct io_event *event)
{
    struct probe *probe = server;
    struct proto_request request;
    struct serve_ticket ticket;
    struct io_event asked = *event;

    serve_observe(probe->serve, event);
    if (event->type != IO_EVENT_CLIENT_MESSAGE) {
        group_step(probe->group, event);
        return;
    }
    probe->now_ms = event->now_ms;
    asked.client.is_stranger = probe->asks_as_stranger;
    if (serve_message(probe->serve, &asked, &request, &ticket)) {
        assert_true(probe->n_tickets < MAX_TICKETS);
        probe->tickets[probe->n_tickets++] = ticket;
        proto_request_fini(&request);
    }
}

static uint64_t node_deadline(void *server)
{
    return group_next_deadline_ms(((struct probe *)server)->group);
}

static struct group *node_group(void *server)
{
    return ((struct probe *)server)->group;
}

static const struct world_node_ops node_ops = {node_create,   node_destroy, node_step,
                                               node_deadline, node_group,   NULL};

/* ---- The client ---- */

static void client_message(void *client, uint64_t now_ms, struct slice message)
{
    struct probe *probe = client;

    (void)now_ms;
    probe->n_answers++;
    buf_clear(&probe->answer);
    buf_put_slice(&probe->answer, message);
}

static const struct world_client_ops client_ops = {.message = client_message};

static void send_bytes(struct probe *probe, struct slice bytes)
{
    struct buf message = {0};

    buf_put_slice(&message, bytes);
    world_client_send(probe->world, probe->client, probe->spec.replicas[0].url, &message);
    world_run_ms(probe->world, 100);
}

static void send_request(struct probe *probe, const struct proto_request *request)
{
    struct buf bytes = {0};

    proto_request_encode(request, &bytes);
    send_bytes(probe, buf_slice(&bytes));
    buf_fini(&bytes);
}

/* The answer that came last, decoded; its memory is freed at once, so slices are not for use. */
static struct proto_response last_answer(struct probe *probe)
{
    struct proto_response response, copy;

    assert_true(probe->n_answers > 0);
    assert_true(proto_response_decode(buf_slice(&probe->answer), &response));
    copy = response;
    proto_response_fini(&response);
    return copy;
}

static void probe_begin(struct probe *probe)
{
    memset(probe, 0, sizeof(*probe));
    probe->world = world_create(1);
    world_make_spec(probe->world, 5, 1, &probe->spec);
    world_add_node(probe->world, 5, 1, &probe->spec, &node_ops, probe);
    world_start(probe->world, 0);
    probe->client = world_add_client(probe->world, &client_ops, probe);
    world_run_ms(probe->world, 2000);
    assert_true(group_is_ready(probe->group));
}

static void probe_end(struct probe *probe)
{
    world_destroy(&probe->world);
    buf_fini(&probe->answer);
}

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

/* ---- Changes of the replicas ---- */

static enum status change(struct probe *probe, enum proto_replica_change kind, uint64_t index,
                          uint32_t id)
{
    struct proto_request request = {.op = PROTO_REPLICA, .request_id = 1};

    request.replica.kind = kind;
    request.replica.gid = 5;
    request.replica.id = id;
    request.replica.configuration_index = index;
    if (kind == PROTO_REPLICA_ADD) {
        request.replica.url = slice_text("tcp://node9:7000");
    }
    send_request(probe, &request);
    return last_answer(probe).status;
}

static uint64_t told_index(struct probe *probe)
{
    struct proto_request request = {.op = PROTO_REPLICAS, .request_id = 1};

    send_request(probe, &request);
    assert_int_equal(last_answer(probe).status, ST_OK);
    return last_answer(probe).replicas.configuration_index;
}

static void a_dry_run_of_a_change_of_the_replicas_changes_nothing(void **state)
{
    struct probe probe;
    struct proto_request add = {
        .op = PROTO_REPLICA,
        .request_id = 1,
        .dry_run = true,
        .replica = {
            .kind = PROTO_REPLICA_ADD, .gid = 5, .id = 2, .url = slice_text("tcp://somewhere:1")}};
    raft_index last;

    (void)state;
    probe_begin(&probe);
    add.replica.configuration_index = told_index(&probe);
    last = raft_last_index(group_raft(probe.group));
    send_request(&probe, &add);
    assert_int_equal(last_answer(&probe).status, ST_OK);
    assert_int_equal(raft_last_index(group_raft(probe.group)), last);
    /* What is wrong with it is told all the same. */
    add.replica.gid = 6;
    send_request(&probe, &add);
    assert_int_equal(last_answer(&probe).status, ST_INVALID);
    add.replica.gid = 5;
    add.dry_run = false;
    send_request(&probe, &add);
    assert_true(raft_last_index(group_raft(probe.group)) > last);
    assert_int_equal(probe.n_tickets, 0);
    probe_end(&probe);
}

/* The first try of a change makes it, others find it made; late ones do nothing. */
static void a_change_may_come_again_but_not_late(void **state)
{
    struct probe probe;
    uint64_t first, second;

    (void)state;
    probe_begin(&probe);
    first = told_index(&probe);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, first, 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, first, 9), ST_OK);
    second = told_index(&probe);
    assert_true(second > first);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, first, 9), ST_CONFLICT);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, second, 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, second, 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, first, 9), ST_CONFLICT);
    assert_int_equal(change(&probe, PROTO_REPLICA_ADD, told_index(&probe), 9), ST_OK);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, second, 9), ST_CONFLICT);
    probe_end(&probe);
}

/* A leader of the past does not know yet what the caller saw. */
static void nothing_holds_already_in_an_older_configuration(void **state)
{
    struct probe probe;
    uint64_t index;

    (void)state;
    probe_begin(&probe);
    index = told_index(&probe);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, index + 3, 9), ST_CONFLICT);
    assert_int_equal(change(&probe, PROTO_REPLICA_REMOVE, index, 9), ST_OK);
    assert_int_equal(told_index(&probe), index);
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
        cmocka_unit_test(a_change_may_come_again_but_not_late),
        cmocka_unit_test(nothing_holds_already_in_an_older_configuration),
        cmocka_unit_test(transfer_says_whether_it_began),
        cmocka_unit_test(a_dry_run_of_a_change_of_the_replicas_changes_nothing),
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
