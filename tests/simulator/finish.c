/* finish: see finish.h. */
#include "tests/simulator/finish.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"
#include "tests/sim/check_rest.h"
#include "tests/sim/linear.h"
#include "tests/simulator/faults.h"
#include "tests/simulator/moves.h"
#include "tests/simulator/replicas.h"
#include "tests/simulator/workload.h"

#define QUIET_MS  30000  /* everything that was under way has ended */
#define SETTLE_MS 120000 /* everything is at rest */
#define ASK_MS    10000  /* then a change whose end is unknown may have happened after all */
#define SERVE_MS  20000  /* an operation without faults */

static bool is_lost(void *context, size_t node)
{
    return faults_is_lost(context, node);
}

static struct check_rest rest_of(const struct run *run)
{
    return (struct check_rest){run->cluster, is_lost, run->faults};
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

    while (workload_outstanding(run->workload) > 0 || moves_is_busy(run->moves) ||
           replicas_is_busy(run->replicas)) {
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

/* The latest configuration, in which somebody owns the shards, else nobody could read them, and
 * moves are not paused, else they would not end. */
static const struct shard_config *last_config(struct run *run, uint64_t end_ms)
{
    while (world_now_ms(run->world) < end_ms) {
        const struct shard_config *config;

        moves_ask(run->moves);
        await_moves(run);
        config = moves_config(run->moves);
        if (config != NULL && config->shards[0] != 0 && !config->moves_paused) {
            return config;
        }
        if (config != NULL && config->moves_paused) {
            moves_resume(run->moves);
            await_moves(run);
        } else if (config != NULL) {
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
    struct check_rest rest = rest_of(run);
    uint64_t ask_ms = world_now_ms(run->world) + ASK_MS;

    while (!check_rest_reached(&rest, config, world_now_ms(run->world) >= end_ms)) {
        if (world_now_ms(run->world) >= end_ms) {
            check_fail("without faults everything comes to rest", "not under configuration %llu",
                       (unsigned long long)config->num);
        }
        run_ms(run, 100);
        if (world_now_ms(run->world) >= ask_ms) {
            config = last_config(run, end_ms);
            ask_ms += ASK_MS;
        }
    }
    run->report.configurations = config->num;
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

/* Everybody is a voter of its team again, with whatever disk. */
static void complete_teams(struct run *run)
{
    uint64_t end_ms = world_now_ms(run->world) + SETTLE_MS;

    while (run->plan.replicas_per_100_s > 0 && !replicas_complete(run->replicas)) {
        if (world_now_ms(run->world) >= end_ms) {
            check_fail("without faults every server becomes a voter of its team", "some did not");
        }
        run_ms(run, 100);
    }
}

void finish_run(struct run *run)
{
    struct check_rest rest = rest_of(run);
    uint64_t begin_us = world_now_us(run->world);

    faults_end(run->faults);
    fall_quiet(run);
    complete_teams(run);
    settle(run);
    run->report.settle_us = world_now_us(run->world) - begin_us;
    workload_serve_again(run->workload, SERVE_MS);
    workload_read_all(run->workload, SERVE_MS);
    catch_up(run);
    check_rest_states(&rest);
    linear_must_hold(workload_history(run->workload));
}
