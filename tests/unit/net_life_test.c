/* The life of a net: the loop and its turns, posts, deadlines, starting on a taken address, going
 * down under traffic, the HTTP page. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/unit/net_harness.h"
#include "tests/unit/net_raw.h"

/* ---- The loop ---------------------------------------------------------------------------------
 */

struct counting {
    struct node *node;
    uint32_t order[4000];
    uint32_t n;
};

struct post {
    struct counting *counting;
    uint32_t value;
};

static void count_post(void *arg)
{
    struct post *post = arg;

    post->counting->order[post->counting->n++] = post->value;
    mem_free(post);
}

static void *post_many(void *arg)
{
    struct post *template = arg;

    for (uint32_t i = 0; i < 1000; i++) {
        struct post *post = mem_alloc(sizeof(*post));

        *post = (struct post){.counting = template->counting, .value = template->value + i};
        net_post(template->counting->node->net, count_post, post);
    }
    return NULL;
}

static void posts_of_each_thread_run_in_order(void **state)
{
    static struct counting counting;
    struct node node;
    pthread_t threads[4];
    struct post templates[4];
    uint32_t next[4] = {0};

    (void)state;
    node_init(&node);
    node_start(&node);
    counting.node = &node;
    counting.n = 0;
    for (uint32_t i = 0; i < 4; i++) {
        templates[i] = (struct post){.counting = &counting, .value = i * 1000};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &templates[i]), 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    node_call(&node, nothing, NULL);
    assert_int_equal(counting.n, 4000);
    for (uint32_t i = 0; i < 4000; i++) {
        uint32_t thread = counting.order[i] / 1000;

        assert_int_equal(counting.order[i] % 1000, next[thread]++);
    }
    node_fini(&node);
}

static void a_tick_comes_when_the_deadline_passes_and_not_before(void **state)
{
    struct node node;
    uint64_t start_ms = net_now_ms();
    uint64_t ticks = 0, until_ms = start_ms + WITHIN_MS;

    (void)state;
    node_init(&node);
    node.deadline_ms = start_ms + 120;
    node_start(&node);
    while (ticks == 0 && net_now_ms() < until_ms) {
        pthread_mutex_lock(&node.mutex);
        ticks = node.ticks;
        pthread_mutex_unlock(&node.mutex);
        pause_ms(1);
    }
    assert_int_equal(ticks, 1);
    assert_in_range(net_now_ms() - start_ms, 119, 1000);
    node_fini(&node);
}

static void an_idle_loop_sleeps(void **state)
{
    struct node node;
    uint64_t turns;

    (void)state;
    node_init(&node);
    node_start(&node);
    node_call(&node, nothing, NULL);
    pause_ms(300);
    pthread_mutex_lock(&node.mutex);
    turns = node.turns;
    pthread_mutex_unlock(&node.mutex);
    assert_true(turns <= 3);
    node_fini(&node);
}

static void sleep_in_turn(struct node *node, void *arg)
{
    (void)node;
    (void)arg;
    pause_ms(500);
}

/* The clock by which others are silent hardly moves while this loop does not listen. */
static void time_in_which_nobody_listens_hardly_counts(void **state)
{
    uint64_t now_ms[2], awake_ms[2];
    struct node node;

    (void)state;
    node_init(&node);
    node_start(&node);
    for (int i = 0; i < 2; i++) {
        node_call(&node, i == 0 ? nothing : sleep_in_turn, NULL);
        node_call(&node, nothing, NULL); /* a turn that begins after it, */
        node_call(&node, nothing, NULL); /* and has ended */
        pthread_mutex_lock(&node.mutex);
        now_ms[i] = node.now_ms;
        awake_ms[i] = node.awake_ms;
        pthread_mutex_unlock(&node.mutex);
    }
    assert_true(now_ms[1] - now_ms[0] >= 500);
    assert_true(awake_ms[1] > awake_ms[0]); /* but it does move */
    assert_true(now_ms[1] - now_ms[0] - (awake_ms[1] - awake_ms[0]) >= 450);
    node_fini(&node);
}

/* A replica that waits for long looks at the clock meanwhile, to know when it was not let run. */
static void a_replica_looks_at_the_clock_once_a_heartbeat(void **state)
{
    uint64_t turns = 0, until_ms = net_now_ms() + WITHIN_MS;
    struct node node;

    (void)state;
    node_init(&node);
    node.options.self.who = HELLO_PEER;
    node.options.heartbeat_ms = 20;
    node_start(&node);
    while (turns < 10 && net_now_ms() < until_ms) {
        pthread_mutex_lock(&node.mutex);
        turns = node.turns;
        pthread_mutex_unlock(&node.mutex);
        pause_ms(1);
    }
    assert_true(turns >= 10);
    node_fini(&node);
}

static void count_drained(void *arg)
{
    (*(int *)arg)++;
}

static void what_is_posted_after_the_run_is_run_by_drain(void **state)
{
    struct node node;
    int drained = 0;

    (void)state;
    node_init(&node);
    node_start(&node);
    net_stop(node.net);
    pthread_join(node.thread, NULL);
    net_post(node.net, count_drained, &drained);
    net_drain(node.net);
    assert_int_equal(drained, 1);
    net_post(node.net, count_drained, &drained); /* never run */
    net_destroy(&node.net);
    assert_int_equal(drained, 1);
    node_fini(&node);
}

static void a_net_that_never_ran_can_be_destroyed(void **state)
{
    struct node node;
    struct spec spec;
    char error[256];

    (void)state;
    spec_on_free_ports(&spec, 3);
    node_init(&node);
    node_be_replica(&node, &spec, 1);
    assert_int_equal(net_create(&node.options, &node.net, error), ST_OK);
    net_destroy(&node.net);
    net_destroy(&node.net);
    node_fini(&node);
}

/* ---- Addresses --------------------------------------------------------------------------------
 */

static void expect_no_net(const char *url, enum status expected, const char *words)
{
    struct node node;
    char error[256] = "";

    node_init(&node);
    node.options.listen_url = url;
    assert_int_equal(net_create(&node.options, &node.net, error), expected);
    assert_null(node.net);
    assert_non_null(strstr(error, url));
    assert_non_null(strstr(error, words));
    assert_null(strchr(error, '\n'));
    node_fini(&node);
}

static void a_taken_port_is_said_by_name_and_free_again_afterwards(void **state)
{
    struct spec spec;
    struct node node;
    char url[SPEC_MAX_URL + 1];

    (void)state;
    spec_on_free_ports(&spec, 1);
    strcpy(url, spec.replicas[0].url);
    node_init(&node);
    node_be_replica(&node, &spec, 1);
    node_start(&node);
    expect_no_net(url, ST_IN_USE, "ddress in use");
    node_stop(&node);
    node_start(&node);
    node_fini(&node);
}

static void an_address_that_cannot_be_is_said_by_name(void **state)
{
    (void)state;
    expect_no_net("tcp://127.0.0.1:99999", ST_INVALID, "cannot listen");
    expect_no_net("carrier-pigeon://here", ST_INVALID, "cannot listen");
    expect_no_net("tls+tcp://127.0.0.1:1", ST_INVALID, "certificate");
}

static void a_socket_file_left_by_a_dead_process_is_replaced_and_a_live_one_is_not(void **state)
{
    char path[64], url[80];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct node server, client;
    uint32_t endpoint;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    snprintf(path, sizeof(path), "/tmp/net_life_test.%d.sock", (int)getpid());
    snprintf(url, sizeof(url), "ipc://%s", path);
    strcpy(address.sun_path, path);
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd); /* the file stays, nobody listens */

    node_init(&server);
    server.options.listen_url = url;
    server.echo = true;
    node_start(&server);
    expect_no_net(url, ST_IN_USE, "ddress in use");
    node_init(&client);
    node_start(&client);
    endpoint = node_endpoint(&client, url);
    node_endpoint_send(&client, endpoint, "by file", 7);
    assert_true(node_wait(&client, IO_EVENT_ENDPOINT_MESSAGE, endpoint, 1, WITHIN_MS));
    node_fini(&client);
    node_fini(&server);
    assert_int_not_equal(access(path, F_OK), 0);
}

/* ---- Going down under traffic ------------------------------------------------------------------
 */

struct flood {
    struct node *node;
    uint32_t to;
    uint32_t endpoint;
};

static void flood_round(void *arg)
{
    struct flood *flood = arg;
    struct io_net *io = net_io(flood->node->net);

    for (int i = 0; i < 20; i++) {
        struct buf normal = {0}, request = {0};

        memset(buf_extend(&normal, 3000), 'n', 3000);
        io->ops->peer_send(io, 5, flood->to, i % 2 == 0 ? IO_NORMAL : IO_BULK, &normal);
        memset(buf_extend(&request, 3000), 'r', 3000);
        io->ops->endpoint_send(io, flood->endpoint, &request);
    }
    net_post(flood->node->net, flood_round, flood); /* and on and on */
}

#if defined(__SANITIZE_THREAD__)
#define ROUNDS 25 /* it makes each round take half a second */
#else
#define ROUNDS 100
#endif

static void a_net_goes_down_under_traffic_in_both_directions(void **state)
{
    struct spec spec;
    struct node one, two;

    (void)state;
    spec_on_free_ports(&spec, 2);
    node_init(&one);
    node_init(&two);
    node_be_replica(&one, &spec, 1);
    node_be_replica(&two, &spec, 2);
    one.echo = two.echo = true;
    for (int round = 0; round < ROUNDS; round++) {
        struct flood from_one = {.node = &one, .to = 2}, from_two = {.node = &two, .to = 1};
        bool one_first = round % 2 == 0;

        node_start(&one);
        node_start(&two);
        from_one.endpoint = node_endpoint(&one, spec.replicas[1].url);
        from_two.endpoint = node_endpoint(&two, spec.replicas[0].url);
        net_post(one.net, flood_round, &from_one);
        net_post(two.net, flood_round, &from_two);
        assert_true(node_wait(&one, IO_EVENT_PEER_MESSAGE, 2, 10, WITHIN_MS));
        assert_true(node_wait(&two, IO_EVENT_PEER_MESSAGE, 1, 10, WITHIN_MS));
        assert_true(node_wait(&one, IO_EVENT_ENDPOINT_MESSAGE, 0, 10, WITHIN_MS));
        node_stop(one_first ? &one : &two);
        node_stop(one_first ? &two : &one);
        node_forget(&one);
        node_forget(&two);
    }
    node_fini(&one);
    node_fini(&two);
}

static void a_net_goes_down_in_the_middle_of_dialling(void **state)
{
    struct spec spec;
    struct node node;

    (void)state;
    for (int round = 0; round < 50; round++) {
        spec_on_free_ports(&spec, 9);
        node_init(&node);
        node_be_replica(&node, &spec, 1);
        node_start(&node);
        if (round % 3 == 1) {
            node_call(&node, nothing, NULL);
        } else if (round % 3 == 2) {
            pause_ms(2);
        }
        node_fini(&node);
    }
}

/* ---- HTTP -------------------------------------------------------------------------------------
 */

static void serve_page(void *context, const char *path, const char *query, int *status,
                       const char **content_type, struct buf *body)
{
    (void)context;
    if (strcmp(path, "/metrics") == 0) {
        buf_printf(body, "up 1\n%s", query);
        *content_type = "text/plain; version=0.0.4";
    } else {
        *status = 404;
        buf_printf(body, "no such page\n");
    }
}

/* Sends a request and returns the whole answer, terminated. */
static void http_ask(int port, const char *request, struct buf *answer)
{
    int fd = raw_connect_port(port);

    buf_clear(answer);
    assert_true(raw_send(fd, slice_text(request)));
    assert_true(raw_read_to_end(fd, answer));
    buf_put_u8(answer, 0);
    close(fd);
}

static void expect_answer(int port, const char *request, const char *status, const char *body)
{
    struct buf answer = {0};
    char line[64];

    snprintf(line, sizeof(line), "HTTP/1.1 %s\r\n", status);
    http_ask(port, request, &answer);
    assert_memory_equal(answer.data, line, strlen(line));
    if (body != NULL) {
        assert_string_equal(strstr((char *)answer.data, "\r\n\r\n") + 4, body);
    }
    buf_fini(&answer);
}

static void the_metrics_page_is_served_and_nonsense_is_not(void **state)
{
    struct node node;
    char url[64], error[256];
    int port = free_port();
    int slow;

    (void)state;
    node_init(&node);
    assert_int_equal(net_create(&node.options, &node.net, error), ST_OK);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
    assert_int_equal(net_http_start(node.net, url, serve_page, NULL, error), ST_OK);
    assert_int_equal(pthread_create(&node.thread, NULL, node_main, &node), 0);

    slow = raw_connect_port(port);
    assert_true(raw_send(slow, slice_text("GET /met")));
    expect_answer(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "up 1\n");
    expect_answer(port, "GET /metrics?x=1&y HTTP/1.0\r\n\r\n", "200 OK", "up 1\nx=1&y");
    expect_answer(port, "GET /metrics? HTTP/1.0\r\n\r\n", "200 OK", "up 1\n");
    expect_answer(port, "HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK", "");
    expect_answer(port, "GET /other HTTP/1.1\r\n\r\n", "404 Not Found", "no such page\n");
    expect_answer(port, "GET /%41%%%41 HTTP/1.1\r\n\r\n", "404 Not Found", NULL);
    expect_answer(port, "POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", NULL);
    expect_answer(port, "GET metrics HTTP/1.1\r\n\r\n", "400 Bad Request", NULL);
    expect_answer(port, "GET /metrics\r\n\r\n", "400 Bad Request", NULL);
    expect_answer(port, "GET /\x01 HTTP/1.1\r\n\r\n", "400 Bad Request", NULL);
    expect_answer(port, "\r\n\r\n", "400 Bad Request", NULL);
    assert_true(raw_send(slow, slice_text("rics HTTP/1.1\r\n\r\n"))); /* in pieces is fine */
    close(slow);

    for (int i = 0; i < 40; i++) { /* more than it serves at a time, all silent: waited out */
        slow = raw_connect_port(port);
        if (i % 2 == 0) {
            close(slow);
        } else {
            struct linger reset = {.l_onoff = 1, .l_linger = 0};

            setsockopt(slow, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(slow);
        }
    }
    expect_answer(port, "GET /metrics HTTP/1.1\r\n\r\n", "200 OK", "up 1\n");
    node_fini(&node);
}

static void a_metrics_address_that_is_taken_is_said_by_name(void **state)
{
    struct node node;
    char url[64], error[256];
    int port = free_port();
    struct node other;

    (void)state;
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
    node_init(&node);
    node_init(&other);
    assert_int_equal(net_create(&node.options, &node.net, error), ST_OK);
    assert_int_equal(net_create(&other.options, &other.net, error), ST_OK);
    assert_int_equal(net_http_start(node.net, url, serve_page, NULL, error), ST_OK);
    assert_int_equal(net_http_start(other.net, url, serve_page, NULL, error), ST_IN_USE);
    assert_non_null(strstr(error, "127.0.0.1"));
    assert_int_equal(net_http_start(other.net, "https://x", serve_page, NULL, error), ST_INVALID);
    net_destroy(&node.net);
    net_destroy(&other.net);
    node_fini(&node);
    node_fini(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_each_thread_run_in_order),
        cmocka_unit_test(a_tick_comes_when_the_deadline_passes_and_not_before),
        cmocka_unit_test(an_idle_loop_sleeps),
        cmocka_unit_test(time_in_which_nobody_listens_hardly_counts),
        cmocka_unit_test(a_replica_looks_at_the_clock_once_a_heartbeat),
        cmocka_unit_test(what_is_posted_after_the_run_is_run_by_drain),
        cmocka_unit_test(a_net_that_never_ran_can_be_destroyed),
        cmocka_unit_test(a_taken_port_is_said_by_name_and_free_again_afterwards),
        cmocka_unit_test(an_address_that_cannot_be_is_said_by_name),
        cmocka_unit_test(a_socket_file_left_by_a_dead_process_is_replaced_and_a_live_one_is_not),
        cmocka_unit_test(a_net_goes_down_under_traffic_in_both_directions),
        cmocka_unit_test(a_net_goes_down_in_the_middle_of_dialling),
        cmocka_unit_test(the_metrics_page_is_served_and_nonsense_is_not),
        cmocka_unit_test(a_metrics_address_that_is_taken_is_said_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
