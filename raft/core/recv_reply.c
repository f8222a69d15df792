/* Answers to Appends and heartbeats, at the leader (paper 5.3). Answers of an older term, or that
 * come after the leadership ended, never get here (step.c). */
#include "raft/core/raft_internal.h"

/* Any answer of this term: the follower lives, and confirms the round it echoes. */
static void heard_from(struct raft *raft, struct progress *progress, uint64_t read_round)
{
    progress->last_heard_ms = raft->now_ms;
    progress->heard = true;
    if (read_round > progress->read_round && read_round <= raft->reads.round) {
        progress->read_round = read_round;
    }
    ASSERT(progress->read_round <= raft->reads.round);
}

static void recv_accepted(struct raft *raft, struct progress *progress, raft_index match_index)
{
    bool news = progress_acked(progress, match_index, raft->now_ms);

    switch (progress->state) {
    case RAFT_PROBE:
        /* The probe's prev is what was found to match; an older answer finds no more than is known.
         */
        if (news || (progress->probe_sent && match_index + 1 >= progress->next_index)) {
            progress_become_replicate(progress);
        }
        break;
    case RAFT_REPLICATE:
        break;
    case RAFT_SNAPSHOT:
        /* It got there by itself: the log has what it needs next. */
        if (match_index >= raft->log.snapshot_index) {
            progress_become_replicate(progress);
        }
        break;
    }
    if (news) {
        replicate_advance_commit(raft);
    }
}

/* "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry" (Figure 2):
 * by whole terms. The follower says where it may agree; from there back to where this log has no
 * later term than the follower has at that place. */
static void recv_rejected(struct raft *raft, struct progress *progress,
                          const struct raft_append_reply *reply)
{
    raft_index agree = raft_log_find_by_term(&raft->log, reply->hint_index, reply->hint_term);

    if (agree == raft->log.snapshot_index && reply->hint_index < agree) {
        agree = reply->hint_index; /* below the log: a snapshot will do */
    }
    if (progress_rejected(progress, reply->rejected_index, agree)) {
        trace_debug(raft->options.trace, "rejected by=%u at=%llu next=%llu", progress->id,
                    (unsigned long long)reply->rejected_index,
                    (unsigned long long)progress->next_index);
    }
}

void recv_append_reply(struct raft *raft, const struct raft_message *message)
{
    const struct raft_append_reply *reply = &message->append_reply;
    struct progress *progress = replicate_find(raft, message->from);

    ASSERT(raft->role == RAFT_LEADER && message->term == raft->hard_state.term);
    if (progress == NULL || reply->match_index > last_index_of(raft) ||
        reply->rejected_index > last_index_of(raft)) {
        return; /* not a member, or no answer to anything this leader sent */
    }
    heard_from(raft, progress, reply->read_round);
    if (reply->rejected) {
        recv_rejected(raft, progress, reply);
    } else {
        recv_accepted(raft, progress, reply->match_index);
    }
}

/* A follower that answers heartbeats but not Appends may not have got them. Once nothing moved for
 * a heartbeat, ask for its log's end, without sending the entries again. */
static void suspect_loss(struct raft *raft, struct progress *progress)
{
    uint64_t quiet = raft->options.heartbeat_ms;

    if (raft->now_ms - progress->last_append_ms < quiet) {
        return;
    }
    if (progress->state == RAFT_PROBE && progress->probe_sent) {
        progress->probe_sent = false;
        progress->probe_empty = true;
    } else if (progress->state == RAFT_REPLICATE && progress->n_inflights > 0 &&
               raft->now_ms - progress->last_durable_ms >= quiet) {
        progress->gap_check = true;
    }
}

void recv_heartbeat_reply(struct raft *raft, const struct raft_message *message)
{
    struct progress *progress = replicate_find(raft, message->from);

    ASSERT(raft->role == RAFT_LEADER && message->term == raft->hard_state.term);
    if (progress == NULL) {
        return;
    }
    heard_from(raft, progress, message->heartbeat_reply.read_round);
    suspect_loss(raft, progress);
}
