/* Links between the replicas of a group: who may talk, and what happens when a link breaks. */
#include "tests/unit/net_pair.h"
#include "tests/unit/net_raw.h"

/* ---- Who may talk -----------------------------------------------------------------------------
 */

/* Starts both and expects `two` to refuse `one` with this trace at `one`. */
static void expect_refused(struct pair *pair, const char *status)
{
    char text[100];

    snprintf(text, sizeof(text), "by=peer status=%s", status);
    node_start(&pair->one);
    node_start(&pair->two);
    assert_true(node_wait_trace(&pair->one, text, WITHIN_MS));
    snprintf(text, sizeof(text), "by=us status=%s", status);
    assert_true(node_wait_trace(&pair->two, text, WITHIN_MS));
    assert_true(node_stats(&pair->two).refused > 0);
    assert_int_equal(node_count(&pair->one, IO_EVENT_PEER_UP, 0), 0);
    assert_int_equal(node_count(&pair->two, IO_EVENT_PEER_MESSAGE, 0), 0);
    pair_fini(pair);
}

static void a_peer_of_another_cluster_is_refused(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.self.cluster_id[0] = 8;
    expect_refused(&pair, "WRONG_CLUSTER");
}

static void a_peer_without_a_common_version_is_refused(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.self.protocol_low = 7;
    pair.one.options.self.protocol_high = 9;
    expect_refused(&pair, "VERSION");
}

static void a_peer_of_another_group_is_refused(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.self.gid = 6;
    pair.one.options.group = 6;
    expect_refused(&pair, "WRONG_NODE");
}

static void a_replica_that_the_spec_does_not_name_is_refused(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.self.id = 3;
    expect_refused(&pair, "WRONG_NODE");
}

/* The SPEC of `one` has two's URL under another id. */
static void a_url_where_another_replica_answers_is_not_used(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.peers.replicas[1].id = 4;
    node_start(&pair.one);
    node_start(&pair.two);
    assert_true(node_wait_trace(&pair.one, "by=us status=WRONG_NODE", WITHIN_MS));
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_UP, 0), 0);
    pair_fini(&pair);
}

/* On the loop thread: no assertions of cmocka here. */
static enum status admit_no_callers(void *context, const struct hello *self,
                                    const struct hello *other, const char **reason)
{
    (void)context;
    if (self->who == HELLO_SERVER && other->who == HELLO_PEER && other->incarnation == 101) {
        *reason = "not today";
        return ST_NOT_READY;
    }
    return ST_OK;
}

static void the_program_has_the_last_word_on_who_is_admitted(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.two.options.sink.admit = admit_no_callers;
    node_start(&pair.two);
    node_start(&pair.one);
    assert_true(
        node_wait_trace(&pair.one, "by=peer status=NOT_READY reason=\"not today\"", WITHIN_MS));
    pair_fini(&pair);
}

static void learn_cluster(struct node *node, void *arg)
{
    struct hello hello = node->options.self;

    (void)arg;
    hello.cluster_id[0] = 8;
    net_set_hello(node->net, &hello);
}

static void a_refused_peer_is_tried_again_and_a_new_hello_counts(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.two.options.self.cluster_id[0] = 8;
    node_start(&pair.one);
    node_start(&pair.two);
    assert_true(node_wait_trace(&pair.one, "by=peer status=WRONG_CLUSTER", WITHIN_MS));
    pause_ms(400);
    assert_int_equal(node_stats(&pair.two).refused, 1); /* not hammered */
    node_call(&pair.one, learn_cluster, NULL);
    pair_wait_linked(&pair);
    pair_fini(&pair);
}

/* Each side is told by the other's hello only what it knew when the link came up. */
static void who_learns_its_cluster_closes_links_with_another_one(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.self.cluster_id[0] = 0; /* it knows none yet */
    node_start(&pair.one);
    node_start(&pair.two);
    pair_wait_linked(&pair);
    node_call(&pair.one, learn_cluster, NULL); /* two belongs to 7 */
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_DOWN, 2, 1, WITHIN_MS));
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_DOWN, 1, 1, WITHIN_MS));
    assert_true(node_wait_trace(&pair.one, "status=WRONG_CLUSTER", WITHIN_MS));
    pair_fini(&pair);
}

static void learn_same_cluster(struct node *node, void *arg)
{
    struct hello hello = node->options.self;

    (void)arg;
    hello.cluster_id[0] = 7;
    net_set_hello(node->net, &hello);
}

static void who_learns_its_cluster_keeps_links_with_its_own(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.self.cluster_id[0] = 0;
    node_start(&pair.one);
    node_start(&pair.two);
    pair_wait_linked(&pair);
    node_call(&pair.one, learn_same_cluster, NULL);
    node_peer_send(&pair.one, 2, IO_NORMAL, "hello again", 11);
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_DOWN, 0), 0);
    assert_int_equal(node_count(&pair.two, IO_EVENT_PEER_DOWN, 0), 0);
    pair_fini(&pair);
}

/* ---- Breaks -----------------------------------------------------------------------------------
 */

static void a_peer_that_restarts_is_noticed_and_traffic_resumes(void **state)
{
    struct pair pair;

    (void)state;
    pair_start(&pair);
    for (int round = 0; round < 3; round++) {
        uint64_t start_ms;

        node_stop(&pair.two);
        assert_true(node_wait(&pair.one, IO_EVENT_PEER_DOWN, 2, 1, WITHIN_MS));
        node_forget(&pair.one);
        node_forget(&pair.two);
        node_start(&pair.two);
        start_ms = net_now_ms();
        pair_wait_linked(&pair);
        assert_true(net_now_ms() - start_ms < 2000);
        node_peer_send(&pair.one, 2, IO_NORMAL, "again", 5);
        node_peer_send(&pair.two, 1, IO_NORMAL, "again", 5);
        assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
        assert_true(node_wait(&pair.one, IO_EVENT_PEER_MESSAGE, 2, 1, WITHIN_MS));
    }
    pair_fini(&pair);
}

/* Accepts one connection, answers its hello, and then says nothing more. */
static int mute_peer_accept(int listening, const struct spec *spec)
{
    struct hello hello = {.who = HELLO_SERVER,
                          .protocol_low = 1,
                          .protocol_high = 1,
                          .cluster_id = {7},
                          .gid = 5,
                          .id = 2,
                          .spec_fingerprint = spec_fingerprint(spec)};
    struct buf bytes = {0};
    struct frame frame;
    int fd = accept(listening, NULL, NULL);

    assert_true(fd >= 0);
    assert_true(raw_read_frame(fd, &bytes, &frame));
    assert_int_equal(frame.kind, FRAME_HELLO);
    buf_clear(&bytes);
    put_hello_frame(&bytes, &hello);
    assert_true(raw_send(fd, buf_slice(&bytes)));
    buf_fini(&bytes);
    return fd;
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(0x7f000001),
                                  .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

static void a_silent_peer_is_given_up_after_an_election_timeout(void **state)
{
    struct pair pair;
    int listening, first, second;
    uint64_t up_ms, down_ms;

    (void)state;
    pair_init(&pair);
    pair.one.options.election_timeout_ms = 300;
    listening = listen_on(url_port(pair.spec.replicas[1].url));
    node_start(&pair.one);
    first = mute_peer_accept(listening, &pair.spec);
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_DOWN, 2, 1, WITHIN_MS));
    up_ms = node_get(&pair.one, IO_EVENT_PEER_UP, 2, 0).at_ms;
    down_ms = node_get(&pair.one, IO_EVENT_PEER_DOWN, 2, 0).at_ms;
    assert_in_range(down_ms - up_ms, 290, 1500);
    second = mute_peer_accept(listening, &pair.spec); /* it dials again */
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_UP, 2, 2, WITHIN_MS));
    close(first);
    close(second);
    close(listening);
    pair_fini(&pair);
}

static void send_pong(int fd, uint64_t stamp)
{
    struct buf bytes = {0};
    uint8_t body[8];

    set_u64(body, stamp);
    put_frame(&bytes, FRAME_PONG, slice_of(body, sizeof(body)));
    assert_true(raw_send(fd, buf_slice(&bytes)));
    buf_fini(&bytes);
}

static void wait_at_most(int fd, uint32_t ms)
{
    struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

/* Reads frames until there are so many bytes, and then nothing comes for a while. Counts their
 * bytes, remembers the last PING's stamp and whether an urgent message was among them. Says that it
 * is alive, not that it has read. */
static size_t read_until_quiet(int fd, size_t at_least, uint64_t *stamp, bool *urgent)
{
    struct buf got = {0};
    struct frame frame;
    size_t total = 0;

    wait_at_most(fd, WITHIN_MS);
    while (raw_read_frame(fd, &got, &frame)) { /* it never reads past the frame */
        total += got.len;
        if (total >= at_least) {
            wait_at_most(fd, 300);
        }
        if (frame.kind == FRAME_PING) {
            *stamp = get_u64(frame.body.data);
        } else if (frame.kind == FRAME_BATCH) {
            *urgent = true;
        }
        buf_clear(&got);
        send_pong(fd, 0);
    }
    buf_fini(&got);
    return total;
}

/* The other side takes bytes in, but does not say that it has read them: they may all wait in
 * buffers on the way. So bulk stops at the window, and what is urgent does not. */
static void no_more_is_on_the_way_than_the_window_but_urgent_messages(void **state)
{
    enum { WINDOW = 4096 * 3000, BULK = 40 << 20 };
    struct pair pair;
    int listening, fd;
    uint64_t stamp = 0;
    bool urgent = false;
    size_t got;

    (void)state;
    pair_init(&pair);
    pair.one.options.election_timeout_ms = 3000;
    pair.one.options.heartbeat_ms = 1000; /* so that it is quiet when the window is full */
    listening = listen_on(url_port(pair.spec.replicas[1].url));
    node_start(&pair.one);
    fd = mute_peer_accept(listening, &pair.spec);
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    node_peer_send(&pair.one, 2, IO_BULK, NULL, BULK);
    got = read_until_quiet(fd, WINDOW / 2, &stamp, &urgent);
    assert_in_range(got, WINDOW / 2, WINDOW + (1u << 20));
    assert_false(urgent);

    send_pong(fd, 0); /* alive, but nothing was read */
    node_peer_send(&pair.one, 2, IO_URGENT, "vote", 4);
    got = read_until_quiet(fd, 1, &stamp, &urgent);
    assert_true(urgent);
    assert_true(got < 1000);

    send_pong(fd, UINT64_MAX); /* more than was ever sent: a lie, ignored */
    send_pong(fd, stamp);      /* now it was */
    got = read_until_quiet(fd, WINDOW / 2, &stamp, &urgent);
    assert_in_range(got, WINDOW / 2, WINDOW + (1u << 20));
    close(fd);
    close(listening);
    pair_fini(&pair);
}

/* ---- A process that ended ---- */

static void a_peer_whose_process_ended_is_told_to_be_gone_once(void **state)
{
    struct pair pair;

    (void)state;
    pair_start(&pair);
    for (int round = 0; round < 2; round++) {
        node_forget(&pair.one);
        node_stop(&pair.two);
        assert_true(node_wait(&pair.one, IO_EVENT_PEER_GONE, 2, 1, WITHIN_MS));
        assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_DOWN, 2), 1);
        pause_ms(500); /* it is dialled again and again */
        assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_GONE, 2), 1);
        node_forget(&pair.one);
        node_start(&pair.two);
        assert_true(node_wait(&pair.one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
        assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_GONE, 2), 0);
    }
    pair_fini(&pair);
}

/* Nobody listens where it did, but it still has a link to us: something else is wrong. */
static void a_peer_that_has_a_link_to_us_is_not_gone(void **state)
{
    struct hello hello = {.who = HELLO_PEER, .protocol_low = 1, .protocol_high = 1, .id = 2};
    int listening, out, in;
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.election_timeout_ms = WITHIN_MS; /* links are not closed for silence here */
    listening = listen_on(url_port(pair.spec.replicas[1].url));
    hello.gid = pair.one.options.self.gid;
    hello.incarnation = 7;
    hello.spec_fingerprint = pair.one.options.self.spec_fingerprint;
    node_start(&pair.one);
    out = mute_peer_accept(listening, &pair.spec);
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    in = raw_greet(&pair.one, &hello);
    close(listening);
    close(out);
    assert_true(node_wait_trace(&pair.one, "peer dial failed id=2", WITHIN_MS));
    pause_ms(300); /* and again */
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_GONE, 2), 0);
    close(in);
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_GONE, 2, 1, WITHIN_MS));
    pair_fini(&pair);
}

static void an_idle_link_stays_up_by_pings(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.election_timeout_ms = 300;
    pair.two.options.election_timeout_ms = 300;
    node_start(&pair.one);
    node_start(&pair.two);
    pair_wait_linked(&pair);
    pause_ms(1200); /* four election timeouts without a message */
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_DOWN, 0), 0);
    assert_int_equal(node_count(&pair.two, IO_EVENT_PEER_DOWN, 0), 0);
    assert_int_equal(node_stats(&pair.one).connections, 1);
    pair_fini(&pair);
}

static void stall(struct node *node, void *arg)
{
    (void)node;
    (void)arg;
    pause_ms(700);
}

/* The loop of `one` does not run for two election timeouts. Nobody else was silent in that time, so
 * when it looks again it must not take the peer for dead; `two` may drop the link meanwhile. */
static void a_loop_that_stalled_does_not_blame_its_peers(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.one.options.election_timeout_ms = 300;
    pair.two.options.election_timeout_ms = 60000; /* two does not mind */
    node_start(&pair.one);
    node_start(&pair.two);
    pair_wait_linked(&pair);
    node_call(&pair.one, stall, NULL);
    node_peer_send(&pair.one, 2, IO_NORMAL, "after", 5);
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_DOWN, 0), 0);
    pair_fini(&pair);
}

static void a_dial_to_a_black_hole_does_not_make_a_link(void **state)
{
    struct pair pair;
    int listening;

    (void)state;
    pair_init(&pair);
    listening = listen_on(url_port(pair.spec.replicas[1].url)); /* accepts, says nothing */
    node_start(&pair.one);
    assert_true(node_wait_trace(&pair.one, "peer attempt failed id=2 reason=\"no hello in time\"",
                                WITHIN_MS));
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_UP, 0), 0);
    close(listening);
    pair_fini(&pair);
}

static void nine_replicas_all_link_up(void **state)
{
    enum { N = 9 };
    struct spec spec;
    static struct node nodes[N];

    (void)state;
    spec_on_free_ports(&spec, N);
    for (uint32_t i = 0; i < N; i++) {
        node_init(&nodes[i]);
        node_be_replica(&nodes[i], &spec, i + 1);
        nodes[i].options.election_timeout_ms = 2000;
        node_start(&nodes[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        assert_true(node_wait(&nodes[i], IO_EVENT_PEER_UP, 0, N - 1, WITHIN_MS));
    }
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t to = 1; to <= N; to++) {
            node_peer_send(&nodes[i], to, IO_NORMAL, "hi", 2);
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        assert_true(node_wait(&nodes[i], IO_EVENT_PEER_MESSAGE, 0, N - 1, WITHIN_MS));
        node_fini(&nodes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_of_another_cluster_is_refused),
        cmocka_unit_test(a_peer_without_a_common_version_is_refused),
        cmocka_unit_test(a_peer_of_another_group_is_refused),
        cmocka_unit_test(a_replica_that_the_spec_does_not_name_is_refused),
        cmocka_unit_test(a_url_where_another_replica_answers_is_not_used),
        cmocka_unit_test(the_program_has_the_last_word_on_who_is_admitted),
        cmocka_unit_test(a_refused_peer_is_tried_again_and_a_new_hello_counts),
        cmocka_unit_test(who_learns_its_cluster_closes_links_with_another_one),
        cmocka_unit_test(who_learns_its_cluster_keeps_links_with_its_own),
        cmocka_unit_test(a_peer_that_restarts_is_noticed_and_traffic_resumes),
        cmocka_unit_test(a_silent_peer_is_given_up_after_an_election_timeout),
        cmocka_unit_test(no_more_is_on_the_way_than_the_window_but_urgent_messages),
        cmocka_unit_test(an_idle_link_stays_up_by_pings),
        cmocka_unit_test(a_peer_whose_process_ended_is_told_to_be_gone_once),
        cmocka_unit_test(a_peer_that_has_a_link_to_us_is_not_gone),
        cmocka_unit_test(a_loop_that_stalled_does_not_blame_its_peers),
        cmocka_unit_test(a_dial_to_a_black_hole_does_not_make_a_link),
        cmocka_unit_test(nine_replicas_all_link_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
