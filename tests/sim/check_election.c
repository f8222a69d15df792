/* Terms, votes, leaders and promises: what Figure 2 of the paper says must not go back, over all
 * lives of a replica. What a replica has in memory counts for nothing after a crash; what it said
 * in a message it must keep. */
#include "raft/wire.h"
#include "tests/sim/check_raft_internal.h"

#define MAX_TERM (1u << 24) /* of tests; the tables are arrays */

static void check_term_is_sane(const struct check_replica *replica, raft_term term)
{
    if (term >= MAX_TERM) {
        check_raft_fail(replica, "term monotonic", "term %llu is out of reach",
                        (unsigned long long)term);
    }
}

/* ---- Votes ---- */

static void note_vote(struct check_replica *replica, raft_term term, raft_id candidate)
{
    check_term_is_sane(replica, term);
    if (term >= replica->n_votes) {
        size_t n = (size_t)term + 64;

        replica->votes = mem_realloc(replica->votes, n);
        memset(replica->votes + replica->n_votes, 0, n - replica->n_votes);
        replica->n_votes = n;
    }
    /* "Each server will vote for at most one candidate in a given term" (paper 5.2). */
    if (replica->votes[term] != 0 && replica->votes[term] != candidate) {
        check_raft_fail(replica, "single vote", "in term %llu it voted for %u, now for %u",
                        (unsigned long long)term, replica->votes[term], candidate);
    }
    replica->votes[term] = (uint8_t)candidate;
}

/* ---- Leaders ---- */

static void note_leader(struct check_replica *replica, const struct raft *raft, raft_term term)
{
    struct check_group *group = replica->group;

    check_term_is_sane(replica, term);
    if (term >= group->n_terms) {
        size_t n = (size_t)term + 64;

        group->leaders = mem_realloc(group->leaders, n * sizeof(group->leaders[0]));
        memset(group->leaders + group->n_terms, 0,
               (n - group->n_terms) * sizeof(group->leaders[0]));
        group->n_terms = n;
    }
    /* "At most one leader can be elected in a given term" (paper, Figure 3); nor one twice. */
    if (group->leaders[term] != 0) {
        check_raft_fail(replica, "election safety", "it leads term %llu, which replica %u led",
                        (unsigned long long)term, group->leaders[term]);
    }
    group->leaders[term] = replica->id;
    note_vote(replica, term, replica->id);
    check_log_elected(replica, raft);
}

/* ---- Promises about the log ---- */

static void note_acknowledgement(struct check_replica *replica, const struct raft *raft,
                                 const struct raft_message *message, raft_index index)
{
    /* An answer that waited for the disk while the term went on says nothing about the log now. */
    if (raft == NULL || message->term != raft_current_term(raft)) {
        return;
    }
    if (index > raft_last_index(raft)) {
        check_raft_fail(replica, "acknowledged entries",
                        "in term %llu it acknowledges up to %llu, its log ends at %llu",
                        (unsigned long long)message->term, (unsigned long long)index,
                        (unsigned long long)raft_last_index(raft));
    }
    if (index > replica->acked_index && index + 1 >= raft_first_index(raft)) {
        replica->acked_index = index;
        replica->acked_term = raft_term_at(raft, index);
        replica->acked_in_term = message->term;
    }
}

static bool acknowledged_is_there(const struct check_replica *replica, const struct raft *raft)
{
    return replica->acked_index <= replica->base ||
           (replica->acked_index <= raft_last_index(raft) &&
            raft_term_at(raft, replica->acked_index) == replica->acked_term);
}

/* It begins with a snapshot of a leader later than the one that it acknowledged entries to: what it
 * had above is not that leader's. A replica may end with the step that installs the snapshot; then
 * this is seen first when it starts again. */
static bool snapshot_overtook(const struct check_replica *replica, const struct raft *raft)
{
    return raft_term_at(raft, raft_first_index(raft) - 1) > replica->acked_in_term;
}

/* Entries were removed: allowed only where they conflict with those of a later leader. */
static void check_removal(struct check_replica *replica, const struct raft *raft,
                          const struct check_change *change)
{
    raft_term term = raft_current_term(raft);

    /* "A leader never overwrites or deletes entries in its log; it only appends new entries". */
    if (raft_role(raft) == RAFT_LEADER && replica->leads_term == term) {
        check_raft_fail(replica, "leader append-only",
                        "leading term %llu it removed the entries %llu..%llu",
                        (unsigned long long)term, (unsigned long long)change->kept + 1,
                        (unsigned long long)change->old_last);
    }
    /* "If an existing entry conflicts with a new one, delete the existing entry and all that follow
     * it": so there is a new one in its place. */
    if (!change->reset && raft_last_index(raft) == change->kept) {
        check_raft_fail(replica, "truncation",
                        "the entries %llu..%llu went and nothing conflicts with them",
                        (unsigned long long)change->kept + 1, (unsigned long long)change->old_last);
    }
    if (acknowledged_is_there(replica, raft)) {
        return;
    }
    if (replica->acked_in_term >= term) {
        check_raft_fail(replica, "acknowledged entries",
                        "in term %llu it acknowledged up to %llu, in the same term it keeps %llu",
                        (unsigned long long)term, (unsigned long long)replica->acked_index,
                        (unsigned long long)change->kept);
    }
    replica->acked_index = change->kept > replica->base ? change->kept : replica->base;
    replica->acked_term = check_replica_term(replica, replica->acked_index);
}

/* ---- What happens ---- */

void check_election_started(struct check_replica *replica, const struct raft *raft)
{
    raft_term term = raft_current_term(raft);

    if (term < replica->said_term) {
        check_raft_fail(replica, "term monotonic", "it starts in term %llu after it was in %llu",
                        (unsigned long long)term, (unsigned long long)replica->said_term);
    }
    if (!acknowledged_is_there(replica, raft) && snapshot_overtook(replica, raft)) {
        replica->acked_index = raft_first_index(raft) - 1;
        replica->acked_term = raft_term_at(raft, replica->acked_index);
    } else if (!acknowledged_is_there(replica, raft)) {
        check_raft_fail(
            replica, "acknowledged entries",
            "in term %llu it acknowledged up to %llu (of term %llu), it starts with a "
            "log to %llu (there of term %llu)",
            (unsigned long long)replica->acked_in_term, (unsigned long long)replica->acked_index,
            (unsigned long long)replica->acked_term, (unsigned long long)raft_last_index(raft),
            (unsigned long long)raft_term_at(raft, replica->acked_index));
    }
    replica->term = term;
    replica->leads_term = 0;
}

void check_election_stepped(struct check_replica *replica, const struct raft *raft,
                            const struct check_change *change)
{
    raft_term term = raft_current_term(raft);

    if (term < replica->term) {
        check_raft_fail(replica, "term monotonic", "its term fell from %llu to %llu",
                        (unsigned long long)replica->term, (unsigned long long)term);
    }
    replica->term = term;
    if (change->kept < change->old_last) {
        check_removal(replica, raft, change);
    }
    replica->was_leading = replica->leads_term == term;
    if (raft_role(raft) != RAFT_LEADER) {
        replica->leads_term = 0;
    } else if (replica->leads_term != term) {
        note_leader(replica, raft, term);
        replica->leads_term = term;
    }
}

/* Only what promises something is decoded; of the others the header has the term. */
static bool is_promise(uint8_t type)
{
    return type == RAFT_MESSAGE_REQUEST_VOTE || type == RAFT_MESSAGE_VOTE_REPLY ||
           type == RAFT_MESSAGE_APPEND_REPLY || type == RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY;
}

static bool is_a_leaders(uint8_t type)
{
    return type == RAFT_MESSAGE_APPEND || type == RAFT_MESSAGE_HEARTBEAT ||
           type == RAFT_MESSAGE_INSTALL_SNAPSHOT || type == RAFT_MESSAGE_TIMEOUT_NOW;
}

/* It speaks as the leader of a term that another one led. */
static void check_speaks_as_leader(const struct check_replica *replica, raft_term term)
{
    const struct check_group *group = replica->group;

    if (term < group->n_terms && group->leaders[term] != 0 && group->leaders[term] != replica->id) {
        check_raft_fail(replica, "election safety",
                        "it speaks as the leader of term %llu, which replica %u led",
                        (unsigned long long)term, group->leaders[term]);
    }
}

void check_election_sent(struct check_replica *replica, const struct raft *raft, struct slice bytes)
{
    struct raft_message message = {.term = bytes.len >= 12 ? get_u64(bytes.data + 4) : 0};

    if (bytes.len >= 12 && is_a_leaders(bytes.data[1])) {
        check_speaks_as_leader(replica, message.term);
    }
    if (bytes.len >= 12 && is_promise(bytes.data[1])) {
        if (!wire_decode_message(bytes, &message)) {
            check_raft_fail(replica, "term monotonic", "it sent a malformed message");
        }
        switch (message.type) {
        case RAFT_MESSAGE_REQUEST_VOTE:
            if (message.request_vote.pre_vote) {
                return; /* the term is one to come */
            }
            note_vote(replica, message.term, replica->id);
            break;
        case RAFT_MESSAGE_VOTE_REPLY:
            if (message.vote_reply.pre_vote) {
                return;
            }
            if (message.vote_reply.granted) {
                note_vote(replica, message.term, message.to);
            }
            break;
        case RAFT_MESSAGE_APPEND_REPLY:
            if (!message.append_reply.rejected) {
                note_acknowledgement(replica, raft, &message, message.append_reply.match_index);
            }
            break;
        default:
            if (message.install_snapshot_reply.installed) {
                note_acknowledgement(replica, raft, &message, message.install_snapshot_reply.index);
            }
            break;
        }
        raft_message_fini(&message); /* owns nothing, but so it stays right */
        message.term = get_u64(bytes.data + 4);
    }
    if (message.term > replica->said_term) {
        replica->said_term = message.term;
    }
}
