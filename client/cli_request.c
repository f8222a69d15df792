/* Requests and replies of `pipe`; see cli_request.h. */
#include "client/cli_request.h"

#include <stdlib.h>
#include <string.h>

/* ---- Fields: each returns NULL, or what is wrong with it ---- */

static const char *take_bytes(const json_t *document, const char *name, struct shardkv_bytes *bytes)
{
    const json_t *field = json_object_get(document, name);
    void *data;
    size_t len;

    if (field == NULL || json_is_null(field)) {
        return strcmp(name, "key") == 0   ? "\"key\" is missing"
               : strcmp(name, "arg") == 0 ? "\"arg\" is missing"
                                          : "\"arg2\" is missing";
    }
    if (!cli_json_to_bytes(field, &data, &len)) {
        return "keys and values are strings or {\"base64\":\"...\"}";
    }
    *bytes = (struct shardkv_bytes){data, len};
    return NULL;
}

static bool is_given(const json_t *document, const char *name)
{
    const json_t *field = json_object_get(document, name);

    return field != NULL && !json_is_null(field);
}

static bool take_number(const json_t *document, const char *name, uint64_t low, uint64_t high,
                        uint64_t *number)
{
    const json_t *field = json_object_get(document, name);

    if (!json_is_integer(field) || json_integer_value(field) < 0) {
        return false;
    }
    *number = (uint64_t)json_integer_value(field);
    return *number >= low && *number <= high;
}

static const char *take_gid(const json_t *document, uint64_t least, uint32_t *gid)
{
    uint64_t number;

    if (!take_number(document, "gid", least, 0x7fffffff, &number)) {
        return least == 0 ? "\"gid\" must be a number from 0 to 2147483647"
                          : "\"gid\" must be a number from 1 to 2147483647";
    }
    *gid = (uint32_t)number;
    return NULL;
}

static const char *take_text(const json_t *document, const char *name, const char **text)
{
    const json_t *field = json_object_get(document, name);

    *text = json_string_value(field);
    if (*text == NULL || strlen(*text) != json_string_length(field)) {
        return strcmp(name, "node") == 0  ? "\"node\" must be a URL"
               : strcmp(name, "url") == 0 ? "\"url\" must be a URL"
                                          : "\"cluster\" must be ID=URL,ID=URL,...";
    }
    return NULL;
}

static const char *take_key(struct request *request)
{
    const char *wrong = take_bytes(request->document, "key", &request->key);

    if (wrong == NULL && (request->key.len < 1 || request->key.len > CLI_MAX_KEY)) {
        wrong = "a key has 1 to 4096 bytes";
    }
    return wrong;
}

/* ---- Operations ---- */

static const char *parse_cas(struct request *request)
{
    const char *wrong = take_key(request);

    request->has_arg = is_given(request->document, "arg");
    if (wrong == NULL && request->has_arg) {
        wrong = take_bytes(request->document, "arg", &request->arg);
    }
    return wrong != NULL ? wrong : take_bytes(request->document, "arg2", &request->arg2);
}

static const char *parse_status(struct request *request)
{
    uint64_t timeout_ms = 0;

    if (is_given(request->document, "timeout_ms") &&
        !take_number(request->document, "timeout_ms", 1, 86400000, &timeout_ms)) {
        return "\"timeout_ms\" must be a number from 1";
    }
    request->timeout_ms = (uint32_t)timeout_ms;
    return take_text(request->document, "node", &request->node);
}

static const char *parse_config(struct request *request)
{
    request->num = SHARDKV_CONFIG_LATEST;
    if (is_given(request->document, "num") &&
        !take_number(request->document, "num", 0, INT64_MAX, &request->num)) {
        return "\"num\" must be a number from 0";
    }
    return NULL;
}

static const char *parse_move(struct request *request)
{
    uint64_t shard;

    if (!take_number(request->document, "shard", 0, UINT32_MAX, &shard)) {
        return "\"shard\" must be a number from 0";
    }
    request->shard = (uint32_t)shard;
    return take_gid(request->document, 1, &request->gid);
}

static const char *parse_transfer(struct request *request)
{
    uint64_t replica;

    if (!take_number(request->document, "replica", 0, 255, &replica)) {
        return "\"replica\" must be a number from 0 to 255";
    }
    request->replica = (uint32_t)replica;
    return take_gid(request->document, 0, &request->gid);
}

static const char *parse_pause(struct request *request)
{
    const json_t *paused = json_object_get(request->document, "paused");

    if (!json_is_boolean(paused)) {
        return "\"paused\" must be true or false";
    }
    request->paused = json_is_true(paused);
    return NULL;
}

static const char *parse_replica(struct request *request)
{
    static const char *const names[] = {"add", "remove", "recover"};
    const char *change = json_string_value(json_object_get(request->document, "change"));
    uint64_t replica;
    size_t i = 0;

    while (change != NULL && i < 3 && strcmp(change, names[i]) != 0) {
        i++;
    }
    if (change == NULL || i == 3) {
        return "\"change\" must be add, remove or recover";
    }
    request->change = (enum request_change)i;
    if (!take_number(request->document, "replica", 1, 255, &replica)) {
        return "\"replica\" must be a number from 1 to 255";
    }
    request->replica = (uint32_t)replica;
    if (!take_number(request->document, "configuration_index", 1, UINT64_MAX, &request->num)) {
        return "\"configuration_index\" must be a number from 1: that which members told";
    }
    if (request->change != REQUEST_REPLICA_REMOVE) {
        const char *wrong = take_text(request->document, "url", &request->url);

        if (wrong != NULL) {
            return wrong;
        }
    }
    return take_gid(request->document, 0, &request->gid);
}

static const char *parse_fields(struct request *request)
{
    const json_t *document = request->document;
    const char *wrong;

    switch (request->op) {
    case REQUEST_GET:
    case REQUEST_DELETE:
        return take_key(request);
    case REQUEST_PUT:
    case REQUEST_APPEND:
        wrong = take_key(request);
        return wrong != NULL ? wrong : take_bytes(document, "arg", &request->arg);
    case REQUEST_CAS:
        return parse_cas(request);
    case REQUEST_STATUS:
    case REQUEST_MEMBERS:
        return parse_status(request);
    case REQUEST_REPLICA:
        return parse_replica(request);
    case REQUEST_CONFIG:
        return parse_config(request);
    case REQUEST_JOIN:
        wrong = take_gid(document, 1, &request->gid);
        return wrong != NULL ? wrong : take_text(document, "cluster", &request->cluster);
    case REQUEST_LEAVE:
        return take_gid(document, 1, &request->gid);
    case REQUEST_MOVE:
        return parse_move(request);
    case REQUEST_TRANSFER:
        return parse_transfer(request);
    case REQUEST_PAUSE:
        return parse_pause(request);
    }
    abort();
}

static bool find_op(const char *name, enum request_op *op)
{
    static const char *const names[] = {"get",      "put",    "append",  "delete", "cas",
                                        "status",   "config", "join",    "leave",  "move",
                                        "transfer", "moves",  "members", "replica"};

    for (size_t i = 0; name != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *op = (enum request_op)i;
            return true;
        }
    }
    return false;
}

const char *request_parse(struct request *request, const char *line, size_t len, char wrong[200])
{
    json_error_t error;

    *request = (struct request){0};
    request->document = json_loadb(line, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (request->document == NULL) {
        /* Its text may quote the line, which may be anything: only as much as is ASCII. */
        snprintf(wrong, 200, "not JSON: %s", error.text);
        for (char *at = wrong; *at != '\0'; at++) {
            *at = *at >= ' ' && *at < 0x7f ? *at : '?';
        }
        return wrong;
    }
    if (!json_is_object(request->document)) {
        return "a request is a JSON object";
    }
    request->id = json_object_get(request->document, "id");
    if (!find_op(json_string_value(json_object_get(request->document, "op")), &request->op)) {
        return "\"op\" must be get, put, append, delete, cas, status, config, join, leave, move, "
               "transfer, moves, members or replica";
    }
    return parse_fields(request);
}

void request_fini(struct request *request)
{
    free((void *)request->key.data);
    free((void *)request->arg.data);
    free((void *)request->arg2.data);
    json_decref(request->document);
    *request = (struct request){0};
}

bool request_is_read(enum request_op op)
{
    return op == REQUEST_GET || op == REQUEST_STATUS || op == REQUEST_CONFIG ||
           op == REQUEST_MEMBERS;
}

/* ---- Replies ---- */

static json_t *reply_create(json_t *id)
{
    json_t *reply = json_object();

    if (id == NULL) {
        json_object_set_new(reply, "id", json_null());
    } else {
        json_object_set(reply, "id", id);
    }
    return reply;
}

json_t *request_refusal(json_t *id, const char *why)
{
    json_t *reply = reply_create(id);

    json_object_set_new(reply, "ok", json_false());
    json_object_set_new(reply, "err", json_string(why));
    return reply;
}

/* What the operation gave; NULL if it failed. */
static json_t *output(const struct request *request, const struct shardkv_result *result)
{
    bool ran = result->code == SHARDKV_OK;

    switch (request->op) {
    case REQUEST_GET:
        return ran                                 ? cli_json_bytes(result->value)
               : result->code == SHARDKV_NOT_FOUND ? json_null()
                                                   : NULL;
    case REQUEST_CAS:
        return ran || result->code == SHARDKV_MISMATCH ? json_integer(ran) : NULL;
    case REQUEST_MEMBERS:
        return ran ? cli_members_json(result->members) : NULL;
    case REQUEST_PUT:
    case REQUEST_TRANSFER:
    case REQUEST_REPLICA:
        return ran ? json_null() : NULL;
    case REQUEST_APPEND:
    case REQUEST_DELETE:
        return ran && result->n_outputs > 0 ? json_integer(result->outputs[0]) : NULL;
    case REQUEST_STATUS:
        return ran ? cli_node_json(result->node->gid, result->node->id, request->node, result->node)
                   : NULL;
    case REQUEST_CONFIG:
        return ran ? cli_config_json(result->config) : NULL;
    case REQUEST_JOIN:
    case REQUEST_LEAVE:
    case REQUEST_MOVE:
    case REQUEST_PAUSE:
        return ran ? json_integer((json_int_t)result->config_num) : NULL;
    }
    abort();
}

json_t *request_reply(const struct request *request, const struct shardkv_result *result)
{
    json_t *out = output(request, result);
    json_t *reply;

    if (out == NULL) {
        reply = request_refusal(request->id, result->message);
        json_object_set_new(reply, "code", json_string(shardkv_err_name(result->code)));
        if (shardkv_maybe_applied(result->code) && !request_is_read(request->op)) {
            json_object_set_new(reply, "ok", json_string("unknown"));
        }
        return reply;
    }
    reply = reply_create(request->id);
    json_object_set_new(reply, "ok", json_true());
    json_object_set_new(reply, "out", out);
    return reply;
}
