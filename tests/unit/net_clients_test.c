/* Clients and the servers they call: endpoints on one side, accepted connections on the other. */
#include "tests/unit/net_harness.h"
#include "tests/unit/net_raw.h"

/* A server (replica 1 of a SPEC of one) that echoes, and a client. */
struct stage {
    struct spec spec;
    struct node server, client;
    uint32_t endpoint;
};

static void stage_init(struct stage *stage)
{
    spec_on_free_ports(&stage->spec, 1);
    node_init(&stage->server);
    node_init(&stage->client);
    node_be_replica(&stage->server, &stage->spec, 1);
    stage->server.echo = true;
}

static void stage_start(struct stage *stage)
{
    node_start(&stage->server);
    node_start(&stage->client);
    stage->endpoint = node_endpoint(&stage->client, stage->server.options.listen_url);
}

static void stage_fini(struct stage *stage)
{
    node_fini(&stage->client);
    node_fini(&stage->server);
}

static void a_request_is_answered(void **state)
{
    struct stage stage;
    struct record record;

    (void)state;
    stage_init(&stage);
    stage_start(&stage);
    node_endpoint_send(&stage.client, stage.endpoint, "hello", 5);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, stage.endpoint, 1, WITHIN_MS));
    record = node_get(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, stage.endpoint, 0);
    assert_int_equal(record.len, 5);
    assert_memory_equal(record.head, "hello", 5);
    assert_true(node_get(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 0).conn != 0);
    stage_fini(&stage);
}

static void an_endpoint_has_one_number_however_often_asked(void **state)
{
    struct stage stage;
    uint32_t other[3];

    (void)state;
    stage_init(&stage);
    stage_start(&stage);
    assert_int_equal(node_endpoint(&stage.client, stage.server.options.listen_url), stage.endpoint);
    assert_int_not_equal(node_endpoint(&stage.client, "tcp://127.0.0.1:1"), stage.endpoint);
    for (uint32_t gid = 7; gid < 10; gid++) { /* whoever is meant there has one of its own */
        other[gid - 7] = node_endpoint_of(&stage.client, gid, stage.server.options.listen_url);
        assert_int_not_equal(other[gid - 7], stage.endpoint);
    }
    for (uint32_t gid = 7; gid < 10; gid++) {
        assert_int_equal(node_endpoint_of(&stage.client, gid, stage.server.options.listen_url),
                         other[gid - 7]);
        assert_int_not_equal(other[gid - 7], other[(gid - 6) % 3]);
    }
    assert_int_equal(node_endpoint(&stage.client, stage.server.options.listen_url), stage.endpoint);
    assert_int_equal(node_stats(&stage.server).connections, 0); /* connects when needed only */
    stage_fini(&stage);
}

static void send_requests(struct node *node, void *arg)
{
    struct io_net *io = net_io(node->net);
    struct stage *stage = arg;

    for (uint32_t i = 0; i < 500; i++) {
        struct buf message = {0};

        buf_put_u32(&message, i);
        io->ops->endpoint_send(io, stage->endpoint, &message);
    }
}

static void requests_that_wait_for_the_connection_leave_together(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage_start(&stage);
    node_call(&stage.client, send_requests, &stage);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 500, WITHIN_MS));
    for (uint32_t i = 0; i < 500; i++) {
        assert_int_equal(get_u32(node_get(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, i).head), i);
    }
    assert_true(node_stats(&stage.client).frames_out <= 3);
    stage_fini(&stage);
}

/* The largest there is; less where copying it would hold up the server for a second. */
#if defined(__SANITIZE_THREAD__)
#define LARGE_BYTES (8u << 20)
#else
#define LARGE_BYTES (40u << 20)
#endif

static void a_large_request_and_a_large_answer_travel(void **state)
{
    struct stage stage;
    size_t large = LARGE_BYTES;

    (void)state;
    stage_init(&stage);
    stage_start(&stage);
    node_endpoint_send(&stage.client, stage.endpoint, NULL, large);
    node_endpoint_send(&stage.client, stage.endpoint, "small", 5);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 2, 3 * WITHIN_MS));
    assert_int_equal(node_get(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 0).len, 5);
    assert_int_equal(node_get(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 1).len, large);
    assert_int_equal(node_count(&stage.client, IO_EVENT_ENDPOINT_DOWN, 0), 0);
    stage_fini(&stage);
}

/* ---- Breaks -----------------------------------------------------------------------------------
 */

static void a_dead_port_is_told_once_a_try(void **state)
{
    struct node client;
    char url[64];
    uint32_t endpoint;

    (void)state;
    node_init(&client);
    node_start(&client);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", free_port());
    endpoint = node_endpoint(&client, url);
    for (size_t i = 1; i <= 3; i++) {
        node_endpoint_send(&client, endpoint, "x", 1);
        assert_true(node_wait(&client, IO_EVENT_ENDPOINT_DOWN, endpoint, i, WITHIN_MS));
        assert_int_equal(node_count(&client, IO_EVENT_ENDPOINT_DOWN, endpoint), i);
    }
    pause_ms(300); /* nobody sends: nobody dials */
    assert_int_equal(node_count(&client, IO_EVENT_ENDPOINT_DOWN, endpoint), 3);
    node_fini(&client);
}

static void an_impossible_url_is_down_too(void **state)
{
    struct node client;
    uint32_t endpoint;

    (void)state;
    node_init(&client);
    node_start(&client);
    endpoint = node_endpoint(&client, "nonsense");
    node_endpoint_send(&client, endpoint, "x", 1);
    assert_true(node_wait(&client, IO_EVENT_ENDPOINT_DOWN, endpoint, 1, WITHIN_MS));
    node_fini(&client);
}

static void a_server_that_dies_is_told_and_found_again(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.server.echo = false;
    stage_start(&stage);
    node_endpoint_send(&stage.client, stage.endpoint, "never answered", 14);
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 1, WITHIN_MS));
    node_stop(&stage.server);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_DOWN, stage.endpoint, 1, WITHIN_MS));
    stage.server.echo = true;
    node_start(&stage.server);
    node_endpoint_send(&stage.client, stage.endpoint, "again", 5);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, stage.endpoint, 1, WITHIN_MS));
    assert_int_equal(node_count(&stage.client, IO_EVENT_ENDPOINT_DOWN, stage.endpoint), 1);
    stage_fini(&stage);
}

static void stall(struct node *node, void *arg)
{
    (void)node;
    pause_ms(*(unsigned *)arg);
}

struct stalling {
    struct node *node;
    unsigned ms;
};

static void *stall_main(void *arg)
{
    struct stalling *stalling = arg;

    node_call(stalling->node, stall, &stalling->ms);
    return NULL;
}

/* A server whose process hangs: the connection stands, nothing comes. */
static void a_silent_server_is_given_up_after_a_second_while_an_answer_is_due(void **state)
{
    struct stage stage;
    struct stalling stalling = {.node = &stage.server, .ms = 2500};
    pthread_t thread;
    uint64_t sent_ms, took_ms;

    (void)state;
    stage_init(&stage);
    stage_start(&stage);
    node_endpoint_send(&stage.client, stage.endpoint, "x", 1);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 1, WITHIN_MS));
    assert_int_equal(pthread_create(&thread, NULL, stall_main, &stalling), 0);
    pause_ms(200);
    sent_ms = net_now_ms();
    node_endpoint_send(&stage.client, stage.endpoint, "y", 1);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_DOWN, 0, 1, WITHIN_MS));
    took_ms = net_now_ms() - sent_ms;
    assert_in_range(took_ms, 900, 2000);
    pthread_join(thread, NULL);
    stage_fini(&stage);
}

/* A server that takes longer than a second to answer, but is alive. */
static void a_slow_answer_is_waited_for_as_long_as_the_server_lives(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.server.echo = false;
    stage_start(&stage);
    node_endpoint_send(&stage.client, stage.endpoint, "question", 8);
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 1, WITHIN_MS));
    pause_ms(2200);
    assert_int_equal(node_count(&stage.client, IO_EVENT_ENDPOINT_DOWN, 0), 0);
    node_reply(&stage.server, node_get(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 0).conn, "a", 1);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 1, WITHIN_MS));
    stage_fini(&stage);
}

static void a_refused_client_fails_fast_until_it_is_tried_again(void **state)
{
    struct stage stage;
    uint64_t start_ms;

    (void)state;
    stage_init(&stage);
    stage.client.options.self.cluster_id[0] = 99;
    stage_start(&stage);
    node_endpoint_send(&stage.client, stage.endpoint, "x", 1);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_DOWN, 0, 1, WITHIN_MS));
    assert_true(node_wait_trace(&stage.client, "by=server status=WRONG_CLUSTER", WITHIN_MS));
    start_ms = net_now_ms();
    node_endpoint_send(&stage.client, stage.endpoint, "x", 1);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_DOWN, 0, 2, WITHIN_MS));
    assert_true(net_now_ms() - start_ms < 400);
    assert_int_equal(node_count(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    stage_fini(&stage);
}

static void the_server_hears_that_a_client_left(void **state)
{
    struct stage stage;
    uint64_t conn;

    (void)state;
    stage_init(&stage);
    stage_start(&stage);
    node_endpoint_send(&stage.client, stage.endpoint, "x", 1);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 1, WITHIN_MS));
    conn = node_get(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 0).conn;
    node_stop(&stage.client);
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, 1, WITHIN_MS));
    assert_true(node_get(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, 0).conn == conn);
    node_reply(&stage.server, conn, "too late", 8);
    node_reply(&stage.server, 12345, "to nobody", 9);
    node_reply(&stage.server, 0, "to nobody", 9);
    assert_int_equal(node_stats(&stage.server).dropped, 3);
    stage_fini(&stage);
}

static void a_number_is_not_used_again(void **state)
{
    struct stage stage;
    uint64_t conns[3];

    (void)state;
    stage_init(&stage);
    node_start(&stage.server);
    for (size_t i = 0; i < 3; i++) {
        int fd = raw_client(&stage.server);
        struct buf bytes = {0};

        put_request(&bytes, "x");
        assert_true(raw_send(fd, buf_slice(&bytes)));
        buf_fini(&bytes);
        assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, i + 1, WITHIN_MS));
        conns[i] = node_get(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, i).conn;
        close(fd);
        assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, i + 1, WITHIN_MS));
    }
    assert_true(conns[0] != conns[1] && conns[1] != conns[2] && conns[0] != conns[2]);
    stage_fini(&stage);
}

/* ---- Limits -----------------------------------------------------------------------------------
 */

/* A PING is answered at once and with its stamp, however recently something was sent. */
static void each_ping_is_answered(void **state)
{
    struct stage stage;
    int fd;

    (void)state;
    stage_init(&stage);
    node_start(&stage.server);
    fd = raw_client(&stage.server);
    for (uint64_t stamp = 7; stamp < 17; stamp++) {
        struct buf bytes = {0};
        struct frame frame;
        uint8_t body[8];

        set_u64(body, stamp);
        put_frame(&bytes, FRAME_PING, slice_of(body, sizeof(body)));
        assert_true(raw_send(fd, buf_slice(&bytes)));
        buf_clear(&bytes);
        assert_true(raw_read_frame(fd, &bytes, &frame));
        assert_int_equal(frame.kind, FRAME_PONG);
        assert_true(get_u64(frame.body.data) == stamp);
        buf_fini(&bytes);
    }
    close(fd);
    stage_fini(&stage);
}

static void two_hundred_connections_are_served(void **state)
{
    enum { N = 200 };
    struct stage stage;
    int fds[N];
    struct buf request = {0};

    (void)state;
    stage_init(&stage);
    node_start(&stage.server);
    put_request(&request, "ping");
    for (size_t i = 0; i < N; i++) {
        fds[i] = raw_client(&stage.server);
        assert_true(raw_send(fds[i], buf_slice(&request)));
    }
    for (size_t i = 0; i < N; i++) {
        struct buf bytes = {0};
        struct frame frame;

        assert_true(raw_read_frame(fds[i], &bytes, &frame));
        assert_int_equal(frame.kind, FRAME_BATCH);
        assert_int_equal(frame.body.len, FRAME_MESSAGE_HEADER + 4);
        buf_fini(&bytes);
    }
    assert_int_equal(node_stats(&stage.server).connections, N);
    for (size_t i = 0; i < N; i++) {
        close(fds[i]);
    }
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, N, WITHIN_MS));
    assert_int_equal(node_stats(&stage.server).connections, 0);
    buf_fini(&request);
    stage_fini(&stage);
}

static void connections_beyond_the_limit_are_closed_and_slots_come_back(void **state)
{
    struct stage stage;
    int first, second, third;
    struct buf got = {0};

    (void)state;
    stage_init(&stage);
    stage.server.options.limits.max_connections = 2;
    node_start(&stage.server);
    first = raw_client(&stage.server);
    second = raw_client(&stage.server);
    third = raw_connect(&stage.server);
    assert_true(raw_read_to_end(third, &got));
    assert_int_equal(got.len, 0);
    close(third);
    close(first);
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, 1, WITHIN_MS));
    first = raw_client(&stage.server);
    close(first);
    close(second);
    buf_fini(&got);
    stage_fini(&stage);
}

static void a_client_that_does_not_read_is_paused_then_closed(void **state)
{
    struct stage stage;
    struct buf request = {0};
    uint64_t deadline_ms = net_now_ms() + WITHIN_MS;
    int fd, other;

    (void)state;
    stage_init(&stage);
    stage.server.answer_bytes = 1u << 20; /* each request asks for a MiB */
    stage.server.options.limits.max_client_queue_bytes = 32u << 20;
    node_start(&stage.server);
    fd = raw_client(&stage.server);
    other = raw_client(&stage.server);
    for (int i = 0; i < 100; i++) { /* all in one read: past the limit before it can pause */
        put_request(&request, "more");
    }
    raw_send(fd, buf_slice(&request));
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, 1, WITHIN_MS));
    close(fd);

    /* One that asks one after the other, without reading, is not listened to any more. */
    buf_clear(&request);
    put_request(&request, "more");
    node_forget(&stage.server);
    for (size_t i = 1; net_now_ms() < deadline_ms; i++) {
        raw_send(other, buf_slice(&request));
        if (!node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, i, 500)) {
            break;
        }
    }
    assert_in_range(node_count(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0), 15, 31);
    assert_int_equal(node_count(&stage.server, IO_EVENT_CLIENT_CLOSED, 0), 0);
    close(other);
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, 1, WITHIN_MS));
    buf_fini(&request);
    stage_fini(&stage);
}

static void flood(struct node *node, void *arg)
{
    struct io_net *io = net_io(node->net);
    struct stage *stage = arg;

    for (int i = 0; i < 100; i++) {
        struct buf message = {0};

        memset(buf_extend(&message, 10000), 'x', 10000);
        io->ops->endpoint_send(io, stage->endpoint, &message);
    }
}

static void requests_beyond_the_queue_limit_are_dropped(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.client.options.limits.max_endpoint_queue_bytes = 100000;
    stage_start(&stage);
    node_call(&stage.client, flood, &stage);
    assert_true(node_wait(&stage.client, IO_EVENT_ENDPOINT_MESSAGE, 0, 9, WITHIN_MS));
    assert_int_equal(node_stats(&stage.client).dropped, 91);
    assert_int_equal(node_stats(&stage.server).messages_in, 9);
    stage_fini(&stage);
}

/* A server is a client of other servers, too: the same net does both. */
static void a_server_calls_another_server(void **state)
{
    struct stage stage;
    struct spec spec;
    struct node caller;
    uint32_t endpoint;

    (void)state;
    stage_init(&stage);
    node_start(&stage.server);
    spec_on_free_ports(&spec, 1);
    node_init(&caller);
    node_be_replica(&caller, &spec, 1);
    caller.options.self.gid = 9;
    caller.options.group = 9;
    node_start(&caller);
    endpoint = node_endpoint(&caller, stage.server.options.listen_url);
    node_endpoint_send(&caller, endpoint, "x", 1);
    assert_true(node_wait(&caller, IO_EVENT_ENDPOINT_MESSAGE, endpoint, 1, WITHIN_MS));
    node_fini(&caller);
    stage_fini(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered),
        cmocka_unit_test(an_endpoint_has_one_number_however_often_asked),
        cmocka_unit_test(requests_that_wait_for_the_connection_leave_together),
        cmocka_unit_test(a_large_request_and_a_large_answer_travel),
        cmocka_unit_test(a_dead_port_is_told_once_a_try),
        cmocka_unit_test(an_impossible_url_is_down_too),
        cmocka_unit_test(a_server_that_dies_is_told_and_found_again),
        cmocka_unit_test(a_silent_server_is_given_up_after_a_second_while_an_answer_is_due),
        cmocka_unit_test(a_slow_answer_is_waited_for_as_long_as_the_server_lives),
        cmocka_unit_test(a_refused_client_fails_fast_until_it_is_tried_again),
        cmocka_unit_test(the_server_hears_that_a_client_left),
        cmocka_unit_test(a_number_is_not_used_again),
        cmocka_unit_test(each_ping_is_answered),
        cmocka_unit_test(two_hundred_connections_are_served),
        cmocka_unit_test(connections_beyond_the_limit_are_closed_and_slots_come_back),
        cmocka_unit_test(a_client_that_does_not_read_is_paused_then_closed),
        cmocka_unit_test(requests_beyond_the_queue_limit_are_dropped),
        cmocka_unit_test(a_server_calls_another_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
