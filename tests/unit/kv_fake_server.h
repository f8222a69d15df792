/* One small server on loopback, controller and group in one, for the tests of the public library.
 * It keeps keys in memory and does as told: serve, be silent, refuse. */
#ifndef TESTS_UNIT_KV_FAKE_SERVER_H
#define TESTS_UNIT_KV_FAKE_SERVER_H

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/proto.h"
#include "raft/net.h"
#include "raft/util/mem.h"

#define MAX_KEYS 4096
#define SHARDS   16

struct stored {
    char key[64];
    char value[128];
};

struct server {
    struct net *net;
    pthread_t thread;
    char url[64];
    struct shard_config config;
    struct stored keys[MAX_KEYS];
    size_t n_keys;
    /* What the test changes while the server runs. */
    pthread_mutex_t mutex;
    bool silent;
    uint32_t transfers_unheard; /* so many orders to transfer leadership are not answered */
    enum status refusal;        /* ST_OK: serves */
    uint8_t cluster; /* of its cluster id; 0: it does not know its cluster. For the next start */
    uint32_t writes;
};

/* ---- The server ---- */

static inline struct stored *find_key(struct server *server, struct slice key)
{
    for (size_t i = 0; i < server->n_keys; i++) {
        if (slice_equal(slice_text(server->keys[i].key), key)) {
            return &server->keys[i];
        }
    }
    return NULL;
}

static inline void delete_key(struct server *server, struct stored *key)
{
    *key = server->keys[--server->n_keys];
}

static inline uint32_t do_operation(struct server *server, const struct kv_operation *operation)
{
    struct stored *at = find_key(server, operation->key);
    size_t len;

    if (operation->type == KV_DELETE) {
        if (at != NULL) {
            delete_key(server, at);
        }
        return at != NULL;
    }
    if (at == NULL) {
        assert_true(server->n_keys < MAX_KEYS);
        at = &server->keys[server->n_keys++];
        memset(at, 0, sizeof(*at));
        memcpy(at->key, operation->key.data, operation->key.len);
    }
    len = operation->type == KV_APPEND ? strlen(at->value) : 0;
    snprintf(at->value + len, sizeof(at->value) - len, "%.*s", (int)operation->value.len,
             operation->value.len > 0 ? (const char *)operation->value.data : "");
    return operation->type == KV_APPEND ? (uint32_t)strlen(at->value) : 0;
}

static inline void do_write(struct server *server, const struct kv_write *write,
                            struct proto_response *response)
{
    server->writes++;
    for (uint8_t i = 0; i < write->n_conditions; i++) {
        const struct kv_condition *condition = &write->conditions[i];
        struct stored *at = find_key(server, condition->key);
        bool holds = condition->type == KV_IF_ABSENT
                         ? at == NULL
                         : at != NULL && slice_equal(slice_text(at->value), condition->value);

        if (!holds) {
            response->status = response->write.status = ST_MISMATCH;
            return;
        }
    }
    for (uint8_t i = 0; i < write->n_operations; i++) {
        response->write.outputs[response->write.n_outputs++] =
            do_operation(server, &write->operations[i]);
    }
}

static inline int compare_stored(const void *a, const void *b)
{
    return strcmp(((const struct stored *)a)->key, ((const struct stored *)b)->key);
}

static inline void do_scan(struct server *server, const struct proto_request *request,
                           struct proto_response *response, struct proto_record *records)
{
    qsort(server->keys, server->n_keys, sizeof(server->keys[0]), compare_stored);
    response->scan.records = records;
    for (size_t i = 0; i < server->n_keys; i++) {
        struct slice key = slice_text(server->keys[i].key);

        if (shard_of_key(key, SHARDS) != request->scan.shard ||
            !slice_has_prefix(key, request->scan.prefix) ||
            slice_compare(key, request->scan.after) <= 0) {
            continue;
        }
        if (response->scan.n == request->scan.limit) {
            response->scan.more = true;
            break;
        }
        records[response->scan.n++] = (struct proto_record){key, slice_text(server->keys[i].value)};
    }
}

/* Number 6 for every change; a dry run gets the present configuration under that number. */
static inline void answer_admin(const struct server *server, const struct proto_request *request,
                                struct proto_response *response, struct buf *scratch)
{
    response->admin.num = 6;
    if (request->dry_run) {
        struct shard_config planned = server->config;

        planned.num = 6;
        planned.moves_paused = true;
        shard_config_encode(&planned, scratch);
        response->admin.planned = buf_slice(scratch);
    }
}

static inline void serve(struct server *server, const struct proto_request *request,
                         struct proto_response *response, struct proto_record *records,
                         struct buf *scratch)
{
    struct stored *at;

    switch (request->op) {
    case PROTO_CONFIG:
        shard_config_encode(&server->config, scratch);
        response->config_reply.encoded = buf_slice(scratch);
        break;
    case PROTO_GET:
        at = find_key(server, request->get.key);
        response->status = at != NULL ? ST_OK : ST_NOT_FOUND;
        response->get.value = slice_text(at != NULL ? at->value : "");
        response->get.version = 7;
        break;
    case PROTO_WRITE:
        do_write(server, &request->write, response);
        break;
    case PROTO_SCAN:
        do_scan(server, request, response, records);
        break;
    case PROTO_STATUS:
        response->node.gid = 1;
        response->node.id = 1;
        response->node.role = 3;
        response->node.term = 9;
        response->node.version = slice_text("test");
        break;
    case PROTO_MOVE:
        response->status = request->move.gid == 1 ? ST_OK : ST_NO_GROUP;
        answer_admin(server, request, response, scratch);
        response->text = slice_text("group 2 is no member");
        break;
    default:
        answer_admin(server, request, response, scratch);
        break;
    }
}

static inline void on_event(void *context, const struct io_event *event)
{
    struct server *server = context;
    struct io_net *io = net_io(server->net);
    struct proto_request request;
    struct proto_response response = {0};
    struct proto_record *records;
    struct buf scratch = {0}, message = {0};

    if (event->type != IO_EVENT_CLIENT_MESSAGE) {
        return;
    }
    assert_true(proto_request_decode(event->client.message, &request));
    pthread_mutex_lock(&server->mutex);
    records = mem_alloc(MAX_KEYS * sizeof(records[0]));
    response.op = request.op;
    response.request_id = request.request_id;
    response.cluster_time = 12345;
    response.leader_hint = 1;
    response.status = server->refusal;
    if (request.op == PROTO_TRANSFER && server->transfers_unheard > 0) {
        server->transfers_unheard--;
    } else if (!server->silent) {
        if (server->refusal == ST_OK || request.op == PROTO_CONFIG) {
            response.status = ST_OK;
            serve(server, &request, &response, records, &scratch);
        }
        proto_response_encode(&response, &message);
        io->ops->reply(io, event->client.conn, &message);
    }
    mem_free(records);
    buf_fini(&scratch);
    pthread_mutex_unlock(&server->mutex);
    proto_request_fini(&request);
}

static inline uint64_t no_deadline(void *context)
{
    (void)context;
    return UINT64_MAX;
}

static inline int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static inline void *run_server(void *arg)
{
    struct server *server = arg;

    net_run(server->net);
    return NULL;
}

static inline void server_start(struct server *server)
{
    struct net_options options;
    char error[256];

    net_options_default(&options);
    options.listen_url = server->url;
    options.self.who = HELLO_PEER;
    options.self.gid = 1;
    options.self.id = 1;
    memset(options.self.cluster_id, server->cluster, sizeof(options.self.cluster_id));
    options.sink.context = server;
    options.sink.event = on_event;
    options.sink.next_deadline_ms = no_deadline;
    assert_int_equal(net_create(&options, &server->net, error), ST_OK);
    assert_int_equal(pthread_create(&server->thread, NULL, run_server, server), 0);
}

static inline void server_stop(struct server *server)
{
    if (server->net == NULL) {
        return;
    }
    net_stop(server->net);
    pthread_join(server->thread, NULL);
    net_destroy(&server->net);
}

static inline void set_silent(struct server *server, bool silent)
{
    pthread_mutex_lock(&server->mutex);
    server->silent = silent;
    pthread_mutex_unlock(&server->mutex);
}

#endif
