/* The exported calls for administration: arguments become a request. */
#include <stdio.h>

#include "client/kv_internal.h"
#include "raft/util/mem.h"

/* ---- config ---- */

static struct kv_request *make_config(struct shardkv *handle, uint64_t num, uint32_t timeout_ms)
{
    struct kv_request *request =
        kv_request_create(handle, KV_REQUEST_CONFIG, timeout_ms, NULL, NULL);

    request->num = num;
    return request;
}

int shardkv_config(struct shardkv *handle, uint64_t num, uint32_t timeout_ms,
                   struct shardkv_result **result)
{
    return kv_wait(handle, make_config(handle, num, timeout_ms), SHARDKV_OK, "", result);
}

int shardkv_config_async(struct shardkv *handle, uint64_t num, uint32_t timeout_ms,
                         shardkv_callback callback, void *context, uint64_t *id)
{
    return kv_submit_async(make_config(handle, num, timeout_ms), 0, callback, context, id);
}

static const char *const join_rule =
    "a gid is 1 to 2147483647, and a SPEC is ID=URL,ID=URL,... of 1 to 9 replicas";
static const char *const gid_rule = "a gid is 1 to 2147483647, and there are 1 to 64 of them";
static const char *const move_rule = "a shard is 0 to 16383, and a gid 1 to 2147483647";
static const char *const transfer_rule = "a gid is 0 to 2147483647, and a replica 0 to 255";

/* ---- join, leave, move ---- */

static bool gid_is_valid(uint32_t gid)
{
    return gid >= 1 && gid <= CONFIG_MAX_GID;
}

static int make_join(struct shardkv *handle, const struct shardkv_join *groups, size_t n,
                     uint32_t timeout_ms, struct kv_request **request)
{
    struct proto_join_group *copy;

    *request = NULL;
    if (n < 1 || n > PROTO_MAX_GROUPS) {
        return SHARDKV_INVALID;
    }
    copy = mem_zalloc(n * sizeof(copy[0]));
    for (size_t i = 0; i < n; i++) {
        copy[i].gid = groups[i].gid;
        if (!gid_is_valid(groups[i].gid) || groups[i].replicas == NULL ||
            spec_parse(groups[i].replicas, &copy[i].replicas) != NULL) {
            mem_free(copy);
            return SHARDKV_INVALID;
        }
    }
    *request = kv_request_create(handle, KV_REQUEST_JOIN, timeout_ms, NULL, NULL);
    (*request)->groups = copy;
    (*request)->n = (uint32_t)n;
    return SHARDKV_OK;
}

int shardkv_join(struct shardkv *handle, const struct shardkv_join *groups, size_t n,
                 uint32_t timeout_ms, struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_join(handle, groups, n, timeout_ms, &request);

    return kv_wait(handle, request, early, join_rule, result);
}

int shardkv_join_async(struct shardkv *handle, const struct shardkv_join *groups, size_t n,
                       uint32_t timeout_ms, shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_join(handle, groups, n, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

static int make_leave(struct shardkv *handle, const uint32_t *gids, size_t n, uint32_t timeout_ms,
                      struct kv_request **request)
{
    *request = NULL;
    if (n < 1 || n > PROTO_MAX_GROUPS) {
        return SHARDKV_INVALID;
    }
    for (size_t i = 0; i < n; i++) {
        if (!gid_is_valid(gids[i])) {
            return SHARDKV_INVALID;
        }
    }
    *request = kv_request_create(handle, KV_REQUEST_LEAVE, timeout_ms, NULL, NULL);
    (*request)->gids = mem_copy(gids, n * sizeof(gids[0]));
    (*request)->n = (uint32_t)n;
    return SHARDKV_OK;
}

int shardkv_leave(struct shardkv *handle, const uint32_t *gids, size_t n, uint32_t timeout_ms,
                  struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_leave(handle, gids, n, timeout_ms, &request);

    return kv_wait(handle, request, early, gid_rule, result);
}

int shardkv_leave_async(struct shardkv *handle, const uint32_t *gids, size_t n, uint32_t timeout_ms,
                        shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_leave(handle, gids, n, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

static int make_move(struct shardkv *handle, uint32_t shard, uint32_t gid, uint32_t timeout_ms,
                     struct kv_request **request)
{
    *request = NULL;
    if (shard >= SHARD_MAX_COUNT || !gid_is_valid(gid)) {
        return SHARDKV_INVALID;
    }
    *request = kv_request_create(handle, KV_REQUEST_MOVE, timeout_ms, NULL, NULL);
    (*request)->shard = shard;
    (*request)->gid = gid;
    return SHARDKV_OK;
}

int shardkv_move(struct shardkv *handle, uint32_t shard, uint32_t gid, uint32_t timeout_ms,
                 struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_move(handle, shard, gid, timeout_ms, &request);

    return kv_wait(handle, request, early, move_rule, result);
}

int shardkv_move_async(struct shardkv *handle, uint32_t shard, uint32_t gid, uint32_t timeout_ms,
                       shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_move(handle, shard, gid, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

/* ---- pause ---- */

static struct kv_request *make_pause(struct shardkv *handle, bool paused, uint32_t timeout_ms)
{
    struct kv_request *request =
        kv_request_create(handle, KV_REQUEST_PAUSE, timeout_ms, NULL, NULL);

    request->paused = paused;
    return request;
}

int shardkv_pause_moves(struct shardkv *handle, bool paused, uint32_t timeout_ms,
                        struct shardkv_result **result)
{
    return kv_wait(handle, make_pause(handle, paused, timeout_ms), SHARDKV_OK, "", result);
}

int shardkv_pause_moves_async(struct shardkv *handle, bool paused, uint32_t timeout_ms,
                              shardkv_callback callback, void *context, uint64_t *id)
{
    return kv_submit_async(make_pause(handle, paused, timeout_ms), 0, callback, context, id);
}

/* ---- Dry runs of join, leave, move ---- */

/* Makes a plan of what was made for a change; passes on whether that went well. */
static int as_plan(int early, struct kv_request **request)
{
    if (early == SHARDKV_OK) {
        (*request)->is_plan = true;
    }
    return early;
}

int shardkv_plan_join(struct shardkv *handle, const struct shardkv_join *groups, size_t n,
                      uint32_t timeout_ms, struct shardkv_result **result)
{
    struct kv_request *request;
    int early = as_plan(make_join(handle, groups, n, timeout_ms, &request), &request);

    return kv_wait(handle, request, early, join_rule, result);
}

int shardkv_plan_join_async(struct shardkv *handle, const struct shardkv_join *groups, size_t n,
                            uint32_t timeout_ms, shardkv_callback callback, void *context,
                            uint64_t *id)
{
    struct kv_request *request;
    int early = as_plan(make_join(handle, groups, n, timeout_ms, &request), &request);

    return kv_submit_async(request, early, callback, context, id);
}

int shardkv_plan_leave(struct shardkv *handle, const uint32_t *gids, size_t n, uint32_t timeout_ms,
                       struct shardkv_result **result)
{
    struct kv_request *request;
    int early = as_plan(make_leave(handle, gids, n, timeout_ms, &request), &request);

    return kv_wait(handle, request, early, gid_rule, result);
}

int shardkv_plan_leave_async(struct shardkv *handle, const uint32_t *gids, size_t n,
                             uint32_t timeout_ms, shardkv_callback callback, void *context,
                             uint64_t *id)
{
    struct kv_request *request;
    int early = as_plan(make_leave(handle, gids, n, timeout_ms, &request), &request);

    return kv_submit_async(request, early, callback, context, id);
}

int shardkv_plan_move(struct shardkv *handle, uint32_t shard, uint32_t gid, uint32_t timeout_ms,
                      struct shardkv_result **result)
{
    struct kv_request *request;
    int early = as_plan(make_move(handle, shard, gid, timeout_ms, &request), &request);

    return kv_wait(handle, request, early, move_rule, result);
}

int shardkv_plan_move_async(struct shardkv *handle, uint32_t shard, uint32_t gid,
                            uint32_t timeout_ms, shardkv_callback callback, void *context,
                            uint64_t *id)
{
    struct kv_request *request;
    int early = as_plan(make_move(handle, shard, gid, timeout_ms, &request), &request);

    return kv_submit_async(request, early, callback, context, id);
}

/* ---- status, transfer ---- */

int shardkv_status(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                   struct shardkv_result **result)
{
    struct kv_request *request;
    int early = kv_request_for_url(handle, KV_REQUEST_STATUS, url, timeout_ms, &request);

    return kv_wait(handle, request, early, kv_url_rule, result);
}

int shardkv_status_async(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                         shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = kv_request_for_url(handle, KV_REQUEST_STATUS, url, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

static int make_transfer(struct shardkv *handle, uint32_t gid, uint32_t to, uint32_t timeout_ms,
                         struct kv_request **request)
{
    *request = NULL;
    if (gid > CONFIG_MAX_GID || to > SPEC_MAX_ID) {
        return SHARDKV_INVALID;
    }
    *request = kv_request_create(handle, KV_REQUEST_TRANSFER, timeout_ms, NULL, NULL);
    (*request)->gid = gid;
    (*request)->to = to;
    return SHARDKV_OK;
}

int shardkv_transfer(struct shardkv *handle, uint32_t gid, uint32_t to, uint32_t timeout_ms,
                     struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_transfer(handle, gid, to, timeout_ms, &request);

    return kv_wait(handle, request, early, transfer_rule, result);
}

int shardkv_transfer_async(struct shardkv *handle, uint32_t gid, uint32_t to, uint32_t timeout_ms,
                           shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_transfer(handle, gid, to, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}
