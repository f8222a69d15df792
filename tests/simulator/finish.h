/* finish: the end of a run. The faults are over; the cluster must come to rest, serve everybody
 * again, and have kept its word about everything that was asked of it. */
#ifndef TESTS_SIMULATOR_FINISH_H
#define TESTS_SIMULATOR_FINISH_H

#include "tests/simulator/run.h"

void finish_run(struct run *run);

#endif
