/* How a wrong clock is told to a process: see fail_clock.c, which is loaded into it, and
 * fail_tool.c, which writes this. */
#ifndef TESTS_CLUSTER_FAIL_CLOCK_H
#define TESTS_CLUSTER_FAIL_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>

struct fail_clock {
    _Atomic uint64_t version; /* odd while the rest is being written */
    int64_t wall_offset_ns;   /* of the wall clock alone */
    double rate;              /* how fast time passes; 1: as it should */
    /* The monotonic clock was right_ns when the wrong one was wrong_ns: the rate counts from there.
     */
    int64_t since_real_ns, since_wrong_ns;
};

#endif
