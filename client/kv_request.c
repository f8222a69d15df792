/* What a request does on the loop thread: it becomes an operation of the clerk, of the controller's
 * clerk or of the caller, and their end becomes its result. */
#include <stdio.h>

#include "client/kv_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct kv_request *kv_request_create(struct shardkv *handle, enum kv_request_kind kind,
                                     uint32_t timeout_ms, shardkv_callback callback, void *context)
{
    struct kv_request *request = mem_zalloc(sizeof(*request));

    request->handle = handle;
    request->kind = kind;
    request->deadline_ms = net_now_ms() + (timeout_ms > 0 ? timeout_ms : handle->timeout_ms);
    request->callback = callback;
    request->context = context;
    return request;
}

const char *const kv_url_rule = "a URL is tcp://host:port, tls+tcp://host:port or ipc:///path";

int kv_request_for_url(struct shardkv *handle, enum kv_request_kind kind, const char *url,
                       uint32_t timeout_ms, struct kv_request **request)
{
    *request = NULL;
    if (url == NULL || spec_check_url(url) != NULL) {
        return SHARDKV_INVALID;
    }
    *request = kv_request_create(handle, kind, timeout_ms, NULL, NULL);
    snprintf((*request)->url, sizeof((*request)->url), "%s", url);
    return SHARDKV_OK;
}

void kv_request_destroy(struct kv_request *request)
{
    mem_free(request->bytes);
    mem_free(request->write);
    mem_free(request->groups);
    mem_free(request->gids);
    mem_free(request);
}

void kv_request_finish(struct kv_request *request, struct shardkv_result *result)
{
    TAILQ_REMOVE(&request->handle->started, request, link);
    if (request->handle->refusal[0] != '\0' &&
        (result->code == SHARDKV_TIMEOUT || result->code == SHARDKV_UNAVAILABLE ||
         result->code == SHARDKV_UNKNOWN)) {
        kv_result_explain(result, request->handle->refusal);
    }
    if (request->callback != NULL) {
        kv_request_answer(request, result);
    } else {
        shardkv_result_free(result); /* was cancelled, and answered then */
    }
    kv_request_destroy(request);
}

static void on_clerk_end(void *context, const struct clerk_end *end)
{
    kv_request_finish(context, kv_result_of_clerk(end));
}

static void on_config(void *context, enum status status, const struct shard_config *config)
{
    struct kv_request *request = context;
    struct shardkv_result *result =
        kv_result_create(status, ctrler_clerk_reason(request->handle->admin));

    if (status == ST_OK) {
        kv_result_set_config(result, config);
    }
    kv_request_finish(request, result);
}

static void on_changed(void *context, enum status status, config_num num, const char *text)
{
    struct shardkv_result *result = kv_result_create(status, text);

    result->config_num = num;
    kv_request_finish(context, result);
}

static void on_planned(void *context, enum status status, const struct shard_config *config,
                       const char *text)
{
    struct shardkv_result *result = kv_result_create(status, text);

    if (status == ST_OK) {
        kv_result_set_config(result, config);
    }
    kv_request_finish(context, result);
}

static void start_plan(struct kv_request *request, uint64_t now_ms)
{
    struct proto_request change = {.op = request->kind == KV_REQUEST_JOIN    ? PROTO_JOIN
                                         : request->kind == KV_REQUEST_LEAVE ? PROTO_LEAVE
                                                                             : PROTO_MOVE};

    if (change.op == PROTO_JOIN) {
        change.join.groups = request->groups;
        change.join.n = request->n;
    } else if (change.op == PROTO_LEAVE) {
        change.leave.gids = request->gids;
        change.leave.n = request->n;
    } else {
        ASSERT(request->kind == KV_REQUEST_MOVE);
        change.move.shard = request->shard;
        change.move.gid = request->gid;
    }
    ctrler_clerk_plan(request->handle->admin, &change, now_ms, request->deadline_ms, on_planned,
                      request);
}

static void on_node_answer(void *context, const struct caller_end *end)
{
    struct kv_request *request = context;
    enum status status = end->status;
    struct shardkv_result *result;

    /* A refusal stands only if no other try of the transfer can have begun it. */
    if (request->kind == KV_REQUEST_TRANSFER && status != ST_OK && end->maybe_applied) {
        status = ST_UNKNOWN;
    }
    result = kv_result_create(status, end->reason);
    if (request->kind == KV_REQUEST_STATUS && status == ST_OK) {
        kv_result_set_node(result, &end->response->node);
    }
    kv_request_finish(request, result);
}

static void start_status(struct kv_request *request, uint64_t now_ms)
{
    struct proto_request message = {.op = PROTO_STATUS};
    struct caller_target target = {.only_prefer = true};

    memcpy(target.prefer, request->url, sizeof(target.prefer));
    request->operation = caller_start(clerk_caller(request->handle->clerk), &target, &message, true,
                                      now_ms, request->deadline_ms, on_node_answer, request);
}

/* ---- To one group: first who it is, then to its leader ---- */

static void start_transfer(struct kv_request *request, const struct spec *replicas, uint64_t now_ms)
{
    struct proto_request message = {.op = PROTO_TRANSFER};
    struct caller_target target = {.replicas = *replicas};

    message.transfer.to = request->to;
    request->operation = caller_start(clerk_caller(request->handle->clerk), &target, &message,
                                      false, now_ms, request->deadline_ms, on_node_answer, request);
}

static void on_group_config(void *context, enum status status, const struct shard_config *config)
{
    struct kv_request *request = context;
    const struct config_group *group =
        status == ST_OK ? shard_config_find(config, request->gid) : NULL;
    const struct spec *replicas = group != NULL ? &group->replicas : NULL;

    if (status == ST_OK && request->gid == 0) {
        replicas = ctrler_clerk_ctrlers(request->handle->admin);
    }
    if (status != ST_OK) {
        kv_request_finish(request,
                          kv_result_create(status, ctrler_clerk_reason(request->handle->admin)));
    } else if (replicas == NULL) {
        kv_request_finish(request, kv_result_create(ST_NO_GROUP, ""));
    } else if (request->callback == NULL || request->handle->ending) {
        kv_request_finish(request, kv_result_create(ST_CANCELLED, ""));
    } else {
        request->found(request, replicas, net_now_ms());
    }
}

void kv_request_find_group(struct kv_request *request, kv_request_found found, uint64_t now_ms)
{
    request->found = found;
    ctrler_clerk_query(request->handle->admin, CONFIG_LATEST, 0, 0, now_ms, request->deadline_ms,
                       on_group_config, request);
}

/* ---- Start and cancel ---- */

/* The controllers that the clerk has learnt of meanwhile. */
static void follow_controllers(struct shardkv *handle)
{
    const struct shard_config *config = clerk_config(handle->clerk);

    if (config != NULL && config->ctrlers.n > 0 && config->num > handle->followed) {
        handle->followed = config->num;
        ctrler_clerk_follow(handle->admin, &config->ctrlers);
    }
}

static void start_admin(struct kv_request *request, uint64_t now_ms)
{
    struct ctrler_clerk *admin = request->handle->admin;
    uint64_t deadline_ms = request->deadline_ms;

    follow_controllers(request->handle);
    if (request->is_plan) {
        start_plan(request, now_ms);
        return;
    }
    switch (request->kind) {
    case KV_REQUEST_CONFIG:
        ctrler_clerk_query(admin, request->num, 0, 0, now_ms, deadline_ms, on_config, request);
        break;
    case KV_REQUEST_JOIN:
        ctrler_clerk_join(admin, request->groups, request->n, now_ms, deadline_ms, on_changed,
                          request);
        break;
    case KV_REQUEST_LEAVE:
        ctrler_clerk_leave(admin, request->gids, request->n, now_ms, deadline_ms, on_changed,
                           request);
        break;
    case KV_REQUEST_MOVE:
        ctrler_clerk_move(admin, request->shard, request->gid, now_ms, deadline_ms, on_changed,
                          request);
        break;
    case KV_REQUEST_PAUSE:
        ctrler_clerk_pause(admin, request->paused, now_ms, deadline_ms, on_changed, request);
        break;
    case KV_REQUEST_STATUS:
        start_status(request, now_ms);
        break;
    case KV_REQUEST_MEMBERS:
    case KV_REQUEST_REPLICA:
        kv_replica_start(request, now_ms);
        break;
    default:
        ASSERT(request->kind == KV_REQUEST_TRANSFER);
        kv_request_find_group(request, start_transfer, now_ms);
        break;
    }
}

void kv_request_start(struct kv_request *request, uint64_t now_ms)
{
    struct shardkv *handle = request->handle;

    TAILQ_INSERT_TAIL(&handle->started, request, link);
    switch (request->kind) {
    case KV_REQUEST_GET:
        request->operation = clerk_get(handle->clerk, request->key, now_ms, request->deadline_ms,
                                       on_clerk_end, request);
        break;
    case KV_REQUEST_WRITE:
        request->operation = clerk_write_lent(handle->clerk, request->write, now_ms,
                                              request->deadline_ms, on_clerk_end, request);
        break;
    case KV_REQUEST_SCAN:
        request->operation = clerk_scan(handle->clerk, request->key, request->after, request->limit,
                                        now_ms, request->deadline_ms, on_clerk_end, request);
        break;
    default:
        start_admin(request, now_ms);
        break;
    }
}

void kv_request_cancel(struct kv_request *request, uint64_t now_ms)
{
    struct shardkv *handle = request->handle;
    bool is_change = !request->is_plan &&
                     (request->kind == KV_REQUEST_JOIN || request->kind == KV_REQUEST_LEAVE ||
                      request->kind == KV_REQUEST_MOVE || request->kind == KV_REQUEST_PAUSE);

    if (request->kind <= KV_REQUEST_SCAN) {
        clerk_cancel(handle->clerk, request->operation, now_ms);
    } else if (request->operation != 0) {
        caller_cancel(clerk_caller(handle->clerk), request->operation);
    } else if (request->callback != NULL) {
        /* The controller's clerk goes on until the deadline; nobody waits for it any more. */
        kv_request_answer(request, kv_result_create(is_change ? ST_UNKNOWN : ST_CANCELLED, ""));
    }
}
