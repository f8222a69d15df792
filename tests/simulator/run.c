/* run: see run.h. */
#include "tests/simulator/run.h"

#include "raft/util/assert.h"
#include "tests/simulator/faults.h"
#include "tests/simulator/finish.h"
#include "tests/simulator/moves.h"
#include "tests/simulator/replicas.h"
#include "tests/simulator/workload.h"

#define BOOT_STEPS 10 /* without faults, so that there is something to break */

static struct kv_cluster *make_cluster(const struct plan *plan)
{
    struct rng rng = plan_stream(plan->seed, "world");
    struct kv_cluster_options options = {.n_ctrlers = plan->n_ctrlers,
                                         .n_groups = plan->n_groups,
                                         .n_replicas = 1,
                                         .n_shards = plan->n_shards,
                                         .snapshots = plan->snapshots,
                                         .max_raft_state = plan->max_raft_state,
                                         .snapshot_chunk_bytes = plan->snapshot_chunk_bytes,
                                         .max_sessions = plan->max_sessions,
                                         .piece_bytes = plan->piece_bytes,
                                         .max_copies = plan->max_copies,
                                         .bytes_per_s = plan->copy_bytes_per_s,
                                         .use_wal = plan->use_wal,
                                         .may_halt = true,
                                         .quiet = true,
                                         .seed = rng_next(&rng)};

    for (size_t g = 0; g < plan->n_groups; g++) {
        options.replicas[g] = plan->replicas[g];
    }
    return kv_cluster_create("sim", &options);
}

static void run_step(struct run *run, uint32_t step)
{
    if (step >= BOOT_STEPS) {
        faults_step(run->faults, step);
    }
    for (int ms = 0; ms < PLAN_STEP_MS; ms++) {
        workload_begin(run->workload);
        moves_begin(run->moves);
        replicas_begin(run->replicas);
        faults_run_ms(run->faults, 1);
    }
}

void run_all(struct run *run, FILE *trace)
{
    struct run_report *report = &run->report;
    uint64_t begin_us;

    run->cluster = make_cluster(&run->plan);
    run->world = kv_cluster_world(run->cluster);
    run->events = (struct events){.world = run->world, .trace = trace};
    world_record(run->world, trace);
    run->workload = workload_create(run);
    run->moves = moves_create(run);
    run->faults = faults_create(run);
    run->replicas = replicas_create(run);
    report->n_nodes = world_node_count(run->world);
    begin_us = world_now_us(run->world);
    for (uint32_t step = 0; step < run->plan.steps; step++) {
        run_step(run, step);
    }
    report->steps_us = world_now_us(run->world) - begin_us;
    report->begun_in_steps = report->begun;
    finish_run(run);
    report->total_us = world_now_us(run->world) - begin_us;
    report->events = world_counted(run->world)->events;
    replicas_destroy(&run->replicas);
    faults_destroy(&run->faults);
    moves_destroy(&run->moves);
    workload_destroy(&run->workload);
    kv_cluster_destroy(&run->cluster);
    run->world = NULL;
    run->events.world = NULL;
}
