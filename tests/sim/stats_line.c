/* Figures of a scenario; see stats_line.h. */
#include "tests/sim/stats_line.h"

#include <stdio.h>
#include <stdlib.h>

void stats_line_print(const struct stats_line *line)
{
    printf("%-36s %6.1f s %2zu peers %8llu RPCs %11llu bytes %7llu %s", line->name,
           (double)line->us / 1e6, line->peers, (unsigned long long)line->rpcs,
           (unsigned long long)line->bytes, (unsigned long long)line->count, line->unit);
    if (line->longest_us > 0) {
        printf(", the longest took %.2f s", (double)line->longest_us / 1e6);
    }
    if (line->other_rpcs > 0) {
        printf(" (and %llu RPCs of %s)", (unsigned long long)line->other_rpcs, line->other_name);
    }
    printf("\n");
}

uint64_t stats_line_seed(uint64_t own)
{
    const char *text = getenv("SCENARIO_SEED");

    return own + 1000003u * (text == NULL ? 0 : strtoull(text, NULL, 10));
}
