/* The public rsm scenarios (MIT 6.5840, 2025: three servers, a reliable network, a counter), with
 * their numbers. Each prints the suite's statistics line; messages are counted in both directions,
 * so they are about twice as many as its RPCs. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/rsm_story.h"

#define BENCH_BEGIN_MS 1000 /* where a bench's clock begins */

static void assert_all_hold(struct bench *bench, int64_t counter)
{
    bench_converge(bench);
    for (raft_id id = 1; id <= 3; id++) {
        assert_int_equal(bench_counter(bench, id), counter);
    }
}

static void end(struct bench **bench, const char *name, unsigned ops)
{
    unsigned messages = 0;

    for (raft_id id = 1; id <= 3; id++) {
        messages += bench_replica(*bench, id)->sent;
    }
    printf("rsm %-20s %6.1f s  3 peers %6u messages %4u ops\n", name,
           (double)(bench_now_ms(*bench) - BENCH_BEGIN_MS) / 1000, messages, ops);
    bench_destroy(bench);
}

static void restart_all(struct bench *bench)
{
    for (raft_id id = 1; id <= 3; id++) {
        bench_crash(bench, id, 0);
    }
    bench_run(bench, 1000);
    bench_start_all(bench);
}

/* Basic: 10 increments one by one; the replies are 1..10, all replicas show it. */
static void basic(void **state)
{
    struct bench *bench = started(3, 1);

    (void)state;
    for (int64_t i = 1; i <= 10; i++) {
        assert_int_equal(bench_inc(bench), i);
    }
    assert_all_hold(bench, 10);
    end(&bench, "Basic", 10);
}

/* Concurrent: 50 parallel increments; 50 on all, and every reply another number. */
static void concurrent(void **state)
{
    struct bench *bench = started(3, 2);
    struct bench_call calls[50];
    bool seen[51] = {false};

    (void)state;
    for (size_t i = 0; i < 50; i++) {
        bench_propose(bench, bench_leader(bench), "inc", &calls[i]);
    }
    for (size_t i = 0; i < 50; i++) {
        assert_true(bench_run_until_ended(bench, &calls[i], 1000));
        long value = strtol(calls[i].result, NULL, 10);
        assert_int_equal(calls[i].status, ST_OK);
        assert_true(value >= 1 && value <= 50 && !seen[value]);
        seen[value] = true;
    }
    assert_all_hold(bench, 50);
    end(&bench, "Concurrent", 50);
}

/* LeaderFailure: one increment, the leader is cut off, one more, it comes back and catches up. */
static void leader_failure(void **state)
{
    struct bench *bench = started(3, 3);
    raft_id leader = bench_leader(bench);

    (void)state;
    assert_int_equal(bench_inc(bench), 1);
    bench_replica(bench, leader)->cut = true;
    assert_int_equal(bench_inc(bench), 2);
    bench_replica(bench, leader)->cut = false;
    assert_all_hold(bench, 2);
    end(&bench, "LeaderFailure", 2);
}

/* LeaderPartition: a leader in the minority gets 100 decrements, 10 ms later the majority one
 * increment. No decrement succeeds; none returns during the partition; all return within a second
 * of its end. */
static void leader_partition(void **state)
{
    struct bench *bench = started(3, 4);
    raft_id leader = bench_leader(bench);
    struct bench_call calls[100];

    (void)state;
    bench_replica(bench, leader)->cut = true;
    for (size_t i = 0; i < 100; i++) {
        bench_propose(bench, leader, "dec", &calls[i]);
    }
    bench_run(bench, 10);
    assert_int_equal(bench_inc(bench), 1);
    bench_run(bench, 1000);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(calls[i].ended, 0);
    }
    bench_replica(bench, leader)->cut = false;
    bench_run(bench, 1000);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(calls[i].ended, 1);
        assert_int_equal(calls[i].status, ST_NOT_LEADER);
    }
    assert_all_hold(bench, 1);
    end(&bench, "LeaderPartition", 101);
}

static void hundred_incs_and_a_restart(struct bench *bench)
{
    for (int64_t i = 1; i <= 100; i++) {
        assert_int_equal(bench_inc(bench), i);
    }
    restart_all(bench);
    assert_int_equal(bench_inc(bench), 101);
    assert_all_hold(bench, 101);
}

/* RestartReplay: 100 increments, all stop for a second and start; the next reply is 101. */
static void restart_replay(void **state)
{
    struct bench *bench = started(3, 5);

    (void)state;
    hundred_incs_and_a_restart(bench);
    end(&bench, "RestartReplay", 101);
}

/* Shutdown: 100 parallel null operations, 20 ms later all stop: every one returns. */
static void shutdown_ends_all(void **state)
{
    struct bench *bench = started(3, 6);
    raft_id leader = bench_leader(bench);
    struct bench_call calls[100];

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        bench_replica(bench, id)->hold_log = true; /* so that none of them ends well before */
    }
    for (size_t i = 0; i < 100; i++) {
        bench_propose(bench, leader, "null", &calls[i]);
    }
    bench_run(bench, 20);
    for (raft_id id = 1; id <= 3; id++) {
        bench_crash(bench, id, 0);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(calls[i].ended, 1);
        assert_int_equal(calls[i].status, ST_UNKNOWN);
    }
    end(&bench, "Shutdown", 100);
}

/* RestartSubmit: RestartReplay, then Shutdown and a restart; what waited before is not confused
 * with what comes after. */
static void restart_submit(void **state)
{
    struct bench *bench = started(3, 7);
    struct bench_call calls[100];

    (void)state;
    hundred_incs_and_a_restart(bench);
    for (size_t i = 0; i < 100; i++) {
        bench_propose(bench, bench_leader(bench), "null", &calls[i]);
    }
    bench_run(bench, 20);
    restart_all(bench);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(calls[i].ended, 1);
    }
    assert_int_equal(bench_inc(bench), 102);
    assert_all_hold(bench, 102);
    end(&bench, "RestartSubmit", 202);
}

/* Snapshot: 100 increments with a bound of 1000 bytes on the log; it stays below twice that; after
 * a restart of all the next reply is 101. */
static void snapshot(void **state)
{
    struct bench *bench = bench_create(3, 8);

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 1000;
    bench_options(bench)->log_keep_bytes = 0;
    bench_start_all(bench);
    for (int64_t i = 1; i <= 100; i++) {
        assert_int_equal(bench_inc(bench), i);
        for (raft_id id = 1; id <= 3; id++) {
            struct io_log *log = mem_log_io(bench_replica(bench, id)->log);
            assert_true(log->ops->bytes(log) <= 2000);
        }
    }
    restart_all(bench);
    assert_int_equal(bench_inc(bench), 101);
    assert_all_hold(bench, 101);
    end(&bench, "Snapshot", 101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic),          cmocka_unit_test(concurrent),
        cmocka_unit_test(leader_failure), cmocka_unit_test(leader_partition),
        cmocka_unit_test(restart_replay), cmocka_unit_test(shutdown_ends_all),
        cmocka_unit_test(restart_submit), cmocka_unit_test(snapshot),
    };

    return cmocka_run_group_tests_name("rsm_scenario", tests, NULL, NULL);
}
