/* kv_status: what a shard server tells of itself in a status row. Keys and bytes are estimates. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_server_internal.h"

#define SHOW_DONE_MS 60000

config_num kv_server_config(void *context)
{
    const struct kv_server *server = context;

    return kv_sm_meta(server->sm)->adopted;
}

enum proto_shard_state kv_server_shown_state(const struct shard *shard)
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
    row->state = (uint8_t)kv_server_shown_state(shard);
    row->epoch = shard->epoch;
    row->keys = shard->copy.records.count;
    row->bytes = shard->copy.records.bytes;
    if (shard->range != 0 && !census_find(server->census, id, &row->keys, &row->bytes)) {
        row->bytes = state->ops->range_bytes(state, shard->range);
    }
}

static uint8_t shown_phase(enum migrate_phase phase)
{
    switch (phase) {
    case MIGRATE_WAITING:
        return PROTO_MOVE_WAITING;
    case MIGRATE_COPYING:
        return PROTO_MOVE_COPYING;
    case MIGRATE_CATCHING_UP:
        return PROTO_MOVE_CATCHING_UP;
    case MIGRATE_HANDING_OVER:
        return PROTO_MOVE_HANDING_OVER;
    }
    UNREACHABLE("that is all of them");
}

/* A shard on its way here. */
static void fill_arriving(const struct kv_server *server, shard_id id,
                          struct proto_move_status *row)
{
    const struct shard *shard = kv_sm_shard(server->sm, id);
    struct migrate_progress progress;

    migrate_progress(server->migrate, id, &progress);
    *row = (struct proto_move_status){.shard = id,
                                      .from = progress.from,
                                      .to = kv_sm_gid(server->sm),
                                      .num = shard_head(shard)->num,
                                      .phase = shown_phase(progress.phase),
                                      .keys_done = shard->copy.records.count,
                                      .bytes_done = shard->copy.records.bytes,
                                      .keys_total = progress.keys_total,
                                      .bytes_total = progress.bytes_total,
                                      .rate = progress.bytes_per_s,
                                      .seconds_left = PROTO_UNKNOWN,
                                      .pause_us = PROTO_UNKNOWN};
    if (row->bytes_total > 0 && row->rate > 0) {
        row->seconds_left = row->bytes_total > row->bytes_done
                                ? (row->bytes_total - row->bytes_done) / row->rate
                                : 0;
    }
}

static bool waits_for_release(const struct shard *shard, config_num num)
{
    for (size_t i = 0; i < shard->n_releases; i++) {
        if (shard->releases[i].num == num) {
            return true;
        }
    }
    return false;
}

/* Shards that this leader took over within the last minute. */
static void fill_done(const struct kv_server *server, struct proto_node_status *status)
{
    struct migrate_done done[MIGRATE_MAX_DONE];
    size_t n = migrate_last_done(server->migrate, done, MIGRATE_MAX_DONE);

    for (size_t i = 0; i < n && status->n_moves < SHARD_MAX_COUNT &&
                       server->context.now_ms - done[i].done_ms < SHOW_DONE_MS;
         i++) {
        const struct shard *shard = kv_sm_shard(server->sm, done[i].shard);

        status->moves[status->n_moves++] = (struct proto_move_status){
            .shard = done[i].shard,
            .from = done[i].from,
            .to = kv_sm_gid(server->sm),
            .num = done[i].num,
            .phase =
                waits_for_release(shard, done[i].num) ? PROTO_MOVE_LETTING_GO : PROTO_MOVE_DONE,
            .keys_done = done[i].keys,
            .bytes_done = done[i].bytes,
            .keys_total = done[i].keys,
            .bytes_total = done[i].bytes,
            .pause_us = done[i].pause_ms * 1000ull};
    }
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
    status->moves = mem_zalloc((meta->n_shards + MIGRATE_MAX_DONE) * sizeof(status->moves[0]));
    for (shard_id id = 0; id < meta->n_shards; id++) {
        const struct shard *shard = kv_sm_shard(server->sm, id);

        if (kv_server_shown_state(shard) != PROTO_SHARD_ABSENT) {
            fill_shard(server, id, &status->shards[status->n_shards++]);
        }
        if (is_arriving(shard)) {
            fill_arriving(server, id, &status->moves[status->n_moves++]);
        }
    }
    fill_done(server, status);
}
