/* kv_metrics: what a shard server shows of itself to those who watch it: shards, moves, sessions.
 * What it holds is the same on every replica; what arrives and what leaves is the leader's work. */
#include "raft/util/metrics.h"
#include "shardkv/kv_server_internal.h"

struct tally {
    uint64_t serving, frozen, waiting, pulling; /* shards */
    uint64_t leaving;                           /* serving, and promised to another group */
    uint64_t releases;                          /* sources that are to be told */
    uint64_t sessions;
    uint64_t keys, bytes, counted; /* of the shards that the census has counted */
};

static void count_shard(const struct kv_server *server, shard_id id, struct tally *tally)
{
    const struct shard *shard = kv_sm_shard(server->sm, id);
    const struct shard_transition *head = shard_head(shard);
    enum proto_shard_state state = kv_server_shown_state(shard);
    const struct session_table *sessions = kv_sm_sessions(server->sm, id);
    uint64_t keys, bytes;

    tally->serving += state == PROTO_SHARD_SERVING;
    tally->frozen += state == PROTO_SHARD_FROZEN;
    tally->waiting += state == PROTO_SHARD_WAITING;
    tally->pulling += state == PROTO_SHARD_PULLING;
    tally->leaving += state == PROTO_SHARD_SERVING && head != NULL && head->kind == SHARD_SEND;
    tally->releases += shard->n_releases;
    tally->sessions += sessions == NULL ? 0 : session_count(sessions);
    if (shard->range != 0 && census_find(server->census, id, &keys, &bytes)) {
        tally->counted++;
        tally->keys += keys;
        tally->bytes += bytes;
    }
}

static void put_shards(const struct tally *tally, struct buf *text)
{
    metrics_begin_gauge(text, "shardkv_shards", "Shards of this group, by their state here.");
    metrics_put_sample(text, "shardkv_shards", tally->serving, "state=\"serving\"");
    metrics_put_sample(text, "shardkv_shards", tally->frozen, "state=\"frozen\"");
    metrics_put_sample(text, "shardkv_shards", tally->waiting, "state=\"waiting\"");
    metrics_put_sample(text, "shardkv_shards", tally->pulling, "state=\"pulling\"");
    metrics_put_gauge(text, "shardkv_shards_leaving",
                      "Shards served here that are on their way to another group.", tally->leaving);
    metrics_put_gauge(text, "shardkv_shard_releases_pending",
                      "Shards taken over whose source was not yet told to drop its copy.",
                      tally->releases);
    metrics_put_gauge(text, "shardkv_sessions", "Client sessions that are remembered.",
                      tally->sessions);
    metrics_put_gauge(text, "shardkv_counted_shards",
                      "Shards that the leader has counted the keys of; 0 on a follower.",
                      tally->counted);
    metrics_put_gauge(text, "shardkv_counted_keys", "Keys in the counted shards, an estimate.",
                      tally->keys);
    metrics_put_gauge(text, "shardkv_counted_data_bytes",
                      "Keys and values of the counted shards, an estimate.", tally->bytes);
}

static void put_moves(const struct migrate_stats *stats, struct buf *text)
{
    metrics_begin_counter(text, "shardkv_moves_total",
                          "Moves of a shard to this group that ended while this replica led it.");
    metrics_put_sample(text, "shardkv_moves_total", stats->installed, "outcome=\"installed\"");
    metrics_put_sample(text, "shardkv_moves_total", stats->called_off, "outcome=\"called_off\"");
    metrics_put_counter(text, "shardkv_move_broken_copies_total",
                        "Copies of a shard that were not what the source said, and begun anew.",
                        stats->broken);
    metrics_put_counter(text, "shardkv_move_pieces_received_total",
                        "Pieces of shards that arrived.", stats->pieces);
    metrics_put_counter(text, "shardkv_move_received_bytes_total",
                        "Bytes of the pieces that arrived.", stats->bytes);
    metrics_put_gauge(text, "shardkv_move_yielding_rate_bytes",
                      "Bytes a second at which shards may arrive while clients are served.",
                      stats->yielding_per_s);
    metrics_put_histogram(text, "shardkv_move_pause_seconds",
                          "How long a shard that moved here was served by nobody.",
                          &stats->pause_us);
}

const char *kv_server_trouble(const struct kv_server *server)
{
    return config_watch_is_refused(server->watch)
               ? "the controller knows another incarnation of this group"
               : NULL;
}

void kv_server_metrics(struct kv_server *server, struct buf *text)
{
    const struct kv_meta *meta = kv_sm_meta(server->sm);
    const struct shard_config *config = kv_sm_config(server->sm);
    struct tally tally = {0};

    for (shard_id id = 0; id < meta->n_shards; id++) {
        count_shard(server, id, &tally);
    }
    metrics_put_gauge(text, "shardkv_config_number",
                      "Number of the shard configuration that this replica is at.", meta->adopted);
    metrics_put_gauge(text, "shardkv_moves_paused",
                      "1 while the operator holds the copies of moving shards up.",
                      config != NULL && config->moves_paused);
    metrics_put_gauge(text, "shardkv_group_refused",
                      "1 if the controller knows another group under this gid: nothing is served.",
                      config_watch_is_refused(server->watch));
    put_shards(&tally, text);
    put_moves(migrate_statistics(server->migrate), text);
    metrics_put_counter(text, "shardkv_move_sent_bytes_total",
                        "Bytes of pieces of shards given out to other groups.",
                        server->piece_bytes_sent);
    metrics_put_gauge(text, "shardkv_parked_requests",
                      "Requests that wait for a shard that is nearly here.",
                      server->n_parked + server->n_parked_reads);
    metrics_put_gauge(text, "shardkv_parked_bytes", "Bytes of those requests.",
                      server->parked_bytes);
    metrics_put_gauge(
        text, "shardkv_copy_strain_percent",
        "How long clients wait while shards are copied, percent of how long otherwise;"
        " 0: not known.",
        strain_percent(&server->context.strain));
    serve_put_metrics(server->serve, text);
}
