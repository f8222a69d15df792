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
    if (host->service->metrics != NULL) {
        host->service->metrics(host->server, text);
    }
}

static void handle(void *context, const char *path, int *status, const char **content_type,
                   struct buf *body)
{
    struct host *host = context;

    *status = 200;
    *content_type = "text/plain; charset=utf-8";
    if (strcmp(path, "/metrics") == 0) {
        *content_type = "text/plain; version=0.0.4; charset=utf-8";
        put_metrics(host, body);
    } else if (strcmp(path, "/livez") == 0) {
        buf_printf(body, "ok\n");
    } else if (strcmp(path, "/readyz") == 0) {
        bool ready = host->stop_ms == 0 && host->service->is_ready(host->server);
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
