/* AppendEntries and heartbeats, the follower's side (paper 5.3, Figure 2). */
#include "raft/core/raft_internal.h"

void recv_commit(struct raft *raft, raft_index index)
{
    ASSERT(raft->role != RAFT_LEADER);
    /* While the state is being switched to a snapshot it must not be applied past it. */
    if (raft->receive.installing && index > raft->receive.index) {
        index = raft->receive.index;
    }
    if (index > last_index_of(raft)) {
        index = last_index_of(raft);
    }
    if (index > raft->commit_index) {
        raft->commit_index = index;
    }
    ASSERT(raft->commit_index <= last_index_of(raft));
}

/* Entries must follow prev_log_index without a gap, in terms that never fall and that the sender
 * can know, and a configuration among them must be one. Anything else is no Append of this group.
 */
static bool is_well_formed(const struct raft_message *message)
{
    const struct raft_append *append = &message->append;
    raft_term term = append->prev_log_term;

    if ((append->prev_log_index == 0) != (append->prev_log_term == 0) ||
        append->prev_log_index > RAFT_MAX_NUMBER) {
        return false;
    }
    for (size_t i = 0; i < append->n_entries; i++) {
        const struct raft_entry *entry = &append->entries[i];

        if (entry->index != append->prev_log_index + 1 + i || entry->term < term ||
            entry->term == 0 || !membership_entry_is_valid(entry)) {
            return false;
        }
        term = entry->term;
    }
    return term <= message->term;
}

/* "Accepted: the log is durable and equals the leader's up to here": a promise. */
static void accept(struct raft *raft, const struct raft_message *message, raft_index match_index)
{
    struct raft_message *reply =
        outbox_send_after_persist(raft, RAFT_MESSAGE_APPEND_REPLY, message->from);

    ASSERT(match_index <= last_index_of(raft));
    reply->append_reply = (struct raft_append_reply){.match_index = match_index,
                                                     .read_round = message->append.read_round};
}

/* "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm"
 * (Figure 2). The hint is the highest entry at which the logs may still agree: its term is at most
 * prevLogTerm, because terms never fall along a log; so every rejection settles a whole term. It is
 * never below what is committed here, which every leader has. */
static void reject(struct raft *raft, const struct raft_message *message)
{
    const struct raft_append *append = &message->append;
    raft_index hint =
        raft_log_find_by_term(&raft->log, append->prev_log_index, append->prev_log_term);
    struct raft_message *reply = outbox_reply(raft, RAFT_MESSAGE_APPEND_REPLY, message->from);

    if (hint < raft->commit_index) {
        hint = raft->commit_index;
    }
    reply->append_reply = (struct raft_append_reply){
        .rejected = true,
        .rejected_index = append->prev_log_index,
        .hint_index = hint,
        .hint_term = raft_log_term_at(&raft->log, hint),
        .read_round = append->read_round,
    };
}

/* Takes what is new of the entries from `first` on; false if they contradict what is committed. */
static bool take_entries(struct raft *raft, struct raft_append *append, size_t first)
{
    size_t i = first;

    if (first > 0 && !raft_log_matches(&raft->log, append->entries[first - 1].index,
                                       append->entries[first - 1].term)) {
        return false;
    }
    /* "If an existing entry conflicts with a new one (same index but different terms), delete the
     * existing entry and all that follow it" (Figure 2): and only then. An Append that overlaps the
     * log without a conflict, late or repeated, removes nothing. */
    while (i < append->n_entries &&
           raft_log_matches(&raft->log, append->entries[i].index, append->entries[i].term)) {
        i++;
    }
    if (i == append->n_entries) {
        return true;
    }
    ASSERT(append->entries[i].index > raft->commit_index); /* the caller skipped those below */
    if (append->entries[i].index <= last_index_of(raft)) {
        raft_log_truncate(&raft->log, append->entries[i].index);
        membership_truncate(&raft->membership, append->entries[i].index);
    }
    for (raft_index from = append->entries[i].index; i < append->n_entries; i++) {
        raft_log_append(&raft->log, append->entries[i]);
        membership_adopt(&raft->membership, &append->entries[i]);
        append->entries[i].data = NULL; /* its reference is the log's now */
        if (i + 1 == append->n_entries) {
            persist_entries(raft, from);
        }
    }
    return true;
}

void recv_append(struct raft *raft, struct raft_message *message)
{
    struct raft_append *append = &message->append;
    raft_index last_new = append->prev_log_index + append->n_entries;
    size_t skip = 0;

    ASSERT(message->term == raft->hard_state.term);
    if (!is_well_formed(message)) {
        trace_error(raft->options.trace, "malformed append from=%u", message->from);
        return;
    }
    if (!election_heard_leader(raft, message->from)) {
        return;
    }
    if (append->prev_log_index < raft->commit_index) {
        /* An old Append, or a leader that does not know yet how far this log goes: what is
         * committed here agrees with every leader (leader completeness, paper 5.4). */
        if (last_new <= raft->commit_index) {
            accept(raft, message, raft->commit_index);
            return;
        }
        skip = raft->commit_index - append->prev_log_index;
    } else if (!raft_log_matches(&raft->log, append->prev_log_index, append->prev_log_term)) {
        reject(raft, message);
        return;
    }
    if (!take_entries(raft, append, skip)) {
        trace_error(raft->options.trace, "append contradicts committed entries from=%u commit=%llu",
                    message->from, (unsigned long long)raft->commit_index);
        return;
    }
    /* "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)"
     * (Figure 2): beyond it this log may still differ from the leader's. */
    recv_commit(raft, append->commit_index < last_new ? append->commit_index : last_new);
    accept(raft, message, last_new);
}

void recv_heartbeat(struct raft *raft, const struct raft_message *message)
{
    struct raft_message *reply;

    ASSERT(message->term == raft->hard_state.term);
    if (!election_heard_leader(raft, message->from)) {
        return;
    }
    /* The leader sends at most this follower's match_index: the log equals its own up to there. */
    recv_commit(raft, message->heartbeat.commit_index);
    reply = outbox_reply(raft, RAFT_MESSAGE_HEARTBEAT_REPLY, message->from);
    reply->heartbeat_reply.read_round = message->heartbeat.read_round;
}
