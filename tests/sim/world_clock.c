/* The nodes' clocks, and deadlines: of nodes in the time of their own clocks, of clients in the
 * world's. */
#include "raft/util/assert.h"
#include "tests/sim/world_internal.h"

#define MILLION       1000000u
#define WALL_START_US 1700000000000000 /* the wall clocks' time at the world's 0 */

void world_clock_init(struct world_clock *clock)
{
    *clock = (struct world_clock){.rate_ppm = MILLION};
}

uint64_t world_clock_us(const struct world *world, const struct world_node *node)
{
    const struct world_clock *clock = &node->clock;
    uint64_t passed_us = world->now_us - clock->base_world_us;

    if (clock->rate_ppm == MILLION) {
        return clock->base_local_us + passed_us;
    }
    return clock->base_local_us +
           (uint64_t)((unsigned __int128)passed_us * clock->rate_ppm / MILLION);
}

uint64_t world_clock_wall_us(const struct world *world, const struct world_node *node)
{
    return (uint64_t)(WALL_START_US + (int64_t)world_clock_us(world, node) + node->clock.skew_us);
}

/* When the world's time comes at which the node's clock shows this; WORLD_NEVER_US. */
static uint64_t clock_when(const struct world *world, const struct world_node *node,
                           uint64_t local_ms)
{
    const struct world_clock *clock = &node->clock;
    uint64_t local_us = local_ms * 1000;
    unsigned __int128 wait;

    if (local_ms > UINT64_MAX / 2000) {
        return WORLD_NEVER_US;
    }
    if (local_us <= clock->base_local_us) {
        return world->now_us;
    }
    wait = (unsigned __int128)(local_us - clock->base_local_us) * MILLION;
    return clock->base_world_us + (uint64_t)((wait + clock->rate_ppm - 1) / clock->rate_ppm);
}

void world_set_clock_skew(struct world *world, size_t node, int64_t skew_us)
{
    ASSERT(node < world->n_nodes);
    world->nodes[node]->clock.skew_us = skew_us;
}

void world_set_clock_rate(struct world *world, size_t number, uint32_t rate_ppm)
{
    struct world_node *node = world->nodes[number];

    ASSERT(number < world->n_nodes && rate_ppm > 0);
    node->clock.base_local_us = world_clock_us(world, node);
    node->clock.base_world_us = world->now_us;
    node->clock.rate_ppm = rate_ppm;
    if (node->server != NULL && !node->paused) {
        world_cancel_wake(world, node);
        world_schedule_wake(world, node);
    }
}

/* ---- Deadlines ---- */

void world_cancel_wake(struct world *world, struct world_node *node)
{
    if (node->wake_slot != WORLD_NO_SLOT) {
        world_unschedule(world, node->wake_slot);
    }
    node->wake_slot = WORLD_NO_SLOT;
    node->wake_us = 0;
}

void world_schedule_wake(struct world *world, struct world_node *node)
{
    uint64_t at_us = clock_when(world, node, node->ops->next_deadline_ms(node->server));
    struct item item = {.type = ITEM_WAKE_NODE, .node = node->number};

    if (at_us == node->wake_us || at_us == WORLD_NEVER_US) {
        return;
    }
    world_cancel_wake(world, node);
    node->wake_us = at_us;
    node->wake_slot =
        world_schedule(world, at_us > world->now_us ? at_us - world->now_us : 0, &item);
}

void world_on_wake_node(struct world *world, struct item *item)
{
    struct world_node *node = world->nodes[item->node];
    struct io_event tick = {.type = IO_EVENT_TICK};

    node->wake_slot = WORLD_NO_SLOT;
    node->wake_us = 0;
    if (node->server != NULL) {
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
    at_us = deadline_ms > UINT64_MAX / 2000 ? WORLD_NEVER_US : deadline_ms * 1000;
    if (at_us == client->wake_us || at_us == WORLD_NEVER_US) {
        return;
    }
    if (client->wake_slot != WORLD_NO_SLOT) {
        world_unschedule(world, client->wake_slot);
    }
    client->wake_us = at_us;
    client->wake_slot =
        world_schedule(world, at_us > world->now_us ? at_us - world->now_us : 0, &item);
}

void world_on_wake_client(struct world *world, struct item *item)
{
    struct world_client *client = &world->clients[item->owner];

    client->wake_slot = WORLD_NO_SLOT;
    client->wake_us = 0;
    if (client->ops != NULL) {
        client->ops->tick(client->client, world->now_us / 1000);
        world_reschedule(world, item->owner);
    }
}
