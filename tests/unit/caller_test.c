/* Unit tests of client/caller: one call to a group of three replicas, told as stories. The fake
 * cluster's controller group (gid 0) stands for any group: PING is a read, MOVE a change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>

#include "tests/unit/fake_cluster.h"

struct ended {
    int times;
    enum status status;
    bool maybe_applied;
    bool answered;
    uint64_t at;
    char url[64];
    char reason[400];
};

struct story {
    struct fake_cluster world;
    struct caller *caller;
    struct ended ended;
};

static void note_end(void *context, const struct caller_end *end)
{
    struct ended *ended = context;

    ended->times++;
    ended->status = end->status;
    ended->maybe_applied = end->maybe_applied;
    ended->answered = end->response != NULL;
    ended->at = end->now_ms;
    snprintf(ended->url, sizeof(ended->url), "%s", end->url != NULL ? end->url : "");
    snprintf(ended->reason, sizeof(ended->reason), "%s", end->reason);
}

static int story_begin(void **state)
{
    struct story *story = mem_zalloc(sizeof(*story));
    struct caller_options options;

    fake_init(&story->world, 1);
    caller_options_default(&options);
    options.seed = 7;
    options.transport.context = &story->world;
    options.transport.send = fake_send;
    options.transport.withdraw = fake_withdraw;
    story->caller = story->world.caller = caller_create(&options);
    *state = story;
    return 0;
}

static int story_end(void **state)
{
    struct story *story = *state;

    if (story->caller != NULL) {
        caller_destroy(&story->caller);
    }
    fake_fini(&story->world);
    mem_free(story);
    return 0;
}

static uint64_t start_to(struct story *story, const char *prefer, bool only, bool is_read,
                         uint64_t timeout_ms, struct ended *ended)
{
    struct proto_request request = {.op = is_read ? PROTO_PING : PROTO_MOVE};
    struct caller_target target = {.only_prefer = only};

    fake_spec(0, &target.replicas);
    snprintf(target.prefer, sizeof(target.prefer), "%s", prefer);
    memset(ended, 0, sizeof(*ended));
    return caller_start(story->caller, &target, &request, is_read, story->world.now,
                        story->world.now + timeout_ms, note_end, ended);
}

static uint64_t start(struct story *story, bool is_read, uint64_t timeout_ms)
{
    return start_to(story, "", false, is_read, timeout_ms, &story->ended);
}

static struct fake_server *replica(struct story *story, uint32_t id)
{
    return fake_server(&story->world, 0, id);
}

static void set_fault(struct story *story, uint32_t id, enum fault fault, uint32_t times)
{
    replica(story, id)->fault = fault;
    replica(story, id)->times = times;
}

static void refuse(struct story *story, uint32_t id, enum status status, uint32_t hint,
                   uint32_t times)
{
    set_fault(story, id, FAULT_REFUSE, times);
    replica(story, id)->refusal = status;
    replica(story, id)->hint = hint;
}

/* Makes the caller know its leader. */
static void learn_leader(struct story *story)
{
    start(story, true, 1000);
    fake_run(&story->world, story->world.now + 1000);
    assert_int_equal(story->ended.status, ST_OK);
    for (uint32_t id = 1; id <= 3; id++) {
        replica(story, id)->requests = 0;
    }
}

static uint32_t requests(struct story *story)
{
    return replica(story, 1)->requests + replica(story, 2)->requests + replica(story, 3)->requests;
}

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
    assert_in_range(requests(story), 10, 100);
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

/* ---- What is not known ---- */

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
    uint64_t deadline = story->world.now + 700;

    for (uint32_t id = 1; id <= 3; id++) {
        set_fault(story, id, FAULT_UNREACHABLE, 0);
    }
    start(story, false, 700);
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
        STORY(hints_that_lead_in_a_circle_are_followed_with_pauses),
        STORY(a_hint_to_a_stranger_is_no_hint),
        STORY(hints_by_ids_that_the_client_does_not_know_lead_nobody_astray),
        STORY(a_busy_leader_is_asked_again_after_a_pause),
        STORY(a_leader_that_shuts_down_is_left),
        STORY(a_definite_refusal_is_the_end),
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
        STORY(a_restarted_server_is_not_blamed_for_tries_on_its_new_connection),
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
