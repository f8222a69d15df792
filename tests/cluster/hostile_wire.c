/* hostile_wire: see hostile.h. Plain blocking sockets; the project's encoders make the bytes. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/cluster/hostile.h"

#define CLOSE_MS  4000 /* a server has closed by then whom it does not want */
#define ANSWER_MS 8000
#define PIECE_MS  100 /* of such a wait */

uint16_t hostile_port;
const char *hostile_owner_url = "tcp://127.0.0.1:1";
struct rng hostile_rng;

void hostile_die(const char *what)
{
    fprintf(stderr, "hostile_client: %s (errno %d: %s)\n", what, errno, strerror(errno));
    exit(1);
}

uint64_t hostile_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void hostile_pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

/* ---- Sockets ---- */

int hostile_dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(hostile_port)};
    struct timeval patience = {2, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        hostile_die("the server takes no connections");
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return fd;
}

/* False if the other side has closed, or takes nothing for 2 s. */
bool hostile_put(int fd, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL);

        if (sent <= 0) {
            return false;
        }
        bytes = slice_of(bytes.data + sent, bytes.len - (size_t)sent);
    }
    return true;
}

bool hostile_put_buf(int fd, struct buf *bytes)
{
    bool sent = hostile_put(fd, buf_slice(bytes));

    buf_fini(bytes);
    return sent;
}

/* More bytes into `in`: 1, 0 in vain, -1 when it is closed. Waits in small pieces, for which
 * *patience_ms pays: while this process and the server stand still together, no more is lost than
 * one of them. */
static int get_more(int fd, struct buf *in, uint32_t *patience_ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ssize_t got;

    while (poll(&wait, 1, PIECE_MS) <= 0) {
        if (*patience_ms < PIECE_MS) {
            return 0;
        }
        *patience_ms -= PIECE_MS;
    }
    buf_reserve(in, 65536);
    got = recv(fd, in->data + in->len, 65536, 0);
    if (got <= 0) {
        return -1;
    }
    in->len += (size_t)got;
    return 1;
}

/* Reads and forgets; the server must close within CLOSE_MS. */
static void await_close(int fd, const char *what)
{
    uint32_t patience_ms = CLOSE_MS;
    struct buf in = {0};
    int more;

    while ((more = get_more(fd, &in, &patience_ms)) > 0) {
        buf_clear(&in);
    }
    if (more == 0) {
        hostile_die(what);
    }
    buf_fini(&in);
    close(fd);
}

/* A server gives whom it refuses a moment to read why, so all are waited for together. */
static struct {
    int fd;
    const char *what;
} refused[256];
static uint32_t n_refused;

void hostile_expect_closed(int fd, const char *what)
{
    if (n_refused == sizeof(refused) / sizeof(refused[0])) {
        errno = 0;
        hostile_die("too many refused connections at once");
    }
    refused[n_refused].fd = fd;
    refused[n_refused++].what = what;
}

void hostile_await_all_closed(void)
{
    while (n_refused > 0) {
        n_refused--;
        await_close(refused[n_refused].fd, refused[n_refused].what);
    }
}

void hostile_drop(int fd)
{
    struct linger reset = {1, 0};

    if (rng_below(&hostile_rng, 2) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    close(fd);
}

/* ---- Frames, hellos and requests that are right, to begin with ---- */

struct buf hostile_hello_frame(const struct hello *hello)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_HELLO, 0);

    hello_encode(hello, &out);
    frame_end(&out, at);
    return out;
}

struct hello hostile_client_hello(void)
{
    return (struct hello){.who = HELLO_CLIENT,
                          .protocol_low = HELLO_PROTOCOL_LOW,
                          .protocol_high = HELLO_PROTOCOL_HIGH,
                          .active_level = HELLO_PROTOCOL_LOW};
}

struct buf hostile_frame_around(enum frame_kind kind, struct slice body)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, kind, 0);

    buf_put_slice(&out, body);
    frame_end(&out, at);
    return out;
}

struct buf hostile_batch_of(uint32_t group, uint8_t type, struct slice message)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_BATCH, 0);

    frame_put_message(&out, group, type, message);
    frame_end(&out, at);
    return out;
}

/* A connection after both hellos. */
int hostile_dial_as_client(void)
{
    struct hello hello = hostile_client_hello();
    struct buf out = hostile_hello_frame(&hello);
    int fd = hostile_dial();

    hostile_put_buf(fd, &out);
    return fd;
}

/* Takes the answers out of `in`; what is left of it begins a frame. */
static void take_answers(struct buf *in, struct hostile_answers *answers)
{
    struct slice left = buf_slice(in);
    struct frame frame;
    size_t taken, need;
    enum status reason;

    while (frame_decode(left, &frame, &taken, &need, &reason) == FRAME_OK) {
        struct reader body = reader_of(frame.body);
        struct slice message;
        uint32_t group;
        uint8_t type;

        while (frame.kind == FRAME_BATCH && frame_next_message(&body, &group, &type, &message)) {
            answers->n++;
            answers->ok += message.len > 4 && get_u16(message.data + 2) == ST_OK;
        }
        left = slice_of(left.data + taken, left.len - taken);
    }
    memmove(in->data, left.data, left.len);
    in->len = left.len;
}

/* Reads until `n` answers came. */
struct hostile_answers hostile_await(int fd, uint32_t n, const char *what)
{
    uint32_t patience_ms = ANSWER_MS;
    struct hostile_answers answers = {0};
    struct buf in = {0};

    while (answers.n < n) {
        if (get_more(fd, &in, &patience_ms) <= 0) {
            fprintf(stderr, "%u of %u answers\n", answers.n, n);
            hostile_die(what);
        }
        take_answers(&in, &answers);
    }
    buf_fini(&in);
    return answers;
}

struct buf hostile_encode(struct proto_request request)
{
    struct buf out = {0};

    request.request_id = rng_next(&hostile_rng);
    request.deadline_ms = HOSTILE_DEADLINE_MS;
    proto_request_encode(&request, &out);
    return out;
}

bool hostile_put_request(int fd, struct buf *request)
{
    struct buf frame = hostile_batch_of(0, FRAME_MESSAGE_REQUEST, buf_slice(request));

    buf_fini(request);
    return hostile_put_buf(fd, &frame);
}

/* Somebody else is served at once. */
void hostile_expect_service(const char *what)
{
    int fd = hostile_dial_as_client();
    struct buf ping = hostile_encode((struct proto_request){.op = PROTO_PING});

    hostile_put_request(fd, &ping);
    hostile_await(fd, 1, what);
    close(fd);
}
