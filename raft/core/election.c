/* Elections: roles, timeouts and the counting of votes (paper 5.2, thesis 3.4, 9.6).
 *
 *               timeout                majority would vote           majority votes
 *   FOLLOWER ────────────▶ PRE_CANDIDATE ─────────────▶ CANDIDATE ─────────────▶ LEADER
 *      ▲                        │   TIMEOUT_NOW skips       │                      │
 *      └────────────────────────┴── a leader or a higher term, a lost vote, ──────┘
 *                                   no majority heard for an election timeout
 *
 * A pre-candidate has changed nothing: its term rises only when a majority says it would vote
 * (thesis 9.6), so a replica that was cut off does not disturb the group when it returns. */
#include "raft/core/raft_internal.h"

void election_reset_deadline(struct raft *raft)
{
    uint64_t timeout = raft->options.election_timeout_ms;

    /* "Election timeouts are chosen randomly from a fixed interval" (paper 5.2): E..2E. */
    raft->election_deadline_ms = raft->now_ms + rng_between(&raft->rng, timeout, 2 * timeout);
    ASSERT(raft->election_deadline_ms > raft->now_ms);
}

/* One that lost its disk is another replica than the one of the same id that votes. */
static bool is_own_vote(const struct raft *raft, const struct raft_server *server)
{
    return server != NULL && is_voter(server) &&
           (server->incarnation == 0 || raft->options.incarnation == 0 ||
            server->incarnation == raft->options.incarnation);
}

/* "A server that is not part of its own latest configuration should still start new elections, as
 * it might still be needed until the C_new entry is committed" (thesis 4.2.2): it may be the only
 * one with that entry, and the others can't win against its log. So it is looked for in every
 * configuration that may yet turn out to be the one. */
const struct raft_server *election_find_self(const struct raft *raft)
{
    const struct membership *membership = &raft->membership;

    for (size_t i = membership->n; i-- > 0;) {
        const struct raft_server *server =
            raft_configuration_find(&membership->entries[i].configuration, raft->options.id);

        if (is_own_vote(raft, server)) {
            return server;
        }
        if (membership->entries[i].index <= raft->commit_index) {
            break; /* those before it are over */
        }
    }
    return NULL;
}

bool election_is_eligible(const struct raft *raft)
{
    /* While the state is being switched to a snapshot the log does not say what the state is. */
    return !raft->receive.installing && election_find_self(raft) != NULL;
}

void election_become_follower(struct raft *raft, raft_term term, raft_id leader)
{
    enum raft_role before = raft->role;

    ASSERT(term >= raft->hard_state.term && leader != raft->options.id);
    if (term > raft->hard_state.term) {
        /* "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert
         * to follower" (paper, Figure 2). Only then is the vote free again. */
        raft->hard_state = (struct raft_hard_state){.term = term};
        recv_snapshot_forget(raft);
    }
    raft->role = RAFT_FOLLOWER;
    raft->leader = leader;
    raft->transfer_election = false;
    if (before == RAFT_LEADER) {
        replicate_end(raft);
    }
    if (before != RAFT_FOLLOWER) {
        election_reset_deadline(raft);
    }
}

bool election_heard_leader(struct raft *raft, raft_id from)
{
    /* "At most one leader can be elected in a given term" (paper 5.2): a second one is no leader of
     * this group. */
    if (raft->role == RAFT_LEADER || (raft->leader != 0 && raft->leader != from)) {
        trace_error(raft->options.trace, "two leaders in a term term=%llu known=%u other=%u",
                    (unsigned long long)raft->hard_state.term, raft->leader, from);
        return false;
    }
    if (raft->role != RAFT_FOLLOWER) {
        /* "If AppendEntries RPC received from new leader: convert to follower" (Figure 2). */
        election_become_follower(raft, raft->hard_state.term, from);
    }
    raft->leader = from;
    raft->leader_contact_ms = raft->now_ms;
    election_reset_deadline(raft);
    ASSERT(raft->role == RAFT_FOLLOWER);
    return true;
}

static void fill_request(struct raft *raft, struct raft_message *message, bool pre_vote)
{
    message->term = raft->hard_state.term + pre_vote;
    message->request_vote = (struct raft_request_vote){
        .last_log_index = last_index_of(raft),
        .last_log_term = raft_log_last_term(&raft->log),
        .pre_vote = pre_vote,
        .transfer = raft->transfer_election,
    };
}

/* Asks one peer for its vote. A real request says that this replica voted for itself: only once
 * that is durable. */
static void ask(struct raft *raft, raft_id peer)
{
    bool pre_vote = raft->role == RAFT_PRE_CANDIDATE;
    struct raft_message *message =
        pre_vote ? outbox_send(raft, RAFT_MESSAGE_REQUEST_VOTE, peer)
                 : outbox_send_after_persist(raft, RAFT_MESSAGE_REQUEST_VOTE, peer);

    ASSERT(raft->role == RAFT_PRE_CANDIDATE || raft->role == RAFT_CANDIDATE);
    fill_request(raft, message, pre_vote);
}

static void ask_all(struct raft *raft)
{
    const struct raft_configuration *configuration = configuration_of(raft);

    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];

        if (server->id != raft->options.id && is_voter(server)) {
            ask(raft, server->id);
        }
    }
}

static void begin_vote(struct raft *raft, enum raft_role role, bool transfer)
{
    ASSERT(raft->role != RAFT_LEADER);
    raft->role = role;
    raft->leader = 0;
    raft->transfer_election = transfer;
    raft->granted = (struct id_set){0};
    raft->rejected = (struct id_set){0};
    election_reset_deadline(raft);
}

/* Would a majority vote for this replica? */
static void begin_pre_vote(struct raft *raft)
{
    begin_vote(raft, RAFT_PRE_CANDIDATE, false);
    id_set_add(&raft->granted, raft->options.id);
    trace_debug(raft->options.trace, "pre-vote term=%llu",
                (unsigned long long)raft->hard_state.term + 1);
    if (quorum_vote(configuration_of(raft), &raft->granted, &raft->rejected) == QUORUM_WON) {
        election_begin_candidacy(raft, false);
        return;
    }
    ask_all(raft);
}

void election_begin_candidacy(struct raft *raft, bool transfer)
{
    ASSERT(election_is_eligible(raft));
    /* "On conversion to candidate: increment currentTerm, vote for self, reset election timer, send
     * RequestVote RPCs to all other servers" (Figure 2). The own vote counts once it is durable. */
    begin_vote(raft, RAFT_CANDIDATE, transfer);
    raft->hard_state.term++;
    raft->hard_state.voted_for = raft->options.id;
    recv_snapshot_forget(raft);
    trace_info(raft->options.trace, "candidate term=%llu transfer=%d",
               (unsigned long long)raft->hard_state.term, transfer);
    ask_all(raft);
}

static void become_leader(struct raft *raft)
{
    ASSERT(raft->role == RAFT_CANDIDATE && raft->hard_state.voted_for == raft->options.id);
    raft->role = RAFT_LEADER;
    raft->leader = raft->options.id;
    raft->transfer_election = false;
    trace_info(raft->options.trace, "leader term=%llu last_index=%llu",
               (unsigned long long)raft->hard_state.term, (unsigned long long)last_index_of(raft));
    replicate_begin(raft);
    /* "Commit a blank no-op entry into the log at the start of its term" (paper 8). */
    replicate_append_own(raft, RAFT_ENTRY_NOOP, NULL);
}

void election_count_votes(struct raft *raft)
{
    enum quorum_result result;

    if (raft->role != RAFT_CANDIDATE && raft->role != RAFT_PRE_CANDIDATE) {
        return;
    }
    if (raft->role == RAFT_CANDIDATE && raft->durable_hard_state.term == raft->hard_state.term) {
        ASSERT(raft->durable_hard_state.voted_for == raft->options.id);
        id_set_add(&raft->granted, raft->options.id);
    }
    result = quorum_vote(configuration_of(raft), &raft->granted, &raft->rejected);
    if (result == QUORUM_LOST) {
        election_become_follower(raft, raft->hard_state.term, 0);
    } else if (result == QUORUM_WON && !election_is_eligible(raft)) {
        election_become_follower(raft, raft->hard_state.term, 0);
    } else if (result == QUORUM_WON && raft->role == RAFT_PRE_CANDIDATE) {
        election_begin_candidacy(raft, false);
    } else if (result == QUORUM_WON) {
        become_leader(raft);
    }
}

void election_tick(struct raft *raft)
{
    if (raft->role == RAFT_LEADER || raft->now_ms < raft->election_deadline_ms) {
        return;
    }
    if (persist_holds_vote(raft)) {
        /* Another term would wait for the same disk, and lose what this vote may yet bring. */
        election_reset_deadline(raft);
        return;
    }
    /* "If election timeout elapses without receiving AppendEntries RPC from current leader or
     * granting vote to candidate: convert to candidate" (Figure 2). */
    if (election_is_eligible(raft)) {
        begin_pre_vote(raft);
        return;
    }
    election_become_follower(raft, raft->hard_state.term, 0);
    election_reset_deadline(raft);
}

void election_peer_up(struct raft *raft, raft_id peer)
{
    const struct raft_server *server = raft_configuration_find(configuration_of(raft), peer);

    if ((raft->role != RAFT_CANDIDATE && raft->role != RAFT_PRE_CANDIDATE) || server == NULL ||
        !is_voter(server)) {
        return;
    }
    if (!id_set_has(&raft->granted, peer) && !id_set_has(&raft->rejected, peer)) {
        ask(raft, peer);
    }
}

/* How many voters come before this replica when each stands for a leader that is gone. */
static uint64_t rank_without(const struct raft *raft, raft_id leader)
{
    const struct raft_configuration *configuration = configuration_of(raft);
    uint64_t rank = 0;

    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];

        rank += server->id < raft->options.id && server->id != leader && is_voter(server);
    }
    return rank;
}

/* Timeouts are for leaders of which nothing is known; this one's process has ended. Not of the
 * paper; elections are as safe as ever, since it matters nowhere when one begins. Should it live
 * after all, it is heard again, or a majority that hears it refuses the pre-vote (thesis 9.6).
 * One voter stands after the other, so that they don't split the vote; the first gives the others
 * time to learn the same. */
void election_peer_gone(struct raft *raft, raft_id peer)
{
    uint64_t timeout = raft->options.election_timeout_ms;
    uint64_t deadline_ms;

    if (raft->role != RAFT_FOLLOWER || raft->leader != peer) {
        return;
    }
    raft->leader = 0;
    deadline_ms = raft->now_ms + 1 + timeout / 16 + rank_without(raft, peer) * (timeout / 8);
    if (deadline_ms < raft->election_deadline_ms) {
        raft->election_deadline_ms = deadline_ms;
    }
}
