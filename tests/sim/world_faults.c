/* What the network does to messages: their fate by rates, cuts, clogs, and the links that follow
 * from who can reach whom. A rate of 0 draws nothing: what a seed does without it stays. */
#include "raft/util/assert.h"
#include "tests/sim/world_internal.h"

#define DELAY_MIN_US      50 /* of a reliable network, one way */
#define DELAY_MAX_US      250
#define UNRELIABLE_MAX_US 26000
#define REORDER_MAX_US    20000
#define GONE_MIN_US       10000 /* from the broken link to a dial that finds nobody */
#define GONE_MAX_US       30000
#define MILLION           1000000u

/* ---- Fates ---- */

uint64_t world_reliable_delay(struct world *world)
{
    return rng_between(&world->rng, DELAY_MIN_US, DELAY_MAX_US);
}

bool world_hits(struct world *world, uint32_t ppm)
{
    return ppm > 0 && rng_below(&world->rng, MILLION) < ppm;
}

/* The public suites' unreliable network. */
static bool draw_suite_fate(struct world *world, bool request, uint64_t *delay_us)
{
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

bool world_draw_fate(struct world *world, bool request, uint64_t *delay_us)
{
    const struct world_faults *faults = &world->faults;

    *delay_us = world_reliable_delay(world);
    if (!draw_suite_fate(world, request, delay_us) || world_hits(world, faults->loss_ppm)) {
        world->counts.lost++;
        return false;
    }
    if (world_hits(world, faults->reorder_ppm)) {
        world->counts.reordered++;
        *delay_us += rng_below(&world->rng, REORDER_MAX_US);
    }
    if (world_hits(world, faults->tail_ppm)) {
        uint64_t most_us = 1 + rng_below(&world->rng, 1000ull * faults->tail_ms);
        world->counts.delayed++;
        *delay_us += rng_below(&world->rng, most_us);
    }
    return true;
}

void world_set_faults(struct world *world, const struct world_faults *faults)
{
    world->faults = *faults;
}

/* ---- Who reaches whom ---- */

bool world_can_send(const struct world *world, const struct world_node *from,
                    const struct world_node *to)
{
    return from->connected && to->connected && !world->cut[from->number][to->number];
}

/* The number of the incarnation that a node has pinned of another; 0: none. */
static uint64_t pinned_number(const struct world_node *node, const struct world_node *other)
{
    uint32_t pinned = node->pinned[other->number];

    return pinned == 0 ? 0 : (uint64_t)pinned << 32 | (other->number + 1);
}

static void tell_pin(struct world_node *node, const struct world_node *other)
{
    struct group *group = node->server == NULL ? NULL : node->ops->group(node->server);

    if (group != NULL) {
        group_pin_incarnation(group, other->id, pinned_number(node, other));
    }
}

static bool refuses(const struct world_node *node, const struct world_node *other)
{
    uint32_t pinned = node->pinned[other->number];

    return pinned != 0 && pinned != other->incarnation && !other->joined;
}

static void pin(struct world_node *node, const struct world_node *other)
{
    if (node->pinned[other->number] == 0) {
        node->pinned[other->number] = other->incarnation;
        tell_pin(node, other);
    }
}

/* As hello_check and raft/host have it. */
bool world_admit(struct world_node *a, struct world_node *b)
{
    if (refuses(a, b) || refuses(b, a)) {
        return false;
    }
    pin(a, b);
    pin(b, a);
    return true;
}

bool world_are_linked(const struct world_node *a, const struct world_node *b)
{
    bool a_dials = a->members[b->id], b_dials = b->members[a->id];

    return (a_dials && (b_dials || b->open)) || (b_dials && a->open);
}

/* A link is down only if nothing passes at all: one direction alone is lost in silence. */
static bool is_cut(const struct world *world, size_t a, size_t b)
{
    return world->cut[a][b] && world->cut[b][a];
}

static bool are_peers(const struct world_node *a, const struct world_node *b)
{
    return a != b && a->gid == b->gid && a->server != NULL && b->server != NULL;
}

/* ---- Links ---- */

/* A process that ended is found to be gone, unless its machine is cut off; and by that fault, now
 * and then, one that lives, as by a firewall that answers for it. */
static bool seems_gone(struct world *world, const struct world_node *node)
{
    bool is_wrong = world->faults.wrongly_gone && rng_below(&world->rng, 4) == 0;

    return node->connected && (node->ending || is_wrong);
}

/* In order: the later news is the last word. */
static void announce_link(struct world *world, struct world_node *to, struct world_node *about,
                          bool up)
{
    uint64_t *last_us = &to->link_us[about->number];
    uint64_t at_us = world->now_us + world_reliable_delay(world);
    struct item item = {.type = ITEM_PEER_LINK,
                        .node = to->number,
                        .life = to->life,
                        .owner = (owner_id)about->number,
                        .up = up};

    *last_us = at_us > *last_us ? at_us : *last_us;
    world_schedule(world, *last_us - world->now_us, &item);
    if (!up && seems_gone(world, about)) {
        *last_us += rng_between(&world->rng, GONE_MIN_US, GONE_MAX_US);
        item.gone = true;
        world_schedule(world, *last_us - world->now_us, &item);
    }
}

void world_announce_links(struct world *world, struct world_node *node, bool up)
{
    for (size_t i = 0; i < world->n_nodes; i++) {
        struct world_node *other = world->nodes[i];
        if (are_peers(node, other) &&
            (!up || (node->connected && other->connected && world_are_linked(node, other) &&
                     !is_cut(world, i, node->number) && world_admit(node, other)))) {
            announce_link(world, other, node, up);
            announce_link(world, node, other, up);
        }
    }
}

static void announce_new_link(struct world *world, struct world_node *node, raft_id id)
{
    struct world_node *other =
        node->peers[id] == WORLD_NO_NODE ? NULL : world->nodes[node->peers[id]];

    if (other != NULL && are_peers(node, other) && node->connected && other->connected &&
        world_are_linked(node, other) && !is_cut(world, node->number, other->number) &&
        world_admit(node, other)) {
        announce_link(world, other, node, true);
        announce_link(world, node, other, true);
    }
}

void world_set_members(struct world *world, struct world_node *node, const struct io_peer *peers,
                       size_t n, bool open)
{
    bool before[SPEC_MAX_ID + 1];
    bool opened = open && !node->open;

    node->open = open;
    if (opened) { /* those that it let not in try again */
        for (raft_id id = 1; id <= SPEC_MAX_ID; id++) {
            if (!node->members[id]) {
                announce_new_link(world, node, id);
            }
        }
    }
    if (n == 0) {
        return;
    }
    node->joins = false;
    memcpy(before, node->members, sizeof(before));
    memset(node->members, 0, sizeof(node->members));
    for (size_t i = 0; i < n; i++) {
        ASSERT(peers[i].id <= SPEC_MAX_ID);
        node->members[peers[i].id] = true;
    }
    for (raft_id id = 1; id <= SPEC_MAX_ID; id++) {
        if (node->members[id] && !before[id] && id != node->id) {
            announce_new_link(world, node, id);
        }
    }
}

uint64_t world_incarnation_number(const struct world_node *node)
{
    return (uint64_t)node->incarnation << 32 | (node->number + 1);
}

void world_tell_pins(struct world *world, struct world_node *node)
{
    for (size_t i = 0; i < world->n_nodes; i++) {
        if (world->nodes[i]->gid == node->gid && world->nodes[i] != node) {
            tell_pin(node, world->nodes[i]);
        }
    }
}

void world_follow_pins(struct world *world, struct world_node *node)
{
    const struct group *group = node->ops->group(node->server);

    for (size_t i = 0; i < world->n_nodes && group != NULL; i++) {
        const struct world_node *other = world->nodes[i];

        if (other->gid == node->gid && other != node) {
            uint64_t before = pinned_number(node, other);
            uint64_t now = group_pinned_incarnation(group, other->id, before);

            node->pinned[i] = (uint32_t)(now >> 32);
            if (now != before) {
                tell_pin(node, other);
            }
        }
    }
}

void world_on_peer_link(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = item->up     ? IO_EVENT_PEER_UP
                                     : item->gone ? IO_EVENT_PEER_GONE
                                                  : IO_EVENT_PEER_DOWN};

    if (node->server == NULL || node->life != item->life) {
        return;
    }
    event.peer.group = node->gid;
    event.peer.id = world->nodes[item->owner]->id;
    event.peer.incarnation = world_incarnation_number(world->nodes[item->owner]);
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

/* ---- Cuts ---- */

static void set_cut(struct world *world, size_t a, size_t b, bool a_to_b, bool b_to_a)
{
    struct world_node *na = world->nodes[a], *nb = world->nodes[b];
    bool before = is_cut(world, a, b);

    world->cut[a][b] = a_to_b;
    world->cut[b][a] = b_to_a;
    if (before != is_cut(world, a, b) && are_peers(na, nb) && na->connected && nb->connected &&
        (before == false || world_admit(na, nb))) {
        announce_link(world, na, nb, before);
        announce_link(world, nb, na, before);
    }
}

void world_cut_pair(struct world *world, size_t a, size_t b, bool cut)
{
    set_cut(world, a, b, cut, cut);
}

void world_cut_one_way(struct world *world, size_t from, size_t to, bool cut)
{
    ASSERT(from != to);
    set_cut(world, from, to, cut, world->cut[to][from]);
}

void world_cut_client(struct world *world, size_t client, size_t node, bool cut)
{
    world->client_cut[client][node] = cut;
}

/* ---- Clogs ---- */

bool world_hold_clogged(struct world *world, owner_id from, owner_id to, struct item *item)
{
    if (from >= WORLD_MAX_NODES || to >= WORLD_MAX_NODES || !world->clogged[from][to]) {
        return false;
    }
    world->counts.clogged++;
    world_room_add(&world->clog, item);
    return true;
}

/* In the order in which they were sent, ahead of what is sent from now on; of a stream, not ahead
 * of what was on the way before the clog. */
static void release(struct world *world, size_t from, size_t to)
{
    struct waiting_room *room = &world->clog;
    size_t kept = 0;

    for (size_t i = 0; i < room->n; i++) {
        struct item *item = &room->items[i];
        bool answer = item->type == ITEM_RESPONSE;
        size_t source = answer ? item->node : item->owner;
        size_t target = answer ? item->owner : item->node;

        bool early = item->type != ITEM_PEER_MESSAGE && item->at_us > world->now_us;

        if (source == from && target == to) {
            world_schedule(world, early ? item->at_us - world->now_us : 0, item);
        } else {
            room->items[kept++] = *item;
        }
    }
    room->n = kept;
}

void world_clog(struct world *world, size_t from, size_t to, bool clogged)
{
    ASSERT(from < world->n_nodes && to < world->n_nodes && from != to);
    if (world->clogged[from][to] && !clogged) {
        release(world, from, to);
    }
    world->clogged[from][to] = clogged;
}

/* ---- The end of it ---- */

void world_heal(struct world *world)
{
    for (size_t a = 0; a < world->n_nodes; a++) {
        for (size_t b = a + 1; b < world->n_nodes; b++) {
            world_cut_pair(world, a, b, false);
            world_clog(world, a, b, false);
            world_clog(world, b, a, false);
        }
        for (size_t client = 0; client < WORLD_MAX_CLIENTS; client++) {
            world->client_cut[client][a] = false;
        }
    }
    for (size_t a = 0; a < world->n_nodes; a++) {
        world_connect(world, a, true);
    }
}
