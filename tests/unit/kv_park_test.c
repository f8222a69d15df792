/* Requests for a shard that is nearly here wait for it at the group that is to have it: the shipped
 * servers in a simulated world. The answers of the source are held back at the end of a copy, so
 * that the shard stays nearly there for as long as a story wants. */
#include "shardkv/kv_server_internal.h"
#include "tests/sim/kv_fixture.h"

#define MOVED   5u  /* the shard */
#define PARK_MS 100 /* the longest wait */

struct story {
    struct fixture f;
    size_t leader; /* of group 1, where the shard goes */
    char key[32];
};

static struct kv_server *target(struct story *story)
{
    return fixture_server(&story->f, 1, story->leader);
}

static uint32_t n_waiting(struct story *story)
{
    return target(story)->n_parked + target(story)->n_parked_reads;
}

static bool is_nearly_here(void *context)
{
    struct story *story = context;

    story->leader = fixture_leader(&story->f, 1);
    return story->leader != SIZE_MAX && migrate_is_nearly_here(target(story)->migrate, MOVED);
}

/* What the source says does not arrive; it does later, in order. */
static void clog_source(struct story *story, bool clogged)
{
    for (size_t i = 0; i < story->f.n_replicas; i++) {
        for (size_t j = 0; j < story->f.n_replicas; j++) {
            world_clog(story->f.world, fixture_node(&story->f, 0, i), fixture_node(&story->f, 1, j),
                       clogged);
        }
    }
}

static void begin(struct story *story, uint64_t seed)
{
    struct fixture *f = &story->f;

    *story = (struct story){.leader = SIZE_MAX};
    fixture_init(f, 2, 3, seed);
    f->piece_bytes = 60;
    fixture_start(f);
    fixture_join(f, 0);
    fixture_settle(f, fixture_join(f, 1), 3);
    fixture_settle(f, fixture_move(f, MOVED, 0), 3);
    for (unsigned n = 0; n < 5; n++) {
        fixture_put(f, fixture_key(f, MOVED, n), "value");
    }
    strcpy(story->key, fixture_key(f, MOVED, 0));
    fixture_move(f, MOVED, 1);
    assert_true(world_run_until(f->world, 10000, is_nearly_here, story));
    clog_source(story, true);
    assert_int_equal(kv_sm_shard(kv_server_sm(target(story)), MOVED)->state, SHARD_ABSENT);
}

static void start(struct story *story, const struct proto_request *request, struct answer *answer)
{
    struct fixture *f = &story->f;
    struct caller_target target = {.replicas = f->groups[1], .only_prefer = true};
    uint64_t now_ms = world_now_ms(f->world);

    *answer = (struct answer){0};
    strcpy(target.prefer, f->groups[1].replicas[story->leader].url);
    caller_start(f->caller, &target, request, request->op != PROTO_WRITE, now_ms, now_ms + 5000,
                 fixture_on_end, answer);
    world_reschedule(f->world, f->client);
}

static struct proto_request scan_request(void)
{
    struct proto_request request = {.op = PROTO_SCAN};

    request.scan.shard = MOVED;
    request.scan.limit = 100;
    return request;
}

static void requests_wait_for_the_shard_and_are_answered_then(void **state)
{
    struct story story;
    struct proto_request get, write, scan = scan_request();
    struct answer got, written, scanned;
    uint64_t begin_ms;

    (void)state;
    begin(&story, 1);
    begin_ms = world_now_ms(story.f.world);
    get = fixture_get_request(story.key);
    write = fixture_write_request(&story.f, KV_APPEND, story.key, "+");
    start(&story, &get, &got);
    start(&story, &scan, &scanned);
    world_run_ms(story.f.world, 20);
    start(&story, &write, &written);
    world_run_ms(story.f.world, 20);
    assert_false(got.ended || scanned.ended || written.ended);
    assert_int_equal(n_waiting(&story), 3);
    clog_source(&story, false);
    fixture_await(&story.f, &got);
    fixture_await(&story.f, &scanned);
    fixture_await(&story.f, &written);
    assert_true(world_now_ms(story.f.world) - begin_ms < PARK_MS); /* it was the shard that came */
    assert_int_equal(got.status, ST_OK);
    assert_int_equal(scanned.status, ST_OK);
    assert_int_equal(written.status, ST_OK);
    assert_true(slice_equal(buf_slice(&got.bytes), slice_text("value")) ||
                slice_equal(buf_slice(&got.bytes), slice_text("value+")));
    assert_int_equal(written.write.outputs[0], 6);
    assert_int_equal(n_waiting(&story), 0);
    assert_int_equal(target(&story)->parked_bytes, 0);
    fixture_check(&story.f, story.key, "value+");
    answer_fini(&got);
    answer_fini(&scanned);
    answer_fini(&written);
    fixture_fini(&story.f);
}

static bool none_is_parked(void *context)
{
    return target(context)->n_parked == 0;
}

/* Reads are confirmed while they wait, and writes go into the log right behind the shard: what
 * waited is answered without a further round when the shard is here. */
static void what_waited_needs_no_further_round(void **state)
{
    struct story story;
    struct proto_request get, write;
    struct answer got, written;
    uint64_t rounds;

    (void)state;
    begin(&story, 7);
    get = fixture_get_request(story.key);
    write = fixture_write_request(&story.f, KV_APPEND, story.key, "+");
    rounds = group_statistics(kv_server_group(target(&story)))->read_rounds;
    start(&story, &get, &got);
    start(&story, &write, &written);
    world_run_ms(story.f.world, 40);
    assert_int_equal(n_waiting(&story), 2);
    assert_true(group_statistics(kv_server_group(target(&story)))->read_rounds > rounds);
    rounds = group_statistics(kv_server_group(target(&story)))->read_rounds;
    clog_source(&story, false);
    assert_true(world_run_until(story.f.world, 1000, none_is_parked, &story));
    assert_int_equal(kv_sm_shard(kv_server_sm(target(&story)), MOVED)->state, SHARD_ABSENT);
    fixture_await(&story.f, &got);
    fixture_await(&story.f, &written);
    assert_int_equal(got.status, ST_OK);
    assert_int_equal(written.status, ST_OK);
    assert_int_equal(group_statistics(kv_server_group(target(&story)))->read_rounds, rounds);
    fixture_check(&story.f, story.key, "value+");
    answer_fini(&got);
    answer_fini(&written);
    fixture_fini(&story.f);
}

static void nothing_waits_longer_than_a_moment(void **state)
{
    struct story story;
    struct proto_request get;
    struct answer got;
    uint64_t begin_ms, ms;

    (void)state;
    begin(&story, 2);
    get = fixture_get_request(story.key);
    begin_ms = world_now_ms(story.f.world);
    start(&story, &get, &got);
    fixture_await(&story.f, &got);
    ms = world_now_ms(story.f.world) - begin_ms;
    assert_int_equal(got.status, ST_WRONG_GROUP);
    assert_int_equal(got.gid_hint, fixture_gid(0));
    assert_true(ms >= PARK_MS && ms < PARK_MS + 60);
    assert_int_equal(n_waiting(&story), 0);
    clog_source(&story, false);
    answer_fini(&got);
    fixture_fini(&story.f);
}

static void what_is_not_about_such_a_shard_does_not_wait(void **state)
{
    struct story story;
    struct proto_request get, where = {.op = PROTO_SHARD_WHERE};
    struct answer answer;
    uint64_t begin_ms;
    shard_id other = 0;

    (void)state;
    begin(&story, 3);
    while (other == MOVED ||
           kv_sm_config(kv_server_sm(target(&story)))->shards[other] != fixture_gid(0)) {
        other++;
    }
    begin_ms = world_now_ms(story.f.world);
    get = fixture_get_request(fixture_key(&story.f, other, 0)); /* nor on its way here */
    start(&story, &get, &answer);
    fixture_await(&story.f, &answer);
    assert_int_equal(answer.status, ST_WRONG_GROUP);
    answer_fini(&answer);
    where.shard_where.shard = MOVED;
    start(&story, &where, &answer);
    fixture_await(&story.f, &answer);
    assert_int_equal(answer.status, ST_OK);
    answer_fini(&answer);
    get = fixture_get_request(story.key); /* a follower knows nothing of it */
    story.leader = (story.leader + 1) % 3;
    start(&story, &get, &answer);
    fixture_await(&story.f, &answer);
    assert_int_equal(answer.status, ST_NOT_LEADER);
    answer_fini(&answer);
    assert_true(world_now_ms(story.f.world) - begin_ms < PARK_MS);
    clog_source(&story, false);
    fixture_fini(&story.f);
}

/* As many as are asked at once, of which so many may wait. */
static void only_so_many_wait(void **state)
{
    enum { ASKED = 5000, PARKED = 4096 };
    struct answer *answers = mem_zalloc(ASKED * sizeof(answers[0]));
    struct proto_request get;
    struct story story;
    unsigned n_refused = 0, n_ok = 0;

    (void)state;
    begin(&story, 4);
    get = fixture_get_request(story.key);
    for (size_t i = 0; i < ASKED; i++) {
        start(&story, &get, &answers[i]);
    }
    world_run_ms(story.f.world, 40);
    assert_int_equal(n_waiting(&story), PARKED);
    for (size_t i = 0; i < ASKED; i++) {
        n_refused += answers[i].ended && answers[i].status == ST_WRONG_GROUP;
    }
    assert_int_equal(n_refused, ASKED - PARKED);
    clog_source(&story, false);
    for (size_t i = 0; i < ASKED; i++) {
        fixture_await(&story.f, &answers[i]);
        n_ok += answers[i].status == ST_OK;
        answer_fini(&answers[i]);
    }
    assert_int_equal(n_ok, PARKED);
    mem_free(answers);
    fixture_fini(&story.f);
}

static void only_so_many_bytes_wait(void **state)
{
    enum { ASKED = 20, BYTES = 3000000 };
    char *large = mem_alloc(BYTES + 1);
    struct answer answers[ASKED];
    struct proto_request put;
    struct story story;

    (void)state;
    memset(large, 'x', BYTES);
    large[BYTES] = '\0';
    begin(&story, 5);
    for (size_t i = 0; i < ASKED; i++) {
        put = fixture_write_request(&story.f, KV_PUT, story.key, large);
        put.write.session.client[0] = (uint8_t)i; /* a client each */
        put.write.session.seq = 1;
        put.write.session.acked_seq = 0;
        start(&story, &put, &answers[i]);
    }
    world_run_ms(story.f.world, 30);
    assert_int_equal(target(&story)->n_parked, (32u << 20) / BYTES);
    assert_true(target(&story)->parked_bytes <= 32u << 20);
    clog_source(&story, false);
    for (size_t i = 0; i < ASKED; i++) {
        fixture_await(&story.f, &answers[i]);
        answer_fini(&answers[i]);
    }
    assert_int_equal(target(&story)->parked_bytes, 0);
    mem_free(large);
    fixture_fini(&story.f);
}

static void a_server_may_end_while_requests_wait(void **state)
{
    struct story story;
    struct proto_request get;
    struct answer got;

    (void)state;
    begin(&story, 6);
    get = fixture_get_request(story.key);
    start(&story, &get, &got);
    world_run_ms(story.f.world, 20);
    assert_int_equal(n_waiting(&story), 1);
    world_stop(story.f.world, fixture_node(&story.f, 1, story.leader));
    fixture_await(&story.f, &got);
    assert_true(got.status != ST_OK);
    world_start(story.f.world, fixture_node(&story.f, 1, story.leader));
    clog_source(&story, false);
    fixture_settle(&story.f, kv_sm_meta(fixture_sm(&story.f, 0))->adopted, 3);
    fixture_check(&story.f, story.key, "value");
    answer_fini(&got);
    fixture_fini(&story.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_wait_for_the_shard_and_are_answered_then),
        cmocka_unit_test(what_waited_needs_no_further_round),
        cmocka_unit_test(nothing_waits_longer_than_a_moment),
        cmocka_unit_test(what_is_not_about_such_a_shard_does_not_wait),
        cmocka_unit_test(only_so_many_wait),
        cmocka_unit_test(only_so_many_bytes_wait),
        cmocka_unit_test(a_server_may_end_while_requests_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
