/* The hand-over of a shard as the taking group sees it: the test plays its part, message by
 * message, against the shipped servers. */
#include "tests/sim/kv_fixture.h"

static struct proto_request pull_request(shard_id shard, config_num num, uint32_t to)
{
    struct proto_request request = {.op = PROTO_SHARD_PULL};

    request.shard_pull.shard = shard;
    request.shard_pull.num = num;
    request.shard_pull.to = to;
    request.shard_pull.copy_id = 1;
    request.shard_pull.max_bytes = 1000;
    return request;
}

/* A move to a group that does not run: the test plays its part. */
static void begin_hand_over(struct fixture *f, uint64_t seed, shard_id *shard, const char **key)
{
    const struct shard_config *config;

    fixture_init(f, 2, 3, seed);
    fixture_start(f);
    fixture_settle(f, fixture_join(f, 0), 1);
    for (shard_id s = 0; s < FIXTURE_SHARDS; s++) {
        fixture_put(f, fixture_key(f, s, 0), "value");
    }
    fixture_crash_group(f, 1);
    fixture_join(f, 1);
    world_run_ms(f->world, 500);
    config = kv_sm_config(fixture_sm(f, 0));
    for (*shard = 0; config->shards[*shard] != fixture_gid(1); (*shard)++) {
    }
    *key = fixture_key(f, *shard, 0);
}

static void a_small_shard_goes_over_with_the_first_pull(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull, get;
    const char *key;
    shard_id shard;
    size_t leader;

    (void)state;
    begin_hand_over(&f, 15, &shard, &key);
    leader = fixture_leader(&f, 0);
    get = fixture_get_request(key);
    pull = pull_request(shard, 2, fixture_gid(1));
    /* A follower can't end serving; it does not go wrong either. */
    assert_int_equal(fixture_ask_replica(&f, 0, (leader + 1) % 3, &pull, &answer), ST_NOT_LEADER);
    assert_int_equal(fixture_ask(&f, 0, &get, 2000, &answer), ST_OK);
    assert_int_equal(fixture_ask_replica(&f, 0, leader, &pull, &answer), ST_OK);
    assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_END);
    assert_true(answer.body.len > 0);
    assert_int_equal(answer.cursor.len, 0);
    assert_int_equal(fixture_ask(&f, 0, &get, 2000, &answer), ST_WRONG_GROUP);
    assert_int_equal(answer.gid_hint, fixture_gid(1));
    world_run_ms(f.world, 500); /* the others have applied it as well */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fixture_ask_replica(&f, 0, i, &pull, &answer), ST_OK);
        assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_END);
    }
    answer_fini(&answer);
    fixture_fini(&f);
}

/* ---- A copy in pieces ---- */

#define KEYS 20

/* Asks for the next piece and takes its cursor. */
static enum status pull_on(struct fixture *f, struct proto_request *pull, struct buf *cursor,
                           struct answer *answer)
{
    enum status status;

    pull->shard_pull.cursor = buf_slice(cursor);
    status = fixture_ask(f, 0, pull, 5000, answer);
    if (status == ST_OK && answer->piece.shard_pull.kind == PROTO_PIECE_MORE) {
        assert_int_equal(answer->piece.shard_pull.piece, pull->shard_pull.piece);
        pull->shard_pull.piece++;
        buf_clear(cursor);
        buf_put_slice(cursor, buf_slice(&answer->cursor));
    }
    return status;
}

static void begin_large_hand_over(struct fixture *f, uint64_t seed, shard_id *shard,
                                  struct proto_request *pull)
{
    const char *key;

    begin_hand_over(f, seed, shard, &key);
    for (unsigned n = 0; n < KEYS; n++) {
        fixture_put(f, fixture_key(f, *shard, n), "value");
    }
    *pull = pull_request(*shard, 2, fixture_gid(1));
    pull->shard_pull.max_bytes = 100;
}

static void the_source_serves_until_all_is_copied(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull;
    struct buf cursor = {0};
    const struct shard *life;
    shard_id shard;
    unsigned pieces = 0;
    size_t leader;

    (void)state;
    begin_large_hand_over(&f, 16, &shard, &pull);
    leader = fixture_leader(&f, 0);
    life = kv_sm_shard(fixture_sm(&f, 0), shard);
    assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
    while (life->state == SHARD_SERVING) {
        assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_MORE);
        fixture_append(&f, fixture_key(&f, shard, pieces % KEYS), "+");
        fixture_check(&f, fixture_key(&f, shard, pieces % KEYS),
                      pieces < KEYS ? "value+" : "value++");
        /* As long as it changes, only the leader knows how it is. */
        pull.shard_pull.cursor = buf_slice(&cursor);
        assert_int_equal(fixture_ask_replica(&f, 0, (leader + 1) % 3, &pull, &answer),
                         ST_NOT_LEADER);
        assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
        assert_true(++pieces < 200);
    }
    assert_true(pieces > 5);
    while (answer.piece.shard_pull.kind == PROTO_PIECE_MORE) { /* the last changes */
        assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
    }
    world_run_ms(f.world, 500);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fixture_ask_replica(&f, 0, i, &pull, &answer), ST_OK);
        assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_END);
    }
    buf_fini(&cursor);
    answer_fini(&answer);
    fixture_fini(&f);
}

/* A sweep is one entry of the log: whoever asks for very much must not make it a long one. */
static void no_pull_sweeps_more_than_a_chunk(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull;
    struct buf cursor = {0};
    const struct shard *life;
    shard_id shard;
    char *value = mem_zalloc((300u << 10) + 1);

    (void)state;
    begin_large_hand_over(&f, 20, &shard, &pull);
    memset(value, 'v', 300u << 10);
    for (unsigned n = 0; n < 10; n++) {
        fixture_put(&f, fixture_key(&f, shard, n), value);
    }
    pull.shard_pull.max_bytes = UINT32_MAX;
    life = kv_sm_shard(fixture_sm(&f, 0), shard);
    for (int i = 0; i < 3; i++) {
        struct shard_sum before = life->outgoing.records;

        assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
        assert_true(answer.body.len > 300u << 10);
        assert_true(answer.body.len <= PROTO_MAX_CHUNK);
        assert_true(life->outgoing.records.bytes - before.bytes <= PROTO_MAX_CHUNK);
        assert_false(life->outgoing.is_swept);
    }
    mem_free(value);
    buf_fini(&cursor);
    answer_fini(&answer);
    fixture_fini(&f);
}

/* The pause does not last longer for a large record: it goes over before. */
static void a_large_record_does_not_travel_frozen(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull;
    struct buf cursor = {0};
    const struct shard *life;
    shard_id shard;
    char *value = mem_zalloc(KV_PIECE_FROZEN_BYTES + 1);

    (void)state;
    begin_large_hand_over(&f, 21, &shard, &pull);
    memset(value, 'v', KV_PIECE_FROZEN_BYTES);
    pull.shard_pull.max_bytes = PROTO_MAX_CHUNK; /* the whole shard fits in one piece */
    life = kv_sm_shard(fixture_sm(&f, 0), shard);
    for (int i = 0; i < 3; i++) {
        fixture_put(&f, fixture_key(&f, shard, 0), value);
        assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
        assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_MORE);
        assert_true(answer.body.len > KV_PIECE_FROZEN_BYTES);
        assert_int_equal(life->state, SHARD_SERVING);
    }
    assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
    assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_END);
    assert_true(answer.body.len < 1000);
    mem_free(value);
    buf_fini(&cursor);
    answer_fini(&answer);
    fixture_fini(&f);
}

static void another_leader_goes_on_from_the_same_cursor(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull;
    struct buf cursor = {0};
    shard_id shard;
    size_t leader;
    uint64_t begun;

    (void)state;
    begin_large_hand_over(&f, 17, &shard, &pull);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
    }
    leader = fixture_leader(&f, 0);
    begun = kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.range;
    world_crash(f.world, fixture_node(&f, 0, leader));
    do {
        enum status status = pull_on(&f, &pull, &cursor, &answer);

        assert_true(status != ST_CONFLICT && status != ST_INVALID);
    } while (answer.piece.shard_pull.kind != PROTO_PIECE_END);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.range, begun);
    world_start(f.world, fixture_node(&f, 0, leader));
    buf_fini(&cursor);
    answer_fini(&answer);
    fixture_fini(&f);
}

/* Any copy reads what is swept and noted; only one that was broken makes the source sweep again. */
static void a_sweep_serves_any_copy_until_one_was_broken(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull, other;
    struct buf cursor = {0}, none = {0};
    uint8_t garbage[] = {1, 2, 3};
    uint64_t range;
    shard_id shard;

    (void)state;
    begin_large_hand_over(&f, 18, &shard, &pull);
    assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
    range = kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.range;
    pull.shard_pull.cursor = slice_of(garbage, sizeof(garbage));
    assert_int_equal(fixture_ask(&f, 0, &pull, 2000, &answer), ST_CONFLICT);
    other = pull;
    other.shard_pull.copy_id = 2;
    assert_int_equal(pull_on(&f, &other, &cursor, &answer), ST_OK);
    other.shard_pull.piece = 0;
    assert_int_equal(pull_on(&f, &other, &none, &answer), ST_OK);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.range, range);
    buf_clear(&none);
    other.shard_pull.piece = 0;
    other.shard_pull.anew = true;
    assert_int_equal(pull_on(&f, &other, &none, &answer), ST_OK);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.copy_id, 2);
    assert_true(kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.range > range);
    range = kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.range;
    buf_clear(&none);
    other.shard_pull.piece = 0; /* the answer was lost: not once more */
    assert_int_equal(pull_on(&f, &other, &none, &answer), ST_OK);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.range, range);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->state, SHARD_SERVING);
    buf_fini(&cursor);
    buf_fini(&none);
    answer_fini(&answer);
    fixture_fini(&f);
}

static void the_taker_is_told_that_a_move_was_called_off(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull;
    struct buf cursor = {0};
    shard_id shard;

    (void)state;
    begin_large_hand_over(&f, 19, &shard, &pull);
    assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
    assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_MORE);
    fixture_move(&f, shard, 0);
    world_run_ms(f.world, 500);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->outgoing.copy_id, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
        assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_VOID);
        buf_clear(&cursor); /* nor from the beginning */
    }
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->state, SHARD_SERVING);
    buf_fini(&cursor);
    answer_fini(&answer);
    fixture_fini(&f);
}

static void start_at_replica(struct fixture *f, size_t i, const struct proto_request *request,
                             struct answer *answer)
{
    struct caller_target target = {.replicas = f->groups[0], .only_prefer = true};
    uint64_t now_ms = world_now_ms(f->world);

    strcpy(target.prefer, f->groups[0].replicas[i].url);
    caller_start(f->caller, &target, request, true, now_ms, now_ms + 5000, fixture_on_end, answer);
    world_reschedule(f->world, f->client);
}

static void cut_leader(struct fixture *f, size_t leader, bool cut)
{
    for (size_t i = 0; i < f->n_replicas; i++) {
        if (i != leader) {
            world_cut_pair(f->world, fixture_node(f, 0, leader), fixture_node(f, 0, i), cut);
        }
    }
}

/* A read that came before the freeze and is confirmed after it must not be answered from here: by
 * then the taker may have written. The leader hears nobody for a moment, so that both wait. */
static void a_read_that_the_freeze_overtook_is_not_answered_from_here(void **state)
{
    unsigned overtaken = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct fixture f;
        struct answer read = {0}, answer = {0};
        struct proto_request get, pull;
        struct buf cursor = {0};
        shard_id shard;
        size_t leader;

        begin_large_hand_over(&f, 100 + seed, &shard, &pull);
        while (!kv_piece_is_in_rounds(buf_slice(&cursor))) {
            assert_int_equal(pull_on(&f, &pull, &cursor, &answer), ST_OK);
        }
        answer_fini(&answer);
        leader = fixture_leader(&f, 0);
        get = fixture_get_request(fixture_key(&f, shard, 0));
        pull.shard_pull.cursor = buf_slice(&cursor);
        cut_leader(&f, leader, true);
        start_at_replica(&f, leader, &get, &read);
        start_at_replica(&f, leader, &pull, &answer);
        world_run_ms(f.world, 50);
        assert_false(read.ended || answer.ended);
        cut_leader(&f, leader, false);
        fixture_await(&f, &answer);
        fixture_await(&f, &read);
        assert_int_equal(answer.status, ST_OK);
        assert_true(read.status == ST_OK || read.status == ST_WRONG_GROUP);
        overtaken += read.status == ST_WRONG_GROUP;
        buf_fini(&cursor);
        answer_fini(&read);
        answer_fini(&answer);
        fixture_fini(&f);
    }
    assert_true(overtaken > 0);
}

static void pulls_of_others_or_out_of_turn_are_refused(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request pull, get;
    const char *key;
    shard_id shard;

    (void)state;
    begin_hand_over(&f, 15, &shard, &key);
    get = fixture_get_request(key);
    pull = pull_request(shard, 2, fixture_gid(2));
    assert_int_equal(fixture_ask(&f, 0, &pull, 2000, &answer), ST_CONFLICT);
    pull = pull_request(shard, 3, fixture_gid(1)); /* no such configuration yet */
    assert_int_equal(fixture_ask(&f, 0, &pull, 2000, &answer), ST_WRONG_GROUP);
    pull = pull_request(shard, 1, fixture_gid(1)); /* past: it never will be */
    assert_int_equal(fixture_ask(&f, 0, &pull, 2000, &answer), ST_OK);
    assert_int_equal(answer.piece.shard_pull.kind, PROTO_PIECE_VOID);
    assert_int_equal(fixture_ask(&f, 0, &get, 2000, &answer), ST_OK); /* still served */
    answer_fini(&answer);
    fixture_fini(&f);
}

static void what_was_not_handed_over_is_not_let_go(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request release = {.op = PROTO_SHARD_RELEASE}, get, pull, where;
    const char *key;
    shard_id shard;

    (void)state;
    begin_hand_over(&f, 15, &shard, &key);
    get = fixture_get_request(key);
    pull = pull_request(shard, 2, fixture_gid(1));
    release.shard_release.shard = shard;
    release.shard_release.num = 2;
    release.shard_release.to = fixture_gid(1);
    where = (struct proto_request){.op = PROTO_SHARD_WHERE};
    where.shard_where.shard = shard;
    assert_int_equal(fixture_ask(&f, 0, &release, 2000, &answer), ST_WRONG_GROUP);
    assert_int_equal(fixture_ask(&f, 0, &get, 2000, &answer), ST_OK);
    assert_int_equal(fixture_ask(&f, 0, &pull, 2000, &answer), ST_OK);
    release.shard_release.to = fixture_gid(3);
    assert_int_equal(fixture_ask(&f, 0, &release, 2000, &answer), ST_CONFLICT);
    release.shard_release.to = fixture_gid(1);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->state, SHARD_FROZEN);
    for (int i = 0; i < 3; i++) { /* and again */
        assert_int_equal(fixture_ask(&f, 0, &release, 2000, &answer), ST_OK);
        assert_int_equal(kv_sm_shard(fixture_sm(&f, 0), shard)->state, SHARD_ABSENT);
    }
    assert_int_equal(fixture_ask(&f, 0, &where, 2000, &answer), ST_OK);
    assert_int_equal(fixture_ask(&f, 0, &pull, 2000, &answer), ST_WRONG_GROUP);
    answer_fini(&answer);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_shard_goes_over_with_the_first_pull),
        cmocka_unit_test(the_source_serves_until_all_is_copied),
        cmocka_unit_test(no_pull_sweeps_more_than_a_chunk),
        cmocka_unit_test(a_large_record_does_not_travel_frozen),
        cmocka_unit_test(another_leader_goes_on_from_the_same_cursor),
        cmocka_unit_test(a_sweep_serves_any_copy_until_one_was_broken),
        cmocka_unit_test(the_taker_is_told_that_a_move_was_called_off),
        cmocka_unit_test(a_read_that_the_freeze_overtook_is_not_answered_from_here),
        cmocka_unit_test(pulls_of_others_or_out_of_turn_are_refused),
        cmocka_unit_test(what_was_not_handed_over_is_not_let_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
