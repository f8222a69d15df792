/* A small stage for tests of raft/net: nodes, each a net with its own loop thread, that record
 * every event; and raw TCP connections to be rude on. Every wait is bounded and on a condition.
 */
#ifndef TESTS_UNIT_NET_HARNESS_H
#define TESTS_UNIT_NET_HARNESS_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "raft/net.h"
#include "raft/util/mem.h"
#include "raft/util/trace.h"
#include "tests/cmocka.h"

#define WITHIN_MS   10000 /* for what must happen: generous, because machines are slow at times */
#define KEEP_BYTES  64    /* of each message; the rest is only counted */
#define HARNESS_GID 5
#define SUM_BYTES   (1u << 20) /* larger messages are not summed: it would hold up the loop */

#define UNUSED_OK __attribute__((unused))

/* nng frees a dialer when the last of its connections goes, by a count of its own that the thread
 * sanitizer can't see: the destruction of the dialer's mutex looks unordered. Nothing else is
 * hidden. */
#if defined(__SANITIZE_THREAD__)
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:pthread_mutex_destroy\n";
}
#endif

struct record {
    enum io_event_type type;
    uint32_t id;   /* of the peer, or the endpoint */
    uint64_t conn; /* of the client */
    bool is_stranger;
    uint64_t at_ms;
    size_t len;
    uint64_t sum; /* of all bytes of the message, by position */
    uint8_t head[KEEP_BYTES];
};

struct node {
    struct net *net;
    struct net_options options;
    struct trace trace;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct record *records;
    size_t n_records, capacity;
    uint64_t ticks, turns;
    uint64_t now_ms, awake_ms; /* of the last event */
    char trace_text[65536];    /* the lines so far */
    size_t trace_len;
    bool echo;            /* answer each client message with itself */
    size_t answer_bytes;  /* or with so many bytes */
    uint64_t deadline_ms; /* for the sink; UINT64_MAX: none */
};

static UNUSED_OK uint64_t sum_bytes(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    uint64_t sum = len;

    for (size_t i = 0; i < len; i++) {
        sum = sum * 31 + bytes[i];
    }
    return sum;
}

static void node_on_trace(void *context, enum trace_level level, const char *line)
{
    struct node *node = context;
    size_t len = strlen(line);

    if (getenv("NET_TEST_TRACE") != NULL) {
        fprintf(stderr, "%llu %p %d %s\n", (unsigned long long)net_now_ms(), context, (int)level,
                line);
    }
    pthread_mutex_lock(&node->mutex);
    if (node->trace_len + len + 2 < sizeof(node->trace_text)) {
        memcpy(node->trace_text + node->trace_len, line, len);
        node->trace_len += len;
        node->trace_text[node->trace_len++] = '\n';
        node->trace_text[node->trace_len] = '\0';
    }
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->mutex);
}

static void node_record(struct node *node, const struct io_event *event)
{
    struct record record = {.type = event->type, .at_ms = event->now_ms};
    struct slice message = {0};

    switch (event->type) {
    case IO_EVENT_PEER_MESSAGE:
        message = event->peer.message; /* fall through */
    case IO_EVENT_PEER_UP:
    case IO_EVENT_PEER_DOWN:
    case IO_EVENT_PEER_GONE:
        record.id = event->peer.id;
        break;
    case IO_EVENT_CLIENT_MESSAGE:
        message = event->client.message; /* fall through */
    case IO_EVENT_CLIENT_CLOSED:
        record.conn = event->client.conn;
        record.is_stranger = event->type == IO_EVENT_CLIENT_MESSAGE && event->client.is_stranger;
        break;
    case IO_EVENT_ENDPOINT_MESSAGE:
        message = event->endpoint.message; /* fall through */
    case IO_EVENT_ENDPOINT_DOWN:
        record.id = event->endpoint.endpoint;
        break;
    default:
        break;
    }
    record.len = message.len;
    record.sum = message.len <= SUM_BYTES ? sum_bytes(message.data, message.len) : 0;
    memcpy(record.head, message.len > 0 ? message.data : (const uint8_t *)"",
           message.len < KEEP_BYTES ? message.len : KEEP_BYTES);
    MEM_GROW(node->records, node->capacity, node->n_records + 1);
    node->records[node->n_records++] = record;
}

static void node_on_event(void *context, const struct io_event *event)
{
    struct node *node = context;

    pthread_mutex_lock(&node->mutex);
    node->now_ms = event->now_ms;
    node->awake_ms = event->awake_ms;
    if (event->type == IO_EVENT_TURN_END) {
        node->turns++;
    } else if (event->type == IO_EVENT_TICK) {
        node->ticks++;
        node->deadline_ms = UINT64_MAX;
    } else {
        node_record(node, event);
    }
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->mutex);
    if (event->type == IO_EVENT_CLIENT_MESSAGE && (node->echo || node->answer_bytes > 0)) {
        struct io_net *io = net_io(node->net);
        struct buf answer = {0};

        if (node->answer_bytes > 0) {
            memset(buf_extend(&answer, node->answer_bytes), 'a', node->answer_bytes);
        } else {
            buf_put_slice(&answer, event->client.message);
        }
        io->ops->reply(io, event->client.conn, &answer);
    }
}

static uint64_t node_next_deadline(void *context)
{
    struct node *node = context;
    uint64_t deadline_ms;

    pthread_mutex_lock(&node->mutex);
    deadline_ms = node->deadline_ms;
    pthread_mutex_unlock(&node->mutex);
    return deadline_ms;
}

static void *node_main(void *arg)
{
    struct node *node = arg;

    net_run(node->net);
    return NULL;
}

/* ---- Addresses ---- */

/* A socket bound to a free port below those that the kernel gives to outgoing connections. */
static int bind_free_port(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};

    for (int tries = 0; tries < 1000; tries++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        *port = 12000 + (int)((now.tv_nsec / 7 + getpid() * 31 + tries * 977) % 20000);
        address.sin_port = htons((uint16_t)*port);
        if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
            return fd;
        }
        close(fd);
    }
    fail_msg("no free port");
    return -1;
}

/* A port that was free a moment ago. */
static UNUSED_OK int free_port(void)
{
    int port, fd = bind_free_port(&port);

    close(fd);
    return port;
}

/* A SPEC of n replicas, ids 1..n, on free ports of 127.0.0.1. */
static UNUSED_OK void spec_on_free_ports(struct spec *spec, size_t n)
{
    char text[1024] = "";
    int fds[SPEC_MAX_REPLICAS];

    for (size_t i = 0; i < n; i++) {
        int port;

        fds[i] = bind_free_port(&port);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%zu=tcp://127.0.0.1:%d",
                 i > 0 ? "," : "", i + 1, port);
    }
    for (size_t i = 0; i < n; i++) {
        close(fds[i]);
    }
    assert_null(spec_parse(text, spec));
}

/* ---- Nodes ---- */

static UNUSED_OK void node_init(struct node *node)
{
    memset(node, 0, sizeof(*node));
    pthread_mutex_init(&node->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&node->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    net_options_default(&node->options);
    node->options.election_timeout_ms = 1000; /* patience for slow builds on busy machines */
    node->deadline_ms = UINT64_MAX;
    node->trace = (struct trace){.level = TRACE_DEBUG, .context = node, .emit = node_on_trace};
    node->options.trace = &node->trace;
    node->options.sink = (struct net_sink){
        .context = node, .event = node_on_event, .next_deadline_ms = node_next_deadline};
    node->options.self.cluster_id[0] = 7;
}

/* Makes the node the replica `id` of the SPEC (group HARNESS_GID). Change node->options afterwards
 * to taste.
 */
static UNUSED_OK void node_be_replica(struct node *node, const struct spec *spec, uint32_t id)
{
    node->options.self.who = HELLO_PEER;
    node->options.self.gid = HARNESS_GID;
    node->options.self.id = id;
    node->options.self.incarnation = 100 + id;
    node->options.self.spec_fingerprint = spec_fingerprint(spec);
    node->options.group = HARNESS_GID;
    node->options.peers = *spec;
    node->options.listen_url = spec_find(spec, id)->url;
}

static UNUSED_OK void node_start(struct node *node)
{
    char error[256];

    if (net_create(&node->options, &node->net, error) != ST_OK) {
        fail_msg("net_create: %s", error);
    }
    assert_int_equal(pthread_create(&node->thread, NULL, node_main, node), 0);
}

static UNUSED_OK void node_stop(struct node *node)
{
    net_stop(node->net);
    pthread_join(node->thread, NULL);
    net_destroy(&node->net);
    assert_null(node->net);
}

static UNUSED_OK void node_fini(struct node *node)
{
    if (node->net != NULL) {
        node_stop(node);
    }
    mem_free(node->records);
    pthread_cond_destroy(&node->changed);
    pthread_mutex_destroy(&node->mutex);
}

/* ---- Doing things on the loop thread ----------------------------------------------------------
 */

struct node_call {
    struct node *node;
    void (*run)(struct node *node, void *arg);
    void *arg;
    bool done;
};

static void node_on_call(void *arg)
{
    struct node_call *call = arg;

    call->run(call->node, call->arg);
    pthread_mutex_lock(&call->node->mutex);
    call->done = true;
    pthread_cond_broadcast(&call->node->changed);
    pthread_mutex_unlock(&call->node->mutex);
}

/* Runs on the loop thread, and waits until it did. */
static UNUSED_OK void node_call(struct node *node, void (*run)(struct node *node, void *arg),
                                void *arg)
{
    struct node_call call = {.node = node, .run = run, .arg = arg};

    net_post(node->net, node_on_call, &call);
    pthread_mutex_lock(&node->mutex);
    while (!call.done) {
        pthread_cond_wait(&node->changed, &node->mutex);
    }
    pthread_mutex_unlock(&node->mutex);
}

/* For node_call: only waits for the loop. */
static UNUSED_OK void nothing(struct node *node, void *arg)
{
    (void)node;
    (void)arg;
}

struct node_message {
    uint32_t to;
    group_id gid;
    enum io_class class;
    uint64_t conn;
    size_t len;
    const void *data; /* NULL: len bytes that depend on their position */
    struct buf buf;   /* made of them */
};

/* By the caller's thread: a loop that is busy for long would not be heard of by others. */
static UNUSED_OK void message_fill(struct buf *buf, const struct node_message *message)
{
    uint8_t *bytes = buf_extend(buf, message->len);

    if (message->len > SUM_BYTES) {
        memset(bytes, 'x', message->len); /* quick */
        return;
    }
    for (size_t i = 0; i < message->len; i++) {
        bytes[i] = message->data != NULL ? ((const uint8_t *)message->data)[i]
                                         : (uint8_t)(i * 7 + i / 253);
    }
}

static void node_on_peer_send(struct node *node, void *arg)
{
    struct node_message *message = arg;
    struct io_net *io = net_io(node->net);

    io->ops->peer_send(io, node->options.group, message->to, message->class, &message->buf);
}

static UNUSED_OK void node_peer_send(struct node *node, uint32_t to, enum io_class class,
                                     const void *data, size_t len)
{
    struct node_message message = {.to = to, .class = class, .data = data, .len = len};

    message_fill(&message.buf, &message);
    node_call(node, node_on_peer_send, &message);
    assert_null(message.buf.data);
}

static void node_on_endpoint(struct node *node, void *arg)
{
    struct node_message *message = arg;

    message->to = net_io(node->net)->ops->endpoint(net_io(node->net), message->gid, message->data);
}

/* Where a replica of that group is meant to answer. */
static uint32_t node_endpoint_of(struct node *node, group_id gid, const char *url)
{
    struct node_message message = {.gid = gid, .data = url};

    node_call(node, node_on_endpoint, &message);
    return message.to;
}

static UNUSED_OK uint32_t node_endpoint(struct node *node, const char *url)
{
    return node_endpoint_of(node, HARNESS_GID, url);
}

static void node_on_endpoint_send(struct node *node, void *arg)
{
    struct node_message *message = arg;
    struct io_net *io = net_io(node->net);

    io->ops->endpoint_send(io, message->to, &message->buf);
}

static UNUSED_OK void node_endpoint_send(struct node *node, uint32_t endpoint, const void *data,
                                         size_t len)
{
    struct node_message message = {.to = endpoint, .data = data, .len = len};

    message_fill(&message.buf, &message);
    node_call(node, node_on_endpoint_send, &message);
    assert_null(message.buf.data);
}

static void node_on_reply(struct node *node, void *arg)
{
    struct node_message *message = arg;
    struct io_net *io = net_io(node->net);

    io->ops->reply(io, message->conn, &message->buf);
}

static UNUSED_OK void node_reply(struct node *node, uint64_t conn, const void *data, size_t len)
{
    struct node_message message = {.conn = conn, .data = data, .len = len};

    message_fill(&message.buf, &message);
    node_call(node, node_on_reply, &message);
    assert_null(message.buf.data);
}

static void node_on_stats(struct node *node, void *arg)
{
    net_statistics(node->net, arg);
}

static UNUSED_OK struct net_stats node_stats(struct node *node)
{
    struct net_stats stats;

    node_call(node, node_on_stats, &stats);
    return stats;
}

/* ---- Waiting ---- */

static size_t node_count_locked(const struct node *node, enum io_event_type type, uint32_t id)
{
    size_t count = 0;

    for (size_t i = 0; i < node->n_records; i++) {
        count += node->records[i].type == type && (id == 0 || node->records[i].id == id);
    }
    return count;
}

/* How many events of the type there were, about that id (0: any). */
static UNUSED_OK size_t node_count(struct node *node, enum io_event_type type, uint32_t id)
{
    size_t count;

    pthread_mutex_lock(&node->mutex);
    count = node_count_locked(node, type, id);
    pthread_mutex_unlock(&node->mutex);
    return count;
}

/* Sleeps until something changed on the node; false when the deadline passed. */
static bool node_wait_change(struct node *node, uint64_t deadline_ms)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ms / 1000),
                                .tv_nsec = (long)(deadline_ms % 1000) * 1000000};

    return pthread_cond_timedwait(&node->changed, &node->mutex, &deadline) != ETIMEDOUT;
}

/* Waits until there were so many; false after `within_ms`. */
static UNUSED_OK bool node_wait(struct node *node, enum io_event_type type, uint32_t id,
                                size_t count, uint64_t within_ms)
{
    uint64_t deadline_ms = net_now_ms() + within_ms;
    bool reached;

    pthread_mutex_lock(&node->mutex);
    while (!(reached = node_count_locked(node, type, id) >= count) &&
           node_wait_change(node, deadline_ms)) {
    }
    pthread_mutex_unlock(&node->mutex);
    return reached;
}

/* Waits until the traces say it. */
static UNUSED_OK bool node_wait_trace(struct node *node, const char *text, uint64_t within_ms)
{
    uint64_t deadline_ms = net_now_ms() + within_ms;
    bool reached;

    pthread_mutex_lock(&node->mutex);
    while (!(reached = strstr(node->trace_text, text) != NULL) &&
           node_wait_change(node, deadline_ms)) {
    }
    pthread_mutex_unlock(&node->mutex);
    return reached;
}

/* The nth (from 0) event of the type, about that id (0: any). */
static UNUSED_OK struct record node_get(struct node *node, enum io_event_type type, uint32_t id,
                                        size_t nth)
{
    struct record found = {0};

    pthread_mutex_lock(&node->mutex);
    for (size_t i = 0; i < node->n_records; i++) {
        if (node->records[i].type == type && (id == 0 || node->records[i].id == id) && nth-- == 0) {
            found = node->records[i];
            break;
        }
    }
    pthread_mutex_unlock(&node->mutex);
    assert_int_equal(found.type, type);
    return found;
}

static UNUSED_OK void node_forget(struct node *node)
{
    pthread_mutex_lock(&node->mutex);
    node->n_records = 0;
    node->trace_len = 0;
    node->trace_text[0] = '\0';
    pthread_mutex_unlock(&node->mutex);
}

/* A pause, only where the test is about time itself. */
static UNUSED_OK void pause_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

#endif
