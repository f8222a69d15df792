/* seeds: a test that runs a story with many seeds, and how to run others.
 *
 * In the environment, for the prefix CHAOS: CHAOS_SEEDS=N runs the seeds 1 to N instead of 1 to the
 * usual number, CHAOS_SEED=N that seed alone. Each is told on stderr before it can fail.
 */
#ifndef TESTS_SEEDS_H
#define TESTS_SEEDS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* 0: the variable is not set. */
static inline uint64_t seeds_asked(const char *prefix, const char *suffix)
{
    char name[64];
    const char *text;

    snprintf(name, sizeof(name), "%s%s", prefix, suffix);
    text = getenv(name);
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static inline void seeds_run(const char *prefix, uint64_t usual, void (*run)(uint64_t seed))
{
    uint64_t one = seeds_asked(prefix, "_SEED"), many = seeds_asked(prefix, "_SEEDS");
    uint64_t first = one != 0 ? one : 1;
    uint64_t last = one != 0 ? one : many != 0 ? many : usual;

    for (uint64_t seed = first; seed <= last; seed++) {
        fprintf(stderr, "%s_SEED=%llu\n", prefix, (unsigned long long)seed);
        run(seed);
    }
}

#endif
