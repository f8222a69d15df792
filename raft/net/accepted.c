#include "raft/net/accepted.h"

#include "raft/net/net_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define VISITOR_SLOT_BITS   16    /* of an io_conn; the rest is a serial number */
#define VISITOR_GREETING_MS 1000  /* at least: for a hello to come */
#define CLIENT_PONG_MS      200   /* while bytes come and nothing is answered */
#define CLIENT_SILENCE_MS   60000 /* idle clients ping every 15 s */

struct visitor {
    struct net *net;
    struct conn *conn;
    uint32_t slot;
    raft_id peer_id; /* a peer: which; else 0 */
    io_conn number;  /* a client: its number; else 0 */
};

static bool is_replica_of_spec(const struct net *net, uint32_t id)
{
    return id != net->self.id && spec_find(&net->options.peers, id) != NULL;
}

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
        (hello->gid != net->options.group || !is_replica_of_spec(net, hello->id))) {
        *reason = hello->gid != net->options.group ? "this is a replica of another group"
                                                   : "no other replica of the SPEC has that id";
        return ST_WRONG_NODE;
    }
    visitor->peer_id = hello->who == HELLO_PEER ? hello->id : 0;
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

    if (visitor->peer_id != 0) {
        visitor_replace_older(visitor);
        conn->ping_ms = net->options.heartbeat_ms;
        conn->pause_bytes = 0;
        conn_set_keep_alive(conn, net->options.heartbeat_ms, net->options.election_timeout_ms);
        return;
    }
    visitor->number = ++net->accepted.serial << VISITOR_SLOT_BITS | visitor->slot;
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
        event =
            (struct io_event){.type = IO_EVENT_PEER_MESSAGE,
                              .peer = {.group = group, .id = visitor->peer_id, .message = message}};
    } else {
        event = (struct io_event){.type = IO_EVENT_CLIENT_MESSAGE,
                                  .client = {.conn = visitor->number, .message = message}};
    }
    net_deliver(net, &event);
}

static void visitor_free(struct visitor *visitor)
{
    struct accepted *accepted = &visitor->net->accepted;

    ASSERT(accepted->slots[visitor->slot] == visitor && accepted->n > 0);
    accepted->slots[visitor->slot] = NULL;
    accepted->n--;
    visitor->net->stats.connections = accepted->n;
    mem_free(visitor);
}

static void visitor_on_closed(struct conn *conn, enum status status, const char *reason,
                              bool refused)
{
    struct visitor *visitor = conn->owner;
    struct net *net = visitor->net;
    struct io_event event = {.type = IO_EVENT_CLIENT_CLOSED, .client.conn = visitor->number};
    char name[64];

    stream_remote_name(conn->stream, name);
    TRACE(net->loop.trace, status == ST_UNAVAILABLE ? TRACE_DEBUG : TRACE_INFO,
          "connection closed from=%s peer=%u by=%s status=%s reason=\"%s\"", name,
          (unsigned)visitor->peer_id, refused ? "remote" : "us", status_name(status), reason);
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
    accepted->n_slots = net->options.limits.max_connections;
    accepted->slots = mem_zalloc(accepted->n_slots * sizeof(accepted->slots[0]));
}

void accepted_fini(struct net *net)
{
    struct accepted *accepted = &net->accepted;

    for (uint32_t i = 0; i < accepted->n_slots; i++) {
        if (accepted->slots[i] != NULL) {
            conn_destroy(&accepted->slots[i]->conn);
            visitor_free(accepted->slots[i]);
        }
    }
    ASSERT(accepted->n == 0);
    mem_free(accepted->slots);
    accepted->slots = NULL;
    accepted->n_slots = 0;
}

static uint32_t accepted_free_slot(const struct accepted *accepted)
{
    for (uint32_t i = 0; i < accepted->n_slots; i++) {
        if (accepted->slots[i] == NULL) {
            return i;
        }
    }
    return UINT32_MAX;
}

void accepted_add(struct net *net, nng_stream *stream)
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
        .pool = &accepted->pool};
    struct visitor *visitor;

    if (accepted->n == accepted->n_slots) {
        net->stats.refused++;
        net->stats.refused_full++;
        nng_stream_close(stream);
        nng_stream_free(stream);
        return;
    }
    visitor = mem_zalloc(sizeof(*visitor));
    visitor->net = net;
    visitor->slot = accepted_free_slot(accepted);
    accepted->slots[visitor->slot] = visitor;
    net->stats.connections = ++accepted->n;
    visitor->conn = conn_create(net, stream, &settings, NULL, &visitor_events, visitor);
}

void accepted_reply(struct net *net, io_conn number, struct buf *message)
{
    uint32_t slot = number & ((1u << VISITOR_SLOT_BITS) - 1);
    struct visitor *visitor = slot < net->accepted.n_slots ? net->accepted.slots[slot] : NULL;
    enum io_class class = message->len > FRAME_FRAGMENT_BYTES ? IO_BULK : IO_NORMAL;

    ASSERT(message->len <= FRAME_MAX_MESSAGE);
    if (number == 0 || visitor == NULL || visitor->number != number ||
        visitor->conn->state != CONN_UP) {
        net->stats.drops[NET_DROP_CLIENT_GONE]++;
        buf_fini(message);
        return;
    }
    if (visitor->conn->send_queue.bytes > 0 && visitor->conn->send_queue.bytes + message->len >
                                                   net->options.limits.max_client_queue_bytes) {
        net->stats.drops[NET_DROP_CLIENT_FULL]++;
        buf_fini(message);
        conn_fail(visitor->conn, ST_BUSY, "the client does not read its answers");
        return;
    }
    conn_send(visitor->conn, class, 0, FRAME_MESSAGE_RESPONSE, message);
}
