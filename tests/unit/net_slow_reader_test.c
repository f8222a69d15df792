/* A client that reads slowly, so that a send of the server's has to wait for room. */
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/unit/net_harness.h"
#include "tests/unit/net_raw.h"

#define ANSWER_BYTES 100000 /* one send; far more than the small buffers below hold */

static void shrink_buffer(int fd, int which)
{
    int bytes = 4096;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, which, &bytes, sizeof(bytes)), 0);
}

/* The server is in this process: the descriptor of its end of the connection. */
static int server_end(int fd)
{
    struct sockaddr_in own, other;
    socklen_t len = sizeof(own);

    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    for (int candidate = 3; candidate < 1024; candidate++) {
        len = sizeof(other);
        if (candidate != fd && getpeername(candidate, (struct sockaddr *)&other, &len) == 0 &&
            other.sin_port == own.sin_port) {
            return candidate;
        }
    }
    fail_msg("the other end was not found");
    return -1;
}

static bool wait_frames(struct node *node, uint64_t frames)
{
    for (int tries = 0; tries < WITHIN_MS; tries++) {
        if (node_stats(node).frames_in >= frames) {
            return true;
        }
        pause_ms(1);
    }
    return false;
}

static void put_ping(struct buf *bytes, uint64_t stamp)
{
    uint8_t body[8];

    set_u64(body, stamp);
    put_frame(bytes, FRAME_PING, slice_of(body, sizeof(body)));
}

/* The next frame is of that kind. Takes it out of `got`. */
static void expect_frame(int fd, struct buf *got, enum frame_kind kind)
{
    struct frame frame;
    size_t taken;

    assert_true(raw_read_frame(fd, got, &frame));
    assert_int_equal(frame.kind, kind);
    taken = (size_t)(frame.body.data + frame.body.len - got->data);
    memmove(got->data, got->data + taken, got->len - taken);
    got->len -= taken;
}

/* Nothing else follows that would take the PONG along. */
static void a_ping_that_comes_while_the_last_answer_waits_for_room_is_answered(void **state)
{
    struct spec spec;
    struct node server;
    struct buf bytes = {0};
    int fd;

    (void)state;
    spec_on_free_ports(&spec, 1);
    node_init(&server);
    node_be_replica(&server, &spec, 1);
    server.answer_bytes = ANSWER_BYTES;
    node_start(&server);
    fd = raw_client(&server);
    shrink_buffer(fd, SO_RCVBUF);
    shrink_buffer(server_end(fd), SO_SNDBUF);
    put_request(&bytes, "much, please");
    assert_true(raw_send(fd, buf_slice(&bytes)));
    assert_true(wait_frames(&server, 2));
    buf_clear(&bytes);
    put_ping(&bytes, 7);
    assert_true(raw_send(fd, buf_slice(&bytes)));
    assert_true(wait_frames(&server, 3));
    buf_clear(&bytes);
    expect_frame(fd, &bytes, FRAME_BATCH);
    expect_frame(fd, &bytes, FRAME_PONG);
    close(fd);
    buf_fini(&bytes);
    node_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ping_that_comes_while_the_last_answer_waits_for_room_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
