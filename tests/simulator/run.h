/* run: one seed from its first event to its last check.
 *
 * A cluster of the shipped servers and clerks in a simulated world (tests/sim) lives through the
 * plan's steps: before each, faults begin and end (faults.h); during each, clients begin operations
 * (workload.h) and the configuration changes (moves.h). Then all faults end, everything heals, and
 * the end check (finish.h) wants a cluster at rest that serves again and a history that is
 * linearizable. A broken invariant ends the process (check_fail, ASSERT).
 */
#ifndef TESTS_SIMULATOR_RUN_H
#define TESTS_SIMULATOR_RUN_H

#include "tests/sim/history.h"
#include "tests/sim/kv_cluster.h"
#include "tests/simulator/events.h"
#include "tests/simulator/plan.h"

/* What a run did, for its last line. */
struct run_report {
    uint64_t n_nodes;
    uint64_t steps_us;  /* simulated time while faults happened */
    uint64_t total_us;  /* with the end */
    uint64_t settle_us; /* from the end of the faults until everything was at rest */
    uint64_t events;
    uint64_t begun, ok, unknown, refused; /* clients' operations */
    uint64_t begun_in_steps;              /* of them, while faults happened */
    uint64_t scans;
    uint64_t unknown_at_end; /* of them, after the faults: a session that was evicted */
    uint64_t changes_ok, changes_unknown, changes_refused;
    uint64_t replicas_ok, replicas_refused; /* changes of a team's replicas */
    uint64_t faults[FAULT_N];
    uint64_t n_lost; /* servers that lost their disk */
    uint64_t configurations;
};

struct faults;
struct workload;
struct moves;
struct replicas;

struct run {
    struct plan plan;
    struct kv_cluster *cluster;
    struct world *world;
    struct events events;
    struct faults *faults;
    struct workload *workload;
    struct moves *moves;
    struct replicas *replicas;
    struct run_report report;
};

/* Runs the plan; the trace (may be NULL) gets a line for everything that happens. `run` is in use
 * until this returns: for whoever must say where a broken run stood. */
void run_all(struct run *run, FILE *trace);

#endif
