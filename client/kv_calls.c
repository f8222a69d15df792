/* The exported calls for reading and writing: arguments become a request. */
#include "client/kv_internal.h"
#include "raft/util/mem.h"

static struct slice copy_in(uint8_t **at, struct shardkv_bytes bytes)
{
    struct slice copy = slice_of(*at, bytes.len);

    if (bytes.len > 0) {
        memcpy(*at, bytes.data, bytes.len);
    }
    *at += bytes.len;
    return copy;
}

static const char *const key_rule = "a key has 1 to 4096 bytes";
static const char *const write_rule =
    "a key has 1 to 4096 bytes, a value at most 16 MiB, a write 40 MiB in all";
static const char *const scan_rule =
    "a page has 1 to 10000 records, a prefix and a key at most 4096 bytes";

/* What is past a limit is refused before it is copied. */
static int check_key(struct shardkv_bytes key)
{
    return key.len >= 1 && key.len <= KV_MAX_KEY && key.data != NULL ? SHARDKV_OK : SHARDKV_INVALID;
}

static int check_value(struct shardkv_bytes value)
{
    if (value.len > KV_MAX_VALUE) {
        return SHARDKV_TOO_LARGE;
    }
    return value.data != NULL || value.len == 0 ? SHARDKV_OK : SHARDKV_INVALID;
}

/* ---- get ---- */

static int make_get(struct shardkv *handle, struct shardkv_bytes key, uint32_t timeout_ms,
                    struct kv_request **request)
{
    int code = check_key(key);
    uint8_t *at;

    *request = NULL;
    if (code != SHARDKV_OK) {
        return code;
    }
    *request = kv_request_create(handle, KV_REQUEST_GET, timeout_ms, NULL, NULL);
    (*request)->size = key.len;
    at = (*request)->bytes = mem_alloc(key.len);
    (*request)->key = copy_in(&at, key);
    return SHARDKV_OK;
}

int shardkv_get(struct shardkv *handle, struct shardkv_bytes key, uint32_t timeout_ms,
                struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_get(handle, key, timeout_ms, &request);

    return kv_wait(handle, request, early, key_rule, result);
}

int shardkv_get_async(struct shardkv *handle, struct shardkv_bytes key, uint32_t timeout_ms,
                      shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_get(handle, key, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}

/* ---- Writes ---- */

static int check_write(const struct shardkv_condition *conditions, size_t n_conditions,
                       const struct shardkv_operation *operations, size_t n_operations,
                       size_t *total)
{
    *total = 0;
    if (n_conditions > KV_MAX_CONDITIONS || n_operations < 1 || n_operations > KV_MAX_OPERATIONS) {
        return SHARDKV_INVALID;
    }
    for (size_t i = 0; i < n_conditions; i++) {
        bool has_value = conditions[i].type == SHARDKV_IF_VALUE;
        int code = check_key(conditions[i].key);

        if (code == SHARDKV_OK && has_value) {
            code = check_value(conditions[i].value);
        }
        if (code != SHARDKV_OK || (!has_value && conditions[i].type != SHARDKV_IF_ABSENT)) {
            return code != SHARDKV_OK ? code : SHARDKV_INVALID;
        }
        *total += conditions[i].key.len + (has_value ? conditions[i].value.len : 0);
    }
    for (size_t i = 0; i < n_operations; i++) {
        bool has_value = operations[i].type == SHARDKV_PUT || operations[i].type == SHARDKV_APPEND;
        int code = check_key(operations[i].key);

        if (code == SHARDKV_OK && has_value) {
            code = check_value(operations[i].value);
        }
        if (code != SHARDKV_OK || (!has_value && operations[i].type != SHARDKV_DELETE)) {
            return code != SHARDKV_OK ? code : SHARDKV_INVALID;
        }
        *total += operations[i].key.len + (has_value ? operations[i].value.len : 0);
    }
    return *total <= KV_MAX_WRITE ? SHARDKV_OK : SHARDKV_TOO_LARGE;
}

static int make_write(struct shardkv *handle, const struct shardkv_condition *conditions,
                      size_t n_conditions, const struct shardkv_operation *operations,
                      size_t n_operations, uint32_t timeout_ms, struct kv_request **request)
{
    const struct slice no_value = slice_of(NULL, 0);
    struct kv_write *write;
    uint8_t *at;
    size_t total;
    int code = check_write(conditions, n_conditions, operations, n_operations, &total);

    *request = NULL;
    if (code != SHARDKV_OK) {
        return code;
    }
    *request = kv_request_create(handle, KV_REQUEST_WRITE, timeout_ms, NULL, NULL);
    (*request)->size = total;
    write = (*request)->write = mem_alloc(sizeof(*write));
    write->n_conditions = write->n_operations = 0;
    at = (*request)->bytes = mem_alloc(total);
    for (size_t i = 0; i < n_conditions; i++) {
        struct kv_condition *to = &write->conditions[write->n_conditions++];

        to->type = (enum kv_condition_type)conditions[i].type;
        to->key = copy_in(&at, conditions[i].key);
        to->value = to->type == KV_IF_VALUE ? copy_in(&at, conditions[i].value) : no_value;
    }
    for (size_t i = 0; i < n_operations; i++) {
        struct kv_operation *to = &write->operations[write->n_operations++];

        to->type = (enum kv_operation_type)operations[i].type;
        to->key = copy_in(&at, operations[i].key);
        to->value = to->type != KV_DELETE ? copy_in(&at, operations[i].value) : no_value;
    }
    return SHARDKV_OK;
}

int shardkv_write(struct shardkv *handle, const struct shardkv_condition *conditions,
                  size_t n_conditions, const struct shardkv_operation *operations,
                  size_t n_operations, uint32_t timeout_ms, struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_write(handle, conditions, n_conditions, operations, n_operations, timeout_ms,
                           &request);

    return kv_wait(handle, request, early, write_rule, result);
}

int shardkv_write_async(struct shardkv *handle, const struct shardkv_condition *conditions,
                        size_t n_conditions, const struct shardkv_operation *operations,
                        size_t n_operations, uint32_t timeout_ms, shardkv_callback callback,
                        void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_write(handle, conditions, n_conditions, operations, n_operations, timeout_ms,
                           &request);

    return kv_submit_async(request, early, callback, context, id);
}

int shardkv_put(struct shardkv *handle, struct shardkv_bytes key, struct shardkv_bytes value,
                uint32_t timeout_ms, struct shardkv_result **result)
{
    struct shardkv_operation put = {SHARDKV_PUT, key, value};

    return shardkv_write(handle, NULL, 0, &put, 1, timeout_ms, result);
}

int shardkv_put_async(struct shardkv *handle, struct shardkv_bytes key, struct shardkv_bytes value,
                      uint32_t timeout_ms, shardkv_callback callback, void *context, uint64_t *id)
{
    struct shardkv_operation put = {SHARDKV_PUT, key, value};

    return shardkv_write_async(handle, NULL, 0, &put, 1, timeout_ms, callback, context, id);
}

int shardkv_append(struct shardkv *handle, struct shardkv_bytes key, struct shardkv_bytes value,
                   uint32_t timeout_ms, struct shardkv_result **result)
{
    struct shardkv_operation append = {SHARDKV_APPEND, key, value};

    return shardkv_write(handle, NULL, 0, &append, 1, timeout_ms, result);
}

int shardkv_append_async(struct shardkv *handle, struct shardkv_bytes key,
                         struct shardkv_bytes value, uint32_t timeout_ms, shardkv_callback callback,
                         void *context, uint64_t *id)
{
    struct shardkv_operation append = {SHARDKV_APPEND, key, value};

    return shardkv_write_async(handle, NULL, 0, &append, 1, timeout_ms, callback, context, id);
}

int shardkv_delete(struct shardkv *handle, struct shardkv_bytes key, uint32_t timeout_ms,
                   struct shardkv_result **result)
{
    struct shardkv_operation delete = {.type = SHARDKV_DELETE, .key = key};

    return shardkv_write(handle, NULL, 0, &delete, 1, timeout_ms, result);
}

int shardkv_delete_async(struct shardkv *handle, struct shardkv_bytes key, uint32_t timeout_ms,
                         shardkv_callback callback, void *context, uint64_t *id)
{
    struct shardkv_operation delete = {.type = SHARDKV_DELETE, .key = key};

    return shardkv_write_async(handle, NULL, 0, &delete, 1, timeout_ms, callback, context, id);
}

static struct shardkv_condition cas_condition(struct shardkv_bytes key,
                                              const struct shardkv_bytes *expected)
{
    struct shardkv_condition condition = {.type = SHARDKV_IF_ABSENT, .key = key};

    if (expected != NULL) {
        condition.type = SHARDKV_IF_VALUE;
        condition.value = *expected;
    }
    return condition;
}

int shardkv_cas(struct shardkv *handle, struct shardkv_bytes key,
                const struct shardkv_bytes *expected, struct shardkv_bytes value,
                uint32_t timeout_ms, struct shardkv_result **result)
{
    struct shardkv_condition condition = cas_condition(key, expected);
    struct shardkv_operation put = {SHARDKV_PUT, key, value};

    return shardkv_write(handle, &condition, 1, &put, 1, timeout_ms, result);
}

int shardkv_cas_async(struct shardkv *handle, struct shardkv_bytes key,
                      const struct shardkv_bytes *expected, struct shardkv_bytes value,
                      uint32_t timeout_ms, shardkv_callback callback, void *context, uint64_t *id)
{
    struct shardkv_condition condition = cas_condition(key, expected);
    struct shardkv_operation put = {SHARDKV_PUT, key, value};

    return shardkv_write_async(handle, &condition, 1, &put, 1, timeout_ms, callback, context, id);
}

/* ---- scan ---- */

static int make_scan(struct shardkv *handle, struct shardkv_bytes prefix,
                     struct shardkv_bytes after, uint32_t limit, uint32_t timeout_ms,
                     struct kv_request **request)
{
    uint8_t *at;

    *request = NULL;
    if (prefix.len > KV_MAX_KEY || after.len > KV_MAX_KEY || limit == 0 ||
        (prefix.data == NULL && prefix.len > 0) || (after.data == NULL && after.len > 0)) {
        return SHARDKV_INVALID;
    }
    *request = kv_request_create(handle, KV_REQUEST_SCAN, timeout_ms, NULL, NULL);
    (*request)->size = prefix.len + after.len;
    at = (*request)->bytes = mem_alloc(prefix.len + after.len);
    (*request)->key = copy_in(&at, prefix);
    (*request)->after = copy_in(&at, after);
    (*request)->limit = limit;
    return SHARDKV_OK;
}

int shardkv_scan(struct shardkv *handle, struct shardkv_bytes prefix, struct shardkv_bytes after,
                 uint32_t limit, uint32_t timeout_ms, struct shardkv_result **result)
{
    struct kv_request *request;
    int early = make_scan(handle, prefix, after, limit, timeout_ms, &request);

    return kv_wait(handle, request, early, scan_rule, result);
}

int shardkv_scan_async(struct shardkv *handle, struct shardkv_bytes prefix,
                       struct shardkv_bytes after, uint32_t limit, uint32_t timeout_ms,
                       shardkv_callback callback, void *context, uint64_t *id)
{
    struct kv_request *request;
    int early = make_scan(handle, prefix, after, limit, timeout_ms, &request);

    return kv_submit_async(request, early, callback, context, id);
}
