/* Results: everything that an end points to is copied into blocks that belong to the result. */
#include <stdio.h>

#include "client/kv_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define MAX_BLOCKS 12

struct box {
    struct shardkv_result result; /* first: what the user sees */
    uint32_t outputs[KV_MAX_OUTPUTS];
    void *blocks[MAX_BLOCKS];
    size_t n_blocks;
};

/* Memory that lives as long as the result. */
static void *box_alloc(struct shardkv_result *result, size_t size)
{
    struct box *box = (struct box *)result;

    ASSERT(box->n_blocks < MAX_BLOCKS);
    box->blocks[box->n_blocks] = mem_zalloc(size);
    return box->blocks[box->n_blocks++];
}

/* "what happened: where and why", without saying the same twice. */
static const char *make_message(struct shardkv_result *result, enum status status,
                                const char *reason)
{
    const char *text = status_text(status);
    size_t size = strlen(text) + strlen(reason) + 3;
    char *message;

    if (reason[0] == '\0' || strstr(text, reason) != NULL) {
        return text;
    }
    message = box_alloc(result, size);
    if (strstr(reason, text) != NULL ||
        (status == ST_UNAVAILABLE && strstr(reason, status_text(ST_READ_ONLY)) != NULL)) {
        snprintf(message, size, "%s", reason);
    } else {
        snprintf(message, size, "%s: %s", text, reason);
    }
    return message;
}

struct shardkv_result *kv_result_create(enum status status, const char *reason)
{
    struct box *box = mem_zalloc(sizeof(*box));

    box->result.code = (int)status;
    box->result.message = make_message(&box->result, status, reason);
    return &box->result;
}

void kv_result_explain(struct shardkv_result *result, const char *refusal)
{
    size_t size = strlen(result->message) + strlen(refusal) + 4;
    char *message = box_alloc(result, size);

    snprintf(message, size, "%s (%s)", result->message, refusal);
    result->message = message;
}

void shardkv_result_free(struct shardkv_result *result)
{
    struct box *box = (struct box *)result;

    if (box == NULL) {
        return;
    }
    for (size_t i = 0; i < box->n_blocks; i++) {
        mem_free(box->blocks[i]);
    }
    mem_free(box);
}

static struct shardkv_bytes copy_bytes(uint8_t **at, struct slice slice)
{
    struct shardkv_bytes copy = {*at, slice.len};

    if (slice.len > 0) {
        memcpy(*at, slice.data, slice.len);
    }
    *at += slice.len;
    return copy;
}

static void set_records(struct shardkv_result *result, const struct clerk_end *end)
{
    struct shardkv_record *records = box_alloc(result, end->n_records * sizeof(records[0]));
    size_t total = 0;
    uint8_t *at;

    for (size_t i = 0; i < end->n_records; i++) {
        total += end->records[i].key.len + end->records[i].value.len;
    }
    at = box_alloc(result, total);
    for (size_t i = 0; i < end->n_records; i++) {
        records[i].key = copy_bytes(&at, end->records[i].key);
        records[i].value = copy_bytes(&at, end->records[i].value);
    }
    result->records = records;
    result->n_records = end->n_records;
    result->more = end->more;
}

struct shardkv_result *kv_result_of_clerk(const struct clerk_end *end)
{
    struct shardkv_result *result =
        kv_result_create(end->status, end->status == ST_OK ? "" : end->reason);

    if (end->value.len > 0) {
        uint8_t *at = box_alloc(result, end->value.len);
        result->value = copy_bytes(&at, end->value);
    }
    result->version = end->version;
    if (end->result != NULL && end->result->n_outputs > 0) {
        struct box *box = (struct box *)result;

        memcpy(box->outputs, end->result->outputs,
               end->result->n_outputs * sizeof(box->outputs[0]));
        result->outputs = box->outputs;
        result->n_outputs = end->result->n_outputs;
    }
    if (end->n_records > 0) {
        set_records(result, end);
    }
    return result;
}

/* ---- Configurations ---- */

static void set_groups(struct shardkv_result *result, struct shardkv_config *to,
                       const struct shard_config *config)
{
    struct shardkv_group *groups = box_alloc(result, config->n_groups * sizeof(groups[0]));
    struct shardkv_replica *replicas =
        box_alloc(result, config->n_groups * SPEC_MAX_REPLICAS * sizeof(replicas[0]));
    char(*urls)[SPEC_MAX_URL + 1] =
        box_alloc(result, config->n_groups * SPEC_MAX_REPLICAS * sizeof(urls[0]));

    for (size_t i = 0; i < config->n_groups; i++) {
        const struct config_group *group = &config->groups[i];

        groups[i] = (struct shardkv_group){.gid = group->gid,
                                           .member = group->member,
                                           .joined_at = group->joined_at,
                                           .incarnation = group->incarnation,
                                           .n_replicas = group->replicas.n,
                                           .replicas = replicas};
        for (size_t r = 0; r < group->replicas.n; r++, replicas++, urls++) {
            memcpy(*urls, group->replicas.replicas[r].url, sizeof(*urls));
            *replicas = (struct shardkv_replica){group->replicas.replicas[r].id, *urls};
        }
    }
    to->groups = groups;
    to->n_groups = config->n_groups;
}

static void set_ctrlers(struct shardkv_result *result, struct shardkv_config *to,
                        const struct spec *ctrlers)
{
    struct shardkv_replica *replicas = box_alloc(result, ctrlers->n * sizeof(replicas[0]));
    char(*urls)[SPEC_MAX_URL + 1] = box_alloc(result, ctrlers->n * sizeof(urls[0]));

    for (size_t i = 0; i < ctrlers->n; i++) {
        memcpy(urls[i], ctrlers->replicas[i].url, sizeof(urls[i]));
        replicas[i] = (struct shardkv_replica){ctrlers->replicas[i].id, urls[i]};
    }
    to->n_ctrlers = ctrlers->n;
    to->ctrlers = replicas;
}

void kv_result_set_config(struct shardkv_result *result, const struct shard_config *config)
{
    struct shardkv_config *to = box_alloc(result, sizeof(*to));
    size_t size = config->n_shards * sizeof(config->shards[0]);
    uint32_t *shards = box_alloc(result, size);
    uint32_t *from = box_alloc(result, size);

    memcpy(shards, config->shards, size);
    memcpy(from, config->from, size);
    to->num = config->num;
    memcpy(to->cluster_id, config->cluster_id, sizeof(to->cluster_id));
    to->n_shards = config->n_shards;
    to->shards = shards;
    to->from = from;
    to->moves_paused = config->moves_paused;
    set_groups(result, to, config);
    set_ctrlers(result, to, &config->ctrlers);
    result->config = to;
    result->config_num = config->num;
}

/* ---- Status ---- */

static void set_rows(struct shardkv_result *result, struct shardkv_node *to,
                     const struct proto_node_status *node)
{
    struct shardkv_shard_status *shards = box_alloc(result, node->n_shards * sizeof(shards[0]));
    struct shardkv_move_status *moves = box_alloc(result, node->n_moves * sizeof(moves[0]));

    for (uint32_t i = 0; i < node->n_shards; i++) {
        const struct proto_shard_status *row = &node->shards[i];

        shards[i] = (struct shardkv_shard_status){row->shard, row->state, row->epoch, row->keys,
                                                  row->bytes};
    }
    for (uint32_t i = 0; i < node->n_moves; i++) {
        const struct proto_move_status *row = &node->moves[i];

        moves[i] = (struct shardkv_move_status){.shard = row->shard,
                                                .from = row->from,
                                                .to = row->to,
                                                .phase = row->phase,
                                                .config = row->num,
                                                .bytes_done = row->bytes_done,
                                                .bytes_total = row->bytes_total,
                                                .keys_done = row->keys_done,
                                                .keys_total = row->keys_total,
                                                .rate_bytes_per_s = row->rate,
                                                .seconds_left = row->seconds_left,
                                                .pause_us = row->pause_us};
    }
    to->n_shards = node->n_shards;
    to->shards = shards;
    to->n_moves = node->n_moves;
    to->moves = moves;
}

void kv_result_set_node(struct shardkv_result *result, const struct proto_node_status *node)
{
    struct shardkv_node *to = box_alloc(result, sizeof(*to));
    char *version = box_alloc(result, node->version.len + 1);

    if (node->version.len > 0) {
        memcpy(version, node->version.data, node->version.len);
    }
    *to = (struct shardkv_node){.gid = node->gid,
                                .id = node->id,
                                .role = node->role,
                                .leader = node->leader,
                                .term = node->term,
                                .first_index = node->first_index,
                                .last_index = node->last_index,
                                .commit_index = node->commit_index,
                                .applied_index = node->applied_index,
                                .snapshot_index = node->snapshot_index,
                                .db_bytes = node->db_bytes,
                                .log_bytes = node->log_bytes,
                                .uptime_s = node->uptime_s,
                                .config = node->config,
                                .incarnation = node->incarnation,
                                .group_incarnation = node->group_incarnation,
                                .ready = node->ready,
                                .read_only = node->read_only,
                                .version = version};
    memcpy(to->cluster_id, node->cluster_id, sizeof(to->cluster_id));
    set_rows(result, to, node);
    result->node = to;
}

/* ---- Members ---- */

void kv_result_set_members(struct shardkv_result *result, const struct proto_replicas *replicas)
{
    struct shardkv_members *to = box_alloc(result, sizeof(*to));
    struct shardkv_member *members = box_alloc(result, replicas->n * sizeof(members[0]));
    char(*urls)[SPEC_MAX_URL + 1] = box_alloc(result, replicas->n * sizeof(urls[0]));

    for (uint32_t i = 0; i < replicas->n; i++) {
        const struct proto_replica *row = &replicas->replicas[i];

        ASSERT(row->url.len <= SPEC_MAX_URL);
        memcpy(urls[i], row->url.len > 0 ? (const char *)row->url.data : "", row->url.len);
        members[i] = (struct shardkv_member){.id = row->id,
                                             .flags = row->flags,
                                             .url = urls[i],
                                             .incarnation = row->incarnation,
                                             .match_index = row->match_index,
                                             .heard_ms = row->heard_ms};
    }
    *to = (struct shardkv_members){.gid = replicas->gid,
                                   .id = replicas->id,
                                   .incarnation = replicas->incarnation,
                                   .configuration_index = replicas->configuration_index,
                                   .committed = replicas->committed,
                                   .term = replicas->term,
                                   .leader = replicas->leader,
                                   .commit_index = replicas->commit_index,
                                   .last_index = replicas->last_index,
                                   .last_term = replicas->last_term,
                                   .n_members = replicas->n,
                                   .members = members};
    result->members = to;
}

/* ---- Codes ---- */

_Static_assert(SHARDKV_NOT_KNOWN == PROTO_UNKNOWN, "numbers go through as they are");
_Static_assert((int)SHARDKV_MOVE_DONE == (int)PROTO_MOVE_DONE, "phases are the protocol's");
_Static_assert((int)SHARDKV_NOT_FOUND == (int)ST_NOT_FOUND, "codes are status numbers");
_Static_assert((int)SHARDKV_UNKNOWN == (int)ST_UNKNOWN, "codes are status numbers");
_Static_assert((int)SHARDKV_SHUTDOWN == (int)ST_SHUTDOWN, "codes are status numbers");
_Static_assert((int)SHARDKV_NO_GROUP == (int)ST_NO_GROUP, "codes are status numbers");
_Static_assert((int)SHARDKV_CANCELLED == (int)ST_CANCELLED, "codes are status numbers");
_Static_assert((int)SHARDKV_DUPLICATE == (int)ST_DUPLICATE, "codes are status numbers");
_Static_assert((int)SHARDKV_DENIED == (int)ST_DENIED, "codes are status numbers");

const char *shardkv_strerror(int code)
{
    return status_text((enum status)code);
}

const char *shardkv_err_name(int code)
{
    return status_name((enum status)code);
}

bool shardkv_retryable(int code)
{
    return status_is_retryable((enum status)code) || code == SHARDKV_UNKNOWN ||
           code == SHARDKV_SESSION_EXPIRED || code == SHARDKV_SESSION_STALE ||
           code == SHARDKV_CANCELLED;
}

bool shardkv_maybe_applied(int code)
{
    return code == SHARDKV_OK || code == SHARDKV_UNKNOWN;
}

const char *shardkv_version(void)
{
    return SHARDKV_VERSION;
}

uint32_t shardkv_version_number(void)
{
    return SHARDKV_VERSION_MAJOR << 16 | SHARDKV_VERSION_MINOR << 8 | SHARDKV_VERSION_PATCH;
}

struct shardkv_bytes shardkv_text(const char *text)
{
    return (struct shardkv_bytes){text, strlen(text)};
}
