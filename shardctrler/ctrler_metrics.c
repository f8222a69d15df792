/* ctrler_metrics: what a controller shows of itself to those who watch it. */
#include "client/serve.h"
#include "raft/util/metrics.h"
#include "shardctrler/ctrler_server.h"
#include "shardctrler/ctrler_sm.h"

const struct shard_config *ctrler_server_config(const struct ctrler_server *server)
{
    return ctrler_sm_latest(ctrler_server_sm(server));
}

uint32_t ctrler_server_pending(const struct ctrler_server *server)
{
    return serve_pending(ctrler_server_serve(server));
}

/* Shards by what the configuration wants and what the groups confirmed. */
static void put_shards(const struct ctrler_sm *sm, struct buf *text)
{
    const struct shard_config *config = ctrler_sm_latest(sm);
    uint64_t owned = 0, moving = 0, unowned = 0;

    for (shard_id shard = 0; shard < config->n_shards; shard++) {
        uint32_t gid;
        config_num epoch;

        ctrler_sm_owner(sm, shard, &gid, &epoch);
        if (config->shards[shard] == 0) {
            unowned++;
        } else if (config->shards[shard] == gid) {
            owned++;
        } else {
            moving++;
        }
    }
    metrics_begin_gauge(text, "shardkv_ctrler_shards",
                        "Shards of the latest configuration: confirmed by the group that shall own "
                        "them, on their way to it, or given to no group.");
    metrics_put_sample(text, "shardkv_ctrler_shards", owned, "state=\"confirmed\"");
    metrics_put_sample(text, "shardkv_ctrler_shards", moving, "state=\"moving\"");
    metrics_put_sample(text, "shardkv_ctrler_shards", unowned, "state=\"unowned\"");
}

void ctrler_server_metrics(const struct ctrler_server *server, struct buf *text)
{
    const struct ctrler_sm *sm = ctrler_server_sm(server);
    const struct shard_config *config = ctrler_sm_latest(sm);

    metrics_put_gauge(text, "shardkv_config_number",
                      "Number of the shard configuration that this replica is at.", config->num);
    metrics_put_gauge(text, "shardkv_moves_paused",
                      "1 while the operator holds the copies of moving shards up.",
                      config->moves_paused);
    metrics_put_gauge(text, "shardkv_sessions", "Client sessions that are remembered.",
                      ctrler_sm_session_count(sm));
    metrics_put_gauge(text, "shardkv_ctrler_groups", "Groups of the latest configuration.",
                      config->n_groups);
    put_shards(sm, text);
    serve_put_metrics(ctrler_server_serve(server), text);
}
