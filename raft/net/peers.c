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
    char *url;
    uint64_t incarnation; /* that it showed last; 0: none yet */
    nng_tls_config *tls;
    struct dial *dial; /* at most one of dial, conn and the retry timer is there */
    struct conn *conn;
    struct timer retry;
    uint32_t pause_ms;
    char complaint[CONN_REASON_BYTES]; /* why it was refused, as traced since the link was up */
    bool told_gone;                    /* PEER_GONE, since the link was up */
    bool gone; /* no peer any more: only its connection is still to be closed */
};

static void peer_free(struct peer *peer);

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
    event.peer.incarnation = peer->incarnation;
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

/* A server, of our group, and the replica that we know under this URL. */
static enum status peer_meant(struct conn *conn, const struct hello *hello, const char **reason)
{
    struct peer *peer = conn->owner;

    if (hello->who != HELLO_SERVER || hello->gid != peer->net->options.group ||
        hello->id != peer->id) {
        *reason = "another replica than the one of that id answers at this URL";
        return ST_WRONG_NODE;
    }
    return ST_OK;
}

static enum status peer_on_hello(struct conn *conn, const struct hello *hello, const char **reason)
{
    struct peer *peer = conn->owner;

    peer->incarnation = hello->incarnation;
    return net_admit(peer->net, &peer->net->self, hello, reason);
}

static void peer_on_up(struct conn *conn)
{
    struct peer *peer = conn->owner;

    peer->pause_ms = PEER_RETRY_MIN_MS;
    peer->complaint[0] = '\0';
    peer->told_gone = false;
    peer->net->stats.peer_links_up++;
    trace_info(peer->net->loop.trace, "peer link up id=%u url=%s", (unsigned)peer->id, peer->url);
    peer_deliver(peer, IO_EVENT_PEER_UP);
}

/* The accepting side has nothing to say on this link but keep-alives, unless it joins and knows no
 * other way to us. */
static void peer_on_message(struct conn *conn, uint32_t group, uint8_t type, struct slice message)
{
    struct peer *peer = conn->owner;
    struct io_event event = {
        .type = IO_EVENT_PEER_MESSAGE,
        .peer = {
            .group = group, .id = peer->id, .incarnation = peer->incarnation, .message = message}};

    if (type != FRAME_MESSAGE_RAFT || group != conn->net->options.group) {
        conn->net->stats.malformed++;
        conn_fail(conn, ST_MALFORMED, "a message that a link of peers does not carry");
        return;
    }
    net_deliver(conn->net, &event);
}

static void peer_on_refused(struct peer *peer, const char *by, enum status status,
                            const char *reason)
{
    enum trace_level level = conn_is_news(peer->complaint, reason) ? TRACE_WARN : TRACE_DEBUG;

    TRACE(peer->net->loop.trace, level, "peer refused id=%u url=%s by=%s status=%s reason=\"%s\"",
          (unsigned)peer->id, peer->url, by, status_name(status), reason);
    peer_retry_after(peer, PEER_REFUSED_MS);
}

static void peer_on_closed(struct conn *conn, enum status status, const char *reason, bool refused)
{
    struct peer *peer = conn->owner;
    bool was_up = conn->was_up;

    peer->conn = NULL;
    if (peer->gone) {
        peer->net->stats.peer_links_up -= was_up;
        peer_free(peer);
        return;
    }
    if (was_up) {
        peer->net->stats.peer_links_up--;
        trace_info(peer->net->loop.trace, "peer link down id=%u reason=\"%s\"", (unsigned)peer->id,
                   reason);
    } else {
        trace_debug(peer->net->loop.trace, "peer attempt failed id=%u reason=\"%s\"",
                    (unsigned)peer->id, reason);
    }
    if (refused || (status != ST_UNAVAILABLE && status != ST_TIMEOUT)) {
        peer_on_refused(peer, refused ? "peer" : "us", status, reason);
    } else {
        peer_retry(peer, status == ST_TIMEOUT);
    }
    if (was_up) {
        peer_deliver(peer, IO_EVENT_PEER_DOWN);
    }
}

static const struct conn_events peer_events = {.meant = peer_meant,
                                               .hello = peer_on_hello,
                                               .up = peer_on_up,
                                               .message = peer_on_message,
                                               .closed = peer_on_closed};

/* Nothing listens where the peer did. Only if it has no link to us either: it may be reached by
 * another way than we know. */
static void peer_on_nobody_there(struct peer *peer)
{
    if (!peer->told_gone && accepted_peer_conn(peer->net, peer->id) == NULL) {
        peer->told_gone = true;
        peer_deliver(peer, IO_EVENT_PEER_GONE);
    }
}

static void peer_on_dialled(void *owner, nng_stream *stream, enum status status, const char *reason)
{
    struct peer *peer = owner;
    struct net *net = peer->net;
    struct conn_settings settings = {.greeting_ms = peer_timeout_ms(peer),
                                     .ping_ms = net->options.heartbeat_ms,
                                     .silence_ms = net->options.election_timeout_ms,
                                     .window_bytes = PEER_WINDOW_BYTES_PER_MS *
                                                     net->options.election_timeout_ms,
                                     .pool = &net->accepted.peers_pool};
    struct hello self = net->self;

    peer->dial = NULL;
    if (status == ST_DENIED) {
        peer_on_refused(peer, "us", status, reason);
        return;
    }
    if (stream == NULL) {
        trace_debug(net->loop.trace, "peer dial failed id=%u reason=\"%s\"", (unsigned)peer->id,
                    reason);
        peer_retry(peer, status == ST_TIMEOUT);
        if (status == ST_NOT_FOUND) {
            peer_on_nobody_there(peer);
        }
        return;
    }
    self.who = HELLO_PEER;
    peer->conn = conn_create(net, stream, &settings, &self, &peer_events, peer);
}

static void peer_dial(void *owner)
{
    struct peer *peer = owner;
    peer->dial = dial_start(&peer->net->loop, peer->net->tls, peer->url, peer->tls,
                            peer_timeout_ms(peer), peer_on_dialled, peer);
}

/* ---- Who they are ---- */

static struct peer *peers_find(const struct net *net, raft_id id)
{
    for (size_t i = 0; i < net->peers.n; i++) {
        if (net->peers.links[i]->id == id && !net->peers.links[i]->gone) {
            return net->peers.links[i];
        }
    }
    return NULL;
}

bool peers_has(const struct net *net, raft_id id)
{
    return id != net->self.id && (net->peers.open || peers_find(net, id) != NULL);
}

bool peers_has_url(const struct net *net, uint64_t fingerprint)
{
    const char *own = net->options.listen_url;
    bool found = false;

    for (size_t i = 0; i < net->peers.n && fingerprint != 0; i++) {
        const struct peer *peer = net->peers.links[i];

        found |= !peer->gone && spec_url_fingerprint(peer->url) == fingerprint;
    }
    return found && (own == NULL || spec_url_fingerprint(own) != fingerprint);
}

static void peer_add(struct net *net, raft_id id, const char *url)
{
    struct peer *peer = mem_zalloc(sizeof(*peer));
    struct peers *peers = &net->peers;

    ASSERT(peers_find(net, id) == NULL && id != net->self.id);
    peer->net = net;
    peer->id = id;
    peer->url = mem_copy_string(url);
    peer->tls = tls_client_config(net->tls, peer->url);
    peer->retry = (struct timer){.fired = peer_dial, .owner = peer};
    peer->pause_ms = PEER_RETRY_MIN_MS;
    MEM_GROW(peers->links, peers->capacity, peers->n + 1);
    peers->links[peers->n++] = peer;
    if (peers->started) {
        peer_dial(peer);
    }
}

static void peer_free(struct peer *peer)
{
    struct peers *peers = &peer->net->peers;
    size_t at = 0;

    while (peers->links[at] != peer) {
        at++;
        ASSERT(at < peers->n);
    }
    peers->n--;
    memmove(peers->links + at, peers->links + at + 1, (peers->n - at) * sizeof(peers->links[0]));
    dial_cancel(&peer->dial);
    conn_destroy(&peer->conn);
    timers_cancel(&peer->net->loop.timers, &peer->retry);
    tls_release_config(&peer->tls);
    mem_free(peer->url);
    mem_free(peer);
}

/* It is no peer from now on. Its connection may be the one that delivers the event under way: it
 * goes with the failed ones, and the peer with it. */
static void peer_drop(struct peer *peer, const char *reason)
{
    ASSERT(!peer->gone);
    peer->gone = true;
    if (peer->conn == NULL) {
        peer_free(peer);
        return;
    }
    conn_fail(peer->conn, ST_UNAVAILABLE, reason);
}

void peers_init(struct net *net)
{
    const struct spec *spec = &net->options.peers;

    for (size_t i = 0; i < spec->n; i++) {
        if (spec->replicas[i].id != net->self.id) {
            peer_add(net, spec->replicas[i].id, spec->replicas[i].url);
        }
    }
}

void peers_start(struct net *net)
{
    net->peers.started = true;
    for (size_t i = 0; i < net->peers.n; i++) {
        peer_dial(net->peers.links[i]);
    }
}

void peers_fini(struct net *net)
{
    net->peers.started = false;
    while (net->peers.n > 0) {
        peer_free(net->peers.links[net->peers.n - 1]);
    }
    mem_free(net->peers.links);
    net->peers = (struct peers){0};
}

static const struct io_peer *find_wanted(const struct io_peer *peers, size_t n, raft_id id)
{
    for (size_t i = 0; i < n; i++) {
        if (peers[i].id == id) {
            return &peers[i];
        }
    }
    return NULL;
}

static void drop_unwanted(struct net *net, const struct io_peer *wanted, size_t n)
{
    for (size_t i = net->peers.n; i-- > 0;) {
        struct peer *peer = net->peers.links[i];
        const struct io_peer *now = peer->gone ? NULL : find_wanted(wanted, n, peer->id);

        if (peer->gone) {
            continue;
        }
        if (now == NULL) {
            trace_info(net->loop.trace, "peer dropped id=%u url=%s", (unsigned)peer->id, peer->url);
            peer_drop(peer, "no member of the group any more");
        } else if (strcmp(now->url, peer->url) != 0) {
            peer_drop(peer, "the replica has another address now");
        } else if (peer->conn != NULL && now->incarnation != 0 && peer->incarnation != 0 &&
                   now->incarnation != peer->incarnation) {
            conn_fail(peer->conn, ST_UNAVAILABLE, "the replica is another incarnation now");
        }
    }
}

void peers_set(struct net *net, const struct io_peer *peers, size_t n, bool open)
{
    net->peers.open = open;
    if (n == 0) {
        return;
    }
    drop_unwanted(net, peers, n);
    if (!open) {
        accepted_keep_peers(net, peers, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (peers[i].id != net->self.id && peers_find(net, peers[i].id) == NULL) {
            trace_info(net->loop.trace, "peer added id=%u url=%s", (unsigned)peers[i].id,
                       peers[i].url);
            peer_add(net, peers[i].id, peers[i].url);
        }
    }
}

void peers_check_cluster(struct net *net)
{
    for (size_t i = 0; i < net->peers.n; i++) {
        net_check_cluster(net->peers.links[i]->conn);
    }
}

/* ---- Sending ---- */

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
    struct conn *conn = peer == NULL ? NULL : peer->conn;

    ASSERT(message->len <= FRAME_MAX_MESSAGE);
    if ((conn == NULL || conn->state != CONN_UP) && net->peers.open &&
        group == net->options.group) {
        conn = accepted_peer_conn(net, to);
    }
    if (conn == NULL || conn->state != CONN_UP) {
        net->stats.drops[NET_DROP_PEER_DOWN]++;
        buf_fini(message);
        return;
    }
    if (conn->send_queue.bytes > 0 &&
        conn->send_queue.bytes + message->len > peer_queue_limit(net, class)) {
        net->stats.drops[NET_DROP_PEER_FULL]++;
        buf_fini(message);
        return;
    }
    conn_send(conn, class, group, FRAME_MESSAGE_RAFT, message);
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
