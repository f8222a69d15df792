/* report: what a run did, as a line for people or as JSON. */
#ifndef TESTS_SIMULATOR_REPORT_H
#define TESTS_SIMULATOR_REPORT_H

#include "tests/simulator/run.h"

/* What a run took of the real world. Speeds are told for one core: by CPU time. */
struct report_time {
    double wall_s, cpu_s;
};

/* Of one run, or the sum of several. */
struct report_sum {
    uint64_t n_seeds;
    struct report_time took;
    struct run_report all;
};
void report_add(struct report_sum *sum, const struct run_report *report,
                const struct report_time *took);

void report_show_run(const struct run *run, const struct report_time *took, bool json);
void report_show_sum(const struct report_sum *sum, const char *profile, bool json);

#endif
