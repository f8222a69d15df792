/* Reads of a shard group are linearizable: a leader that does not know whether it still leads
 * answers none, neither a get nor a page of a scan. */
#include "tests/sim/kv_fixture.h"

struct cut_off {
    struct fixture fixture;
    size_t leader;
};

/* One group of three that serves everything; its leader hears nobody but clients. */
static void begin(struct cut_off *story, uint64_t seed)
{
    struct fixture *f = &story->fixture;

    fixture_init(f, 1, 3, seed);
    fixture_start(f);
    fixture_settle(f, fixture_join(f, 0), 1);
    fixture_put(f, "key", "old");
    story->leader = fixture_leader(f, 0);
}

static void cut(struct cut_off *story, bool is_cut)
{
    for (size_t i = 0; i < 3; i++) {
        if (i != story->leader) {
            world_cut_pair(story->fixture.world, fixture_node(&story->fixture, 0, story->leader),
                           fixture_node(&story->fixture, 0, i), is_cut);
        }
    }
}

static void start(struct cut_off *story, const struct proto_request *request, struct answer *answer)
{
    struct fixture *f = &story->fixture;
    struct caller_target target = {.replicas = f->groups[0], .only_prefer = true};
    uint64_t now_ms = world_now_ms(f->world);

    strcpy(target.prefer, f->groups[0].replicas[story->leader].url);
    caller_start(f->caller, &target, request, true, now_ms, now_ms + 5000, fixture_on_end, answer);
    world_reschedule(f->world, f->client);
}

static struct proto_request scan_request(const char *key)
{
    struct proto_request request = {.op = PROTO_SCAN};

    request.scan.shard = shard_of_key(slice_text(key), FIXTURE_SHARDS);
    request.scan.limit = 10;
    return request;
}

/* It waits while it may lead, and is answered when that is sure. */
static void assert_waits_for_a_majority(const struct proto_request *request, uint64_t seed)
{
    struct cut_off story;
    struct answer answer = {0};

    begin(&story, seed);
    cut(&story, true);
    start(&story, request, &answer);
    world_run_ms(story.fixture.world, 100);
    assert_false(answer.ended);
    cut(&story, false);
    fixture_await(&story.fixture, &answer);
    assert_int_equal(answer.status, ST_OK);
    answer_fini(&answer);
    fixture_fini(&story.fixture);
}

/* Another leader writes meanwhile: the old value is not to be had any more. */
static void assert_never_stale(const struct proto_request *request, uint64_t seed)
{
    struct cut_off story;
    struct answer answer = {0};

    begin(&story, seed);
    cut(&story, true);
    start(&story, request, &answer);
    fixture_put(&story.fixture, "key", "new");
    fixture_await(&story.fixture, &answer);
    assert_int_equal(answer.status, ST_NOT_LEADER);
    cut(&story, false);
    fixture_check(&story.fixture, "key", "new");
    answer_fini(&answer);
    fixture_fini(&story.fixture);
}

static void a_get_waits_until_a_majority_confirms_the_leader(void **state)
{
    struct proto_request get = fixture_get_request("key");

    (void)state;
    assert_waits_for_a_majority(&get, 31);
    assert_never_stale(&get, 32);
}

static void a_scan_waits_until_a_majority_confirms_the_leader(void **state)
{
    struct proto_request scan = scan_request("key");

    (void)state;
    assert_waits_for_a_majority(&scan, 33);
    assert_never_stale(&scan, 34);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_get_waits_until_a_majority_confirms_the_leader),
        cmocka_unit_test(a_scan_waits_until_a_majority_confirms_the_leader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
