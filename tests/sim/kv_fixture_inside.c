/* Looking inside the servers: who leads, what a group holds, that everything is settled. */
#include "tests/sim/kv_fixture.h"

struct kv_server *fixture_server(const struct fixture *fixture, size_t group, size_t i)
{
    size_t node = fixture_node(fixture, group, i);

    return node < world_node_count(fixture->world) ? world_server(fixture->world, node) : NULL;
}

size_t fixture_leader(const struct fixture *fixture, size_t group)
{
    size_t leader = SIZE_MAX;
    raft_term term = 0;

    for (size_t i = 0; i < fixture->n_replicas; i++) {
        struct kv_server *server = fixture_server(fixture, group, i);

        if (server != NULL && group_is_ready(kv_server_group(server)) &&
            raft_current_term(group_raft(kv_server_group(server))) > term) {
            leader = i;
            term = raft_current_term(group_raft(kv_server_group(server)));
        }
    }
    return leader;
}

const struct kv_sm *fixture_sm(const struct fixture *fixture, size_t group)
{
    size_t leader = fixture_leader(fixture, group);

    return leader == SIZE_MAX ? NULL : kv_server_sm(fixture_server(fixture, group, leader));
}

void fixture_check_owners(void *context, void *server, size_t node)
{
    struct fixture *fixture = context;

    (void)server;
    (void)node;
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        uint32_t serving = 0;

        for (size_t g = 0; g < fixture->n_groups; g++) {
            const struct kv_sm *sm = fixture_sm(fixture, g);
            const struct shard *life = sm != NULL ? kv_sm_shard(sm, shard) : NULL;

            serving += life != NULL && life->state == SHARD_SERVING;
        }
        assert_true(serving <= 1);
    }
}

struct settled {
    struct fixture *fixture;
    config_num num;
    unsigned groups; /* bit g: group g must have settled */
};

static bool fixture_is_settled(void *context)
{
    const struct settled *settled = context;

    for (size_t g = 0; g < settled->fixture->n_groups; g++) {
        const struct kv_sm *sm = fixture_sm(settled->fixture, g);

        if ((settled->groups & 1u << g) == 0) {
            continue;
        }
        if (sm == NULL || kv_sm_meta(sm)->adopted < settled->num) {
            return false;
        }
        for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
            if (!shard_is_settled(kv_sm_shard(sm, shard))) {
                return false;
            }
        }
    }
    return true;
}

void fixture_settle(struct fixture *fixture, config_num num, unsigned groups)
{
    struct settled settled = {fixture, num, groups};

    assert_true(world_run_until(fixture->world, FIXTURE_WAIT_MS, fixture_is_settled, &settled));
}

void fixture_crash_group(struct fixture *fixture, size_t group)
{
    for (size_t i = 0; i < fixture->n_replicas; i++) {
        if (world_is_running(fixture->world, fixture_node(fixture, group, i))) {
            world_crash(fixture->world, fixture_node(fixture, group, i));
        }
    }
}

void fixture_start_group(struct fixture *fixture, size_t group)
{
    for (size_t i = 0; i < fixture->n_replicas; i++) {
        if (!world_is_running(fixture->world, fixture_node(fixture, group, i))) {
            world_start(fixture->world, fixture_node(fixture, group, i));
        }
    }
}
