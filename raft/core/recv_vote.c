/* RequestVote and its reply, both for real votes and for pre-votes (paper 5.2, 5.4.1; thesis 3.6,
 * 4.2.3, 9.6). */
#include "raft/core/raft_internal.h"

/* "If a server receives a RequestVote request within the minimum election timeout of hearing from a
 * current leader, it does not update its term or grant its vote" (thesis 4.2.3). A leader hears
 * itself. */
static bool hears_a_leader(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER) {
        return true;
    }
    return raft->leader != 0 &&
           raft->now_ms - raft->leader_contact_ms < raft->options.election_timeout_ms;
}

/* "Raft determines which of two logs is more up-to-date by comparing the index and term of the last
 * entries in the logs" (paper 5.4.1). */
static bool is_up_to_date(const struct raft *raft, const struct raft_request_vote *request)
{
    raft_term last_term = raft_log_last_term(&raft->log);

    return request->last_log_term > last_term ||
           (request->last_log_term == last_term && request->last_log_index >= last_index_of(raft));
}

/* "Reply false if term < currentTerm; if votedFor is null or candidateId, and candidate's log is at
 * least as up-to-date as receiver's log, grant vote" (Figure 2). */
static bool may_grant(const struct raft *raft, const struct raft_message *message)
{
    bool free_vote = raft->hard_state.voted_for == message->from ||
                     (raft->hard_state.voted_for == 0 && raft->leader == 0);

    if (message->term < raft->hard_state.term) {
        return false;
    }
    if (message->term > raft->hard_state.term) {
        ASSERT(message->request_vote.pre_vote); /* a real request has raised the term before */
        free_vote = true;
    }
    return free_vote && is_up_to_date(raft, &message->request_vote);
}

/* Says only what would happen: changes neither term nor vote nor timer (thesis 9.6). */
static void recv_pre_vote(struct raft *raft, const struct raft_message *message)
{
    bool granted = may_grant(raft, message);
    struct raft_message *reply = outbox_reply(raft, RAFT_MESSAGE_VOTE_REPLY, message->from);

    if (granted) {
        reply->term = message->term; /* the term to come, which nobody has yet */
    }
    reply->vote_reply = (struct raft_vote_reply){.granted = granted, .pre_vote = true};
}

void recv_request_vote(struct raft *raft, const struct raft_message *message)
{
    struct raft_message *reply;

    if (!message->request_vote.transfer && hears_a_leader(raft)) {
        return;
    }
    if (message->request_vote.pre_vote) {
        recv_pre_vote(raft, message);
        return;
    }
    if (message->term > raft->hard_state.term) {
        election_become_follower(raft, message->term, 0);
    }
    if (!may_grant(raft, message)) {
        reply = outbox_reply(raft, RAFT_MESSAGE_VOTE_REPLY, message->from);
        reply->vote_reply = (struct raft_vote_reply){.granted = false};
        return;
    }
    if (raft->role != RAFT_FOLLOWER) { /* it was only asking whether it might stand */
        ASSERT(raft->role == RAFT_PRE_CANDIDATE);
        election_become_follower(raft, raft->hard_state.term, 0);
    }
    ASSERT(raft->hard_state.voted_for == 0 || raft->hard_state.voted_for == message->from);
    raft->hard_state.voted_for = message->from;
    election_reset_deadline(raft);
    /* The vote is a promise: durable before the reply leaves. */
    reply = outbox_send_after_persist(raft, RAFT_MESSAGE_VOTE_REPLY, message->from);
    reply->vote_reply = (struct raft_vote_reply){.granted = true};
}

void recv_vote_reply(struct raft *raft, const struct raft_message *message)
{
    const struct raft_vote_reply *reply = &message->vote_reply;
    raft_term asked = raft->hard_state.term + reply->pre_vote;

    /* Only answers to the question that is being asked count: same kind, same term. A refused
     * pre-vote carries the refuser's own term, which may be lower. */
    if (raft->role != (reply->pre_vote ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE) ||
        message->term > asked || (reply->granted && message->term != asked) ||
        (!reply->pre_vote && message->term != asked)) {
        return;
    }
    /* Nobody is asked for a vote before the own one is durable: this answers nothing, and counting
     * it could make a leader of a term in which this replica may, after a crash, vote again. */
    if (!reply->pre_vote && raft->durable_hard_state.term != raft->hard_state.term) {
        return;
    }
    if (reply->granted) {
        id_set_add(&raft->granted, message->from);
    } else {
        id_set_add(&raft->rejected, message->from);
    }
    election_count_votes(raft);
}
