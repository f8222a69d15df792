/* What is written while a follower takes a snapshot: the leader keeps it until the follower has it,
 * or shows that it never will. Appends carry one entry here, and one travels at a time. */
#include "tests/sim/core_harness.h"

/* Replica 3 installed a snapshot and did not say so yet, as its disk is slow; n commands were
 * committed meanwhile, and the leader made a checkpoint of them. */
static struct cores *with_a_tail(uint64_t seed, int n)
{
    struct cores *cores = cores_create_empty(3, seed);

    cores->options.max_message_bytes = 1;
    cores->options.max_inflight_messages = 1;
    cores_start_all(cores);
    cores_elect(cores, 1);
    cores_isolate(cores, 3);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    cores_checkpoint(cores, 1);
    cores_checkpoint(cores, 2);
    cores->nodes[3].slow_disk = true;
    cores_heal(cores);
    cores_run(cores, 500);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    assert_int_equal(cores_progress(cores, 1, 3).state, RAFT_SNAPSHOT);
    for (int i = 0; i < n; i++) {
        assert_int_equal(cores_propose(cores, 1), ST_OK);
        cores_settle(cores);
    }
    cores_checkpoint(cores, 1);
    return cores;
}

/* One command is committed and a checkpoint of it is made; replica 3 makes so many writes durable.
 */
static void one_millisecond(struct cores *cores, int writes)
{
    assert_int_equal(cores_propose(cores, 1), ST_OK);
    cores_run(cores, 1);
    cores_checkpoint(cores, 1);
    for (int i = 0; i < writes && cores->nodes[3].n_writes > 0; i++) {
        cores_persist_one(cores, 3);
        cores_settle(cores);
    }
}

static bool is_kept(struct cores *cores)
{
    return raft_compaction_bound(core_of(cores, 1)) != UINT64_MAX;
}

static uint64_t entries_lacking(struct cores *cores)
{
    return raft_last_index(core_of(cores, 1)) - cores_progress(cores, 1, 3).match_index;
}

static void a_follower_catches_up_under_steady_writes(void **state)
{
    struct cores *cores = with_a_tail(1, 200);

    (void)state;
    assert_true(is_kept(cores));
    for (int i = 0; i < 1000 && is_kept(cores); i++) {
        one_millisecond(cores, 2);
        assert_true(cores_progress(cores, 1, 3).match_index >= 22 || i == 0);
    }
    assert_false(is_kept(cores));
    assert_true(entries_lacking(cores) < 60); /* a heartbeat's, and not the tail */
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    cores->nodes[3].slow_disk = false;
    cores_run(cores, 200);
    assert_int_equal(cores->nodes[3].snapshots_installed, 1);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

/* What it has of the tail is not kept for it. */
static void the_log_goes_as_the_follower_takes_it(void **state)
{
    struct cores *cores = with_a_tail(2, 200);
    raft_index match;

    (void)state;
    for (int i = 0; i < 50; i++) {
        one_millisecond(cores, 2);
    }
    match = cores_progress(cores, 1, 3).match_index;
    assert_true(match > 22 && is_kept(cores));
    one_millisecond(cores, 0);
    assert_int_equal(raft_first_index(core_of(cores, 1)), match + 1);
    cores_destroy(cores);
}

static void a_follower_that_stands_still_lets_the_log_go(void **state)
{
    struct cores *cores = with_a_tail(3, 50);

    (void)state;
    for (int i = 0; i < 10; i++) {
        one_millisecond(cores, 1);
    }
    cores_run(cores, 5000); /* it answers heartbeats, and takes no entry */
    assert_true(is_kept(cores));
    cores_run(cores, 2000);
    assert_false(is_kept(cores));
    cores_checkpoint(cores, 1);
    one_millisecond(cores, 0);
    assert_true(raft_first_index(core_of(cores, 1)) > 22 + 50);
    cores->nodes[3].slow_disk = false; /* by another snapshot */
    cores_run(cores, 2000);
    cores_assert_converged(cores);
    cores_destroy(cores);
}

static void a_follower_no_faster_than_the_writes_lets_the_log_go(void **state)
{
    struct cores *cores = with_a_tail(4, 100);
    int ms = 0;

    (void)state;
    while (ms < 1000 && cores->nodes[3].snapshots_installed == 1) {
        one_millisecond(cores, 1);
        ms++;
    }
    assert_true(ms > 90 && ms < 200); /* one round; then the next snapshot */
    cores->nodes[3].slow_disk = false;
    cores_run(cores, 2000);
    assert_false(is_kept(cores));
    cores_assert_converged(cores);
    cores_destroy(cores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_catches_up_under_steady_writes),
        cmocka_unit_test(the_log_goes_as_the_follower_takes_it),
        cmocka_unit_test(a_follower_that_stands_still_lets_the_log_go),
        cmocka_unit_test(a_follower_no_faster_than_the_writes_lets_the_log_go),
    };

    return cmocka_run_group_tests_name("core_tail", tests, NULL, NULL);
}
