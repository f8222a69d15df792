#include "raft/net/endpoints.h"

#include <uthash.h>

#include "raft/net/dial.h"
#include "raft/net/net_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define ENDPOINT_PING_MS         250   /* while answers are outstanding */
#define ENDPOINT_IDLE_PING_MS    15000 /* else; the server closes silent connections after 60 s */
#define ENDPOINT_IDLE_SILENCE_MS 45000
#define ENDPOINT_WINDOW_BYTES    (8u << 20)
#define ENDPOINT_RETRY_MIN_MS    10 /* pause between attempts that fail, doubling */
#define ENDPOINT_RETRY_MAX_MS    200
#define ENDPOINT_REFUSED_MS      1000

struct endpoint {
    struct net *net;
    io_endpoint number;
    group_id gid; /* of whom is meant, if we are a server */
    char *url;
    struct endpoint *same_url; /* of another group */
    nng_tls_config *tls;
    struct dial *dial;
    struct conn *conn;
    struct send_queue waiting;         /* while there is no connection that is up */
    struct timer retry;                /* not set: may dial at once */
    struct timer down;                 /* set: DOWN is to be told by the next turn */
    uint32_t pause_ms;                 /* after the next failure */
    uint32_t outstanding;              /* requests sent and not answered */
    bool refused;                      /* until the retry timer fires: requests fail at once */
    char complaint[CONN_REASON_BYTES]; /* why it was refused, as traced since it was up */
    UT_hash_handle hh;
};

/* Nothing sent so far will be answered. */
static void endpoint_deliver_down(void *owner)
{
    struct endpoint *endpoint = owner;
    struct io_event event = {.type = IO_EVENT_ENDPOINT_DOWN};

    ASSERT(endpoint->conn == NULL);
    timers_cancel(&endpoint->net->loop.timers, &endpoint->down);
    send_queue_fini(&endpoint->waiting);
    send_queue_init(&endpoint->waiting);
    endpoint->outstanding = 0;
    event.endpoint.endpoint = endpoint->number;
    net_deliver(endpoint->net, &event);
}

static void endpoint_pause(struct endpoint *endpoint, bool refused)
{
    struct loop *loop = &endpoint->net->loop;
    uint32_t pause_ms = refused ? ENDPOINT_REFUSED_MS : endpoint->pause_ms;

    endpoint->refused = refused;
    timers_set(&loop->timers, &endpoint->retry,
               loop->now_ms + rng_between(&endpoint->net->rng, pause_ms / 2, pause_ms));
    endpoint->pause_ms *= 2;
    if (endpoint->pause_ms > ENDPOINT_RETRY_MAX_MS) {
        endpoint->pause_ms = ENDPOINT_RETRY_MAX_MS;
    }
}

/* ---- The connection ---- */

static enum status endpoint_meant(struct conn *conn, const struct hello *hello, const char **reason)
{
    const struct endpoint *endpoint = conn->owner;

    if (hello->who != HELLO_SERVER) {
        *reason = "no server answers at this URL";
        return ST_WRONG_NODE;
    }
    /* Else somebody's own URL, joined as a group of its own, would be where we prove ourselves to
     * whomever it passes our hello on to. */
    if (endpoint->net->self.who == HELLO_PEER && hello->gid != endpoint->gid) {
        *reason = "a server of another group answers at this URL";
        return ST_WRONG_NODE;
    }
    return ST_OK;
}

static enum status endpoint_on_hello(struct conn *conn, const struct hello *hello,
                                     const char **reason)
{
    struct endpoint *endpoint = conn->owner;
    struct hello self = endpoint->net->self;

    self.who = HELLO_CLIENT;
    return net_admit(endpoint->net, &self, hello, reason);
}

static void endpoint_on_up(struct conn *conn)
{
    struct endpoint *endpoint = conn->owner;

    endpoint->pause_ms = ENDPOINT_RETRY_MIN_MS;
    endpoint->complaint[0] = '\0';
    trace_debug(endpoint->net->loop.trace, "endpoint up url=%s", endpoint->url);
    if (endpoint->outstanding == 0) {
        conn_set_keep_alive(conn, ENDPOINT_IDLE_PING_MS, ENDPOINT_IDLE_SILENCE_MS);
    }
    conn_send_all(conn, &endpoint->waiting);
}

static void endpoint_on_message(struct conn *conn, uint32_t group, uint8_t type,
                                struct slice message)
{
    struct endpoint *endpoint = conn->owner;
    struct io_event event = {.type = IO_EVENT_ENDPOINT_MESSAGE};

    (void)group;
    if (type != FRAME_MESSAGE_RESPONSE) {
        conn->net->stats.malformed++;
        conn_fail(conn, ST_MALFORMED, "not a response");
        return;
    }
    if (endpoint->outstanding > 0 && --endpoint->outstanding == 0) {
        conn_set_keep_alive(conn, ENDPOINT_IDLE_PING_MS, ENDPOINT_IDLE_SILENCE_MS);
    }
    event.endpoint.endpoint = endpoint->number;
    event.endpoint.message = message;
    net_deliver(endpoint->net, &event);
}

static void endpoint_tell_refused(struct endpoint *endpoint, const char *by, enum status status,
                                  const char *reason)
{
    const struct net_sink *sink = &endpoint->net->options.sink;
    enum trace_level level = conn_is_news(endpoint->complaint, reason) ? TRACE_WARN : TRACE_DEBUG;

    TRACE(endpoint->net->loop.trace, level, "endpoint refused url=%s by=%s status=%s reason=\"%s\"",
          endpoint->url, by, status_name(status), reason);
    if (sink->refused != NULL) {
        sink->refused(sink->context, endpoint->url, reason);
    }
}

static void endpoint_on_closed(struct conn *conn, enum status status, const char *reason,
                               bool refused)
{
    struct endpoint *endpoint = conn->owner;
    bool by_us = status != ST_UNAVAILABLE && status != ST_TIMEOUT;

    endpoint->conn = NULL;
    if (refused || by_us) {
        endpoint_tell_refused(endpoint, refused ? "server" : "us", status, reason);
    } else {
        trace_debug(endpoint->net->loop.trace, "endpoint down url=%s reason=\"%s\"", endpoint->url,
                    reason);
    }
    endpoint_pause(endpoint, refused || by_us);
    endpoint_deliver_down(endpoint);
}

static const struct conn_events endpoint_events = {.meant = endpoint_meant,
                                                   .hello = endpoint_on_hello,
                                                   .up = endpoint_on_up,
                                                   .message = endpoint_on_message,
                                                   .closed = endpoint_on_closed};

static void endpoint_on_dialled(void *owner, nng_stream *stream, enum status status,
                                const char *reason)
{
    struct endpoint *endpoint = owner;
    struct net *net = endpoint->net;
    struct conn_settings settings = {.greeting_ms = ENDPOINT_SILENCE_MS,
                                     .ping_ms = ENDPOINT_PING_MS,
                                     .silence_ms = ENDPOINT_SILENCE_MS,
                                     .max_reassembly_bytes =
                                         net->options.limits.max_reassembly_bytes,
                                     .window_bytes = ENDPOINT_WINDOW_BYTES,
                                     .pool = &net->endpoints.pool};
    struct hello self = net->self;

    endpoint->dial = NULL;
    if (stream == NULL) {
        if (status == ST_DENIED) {
            endpoint_tell_refused(endpoint, "us", status, reason);
        } else {
            trace_debug(net->loop.trace, "endpoint dial failed url=%s reason=\"%s\"", endpoint->url,
                        reason);
        }
        endpoint_pause(endpoint, status == ST_DENIED);
        endpoint_deliver_down(endpoint);
        return;
    }
    self.who = HELLO_CLIENT;
    self.id = 0;
    self.called = spec_url_fingerprint(endpoint->url);
    endpoint->conn = conn_create(net, stream, &settings, &self, &endpoint_events, endpoint);
}

static void endpoint_dial(struct endpoint *endpoint)
{
    endpoint->dial = dial_start(&endpoint->net->loop, endpoint->net->tls, endpoint->url,
                                endpoint->tls, ENDPOINT_SILENCE_MS, endpoint_on_dialled, endpoint);
}

static void endpoint_on_retry(void *owner)
{
    struct endpoint *endpoint = owner;

    endpoint->refused = false;
    if (!send_queue_is_empty(&endpoint->waiting)) {
        endpoint_dial(endpoint);
    }
}

/* ---- All of them ---- */

void endpoints_init(struct net *net)
{
    net->endpoints.pool.limit = net->options.limits.max_total_reassembly_bytes;
}

io_endpoint endpoints_intern(struct net *net, group_id gid, const char *url)
{
    struct endpoints *endpoints = &net->endpoints;
    struct endpoint *endpoint, *first;

    HASH_FIND_STR(endpoints->by_url, url, first);
    for (endpoint = first; endpoint != NULL; endpoint = endpoint->same_url) {
        if (endpoint->gid == gid) {
            return endpoint->number;
        }
    }
    MEM_GROW(endpoints->all, endpoints->capacity, endpoints->n + 1);
    endpoint = mem_zalloc(sizeof(*endpoint));
    endpoints->all[endpoints->n++] = endpoint;
    endpoint->net = net;
    endpoint->number = (io_endpoint)endpoints->n;
    endpoint->gid = gid;
    endpoint->url = mem_copy_string(url);
    endpoint->tls = tls_client_config(net->tls, url);
    endpoint->retry = (struct timer){.fired = endpoint_on_retry, .owner = endpoint};
    endpoint->down = (struct timer){.fired = endpoint_deliver_down, .owner = endpoint};
    endpoint->pause_ms = ENDPOINT_RETRY_MIN_MS;
    send_queue_init(&endpoint->waiting);
    if (first != NULL) {
        endpoint->same_url = first->same_url;
        first->same_url = endpoint;
    } else {
        HASH_ADD_KEYPTR(hh, endpoints->by_url, endpoint->url, strlen(endpoint->url), endpoint);
    }
    return endpoint->number;
}

void endpoints_send(struct net *net, io_endpoint number, struct buf *message)
{
    struct endpoint *endpoint;
    enum io_class class = message->len > FRAME_FRAGMENT_BYTES ? IO_BULK : IO_NORMAL;
    struct send_queue *queue;
    bool up;

    ASSERT(number >= 1 && number <= net->endpoints.n && message->len <= FRAME_MAX_MESSAGE);
    endpoint = net->endpoints.all[number - 1];
    up = endpoint->conn != NULL && endpoint->conn->state == CONN_UP;
    queue = up ? &endpoint->conn->send_queue : &endpoint->waiting;
    if (endpoint->refused) { /* told by the next turn: operations never call back */
        buf_fini(message);
        timers_set(&net->loop.timers, &endpoint->down, net->loop.now_ms);
        return;
    }
    if (queue->bytes + message->len > net->options.limits.max_endpoint_queue_bytes &&
        queue->bytes > 0) {
        net->stats.drops[NET_DROP_SERVER_FULL]++;
        buf_fini(message);
        return;
    }
    if (endpoint->outstanding++ == 0 && up) {
        conn_set_keep_alive(endpoint->conn, ENDPOINT_PING_MS, ENDPOINT_SILENCE_MS);
    }
    if (up) {
        conn_send(endpoint->conn, class, 0, FRAME_MESSAGE_REQUEST, message);
        return;
    }
    send_queue_put(&endpoint->waiting, class, 0, FRAME_MESSAGE_REQUEST, message);
    if (endpoint->dial == NULL && endpoint->conn == NULL && endpoint->retry.place == 0) {
        endpoint_dial(endpoint);
    }
}

void endpoints_fini(struct net *net)
{
    struct endpoints *endpoints = &net->endpoints;

    HASH_CLEAR(hh, endpoints->by_url);
    for (size_t i = 0; i < endpoints->n; i++) {
        struct endpoint *endpoint = endpoints->all[i];

        dial_cancel(&endpoint->dial);
        conn_destroy(&endpoint->conn);
        timers_cancel(&net->loop.timers, &endpoint->retry);
        timers_cancel(&net->loop.timers, &endpoint->down);
        send_queue_fini(&endpoint->waiting);
        tls_release_config(&endpoint->tls);
        mem_free(endpoint->url);
        mem_free(endpoint);
    }
    mem_free(endpoints->all);
    *endpoints = (struct endpoints){0};
}

void endpoints_check_cluster(struct net *net)
{
    for (size_t i = 0; i < net->endpoints.n; i++) {
        net_check_cluster(net->endpoints.all[i]->conn);
    }
}
