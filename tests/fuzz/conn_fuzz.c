/* A server's connections, from the first byte on: the hello, frames, keep-alives, fragments put
 * together, answers. The script makes a sequence of frames, right ones and wrong ones; a server
 * gets them in one go, another the same ones split at arbitrary places. Both must hand on the same
 * messages and end in the same way. What leaves is whole frames, what is counted of unfinished
 * messages stays within its limit, and all of it is given back. */
#include "raft/net/net_internal.h"
#include "tests/fuzz/fake_stream.h"

#define REASSEMBLY (16u << 10)
#define BIG        3000u /* bytes of a large message */

struct server {
    struct net *net;
    struct fake_end end;
    bool answers;   /* it replies to requests */
    struct buf log; /* what it was told */
};

static uint8_t ballast[2 * BIG];

/* ---- The server ---- */

static void on_event(void *context, const struct io_event *event)
{
    struct server *server = context;
    struct slice message = {0};

    switch (event->type) {
    case IO_EVENT_PEER_MESSAGE:
        message = event->peer.message;
        buf_put_u32(&server->log, event->peer.id);
        break;
    case IO_EVENT_CLIENT_MESSAGE:
        message = event->client.message;
        if (server->answers) {
            struct buf answer = {0};

            buf_put(&answer, ballast, message.len > 0 ? message.data[0] * 20u + 1 : 1);
            net_io(server->net)->ops->reply(net_io(server->net), event->client.conn, &answer);
        }
        break;
    case IO_EVENT_CLIENT_CLOSED:
        break;
    default:
        return;
    }
    buf_put_u8(&server->log, (uint8_t)event->type);
    buf_put_bytes(&server->log, message);
}

static uint64_t no_deadline(void *context)
{
    (void)context;
    return UINT64_MAX;
}

static void server_init(struct server *server, bool answers)
{
    struct net_options options;
    char error[256];

    *server = (struct server){.answers = answers};
    net_options_default(&options);
    options.self = (struct hello){.who = HELLO_PEER,
                                  .protocol_low = HELLO_PROTOCOL_LOW,
                                  .protocol_high = HELLO_PROTOCOL_HIGH,
                                  .cluster_id = "the cluster's id",
                                  .gid = 1,
                                  .id = 1,
                                  .incarnation = 3,
                                  .spec_fingerprint = 5};
    options.group = 1;
    ASSERT(spec_parse("1=tcp://h:1,2=tcp://h:2", &options.peers) == NULL);
    options.limits.max_connections = 4;
    options.limits.max_reassembly_bytes = REASSEMBLY;
    options.limits.max_total_reassembly_bytes = REASSEMBLY;
    options.sink =
        (struct net_sink){.context = server, .event = on_event, .next_deadline_ms = no_deadline};
    ASSERT(net_create(&options, &server->net, error) == ST_OK);
    accepted_add(server->net, (nng_stream *)&server->end, false);
}

/* What left is whole frames, of kinds that a server sends. */
static void check_sent(struct slice sent)
{
    struct frame frame;
    size_t taken, need;
    enum status reason;

    while (sent.len > 0) {
        ASSERT(frame_decode(sent, &frame, &taken, &need, &reason) == FRAME_OK);
        sent = slice_of(sent.data + taken, sent.len - taken);
    }
}

static void server_fini(struct server *server)
{
    check_sent(buf_slice(&server->end.sent));
    net_destroy(&server->net);
    ASSERT(server->end.closed);
    buf_fini(&server->end.sent);
    buf_fini(&server->log);
}

/* All the bytes, at most `step` at a time (0: as the script says). */
static void feed(struct server *server, struct slice bytes, struct script *script)
{
    int idle = 0;

    while (bytes.len > 0 && !server->end.closed && idle < 4) {
        size_t step = script == NULL ? bytes.len : 1 + fuzz_u8(script) * (size_t)fuzz_u8(script);
        size_t came = fake_end_deliver(&server->end, bytes, step);

        bytes = slice_of(bytes.data + came, bytes.len - came);
        ASSERT(server->net->accepted.pool.used <= REASSEMBLY);
        if (script == NULL || came == 0 || fuzz_u8(script) < 128) {
            net_drain(server->net);
            fake_end_sent(&server->end);
        }
        idle = came == 0 ? idle + 1 : 0;
    }
    net_drain(server->net);
}

/* ---- What comes ---- */

static void put_hello(struct script *script, struct buf *out)
{
    uint8_t dice = fuzz_u8(script);
    struct hello hello = {.who = dice % 4 == 0 ? HELLO_PEER : HELLO_CLIENT,
                          .protocol_low = HELLO_PROTOCOL_LOW,
                          .protocol_high = HELLO_PROTOCOL_HIGH,
                          .cluster_id = "the cluster's id",
                          .gid = 1,
                          .id = 2,
                          .incarnation = 9,
                          .spec_fingerprint = 5};
    size_t at = frame_begin(out, FRAME_HELLO, 0);
    size_t body = out->len;

    hello_encode(&hello, out);
    if (dice >= 128) {
        out->data[body + fuzz_u8(script) % (out->len - body)] = fuzz_u8(script);
    }
    if (dice >= 224) {
        buf_put_slice(out, fuzz_short(script));
    }
    frame_end(out, at);
}

static struct slice choose_message(struct script *script)
{
    uint8_t dice = fuzz_u8(script);

    return dice < 250 ? fuzz_take(script, dice % 16) : slice_of(ballast, BIG + dice);
}

static uint8_t choose_type(struct script *script)
{
    uint8_t dice = fuzz_u8(script);

    return dice < 120   ? FRAME_MESSAGE_REQUEST
           : dice < 240 ? FRAME_MESSAGE_RAFT
                        : (uint8_t)(dice - 240);
}

static void put_batch(struct script *script, struct buf *out)
{
    size_t at = frame_begin(out, FRAME_BATCH, fuzz_u8(script));
    size_t body = out->len;
    uint32_t n = fuzz_below(script, 4);

    for (uint32_t i = 0; i < n; i++) {
        uint32_t group = fuzz_u8(script) < 240 ? 1 : 2;
        uint8_t type = choose_type(script);

        frame_put_message(out, group, type, choose_message(script));
    }
    if (fuzz_u8(script) > 240 && out->len > body) {
        out->data[body + fuzz_u8(script) % (out->len - body)] ^= fuzz_u8(script);
    }
    if (out->len - body > FRAME_MAX_BODY) {
        out->len = body;
    }
    frame_end(out, at);
}

static void put_fragment(struct script *script, struct buf *out)
{
    struct frame_fragment fragment = {
        .stream = fuzz_u8(script) % 4, .group = 1, .type = choose_type(script)};
    uint8_t dice = fuzz_u8(script);

    fragment.bytes = slice_of(ballast, 1 + (size_t)(dice & 15) * 200);
    fragment.offset = (uint32_t)(dice >> 5) * (uint32_t)fragment.bytes.len;
    fragment.total = fragment.offset + (uint32_t)fragment.bytes.len;
    if (dice & 16) {
        fragment.total += fuzz_u8(script) * (uint32_t)fragment.bytes.len;
    }
    if (fuzz_u8(script) > 250) {
        fragment.total = fuzz_u32(script);
    }
    if (fragment.total <= FRAME_MAX_MESSAGE &&
        fragment.offset + fragment.bytes.len <= fragment.total) {
        frame_put_fragment(out, &fragment);
    }
}

static void put_any(struct script *script, struct buf *out)
{
    uint8_t kind = fuzz_u8(script);
    size_t at = frame_begin(out, FRAME_PING, fuzz_u8(script));

    out->data[at + 5] = kind;
    buf_put_slice(out, kind % 2 == 0 ? fuzz_take(script, 8) : fuzz_short(script));
    frame_end(out, at);
}

static void put_something(struct script *script, struct buf *out)
{
    uint8_t what = fuzz_u8(script);

    if (what < 100) {
        put_batch(script, out);
    } else if (what < 190) {
        put_fragment(script, out);
    } else if (what < 200) {
        put_hello(script, out);
    } else if (what < 240) {
        put_any(script, out);
    } else {
        buf_put_slice(out, fuzz_short(script));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = script_of(data, size);
    struct script splits = script;
    struct server whole, split;
    struct buf bytes = {0};
    uint8_t mode = fuzz_u8(&script);

    if (mode < 240) {
        put_hello(&script, &bytes);
    }
    while (!script_is_over(&script) && bytes.len < 8 * REASSEMBLY) {
        put_something(&script, &bytes);
    }
    server_init(&whole, mode % 2);
    server_init(&split, mode % 2);
    split.end.stalls = true;
    feed(&whole, buf_slice(&bytes), NULL);
    feed(&split, buf_slice(&bytes), &splits);
    if (mode % 2 == 0) {
        ASSERT(slice_equal(buf_slice(&whole.log), buf_slice(&split.log)));
        ASSERT(whole.end.closed == split.end.closed);
    }
    if (mode % 8 == 1) {
        fake_end_break(&split.end);
    }
    server_fini(&whole);
    server_fini(&split);
    buf_fini(&bytes);
    return 0;
}
