/* At the end of a run; see check_rest.h. */
#include "tests/sim/check_rest.h"

#include <stdio.h>

#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/sim/kv_cluster_internal.h"
#include "tests/sim/mem_state.h"

#define LOOK_MS  500
#define AFTER_MS 2000 /* the last entries reach every replica */

static bool is_excluded(const struct check_rest *rest, size_t node)
{
    return world_is_wiped(rest->cluster->world, node) ||
           (rest->excludes != NULL && rest->excludes(rest->context, node));
}

/* ---- Shards ---- */

/* What a shard that is not at rest waits for. */
static void say_shard(const struct kv_sm *sm, shard_id id)
{
    const struct shard *shard = sm != NULL ? kv_sm_shard(sm, id) : NULL;

    if (shard == NULL) {
        return;
    }
    fprintf(stderr, "  state %d, epoch %llu, copy %s, outgoing %s;", (int)shard->state,
            (unsigned long long)shard->epoch, shard->copy.copy_id != 0 ? "yes" : "no",
            shard->outgoing.copy_id != 0 ? "yes" : "no");
    for (size_t i = 0; i < shard->n_queue; i++) {
        fprintf(stderr, " %s(%llu, %u)", shard->queue[i].kind == SHARD_RECEIVE ? "RECEIVE" : "SEND",
                (unsigned long long)shard->queue[i].num, shard->queue[i].gid);
    }
    fprintf(stderr, "\n");
}

/* Why the shard is not at rest in this replica; NULL: it is. */
static const char *unrest(const struct shard *shard, uint32_t owner, uint32_t last, uint32_t me)
{
    if (shard->n_releases > 0) {
        return "a release is left";
    }
    if (shard->copy.copy_id != 0) {
        return "a copy is left";
    }
    if (owner == me) {
        return shard->n_queue == 0 && shard->state == SHARD_SERVING ? NULL : "its owner lacks it";
    }
    if (owner == 0 && last == me) {
        return shard->state == SHARD_FROZEN && shard->n_queue == 1 ? NULL : "its keeper lacks it";
    }
    return shard->n_queue == 0 && shard->state == SHARD_ABSENT ? NULL : "it is held by another";
}

/* Why the replica is not at rest under that configuration; NULL: it is. */
static const char *replica_unrest(const struct kv_sm *sm, const struct shard_config *config,
                                  uint32_t gid, shard_id *where)
{
    const struct kv_meta *meta;

    *where = 0;
    if (sm == NULL) {
        return "it does not run";
    }
    meta = kv_sm_meta(sm);
    if (meta->adopted == 0 && shard_config_find(config, gid) == NULL) {
        return NULL; /* it never joined */
    }
    if (meta->adopted != config->num) {
        return "it lacks configurations";
    }
    for (shard_id s = 0; s < config->n_shards; s++) {
        const char *why = unrest(kv_sm_shard(sm, s), config->shards[s], config->from[s], gid);

        if (why != NULL) {
            *where = s;
            return why;
        }
    }
    return NULL;
}

bool check_rest_reached(const struct check_rest *rest, const struct shard_config *config, bool tell)
{
    const struct kv_cluster_options *options = &rest->cluster->options;
    bool reached = true;

    for (size_t g = 0; g < options->n_groups; g++) {
        for (size_t i = 0; i < kv_cluster_n_replicas(rest->cluster, g); i++) {
            shard_id where;
            const char *why;

            if (is_excluded(rest, kv_cluster_node(rest->cluster, g, i))) {
                continue;
            }
            why = replica_unrest(kv_cluster_sm(rest->cluster, g, i), config, kv_cluster_gid(g),
                                 &where);
            if (why != NULL && tell) {
                fprintf(stderr, "group %u replica %zu shard %u: %s\n", kv_cluster_gid(g), i + 1,
                        where, why);
                say_shard(kv_cluster_sm(rest->cluster, g, i), where);
            }
            reached &= why == NULL;
        }
    }
    return reached;
}

void check_rest_settle(const struct check_rest *rest, uint64_t max_ms)
{
    struct world *world = rest->cluster->world;
    const struct shard_config *config = kv_cluster_config(rest->cluster, CONFIG_LATEST);

    for (uint64_t ms = 0; !check_rest_reached(rest, config, ms >= max_ms); ms += LOOK_MS) {
        if (ms >= max_ms) {
            check_fail("at rest", "not under configuration %llu after %llu ms, at %.6f s",
                       (unsigned long long)config->num, (unsigned long long)ms,
                       (double)world_now_us(world) / 1e6);
        }
        world_run_ms(world, LOOK_MS);
    }
    world_run_ms(world, AFTER_MS);
}

/* ---- States ---- */

/* One replica's state; *expected is that of the replicas before it, 0: there was none. */
static void check_state(const struct check_rest *rest, size_t node, const struct kv_sm *sm,
                        uint64_t *expected)
{
    const struct mem_state *state = world_state(rest->cluster->world, node);
    uint64_t *ranges = NULL, sum;
    size_t n = 0, capacity = 0, n_foreign;

    if (!world_is_running(rest->cluster->world, node)) {
        check_fail("at rest", "node %zu does not run", node);
    }
    if (sm != NULL) {
        kv_sm_save((struct kv_sm *)(uintptr_t)sm); /* changes nothing that can be seen of it */
        kv_sm_ranges(sm, &ranges, &n, &capacity);
    }
    sum = mem_state_sum(state, ranges, n) | 1;
    n_foreign = mem_state_foreign_keys(state, ranges, n);
    mem_free(ranges);
    if (n_foreign > 0) {
        check_fail("foreign keys", "node %zu holds %zu keys of ranges that it does not name", node,
                   n_foreign);
    }
    if (*expected != 0 && *expected != sum) {
        check_fail("equal states", "the state of node %zu is not that of its group's replicas",
                   node);
    }
    *expected = sum;
}

static void check_group(const struct check_rest *rest, size_t group)
{
    uint64_t expected = 0;

    for (size_t i = 0; i < kv_cluster_n_replicas(rest->cluster, group); i++) {
        size_t node = kv_cluster_node(rest->cluster, group, i);

        if (!is_excluded(rest, node)) {
            check_state(rest, node, kv_cluster_sm(rest->cluster, group, i), &expected);
        }
    }
}

void check_rest_states(const struct check_rest *rest)
{
    const struct kv_cluster_options *options = &rest->cluster->options;
    uint64_t expected = 0;

    for (size_t i = 0; i < options->n_ctrlers; i++) {
        size_t node = kv_cluster_ctrler(rest->cluster, i);

        if (!is_excluded(rest, node)) {
            check_state(rest, node, NULL, &expected);
        }
    }
    for (size_t g = 0; g < options->n_groups; g++) {
        check_group(rest, g);
    }
}
