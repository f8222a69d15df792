/* For the tests of shardkv: controllers and replica groups, the shipped servers, in a simulated
 * world, and a simple client that speaks the protocol by itself: it asks one group at a time and
 * sees every answer. Calls run the world until the answer is there. */
#ifndef TESTS_UNIT_KV_FIXTURE_H
#define TESTS_UNIT_KV_FIXTURE_H

#include <stdio.h>

#include "client/ctrler_clerk.h"
#include "raft/util/mem.h"
#include "shardctrler/ctrler_server.h"
#include "shardkv/kv_server.h"
#include "shardkv/kv_sm.h"
#include "tests/cmocka.h"
#include "tests/sim/world.h"

#define FIXTURE_SHARDS     16
#define FIXTURE_MAX_GROUPS 4
#define FIXTURE_WAIT_MS    60000

struct fixture {
    struct world *world;
    size_t n_ctrlers, n_groups, n_replicas;
    struct spec ctrlers, groups[FIXTURE_MAX_GROUPS];
    /* Options, to be set between init and start; 0: the default. */
    uint32_t piece_bytes, max_sessions, max_copies;
    bool checkpoints; /* small checkpoints, compacted logs */
    struct caller *caller;
    struct ctrler_clerk *admin;
    size_t client;
    uint64_t seq;       /* of the client's session */
    uint64_t issued_at; /* the time it last heard of */
    char key[32];       /* fixture_key's memory */
};

/* The answer to the last call, in memory of its own. */
struct answer {
    bool ended;
    enum status status;
    uint32_t gid_hint;
    config_num config;
    uint64_t cluster_time;
    struct buf bytes; /* GET: the value; SCAN: "key=value\n" each */
    uint64_t version;
    bool more;
    struct kv_write_result write;
    config_num num;              /* of an administrative change */
    struct proto_response piece; /* PULL: kind and number */
    struct buf body, cursor;     /* and the rest */
};

static inline void answer_fini(struct answer *answer)
{
    buf_fini(&answer->bytes);
    buf_fini(&answer->body);
    buf_fini(&answer->cursor);
    *answer = (struct answer){0};
}

/* ---- Nodes ---- */

static inline void fixture_tune(struct fixture *fixture, const struct world_parts *parts,
                                struct group_options *options)
{
    raft_configuration_from_spec(&parts->spec, &options->bootstrap);
    options->check_invariants = true;
    if (fixture->checkpoints) {
        options->checkpoint_log_bytes = 4000;
        options->log_keep_bytes = 0;
    }
}

static void *fixture_create_ctrler(void *context, const struct world_parts *parts)
{
    struct ctrler_server_options options;
    struct ctrler_server *server = NULL;

    ctrler_server_options_default(&options, parts->id, parts->seed, &parts->spec);
    fixture_tune(context, parts, &options.group);
    options.n_shards = FIXTURE_SHARDS;
    options.incarnation = parts->node + 1;
    options.version = "test";
    assert_int_equal(ctrler_server_create(&options, &parts->io, parts->log_content,
                                          parts->state_meta, parts->now_ms, &server),
                     ST_OK);
    return server;
}

static void fixture_destroy_ctrler(void **server)
{
    struct ctrler_server *ctrler = *server;

    ctrler_server_destroy(&ctrler);
    *server = NULL;
}

static void fixture_step_ctrler(void *server, const struct io_event *event)
{
    ctrler_server_step(server, event);
}

static uint64_t fixture_deadline_ctrler(void *server)
{
    return ctrler_server_next_deadline_ms(server);
}

static struct group *fixture_group_ctrler(void *server)
{
    return ctrler_server_group(server);
}

static void *fixture_create_kv(void *context, const struct world_parts *parts)
{
    struct fixture *fixture = context;
    struct kv_server_options options;
    struct kv_server *server = NULL;

    kv_server_options_default(&options, parts->gid, parts->id, parts->seed);
    fixture_tune(fixture, parts, &options.group);
    options.ctrlers = fixture->ctrlers;
    options.incarnation = parts->node + 1;
    options.version = "test";
    if (fixture->piece_bytes != 0) {
        options.piece_bytes = fixture->piece_bytes;
    }
    if (fixture->max_copies != 0) {
        options.max_copies = fixture->max_copies;
    }
    if (fixture->max_sessions != 0) {
        options.max_sessions = fixture->max_sessions;
    }
    assert_int_equal(kv_server_create(&options, &parts->io, parts->log_content, parts->state_meta,
                                      parts->now_ms, &server),
                     ST_OK);
    return server;
}

static void fixture_destroy_kv(void **server)
{
    struct kv_server *kv = *server;

    kv_server_destroy(&kv);
    *server = NULL;
}

static void fixture_step_kv(void *server, const struct io_event *event)
{
    kv_server_step(server, event);
}

static uint64_t fixture_deadline_kv(void *server)
{
    return kv_server_next_deadline_ms(server);
}

static struct group *fixture_group_kv(void *server)
{
    return kv_server_group(server);
}

/* After every step of any server: at most one group's leader serves a shard. */
static void fixture_check_owners(void *context, void *server, size_t node);

/* ---- The client ---- */

static void fixture_message(void *client, uint64_t now_ms, struct slice message)
{
    caller_on_message(((struct fixture *)client)->caller, now_ms, message);
}

static void fixture_down(void *client, uint64_t now_ms, const char *url)
{
    caller_on_down(((struct fixture *)client)->caller, now_ms, url);
}

static void fixture_tick(void *client, uint64_t now_ms)
{
    caller_tick(((struct fixture *)client)->caller, now_ms);
}

static uint64_t fixture_next_deadline(void *client)
{
    return caller_next_deadline_ms(((struct fixture *)client)->caller);
}

static void fixture_send(void *context, const char *url, struct buf *message)
{
    struct fixture *fixture = context;

    world_client_send(fixture->world, fixture->client, url, message);
}

static inline uint32_t fixture_gid(size_t group)
{
    return 100 + (uint32_t)group;
}

static inline size_t fixture_node(const struct fixture *fixture, size_t group, size_t i)
{
    return fixture->ctrlers.n + group * fixture->n_replicas + i;
}

static inline void fixture_init(struct fixture *fixture, size_t n_groups, size_t n_replicas,
                                uint64_t seed)
{
    *fixture = (struct fixture){.n_ctrlers = 1, .n_groups = n_groups, .n_replicas = n_replicas};
    fixture->world = world_create(seed);
}

static const struct world_node_ops fixture_ctrler_ops = {
    fixture_create_ctrler,   fixture_destroy_ctrler, fixture_step_ctrler,
    fixture_deadline_ctrler, fixture_group_ctrler,   NULL};
static const struct world_node_ops fixture_kv_ops = {fixture_create_kv, fixture_destroy_kv,
                                                     fixture_step_kv,   fixture_deadline_kv,
                                                     fixture_group_kv,  fixture_check_owners};
static const struct world_client_ops fixture_client_ops = {fixture_message, fixture_down,
                                                           fixture_tick, fixture_next_deadline};

static inline void fixture_add(struct fixture *fixture, group_id gid, const struct spec *spec,
                               const struct world_node_ops *ops)
{
    for (size_t i = 0; i < spec->n; i++) {
        world_start(fixture->world,
                    world_add_node(fixture->world, gid, spec->replicas[i].id, spec, ops, fixture));
    }
}

static inline void fixture_start(struct fixture *fixture)
{
    struct caller_options options;
    uint8_t id[16] = "the test's admin";

    world_make_spec(fixture->world, 0, fixture->n_ctrlers, &fixture->ctrlers);
    fixture_add(fixture, 0, &fixture->ctrlers, &fixture_ctrler_ops);
    for (size_t g = 0; g < fixture->n_groups; g++) {
        world_make_spec(fixture->world, fixture_gid(g), fixture->n_replicas, &fixture->groups[g]);
        fixture_add(fixture, fixture_gid(g), &fixture->groups[g], &fixture_kv_ops);
    }
    caller_options_default(&options);
    options.seed = 7;
    options.transport = (struct caller_transport){.context = fixture, .send = fixture_send};
    fixture->caller = caller_create(&options);
    fixture->admin = ctrler_clerk_create(fixture->caller, &fixture->ctrlers, id);
    fixture->client = world_add_client(fixture->world, &fixture_client_ops, fixture);
    fixture->issued_at = 1;
}

static inline void fixture_fini(struct fixture *fixture)
{
    for (size_t i = 0; i < world_node_count(fixture->world); i++) {
        assert_null(world_halted(fixture->world, i));
    }
    world_remove_client(fixture->world, fixture->client);
    ctrler_clerk_destroy(&fixture->admin);
    caller_destroy(&fixture->caller);
    world_destroy(&fixture->world);
}

static bool fixture_answer_ended(void *context)
{
    return ((struct answer *)context)->ended;
}

static inline void fixture_await(struct fixture *fixture, struct answer *answer)
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

static void fixture_on_end(void *context, const struct caller_end *end)
{
    struct answer *answer = context;

    answer->ended = true;
    answer->status = end->status;
    if (end->response != NULL) {
        fixture_keep_answer(answer, end->response);
    }
}

/* Asks one group; *answer is overwritten. Bounded by ms; then TIMEOUT, UNAVAILABLE or UNKNOWN. */
static inline enum status fixture_ask(struct fixture *fixture, size_t group,
                                      const struct proto_request *request, uint64_t ms,
                                      struct answer *answer)
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

/* Asks one replica and nobody else. */
static inline enum status fixture_ask_replica(struct fixture *fixture, size_t group, size_t i,
                                              const struct proto_request *request,
                                              struct answer *answer)
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

/* ---- Keys, reads and writes ---- */

/* A key that lies in the shard; valid until the next call. */
static inline const char *fixture_key(struct fixture *fixture, shard_id shard, unsigned n)
{
    for (unsigned i = 0;; i++) {
        snprintf(fixture->key, sizeof(fixture->key), "k%u.%u", n, i);
        if (shard_of_key(slice_text(fixture->key), FIXTURE_SHARDS) == shard) {
            return fixture->key;
        }
    }
}

static inline struct proto_request fixture_write_request(struct fixture *fixture,
                                                         enum kv_operation_type type,
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

static inline struct proto_request fixture_get_request(const char *key)
{
    struct proto_request request = {.op = PROTO_GET};

    request.get.shard = shard_of_key(slice_text(key), FIXTURE_SHARDS);
    request.get.key = slice_text(key);
    return request;
}

/* Asks the groups in turn until one answers other than "not mine". */
static inline enum status
fixture_ask_any(struct fixture *fixture, const struct proto_request *request, struct answer *answer)
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

static inline void fixture_put(struct fixture *fixture, const char *key, const char *value)
{
    struct answer answer = {0};
    struct proto_request request = fixture_write_request(fixture, KV_PUT, key, value);

    assert_int_equal(fixture_ask_any(fixture, &request, &answer), ST_OK);
    answer_fini(&answer);
}

static inline void fixture_append(struct fixture *fixture, const char *key, const char *value)
{
    struct answer answer = {0};
    struct proto_request request = fixture_write_request(fixture, KV_APPEND, key, value);

    assert_int_equal(fixture_ask_any(fixture, &request, &answer), ST_OK);
    answer_fini(&answer);
}

/* value NULL: there is no such key. */
static inline void fixture_check(struct fixture *fixture, const char *key, const char *value)
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

/* ---- Administration ---- */

static void fixture_changed(void *context, enum status status, config_num num, const char *text)
{
    struct answer *answer = context;

    (void)text;
    answer->ended = true;
    answer->status = status;
    answer->num = num;
}

static inline config_num fixture_end_change(struct fixture *fixture, struct answer *answer)
{
    fixture_await(fixture, answer);
    assert_int_equal(answer->status, ST_OK);
    return answer->num;
}

static inline config_num fixture_join(struct fixture *fixture, size_t group)
{
    struct answer answer = {0};
    uint64_t now_ms = world_now_ms(fixture->world);
    struct proto_join_group joining = {.gid = fixture_gid(group),
                                       .replicas = fixture->groups[group]};

    ctrler_clerk_join(fixture->admin, &joining, 1, now_ms, now_ms + FIXTURE_WAIT_MS,
                      fixture_changed, &answer);
    return fixture_end_change(fixture, &answer);
}

static inline config_num fixture_leave(struct fixture *fixture, size_t group)
{
    struct answer answer = {0};
    uint64_t now_ms = world_now_ms(fixture->world);
    uint32_t gid = fixture_gid(group);

    ctrler_clerk_leave(fixture->admin, &gid, 1, now_ms, now_ms + FIXTURE_WAIT_MS, fixture_changed,
                       &answer);
    return fixture_end_change(fixture, &answer);
}

static inline config_num fixture_move(struct fixture *fixture, shard_id shard, size_t group)
{
    struct answer answer = {0};
    uint64_t now_ms = world_now_ms(fixture->world);

    ctrler_clerk_move(fixture->admin, shard, fixture_gid(group), now_ms, now_ms + FIXTURE_WAIT_MS,
                      fixture_changed, &answer);
    return fixture_end_change(fixture, &answer);
}

/* ---- Looking inside ---- */

static inline struct kv_server *fixture_server(const struct fixture *fixture, size_t group,
                                               size_t i)
{
    size_t node = fixture_node(fixture, group, i);

    return node < world_node_count(fixture->world) ? world_server(fixture->world, node) : NULL;
}

/* The replica of the group that leads, SIZE_MAX if none does. */
static inline size_t fixture_leader(const struct fixture *fixture, size_t group)
{
    size_t leader = SIZE_MAX;
    raft_term term = 0;

    for (size_t i = 0; i < fixture->n_replicas; i++) {
        struct kv_server *server = fixture_server(fixture, group, i);

        if (server != NULL && group_is_ready(kv_server_group(server)) &&
            raft_current_term(group_raft(kv_server_group(server))) > term) {
            leader = i;
            term = raft_current_term(group_raft(kv_server_group(server)));
        }
    }
    return leader;
}

/* The state of the group's leader; NULL while there is none. */
static inline const struct kv_sm *fixture_sm(const struct fixture *fixture, size_t group)
{
    size_t leader = fixture_leader(fixture, group);

    return leader == SIZE_MAX ? NULL : kv_server_sm(fixture_server(fixture, group, leader));
}

static void fixture_check_owners(void *context, void *server, size_t node)
{
    struct fixture *fixture = context;

    (void)server;
    (void)node;
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        uint32_t serving = 0;

        for (size_t g = 0; g < fixture->n_groups; g++) {
            const struct kv_sm *sm = fixture_sm(fixture, g);
            const struct shard *life = sm != NULL ? kv_sm_shard(sm, shard) : NULL;

            serving += life != NULL && life->state == SHARD_SERVING;
        }
        assert_true(serving <= 1);
    }
}

struct settled {
    struct fixture *fixture;
    config_num num;
    unsigned groups; /* bit g: group g must have settled */
};

static bool fixture_is_settled(void *context)
{
    const struct settled *settled = context;

    for (size_t g = 0; g < settled->fixture->n_groups; g++) {
        const struct kv_sm *sm = fixture_sm(settled->fixture, g);

        if ((settled->groups & 1u << g) == 0) {
            continue;
        }
        if (sm == NULL || kv_sm_meta(sm)->adopted < settled->num) {
            return false;
        }
        for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
            if (!shard_is_settled(kv_sm_shard(sm, shard))) {
                return false;
            }
        }
    }
    return true;
}

/* Runs until those groups have adopted the configuration and no shard of theirs is moving. */
static inline void fixture_settle(struct fixture *fixture, config_num num, unsigned groups)
{
    struct settled settled = {fixture, num, groups};

    assert_true(world_run_until(fixture->world, FIXTURE_WAIT_MS, fixture_is_settled, &settled));
}

static inline void fixture_crash_group(struct fixture *fixture, size_t group)
{
    for (size_t i = 0; i < fixture->n_replicas; i++) {
        if (world_is_running(fixture->world, fixture_node(fixture, group, i))) {
            world_crash(fixture->world, fixture_node(fixture, group, i));
        }
    }
}

static inline void fixture_start_group(struct fixture *fixture, size_t group)
{
    for (size_t i = 0; i < fixture->n_replicas; i++) {
        if (!world_is_running(fixture->world, fixture_node(fixture, group, i))) {
            world_start(fixture->world, fixture_node(fixture, group, i));
        }
    }
}

#endif
