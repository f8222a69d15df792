/* The exported calls about the replicas of a group, and what they do on the loop thread. */
#include <stdio.h>

#include "client/kv_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

static const char *const replica_rule = "a gid is 0 to 2147483647, a replica 1 to 255, the "
                                        "configuration's index at least 1, and a URL "
                                        "tcp://host:port, tls+tcp://host:port or "
                                        "ipc:///path";

/* ---- On the loop thread ---- */

static void on_answer(void *context, const struct caller_end *end)
{
    struct kv_request *request = context;
    enum status status = end->status;
    struct shardkv_result *result;

    /* A refusal stands only if no other try of the change can have begun it. */
    if (request->kind == KV_REQUEST_REPLICA && status != ST_OK && end->maybe_applied) {
        status = ST_UNKNOWN;
    }
    result = kv_result_create(status, end->reason);
    if (request->kind == KV_REQUEST_MEMBERS && status == ST_OK) {
        kv_result_set_members(result, &end->response->replicas);
    }
    kv_request_finish(request, result);
}

static void start_change(struct kv_request *request, const struct spec *replicas, uint64_t now_ms)
{
    struct proto_request message = {.op = PROTO_REPLICA};
    struct caller_target target = {.only_prefer = replicas == NULL};

    message.replica.kind = request->change;
    message.replica.gid = request->gid;
    message.replica.id = request->to;
    message.replica.configuration_index = request->num;
    if (request->change == PROTO_REPLICA_ADD) {
        message.replica.url = slice_text(request->url);
    }
    if (replicas != NULL) {
        target.replicas = *replicas;
    } else {
        memcpy(target.prefer, request->url, sizeof(target.prefer));
    }
    request->operation = caller_start(clerk_caller(request->handle->clerk), &target, &message,
                                      false, now_ms, request->deadline_ms, on_answer, request);
}

static void start_members(struct kv_request *request, uint64_t now_ms)
{
    struct proto_request message = {.op = PROTO_REPLICAS};
    struct caller_target target = {.only_prefer = true};

    memcpy(target.prefer, request->url, sizeof(target.prefer));
    request->operation = caller_start(clerk_caller(request->handle->clerk), &target, &message, true,
                                      now_ms, request->deadline_ms, on_answer, request);
}

void kv_replica_start(struct kv_request *request, uint64_t now_ms)
{
    if (request->kind == KV_REQUEST_MEMBERS) {
        start_members(request, now_ms);
    } else if (request->change == PROTO_REPLICA_ALONE) {
        start_change(request, NULL, now_ms); /* there is no leader to find */
    } else {
        kv_request_find_group(request, start_change, now_ms);
    }
}

/* ---- The calls ---- */

int shardkv_members(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                    struct shardkv_result **result)
{
    struct kv_request *request;
    int early = kv_request_for_url(handle, KV_REQUEST_MEMBERS, url, timeout_ms, &request);

    return kv_wait(handle, request, early, kv_url_rule, result);
}

int shardkv_members_async(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                          shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = kv_request_for_url(handle, KV_REQUEST_MEMBERS, url, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

static int make_change(struct shardkv *handle, enum proto_replica_change change, uint32_t gid,
                       uint64_t configuration_index, uint32_t replica, const char *url,
                       uint32_t timeout_ms, struct kv_request **request)
{
    *request = NULL;
    if (gid > CONFIG_MAX_GID || replica < 1 || replica > SPEC_MAX_ID || configuration_index == 0 ||
        (change != PROTO_REPLICA_REMOVE && (url == NULL || spec_check_url(url) != NULL))) {
        return SHARDKV_INVALID;
    }
    *request = kv_request_create(handle, KV_REQUEST_REPLICA, timeout_ms, NULL, NULL);
    (*request)->change = change;
    (*request)->gid = gid;
    (*request)->to = replica;
    (*request)->num = configuration_index;
    if (url != NULL) {
        snprintf((*request)->url, sizeof((*request)->url), "%s", url);
    }
    return SHARDKV_OK;
}

int shardkv_replica_add(struct shardkv *handle, uint32_t gid, uint64_t configuration_index,
                        uint32_t replica, const char *url, uint32_t timeout_ms,
                        struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_change(handle, PROTO_REPLICA_ADD, gid, configuration_index, replica, url,
                            timeout_ms, &request);

    return kv_wait(handle, request, early, replica_rule, result);
}

int shardkv_replica_add_async(struct shardkv *handle, uint32_t gid, uint64_t configuration_index,
                              uint32_t replica, const char *url, uint32_t timeout_ms,
                              shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_change(handle, PROTO_REPLICA_ADD, gid, configuration_index, replica, url,
                            timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

int shardkv_replica_remove(struct shardkv *handle, uint32_t gid, uint64_t configuration_index,
                           uint32_t replica, uint32_t timeout_ms, struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_change(handle, PROTO_REPLICA_REMOVE, gid, configuration_index, replica, NULL,
                            timeout_ms, &request);

    return kv_wait(handle, request, early, replica_rule, result);
}

int shardkv_replica_remove_async(struct shardkv *handle, uint32_t gid, uint64_t configuration_index,
                                 uint32_t replica, uint32_t timeout_ms, shardkv_callback callback,
                                 void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_change(handle, PROTO_REPLICA_REMOVE, gid, configuration_index, replica, NULL,
                            timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

int shardkv_replica_recover(struct shardkv *handle, const char *url, uint32_t gid,
                            uint64_t configuration_index, uint32_t replica, uint32_t timeout_ms,
                            struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_change(handle, PROTO_REPLICA_ALONE, gid, configuration_index, replica, url,
                            timeout_ms, &request);

    return kv_wait(handle, request, early, replica_rule, result);
}

int shardkv_replica_recover_async(struct shardkv *handle, const char *url, uint32_t gid,
                                  uint64_t configuration_index, uint32_t replica,
                                  uint32_t timeout_ms, shardkv_callback callback, void *context,
                                  uint64_t *id)
{
    struct kv_request *request;
    int early = make_change(handle, PROTO_REPLICA_ALONE, gid, configuration_index, replica, url,
                            timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}
