/* The servers' side: what becomes of a request, with or without a fault. */
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/mem.h"
#include "tests/sim/fake_cluster_internal.h"

static struct fake_key *fake_find(struct fake_cluster *world, struct slice key)
{
    for (size_t i = 0; i < world->n_keys; i++) {
        if (slice_equal(slice_text(world->keys[i].key), key)) {
            return &world->keys[i];
        }
    }
    return NULL;
}

void fake_put(struct fake_cluster *world, const char *key, const char *value)
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

static struct fake_applied *fake_applied(struct fake_cluster *world,
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

size_t fake_times_applied(const struct fake_cluster *world, const char *value)
{
    size_t times = 0;

    for (size_t i = 0; i < world->n_applied; i++) {
        times += strcmp(world->applied[i].value, value) == 0;
    }
    return times;
}

static void fake_apply_write(struct fake_cluster *world, const struct kv_write *write,
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

int fake_compare_keys(const void *a, const void *b)
{
    const struct fake_key *left = a, *right = b;

    return slice_compare(slice_text(left->key), slice_text(right->key));
}

static void fake_scan(struct fake_cluster *world, const struct proto_request *request,
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

static void fake_answer_config(struct fake_cluster *world, struct proto_response *response,
                               struct buf *encoded)
{
    world->config_queries++;
    shard_config_encode(&world->config, encoded);
    response->status = ST_OK;
    response->config_reply.encoded = buf_slice(encoded);
}

/* What a leader that has applied the request answers. */
static void fake_serve(struct fake_cluster *world, struct fake_server *server,
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

void fake_respond(struct fake_cluster *world, struct fake_server *server,
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

void fake_normal(struct fake_cluster *world, struct fake_server *server,
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

static void fake_refuse(struct fake_cluster *world, struct fake_server *server,
                        const struct proto_request *request, enum status status)
{
    struct proto_response response = {.op = request->op,
                                      .request_id = request->request_id,
                                      .status = status,
                                      .leader_hint = server->hint};

    fake_respond(world, server, &response, FAKE_LATENCY);
}

static void fake_apply_later(struct fake_cluster *world, struct fake_server *server,
                             struct slice message)
{
    struct fake_event *later = fake_schedule(world, 1 + rng_below(&world->rng, 3000), server);

    later->type = EVENT_APPLY;
    buf_put_slice(&later->message, message);
}

static void fake_garble(struct fake_cluster *world, struct fake_server *server,
                        const struct proto_request *request)
{
    struct fake_event *event;

    fake_refuse(world, server, request, ST_BUSY);
    event = &world->events[world->n_events - 1];
    set_u32(event->message.data + PROTO_RESPONSE_HEADER_BYTES, 77); /* length of no text */
}

static void fake_note_request(struct fake_cluster *world, struct fake_server *server,
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

void fake_handle(struct fake_cluster *world, struct fake_server *server, struct slice message)
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
