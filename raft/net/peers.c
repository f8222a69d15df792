#include "raft/net/peers.h"

#include "raft/net/dial.h"
#include "raft/net/net_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define PEER_RETRY_MIN_MS 20
#define PEER_RETRY_MAX_MS 200
#define PEER_REFUSED_MS   1000 /* pause after a refusal */
/* Of the window, for each ms of the election timeout: a link of 100 Mbit/s carries it in a third.
 */
#define PEER_WINDOW_BYTES_PER_MS 4096
#define PEER_TLS_TIMEOUT_MS      1000 /* a handshake under load takes hundreds of milliseconds */

struct peer {
    struct net *net;
    raft_id id;
    const char *url; /* in the options */
    nng_tls_config *tls;
    struct dial *dial; /* at most one of dial, conn and the retry timer is there */
    struct conn *conn;
    struct timer retry;
    uint32_t pause_ms;
    char complaint[CONN_REASON_BYTES]; /* why it was refused, as traced since the link was up */
};

static uint32_t peer_timeout_ms(const struct peer *peer)
{
    uint32_t timeout_ms = peer->net->options.election_timeout_ms;

    return peer->tls != NULL && timeout_ms < PEER_TLS_TIMEOUT_MS ? PEER_TLS_TIMEOUT_MS : timeout_ms;
}

static void peer_deliver(struct peer *peer, enum io_event_type type)
{
    struct io_event event = {.type = type};

    event.peer.group = peer->net->options.group;
    event.peer.id = peer->id;
    net_deliver(peer->net, &event);
}

static void peer_retry_after(struct peer *peer, uint32_t pause_ms)
{
    struct loop *loop = &peer->net->loop;
    uint64_t pause = rng_between(&peer->net->rng, pause_ms / 2, pause_ms);

    ASSERT(peer->dial == NULL && peer->conn == NULL);
    timers_set(&loop->timers, &peer->retry, loop->now_ms + pause);
}

/* Pauses grow only while attempts fail at once; one that timed out was a pause itself. */
static void peer_retry(struct peer *peer, bool timed_out)
{
    if (timed_out) {
        peer->pause_ms = PEER_RETRY_MIN_MS;
    }
    peer_retry_after(peer, peer->pause_ms);
    peer->pause_ms *= 2;
    if (peer->pause_ms > PEER_RETRY_MAX_MS) {
        peer->pause_ms = PEER_RETRY_MAX_MS;
    }
}

/* A server, of our group, and the replica that the SPEC has under this URL. */
static enum status peer_on_hello(struct conn *conn, const struct hello *hello, const char **reason)
{
    struct peer *peer = conn->owner;

    if (hello->who != HELLO_SERVER || hello->gid != peer->net->options.group ||
        hello->id != peer->id) {
        *reason = "another replica than the SPEC says answers at this URL";
        return ST_WRONG_NODE;
    }
    return net_admit(peer->net, &peer->net->self, hello, reason);
}

static void peer_on_up(struct conn *conn)
{
    struct peer *peer = conn->owner;

    peer->pause_ms = PEER_RETRY_MIN_MS;
    peer->complaint[0] = '\0';
    peer->net->stats.peer_links_up++;
    trace_info(peer->net->loop.trace, "peer link up id=%u url=%s", (unsigned)peer->id, peer->url);
    peer_deliver(peer, IO_EVENT_PEER_UP);
}

/* The accepting side has nothing to say on this link but keep-alives. */
static void peer_on_message(struct conn *conn, uint32_t group, uint8_t type, struct slice message)
{
    (void)group;
    (void)type;
    (void)message;
    conn->net->stats.malformed++;
    conn_fail(conn, ST_MALFORMED, "a message against the direction of the link");
}

static void peer_on_closed(struct conn *conn, enum status status, const char *reason, bool refused)
{
    struct peer *peer = conn->owner;
    bool was_up = conn->was_up;

    peer->conn = NULL;
    if (was_up) {
        peer->net->stats.peer_links_up--;
        trace_info(peer->net->loop.trace, "peer link down id=%u reason=\"%s\"", (unsigned)peer->id,
                   reason);
    } else {
        trace_debug(peer->net->loop.trace, "peer attempt failed id=%u reason=\"%s\"",
                    (unsigned)peer->id, reason);
    }
    if (refused || (status != ST_UNAVAILABLE && status != ST_TIMEOUT)) {
        enum trace_level level = conn_is_news(peer->complaint, reason) ? TRACE_WARN : TRACE_DEBUG;

        TRACE(peer->net->loop.trace, level,
              "peer refused id=%u url=%s by=%s status=%s reason=\"%s\"", (unsigned)peer->id,
              peer->url, refused ? "peer" : "us", status_name(status), reason);
        peer_retry_after(peer, PEER_REFUSED_MS);
    } else {
        peer_retry(peer, status == ST_TIMEOUT);
    }
    if (was_up) {
        peer_deliver(peer, IO_EVENT_PEER_DOWN);
    }
}

static const struct conn_events peer_events = {
    .hello = peer_on_hello, .up = peer_on_up, .message = peer_on_message, .closed = peer_on_closed};

static void peer_on_dialled(void *owner, nng_stream *stream, const char *reason, bool timed_out)
{
    struct peer *peer = owner;
    struct net *net = peer->net;
    struct conn_settings settings = {.greeting_ms = peer_timeout_ms(peer),
                                     .ping_ms = net->options.heartbeat_ms,
                                     .silence_ms = net->options.election_timeout_ms,
                                     .window_bytes = PEER_WINDOW_BYTES_PER_MS *
                                                     net->options.election_timeout_ms,
                                     .pool = &net->accepted.pool};
    struct hello self = net->self;

    peer->dial = NULL;
    if (stream == NULL) {
        trace_debug(net->loop.trace, "peer dial failed id=%u reason=\"%s\"", (unsigned)peer->id,
                    reason);
        peer_retry(peer, timed_out);
        return;
    }
    self.who = HELLO_PEER;
    peer->conn = conn_create(net, stream, &settings, &self, &peer_events, peer);
}

static void peer_dial(void *owner)
{
    struct peer *peer = owner;

    peer->dial = dial_start(&peer->net->loop, peer->url, peer->tls, peer_timeout_ms(peer),
                            peer_on_dialled, peer);
}

void peers_init(struct net *net)
{
    const struct spec *spec = &net->options.peers;

    for (size_t i = 0; i < spec->n; i++) {
        struct peer *peer;

        if (spec->replicas[i].id == net->self.id) {
            continue;
        }
        peer = mem_zalloc(sizeof(*peer));
        peer->net = net;
        peer->id = spec->replicas[i].id;
        peer->url = spec->replicas[i].url;
        peer->tls = tls_client_config(net->tls, peer->url);
        peer->retry = (struct timer){.fired = peer_dial, .owner = peer};
        peer->pause_ms = PEER_RETRY_MIN_MS;
        net->peers.links[net->peers.n++] = peer;
    }
}

void peers_start(struct net *net)
{
    for (size_t i = 0; i < net->peers.n; i++) {
        peer_dial(net->peers.links[i]);
    }
}

void peers_fini(struct net *net)
{
    for (size_t i = 0; i < net->peers.n; i++) {
        struct peer *peer = net->peers.links[i];

        dial_cancel(&peer->dial);
        conn_destroy(&peer->conn);
        timers_cancel(&net->loop.timers, &peer->retry);
        tls_release_config(&peer->tls);
        mem_free(peer);
    }
    net->peers.n = 0;
}

static struct peer *peers_find(struct net *net, raft_id id)
{
    for (size_t i = 0; i < net->peers.n; i++) {
        if (net->peers.links[i]->id == id) {
            return net->peers.links[i];
        }
    }
    return NULL;
}

/* Votes and heartbeats, few and small, still pass when the rest must not. */
static uint64_t peer_queue_limit(const struct net *net, enum io_class class)
{
    uint64_t limit = net->options.limits.max_peer_queue_bytes;

    return class == IO_URGENT ? 2 * limit : limit;
}

void peers_send(struct net *net, group_id group, raft_id to, enum io_class class,
                struct buf *message)
{
    struct peer *peer = group == net->options.group ? peers_find(net, to) : NULL;

    ASSERT(message->len <= FRAME_MAX_MESSAGE);
    if (peer == NULL || peer->conn == NULL || peer->conn->state != CONN_UP) {
        net->stats.drops[NET_DROP_PEER_DOWN]++;
        buf_fini(message);
        return;
    }
    if (peer->conn->send_queue.bytes + message->len > peer_queue_limit(net, class) &&
        peer->conn->send_queue.bytes > 0) {
        net->stats.drops[NET_DROP_PEER_FULL]++;
        buf_fini(message);
        return;
    }
    conn_send(peer->conn, class, group, FRAME_MESSAGE_RAFT, message);
}

size_t peers_statistics(const struct peers *peers, struct net_peer_stats *stats, size_t max)
{
    size_t n = peers->n < max ? peers->n : max;

    for (size_t i = 0; i < n; i++) {
        const struct peer *peer = peers->links[i];

        stats[i] = (struct net_peer_stats){
            .id = peer->id,
            .up = peer->conn != NULL && peer->conn->state == CONN_UP,
            .queue_bytes = peer->conn != NULL ? peer->conn->send_queue.bytes : 0};
    }
    return n;
}
