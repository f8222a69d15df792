#include "tests/simulator/finish.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/sim/linear.h"
#include "tests/sim/mem_state.h"
#include "tests/simulator/faults.h"
#include "tests/simulator/moves.h"
#include "tests/simulator/workload.h"

#define QUIET_MS  30000  /* everything that was under way has ended */
#define SETTLE_MS 120000 /* everything is at rest */
#define SERVE_MS  20000  /* an operation without faults */

/* What is not at rest, and where. */
struct unrest {
    const char *what; /* NULL: it is at rest */
    size_t group, replica;
    shard_id shard;
};

/* Why the shard is not at rest in this replica; NULL: it is. */
static const char *shard_unrest(const struct shard *shard, uint32_t owner, uint32_t last,
                                uint32_t me)
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

static const char *replica_unrest(const struct kv_sm *sm, const struct shard_config *config,
                                  uint32_t gid, shard_id *where)
{
    const struct kv_meta *meta = kv_sm_meta(sm);

    *where = 0;
    if (meta->adopted == 0 && shard_config_find(config, gid) == NULL) {
        return NULL; /* it never joined */
    }
    if (meta->adopted != config->num) {
        return "it lacks configurations";
    }
    for (shard_id s = 0; s < config->n_shards; s++) {
        const char *why = shard_unrest(kv_sm_shard(sm, s), config->shards[s], config->from[s], gid);

        if (why != NULL) {
            *where = s;
            return why;
        }
    }
    return NULL;
}

static struct unrest find_unrest(const struct run *run, const struct shard_config *config)
{
    struct unrest unrest = {0};

    for (unrest.group = 0; unrest.group < run->plan.n_groups; unrest.group++) {
        for (unrest.replica = 0; unrest.replica < run->plan.replicas[unrest.group];
             unrest.replica++) {
            size_t node = kv_cluster_node(run->cluster, unrest.group, unrest.replica);
            const struct kv_sm *sm;

            if (faults_is_lost(run->faults, node)) {
                continue;
            }
            sm = kv_cluster_sm(run->cluster, unrest.group, unrest.replica);
            unrest.what = sm == NULL ? "it does not run"
                                     : replica_unrest(sm, config, kv_cluster_gid(unrest.group),
                                                      &unrest.shard);
            if (unrest.what != NULL) {
                return unrest;
            }
        }
    }
    return unrest;
}

/* Runs on without faults. */
static void run_ms(struct run *run, uint64_t ms)
{
    faults_run_ms(run->faults, ms);
    faults_restart_halted(run->faults);
}

/* What was under way ends, at the latest by its deadline. */
static void fall_quiet(struct run *run)
{
    uint64_t end_ms = world_now_ms(run->world) + QUIET_MS;

    while (workload_outstanding(run->workload) > 0 || moves_is_busy(run->moves)) {
        if (world_now_ms(run->world) >= end_ms) {
            check_fail("every operation ends", "%zu of clients did not, changes: %d",
                       workload_outstanding(run->workload), moves_is_busy(run->moves));
        }
        run_ms(run, 100);
    }
}

static void await_moves(struct run *run)
{
    while (moves_is_busy(run->moves)) {
        run_ms(run, 100);
    }
}

/* The latest configuration, in which somebody owns the shards: else nobody could read them. */
static const struct shard_config *last_config(struct run *run, uint64_t end_ms)
{
    while (world_now_ms(run->world) < end_ms) {
        const struct shard_config *config;

        moves_ask(run->moves);
        await_moves(run);
        config = moves_config(run->moves);
        if (config != NULL && config->shards[0] != 0) {
            return config;
        }
        if (config != NULL) {
            moves_join_first(run->moves);
            await_moves(run);
        }
    }
    check_fail("without faults the controller answers", "not within %d s", SETTLE_MS / 1000);
}

static void settle(struct run *run)
{
    uint64_t end_ms = world_now_ms(run->world) + SETTLE_MS;
    const struct shard_config *config = last_config(run, end_ms);
    struct unrest unrest;

    run->report.configurations = config->num;
    for (;;) {
        unrest = find_unrest(run, config);
        if (unrest.what == NULL) {
            return;
        }
        if (world_now_ms(run->world) >= end_ms) {
            check_fail("without faults everything comes to rest",
                       "configuration %llu, group %zu, replica %zu, shard %u: %s",
                       (unsigned long long)config->num, unrest.group, unrest.replica, unrest.shard,
                       unrest.what);
        }
        run_ms(run, 100);
    }
}

/* Every replica has applied all that its group has committed. */
static bool is_caught_up(const struct run *run, size_t team)
{
    raft_index applied = 0;

    for (size_t i = 0; i < faults_team_size(run->faults, team); i++) {
        size_t node = faults_team_node(run->faults, team, i);
        const struct group *group = world_group(run->world, node);

        if (faults_is_lost(run->faults, node)) {
            continue;
        }
        if (group == NULL || (applied != 0 && group_applied_index(group) != applied)) {
            return false;
        }
        applied = group_applied_index(group);
        if (raft_commit_index(group_raft(group)) != applied) {
            return false;
        }
    }
    return true;
}

/* For a whole second, so that nothing is on its way any more. */
static void catch_up(struct run *run)
{
    uint64_t end_ms = world_now_ms(run->world) + SETTLE_MS;

    for (unsigned rounds = 0; rounds < 10;) {
        bool caught_up = true;

        run_ms(run, 100);
        for (size_t team = 0; team < faults_n_teams(run->faults); team++) {
            caught_up &= is_caught_up(run, team);
        }
        rounds = caught_up ? rounds + 1 : 0;
        if (world_now_ms(run->world) >= end_ms) {
            check_fail("without faults every replica catches up", "some did not");
        }
    }
}

/* The replicas of a group agree, and hold no range that they don't name. */
static void check_states(const struct run *run, size_t group)
{
    uint64_t sum = 0;
    bool is_first = true;

    for (size_t i = 0; i < run->plan.replicas[group]; i++) {
        size_t node = kv_cluster_node(run->cluster, group, i), n = 0, capacity = 0;
        const struct mem_state *state = world_state(run->world, node);
        uint64_t *ranges = NULL, own;

        if (faults_is_lost(run->faults, node)) {
            continue;
        }
        kv_sm_ranges(kv_cluster_sm(run->cluster, group, i), &ranges, &n, &capacity);
        own = mem_state_sum(state, ranges, n);
        if (mem_state_foreign_keys(state, ranges, n) != 0) {
            check_fail("nothing is left of what was let go", "node %zu holds %zu keys", node,
                       mem_state_foreign_keys(state, ranges, n));
        }
        if (!is_first && own != sum) {
            check_fail("replicas of a group are equal", "node %zu differs", node);
        }
        is_first = false;
        sum = own;
        mem_free(ranges);
    }
}

void finish_run(struct run *run)
{
    uint64_t begin_us = world_now_us(run->world);

    faults_end(run->faults);
    fall_quiet(run);
    settle(run);
    run->report.settle_us = world_now_us(run->world) - begin_us;
    workload_serve_again(run->workload, SERVE_MS);
    workload_read_all(run->workload, SERVE_MS);
    catch_up(run);
    for (size_t group = 0; group < run->plan.n_groups; group++) {
        check_states(run, group);
    }
    linear_must_hold(workload_history(run->workload));
}
