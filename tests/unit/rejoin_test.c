/* Unit tests of client/rejoin: a replica that lost its data asks to be taken in again. The other
 * replicas are played by the test. */
#include <stdio.h>

#include "client/rejoin.h"
#include "tests/cmocka.h"

#define SELF        3
#define INCARNATION 0x3333u

struct story {
    struct io_net net;
    struct rejoin *rejoin;
    uint64_t now_ms;
    char urls[8][SPEC_MAX_URL + 1]; /* by endpoint */
    size_t n_urls;
    struct proto_request request; /* the last one, and whom it went to */
    struct buf bytes;
    io_endpoint asked;
    uint32_t n_asked;
    const char *first_url; /* what is told of replica 1; NULL: its URL */
};

static struct story *only; /* struct io_net has no context of its own */

static io_endpoint on_endpoint(struct io_net *net, group_id gid, const char *url)
{
    (void)net;
    assert_int_equal(gid, 5);
    for (size_t i = 0; i < only->n_urls; i++) {
        if (strcmp(only->urls[i], url) == 0) {
            return (io_endpoint)i + 1;
        }
    }
    assert_true(only->n_urls < 8);
    snprintf(only->urls[only->n_urls], SPEC_MAX_URL + 1, "%s", url);
    return (io_endpoint)++only->n_urls;
}

static void on_send(struct io_net *net, io_endpoint endpoint, struct buf *message)
{
    (void)net;
    proto_request_fini(&only->request);
    buf_fini(&only->bytes);
    only->bytes = buf_take(message);
    assert_true(proto_request_decode(buf_slice(&only->bytes), &only->request));
    only->asked = endpoint;
    only->n_asked++;
}

static const struct io_net_ops net_ops = {.endpoint = on_endpoint, .endpoint_send = on_send};

static void begin(struct story *story)
{
    struct rejoin_options options = {
        .gid = 5, .id = SELF, .incarnation = INCARNATION, .alive_ms = 1500, .seed = 1};

    memset(story, 0, sizeof(*story));
    only = story;
    story->net.ops = &net_ops;
    story->now_ms = 10000;
    options.net = &story->net;
    assert_null(spec_parse("1=tcp://a:1,2=tcp://b:1,3=tcp://c:1", &options.replicas));
    story->rejoin = rejoin_create(&options, story->now_ms);
}

static void end(struct story *story)
{
    rejoin_destroy(&story->rejoin);
    proto_request_fini(&story->request);
    buf_fini(&story->bytes);
}

/* Runs on until the next request leaves. */
static void next_request(struct story *story)
{
    uint32_t before = story->n_asked;

    for (int i = 0; i < 100 && story->n_asked == before; i++) {
        struct io_event tick = {.type = IO_EVENT_TICK};

        story->now_ms = rejoin_next_deadline_ms(story->rejoin);
        assert_true(story->now_ms != UINT64_MAX);
        tick.now_ms = story->now_ms;
        rejoin_step(story->rejoin, &tick);
    }
    assert_true(story->n_asked > before);
}

static void answer(struct story *story, struct proto_response *response)
{
    struct io_event event = {.type = IO_EVENT_ENDPOINT_MESSAGE, .now_ms = ++story->now_ms};
    struct buf bytes = {0};

    response->op = story->request.op;
    response->request_id = story->request.request_id;
    proto_response_encode(response, &bytes);
    event.endpoint.endpoint = story->asked;
    event.endpoint.message = buf_slice(&bytes);
    rejoin_step(story->rejoin, &event);
    buf_fini(&bytes);
}

/* Replica `id` tells of the group: 1 and 2 vote, 2 leads, and of 3 what `self` says; NULL: nothing.
 */
static void tell(struct story *story, uint32_t id, const struct proto_replica *self)
{
    struct proto_replica rows[3] = {
        {.id = 1, .flags = PROTO_REPLICA_VOTER, .url = slice_text("tcp://a:1")},
        {.id = 2, .flags = PROTO_REPLICA_VOTER, .url = slice_text("tcp://b:1")}};
    struct proto_response response = {.status = ST_OK};

    if (story->first_url != NULL) {
        rows[0].url = slice_text(story->first_url);
    }
    if (self != NULL) {
        rows[2] = *self;
        rows[2].id = SELF;
        rows[2].url = slice_text("tcp://c:1");
    }
    response.replicas = (struct proto_replicas){.gid = 5,
                                                .id = id,
                                                .configuration_index = 77,
                                                .committed = true,
                                                .leader = 2,
                                                .n = self != NULL ? 3 : 2,
                                                .replicas = rows};
    assert_int_equal(story->request.op, PROTO_REPLICAS);
    answer(story, &response);
}

/* Until the leader is the one that is asked. */
static void ask_leader(struct story *story)
{
    next_request(story);
    if (strcmp(story->urls[story->asked - 1], "tcp://b:1") != 0) {
        tell(story, 1, NULL);
        next_request(story);
    }
    assert_string_equal(story->urls[story->asked - 1], "tcp://b:1");
}

static void done(struct story *story)
{
    struct proto_response response = {.status = ST_OK};

    answer(story, &response);
}

static const struct proto_replica old_voter = {
    .flags = PROTO_REPLICA_VOTER, .incarnation = 0x1111, .heard_ms = 60000};

static void the_old_one_is_removed_and_the_new_one_added(void **state)
{
    const struct proto_replica learner = {.flags = PROTO_REPLICA_LEARNER,
                                          .heard_ms = PROTO_UNKNOWN};
    const struct proto_replica voter = {.flags = PROTO_REPLICA_VOTER, .incarnation = INCARNATION};
    struct story story;

    (void)state;
    begin(&story);
    ask_leader(&story);
    tell(&story, 2, &old_voter);
    assert_int_equal(story.request.op, PROTO_REPLICA);
    assert_int_equal(story.request.replica.kind, PROTO_REPLICA_REMOVE);
    assert_int_equal(story.request.replica.gid, 5);
    assert_int_equal(story.request.replica.id, SELF);
    assert_int_equal(story.request.replica.configuration_index, 77); /* what it was told of */
    done(&story);
    ask_leader(&story);
    tell(&story, 2, NULL);
    assert_int_equal(story.request.replica.kind, PROTO_REPLICA_ADD);
    assert_true(slice_equal(story.request.replica.url, slice_text("tcp://c:1")));
    done(&story);
    ask_leader(&story);
    tell(&story, 2, &learner); /* not heard from yet: that is this one */
    assert_false(rejoin_is_done(story.rejoin));
    ask_leader(&story);
    tell(&story, 2, &voter);
    assert_true(rejoin_is_done(story.rejoin));
    assert_true(rejoin_next_deadline_ms(story.rejoin) == UINT64_MAX);
    end(&story);
}

/* Two processes under one id: the one that has the data stays. */
static void one_that_is_alive_is_not_removed(void **state)
{
    struct proto_replica alive = old_voter;
    struct story story;

    (void)state;
    begin(&story);
    alive.heard_ms = 200;
    for (int i = 0; i < 5; i++) {
        ask_leader(&story);
        tell(&story, 2, &alive);
        assert_int_equal(story.request.op, PROTO_REPLICAS);
    }
    alive.heard_incarnation = INCARNATION; /* that is this one itself */
    ask_leader(&story);
    tell(&story, 2, &alive);
    assert_int_equal(story.request.op, PROTO_REPLICA);
    end(&story);
}

static void a_refusal_is_followed_by_another_look(void **state)
{
    struct proto_response refusal = {.status = ST_CONFLICT, .text = slice_text("no majority")};
    struct story story;

    (void)state;
    begin(&story);
    ask_leader(&story);
    tell(&story, 2, &old_voter);
    answer(&story, &refusal);
    assert_int_equal(story.request.op, PROTO_REPLICA);
    ask_leader(&story);
    tell(&story, 2, NULL);
    assert_int_equal(story.request.replica.kind, PROTO_REPLICA_ADD);
    end(&story);
}

static void silent_replicas_are_asked_in_turn(void **state)
{
    struct story story;
    bool asked[9] = {false};

    (void)state;
    begin(&story);
    for (int i = 0; i < 6; i++) {
        struct io_event down = {.type = IO_EVENT_ENDPOINT_DOWN};

        next_request(&story);
        asked[story.asked] = true;
        down.now_ms = ++story.now_ms;
        down.endpoint.endpoint = story.asked;
        rejoin_step(story.rejoin, &down);
    }
    assert_true(asked[1] && asked[2]);
    end(&story);
}

/* Neither does it stay in the next row, whose URL is shorter. */
static void what_is_no_url_is_passed_over(void **state)
{
    struct story story;

    (void)state;
    begin(&story);
    story.first_url = "http://not-one-of-ours:12345";
    next_request(&story);
    assert_string_equal(story.urls[story.asked - 1], "tcp://a:1");
    tell(&story, 1, NULL);
    next_request(&story);
    assert_string_equal(story.urls[story.asked - 1], "tcp://b:1");
    end(&story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_old_one_is_removed_and_the_new_one_added),
        cmocka_unit_test(one_that_is_alive_is_not_removed),
        cmocka_unit_test(a_refusal_is_followed_by_another_look),
        cmocka_unit_test(silent_replicas_are_asked_in_turn),
        cmocka_unit_test(what_is_no_url_is_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
