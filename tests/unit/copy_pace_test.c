/* When the next piece of a copy may be asked for: the rate, and the rests under load. */
#include "shardkv/copy_pace.h"

#include "tests/cmocka.h"

#define BUSY 1000 /* client operations a second */
#define IDLE 10

static void nothing_holds_up_a_copy_when_nobody_else_works(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 0);
    for (uint64_t now_ms = 5; now_ms < 1000; now_ms += 5) {
        assert_false(copy_pace_yields(&pace, IDLE));
        assert_int_equal(copy_pace_next_ms(&pace, now_ms), now_ms);
        copy_pace_spend(&pace, 1u << 20, now_ms);
        copy_pace_applied(&pace, now_ms - 4, now_ms, IDLE);
    }
}

/* Pieces of that size as fast as the pace lets them, for so long; returns the bytes a second. */
static uint64_t copy_for(struct copy_pace *pace, uint64_t piece, uint64_t begin_ms, uint64_t ms)
{
    uint64_t bytes = 0, now_ms = begin_ms;

    for (;;) {
        now_ms = copy_pace_next_ms(pace, now_ms);
        if (now_ms >= begin_ms + ms) {
            return bytes * 1000 / ms;
        }
        copy_pace_spend(pace, piece, now_ms);
        bytes += piece;
    }
}

static void the_rate_is_kept_whatever_the_size_of_pieces(void **state)
{
    const uint64_t pieces[] = {100, 3000, 256u << 10, 2u << 20};

    (void)state;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct copy_pace pace;
        uint64_t rate;

        copy_pace_init(&pace, 1000000);
        rate = copy_for(&pace, pieces[i], 1000, 60000);
        assert_true(rate > 950000 && rate < 1060000);
    }
}

/* What was not used while nothing was copied is not made up for later, but for a moment's worth. */
static void a_long_rest_saves_up_little(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 1000000);
    copy_for(&pace, 1000, 1000, 1000);
    assert_true(copy_for(&pace, 1000, 100000, 1000) < 1300000);
}

static void one_large_piece_is_paid_for_afterwards(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 1000);
    assert_int_equal(copy_pace_next_ms(&pace, 10000), 10000);
    copy_pace_spend(&pace, 5000, 10000);
    assert_true(copy_pace_next_ms(&pace, 10001) > 14500);
    assert_true(copy_pace_next_ms(&pace, 10001) <= 15000);
    assert_int_equal(copy_pace_next_ms(&pace, 20000), 20000);
}

static void it_yields_to_clients_here_or_at_the_source(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 0);
    assert_false(copy_pace_yields(&pace, IDLE));
    assert_true(copy_pace_yields(&pace, BUSY));
    pace.source_load = BUSY;
    assert_true(copy_pace_yields(&pace, IDLE));
}

/* At most a third of the time is spent on copies; slower pieces, longer rests. */
static void after_a_piece_under_load_it_rests_in_proportion(void **state)
{
    struct copy_pace pace;

    (void)state;
    for (uint64_t took_ms = 0; took_ms < 400; took_ms += 20) {
        copy_pace_init(&pace, 0);
        copy_pace_applied(&pace, 5000, 5000 + took_ms, BUSY);
        assert_true(copy_pace_next_ms(&pace, 5000 + took_ms) - (5000 + took_ms) >= 2 * took_ms);
        assert_true(copy_pace_next_ms(&pace, 5000 + took_ms) > 5000 + took_ms);
    }
    copy_pace_init(&pace, 0);
    copy_pace_applied(&pace, 5000, 5400, IDLE);
    assert_int_equal(copy_pace_next_ms(&pace, 5400), 5400);
}

static void a_copy_never_stands_still(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 0);
    copy_pace_applied(&pace, 5000, 65000, BUSY);
    assert_int_equal(copy_pace_next_ms(&pace, 65000), 66000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_holds_up_a_copy_when_nobody_else_works),
        cmocka_unit_test(the_rate_is_kept_whatever_the_size_of_pieces),
        cmocka_unit_test(a_long_rest_saves_up_little),
        cmocka_unit_test(one_large_piece_is_paid_for_afterwards),
        cmocka_unit_test(it_yields_to_clients_here_or_at_the_source),
        cmocka_unit_test(after_a_piece_under_load_it_rests_in_proportion),
        cmocka_unit_test(a_copy_never_stands_still),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
