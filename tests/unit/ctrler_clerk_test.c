/* Unit tests of client/ctrler_clerk: the controller's verbs against the fake cluster's controllers,
 * and against controllers that answer as the test says. */
#include <stdio.h>

#include "raft/util/mem.h"
#include "tests/cmocka.h"
#include "tests/sim/fake_cluster.h"

struct ended {
    int times;
    enum status status;
    config_num num;
    char text[512];
    uint32_t n_shards;
};

struct story {
    struct fake_cluster world;
    struct caller *caller;
    struct ctrler_clerk *clerk;
    struct ended ended;
    /* Every change that was sent, in order. */
    struct proto_session sent[64];
    size_t n_sent;
    /* Instead of the fake servers' answers, in order; the last one goes on. */
    enum status script[8];
    size_t n_script, at;
    bool break_first;   /* the first change is lost with its connection */
    struct buf planned; /* what dry runs are answered with */
};

static void note_config(void *context, enum status status, const struct shard_config *config)
{
    struct story *story = context;

    story->ended.times++;
    story->ended.status = status;
    story->ended.num = config != NULL ? config->num : 0;
    story->ended.n_shards = config != NULL ? config->n_shards : 0;
    snprintf(story->ended.text, sizeof(story->ended.text), "%s", ctrler_clerk_reason(story->clerk));
}

static void note_change(void *context, enum status status, config_num num, const char *text)
{
    struct story *story = context;

    story->ended.times++;
    story->ended.status = status;
    story->ended.num = num;
    snprintf(story->ended.text, sizeof(story->ended.text), "%s", text);
}

static void note_plan(void *context, enum status status, const struct shard_config *config,
                      const char *text)
{
    note_config(context, status, config);
    note_change(context, status, config != NULL ? config->num : 0, text);
    ((struct story *)context)->ended.times--;
}

static void answer(struct story *story, const char *url, const struct proto_request *request)
{
    struct fake_server *server = fake_server_of_url(&story->world, url);
    struct proto_response response = {.op = request->op, .request_id = request->request_id};

    if (story->break_first) {
        story->break_first = false;
        fake_break(&story->world, server, false);
        return;
    }
    response.status = story->script[story->at];
    response.admin.num = 9;
    if (request->dry_run) {
        response.admin.planned = buf_slice(&story->planned);
    }
    response.text =
        response.status == ST_CONFLICT ? slice_text("the last group") : slice_of(NULL, 0);
    story->at += story->at + 1 < story->n_script;
    fake_respond(&story->world, server, &response, FAKE_LATENCY);
}

static const struct proto_session *session_of(const struct proto_request *request)
{
    switch (request->op) {
    case PROTO_JOIN:
        return &request->join.session;
    case PROTO_LEAVE:
        return &request->leave.session;
    case PROTO_MOVE:
        return &request->move.session;
    case PROTO_PAUSE:
        return &request->pause.session;
    default:
        return NULL;
    }
}

/* Changes are answered by the script, everything else by the fake cluster. */
static void send_scripted(void *context, uint32_t gid, const char *url, struct buf *message)
{
    struct story *story = context;
    struct proto_request request;
    const struct proto_session *session;

    assert_true(proto_request_decode(buf_slice(message), &request));
    session = session_of(&request);
    if (session != NULL) {
        story->sent[story->n_sent++ % 64] = *session;
    }
    if (request.op == PROTO_CONFIG || story->n_script == 0) {
        fake_send(&story->world, gid, url, message);
    } else {
        answer(story, url, &request);
        buf_fini(message);
    }
    proto_request_fini(&request);
}

static int story_begin(void **state)
{
    static const uint8_t client_id[16] = "one controller";
    struct story *story = mem_zalloc(sizeof(*story));
    struct caller_options options;
    struct spec ctrlers;

    fake_init(&story->world, 2);
    caller_options_default(&options);
    options.transport.context = story;
    options.transport.send = send_scripted;
    story->caller = story->world.caller = caller_create(&options);
    fake_spec(0, &ctrlers);
    story->clerk = ctrler_clerk_create(story->caller, &ctrlers, client_id);
    *state = story;
    return 0;
}

static int story_end(void **state)
{
    struct story *story = *state;

    if (story->clerk != NULL) {
        ctrler_clerk_destroy(&story->clerk);
    }
    caller_destroy(&story->caller);
    buf_fini(&story->planned);
    fake_fini(&story->world);
    mem_free(story);
    return 0;
}

static void run(struct story *story, uint64_t ms)
{
    fake_run(&story->world, story->world.now + ms);
}

static void script(struct story *story, enum status first, enum status second)
{
    story->script[0] = first;
    story->script[1] = second;
    story->n_script = 2;
    story->at = 0;
}

static void move(struct story *story, uint64_t timeout_ms)
{
    memset(&story->ended, 0, sizeof(story->ended));
    story->ended.status = (enum status)999; /* not ended */
    ctrler_clerk_move(story->clerk, 3, 2, story->world.now, story->world.now + timeout_ms,
                      note_change, story);
}

static void a_query_gives_the_configuration(void **state)
{
    struct story *story = *state;

    story->world.leader[0] = 2;
    ctrler_clerk_query(story->clerk, CONFIG_LATEST, 0, 0, story->world.now, story->world.now + 1000,
                       note_config, story);
    assert_int_equal(story->ended.times, 0);
    run(story, 1000);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->ended.num == 5);
    assert_int_equal(story->ended.n_shards, FAKE_SHARDS);
    assert_true(ctrler_clerk_time(story->clerk) == story->world.time);
}

static void a_query_that_nobody_answers_ends_in_time_with_a_reason(void **state)
{
    struct story *story = *state;

    for (uint32_t id = 1; id <= 3; id++) {
        fake_server(&story->world, 0, id)->fault = FAULT_UNREACHABLE;
    }
    ctrler_clerk_query(story->clerk, 7, 1, 99, story->world.now, story->world.now + 300,
                       note_config, story);
    run(story, 299);
    assert_int_equal(story->ended.times, 0);
    run(story, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_non_null(strstr(story->ended.text, "can't be reached"));
}

static void query(struct story *story)
{
    memset(&story->ended, 0, sizeof(story->ended));
    ctrler_clerk_query(story->clerk, CONFIG_LATEST, 0, 0, story->world.now, story->world.now + 1000,
                       note_config, story);
    run(story, 1000);
    assert_int_equal(story->ended.times, 1);
}

/* It learnt that one controller is left, and that one can't be reached: those that it was given at
 * first are asked the next time. If they are silent, it is the other way round. */
static void who_gets_no_answer_tries_the_controllers_known_at_first(void **state)
{
    struct story *story = *state;
    struct spec first = *ctrler_clerk_ctrlers(story->clerk), learnt = {.n = 1};

    story->world.leader[0] = 2;
    learnt.replicas[0] = *spec_find(&first, 3);
    ctrler_clerk_follow(story->clerk, &learnt);
    fake_server(&story->world, 0, 3)->fault = FAULT_UNREACHABLE;
    query(story);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_true(spec_equal(ctrler_clerk_ctrlers(story->clerk), &first));
    query(story);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(spec_equal(ctrler_clerk_ctrlers(story->clerk), &first));
    for (uint32_t id = 1; id <= 2; id++) {
        fake_server(&story->world, 0, id)->fault = FAULT_UNREACHABLE;
    }
    query(story);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_true(spec_equal(ctrler_clerk_ctrlers(story->clerk), &learnt));
}

/* Two operations that ask the same dead controllers and end together: the second one does not turn
 * the clerk back to the dead ones. */
static void operations_that_end_together_turn_to_the_others_once(void **state)
{
    struct story *story = *state;
    struct spec first = *ctrler_clerk_ctrlers(story->clerk), learnt = {.n = 1};

    story->world.leader[0] = 2;
    learnt.replicas[0] = *spec_find(&first, 3);
    ctrler_clerk_follow(story->clerk, &learnt);
    fake_server(&story->world, 0, 3)->fault = FAULT_UNREACHABLE;
    for (int i = 0; i < 2; i++) {
        ctrler_clerk_query(story->clerk, CONFIG_LATEST, 0, 0, story->world.now,
                           story->world.now + 1000, note_config, story);
    }
    run(story, 1000);
    assert_int_equal(story->ended.times, 2);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_true(spec_equal(ctrler_clerk_ctrlers(story->clerk), &first));
    query(story);
    assert_int_equal(story->ended.status, ST_OK);
}

static void a_change_tells_the_number_of_its_configuration(void **state)
{
    struct story *story = *state;
    struct proto_join_group groups[2] = {{.gid = 8}, {.gid = 9}};
    uint32_t gids[2] = {8, 9};

    ctrler_clerk_query(story->clerk, CONFIG_LATEST, 0, 0, story->world.now, story->world.now + 1000,
                       note_config, story); /* now the leader is known */
    run(story, 1000);
    fake_spec(1, &groups[0].replicas);
    fake_spec(2, &groups[1].replicas);
    ctrler_clerk_join(story->clerk, groups, 2, story->world.now, story->world.now + 1000,
                      note_change, story);
    run(story, 100);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->ended.num == 5);
    ctrler_clerk_leave(story->clerk, gids, 2, story->world.now, story->world.now + 1000,
                       note_change, story);
    run(story, 100);
    move(story, 1000);
    run(story, 100);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(story->n_sent, 3);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(story->sent[i].seq == i + 1);
        assert_true(story->sent[i].acked_seq == i);
    }
}

static void a_refusal_comes_with_the_servers_words(void **state)
{
    struct story *story = *state;

    script(story, ST_CONFLICT, ST_CONFLICT);
    move(story, 1000);
    run(story, 1000);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_CONFLICT);
    assert_string_equal(story->ended.text, "the last group");
}

static void a_pause_is_a_change_with_a_session(void **state)
{
    struct story *story = *state;

    story->break_first = true;
    script(story, ST_OK, ST_OK);
    ctrler_clerk_pause(story->clerk, true, story->world.now, story->world.now + 1000, note_change,
                       story);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->ended.num == 9);
    assert_int_equal(story->n_sent, 2);
    assert_true(story->sent[0].seq == 1);
    assert_memory_equal(&story->sent[0], &story->sent[1], sizeof(story->sent[0]));
}

/* Plans a move, after the configuration that the fake servers know. */
static void plan(struct story *story, uint64_t timeout_ms, bool broken)
{
    struct proto_request change = {.op = PROTO_MOVE, .move = {.shard = 3, .gid = 2}};
    struct shard_config config;

    shard_config_init(&config, 16);
    config.num = 9;
    buf_clear(&story->planned);
    shard_config_encode(&config, &story->planned);
    shard_config_fini(&config);
    story->planned.data[0] = broken ? 77 : story->planned.data[0];
    memset(&story->ended, 0, sizeof(story->ended));
    ctrler_clerk_plan(story->clerk, &change, story->world.now, story->world.now + timeout_ms,
                      note_plan, story);
}

static void a_dry_run_is_a_read_without_a_session(void **state)
{
    struct story *story = *state;

    story->break_first = true; /* a read is simply tried again */
    script(story, ST_OK, ST_OK);
    plan(story, 1000, false);
    run(story, 1000);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->ended.num == 9);
    assert_int_equal(story->ended.n_shards, 16);
    assert_int_equal(story->n_sent, 2);
    assert_true(story->sent[0].seq == 0);
    move(story, 1000);
    run(story, 1000);
    assert_true(story->sent[2].seq == 1); /* no number was used up */
}

static void a_dry_run_is_refused_or_unavailable_but_never_unknown(void **state)
{
    struct story *story = *state;

    script(story, ST_CONFLICT, ST_CONFLICT);
    plan(story, 1000, false);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_CONFLICT);
    assert_string_equal(story->ended.text, "the last group");
    story->break_first = true;
    script(story, ST_BUSY, ST_BUSY);
    plan(story, 500, false);
    run(story, 500);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
}

static void a_plan_that_is_no_configuration_is_malformed(void **state)
{
    struct story *story = *state;

    script(story, ST_OK, ST_OK);
    plan(story, 1000, true);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_MALFORMED);
}

static void a_retry_is_the_same_change(void **state)
{
    struct story *story = *state;

    story->break_first = true;
    script(story, ST_OK, ST_OK);
    move(story, 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(story->n_sent, 2);
    assert_memory_equal(&story->sent[0], &story->sent[1], sizeof(story->sent[0]));
}

static void what_the_session_keeps_stands_after_a_lost_try(void **state)
{
    struct story *story = *state;

    story->break_first = true;
    script(story, ST_CONFLICT, ST_CONFLICT);
    move(story, 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_CONFLICT);
}

static void a_change_lost_to_the_end_is_unknown(void **state)
{
    struct story *story = *state;

    story->break_first = true;
    script(story, ST_BUSY, ST_BUSY);
    move(story, 500);
    run(story, 500);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    script(story, ST_BUSY, ST_BUSY);
    move(story, 500);
    run(story, 500);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
}

static void an_expired_session_is_renewed_only_if_nothing_was_applied(void **state)
{
    struct story *story = *state;

    story->world.time = 5000000;
    script(story, ST_SESSION_EXPIRED, ST_OK);
    move(story, 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(story->n_sent, 2);
    assert_true(story->sent[0].seq == story->sent[1].seq);
    assert_true(story->sent[0].issued_at == 5000000); /* asked for before the first change */
    assert_true(story->sent[1].issued_at > 5000000);

    story->break_first = true;
    script(story, ST_SESSION_EXPIRED, ST_OK);
    move(story, 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_int_equal(story->n_sent, 4);

    script(story, ST_SESSION_EXPIRED, ST_SESSION_EXPIRED); /* a server that never has enough */
    move(story, 5000);
    run(story, 5000);
    assert_int_equal(story->ended.status, ST_SESSION_EXPIRED);
    assert_in_range(story->n_sent, 5, 30);
}

static void a_stale_change_is_a_refusal_or_unknown(void **state)
{
    struct story *story = *state;

    script(story, ST_SESSION_STALE, ST_SESSION_STALE);
    move(story, 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_SESSION_STALE);
    story->break_first = true;
    move(story, 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
}

static void confirming_and_binding_need_no_session(void **state)
{
    struct story *story = *state;
    struct proto_confirm shards[2] = {{1, 5}, {2, 5}};

    ctrler_clerk_confirm(story->clerk, 1, 77, shards, 2, story->world.now, story->world.now + 1000,
                         note_change, story);
    run(story, 100);
    assert_int_equal(story->ended.status, ST_OK);
    ctrler_clerk_bind(story->clerk, 1, 77, story->world.now, story->world.now + 1000, note_change,
                      story);
    run(story, 100);
    assert_int_equal(story->ended.times, 2);
    assert_int_equal(story->n_sent, 0);
}

static void destroying_ends_what_is_outstanding(void **state)
{
    struct story *story = *state;

    script(story, ST_OK, ST_OK);
    move(story, 1000);
    run(story, 1000); /* from now on the clerk knows the time, and sends a change at once */
    assert_int_equal(story->ended.status, ST_OK);
    move(story, 1000);
    ctrler_clerk_destroy(&story->clerk);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_int_equal(caller_outstanding(story->caller), 0);
}

static void before_the_time_is_known_nothing_was_sent(void **state)
{
    struct story *story = *state;

    script(story, ST_OK, ST_OK);
    move(story, 1000);
    ctrler_clerk_destroy(&story->clerk);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_CANCELLED);
    assert_int_equal(story->n_sent, 0);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_query_gives_the_configuration),
        STORY(a_query_that_nobody_answers_ends_in_time_with_a_reason),
        STORY(who_gets_no_answer_tries_the_controllers_known_at_first),
        STORY(a_change_tells_the_number_of_its_configuration),
        STORY(a_refusal_comes_with_the_servers_words),
        STORY(operations_that_end_together_turn_to_the_others_once),
        STORY(a_pause_is_a_change_with_a_session),
        STORY(a_dry_run_is_a_read_without_a_session),
        STORY(a_dry_run_is_refused_or_unavailable_but_never_unknown),
        STORY(a_plan_that_is_no_configuration_is_malformed),
        STORY(a_retry_is_the_same_change),
        STORY(what_the_session_keeps_stands_after_a_lost_try),
        STORY(a_change_lost_to_the_end_is_unknown),
        STORY(an_expired_session_is_renewed_only_if_nothing_was_applied),
        STORY(a_stale_change_is_a_refusal_or_unknown),
        STORY(confirming_and_binding_need_no_session),
        STORY(destroying_ends_what_is_outstanding),
        STORY(before_the_time_is_known_nothing_was_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
