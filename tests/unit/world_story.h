/* What the tests of the simulated world share: a group of three, and somebody who looks at one of
 * its nodes. */
#ifndef TESTS_UNIT_WORLD_STORY_H
#define TESTS_UNIT_WORLD_STORY_H

#include "tests/cmocka.h"
#include "tests/sim/raft_cluster.h"

#define N 3

static inline struct raft_cluster *begin_with(bool use_wal, bool snapshots, uint64_t seed)
{
    struct raft_cluster_options options = {
        .n = N, .seed = seed, .use_wal = use_wal, .snapshots = snapshots};

    return raft_cluster_create("world", &options);
}

static inline struct raft_cluster *begin(uint64_t seed)
{
    return begin_with(false, false, seed);
}

/* What one node is told, by an observer. */
struct looker {
    size_t node;
    uint64_t started, stopped, stepped, sent, from_peers, ups, written;
    uint64_t from[N + 1];       /* by id */
    uint64_t first_ms, last_ms; /* on the node's clock */
    bool told_low, told_room;
};

static inline void on_started(void *context, struct world *world, size_t node)
{
    struct looker *looker = context;

    assert_non_null(world_server(world, node));
    looker->started += node == looker->node;
}

static inline void on_stepped(void *context, struct world *world, size_t node,
                              const struct io_event *event)
{
    struct looker *looker = context;

    (void)world;
    if (node != looker->node) {
        return;
    }
    looker->stepped++;
    looker->from_peers += event->type == IO_EVENT_PEER_MESSAGE;
    if (event->type == IO_EVENT_PEER_MESSAGE) {
        looker->from[event->peer.id]++;
    }
    looker->written += event->type == IO_EVENT_LOG_WRITTEN;
    looker->ups += event->type == IO_EVENT_PEER_UP;
    looker->told_low |= event->type == IO_EVENT_DISK_SPACE && event->disk.low;
    looker->told_room |= event->type == IO_EVENT_DISK_SPACE && !event->disk.low;
    looker->first_ms = looker->first_ms == 0 ? event->now_ms : looker->first_ms;
    looker->last_ms = event->now_ms;
}

static inline void on_sent(void *context, struct world *world, size_t node, raft_id to,
                           struct slice message)
{
    struct looker *looker = context;

    (void)world;
    assert_true(to != 0 && message.len > 0);
    looker->sent += node == looker->node;
}

static inline void on_stopping(void *context, struct world *world, size_t node)
{
    struct looker *looker = context;

    assert_non_null(world_server(world, node)); /* it can still be looked at */
    looker->stopped += node == looker->node;
}

static inline void look(struct raft_cluster *cluster, struct looker *looker, size_t node)
{
    struct world_observer observer = {looker, on_started, on_stepped, on_sent, on_stopping};

    *looker = (struct looker){.node = node};
    world_observe(raft_cluster_world(cluster), &observer);
}

static inline size_t follower_of(size_t leader)
{
    return (leader + 1) % N;
}

#endif
