/* The standard profile is dense: at least 20 client operations and one fault per simulated second,
 * over the runs of some seeds, and every kind of fault is among them. */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/mem.h"
#include "tests/simulator/run.h"

#define N_SEEDS 60

static void the_standard_profile_is_dense(void **state)
{
    struct plan_wishes wishes = {.profile = profile_find("standard"), .steps = 100};
    uint64_t steps_us = 0, begun = 0, n_faults = 0, faults[FAULT_N] = {0}, changes = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        struct run *run = mem_zalloc(sizeof(*run));

        plan_make(&run->plan, seed, &wishes);
        run_all(run, NULL);
        steps_us += run->report.steps_us;
        begun += run->report.begun_in_steps;
        changes += run->report.changes_ok;
        for (size_t i = 0; i < FAULT_N; i++) {
            faults[i] += run->report.faults[i];
            n_faults += i == FAULT_MOVES ? 0 : run->report.faults[i];
        }
        mem_free(run);
    }
    printf("%.1f s: %.1f operations, %.2f faults, %.2f changes a second\n", (double)steps_us / 1e6,
           (double)begun * 1e6 / (double)steps_us, (double)n_faults * 1e6 / (double)steps_us,
           (double)changes * 1e6 / (double)steps_us);
    assert_true(begun * 1000000 >= 20 * steps_us);
    assert_true(n_faults * 1000000 >= steps_us);
    for (size_t i = 0; i < FAULT_N; i++) {
        if (faults[i] == 0) {
            fail_msg("no %s in %d seeds", fault_kinds[i].name, N_SEEDS);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_standard_profile_is_dense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
