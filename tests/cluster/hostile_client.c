/* hostile_client PORT WHAT [OWNER_URL]: sends a server on loopback what no friendly client sends,
 * and checks that it answers, refuses or closes, and serves others all the while.
 *
 * WHAT is garbage, frames, hellos, messages, requests, slow, silent or flood. OWNER_URL is the URL
 * of a member group's replica: joins name it, so that no flipped bit makes one that is allowed.
 * Everything is bounded in count and time. Exit 0 if all held; else a line on stderr says what did
 * not. Plain blocking sockets with timeouts; the project's encoders make the valid bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/proto.h"
#include "raft/util/crc32c.h"
#include "raft/util/frame.h"
#include "raft/util/rng.h"

#define CLOSE_MS    4000 /* a server has closed by then whom it does not want */
#define ANSWER_MS   8000
#define DEADLINE_MS 500         /* of requests: afterwards the server gives up on them */
#define NOBODY      0x0f0f0f0fu /* a gid that no single flipped bit turns into one that exists */

static uint16_t port;
static const char *owner_url = "tcp://127.0.0.1:1";
static struct rng rng;

static void die(const char *what)
{
    fprintf(stderr, "hostile_client: %s (errno %d: %s)\n", what, errno, strerror(errno));
    exit(1);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

/* ---- Sockets ---- */

static int dial(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {2, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        die("the server takes no connections");
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return fd;
}

/* False if the other side has closed, or takes nothing for 2 s. */
static bool put(int fd, struct slice bytes)
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

static bool put_buf(int fd, struct buf *bytes)
{
    bool sent = put(fd, buf_slice(bytes));

    buf_fini(bytes);
    return sent;
}

/* More bytes into `in`, waiting at most until `deadline`: 1, 0 in vain, -1 when it is closed. */
static int get_more(int fd, struct buf *in, uint64_t deadline)
{
    uint64_t now = now_ms();
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ssize_t got;

    if (now >= deadline || poll(&wait, 1, (int)(deadline - now)) <= 0) {
        return 0;
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
    uint64_t deadline = now_ms() + CLOSE_MS;
    struct buf in = {0};
    int more;

    while ((more = get_more(fd, &in, deadline)) > 0) {
        buf_clear(&in);
    }
    if (more == 0) {
        die(what);
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

static void expect_closed(int fd, const char *what)
{
    if (n_refused == sizeof(refused) / sizeof(refused[0])) {
        errno = 0;
        die("too many refused connections at once");
    }
    refused[n_refused].fd = fd;
    refused[n_refused++].what = what;
}

static void await_all_closed(void)
{
    while (n_refused > 0) {
        n_refused--;
        await_close(refused[n_refused].fd, refused[n_refused].what);
    }
}

static void drop(int fd)
{
    struct linger reset = {1, 0};

    if (rng_below(&rng, 2) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    close(fd);
}

/* ---- Frames, hellos and requests that are right, to begin with ---- */

static struct buf hello_frame(const struct hello *hello)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_HELLO, 0);

    hello_encode(hello, &out);
    frame_end(&out, at);
    return out;
}

static struct hello client_hello(void)
{
    return (struct hello){.who = HELLO_CLIENT,
                          .protocol_low = HELLO_PROTOCOL_LOW,
                          .protocol_high = HELLO_PROTOCOL_HIGH,
                          .active_level = HELLO_PROTOCOL_LOW};
}

static struct buf frame_around(enum frame_kind kind, struct slice body)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, kind, 0);

    buf_put_slice(&out, body);
    frame_end(&out, at);
    return out;
}

static struct buf batch_of(uint32_t group, uint8_t type, struct slice message)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, FRAME_BATCH, 0);

    frame_put_message(&out, group, type, message);
    frame_end(&out, at);
    return out;
}

/* A connection after both hellos. */
static int dial_as_client(void)
{
    struct hello hello = client_hello();
    struct buf out = hello_frame(&hello);
    int fd = dial();

    put_buf(fd, &out);
    return fd;
}

struct answers {
    uint32_t n, ok;
};

/* Takes the answers out of `in`; what is left of it begins a frame. */
static void take_answers(struct buf *in, struct answers *answers)
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
static struct answers await(int fd, uint32_t n, const char *what)
{
    uint64_t deadline = now_ms() + ANSWER_MS;
    struct answers answers = {0};
    struct buf in = {0};

    while (answers.n < n) {
        if (get_more(fd, &in, deadline) <= 0) {
            fprintf(stderr, "%u of %u answers\n", answers.n, n);
            die(what);
        }
        take_answers(&in, &answers);
    }
    buf_fini(&in);
    return answers;
}

static struct buf encode(struct proto_request request)
{
    struct buf out = {0};

    request.request_id = rng_next(&rng);
    request.deadline_ms = DEADLINE_MS;
    proto_request_encode(&request, &out);
    return out;
}

static bool put_request(int fd, struct buf *request)
{
    struct buf frame = batch_of(0, FRAME_MESSAGE_REQUEST, buf_slice(request));

    buf_fini(request);
    return put_buf(fd, &frame);
}

/* Somebody else is served at once. */
static void expect_service(const char *what)
{
    int fd = dial_as_client();
    struct buf ping = encode((struct proto_request){.op = PROTO_PING});

    put_request(fd, &ping);
    await(fd, 1, what);
    close(fd);
}

/* ---- Garbage, and frames that are wrong ---- */

static void send_garbage(void)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                        "*1\r\n$4\r\nPING\r\n",
                                        "SHKV",
                                        "\n",
                                        "SHKV\x01\x05"};

    for (uint32_t i = 0; i < 200; i++) {
        int fd = i % 2 == 0 ? dial() : dial_as_client();
        struct buf out = {0};

        if (i % 10 < 3) {
            buf_put_slice(&out, slice_text(texts[rng_below(&rng, 6)]));
        }
        for (uint32_t n = rng_below(&rng, 5000); n > 0; n--) {
            buf_put_u8(&out, (uint8_t)rng_next(&rng));
        }
        put_buf(fd, &out);
        drop(fd);
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
    int fd = dial_as_client();

    put_buf(fd, &frame);
    expect_closed(fd, what);
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
        frame = frame_around(FRAME_PING, slice_of("12345678", 8));
        frame.data[wrong[i].offset] = wrong[i].byte;
        correct_checksum(&frame);
        send_frame(frame, "a wrong header was accepted");
    }
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        frame = frame_around(FRAME_PING, slice_of("12345678", 8));
        buf_set_u32(&frame, 12, lengths[i]);
        correct_checksum(&frame);
        send_frame(frame, "a length past the limit was accepted");
    }
    frame = frame_around(FRAME_PING, slice_of("12345678", 8));
    frame.data[24] ^= 1;
    send_frame(frame, "a wrong checksum was accepted");
    for (size_t len = 0; len < FRAME_HEADER_BYTES + 8; len++) { /* half frames */
        int fd = dial_as_client();

        frame = frame_around(FRAME_PING, slice_of("12345678", 8));
        put(fd, slice_of(frame.data, len));
        buf_fini(&frame);
        drop(fd);
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
        put_buf(fds[i] = dial_as_client(), &out);
    }
    expect_service("not served while others promise large messages");
    for (uint32_t i = 0; i < 16; i++) {
        drop(fds[i]);
    }
}

static void send_frames(void)
{
    struct buf frame;

    send_headers();
    send_fragments();
    for (uint32_t i = 0; i < 100; i++) { /* batches and fragments with bodies of chance */
        uint8_t body[200];
        int fd = dial_as_client();

        for (size_t b = 0; b < sizeof(body); b++) {
            body[b] = (uint8_t)(rng_below(&rng, 3) == 0 ? rng_next(&rng) : 0);
        }
        frame = frame_around(FRAME_HELLO + rng_below(&rng, 6),
                             slice_of(body, rng_below(&rng, sizeof(body))));
        put_buf(fd, &frame);
        drop(fd);
    }
}

/* ---- Hellos ---- */

static void send_hello(struct hello hello, const char *what)
{
    struct buf out = hello_frame(&hello);
    int fd = dial();

    put_buf(fd, &out);
    expect_closed(fd, what);
}

static void send_strangers(void)
{
    struct hello peer = client_hello();
    static const uint32_t gids[] = {0, 1, 2, 0x7fffffff, 0xffffffff};
    static const uint32_t ids[] = {0, 1, 2, 255, 256, 0xffffffff};
    struct hello hello = client_hello();

    hello.protocol_low = hello.protocol_high = 99;
    send_hello(hello, "another version of the protocol was accepted");
    hello = client_hello();
    memset(hello.cluster_id, 7, sizeof(hello.cluster_id));
    send_hello(hello, "a client of another cluster was accepted");
    hello = client_hello();
    hello.who = HELLO_SERVER;
    send_hello(hello, "a server that calls was accepted");
    peer.who = HELLO_PEER;
    for (size_t g = 0; g < sizeof(gids) / sizeof(gids[0]); g++) {
        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
            peer.gid = gids[g];
            peer.id = ids[i];
            peer.incarnation = rng_next(&rng);
            send_hello(peer, "a stranger was accepted as a peer");
        }
    }
}

static void send_hellos(void)
{
    struct hello hello = client_hello();
    struct buf out = {0};
    static const size_t broken[] = {0, 4, 5, 7};
    struct buf ping;
    int fd;

    send_strangers();
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        hello_encode(&hello, &out);
        out.data[broken[i]] = 0xee;
        ping = frame_around(FRAME_HELLO, buf_slice(&out));
        put_buf(fd = dial(), &ping);
        expect_closed(fd, "a malformed hello was accepted");
        buf_clear(&out);
    }
    hello_encode(&hello, &out);
    for (size_t len = 0; len < out.len; len += 3) {
        ping = frame_around(FRAME_HELLO, slice_of(out.data, len));
        put_buf(fd = dial(), &ping);
        expect_closed(fd, "a truncated hello was accepted");
    }
    buf_fini(&out);
    /* A request before the hello; a second hello; a refusal by the client. */
    ping = encode((struct proto_request){.op = PROTO_PING});
    put_request(fd = dial(), &ping);
    expect_closed(fd, "a request before the hello was accepted");
    out = hello_frame(&hello);
    put_buf(fd = dial_as_client(), &out);
    expect_closed(fd, "a second hello was accepted");
    out = frame_around(FRAME_REFUSE, slice_of("\1\0\0\0 no", 7));
    put_buf(fd = dial_as_client(), &out);
    expect_closed(fd, "a connection went on after a refusal");
}

/* ---- Messages and requests ---- */

static void send_messages(void)
{
    static const uint8_t types[] = {0, FRAME_MESSAGE_RAFT, FRAME_MESSAGE_RESPONSE, 4, 255};
    struct buf out = {0};
    size_t at;
    int fd;

    for (size_t i = 0; i < sizeof(types); i++) {
        out = batch_of(0, types[i], slice_of("0123456789012345678901234567890123456789", 40));
        put_buf(fd = dial_as_client(), &out);
        expect_closed(fd, "a message that clients don't send was accepted");
    }
    fd = dial_as_client();
    for (size_t len = 0; len < 30; len++) {
        out = batch_of(0, FRAME_MESSAGE_REQUEST,
                       slice_of("\1\1\0\0abcdefghijklmnopqrstuvwxyz0123", len));
        put_buf(fd, &out);
    }
    await(fd, 30, "short messages were not answered");
    close(fd);
    at = frame_begin(&out, FRAME_BATCH, 0);
    for (uint32_t i = 0; i < 20000; i++) {
        frame_put_message(&out, 0, FRAME_MESSAGE_REQUEST, slice_of(NULL, 0));
    }
    frame_end(&out, at);
    put_buf(fd = dial_as_client(), &out);
    await(fd, 20000, "empty messages were not answered");
    close(fd);
}

static struct proto_request write_request(const char *key, shard_id shard)
{
    struct proto_request request = {.op = PROTO_WRITE};
    struct kv_write *write = &request.write;

    memset(write->session.client, 0x77, sizeof(write->session.client));
    write->session.seq = 1 + rng_below(&rng, 1000000);
    write->shard = shard;
    write->n_conditions = 1;
    write->conditions[0] = (struct kv_condition){
        .type = KV_IF_VALUE, .key = slice_text(key), .value = slice_text("x")};
    write->n_operations = 2;
    write->operations[0] = (struct kv_operation){
        .type = KV_PUT, .key = slice_text(key), .value = slice_text("hostile")};
    write->operations[1] =
        (struct kv_operation){.type = KV_APPEND, .key = slice_text(key), .value = slice_text("!")};
    return request;
}

/* A valid request of each operation that changes nothing of worth. */
static struct buf sample(uint32_t which)
{
    static struct proto_join_group group;
    static uint32_t nobody = NOBODY;
    static struct proto_confirm rows[2] = {{3, 1}, {4, 9}};
    struct proto_session session = {.seq = 1 + rng_below(&rng, 1000), .client = "hostile admin.."};
    struct slice key = slice_text("key-1");
    shard_id shard = shard_of_key(key, 16);
    struct proto_request request = {.op = PROTO_PING};

    group = (struct proto_join_group){.gid = 1, .incarnation = 77};
    group.replicas.n = 1;
    group.replicas.replicas[0].id = 1;
    snprintf(group.replicas.replicas[0].url, sizeof(group.replicas.replicas[0].url), "%s",
             owner_url);
    switch (which) {
    case 0:
        request = (struct proto_request){.op = PROTO_GET, .get = {shard, key}};
        break;
    case 1:
        request = write_request("hostile", shard_of_key(slice_text("hostile"), 16));
        break;
    case 2:
        request = (struct proto_request){
            .op = PROTO_SCAN, .scan = {shard, slice_text("key"), slice_text("key-2"), 10}};
        break;
    case 3:
        request.op = PROTO_STATUS;
        break;
    case 4:
        request = (struct proto_request){.op = PROTO_TRANSFER, .transfer = {9}};
        break;
    case 5:
        request = (struct proto_request){.op = PROTO_CONFIG, .config = {1, NOBODY, 5}};
        break;
    case 6:
        request =
            (struct proto_request){.op = PROTO_SHARD_PULL,
                                   .shard_pull = {3, 2, NOBODY, 99, 0, slice_text("cursor"), 1000}};
        break;
    case 7:
        request =
            (struct proto_request){.op = PROTO_SHARD_RELEASE, .shard_release = {3, 2, NOBODY}};
        break;
    case 8:
        request = (struct proto_request){.op = PROTO_SHARD_WHERE, .shard_where = {3}};
        break;
    case 9:
        request = (struct proto_request){.op = PROTO_JOIN, .join = {session, 1, &group}};
        break;
    case 10:
        request = (struct proto_request){.op = PROTO_LEAVE, .leave = {session, 1, &nobody}};
        break;
    case 11:
        request = (struct proto_request){.op = PROTO_MOVE, .move = {session, 3, NOBODY}};
        break;
    case 12:
        request = (struct proto_request){.op = PROTO_CONFIRM,
                                         .confirm = {1, 0x1234567812345678, 2, rows}};
        break;
    case 13:
        request =
            (struct proto_request){.op = PROTO_BIND, .confirm = {1, 0x1234567812345678, 0, NULL}};
        break;
    default:
        break;
    }
    return encode(request);
}
#define N_SAMPLES  15
#define N_HARMLESS 9 /* the first so many may be flipped in many places */

static void send_truncated_and_flipped(void)
{
    for (uint32_t which = 0; which < N_SAMPLES; which++) {
        int fd = dial_as_client();
        uint32_t n = 0;

        for (size_t len = 0;; len++) {
            struct buf request = sample(which);
            bool whole = len >= request.len;

            request.len = whole ? request.len : len;
            put_request(fd, &request);
            n++;
            if (whole) {
                break;
            }
        }
        for (uint32_t i = 0; i < 300; i++) {
            struct buf request = sample(which);
            uint32_t flips = which < N_HARMLESS ? 1 + rng_below(&rng, 8) : 1;

            while (flips-- > 0) {
                uint32_t bit = rng_below(&rng, (uint32_t)request.len * 8);
                request.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            }
            set_u32(request.data + 12, DEADLINE_MS);
            put_request(fd, &request);
            n++;
        }
        await(fd, n, "malformed requests were not answered");
        close(fd);
    }
}

/* A message in pieces, as one above the size of a batch must travel. */
static void put_large(int fd, uint32_t stream, struct buf *message)
{
    struct buf out = {0};
    struct frame_fragment fragment = {
        .stream = stream, .type = FRAME_MESSAGE_REQUEST, .total = (uint32_t)message->len};

    while (fragment.offset < fragment.total) {
        uint32_t left = fragment.total - fragment.offset;

        fragment.bytes = slice_of(message->data + fragment.offset,
                                  left < FRAME_FRAGMENT_BYTES ? left : FRAME_FRAGMENT_BYTES);
        frame_put_fragment(&out, &fragment);
        fragment.offset += (uint32_t)fragment.bytes.len;
        put(fd, buf_slice(&out));
        buf_clear(&out);
    }
    buf_fini(&out);
    buf_fini(message);
}

static void send_oversize(void)
{
    int fd = dial_as_client();
    struct buf text = {0}, message;
    struct proto_request request;
    struct answers answers;

    memset(buf_extend(&text, KV_MAX_VALUE + 1), 'k', KV_MAX_VALUE + 1);
    request =
        (struct proto_request){.op = PROTO_GET, .get = {0, slice_of(text.data, KV_MAX_KEY + 1)}};
    message = encode(request);
    put_request(fd, &message);
    request = write_request("hostile", 0);
    request.write.operations[0].key = slice_of(text.data, KV_MAX_KEY + 1);
    message = encode(request);
    put_request(fd, &message);
    request = write_request("hostile", shard_of_key(slice_text("hostile"), 16));
    request.write.n_conditions = 0;
    request.write.operations[0].value = buf_slice(&text);
    message = encode(request);
    put_large(fd, 1, &message);
    answers = await(fd, 3, "requests past the limits were not answered");
    if (answers.ok != 0) {
        die("a request past the limits was carried out");
    }
    buf_fini(&text);
    close(fd);
}

/* A key has one shard: under every other number it must be refused. */
static void send_wrong_shards(void)
{
    int fd = dial_as_client();
    uint32_t n = 0;
    struct answers answers;

    for (shard_id shard = 0; shard < SHARD_MAX_COUNT; shard += shard < 40 ? 1 : 409) {
        struct buf get =
            encode((struct proto_request){.op = PROTO_GET, .get = {shard, slice_text("key-1")}});
        struct proto_request request = write_request("key-1", shard);
        struct buf write;

        request.write.n_conditions = 0;
        request.write.operations[0] = (struct kv_operation){
            .type = KV_PUT, .key = slice_text("key-1"), .value = slice_text("value-1")};
        request.write.n_operations = 1;
        request.write.session.client[0] = (uint8_t)shard;
        write = encode(request);
        put_request(fd, &get);
        put_request(fd, &write);
        n += 2;
    }
    answers = await(fd, n, "requests with wrong shards were not answered");
    if (answers.ok > 2) {
        die("a key was served under the number of a shard that is not its own");
    }
    close(fd);
}

static void send_requests(void)
{
    send_truncated_and_flipped();
    send_oversize();
    send_wrong_shards();
}

/* ---- Slow, silent, greedy ---- */

static void send_slowly(void)
{
    enum { N = 20 };
    struct hello hello = client_hello();
    struct buf bytes = hello_frame(&hello),
               request = encode((struct proto_request){.op = PROTO_PING});
    struct buf batch = batch_of(0, FRAME_MESSAGE_REQUEST, buf_slice(&request));
    int strangers[N], friends[N];

    for (uint32_t i = 0; i < N; i++) {
        strangers[i] = dial();
        friends[i] = dial_as_client();
    }
    for (size_t at = 0; at < bytes.len || at < batch.len; at++) {
        for (uint32_t i = 0; i < N;
             i++) { /* a hello must come within a second, a request need not */
            if (at < bytes.len) {
                put(strangers[i], slice_of(bytes.data + at, 1));
            }
            if (at < batch.len) {
                put(friends[i], slice_of(batch.data + at, 1));
            }
        }
        pause_ms(25);
    }
    expect_service("not served while others are slow");
    for (uint32_t i = 0; i < N; i++) {
        expect_closed(strangers[i], "a hello may take as long as it likes");
        await(friends[i], 1, "a slow request was not answered");
        close(friends[i]);
    }
    buf_fini(&bytes);
    buf_fini(&request);
    buf_fini(&batch);
}

static void stay_silent(void)
{
    enum { N = 400 };
    int fds[N];

    for (uint32_t i = 0; i < N; i++) {
        fds[i] = i % 2 == 0 ? dial() : dial_as_client();
    }
    expect_service("not served while others are silent");
    for (uint32_t i = 0; i < N; i++) {
        if (i % 2 == 0) {
            expect_closed(fds[i], "a silent stranger was kept");
        } else {
            drop(fds[i]);
        }
    }
}

/* Requests with large answers, and none of them read. */
static void flood(void)
{
    enum { N = 8 };
    uint64_t end = now_ms() + 4000;
    struct slice keys[] = {slice_text("big-1"), slice_text("key-1"), slice_text("big-2")};
    int fds[N];

    for (uint32_t i = 0; i < N; i++) {
        fds[i] = dial_as_client();
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    for (uint32_t round = 0; round < 20000 && now_ms() < end; round++) {
        uint32_t i = round % N;
        struct slice key = keys[round % 3];
        struct buf out =
            encode(round % 5 == 0 ? (struct proto_request){.op = PROTO_STATUS}
                                  : (struct proto_request){.op = PROTO_GET,
                                                           .get = {shard_of_key(key, 16), key}});

        put_request(fds[i], &out); /* cut anywhere when the server takes no more: all the better */
        if (round % 5000 == 4999) {
            expect_service("not served while others don't read");
        }
    }
    expect_service("not served while others don't read");
    for (uint32_t i = 0; i < N; i++) {
        drop(fds[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {{"garbage", send_garbage},   {"frames", send_frames},
               {"hellos", send_hellos},     {"messages", send_messages},
               {"requests", send_requests}, {"slow", send_slowly},
               {"silent", stay_silent},     {"flood", flood}};

    if (argc < 3) {
        fprintf(stderr, "usage: hostile_client PORT WHAT [OWNER_URL]\n");
        return 2;
    }
    port = (uint16_t)atoi(argv[1]);
    owner_url = argc > 3 ? argv[3] : owner_url;
    rng_init(&rng, 20240229);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(all[i].name, argv[2]) == 0) {
            all[i].run();
            await_all_closed();
            expect_service("others are not served afterwards");
            return 0;
        }
    }
    fprintf(stderr, "hostile_client: no such attack: %s\n", argv[2]);
    return 2;
}
