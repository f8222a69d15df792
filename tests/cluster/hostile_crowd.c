/* hostile_crowd PORT WHAT [METRICS_PORT [SECONDS [CONNECTIONS]]]: many at once at one server on
 * loopback, while a friend (a process of its own) goes on working with it.
 *
 * WHAT is crowd (thousands of connections, silent ones, half ones and greeted ones), drip (bytes
 * one by one, at the metrics port too), flood (valid requests as fast as they go), greedy (requests
 * for large values whose answers nobody reads). The hostile come from other addresses of loopback
 * than the friend.
 *
 * The friend reads, writes and opens new connections, and asks for /metrics; each of its operations
 * must succeed, with tries that are refused as busy in between. Prints what it counted: "friend
 * OPERATIONS REFUSALS WORST_MS", the time with all tries. Exit 0 if all held. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cluster/hostile.h"

static uint16_t metrics_port;
static uint64_t seconds = 3;
static uint32_t n_connections = 10000;

/* ---- The friend ---- */

#define FRIEND_PATIENCE_MS 8000 /* how long one operation is tried */

static bool is_controller;
static uint64_t n_refusals;

static struct buf friend_request(uint64_t n)
{
    struct slice key = slice_text("friend");
    shard_id shard = shard_of_key(key, 16);
    struct proto_request request = {.op = PROTO_GET, .get = {shard, slice_text("friend")}};

    if (is_controller) {
        request = (struct proto_request){.op = PROTO_CONFIG, .config = {.num = UINT64_MAX}};
    } else if (n % 4 == 3) {
        request = (struct proto_request){.op = PROTO_PING};
    } else if (n % 2 == 0) {
        request = (struct proto_request){.op = PROTO_WRITE};
        request.write.shard = shard;
        set_u64(request.write.session.client, (uint64_t)getpid());
        request.write.session.seq = n + 1;
        request.write.session.acked_seq = n;
        request.write.session.issued_at = 1;
        request.write.n_operations = 1;
        request.write.operations[0] = (struct kv_operation){KV_PUT, key, slice_of(&n, sizeof(n))};
    }
    return hostile_encode(request);
}

static void friend_ask_metrics(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(metrics_port)};
    struct timeval patience = {5, 0};
    static const char get[] = "GET /livez HTTP/1.1\r\nHost: friend\r\n\r\n";
    char answer[4096];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        send(fd, get, sizeof(get) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(get) - 1 ||
        recv(fd, answer, sizeof(answer), 0) < 15 || memcmp(answer, "HTTP/1.1 200 OK", 15) != 0) {
        hostile_die("the friend gets no answer at the metrics port");
    }
    close(fd);
}

/* Only a controller has configurations to give. */
static void find_out_kind(int fd)
{
    struct buf request =
        hostile_encode((struct proto_request){.op = PROTO_CONFIG, .config = {.num = UINT64_MAX}});

    hostile_put_request(fd, &request);
    is_controller = hostile_await(fd, 1, "the friend is not served").ok == 1;
}

static void friend_operate(int fd, uint64_t n)
{
    uint64_t end = hostile_now_ms() + FRIEND_PATIENCE_MS;
    struct buf request;

    for (;;) { /* BUSY, or the deadline has passed: the library asks again, too */
        request = friend_request(n);
        set_u32(request.data + 12, FRIEND_PATIENCE_MS); /* its deadline */
        hostile_put_request(fd, &request);
        if (hostile_await(fd, 1, "the friend is not served").ok == 1) {
            break;
        }
        if (hostile_now_ms() > end) {
            hostile_die("the friend is refused again and again");
        }
        n_refusals++;
        hostile_pause_ms(5);
    }
    if (n % 8 == 5) {
        hostile_expect_service("the friend's new connection is not served");
    }
    if (n % 8 == 7 && metrics_port != 0) {
        friend_ask_metrics();
    }
}

/* Until the parent closes its end of the pipe. */
static void be_friend(int parent)
{
    struct pollfd wait = {.fd = parent, .events = POLLIN};
    uint64_t n = 0, worst = 0;
    int fd = hostile_dial_as_client();

    find_out_kind(fd);
    while (poll(&wait, 1, 10) == 0) {
        uint64_t begin = hostile_now_ms(), took;

        friend_operate(fd, n++);
        took = hostile_now_ms() - begin;
        worst = took > worst ? took : worst;
    }
    printf("friend %llu %llu %llu\n", (unsigned long long)n, (unsigned long long)n_refusals,
           (unsigned long long)worst);
    exit(0);
}

/* ---- The hostile ---- */

/* Dials from an address of its own; -1 if it was not let in. Never waits. */
static int dial_from(uint32_t i, uint16_t port)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -1;
    }
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + i % 64);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
        (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* What goes now goes. */
static bool push(int fd, struct slice bytes)
{
    ssize_t sent = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);

    return sent >= 0 || errno == EAGAIN;
}

/* Reads and forgets; false if it was closed. */
static bool drain(int fd)
{
    static char bytes[1 << 16];
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    return got > 0 || (got < 0 && errno == EAGAIN);
}

static struct buf hello_bytes(void)
{
    struct hello hello = hostile_client_hello();

    return hostile_hello_frame(&hello);
}

static void be_crowd(void)
{
    uint64_t end = hostile_now_ms() + seconds * 1000;
    int *fds = calloc(n_connections, sizeof(int));
    struct buf hello = hello_bytes();
    uint32_t in = 0;

    for (uint32_t i = 0; i < n_connections; i++) {
        fds[i] = dial_from(i, i % 16 == 15 && metrics_port != 0 ? metrics_port : hostile_port);
        in += fds[i] >= 0;
        if (i % 200 == 199) {
            hostile_pause_ms(5); /* let them be accepted: the kernel's queue is short */
        }
    }
    for (uint32_t i = 0; i < n_connections; i++) {
        size_t len = i % 3 == 0 ? 0 : i % 3 == 1 ? hello.len : hello.len / 2;

        if (fds[i] >= 0 && len > 0) {
            push(fds[i], slice_of(hello.data, len));
        }
    }
    if (in < n_connections * 9 / 10) {
        hostile_die("most of the crowd could not even dial");
    }
    while (hostile_now_ms() < end) {
        hostile_pause_ms(20);
    }
    for (uint32_t i = 0; i < n_connections; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    buf_fini(&hello);
    free(fds);
}

/* Each connection sends its text byte by byte, and dials again when it was closed. */
static void be_drip(void)
{
    enum { N = 400 };
    uint64_t end = hostile_now_ms() + seconds * 1000;
    static const char get[] =
        "GET /metrics HTTP/1.1\r\nX-A-Header-That-Has-No-End: aaaaaaaaaaaaaaaa";
    struct buf hello = hello_bytes();
    int fds[N];
    size_t at[N] = {0};
    bool http[N];

    for (uint32_t i = 0; i < N; i++) {
        http[i] = i % 4 == 0 && metrics_port != 0;
        fds[i] = -1;
    }
    while (hostile_now_ms() < end) {
        for (uint32_t i = 0; i < N; i++) {
            struct slice text = http[i] ? slice_text(get) : buf_slice(&hello);

            if (fds[i] < 0) {
                fds[i] = dial_from(i, http[i] ? metrics_port : hostile_port);
                at[i] = 0;
                continue;
            }
            if (!push(fds[i], slice_of(text.data + at[i] % text.len, 1)) || !drain(fds[i])) {
                close(fds[i]);
                fds[i] = -1;
            }
            at[i]++;
        }
        hostile_pause_ms(20);
    }
    for (uint32_t i = 0; i < N; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    buf_fini(&hello);
}

static struct buf flood_bytes(bool large)
{
    struct buf all = hello_bytes();

    for (uint32_t i = 0; i < 64; i++) {
        struct slice key = slice_text(large ? "big-1" : "key-1");
        struct proto_request request = {.op = PROTO_GET, .get = {shard_of_key(key, 16), key}};
        struct buf encoded, frame;

        if (!large && i % 4 == 0) {
            request = (struct proto_request){.op = i % 8 == 0 ? PROTO_STATUS : PROTO_PING};
        } else if (!large && i % 4 == 1) {
            request = (struct proto_request){.op = PROTO_CONFIG, .config = {.num = UINT64_MAX}};
        }
        encoded = hostile_encode(request);
        set_u32(encoded.data + 12, large ? 60000 : HOSTILE_DEADLINE_MS);
        frame = hostile_batch_of(0, FRAME_MESSAGE_REQUEST, buf_slice(&encoded));
        buf_put_slice(&all, buf_slice(&frame));
        buf_fini(&encoded);
        buf_fini(&frame);
    }
    return all;
}

/* Every connection sends the same bytes over and over, whole; the answers are read, or not. */
static void send_over_and_over(uint32_t n, bool reads)
{
    uint64_t end = hostile_now_ms() + seconds * 1000;
    struct buf bytes = flood_bytes(!reads), hello = hello_bytes();
    int *fds = malloc(n * sizeof(int));
    size_t *at = calloc(n, sizeof(size_t));

    for (uint32_t i = 0; i < n; i++) {
        fds[i] = -1;
    }
    while (hostile_now_ms() < end) {
        for (uint32_t i = 0; i < n; i++) {
            ssize_t sent;

            if (fds[i] < 0) {
                fds[i] = dial_from(i, hostile_port);
                at[i] = 0;
                continue;
            }
            sent = send(fds[i], bytes.data + at[i], bytes.len - at[i], MSG_NOSIGNAL | MSG_DONTWAIT);
            at[i] += sent > 0 ? (size_t)sent : 0;
            at[i] = at[i] == bytes.len ? hello.len : at[i];
            if ((sent < 0 && errno != EAGAIN && errno != EINPROGRESS && errno != ENOTCONN) ||
                (reads && sent >= 0 && !drain(fds[i]))) {
                close(fds[i]);
                fds[i] = -1;
            }
        }
        if (!reads) {
            hostile_pause_ms(5);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(fds);
    free(at);
    buf_fini(&bytes);
    buf_fini(&hello);
}

static void be_flood(void)
{
    send_over_and_over(16, true);
}

static void be_greedy(void)
{
    send_over_and_over(200, false);
}

static void want_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max < n_connections + 100) {
            n_connections = (uint32_t)limit.rlim_max - 100;
            fprintf(stderr, "only %u connections: no more descriptors\n", n_connections);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {{"crowd", be_crowd}, {"drip", be_drip}, {"flood", be_flood}, {"greedy", be_greedy}};
    int ends[2], code = 0;
    pid_t child;

    if (argc < 3) {
        fprintf(stderr, "usage: hostile_crowd PORT WHAT [METRICS_PORT [SECONDS [CONNECTIONS]]]\n");
        return 2;
    }
    hostile_port = (uint16_t)atoi(argv[1]);
    metrics_port = argc > 3 ? (uint16_t)atoi(argv[3]) : 0;
    seconds = argc > 4 ? strtoull(argv[4], NULL, 10) : seconds;
    n_connections = argc > 5 ? (uint32_t)atoi(argv[5]) : n_connections;
    rng_init(&hostile_rng, 20240229);
    want_descriptors();
    if (pipe2(ends, O_CLOEXEC) != 0 || (child = fork()) < 0) {
        hostile_die("no friend");
    }
    if (child == 0) {
        close(ends[1]);
        be_friend(ends[0]);
    }
    close(ends[0]);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(all[i].name, argv[2]) == 0) {
            all[i].run();
        }
    }
    close(ends[1]);
    if (waitpid(child, &code, 0) != child || code != 0) {
        hostile_die("the friend was not served");
    }
    return 0;
}
