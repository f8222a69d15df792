/* More callers than there is room for: who gives way, and who never does. */
#include <netinet/tcp.h>
#include <sys/resource.h>

#include "tests/unit/net_harness.h"
#include "tests/unit/net_raw.h"

#define PLACES 6

struct stage {
    struct spec spec;
    struct node server;
    int fds[PLACES];
};

static void stage_init(struct stage *stage)
{
    spec_on_free_ports(&stage->spec, 2);
    node_init(&stage->server);
    node_be_replica(&stage->server, &stage->spec, 1);
    stage->server.echo = true;
    stage->server.options.election_timeout_ms = WITHIN_MS; /* a stranger is not timed out here */
    stage->server.options.limits.max_connections = PLACES;
}

static void stage_fini(struct stage *stage)
{
    for (size_t i = 0; i < PLACES; i++) {
        close(stage->fds[i]);
    }
    node_fini(&stage->server);
}

/* The client asks something and gets the answer. */
static bool is_served(int fd)
{
    struct buf bytes = {0};
    struct frame frame;
    bool served;

    put_request(&bytes, "still there?");
    served = raw_send(fd, buf_slice(&bytes));
    buf_clear(&bytes);
    served = served && raw_read_frame(fd, &bytes, &frame) && frame.kind == FRAME_BATCH;
    buf_fini(&bytes);
    return served;
}

/* A client that says hello; -1 if there was no room for it. */
static int try_client(const struct node *node)
{
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    struct buf bytes = {0};
    struct frame frame;
    int fd = raw_connect(node);

    put_hello_frame(&bytes, &hello);
    raw_send(fd, buf_slice(&bytes));
    buf_clear(&bytes);
    if (!raw_read_frame(fd, &bytes, &frame) || frame.kind != FRAME_HELLO) {
        close(fd);
        fd = -1;
    }
    buf_fini(&bytes);
    return fd;
}

/* How many connections the kernel keeps for the socket of this process that listens there. */
static uint32_t count_waiting(int port)
{
    for (int fd = 0; fd < 4096; fd++) {
        struct sockaddr_in address = {0};
        socklen_t address_len = sizeof(address), listens_len = sizeof(int);
        int listens = 0;
        struct tcp_info info;
        socklen_t len = sizeof(info);

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_len) == 0 && listens &&
            getsockname(fd, (struct sockaddr *)&address, &address_len) == 0 &&
            ntohs(address.sin_port) == port &&
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0) {
            return info.tcpi_unacked;
        }
    }
    return 0;
}

/* Others are let in sooner or later; `busy` works all the while. */
static int await_place(struct stage *stage, int busy)
{
    uint64_t deadline_ms = net_now_ms() + WITHIN_MS;
    int fd = -1;

    while (fd < 0 && net_now_ms() < deadline_ms) {
        fd = try_client(&stage->server);
        assert_true(is_served(busy));
    }
    assert_true(fd >= 0);
    return fd;
}

static void idle_clients_give_way_and_busy_ones_do_not(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage);
    node_start(&stage.server);
    for (size_t i = 0; i < PLACES; i++) {
        stage.fds[i] = raw_client(&stage.server);
    }
    for (size_t i = 1; i < PLACES; i++) { /* the others one after the other, the oldest first */
        int fd = await_place(&stage, stage.fds[0]);
        struct buf got = {0};

        assert_true(raw_read_to_end(stage.fds[i], &got));
        buf_fini(&got);
        close(stage.fds[i]);
        stage.fds[i] = fd;
    }
    assert_true(is_served(stage.fds[0]));
    stage_fini(&stage);
}

/* Nobody gives way at once: who comes meanwhile waits for it, and is not refused. */
static void who_finds_the_house_full_waits_a_little(void **state)
{
    struct stage stage;
    int fd;

    (void)state;
    stage_init(&stage);
    node_start(&stage.server);
    for (size_t i = 0; i < PLACES; i++) {
        stage.fds[i] = raw_connect(&stage.server);
    }
    fd = try_client(&stage.server);
    assert_true(fd >= 0 && is_served(fd));
    close(fd);
    stage_fini(&stage);
}

/* It is silent because the server has not answered yet: that is no reason to close it. */
static void who_waits_for_an_answer_does_not_give_way(void **state)
{
    uint64_t deadline_ms;
    struct buf request = {0};
    struct stage stage;
    char byte;
    int fd = -1;

    (void)state;
    stage_init(&stage);
    stage.server.echo = false; /* it thinks */
    node_start(&stage.server);
    for (size_t i = 0; i < PLACES; i++) {
        stage.fds[i] = raw_client(&stage.server);
    }
    put_request(&request, "a long question");
    assert_true(raw_send(stage.fds[0], buf_slice(&request)));
    buf_fini(&request);
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 1, WITHIN_MS));
    deadline_ms = net_now_ms() + WITHIN_MS;
    for (size_t i = 1; i < PLACES; i++) { /* each takes the place of who is silent for longest */
        while ((fd = try_client(&stage.server)) < 0 && net_now_ms() < deadline_ms) {
            pause_ms(5);
        }
        assert_true(fd >= 0);
        close(stage.fds[i]);
        stage.fds[i] = fd;
    }
    assert_int_equal(recv(stage.fds[0], &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    stage_fini(&stage);
}

static void strangers_give_way_before_clients(void **state)
{
    struct stage stage;
    int fd;

    (void)state;
    stage_init(&stage);
    node_start(&stage.server);
    stage.fds[0] = raw_client(&stage.server); /* idle for longest */
    stage.fds[1] = raw_client(&stage.server);
    for (size_t i = 2; i < PLACES; i++) {
        stage.fds[i] = raw_connect(&stage.server);
    }
    for (size_t i = 2; i < PLACES; i++) {
        fd = await_place(&stage, stage.fds[1]);
        close(stage.fds[i]);
        stage.fds[i] = fd;
    }
    assert_true(is_served(stage.fds[0]));
    stage_fini(&stage);
}

static void a_peer_keeps_its_place(void **state)
{
    struct hello hello = {.who = HELLO_PEER, .protocol_low = 1, .protocol_high = 1, .id = 2};
    struct stage stage;

    (void)state;
    stage_init(&stage);
    hello.gid = stage.server.options.self.gid;
    hello.incarnation = 7;
    hello.spec_fingerprint = stage.server.options.self.spec_fingerprint;
    node_start(&stage.server);
    stage.fds[0] = raw_greet(&stage.server, &hello);
    for (size_t i = 1; i < PLACES; i++) {
        stage.fds[i] = raw_client(&stage.server);
    }
    for (size_t i = 2; i < PLACES; i++) {
        int fd = await_place(&stage, stage.fds[1]);

        close(stage.fds[i]);
        stage.fds[i] = fd;
    }
    for (size_t i = 1; i < PLACES; i++) {
        assert_true(is_served(stage.fds[i]));
    }
    /* One place for the peer, the rest for clients: nobody else left. */
    assert_int_equal(node_stats(&stage.server).connections, PLACES);
    stage_fini(&stage);
}

/* What waits for all clients together is bounded: whoever has most of it is closed, and it is
 * nobody else's loss. */
static void who_lets_most_answers_pile_up_is_closed(void **state)
{
    struct stage stage;
    struct buf requests = {0};

    (void)state;
    stage_init(&stage);
    stage.server.answer_bytes = 1u << 20;
    stage.server.options.limits.max_total_client_queue_bytes = 16u << 20;
    node_start(&stage.server);
    for (size_t i = 0; i < PLACES; i++) {
        stage.fds[i] = raw_client(&stage.server);
    }
    for (int n = 0; n < 40; n++) {
        put_request(&requests, "more");
    }
    raw_send(stage.fds[0], buf_slice(&requests));
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_CLOSED, 0, 1, WITHIN_MS));
    for (size_t i = 1; i < PLACES; i++) {
        struct buf one = {0};

        put_request(&one, "one");
        assert_true(raw_send(stage.fds[i], buf_slice(&one)));
        buf_fini(&one);
    }
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, PLACES, WITHIN_MS));
    assert_int_equal(node_count(&stage.server, IO_EVENT_CLIENT_CLOSED, 0), 1);
    buf_fini(&requests);
    stage_fini(&stage);
}

/* All clients dial at once, before the server comes to it: the kernel keeps them all, up to its own
 * bound. Each has said hello and asked by then. */
static void a_burst_of_callers_waits_to_be_accepted(void **state)
{
    enum { N = 600 }; /* nng alone would have room for 128 */
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    struct buf bytes = {0};
    struct node server;
    struct spec spec;
    char error[256];
    int fds[N];

    (void)state;
    spec_on_free_ports(&spec, 1);
    node_init(&server);
    node_be_replica(&server, &spec, 1);
    server.echo = true;
    assert_int_equal(net_create(&server.options, &server.net, error), ST_OK);
    put_hello_frame(&bytes, &hello);
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(&server);
        assert_true(raw_send(fds[i], buf_slice(&bytes)));
    }
    assert_int_equal(count_waiting(url_port(server.options.listen_url)), N);
    assert_int_equal(pthread_create(&server.thread, NULL, node_main, &server), 0);
    for (int i = 0; i < N; i++) {
        struct frame frame;

        buf_clear(&bytes);
        assert_true(raw_read_frame(fds[i], &bytes, &frame) && frame.kind == FRAME_HELLO);
        assert_true(is_served(fds[i]));
        close(fds[i]);
    }
    buf_fini(&bytes);
    node_fini(&server);
}

struct callers {
    struct net *net;
    int port;
    int fds[40];
    uint32_t there;
};

static void count_there(void *arg)
{
    struct callers *callers = arg;
    struct net_stats stats;

    net_statistics(callers->net, &stats);
    callers->there = stats.connections;
}

static void be_called(struct node *node, void *arg)
{
    struct callers *callers = arg;

    callers->net = node->net;
    for (size_t i = 0; i < 40; i++) {
        callers->fds[i] = raw_connect_port(callers->port);
    }
    pause_ms(500);
    net_post(node->net, count_there, callers);
}

/* All who dial in a long turn are there after it: nobody waits for a turn of each one before. */
static void who_dials_in_a_long_turn_does_not_wait_in_line(void **state)
{
    struct callers callers;
    struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.server.options.limits.max_connections = 100;
    node_start(&stage.server);
    callers.port = url_port(stage.server.options.listen_url);
    node_call(&stage.server, be_called, &callers);
    node_call(&stage.server, nothing, NULL);
    assert_true(callers.there > 20);
    for (size_t i = 0; i < 40; i++) {
        close(callers.fds[i]);
    }
    node_fini(&stage.server);
}

static void serve_page(void *context, const char *path, const char *query, int *status,
                       const char **content_type, struct buf *body)
{
    (void)context;
    (void)path;
    (void)query;
    (void)status;
    (void)content_type;
    buf_printf(body, "up 1\n");
}

/* Silent visitors of the metrics page, more than it has places for: who asks is answered at once.
 */
static void silent_visitors_do_not_block_the_metrics_page(void **state)
{
    struct node node;
    char url[64], error[256];
    int port = free_port(), silent[20], fd;
    struct buf got = {0};
    uint64_t begin_ms;

    (void)state;
    node_init(&node);
    assert_int_equal(net_create(&node.options, &node.net, error), ST_OK);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
    assert_int_equal(net_http_start(node.net, url, serve_page, NULL, error), ST_OK);
    assert_int_equal(pthread_create(&node.thread, NULL, node_main, &node), 0);
    for (int i = 0; i < 20; i++) {
        silent[i] = raw_connect_port(port);
        raw_send(silent[i], slice_text("G"));
    }
    begin_ms = net_now_ms();
    fd = raw_connect_port(port);
    assert_true(raw_send(fd, slice_text("GET /metrics HTTP/1.1\r\n\r\n")));
    assert_true(raw_read_to_end(fd, &got));
    assert_non_null(memmem(got.data, got.len, "up 1", 4));
    assert_true(net_now_ms() - begin_ms < 2000); /* not by waiting for the silent ones to end */
    close(fd);
    for (int i = 0; i < 20; i++) {
        close(silent[i]);
    }
    buf_fini(&got);
    node_fini(&node);
}

/* ---- No descriptors ---- */

static size_t count_words(struct node *node, const char *words)
{
    size_t n = 0;

    pthread_mutex_lock(&node->mutex);
    for (const char *at = strstr(node->trace_text, words); at != NULL; at = strstr(at + 1, words)) {
        n++;
    }
    pthread_mutex_unlock(&node->mutex);
    return n;
}

/* The lowest free one is the limit: nothing can be opened. */
static void forbid_descriptors(struct rlimit *before)
{
    struct rlimit limit;
    int free_fd = dup(0);

    assert_true(free_fd >= 0);
    close(free_fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
    limit = *before;
    limit.rlim_cur = (rlim_t)free_fd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void a_lack_of_descriptors_is_told_once_and_ends(void **state)
{
    struct stage stage;
    struct rlimit before;
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    struct buf bytes = {0};
    struct frame frame;
    int fd;

    (void)state;
    stage_init(&stage);
    stage.server.options.peers.n = 1; /* it calls nobody: that would take and free descriptors */
    node_start(&stage.server);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    forbid_descriptors(&before);
    raw_connect_socket(fd, url_port(stage.server.options.listen_url));
    assert_true(node_wait_trace(&stage.server, "accept failed", WITHIN_MS));
    pause_ms(500);
    assert_int_equal(count_words(&stage.server, "accept failed"), 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    put_hello_frame(&bytes, &hello);
    assert_true(raw_send(fd, buf_slice(&bytes)));
    buf_clear(&bytes);
    assert_true(raw_read_frame(fd, &bytes, &frame));
    assert_int_equal(frame.kind, FRAME_HELLO);
    close(fd);
    buf_fini(&bytes);
    stage_fini(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: nng closes descriptors of earlier tests when it comes to it. */
        cmocka_unit_test(a_lack_of_descriptors_is_told_once_and_ends),
        cmocka_unit_test(a_burst_of_callers_waits_to_be_accepted),
        cmocka_unit_test(idle_clients_give_way_and_busy_ones_do_not),
        cmocka_unit_test(who_finds_the_house_full_waits_a_little),
        cmocka_unit_test(who_waits_for_an_answer_does_not_give_way),
        cmocka_unit_test(strangers_give_way_before_clients),
        cmocka_unit_test(a_peer_keeps_its_place),
        cmocka_unit_test(who_lets_most_answers_pile_up_is_closed),
        cmocka_unit_test(who_dials_in_a_long_turn_does_not_wait_in_line),
        cmocka_unit_test(silent_visitors_do_not_block_the_metrics_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
