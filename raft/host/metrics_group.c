/* The replica of the Raft group: who leads, how far everybody is, what became of proposals and
 * reads, checkpoints and snapshots. */
#include <string.h>

#include "raft/host/host_internal.h"
#include "raft/util/metrics.h"

static void put_role(const struct group *group, struct buf *text)
{
    const struct raft *raft = group_raft(group);
    const struct raft_configuration *members = raft_latest_configuration(raft);
    const struct raft_server *self = raft_configuration_find(members, raft_self(raft));
    uint64_t voters = 0, learners = 0;

    for (size_t i = 0; i < members->n; i++) {
        voters += (members->servers[i].flags & RAFT_VOTER) != 0;
        learners += (members->servers[i].flags & RAFT_LEARNER) != 0;
    }
    metrics_put_gauge(text, "shardkv_raft_is_leader", "1 if this replica leads its group.",
                      group_is_leader(group));
    metrics_put_gauge(text, "shardkv_raft_is_learner",
                      "1 if this replica receives the log and does not vote.",
                      self != NULL && (self->flags & RAFT_LEARNER) != 0);
    metrics_put_gauge(text, "shardkv_raft_has_leader", "1 if a leader is known.",
                      raft_leader(raft) != 0);
    metrics_put_gauge(text, "shardkv_raft_leader_id", "Id of the known leader, 0 for none.",
                      raft_leader(raft));
    metrics_put_gauge(text, "shardkv_raft_term", "The current term.", raft_current_term(raft));
    metrics_put_gauge(text, "shardkv_raft_voters", "Voting members of the group.", voters);
    metrics_put_gauge(text, "shardkv_raft_learners", "Members that do not vote yet.", learners);
}

static void put_indexes(const struct group *group, struct buf *text)
{
    const struct raft *raft = group_raft(group);

    metrics_put_gauge(text, "shardkv_raft_first_index", "First index of the log in memory.",
                      raft_first_index(raft));
    metrics_put_gauge(text, "shardkv_raft_last_index", "Last index of the log.",
                      raft_last_index(raft));
    metrics_put_gauge(text, "shardkv_raft_commit_index", "Index known to be committed.",
                      raft_commit_index(raft));
    metrics_put_gauge(text, "shardkv_raft_applied_index", "Index applied to the state.",
                      group_applied_index(group));
    metrics_put_gauge(text, "shardkv_raft_checkpoint_index",
                      "Index of the last durable checkpoint of the state.",
                      group_statistics(group)->checkpoint_index);
    metrics_put_gauge(text, "shardkv_raft_log_memory_bytes", "Bytes of the log in memory.",
                      raft_log_bytes(raft));
}

static uint64_t peer_lag(const struct raft *raft, const struct raft_progress_info *info)
{
    raft_index last = raft_last_index(raft);

    return info->match_index < last ? last - info->match_index : 0;
}

static uint64_t peer_active(const struct raft *raft, const struct raft_progress_info *info)
{
    (void)raft;
    return info->recent_active;
}

static uint64_t peer_snapshot(const struct raft *raft, const struct raft_progress_info *info)
{
    (void)raft;
    return info->state == RAFT_SNAPSHOT;
}

/* One family with a sample for each other member; only a leader knows. */
static void put_peers(const struct raft *raft, const char *name, const char *help,
                      uint64_t (*value)(const struct raft *, const struct raft_progress_info *),
                      struct buf *text)
{
    const struct raft_configuration *members = raft_latest_configuration(raft);

    metrics_begin_gauge(text, name, help);
    for (size_t i = 0; i < members->n; i++) {
        struct raft_progress_info info;

        if (members->servers[i].id != raft_self(raft) &&
            raft_progress(raft, members->servers[i].id, &info)) {
            metrics_put_sample(text, name, value(raft, &info), "peer=\"%u\"",
                               (unsigned)members->servers[i].id);
        }
    }
}

static void put_proposals(const struct group_stats *stats, struct buf *text)
{
    static const struct host_reason reasons[] = {
        {ST_NOT_LEADER, "not_leader"}, {ST_BUSY, "busy"},       {ST_READ_ONLY, "read_only"},
        {ST_TOO_LARGE, "too_large"},   {ST_INVALID, "invalid"}, {ST_SHUTDOWN, "shutdown"}};

    metrics_begin_counter(text, "shardkv_proposals_total",
                          "Commands proposed to the group, by how they ended.");
    metrics_put_sample(text, "shardkv_proposals_total", stats->proposals_ok, "outcome=\"applied\"");
    metrics_put_sample(text, "shardkv_proposals_total", stats->proposals_unknown,
                       "outcome=\"unknown\"");
    host_put_by_status(text, "shardkv_proposals_total", "outcome=\"refused_", reasons,
                       sizeof(reasons) / sizeof(reasons[0]), stats->refused,
                       stats->proposals_refused);
}

static void put_work(const struct group_stats *stats, struct buf *text)
{
    put_proposals(stats, text);
    metrics_put_histogram(text, "shardkv_proposal_duration_seconds",
                          "Time from a proposal at the leader to its being committed and applied.",
                          &stats->proposal_us);
    metrics_begin_counter(text, "shardkv_reads_total",
                          "Linearizable reads asked of the group, by how they ended.");
    metrics_put_sample(text, "shardkv_reads_total", stats->reads_ok, "outcome=\"confirmed\"");
    metrics_put_sample(text, "shardkv_reads_total", stats->reads_refused, "outcome=\"refused\"");
    metrics_put_counter(text, "shardkv_read_rounds_total",
                        "Confirmations by a majority that this replica leads, each for all reads "
                        "that had gathered.",
                        stats->read_rounds);
    metrics_put_histogram(text, "shardkv_read_duration_seconds",
                          "Time from a read at the leader to its being confirmed and applied.",
                          &stats->read_us);
    metrics_put_counter(text, "shardkv_entries_applied_total", "Log entries applied to the state.",
                        stats->entries_applied);
}

static void put_elections(const struct group_stats *stats, struct buf *text)
{
    metrics_put_counter(text, "shardkv_raft_elections_total",
                        "Elections in which this replica stood.", stats->elections_started);
    metrics_put_counter(text, "shardkv_raft_leader_changes_total",
                        "Times that this replica learnt of another leader than before.",
                        stats->leader_changes);
    metrics_put_counter(text, "shardkv_raft_messages_sent_total", "Raft messages sent to peers.",
                        stats->messages_sent);
    metrics_put_counter(text, "shardkv_raft_messages_received_total",
                        "Raft messages received from peers.", stats->messages_received);
}

static void put_snapshots(const struct group_stats *stats, struct buf *text)
{
    metrics_begin_counter(text, "shardkv_checkpoints_total",
                          "Checkpoints that make the applied state durable, by how they ended.");
    metrics_put_sample(text, "shardkv_checkpoints_total", stats->checkpoints, "outcome=\"ok\"");
    metrics_put_sample(text, "shardkv_checkpoints_total", stats->checkpoints_no_space,
                       "outcome=\"no_space\"");
    metrics_put_histogram(text, "shardkv_checkpoint_duration_seconds",
                          "Time that a checkpoint took in the background.", &stats->checkpoint_us);
    metrics_put_counter(text, "shardkv_snapshots_sent_total",
                        "Snapshots that were begun to be sent to a follower.",
                        stats->snapshots_sent);
    metrics_put_counter(text, "shardkv_snapshots_installed_total",
                        "Snapshots received from a leader and installed.",
                        stats->snapshots_installed);
    metrics_put_counter(text, "shardkv_snapshot_sent_bytes_total",
                        "Bytes of snapshots handed to the network.", stats->snapshot_bytes_sent);
    metrics_put_counter(text, "shardkv_snapshot_received_bytes_total",
                        "Bytes of snapshots received.", stats->snapshot_bytes_received);
}

static void put_queues(const struct group *group, struct buf *text)
{
    struct group_queues queues;

    group_queues(group, &queues);
    metrics_put_gauge(text, "shardkv_proposals_pending", "Proposals that wait for their end.",
                      queues.proposals);
    metrics_put_gauge(text, "shardkv_reads_pending", "Reads that wait to be confirmed.",
                      queues.reads);
    metrics_put_gauge(text, "shardkv_raft_unsynced_writes",
                      "Writes of the replica that the log has not made durable yet.",
                      queues.unsynced_writes);
    metrics_put_gauge(text, "shardkv_snapshots_sending",
                      "Followers that are being sent a snapshot now.", queues.snapshots_sending);
    metrics_put_gauge(text, "shardkv_snapshot_installing",
                      "1 while the state is being replaced by a snapshot.",
                      queues.snapshot_receiving);
    metrics_put_gauge(text, "shardkv_read_only",
                      "1 while nothing is written for lack of disk space.",
                      group_is_read_only(group));
}

void host_put_group_metrics(const struct group *group, struct buf *text)
{
    const struct raft *raft = group_raft(group);
    const struct group_stats *stats = group_statistics(group);

    put_role(group, text);
    put_elections(stats, text);
    put_indexes(group, text);
    if (group_is_leader(group)) {
        put_peers(raft, "shardkv_raft_peer_lag_entries",
                  "Entries of the leader's log that this member is not known to have.", peer_lag,
                  text);
        put_peers(raft, "shardkv_raft_peer_active",
                  "1 if the leader heard from this member within the last election timeout.",
                  peer_active, text);
        put_peers(raft, "shardkv_raft_peer_snapshot",
                  "1 if this member is behind the log and gets a snapshot.", peer_snapshot, text);
    }
    put_work(stats, text);
    put_queues(group, text);
    put_snapshots(stats, text);
}
