/* Links between the replicas of a group: order, batches, classes, limits. */
#include "tests/unit/net_pair.h"

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
        0, 1, FRAME_FRAGMENT_BYTES - 1, FRAME_FRAGMENT_BYTES, 131073, 262144, 1000000};
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

/* In one turn, so that nothing leaves in between: far too much, to the brim, then what is urgent.
 */
static void overfill(struct node *node, void *arg)
{
    struct io_net *io = net_io(node->net);

    (void)arg;
    for (int i = 0; i < 300; i++) {
        static const size_t sizes[] = {10000, 50, 200};
        struct buf message = {0};

        memset(buf_extend(&message, sizes[i / 100]), 'm', sizes[i / 100]);
        io->ops->peer_send(io, 5, 2,
                           i >= 200     ? IO_URGENT
                           : i % 2 == 0 ? IO_NORMAL
                                        : IO_BULK,
                           &message);
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
    assert_in_range(node_stats(&pair.one).dropped, 91, 199);
    node_peer_send(&pair.one, 2, IO_BULK, "last", 4); /* comes behind all others */
    arrived = 300 - node_stats(&pair.one).dropped + 1;
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, arrived, WITHIN_MS));
    for (size_t i = 0; i < arrived; i++) {
        urgent += node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, i).len == 200;
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
