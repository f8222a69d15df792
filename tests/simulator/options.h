/* options: the simulator's command line. */
#ifndef TESTS_SIMULATOR_OPTIONS_H
#define TESTS_SIMULATOR_OPTIONS_H

#include "tests/simulator/plan.h"

enum options_action { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_LIST };

struct options {
    enum options_action action;
    uint64_t first, last, stride; /* seeds, both included */
    uint32_t seconds;             /* of wall clock: no seed begins after them; 0: no bound */
    struct plan_wishes wishes;
    const char *trace; /* a file's name; NULL: none */
    bool json;
    bool quiet; /* only the sum of all seeds */
};

/* False: bad options; said why on stderr. */
bool options_read(struct options *options, int argc, char **argv);
void options_help(void);
void options_list(void);

#endif
