/* The world's clock, disks and processes. The network is in world_net.c. */
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/world_internal.h"

#define LOG_WORK_MIN_US   80 /* one synced write, as measured on real disks with a write cache */
#define LOG_WORK_MAX_US   250
#define STATE_WORK_MIN_US 300
#define STATE_WORK_MAX_US 3000

/* ---- The queue: a binary heap by (time, order) ---- */

static bool item_before(const struct item *a, const struct item *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void heap_swap(struct world *world, size_t a, size_t b)
{
    struct item item = world->heap[a];

    world->heap[a] = world->heap[b];
    world->heap[b] = item;
}

void world_schedule(struct world *world, uint64_t delay_us, struct item *item)
{
    size_t at = world->n_items;

    item->at_us = world->now_us + delay_us;
    item->order = world->next_order++;
    MEM_GROW(world->heap, world->capacity, world->n_items + 1);
    world->heap[world->n_items++] = *item;
    while (at > 0 && item_before(&world->heap[at], &world->heap[(at - 1) / 2])) {
        heap_swap(world, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static struct item heap_pop(struct world *world)
{
    struct item first = world->heap[0];
    size_t at = 0;

    world->heap[0] = world->heap[--world->n_items];
    for (;;) {
        size_t least = at, left = 2 * at + 1, right = left + 1;
        if (left < world->n_items && item_before(&world->heap[left], &world->heap[least])) {
            least = left;
        }
        if (right < world->n_items && item_before(&world->heap[right], &world->heap[least])) {
            least = right;
        }
        if (least == at) {
            return first;
        }
        heap_swap(world, at, least);
        at = least;
    }
}

/* ---- Disks ---- */

static void schedule_disk(struct world *world, struct world_node *node)
{
    struct item item = {.node = node->number, .life = node->life};

    if (!node->log_work_scheduled && mem_log_n_writes(node->log) > 0) {
        node->log_work_scheduled = true;
        item.type = ITEM_LOG_WORK;
        world_schedule(world, rng_between(&world->rng, LOG_WORK_MIN_US, LOG_WORK_MAX_US), &item);
    }
    if (!node->state_work_scheduled && mem_state_n_work(node->state) > 0) {
        node->state_work_scheduled = true;
        item.type = ITEM_STATE_WORK;
        world_schedule(world, rng_between(&world->rng, STATE_WORK_MIN_US, STATE_WORK_MAX_US),
                       &item);
    }
}

/* Everything that waited when the write began becomes durable with it: group commit. */
static void on_log_work(struct world *world, struct world_node *node)
{
    struct io_event event;

    node->log_work_scheduled = false;
    while (mem_log_sync(node->log)) {
    }
    while (node->server != NULL && mem_log_take(node->log, &event)) {
        world_deliver(world, node, &event);
    }
}

static void on_state_work(struct world *world, struct world_node *node)
{
    struct io_event event;

    node->state_work_scheduled = false;
    mem_state_work(node->state);
    while (node->server != NULL && mem_state_take(node->state, &event)) {
        world_deliver(world, node, &event);
    }
}

/* ---- Processes ---- */

static void schedule_wake(struct world *world, struct world_node *node)
{
    uint64_t deadline_ms = node->ops->next_deadline_ms(node->server);
    uint64_t at_us = deadline_ms > UINT64_MAX / 2000 ? UINT64_MAX : deadline_ms * 1000;
    struct item item = {.type = ITEM_WAKE_NODE, .node = node->number};

    if (at_us == node->wake_us || at_us == UINT64_MAX) {
        return;
    }
    node->wake_us = at_us;
    item.life = ++node->wake_version;
    world_schedule(world, at_us > world->now_us ? at_us - world->now_us : 0, &item);
}

void world_observe(struct world *world, const struct world_observer *observer)
{
    ASSERT(world->n_observers < WORLD_MAX_OBSERVERS);
    world->observers[world->n_observers++] = *observer;
}

static void observe_step(struct world *world, size_t node, const struct io_event *event)
{
    for (size_t i = 0; i < world->n_observers; i++) {
        if (world->observers[i].stepped != NULL) {
            world->observers[i].stepped(world->observers[i].context, world, node, event);
        }
    }
}

static void observe_life(struct world *world, size_t node, bool started)
{
    for (size_t i = 0; i < world->n_observers; i++) {
        const struct world_observer *observer = &world->observers[i];
        void (*call)(void *, struct world *, size_t) =
            started ? observer->started : observer->stopping;
        if (call != NULL) {
            call(observer->context, world, node);
        }
    }
}

void world_deliver(struct world *world, struct world_node *node, struct io_event *event)
{
    struct io_event end = {.type = IO_EVENT_TURN_END};
    uint64_t life = node->life;

    ASSERT(node->server != NULL);
    world->counts.events++;
    event->now_ms = end.now_ms = world->now_us / 1000;
    event->wall_us = end.wall_us =
        (uint64_t)((int64_t)(1700000000000000u + world->now_us) + node->clock_skew_us);
    node->ops->step(node->server, event);
    observe_step(world, node->number, event);
    if (node->life == life && event->type != IO_EVENT_TURN_END) {
        node->ops->step(node->server, &end);
        observe_step(world, node->number, &end);
    }
    if (node->life != life) {
        return;
    }
    if (node->ops->after_step != NULL) {
        node->ops->after_step(node->context, node->server, node->number);
    }
    schedule_disk(world, node);
    schedule_wake(world, node);
}

static void on_halt(void *context, enum status status, const char *reason)
{
    struct world_node *node = context;

    node->halted = true;
    snprintf(node->halt_reason, sizeof(node->halt_reason), "%s: %s", status_name(status), reason);
}

static void emit_trace(void *context, enum trace_level level, const char *line)
{
    const struct world_node *node = context;

    (void)level;
    fprintf(stderr, "%10.3f g%u/%u %s\n", (double)node->world->now_us / 1000, node->gid, node->id,
            line);
}

void world_start(struct world *world, size_t number)
{
    struct world_node *node = world->nodes[number];
    struct io_log_content content = {0};
    struct io_state_meta meta = {0};
    struct io_event tick = {.type = IO_EVENT_TICK};
    struct world_parts parts = {.world = world,
                                .node = number,
                                .gid = node->gid,
                                .id = node->id,
                                .spec = node->spec,
                                .seed = rng_next(&world->rng),
                                .now_ms = world->now_us / 1000,
                                .trace = &node->trace,
                                .log_content = &content,
                                .state_meta = &meta};

    ASSERT(node->server == NULL);
    mem_log_content(node->log, node->gid, &content);
    mem_state_meta(node->state, &meta);
    parts.io = (struct group_world){&node->net, mem_log_io(node->log), mem_state_io(node->state),
                                    on_halt, node};
    node->life++;
    node->halted = false;
    node->wake_us = 0;
    node->server = node->ops->create(node->context, &parts);
    ASSERT(node->server != NULL);
    mem_free(content.entries);
    buf_fini(&meta.extra);
    observe_life(world, number, true);
    world_deliver(world, node, &tick);
    world_announce_links(world, node, true);
}

static void end_process(struct world *world, struct world_node *node)
{
    ASSERT(node->server != NULL);
    observe_life(world, node->number, false);
    world_announce_links(world, node, false);
    world_break_streams(world, node);
    node->ops->destroy(&node->server);
    ASSERT(node->server == NULL);
    node->life++;
    node->log_work_scheduled = node->state_work_scheduled = false;
    mem_log_crash(node->log, rng_below(&world->rng, mem_log_n_writes(node->log) + 1));
    mem_state_crash(node->state);
}

void world_crash(struct world *world, size_t node)
{
    end_process(world, world->nodes[node]);
}

void world_stop(struct world *world, size_t node)
{
    while (mem_log_sync(world->nodes[node]->log)) {
    }
    end_process(world, world->nodes[node]);
}

/* ---- Time ---- */

static void on_wake_node(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event tick = {.type = IO_EVENT_TICK};

    if (node->server != NULL && item->life == node->wake_version) {
        node->wake_us = 0;
        world_deliver(world, node, &tick);
    }
}

void world_reschedule(struct world *world, size_t number)
{
    struct world_client *client = &world->clients[number];
    uint64_t deadline_ms, at_us;
    struct item item = {.type = ITEM_WAKE_CLIENT, .owner = (owner_id)number};

    if (client->ops == NULL || client->ops->next_deadline_ms == NULL) {
        return;
    }
    deadline_ms = client->ops->next_deadline_ms(client->client);
    at_us = deadline_ms > UINT64_MAX / 2000 ? UINT64_MAX : deadline_ms * 1000;
    if (at_us == client->wake_us || at_us == UINT64_MAX) {
        return;
    }
    client->wake_us = at_us;
    item.life = ++client->wake_version;
    world_schedule(world, at_us > world->now_us ? at_us - world->now_us : 0, &item);
}

static void on_wake_client(struct world *world, struct item *item)
{
    struct world_client *client = &world->clients[item->owner];

    if (client->ops != NULL && item->life == client->wake_version) {
        client->wake_us = 0;
        client->ops->tick(client->client, world->now_us / 1000);
        world_reschedule(world, item->owner);
    }
}

static void handle(struct world *world, struct item *item)
{
    struct world_node *node = item->node < world->n_nodes ? world->nodes[item->node] : NULL;

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
        on_wake_node(world, item);
        break;
    case ITEM_WAKE_CLIENT:
        on_wake_client(world, item);
        break;
    case ITEM_LOG_WORK:
        if (node->life == item->life) {
            on_log_work(world, node);
        }
        break;
    case ITEM_STATE_WORK:
        if (node->life == item->life) {
            on_state_work(world, node);
        }
        break;
    }
    buf_fini(&item->bytes);
}

bool world_run_until(struct world *world, uint64_t ms, bool (*done)(void *context), void *context)
{
    uint64_t end_us = world->now_us + ms * 1000;

    if (done != NULL && done(context)) {
        return true;
    }
    while (world->n_items > 0 && world->heap[0].at_us <= end_us) {
        struct item item = heap_pop(world);
        if (item.at_us > world->now_us) {
            world->now_us = item.at_us;
        }
        handle(world, &item);
        if (done != NULL && done(context)) {
            return true;
        }
    }
    world->now_us = end_us;
    return false;
}

void world_run_ms(struct world *world, uint64_t ms)
{
    world_run_until(world, ms, NULL, NULL);
}

void world_kick(struct world *world, size_t node)
{
    struct io_event end = {.type = IO_EVENT_TURN_END};

    if (world->nodes[node]->server != NULL) {
        world_deliver(world, world->nodes[node], &end);
    }
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

    for (size_t i = 0; i < w->n_nodes; i++) {
        if (w->nodes[i]->server != NULL) {
            w->nodes[i]->ops->destroy(&w->nodes[i]->server);
        }
        mem_log_destroy(&w->nodes[i]->log);
        mem_state_destroy(&w->nodes[i]->state);
        mem_free(w->nodes[i]);
    }
    for (size_t i = 0; i < w->n_items; i++) {
        buf_fini(&w->heap[i].bytes);
    }
    mem_free(w->heap);
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

size_t world_add_node(struct world *world, group_id gid, raft_id id, const struct spec *spec,
                      const struct world_node_ops *ops, void *context)
{
    struct world_node *node = mem_zalloc(sizeof(*node));

    ASSERT(world->n_nodes < WORLD_MAX_NODES);
    node->net.ops = &world_net_ops;
    node->world = world;
    node->number = world->n_nodes;
    node->gid = gid;
    node->id = id;
    node->spec = *spec;
    node->ops = ops;
    node->context = context;
    node->log = mem_log_create();
    node->state = mem_state_create(gid);
    node->connected = true;
    node->trace.context = node;
    node->trace.level = TRACE_DEBUG;
    node->trace.emit = getenv("SIM_TRACE") != NULL ? emit_trace : NULL;
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
    world->clients[client].ops = NULL;
    world->clients[client].wake_version++;
    for (size_t node = 0; node < world->n_nodes; node++) {
        world->streams[WORLD_MAX_NODES + client][node].conn = 0;
        world->client_cut[client][node] = false;
    }
}

bool world_is_wiped(const struct world *world, size_t node)
{
    (void)world, (void)node;
    return false;
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
    struct io_log *log = mem_log_io(world->nodes[node]->log);
    return log->ops->bytes(log);
}

uint64_t world_state_bytes(const struct world *world, size_t node)
{
    struct io_state *state = mem_state_io(world->nodes[node]->state);
    return state->ops->disk_bytes(state);
}

void world_set_clock_skew(struct world *world, size_t node, int64_t skew_us)
{
    ASSERT(node < world->n_nodes);
    world->nodes[node]->clock_skew_us = skew_us;
}

const struct mem_state *world_state(const struct world *world, size_t node)
{
    ASSERT(node < world->n_nodes);
    return world->nodes[node]->state;
}

const char *world_halted(const struct world *world, size_t node)
{
    return world->nodes[node]->halted ? world->nodes[node]->halt_reason : NULL;
}

const struct world_counts *world_counted(const struct world *world)
{
    return &world->counts;
}

uint64_t world_rpcs_at(const struct world *world, size_t node)
{
    return world->nodes[node]->rpcs;
}

struct rng *world_rng(struct world *world)
{
    return &world->rng;
}
