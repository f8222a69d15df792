/* Unit tests of what a group counts: ends of proposals and reads, how long they took, checkpoints
 * and snapshots. Time is the bench's: messages take a millisecond. */
#include "tests/unit/rsm_story.h"

static void an_applied_proposal_is_counted_with_its_duration(void **state)
{
    struct bench *bench = started(3, 1);
    raft_id leader = bench_leader(bench);
    struct group_stats before = *stats(bench, leader);
    struct bench_call calls[5];

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        bench_propose(bench, leader, "inc", &calls[i]);
    }
    assert_true(bench_run_until_ended(bench, &calls[4], 100));
    bench_run(bench, 10);
    assert_int_equal(stats(bench, leader)->proposals_ok, before.proposals_ok + 5);
    assert_int_equal(histogram_count(&stats(bench, leader)->proposal_us),
                     histogram_count(&before.proposal_us) + 5);
    /* There and back. */
    assert_true(stats(bench, leader)->proposal_us.sum_us - before.proposal_us.sum_us >= 5 * 2000);
    assert_true(stats(bench, leader)->proposal_us.sum_us - before.proposal_us.sum_us <= 5 * 50000);
    bench_destroy(&bench);
}

static void a_slow_disk_shows_in_the_duration(void **state)
{
    struct bench *bench = started(1, 2);
    uint64_t before_us = stats(bench, 1)->proposal_us.sum_us;
    struct group_queues queues;
    struct bench_call call;

    (void)state;
    bench_replica(bench, 1)->hold_log = true;
    bench_propose(bench, 1, "inc", &call);
    bench_run(bench, 500);
    group_queues(bench_replica(bench, 1)->group, &queues);
    assert_int_equal(queues.proposals, 1);
    assert_int_equal(queues.unsynced_writes, 1);
    bench_replica(bench, 1)->hold_log = false;
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_in_range(stats(bench, 1)->proposal_us.sum_us - before_us, 499000, 520000);
    group_queues(bench_replica(bench, 1)->group, &queues);
    assert_int_equal(queues.proposals, 0);
    bench_run(bench, 10);
    group_queues(bench_replica(bench, 1)->group, &queues);
    assert_int_equal(queues.unsynced_writes, 0);
    bench_destroy(&bench);
}

static void a_refusal_is_counted_by_its_reason_and_has_no_duration(void **state)
{
    struct bench *bench = started(3, 3);
    raft_id leader = bench_leader(bench), other = bench_other(bench, leader);
    struct bench_call call;

    (void)state;
    bench_propose(bench, other, "inc", &call);
    assert_int_equal(call.status, ST_NOT_LEADER);
    assert_int_equal(stats(bench, other)->proposals_refused, 1);
    assert_int_equal(stats(bench, other)->refused[ST_NOT_LEADER], 1);
    assert_int_equal(stats(bench, other)->refused[ST_BUSY], 0);
    assert_int_equal(histogram_count(&stats(bench, other)->proposal_us), 0);
    bench_destroy(&bench);
}

static void the_reads_of_a_turn_share_a_round(void **state)
{
    struct bench *bench = started(3, 4);
    raft_id leader = bench_leader(bench);
    struct group_stats before = *stats(bench, leader);
    struct bench_call calls[3];
    struct group_queues queues;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        bench_read(bench, leader, &calls[i]);
    }
    group_queues(bench_replica(bench, leader)->group, &queues);
    assert_int_equal(queues.reads, 3);
    assert_true(bench_run_until_ended(bench, &calls[2], 100));
    assert_int_equal(stats(bench, leader)->reads_ok, before.reads_ok + 3);
    assert_int_equal(stats(bench, leader)->read_rounds, before.read_rounds + 1);
    assert_int_equal(histogram_count(&stats(bench, leader)->read_us),
                     histogram_count(&before.read_us) + 3);
    assert_true(stats(bench, leader)->read_us.sum_us - before.read_us.sum_us >= 3 * 2000);
    bench_destroy(&bench);
}

static void a_checkpoint_and_a_snapshot_are_counted_with_their_bytes(void **state)
{
    struct bench *bench = checkpointing(3, 5, 1000);
    raft_id leader = bench_leader(bench), other = bench_other(bench, leader);
    struct group_queues queues;

    (void)state;
    bench_crash(bench, other, 0);
    for (int i = 0; i < 100; i++) {
        bench_inc(bench);
    }
    assert_true(stats(bench, leader)->checkpoints > 0);
    assert_int_equal(histogram_count(&stats(bench, leader)->checkpoint_us),
                     stats(bench, leader)->checkpoints);
    bench_start(bench, other);
    bench_converge(bench);
    assert_true(stats(bench, other)->snapshots_installed > 0);
    assert_true(stats(bench, leader)->snapshot_bytes_sent > 0);
    assert_true(stats(bench, other)->snapshot_bytes_received > 0);
    group_queues(bench_replica(bench, leader)->group, &queues);
    assert_int_equal(queues.snapshots_sending, 0);
    bench_destroy(&bench);
}

/* An event that does not reach the group tells it the time, or a proposal made from it would seem
 * to have begun at the event before, however long ago that was. */
static void durations_begin_with_the_event_that_proposes(void **state)
{
    struct bench *bench = started(1, 6);
    struct group *group = bench_replica(bench, 1)->group;
    struct io_event event = {.type = IO_EVENT_CLIENT_MESSAGE};
    uint64_t before_us = stats(bench, 1)->proposal_us.sum_us;
    struct bench_call call;

    (void)state;
    event.now_ms = bench_now_ms(bench);
    event.now_us = event.now_ms * 1000 + 600;
    group_tell_time(group, &event);
    assert_int_equal(group_now_us(group), event.now_us);
    bench_propose(bench, 1, "inc", &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_int_equal(stats(bench, 1)->proposal_us.sum_us - before_us,
                     group_now_us(group) - event.now_us);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_applied_proposal_is_counted_with_its_duration),
        cmocka_unit_test(a_slow_disk_shows_in_the_duration),
        cmocka_unit_test(a_refusal_is_counted_by_its_reason_and_has_no_duration),
        cmocka_unit_test(the_reads_of_a_turn_share_a_round),
        cmocka_unit_test(a_checkpoint_and_a_snapshot_are_counted_with_their_bytes),
        cmocka_unit_test(durations_begin_with_the_event_that_proposes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
