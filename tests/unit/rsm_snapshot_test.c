/* Unit tests of snapshots between replicas: sending, receiving, crashes in between. */
#include "raft/util/mem.h"
#include "tests/cmocka.h"
#include "tests/sim/rsm_bench.h"

/* Three replicas, one of which will have missed so much that the others' logs no longer hold it. */
struct lag {
    struct bench *bench;
    raft_id leader;
    raft_id victim;
    int64_t counter;
};

/* Nobody has missed anything yet. */
static struct lag lag_start(struct bench *bench, uint64_t log_bytes)
{
    struct lag lag = {.bench = bench};

    bench_options(bench)->checkpoint_log_bytes = log_bytes;
    bench_options(bench)->log_keep_bytes = 0;
    bench_start_all(bench);
    lag.leader = bench_leader(bench);
    lag.victim = bench_other(bench, lag.leader);
    return lag;
}

/* The victim has missed a hundred commands, and is still cut off. */
static struct lag lag_create(uint64_t seed, uint32_t chunk_bytes)
{
    struct bench *bench = bench_create(3, seed);
    struct lag lag;

    bench_options(bench)->snapshot_chunk_bytes = chunk_bytes;
    lag = lag_start(bench, 1000);
    bench_replica(lag.bench, lag.victim)->cut = true;
    for (int i = 0; i < 100; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    assert_int_equal(bench_leader(lag.bench), lag.leader);
    return lag;
}

static const struct group_stats *stats(const struct lag *lag, raft_id id)
{
    return group_statistics(bench_replica(lag->bench, id)->group);
}

static const struct raft *raft_of(const struct lag *lag, raft_id id)
{
    return group_raft(bench_replica(lag->bench, id)->group);
}

/* Runs until the victim has durably stored at least so much of a snapshot. */
static void run_until_staged(const struct lag *lag, uint64_t bytes)
{
    struct bench_replica *victim = bench_replica(lag->bench, lag->victim);

    for (int i = 0; i < 5000 && mem_state_staged_bytes(victim->state) < bytes; i++) {
        bench_turn(lag->bench);
    }
    assert_true(mem_state_staged_bytes(victim->state) >= bytes);
    assert_int_equal(stats(lag, lag->victim)->snapshots_installed, 0);
}

/* Everything is well again: all equal, one snapshot taken over, nothing left open. */
static void assert_caught_up(struct lag *lag)
{
    bench_converge(lag->bench);
    assert_int_equal(bench_counter(lag->bench, lag->victim), lag->counter);
    for (int i = 0; i < 10; i++) {
        lag->counter = bench_inc(lag->bench);
    }
    bench_converge(lag->bench);
    bench_run(lag->bench, 100);
    for (raft_id id = 1; id <= 3; id++) {
        assert_int_equal(mem_state_n_snapshots(bench_replica(lag->bench, id)->state), 0);
        assert_int_equal(bench_counter(lag->bench, id), lag->counter);
    }
}

static void a_lagging_follower_gets_a_snapshot(void **state)
{
    struct lag lag = lag_create(1, 10);
    uint32_t restores = bench_replica(lag.bench, lag.victim)->restores;

    (void)state;
    bench_replica(lag.bench, lag.victim)->cut = false;
    assert_caught_up(&lag);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
    assert_int_equal(stats(&lag, lag.leader)->snapshots_sent, 1);
    assert_int_equal(bench_replica(lag.bench, lag.victim)->restores, restores + 1);
    assert_true(raft_first_index(raft_of(&lag, lag.victim)) > 50);
    bench_destroy(&lag.bench);
}

static void a_follower_that_lags_a_little_gets_entries(void **state)
{
    struct bench *bench = bench_create(3, 2);
    raft_id victim;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 1000;
    bench_options(bench)->log_keep_bytes = 100000;
    bench_start_all(bench);
    victim = bench_other(bench, bench_leader(bench));
    bench_replica(bench, victim)->cut = true;
    for (int i = 0; i < 100; i++) {
        bench_inc(bench);
    }
    bench_replica(bench, victim)->cut = false;
    bench_converge(bench);
    assert_int_equal(group_statistics(bench_replica(bench, victim)->group)->snapshots_installed, 0);
    bench_destroy(&bench);
}

static void a_follower_that_crashed_goes_on_where_it_was(void **state)
{
    struct lag lag = lag_create(3, 10);
    uint64_t staged;

    (void)state;
    bench_replica(lag.bench, lag.victim)->cut = false;
    run_until_staged(&lag, 40);
    bench_crash(lag.bench, lag.victim, 0);
    staged = mem_state_staged_bytes(bench_replica(lag.bench, lag.victim)->state);
    assert_true(staged >= 40);
    bench_run(lag.bench, 50);
    bench_start(lag.bench, lag.victim);
    assert_int_equal(bench_counter(lag.bench, lag.victim), 0); /* nothing of it shows yet */
    for (int i = 0; i < 3000 && stats(&lag, lag.victim)->snapshots_installed == 0; i++) {
        uint64_t now = mem_state_staged_bytes(bench_replica(lag.bench, lag.victim)->state);
        assert_true(now >= staged || stats(&lag, lag.victim)->snapshots_installed == 1);
        bench_turn(lag.bench);
    }
    assert_caught_up(&lag);
    bench_destroy(&lag.bench);
}

/* What is staged may end anywhere as far as a restarted core knows, also behind the beginning of a
 * last chunk: the chunk changes nothing, and the transfer goes on from what is there. */
static void a_last_chunk_that_does_not_fit_is_not_waited_for(void **state)
{
    struct lag lag = lag_create(4, 10);

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        bench_crash(lag.bench, id, 0);
    }
    bench_replica(lag.bench, lag.victim)->cut = false;
    bench_start(lag.bench, lag.leader);
    bench_start(lag.bench, lag.victim);
    run_until_staged(&lag, 40);
    bench_crash(lag.bench, lag.leader, 0);
    bench_crash(lag.bench, lag.victim, 0);
    bench_options(lag.bench)->snapshot_chunk_bytes = 1 << 20; /* now all is one chunk */
    bench_start(lag.bench, lag.leader);                       /* with the same snapshot */
    bench_start(lag.bench, lag.victim);
    bench_run(lag.bench, 3000);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
    bench_start_all(lag.bench);
    assert_caught_up(&lag);
    bench_destroy(&lag.bench);
}

static void a_new_leader_takes_the_transfer_over(void **state)
{
    struct lag lag = lag_create(5, 10);

    (void)state;
    bench_replica(lag.bench, lag.victim)->cut = false;
    run_until_staged(&lag, 40);
    assert_int_equal(mem_state_n_snapshots(bench_replica(lag.bench, lag.leader)->state), 1);
    bench_replica(lag.bench, lag.leader)->cut = true;
    assert_true(bench_leader(lag.bench) != lag.leader);
    bench_run(lag.bench, 1000);
    /* Deposed, it holds nothing open. */
    assert_int_equal(mem_state_n_snapshots(bench_replica(lag.bench, lag.leader)->state), 0);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
    bench_replica(lag.bench, lag.leader)->cut = false;
    assert_caught_up(&lag);
    bench_destroy(&lag.bench);
}

/* The installed reply promises a log that begins at the snapshot: it waits for the reset. */
static void installed_is_told_only_when_the_log_is_reset(void **state)
{
    struct lag lag = lag_create(6, 1000);
    struct bench_replica *victim = bench_replica(lag.bench, lag.victim);
    struct raft_progress_info info;
    raft_index index;

    (void)state;
    victim->hold_log = true;
    victim->cut = false;
    for (int i = 0; i < 2000 && stats(&lag, lag.victim)->snapshots_installed == 0; i++) {
        bench_turn(lag.bench);
    }
    index = group_applied_index(victim->group);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
    bench_run(lag.bench, 200);
    assert_true(raft_progress(raft_of(&lag, lag.leader), lag.victim, &info));
    assert_true(info.match_index < index);
    assert_true(mem_log_n_writes(victim->log) > 0);
    /* The crash in between: a state ahead of its log, for real. */
    bench_crash(lag.bench, lag.victim, 0);
    victim->hold_log = false;
    bench_start(lag.bench, lag.victim);
    assert_true(group_applied_index(victim->group) == index);
    assert_caught_up(&lag);
    bench_destroy(&lag.bench);
}

/* The last chunk arrives while a checkpoint is under way: first one, then the other. */
static void the_switch_waits_for_a_running_checkpoint(void **state)
{
    struct lag lag = lag_start(bench_create(3, 7), 1);
    struct bench_replica *victim = bench_replica(lag.bench, lag.victim);

    (void)state;
    bench_run(lag.bench, 10);
    victim->hold_state = true;
    bench_inc(lag.bench);
    bench_run(lag.bench, 100);
    assert_int_equal(mem_state_n_work(victim->state), 1); /* the checkpoint */
    victim->cut = true;
    for (int i = 0; i < 20; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    victim->cut = false;
    bench_run(lag.bench, 500);
    assert_int_equal(stats(&lag, lag.leader)->snapshots_sent, 1);
    assert_int_equal(mem_state_n_work(victim->state), 1); /* still alone */
    victim->hold_state = false;
    assert_caught_up(&lag);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
    bench_destroy(&lag.bench);
}

/* The leader alone keeps no log behind its checkpoints: whoever follows it brings entries where it
 * would send a snapshot. Nobody has missed anything yet. */
static struct lag lag_start_with_long_log(uint64_t seed)
{
    struct lag lag = {.bench = bench_create(3, seed)};
    struct group_options *options = bench_options(lag.bench);

    options->checkpoint_log_bytes = 1000;
    bench_start_all(lag.bench);
    lag.leader = bench_leader(lag.bench);
    bench_crash(lag.bench, lag.leader, 0);
    options->log_keep_bytes = 0;
    bench_start(lag.bench, lag.leader);
    for (int i = 0; i < 20 && bench_leader(lag.bench) != lag.leader; i++) {
        group_transfer(bench_replica(lag.bench, bench_leader(lag.bench))->group, lag.leader);
        bench_run(lag.bench, 100);
    }
    assert_int_equal(bench_leader(lag.bench), lag.leader);
    lag.victim = bench_other(lag.bench, lag.leader);
    return lag;
}

/* The one of the three that neither leads nor lags takes over. */
static void keeper_takes_over(struct lag *lag)
{
    bench_replica(lag->bench, lag->leader)->cut = true;
    assert_int_equal(bench_leader(lag->bench), 6 - lag->leader - lag->victim);
    for (int i = 0; i < 10; i++) {
        lag->counter = bench_inc(lag->bench); /* the victim's vote and log are needed, and there */
    }
}

/* While the state is being switched another leader brings, from its longer log, the entries up to
 * the snapshot and beyond: none is applied to the old state, and those beyond survive the switch.
 */
static void nothing_is_applied_to_a_state_about_to_be_replaced(void **state)
{
    struct lag lag = lag_start_with_long_log(15);
    struct bench_replica *victim = bench_replica(lag.bench, lag.victim);
    raft_index before;

    (void)state;
    victim->cut = true;
    for (int i = 0; i < 100; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    victim->hold_state = true;
    victim->cut = false;
    for (int i = 0; i < 2000 && mem_state_n_work(victim->state) == 0; i++) {
        bench_turn(lag.bench);
    }
    assert_int_equal(mem_state_n_work(victim->state), 1); /* the whole snapshot in one chunk */
    before = group_applied_index(victim->group);
    keeper_takes_over(&lag);
    assert_true(group_applied_index(victim->group) == before);
    assert_true(raft_commit_index(group_raft(victim->group)) > before);
    victim->hold_state = false;
    bench_replica(lag.bench, lag.leader)->cut = false;
    assert_caught_up(&lag);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
    bench_destroy(&lag.bench);
}

/* The same while the switch still waits for a checkpoint: the state gets to the snapshot by itself,
 * and is not replaced by something that is not newer. */
static void a_waiting_switch_that_the_log_overtook_is_called_off(void **state)
{
    struct lag lag = lag_start_with_long_log(18);
    struct bench_replica *victim = bench_replica(lag.bench, lag.victim);
    raft_index before;

    (void)state;
    victim->hold_state = true;
    for (int i = 0; i < 500 && mem_state_n_work(victim->state) == 0; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    assert_int_equal(mem_state_n_work(victim->state), 1); /* the checkpoint */
    victim->cut = true;
    for (int i = 0; i < 100; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    victim->cut = false;
    bench_run(lag.bench, 500);
    assert_int_equal(stats(&lag, lag.leader)->snapshots_sent, 1);
    assert_int_equal(mem_state_n_work(victim->state), 1); /* still alone */
    before = group_applied_index(victim->group);
    keeper_takes_over(&lag);
    bench_run(lag.bench, 100);
    assert_true(group_applied_index(victim->group) > before);
    victim->hold_state = false;
    bench_replica(lag.bench, lag.leader)->cut = false;
    assert_caught_up(&lag);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 0);
    bench_destroy(&lag.bench);
}

/* A checkpoint that had to wait for the log must not begin once the last chunk is with the state.
 */
static void no_checkpoint_of_a_state_about_to_be_replaced(void **state)
{
    struct lag lag = lag_start(bench_create(3, 16), 1);
    struct bench_replica *victim = bench_replica(lag.bench, lag.victim);

    (void)state;
    bench_run(lag.bench, 100);
    victim->hold_log = true;
    bench_inc(lag.bench);
    bench_inc(lag.bench);
    bench_run(lag.bench, 100);
    assert_int_equal(mem_state_n_work(victim->state), 0); /* due, but the log is not durable */
    victim->cut = true;
    for (int i = 0; i < 20; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    victim->hold_state = true;
    victim->cut = false;
    for (int i = 0; i < 2000 && mem_state_n_work(victim->state) == 0; i++) {
        bench_turn(lag.bench);
    }
    assert_int_equal(stats(&lag, lag.leader)->snapshots_sent, 1);
    victim->hold_log = false;
    bench_run(lag.bench, 100);
    assert_int_equal(mem_state_n_work(victim->state), 1); /* the snapshot alone */
    victim->hold_state = false;
    assert_caught_up(&lag);
    bench_destroy(&lag.bench);
}

static void the_log_behind_a_snapshot_in_flight_is_kept(void **state)
{
    struct lag lag = lag_create(8, 10);
    struct bench_replica *victim = bench_replica(lag.bench, lag.victim);
    raft_index bound;

    (void)state;
    victim->cut = false;
    run_until_staged(&lag, 40);
    victim->hold_state = true;
    bench_run(lag.bench, 20);
    bound = raft_compaction_bound(raft_of(&lag, lag.leader));
    assert_true(bound < UINT64_MAX);
    for (int i = 0; i < 100; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    assert_true(stats(&lag, lag.leader)->checkpoint_index > bound);
    assert_true(raft_first_index(raft_of(&lag, lag.leader)) <= bound + 1);
    victim->hold_state = false;
    assert_caught_up(&lag);
    assert_true(raft_first_index(raft_of(&lag, lag.leader)) > bound + 1);
    bench_destroy(&lag.bench);
}

static void an_abandoned_transfer_lets_the_log_go(void **state)
{
    struct lag lag = lag_create(9, 10);
    struct bench_replica *victim = bench_replica(lag.bench, lag.victim);
    uint64_t bytes;

    (void)state;
    victim->cut = false;
    run_until_staged(&lag, 40);
    victim->cut = true; /* for good */
    for (int i = 0; i < 100; i++) {
        lag.counter = bench_inc(lag.bench);
    }
    bytes = raft_log_bytes(raft_of(&lag, lag.leader));
    bench_run(lag.bench, 20000); /* nothing else happens, and yet it is compacted in the end */
    assert_true(raft_log_bytes(raft_of(&lag, lag.leader)) < bytes);
    assert_int_equal(mem_state_n_snapshots(bench_replica(lag.bench, lag.leader)->state), 0);
    bench_destroy(&lag.bench);
}

static void a_chunk_that_can_not_be_read_now_is_read_later(void **state)
{
    struct lag lag = lag_create(10, 10);

    (void)state;
    mem_state_fail(bench_replica(lag.bench, lag.leader)->state, MEM_STATE_FAIL_SNAPSHOT_READ,
                   ST_BUSY, 5);
    bench_replica(lag.bench, lag.victim)->cut = false;
    assert_caught_up(&lag);
    bench_destroy(&lag.bench);
}

static void a_leader_that_can_not_read_its_state_halts(void **state)
{
    struct lag lag = lag_create(11, 10);

    (void)state;
    mem_state_fail(bench_replica(lag.bench, lag.leader)->state, MEM_STATE_FAIL_SNAPSHOT_READ,
                   ST_CORRUPT, 1);
    bench_replica(lag.bench, lag.victim)->cut = false;
    bench_run(lag.bench, 3000);
    assert_true(bench_replica(lag.bench, lag.leader)->halted);
    assert_int_equal(bench_replica(lag.bench, lag.leader)->halt_status, ST_CORRUPT);
    lag.leader = bench_leader(lag.bench); /* the others go on without it */
    bench_converge(lag.bench);
    assert_int_equal(bench_counter(lag.bench, lag.victim), lag.counter);
    bench_destroy(&lag.bench);
}

static void a_follower_without_space_is_sent_it_again(void **state)
{
    struct lag lag = lag_create(12, 10);

    (void)state;
    mem_state_fail(bench_replica(lag.bench, lag.victim)->state, MEM_STATE_FAIL_INSTALL, ST_NO_SPACE,
                   7);
    bench_replica(lag.bench, lag.victim)->cut = false;
    assert_caught_up(&lag);
    bench_destroy(&lag.bench);
}

/* A single chunk, so that the failure hits the switch itself. */
/* The disk of the follower stands still at every point of the transfer, so that at some of them the
 * last chunk is queued behind another one; then the first of what is queued fails, or none does. */
static void chunks_queued_behind_each_other_are_taken_in_order(void **state)
{
    uint64_t total = 0;

    (void)state;
    for (uint64_t staged = 0; staged == 0 || staged < total; staged += 10) {
        for (uint32_t failures = 0; failures <= 2; failures++) {
            struct lag lag = lag_create(17, 10);
            struct bench_replica *victim = bench_replica(lag.bench, lag.victim);
            victim->cut = false;
            run_until_staged(&lag, staged);
            victim->hold_state = true;
            bench_run(lag.bench, 100);
            if (failures > 0) {
                mem_state_fail(victim->state, MEM_STATE_FAIL_INSTALL, ST_NO_SPACE, failures);
            }
            victim->hold_state = false;
            for (int i = 0; i < 2000 && stats(&lag, lag.victim)->snapshots_installed == 0; i++) {
                uint64_t now = mem_state_staged_bytes(victim->state);
                total = now > total ? now : total;
                bench_turn(lag.bench);
            }
            assert_caught_up(&lag);
            assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
            bench_destroy(&lag.bench);
        }
    }
    assert_true(total > 50);
}

static void a_failed_switch_is_tried_again(void **state)
{
    struct lag lag = lag_create(13, 1 << 20);

    (void)state;
    mem_state_fail(bench_replica(lag.bench, lag.victim)->state, MEM_STATE_FAIL_INSTALL, ST_NO_SPACE,
                   3);
    bench_replica(lag.bench, lag.victim)->cut = false;
    assert_caught_up(&lag);
    assert_int_equal(stats(&lag, lag.victim)->snapshots_installed, 1);
    bench_destroy(&lag.bench);
}

static void a_follower_that_can_not_write_its_state_halts(void **state)
{
    struct lag lag = lag_create(14, 10);

    (void)state;
    mem_state_fail(bench_replica(lag.bench, lag.victim)->state, MEM_STATE_FAIL_INSTALL, ST_IO, 1);
    bench_replica(lag.bench, lag.victim)->cut = false;
    bench_run(lag.bench, 3000);
    assert_true(bench_replica(lag.bench, lag.victim)->halted);
    assert_int_equal(bench_inc(lag.bench), lag.counter + 1);
    bench_destroy(&lag.bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lagging_follower_gets_a_snapshot),
        cmocka_unit_test(a_follower_that_lags_a_little_gets_entries),
        cmocka_unit_test(a_follower_that_crashed_goes_on_where_it_was),
        cmocka_unit_test(a_last_chunk_that_does_not_fit_is_not_waited_for),
        cmocka_unit_test(a_new_leader_takes_the_transfer_over),
        cmocka_unit_test(installed_is_told_only_when_the_log_is_reset),
        cmocka_unit_test(the_switch_waits_for_a_running_checkpoint),
        cmocka_unit_test(nothing_is_applied_to_a_state_about_to_be_replaced),
        cmocka_unit_test(a_waiting_switch_that_the_log_overtook_is_called_off),
        cmocka_unit_test(no_checkpoint_of_a_state_about_to_be_replaced),
        cmocka_unit_test(the_log_behind_a_snapshot_in_flight_is_kept),
        cmocka_unit_test(an_abandoned_transfer_lets_the_log_go),
        cmocka_unit_test(a_chunk_that_can_not_be_read_now_is_read_later),
        cmocka_unit_test(a_leader_that_can_not_read_its_state_halts),
        cmocka_unit_test(a_follower_without_space_is_sent_it_again),
        cmocka_unit_test(chunks_queued_behind_each_other_are_taken_in_order),
        cmocka_unit_test(a_failed_switch_is_tried_again),
        cmocka_unit_test(a_follower_that_can_not_write_its_state_halts),
    };

    return cmocka_run_group_tests_name("rsm_snapshot", tests, NULL, NULL);
}
