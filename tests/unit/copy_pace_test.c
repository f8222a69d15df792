/* When the next piece of a copy may be asked for: the rate, and the rests under load. */
#include "shardkv/copy_pace.h"

#include "tests/cmocka.h"

#define BUSY 1000 /* client operations a second */
#define IDLE 10

/* What clients feel, in percent of what is usual. */
#define NOTHING 100
#define MUCH    200

/* One copy on a simulated group: pieces take 3 ms; clients feel something as a rule says. */
struct copy {
    struct copy_pace pace;
    uint64_t now_ms;
    uint32_t load, strain;
    uint32_t round;
    uint32_t record;         /* a larger one goes alone */
    uint64_t bytes, largest; /* came; of one piece */
    uint64_t longest_ms;     /* between two pieces */
};

static void begin(struct copy *copy, uint64_t bytes_per_s)
{
    *copy = (struct copy){.now_ms = 1000, .load = BUSY, .strain = NOTHING};
    copy_pace_init(&copy->pace, bytes_per_s);
}

/* Returns the bytes a second. */
static uint64_t copy_for(struct copy *copy, uint64_t ms)
{
    uint64_t end_ms = copy->now_ms + ms, began_ms, bytes;

    copy->bytes = copy->largest = copy->longest_ms = 0;
    while (copy->now_ms < end_ms) {
        struct copy_pace *pace = &copy->pace;

        copy_pace_follow(pace, copy->load, copy->strain, copy->now_ms);
        began_ms = copy->round > 0 ? copy_pace_next_of_round_ms(pace, copy->load, copy->now_ms)
                                   : copy_pace_next_ms(pace, copy->load, copy->now_ms);
        if (began_ms > copy->now_ms) {
            copy->longest_ms = began_ms - copy->now_ms > copy->longest_ms ? began_ms - copy->now_ms
                                                                          : copy->longest_ms;
            /* Other events come in between. */
            while (copy->now_ms < began_ms) {
                copy->now_ms = copy->now_ms + 50 < began_ms ? copy->now_ms + 50 : began_ms;
                copy_pace_follow(pace, copy->load, copy->strain, copy->now_ms);
            }
            continue;
        }
        bytes = copy_pace_piece_bytes(pace, 256u << 10, copy->round, copy->load, copy->now_ms);
        bytes = bytes > copy->record ? bytes : copy->record;
        copy->now_ms += 3;
        copy_pace_spend(pace, bytes, copy->round, began_ms, copy->now_ms);
        copy->bytes += bytes;
        copy->largest = bytes > copy->largest ? bytes : copy->largest;
    }
    return copy->bytes * 1000 / ms;
}

static void nothing_holds_up_a_copy_when_nobody_else_works(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 0);
    for (uint64_t now_ms = 5; now_ms < 1000; now_ms += 5) {
        assert_false(copy_pace_yields(&pace, IDLE, now_ms));
        assert_int_equal(copy_pace_next_ms(&pace, IDLE, now_ms), now_ms);
        assert_int_equal(copy_pace_piece_bytes(&pace, 1u << 20, 0, IDLE, now_ms), 1u << 20);
        copy_pace_spend(&pace, 1u << 20, 0, now_ms - 4, now_ms);
        copy_pace_follow(&pace, IDLE, 0, now_ms);
    }
}

/* ---- The operator's rate ---- */

/* Pieces of that size as fast as the pace lets them, for so long; returns the bytes a second. */
static uint64_t fetch_for(struct copy_pace *pace, uint64_t piece, uint64_t begin_ms, uint64_t ms)
{
    uint64_t bytes = 0, now_ms = begin_ms;

    for (;;) {
        now_ms = copy_pace_next_ms(pace, IDLE, now_ms);
        if (now_ms >= begin_ms + ms) {
            return bytes * 1000 / ms;
        }
        copy_pace_spend(pace, piece, 0, now_ms, now_ms);
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
        rate = fetch_for(&pace, pieces[i], 1000, 60000);
        assert_true(rate > 950000 && rate < 1060000);
    }
}

/* What was not used while nothing was copied is not made up for later, but for a moment's worth. */
static void a_long_rest_saves_up_little(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 1000000);
    fetch_for(&pace, 1000, 1000, 1000);
    assert_true(fetch_for(&pace, 1000, 100000, 1000) < 1300000);
}

static void one_large_piece_is_paid_for_afterwards(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 1000);
    assert_int_equal(copy_pace_next_ms(&pace, IDLE, 10000), 10000);
    copy_pace_spend(&pace, 5000, 0, 10000, 10000);
    assert_true(copy_pace_next_ms(&pace, IDLE, 10001) > 14500);
    assert_true(copy_pace_next_ms(&pace, IDLE, 10001) <= 15000);
    assert_int_equal(copy_pace_next_ms(&pace, IDLE, 20000), 20000);
}

static void clients_that_feel_nothing_do_not_lift_the_rate(void **state)
{
    struct copy copy;

    (void)state;
    begin(&copy, 3000000);
    copy_for(&copy, 5000);
    assert_true(copy_for(&copy, 10000) < 3200000);
}

/* ---- Clients ---- */

static void it_yields_to_clients_here_or_at_the_source(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 0);
    assert_false(copy_pace_yields(&pace, IDLE, 1000));
    assert_true(copy_pace_yields(&pace, BUSY, 1000));
    copy_pace_hear(&pace, BUSY, NOTHING, 1000);
    assert_true(copy_pace_yields(&pace, IDLE, 1001));
    copy_pace_hear(&pace, IDLE, NOTHING, 1002); /* another source */
    assert_true(copy_pace_yields(&pace, IDLE, 1003));
}

static void what_a_source_said_is_forgotten(void **state)
{
    struct copy_pace pace;

    (void)state;
    copy_pace_init(&pace, 0);
    copy_pace_hear(&pace, BUSY, MUCH, 1000);
    assert_true(copy_pace_yields(&pace, IDLE, 1900));
    assert_false(copy_pace_yields(&pace, IDLE, 2100));
    copy_pace_hear(&pace, BUSY, MUCH, 3000);
    copy_pace_hear(&pace, IDLE, NOTHING, 3500);
    assert_false(copy_pace_yields(&pace, IDLE, 3501));
}

/* A machine with cores to spare: after a few seconds it is nearly as if nobody else worked. */
static void it_gets_fast_while_clients_feel_nothing(void **state)
{
    struct copy copy;
    uint64_t first;

    (void)state;
    begin(&copy, 0);
    first = copy_for(&copy, 400);
    assert_true(first < 4000000);
    copy_for(&copy, 6000);
    assert_true(copy_for(&copy, 2000) > 20000000);
}

/* A saturated one: a floor, in pieces that are small. */
static void it_gets_slow_while_clients_feel_much_but_never_stands_still(void **state)
{
    struct copy copy;
    uint64_t rate;

    (void)state;
    begin(&copy, 0);
    copy_for(&copy, 5000); /* it had become fast */
    copy.strain = MUCH;
    copy_for(&copy, 6000);
    rate = copy_for(&copy, 20000);
    assert_true(rate > 800000 && rate < 1200000);
    assert_true(copy.largest <= 64u << 10);
    assert_true(copy.longest_ms <= 600);
}

static void the_source_counts_as_much_as_this_group(void **state)
{
    struct copy copy;

    (void)state;
    begin(&copy, 0);
    for (int i = 0; i < 40; i++) {
        copy_pace_hear(&copy.pace, BUSY, MUCH, copy.now_ms);
        copy_for(&copy, 200);
    }
    assert_true(copy_for(&copy, 400) < 1500000);
}

/* Clients feel 30 % for each MB/s: so much is copied as they bear, and not less. */
static void it_finds_what_clients_bear(void **state)
{
    struct copy copy;
    uint64_t bytes = 0;

    (void)state;
    begin(&copy, 0);
    for (int i = 0; i < 150; i++) {
        bytes = copy_for(&copy, 200) * 200 / 1000;
        copy.strain = (uint32_t)(100 + 30 * bytes * 5 / 1000000);
    }
    bytes = 0;
    for (int i = 0; i < 150; i++) {
        uint64_t some = copy_for(&copy, 200) * 200 / 1000;

        bytes += some;
        copy.strain = (uint32_t)(100 + 30 * some * 5 / 1000000);
        assert_true(copy.strain < 2 * NOTHING);
    }
    assert_true(bytes / 30 > 1000000 && bytes / 30 < 2600000);
}

static void one_odd_moment_counts_little(void **state)
{
    struct copy copy;
    uint64_t before, after;

    (void)state;
    begin(&copy, 0);
    copy_for(&copy, 2000);
    before = copy.pace.yielding_per_s;
    copy.strain = 5000;
    copy_for(&copy, 200);
    copy.strain = NOTHING;
    copy_for(&copy, 200);
    after = copy.pace.yielding_per_s;
    assert_true(after > before / 2);
}

static void what_happened_before_clients_came_says_nothing(void **state)
{
    struct copy copy;
    uint64_t before;

    (void)state;
    begin(&copy, 0);
    before = copy.pace.yielding_per_s;
    copy.load = IDLE;
    copy.strain = 1000;
    copy_for(&copy, 3000);
    copy.load = BUSY;
    copy_pace_follow(&copy.pace, BUSY, copy.strain, ++copy.now_ms);
    assert_int_equal(copy.pace.felt, NOTHING);
    copy.strain = NOTHING;
    copy_for(&copy, 500);
    assert_true(copy.pace.yielding_per_s > before);
}

static void what_the_last_copy_did_is_forgotten(void **state)
{
    struct copy copy;

    (void)state;
    begin(&copy, 0);
    copy_for(&copy, 5000);
    copy.strain = MUCH;
    copy_for(&copy, 2000);
    assert_true(copy.pace.felt > NOTHING);
    copy.strain = NOTHING;
    for (int i = 0; i < 50; i++) { /* nothing is copied */
        copy.now_ms += 100;
        copy_pace_follow(&copy.pace, copy.load, copy.strain, copy.now_ms);
    }
    assert_int_equal(copy.pace.felt, NOTHING);
}

/* Records of 1 MiB come one in half a second: what clients felt of the last one counts still. */
static void a_rest_after_a_large_piece_is_no_end_of_the_copy(void **state)
{
    struct copy copy;

    (void)state;
    begin(&copy, 0);
    copy.record = 1u << 20;
    copy.strain = MUCH;
    copy_for(&copy, 10000);
    assert_true(copy.pace.felt > 180);
    assert_true(copy.longest_ms > 400);
    assert_true(copy_for(&copy, 10000) < 1200000);
}

/* Now and then nothing is asked for during a moment; at once if it is not known what is usual. */
static void it_learns_what_is_usual(void **state)
{
    struct copy copy;

    (void)state;
    begin(&copy, 0);
    copy_for(&copy, 5000);
    assert_true(copy.longest_ms < 100);
    copy_for(&copy, 20000);
    assert_true(copy.longest_ms >= 400 && copy.longest_ms <= 600);
    begin(&copy, 0);
    copy.strain = 0;
    copy_for(&copy, 5000);
    assert_true(copy.longest_ms >= 400 && copy.longest_ms <= 600);
}

/* However much clients feel, rounds get fast enough to end; and they are not held up. */
static void later_rounds_are_faster(void **state)
{
    struct copy copy;
    uint64_t first, fifth, tenth;

    (void)state;
    begin(&copy, 500000);
    copy.strain = MUCH;
    copy_for(&copy, 10000);
    copy.round = 1;
    first = copy_for(&copy, 12000);
    assert_true(first < 1200000);
    assert_true(copy.longest_ms < 100);
    copy.round = 5;
    fifth = copy_for(&copy, 1000);
    copy.round = 10;
    tenth = copy_for(&copy, 1000);
    assert_true(fifth > 6 * first);
    assert_true(tenth > 6 * fifth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_holds_up_a_copy_when_nobody_else_works),
        cmocka_unit_test(the_rate_is_kept_whatever_the_size_of_pieces),
        cmocka_unit_test(a_long_rest_saves_up_little),
        cmocka_unit_test(one_large_piece_is_paid_for_afterwards),
        cmocka_unit_test(clients_that_feel_nothing_do_not_lift_the_rate),
        cmocka_unit_test(it_yields_to_clients_here_or_at_the_source),
        cmocka_unit_test(what_a_source_said_is_forgotten),
        cmocka_unit_test(it_gets_fast_while_clients_feel_nothing),
        cmocka_unit_test(it_gets_slow_while_clients_feel_much_but_never_stands_still),
        cmocka_unit_test(the_source_counts_as_much_as_this_group),
        cmocka_unit_test(it_finds_what_clients_bear),
        cmocka_unit_test(one_odd_moment_counts_little),
        cmocka_unit_test(what_happened_before_clients_came_says_nothing),
        cmocka_unit_test(what_the_last_copy_did_is_forgotten),
        cmocka_unit_test(a_rest_after_a_large_piece_is_no_end_of_the_copy),
        cmocka_unit_test(it_learns_what_is_usual),
        cmocka_unit_test(later_rounds_are_faster),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
