/* What the fixture's client asks the groups and tells the controller. */
#include "tests/sim/kv_fixture.h"

void answer_fini(struct answer *answer)
{
    buf_fini(&answer->bytes);
    buf_fini(&answer->body);
    buf_fini(&answer->cursor);
    *answer = (struct answer){0};
}

static bool fixture_answer_ended(void *context)
{
    return ((struct answer *)context)->ended;
}

void fixture_await(struct fixture *fixture, struct answer *answer)
{
    world_reschedule(fixture->world, fixture->client);
    assert_true(world_run_until(fixture->world, FIXTURE_WAIT_MS, fixture_answer_ended, answer));
}

static void fixture_keep_answer(struct answer *answer, const struct proto_response *response)
{
    answer->gid_hint = response->gid_hint;
    answer->config = response->config;
    answer->cluster_time = response->cluster_time;
    if (response->op == PROTO_WRITE) {
        answer->write = response->write;
    }
    if (response->status != ST_OK) {
        return;
    }
    if (response->op == PROTO_GET) {
        buf_put_slice(&answer->bytes, response->get.value);
        answer->version = response->get.version;
    } else if (response->op == PROTO_SCAN) {
        answer->more = response->scan.more;
        for (uint32_t i = 0; i < response->scan.n; i++) {
            buf_put_slice(&answer->bytes, response->scan.records[i].key);
            buf_put_u8(&answer->bytes, '=');
            buf_put_slice(&answer->bytes, response->scan.records[i].value);
            buf_put_u8(&answer->bytes, '\n');
        }
    } else if (response->op == PROTO_SHARD_PULL) {
        answer->piece = *response;
        buf_put_slice(&answer->body, response->shard_pull.body);
        buf_put_slice(&answer->cursor, response->shard_pull.cursor);
    }
}

void fixture_on_end(void *context, const struct caller_end *end)
{
    struct answer *answer = context;

    answer->ended = true;
    answer->status = end->status;
    if (end->response != NULL) {
        fixture_keep_answer(answer, end->response);
    }
}

enum status fixture_ask(struct fixture *fixture, size_t group, const struct proto_request *request,
                        uint64_t ms, struct answer *answer)
{
    struct caller_target target = {.replicas = fixture->groups[group]};
    uint64_t now_ms = world_now_ms(fixture->world);

    answer_fini(answer);
    caller_start(fixture->caller, &target, request, request->op != PROTO_WRITE, now_ms, now_ms + ms,
                 fixture_on_end, answer);
    fixture_await(fixture, answer);
    if (answer->cluster_time > fixture->issued_at) {
        fixture->issued_at = answer->cluster_time;
    }
    return answer->status;
}

enum status fixture_ask_replica(struct fixture *fixture, size_t group, size_t i,
                                const struct proto_request *request, struct answer *answer)
{
    struct caller_target target = {.replicas = fixture->groups[group], .only_prefer = true};
    uint64_t now_ms = world_now_ms(fixture->world);

    answer_fini(answer);
    strcpy(target.prefer, fixture->groups[group].replicas[i].url);
    caller_start(fixture->caller, &target, request, request->op != PROTO_WRITE, now_ms,
                 now_ms + 2000, fixture_on_end, answer);
    fixture_await(fixture, answer);
    return answer->status;
}

const char *fixture_key(struct fixture *fixture, shard_id shard, unsigned n)
{
    for (unsigned i = 0;; i++) {
        snprintf(fixture->key, sizeof(fixture->key), "k%u.%u", n, i);
        if (shard_of_key(slice_text(fixture->key), FIXTURE_SHARDS) == shard) {
            return fixture->key;
        }
    }
}

struct proto_request fixture_write_request(struct fixture *fixture, enum kv_operation_type type,
                                           const char *key, const char *value)
{
    struct proto_request request = {.op = PROTO_WRITE};

    request.write.shard = shard_of_key(slice_text(key), FIXTURE_SHARDS);
    memcpy(request.write.session.client, "the test's client", 16);
    request.write.session.seq = ++fixture->seq;
    request.write.session.acked_seq = fixture->seq - 1;
    request.write.session.issued_at = fixture->issued_at;
    request.write.n_operations = 1;
    request.write.operations[0] = (struct kv_operation){type, slice_text(key), slice_text(value)};
    return request;
}

struct proto_request fixture_get_request(const char *key)
{
    struct proto_request request = {.op = PROTO_GET};

    request.get.shard = shard_of_key(slice_text(key), FIXTURE_SHARDS);
    request.get.key = slice_text(key);
    return request;
}

enum status fixture_ask_any(struct fixture *fixture, const struct proto_request *request,
                            struct answer *answer)
{
    uint64_t end_ms = world_now_ms(fixture->world) + FIXTURE_WAIT_MS;

    while (world_now_ms(fixture->world) < end_ms) {
        for (size_t g = 0; g < fixture->n_groups; g++) {
            enum status status = fixture_ask(fixture, g, request, 1000, answer);

            if (status != ST_WRONG_GROUP && status != ST_TIMEOUT && status != ST_UNAVAILABLE &&
                status != ST_UNKNOWN) {
                return status;
            }
        }
        world_run_ms(fixture->world, 20);
    }
    return ST_TIMEOUT;
}

void fixture_put(struct fixture *fixture, const char *key, const char *value)
{
    struct answer answer = {0};
    struct proto_request request = fixture_write_request(fixture, KV_PUT, key, value);

    assert_int_equal(fixture_ask_any(fixture, &request, &answer), ST_OK);
    answer_fini(&answer);
}

void fixture_append(struct fixture *fixture, const char *key, const char *value)
{
    struct answer answer = {0};
    struct proto_request request = fixture_write_request(fixture, KV_APPEND, key, value);

    assert_int_equal(fixture_ask_any(fixture, &request, &answer), ST_OK);
    answer_fini(&answer);
}

void fixture_check(struct fixture *fixture, const char *key, const char *value)
{
    struct answer answer = {0};
    struct proto_request request = fixture_get_request(key);

    assert_int_equal(fixture_ask_any(fixture, &request, &answer),
                     value != NULL ? ST_OK : ST_NOT_FOUND);
    if (value != NULL) {
        assert_true(slice_equal(buf_slice(&answer.bytes), slice_text(value)));
    }
    answer_fini(&answer);
}

void fixture_put_everywhere(struct fixture *fixture, const char *value)
{
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_put(fixture, fixture_key(fixture, shard, 0), value);
    }
}

void fixture_check_everywhere(struct fixture *fixture, const char *value)
{
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(fixture, fixture_key(fixture, shard, 0), value);
    }
}

static void fixture_changed(void *context, enum status status, config_num num, const char *text)
{
    struct answer *answer = context;

    (void)text;
    answer->ended = true;
    answer->status = status;
    answer->num = num;
}

static config_num fixture_end_change(struct fixture *fixture, struct answer *answer)
{
    fixture_await(fixture, answer);
    assert_int_equal(answer->status, ST_OK);
    return answer->num;
}

config_num fixture_join(struct fixture *fixture, size_t group)
{
    struct answer answer = {0};
    uint64_t now_ms = world_now_ms(fixture->world);
    struct proto_join_group joining = {.gid = fixture_gid(group),
                                       .replicas = fixture->groups[group]};

    ctrler_clerk_join(fixture->admin, &joining, 1, now_ms, now_ms + FIXTURE_WAIT_MS,
                      fixture_changed, &answer);
    return fixture_end_change(fixture, &answer);
}

config_num fixture_leave(struct fixture *fixture, size_t group)
{
    struct answer answer = {0};
    uint64_t now_ms = world_now_ms(fixture->world);
    uint32_t gid = fixture_gid(group);

    ctrler_clerk_leave(fixture->admin, &gid, 1, now_ms, now_ms + FIXTURE_WAIT_MS, fixture_changed,
                       &answer);
    return fixture_end_change(fixture, &answer);
}

config_num fixture_move(struct fixture *fixture, shard_id shard, size_t group)
{
    struct answer answer = {0};
    uint64_t now_ms = world_now_ms(fixture->world);

    ctrler_clerk_move(fixture->admin, shard, fixture_gid(group), now_ms, now_ms + FIXTURE_WAIT_MS,
                      fixture_changed, &answer);
    return fixture_end_change(fixture, &answer);
}

void fixture_set_paused(struct fixture *fixture, bool paused)
{
    struct answer answer = {0};
    uint64_t now_ms = world_now_ms(fixture->world);

    ctrler_clerk_pause(fixture->admin, paused, now_ms, now_ms + FIXTURE_WAIT_MS, fixture_changed,
                       &answer);
    (void)fixture_end_change(fixture, &answer);
    world_run_ms(fixture->world, 500);
}
