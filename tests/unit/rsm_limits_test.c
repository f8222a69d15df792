/* Unit tests of a group: what it promises is durable, what it has limits for, what it is deaf to.
 */
#include "raft/wire.h"
#include "tests/unit/rsm_story.h"

/* ---- What is promised is durable ---- */

static void nothing_commits_while_the_followers_disks_stand_still(void **state)
{
    struct bench *bench = started(3, 12);
    raft_id leader = bench_leader(bench);
    struct bench_call call;

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        bench_replica(bench, id)->hold_log = id != leader;
    }
    bench_propose(bench, leader, "inc", &call);
    bench_run(bench, 2000);
    assert_int_equal(call.ended, 0);
    assert_true(group_is_leader(bench_replica(bench, leader)->group)); /* heartbeats go on */
    bench_replica(bench, bench_other(bench, leader))->hold_log = false;
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_int_equal(call.status, ST_OK);
    bench_destroy(&bench);
}

/* A vote, too, is a promise: nobody is elected by votes that are not durable. */
static void no_leader_before_votes_are_durable(void **state)
{
    struct bench *bench = bench_create(3, 13);

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        bench_replica(bench, id)->hold_log = true;
    }
    bench_start_all(bench);
    bench_run(bench, 3000);
    for (raft_id id = 1; id <= 3; id++) {
        assert_false(group_is_leader(bench_replica(bench, id)->group));
    }
    for (raft_id id = 1; id <= 3; id++) {
        bench_replica(bench, id)->hold_log = false;
    }
    bench_leader(bench);
    bench_destroy(&bench);
}

static void a_quorum_of_followers_commits_without_the_leaders_disk(void **state)
{
    struct bench *bench = bench_create(3, 14);
    struct bench_call call;
    raft_id leader;
    uint64_t checkpoints;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 1; /* one is due after every entry */
    bench_start_all(bench);
    leader = bench_leader(bench);
    bench_run(bench, 10);
    checkpoints = stats(bench, leader)->checkpoints;
    bench_replica(bench, leader)->hold_log = true;
    bench_propose(bench, leader, "inc", &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_int_equal(call.status, ST_OK);
    bench_run(bench, 50);
    /* The state is ahead of the own log: it must not become durable before the log does. */
    assert_int_equal(stats(bench, leader)->checkpoints, checkpoints);
    assert_int_equal(mem_state_n_work(bench_replica(bench, leader)->state), 0);
    bench_replica(bench, leader)->hold_log = false;
    bench_run(bench, 50);
    assert_true(stats(bench, leader)->checkpoints > checkpoints);
    bench_destroy(&bench);
}

/* The same for a follower whose durable log is long enough, but holds another history there. */
static void no_checkpoint_while_what_it_covers_is_being_replaced(void **state)
{
    struct bench *bench = bench_create(3, 25);
    struct bench_call doomed[5];
    const struct raft *raft;
    raft_id old;
    raft_index before;
    raft_term term;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 1;
    bench_start_all(bench);
    old = bench_leader(bench);
    bench_run(bench, 10);
    before = group_applied_index(bench_replica(bench, old)->group);
    bench_replica(bench, old)->cut = true;
    for (size_t i = 0; i < 5; i++) {
        bench_propose(bench, old, "dec", &doomed[i]);
    }
    bench_run(bench, 10); /* durable there, and nowhere else */
    for (int64_t i = 1; i <= 5; i++) {
        assert_int_equal(bench_inc(bench), i);
    }
    raft = group_raft(bench_replica(bench, old)->group);
    term = raft_current_term(raft);
    bench_replica(bench, old)->cut = false;
    while (raft_current_term(raft) == term) {
        bench_turn(bench); /* the new term becomes durable, the new entries do not */
    }
    bench_replica(bench, old)->hold_log = true;
    for (int i = 0; i < 1000; i++) {
        bench_turn(bench);
        assert_int_equal(mem_state_n_work(bench_replica(bench, old)->state), 0);
    }
    assert_true(group_applied_index(bench_replica(bench, old)->group) > before);
    assert_true(stats(bench, old)->checkpoint_index == before);
    bench_replica(bench, old)->hold_log = false;
    bench_converge(bench);
    bench_run(bench, 10);
    assert_true(stats(bench, old)->checkpoint_index > before + 4);
    bench_destroy(&bench);
}

/* ---- Limits ---- */

static void more_proposals_or_reads_than_allowed_are_busy(void **state)
{
    struct bench *bench = bench_create(3, 19);
    struct bench_call calls[4], reads[4];
    raft_id leader;

    (void)state;
    bench_options(bench)->max_proposals = 3;
    bench_options(bench)->max_reads = 3;
    bench_start_all(bench);
    leader = bench_leader(bench);
    bench_replica(bench, leader)->cut = true;
    bench_propose(bench, leader, "inc", &calls[0]);
    bench_propose(bench, leader, "inc", &calls[1]);
    bench_turn(bench); /* waiting ones count as well as gathered ones */
    bench_propose(bench, leader, "inc", &calls[2]);
    bench_propose(bench, leader, "inc", &calls[3]);
    assert_int_equal(calls[2].ended, 0);
    assert_int_equal(calls[3].status, ST_BUSY);
    for (size_t i = 0; i < 4; i++) {
        bench_read(bench, leader, &reads[i]);
        bench_turn(bench);
    }
    assert_int_equal(reads[2].ended, 0);
    assert_int_equal(reads[3].status, ST_BUSY);
    bench_destroy(&bench);
}

static void a_full_log_is_busy_until_a_checkpoint_frees_it(void **state)
{
    struct bench *bench = bench_create(1, 20);
    struct bench_call call;
    bool busy = false;

    (void)state;
    bench_options(bench)->max_log_bytes = 20000;
    bench_start_all(bench);
    bench_leader(bench);
    bench_replica(bench, 1)->hold_state = true;
    for (int i = 0; i < 100 && !busy; i++) {
        bench_propose(bench, 1, "pad 1000", &call);
        assert_true(bench_run_until_ended(bench, &call, 100));
        busy = call.status == ST_BUSY;
    }
    assert_true(busy);
    bench_run(bench, 500);
    bench_replica(bench, 1)->hold_state = false;
    bench_run(bench, 10);
    bench_propose(bench, 1, "inc", &call);
    assert_true(bench_run_until_ended(bench, &call, 100));
    assert_int_equal(call.status, ST_OK);
    bench_destroy(&bench);
}

static void pads(struct bench *bench, raft_id leader, int n)
{
    for (int i = 0; i < n; i++) {
        struct bench_call call;

        bench_propose(bench, leader, "pad 1000", &call);
        assert_true(bench_run_until_ended(bench, &call, 100));
        assert_int_equal(call.status, ST_OK);
    }
}

/* While it is kept for a follower that takes a snapshot, a large log is no reason for a checkpoint.
 */
static void a_large_log_that_is_held_has_no_checkpoint_made_after_every_entry(void **state)
{
    struct bench *bench = bench_create(3, 30);
    struct bench_replica *victim;
    const struct raft *raft;
    raft_id leader;
    uint64_t before;

    (void)state;
    bench_options(bench)->max_log_bytes = 60000; /* large: 30000 */
    bench_options(bench)->snapshot_chunk_bytes = 10;
    bench_start_all(bench);
    leader = bench_leader(bench);
    raft = group_raft(bench_replica(bench, leader)->group);
    victim = bench_replica(bench, bench_other(bench, leader));
    victim->cut = true;
    pads(bench, leader, 60);
    assert_true(raft_first_index(raft) > 20);
    victim->hold_state = true;
    victim->cut = false;
    bench_run(bench, 200);
    assert_true(raft_compaction_bound(raft) < UINT64_MAX);
    pads(bench, leader, 35);
    assert_true(raft_log_bytes(raft) > 30000);
    before = stats(bench, leader)->checkpoints;
    bench_run(bench, 100);
    pads(bench, leader, 10);
    assert_true(stats(bench, leader)->checkpoints <= before + 1);
    victim->hold_state = false;
    bench_converge(bench);
    bench_run(bench, 200);
    assert_int_equal(raft_compaction_bound(raft), UINT64_MAX);
    assert_true(raft_log_bytes(raft) < 30000); /* the checkpoint that was put off */
    bench_destroy(&bench);
}

/* Its state waits for its disk while the others go on: what it holds in memory stays bounded, and
 * once its disk is there again it catches up. */
static void a_follower_whose_disk_stands_still_takes_no_more_than_a_log_may_hold(void **state)
{
    struct bench *bench = bench_create(3, 26);
    const raft_id slow = 1;
    struct bench_call call;
    raft_id leader;
    uint64_t most = 0;

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 1;
    bench_options(bench)->max_dirty_bytes = 2; /* full from the first write on */
    bench_options(bench)->raft.max_message_bytes = 4096;
    bench_start(bench, 2);
    bench_start(bench, 3);
    leader = bench_leader(bench);
    bench_options(bench)->max_log_bytes = 50000;
    bench_start(bench, slow);
    bench_converge(bench);
    bench_replica(bench, slow)->hold_state = true;
    for (int i = 0; i < 300; i++) {
        const struct raft *raft = group_raft(bench_replica(bench, slow)->group);

        bench_propose(bench, leader, i % 2 == 0 ? "inc" : "pad 1000", &call);
        assert_true(bench_run_until_ended(bench, &call, 1000));
        assert_int_equal(call.status, ST_OK);
        most = raft_log_bytes(raft) > most ? raft_log_bytes(raft) : most;
    }
    assert_true(most > 20000 && most < 60000);
    assert_true(group_is_leader(bench_replica(bench, leader)->group)); /* it was heard */
    bench_replica(bench, slow)->hold_state = false;
    bench_converge(bench);
    bench_destroy(&bench);
}

/* The state as a whole, overlay and log, while the disk does not follow. */
static void dirty_bytes_are_bounded_whatever_the_disk_does(void **state)
{
    struct bench *bench = bench_create(1, 27);
    struct bench_call calls[400];
    struct io_state *io;

    (void)state;
    bench_options(bench)->checkpoint_dirty_bytes = 64;
    bench_options(bench)->max_dirty_bytes = 64 * 2;
    bench_start_all(bench);
    bench_leader(bench);
    io = group_state(bench_replica(bench, 1)->group);
    bench_replica(bench, 1)->hold_state = true;
    for (int i = 0; i < 400; i++) {
        bench_propose(bench, 1, "inc", &calls[i]);
        bench_turn(bench);
        assert_true(io->ops->dirty_bytes(io) < 64 * 2 + 64);
    }
    assert_int_equal(calls[399].ended, 0); /* applying waits */
    bench_replica(bench, 1)->hold_state = false;
    assert_true(bench_run_until_ended(bench, &calls[399], 1000));
    assert_int_equal(calls[399].status, ST_OK);
    bench_destroy(&bench);
}

/* ---- What was dropped goes soon ---- */

static void drop(struct bench *bench, raft_id id, uint64_t range)
{
    struct io_state *io = group_state(bench_replica(bench, id)->group);

    io->ops->drop_range(io, range);
}

/* In an idle group as well: nobody writes, nothing is due otherwise. */
static void a_dropped_range_has_a_checkpoint_made_in_seconds(void **state)
{
    struct bench *bench = started(3, 28);
    uint64_t before;

    (void)state;
    bench_inc(bench);
    bench_converge(bench);
    bench_run(bench, 10000);
    before = stats(bench, 1)->checkpoints;
    drop(bench, 1, 7);
    bench_run(bench, 3000);
    assert_int_equal(stats(bench, 1)->checkpoints, before + 1);
    assert_int_equal(stats(bench, 2)->checkpoints, before);
    assert_true(stats(bench, 1)->checkpoint_index ==
                group_applied_index(bench_replica(bench, 1)->group));
    bench_run(bench, 10000);
    assert_int_equal(stats(bench, 1)->checkpoints, before + 1); /* once */
    bench_destroy(&bench);
}

/* The log tells of a dropped range too: it is kept only for a follower that lags, and not for long.
 */
static void the_log_of_a_dropped_range_goes_too(void **state)
{
    struct bench *bench = started(3, 29);
    raft_id leader = bench_leader(bench), away = bench_other(bench, leader);
    const struct raft *raft = group_raft(bench_replica(bench, leader)->group);

    (void)state;
    bench_inc(bench);
    bench_converge(bench);
    drop(bench, leader, 7);
    bench_run(bench, 3000);
    assert_true(raft_log_bytes(raft) == 0); /* all have it */
    bench_replica(bench, away)->cut = true;
    bench_inc(bench);
    drop(bench, leader, 8);
    bench_run(bench, 4000);
    assert_true(raft_log_bytes(raft) > 0); /* one has not */
    bench_run(bench, 8000);
    assert_true(raft_log_bytes(raft) == 0);
    bench_replica(bench, away)->cut = false;
    bench_converge(bench);
    bench_destroy(&bench);
}

/* A checkpoint that found no room is written first when there is some; the one that was asked for,
 * without the range, comes right after it. */
static void after_a_checkpoint_that_had_found_no_room_comes_the_one_asked_for(void **state)
{
    struct bench *bench = started(3, 30);
    raft_id id = bench_other(bench, bench_leader(bench));
    uint64_t before;

    (void)state;
    bench_inc(bench);
    bench_converge(bench);
    bench_run(bench, 10000);
    before = stats(bench, id)->checkpoints;
    mem_state_fail(bench_replica(bench, id)->state, MEM_STATE_FAIL_CHECKPOINT, ST_NO_SPACE, 1);
    drop(bench, id, 7);
    bench_run(bench, 2100);
    assert_int_equal(stats(bench, id)->checkpoints_no_space, 1);
    bench_inc(bench);
    drop(bench, id, 8);
    for (int i = 0; i < 200 && stats(bench, id)->checkpoints == before; i++) {
        bench_run(bench, 10);
    }
    bench_run(bench, 500);
    assert_int_equal(stats(bench, id)->checkpoints, before + 2);
    assert_true(stats(bench, id)->checkpoint_index ==
                group_applied_index(bench_replica(bench, id)->group));
    bench_destroy(&bench);
}

static void what_the_core_can_not_take_at_once_is_busy_and_the_rest_goes(void **state)
{
    struct bench *bench = bench_create(1, 21);
    struct bench_call first, calls[8];
    size_t ok = 0, busy = 0;

    (void)state;
    bench_options(bench)->raft.max_uncommitted_bytes = 100000;
    bench_start_all(bench);
    bench_leader(bench);
    bench_propose(bench, 1, "inc", &first);
    bench_turn(bench); /* now something is uncommitted */
    for (size_t i = 0; i < 8; i++) {
        bench_propose(bench, 1, "pad 20000", &calls[i]); /* so many bytes wait for no company */
    }
    bench_event(bench, 1, &(struct io_event){.type = IO_EVENT_TURN_END});
    bench_run(bench, 10);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(calls[i].ended, 1);
        ok += calls[i].status == ST_OK;
        busy += calls[i].status == ST_BUSY;
    }
    assert_int_equal(ok, 4);
    assert_int_equal(busy, 4);
    bench_destroy(&bench);
}

static void a_command_too_large_for_an_entry_is_refused(void **state)
{
    struct bench *bench = started(1, 22);
    struct bench_call call;

    (void)state;
    bench_propose(bench, 1, "pad 41943040", &call);
    assert_int_equal(call.status, ST_TOO_LARGE);
    bench_destroy(&bench);
}

/* ---- Strange messages ---- */

static void foreign_and_malformed_messages_are_dropped(void **state)
{
    struct bench *bench = started(3, 23);
    struct io_event event = {.type = IO_EVENT_PEER_MESSAGE};
    raft_id leader = bench_leader(bench);
    raft_term term = raft_current_term(group_raft(bench_replica(bench, leader)->group));
    struct raft_message vote = {.type = RAFT_MESSAGE_REQUEST_VOTE, .from = 2, .to = 1, .term = 99};
    struct buf bytes = {0};

    (void)state;
    event.peer.group = GROUP;
    event.peer.id = leader == 3 ? 1 : 3;
    event.peer.message = slice_text("certainly no message");
    bench_event(bench, leader, &event);
    /* Says that it is from 2, but came from another; then a message for another replica. */
    vote.request_vote.last_log_index = 1000;
    vote.request_vote.transfer = true;
    vote.to = leader;
    vote.from = leader == 2 ? 1 : 2;
    wire_encode_message(&vote, &bytes);
    event.peer.message = buf_slice(&bytes);
    bench_event(bench, leader, &event);
    buf_clear(&bytes);
    vote.from = event.peer.id;
    vote.to = leader == 2 ? 1 : 2;
    wire_encode_message(&vote, &bytes);
    event.peer.message = buf_slice(&bytes);
    bench_event(bench, leader, &event);
    /* The right addresses, but another group. */
    buf_clear(&bytes);
    vote.to = leader;
    wire_encode_message(&vote, &bytes);
    event.peer.message = buf_slice(&bytes);
    event.peer.group = GROUP + 1;
    bench_event(bench, leader, &event);
    bench_run(bench, 100);
    assert_true(group_is_leader(bench_replica(bench, leader)->group));
    assert_true(raft_current_term(group_raft(bench_replica(bench, leader)->group)) == term);
    buf_fini(&bytes);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_commits_while_the_followers_disks_stand_still),
        cmocka_unit_test(no_leader_before_votes_are_durable),
        cmocka_unit_test(a_quorum_of_followers_commits_without_the_leaders_disk),
        cmocka_unit_test(no_checkpoint_while_what_it_covers_is_being_replaced),
        cmocka_unit_test(more_proposals_or_reads_than_allowed_are_busy),
        cmocka_unit_test(a_full_log_is_busy_until_a_checkpoint_frees_it),
        cmocka_unit_test(a_large_log_that_is_held_has_no_checkpoint_made_after_every_entry),
        cmocka_unit_test(a_follower_whose_disk_stands_still_takes_no_more_than_a_log_may_hold),
        cmocka_unit_test(dirty_bytes_are_bounded_whatever_the_disk_does),
        cmocka_unit_test(a_dropped_range_has_a_checkpoint_made_in_seconds),
        cmocka_unit_test(the_log_of_a_dropped_range_goes_too),
        cmocka_unit_test(after_a_checkpoint_that_had_found_no_room_comes_the_one_asked_for),
        cmocka_unit_test(what_the_core_can_not_take_at_once_is_busy_and_the_rest_goes),
        cmocka_unit_test(a_command_too_large_for_an_entry_is_refused),
        cmocka_unit_test(foreign_and_malformed_messages_are_dropped),
    };

    return cmocka_run_group_tests_name("rsm_limits", tests, NULL, NULL);
}
