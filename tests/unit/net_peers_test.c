/* Links between the replicas of a group: greeting, order, batches, classes, breaks, limits. */
#include "tests/unit/net_harness.h"

/* Two replicas of one group, linked in both directions. */
struct pair {
    struct spec spec;
    struct node one, two;
};

static void pair_init(struct pair *pair)
{
    spec_on_free_ports(&pair->spec, 2);
    node_init(&pair->one);
    node_init(&pair->two);
    node_be_replica(&pair->one, &pair->spec, 1);
    node_be_replica(&pair->two, &pair->spec, 2);
}

static void pair_wait_linked(struct pair *pair)
{
    assert_true(node_wait(&pair->one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    assert_true(node_wait(&pair->two, IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
}

static void pair_start(struct pair *pair)
{
    pair_init(pair);
    node_start(&pair->one);
    node_start(&pair->two);
    pair_wait_linked(pair);
}

static void pair_fini(struct pair *pair)
{
    node_fini(&pair->one);
    node_fini(&pair->two);
}

static void peers_find_each_other_and_talk(void **state)
{
    struct pair pair;
    struct record record;

    (void)state;
    pair_start(&pair);
    node_peer_send(&pair.one, 2, IO_NORMAL, "from one", 8);
    node_peer_send(&pair.two, 1, IO_URGENT, "from two!", 9);
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_MESSAGE, 2, 1, WITHIN_MS));
    record = node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 0);
    assert_int_equal(record.len, 8);
    assert_memory_equal(record.head, "from one", 8);
    assert_memory_equal(node_get(&pair.one, IO_EVENT_PEER_MESSAGE, 2, 0).head, "from two!", 9);
    assert_int_equal(node_stats(&pair.one).peer_links_up, 1);
    pair_fini(&pair);
}

static void a_peer_that_starts_late_is_found(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    node_start(&pair.one);
    assert_true(node_wait_trace(&pair.one, "peer dial failed id=2", WITHIN_MS));
    node_start(&pair.two);
    pair_wait_linked(&pair);
    pair_fini(&pair);
}

/* ---- Order and batches ------------------------------------------------------------------------
 */

#define MANY 1000

static void send_many(struct node *node, void *arg)
{
    struct io_net *io = net_io(node->net);
    uint32_t *to = arg;

    for (uint32_t i = 0; i < MANY; i++) {
        struct buf message = {0};

        buf_put_u32(&message, i);
        io->ops->peer_send(io, 5, *to, IO_NORMAL, &message);
    }
}

static void many_messages_of_a_turn_travel_in_few_frames_and_in_order(void **state)
{
    struct pair pair;
    struct net_stats before, after;
    uint32_t to = 2;

    (void)state;
    pair_start(&pair);
    before = node_stats(&pair.one);
    node_call(&pair.one, send_many, &to);
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, MANY, WITHIN_MS));
    after = node_stats(&pair.one);
    assert_int_equal(after.messages_out - before.messages_out, MANY);
    assert_true(after.frames_out - before.frames_out <= 3);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(get_u32(node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, i).head), i);
    }
    pair_fini(&pair);
}

static void order_within_a_class_holds_over_many_turns_and_sizes(void **state)
{
    enum { N = 300 };
    struct pair pair;
    static uint8_t bytes[400000];

    (void)state;
    pair_start(&pair);
    for (uint32_t i = 0; i < N; i++) { /* some of them leave in fragments */
        set_u32(bytes, i);
        node_peer_send(&pair.one, 2, IO_NORMAL, bytes,
                       i % 50 == 7 ? sizeof(bytes) : 4 + (size_t)i * 37);
    }
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, N, WITHIN_MS));
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(get_u32(node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, i).head), i);
    }
    pair_fini(&pair);
}

static void messages_of_all_sizes_arrive_whole(void **state)
{
    static const size_t sizes[] = {
        0, 1, FRAME_FRAGMENT_BYTES - 1, FRAME_FRAGMENT_BYTES, 131073, 262144, 5000000};
    enum { N = sizeof(sizes) / sizeof(sizes[0]) };
    struct pair pair;

    (void)state;
    pair_start(&pair);
    for (size_t i = 0; i < N; i++) {
        node_peer_send(&pair.one, 2, IO_NORMAL, NULL, sizes[i]);
    }
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, N, WITHIN_MS));
    for (size_t i = 0; i < N; i++) {
        struct record record = node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, i);
        struct buf expected = {0};

        message_fill(&expected, &(struct node_message){.len = sizes[i]});
        assert_int_equal(record.len, sizes[i]);
        assert_true(record.sum == sum_bytes(expected.data, expected.len));
        buf_fini(&expected);
    }
    pair_fini(&pair);
}

/* ---- Classes ----------------------------------------------------------------------------------
 */

#define BULK_BYTES (40u << 20)

/* Ten milliseconds; the rest is slack for a machine with other work, and for the sanitizer that
 * makes copying very slow. */
#if defined(__SANITIZE_THREAD__)
#define SLOWEST_MS 3000
#else
#define SLOWEST_MS 300
#endif

static void send_bulk_then_urgent(struct node *node, void *arg)
{
    struct io_net *io = net_io(node->net);
    struct buf urgent = {0};

    io->ops->peer_send(io, 5, 2, IO_BULK, arg);
    buf_put(&urgent, "urgent", 6);
    io->ops->peer_send(io, 5, 2, IO_URGENT, &urgent);
}

static void urgent_messages_pass_a_bulk_message_on_its_way(void **state)
{
    struct pair pair;
    uint64_t slowest_ms = 0;
    int beats = 0;
    struct buf bulk = {0};

    (void)state;
    memset(buf_extend(&bulk, BULK_BYTES), 'b', BULK_BYTES);
    pair_init(&pair);
    node_start(&pair.one);
    node_start(&pair.two);
    pair_wait_linked(&pair);
    node_call(&pair.one, send_bulk_then_urgent, &bulk);
    do { /* heartbeats while the 40 MiB are under way: each waits for a send or two at most */
        uint64_t sent_ms = net_now_ms();
        uint64_t took_ms;

        node_peer_send(&pair.one, 2, IO_URGENT, "beat", 4);
        beats++;
        assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, (size_t)beats + 1, WITHIN_MS));
        took_ms = net_now_ms() - sent_ms;
        slowest_ms = took_ms > slowest_ms ? took_ms : slowest_ms;
    } while (!node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, (size_t)beats + 2, 1));
    assert_true(node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 0).len == 6);
    assert_true(beats >= 3);
    assert_true(slowest_ms < SLOWEST_MS);
    print_message("%d heartbeats passed a message of 40 MiB, the slowest took %llu ms\n", beats,
                  (unsigned long long)slowest_ms);
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_DOWN, 0), 0);
    pair_fini(&pair);
}

/* ---- Limits -----------------------------------------------------------------------------------
 */

/* In one turn, so that nothing leaves in between. */
static void overfill(struct node *node, void *arg)
{
    struct io_net *io = net_io(node->net);

    (void)arg;
    for (int i = 0; i < 100; i++) {
        struct buf normal = {0}, bulk = {0}, urgent = {0};

        memset(buf_extend(&normal, 10000), 'n', 10000);
        memset(buf_extend(&bulk, 10000), 'b', 10000);
        buf_put(&urgent, "urgent", 6);
        io->ops->peer_send(io, 5, 2, IO_NORMAL, &normal);
        io->ops->peer_send(io, 5, 2, IO_BULK, &bulk);
        io->ops->peer_send(io, 5, 2, IO_URGENT, &urgent);
    }
}

static void a_full_queue_drops_normal_and_bulk_but_not_votes(void **state)
{
    struct pair pair;
    size_t urgent = 0, arrived;

    (void)state;
    pair_init(&pair);
    pair.one.options.limits.max_peer_queue_bytes = 100000;
    node_start(&pair.one);
    node_start(&pair.two);
    pair_wait_linked(&pair);
    node_call(&pair.one, overfill, NULL);
    assert_true(node_stats(&pair.one).dropped >= 185);
    node_peer_send(&pair.one, 2, IO_BULK, "last", 4); /* comes behind all others */
    arrived = 300 - node_stats(&pair.one).dropped + 1;
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, arrived, WITHIN_MS));
    for (size_t i = 0; i < arrived; i++) {
        urgent += node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, i).len == 6;
    }
    assert_int_equal(urgent, 100);
    pair_fini(&pair);
}

static void messages_to_nobody_are_dropped(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    node_start(&pair.one); /* there is no two */
    node_peer_send(&pair.one, 2, IO_URGENT, "x", 1);
    node_peer_send(&pair.one, 9, IO_URGENT, "x", 1);
    node_peer_send(&pair.one, 1, IO_URGENT, "x", 1); /* itself */
    assert_int_equal(node_stats(&pair.one).dropped, 3);
    pair_fini(&pair);
}

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
    node_call(&pair.one, learn_cluster, NULL);
    pair_wait_linked(&pair);
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
        cmocka_unit_test(peers_find_each_other_and_talk),
        cmocka_unit_test(a_peer_that_starts_late_is_found),
        cmocka_unit_test(many_messages_of_a_turn_travel_in_few_frames_and_in_order),
        cmocka_unit_test(order_within_a_class_holds_over_many_turns_and_sizes),
        cmocka_unit_test(messages_of_all_sizes_arrive_whole),
        cmocka_unit_test(urgent_messages_pass_a_bulk_message_on_its_way),
        cmocka_unit_test(a_full_queue_drops_normal_and_bulk_but_not_votes),
        cmocka_unit_test(messages_to_nobody_are_dropped),
        cmocka_unit_test(a_peer_of_another_cluster_is_refused),
        cmocka_unit_test(a_peer_without_a_common_version_is_refused),
        cmocka_unit_test(a_peer_of_another_group_is_refused),
        cmocka_unit_test(a_replica_that_the_spec_does_not_name_is_refused),
        cmocka_unit_test(a_url_where_another_replica_answers_is_not_used),
        cmocka_unit_test(the_program_has_the_last_word_on_who_is_admitted),
        cmocka_unit_test(a_refused_peer_is_tried_again_and_a_new_hello_counts),
        cmocka_unit_test(a_peer_that_restarts_is_noticed_and_traffic_resumes),
        cmocka_unit_test(a_silent_peer_is_given_up_after_an_election_timeout),
        cmocka_unit_test(an_idle_link_stays_up_by_pings),
        cmocka_unit_test(a_loop_that_stalled_does_not_blame_its_peers),
        cmocka_unit_test(a_dial_to_a_black_hole_does_not_make_a_link),
        cmocka_unit_test(nine_replicas_all_link_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
