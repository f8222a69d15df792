/* The histogram: percentiles against a sorted list of the same values. */
#include <stdlib.h>
#include <string.h>

#include "client/cli_histogram.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"

#define N 20000

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static int set_up(void **state)
{
    *state = calloc(2, sizeof(struct histogram));
    return *state != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

static void nothing_recorded_is_zero(void **state)
{
    struct histogram *histogram = *state;

    assert_int_equal(histogram_percentile(histogram, 0.5), 0);
    assert_int_equal(histogram_percentile(histogram, 1), 0);
}

static void small_values_are_exact(void **state)
{
    struct histogram *histogram = *state;

    for (uint64_t value = 1; value <= 100; value++) {
        histogram_record(histogram, value);
    }
    assert_int_equal(histogram_percentile(histogram, 0), 1);
    assert_int_equal(histogram_percentile(histogram, 0.01), 1);
    assert_int_equal(histogram_percentile(histogram, 0.5), 50);
    assert_int_equal(histogram_percentile(histogram, 0.99), 99);
    assert_int_equal(histogram_percentile(histogram, 0.999), 100);
    assert_int_equal(histogram_percentile(histogram, 1), 100);
}

/* Each value alone comes back within 1 %, at both ends of every doubling. */
static void every_magnitude_is_right_to_one_percent(void **state)
{
    struct histogram *histogram = *state;

    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t power = UINT64_C(1) << bit;
        const uint64_t values[] = {power - 1, power, power + 1, power + power / 2,
                                   power + (power - 1)};

        for (size_t i = 0; i < 5; i++) {
            uint64_t got;

            memset(histogram, 0, sizeof(*histogram));
            histogram_record(histogram, values[i]);
            histogram->max = UINT64_MAX; /* so that the bucket's own end is seen */
            got = histogram_percentile(histogram, 0.5);
            assert_true(got >= values[i]);
            assert_true(got - values[i] <= values[i] / 100);
        }
    }
}

static void the_largest_is_exact(void **state)
{
    struct histogram *histogram = *state;

    histogram_record(histogram, 1000003);
    assert_int_equal(histogram_percentile(histogram, 0.5), 1000003);
    histogram_record(histogram, UINT64_MAX);
    assert_int_equal(histogram_percentile(histogram, 1), UINT64_MAX);
}

static void percentiles_agree_with_a_sorted_list(void **state)
{
    static const double fractions[] = {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
    struct histogram *histogram = *state;
    uint64_t *values = malloc(N * sizeof(*values));
    struct rng rng;

    rng_init(&rng, 4711);
    for (size_t i = 0; i < N; i++) {
        values[i] = rng_next(&rng) >> (20 + rng_next(&rng) % 40);
        histogram_record(histogram, values[i]);
    }
    qsort(values, N, sizeof(*values), compare);
    for (size_t i = 0; i < sizeof(fractions) / sizeof(fractions[0]); i++) {
        size_t rank = (size_t)(fractions[i] * N + 0.9999);
        uint64_t want = values[rank - 1], got = histogram_percentile(histogram, fractions[i]);

        assert_true(got >= want);
        assert_true(got - want <= want / 100);
    }
    free(values);
}

static void merged_is_as_recorded_into_one(void **state)
{
    struct histogram *both = *state, *half = both + 1;
    struct histogram *one = calloc(1, sizeof(*one));

    for (uint64_t i = 0; i < 1000; i++) {
        histogram_record(i % 3 == 0 ? both : half, i * i);
        histogram_record(one, i * i);
    }
    histogram_merge(both, half);
    assert_memory_equal(both, one, sizeof(*one));
    free(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_recorded_is_zero, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_values_are_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_magnitude_is_right_to_one_percent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_largest_is_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(percentiles_agree_with_a_sorted_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(merged_is_as_recorded_into_one, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
