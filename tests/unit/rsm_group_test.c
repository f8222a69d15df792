/* Unit tests of a group: proposals and how they end, reads. */
#include "raft/util/mem.h"
#include "tests/unit/rsm_story.h"

/* ---- Proposals ---- */

static void one_replica_applies_what_is_proposed(void **state)
{
    struct bench *bench = started(1, 1);
    struct bench_call first, second;

    (void)state;
    bench_propose(bench, 1, "inc", &first);
    bench_propose(bench, 1, "inc", &second);
    assert_int_equal(first.ended, 0); /* gathered until the turn ends */
    assert_true(bench_run_until_ended(bench, &second, 100));
    assert_int_equal(first.status, ST_OK);
    assert_string_equal(first.result, "1");
    assert_int_equal(second.status, ST_OK);
    assert_string_equal(second.result, "2");
    assert_int_equal(bench_counter(bench, 1), 2);
    bench_destroy(&bench);
}

static void three_replicas_apply_the_same(void **state)
{
    struct bench *bench = started(3, 2);

    (void)state;
    for (int64_t i = 1; i <= 10; i++) {
        assert_int_equal(bench_inc(bench), i);
    }
    bench_converge(bench);
    for (raft_id id = 1; id <= 3; id++) {
        assert_int_equal(bench_counter(bench, id), 10);
        assert_true(bench_replica(bench, id)->role_changes > 0);
    }
    bench_destroy(&bench);
}

static void a_follower_refuses_at_once(void **state)
{
    struct bench *bench = started(3, 3);
    raft_id follower = bench_other(bench, bench_leader(bench));
    struct bench_call proposal, read;

    (void)state;
    bench_propose(bench, follower, "inc", &proposal);
    bench_read(bench, follower, &read);
    assert_int_equal(proposal.ended, 1);
    assert_int_equal(proposal.status, ST_NOT_LEADER);
    assert_int_equal(read.status, ST_NOT_LEADER);
    assert_int_equal(stats(bench, follower)->proposals_refused, 1);
    bench_destroy(&bench);
}

/* The deposed leader's entry never reached anybody: another one commits in its place. */
static void a_proposal_overwritten_by_another_leader_was_not_applied(void **state)
{
    struct bench *bench = started(3, 4);
    raft_id old = bench_leader(bench);
    struct bench_call lost;

    (void)state;
    bench_replica(bench, old)->cut = true;
    bench_propose(bench, old, "dec", &lost);
    assert_int_equal(bench_inc(bench), 1);
    bench_run(bench, 1000);
    assert_int_equal(lost.ended, 0); /* it steps down, but does not know the end yet */
    assert_false(group_is_leader(bench_replica(bench, old)->group));
    bench_replica(bench, old)->cut = false;
    assert_true(bench_run_until_ended(bench, &lost, 1000));
    assert_int_equal(lost.status, ST_NOT_LEADER);
    bench_converge(bench);
    assert_int_equal(bench_counter(bench, old), 1);
    bench_destroy(&bench);
}

/* A leads and appends; B leads after it and appends in the same places, unseen by C; A leads again
 * and commits what it had. So B finds entries of an earlier term in the places of its own. */
static void a_proposal_overwritten_by_an_earlier_term_was_not_applied(void **state)
{
    struct bench *bench = started(3, 26);
    raft_id a = bench_leader(bench), b = 0;
    struct bench_call kept[4], lost[2];

    (void)state;
    bench_replica(bench, a)->cut = true;
    for (size_t i = 0; i < 4; i++) {
        bench_propose(bench, a, "inc", &kept[i]);
    }
    for (int i = 0; i < 5000 && b == 0; i++) {
        bench_turn(bench);
        for (raft_id id = 1; id <= 3; id++) {
            b = id != a && group_is_leader(bench_replica(bench, id)->group) ? id : b;
        }
    }
    bench_replica(bench, b)->cut = true; /* its first entry is on the way, and lost */
    bench_propose(bench, b, "dec", &lost[0]);
    bench_propose(bench, b, "dec", &lost[1]);
    bench_run(bench, 1000);
    bench_replica(bench, a)->cut = false;
    assert_int_equal(bench_leader(bench), a);
    bench_replica(bench, b)->cut = false;
    assert_true(bench_run_until_ended(bench, &lost[1], 2000));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(lost[i].status, ST_NOT_LEADER);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(kept[i].status, ST_OK);
    }
    bench_converge(bench);
    assert_int_equal(bench_counter(bench, b), 4);
    bench_destroy(&bench);
}

/* The deposed leader's entry reached the others, whose answers it never heard: its successor
 * commits it, and the proposer hears so from the leader that lost its office. */
static void a_proposal_that_survives_its_leader_is_ok(void **state)
{
    struct bench *bench = started(3, 5);
    raft_id old = bench_leader(bench);
    struct bench_call survivor;

    (void)state;
    bench_replica(bench, old)->deaf = true;
    bench_propose(bench, old, "inc", &survivor);
    bench_run(bench, 10);
    bench_replica(bench, old)->cut = true;
    assert_int_equal(bench_inc(bench), 2);
    assert_int_equal(survivor.ended, 0);
    bench_replica(bench, old)->cut = false;
    bench_replica(bench, old)->deaf = false;
    assert_true(bench_run_until_ended(bench, &survivor, 1000));
    assert_int_equal(survivor.status, ST_OK);
    assert_string_equal(survivor.result, "1");
    bench_converge(bench);
    assert_int_equal(bench_counter(bench, old), 2);
    bench_destroy(&bench);
}

static void a_proposal_that_a_snapshot_jumped_over_is_unknown(void **state)
{
    struct bench *bench = bench_create(3, 6);
    struct bench_call survivor, overwritten;
    raft_id old;

    (void)state;
    bench_options(bench)->checkpoint_log_bytes = 500;
    bench_options(bench)->log_keep_bytes = 0;
    bench_start_all(bench);
    old = bench_leader(bench);
    bench_replica(bench, old)->deaf = true;
    bench_propose(bench, old, "inc", &survivor);
    bench_run(bench, 10);
    bench_replica(bench, old)->cut = true;
    bench_propose(bench, old, "dec", &overwritten);
    for (int i = 2; i <= 100; i++) {
        assert_int_equal(bench_inc(bench), i);
    }
    bench_replica(bench, old)->cut = false;
    bench_replica(bench, old)->deaf = false;
    assert_true(bench_run_until_ended(bench, &survivor, 2000));
    assert_int_equal(survivor.status, ST_UNKNOWN);
    assert_int_equal(overwritten.status, ST_UNKNOWN);
    assert_int_equal(stats(bench, old)->snapshots_installed, 1);
    assert_int_equal(stats(bench, old)->proposals_unknown, 2);
    bench_converge(bench);
    bench_destroy(&bench);
}

static void destroying_ends_everything(void **state)
{
    struct bench *bench = started(3, 7);
    raft_id leader = bench_leader(bench);
    struct bench_call appended, gathered, asked, read;

    (void)state;
    bench_replica(bench, leader)->cut = true;
    bench_propose(bench, leader, "inc", &appended);
    bench_read(bench, leader, &asked);
    bench_run(bench, 5);
    bench_propose(bench, leader, "inc", &gathered);
    bench_read(bench, leader, &read);
    bench_crash(bench, leader, 0);
    assert_int_equal(appended.status, ST_UNKNOWN);
    assert_int_equal(gathered.status, ST_SHUTDOWN);
    assert_int_equal(asked.status, ST_SHUTDOWN);
    assert_int_equal(read.status, ST_SHUTDOWN);
    bench_destroy(&bench);
}

/* ---- Reads ---- */

static void reads_see_everything_committed_before(void **state)
{
    struct bench *bench = started(3, 8);
    raft_id leader = bench_leader(bench);
    struct bench_call read[3];

    (void)state;
    for (int64_t i = 1; i <= 20; i++) {
        assert_int_equal(bench_inc(bench), i);
        for (size_t k = 0; k < 3; k++) {
            bench_read(bench, leader, &read[k]);
            assert_int_equal(read[k].ended, 0);
        }
        assert_true(bench_run_until_ended(bench, &read[2], 100));
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(read[k].status, ST_OK);
            assert_int_equal(read[k].value, i);
        }
    }
    assert_int_equal(stats(bench, leader)->reads_ok, 60);
    bench_destroy(&bench);
}

/* More is committed at once than one turn applies: the read is confirmed before the state is there,
 * and waits for it. */
static void a_read_waits_until_its_index_is_applied(void **state)
{
    enum { N = 20000 };
    struct bench *bench = started(3, 9);
    struct bench_call *calls = mem_zalloc(N * sizeof(*calls)), read;
    raft_id leader = bench_leader(bench);
    struct group *group = bench_replica(bench, leader)->group;
    raft_index before;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        bench_propose(bench, leader, "inc", &calls[i]);
    }
    before = group_applied_index(group);
    while (raft_commit_index(group_raft(group)) < before + N) {
        bench_turn(bench);
    }
    assert_true(group_applied_index(group) < before + N);
    assert_true(group_next_deadline_ms(group) <= bench_now_ms(bench));
    bench_read(bench, leader, &read);
    assert_true(bench_run_until_ended(bench, &read, 100));
    assert_int_equal(read.status, ST_OK);
    assert_int_equal(read.value, N);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(calls[i].status, ST_OK);
        assert_int_equal(calls[i].ended, 1);
    }
    mem_free(calls);
    bench_destroy(&bench);
}

static void no_turn_applies_more_than_its_budget(void **state)
{
    enum { N = 9000 };
    struct bench *bench = started(1, 10);
    struct bench_call *calls = mem_zalloc(N * sizeof(*calls));
    struct group *group = bench_replica(bench, 1)->group;
    raft_index before = group_applied_index(group);
    int turns = 0;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        bench_propose(bench, 1, "inc", &calls[i]);
    }
    while (group_applied_index(group) < before + N) {
        raft_index from = group_applied_index(group);
        bench_turn(bench);
        assert_true(group_applied_index(group) - from <= 4096);
        assert_true(turns++ < 10);
    }
    for (size_t i = 0; i < 20; i++) { /* the same by bytes */
        bench_propose(bench, 1, "pad 1000000", &calls[i]);
    }
    before = group_applied_index(group);
    for (turns = 0; group_applied_index(group) < before + 20; turns++) {
        raft_index from = group_applied_index(group);
        bench_turn(bench);
        assert_true(group_applied_index(group) - from <= 5 && turns < 10);
    }
    mem_free(calls);
    bench_destroy(&bench);
}

static void a_deposed_leader_serves_no_read(void **state)
{
    struct bench *bench = started(3, 11);
    raft_id old = bench_leader(bench);
    struct bench_call before, after;

    (void)state;
    bench_inc(bench);
    bench_replica(bench, old)->cut = true;
    bench_read(bench, old, &before); /* it still thinks that it leads */
    assert_int_equal(bench_inc(bench), 2);
    if (group_is_leader(bench_replica(bench, old)->group)) {
        bench_read(bench, old, &after);
        bench_run(bench, 1000);
        assert_int_equal(after.status, ST_NOT_LEADER);
    }
    bench_run(bench, 1000);
    assert_int_equal(before.ended, 1);
    assert_int_equal(before.status, ST_NOT_LEADER);
    bench_destroy(&bench);
}

/* A message to a peer whose link is down would only be dropped: it is not made. */
static void a_peer_that_is_away_is_sent_nothing(void **state)
{
    struct bench *bench = started(3, 71);
    raft_id leader = bench_leader(bench);
    uint32_t sent;

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        if (id != leader) {
            bench_crash(bench, id, 0);
        }
    }
    sent = bench_replica(bench, leader)->sent;
    bench_run(bench, 3000); /* heartbeats, then it steps down and stands for election */
    assert_int_equal(bench_replica(bench, leader)->sent, sent);
    bench_start_all(bench);
    assert_int_equal(bench_inc(bench), 1);
    bench_converge(bench);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_replica_applies_what_is_proposed),
        cmocka_unit_test(three_replicas_apply_the_same),
        cmocka_unit_test(a_follower_refuses_at_once),
        cmocka_unit_test(a_proposal_overwritten_by_another_leader_was_not_applied),
        cmocka_unit_test(a_proposal_overwritten_by_an_earlier_term_was_not_applied),
        cmocka_unit_test(a_proposal_that_survives_its_leader_is_ok),
        cmocka_unit_test(a_proposal_that_a_snapshot_jumped_over_is_unknown),
        cmocka_unit_test(destroying_ends_everything),
        cmocka_unit_test(reads_see_everything_committed_before),
        cmocka_unit_test(a_read_waits_until_its_index_is_applied),
        cmocka_unit_test(no_turn_applies_more_than_its_budget),
        cmocka_unit_test(a_deposed_leader_serves_no_read),
        cmocka_unit_test(a_peer_that_is_away_is_sent_nothing),
    };

    return cmocka_run_group_tests_name("rsm_group", tests, NULL, NULL);
}
