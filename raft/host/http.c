/* Metrics and health over HTTP. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "raft/host/host_internal.h"

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file != NULL) {
        if (fscanf(file, "%llu %llu", &pages, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_metric(struct buf *text, const char *name, const char *type, const char *help,
                       uint64_t value)
{
    buf_printf(text, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name,
               (unsigned long long)value);
}

static void put_group_metrics(const struct group *group, struct buf *text)
{
    const struct raft *raft = group_raft(group);
    const struct group_stats *stats = group_statistics(group);

    put_metric(text, "shardkv_raft_is_leader", "gauge", "1 if this replica leads its group.",
               group_is_leader(group));
    put_metric(text, "shardkv_raft_term", "gauge", "The current term.", raft_current_term(raft));
    put_metric(text, "shardkv_raft_leader_id", "gauge", "The known leader's id, 0 for none.",
               raft_leader(raft));
    put_metric(text, "shardkv_raft_commit_index", "gauge", "The commit index.",
               raft_commit_index(raft));
    put_metric(text, "shardkv_raft_applied_index", "gauge", "The applied index.",
               group_applied_index(group));
    put_metric(text, "shardkv_raft_elections_total", "counter", "Elections that were started.",
               stats->elections_started);
    put_metric(text, "shardkv_proposals_applied_total", "counter", "Proposals that were applied.",
               stats->proposals_ok);
    put_metric(text, "shardkv_proposals_refused_total", "counter",
               "Proposals certainly not applied.", stats->proposals_refused);
    put_metric(text, "shardkv_proposals_unknown_total", "counter",
               "Proposals whose end is not known.", stats->proposals_unknown);
    put_metric(text, "shardkv_reads_total", "counter", "Linearizable reads confirmed.",
               stats->reads_ok);
    put_metric(text, "shardkv_checkpoints_total", "counter", "Checkpoints of the state.",
               stats->checkpoints);
    put_metric(text, "shardkv_snapshots_sent_total", "counter", "Snapshots sent to followers.",
               stats->snapshots_sent);
    put_metric(text, "shardkv_snapshots_installed_total", "counter", "Snapshots installed.",
               stats->snapshots_installed);
}

static void put_metrics(struct host *host, struct buf *text)
{
    struct net_stats net;
    struct wal_stats wal;

    net_statistics(host->net, &net);
    wal_statistics(host->wal, &wal);
    put_metric(text, "shardkv_network_received_bytes_total", "counter", "Bytes received.",
               net.bytes_in);
    put_metric(text, "shardkv_network_sent_bytes_total", "counter", "Bytes sent.", net.bytes_out);
    put_metric(text, "shardkv_network_refused_total", "counter", "Connections refused.",
               net.refused);
    put_metric(text, "shardkv_network_malformed_total", "counter", "Malformed frames.",
               net.malformed);
    put_metric(text, "shardkv_network_dropped_total", "counter",
               "Messages dropped because a queue was full.", net.dropped);
    put_metric(text, "shardkv_network_connections", "gauge", "Open accepted connections.",
               net.connections);
    put_metric(text, "shardkv_wal_writes_total", "counter", "Synced writes of the Raft log.",
               wal.writes);
    put_metric(text, "shardkv_wal_written_bytes_total", "counter", "Bytes written to the Raft log.",
               wal.bytes);
    put_metric(text, "shardkv_wal_segments", "gauge", "Segments of the Raft log.", wal.segments);
    put_metric(text, "process_resident_memory_bytes", "gauge", "Resident memory.",
               resident_bytes());
    put_group_metrics(host->service->group(host->server), text);
    if (host->service->metrics != NULL) {
        host->service->metrics(host->server, text);
    }
}

/* A leader that can serve, or a follower that hears from one. */
static bool is_ready(struct host *host)
{
    struct group *group = host->service->group(host->server);

    return group_is_leader(group) ? group_is_ready(group) : raft_leader(group_raft(group)) != 0;
}

static void handle(void *context, const char *path, int *status, const char **content_type,
                   struct buf *body)
{
    struct host *host = context;

    *status = 200;
    *content_type = "text/plain; charset=utf-8";
    if (host->server == NULL) { /* everything closes */
        *status = 503;
        buf_printf(body, "not ready\n");
    } else if (strcmp(path, "/metrics") == 0) {
        *content_type = "text/plain; version=0.0.4; charset=utf-8";
        put_metrics(host, body);
    } else if (strcmp(path, "/livez") == 0) {
        buf_printf(body, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        bool ready = host->stop_ms == 0 && is_ready(host);
        *status = ready ? 200 : 503;
        buf_printf(body, ready ? "ok\n" : "not ready\n");
    } else {
        *status = 404;
        buf_printf(body, "not found; try /metrics, /livez or /readyz\n");
    }
}

enum status host_http_start(struct host *host, char *error)
{
    if (host->settings->metrics == NULL) {
        return ST_OK;
    }
    return net_http_start(host->net, host->settings->metrics, handle, host, error);
}
