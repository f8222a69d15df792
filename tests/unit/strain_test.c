/* How much longer clients wait while shards are copied than otherwise. */
#include "shardkv/strain.h"

#include "tests/cmocka.h"

struct story {
    struct strain strain;
    uint64_t now_ms;
};

static void begin(struct story *story)
{
    *story = (struct story){.now_ms = 1000};
    strain_init(&story->strain, story->now_ms);
}

/* A window of n answers, of which one in twenty takes slow_us, the others a tenth of that. */
static void run(struct story *story, unsigned n, uint64_t slow_us, bool copied)
{
    for (unsigned i = 0; i < n; i++) {
        strain_add(&story->strain, i % 20 == 0 ? slow_us : slow_us / 10);
    }
    if (copied) {
        strain_note_copy(&story->strain);
    }
    story->now_ms += STRAIN_WINDOW_MS;
    strain_step(&story->strain, story->now_ms);
}

static void run_many(struct story *story, unsigned windows, uint64_t slow_us, bool copied)
{
    for (unsigned i = 0; i < windows; i++) {
        run(story, 1000, slow_us, copied);
    }
}

static uint32_t percent(const struct story *story)
{
    return strain_percent(&story->strain);
}

static void it_is_the_tail_with_copies_by_that_without(void **state)
{
    struct story story;

    (void)state;
    for (uint64_t usual_us = 1000; usual_us < 100000; usual_us += usual_us / 3) {
        begin(&story);
        run_many(&story, 3, usual_us, false);
        assert_int_equal(percent(&story), 100);
        run_many(&story, 1, 3 * usual_us, true);
        assert_true(percent(&story) > 255 && percent(&story) < 345);
        run_many(&story, 1, usual_us, true);
        assert_true(percent(&story) > 95 && percent(&story) < 105);
    }
}

static void without_a_window_without_copies_it_is_not_known(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    run_many(&story, 5, 5000, true);
    assert_int_equal(percent(&story), 0);
    run_many(&story, 1, 5000, false);
    run_many(&story, 1, 10000, true);
    assert_true(percent(&story) > 170 && percent(&story) < 230);
}

static void what_is_usual_follows_and_one_odd_window_counts_little(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    run_many(&story, 5, 2000, false);
    run_many(&story, 1, 1000000, false);
    run_many(&story, 1, 2000, true);
    assert_true(percent(&story) > 70);
    run_many(&story, 20, 8000, false);
    run_many(&story, 1, 8000, true);
    assert_true(percent(&story) > 90 && percent(&story) < 115);
    run_many(&story, 20, 2000, false);
    run_many(&story, 1, 4000, true);
    assert_true(percent(&story) > 170 && percent(&story) < 230);
}

static void hardly_any_clients_feel_nothing(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    run_many(&story, 3, 2000, false);
    for (unsigned i = 0; i < 5; i++) {
        run(&story, 2, 100000, true);
    }
    assert_int_equal(percent(&story), 100);
}

/* A few hundred a second are too few for one short window, not for some of them. */
static void a_window_waits_for_enough_clients(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    run_many(&story, 3, 2000, false);
    run(&story, 40, 20000, true);
    assert_int_equal(percent(&story), 100);
    run(&story, 40, 20000, true);
    assert_true(percent(&story) > 500);
}

/* Half a millisecond or less is as good as nothing, and no time is too long to be counted. */
static void extremes_are_bounded(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    run_many(&story, 3, 10, false);
    run_many(&story, 1, 400, true);
    assert_true(percent(&story) <= 105);
    run_many(&story, 1, UINT64_MAX, true);
    assert_true(percent(&story) <= 10000);
    run_many(&story, 1, 0, true);
    assert_true(percent(&story) <= 105);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_the_tail_with_copies_by_that_without),
        cmocka_unit_test(without_a_window_without_copies_it_is_not_known),
        cmocka_unit_test(what_is_usual_follows_and_one_odd_window_counts_little),
        cmocka_unit_test(hardly_any_clients_feel_nothing),
        cmocka_unit_test(a_window_waits_for_enough_clients),
        cmocka_unit_test(extremes_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
