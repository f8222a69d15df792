/* When the client library's loop looks for requests. */
#include "client/kv_gather.h"
#include "tests/cmocka.h"

/* Requests of callers who each wait for an answer, which takes so long from the look on, and those
 * of a stream: a time between each and the next. In steps of 50 us. */
struct crowd {
    uint32_t n_callers, answer_us, stream_us;
    uint64_t ends_us[64]; /* of each caller's request; 0: it has none */
    bool held[64];
    uint32_t n_held;
    uint32_t looks, taken;
    uint64_t oldest_us, longest_us; /* how long one was held */
    struct kv_gather gather;
};

static void crowd_look(struct crowd *crowd, uint64_t us)
{
    uint64_t waited_us = crowd->n_held > 0 ? us - crowd->oldest_us : 0;

    crowd->longest_us = waited_us > crowd->longest_us ? waited_us : crowd->longest_us;
    kv_gather_looked(&crowd->gather, crowd->n_held, us / 1000);
    crowd->looks++;
    crowd->taken += crowd->n_held;
    crowd->n_held = 0;
    for (uint32_t i = 0; i < crowd->n_callers; i++) {
        crowd->ends_us[i] = crowd->held[i] ? us + crowd->answer_us : crowd->ends_us[i];
        crowd->held[i] = false;
    }
}

static void crowd_submit(struct crowd *crowd, uint64_t us)
{
    crowd->oldest_us = crowd->n_held == 0 ? us : crowd->oldest_us;
    crowd->n_held++;
    if (kv_gather_is_urgent(&crowd->gather)) {
        crowd_look(crowd, us);
    }
}

static void crowd_run(struct crowd *crowd, uint64_t from_ms, uint64_t to_ms)
{
    crowd->looks = crowd->taken = 0;
    crowd->longest_us = 0;
    for (uint64_t us = from_ms * 1000; us < to_ms * 1000; us += 50) {
        if (crowd->gather.look_ms <= us / 1000) {
            crowd_look(crowd, us);
        }
        for (uint32_t i = 0; i < crowd->n_callers; i++) {
            if (!crowd->held[i] && crowd->ends_us[i] <= us) {
                crowd->held[i] = true;
                crowd_submit(crowd, us);
            }
        }
        if (crowd->stream_us > 0 && us % crowd->stream_us == 0) {
            crowd_submit(crowd, us);
        }
    }
}

static void a_caller_alone_hardly_ever_waits(void **state)
{
    struct crowd crowd = {.n_callers = 1, .answer_us = 200};

    (void)state;
    kv_gather_init(&crowd.gather);
    crowd_run(&crowd, 1000, 11000);
    assert_in_range(crowd.taken, 10000 * 5 * 99 / 100, 10000 * 5);
}

static void callers_who_wait_for_answers_are_not_slowed_down(void **state)
{
    struct crowd crowd = {.n_callers = 32, .answer_us = 1100};

    (void)state;
    kv_gather_init(&crowd.gather);
    crowd_run(&crowd, 1000, 11000);
    assert_in_range(crowd.taken, 10000 * 32 * 10 / 11 * 98 / 100, 10000 * 32);
}

static void a_stream_is_looked_for_once_a_millisecond(void **state)
{
    struct crowd crowd = {.stream_us = 100};

    (void)state;
    kv_gather_init(&crowd.gather);
    crowd_run(&crowd, 1000, 11000);
    assert_in_range(crowd.taken, 99900, 100000);
    assert_in_range(crowd.looks, 10000, 14000);
    assert_in_range(crowd.longest_us, 500, 1000);
}

static void a_thin_stream_waits_for_nobody(void **state)
{
    struct crowd crowd = {.stream_us = 500};

    (void)state;
    kv_gather_init(&crowd.gather);
    crowd_run(&crowd, 1000, 6000);
    assert_int_equal(crowd.longest_us, 0);
}

/* What was learned of one kind of load does not stay when another one comes. */
static void a_change_is_noticed(void **state)
{
    struct crowd crowd = {.stream_us = 100};

    (void)state;
    kv_gather_init(&crowd.gather);
    crowd_run(&crowd, 1000, 11000);
    crowd.stream_us = 0;
    crowd.n_callers = 2;
    crowd.answer_us = 200;
    crowd_run(&crowd, 11000, 14000); /* at the latest after the longest pause */
    crowd_run(&crowd, 14000, 20000);
    assert_in_range(crowd.taken, 6000 * 10 * 99 / 100, 6000 * 10);
    crowd.n_callers = 0;
    crowd_run(&crowd, 20000, 20100);
    assert_in_range(crowd.looks, 0, 33); /* without requests it looks no more */
    assert_true(kv_gather_is_urgent(&crowd.gather));
    crowd.stream_us = 100;
    crowd_run(&crowd, 21000, 24000);
    crowd_run(&crowd, 24000, 30000);
    assert_in_range(crowd.looks, 6000, 9000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caller_alone_hardly_ever_waits),
        cmocka_unit_test(callers_who_wait_for_answers_are_not_slowed_down),
        cmocka_unit_test(a_stream_is_looked_for_once_a_millisecond),
        cmocka_unit_test(a_thin_stream_waits_for_nobody),
        cmocka_unit_test(a_change_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
