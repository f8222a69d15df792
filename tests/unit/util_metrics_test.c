/* Unit tests of raft/util/histogram.h and metrics.h: which bucket a duration falls into, and the
 * text that Prometheus reads, to the byte. */
#include "tests/cmocka.h"

#include "raft/util/metrics.h"

static void expect_text(struct buf *text, const char *expected)
{
    buf_put_u8(text, 0);
    assert_string_equal((const char *)text->data, expected);
    buf_fini(text);
}

/* ---- Buckets ---- */

static void a_bound_is_the_last_of_its_bucket(void **state)
{
    (void)state;
    assert_int_equal(histogram_bound_us(0), 16);
    assert_int_equal(histogram_bound_us(HISTOGRAM_BUCKETS - 1), 16777216);
    assert_int_equal(histogram_bucket(0), 0);
    assert_int_equal(histogram_bucket(1), 0);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        assert_int_equal(histogram_bucket(histogram_bound_us(i) - 1), i);
        assert_int_equal(histogram_bucket(histogram_bound_us(i)), i);
        assert_int_equal(histogram_bucket(histogram_bound_us(i) + 1), i + 1);
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS);
}

static void durations_are_counted_and_summed(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    assert_int_equal(histogram_count(&histogram), 0);
    histogram_add(&histogram, 16);
    histogram_add(&histogram, 17);
    histogram_add_span(&histogram, 1000, 60001000);
    assert_int_equal(histogram_count(&histogram), 3);
    assert_int_equal(histogram.counts[0], 1);
    assert_int_equal(histogram.counts[1], 1);
    assert_int_equal(histogram.counts[HISTOGRAM_BUCKETS], 1);
    assert_int_equal(histogram.sum_us, 16 + 17 + 60000000);
}

/* A clock of milliseconds and one of microseconds may disagree by a little. */
static void a_span_that_ends_before_it_begins_took_no_time(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    histogram_add_span(&histogram, 5999, 5000);
    assert_int_equal(histogram.counts[0], 1);
    assert_int_equal(histogram.sum_us, 0);
}

/* ---- Text ---- */

static void a_sample_has_its_help_and_type(void **state)
{
    struct buf text = {0};

    (void)state;
    metrics_put_counter(&text, "a_total", "Things.", UINT64_MAX);
    metrics_put_gauge(&text, "b_bytes", "Size.", 0);
    expect_text(&text, "# HELP a_total Things.\n# TYPE a_total counter\n"
                       "a_total 18446744073709551615\n"
                       "# HELP b_bytes Size.\n# TYPE b_bytes gauge\nb_bytes 0\n");
}

static void microseconds_become_seconds(void **state)
{
    struct buf text = {0};

    (void)state;
    metrics_put_counter_us(&text, "a_seconds_total", "Time.", 1);
    metrics_put_gauge_us(&text, "b_seconds", "Time.", 1763715600000001);
    expect_text(&text, "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\n"
                       "a_seconds_total 0.000001\n"
                       "# HELP b_seconds Time.\n# TYPE b_seconds gauge\n"
                       "b_seconds 1763715600.000001\n");
}

static void labels_stand_between_braces(void **state)
{
    struct buf text = {0};

    (void)state;
    metrics_begin_gauge(&text, "lag", "Lag.");
    metrics_put_sample(&text, "lag", 7, "peer=\"%u\"", 2u);
    metrics_put_sample(&text, "lag", 8, "peer=\"%u\",state=\"%s\"", 3u, "probe");
    expect_text(&text, "# HELP lag Lag.\n# TYPE lag gauge\n"
                       "lag{peer=\"2\"} 7\nlag{peer=\"3\",state=\"probe\"} 8\n");
}

/* The text from `word` on. */
static const char *from(struct buf *text, const char *word)
{
    const char *found;

    buf_put_u8(text, 0);
    found = strstr((const char *)text->data, word);
    assert_non_null(found);
    return found;
}

static void buckets_add_up(void **state)
{
    struct histogram histogram = {0};
    struct buf text = {0};
    const char *head = "# HELP t_seconds Time.\n# TYPE t_seconds histogram\n"
                       "t_seconds_bucket{le=\"0.000016\"} 1\n"
                       "t_seconds_bucket{le=\"0.000032\"} 1\n"
                       "t_seconds_bucket{le=\"0.000064\"} 3\n";

    (void)state;
    histogram_add(&histogram, 10);
    histogram_add(&histogram, 50);
    histogram_add(&histogram, 64);
    histogram_add(&histogram, 20000000);
    metrics_put_histogram(&text, "t_seconds", "Time.", &histogram);
    assert_memory_equal(text.data, head, strlen(head));
    assert_string_equal(from(&text, "t_seconds_bucket{le=\"8.388608\"}"),
                        "t_seconds_bucket{le=\"8.388608\"} 3\n"
                        "t_seconds_bucket{le=\"16.777216\"} 3\n"
                        "t_seconds_bucket{le=\"+Inf\"} 4\n"
                        "t_seconds_sum 20.000124\n"
                        "t_seconds_count 4\n");
    buf_fini(&text);
}

static void a_histogram_may_have_labels_too(void **state)
{
    struct histogram histogram = {0};
    struct buf text = {0};

    (void)state;
    histogram_add(&histogram, 3000000);
    metrics_begin_histogram(&text, "t_seconds", "Time.");
    metrics_put_histogram_sample(&text, "t_seconds", &histogram, "op=\"%s\"", "get");
    assert_string_equal(from(&text, "t_seconds_bucket{op=\"get\",le=\"+Inf\"}"),
                        "t_seconds_bucket{op=\"get\",le=\"+Inf\"} 1\n"
                        "t_seconds_sum{op=\"get\"} 3.000000\n"
                        "t_seconds_count{op=\"get\"} 1\n");
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bound_is_the_last_of_its_bucket),
        cmocka_unit_test(durations_are_counted_and_summed),
        cmocka_unit_test(a_span_that_ends_before_it_begins_took_no_time),
        cmocka_unit_test(a_sample_has_its_help_and_type),
        cmocka_unit_test(microseconds_become_seconds),
        cmocka_unit_test(labels_stand_between_braces),
        cmocka_unit_test(buckets_add_up),
        cmocka_unit_test(a_histogram_may_have_labels_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
