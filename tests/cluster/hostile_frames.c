/* Bytes, frames and hellos that no friendly program sends. */
#include <unistd.h>

#include "raft/util/crc32c.h"
#include "tests/cluster/hostile.h"

/* ---- Garbage, and frames that are wrong ---- */

void hostile_send_garbage(void)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                        "*1\r\n$4\r\nPING\r\n",
                                        "SHKV",
                                        "\n",
                                        "SHKV\x01\x05"};

    for (uint32_t i = 0; i < 200; i++) {
        int fd = i % 2 == 0 ? hostile_dial() : hostile_dial_as_client();
        struct buf out = {0};

        if (i % 10 < 3) {
            buf_put_slice(&out, slice_text(texts[rng_below(&hostile_rng, 6)]));
        }
        for (uint32_t n = rng_below(&hostile_rng, 5000); n > 0; n--) {
            buf_put_u8(&out, (uint8_t)rng_next(&hostile_rng));
        }
        hostile_put_buf(fd, &out);
        hostile_drop(fd);
    }
}

static void correct_checksum(struct buf *frame)
{
    uint32_t crc = crc32c(0, frame->data, 16);

    buf_set_u32(frame, 16,
                crc32c(crc, frame->data + FRAME_HEADER_BYTES, frame->len - FRAME_HEADER_BYTES));
}

static void send_frame(struct buf frame, const char *what)
{
    int fd = hostile_dial_as_client();

    hostile_put_buf(fd, &frame);
    hostile_expect_closed(fd, what);
}

static void send_headers(void)
{
    static const struct {
        size_t offset;
        uint8_t byte;
    } wrong[] = {{0, 'X'}, {4, 0}, {4, 2}, {4, 255}, {5, 0}, {5, 7}, {5, 255}, {6, 1}, {7, 128}};
    static const uint32_t lengths[] = {FRAME_MAX_BODY + 1, 1u << 24, 0x7fffffff, 0x80000000,
                                       0xffffffff};
    struct buf frame;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        frame = hostile_frame_around(FRAME_PING, slice_of("12345678", 8));
        frame.data[wrong[i].offset] = wrong[i].byte;
        correct_checksum(&frame);
        send_frame(frame, "a wrong header was accepted");
    }
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        frame = hostile_frame_around(FRAME_PING, slice_of("12345678", 8));
        buf_set_u32(&frame, 12, lengths[i]);
        correct_checksum(&frame);
        send_frame(frame, "a length past the limit was accepted");
    }
    frame = hostile_frame_around(FRAME_PING, slice_of("12345678", 8));
    frame.data[24] ^= 1;
    send_frame(frame, "a wrong checksum was accepted");
    for (size_t len = 0; len < FRAME_HEADER_BYTES + 8; len++) { /* half frames */
        int fd = hostile_dial_as_client();

        frame = hostile_frame_around(FRAME_PING, slice_of("12345678", 8));
        hostile_put(fd, slice_of(frame.data, len));
        buf_fini(&frame);
        hostile_drop(fd);
    }
}

/* A fragment whose fields the encoder would not write: they stand in its body one after another. */
static struct buf wrong_fragment(uint32_t total, uint32_t offset)
{
    uint8_t bytes[64] = {0};
    struct frame_fragment fragment = {
        .stream = 1, .type = FRAME_MESSAGE_REQUEST, .total = 1000, .bytes = slice_of(bytes, 64)};
    struct buf out = {0};

    frame_put_fragment(&out, &fragment);
    buf_set_u32(&out, FRAME_HEADER_BYTES + 12, total);
    buf_set_u32(&out, FRAME_HEADER_BYTES + 16, offset);
    correct_checksum(&out);
    return out;
}

static void send_fragments(void)
{
    static const uint32_t totals[] = {FRAME_MAX_MESSAGE + 1, 0x7fffffff, 0xffffffff, 63, 0};
    static const uint32_t offsets[] = {1, 63, 65, 0x7fffffff, 0xffffffff};
    uint8_t bytes[64] = {0};
    struct frame_fragment fragment;
    struct buf out = {0};
    int fds[16];

    for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
        send_frame(wrong_fragment(totals[i], 0), "a fragment of a wrong total was accepted");
    }
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct buf second = wrong_fragment(1000, offsets[i]);

        out = wrong_fragment(1000, 0);
        buf_put_slice(&out, buf_slice(&second));
        buf_fini(&second);
        send_frame(out, "a fragment with a gap was accepted");
    }
    out = (struct buf){0};
    /* Great promises: as many unfinished messages as allowed, each of 48 MiB. */
    for (uint32_t i = 0; i < 16; i++) {
        for (uint32_t stream = 0; stream < FRAME_MAX_STREAMS; stream++) {
            fragment = (struct frame_fragment){.stream = stream,
                                               .type = FRAME_MESSAGE_REQUEST,
                                               .total = FRAME_MAX_MESSAGE,
                                               .bytes = slice_of(bytes, sizeof(bytes))};
            frame_put_fragment(&out, &fragment);
        }
        hostile_put_buf(fds[i] = hostile_dial_as_client(), &out);
    }
    hostile_expect_service("not served while others promise large messages");
    for (uint32_t i = 0; i < 16; i++) {
        hostile_drop(fds[i]);
    }
}

void hostile_send_frames(void)
{
    struct buf frame;

    send_headers();
    send_fragments();
    for (uint32_t i = 0; i < 100; i++) { /* batches and fragments with bodies of chance */
        uint8_t body[200];
        int fd = hostile_dial_as_client();

        for (size_t b = 0; b < sizeof(body); b++) {
            body[b] = (uint8_t)(rng_below(&hostile_rng, 3) == 0 ? rng_next(&hostile_rng) : 0);
        }
        frame = hostile_frame_around(FRAME_HELLO + rng_below(&hostile_rng, 6),
                                     slice_of(body, rng_below(&hostile_rng, sizeof(body))));
        hostile_put_buf(fd, &frame);
        hostile_drop(fd);
    }
}

/* ---- Hellos ---- */

static void send_hello(struct hello hello, const char *what)
{
    struct buf out = hostile_hello_frame(&hello);
    int fd = hostile_dial();

    hostile_put_buf(fd, &out);
    hostile_expect_closed(fd, what);
}

static void send_strangers(void)
{
    struct hello peer = hostile_client_hello();
    static const uint32_t gids[] = {0, 1, 2, 0x7fffffff, 0xffffffff};
    static const uint32_t ids[] = {0, 1, 2, 255, 256, 0xffffffff};
    struct hello hello = hostile_client_hello();

    hello.protocol_low = hello.protocol_high = 99;
    send_hello(hello, "another version of the protocol was accepted");
    hello = hostile_client_hello();
    memset(hello.cluster_id, 7, sizeof(hello.cluster_id));
    send_hello(hello, "a client of another cluster was accepted");
    hello = hostile_client_hello();
    hello.who = HELLO_SERVER;
    send_hello(hello, "a server that calls was accepted");
    peer.who = HELLO_PEER;
    for (size_t g = 0; g < sizeof(gids) / sizeof(gids[0]); g++) {
        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
            peer.gid = gids[g];
            peer.id = ids[i];
            peer.incarnation = rng_next(&hostile_rng);
            send_hello(peer, "a stranger was accepted as a peer");
        }
    }
}

void hostile_send_hellos(void)
{
    struct hello hello = hostile_client_hello();
    struct buf out = {0};
    static const size_t broken[] = {0, 4, 5, 7};
    struct buf ping;
    int fd;

    send_strangers();
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        hello_encode(&hello, &out);
        out.data[broken[i]] = 0xee;
        ping = hostile_frame_around(FRAME_HELLO, buf_slice(&out));
        hostile_put_buf(fd = hostile_dial(), &ping);
        hostile_expect_closed(fd, "a malformed hello was accepted");
        buf_clear(&out);
    }
    hello_encode(&hello, &out);
    for (size_t len = 0; len < out.len; len += 3) {
        ping = hostile_frame_around(FRAME_HELLO, slice_of(out.data, len));
        hostile_put_buf(fd = hostile_dial(), &ping);
        hostile_expect_closed(fd, "a truncated hello was accepted");
    }
    buf_fini(&out);
    /* A request before the hello; a second hello; a refusal by the client. */
    ping = hostile_encode((struct proto_request){.op = PROTO_PING});
    hostile_put_request(fd = hostile_dial(), &ping);
    hostile_expect_closed(fd, "a request before the hello was accepted");
    out = hostile_hello_frame(&hello);
    hostile_put_buf(fd = hostile_dial_as_client(), &out);
    hostile_expect_closed(fd, "a second hello was accepted");
    out = hostile_frame_around(FRAME_REFUSE, slice_of("\1\0\0\0 no", 7));
    hostile_put_buf(fd = hostile_dial_as_client(), &out);
    hostile_expect_closed(fd, "a connection went on after a refusal");
}
