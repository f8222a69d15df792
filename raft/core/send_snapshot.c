/* Sending a snapshot, the leader's side: chunk by chunk, as the follower's disk takes them.
 *
 * The core asks the driver for one chunk at a time, since only its length tells where the next one
 * begins, and lets at most max_chunks_inflight of them travel. The follower's answers say what is
 * durable there; a lost chunk, a broken link or a new leader rewinds to that. While a transfer
 * moves, the log behind its snapshot is kept (raft_compaction_bound); one that does not move for a
 * bounded time is given up, and the next sign of life begins with the newest snapshot.
 *
 * What was written meanwhile is kept until the follower has that, too, or it would need another
 * snapshot for ever: in rounds, as a learner catches up. */
#include "raft/core/raft_internal.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

#define STALLED_AFTER_TIMEOUTS 20 /* election timeouts without progress */
#define TAIL_PARTS             10 /* of what a round leaves, the next one leaves one less */

void send_snapshot_flush(struct raft *raft, struct progress *progress)
{
    struct snapshot_send *send = &progress->snapshot;
    struct outbox *out = &raft->out;

    ASSERT(progress->state == RAFT_SNAPSHOT);
    if (send->reading || send->all_read || raft->now_ms < send->retry_ms ||
        send->n_inflight >= raft->options.max_chunks_inflight) {
        return;
    }
    MEM_GROW(out->chunk_requests, out->chunk_requests_capacity, out->n_chunk_requests + 1);
    out->chunk_requests[out->n_chunk_requests++] = (struct raft_chunk_request){
        .to = progress->id, .snapshot_index = send->index, .offset = send->next};
    send->reading = true;
}

static void send_chunk(struct raft *raft, struct progress *progress,
                       const struct raft_install_snapshot *chunk)
{
    struct snapshot_send *send = &progress->snapshot;
    struct raft_message *message = outbox_send(raft, RAFT_MESSAGE_INSTALL_SNAPSHOT, progress->id);
    struct slice data = blob_slice(chunk->data);

    message->install_snapshot = *chunk;
    message->install_snapshot.checksum = crc32c(0, data.data, data.len);
    if (chunk->data != NULL) {
        blob_ref(chunk->data);
    }
    ASSERT(send->n_inflight < SNAPSHOT_MAX_CHUNKS_INFLIGHT);
    send->next += data.len;
    send->ends[send->n_inflight++] = send->next;
    send->all_read = chunk->done;
    send->last_sent_ms = raft->now_ms;
    progress->last_sent_ms = raft->now_ms;
}

/* Whether the chunk is the one that was asked for, of a snapshot that helps. */
static bool chunk_fits(const struct raft *raft, const struct snapshot_send *send,
                       const struct raft_install_snapshot *chunk)
{
    if (chunk->offset != send->next || (blob_slice(chunk->data).len == 0 && !chunk->done)) {
        return false;
    }
    if (send->index != 0) {
        return chunk->meta.index == send->index && chunk->meta.term == send->term;
    }
    return chunk->meta.index >= raft->log.snapshot_index && chunk->meta.index > 0 &&
           chunk->meta.index <= raft->commit_index;
}

void send_snapshot_chunk_read(struct raft *raft, const struct raft_event *event)
{
    struct raft_install_snapshot chunk = event->chunk_read.chunk;
    struct progress *progress =
        raft->role == RAFT_LEADER ? replicate_find(raft, event->chunk_read.to) : NULL;
    struct snapshot_send *send = progress == NULL ? NULL : &progress->snapshot;

    if (progress != NULL && progress->state == RAFT_SNAPSHOT && send->reading) {
        send->reading = false;
        if (event->chunk_read.status != ST_OK) {
            /* That snapshot can't be read (any more): the newest one, a little later. */
            progress_rewind_snapshot(progress, 0);
            send->index = 0;
            send->retry_ms = raft->now_ms + raft->options.heartbeat_ms;
        } else if (chunk_fits(raft, send, &chunk) &&
                   send->n_inflight < raft->options.max_chunks_inflight) {
            send->index = chunk.meta.index;
            send->term = chunk.meta.term;
            send_chunk(raft, progress, &chunk);
        } else if (send->index == 0) {
            send->retry_ms = raft->now_ms + raft->options.heartbeat_ms;
        }
    }
    blob_unref(&chunk.data);
}

void send_snapshot_tick(struct raft *raft, struct progress *progress)
{
    struct snapshot_send *send = &progress->snapshot;
    uint64_t timeout = raft->options.election_timeout_ms;

    ASSERT(progress->state == RAFT_SNAPSHOT);
    if (raft->now_ms - send->last_progress_ms >= STALLED_AFTER_TIMEOUTS * timeout) {
        trace_warn(raft->options.trace, "snapshot stalled to=%u index=%llu offset=%llu",
                   progress->id, (unsigned long long)send->index, (unsigned long long)send->acked);
        progress_become_probe(progress, progress->match_index + 1);
        progress->probe_sent = true; /* until it is heard again */
        return;
    }
    if (raft->now_ms - send->last_sent_ms < timeout ||
        raft->now_ms - progress->last_heard_ms >= timeout) {
        return;
    }
    if (send->n_inflight > 0) {
        progress_rewind_snapshot(progress, send->acked);
    } else if (send->all_read) {
        /* Everything is stored there, but the word that it is installed did not come: any chunk of
         * it makes the follower say so (or ignore it, while it installs). */
        progress_rewind_snapshot(progress, 0);
    }
}

/* Keeps what is committed and the follower does not have yet; nothing, if it has all. */
static void keep_tail(const struct raft *raft, struct progress *progress)
{
    bool behind = progress->match_index < raft->commit_index;

    progress->tail.target = behind ? raft->commit_index : 0;
    progress->tail.left = behind ? raft->commit_index - progress->match_index : 0;
}

/* A round ends when the follower has what was committed at its beginning. If that leaves nearly as
 * much as the round before, it takes entries hardly faster than they are written: it would hold the
 * log for ever, and proposals up once that is full. So would one that takes none. */
void send_snapshot_tick_tail(struct raft *raft, struct progress *progress)
{
    uint64_t patience = (uint64_t)STALLED_AFTER_TIMEOUTS * raft->options.election_timeout_ms;
    uint64_t left_before = progress->tail.left;
    bool gives_up = raft->now_ms - progress->last_durable_ms >= patience;

    ASSERT(progress->tail.target != 0 && progress->match_index >= raft->log.snapshot_index);
    if (!gives_up && progress->match_index >= progress->tail.target) {
        keep_tail(raft, progress);
        gives_up = progress->tail.left * TAIL_PARTS > left_before * (TAIL_PARTS - 1);
    }
    if (gives_up) {
        trace_info(raft->options.trace, "log is kept no longer for=%u match=%llu commit=%llu",
                   progress->id, (unsigned long long)progress->match_index,
                   (unsigned long long)raft->commit_index);
        progress->tail = (struct tail){0};
    }
}

/* The follower stored everything below `offset` and wants what begins there. */
static void recv_offset(struct raft *raft, struct snapshot_send *send, struct progress *progress,
                        uint64_t offset)
{
    uint32_t gone = 0;

    if (offset > send->next ||
        (offset <= send->acked && send->n_inflight > 0 &&
         raft->now_ms - send->last_progress_ms >= raft->options.heartbeat_ms)) {
        /* It has more than was sent (of an earlier transfer), or something was lost. */
        progress_rewind_snapshot(progress, offset);
        send->last_progress_ms = raft->now_ms;
        return;
    }
    if (offset <= send->acked) {
        return;
    }
    send->acked = offset;
    send->last_progress_ms = raft->now_ms;
    while (gone < send->n_inflight && send->ends[gone] <= offset) {
        gone++;
    }
    send->n_inflight -= gone;
    memmove(send->ends, send->ends + gone, send->n_inflight * sizeof(send->ends[0]));
}

void recv_install_snapshot_reply(struct raft *raft, const struct raft_message *message)
{
    const struct raft_install_snapshot_reply *reply = &message->install_snapshot_reply;
    struct progress *progress = replicate_find(raft, message->from);

    ASSERT(raft->role == RAFT_LEADER && message->term == raft->hard_state.term);
    if (progress == NULL || reply->index > raft->commit_index || reply->offset > RAFT_MAX_NUMBER) {
        return;
    }
    progress->last_heard_ms = raft->now_ms;
    progress->heard = true;
    if (reply->installed) {
        if (progress_acked(progress, reply->index, raft->now_ms)) {
            replicate_advance_commit(raft);
        }
        if (progress->state == RAFT_SNAPSHOT && reply->index >= raft->log.snapshot_index) {
            progress_become_replicate(progress);
            keep_tail(raft, progress);
        }
    } else if (progress->state == RAFT_SNAPSHOT && reply->index == progress->snapshot.index) {
        recv_offset(raft, &progress->snapshot, progress, reply->offset);
    }
}
