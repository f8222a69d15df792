/* stats_line: the one line of figures that a scenario ends with, as the public suites print it, and
 * the seed that it runs with.
 *
 *   Backup           3.9 s  5 peers      1024 RPCs      108214 bytes     102 commits
 *
 * scripts/scenario-stats.sh reads these lines. What is counted is what the suites count: virtual
 * seconds from the cluster's start; every call issued, also to a server that is away; the bytes of
 * those calls and of the answers delivered; commands applied, or operations of clients ended.
 */
#ifndef TESTS_SIM_STATS_LINE_H
#define TESTS_SIM_STATS_LINE_H

#include <stddef.h>
#include <stdint.h>

struct stats_line {
    const char *name; /* as the public suites call it */
    uint64_t us;      /* virtual time since the cluster was made */
    size_t peers;     /* replicas of one group */
    uint64_t rpcs;
    uint64_t bytes;
    uint64_t count;
    const char *unit;       /* of count: "commits" or "ops" */
    uint64_t other_rpcs;    /* not in rpcs; 0: none */
    const char *other_name; /* whose they are */
    uint64_t longest_us;    /* that an operation took; 0: unknown */
};

void stats_line_print(const struct stats_line *line);

/* The seed of a scenario: its own, or another one in every scenario if SCENARIO_SEED is set in the
 * environment. */
uint64_t stats_line_seed(uint64_t own);

#endif
