/* The world as a whole: its nodes and clients, and the loop that lets one thing happen after the
 * other. What happens is in world_queue, world_process, world_clock, world_net, world_stream,
 * world_faults, world_disk, world_log and world_observe. */
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/world_internal.h"

/* ---- Time ---- */

static void handle(struct world *world, struct item *item)
{
    if (world_hold_paused(world, item)) {
        return;
    }
    switch (item->type) {
    case ITEM_PEER_MESSAGE:
        world_on_peer_message(world, item);
        break;
    case ITEM_PEER_LINK:
        world_on_peer_link(world, item);
        break;
    case ITEM_REQUEST:
        world_on_request(world, item);
        break;
    case ITEM_RESPONSE:
        world_on_response(world, item);
        break;
    case ITEM_STREAM_DOWN:
        world_on_stream_down(world, item);
        break;
    case ITEM_STREAM_CLOSED:
        world_on_stream_closed(world, item);
        break;
    case ITEM_WAKE_NODE:
        world_on_wake_node(world, item);
        break;
    case ITEM_WAKE_CLIENT:
        world_on_wake_client(world, item);
        break;
    case ITEM_LOG_WORK:
        world_on_log_work(world, item);
        break;
    case ITEM_LOG_IDLE:
        world_log_idle(world, world->nodes[item->node], item);
        break;
    case ITEM_STATE_WORK:
        world_on_state_work(world, item);
        break;
    case ITEM_DISK_SPACE:
        world_on_disk_space(world, item);
        break;
    }
    buf_fini(&item->bytes);
}

static bool run_slice(struct world *world, uint64_t end_us, bool (*done)(void *context),
                      void *context)
{
    struct item item;

    while (world_queue_pop(world, end_us, &item)) {
        handle(world, &item);
        if (done != NULL && done(context)) {
            return true;
        }
    }
    world->now_us = end_us;
    return done != NULL && done(context);
}

bool world_run_until(struct world *world, uint64_t ms, bool (*done)(void *context), void *context)
{
    uint64_t end_us = world->now_us + ms * 1000;

    if (done == NULL) {
        return run_slice(world, end_us, NULL, NULL);
    }
    if (done(context)) {
        return true;
    }
    while (world->now_us < end_us) {
        uint64_t slice_us = (world->now_us / 1000 + 1) * 1000;
        if (run_slice(world, slice_us < end_us ? slice_us : end_us, done, context)) {
            return true;
        }
    }
    return false;
}

void world_run_ms(struct world *world, uint64_t ms)
{
    world_run_until(world, ms, NULL, NULL);
}

uint64_t world_now_us(const struct world *world)
{
    return world->now_us;
}

uint64_t world_now_ms(const struct world *world)
{
    return world->now_us / 1000;
}

/* ---- The world as a whole ---- */

struct world *world_create(uint64_t seed)
{
    struct world *world = mem_zalloc(sizeof(*world));

    rng_init(&world->rng, seed);
    world->now_us = 1000000;
    world->next_conn = 1;
    return world;
}

void world_destroy(struct world **world)
{
    struct world *w = *world;

    /* All servers first: one that ends may still answer another. */
    for (size_t i = 0; i < w->n_nodes; i++) {
        if (w->nodes[i]->server != NULL) {
            world_tell_stopping(w, i);
            w->nodes[i]->ops->destroy(&w->nodes[i]->server);
        }
    }
    for (size_t i = 0; i < w->n_nodes; i++) {
        world_log_fini(w->nodes[i]);
        mem_state_destroy(&w->nodes[i]->state);
        world_room_fini(&w->nodes[i]->room);
        mem_free(w->nodes[i]);
    }
    world_queue_fini(w);
    world_room_fini(&w->clog);
    buf_fini(&w->record_bytes);
    mem_free(w);
    *world = NULL;
}

void world_make_spec(struct world *world, group_id gid, size_t n, struct spec *spec)
{
    (void)world;
    memset(spec, 0, sizeof(*spec));
    spec->n = n;
    for (size_t i = 0; i < n; i++) {
        spec->replicas[i].id = (uint32_t)i + 1;
        snprintf(spec->replicas[i].url, sizeof(spec->replicas[i].url), "tcp://g%u-%zu:1", gid,
                 i + 1);
    }
}

void world_use_wal(struct world *world, bool use)
{
    world->use_wal = use;
}

static void emit_trace(void *context, enum trace_level level, const char *line)
{
    const struct world_node *node = context;

    (void)level;
    fprintf(stderr, "%10.3f g%u/%u %s\n", (double)node->world->now_us / 1000, node->gid, node->id,
            line);
}

/* The nodes of a group find each other by id. */
static void introduce(struct world *world, struct world_node *node)
{
    memset(node->peers, WORLD_NO_NODE, sizeof(node->peers));
    for (size_t i = 0; i < world->n_nodes; i++) {
        struct world_node *other = world->nodes[i];
        if (other->gid == node->gid && other->id != node->id) {
            node->peers[other->id] = (uint8_t)i;
            other->peers[node->id] = (uint8_t)node->number;
        }
    }
}

size_t world_add_node(struct world *world, group_id gid, raft_id id, const struct spec *spec,
                      const struct world_node_ops *ops, void *context)
{
    struct world_node *node = mem_zalloc(sizeof(*node));

    ASSERT(world->n_nodes < WORLD_MAX_NODES && id <= SPEC_MAX_ID);
    node->net.ops = &world_net_ops;
    node->world = world;
    node->number = world->n_nodes;
    node->gid = gid;
    node->id = id;
    node->spec = *spec;
    node->url = spec_find(&node->spec, id)->url;
    node->ops = ops;
    node->context = context;
    world_log_init(node, world->use_wal, world->use_wal ? rng_next(&world->rng) : 0);
    node->state = mem_state_create(gid);
    node->connected = true;
    node->incarnation = 1;
    for (size_t i = 0; i < spec->n; i++) {
        node->members[spec->replicas[i].id] = true;
    }
    node->wake_slot = WORLD_NO_SLOT;
    world_clock_init(&node->clock);
    node->trace.context = node;
    node->trace.level = TRACE_DEBUG;
    node->trace.emit = getenv("SIM_TRACE") != NULL ? emit_trace : NULL;
    introduce(world, node);
    world_add_url(world, node);
    world->nodes[world->n_nodes] = node;
    return world->n_nodes++;
}

size_t world_add_client(struct world *world, const struct world_client_ops *ops, void *client)
{
    for (size_t i = 0; i < WORLD_MAX_CLIENTS; i++) {
        if (world->clients[i].ops == NULL) {
            world->clients[i].ops = ops;
            world->clients[i].client = client;
            world->clients[i].wake_us = 0;
            world->clients[i].wake_slot = WORLD_NO_SLOT;
            if (i >= world->n_clients) {
                world->n_clients = i + 1;
            }
            world_reschedule(world, i);
            return i;
        }
    }
    UNREACHABLE("more clients than a world holds");
}

void world_remove_client(struct world *world, size_t client)
{
    struct world_client *gone = &world->clients[client];

    gone->ops = NULL;
    if (gone->wake_slot != WORLD_NO_SLOT) {
        world_unschedule(world, gone->wake_slot);
        gone->wake_slot = WORLD_NO_SLOT;
    }
    world_close_streams_of(world, (owner_id)(WORLD_MAX_NODES + client));
    for (size_t node = 0; node < world->n_nodes; node++) {
        world->client_cut[client][node] = false;
    }
}

bool world_is_running(const struct world *world, size_t node)
{
    return world->nodes[node]->server != NULL;
}

void *world_server(const struct world *world, size_t node)
{
    return world->nodes[node]->server;
}

struct group *world_group(const struct world *world, size_t node)
{
    const struct world_node *n = world->nodes[node];
    return n->server == NULL ? NULL : n->ops->group(n->server);
}

size_t world_node_count(const struct world *world)
{
    return world->n_nodes;
}

uint64_t world_log_bytes(const struct world *world, size_t node)
{
    return world_log_size(world->nodes[node]);
}

uint64_t world_state_bytes(const struct world *world, size_t node)
{
    struct io_state *state = mem_state_io(world->nodes[node]->state);
    return state->ops->disk_bytes(state);
}

const struct mem_state *world_state(const struct world *world, size_t node)
{
    ASSERT(node < world->n_nodes);
    return world->nodes[node]->state;
}

const struct world_counts *world_counted(const struct world *world)
{
    return &world->counts;
}

uint64_t world_rpcs_at(const struct world *world, size_t node)
{
    return world->nodes[node]->rpcs;
}

uint64_t world_issued_at(const struct world *world, size_t node)
{
    return world->nodes[node]->issued;
}

struct rng *world_rng(struct world *world)
{
    return &world->rng;
}
