/* Raw TCP connections to a node: to be rude on, or to speak frames by hand.
 */
#ifndef TESTS_UNIT_NET_RAW_H
#define TESTS_UNIT_NET_RAW_H

#include "tests/unit/net_harness.h"

static UNUSED_OK void raw_connect_socket(int fd, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(0x7f000001),
                                  .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = WITHIN_MS / 1000};

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static UNUSED_OK int raw_connect_port(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    raw_connect_socket(fd, port);
    return fd;
}

/* The port of tcp://host:port. */
static UNUSED_OK int url_port(const char *url)
{
    return atoi(strrchr(url, ':') + 1);
}

static UNUSED_OK int raw_connect(const struct node *node)
{
    return raw_connect_port(url_port(node->options.listen_url));
}

static UNUSED_OK bool raw_send(int fd, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL);

        if (n <= 0) {
            return false;
        }
        bytes = slice_of(bytes.data + n, bytes.len - (size_t)n);
    }
    return true;
}

/* Reads until the other side closes; false if it does not within the limit. */
static UNUSED_OK bool raw_read_to_end(int fd, struct buf *got)
{
    for (;;) {
        ssize_t n;

        buf_reserve(got, 4096);
        n = recv(fd, got->data + got->len, 4096, 0);
        if (n <= 0) {
            return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
        }
        got->len += (size_t)n;
    }
}

/* Reads one frame; false at the end. The body points into `got`. */
static UNUSED_OK bool raw_read_frame(int fd, struct buf *got, struct frame *frame)
{
    for (;;) {
        size_t taken, need;
        enum status reason;
        ssize_t n;

        if (frame_decode(buf_slice(got), frame, &taken, &need, &reason) == FRAME_OK) {
            return true;
        }
        buf_reserve(got, need);
        n = recv(fd, got->data + got->len, need - got->len, 0);
        if (n <= 0) {
            return false;
        }
        got->len += (size_t)n;
    }
}

/* Listens, for a node to call. */
static UNUSED_OK int raw_listen(int *port)
{
    struct timeval limit = {.tv_sec = WITHIN_MS / 1000};
    int fd = bind_free_port(port);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* of accept, too */
    assert_int_equal(listen(fd, 10), 0);
    return fd;
}

static UNUSED_OK void put_frame(struct buf *out, enum frame_kind kind, struct slice body)
{
    size_t offset = frame_begin(out, kind, 0);

    buf_put_slice(out, body);
    frame_end(out, offset);
}

static UNUSED_OK void put_hello_frame(struct buf *out, const struct hello *hello)
{
    struct buf body = {0};

    hello_encode(hello, &body);
    put_frame(out, FRAME_HELLO, buf_slice(&body));
    buf_fini(&body);
}

/* A connection that said hello and was let in. */
static UNUSED_OK int raw_greet(const struct node *node, const struct hello *hello)
{
    struct buf bytes = {0};
    struct frame frame;
    int fd = raw_connect(node);

    put_hello_frame(&bytes, hello);
    assert_true(raw_send(fd, buf_slice(&bytes)));
    buf_clear(&bytes);
    assert_true(raw_read_frame(fd, &bytes, &frame));
    assert_int_equal(frame.kind, FRAME_HELLO);
    buf_fini(&bytes);
    return fd;
}

static UNUSED_OK int raw_client(const struct node *node)
{
    struct hello hello = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};

    return raw_greet(node, &hello);
}

/* A batch of one request. */
static UNUSED_OK void put_request(struct buf *out, const char *text)
{
    size_t offset = frame_begin(out, FRAME_BATCH, 0);

    frame_put_message(out, 0, FRAME_MESSAGE_REQUEST, slice_text(text));
    frame_end(out, offset);
}

/* A fragment of one byte of a message of `total`. */
static UNUSED_OK void put_fragment(struct buf *out, uint32_t stream, uint32_t total,
                                   uint32_t offset)
{
    struct frame_fragment fragment = {.stream = stream,
                                      .type = FRAME_MESSAGE_REQUEST,
                                      .total = total,
                                      .offset = offset,
                                      .bytes = slice_text("x")};

    frame_put_fragment(out, &fragment);
}

#endif
