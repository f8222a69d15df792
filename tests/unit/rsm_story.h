/* How the tests of the runtime begin. */
#ifndef TESTS_UNIT_RSM_STORY_H
#define TESTS_UNIT_RSM_STORY_H

#include "tests/cmocka.h"
#include "tests/sim/rsm_bench.h"

#define GROUP 5 /* of the bench */

/* n replicas, one of which leads. */
static inline struct bench *started(size_t n, uint64_t seed)
{
    struct bench *bench = bench_create(n, seed);

    bench_start_all(bench);
    bench_leader(bench);
    return bench;
}

/* The same, with a checkpoint each so many bytes of the log and no log kept behind it. */
static inline struct bench *checkpointing(size_t n, uint64_t seed, uint64_t log_bytes)
{
    struct bench *bench = bench_create(n, seed);

    bench_options(bench)->checkpoint_log_bytes = log_bytes;
    bench_options(bench)->log_keep_bytes = 0;
    bench_options(bench)->company_ms = 1; /* a proposal each turn */
    bench_start_all(bench);
    bench_leader(bench);
    return bench;
}

static inline const struct group_stats *stats(struct bench *bench, raft_id id)
{
    return group_statistics(bench_replica(bench, id)->group);
}

#endif
