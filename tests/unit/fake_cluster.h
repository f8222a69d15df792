/* A cluster for the tests of the clerks: three controllers and some groups of three replicas, as
 * plain functions in virtual time. Servers do what the test tells them: serve, refuse, be silent,
 * break the connection before or after applying, apply much later than the client waits.
 *
 * What a server applies is recorded by client and sequence number, so that a test can ask what
 * really happened. The session rule is the real one's: a pair is applied at most once, sequence
 * numbers at or below acked_seq are refused, and so is what was issued at or below the floor. */
#ifndef TESTS_UNIT_FAKE_CLUSTER_H
#define TESTS_UNIT_FAKE_CLUSTER_H

#include <stdio.h>
#include <stdlib.h>

#include "client/clerk.h"
#include "client/ctrler_clerk.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"

#define FAKE_SHARDS   16
#define FAKE_GROUPS   3 /* gid 1..3; 0 is the controller */
#define FAKE_LATENCY  1
#define FAKE_SERVERS  (3 * (FAKE_GROUPS + 1))
#define FAKE_MAX_KEYS 2048
#define FAKE_MAX_LOG  65536

enum fault {
    FAULT_NONE,
    FAULT_SILENT,       /* takes the request and says nothing */
    FAULT_REFUSE,       /* answers `refusal`, with `hint` */
    FAULT_BREAK,        /* the connection breaks before anything is applied */
    FAULT_APPLY_BREAK,  /* … after it */
    FAULT_APPLY_LATER,  /* says ST_UNKNOWN, and applies later */
    FAULT_APPLY_SILENT, /* applies and says nothing */
    FAULT_SLOW,         /* answers after `slow_ms` */
    FAULT_HELD,         /* the request waits for a connection, up to `slow_ms` */
    FAULT_UNREACHABLE,  /* no connection can be made */
    FAULT_GARBLE        /* answers bytes that mean nothing */
};

struct fake_server {
    char url[32];
    uint32_t gid, id;
    enum fault fault;
    uint32_t times; /* the fault goes away after so many requests; 0: it stays */
    enum status refusal;
    uint32_t hint;
    uint64_t slow_ms;
    uint32_t requests; /* received */
    uint64_t epoch;    /* of its connection: what was sent in an earlier one is lost */
    bool connected;
};

struct fake_event {
    uint64_t at, serial;
    enum { EVENT_REQUEST, EVENT_APPLY, EVENT_RESPONSE, EVENT_DOWN, EVENT_UNREACHABLE } type;
    struct fake_server *server;
    uint64_t epoch;
    bool held; /* REQUEST: has not left yet */
    struct buf message;
};

struct fake_applied {
    uint8_t client[16];
    uint64_t seq, issued_at;
    char value[32]; /* of its first operation */
    struct kv_write_result result;
};

struct fake_key {
    char key[64];
    char value[64];
};

struct fake_cluster {
    uint64_t now;
    uint64_t serial;
    struct rng rng;
    struct fake_server servers[FAKE_SERVERS];
    uint32_t leader[FAKE_GROUPS + 1]; /* replica ids */
    struct shard_config config;       /* the controller's */
    uint32_t holder[FAKE_SHARDS];     /* who serves it, whatever the configuration says */
    uint32_t id_shift; /* the servers' own ids are other than those in the spec, by so much */
    bool hints;        /* WRONG_GROUP points to the holder */
    uint64_t time;     /* cluster time */
    uint64_t floor;
    struct fake_event *events;
    size_t n_events, events_capacity;
    struct fake_key keys[FAKE_MAX_KEYS];
    size_t n_keys;
    struct fake_applied *applied;
    size_t n_applied;
    uint32_t config_queries;
    uint64_t last_client_low; /* of the last write received */
    uint64_t last_seq, last_acked, last_issued_at;
    uint32_t max_scans, scans; /* in flight at once */
    struct clerk *clerk;
    struct caller *caller; /* instead of the clerk */
};

static inline struct fake_server *fake_server(struct fake_cluster *world, uint32_t gid, uint32_t id)
{
    return &world->servers[3 * gid + id - 1];
}

static inline void fake_spec(uint32_t gid, struct spec *spec)
{
    char text[128];

    snprintf(text, sizeof(text), "1=tcp://g%u:1,2=tcp://g%u:2,3=tcp://g%u:3", gid, gid, gid);
    if (spec_parse(text, spec) != NULL) {
        abort();
    }
}

static inline void fake_init(struct fake_cluster *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    world->now = 1000;
    world->time = 1000000;
    world->hints = true;
    rng_init(&world->rng, seed);
    world->applied = mem_zalloc(FAKE_MAX_LOG * sizeof(world->applied[0]));
    shard_config_init(&world->config, FAKE_SHARDS);
    world->config.num = 5;
    world->config.n_groups = FAKE_GROUPS;
    world->config.groups = mem_zalloc(FAKE_GROUPS * sizeof(world->config.groups[0]));
    for (uint32_t gid = 0; gid <= FAKE_GROUPS; gid++) {
        world->leader[gid] = 1;
        for (uint32_t id = 1; id <= 3; id++) {
            struct fake_server *server = fake_server(world, gid, id);

            snprintf(server->url, sizeof(server->url), "tcp://g%u:%u", gid, id);
            server->gid = gid;
            server->id = id;
        }
        if (gid > 0) {
            world->config.groups[gid - 1].gid = gid;
            world->config.groups[gid - 1].member = true;
            fake_spec(gid, &world->config.groups[gid - 1].replicas);
        }
    }
    for (uint32_t shard = 0; shard < FAKE_SHARDS; shard++) {
        world->config.shards[shard] = world->holder[shard] = 1 + shard % FAKE_GROUPS;
    }
}

static inline void fake_fini(struct fake_cluster *world)
{
    for (size_t i = 0; i < world->n_events; i++) {
        buf_fini(&world->events[i].message);
    }
    mem_free(world->events);
    mem_free(world->applied);
    shard_config_fini(&world->config);
}

/* The controller moves the shard; `held` says whether the new owner has it already. */
static inline void fake_move(struct fake_cluster *world, shard_id shard, uint32_t gid, bool held)
{
    world->config.num++;
    world->config.from[shard] = world->config.shards[shard];
    world->config.shards[shard] = gid;
    if (held) {
        world->holder[shard] = gid;
    }
}

static inline struct fake_event *fake_schedule(struct fake_cluster *world, uint64_t delay,
                                               struct fake_server *server)
{
    struct fake_event *event;

    MEM_GROW(world->events, world->events_capacity, world->n_events + 1);
    event = &world->events[world->n_events++];
    *event = (struct fake_event){.at = world->now + delay,
                                 .serial = ++world->serial,
                                 .server = server,
                                 .epoch = server->epoch};
    return event;
}

/* ---- The servers' side ---- */

static inline struct fake_key *fake_find(struct fake_cluster *world, struct slice key)
{
    for (size_t i = 0; i < world->n_keys; i++) {
        if (slice_equal(slice_text(world->keys[i].key), key)) {
            return &world->keys[i];
        }
    }
    return NULL;
}

static inline void fake_put(struct fake_cluster *world, const char *key, const char *value)
{
    struct fake_key *at = fake_find(world, slice_text(key));

    if (at == NULL) {
        if (world->n_keys == FAKE_MAX_KEYS) {
            abort();
        }
        at = &world->keys[world->n_keys++];
        snprintf(at->key, sizeof(at->key), "%s", key);
    }
    snprintf(at->value, sizeof(at->value), "%s", value);
}

static inline struct fake_applied *fake_applied(struct fake_cluster *world,
                                                const struct proto_session *session)
{
    for (size_t i = 0; i < world->n_applied; i++) {
        if (world->applied[i].seq == session->seq &&
            memcmp(world->applied[i].client, session->client, 16) == 0) {
            return &world->applied[i];
        }
    }
    return NULL;
}

/* How many writes with that value were applied. */
static inline size_t fake_times_applied(const struct fake_cluster *world, const char *value)
{
    size_t times = 0;

    for (size_t i = 0; i < world->n_applied; i++) {
        times += strcmp(world->applied[i].value, value) == 0;
    }
    return times;
}

static inline void fake_apply_write(struct fake_cluster *world, const struct kv_write *write,
                                    struct proto_response *response)
{
    struct fake_applied *applied = fake_applied(world, &write->session);
    const struct kv_operation *operation = &write->operations[0];
    char key[64], value[64];

    if (applied == NULL && write->session.seq <= write->session.acked_seq) {
        response->status = ST_SESSION_STALE;
        return;
    }
    if (applied == NULL && write->session.issued_at <= world->floor) {
        response->status = ST_SESSION_EXPIRED;
        world->time = world->time > world->floor ? world->time : world->floor + 1;
        return;
    }
    if (applied == NULL) {
        if (world->n_applied == FAKE_MAX_LOG) {
            abort();
        }
        applied = &world->applied[world->n_applied++];
        memcpy(applied->client, write->session.client, 16);
        applied->seq = write->session.seq;
        applied->issued_at = write->session.issued_at;
        snprintf(key, sizeof(key), "%.*s", (int)operation->key.len, operation->key.data);
        snprintf(value, sizeof(value), "%.*s", (int)operation->value.len,
                 operation->value.len > 0 ? (const char *)operation->value.data : "");
        snprintf(applied->value, sizeof(applied->value), "%.31s", value);
        applied->result = (struct kv_write_result){.status = ST_OK, .n_outputs = 1};
        fake_put(world, key, value);
        world->time++;
    }
    response->status = applied->result.status;
    response->write = applied->result;
}

static inline int fake_compare_keys(const void *a, const void *b)
{
    const struct fake_key *left = a, *right = b;

    return slice_compare(slice_text(left->key), slice_text(right->key));
}

static inline void fake_scan(struct fake_cluster *world, const struct proto_request *request,
                             struct proto_response *response, struct proto_record *records)
{
    qsort(world->keys, world->n_keys, sizeof(world->keys[0]), fake_compare_keys);
    response->status = ST_OK;
    response->scan.records = records;
    for (size_t i = 0; i < world->n_keys; i++) {
        struct slice key = slice_text(world->keys[i].key);

        if (shard_of_key(key, FAKE_SHARDS) != request->scan.shard ||
            !slice_has_prefix(key, request->scan.prefix) ||
            slice_compare(key, request->scan.after) <= 0) {
            continue;
        }
        if (response->scan.n == request->scan.limit) {
            response->scan.more = true;
            return;
        }
        records[response->scan.n++] = (struct proto_record){key, slice_text(world->keys[i].value)};
    }
}

static inline void fake_answer_config(struct fake_cluster *world, struct proto_response *response,
                                      struct buf *encoded)
{
    world->config_queries++;
    shard_config_encode(&world->config, encoded);
    response->status = ST_OK;
    response->config_reply.encoded = buf_slice(encoded);
}

/* What a leader that has applied the request answers. */
static inline void fake_serve(struct fake_cluster *world, struct fake_server *server,
                              const struct proto_request *request, struct proto_response *response,
                              struct proto_record *records, struct buf *scratch)
{
    shard_id shard = request->op == PROTO_WRITE ? request->write.shard
                     : request->op == PROTO_GET ? request->get.shard
                                                : request->scan.shard;
    bool is_kv =
        request->op == PROTO_WRITE || request->op == PROTO_GET || request->op == PROTO_SCAN;

    if (is_kv && world->holder[shard] != server->gid) {
        response->status = ST_WRONG_GROUP;
        response->gid_hint = world->hints ? world->holder[shard] : 0;
    } else if (request->op == PROTO_WRITE) {
        fake_apply_write(world, &request->write, response);
    } else if (request->op == PROTO_GET) {
        struct fake_key *at = fake_find(world, request->get.key);

        response->status = at != NULL ? ST_OK : ST_NOT_FOUND;
        response->get.value = slice_text(at != NULL ? at->value : "");
    } else if (request->op == PROTO_SCAN) {
        fake_scan(world, request, response, records);
    } else if (request->op == PROTO_CONFIG) {
        fake_answer_config(world, response, scratch);
    } else {
        response->status = ST_OK;
        response->admin.num = world->config.num;
    }
}

static inline void fake_respond(struct fake_cluster *world, struct fake_server *server,
                                struct proto_response *response, uint64_t delay)
{
    struct fake_event *event;
    struct buf message = {0};

    response->config = world->config.num;
    response->cluster_time = world->time;
    proto_response_encode(response, &message);
    event = fake_schedule(world, delay, server);
    event->type = EVENT_RESPONSE;
    event->message = message;
}

static inline void fake_break(struct fake_cluster *world, struct fake_server *server, bool unsent)
{
    struct fake_event *event;

    server->epoch++;
    server->connected = false;
    event = fake_schedule(world, FAKE_LATENCY, server);
    event->type = unsent ? EVENT_UNREACHABLE : EVENT_DOWN;
}

/* The request at a replica without faults. */
static inline void fake_normal(struct fake_cluster *world, struct fake_server *server,
                               const struct proto_request *request, bool respond, uint64_t delay)
{
    struct proto_response response = {.op = request->op, .request_id = request->request_id};
    struct proto_record *records = mem_alloc(FAKE_MAX_KEYS * sizeof(records[0]));
    struct buf scratch = {0};

    if (world->leader[server->gid] != 0) {
        response.leader_hint = (world->leader[server->gid] + world->id_shift - 1) % 3 + 1;
    }
    if (world->leader[server->gid] != server->id) {
        response.status = ST_NOT_LEADER;
    } else {
        fake_serve(world, server, request, &response, records, &scratch);
    }
    if (respond) {
        fake_respond(world, server, &response, delay);
    }
    mem_free(records);
    buf_fini(&scratch);
}

static inline void fake_refuse(struct fake_cluster *world, struct fake_server *server,
                               const struct proto_request *request, enum status status)
{
    struct proto_response response = {.op = request->op,
                                      .request_id = request->request_id,
                                      .status = status,
                                      .leader_hint = server->hint};

    fake_respond(world, server, &response, FAKE_LATENCY);
}

static inline enum fault fake_take_fault(struct fake_server *server)
{
    enum fault fault = server->fault;

    if (server->times > 0 && --server->times == 0) {
        server->fault = FAULT_NONE;
    }
    return fault;
}

static inline void fake_apply_later(struct fake_cluster *world, struct fake_server *server,
                                    struct slice message)
{
    struct fake_event *later = fake_schedule(world, 1 + rng_below(&world->rng, 3000), server);

    later->type = EVENT_APPLY;
    buf_put_slice(&later->message, message);
}

static inline void fake_garble(struct fake_cluster *world, struct fake_server *server,
                               const struct proto_request *request)
{
    struct fake_event *event;

    fake_refuse(world, server, request, ST_BUSY);
    event = &world->events[world->n_events - 1];
    set_u32(event->message.data + PROTO_RESPONSE_HEADER_BYTES, 77); /* length of no text */
}

static inline void fake_note_request(struct fake_cluster *world, struct fake_server *server,
                                     const struct proto_request *request)
{
    server->requests++;
    if (request->op == PROTO_WRITE) {
        world->last_client_low = get_u64(request->write.session.client);
        world->last_seq = request->write.session.seq;
        world->last_acked = request->write.session.acked_seq;
        world->last_issued_at = request->write.session.issued_at;
    }
}

static inline void fake_handle(struct fake_cluster *world, struct fake_server *server,
                               struct slice message)
{
    struct proto_request request;

    if (!proto_request_decode(message, &request)) {
        abort();
    }
    fake_note_request(world, server, &request);
    switch (fake_take_fault(server)) {
    case FAULT_NONE:
        fake_normal(world, server, &request, true, FAKE_LATENCY);
        break;
    case FAULT_SLOW:
        fake_normal(world, server, &request, true, server->slow_ms);
        break;
    case FAULT_REFUSE:
        fake_refuse(world, server, &request, server->refusal);
        break;
    case FAULT_BREAK:
        fake_break(world, server, false);
        break;
    case FAULT_APPLY_BREAK:
        fake_normal(world, server, &request, false, 0);
        fake_break(world, server, false);
        break;
    case FAULT_APPLY_SILENT:
        fake_normal(world, server, &request, false, 0);
        break;
    case FAULT_APPLY_LATER:
        fake_apply_later(world, server, message);
        fake_refuse(world, server, &request, ST_UNKNOWN);
        break;
    case FAULT_GARBLE:
        fake_garble(world, server, &request);
        break;
    case FAULT_SILENT:
    case FAULT_HELD:
    case FAULT_UNREACHABLE:
        break;
    }
    proto_request_fini(&request);
}

#endif
