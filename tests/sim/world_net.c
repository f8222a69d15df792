/* The world's network: messages between replicas (lost, delayed, reordered) and streams of clients
 * (delayed, broken, never reordered within one). */
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/wire.h"
#include "tests/sim/world_internal.h"

#define DELAY_MIN_US       50 /* of a reliable network, one way */
#define DELAY_MAX_US       250
#define UNRELIABLE_MAX_US  26000
#define UNREACHABLE_MAX_US 99000 /* a caller learns by then that a server can't be reached */

static struct world_node *node_of(struct io_net *net)
{
    return (struct world_node *)net;
}

static bool is_request(const struct buf *message)
{
    uint8_t type = message->len > 1 ? message->data[1] : 0;

    return type == RAFT_MESSAGE_REQUEST_VOTE || type == RAFT_MESSAGE_APPEND ||
           type == RAFT_MESSAGE_HEARTBEAT || type == RAFT_MESSAGE_INSTALL_SNAPSHOT ||
           type == RAFT_MESSAGE_TIMEOUT_NOW;
}

static uint64_t reliable_delay(struct world *world)
{
    return rng_between(&world->rng, DELAY_MIN_US, DELAY_MAX_US);
}

/* The fate of a message: false if it is lost, else its delay. */
static bool draw_fate(struct world *world, bool request, uint64_t *delay_us)
{
    *delay_us = reliable_delay(world);
    if (world->faults.unreliable) {
        if (request) {
            *delay_us = rng_below(&world->rng, UNRELIABLE_MAX_US);
        }
        if (rng_below(&world->rng, 10) == 0) {
            return false;
        }
    }
    if (world->faults.long_reordering && !request && rng_below(&world->rng, 900) < 600) {
        *delay_us += 1000 * (200 + rng_below(&world->rng, 1 + rng_below(&world->rng, 2000)));
    }
    return true;
}

/* ---- Between replicas ---- */

static struct world_node *find_replica(struct world *world, group_id gid, raft_id id)
{
    for (size_t i = 0; i < world->n_nodes; i++) {
        if (world->nodes[i]->gid == gid && world->nodes[i]->id == id) {
            return world->nodes[i];
        }
    }
    return NULL;
}

static bool can_talk(const struct world *world, const struct world_node *a,
                     const struct world_node *b)
{
    return a->connected && b->connected && !world->cut[a->number][b->number];
}

static void net_peer_send(struct io_net *net, group_id group, raft_id to, enum io_class class,
                          struct buf *message)
{
    struct world_node *node = node_of(net);
    struct world *world = node->world;
    struct world_node *target = find_replica(world, group, to);
    bool request = is_request(message);
    struct item item = {.type = ITEM_PEER_MESSAGE, .from = node->id};
    uint64_t delay_us;

    (void)class;
    ASSERT(group == node->gid);
    for (size_t i = 0; i < world->n_observers; i++) {
        const struct world_observer *observer = &world->observers[i];
        if (observer->sent != NULL) {
            observer->sent(observer->context, world, node->number, to, buf_slice(message));
        }
    }
    world->counts.messages++;
    world->counts.bytes += message->len;
    world->counts.rpcs += request;
    if (target == NULL || !can_talk(world, node, target) || !draw_fate(world, request, &delay_us)) {
        buf_fini(message);
        return;
    }
    item.node = target->number;
    item.owner = (owner_id)node->number;
    item.life = target->life;
    item.bytes = buf_take(message);
    world_schedule(world, delay_us, &item);
}

void world_on_peer_message(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_PEER_MESSAGE};

    if (node->server == NULL || node->life != item->life ||
        !can_talk(world, node, world->nodes[item->owner])) {
        return;
    }
    node->rpcs += is_request(&item->bytes);
    event.peer.group = node->gid;
    event.peer.id = item->from;
    event.peer.message = buf_slice(&item->bytes);
    world_deliver(world, node, &event);
}

static void announce_link(struct world *world, struct world_node *to, struct world_node *about,
                          bool up)
{
    struct item item = {.type = ITEM_PEER_LINK,
                        .node = to->number,
                        .life = to->life,
                        .owner = (owner_id)about->number,
                        .up = up};

    world_schedule(world, reliable_delay(world), &item);
}

void world_announce_links(struct world *world, struct world_node *node, bool up)
{
    for (size_t i = 0; i < world->n_nodes; i++) {
        struct world_node *other = world->nodes[i];
        if (other != node && other->gid == node->gid && other->server != NULL &&
            (!up || can_talk(world, node, other))) {
            announce_link(world, other, node, up);
            announce_link(world, node, other, up);
        }
    }
}

void world_on_peer_link(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = item->up ? IO_EVENT_PEER_UP : IO_EVENT_PEER_DOWN};

    if (node->server == NULL || node->life != item->life) {
        return;
    }
    event.peer.group = node->gid;
    event.peer.id = world->nodes[item->owner]->id;
    world_deliver(world, node, &event);
}

void world_connect(struct world *world, size_t number, bool connected)
{
    struct world_node *node = world->nodes[number];

    if (node->connected == connected) {
        return;
    }
    node->connected = connected;
    if (node->server != NULL) {
        world_announce_links(world, node, connected);
    }
}

bool world_is_connected(const struct world *world, size_t node)
{
    return world->nodes[node]->connected;
}

void world_cut_pair(struct world *world, size_t a, size_t b, bool cut)
{
    struct world_node *na = world->nodes[a], *nb = world->nodes[b];

    if (world->cut[a][b] == cut) {
        return;
    }
    world->cut[a][b] = world->cut[b][a] = cut;
    if (na->gid == nb->gid && na->server != NULL && nb->server != NULL && na->connected &&
        nb->connected) {
        announce_link(world, na, nb, !cut);
        announce_link(world, nb, na, !cut);
    }
}

void world_cut_client(struct world *world, size_t client, size_t node, bool cut)
{
    world->client_cut[client][node] = cut;
}

void world_set_faults(struct world *world, const struct world_faults *faults)
{
    world->faults = *faults;
}

/* ---- Streams ---- */

static struct stream *stream_of(struct world *world, owner_id owner, size_t node)
{
    ASSERT(owner < WORLD_MAX_OWNERS && node < world->n_nodes);
    return &world->streams[owner][node];
}

static bool can_reach(const struct world *world, owner_id owner, const struct world_node *node)
{
    if (owner < WORLD_MAX_NODES) {
        return can_talk(world, world->nodes[owner], node);
    }
    return node->connected && !world->client_cut[owner - WORLD_MAX_NODES][node->number];
}

/* The stream is lost: the owner hears of it after a while, the server at once. */
static void break_stream(struct world *world, owner_id owner, size_t node, uint64_t delay_us)
{
    struct stream *stream = stream_of(world, owner, node);
    struct item down = {.type = ITEM_STREAM_DOWN, .node = node, .owner = owner};
    struct item closed = {.type = ITEM_STREAM_CLOSED, .node = node, .conn = stream->conn};

    if (stream->conn != 0) {
        closed.life = world->nodes[node]->life;
        world_schedule(world, reliable_delay(world), &closed);
    }
    stream->conn = 0;
    down.life = owner < WORLD_MAX_NODES ? world->nodes[owner]->life : 0;
    world_schedule(world, delay_us, &down);
}

/* Delivery no earlier than what was sent before on the same stream. */
static uint64_t in_order(struct world *world, uint64_t *last_us, uint64_t delay_us)
{
    uint64_t at_us = world->now_us + delay_us;

    if (at_us < *last_us) {
        at_us = *last_us;
    }
    *last_us = at_us;
    return at_us - world->now_us;
}

void world_send_request(struct world *world, owner_id owner, size_t number, struct buf *message)
{
    struct world_node *node = world->nodes[number];
    struct stream *stream = stream_of(world, owner, number);
    struct item item = {.type = ITEM_REQUEST, .node = number, .owner = owner};
    uint64_t delay_us;

    world->counts.messages++;
    world->counts.client_rpcs++;
    world->counts.bytes += message->len;
    if (node->server == NULL || !can_reach(world, owner, node)) {
        buf_fini(message);
        break_stream(world, owner, number, rng_below(&world->rng, UNREACHABLE_MAX_US));
        return;
    }
    if (!draw_fate(world, true, &delay_us)) {
        buf_fini(message);
        break_stream(world, owner, number, delay_us);
        return;
    }
    if (stream->conn == 0) {
        *stream = (struct stream){.conn = world->next_conn++};
    }
    item.conn = stream->conn;
    item.bytes = buf_take(message);
    world_schedule(world, in_order(world, &stream->last_request_us, delay_us), &item);
}

void world_on_request(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_CLIENT_MESSAGE};

    if (node->server == NULL || stream_of(world, item->owner, item->node)->conn != item->conn) {
        return;
    }
    if (!can_reach(world, item->owner, node)) {
        break_stream(world, item->owner, item->node, rng_below(&world->rng, UNREACHABLE_MAX_US));
        return;
    }
    node->rpcs++;
    event.client.conn = item->conn;
    event.client.message = buf_slice(&item->bytes);
    world_deliver(world, node, &event);
}

static void net_reply(struct io_net *net, io_conn conn, struct buf *message)
{
    struct world_node *node = node_of(net);
    struct world *world = node->world;
    struct item item = {.type = ITEM_RESPONSE, .node = node->number, .conn = conn};
    uint64_t delay_us;
    struct stream *stream = NULL;

    world->counts.messages++;
    world->counts.bytes += message->len;
    for (owner_id owner = 0; owner < WORLD_MAX_OWNERS; owner++) {
        if (world->streams[owner][node->number].conn == conn) {
            stream = &world->streams[owner][node->number];
            item.owner = owner;
        }
    }
    if (stream == NULL) {
        buf_fini(message);
        return;
    }
    if (!draw_fate(world, false, &delay_us)) {
        buf_fini(message);
        break_stream(world, item.owner, node->number, delay_us);
        return;
    }
    item.bytes = buf_take(message);
    if (world->faults.answer_bytes_per_ms != 0) {
        delay_us += 1000ull * item.bytes.len / world->faults.answer_bytes_per_ms;
    }
    world_schedule(world, in_order(world, &stream->last_response_us, delay_us), &item);
}

void world_on_response(struct world *world, struct item *item)
{
    struct world_node *server = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_ENDPOINT_MESSAGE};

    if (stream_of(world, item->owner, item->node)->conn != item->conn) {
        return;
    }
    if (!can_reach(world, item->owner, server)) {
        break_stream(world, item->owner, item->node, rng_below(&world->rng, UNREACHABLE_MAX_US));
        return;
    }
    if (item->owner >= WORLD_MAX_NODES) {
        size_t number = item->owner - WORLD_MAX_NODES;
        struct world_client *client = &world->clients[number];
        if (client->ops != NULL) {
            client->ops->message(client->client, world->now_us / 1000, buf_slice(&item->bytes));
            world_reschedule(world, number);
        }
        return;
    }
    if (world->nodes[item->owner]->server != NULL) {
        event.endpoint.endpoint = (io_endpoint)item->node + 1;
        event.endpoint.message = buf_slice(&item->bytes);
        world_deliver(world, world->nodes[item->owner], &event);
    }
}

void world_on_stream_down(struct world *world, struct item *item)
{
    struct world_node *server = world->nodes[item->node];
    const char *url = spec_find(&server->spec, server->id)->url;
    struct io_event event = {.type = IO_EVENT_ENDPOINT_DOWN};

    if (item->owner >= WORLD_MAX_NODES) {
        size_t number = item->owner - WORLD_MAX_NODES;
        struct world_client *client = &world->clients[number];
        if (client->ops != NULL && client->ops->down != NULL) {
            client->ops->down(client->client, world->now_us / 1000, url);
            world_reschedule(world, number);
        }
        return;
    }
    if (world->nodes[item->owner]->server != NULL &&
        world->nodes[item->owner]->life == item->life) {
        event.endpoint.endpoint = (io_endpoint)item->node + 1;
        world_deliver(world, world->nodes[item->owner], &event);
    }
}

void world_on_stream_closed(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_CLIENT_CLOSED};

    if (node->server != NULL && node->life == item->life) {
        event.client.conn = item->conn;
        world_deliver(world, node, &event);
    }
}

void world_break_streams(struct world *world, struct world_node *node)
{
    for (owner_id owner = 0; owner < WORLD_MAX_OWNERS; owner++) {
        if (world->streams[owner][node->number].conn != 0) {
            break_stream(world, owner, node->number, reliable_delay(world));
        }
    }
    for (size_t i = 0; i < world->n_nodes; i++) {
        if (world->streams[node->number][i].conn != 0) {
            break_stream(world, (owner_id)node->number, i, reliable_delay(world));
        }
    }
}

size_t world_find_url(const struct world *world, const char *url)
{
    for (size_t i = 0; i < world->n_nodes; i++) {
        const struct world_node *node = world->nodes[i];
        if (strcmp(spec_find(&node->spec, node->id)->url, url) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

void world_client_send(struct world *world, size_t client, const char *url, struct buf *message)
{
    size_t node = world_find_url(world, url);

    ASSERT(node != SIZE_MAX);
    world_send_request(world, (owner_id)(WORLD_MAX_NODES + client), node, message);
}

static io_endpoint net_endpoint(struct io_net *net, const char *url)
{
    size_t node = world_find_url(node_of(net)->world, url);
    return node == SIZE_MAX ? 0 : (io_endpoint)node + 1;
}

static void net_endpoint_send(struct io_net *net, io_endpoint endpoint, struct buf *message)
{
    struct world_node *node = node_of(net);

    if (endpoint == 0) {
        buf_fini(message);
        return;
    }
    world_send_request(node->world, (owner_id)node->number, endpoint - 1, message);
}

const struct io_net_ops world_net_ops = {net_peer_send, net_reply, net_endpoint, net_endpoint_send};
