/* kv_status: what a shard server tells of itself: its part of a status row, and metrics. Keys and
 * bytes are estimates. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_server_internal.h"

config_num kv_server_config(void *context)
{
    const struct kv_server *server = context;

    return kv_sm_meta(server->sm)->adopted;
}

static enum proto_shard_state shown_state(const struct shard *shard)
{
    const struct shard_transition *head = shard_head(shard);

    switch (shard->state) {
    case SHARD_SERVING:
        return PROTO_SHARD_SERVING;
    case SHARD_FROZEN:
        return PROTO_SHARD_FROZEN;
    case SHARD_ABSENT:
        break;
    }
    if (head == NULL) {
        return PROTO_SHARD_ABSENT;
    }
    return shard->copy.copy_id != 0 ? PROTO_SHARD_PULLING : PROTO_SHARD_WAITING;
}

static void fill_shard(const struct kv_server *server, shard_id id, struct proto_shard_status *row)
{
    const struct shard *shard = kv_sm_shard(server->sm, id);
    struct io_state *state = server->world.state;

    row->shard = id;
    row->state = (uint8_t)shown_state(shard);
    row->epoch = shard->epoch;
    row->keys = shard->copy.records.count;
    row->bytes = shard->copy.records.bytes;
    if (shard->range != 0 && !census_find(server->census, id, &row->keys, &row->bytes)) {
        row->bytes = state->ops->range_bytes(state, shard->range);
    }
}

static void fill_move(const struct kv_server *server, shard_id id, struct proto_move_status *row)
{
    const struct shard *shard = kv_sm_shard(server->sm, id);
    const struct shard_transition *head = shard_head(shard);

    ASSERT(head != NULL && head->kind == SHARD_RECEIVE);
    row->shard = id;
    row->from = head->gid;
    row->to = kv_sm_gid(server->sm);
    row->num = head->num;
    row->phase = shard->copy.copy_id != 0 ? PROTO_MOVE_COPYING : PROTO_MOVE_WAITING;
    row->keys_done = shard->copy.records.count;
    row->bytes_done = shard->copy.records.bytes;
    row->seconds_left = row->pause_us = PROTO_UNKNOWN;
}

static bool is_arriving(const struct shard *shard)
{
    const struct shard_transition *head = shard_head(shard);

    return head != NULL && head->kind == SHARD_RECEIVE;
}

void kv_server_status(void *context, struct proto_node_status *status)
{
    struct kv_server *server = context;
    const struct kv_meta *meta = kv_sm_meta(server->sm);

    status->incarnation = server->options.incarnation;
    status->group_incarnation = meta->incarnation;
    memcpy(status->cluster_id, meta->cluster_id, sizeof(status->cluster_id));
    status->ready = status->ready && !config_watch_is_refused(server->watch);
    if (!group_is_leader(server->group)) {
        return; /* one replica speaks for the group */
    }
    status->shards = mem_zalloc(meta->n_shards * sizeof(status->shards[0]));
    status->moves = mem_zalloc(meta->n_shards * sizeof(status->moves[0]));
    for (shard_id id = 0; id < meta->n_shards; id++) {
        const struct shard *shard = kv_sm_shard(server->sm, id);

        if (shown_state(shard) != PROTO_SHARD_ABSENT) {
            fill_shard(server, id, &status->shards[status->n_shards++]);
        }
        if (is_arriving(shard)) {
            fill_move(server, id, &status->moves[status->n_moves++]);
        }
    }
}

static void put_counter(struct buf *text, const char *name, const char *help, uint64_t value)
{
    buf_printf(text, "# HELP shardkv_%s %s\n# TYPE shardkv_%s counter\nshardkv_%s %llu\n", name,
               help, name, name, (unsigned long long)value);
}

static void put_gauge(struct buf *text, const char *name, const char *help, uint64_t value)
{
    buf_printf(text, "# HELP shardkv_%s %s\n# TYPE shardkv_%s gauge\nshardkv_%s %llu\n", name, help,
               name, name, (unsigned long long)value);
}

void kv_server_metrics(struct kv_server *server, struct buf *text)
{
    const struct kv_metrics *metrics = &server->metrics;
    const struct migrate_stats *migrated = migrate_statistics(server->migrate);
    const struct kv_meta *meta = kv_sm_meta(server->sm);
    uint64_t by_state[3] = {0}, arriving = 0;

    for (shard_id id = 0; id < meta->n_shards; id++) {
        const struct shard *shard = kv_sm_shard(server->sm, id);

        by_state[shard->state]++;
        arriving += is_arriving(shard);
    }
    put_gauge(text, "config", "number of the adopted configuration", meta->adopted);
    put_gauge(text, "shards_serving", "shards served", by_state[SHARD_SERVING]);
    put_gauge(text, "shards_frozen", "shards handed over or owned by nobody",
              by_state[SHARD_FROZEN]);
    put_gauge(text, "shards_arriving", "shards on their way here", arriving);
    put_counter(text, "gets_total", "reads asked for", metrics->gets);
    put_counter(text, "writes_total", "writes asked for", metrics->writes);
    put_counter(text, "scans_total", "scan pages asked for", metrics->scans);
    put_counter(text, "pulls_total", "pieces of shards asked for", metrics->pulls);
    put_counter(text, "wrong_group_total", "requests for shards not served here",
                metrics->wrong_group);
    put_counter(text, "session_refused_total", "writes of stale or expired sessions",
                metrics->session_refused);
    put_counter(text, "pieces_received_total", "pieces of shards received", migrated->pieces);
    put_counter(text, "piece_bytes_received_total", "their bytes", migrated->bytes);
    put_counter(text, "shards_installed_total", "shards taken over", migrated->installed);
    put_counter(text, "copies_broken_total", "copies that were not what was sent",
                migrated->broken);
}
