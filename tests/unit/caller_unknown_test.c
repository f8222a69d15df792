/* Unit tests of client/caller: what is known of a call whose tries were lost. */
#include "tests/cmocka.h"
#include "tests/unit/caller_story.h"

static void a_change_sent_on_a_connection_that_broke_may_be_applied(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    set_fault(story, 1, FAULT_BREAK, 1);
    story->world.leader[0] = 0; /* from then on all refuse */
    start(story, false, 500);
    fake_run(&story->world, story->world.now + 500);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_true(story->ended.maybe_applied);
}

static void after_a_broken_connection_another_replica_is_asked_at_once(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    set_fault(story, 1, FAULT_BREAK, 0);
    story->world.leader[0] = 2;
    start(story, false, 500);
    fake_run(&story->world, story->world.now + 6);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->ended.maybe_applied); /* told, though the answer settles it */
}

static void servers_that_cannot_be_reached_have_applied_nothing(void **state)
{
    struct story *story = *state;
    uint64_t deadline = story->world.now + 690;

    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_UNREACHABLE, 0);
    }
    start(story, false, 690);
    fake_run(&story->world, deadline);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_false(story->ended.maybe_applied);
    assert_true(story->ended.at == deadline);
    assert_non_null(strstr(story->ended.reason, "can't be reached"));
}

static void what_never_left_is_taken_back_at_the_deadline(void **state)
{
    struct story *story = *state;

    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_HELD, 0);
        replica(story, id)->slow_ms = 5000;
    }
    start(story, false, 2500);
    fake_run(&story->world, story->world.now + 2500);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_false(story->ended.maybe_applied);
    fake_run(&story->world, story->world.now + 20000);
    assert_int_equal(requests(story), 0); /* and does not leave later */
}

static void after_silence_another_replica_is_asked(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    set_fault(story, 1, FAULT_SILENT, 0);
    story->world.leader[0] = 2;
    start(story, false, 5000);
    fake_run(&story->world, story->world.now + 999);
    assert_int_equal(requests(story), 1);
    fake_run(&story->world, story->world.now + 10);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->ended.maybe_applied);
}

static void silence_to_the_deadline_leaves_a_change_unknown_and_a_read_not(void **state)
{
    struct story *story = *state;
    struct ended read;
    uint64_t deadline = story->world.now + 3000;

    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_SILENT, 0);
    }
    start(story, false, 3000);
    start_to(story, "", false, true, 3000, &read);
    fake_run(&story->world, deadline - 1);
    assert_int_equal(story->ended.times + read.times, 0);
    fake_run(&story->world, deadline);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_int_equal(read.times, 1);
    assert_int_equal(read.status, ST_TIMEOUT);
    assert_false(read.maybe_applied);
    assert_true(read.at == deadline);
}

static void a_late_answer_to_an_earlier_try_counts(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    set_fault(story, 1, FAULT_SLOW, 1);
    replica(story, 1)->slow_ms = 1500;
    set_fault(story, 2, FAULT_SILENT, 0);
    set_fault(story, 3, FAULT_SILENT, 0);
    start(story, false, 5000);
    fake_run(&story->world, story->world.now + 1600);
    assert_int_equal(story->ended.status, ST_OK);
    assert_string_equal(story->ended.url, "tcp://g0:1");
}

static void a_late_refusal_makes_an_earlier_try_certain(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    set_fault(story, 1, FAULT_SLOW, 1);
    replica(story, 1)->slow_ms = 1500;
    story->world.leader[0] = 2; /* so that replica 1 will say NOT_LEADER, late */
    refuse(story, 2, ST_BUSY, 0, 0);
    set_fault(story, 3, FAULT_UNREACHABLE, 0);
    start(story, false, 2000);
    fake_run(&story->world, story->world.now + 2000);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_false(story->ended.maybe_applied);
}

static void a_server_that_does_not_know_the_end_leaves_it_unknown(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    refuse(story, 1, ST_UNKNOWN, 0, 1);
    refuse(story, 2, ST_BUSY, 0, 0);
    refuse(story, 3, ST_BUSY, 0, 0);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 4);
    refuse(story, 1, ST_NOT_LEADER, 0, 0);
    fake_run(&story->world, story->world.now + 1000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_true(story->ended.maybe_applied);
}

static void an_answer_that_means_nothing_leaves_it_unknown(void **state)
{
    struct story *story = *state;

    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_GARBLE, 0);
    }
    start(story, false, 500);
    fake_run(&story->world, story->world.now + 500);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_in_range(requests(story), 2, 50);
}

static void many_silent_tries_stay_unknown_when_the_first_are_forgotten(void **state)
{
    struct story *story = *state;

    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_SILENT, 0);
    }
    start(story, false, 15000);
    fake_run(&story->world, story->world.now + 12000);
    assert_in_range(requests(story), 10, 13);
    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_UNREACHABLE, 0); /* breaks what is outstanding, too */
    }
    fake_run(&story->world, story->world.now + 3000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
}

/* Whatever became of the others: the first may have been applied. */
static void a_forgotten_try_stays_unknown_when_all_the_others_were_refused(void **state)
{
    struct story *story = *state;

    story->world.leader[0] = 0;
    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_SILENT, 0);
    }
    start(story, false, 25000);
    fake_run(&story->world, story->world.now + 10);
    assert_int_equal(requests(story), 1);
    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_SLOW, 0);
        replica(story, id)->slow_ms = 9500;
    }
    fake_run(&story->world, story->world.now + 11000);
    assert_in_range(requests(story), 10, 13);
    for (uint32_t id = 1; id <= 3; id++) {
        refuse(story, id, ST_NOT_LEADER, 0, 0);
    }
    fake_run(&story->world, story->world.now + 15000);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
}

static void a_restarted_server_is_not_blamed_for_tries_on_its_new_connection(void **state)
{
    struct story *story = *state;
    struct ended second;

    learn_leader(story);
    set_fault(story, 1, FAULT_BREAK, 1);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 2);
    start_to(story, "tcp://g0:1", false, false, 1000, &second); /* after the break */
    fake_run(&story->world, story->world.now + 100);
    assert_int_equal(second.status, ST_OK);
    assert_false(second.maybe_applied);
}

struct restart {
    struct story *story;
    struct ended first, second;
};

/* The server is asked again, twice, while the end of its connection is still being told. */
static void ask_again(void *context, const struct caller_end *end)
{
    struct restart *restart = context;

    (void)end;
    start_to(restart->story, "tcp://g0:1", true, false, 1000, &restart->first);
    start_to(restart->story, "tcp://g0:1", true, false, 1000, &restart->second);
}

static void a_broken_connection_is_not_blamed_on_what_was_sent_since(void **state)
{
    struct story *story = *state;
    struct restart restart = {.story = story};
    struct proto_request request = {.op = PROTO_MOVE};
    struct caller_target target = {.prefer = "tcp://g0:1", .only_prefer = true};

    caller_start(story->caller, &target, &request, false, story->world.now, story->world.now + 1000,
                 ask_again, &restart);
    set_fault(story, 1, FAULT_BREAK, 1);
    fake_run(&story->world, story->world.now + 100);
    assert_int_equal(restart.first.status, ST_OK);
    assert_int_equal(restart.second.status, ST_OK);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_change_sent_on_a_connection_that_broke_may_be_applied),
        STORY(after_a_broken_connection_another_replica_is_asked_at_once),
        STORY(servers_that_cannot_be_reached_have_applied_nothing),
        STORY(what_never_left_is_taken_back_at_the_deadline),
        STORY(after_silence_another_replica_is_asked),
        STORY(silence_to_the_deadline_leaves_a_change_unknown_and_a_read_not),
        STORY(a_late_answer_to_an_earlier_try_counts),
        STORY(a_late_refusal_makes_an_earlier_try_certain),
        STORY(a_server_that_does_not_know_the_end_leaves_it_unknown),
        STORY(an_answer_that_means_nothing_leaves_it_unknown),
        STORY(many_silent_tries_stay_unknown_when_the_first_are_forgotten),
        STORY(a_forgotten_try_stays_unknown_when_all_the_others_were_refused),
        STORY(a_restarted_server_is_not_blamed_for_tries_on_its_new_connection),
        STORY(a_broken_connection_is_not_blamed_on_what_was_sent_since),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
