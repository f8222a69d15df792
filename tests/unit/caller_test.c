/* Unit tests of client/caller: one call to a group of three replicas, told as stories. What may
 * have happened to lost tries has a file of its own. */
#include "tests/cmocka.h"
#include "tests/unit/caller_story.h"

/* ---- The plain course ---- */

static void the_first_try_leaves_at_once_and_its_answer_is_the_end(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    start(story, false, 1000);
    assert_int_equal(story->world.n_events, 1);
    assert_int_equal(story->ended.times, 0);
    fake_run(&story->world, story->world.now + 2);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_OK);
    assert_false(story->ended.maybe_applied);
    assert_string_equal(story->ended.url, "tcp://g0:1");
    assert_int_equal(caller_outstanding(story->caller), 0);
    assert_true(caller_next_deadline_ms(story->caller) == UINT64_MAX);
}

static void a_hint_is_followed_at_once_and_the_leader_remembered(void **state)
{
    struct story *story = *state;

    story->world.leader[0] = 3;
    learn_leader(story);
    story->world.leader[0] = 2;
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 4); /* two round trips and no pause */
    assert_int_equal(story->ended.status, ST_OK);
    assert_string_equal(story->ended.url, "tcp://g0:2");
    assert_int_equal(replica(story, 3)->requests, 1);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 2);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(requests(story), 3);
}

static void without_a_hint_the_next_replica_is_asked_after_a_pause(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    story->world.leader[0] = 2;
    refuse(story, 1, ST_NOT_LEADER, 0, 0);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 3);
    assert_int_equal(story->ended.times, 0);
    assert_int_equal(requests(story), 1);
    fake_run(&story->world, story->world.now + 20);
    assert_int_equal(story->ended.status, ST_OK);
    assert_false(story->ended.maybe_applied);
}

/* However long it has waited, less than the 200 ms that it pauses for elsewhere. */
static void a_new_leader_is_found_soon_after_its_election(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    for (uint32_t id = 1; id <= 3; id++) {
        refuse(story, id, ST_NOT_LEADER, 0, 0);
    }
    start(story, false, 5000);
    fake_run(&story->world, story->world.now + 600);
    assert_int_equal(story->ended.times, 0);
    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_NONE, 0);
    }
    story->world.leader[0] = 2;
    fake_run(&story->world, story->world.now + 60);
    assert_int_equal(story->ended.status, ST_OK);
    assert_in_range(requests(story), 15, 60); /* and nobody was asked all the time */
}

static void hints_that_lead_in_a_circle_are_followed_with_pauses(void **state)
{
    struct story *story = *state;

    refuse(story, 1, ST_NOT_LEADER, 2, 0);
    refuse(story, 2, ST_NOT_LEADER, 3, 0);
    refuse(story, 3, ST_NOT_LEADER, 1, 0);
    start(story, false, 2000);
    fake_run(&story->world, story->world.now + 2000);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_false(story->ended.maybe_applied);
    assert_in_range(requests(story), 10, 200);
}

static void a_hint_to_a_stranger_is_no_hint(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    refuse(story, 1, ST_NOT_LEADER, 200, 1);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 100);
    assert_int_equal(story->ended.status, ST_OK);
}

static void hints_by_ids_that_the_client_does_not_know_lead_nobody_astray(void **state)
{
    struct story *story = *state;

    /* A client that knows URLs only numbers them as it likes. */
    for (uint32_t shift = 0; shift < 3; shift++) {
        for (uint32_t leader = 1; leader <= 3; leader++) {
            story->world.id_shift = shift;
            story->world.leader[0] = leader;
            start(story, false, 1000);
            fake_run(&story->world, story->world.now + 100);
            assert_int_equal(story->ended.times, 1);
            assert_int_equal(story->ended.status, ST_OK);
        }
    }
}

static void a_busy_leader_is_asked_again_after_a_pause(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    refuse(story, 1, ST_BUSY, 1, 2);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 50);
    assert_int_equal(story->ended.status, ST_OK);
    assert_false(story->ended.maybe_applied);
    assert_int_equal(replica(story, 1)->requests, 3);
    assert_int_equal(requests(story), 3);
}

static void a_leader_that_shuts_down_is_left(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    refuse(story, 1, ST_SHUTDOWN, 0, 0);
    story->world.leader[0] = 3;
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 100);
    assert_int_equal(story->ended.status, ST_OK);
    assert_string_equal(story->ended.url, "tcp://g0:3");
    assert_false(story->ended.maybe_applied);
}

/* It hands over meanwhile, which takes some ten milliseconds: who waits for that does not wait much
 * longer. */
static void a_hand_over_is_not_waited_for_longer_than_it_takes(void **state)
{
    for (uint64_t takes_ms = 5; takes_ms <= 45; takes_ms++) {
        struct story *story;
        uint64_t began;

        story_end(state);
        story_begin(state);
        story = *state;
        learn_leader(story);
        refuse(story, 1, ST_SHUTDOWN, 2, 0);
        refuse(story, 2, ST_NOT_LEADER, 1, 0);
        refuse(story, 3, ST_NOT_LEADER, 0, 0);
        story->world.leader[0] = 2;
        began = story->world.now;
        start(story, false, 1000);
        fake_run(&story->world, began + takes_ms);
        set_fault(story, 2, FAULT_NONE, 0);
        fake_run(&story->world, began + 500);
        assert_int_equal(story->ended.status, ST_OK);
        assert_string_equal(story->ended.url, "tcp://g0:2");
        assert_in_range(story->ended.at - began, takes_ms, takes_ms + takes_ms / 4 + 9);
    }
}

static void who_has_no_space_is_named_whatever_the_others_say(void **state)
{
    struct story *story = *state;

    refuse(story, 1, ST_READ_ONLY, 0, 0);
    refuse(story, 2, ST_NOT_LEADER, 1, 0);
    refuse(story, 3, ST_NOT_LEADER, 1, 0);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 1100);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_non_null(strstr(story->ended.reason, "tcp://g0:1: read-only"));
    assert_non_null(strstr(story->ended.reason, "free some on its disk"));
}

static void a_definite_refusal_is_the_end(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    refuse(story, 1, ST_CONFLICT, 0, 0);
    start(story, false, 1000);
    fake_run(&story->world, story->world.now + 2);
    assert_int_equal(story->ended.status, ST_CONFLICT);
    assert_true(story->ended.answered);
    assert_false(story->ended.maybe_applied);
}

/* ---- Ends from outside ---- */

static void cancelling_says_what_may_have_happened(void **state)
{
    struct story *story = *state;
    struct ended other;
    uint64_t call;

    learn_leader(story);
    set_fault(story, 1, FAULT_SILENT, 0);
    call = start(story, false, 1000);
    caller_cancel(story->caller, call);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_CANCELLED);
    assert_true(story->ended.maybe_applied);
    caller_cancel(story->caller, call);
    assert_int_equal(story->ended.times, 1);

    start_to(story, "", false, true, 1000, &other);
    caller_destroy(&story->caller);
    story->world.caller = NULL;
    assert_int_equal(other.times, 1);
    assert_int_equal(other.status, ST_CANCELLED);
    assert_false(other.maybe_applied);
}

static void messages_for_others_are_not_taken(void **state)
{
    struct story *story = *state;
    struct proto_response response = {.op = PROTO_PING, .request_id = 12345};
    struct buf message = {0};

    start(story, true, 1000);
    proto_response_encode(&response, &message);
    assert_false(caller_on_message(story->caller, story->world.now, buf_slice(&message)));
    assert_false(caller_on_message(story->caller, story->world.now, slice_text("rubbish")));
    assert_int_equal(story->ended.times, 0);
    buf_fini(&message);
}

static void the_server_is_told_how_long_the_answer_matters(void **state)
{
    struct story *story = *state;
    struct proto_request request;

    start(story, true, 777);
    assert_true(proto_request_decode(buf_slice(&story->world.events[0].message), &request));
    assert_int_equal(request.deadline_ms, 777);
    proto_request_fini(&request);
}

/* ---- Preferred replicas ---- */

static void the_preferred_replica_is_asked_first_each_time(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    for (int i = 0; i < 3; i++) {
        start_to(story, "tcp://g0:2", false, false, 1000, &story->ended);
        fake_run(&story->world, story->world.now + 10);
        assert_int_equal(story->ended.status, ST_OK); /* the others follow when it refuses */
    }
    assert_int_equal(replica(story, 2)->requests, 3);
    assert_int_equal(replica(story, 1)->requests, 3);
}

static void a_preferred_replica_that_is_silent_is_left_for_a_while(void **state)
{
    struct story *story = *state;

    learn_leader(story);
    set_fault(story, 2, FAULT_SILENT, 0);
    start_to(story, "tcp://g0:2", false, false, 5000, &story->ended);
    fake_run(&story->world, story->world.now + 1010);
    assert_int_equal(story->ended.status, ST_OK);
    start_to(story, "tcp://g0:2", false, false, 5000, &story->ended);
    fake_run(&story->world, story->world.now + 2);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(replica(story, 2)->requests, 1);
    fake_run(&story->world, story->world.now + 1000);
    set_fault(story, 2, FAULT_NONE, 0);
    start_to(story, "tcp://g0:2", false, false, 5000, &story->ended);
    fake_run(&story->world, story->world.now + 10);
    assert_int_equal(replica(story, 2)->requests, 2);
}

static void asked_alone_a_replica_answers_for_itself(void **state)
{
    struct story *story = *state;

    start_to(story, "tcp://g0:3", true, false, 1000, &story->ended);
    fake_run(&story->world, story->world.now + 2);
    assert_int_equal(story->ended.status, ST_NOT_LEADER);
    assert_true(story->ended.answered);
    assert_int_equal(replica(story, 1)->requests, 0);
}

static void asked_alone_a_replica_that_is_down_shows_at_once(void **state)
{
    struct story *story = *state;

    set_fault(story, 3, FAULT_UNREACHABLE, 0);
    start_to(story, "tcp://g0:3", true, true, 1000, &story->ended);
    fake_run(&story->world, story->world.now + 2);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);

    set_fault(story, 3, FAULT_BREAK, 1); /* an old connection: the second try gets through */
    start_to(story, "tcp://g0:3", true, true, 1000, &story->ended);
    fake_run(&story->world, story->world.now + 10);
    assert_int_equal(story->ended.status, ST_NOT_LEADER);

    set_fault(story, 3, FAULT_SILENT, 0);
    start_to(story, "tcp://g0:3", true, true, 400, &story->ended);
    fake_run(&story->world, story->world.now + 400);
    assert_int_equal(story->ended.status, ST_TIMEOUT);
}

/* ---- Everything at once ---- */

static void random_fault(struct fake_cluster *world, struct fake_server *server)
{
    static const enum status refusals[] = {ST_NOT_LEADER, ST_BUSY,     ST_NOT_READY,
                                           ST_READ_ONLY,  ST_SHUTDOWN, ST_UNKNOWN};

    server->fault = (enum fault)rng_below(&world->rng, FAULT_GARBLE + 1);
    server->times = (uint32_t)rng_below(&world->rng, 4);
    server->refusal = refusals[rng_below(&world->rng, 6)];
    server->hint = (uint32_t)rng_below(&world->rng, 5);
    server->slow_ms = rng_below(&world->rng, 3000);
}

static void every_call_ends_once_and_by_its_deadline(void **state)
{
    struct story *story = *state;
    struct ended *ended = mem_zalloc(2000 * sizeof(ended[0]));
    uint64_t *deadlines = mem_zalloc(2000 * sizeof(deadlines[0]));

    for (size_t i = 0; i < 2000; i++) {
        uint64_t timeout = 1 + rng_below(&story->world.rng, 4000);

        random_fault(&story->world, replica(story, 1 + (uint32_t)rng_below(&story->world.rng, 3)));
        story->world.leader[0] = 1 + (uint32_t)rng_below(&story->world.rng, 3);
        deadlines[i] = story->world.now + timeout;
        start_to(story, i % 7 == 0 ? "tcp://g0:2" : "", i % 14 == 0, i % 3 == 0, timeout,
                 &ended[i]);
        fake_run(&story->world, story->world.now + rng_below(&story->world.rng, 30));
    }
    fake_run(&story->world, story->world.now + 10000);
    assert_int_equal(caller_outstanding(story->caller), 0);
    for (size_t i = 0; i < 2000; i++) {
        assert_int_equal(ended[i].times, 1);
        assert_true(ended[i].at <= deadlines[i]);
        assert_true(i % 3 != 0 || ended[i].status != ST_UNKNOWN || i % 14 == 0);
        assert_true(strlen(ended[i].reason) > 0);
    }
    mem_free(ended);
    mem_free(deadlines);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(the_first_try_leaves_at_once_and_its_answer_is_the_end),
        STORY(a_hint_is_followed_at_once_and_the_leader_remembered),
        STORY(without_a_hint_the_next_replica_is_asked_after_a_pause),
        STORY(a_new_leader_is_found_soon_after_its_election),
        STORY(hints_that_lead_in_a_circle_are_followed_with_pauses),
        STORY(a_hint_to_a_stranger_is_no_hint),
        STORY(hints_by_ids_that_the_client_does_not_know_lead_nobody_astray),
        STORY(a_busy_leader_is_asked_again_after_a_pause),
        STORY(who_has_no_space_is_named_whatever_the_others_say),
        STORY(a_hand_over_is_not_waited_for_longer_than_it_takes),
        STORY(a_leader_that_shuts_down_is_left),
        STORY(a_definite_refusal_is_the_end),
        STORY(cancelling_says_what_may_have_happened),
        STORY(messages_for_others_are_not_taken),
        STORY(the_server_is_told_how_long_the_answer_matters),
        STORY(the_preferred_replica_is_asked_first_each_time),
        STORY(a_preferred_replica_that_is_silent_is_left_for_a_while),
        STORY(asked_alone_a_replica_answers_for_itself),
        STORY(asked_alone_a_replica_that_is_down_shows_at_once),
        STORY(every_call_ends_once_and_by_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
