/* Unit tests of client/caller: leaders that the call's replicas do not name, because they joined
 * the group since. The servers are played by the test. */
#include <stdio.h>

#include "client/caller.h"
#include "raft/util/mem.h"
#include "tests/cmocka.h"

struct story {
    struct caller *caller;
    uint64_t now_ms;
    char asked[SPEC_MAX_URL + 1]; /* whom the last request went to */
    uint64_t request_id;
    uint32_t n_asked;
    uint32_t n_ended;
    enum status status;
    bool maybe_applied;
};

static void on_send(void *context, uint32_t gid, const char *url, struct buf *message)
{
    struct story *story = context;

    (void)gid;
    snprintf(story->asked, sizeof(story->asked), "%s", url);
    story->request_id = proto_request_peek_id(buf_slice(message));
    story->n_asked++;
    buf_fini(message);
}

static void on_end(void *context, const struct caller_end *end)
{
    struct story *story = context;

    story->n_ended++;
    story->status = end->status;
    story->maybe_applied = end->maybe_applied;
}

static void begin(struct story *story)
{
    struct caller_options options;

    memset(story, 0, sizeof(*story));
    story->now_ms = 1000;
    caller_options_default(&options);
    options.seed = 3;
    options.transport = (struct caller_transport){.context = story, .send = on_send};
    story->caller = caller_create(&options);
}

static void end(struct story *story)
{
    caller_destroy(&story->caller);
}

static void call(struct story *story, const char *spec)
{
    struct proto_request request = {.op = PROTO_MOVE};
    struct caller_target target = {0};

    assert_null(spec_parse(spec, &target.replicas));
    story->n_ended = story->n_asked = 0;
    caller_start(story->caller, &target, &request, false, story->now_ms, story->now_ms + 5000,
                 on_end, story);
}

/* The server that was asked last answers. */
static void answer(struct story *story, enum status status, uint32_t leader, const char *text)
{
    struct proto_response response = {
        .op = PROTO_MOVE, .status = status, .request_id = story->request_id, .leader_hint = leader};
    struct buf bytes = {0};

    if (status != ST_OK) {
        response.text = slice_text(text);
    }
    proto_response_encode(&response, &bytes);
    assert_true(caller_on_message(story->caller, ++story->now_ms, buf_slice(&bytes)));
    buf_fini(&bytes);
}

static void a_leader_that_joined_since_is_asked_at_once_where_it_is_told_to_be(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    call(&story, "1=tcp://a:1,2=tcp://b:1");
    answer(&story, ST_NOT_LEADER, 7, "tcp://g:7");
    assert_string_equal(story.asked, "tcp://g:7");
    answer(&story, ST_OK, 7, "");
    assert_int_equal(story.status, ST_OK);
    call(&story, "1=tcp://a:1,2=tcp://b:1"); /* and remembered */
    assert_string_equal(story.asked, "tcp://g:7");
    answer(&story, ST_OK, 7, "");
    end(&story);
}

static void a_guest_that_is_down_is_forgotten_as_leader(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    call(&story, "1=tcp://a:1,2=tcp://b:1");
    answer(&story, ST_NOT_LEADER, 7, "tcp://g:7");
    caller_on_unreachable(story.caller, ++story.now_ms, "tcp://g:7");
    assert_true(strcmp(story.asked, "tcp://g:7") != 0);
    answer(&story, ST_OK, 1, "");
    assert_int_equal(story.status, ST_OK);
    assert_false(story.maybe_applied);
    end(&story);
}

/* What can't be a URL is a clause for people. */
static void a_text_that_is_no_url_leads_nowhere(void **state)
{
    static const char *const texts[] = {"", "ask replica 7", "tcp://", "http://g:7",
                                        "tcp://g:99999"};
    struct story story;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        begin(&story);
        call(&story, "1=tcp://a:1,2=tcp://b:1");
        answer(&story, ST_NOT_LEADER, 7, texts[i]);
        assert_int_equal(story.n_asked, 1); /* after a pause only */
        end(&story);
    }
}

/* Servers that point at ever new leaders do not make it grow, nor chase it without pauses. */
static void guests_are_bounded(void **state)
{
    struct story story;
    char url[40];

    (void)state;
    begin(&story);
    call(&story, "1=tcp://a:1,2=tcp://b:1");
    for (uint32_t i = 0; i < 200 && story.n_ended == 0; i++) {
        uint64_t before = story.request_id;

        snprintf(url, sizeof(url), "tcp://g:%u", 100 + i);
        answer(&story, ST_NOT_LEADER, 100 + i % 100, url);
        while (story.request_id == before && story.n_ended == 0) {
            story.now_ms = caller_next_deadline_ms(story.caller);
            caller_tick(story.caller, story.now_ms);
        }
    }
    assert_true(story.now_ms > 2000);
    end(&story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_that_joined_since_is_asked_at_once_where_it_is_told_to_be),
        cmocka_unit_test(a_guest_that_is_down_is_forgotten_as_leader),
        cmocka_unit_test(a_text_that_is_no_url_leads_nowhere),
        cmocka_unit_test(guests_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
