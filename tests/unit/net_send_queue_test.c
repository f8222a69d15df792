/* The pure parts of raft/net: how waiting messages become frames (send_queue), how fragments become
 * messages again (inbox), and which timer is due (timers). */
#include "raft/net/inbox.h"
#include "raft/net/send_queue.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "raft/util/timers.h"
#include "tests/cmocka.h"

/* A message of len bytes, all of them `fill`. */
static void put(struct send_queue *queue, enum io_class class, char fill, size_t len)
{
    struct buf message = {0};

    if (len > 0) {
        memset(buf_extend(&message, len), fill, len);
    }
    send_queue_put(queue, class, 5, FRAME_MESSAGE_RAFT, &message);
    assert_null(message.data);
}

/* Appends the first byte of each whole message of a send to `order`, in lower case for a fragment
 * that is not the last; counts the frames. */
static size_t read_send(struct slice bytes, char *order)
{
    size_t frames = 0;

    while (bytes.len > 0) {
        struct frame frame;
        size_t taken, need, at = strlen(order);
        enum status reason;

        assert_int_equal(frame_decode(bytes, &frame, &taken, &need, &reason), FRAME_OK);
        frames++;
        if (frame.kind == FRAME_BATCH) {
            struct reader body = reader_of(frame.body);
            uint32_t group;
            uint8_t type;
            struct slice message;

            while (frame_next_message(&body, &group, &type, &message)) {
                order[at++] = message.len > 0 ? (char)message.data[0] : '0';
            }
            assert_true(reader_done(&body));
        } else if (frame.kind == FRAME_FRAGMENT) {
            struct frame_fragment fragment;

            assert_true(frame_decode_fragment(frame.body, &fragment));
            order[at++] = (char)(fragment.bytes.data[0] |
                                 (fragment.offset + fragment.bytes.len < fragment.total ? 32 : 0));
        } else {
            order[at++] = '!';
        }
        order[at] = '\0';
        bytes = slice_of(bytes.data + taken, bytes.len - taken);
    }
    return frames;
}

static size_t fill(struct send_queue *queue, char *order)
{
    struct buf out = {0};
    struct send_queue_filled filled = send_queue_fill(queue, false, &out);
    size_t frames = read_send(buf_slice(&out), order);

    assert_true(filled.frames <= frames); /* control frames are not counted */
    buf_fini(&out);
    return frames;
}

static void small_messages_share_one_frame_in_order(void **state)
{
    struct send_queue queue;
    char order[200] = "";

    (void)state;
    send_queue_init(&queue);
    for (char c = 'A'; c <= 'Z'; c++) {
        put(&queue, IO_NORMAL, c, 100);
    }
    assert_int_equal(fill(&queue, order), 1);
    assert_string_equal(order, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    assert_true(send_queue_is_empty(&queue));
    assert_int_equal(fill(&queue, order), 0);
    send_queue_fini(&queue);
}

static void urgent_goes_before_normal_before_bulk_and_control_before_all(void **state)
{
    struct send_queue queue;
    char order[200] = "";

    (void)state;
    send_queue_init(&queue);
    put(&queue, IO_BULK, 'B', 10);
    put(&queue, IO_NORMAL, 'N', 10);
    put(&queue, IO_URGENT, 'U', 10);
    put(&queue, IO_NORMAL, 'M', 0);
    put(&queue, IO_URGENT, 'V', 10);
    send_queue_put_control(&queue, FRAME_PING, slice_text("12345678"));
    assert_int_equal(fill(&queue, order), 2);
    assert_string_equal(order, "!UVN0B");
    send_queue_fini(&queue);
}

static void a_large_message_leaves_in_fragments_and_lets_others_pass(void **state)
{
    struct send_queue queue;
    char order[400] = "";

    (void)state;
    send_queue_init(&queue);
    put(&queue, IO_BULK, 'B', 5 * FRAME_FRAGMENT_BYTES);
    fill(&queue, order);
    put(&queue, IO_URGENT, 'U', 50);
    put(&queue, IO_NORMAL, 'N', 50);
    fill(&queue, order);
    while (!send_queue_is_empty(&queue)) {
        fill(&queue, order);
    }
    assert_string_equal(order, "bbUNbbB");
    send_queue_fini(&queue);
}

static void within_a_class_nothing_overtakes_a_large_message(void **state)
{
    struct send_queue queue;
    char order[400] = "";

    (void)state;
    send_queue_init(&queue);
    put(&queue, IO_NORMAL, 'A', 10);
    put(&queue, IO_NORMAL, 'B', 3 * FRAME_FRAGMENT_BYTES);
    put(&queue, IO_NORMAL, 'C', 10);
    while (!send_queue_is_empty(&queue)) {
        fill(&queue, order);
    }
    assert_string_equal(order, "AbbBC");
    send_queue_fini(&queue);
}

static void no_class_starves_and_no_send_is_large(void **state)
{
    struct send_queue queue;
    size_t bulk_sends = 0;

    (void)state;
    send_queue_init(&queue);
    put(&queue, IO_BULK, 'B', 30 * FRAME_FRAGMENT_BYTES);
    for (int i = 0; i < 1000; i++) {
        put(&queue, IO_NORMAL, 'N', 5000);
    }
    while (queue.lanes[IO_NORMAL].first != NULL) { /* normal alone would fill every send */
        struct buf out = {0};
        char order[1000] = "";

        send_queue_fill(&queue, false, &out);
        assert_true(out.len <= SEND_QUEUE_SEND_BYTES + FRAME_FRAGMENT_BYTES + 4096);
        read_send(buf_slice(&out), order);
        bulk_sends += strchr(order, 'b') != NULL;
        assert_true(strchr(order, 'b') != NULL);
        buf_fini(&out);
    }
    assert_true(bulk_sends >= 1000 * 5000 / SEND_QUEUE_SEND_BYTES);
    send_queue_fini(&queue);
}

static void with_a_full_window_only_urgent_messages_leave(void **state)
{
    struct send_queue queue;
    struct buf out = {0};
    char order[200] = "";

    (void)state;
    send_queue_init(&queue);
    put(&queue, IO_NORMAL, 'N', 10);
    put(&queue, IO_URGENT, 'U', 10);
    put(&queue, IO_BULK, 'B', 10);
    send_queue_put_control(&queue, FRAME_PING, slice_text("12345678"));
    send_queue_fill(&queue, true, &out);
    read_send(buf_slice(&out), order);
    assert_string_equal(order, "!U");
    fill(&queue, order);
    assert_string_equal(order, "!UNB");
    buf_fini(&out);
    send_queue_fini(&queue);
}

static void messages_of_exactly_the_limits_travel(void **state)
{
    struct send_queue queue;
    char order[400] = "";

    (void)state;
    send_queue_init(&queue);
    put(&queue, IO_NORMAL, 'A', FRAME_FRAGMENT_BYTES);
    put(&queue, IO_NORMAL, 'B', FRAME_FRAGMENT_BYTES);
    put(&queue, IO_NORMAL, 'C', FRAME_FRAGMENT_BYTES + 1);
    put(&queue, IO_NORMAL, 'D', FRAME_FRAGMENT_BYTES);
    while (!send_queue_is_empty(&queue)) {
        fill(&queue, order);
    }
    assert_string_equal(order, "ABcCD");
    send_queue_fini(&queue);
}

static void moving_keeps_the_order(void **state)
{
    struct send_queue from, to;
    char order[400] = "";

    (void)state;
    send_queue_init(&from);
    send_queue_init(&to);
    put(&to, IO_NORMAL, 'A', 10);
    put(&from, IO_NORMAL, 'B', 10);
    put(&from, IO_BULK, 'Z', 10);
    send_queue_move(&to, &from);
    assert_true(send_queue_is_empty(&from));
    put(&from, IO_NORMAL, 'X', 10); /* it can be used again */
    put(&to, IO_NORMAL, 'C', 10);
    fill(&to, order);
    assert_string_equal(order, "ABCZ");
    send_queue_fini(&from);
    send_queue_fini(&to);
}

/* ---- Inbox ---- */

#define LIMIT 1000

struct fixture {
    struct inbox_pool pool;
    struct inbox inbox;
};

static void fixture_init(struct fixture *fixture)
{
    fixture->pool = (struct inbox_pool){.limit = 10 * LIMIT};
    inbox_init(&fixture->inbox, LIMIT, &fixture->pool);
}

/* A fragment of n bytes at offset. */
static enum status receive(struct inbox *inbox, uint32_t stream, uint32_t total, uint32_t offset,
                           size_t n, bool *finished, struct inbox_message *message)
{
    static const uint8_t bytes[LIMIT + 1] = {1, 2, 3};
    struct frame_fragment fragment = {.stream = stream,
                                      .group = 5,
                                      .type = FRAME_MESSAGE_RAFT,
                                      .total = total,
                                      .offset = offset,
                                      .bytes = slice_of(bytes, n)};

    return inbox_receive(inbox, &fragment, 0, finished, message);
}

static void fragments_of_interleaved_streams_become_whole_messages(void **state)
{
    struct fixture f;
    struct inbox_message message;
    bool finished;

    (void)state;
    fixture_init(&f);
    assert_int_equal(receive(&f.inbox, 1, 300, 0, 100, &finished, &message), ST_OK);
    assert_int_equal(receive(&f.inbox, 2, 200, 0, 100, &finished, &message), ST_OK);
    assert_int_equal(receive(&f.inbox, 1, 300, 100, 100, &finished, &message), ST_OK);
    assert_false(finished);
    assert_int_equal(receive(&f.inbox, 2, 200, 100, 100, &finished, &message), ST_OK);
    assert_true(finished);
    assert_int_equal(message.total, 200);
    assert_int_equal(message.bytes[101], 2);
    inbox_release(&message);
    assert_int_equal(receive(&f.inbox, 1, 300, 200, 100, &finished, &message), ST_OK);
    assert_true(finished);
    inbox_release(&message);
    assert_int_equal(f.inbox.used, 0);
    assert_int_equal(f.pool.used, 0);
    inbox_fini(&f.inbox);
}

static void fragments_that_do_not_continue_are_malformed(void **state)
{
    struct fixture f;
    struct inbox_message message;
    bool finished;

    (void)state;
    fixture_init(&f);
    assert_int_equal(receive(&f.inbox, 1, 300, 100, 100, &finished, &message), ST_MALFORMED);
    assert_int_equal(receive(&f.inbox, 1, 300, 0, 100, &finished, &message), ST_OK);
    assert_int_equal(receive(&f.inbox, 1, 300, 0, 100, &finished, &message), ST_MALFORMED);
    assert_int_equal(receive(&f.inbox, 1, 300, 200, 100, &finished, &message), ST_MALFORMED);
    assert_int_equal(receive(&f.inbox, 1, 400, 100, 100, &finished, &message), ST_MALFORMED);
    inbox_fini(&f.inbox);
    assert_int_equal(f.pool.used, 0);
}

static void what_is_announced_is_bounded_before_it_is_allocated(void **state)
{
    struct fixture f, g;
    struct inbox_message message;
    bool finished;

    (void)state;
    fixture_init(&f);
    assert_int_equal(receive(&f.inbox, 1, LIMIT + 1, 0, 1, &finished, &message), ST_BUSY);
    assert_int_equal(receive(&f.inbox, 1, LIMIT - 10, 0, 1, &finished, &message), ST_OK);
    assert_int_equal(receive(&f.inbox, 2, 11, 0, 1, &finished, &message), ST_BUSY);
    assert_int_equal(receive(&f.inbox, 2, 10, 0, 1, &finished, &message), ST_OK);
    f.pool.limit = LIMIT + 5; /* another connection shares the pool */
    inbox_init(&g.inbox, LIMIT, &f.pool);
    assert_int_equal(receive(&g.inbox, 1, 6, 0, 1, &finished, &message), ST_BUSY);
    assert_int_equal(receive(&g.inbox, 1, 5, 0, 1, &finished, &message), ST_OK);
    inbox_fini(&f.inbox);
    assert_int_equal(receive(&g.inbox, 2, 500, 0, 1, &finished, &message), ST_OK);
    inbox_fini(&g.inbox);
    assert_int_equal(f.pool.used, 0);
}

static void unfinished_streams_are_limited_in_number(void **state)
{
    struct fixture f;
    struct inbox_message message;
    bool finished;

    (void)state;
    fixture_init(&f);
    for (uint32_t i = 0; i < FRAME_MAX_STREAMS; i++) {
        assert_int_equal(receive(&f.inbox, i, 2, 0, 1, &finished, &message), ST_OK);
    }
    assert_int_equal(receive(&f.inbox, 1000, 2, 0, 1, &finished, &message), ST_BUSY);
    assert_int_equal(receive(&f.inbox, 7, 2, 1, 1, &finished, &message), ST_OK);
    assert_true(finished);
    inbox_release(&message);
    assert_int_equal(receive(&f.inbox, 1000, 2, 0, 1, &finished, &message), ST_OK);
    inbox_fini(&f.inbox);
}

/* ---- Timers ---- */

static void timers_come_in_order_whatever_was_set_moved_or_cancelled(void **state)
{
    enum { N = 200 };
    struct timers timers = {0};
    struct timer all[N] = {0};
    struct rng rng;
    uint64_t last = 0;
    size_t set = 0, seen = 0;
    struct timer *due;

    (void)state;
    rng_init(&rng, 11);
    assert_true(timers_next_ms(&timers) == UINT64_MAX);
    for (int i = 0; i < 5000; i++) {
        struct timer *timer = &all[rng_below(&rng, N)];

        if (rng_below(&rng, 4) == 0) {
            timers_cancel(&timers, timer);
        } else {
            timers_set(&timers, timer, rng_below(&rng, 1000));
        }
    }
    for (size_t i = 0; i < N; i++) {
        set += all[i].place != 0;
    }
    assert_int_equal(set, timers.n);
    for (uint64_t now = 0; now <= 1000; now += 50) {
        while ((due = timers_take_due(&timers, now)) != NULL) {
            assert_true(due->at_ms >= last && due->at_ms <= now);
            assert_int_equal(due->place, 0);
            last = due->at_ms;
            seen++;
        }
        assert_true(timers_next_ms(&timers) > now);
    }
    assert_int_equal(seen, set);
    timers_fini(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_messages_share_one_frame_in_order),
        cmocka_unit_test(urgent_goes_before_normal_before_bulk_and_control_before_all),
        cmocka_unit_test(a_large_message_leaves_in_fragments_and_lets_others_pass),
        cmocka_unit_test(within_a_class_nothing_overtakes_a_large_message),
        cmocka_unit_test(no_class_starves_and_no_send_is_large),
        cmocka_unit_test(with_a_full_window_only_urgent_messages_leave),
        cmocka_unit_test(messages_of_exactly_the_limits_travel),
        cmocka_unit_test(moving_keeps_the_order),
        cmocka_unit_test(fragments_of_interleaved_streams_become_whole_messages),
        cmocka_unit_test(fragments_that_do_not_continue_are_malformed),
        cmocka_unit_test(what_is_announced_is_bounded_before_it_is_allocated),
        cmocka_unit_test(unfinished_streams_are_limited_in_number),
        cmocka_unit_test(timers_come_in_order_whatever_was_set_moved_or_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
