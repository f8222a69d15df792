#include "raft/net/accepted.h"

#include <uthash.h>

#include "raft/net/net_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define VISITOR_SLOT_BITS   16    /* of an io_conn; the rest is a serial number */
#define VISITOR_GREETING_MS 1000  /* at least: for a hello to come */
#define CLIENT_PONG_MS      200   /* while bytes come and nothing is answered */
#define CLIENT_SILENCE_MS   60000 /* idle clients ping every 15 s */
#define VISITOR_HURRY_MS    100   /* a stranger that says hello by then gives way to nobody */
#define CLIENT_BUSY_MS      500   /* nor does a client that was heard of so lately */

/* Where visitors come from. */
struct visitor_host {
    char name[STREAM_NAME_BYTES];
    uint32_t n; /* connections from there */
    UT_hash_handle hh;
};

struct visitor {
    struct net *net;
    struct conn *conn;
    TAILQ_ENTRY(visitor) in_line; /* of the strangers, until the hello is done */
    uint32_t slot;
    raft_id peer_id;      /* a peer: which; else 0 */
    uint64_t incarnation; /* of the peer */
    io_conn number;       /* a client: its number; else 0 */
    struct visitor_host *host;
    char name[STREAM_NAME_BYTES]; /* host and port: not to be had once it is gone */
    uint64_t since_ms;            /* it dialled then, by the loop's awake clock */
};

static enum status visitor_on_hello(struct conn *conn, const struct hello *hello,
                                    const char **reason)
{
    struct visitor *visitor = conn->owner;
    struct net *net = visitor->net;
    struct hello self = net->self;

    self.who = HELLO_SERVER;
    if (hello->who == HELLO_SERVER) {
        *reason = "a server does not call";
        return ST_WRONG_NODE;
    }
    if (hello->who == HELLO_PEER &&
        (hello->gid != net->options.group || !peers_has(net, hello->id))) {
        *reason = hello->gid != net->options.group ? "this is a replica of another group"
                                                   : "no other replica of the group has that id";
        return ST_WRONG_NODE;
    }
    /* Who has that replica's address passed on to us what was meant for it (handshake.h). */
    if ((hello->flags & HELLO_SERVICE) != 0 && peers_has_url(net, hello->called)) {
        *reason = "the caller meant another replica of the group";
        return ST_WRONG_NODE;
    }
    visitor->peer_id = hello->who == HELLO_PEER ? hello->id : 0;
    visitor->incarnation = hello->who == HELLO_PEER ? hello->incarnation : 0;
    return net_admit(net, &self, hello, reason);
}

/* The peer dialled anew: what it opened before is dead, though we may not know yet. */
static void visitor_replace_older(struct visitor *visitor)
{
    struct accepted *accepted = &visitor->net->accepted;

    for (uint32_t i = 0; i < accepted->n_slots; i++) {
        struct visitor *other = accepted->slots[i];

        if (other != NULL && other != visitor && other->peer_id == visitor->peer_id &&
            other->conn->state == CONN_UP) {
            conn_fail(other->conn, ST_UNAVAILABLE, "the peer dialled anew");
        }
    }
}

static void visitor_on_up(struct conn *conn)
{
    struct visitor *visitor = conn->owner;
    struct net *net = visitor->net;

    TAILQ_REMOVE(&net->accepted.strangers, visitor, in_line);
    if (visitor->peer_id != 0) {
        visitor_replace_older(visitor);
        ASSERT(conn->inbox.n == 0);
        conn->inbox.pool = &net->accepted.peers_pool;
        conn->fragment_pause_ms = 0;
        conn->pause_bytes = 0;
        conn_set_keep_alive(conn, net->options.heartbeat_ms, net->options.election_timeout_ms);
        return;
    }
    visitor->number = ++net->accepted.serial << VISITOR_SLOT_BITS | visitor->slot;
}

/* With a peer key, only who proved it is a server. */
static bool visitor_is_stranger(const struct visitor *visitor)
{
    return visitor->net->peer_key != NULL && !visitor->conn->handshake.proved;
}

static void visitor_on_message(struct conn *conn, uint32_t group, uint8_t type,
                               struct slice message)
{
    struct visitor *visitor = conn->owner;
    struct net *net = visitor->net;
    struct io_event event;

    if (visitor->peer_id != 0 ? type != FRAME_MESSAGE_RAFT || group != net->options.group
                              : type != FRAME_MESSAGE_REQUEST) {
        net->stats.malformed++;
        conn_fail(conn, ST_MALFORMED, "a message that this kind of connection does not carry");
        return;
    }
    if (visitor->peer_id != 0) {
        event = (struct io_event){.type = IO_EVENT_PEER_MESSAGE,
                                  .peer = {.group = group,
                                           .id = visitor->peer_id,
                                           .incarnation = visitor->incarnation,
                                           .message = message}};
    } else {
        event = (struct io_event){.type = IO_EVENT_CLIENT_MESSAGE,
                                  .client = {.conn = visitor->number,
                                             .message = message,
                                             .is_stranger = visitor_is_stranger(visitor)}};
        conn->unanswered++;
    }
    net_deliver(net, &event);
}

/* How many connections come from there. */
static uint32_t accepted_of_host(const struct accepted *accepted, const char *name)
{
    struct visitor_host *host;

    HASH_FIND_STR(accepted->hosts, name, host);
    return host == NULL ? 0 : host->n;
}

static struct visitor_host *accepted_take_host(struct accepted *accepted, const char *name)
{
    struct visitor_host *host;

    HASH_FIND_STR(accepted->hosts, name, host);
    if (host == NULL) {
        host = mem_zalloc(sizeof(*host));
        memcpy(host->name, name, sizeof(host->name));
        HASH_ADD_STR(accepted->hosts, name, host);
    }
    host->n++;
    return host;
}

static void accepted_leave_host(struct accepted *accepted, struct visitor_host *host)
{
    if (--host->n == 0) {
        HASH_DEL(accepted->hosts, host);
        mem_free(host);
    }
}

static struct visitor *visitor_create(struct net *net, const char *host)
{
    struct accepted *accepted = &net->accepted;
    struct visitor *visitor = mem_zalloc(sizeof(*visitor));

    ASSERT(accepted->n < accepted->n_slots);
    visitor->net = net;
    visitor->slot = accepted->free_slots[accepted->n_slots - ++accepted->n];
    visitor->since_ms = loop_awake_ms(&net->loop);
    visitor->host = accepted_take_host(accepted, host);
    accepted->slots[visitor->slot] = visitor;
    TAILQ_INSERT_TAIL(&accepted->strangers, visitor, in_line);
    net->stats.connections = accepted->n;
    return visitor;
}

static void visitor_free(struct visitor *visitor)
{
    struct accepted *accepted = &visitor->net->accepted;

    ASSERT(accepted->slots[visitor->slot] == visitor && accepted->n > 0);
    if (!visitor->conn->was_up) {
        TAILQ_REMOVE(&accepted->strangers, visitor, in_line);
    }
    accepted_leave_host(accepted, visitor->host);
    accepted->slots[visitor->slot] = NULL;
    accepted->free_slots[accepted->n_slots - accepted->n--] = visitor->slot;
    visitor->net->stats.connections = accepted->n;
    mem_free(visitor);
}

/* Who breaks off is nobody's business; who is refused, by us or itself, its operator's. */
static enum trace_level closing_level(struct visitor *visitor, enum status status,
                                      const char *reason)
{
    struct net *net = visitor->net;

    if (status == ST_UNAVAILABLE) {
        return TRACE_DEBUG;
    }
    if (visitor->conn->was_up) {
        return TRACE_INFO;
    }
    if (!complaints_is_news(&net->accepted.complaints, net->loop.now_ms, visitor->host->name,
                            reason)) {
        return TRACE_DEBUG;
    }
    return status == ST_TIMEOUT || status == ST_MALFORMED ? TRACE_INFO : TRACE_WARN;
}

static void visitor_on_closed(struct conn *conn, enum status status, const char *reason,
                              bool refused)
{
    struct visitor *visitor = conn->owner;
    struct net *net = visitor->net;
    const struct hello *hello = &conn->handshake.other; /* who it says it is, true or not */
    struct io_event event = {.type = IO_EVENT_CLIENT_CLOSED, .client.conn = visitor->number};
    enum trace_level level = closing_level(visitor, status, reason);

    TRACE(net->loop.trace, level,
          "connection closed from=%s gid=%u peer=%u by=%s status=%s reason=\"%s\"", visitor->name,
          (unsigned)hello->gid, hello->who == HELLO_PEER ? (unsigned)hello->id : 0,
          refused ? "remote" : "us", status_name(status), reason);
    visitor_free(visitor);
    if (event.client.conn != 0) {
        net_deliver(net, &event);
    }
}

static const struct conn_events visitor_events = {.hello = visitor_on_hello,
                                                  .up = visitor_on_up,
                                                  .message = visitor_on_message,
                                                  .closed = visitor_on_closed};

void accepted_init(struct net *net)
{
    struct accepted *accepted = &net->accepted;

    ASSERT(net->options.limits.max_connections < 1u << VISITOR_SLOT_BITS);
    accepted->pool.limit = net->options.limits.max_total_reassembly_bytes;
    accepted->peers_pool.limit = net->options.limits.max_total_reassembly_bytes;
    accepted->n_slots = net->options.limits.max_connections;
    accepted->slots = mem_zalloc(accepted->n_slots * sizeof(accepted->slots[0]));
    accepted->free_slots = mem_alloc(accepted->n_slots * sizeof(accepted->free_slots[0]));
    for (uint32_t i = 0; i < accepted->n_slots; i++) {
        accepted->free_slots[i] = accepted->n_slots - 1 - i; /* the lowest is taken first */
    }
    TAILQ_INIT(&accepted->strangers);
}

void accepted_fini(struct net *net)
{
    struct accepted *accepted = &net->accepted;

    for (uint32_t i = 0; i < accepted->n_slots; i++) {
        if (accepted->slots[i] != NULL) {
            struct conn *conn = accepted->slots[i]->conn;

            visitor_free(accepted->slots[i]);
            conn_destroy(&conn);
        }
    }
    ASSERT(accepted->n == 0);
    mem_free(accepted->slots);
    mem_free(accepted->free_slots);
    accepted->slots = NULL;
    accepted->free_slots = NULL;
    accepted->n_slots = 0;
}

/* How long nothing came that is of use: of a stranger, since it dialled. Who waits for an answer
 * has said what it wants. */
static uint64_t visitor_idle_ms(const struct visitor *visitor)
{
    const struct conn *conn = visitor->conn;

    if (visitor->peer_id != 0 || (conn->state == CONN_UP && conn->unanswered > 0)) {
        return 0;
    }
    return loop_awake_ms(&visitor->net->loop) -
           (conn->state == CONN_UP ? conn->heard_ms : visitor->since_ms);
}

/* Who gives way to another, or NULL. */
static struct visitor *accepted_idlest(const struct accepted *accepted)
{
    struct visitor *idlest = TAILQ_FIRST(&accepted->strangers);
    uint64_t most_ms = CLIENT_BUSY_MS;

    if (idlest != NULL && visitor_idle_ms(idlest) >= VISITOR_HURRY_MS) {
        return idlest;
    }
    idlest = NULL;
    for (uint32_t i = 0; i < accepted->n_slots; i++) {
        struct visitor *visitor = accepted->slots[i];

        if (visitor->conn->state == CONN_UP && visitor_idle_ms(visitor) >= most_ms) {
            most_ms = visitor_idle_ms(visitor) + 1;
            idlest = visitor;
        }
    }
    return idlest;
}

/* All places are taken: one gives way, if there is one that may. */
static void accepted_make_room(struct net *net)
{
    struct visitor *idlest = accepted_idlest(&net->accepted);
    struct conn *conn;

    if (idlest != NULL) {
        conn = idlest->conn;
        visitor_on_closed(conn, ST_BUSY, "idle, and others need the place", false);
        conn_destroy(&conn);
    }
}

static bool accepted_has_room(const struct net *net, const char *host)
{
    const struct accepted *accepted = &net->accepted;
    uint32_t limit = net->options.limits.max_connections_per_remote;

    return accepted->n < accepted->n_slots &&
           (accepted->n < limit || accepted_of_host(accepted, host) < limit);
}

static void accepted_refuse(struct net *net, nng_stream *stream)
{
    net->stats.refused++;
    net->stats.refused_full++;
    nng_stream_close(stream);
    nng_stream_free(stream);
}

bool accepted_add(struct net *net, nng_stream *stream, bool may_wait)
{
    struct accepted *accepted = &net->accepted;
    uint32_t election_timeout_ms = net->options.election_timeout_ms;
    struct conn_settings settings = {
        .accepted = true,
        .greeting_ms =
            election_timeout_ms > VISITOR_GREETING_MS ? election_timeout_ms : VISITOR_GREETING_MS,
        .ping_ms = CLIENT_PONG_MS,
        .silence_ms = CLIENT_SILENCE_MS,
        .pause_bytes = net->options.limits.max_client_queue_bytes / 2,
        .max_reassembly_bytes = net->options.limits.max_reassembly_bytes,
        .fragment_pause_ms = net->options.limits.max_fragment_pause_ms,
        .pool = &accepted->pool};
    struct visitor *visitor;
    char host[STREAM_NAME_BYTES];

    stream_remote_host(stream, host);
    if (accepted->n == accepted->n_slots &&
        accepted_of_host(accepted, host) < net->options.limits.max_connections_per_remote) {
        accepted_make_room(net);
        if (accepted->n == accepted->n_slots && may_wait) {
            return false;
        }
    }
    if (!accepted_has_room(net, host)) {
        accepted_refuse(net, stream);
        return true;
    }
    visitor = visitor_create(net, host);
    stream_remote_name(stream, visitor->name);
    visitor->conn = conn_create(net, stream, &settings, NULL, &visitor_events, visitor);
    return true;
}

/* Counts what waits. Returns who has most of it. */
static struct visitor *accepted_count_waiting(struct accepted *accepted)
{
    struct visitor *greatest = NULL;

    accepted->waiting = 0;
    for (uint32_t i = 0; i < accepted->n_slots; i++) {
        struct visitor *visitor = accepted->slots[i];

        if (visitor == NULL) {
            continue;
        }
        accepted->waiting += visitor->conn->send_queue.bytes;
        if (greatest == NULL ||
            greatest->conn->send_queue.bytes < visitor->conn->send_queue.bytes) {
            greatest = visitor;
        }
    }
    return greatest;
}

/* Room for an answer under the bound of all together. */
static void accepted_make_room_for_answer(struct net *net, size_t len)
{
    struct accepted *accepted = &net->accepted;
    uint64_t limit = net->options.limits.max_total_client_queue_bytes;

    while (accepted->waiting + len > limit) {
        struct visitor *greatest = accepted_count_waiting(accepted);

        if (accepted->waiting + len <= limit || accepted->waiting == 0) {
            break;
        }
        conn_fail(greatest->conn, ST_BUSY, "too many answers wait, and most of them for this one");
        send_queue_fini(&greatest->conn->send_queue); /* now, not when it is reaped */
        send_queue_init(&greatest->conn->send_queue);
    }
    accepted->waiting += len;
}

static bool accepted_is_there(const struct visitor *visitor, io_conn number)
{
    return number != 0 && visitor != NULL && visitor->number == number &&
           visitor->conn->state == CONN_UP;
}

static void accepted_drop_answer(struct net *net, enum net_drop why, struct buf *message)
{
    net->stats.drops[why]++;
    buf_fini(message);
}

void accepted_reply(struct net *net, io_conn number, struct buf *message)
{
    uint32_t slot = number & ((1u << VISITOR_SLOT_BITS) - 1);
    struct visitor *visitor = slot < net->accepted.n_slots ? net->accepted.slots[slot] : NULL;
    enum io_class class = message->len > FRAME_FRAGMENT_BYTES ? IO_BULK : IO_NORMAL;

    ASSERT(message->len <= FRAME_MAX_MESSAGE);
    if (!accepted_is_there(visitor, number)) {
        accepted_drop_answer(net, NET_DROP_CLIENT_GONE, message);
        return;
    }
    if (visitor->conn->send_queue.bytes > 0 && visitor->conn->send_queue.bytes + message->len >
                                                   net->options.limits.max_client_queue_bytes) {
        accepted_drop_answer(net, NET_DROP_CLIENT_FULL, message);
        conn_fail(visitor->conn, ST_BUSY, "the client does not read its answers");
        return;
    }
    accepted_make_room_for_answer(net, message->len);
    if (!accepted_is_there(visitor, number)) { /* it was the one that had to give way */
        accepted_drop_answer(net, NET_DROP_CLIENT_GONE, message);
        return;
    }
    visitor->conn->unanswered -= visitor->conn->unanswered > 0;
    visitor->conn->n_receives = 0;
    conn_send(visitor->conn, class, 0, FRAME_MESSAGE_RESPONSE, message);
}

struct conn *accepted_peer_conn(struct net *net, raft_id id)
{
    for (uint32_t i = 0; i < net->accepted.n_slots; i++) {
        struct visitor *visitor = net->accepted.slots[i];

        if (visitor != NULL && visitor->peer_id == id && visitor->conn->state == CONN_UP) {
            return visitor->conn;
        }
    }
    return NULL;
}

void accepted_keep_peers(struct net *net, const struct io_peer *peers, size_t n)
{
    for (uint32_t i = 0; i < net->accepted.n_slots; i++) {
        struct visitor *visitor = net->accepted.slots[i];
        size_t at = 0;

        if (visitor == NULL || visitor->peer_id == 0) {
            continue;
        }
        while (at < n && peers[at].id != visitor->peer_id) {
            at++;
        }
        if (at == n) {
            conn_fail(visitor->conn, ST_WRONG_NODE, "no member of the group any more");
        } else if (peers[at].incarnation != 0 && visitor->incarnation != 0 &&
                   peers[at].incarnation != visitor->incarnation) {
            conn_fail(visitor->conn, ST_WRONG_NODE, "the replica is another incarnation now");
        }
    }
}

void accepted_check_cluster(struct net *net)
{
    for (uint32_t i = 0; i < net->accepted.n_slots; i++) {
        if (net->accepted.slots[i] != NULL) {
            net_check_cluster(net->accepted.slots[i]->conn);
        }
    }
}
