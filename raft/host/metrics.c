/* Metrics: everything that is known of this process, for Prometheus. What each one means, and what
 * to alert on, is in METRICS.md, which tests/cluster/metrics_test.sh compares with the output. */
#include <string.h>

#include "raft/host/host_internal.h"
#include "raft/util/metrics.h"

/* Who this is, as labels of a constant 1: joined to the other series by instance. */
static void put_identity(const struct host *host, struct buf *text)
{
    const struct host_settings *settings = host->settings;

    metrics_begin_gauge(text, "shardkv_build_info", "1; which program and version this is.");
    metrics_put_sample(text, "shardkv_build_info", 1, "program=\"%s\",version=\"%s\"",
                       settings->program, SHARDKV_VERSION);
    metrics_begin_gauge(text, "shardkv_replica_info", "1; which replica of which group this is.");
    metrics_put_sample(text, "shardkv_replica_info", 1, "gid=\"%u\",id=\"%u\"", settings->gid,
                       settings->id);
    metrics_put_gauge(text, "shardkv_stopping", "1 while the server comes to an orderly end.",
                      host->stop_ms != 0);
}

static void put_loop(const struct net_stats *net, struct buf *text)
{
    metrics_put_histogram(text, "shardkv_loop_turn_duration_seconds",
                          "Time the loop thread worked from one wait to the next.", &net->turn_us);
    metrics_put_gauge_us(text, "shardkv_loop_slowest_turn_seconds",
                         "The longest turn since the start.", net->slowest_turn_us);
    metrics_put_counter_us(text, "shardkv_loop_stalled_seconds_total",
                           "Time that the loop was late by more than 100 ms.",
                           net->asleep_ms * 1000);
    metrics_put_counter(text, "shardkv_loop_mails_total",
                        "Completions of network, disk and other threads handled.", net->mails);
    metrics_put_gauge(text, "shardkv_loop_mailbox_peak",
                      "The most completions that ever waited for one turn.", net->most_mails);
}

void host_put_by_status(struct buf *text, const char *name, const char *label,
                        const struct host_reason *reasons, size_t n, const uint64_t *by_status,
                        uint64_t total)
{
    for (size_t i = 0; i < n; i++) {
        metrics_put_sample(text, name, by_status[reasons[i].status], "%s%s\"", label,
                           reasons[i].word);
        total -= by_status[reasons[i].status];
    }
    metrics_put_sample(text, name, total, "%sother\"", label);
}

static void put_refusals(const struct net_stats *net, struct buf *text)
{
    static const struct host_reason reasons[] = {{ST_MALFORMED, "malformed"},
                                                 {ST_VERSION, "version"},
                                                 {ST_WRONG_CLUSTER, "wrong_cluster"},
                                                 {ST_WRONG_NODE, "wrong_node"}};

    metrics_begin_counter(text, "shardkv_network_refused_total",
                          "Connections refused, by reason: the hello's fault, or too many.");
    metrics_put_sample(text, "shardkv_network_refused_total", net->refused_full,
                       "reason=\"too_many\"");
    host_put_by_status(text, "shardkv_network_refused_total", "reason=\"", reasons,
                       sizeof(reasons) / sizeof(reasons[0]), net->refused_hello,
                       net->refused - net->refused_full);
    metrics_put_counter(text, "shardkv_network_greetings_failed_total",
                        "Accepted connections that ended without a good hello: no TLS, no protocol "
                        "of ours, or silence.",
                        net->greetings_failed);
    metrics_put_counter(text, "shardkv_network_malformed_total",
                        "Malformed or forbidden frames; each closed its connection.",
                        net->malformed);
}

static void put_traffic(const struct net_stats *net, struct buf *text)
{
    static const char *const drops[NET_DROP_REASONS] = {
        [NET_DROP_PEER_DOWN] = "peer_down",
        [NET_DROP_PEER_FULL] = "peer_queue_full",
        [NET_DROP_CLIENT_GONE] = "client_gone",
        [NET_DROP_CLIENT_FULL] = "client_queue_full",
        [NET_DROP_SERVER_FULL] = "server_queue_full"};

    metrics_put_counter(text, "shardkv_network_received_bytes_total", "Bytes received.",
                        net->bytes_in);
    metrics_put_counter(text, "shardkv_network_sent_bytes_total", "Bytes sent.", net->bytes_out);
    metrics_put_counter(text, "shardkv_network_received_messages_total", "Messages received.",
                        net->messages_in);
    metrics_put_counter(text, "shardkv_network_sent_messages_total", "Messages sent.",
                        net->messages_out);
    metrics_begin_counter(text, "shardkv_network_dropped_total",
                          "Messages dropped instead of sent, by reason.");
    for (size_t i = 0; i < NET_DROP_REASONS; i++) {
        metrics_put_sample(text, "shardkv_network_dropped_total", net->drops[i], "reason=\"%s\"",
                           drops[i]);
    }
    metrics_put_gauge(text, "shardkv_network_connections", "Open accepted connections.",
                      net->connections);
    metrics_put_gauge(text, "shardkv_network_reassembly_bytes",
                      "Bytes of large messages that have not arrived in full.",
                      net->reassembly_bytes);
}

static void put_links(const struct host *host, struct buf *text)
{
    struct net_peer_stats peers[SPEC_MAX_REPLICAS];
    size_t n = net_peer_statistics(host->net, peers, SPEC_MAX_REPLICAS);

    if (n == 0) {
        return; /* alone */
    }
    metrics_begin_gauge(text, "shardkv_network_peer_up", "1 if the link to that peer is up.");
    for (size_t i = 0; i < n; i++) {
        metrics_put_sample(text, "shardkv_network_peer_up", peers[i].up, "peer=\"%u\"",
                           (unsigned)peers[i].id);
    }
    metrics_begin_gauge(text, "shardkv_network_peer_queue_bytes",
                        "Bytes that wait to be sent to that peer.");
    for (size_t i = 0; i < n; i++) {
        metrics_put_sample(text, "shardkv_network_peer_queue_bytes", peers[i].queue_bytes,
                           "peer=\"%u\"", (unsigned)peers[i].id);
    }
}

static void put_wal(struct host *host, struct buf *text)
{
    struct io_log *log = wal_io(host->wal);
    struct wal_stats wal;

    wal_statistics(host->wal, &wal);
    metrics_put_histogram(text, "shardkv_wal_write_duration_seconds",
                          "Time of a write to the Raft log, with its sync.", &wal.write_us);
    metrics_put_histogram(text, "shardkv_wal_fsync_duration_seconds",
                          "Time of what makes such a write durable, alone.", &wal.sync_us);
    metrics_put_gauge_us(text, "shardkv_wal_slowest_write_seconds",
                         "The longest write and sync since the start.", wal.slowest_write_us);
    metrics_put_gauge_us(text, "shardkv_wal_write_in_flight_seconds",
                         "How long the log's thread is at its present work; 0 while it waits.",
                         wal.in_flight_us);
    metrics_put_gauge(text, "shardkv_wal_waiting_writes",
                      "Writes that wait for the one in flight to end.", wal.waiting);
    metrics_put_counter(text, "shardkv_wal_written_bytes_total", "Bytes written to the Raft log.",
                        wal.bytes);
    metrics_put_counter(text, "shardkv_wal_records_total", "Records written to the Raft log.",
                        wal.records);
    metrics_put_counter(text, "shardkv_wal_recycled_segments_total",
                        "Segments of the Raft log that were used again.", wal.recycled);
    metrics_put_gauge(text, "shardkv_wal_segments", "Segments of the Raft log in use.",
                      wal.segments);
    metrics_put_gauge(text, "shardkv_wal_disk_bytes", "Bytes of the Raft log's files.",
                      log->ops->bytes(log));
}

static void put_storage(struct host *host, struct buf *text)
{
    struct io_state *state = state_io(host->state);

    metrics_put_gauge(text, "shardkv_state_disk_bytes",
                      "Bytes of the state's database, as of the last checkpoint.",
                      state->ops->disk_bytes(state));
    metrics_put_gauge(text, "shardkv_state_dirty_bytes",
                      "Bytes of the state in memory that no checkpoint has begun to write.",
                      state->ops->dirty_bytes(state));
    if (host->space.free_bytes != UINT64_MAX) {
        metrics_put_gauge(text, "shardkv_disk_free_bytes",
                          "Free bytes of the file system with the data directory.",
                          host->space.free_bytes);
    }
    metrics_put_gauge(text, "shardkv_disk_low", "1 while the disk is nearly full.",
                      host->space.low);
}

void host_put_metrics(struct host *host, struct buf *text)
{
    struct net_stats net;

    net_statistics(host->net, &net);
    put_identity(host, text);
    host_put_process_metrics(host, text);
    put_loop(&net, text);
    put_traffic(&net, text);
    put_refusals(&net, text);
    put_links(host, text);
    put_wal(host, text);
    put_storage(host, text);
    host_put_group_metrics(host->service->group(host->server), text);
    if (host->service->metrics != NULL) {
        host->service->metrics(host->server, text);
    }
}
