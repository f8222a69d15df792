/* InstallSnapshot, the follower's side (paper 7, thesis 5).
 *
 * Chunks are stored beside the live state and acknowledged when durable; what is stored of a
 * snapshot (index, term) stays valid whoever sends the rest, so a transfer goes on where it
 * stopped. With the last chunk the driver switches the state, atomically, and reports it; only then
 * the log begins anew. A follower never goes back: what its commit index covers it does not take.
 */
#include "raft/core/raft_internal.h"
#include "raft/util/crc32c.h"

#define MAX_CHUNKS_STORING SNAPSHOT_MAX_CHUNKS_INFLIGHT /* handed out, not answered */

void recv_snapshot_forget(struct raft *raft)
{
    /* A switch that is under way can't be called off: it will be reported. */
    if (!raft->receive.installing) {
        raft->receive = (struct snapshot_receive){.storing = raft->receive.storing};
    }
}

static void reply_offset(struct raft *raft, raft_id to)
{
    struct raft_message *reply = outbox_reply(raft, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, to);

    ASSERT(raft->receive.index > 0);
    reply->install_snapshot_reply = (struct raft_install_snapshot_reply){
        .index = raft->receive.index, .offset = raft->receive.durable};
}

/* The log holds everything up to the snapshot, or the state does: a promise, like an accepted
 * Append. */
static void reply_installed(struct raft *raft, raft_id to, raft_index index, uint64_t offset)
{
    struct raft_message *reply =
        outbox_send_after_persist(raft, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, to);

    ASSERT(index <= raft->commit_index);
    reply->install_snapshot_reply =
        (struct raft_install_snapshot_reply){.index = index, .offset = offset, .installed = true};
}

/* Whether the snapshot brings nothing that this replica does not have. */
static bool is_superfluous(struct raft *raft, const struct raft_snapshot_meta *meta)
{
    if (meta->index <= raft->commit_index) {
        return true;
    }
    /* "If existing log entry has same index and term as snapshot's last included entry, retain log
     * entries following it and reply" (paper, Figure 13): what a snapshot covers is committed. */
    if (raft_log_matches(&raft->log, meta->index, meta->term)) {
        recv_commit(raft, meta->index);
        return true;
    }
    return false;
}

/* Takes up a snapshot, or goes on with it; false if the chunk is of an older one. */
static bool take_up(struct raft *raft, const struct raft_message *message)
{
    const struct raft_snapshot_meta *meta = &message->install_snapshot.meta;
    struct snapshot_receive *receive = &raft->receive;

    if (receive->index == meta->index && receive->term == meta->term) {
        receive->from = message->from;
        return true;
    }
    /* Within a term a leader only goes over to newer snapshots: this chunk is late. */
    if (meta->index < receive->index) {
        return false;
    }
    recv_snapshot_forget(raft);
    receive->index = meta->index;
    receive->term = meta->term;
    receive->from = message->from;
    return true;
}

static bool is_well_formed(const struct raft_message *message)
{
    const struct raft_install_snapshot *chunk = &message->install_snapshot;
    struct slice data = blob_slice(chunk->data);

    return chunk->meta.index > 0 && chunk->meta.index <= RAFT_MAX_NUMBER && chunk->meta.term > 0 &&
           chunk->meta.term <= message->term && chunk->meta.configuration.n > 0 &&
           chunk->offset <= RAFT_MAX_NUMBER && (data.len > 0 || chunk->done) &&
           crc32c(0, data.data, data.len) == chunk->checksum;
}

void recv_install_snapshot(struct raft *raft, struct raft_message *message)
{
    struct raft_install_snapshot *chunk = &message->install_snapshot;
    struct snapshot_receive *receive = &raft->receive;

    ASSERT(message->term == raft->hard_state.term);
    if (!election_heard_leader(raft, message->from)) {
        return;
    }
    if (!is_well_formed(message)) {
        trace_warn(raft->options.trace, "damaged snapshot chunk from=%u offset=%llu", message->from,
                   (unsigned long long)chunk->offset);
        return; /* the sender repeats what is not answered */
    }
    if (receive->installing) {
        return;
    }
    if (is_superfluous(raft, &chunk->meta)) {
        reply_installed(raft, message->from, chunk->meta.index, chunk->offset);
        return;
    }
    if (!take_up(raft, message)) {
        return;
    }
    if (chunk->offset != receive->next || receive->storing >= MAX_CHUNKS_STORING) {
        /* A chunk between was lost, or this one was here before: say where to go on. */
        reply_offset(raft, message->from);
        return;
    }
    receive->next += blob_slice(chunk->data).len;
    receive->storing++;
    receive->installing = chunk->done;
    raft->out.chunk = *chunk;
    raft->out.has_chunk = true;
    chunk->data = NULL; /* its reference is the outbox's now */
}

/* Chunks are answered in the order they were handed out, and nothing is handed out after the last
 * one of a snapshot. So this answers that one if no other is left; unless it was stored in full, it
 * was not taken (one before it was lost) and nothing is being switched. */
static void count_answer(struct snapshot_receive *receive, bool stored, uint64_t offset)
{
    ASSERT(receive->storing > 0);
    receive->storing--;
    if (receive->installing && receive->storing == 0) {
        receive->installing = stored && offset == receive->next;
    }
}

void recv_chunk_stored(struct raft *raft, const struct raft_event *event)
{
    struct snapshot_receive *receive = &raft->receive;
    bool stored = event->chunk_stored.status == ST_OK &&
                  event->chunk_stored.index == receive->index && receive->index != 0;

    count_answer(receive, stored, event->chunk_stored.offset);
    if (event->chunk_stored.index != receive->index || receive->index == 0) {
        return; /* of a snapshot that was given up */
    }
    if (!stored) {
        /* Whatever was handed out after it is not stored either; the sender repeats it. */
        receive->next = receive->installing ? receive->next : receive->durable;
        return;
    }
    receive->durable = event->chunk_stored.offset;
    if (receive->durable > receive->next || receive->storing == 0) {
        /* More was stored before than this replica remembered, or less than it handed out. */
        receive->next = receive->durable;
    }
    ASSERT(receive->durable <= receive->next);
    if (raft->leader != 0 && raft->leader == receive->from) {
        reply_offset(raft, receive->from);
    }
}

/* The state now is the snapshot: the log begins after it, with those entries that follow it. */
static void replace_log(struct raft *raft, const struct raft_snapshot_meta *meta)
{
    /* "Otherwise discard the entire log" (Figure 13): entries that follow a different entry at the
     * snapshot's index belong to another history. */
    if (raft_log_matches(&raft->log, meta->index, meta->term)) {
        raft_log_compact(&raft->log, meta->index);
        membership_compact(&raft->membership, meta->index);
    } else {
        raft_log_reset(&raft->log, meta->index, meta->term);
        membership_reset(&raft->membership, meta->index, &meta->configuration);
    }
    ASSERT(raft->commit_index <= meta->index);
    raft->commit_index = meta->index;
    raft->out.log_reset_index = meta->index;
    persist_log_reset(raft, meta->index);
}

void recv_snapshot_installed(struct raft *raft, const struct raft_event *event)
{
    const struct raft_snapshot_meta *meta = &event->installed.meta;
    struct snapshot_receive *receive = &raft->receive;
    uint64_t end = receive->next;

    ASSERT(raft->role != RAFT_LEADER);
    if (event->installed.status != ST_OK) {
        trace_warn(raft->options.trace, "snapshot not installed index=%llu",
                   (unsigned long long)receive->index);
        *receive = (struct snapshot_receive){0};
        return;
    }
    ASSERT(receive->installing && meta->index == receive->index && meta->term == receive->term);
    *receive = (struct snapshot_receive){0};
    replace_log(raft, meta);
    trace_info(raft->options.trace, "snapshot installed index=%llu term=%llu",
               (unsigned long long)meta->index, (unsigned long long)meta->term);
    if (raft->leader != 0) {
        reply_installed(raft, raft->leader, meta->index, end);
    }
}
