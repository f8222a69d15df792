/* The network between replicas (lost, doubled, delayed, reordered), and the table through which
 * servers use it. Streams are in world_stream.c, faults in world_faults.c. */
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/wire.h"
#include "tests/sim/world_internal.h"

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

/* ---- Between replicas ---- */

static struct world_node *find_replica(const struct world_node *node, raft_id id)
{
    uint8_t number = id <= SPEC_MAX_ID ? node->peers[id] : WORLD_NO_NODE;

    return number == WORLD_NO_NODE ? NULL : node->world->nodes[number];
}

static void send_item(struct world *world, uint64_t delay_us, struct item *item)
{
    if (!world_hold_clogged(world, item->owner, (owner_id)item->node, item)) {
        world_schedule(world, delay_us, item);
    }
}

/* The network made two of it. */
static void send_twin(struct world *world, const struct item *item)
{
    struct item twin = *item;

    world->counts.duplicated++;
    twin.bytes = (struct buf){0};
    buf_put_slice(&twin.bytes, buf_slice(&item->bytes));
    send_item(world, world_reliable_delay(world), &twin);
}

static void net_peer_send(struct io_net *net, group_id group, raft_id to, enum io_class class,
                          struct buf *message)
{
    struct world_node *node = node_of(net);
    struct world *world = node->world;
    struct world_node *target = find_replica(node, to);
    bool request = is_request(message);
    struct item item = {.type = ITEM_PEER_MESSAGE, .from = node->id};
    uint64_t delay_us;

    (void)class;
    ASSERT(group == node->gid);
    world->counts.messages++;
    world->counts.rpcs += request;
    node->issued += request;
    if (request) {
        world->counts.bytes += message->len;
    }
    world_tell_sent(world, node->number, to, buf_slice(message));
    if (target == NULL || !world_can_send(world, node, target) || !world_are_linked(node, target) ||
        (target->server != NULL && !world_admit(node, target)) ||
        !world_draw_fate(world, request, &delay_us)) {
        buf_fini(message);
        return;
    }
    item.node = target->number;
    item.owner = (owner_id)node->number;
    item.life = target->life;
    item.bytes = buf_take(message);
    if (world_hits(world, world->faults.duplicate_ppm)) {
        send_twin(world, &item);
    }
    send_item(world, delay_us, &item);
}

void world_on_peer_message(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_PEER_MESSAGE};

    if (node->server == NULL || node->life != item->life ||
        !world_can_send(world, world->nodes[item->owner], node)) {
        return;
    }
    if (is_request(&item->bytes)) {
        node->rpcs++;
    } else {
        world->counts.bytes += item->bytes.len;
    }
    event.peer.group = node->gid;
    event.peer.id = item->from;
    event.peer.incarnation = world_incarnation_number(world->nodes[item->owner]);
    event.peer.message = buf_slice(&item->bytes);
    world_deliver(world, node, &event);
}

/* ---- Addresses ---- */

static size_t url_slot(const char *url)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    while (*url != '\0') {
        hash = (hash ^ (uint8_t)*url++) * 16777619u;
    }
    return hash % WORLD_URL_SLOTS;
}

/* The slot that holds the URL, or the empty one where it would be. */
static size_t url_find(const struct world *world, const char *url)
{
    size_t slot = url_slot(url);

    while (world->urls[slot] != 0 && strcmp(world->nodes[world->urls[slot] - 1]->url, url) != 0) {
        slot = (slot + 1) % WORLD_URL_SLOTS;
    }
    return slot;
}

void world_add_url(struct world *world, struct world_node *node)
{
    size_t slot = url_find(world, node->url);

    if (world->urls[slot] == 0) { /* of two with the same, the first has it */
        world->urls[slot] = (uint8_t)(node->number + 1);
    }
}

size_t world_find_url(const struct world *world, const char *url)
{
    size_t slot = url_find(world, url);

    return world->urls[slot] == 0 ? SIZE_MAX : world->urls[slot] - 1u;
}

/* ---- The table ---- */

static void net_set_peers(struct io_net *net, group_id group, const struct io_peer *peers, size_t n,
                          bool open)
{
    ASSERT(group == node_of(net)->gid);
    world_set_members(node_of(net)->world, node_of(net), peers, n, open);
}

static void net_reply(struct io_net *net, io_conn conn, struct buf *message)
{
    world_send_reply(node_of(net)->world, node_of(net), conn, message);
}

static io_endpoint net_endpoint(struct io_net *net, group_id gid, const char *url)
{
    struct world *world = node_of(net)->world;
    size_t node = world_find_url(world, url);

    ASSERT(node == SIZE_MAX || world->nodes[node]->gid == gid); /* a real one would be refused */
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

const struct io_net_ops world_net_ops = {net_peer_send, net_set_peers, net_reply, net_endpoint,
                                         net_endpoint_send};
