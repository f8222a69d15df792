/* One thread of nng's runs all of its callbacks (sole_nng_user), and the turns of a loop that waits
 * run there too (turns_anywhere). What such a turn waits for must not itself need that thread: it
 * would wait for ever.
 *
 * The story: a replica whose peers are where nobody answers (a listener whose queue is full drops
 * what comes), and who move all the time, so that attempts to connect are given up in every state
 * that they go through; meanwhile many clients talk, and turns run where their bytes come. Each
 * must be answered.
 */
#include "tests/unit/net_raw.h"

#define HOLES   2
#define PEERS   4 /* others */
#define CLIENTS 4
#define ROUNDS  1400
#define STUCK_S 5  /* a client without an answer for so long: nothing moves any more */
#define ALARM_S 20 /* and if not even that is told */

/* ---- A place where nobody answers ---- */

struct hole {
    int listener, fillers[4], port;
};

static void hole_open(struct hole *hole)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};

    hole->listener = bind_free_port(&hole->port);
    assert_int_equal(listen(hole->listener, 0), 0);
    address.sin_port = htons((uint16_t)hole->port);
    for (size_t i = 0; i < sizeof(hole->fillers) / sizeof(hole->fillers[0]); i++) {
        hole->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        assert_true(hole->fillers[i] >= 0);
        (void)connect(hole->fillers[i], (struct sockaddr *)&address, sizeof(address));
    }
}

static void hole_close(struct hole *hole)
{
    for (size_t i = 0; i < sizeof(hole->fillers) / sizeof(hole->fillers[0]); i++) {
        close(hole->fillers[i]);
    }
    close(hole->listener);
}

/* ---- The replica ---- */

struct mover {
    struct node node;
    struct spec spec;
    struct hole holes[HOLES];
    char urls[HOLES][64];
    uint64_t moves;
};

static uint64_t never(void *context)
{
    (void)context;
    return UINT64_MAX;
}

/* Each message: all peers move to the other place, and the message is answered with itself. */
static void mover_on_event(void *context, const struct io_event *event)
{
    struct mover *mover = context;
    struct io_net *io = net_io(mover->node.net);
    struct io_peer peers[PEERS];
    struct buf answer = {0};

    if (event->type != IO_EVENT_CLIENT_MESSAGE) {
        return;
    }
    mover->moves++;
    for (uint32_t i = 0; i < PEERS; i++) {
        peers[i] = (struct io_peer){.id = 2 + i, .url = mover->urls[mover->moves % HOLES]};
    }
    io->ops->set_peers(io, 5, peers, PEERS, false);
    buf_put_slice(&answer, event->client.message);
    io->ops->reply(io, event->client.conn, &answer);
}

static void mover_start(struct mover *mover)
{
    struct net_options *options = &mover->node.options;

    for (size_t i = 0; i < HOLES; i++) {
        hole_open(&mover->holes[i]);
        snprintf(mover->urls[i], sizeof(mover->urls[i]), "tcp://127.0.0.1:%d",
                 mover->holes[i].port);
    }
    spec_on_free_ports(&mover->spec, 1);
    node_init(&mover->node);
    node_be_replica(&mover->node, &mover->spec, 1);
    mover->node.trace.level = TRACE_WARN;
    options->turns_anywhere = true;
    options->sole_nng_user = true;
    options->sink =
        (struct net_sink){.context = mover, .event = mover_on_event, .next_deadline_ms = never};
    node_start(&mover->node);
}

static void attempts_to_connect_are_given_up_while_clients_talk(void **state)
{
    static struct mover mover;
    struct timeval limit = {.tv_sec = STUCK_S};
    int clients[CLIENTS];
    struct buf got = {0}, request = {0};
    struct frame frame;

    (void)state;
    mover_start(&mover);
    put_request(&request, "is anybody there?");
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = raw_client(&mover.node);
        setsockopt(clients[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        size_t n = 1 + round % CLIENTS; /* of them talk at the same time */

        for (size_t i = 0; i < n; i++) {
            assert_true(raw_send(clients[i], buf_slice(&request)));
        }
        for (size_t i = 0; i < n; i++) {
            buf_clear(&got);
            if (!raw_read_frame(clients[i], &got, &frame)) {
                fail_msg("in round %u a client was not answered", (unsigned)round);
            }
        }
    }
    assert_true(mover.moves == ROUNDS / CLIENTS * (CLIENTS * (CLIENTS + 1) / 2));
    for (size_t i = 0; i < CLIENTS; i++) {
        close(clients[i]);
    }
    node_fini(&mover.node);
    for (size_t i = 0; i < HOLES; i++) {
        hole_close(&mover.holes[i]);
    }
    buf_fini(&got);
    buf_fini(&request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attempts_to_connect_are_given_up_while_clients_talk),
    };

    alarm(ALARM_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
