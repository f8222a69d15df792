/* Messages that are announced and not finished: whom they harm, and for how long. */
#include "tests/unit/net_pair.h"
#include "tests/unit/net_raw.h"

#define TOTAL_BYTES (1u << 20) /* that may be announced in all, here */

static bool send_fragment(int fd, uint32_t stream, uint32_t total, uint32_t offset)
{
    struct buf bytes = {0};
    bool sent;

    put_fragment(&bytes, stream, total, offset);
    sent = raw_send(fd, buf_slice(&bytes));
    buf_fini(&bytes);
    return sent;
}

static bool wait_announced(struct node *node, uint64_t n_bytes)
{
    for (int tries = 0; tries < WITHIN_MS; tries++) {
        if (node_stats(node).reassembly_bytes == n_bytes) {
            return true;
        }
        pause_ms(1);
    }
    return false;
}

/* A client announces all that may be announced, and finishes nothing. */
static void what_clients_announce_takes_nothing_from_peers(void **state)
{
    struct pair pair;
    int fd;

    (void)state;
    pair_init(&pair);
    pair.one.options.limits.max_total_reassembly_bytes = TOTAL_BYTES;
    node_start(&pair.one);
    node_start(&pair.two);
    pair_wait_linked(&pair);
    fd = raw_client(&pair.one);
    assert_true(send_fragment(fd, 1, TOTAL_BYTES, 0));
    assert_true(wait_announced(&pair.one, TOTAL_BYTES));
    node_peer_send(&pair.two, 1, IO_NORMAL, NULL, TOTAL_BYTES / 2);
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_MESSAGE, 2, 1, WITHIN_MS));
    assert_int_equal(node_count(&pair.two, IO_EVENT_PEER_DOWN, 1), 0);
    assert_int_equal(node_stats(&pair.one).reassembly_bytes, TOTAL_BYTES);
    close(fd);
    pair_fini(&pair);
}

/* However alive the client is otherwise: it pings, and even another message of it gets further. */
static void who_leaves_a_message_unfinished_is_closed(void **state)
{
    struct spec spec;
    struct node server;
    struct buf bytes = {0};
    int fd;
    bool open = true;

    (void)state;
    spec_on_free_ports(&spec, 1);
    node_init(&server);
    node_be_replica(&server, &spec, 1);
    server.options.limits.max_fragment_pause_ms = 500;
    node_start(&server);
    fd = raw_client(&server);
    assert_true(send_fragment(fd, 1, 1000, 0));
    for (uint32_t at = 0; open && at < 200; at++) {
        open = send_fragment(fd, 2, 2000, at);
        pause_ms(20);
    }
    assert_true(raw_read_to_end(fd, &bytes));
    assert_true(node_wait_trace(&server, "a message was left unfinished", WITHIN_MS));
    assert_true(wait_announced(&server, 0));
    close(fd);
    buf_fini(&bytes);
    node_fini(&server);
}

/* A slow client is none that stopped. */
static void a_message_that_gets_further_is_waited_for(void **state)
{
    struct spec spec;
    struct node server;
    int fd;

    (void)state;
    spec_on_free_ports(&spec, 1);
    node_init(&server);
    node_be_replica(&server, &spec, 1);
    server.options.limits.max_fragment_pause_ms = 2000;
    node_start(&server);
    fd = raw_client(&server);
    for (uint32_t at = 0; at < 25; at++) {
        assert_true(send_fragment(fd, 1, 25, at));
        pause_ms(100);
    }
    assert_true(node_wait(&server, IO_EVENT_CLIENT_MESSAGE, 0, 1, WITHIN_MS));
    close(fd);
    node_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_clients_announce_takes_nothing_from_peers),
        cmocka_unit_test(who_leaves_a_message_unfinished_is_closed),
        cmocka_unit_test(a_message_that_gets_further_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
