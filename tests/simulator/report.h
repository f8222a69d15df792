/* report: what a run did, as a line for people or as JSON. */
#ifndef TESTS_SIMULATOR_REPORT_H
#define TESTS_SIMULATOR_REPORT_H

#include "tests/simulator/run.h"

/* Of one run, or the sum of several. */
struct report_sum {
    uint64_t n_seeds;
    double wall_s;
    struct run_report all;
};
void report_add(struct report_sum *sum, const struct run_report *report, double wall_s);

void report_show_run(const struct run *run, double wall_s, bool json);
void report_show_sum(const struct report_sum *sum, const char *profile, bool json);

#endif
