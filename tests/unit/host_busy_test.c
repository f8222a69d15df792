/* How long requests gather, by how busy the machine is. */
#include "raft/host/host_internal.h"

#include "tests/cmocka.h"

static void the_busier_the_machine_the_longer_requests_gather(void **state)
{
    uint32_t before = 0;

    (void)state;
    assert_int_equal(host_busy_span(0, 0), 0);
    assert_int_equal(host_busy_span(50, 0), 0);
    for (double percent = 0; percent <= 100; percent++) {
        uint32_t span_ms = host_busy_span(percent, 0);

        assert_true(span_ms >= before);
        before = span_ms;
    }
    assert_int_equal(before, 2);
}

/* What gathers costs less, so the machine is less busy for it: that must not undo it at once. */
static void a_span_gets_shorter_only_well_below_where_it_got_longer(void **state)
{
    (void)state;
    for (double percent = 1; percent <= 100; percent++) {
        uint32_t span_ms = host_busy_span(percent, 0);

        assert_int_equal(host_busy_span(percent - 1, span_ms), span_ms);
        if (percent >= 5) {
            assert_int_equal(host_busy_span(percent - 5, span_ms), span_ms);
        }
        assert_int_equal(host_busy_span(0, span_ms), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_busier_the_machine_the_longer_requests_gather),
        cmocka_unit_test(a_span_gets_shorter_only_well_below_where_it_got_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
