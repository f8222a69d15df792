/* When rounds begin: who comes alone goes at once, who comes with others goes with them. */
#include "raft/rsm/group.h"
#include "tests/unit/rsm_story.h"

static raft_index last_index(struct bench *bench, raft_id id)
{
    return raft_last_index(group_raft(bench_replica(bench, id)->group));
}

static void end_turn(struct bench *bench, raft_id id)
{
    bench_event(bench, id, &(struct io_event){.type = IO_EVENT_TURN_END});
}

static void one_alone_is_appended_at_once(void **state)
{
    struct bench *bench = started(3, 31);
    raft_id leader = bench_leader(bench);

    (void)state;
    for (int i = 0; i < 20; i++) {
        raft_index before = last_index(bench, leader);
        struct bench_call call;

        bench_propose(bench, leader, "inc", &call);
        end_turn(bench, leader);
        assert_int_equal(last_index(bench, leader), before + 1);
        assert_true(bench_run_until_ended(bench, &call, 100));
    }
    bench_destroy(&bench);
}

static void who_comes_while_a_round_is_running_goes_with_the_next(void **state)
{
    struct bench *bench = started(3, 32);
    raft_id leader = bench_leader(bench);
    raft_index before = last_index(bench, leader);
    struct bench_call calls[5];

    (void)state;
    bench_propose(bench, leader, "inc", &calls[0]);
    end_turn(bench, leader);
    for (size_t i = 1; i < 5; i++) {
        bench_propose(bench, leader, "inc", &calls[i]);
        end_turn(bench, leader);
        assert_int_equal(last_index(bench, leader), before + 1);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_true(bench_run_until_ended(bench, &calls[i], 100));
        assert_int_equal(calls[i].status, ST_OK);
    }
    bench_destroy(&bench);
}

/* A majority that is far away (here: gone) holds nobody up for longer than company_ms. */
static void nobody_waits_for_long(void **state)
{
    struct bench *bench = started(3, 33);
    raft_id leader = bench_leader(bench);
    raft_index before = last_index(bench, leader);
    struct bench_call calls[2];

    (void)state;
    for (raft_id id = 1; id <= 3; id++) {
        bench_replica(bench, id)->cut = id != leader;
    }
    bench_propose(bench, leader, "inc", &calls[0]);
    end_turn(bench, leader);
    bench_propose(bench, leader, "inc", &calls[1]);
    end_turn(bench, leader);
    assert_int_equal(last_index(bench, leader), before + 1);
    bench_run(bench, bench_options(bench)->company_ms + 1);
    assert_int_equal(last_index(bench, leader), before + 2);
    bench_destroy(&bench);
}

/* What is urgent takes along who waits; the next one waits again. */
static void who_is_in_a_hurry_waits_for_nobody(void **state)
{
    struct bench *bench = started(3, 35);
    raft_id leader = bench_leader(bench);
    raft_index before = last_index(bench, leader);
    struct bench_call calls[4];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        bench_propose(bench, leader, "inc", &calls[i]);
        if (i == 2) {
            group_hurry(bench_replica(bench, leader)->group);
        }
        end_turn(bench, leader);
        assert_int_equal(last_index(bench, leader), before + (i < 2 ? 1 : 3));
    }
    for (size_t i = 0; i < 4; i++) {
        assert_true(bench_run_until_ended(bench, &calls[i], 100));
        assert_int_equal(calls[i].status, ST_OK);
    }
    bench_destroy(&bench);
}

/* Losing leadership answers those who still wait to be appended: they certainly were not. */
static void who_waits_is_refused_when_leadership_is_lost(void **state)
{
    struct bench *bench = bench_create(3, 34);
    struct bench_call calls[2];
    raft_id leader;

    (void)state;
    bench_options(bench)->company_ms = 100000;
    bench_start_all(bench);
    leader = bench_leader(bench);
    bench_propose(bench, leader, "inc", &calls[0]);
    end_turn(bench, leader);
    bench_propose(bench, leader, "inc", &calls[1]);
    end_turn(bench, leader);
    bench_replica(bench, leader)->cut = true;
    assert_true(bench_run_until_ended(bench, &calls[1], 2000));
    assert_int_equal(calls[1].status, ST_NOT_LEADER);
    bench_destroy(&bench);
}

/* After eight at once, one waits until half of them are there again, or a millisecond has passed;
 * when the crowd is gone, one goes alone again. */
static void after_a_crowd_one_waits_for_some_of_it(void **state)
{
    struct rsm_company company = {0};

    (void)state;
    for (uint32_t n = 1; n <= 8; n++) {
        rsm_company_note(&company, n, 1000);
    }
    company.round_ms = 1000;
    assert_int_equal(rsm_company_deadline_ms(&company, 8, false, 1, 1000), 1000);
    assert_int_equal(rsm_company_deadline_ms(&company, 8, true, 1, 1000), 1001);
    assert_int_equal(rsm_company_deadline_ms(&company, 1, false, 1, 1000), 1001);
    assert_int_equal(rsm_company_deadline_ms(&company, 3, false, 1, 1000), 1001);
    assert_int_equal(rsm_company_deadline_ms(&company, 4, false, 1, 1000), 1000);
    rsm_company_note(&company, 1, 1100);
    company.round_ms = 1100;
    assert_int_equal(rsm_company_deadline_ms(&company, 1, false, 1, 1100), 1100);
}

/* On a busy machine one round begins in each span, unless many are there, or hardly anybody is. */
static void on_a_busy_machine_rounds_keep_a_pace(void **state)
{
    struct rsm_company company = {.pace_ms = 2, .round_ms = 1000};

    (void)state;
    rsm_company_note(&company, 2, 1000);
    assert_int_equal(rsm_company_deadline_ms(&company, 1, false, 3, 1000), 1000);
    rsm_company_note(&company, 6, 1000);
    assert_int_equal(rsm_company_deadline_ms(&company, 4, false, 3, 1000), 1002);
    assert_int_equal(rsm_company_deadline_ms(&company, 4, false, 3, 1001), 1002);
    assert_int_equal(rsm_company_deadline_ms(&company, 8, false, 3, 1001), 1001);
    company.round_ms = 1001;
    assert_int_equal(rsm_company_deadline_ms(&company, 4, false, 3, 1001), 1002);
    company.pace_ms = 0;
    assert_int_equal(rsm_company_deadline_ms(&company, 4, false, 3, 1001), 1001);
}

/* A read and a proposal that were gathered while a round was running go together: one write, one
 * ReadIndex round. */
static void reads_and_proposals_share_a_round(void **state)
{
    struct bench *bench = started(3, 36);
    raft_id leader = bench_leader(bench);
    struct group *group = bench_replica(bench, leader)->group;
    raft_index before = last_index(bench, leader);
    uint64_t rounds = group->stats.read_rounds;
    struct bench_call calls[3];

    (void)state;
    bench_propose(bench, leader, "inc", &calls[0]);
    end_turn(bench, leader);
    bench_read(bench, leader, &calls[1]);
    end_turn(bench, leader);
    bench_propose(bench, leader, "inc", &calls[2]);
    end_turn(bench, leader);
    assert_int_equal(group->stats.read_rounds, rounds); /* it waits for the proposals' round, too */
    for (size_t i = 0; i < 3; i++) {
        assert_true(bench_run_until_ended(bench, &calls[i], 100));
        assert_int_equal(calls[i].status, ST_OK);
    }
    assert_int_equal(last_index(bench, leader), before + 2);
    assert_int_equal(group->stats.read_rounds, rounds + 1);
    bench_destroy(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_alone_is_appended_at_once),
        cmocka_unit_test(who_comes_while_a_round_is_running_goes_with_the_next),
        cmocka_unit_test(nobody_waits_for_long),
        cmocka_unit_test(who_is_in_a_hurry_waits_for_nobody),
        cmocka_unit_test(on_a_busy_machine_rounds_keep_a_pace),
        cmocka_unit_test(reads_and_proposals_share_a_round),
        cmocka_unit_test(who_waits_is_refused_when_leadership_is_lost),
        cmocka_unit_test(after_a_crowd_one_waits_for_some_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
