/* Strangers on the port: garbage, half frames, huge lengths, slow bytes, lies. Each is closed or
 * waited out, and a well-behaved client is served all the while. */
#include "raft/util/rng.h"
#include "tests/unit/net_harness.h"
#include "tests/unit/net_raw.h"

struct stage {
    struct spec spec;
    struct node server;
    int good; /* a client that must be served throughout */
};

static void stage_start_with(struct stage *stage, uint32_t election_timeout_ms)
{
    spec_on_free_ports(&stage->spec, 2);
    node_init(&stage->server);
    node_be_replica(&stage->server, &stage->spec, 1);
    stage->server.echo = true;
    stage->server.options.election_timeout_ms = election_timeout_ms;
    node_start(&stage->server);
    stage->good = raw_client(&stage->server);
}

static void stage_start(struct stage *stage)
{
    stage_start_with(stage, 1000);
}

static void stage_check_good_client(struct stage *stage)
{
    struct buf bytes = {0};
    struct frame frame;

    put_request(&bytes, "still there?");
    assert_true(raw_send(stage->good, buf_slice(&bytes)));
    buf_clear(&bytes);
    assert_true(raw_read_frame(stage->good, &bytes, &frame));
    assert_int_equal(frame.kind, FRAME_BATCH);
    buf_fini(&bytes);
}

static void stage_fini(struct stage *stage)
{
    stage_check_good_client(stage);
    close(stage->good);
    node_fini(&stage->server);
}

/* Sends the bytes on a new connection and expects the server to close it. With `greeted`, after a
 * proper hello. */
static void expect_closed(struct stage *stage, bool greeted, struct slice bytes)
{
    int fd = greeted ? raw_client(&stage->server) : raw_connect(&stage->server);
    struct buf got = {0};

    raw_send(fd, bytes);
    assert_true(raw_read_to_end(fd, &got));
    close(fd);
    buf_fini(&got);
}

static void garbage_instead_of_a_hello_closes_the_connection(void **state)
{
    struct stage stage;
    struct rng rng;
    uint8_t bytes[512];

    (void)state;
    stage_start(&stage);
    rng_init(&rng, 3);
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)rng_next(&rng);
        }
        expect_closed(&stage, false, slice_of(bytes, 1 + rng_below(&rng, sizeof(bytes))));
    }
    expect_closed(&stage, false, slice_text("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    expect_closed(&stage, false, slice_text("\x16\x03\x01\x02\x00\x01")); /* TLS */
    expect_closed(&stage, true, slice_text("and now for something different"));
    assert_true(node_stats(&stage.server).malformed > 190);
    stage_fini(&stage);
}

static void a_frame_before_the_hello_closes_the_connection(void **state)
{
    struct stage stage;
    struct buf bytes = {0};

    (void)state;
    stage_start(&stage);
    put_request(&bytes, "let me in");
    expect_closed(&stage, false, buf_slice(&bytes));
    assert_int_equal(node_count(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    buf_fini(&bytes);
    stage_fini(&stage);
}

static void a_second_hello_closes_the_connection(void **state)
{
    struct stage stage;
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    struct buf bytes = {0};

    (void)state;
    stage_start(&stage);
    put_hello_frame(&bytes, &hello);
    expect_closed(&stage, true, buf_slice(&bytes));
    buf_fini(&bytes);
    stage_fini(&stage);
}

static void an_unknown_frame_version_is_refused_in_words(void **state)
{
    struct stage stage;
    struct buf got = {0};
    struct frame frame;
    enum status status;
    char text[REFUSE_MAX_TEXT + 1];
    int fd;

    (void)state;
    stage_start(&stage);
    fd = raw_connect(&stage.server);
    assert_true(raw_send(fd, slice_text("SHKV\x09 whatever comes in version nine")));
    assert_true(raw_read_frame(fd, &got, &frame));
    assert_int_equal(frame.kind, FRAME_REFUSE);
    assert_true(refuse_decode(frame.body, &status, text));
    assert_int_equal(status, ST_VERSION);
    buf_clear(&got);
    assert_true(raw_read_to_end(fd, &got)); /* and closed */
    close(fd);
    buf_fini(&got);
    stage_fini(&stage);
}

static void huge_lengths_close_the_connection_at_once(void **state)
{
    struct stage stage;
    struct buf bytes = {0};

    (void)state;
    stage_start(&stage);
    frame_end(&bytes, frame_begin(&bytes, FRAME_BATCH, 0));
    for (uint32_t length = FRAME_MAX_BODY + 1; length > FRAME_MAX_BODY; length <<= 1) {
        buf_set_u32(&bytes, 12, length);
        expect_closed(&stage, true, buf_slice(&bytes));
        expect_closed(&stage, false, buf_slice(&bytes));
    }
    /* Allowed for a batch, but not before the hello. */
    buf_set_u32(&bytes, 12, FRAME_MAX_BODY);
    expect_closed(&stage, false, buf_slice(&bytes));
    buf_fini(&bytes);
    stage_fini(&stage);
}

static void a_half_hello_is_waited_for_but_not_for_ever(void **state)
{
    struct stage stage;
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    struct buf bytes = {0};
    uint64_t start_ms = net_now_ms();

    (void)state;
    stage_start(&stage);
    put_hello_frame(&bytes, &hello);
    expect_closed(&stage, false, slice_of(bytes.data, bytes.len - 1));
    expect_closed(&stage, false, slice_of(bytes.data, 0)); /* within the limit of a read */
    assert_true(net_now_ms() - start_ms >= 1500);
    buf_fini(&bytes);
    stage_fini(&stage);
}

static void bytes_that_come_one_by_one_are_served(void **state)
{
    struct stage stage;
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    struct buf bytes = {0}, got = {0};
    struct frame frame;
    int fd;

    (void)state;
    stage_start_with(&stage, 60000); /* a busy machine makes each pause a long one */
    put_hello_frame(&bytes, &hello);
    put_request(&bytes, "slow");
    fd = raw_connect(&stage.server);
    for (size_t i = 0; i < bytes.len; i++) {
        assert_true(raw_send(fd, slice_of(bytes.data + i, 1)));
        pause_ms(1);
    }
    assert_true(raw_read_frame(fd, &got, &frame));
    assert_int_equal(frame.kind, FRAME_HELLO);
    assert_true(node_wait(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0, 1, WITHIN_MS));
    close(fd);
    buf_fini(&bytes);
    buf_fini(&got);
    stage_fini(&stage);
}

static void a_client_may_not_send_what_peers_send(void **state)
{
    struct stage stage;
    struct buf bytes = {0};
    size_t offset = frame_begin(&bytes, FRAME_BATCH, 5);

    (void)state;
    stage_start(&stage);
    frame_put_message(&bytes, 5, FRAME_MESSAGE_RAFT, slice_text("vote for me"));
    frame_end(&bytes, offset);
    expect_closed(&stage, true, buf_slice(&bytes));
    assert_int_equal(node_count(&stage.server, IO_EVENT_PEER_MESSAGE, 0), 0);
    buf_fini(&bytes);
    stage_fini(&stage);
}

/* A connection that said hello as replica 2. */
static int raw_peer(struct stage *stage)
{
    struct hello hello = stage->server.options.self;

    hello.who = HELLO_PEER;
    hello.id = 2;
    return raw_greet(&stage->server, &hello);
}

static void a_peer_may_only_speak_for_its_group(void **state)
{
    struct stage stage;
    struct buf bytes = {0}, got = {0};
    size_t offset = frame_begin(&bytes, FRAME_BATCH, 5);
    int fd;

    (void)state;
    stage_start(&stage);
    frame_put_message(&bytes, 5, FRAME_MESSAGE_RAFT, slice_text("of our group"));
    frame_put_message(&bytes, 6, FRAME_MESSAGE_RAFT, slice_text("of another"));
    frame_put_message(&bytes, 5, FRAME_MESSAGE_RAFT, slice_text("not heard any more"));
    frame_end(&bytes, offset);
    fd = raw_peer(&stage);
    assert_true(raw_send(fd, buf_slice(&bytes)));
    assert_true(raw_read_to_end(fd, &got));
    assert_int_equal(node_count(&stage.server, IO_EVENT_PEER_MESSAGE, 2), 1);
    close(fd);
    buf_fini(&bytes);
    buf_fini(&got);
    stage_fini(&stage);
}

static void a_peer_that_dials_anew_replaces_its_older_connection(void **state)
{
    struct stage stage;
    struct buf got = {0};
    int first, second;

    (void)state;
    stage_start_with(&stage, 60000); /* silence alone would not close it in time */
    first = raw_peer(&stage);
    second = raw_peer(&stage);
    assert_true(raw_read_to_end(first, &got));
    close(first);
    close(second);
    buf_fini(&got);
    stage_fini(&stage);
}

static void fragments_that_lie_close_the_connection(void **state)
{
    struct stage stage;
    struct buf bytes = {0};

    (void)state;
    stage_start(&stage);
    put_fragment(&bytes, 1, 100, 50); /* does not begin at the beginning */
    expect_closed(&stage, true, buf_slice(&bytes));

    buf_clear(&bytes);
    put_fragment(&bytes, 1, 100, 0);
    put_fragment(&bytes, 1, 100, 2); /* a gap */
    expect_closed(&stage, true, buf_slice(&bytes));

    buf_clear(&bytes);
    for (uint32_t i = 0; i < 10; i++) { /* announces 480 MiB */
        put_fragment(&bytes, i, FRAME_MAX_MESSAGE, 0);
    }
    expect_closed(&stage, true, buf_slice(&bytes));

    buf_clear(&bytes);
    for (uint32_t i = 0; i <= FRAME_MAX_STREAMS; i++) {
        put_fragment(&bytes, i, 2, 0);
    }
    expect_closed(&stage, true, buf_slice(&bytes));
    assert_int_equal(node_count(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    buf_fini(&bytes);
    stage_fini(&stage);
}

static void a_flipped_bit_anywhere_closes_the_connection_or_waits(void **state)
{
    struct stage stage;
    struct rng rng;
    struct buf bytes = {0};

    (void)state;
    stage_start(&stage);
    rng_init(&rng, 5);
    for (int round = 0; round < 100; round++) {
        uint64_t bit;

        buf_clear(&bytes);
        put_request(&bytes, "a request whose bits are flipped");
        do { /* a longer length would only make it wait */
            bit = rng_below(&rng, bytes.len * 8);
        } while (bit / 8 >= 12 && bit / 8 < 16);
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        expect_closed(&stage, true, buf_slice(&bytes));
    }
    assert_int_equal(node_count(&stage.server, IO_EVENT_CLIENT_MESSAGE, 0), 0);
    buf_fini(&bytes);
    stage_fini(&stage);
}

static void many_connections_that_come_and_go_do_no_harm(void **state)
{
    struct stage stage;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    (void)state;
    stage_start(&stage);
    for (int i = 0; i < 500; i++) { /* every other one with a reset */
        int fd = raw_connect(&stage.server);

        if (i % 2 == 0) {
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        }
        close(fd);
    }
    stage_fini(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_instead_of_a_hello_closes_the_connection),
        cmocka_unit_test(a_frame_before_the_hello_closes_the_connection),
        cmocka_unit_test(a_second_hello_closes_the_connection),
        cmocka_unit_test(an_unknown_frame_version_is_refused_in_words),
        cmocka_unit_test(huge_lengths_close_the_connection_at_once),
        cmocka_unit_test(a_half_hello_is_waited_for_but_not_for_ever),
        cmocka_unit_test(bytes_that_come_one_by_one_are_served),
        cmocka_unit_test(a_client_may_not_send_what_peers_send),
        cmocka_unit_test(a_peer_may_only_speak_for_its_group),
        cmocka_unit_test(a_peer_that_dials_anew_replaces_its_older_connection),
        cmocka_unit_test(fragments_that_lie_close_the_connection),
        cmocka_unit_test(a_flipped_bit_anywhere_closes_the_connection_or_waits),
        cmocka_unit_test(many_connections_that_come_and_go_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
