/* A shard that is frozen at its source is served by nobody. If the answer that said so is lost, it
 * is asked for again before anything else, whatever waits for a slot or holds one. */
#include "shardkv/kv_server_internal.h"
#include "tests/sim/kv_fixture.h"

#define SMALL   5u /* the shard that is to arrive soon */
#define LARGE   6u /* the first of those that take seconds */
#define N_LARGE 4u
#define KEYS    60   /* of a large one */
#define RATE    2000 /* bytes a second: five seconds for each */
#define LOST_MS 2500 /* longer than one pull waits */
#define SOON_MS 1000

/* All are at their sources, and are to go to group 1: SMALL from group 0, the large ones from group
 * `large_at`. */
static void begin(struct fixture *f, uint64_t seed, uint32_t max_copies, size_t large_at)
{
    char value[128];
    config_num num = 0;

    fixture_init(f, 3, 3, seed);
    f->piece_bytes = 500;
    f->bytes_per_s = RATE;
    f->max_copies = max_copies;
    fixture_start(f);
    for (size_t g = 0; g < 3; g++) {
        fixture_settle(f, fixture_join(f, g), (2u << g) - 1);
    }
    num = fixture_move(f, SMALL, 0);
    for (shard_id shard = LARGE; shard < LARGE + N_LARGE; shard++) {
        num = fixture_move(f, shard, large_at);
    }
    fixture_settle(f, num, 7);
    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    for (shard_id shard = LARGE; shard < LARGE + N_LARGE; shard++) {
        for (unsigned n = 0; n < KEYS; n++) {
            fixture_put(f, fixture_key(f, shard, n), value);
        }
    }
}

static config_num move_large(struct fixture *f)
{
    config_num num = 0;

    for (shard_id shard = LARGE; shard < LARGE + N_LARGE; shard++) {
        num = fixture_move(f, shard, 1);
    }
    return num;
}

static const struct shard *shard_at(const struct fixture *f, size_t group, shard_id shard)
{
    assert_non_null(fixture_sm(f, group));
    return kv_sm_shard(fixture_sm(f, group), shard);
}

static bool small_is_frozen(void *context)
{
    return shard_at(context, 0, SMALL)->state == SHARD_FROZEN;
}

static bool small_is_in_rounds(void *context)
{
    return kv_piece_is_in_rounds(buf_slice(&shard_at(context, 1, SMALL)->copy.cursor));
}

static bool small_is_there(void *context)
{
    return shard_at(context, 1, SMALL)->state == SHARD_SERVING;
}

static unsigned large_ones_there(const struct fixture *f)
{
    unsigned n = 0;

    for (shard_id shard = LARGE; shard < LARGE + N_LARGE; shard++) {
        n += shard_at(f, 1, shard)->state == SHARD_SERVING;
    }
    return n;
}

static bool large_has_begun(void *context)
{
    return shard_at(context, 1, LARGE)->copy.next_piece > 1;
}

static void run_until(struct fixture *f, bool (*done)(void *))
{
    assert_true(world_run_until(f->world, FIXTURE_WAIT_MS, done, f));
}

static void clog_source(struct fixture *f, bool clogged)
{
    for (size_t i = 0; i < f->n_replicas; i++) {
        for (size_t j = 0; j < f->n_replicas; j++) {
            world_clog(f->world, fixture_node(f, 0, i), fixture_node(f, 1, j), clogged);
        }
    }
}

static void set_paused(struct fixture *f, bool paused)
{
    fixture_set_paused(f, paused);
    assert_int_equal(kv_sm_config(fixture_sm(f, 1))->moves_paused, paused);
}

/* SMALL goes over in one piece; the answer that brings it is lost. */
static void freeze_small_and_lose_the_answer(struct fixture *f)
{
    fixture_put(f, fixture_key(f, SMALL, 0), "small");
    clog_source(f, true);
    fixture_move(f, SMALL, 1);
    run_until(f, small_is_frozen);
}

static void what_is_frozen_waits_for_no_base_of_another(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin(&f, 61, 1, 2);
    freeze_small_and_lose_the_answer(&f);
    num = move_large(&f);
    world_run_ms(f.world, LOST_MS);
    run_until(&f, large_has_begun); /* it has the slot now */
    assert_false(small_is_there(&f));
    clog_source(&f, false);
    assert_true(world_run_until(f.world, SOON_MS, small_is_there, &f));
    assert_int_equal(large_ones_there(&f), 0);
    fixture_check(&f, fixture_key(&f, SMALL, 0), "small");
    fixture_settle(&f, num, 7);
    assert_int_equal(large_ones_there(&f), N_LARGE);
    fixture_fini(&f);
}

static void what_is_frozen_arrives_although_moves_are_paused(void **state)
{
    struct fixture f;
    config_num num;
    uint64_t pieces;

    (void)state;
    begin(&f, 62, 1, 2);
    freeze_small_and_lose_the_answer(&f);
    num = move_large(&f);
    world_run_ms(f.world, LOST_MS);
    run_until(&f, large_has_begun);
    set_paused(&f, true);
    pieces = shard_at(&f, 1, LARGE)->copy.next_piece;
    assert_false(small_is_there(&f));
    clog_source(&f, false);
    assert_true(world_run_until(f.world, SOON_MS, small_is_there, &f));
    world_run_ms(f.world, 5000);
    assert_int_equal(shard_at(&f, 1, LARGE)->copy.next_piece, pieces);
    set_paused(&f, false);
    fixture_settle(&f, num + 2, 7);
    assert_int_equal(large_ones_there(&f), N_LARGE);
    fixture_fini(&f);
}

/* SMALL with more than goes into one piece. */
static void fill_small(struct fixture *f)
{
    char value[128];

    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    for (unsigned n = 0; n < 6; n++) {
        fixture_put(f, fixture_key(f, SMALL, n), value);
    }
}

static bool small_is_asked_for(void *context)
{
    return shard_at(context, 0, SMALL)->outgoing.copy_id != 0;
}

/* Whether it is frozen is asked at once, since its first answer was lost. It is not. */
static void what_turns_out_not_to_be_frozen_waits_for_a_slot_again(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin(&f, 65, 1, 2);
    fill_small(&f);
    clog_source(&f, true);
    fixture_move(&f, SMALL, 1);
    run_until(&f, small_is_asked_for);
    num = move_large(&f);
    world_run_ms(f.world, LOST_MS);
    run_until(&f, large_has_begun);
    clog_source(&f, false);
    world_run_ms(f.world, SOON_MS);
    assert_int_equal(shard_at(&f, 1, SMALL)->copy.next_piece, 1);
    assert_int_equal(shard_at(&f, 0, SMALL)->state, SHARD_SERVING);
    fixture_settle(&f, num, 7);
    assert_true(small_is_there(&f));
    fixture_fini(&f);
}

/* One of that source that does not answer gets a slot at a time; it is not one that is held up. */
static void a_base_that_is_held_up_keeps_no_slot_of_its_source(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 63, 2, 0);
    fill_small(&f);
    fixture_move(&f, LARGE, 1);
    run_until(&f, large_has_begun);
    fixture_move(&f, SMALL, 1);
    run_until(&f, small_is_in_rounds);
    clog_source(&f, true);
    set_paused(&f, true);
    world_run_ms(f.world, 2 * LOST_MS);
    assert_false(small_is_there(&f));
    clog_source(&f, false);
    assert_true(world_run_until(f.world, 4 * SOON_MS, small_is_there, &f));
    assert_int_equal(large_ones_there(&f), 0);
    fixture_fini(&f);
}

static bool large_is_asked_for(void *context)
{
    return shard_at(context, 0, LARGE)->outgoing.copy_id != 0;
}

/* The first piece of a base is lost: whether its shard is frozen is not known. So it is asked, but
 * for no more than that. */
static void while_moves_are_paused_a_base_is_not_asked_for_to_learn_more(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin(&f, 64, 1, 0);
    clog_source(&f, true);
    num = move_large(&f);
    run_until(&f, large_is_asked_for);
    set_paused(&f, true);
    world_run_ms(f.world, LOST_MS);
    assert_int_equal(shard_at(&f, 1, LARGE)->copy.next_piece, 0);
    clog_source(&f, false);
    world_run_ms(f.world, 10000);
    assert_int_equal(shard_at(&f, 1, LARGE)->copy.next_piece, 1);
    assert_int_equal(shard_at(&f, 1, LARGE)->copy.records.count, 1);
    assert_int_equal(shard_at(&f, 0, LARGE)->state, SHARD_SERVING);
    set_paused(&f, false);
    fixture_settle(&f, num + 2, 7);
    assert_int_equal(large_ones_there(&f), N_LARGE);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_frozen_waits_for_no_base_of_another),
        cmocka_unit_test(what_is_frozen_arrives_although_moves_are_paused),
        cmocka_unit_test(what_turns_out_not_to_be_frozen_waits_for_a_slot_again),
        cmocka_unit_test(a_base_that_is_held_up_keeps_no_slot_of_its_source),
        cmocka_unit_test(while_moves_are_paused_a_base_is_not_asked_for_to_learn_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
