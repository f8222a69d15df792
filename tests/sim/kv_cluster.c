/* A whole cluster in a simulated world: servers and administration. Clients are in kv_client.c. */
#include "tests/sim/kv_cluster.h"

#include <stdio.h>
#include <string.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardctrler/ctrler_server.h"
#include "shardkv/kv_server.h"
#include "tests/sim/kv_cluster_internal.h"
#include "tests/sim/linear.h"
#include "tests/sim/mem_state.h"
#include "tests/sim/server_nodes.h"
#include "tests/sim/stats_line.h"

#define ADMIN_TIMEOUT_MS 60000

#define STEPS_A_CHECK 64 /* where logs are long */

/* ---- Servers ---- */

/* A check of Raft's invariants looks at the last 4096 entries. Where logs are never compacted, one
 * after every step would take four fifths of the time. */
static bool has_long_logs(const struct kv_cluster *cluster)
{
    return cluster->options.max_raft_state == KV_NO_SNAPSHOTS;
}

static void kv_after_step(void *context, void *server, size_t node)
{
    struct kv_cluster *cluster = context;

    (void)node;
    if (has_long_logs(cluster) && ++cluster->n_steps % STEPS_A_CHECK == 0) {
        raft_check(group_raft(kv_node_group(server)));
    }
}

static void tune_group(const struct kv_cluster *cluster, const struct world_parts *parts,
                       struct group_options *options)
{
    options->check_invariants = !has_long_logs(cluster);
    if (cluster->options.snapshots) {
        options->checkpoint_log_bytes = 4000;
        options->log_keep_bytes = 0;
        options->checkpoint_dirty_bytes = 1000;
        options->max_dirty_bytes = 2000;
        options->large_bytes = 150; /* many commands let others go first, and wait for room */
    }
    if (cluster->options.max_raft_state != 0 && parts->gid != 0) {
        options->checkpoint_log_bytes = cluster->options.max_raft_state;
        options->log_keep_bytes = 0;
    }
    if (cluster->options.max_raft_state == KV_NO_SNAPSHOTS && parts->gid != 0) {
        options->drop_checkpoint_ms = UINT32_MAX;
        options->checkpoint_dirty_bytes = KV_NO_SNAPSHOTS / 2;
        options->max_dirty_bytes = options->max_log_bytes = KV_NO_SNAPSHOTS;
    }
    if (cluster->options.snapshot_chunk_bytes != 0) {
        options->snapshot_chunk_bytes = cluster->options.snapshot_chunk_bytes;
    }
}

static void *ctrler_create(void *context, const struct world_parts *parts)
{
    struct kv_cluster *cluster = context;
    struct ctrler_server_options options;

    ctrler_server_options_default(&options, parts->id, parts->seed, &parts->spec);
    tune_group(cluster, parts, &options.group);
    options.n_shards = cluster->options.n_shards;
    return ctrler_node_create(&options, parts);
}

static void *kv_create(void *context, const struct world_parts *parts)
{
    struct kv_cluster *cluster = context;
    struct kv_server_options options;

    kv_server_options_default(&options, parts->gid, parts->id, parts->seed);
    tune_group(cluster, parts, &options.group);
    options.ctrlers = cluster->ctrlers;
    if (cluster->options.max_sessions != 0) {
        options.max_sessions = cluster->options.max_sessions;
    }
    if (cluster->options.piece_bytes != 0) {
        options.migrate.piece_bytes = cluster->options.piece_bytes;
    }
    if (cluster->options.max_copies != 0) {
        options.migrate.max_copies = cluster->options.max_copies;
    }
    options.migrate.bytes_per_s = cluster->options.bytes_per_s;
    return kv_node_create(&options, parts);
}

static const struct world_node_ops ctrler_ops = CTRLER_NODE_OPS(ctrler_create, NULL);
static const struct world_node_ops kv_ops = KV_NODE_OPS(kv_create, kv_after_step);

/* ---- The cluster ---- */

static void add_replica(struct kv_cluster *cluster, group_id gid, const struct spec *spec, size_t i,
                        const struct world_node_ops *ops)
{
    size_t node = world_add_node(cluster->world, gid, spec->replicas[i].id, spec, ops, cluster);

    if (spec == &cluster->second_ctrlers) {
        check_raft_exclude(cluster->check, node);
    }
    world_start(cluster->world, node);
}

static void add_replicas(struct kv_cluster *cluster, group_id gid, const struct spec *spec,
                         const struct world_node_ops *ops)
{
    for (size_t i = 0; i < spec->n; i++) {
        add_replica(cluster, gid, spec, i, ops);
    }
}

/* Replicas 4 to 6 of group 0, whose SPEC names only each other: a cluster of its own. */
static void add_second_ctrlers(struct kv_cluster *cluster)
{
    struct spec six;

    world_make_spec(cluster->world, 0, 6, &six);
    cluster->second_ctrlers = (struct spec){.n = 3};
    memcpy(cluster->second_ctrlers.replicas, six.replicas + 3, 3 * sizeof(six.replicas[0]));
    add_replicas(cluster, 0, &cluster->second_ctrlers, &ctrler_ops);
}

struct kv_cluster *kv_cluster_create(const char *name, const struct kv_cluster_options *options)
{
    struct kv_cluster *cluster = mem_zalloc(sizeof(*cluster));

    ASSERT(options->n_groups <= KV_CLUSTER_MAX_GROUPS);
    cluster->name = name;
    cluster->options = *options;
    if (cluster->options.n_shards == 0) {
        cluster->options.n_shards = SHARD_MIN_COUNT;
    }
    cluster->world = world_create(stats_line_seed(options->seed));
    if (options->use_wal) {
        world_use_wal(cluster->world, true);
    }
    cluster->check = check_raft_create(cluster->world);
    cluster->check_shards = check_shards_create(cluster->world, cluster->check);
    cluster->start_us = world_now_us(cluster->world);
    kv_cluster_set_unreliable(cluster, options->unreliable);
    world_make_spec(cluster->world, 0, options->n_ctrlers, &cluster->ctrlers);
    add_replicas(cluster, 0, &cluster->ctrlers, &ctrler_ops);
    for (size_t g = 0; g < options->n_groups; g++) {
        world_make_spec(cluster->world, kv_cluster_gid(g), kv_cluster_n_replicas(cluster, g),
                        &cluster->groups[g]);
        add_replicas(cluster, kv_cluster_gid(g), &cluster->groups[g], &kv_ops);
    }
    if (options->second_ctrlers) {
        ASSERT(options->n_ctrlers == 3);
        add_second_ctrlers(cluster);
    }
    cluster->history = options->record ? history_create() : NULL;
    cluster->admin = kv_client_create(cluster);
    return cluster;
}

/* The requests of the groups' peers and clients count; the controllers', which the public suites of
 * one group do not have, are told apart. */
static void print_statistics(const struct kv_cluster *c)
{
    struct stats_line line = {.name = c->name,
                              .us = world_now_us(c->world) - c->start_us,
                              .peers = c->options.n_replicas,
                              .bytes = world_counted(c->world)->bytes,
                              .count = c->n_operations,
                              .unit = "ops",
                              .other_name = "controllers",
                              .longest_us = c->longest_us};

    for (size_t i = 0; i < world_node_count(c->world); i++) {
        if (i < c->options.n_ctrlers) {
            line.other_rpcs += world_issued_at(c->world, i);
        } else {
            line.rpcs += world_issued_at(c->world, i);
        }
    }
    stats_line_print(&line);
}

void kv_cluster_destroy(struct kv_cluster **cluster)
{
    struct kv_cluster *c = *cluster;

    if (world_unexplained_halt(c->world) != NULL && !c->options.may_halt) {
        fprintf(stderr, "%s\n", world_unexplained_halt(c->world));
        UNREACHABLE("a replica halted");
    }
    kv_client_destroy(&c->admin);
    if (c->history != NULL) {
        linear_must_hold(c->history);
        history_destroy(&c->history);
    }
    kv_cluster_forget_keys(c);
    if (!c->options.quiet) {
        print_statistics(c);
    }
    world_destroy(&c->world);
    check_shards_destroy(&c->check_shards);
    check_raft_destroy(&c->check);
    shard_config_fini(&c->config);
    mem_free(c);
    *cluster = NULL;
}

struct world *kv_cluster_world(struct kv_cluster *cluster)
{
    return cluster->world;
}

void kv_cluster_sleep(struct kv_cluster *cluster, uint64_t ms)
{
    world_run_ms(cluster->world, ms);
}

void kv_cluster_set_unreliable(struct kv_cluster *cluster, bool unreliable)
{
    struct world_faults faults = {.unreliable = unreliable};
    world_set_faults(cluster->world, &faults);
}

const struct spec *kv_cluster_spec(const struct kv_cluster *cluster, size_t group)
{
    ASSERT(group < cluster->options.n_groups);
    return &cluster->groups[group];
}

const struct spec *kv_cluster_ctrlers(const struct kv_cluster *cluster)
{
    return &cluster->ctrlers;
}

uint32_t kv_cluster_gid(size_t group)
{
    return 100 + (uint32_t)group;
}

size_t kv_cluster_ctrler(const struct kv_cluster *cluster, size_t i)
{
    ASSERT(i < cluster->options.n_ctrlers);
    return i;
}

size_t kv_cluster_n_replicas(const struct kv_cluster *cluster, size_t group)
{
    ASSERT(group < cluster->options.n_groups);
    return cluster->options.replicas[group] != 0 ? cluster->options.replicas[group]
                                                 : cluster->options.n_replicas;
}

size_t kv_cluster_node(const struct kv_cluster *cluster, size_t group, size_t i)
{
    size_t node = cluster->options.n_ctrlers + i;

    ASSERT(i < kv_cluster_n_replicas(cluster, group));
    for (size_t g = 0; g < group; g++) {
        node += kv_cluster_n_replicas(cluster, g);
    }
    return node;
}

static size_t find_leader(const struct kv_cluster *cluster, size_t first, size_t n)
{
    size_t leader = SIZE_MAX;
    raft_term term = 0;

    for (size_t i = first; i < first + n; i++) {
        struct group *group = world_group(cluster->world, i);
        if (group != NULL && world_is_connected(cluster->world, i) && group_is_leader(group) &&
            raft_current_term(group_raft(group)) > term) {
            leader = i;
            term = raft_current_term(group_raft(group));
        }
    }
    return leader;
}

size_t kv_cluster_leader(const struct kv_cluster *cluster, size_t group)
{
    return find_leader(cluster, kv_cluster_node(cluster, group, 0),
                       kv_cluster_n_replicas(cluster, group));
}

size_t kv_cluster_ctrler_leader(const struct kv_cluster *cluster)
{
    return find_leader(cluster, 0, cluster->options.n_ctrlers);
}

static void stop_node(struct kv_cluster *cluster, size_t node)
{
    if (world_is_running(cluster->world, node)) {
        world_crash(cluster->world, node);
    }
}

static void start_node(struct kv_cluster *cluster, size_t node)
{
    if (!world_is_running(cluster->world, node)) {
        world_start(cluster->world, node);
    }
}

void kv_cluster_stop_group(struct kv_cluster *cluster, size_t group)
{
    for (size_t i = 0; i < kv_cluster_n_replicas(cluster, group); i++) {
        stop_node(cluster, kv_cluster_node(cluster, group, i));
    }
}

void kv_cluster_start_group(struct kv_cluster *cluster, size_t group)
{
    for (size_t i = 0; i < kv_cluster_n_replicas(cluster, group); i++) {
        start_node(cluster, kv_cluster_node(cluster, group, i));
    }
}

void kv_cluster_stop_replica(struct kv_cluster *cluster, size_t i)
{
    for (size_t group = 0; group < cluster->options.n_groups; group++) {
        stop_node(cluster, kv_cluster_node(cluster, group, i));
    }
}

void kv_cluster_start_replica(struct kv_cluster *cluster, size_t i)
{
    for (size_t group = 0; group < cluster->options.n_groups; group++) {
        start_node(cluster, kv_cluster_node(cluster, group, i));
    }
}

uint64_t kv_cluster_max_log_bytes(const struct kv_cluster *cluster)
{
    uint64_t most = 0;

    for (size_t g = 0; g < cluster->options.n_groups; g++) {
        for (size_t i = 0; i < kv_cluster_n_replicas(cluster, g); i++) {
            uint64_t bytes = world_log_bytes(cluster->world, kv_cluster_node(cluster, g, i));
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

static void check_no_snapshot(const struct kv_cluster *cluster, size_t node)
{
    struct group *group = world_group(cluster->world, node);
    struct io_state_meta meta;

    mem_state_meta(world_state(cluster->world, node), &meta);
    ASSERT(meta.index == 0 && meta.checkpoint == 0);
    buf_fini(&meta.extra);
    ASSERT(world_state_bytes(cluster->world, node) == 0);
    if (group != NULL) {
        const struct group_stats *stats = group_statistics(group);
        ASSERT(stats->checkpoints + stats->snapshots_sent + stats->snapshots_installed == 0);
    }
}

static void check_log_bytes(const struct kv_cluster *cluster, size_t node)
{
    uint64_t bytes = world_log_bytes(cluster->world, node);
    uint64_t limit = cluster->options.max_raft_state;
    struct group *group = world_group(cluster->world, node);

    if (bytes > 8 * limit) {
        fprintf(stderr, "%s: node %zu has a log of %llu bytes, above 8 x %llu\n", cluster->name,
                node, (unsigned long long)bytes, (unsigned long long)limit);
        if (group != NULL) {
            const struct raft *raft = group_raft(group);

            fprintf(stderr,
                    "%llu bytes in memory, index %llu to %llu, committed %llu, applied %llu, "
                    "checkpoint at %llu\n",
                    (unsigned long long)raft_log_bytes(raft),
                    (unsigned long long)raft_first_index(raft),
                    (unsigned long long)raft_last_index(raft),
                    (unsigned long long)raft_commit_index(raft),
                    (unsigned long long)group_applied_index(group),
                    (unsigned long long)group_statistics(group)->checkpoint_index);
        }
        UNREACHABLE("the log was not compacted");
    }
}

void kv_cluster_check_limits(struct kv_cluster *cluster)
{
    ASSERT(cluster->options.max_raft_state != 0);
    for (size_t g = 0; g < cluster->options.n_groups; g++) {
        for (size_t i = 0; i < kv_cluster_n_replicas(cluster, g); i++) {
            size_t node = kv_cluster_node(cluster, g, i);

            if (cluster->options.max_raft_state == KV_NO_SNAPSHOTS) {
                check_no_snapshot(cluster, node);
            } else {
                check_log_bytes(cluster, node);
            }
        }
    }
}

const struct kv_sm *kv_cluster_sm(const struct kv_cluster *cluster, size_t group, size_t i)
{
    const struct kv_server *server =
        world_server(cluster->world, kv_cluster_node(cluster, group, i));

    return server != NULL ? kv_server_sm(server) : NULL;
}

/* ---- Administration ---- */

void kv_change_on_end(void *context, enum status status, config_num num, const char *text)
{
    struct kv_change *change = context;

    (void)text;
    ASSERT(!change->ended);
    *change = (struct kv_change){.ended = true, .status = status, .num = num};
}

bool kv_change_has_ended(void *change)
{
    return ((const struct kv_change *)change)->ended;
}

static uint64_t deadline(const struct kv_cluster *cluster)
{
    return world_now_ms(cluster->world) + ADMIN_TIMEOUT_MS;
}

static enum status await_change(struct kv_cluster *cluster, struct kv_change *change,
                                config_num *num)
{
    world_reschedule(cluster->world, kv_client_number(cluster->admin));
    ASSERT(world_run_until(cluster->world, ADMIN_TIMEOUT_MS + 1000, kv_change_has_ended, change));
    if (num != NULL) {
        *num = change->num;
    }
    if (change->status != ST_OK) {
        fprintf(stderr, "change: %s\n", status_name(change->status));
    }
    return change->status;
}

static enum status join_many(struct kv_cluster *cluster, const size_t *groups, uint32_t n,
                             config_num *num)
{
    struct proto_join_group list[KV_CLUSTER_MAX_GROUPS];
    struct kv_change change = {0};

    for (uint32_t i = 0; i < n; i++) {
        list[i] = (struct proto_join_group){.gid = kv_cluster_gid(groups[i]),
                                            .replicas = cluster->groups[groups[i]]};
    }
    ctrler_clerk_join(kv_client_admin(cluster->admin), list, n, world_now_ms(cluster->world),
                      deadline(cluster), kv_change_on_end, &change);
    return await_change(cluster, &change, num);
}

static enum status leave_many(struct kv_cluster *cluster, const size_t *groups, uint32_t n,
                              config_num *num)
{
    uint32_t gids[KV_CLUSTER_MAX_GROUPS];
    struct kv_change change = {0};

    for (uint32_t i = 0; i < n; i++) {
        gids[i] = kv_cluster_gid(groups[i]);
    }
    ctrler_clerk_leave(kv_client_admin(cluster->admin), gids, n, world_now_ms(cluster->world),
                       deadline(cluster), kv_change_on_end, &change);
    return await_change(cluster, &change, num);
}

enum status kv_cluster_join(struct kv_cluster *cluster, size_t group, config_num *num)
{
    return join_many(cluster, &group, 1, num);
}

enum status kv_cluster_leave(struct kv_cluster *cluster, size_t group, config_num *num)
{
    return leave_many(cluster, &group, 1, num);
}

enum status kv_cluster_move(struct kv_cluster *cluster, shard_id shard, uint32_t gid,
                            config_num *num)
{
    struct kv_change change = {0};

    ctrler_clerk_move(kv_client_admin(cluster->admin), shard, gid, world_now_ms(cluster->world),
                      deadline(cluster), kv_change_on_end, &change);
    return await_change(cluster, &change, num);
}

void kv_cluster_join_many_now(struct kv_cluster *cluster, const size_t *groups, uint32_t n)
{
    ASSERT(join_many(cluster, groups, n, NULL) == ST_OK);
}

void kv_cluster_leave_many_now(struct kv_cluster *cluster, const size_t *groups, uint32_t n)
{
    ASSERT(leave_many(cluster, groups, n, NULL) == ST_OK);
}

void kv_cluster_join_now(struct kv_cluster *cluster, size_t group)
{
    kv_cluster_join_many_now(cluster, &group, 1);
}

void kv_cluster_leave_now(struct kv_cluster *cluster, size_t group)
{
    kv_cluster_leave_many_now(cluster, &group, 1);
}

struct query {
    struct kv_cluster *cluster;
    bool ended;
};

static void on_config(void *context, enum status status, const struct shard_config *config)
{
    struct query *query = context;

    ASSERT(status == ST_OK);
    shard_config_fini(&query->cluster->config);
    shard_config_copy(&query->cluster->config, config);
    query->ended = true;
}

static bool query_ended(void *context)
{
    return ((struct query *)context)->ended;
}

const struct shard_config *kv_cluster_config(struct kv_cluster *cluster, config_num num)
{
    struct query query = {.cluster = cluster};

    ctrler_clerk_query(kv_client_admin(cluster->admin), num, 0, 0, world_now_ms(cluster->world),
                       deadline(cluster), on_config, &query);
    world_reschedule(cluster->world, kv_client_number(cluster->admin));
    ASSERT(world_run_until(cluster->world, ADMIN_TIMEOUT_MS + 1000, query_ended, &query));
    return &cluster->config;
}

const char *kv_cluster_key(struct kv_cluster *cluster, size_t i)
{
    uint32_t n_shards = cluster->options.n_shards;
    size_t skip = i / n_shards;

    ASSERT(i < KV_CLUSTER_MAX_KEYS);
    for (unsigned n = 0; cluster->keys[i][0] == '\0'; n++) {
        char key[sizeof(cluster->keys[i])];

        snprintf(key, sizeof(key), "key-%u", n);
        if (shard_of_key(slice_text(key), n_shards) == i % n_shards && skip-- == 0) {
            memcpy(cluster->keys[i], key, sizeof(key));
        }
    }
    return cluster->keys[i];
}
