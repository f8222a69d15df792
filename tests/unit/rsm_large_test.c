/* Large proposals: they let small ones go first, while the state digests what came before, and go
 * a few at a time. */
#include "raft/rsm/group.h"
#include "tests/unit/rsm_story.h"

#define LARGE     "pad 600000"
#define MAX_DIRTY 4000

static bool is_at_work(struct bench *bench)
{
    return mem_state_n_work(bench_replica(bench, 1)->state) > 0;
}

/* A replica alone, whose state has half of what it may have in memory, and a disk that stands
 * still. */
static struct bench *digesting(uint64_t seed)
{
    struct bench *bench = bench_create(1, seed);
    struct io_state *io;

    bench_options(bench)->checkpoint_dirty_bytes = 64;
    bench_options(bench)->max_dirty_bytes = MAX_DIRTY;
    bench_start_all(bench);
    bench_leader(bench);
    io = group_state(bench_replica(bench, 1)->group);
    bench_replica(bench, 1)->hold_state = true;
    for (int i = 0; i < 1000 && io->ops->dirty_bytes(io) < MAX_DIRTY / 2; i++) {
        bench_inc(bench);
    }
    assert_true(is_at_work(bench) && io->ops->dirty_bytes(io) >= MAX_DIRTY / 2);
    return bench;
}

static void a_large_one_lets_small_ones_go_first(void **state)
{
    struct bench *bench = digesting(1);
    struct bench_call large, small;

    (void)state;
    bench_propose(bench, 1, LARGE, &large);
    bench_run(bench, 10);
    bench_propose(bench, 1, "inc", &small);
    assert_true(bench_run_until_ended(bench, &small, 100));
    assert_int_equal(small.status, ST_OK);
    assert_int_equal(large.ended, 0);
    bench_replica(bench, 1)->hold_state = false;
    assert_true(bench_run_until_ended(bench, &large, 100));
    assert_int_equal(large.status, ST_OK);
    bench_destroy(&bench);
}

/* Whatever the others write meanwhile. */
static void a_large_one_waits_no_longer_than_its_patience(void **state)
{
    struct bench *bench = digesting(2);
    struct bench_call large;
    uint64_t begin_ms = bench_now_ms(bench);

    (void)state;
    bench_propose(bench, 1, LARGE, &large);
    bench_run(bench, RSM_LARGE_PATIENCE_MS - 50);
    assert_int_equal(large.ended, 0);
    assert_true(bench_run_until_ended(bench, &large, 100));
    assert_int_equal(large.status, ST_OK);
    assert_true(bench_now_ms(bench) - begin_ms >= RSM_LARGE_PATIENCE_MS);
    bench_destroy(&bench);
}

/* So that a small one has little before it. */
static void only_so_much_of_large_ones_is_on_its_way(void **state)
{
    struct bench *bench = started(1, 3);
    const struct raft *raft = group_raft(bench_replica(bench, 1)->group);
    struct bench_call calls[10];
    raft_index before = raft_last_index(raft);
    const size_t at_once = RSM_LARGE_RUNNING_BYTES / 600000;

    (void)state;
    bench_replica(bench, 1)->hold_log = true;
    for (size_t i = 0; i < 10; i++) {
        bench_propose(bench, 1, LARGE, &calls[i]);
    }
    bench_run(bench, 20);
    assert_int_equal(raft_last_index(raft), before + at_once);
    bench_replica(bench, 1)->hold_log = false;
    for (size_t i = 0; i < 10; i++) {
        assert_true(bench_run_until_ended(bench, &calls[i], 100));
        assert_int_equal(calls[i].status, ST_OK);
    }
    bench_destroy(&bench);
}

/* What waits counts as what the log may hold. */
static void too_many_large_ones_are_busy(void **state)
{
    struct bench *bench = bench_create(1, 4);
    struct bench_call calls[4];

    (void)state;
    bench_options(bench)->max_log_bytes = 1500000;
    bench_start_all(bench);
    bench_leader(bench);
    bench_replica(bench, 1)->hold_log = true;
    for (size_t i = 0; i < 4; i++) {
        bench_propose(bench, 1, LARGE, &calls[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(calls[i].ended, i == 3);
    }
    assert_int_equal(calls[3].status, ST_BUSY);
    bench_destroy(&bench);
}

static void who_waits_for_room_is_told_why_it_will_not_go(void **state)
{
    static const enum status ends[] = {ST_READ_ONLY, ST_SHUTDOWN};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bench *bench = digesting(5 + i);
        struct io_event event = {.type = i == 0 ? IO_EVENT_DISK_SPACE : IO_EVENT_STOP};
        struct bench_call large;

        event.disk.low = i == 0;
        bench_propose(bench, 1, LARGE, &large);
        bench_turn(bench);
        assert_int_equal(large.ended, 0);
        bench_event(bench, 1, &event);
        bench_run(bench, 2);
        assert_int_equal(large.ended, 1);
        assert_int_equal(large.status, ends[i]);
        bench_destroy(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_one_lets_small_ones_go_first),
        cmocka_unit_test(a_large_one_waits_no_longer_than_its_patience),
        cmocka_unit_test(only_so_much_of_large_ones_is_on_its_way),
        cmocka_unit_test(too_many_large_ones_are_busy),
        cmocka_unit_test(who_waits_for_room_is_told_why_it_will_not_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
