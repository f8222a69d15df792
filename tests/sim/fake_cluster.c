/* The fake cluster: its servers, its configuration, its connections. */
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/mem.h"
#include "tests/sim/fake_cluster_internal.h"

struct fake_server *fake_server(struct fake_cluster *world, uint32_t gid, uint32_t id)
{
    return &world->servers[3 * gid + id - 1];
}

void fake_spec(uint32_t gid, struct spec *spec)
{
    char text[128];

    snprintf(text, sizeof(text), "1=tcp://g%u:1,2=tcp://g%u:2,3=tcp://g%u:3", gid, gid, gid);
    if (spec_parse(text, spec) != NULL) {
        abort();
    }
}

void fake_init(struct fake_cluster *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    world->now = 1000;
    world->time = 1000000;
    world->hints = true;
    rng_init(&world->rng, seed);
    world->applied = mem_zalloc(FAKE_MAX_LOG * sizeof(world->applied[0]));
    shard_config_init(&world->config, FAKE_SHARDS);
    world->config.num = 5;
    world->config.n_groups = FAKE_GROUPS;
    world->config.groups = mem_zalloc(FAKE_GROUPS * sizeof(world->config.groups[0]));
    for (uint32_t gid = 0; gid <= FAKE_GROUPS; gid++) {
        world->leader[gid] = 1;
        for (uint32_t id = 1; id <= 3; id++) {
            struct fake_server *server = fake_server(world, gid, id);

            snprintf(server->url, sizeof(server->url), "tcp://g%u:%u", gid, id);
            server->gid = gid;
            server->id = id;
        }
        if (gid > 0) {
            world->config.groups[gid - 1].gid = gid;
            world->config.groups[gid - 1].member = true;
            fake_spec(gid, &world->config.groups[gid - 1].replicas);
        }
    }
    for (uint32_t shard = 0; shard < FAKE_SHARDS; shard++) {
        world->config.shards[shard] = world->holder[shard] = 1 + shard % FAKE_GROUPS;
    }
}

void fake_fini(struct fake_cluster *world)
{
    for (size_t i = 0; i < world->n_events; i++) {
        buf_fini(&world->events[i].message);
    }
    mem_free(world->events);
    mem_free(world->applied);
    shard_config_fini(&world->config);
}

void fake_move(struct fake_cluster *world, shard_id shard, uint32_t gid, bool held)
{
    world->config.num++;
    world->config.from[shard] = world->config.shards[shard];
    world->config.shards[shard] = gid;
    if (held) {
        world->holder[shard] = gid;
    }
}

struct fake_event *fake_schedule(struct fake_cluster *world, uint64_t delay,
                                 struct fake_server *server)
{
    struct fake_event *event;

    MEM_GROW(world->events, world->events_capacity, world->n_events + 1);
    event = &world->events[world->n_events++];
    *event = (struct fake_event){.at = world->now + delay,
                                 .serial = ++world->serial,
                                 .server = server,
                                 .epoch = server->epoch};
    return event;
}

void fake_break(struct fake_cluster *world, struct fake_server *server, bool unsent)
{
    struct fake_event *event;

    server->epoch++;
    server->connected = false;
    event = fake_schedule(world, FAKE_LATENCY, server);
    event->type = unsent ? EVENT_UNREACHABLE : EVENT_DOWN;
}

enum fault fake_take_fault(struct fake_server *server)
{
    enum fault fault = server->fault;

    if (server->times > 0 && --server->times == 0) {
        server->fault = FAULT_NONE;
    }
    return fault;
}
