/* Requests that gather on a busy machine: which connections rest, and until when. */
#include "tests/unit/net_harness.h"

#define SPAN_MS 400

struct stage {
    struct spec spec;
    struct node server, client;
    uint32_t endpoint;
    uint32_t span_ms;
};

static void set_gather(struct node *node, void *arg)
{
    const struct stage *stage = arg;

    net_set_gather(node->net, stage->span_ms);
}

static void stage_start(struct stage *stage, bool echo, uint32_t span_ms)
{
    spec_on_free_ports(&stage->spec, 1);
    node_init(&stage->server);
    node_init(&stage->client);
    node_be_replica(&stage->server, &stage->spec, 1);
    stage->server.echo = echo;
    node_start(&stage->server);
    node_start(&stage->client);
    stage->endpoint = node_endpoint(&stage->client, stage->server.options.listen_url);
    stage->span_ms = span_ms;
    node_call(&stage->server, set_gather, stage);
}

static void stage_fini(struct stage *stage)
{
    node_fini(&stage->client);
    node_fini(&stage->server);
}

static void send_and_await(struct stage *stage, uint32_t n)
{
    node_endpoint_send(&stage->client, stage->endpoint, "ask", 3);
    assert_true(node_wait(&stage->server, IO_EVENT_CLIENT_MESSAGE, 0, n, WITHIN_MS));
}

static void a_stream_of_requests_is_read_together(void **state)
{
    struct stage stage;
    uint32_t n_reads = 1;

    (void)state;
    stage_start(&stage, false, SPAN_MS);
    for (uint32_t n = 1; n <= 3; n++) {
        send_and_await(&stage, n); /* so few are read one by one */
    }
    for (uint32_t i = 0; i < 5; i++) {
        node_endpoint_send(&stage.client, stage.endpoint, "more", 4);
        usleep(10000); /* they leave one by one, and would be read so */
    }
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 8, WITHIN_MS));
    for (uint32_t i = 4; i < 8; i++) {
        n_reads += node_get(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, i).at_ms !=
                   node_get(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, i - 1).at_ms;
    }
    assert_in_range(n_reads, 1, 2); /* a boundary may come between them */
    stage_fini(&stage);
}

/* Who waits for each answer is never made to wait for a boundary: here none comes in time. */
static void who_waits_for_answers_never_rests(void **state)
{
    struct stage stage;

    (void)state;
    stage_start(&stage, true, 60000);
    for (uint32_t n = 1; n <= 50; n++) {
        node_endpoint_send(&stage.client, stage.endpoint, "ask", 3);
        assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, n, WITHIN_MS));
    }
    stage_fini(&stage);
}

/* A connection that ends while it rests is forgotten. */
static void a_connection_may_end_while_it_rests(void **state)
{
    struct stage stage;

    (void)state;
    stage_start(&stage, false, SPAN_MS);
    for (uint32_t n = 1; n <= 3; n++) {
        send_and_await(&stage, n);
    }
    stage_fini(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_requests_is_read_together),
        cmocka_unit_test(who_waits_for_answers_never_rests),
        cmocka_unit_test(a_connection_may_end_while_it_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
