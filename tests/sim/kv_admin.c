/* Admins of a simulated cluster; see kv_admin.h. */
#include "tests/sim/kv_admin.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardctrler/ctrler_server.h"
#include "tests/sim/ctrler_machine.h"
#include "tests/sim/kv_cluster_internal.h"

#define CHANGE_MS  120000
#define MAX_GROUPS 16

struct kv_admin {
    struct kv_cluster *cluster;
    struct kv_client *client;
};

struct kv_admin *kv_admin_create(struct kv_cluster *cluster)
{
    struct kv_admin *admin = mem_zalloc(sizeof(*admin));

    admin->cluster = cluster;
    admin->client = kv_client_create(cluster);
    return admin;
}

void kv_admin_destroy(struct kv_admin **admin)
{
    kv_admin_cut(*admin, true); /* nothing leaves it any more */
    kv_client_destroy(&(*admin)->client);
    mem_free(*admin);
    *admin = NULL;
}

void kv_admin_cut(struct kv_admin *admin, bool cut)
{
    struct world *world = admin->cluster->world;

    for (size_t node = 0; node < world_node_count(world); node++) {
        world_cut_client(world, kv_client_number(admin->client), node, cut);
    }
}

/* ---- Changes ---- */

static void join(struct kv_admin *admin, const struct proto_join_group *groups, uint32_t n,
                 struct kv_change *change)
{
    uint64_t now_ms = world_now_ms(admin->cluster->world);

    *change = (struct kv_change){0};
    ctrler_clerk_join(kv_client_admin(admin->client), groups, n, now_ms, now_ms + CHANGE_MS,
                      kv_change_on_end, change);
    world_reschedule(admin->cluster->world, kv_client_number(admin->client));
}

void kv_admin_join(struct kv_admin *admin, size_t group, struct kv_change *change)
{
    struct proto_join_group joining = {.gid = kv_cluster_gid(group),
                                       .replicas = admin->cluster->groups[group]};

    join(admin, &joining, 1, change);
}

void kv_admin_join_gids(struct kv_admin *admin, const uint32_t *gids, uint32_t n,
                        struct kv_change *change)
{
    struct proto_join_group groups[MAX_GROUPS];

    ASSERT(n <= MAX_GROUPS);
    for (uint32_t i = 0; i < n; i++) {
        groups[i] =
            (struct proto_join_group){.gid = gids[i], .replicas = ctrler_machine_spec(gids[i])};
    }
    join(admin, groups, n, change);
}

void kv_admin_leave(struct kv_admin *admin, size_t group, struct kv_change *change)
{
    uint32_t gid = kv_cluster_gid(group);

    kv_admin_leave_gids(admin, &gid, 1, change);
}

void kv_admin_leave_gids(struct kv_admin *admin, const uint32_t *gids, uint32_t n,
                         struct kv_change *change)
{
    uint64_t now_ms = world_now_ms(admin->cluster->world);

    *change = (struct kv_change){0};
    ctrler_clerk_leave(kv_client_admin(admin->client), gids, n, now_ms, now_ms + CHANGE_MS,
                       kv_change_on_end, change);
    world_reschedule(admin->cluster->world, kv_client_number(admin->client));
}

void kv_admin_move(struct kv_admin *admin, shard_id shard, uint32_t gid, struct kv_change *change)
{
    uint64_t now_ms = world_now_ms(admin->cluster->world);

    *change = (struct kv_change){0};
    ctrler_clerk_move(kv_client_admin(admin->client), shard, gid, now_ms, now_ms + CHANGE_MS,
                      kv_change_on_end, change);
    world_reschedule(admin->cluster->world, kv_client_number(admin->client));
}

bool kv_admin_wait(struct kv_admin *admin, const struct kv_change *change, uint64_t ms)
{
    return world_run_until(admin->cluster->world, ms, kv_change_has_ended,
                           (void *)(uintptr_t)change);
}

/* ---- Where the shards are ---- */

static const struct shard_config *latest_config(struct kv_cluster *cluster)
{
    size_t leader = kv_cluster_ctrler_leader(cluster);

    return leader == SIZE_MAX ? NULL : ctrler_server_config(world_server(cluster->world, leader));
}

/* The state machine of the group's leader; NULL: nobody leads. */
static const struct kv_sm *leader_sm(struct kv_cluster *cluster, uint32_t gid)
{
    size_t group = gid - kv_cluster_gid(0);
    size_t leader = kv_cluster_leader(cluster, group);

    return leader == SIZE_MAX
               ? NULL
               : kv_cluster_sm(cluster, group, leader - kv_cluster_node(cluster, group, 0));
}

static size_t count_missing(struct kv_cluster *cluster, const struct shard_config *config)
{
    size_t missing = 0;

    for (shard_id s = 0; s < config->n_shards; s++) {
        if (config->shards[s] != 0) {
            const struct kv_sm *sm = leader_sm(cluster, config->shards[s]);
            uint32_t hint;

            missing += sm == NULL || kv_sm_shard(sm, s) == NULL || !kv_sm_serves(sm, s, &hint);
        }
    }
    return missing;
}

size_t kv_cluster_shards_missing(struct kv_cluster *cluster)
{
    const struct shard_config *config = latest_config(cluster);

    return config == NULL ? SIZE_MAX : count_missing(cluster, config);
}

static bool expects_a_shard(const struct kv_sm *sm, uint32_t n_shards)
{
    for (shard_id s = 0; s < n_shards; s++) {
        const struct shard *shard = kv_sm_shard(sm, s);
        const struct shard_transition *head = shard == NULL ? NULL : shard_head(shard);

        if (head != NULL && head->kind == SHARD_RECEIVE) {
            return true;
        }
    }
    return false;
}

bool kv_cluster_is_settled(struct kv_cluster *cluster)
{
    const struct shard_config *config = latest_config(cluster);

    if (config == NULL) {
        return false;
    }
    for (size_t i = 0; i < config->n_groups; i++) {
        const struct kv_sm *sm = leader_sm(cluster, config->groups[i].gid);

        if (sm == NULL
                ? config->groups[i].member
                : kv_sm_meta(sm)->adopted < config->num || expects_a_shard(sm, config->n_shards)) {
            return false;
        }
    }
    return count_missing(cluster, config) == 0;
}

static bool settled(void *context)
{
    return kv_cluster_is_settled(context);
}

uint64_t kv_cluster_settle(struct kv_cluster *cluster, uint64_t ms)
{
    uint64_t start_ms = world_now_ms(cluster->world);

    return world_run_until(cluster->world, ms, settled, cluster)
               ? world_now_ms(cluster->world) - start_ms
               : UINT64_MAX;
}
