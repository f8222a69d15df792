/* Migrations that take seconds, watched on their way: the rate, the progress, pauses, other
 * leaders, moves that are called off, copies that are broken. */
#include "shardkv/kv_server_internal.h"
#include "tests/sim/kv_fixture.h"

/* ---- A slow move, to look at it on its way ---- */

#define LARGE      60   /* keys */
#define RATE       2000 /* bytes a second */
#define SLOW_SHARD 5u

/* Both groups are members; the shard is at group 0, with keys enough for seconds, and goes to 1. */
static config_num begin_slow_move(struct fixture *f, size_t n_groups, uint64_t seed)
{
    char value[128];

    fixture_init(f, n_groups, 3, seed);
    f->piece_bytes = 300;
    f->bytes_per_s = RATE;
    f->max_copies = 2;
    fixture_start(f);
    for (size_t g = 0; g < n_groups; g++) {
        fixture_settle(f, fixture_join(f, g), (2u << g) - 1);
    }
    fixture_settle(f, fixture_move(f, SLOW_SHARD, 0), (1u << n_groups) - 1);
    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    for (unsigned n = 0; n < LARGE; n++) {
        fixture_put(f, fixture_key(f, SLOW_SHARD, n), value);
    }
    return fixture_move(f, SLOW_SHARD, 1);
}

static const struct shard *shard_at(const struct fixture *f, size_t group)
{
    assert_non_null(fixture_sm(f, group));
    return kv_sm_shard(fixture_sm(f, group), SLOW_SHARD);
}

static const struct migrate *migrate_at(const struct fixture *f, size_t group)
{
    return fixture_server(f, group, fixture_leader(f, group))->migrate;
}

static bool is_on_its_way(void *context)
{
    return shard_at(context, 1)->copy.next_piece >= 3;
}

static bool is_there(void *context)
{
    return shard_at(context, 1)->state == SHARD_SERVING;
}

static bool is_in_rounds(void *context)
{
    return kv_piece_is_in_rounds(buf_slice(&shard_at(context, 1)->copy.cursor));
}

static void run_until(struct fixture *f, bool (*done)(void *))
{
    assert_true(world_run_until(f->world, FIXTURE_WAIT_MS, done, f));
}

static void the_rate_is_kept_and_the_way_can_be_watched(void **state)
{
    struct fixture f;
    struct migrate_progress progress;
    struct migrate_done done[2];
    uint64_t begin_ms, ms;
    config_num num;

    (void)state;
    num = begin_slow_move(&f, 2, 30);
    begin_ms = world_now_ms(f.world);
    run_until(&f, is_on_its_way);
    migrate_progress(migrate_at(&f, 1), SLOW_SHARD, &progress);
    assert_int_equal(progress.phase, MIGRATE_COPYING);
    assert_int_equal(progress.from, fixture_gid(0));
    assert_true(progress.bytes_total > LARGE * 100);
    assert_true(progress.bytes_per_s > 0);
    assert_false(migrate_is_nearly_here(migrate_at(&f, 1), SLOW_SHARD));
    run_until(&f, is_there);
    ms = world_now_ms(f.world) - begin_ms;
    assert_true(ms >= LARGE * 127 * 1000 / RATE * 9 / 10);
    assert_true(ms < LARGE * 220 * 1000 / RATE);
    fixture_settle(&f, num, 3);
    assert_true(migrate_last_done(migrate_at(&f, 1), done, 2) >= 1);
    assert_int_equal(done[0].shard, SLOW_SHARD);
    assert_int_equal(done[0].num, num);
    assert_int_equal(done[0].from, fixture_gid(0));
    assert_int_equal(done[0].keys, LARGE);
    assert_true(done[0].pause_ms < 200);
    assert_true(done[0].done_ms <= world_now_ms(f.world));
    fixture_fini(&f);
}

/* The leader of the target is another, and goes on where the last one was. */
static void another_leader_goes_on_with_what_has_arrived(void **state)
{
    struct fixture f;
    uint64_t range, pieces;
    size_t leader;
    config_num num;

    (void)state;
    num = begin_slow_move(&f, 2, 31);
    run_until(&f, is_on_its_way);
    range = shard_at(&f, 1)->copy.range;
    pieces = shard_at(&f, 1)->copy.next_piece;
    leader = fixture_leader(&f, 1);
    world_crash(f.world, fixture_node(&f, 1, leader));
    world_run_ms(f.world, 1000);
    assert_int_equal(shard_at(&f, 1)->copy.range, range);
    assert_true(shard_at(&f, 1)->copy.next_piece >= pieces);
    run_until(&f, is_there);
    assert_int_equal(shard_at(&f, 1)->range, range);
    world_start(f.world, fixture_node(&f, 1, leader));
    fixture_settle(&f, num, 3);
    fixture_fini(&f);
}

static void a_move_that_is_called_off_ends_at_the_target(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin_slow_move(&f, 2, 32);
    run_until(&f, is_on_its_way);
    num = fixture_move(&f, SLOW_SHARD, 0);
    fixture_settle(&f, num, 3); /* long before it would have been there */
    assert_int_equal(shard_at(&f, 0)->state, SHARD_SERVING);
    assert_int_equal(shard_at(&f, 0)->outgoing.range, 0);
    assert_int_equal(shard_at(&f, 1)->copy.range, 0);
    assert_int_equal(migrate_statistics(migrate_at(&f, 1))->called_off, 1);
    fixture_append(&f, fixture_key(&f, SLOW_SHARD, 0), "+");
    fixture_fini(&f);
}

static void cut_controllers(struct fixture *f, size_t group, bool cut)
{
    for (size_t ctrler = 0; ctrler < f->n_ctrlers; ctrler++) {
        for (size_t i = 0; i < f->n_replicas; i++) {
            world_cut_pair(f->world, ctrler, fixture_node(f, group, i), cut);
        }
    }
}

/* The target hears of the controllers later than the source, which tells it again and again that
 * the move is void. */
static void a_move_is_called_off_once_however_often_that_is_said(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin_slow_move(&f, 2, 40);
    run_until(&f, is_on_its_way);
    cut_controllers(&f, 1, true);
    num = fixture_move(&f, SLOW_SHARD, 0);
    world_run_ms(f.world, 5000);
    assert_int_equal(kv_sm_meta(fixture_sm(&f, 0))->adopted, num);
    assert_int_equal(kv_sm_meta(fixture_sm(&f, 1))->adopted, num - 1);
    assert_int_equal(migrate_statistics(migrate_at(&f, 1))->called_off, 0);
    cut_controllers(&f, 1, false);
    fixture_settle(&f, num, 3);
    assert_int_equal(migrate_statistics(migrate_at(&f, 1))->called_off, 1);
    fixture_fini(&f);
}

/* Somebody made the source sweep again: what changed before, of what was copied, is not noted any
 * more. That is noticed at the end, and all is copied once more. */
static void a_broken_copy_is_noticed_and_copied_again(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull = {.op = PROTO_SHARD_PULL};
    config_num num;

    (void)state;
    num = begin_slow_move(&f, 2, 33);
    run_until(&f, is_on_its_way);
    for (unsigned n = 0; n < LARGE; n++) {
        fixture_put(&f, fixture_key(&f, SLOW_SHARD, n), "changed");
    }
    assert_int_equal(shard_at(&f, 0)->state, SHARD_SERVING);
    pull.shard_pull.shard = SLOW_SHARD;
    pull.shard_pull.num = num;
    pull.shard_pull.to = fixture_gid(1);
    pull.shard_pull.copy_id = 1;
    pull.shard_pull.anew = true;
    pull.shard_pull.max_bytes = 100;
    assert_int_equal(fixture_ask(&f, 0, &pull, 2000, &answer), ST_OK);
    assert_int_equal(shard_at(&f, 0)->outgoing.copy_id, 1);
    fixture_settle(&f, num, 3);
    assert_int_equal(migrate_statistics(migrate_at(&f, 1))->broken, 1);
    for (unsigned n = 0; n < LARGE; n++) {
        fixture_check(&f, fixture_key(&f, SLOW_SHARD, n), "changed");
    }
    answer_fini(&answer);
    fixture_fini(&f);
}

static void while_moves_are_paused_no_base_is_copied(void **state)
{
    struct fixture f;
    struct migrate_progress progress;
    uint64_t pieces, range;

    (void)state;
    begin_slow_move(&f, 2, 34);
    run_until(&f, is_on_its_way);
    fixture_set_paused(&f, true);
    pieces = shard_at(&f, 1)->copy.next_piece;
    range = shard_at(&f, 1)->copy.range;
    world_run_ms(f.world, 10000);
    assert_int_equal(shard_at(&f, 1)->copy.next_piece, pieces);
    assert_int_equal(shard_at(&f, 1)->copy.range, range);
    assert_int_equal(shard_at(&f, 0)->state, SHARD_SERVING);
    migrate_progress(migrate_at(&f, 1), SLOW_SHARD, &progress);
    assert_int_equal(progress.phase, MIGRATE_WAITING);
    fixture_set_paused(&f, false);
    run_until(&f, is_there);
    assert_int_equal(shard_at(&f, 1)->range, range); /* what had arrived was kept */
    fixture_fini(&f);
}

static void clog_source(struct fixture *f, bool clogged)
{
    for (size_t i = 0; i < f->n_replicas; i++) {
        for (size_t j = 0; j < f->n_replicas; j++) {
            world_clog(f->world, fixture_node(f, 0, i), fixture_node(f, 1, j), clogged);
        }
    }
}

static void what_is_past_its_base_is_handed_over_although_moves_are_paused(void **state)
{
    struct fixture f;

    (void)state;
    begin_slow_move(&f, 2, 35);
    run_until(&f, is_in_rounds);
    clog_source(&f, true);
    fixture_set_paused(&f, true);
    fixture_crash_group(&f, 1); /* so that nothing is asked for already */
    fixture_start_group(&f, 1);
    world_run_ms(f.world, 3000);
    assert_true(kv_sm_config(fixture_sm(&f, 1))->moves_paused);
    assert_int_equal(shard_at(&f, 1)->state, SHARD_ABSENT);
    clog_source(&f, false);
    run_until(&f, is_there);
    fixture_fini(&f);
}

static bool has_begun_at_2(void *context)
{
    return shard_at(context, 2)->copy.copy_id != 0;
}

/* The configuration says "from group 1", which waits for the shard itself, and says where it is. */
static void the_group_that_waits_for_it_points_at_who_has_it(void **state)
{
    struct fixture f;
    config_num num;
    uint64_t begin_ms;

    (void)state;
    begin_slow_move(&f, 3, 39);
    run_until(&f, is_on_its_way);
    num = fixture_move(&f, SLOW_SHARD, 2);
    while (kv_sm_meta(fixture_sm(&f, 2))->adopted < num ||
           kv_sm_meta(fixture_sm(&f, 0))->adopted < num) {
        world_run_ms(f.world, 1);
    }
    begin_ms = world_now_ms(f.world);
    run_until(&f, has_begun_at_2);
    assert_in_range(world_now_ms(f.world) - begin_ms, 0, 129);
    fixture_settle(&f, num, 7);
    assert_int_equal(shard_at(&f, 2)->state, SHARD_SERVING);
    assert_int_equal(shard_at(&f, 1)->epoch, 0);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_kept_and_the_way_can_be_watched),
        cmocka_unit_test(another_leader_goes_on_with_what_has_arrived),
        cmocka_unit_test(a_move_that_is_called_off_ends_at_the_target),
        cmocka_unit_test(a_move_is_called_off_once_however_often_that_is_said),
        cmocka_unit_test(a_broken_copy_is_noticed_and_copied_again),
        cmocka_unit_test(while_moves_are_paused_no_base_is_copied),
        cmocka_unit_test(what_is_past_its_base_is_handed_over_although_moves_are_paused),
        cmocka_unit_test(the_group_that_waits_for_it_points_at_who_has_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
