/* The step: one event in, one update out. This file knows the order of things and nothing else: it
 * clears the outbox, gives the event to the file that handles it, lets a leader send what may now
 * be sent, and fills in the update. Terms are compared here, once for all messages; a handler sees
 * only messages of the current term (votes look at terms themselves). */
#include "raft/core/raft_internal.h"
#include "raft/util/mem.h"

struct before {
    enum raft_role role;
    raft_term term;
    raft_id leader;
};

static struct before step_begin(struct raft *raft)
{
    outbox_clear(raft);
    return (struct before){raft->role, raft->hard_state.term, raft->leader};
}

static void step_end(struct raft *raft, struct before before, struct raft_update *update)
{
    memset(update, 0, sizeof(*update));
    if (raft->role == RAFT_LEADER) {
        change_advance(raft);
    }
    if (raft->role == RAFT_LEADER) {
        replicate_flush(raft);
    }
    persist_fill(raft, update);
    outbox_fill(raft, update);
    update->role_changed = before.role != raft->role || before.term != raft->hard_state.term ||
                           before.leader != raft->leader;
}

/* A message of an older term. "If a server receives a request with a stale term number, it rejects
 * the request" (paper 5.1): the answer's term tells a deposed leader. Stale answers are dropped. */
static void refuse_stale(struct raft *raft, const struct raft_message *message)
{
    struct raft_message *reply;

    ASSERT(message->term < raft->hard_state.term);
    switch (message->type) {
    case RAFT_MESSAGE_APPEND:
        reply = outbox_reply(raft, RAFT_MESSAGE_APPEND_REPLY, message->from);
        reply->append_reply = (struct raft_append_reply){
            .rejected = true, .rejected_index = message->append.prev_log_index};
        break;
    case RAFT_MESSAGE_HEARTBEAT:
        reply = outbox_reply(raft, RAFT_MESSAGE_HEARTBEAT_REPLY, message->from);
        reply->heartbeat_reply = (struct raft_heartbeat_reply){0};
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        reply = outbox_reply(raft, RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY, message->from);
        reply->install_snapshot_reply =
            (struct raft_install_snapshot_reply){.index = message->install_snapshot.meta.index};
        break;
    default:
        break;
    }
}

static bool is_from_leader(enum raft_message_type type)
{
    return type == RAFT_MESSAGE_APPEND || type == RAFT_MESSAGE_HEARTBEAT ||
           type == RAFT_MESSAGE_INSTALL_SNAPSHOT || type == RAFT_MESSAGE_TIMEOUT_NOW;
}

static void dispatch_to_follower(struct raft *raft, struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MESSAGE_APPEND:
        recv_append(raft, message);
        break;
    case RAFT_MESSAGE_HEARTBEAT:
        recv_heartbeat(raft, message);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        recv_install_snapshot(raft, message);
        break;
    case RAFT_MESSAGE_TIMEOUT_NOW:
        recv_timeout_now(raft, message);
        break;
    default:
        UNREACHABLE("only a leader's messages come here");
    }
}

static bool is_answer(enum raft_message_type type)
{
    return type == RAFT_MESSAGE_VOTE_REPLY || type == RAFT_MESSAGE_APPEND_REPLY ||
           type == RAFT_MESSAGE_HEARTBEAT_REPLY || type == RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY;
}

static void dispatch_to_leader(struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MESSAGE_APPEND_REPLY:
        recv_append_reply(raft, message);
        break;
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
        recv_heartbeat_reply(raft, message);
        break;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY:
        recv_install_snapshot_reply(raft, message);
        break;
    default:
        break; /* no type that exists */
    }
}

/* Who answers for a replica that it is not, by its incarnation, promises nothing that holds: it
 * lost what that one had promised. Requests are taken from anybody (thesis 4.1): they promise
 * nothing, and the sender may be a member that this log does not tell of yet. */
static bool is_impostor(struct raft *raft, const struct raft_message *message,
                        const struct raft_event *event)
{
    struct progress *progress;

    if (!is_answer(message->type) || event->incarnation == 0) {
        return false;
    }
    if (!change_is_known_incarnation(raft, message->from, event)) {
        trace_debug(raft->options.trace, "answer of another incarnation from=%u", message->from);
        return true;
    }
    progress = replicate_find(raft, message->from);
    if (progress != NULL && progress->incarnation == 0) {
        progress->incarnation = event->incarnation;
    }
    return false;
}

static void step_message(struct raft *raft, struct raft_message *message,
                         const struct raft_event *event)
{
    if (message->to != raft->options.id || message->from == raft->options.id ||
        message->from == 0 || message->from > SPEC_MAX_ID || message->term == 0 ||
        message->term > RAFT_MAX_NUMBER || is_impostor(raft, message, event)) {
        return;
    }
    raft->heard_ms[message->from] = raft->now_ms;
    if (message->type == RAFT_MESSAGE_REQUEST_VOTE) {
        recv_request_vote(raft, message);
        return;
    }
    /* A granted pre-vote carries the term to come: it is nobody's yet. */
    if (message->term > raft->hard_state.term &&
        !(message->type == RAFT_MESSAGE_VOTE_REPLY && message->vote_reply.pre_vote &&
          message->vote_reply.granted)) {
        election_become_follower(raft, message->term,
                                 is_from_leader(message->type) ? message->from : 0);
    }
    if (message->type == RAFT_MESSAGE_VOTE_REPLY) {
        recv_vote_reply(raft, message);
    } else if (message->term < raft->hard_state.term) {
        refuse_stale(raft, message);
    } else if (is_from_leader(message->type)) {
        dispatch_to_follower(raft, message);
    } else if (raft->role == RAFT_LEADER) {
        dispatch_to_leader(raft, message);
    }
}

static void step_compact(struct raft *raft, const struct raft_snapshot_meta *meta)
{
    raft_index index = meta->index;

    ASSERT(index <= raft->commit_index); /* a state holds only what is committed */
    if (index > raft_compaction_bound(raft)) {
        index = raft_compaction_bound(raft);
    }
    if (index > raft->log.snapshot_index) {
        raft_log_compact(&raft->log, index);
        membership_compact(&raft->membership, index);
        if (raft->durable_index < index) {
            raft->durable_index = index; /* the state holds it */
        }
    }
}

static void step_persisted(struct raft *raft, uint64_t seq)
{
    bool held_vote = persist_holds_vote(raft);

    persist_done(raft, seq);
    if (held_vote && raft->role != RAFT_LEADER && !persist_holds_vote(raft)) {
        /* The vote, or the request for one, goes out only now: its answer deserves as much time as
         * on a quick disk. Where the disk takes longer than the timeout, each election would be
         * given up for the next one before it can be won. */
        election_reset_deadline(raft);
    }
    election_count_votes(raft);
    if (raft->role == RAFT_LEADER) {
        replicate_advance_commit(raft);
    }
}

static void dispatch(struct raft *raft, const struct raft_event *event)
{
    bool leads = raft->role == RAFT_LEADER;

    switch (event->type) {
    case RAFT_EVENT_TICK:
        if (leads) {
            replicate_tick(raft);
        } else {
            election_tick(raft);
        }
        break;
    case RAFT_EVENT_MESSAGE:
        step_message(raft, event->message, event);
        break;
    case RAFT_EVENT_PROPOSE:
        replicate_propose(raft, event);
        break;
    case RAFT_EVENT_PERSISTED:
        step_persisted(raft, event->persisted.seq);
        break;
    case RAFT_EVENT_READ:
        read_index_add(raft, event->read.id);
        break;
    case RAFT_EVENT_TRANSFER:
        raft->out.status = transfer_begin(raft, event->transfer.to);
        break;
    case RAFT_EVENT_CONFIGURE:
        change_begin(raft, &event->change);
        break;
    case RAFT_EVENT_COMPACT:
        step_compact(raft, event->compact);
        break;
    case RAFT_EVENT_CHUNK_READ:
        send_snapshot_chunk_read(raft, event);
        break;
    case RAFT_EVENT_CHUNK_STORED:
        recv_chunk_stored(raft, event);
        break;
    case RAFT_EVENT_SNAPSHOT_INSTALLED:
        recv_snapshot_installed(raft, event);
        break;
    case RAFT_EVENT_PEER_UP:
        if (leads) {
            replicate_peer_up(raft, event);
        } else {
            election_peer_up(raft, event->peer);
        }
        break;
    case RAFT_EVENT_PEER_DOWN:
        if (leads) {
            replicate_peer_down(raft, event->peer);
        }
        break;
    case RAFT_EVENT_PEER_GONE:
        election_peer_gone(raft, event->peer);
        break;
    }
}

void raft_step(struct raft *raft, const struct raft_event *event, struct raft_update *update)
{
    struct before before = step_begin(raft);

    ASSERT(event->now_ms >= raft->now_ms);
    raft->now_ms = event->now_ms;
    dispatch(raft, event);
    step_end(raft, before, update);
}

void raft_begin(struct raft *raft, struct raft_update *update)
{
    struct before before = {raft->role, raft->hard_state.term, raft->leader};

    ASSERT(raft->last_seq == 0);
    step_end(raft, before, update);
}
