/* Streams: what clients, and servers as clients, send to servers and get back. Delayed, broken,
 * never reordered within one. A connection's number tells whose stream it is. */
#include "raft/util/assert.h"
#include "tests/sim/world_internal.h"

#define UNREACHABLE_MAX_US 99000 /* a caller learns by then that a server can't be reached */
#define CLOSE_US           1000  /* until a server hears that a client is gone */

static struct stream *stream_of(struct world *world, owner_id owner, size_t node)
{
    ASSERT(owner < WORLD_MAX_OWNERS && node < world->n_nodes);
    return &world->streams[owner][node];
}

static bool client_reaches(const struct world *world, owner_id owner, const struct world_node *node)
{
    return node->connected && !world->client_cut[owner - WORLD_MAX_NODES][node->number];
}

/* What the owner sends arrives; for a connection to be opened, what the server sends must, too. */
static bool request_passes(const struct world *world, owner_id owner, const struct world_node *node,
                           bool open)
{
    if (owner >= WORLD_MAX_NODES) {
        return client_reaches(world, owner, node);
    }
    return world_can_send(world, world->nodes[owner], node) &&
           (open || world_can_send(world, node, world->nodes[owner]));
}

static bool answer_passes(const struct world *world, owner_id owner, const struct world_node *node)
{
    return owner >= WORLD_MAX_NODES ? client_reaches(world, owner, node)
                                    : world_can_send(world, node, world->nodes[owner]);
}

/* The stream is lost: the owner hears of it after a while, the server at once. */
static void break_stream(struct world *world, owner_id owner, size_t node, uint64_t delay_us)
{
    struct stream *stream = stream_of(world, owner, node);
    struct item down = {.type = ITEM_STREAM_DOWN, .node = node, .owner = owner};
    struct item closed = {.type = ITEM_STREAM_CLOSED, .node = node, .conn = stream->conn};

    if (stream->conn != 0) {
        closed.life = world->nodes[node]->life;
        world_schedule(world, world_reliable_delay(world), &closed);
    }
    stream->conn = 0;
    down.life = owner < WORLD_MAX_NODES ? world->nodes[owner]->life : 0;
    world_schedule(world, delay_us, &down);
}

void world_close_streams_of(struct world *world, owner_id owner)
{
    for (size_t node = 0; node < world->n_nodes; node++) {
        struct stream *stream = stream_of(world, owner, node);
        struct item closed = {.type = ITEM_STREAM_CLOSED, .node = node, .conn = stream->conn};

        if (stream->conn != 0) {
            closed.life = world->nodes[node]->life;
            world_schedule(world, CLOSE_US, &closed);
        }
        stream->conn = 0;
    }
}

/* Delivery no earlier than what was sent before on the same stream. */
static void send_in_order(struct world *world, uint64_t *last_us, uint64_t delay_us,
                          struct item *item)
{
    bool answer = item->type == ITEM_RESPONSE;
    owner_id server = (owner_id)item->node;

    item->at_us = world->now_us + delay_us;
    if (item->at_us < *last_us) {
        item->at_us = *last_us;
    }
    *last_us = item->at_us;
    if (!world_hold_clogged(world, answer ? server : item->owner, answer ? item->owner : server,
                            item)) {
        world_schedule(world, item->at_us - world->now_us, item);
    }
}

void world_send_request(struct world *world, owner_id owner, size_t number, struct buf *message)
{
    struct world_node *node = world->nodes[number];
    struct stream *stream = stream_of(world, owner, number);
    struct item item = {.type = ITEM_REQUEST, .node = number, .owner = owner};
    uint64_t delay_us;

    world->counts.messages++;
    world->counts.client_rpcs++;
    node->issued++;
    world->counts.bytes += message->len;
    if (node->server == NULL || !request_passes(world, owner, node, stream->conn != 0)) {
        buf_fini(message);
        break_stream(world, owner, number, rng_below(&world->rng, UNREACHABLE_MAX_US));
        return;
    }
    if (!world_draw_fate(world, true, &delay_us)) {
        buf_fini(message);
        break_stream(world, owner, number, delay_us);
        return;
    }
    if (stream->conn == 0) {
        *stream = (struct stream){.conn = world->next_conn++ * WORLD_MAX_OWNERS + owner};
    }
    item.conn = stream->conn;
    item.bytes = buf_take(message);
    send_in_order(world, &stream->last_request_us, delay_us, &item);
}

void world_on_request(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_CLIENT_MESSAGE};

    if (node->server == NULL || stream_of(world, item->owner, item->node)->conn != item->conn) {
        return;
    }
    if (!request_passes(world, item->owner, node, true)) {
        break_stream(world, item->owner, item->node, rng_below(&world->rng, UNREACHABLE_MAX_US));
        return;
    }
    node->rpcs++;
    event.client.conn = item->conn;
    event.client.message = buf_slice(&item->bytes);
    world_deliver(world, node, &event);
}

void world_send_reply(struct world *world, struct world_node *node, io_conn conn,
                      struct buf *message)
{
    struct item item = {.type = ITEM_RESPONSE,
                        .node = node->number,
                        .owner = (owner_id)(conn % WORLD_MAX_OWNERS),
                        .conn = conn};
    struct stream *stream = stream_of(world, item.owner, node->number);
    uint64_t delay_us;

    world->counts.messages++;
    if (stream->conn != conn) {
        buf_fini(message);
        return;
    }
    if (!world_draw_fate(world, false, &delay_us)) {
        buf_fini(message);
        break_stream(world, item.owner, node->number, delay_us);
        return;
    }
    item.bytes = buf_take(message);
    if (world->faults.answer_bytes_per_ms != 0) {
        delay_us += 1000ull * item.bytes.len / world->faults.answer_bytes_per_ms;
    }
    send_in_order(world, &stream->last_response_us, delay_us, &item);
}

void world_on_response(struct world *world, struct item *item)
{
    struct world_node *server = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_ENDPOINT_MESSAGE};

    if (stream_of(world, item->owner, item->node)->conn != item->conn) {
        return;
    }
    if (!answer_passes(world, item->owner, server)) {
        break_stream(world, item->owner, item->node, rng_below(&world->rng, UNREACHABLE_MAX_US));
        return;
    }
    world->counts.bytes += item->bytes.len;
    if (item->owner >= WORLD_MAX_NODES) {
        size_t number = item->owner - WORLD_MAX_NODES;
        struct world_client *client = &world->clients[number];
        if (client->ops != NULL) {
            world_record_client(world, number, "MESSAGE", buf_slice(&item->bytes));
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
    const char *url = server->url;
    struct io_event event = {.type = IO_EVENT_ENDPOINT_DOWN};

    if (item->owner >= WORLD_MAX_NODES) {
        size_t number = item->owner - WORLD_MAX_NODES;
        struct world_client *client = &world->clients[number];
        if (client->ops != NULL && client->ops->down != NULL) {
            world_record_client(world, number, "DOWN", slice_text(url));
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
            break_stream(world, owner, node->number, world_reliable_delay(world));
        }
    }
    for (size_t i = 0; i < world->n_nodes; i++) {
        if (world->streams[node->number][i].conn != 0) {
            break_stream(world, (owner_id)node->number, i, world_reliable_delay(world));
        }
    }
}

void world_client_send(struct world *world, size_t client, const char *url, struct buf *message)
{
    size_t node = world_find_url(world, url);

    ASSERT(node != SIZE_MAX);
    world_send_request(world, (owner_id)(WORLD_MAX_NODES + client), node, message);
}
