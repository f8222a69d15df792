/* Unit tests of a group: proposals and how they end, reads, stamps, limits, halting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>

#include "tests/sim/rsm_bench.h"

static void one_replica_applies_what_is_proposed(void **state)
{
    struct bench *bench = bench_create(1, 1);
    struct bench_call first, second;
    raft_id leader;

    (void)state;
    bench_start_all(bench);
    leader = bench_leader(bench);
    bench_propose(bench, leader, "inc", &first);
    bench_propose(bench, leader, "inc", &second);
    assert_int_equal(first.ended, 0);
    assert_true(bench_run_until_ended(bench, &second, 100));
    assert_int_equal(first.status, ST_OK);
    assert_string_equal(first.result, "1");
    assert_int_equal(second.status, ST_OK);
    assert_string_equal(second.result, "2");
    assert_int_equal(bench_counter(bench, 1), 2);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_replica_applies_what_is_proposed),
    };

    return cmocka_run_group_tests_name("rsm_group", tests, NULL, NULL);
}
