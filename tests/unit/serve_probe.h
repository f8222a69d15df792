/* One replica with a service that only keeps what it is asked, and one client that sends it bytes:
 * what serve_*_test share. */
#ifndef TESTS_UNIT_SERVE_PROBE_H
#define TESTS_UNIT_SERVE_PROBE_H

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

static const struct rsm_service_ops service_ops = {
    .apply = apply_nothing,
    .ranges = no_ranges,
    .restore = restore_nothing,
    .stamp_floor = no_floor,
    .role_changed = ignore_role,
};

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

#endif
