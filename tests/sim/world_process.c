/* Processes: they start from what their disk holds, are given one event after the other, are
 * paused, crash, and end by themselves when their replica halts. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/world_internal.h"

#define STALL_MS 50 /* as raft/net's: so much of a pause counts as time */

enum ending { ENDING_CRASH, ENDING_ORDERLY };

/* ---- The end ---- */

static void reschedule_room(struct world *world, struct world_node *node)
{
    for (size_t i = 0; i < node->room.n; i++) {
        world_schedule(world, 0, &node->room.items[i]);
    }
    node->room.n = 0;
}

static void end_process(struct world *world, struct world_node *node, enum ending ending)
{
    ASSERT(node->server != NULL);
    world_tell_stopping(world, node->number);
    world_record_life(world, node->number, ending == ENDING_ORDERLY ? "STOP" : "CRASH");
    node->ending = true;
    world_announce_links(world, node, false);
    node->ending = false;
    world_break_streams(world, node);
    node->ops->destroy(&node->server);
    ASSERT(node->server == NULL);
    node->life++;
    world_cancel_wake(world, node);
    node->paused = node->crashing = false;
    reschedule_room(world, node); /* to where they find that the process is gone */
    world_disk_end(world, node, ending == ENDING_ORDERLY);
}

void world_crash_amid(struct world *world, size_t node)
{
    world->nodes[node]->crashing = world->nodes[node]->server != NULL;
}

void world_crash(struct world *world, size_t node)
{
    end_process(world, world->nodes[node], ENDING_CRASH);
}

/* A disk that is stuck keeps the process from ending well: it is killed (as raft/host does). */
void world_stop(struct world *world, size_t node)
{
    end_process(world, world->nodes[node],
                world->nodes[node]->disk.stuck ? ENDING_CRASH : ENDING_ORDERLY);
}

/* Called in a step: the process may end after it only. */
static void on_halt(void *context, enum status status, const char *reason)
{
    struct world_node *node = context;
    char *unexplained = node->world->unexplained_halt;
    bool is_explained = world_disk_explains(node);

    node->halting = is_explained;
    node->halted = true;
    snprintf(node->halt_reason, sizeof(node->halt_reason), "%s: %s", status_name(status), reason);
    if (!is_explained && unexplained[0] == '\0') {
        snprintf(unexplained, sizeof(node->world->unexplained_halt), "node %zu: %s", node->number,
                 node->halt_reason);
    }
}

/* ---- Steps ---- */

void world_deliver(struct world *world, struct world_node *node, struct io_event *event)
{
    struct io_event end = {.type = IO_EVENT_TURN_END};
    uint64_t life = node->life;

    ASSERT(node->server != NULL && !node->paused);
    world->counts.events++;
    event->now_ms = end.now_ms = world_clock_us(world, node) / 1000;
    event->awake_ms = end.awake_ms = event->now_ms - node->asleep_ms;
    event->wall_us = end.wall_us = world_clock_wall_us(world, node);
    if (world->record != NULL) {
        world_record_event(world, node->number, event);
    }
    node->ops->step(node->server, event);
    if (node->crashing && node->life == life && event->type != IO_EVENT_TURN_END) {
        end_process(world, node, ENDING_CRASH);
        return;
    }
    if (node->life == life && event->type != IO_EVENT_TURN_END) {
        node->ops->step(node->server, &end);
    }
    if (node->life != life) {
        return;
    }
    world_follow_pins(world, node);
    if (node->ops->after_step != NULL) {
        node->ops->after_step(node->context, node->server, node->number);
    }
    world_tell_stepped(world, node->number, event);
    if (node->halting) {
        end_process(world, node, ENDING_CRASH);
        return;
    }
    world_schedule_disk(world, node);
    world_schedule_wake(world, node);
}

void world_kick(struct world *world, size_t node)
{
    struct io_event end = {.type = IO_EVENT_TURN_END};

    if (world->nodes[node]->server != NULL && !world->nodes[node]->paused) {
        world_deliver(world, world->nodes[node], &end);
    }
}

/* ---- The start ---- */

static enum status open_disk(struct world_node *node, struct io_log_content *content,
                             struct io_state_meta *meta, char *error)
{
    enum status status;

    if (mem_state_is_damaged(node->state)) {
        snprintf(error, STORE_ERROR_BYTES, "the state is damaged");
        return ST_CORRUPT;
    }
    status = world_log_open(node, content, error);
    if (status == ST_OK) {
        mem_state_meta(node->state, meta);
    }
    return status;
}

/* What nobody took over. */
static void content_fini(struct io_log_content *content)
{
    for (size_t i = 0; i < content->n_entries; i++) {
        blob_unref(&content->entries[i].data);
    }
    mem_free(content->entries);
}

static enum status try_start(struct world *world, struct world_node *node, char *error)
{
    struct io_log_content content = {0};
    struct io_state_meta meta = {0};
    struct io_event tick = {.type = IO_EVENT_TICK};
    struct world_parts parts = {.world = world,
                                .node = node->number,
                                .gid = node->gid,
                                .id = node->id,
                                .spec = node->spec,
                                .incarnation = world_incarnation_number(node),
                                .joins = node->joins,
                                .seed = rng_next(&world->rng),
                                .now_ms = world_clock_us(world, node) / 1000,
                                .trace = &node->trace,
                                .log_content = &content,
                                .state_meta = &meta};
    uint64_t life;
    enum status status;

    ASSERT(node->server == NULL);
    status = open_disk(node, &content, &meta, error);
    if (status != ST_OK) {
        world_record_life(world, node->number, "REFUSED");
        return status;
    }
    parts.io = (struct group_world){&node->net, world_log_io(node), mem_state_io(node->state),
                                    on_halt, node};
    life = ++node->life;
    node->halting = node->halted = false;
    node->asleep_ms = 0;
    node->wake_us = 0;
    world_record_life(world, node->number, "START");
    node->server = node->ops->create(node->context, &parts);
    content_fini(&content);
    buf_fini(&meta.extra);
    if (node->server == NULL) {
        snprintf(error, STORE_ERROR_BYTES, "the server could not be made");
        node->life++;
        world_disk_end(world, node, false);
        return ST_IO;
    }
    world_tell_pins(world, node);
    world_tell_started(world, node->number);
    world_deliver(world, node, &tick);
    if (node->life == life) {
        world_disk_begin(world, node);
    }
    if (node->life == life) {
        world_announce_links(world, node, true);
    }
    return ST_OK;
}

void world_start(struct world *world, size_t node)
{
    char error[STORE_ERROR_BYTES] = "";
    enum status status = try_start(world, world->nodes[node], error);

    if (status != ST_OK) {
        fprintf(stderr, "node %zu: %s: %s\n", node, status_name(status), error);
        UNREACHABLE("a node could not start");
    }
}

bool world_try_start(struct world *world, size_t node)
{
    char error[STORE_ERROR_BYTES] = "";
    enum status status = try_start(world, world->nodes[node], error);

    if (status != ST_OK) {
        trace_error(&world->nodes[node]->trace, "no start status=%s reason=\"%s\"",
                    status_name(status), error);
    }
    return status == ST_OK;
}

/* ---- Pauses ---- */

/* The node that the item is for; NULL: none, or a client. */
static struct world_node *target_of(const struct world *world, const struct item *item)
{
    switch (item->type) {
    case ITEM_WAKE_CLIENT:
        return NULL;
    case ITEM_RESPONSE:
    case ITEM_STREAM_DOWN:
        return item->owner < WORLD_MAX_NODES ? world->nodes[item->owner] : NULL;
    default:
        return world->nodes[item->node];
    }
}

bool world_hold_paused(struct world *world, struct item *item)
{
    struct world_node *node = target_of(world, item);

    if (node == NULL || !node->paused) {
        return false;
    }
    if (item->type == ITEM_WAKE_NODE) { /* it looks at its clock when it goes on */
        node->wake_slot = WORLD_NO_SLOT;
        node->wake_us = 0;
        return true;
    }
    world_room_add(&node->room, item);
    return true;
}

void world_pause(struct world *world, size_t number, bool paused)
{
    struct world_node *node = world->nodes[number];
    uint64_t now_ms = world_clock_us(world, node) / 1000;

    if (node->paused == paused || node->server == NULL) {
        return;
    }
    world_record_life(world, number, paused ? "PAUSE" : "RESUME");
    node->paused = paused;
    if (paused) {
        node->paused_ms = now_ms;
    } else {
        node->asleep_ms +=
            now_ms - node->paused_ms > STALL_MS ? now_ms - node->paused_ms - STALL_MS : 0;
        reschedule_room(world, node);
        world_schedule_wake(world, node);
    }
}

bool world_is_paused(const struct world *world, size_t node)
{
    return world->nodes[node]->paused;
}

/* ---- Lost disks ---- */

void world_wipe(struct world *world, size_t number)
{
    struct world_node *node = world->nodes[number];

    ASSERT(node->server == NULL);
    world_record_life(world, number, "WIPE");
    node->incarnation++;
    node->joins = node->joined = false;
    node->lost = true;
    memset(node->pinned, 0, sizeof(node->pinned));
    memset(node->asked_for, 0, sizeof(node->asked_for));
    node->damaged = node->was_hit = false;
    world_log_wipe(node);
    mem_state_destroy(&node->state);
    node->state = mem_state_create(node->gid);
}

bool world_is_wiped(const struct world *world, size_t node)
{
    return world->nodes[node]->lost;
}

void world_join(struct world *world, size_t number)
{
    struct world_node *node = world->nodes[number];

    ASSERT(node->server == NULL && node->life == 0 ? true : node->lost);
    node->joins = node->joined = true;
    node->lost = false;
}

uint32_t world_incarnation(const struct world *world, size_t node)
{
    return world->nodes[node]->incarnation;
}

const char *world_halted(const struct world *world, size_t number)
{
    const struct world_node *node = world->nodes[number];

    return node->halted ? node->halt_reason : NULL;
}

const char *world_unexplained_halt(const struct world *world)
{
    return world->unexplained_halt[0] != '\0' ? world->unexplained_halt : NULL;
}
