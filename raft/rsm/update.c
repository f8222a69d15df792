/* Carrying out what the core wants, in the order that struct raft_update states. Everything that
 * would call back into the service, or step the core again, is only noted here: the group settles
 * it when the core is at rest. */
#include "raft/rsm/group.h"
#include "raft/wire.h"

static enum io_class message_class(const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MESSAGE_REQUEST_VOTE:
    case RAFT_MESSAGE_VOTE_REPLY:
    case RAFT_MESSAGE_HEARTBEAT:
    case RAFT_MESSAGE_HEARTBEAT_REPLY:
    case RAFT_MESSAGE_TIMEOUT_NOW:
        return IO_URGENT;
    case RAFT_MESSAGE_INSTALL_SNAPSHOT:
        return IO_BULK;
    case RAFT_MESSAGE_APPEND:
    case RAFT_MESSAGE_APPEND_REPLY:
    case RAFT_MESSAGE_INSTALL_SNAPSHOT_REPLY:
        break;
    }
    return IO_NORMAL;
}

static uint64_t *away_word(struct group *group, raft_id peer)
{
    ASSERT(peer > 0 && peer <= SPEC_MAX_ID);
    return &group->away[peer / 64];
}

void rsm_set_away(struct group *group, raft_id peer, bool away)
{
    uint64_t bit = 1ull << (peer % 64);

    if (away) {
        *away_word(group, peer) |= bit;
    } else {
        *away_word(group, peer) &= ~bit;
    }
}

bool rsm_is_away(struct group *group, raft_id peer)
{
    return (*away_word(group, peer) >> (peer % 64)) & 1;
}

static void send_messages(struct group *group, struct raft_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct buf bytes = {0};

        ASSERT(messages[i].to != group->options.raft.id);
        if (rsm_is_away(group, messages[i].to)) {
            raft_message_fini(&messages[i]);
            continue;
        }
        wire_encode_message(&messages[i], &bytes);
        group->stats.messages_sent++;
        group->world.net->ops->peer_send(group->world.net, group->options.group, messages[i].to,
                                         message_class(&messages[i]), &bytes);
        ASSERT(bytes.data == NULL);
        raft_message_fini(&messages[i]);
    }
}

static void hold_messages(struct group *group, struct raft_message *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct buf bytes = {0};

        wire_encode_message(&messages[i], &bytes);
        rsm_persist_hold(group, messages[i].to, message_class(&messages[i]), &bytes);
        raft_message_fini(&messages[i]);
    }
}

static void note_role(struct group *group)
{
    bool candidate = raft_role(group->raft) == RAFT_CANDIDATE;
    raft_id leader = raft_leader(group->raft);

    group->role_changed = true;
    if (candidate && !group->was_candidate) {
        group->stats.elections_started++;
    }
    group->was_candidate = candidate;
    if (leader != 0 && leader != group->known_leader) {
        group->stats.leader_changes++;
        group->known_leader = leader;
    }
}

static void carry_out(struct group *group, struct raft_update *update)
{
    rsm_peers_follow(group);           /* before what is sent by the configuration in force */
    rsm_persist_update(group, update); /* 1, and 7 with it */
    send_messages(group, update->messages, update->n_messages);                             /* 2 */
    hold_messages(group, update->messages_after_persist, update->n_messages_after_persist); /* 3 */
    /* 4: entries are applied when the group settles, by raft_commit_index. */
    rsm_reads_update(group, update);    /* 5 */
    rsm_senders_update(group, update);  /* 6 */
    rsm_receiver_update(group, update); /* 6 */
    if (update->role_changed) {
        note_role(group);
    }
    if (group->options.check_invariants) {
        raft_check(group->raft);
    }
}

struct rsm_answer rsm_step_raft(struct group *group, struct raft_event *event)
{
    struct raft_update update;
    struct rsm_answer answer;

    ASSERT(!group->halted);
    event->now_ms = group->awake_ms;
    raft_step(group->raft, event, &update);
    answer = (struct rsm_answer){update.status, update.reason, update.first_index, update.term};
    carry_out(group, &update);
    return answer;
}

void rsm_begin_raft(struct group *group)
{
    struct raft_update update;

    raft_begin(group->raft, &update);
    carry_out(group, &update);
}
