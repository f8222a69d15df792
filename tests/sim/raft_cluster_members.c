/* Replicas of a raft_cluster come and go; see raft_cluster.h. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "tests/sim/raft_cluster_internal.h"

#define CHANGE_TRIES   100
#define CHANGE_WAIT_MS 200

size_t raft_cluster_add(struct raft_cluster *cluster)
{
    struct world *world = raft_cluster_world(cluster);
    struct spec spec;
    size_t i = raft_cluster_size(cluster);

    ASSERT(i < RAFT_CLUSTER_MAX);
    world_make_spec(world, 1, i + 1, &spec);
    i = raft_cluster_add_node(cluster, &spec);
    world_join(world, i);
    world_start(world, i);
    return i;
}

void raft_cluster_rejoin(struct raft_cluster *cluster, size_t i)
{
    struct world *world = raft_cluster_world(cluster);

    if (world_is_running(world, i)) {
        world_crash(world, i);
    }
    world_wipe(world, i);
    world_join(world, i);
    world_start(world, i);
}

void raft_cluster_order(struct raft_cluster *cluster, size_t i, enum group_change_kind kind,
                        raft_id about, group_change_done done, void *context)
{
    struct world *world = raft_cluster_world(cluster);
    struct spec spec;
    struct group_change change = {.kind = kind, .id = about};

    world_make_spec(world, 1, RAFT_CLUSTER_MAX, &spec);
    if (kind == GROUP_ADD_REPLICA) {
        change.url = spec_find(&spec, about)->url;
    }
    group_change_replicas(world_group(world, i), &change, done, context);
    world_kick(world, i);
}

struct order {
    bool ended;
    enum status status;
};

static void order_ended(void *context, enum status status, const char *reason, raft_index index)
{
    struct order *order = context;

    ASSERT(reason != NULL && (index != 0) == (status == ST_OK));
    order->ended = true;
    order->status = status;
}

/* An earlier try may have done it: then there is nothing to add, or to remove. */
static bool is_done(const struct raft_cluster *cluster, size_t leader, enum group_change_kind kind,
                    raft_id about)
{
    bool is_member = raft_cluster_flags(cluster, leader, about) != 0;

    return is_member == (kind == GROUP_ADD_REPLICA) &&
           !raft_configuration_is_joint(raft_cluster_configuration(cluster, leader));
}

void raft_cluster_change(struct raft_cluster *cluster, enum group_change_kind kind, raft_id about)
{
    for (int tries = 0; tries < CHANGE_TRIES; tries++) {
        size_t leader = raft_cluster_check_leader(cluster);
        struct order order = {0};

        raft_cluster_order(cluster, leader, kind, about, order_ended, &order);
        for (int i = 0; i < CHANGE_TRIES && !order.ended; i++) {
            raft_cluster_sleep(cluster, CHANGE_WAIT_MS / 10);
        }
        ASSERT(order.ended); /* it is in this frame */
        if (order.status == ST_OK ||
            (order.status == ST_INVALID && is_done(cluster, leader, kind, about))) {
            return;
        }
        raft_cluster_sleep(cluster, CHANGE_WAIT_MS);
    }
    UNREACHABLE("a change of the configuration was not made in time");
}

const struct raft_configuration *raft_cluster_configuration(const struct raft_cluster *cluster,
                                                            size_t i)
{
    struct group *group = world_group(raft_cluster_world((struct raft_cluster *)cluster), i);

    return raft_latest_configuration(group_raft(group));
}

uint8_t raft_cluster_flags(const struct raft_cluster *cluster, size_t i, raft_id about)
{
    const struct raft_server *server =
        raft_configuration_find(raft_cluster_configuration(cluster, i), about);

    return server == NULL ? 0 : server->flags;
}
