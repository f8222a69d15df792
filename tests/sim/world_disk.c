/* Disks: how long they take, what is wrong with them, and the state's part of it. The log's part is
 * in world_log.c. */
#include "raft/util/assert.h"
#include "tests/sim/world_internal.h"

#define LOG_WORK_MIN_US   80 /* one synced write, as measured on real disks with a write cache */
#define LOG_WORK_MAX_US   250
#define STATE_WORK_MIN_US 300
#define STATE_WORK_MAX_US 3000

/* ---- Work ---- */

static uint64_t draw_duration(struct world *world, const struct world_node *node, uint64_t low_us,
                              uint64_t high_us)
{
    uint64_t factor = node->disk.slow_factor > 1 ? node->disk.slow_factor : 1;

    return factor * rng_between(&world->rng, low_us, high_us);
}

void world_schedule_disk(struct world *world, struct world_node *node)
{
    struct item item = {.node = node->number, .life = node->life};

    if (!node->log_work_scheduled && world_log_n_writes(node) > 0) {
        node->log_work_scheduled = true;
        item.type = ITEM_LOG_WORK;
        world_schedule(world, draw_duration(world, node, LOG_WORK_MIN_US, LOG_WORK_MAX_US), &item);
    } else if (!node->log_work_scheduled && world_log_has_notes(node)) {
        world_log_schedule_idle(world, node);
    }
    if (!node->state_work_scheduled && mem_state_n_work(node->state) > 0) {
        node->state_work_scheduled = true;
        item.type = ITEM_STATE_WORK;
        world_schedule(world, draw_duration(world, node, STATE_WORK_MIN_US, STATE_WORK_MAX_US),
                       &item);
    }
}

void world_on_log_work(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];

    if (node->server == NULL || node->life != item->life) {
        return;
    }
    if (node->disk.stuck) {
        node->log_work_stuck = true;
        return;
    }
    node->log_work_scheduled = false;
    world_log_work(world, node);
}

void world_on_state_work(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    uint64_t life = node->life;
    struct io_event event;

    if (node->server == NULL || life != item->life) {
        return;
    }
    if (node->disk.stuck) {
        node->state_work_stuck = true;
        return;
    }
    node->state_work_scheduled = false;
    mem_state_work(node->state);
    while (node->life == life && mem_state_take(node->state, &event)) {
        world_deliver(world, node, &event);
    }
    if (node->life == life) {
        world_schedule_disk(world, node);
    }
}

/* ---- Space ---- */

static void set_state_full(struct world_node *node, bool full)
{
    uint32_t times = full ? UINT32_MAX : 0;

    mem_state_fail(node->state, MEM_STATE_FAIL_CHECKPOINT, ST_NO_SPACE, times);
    mem_state_fail(node->state, MEM_STATE_FAIL_INSTALL, ST_NO_SPACE, times);
    mem_state_fail(node->state, MEM_STATE_FAIL_INSTALL_WRITE, ST_NO_SPACE, full ? 1 : 0);
}

static void set_full(struct world_node *node, bool full)
{
    set_state_full(node, full);
    world_log_set_full(node, full);
}

static void tell_space(struct world *world, struct world_node *node, bool low)
{
    struct item item = {
        .type = ITEM_DISK_SPACE, .node = node->number, .life = node->life, .up = low};

    world_schedule(world, 0, &item);
}

/* The server hears that there is little space before there is none, and that there is some after it
 * is there, as raft/host looks at the disk. */
void world_on_disk_space(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event event = {.type = IO_EVENT_DISK_SPACE};
    uint64_t life = node->life;

    if (node->server == NULL || life != item->life || node->disk.full != item->up) {
        return;
    }
    event.disk.low = item->up;
    world_deliver(world, node, &event);
    if (node->life == life) {
        set_full(node, item->up);
    }
}

/* ---- What explains a halt ---- */

static bool is_to_come(const struct world_node *node, enum world_disk_fault fault)
{
    switch (fault) {
    case WORLD_DISK_WRITE_ERROR:
    case WORLD_DISK_SYNC_ERROR:
        return world_log_fails(node, fault);
    case WORLD_DISK_STATE_ERROR:
        return mem_state_fails(node->state, MEM_STATE_FAIL_CHECKPOINT) &&
               mem_state_fails(node->state, MEM_STATE_FAIL_INSTALL_WRITE);
    case WORLD_DISK_READ_ERROR:
        return mem_state_fails(node->state, MEM_STATE_FAIL_GET);
    case WORLD_DISK_N_FAULTS:
        break;
    }
    UNREACHABLE("no fault of a disk");
}

bool world_disk_explains(const struct world_node *node)
{
    bool explains = node->damaged || node->was_hit;

    for (int fault = 0; fault < WORLD_DISK_N_FAULTS; fault++) {
        explains |= node->asked_for[fault] && !is_to_come(node, (enum world_disk_fault)fault);
    }
    return explains;
}

/* What was going to fail does not any more. */
static void forget_errors(struct world_node *node)
{
    for (int fault = 0; fault < WORLD_DISK_N_FAULTS; fault++) {
        node->asked_for[fault] &= !is_to_come(node, (enum world_disk_fault)fault);
    }
    mem_state_fail(node->state, MEM_STATE_FAIL_GET, ST_IO, 0);
    set_state_full(node, node->disk.full);
    world_log_forget_errors(node);
}

void world_set_disk(struct world *world, size_t number, const struct world_disk *disk)
{
    struct world_node *node = world->nodes[number];
    struct world_disk before = node->disk;
    struct item item = {.node = number, .life = node->life};

    node->disk = *disk;
    if (disk->slow_factor <= 1 && !disk->stuck && !disk->full) {
        forget_errors(node);
    }
    if (disk->full != before.full) {
        if (node->server == NULL || !disk->full) {
            set_full(node, disk->full);
        }
        if (node->server != NULL) {
            tell_space(world, node, disk->full);
        }
        if (node->server != NULL && !disk->full) { /* what waited for room */
            item.type = ITEM_LOG_WORK;
            world_schedule(world, 0, &item);
        }
    }
    if (!disk->stuck && node->log_work_stuck) {
        item.type = ITEM_LOG_WORK;
        world_schedule(world, 0, &item);
    }
    if (!disk->stuck && node->state_work_stuck) {
        item.type = ITEM_STATE_WORK;
        world_schedule(world, 0, &item);
    }
    if (!disk->stuck) {
        node->log_work_stuck = node->state_work_stuck = false;
    }
}

/* ---- Errors ---- */

void world_fail_disk(struct world *world, size_t number, enum world_disk_fault fault)
{
    struct world_node *node = world->nodes[number];

    node->was_hit |= world_disk_explains(node);
    node->asked_for[fault] = true;
    switch (fault) {
    case WORLD_DISK_WRITE_ERROR:
    case WORLD_DISK_SYNC_ERROR:
        world_log_fail(world, node, fault);
        break;
    case WORLD_DISK_STATE_ERROR:
        mem_state_fail(node->state, MEM_STATE_FAIL_CHECKPOINT, ST_IO, 1);
        mem_state_fail(node->state, MEM_STATE_FAIL_INSTALL_WRITE, ST_IO, 1);
        break;
    case WORLD_DISK_READ_ERROR:
        mem_state_fail(node->state, MEM_STATE_FAIL_GET, ST_IO, 1);
        break;
    case WORLD_DISK_N_FAULTS:
        UNREACHABLE("no fault of a disk");
    }
}

bool world_flip_bit(struct world *world, size_t number)
{
    struct world_node *node = world->nodes[number];
    bool log_first = rng_below(&world->rng, 2) == 0;

    ASSERT(node->server == NULL);
    if ((log_first && world_log_flip(world, node)) || mem_state_damage(node->state) ||
        (!log_first && world_log_flip(world, node))) {
        node->damaged = true;
        return true;
    }
    return false;
}

/* ---- Lives ---- */

void world_disk_begin(struct world *world, struct world_node *node)
{
    if (node->disk.full) {
        set_full(node, true);
        tell_space(world, node, true);
    }
}

void world_disk_end(struct world *world, struct world_node *node, bool orderly)
{
    node->log_work_scheduled = node->state_work_scheduled = false;
    node->log_work_stuck = node->state_work_stuck = false;
    world_log_end(world, node, orderly);
    mem_state_crash(node->state);
    forget_errors(node);
    memset(node->asked_for, 0, sizeof(node->asked_for));
    node->was_hit = false;
}
