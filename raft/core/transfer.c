/* Leadership transfer (thesis 3.10): stop taking proposals, bring the target up to date, tell it to
 * stand for election at once. Its vote requests carry a flag that overrides leader stickiness; it
 * skips the pre-vote, which the others don't answer while they hear this leader. If nothing came of
 * it within an election timeout, this leader goes on.
 *
 * Reads stay safe meanwhile, because every one is confirmed by a round of its own (no leases).
 *
 * Also here: a leader whose own disk is an election timeout behind that of another replica hands
 * over by itself, so that a group does not depend on one bad disk. */
#include "raft/core/raft_internal.h"

#define SLOW_DISK_RETRY_TIMEOUTS 4 /* election timeouts between two attempts */

static bool is_candidate_for_transfer(const struct raft *raft, raft_id id)
{
    const struct raft_server *server = raft_configuration_find(configuration_of(raft), id);

    return id != raft->options.id && server != NULL && (server->flags & RAFT_VOTER) != 0 &&
           replicate_find(raft, id) != NULL;
}

/* Whether its disk is ahead of ours by more than an election timeout: the oldest of our writes that
 * it does not hold yet was begun so much later than the oldest that we wait for ourselves. Disks
 * that are slow together, as on one machine, would hand over in circles otherwise, and each new
 * leader's election waits for the same disks. */
static bool has_quicker_disk(const struct raft *raft, const struct progress *progress)
{
    uint64_t ours_ms = raft->now_ms, its_ms = raft->now_ms;

    if (raft->n_writes > 0) {
        ours_ms = raft->writes[0].started_ms;
    }
    for (size_t i = 0; i < raft->n_writes; i++) {
        if (raft->writes[i].last_index > progress->match_index) {
            its_ms = raft->writes[i].started_ms;
            break;
        }
    }
    return its_ms - ours_ms > raft->options.election_timeout_ms;
}

/* The most caught-up voter that was heard, in this term; ties go to the lowest id. 0: none. */
static raft_id best_target(const struct raft *raft, bool with_quicker_disk)
{
    const struct progress *best = NULL;

    for (size_t i = 0; i < raft->n_progress; i++) {
        const struct progress *progress = &raft->progress[i];

        if (!is_candidate_for_transfer(raft, progress->id) || !progress->heard ||
            raft->now_ms - progress->last_heard_ms >= raft->options.election_timeout_ms ||
            (with_quicker_disk && !has_quicker_disk(raft, progress))) {
            continue;
        }
        if (best == NULL || progress->match_index > best->match_index) {
            best = progress;
        }
    }
    return best == NULL ? 0 : best->id;
}

enum status transfer_begin(struct raft *raft, raft_id to)
{
    if (raft->role != RAFT_LEADER) {
        return ST_NOT_LEADER;
    }
    if (raft->transfer.to != 0) {
        return to == 0 || to == raft->transfer.to ? ST_OK : ST_BUSY;
    }
    if (to == 0) {
        to = best_target(raft, false);
    }
    if (to == 0 || !is_candidate_for_transfer(raft, to)) {
        return ST_INVALID;
    }
    trace_info(raft->options.trace, "hands over to=%u term=%llu", to,
               (unsigned long long)raft->hard_state.term);
    raft->transfer.to = to;
    raft->transfer.deadline_ms = raft->now_ms + raft->options.election_timeout_ms;
    raft->transfer.next_send_ms = raft->now_ms;
    return ST_OK;
}

void transfer_advance(struct raft *raft)
{
    const struct progress *target;

    ASSERT(raft->role == RAFT_LEADER);
    if (raft->transfer.to == 0 || raft->now_ms < raft->transfer.next_send_ms) {
        return;
    }
    target = replicate_find(raft, raft->transfer.to);
    if (target != NULL && target->match_index == last_index_of(raft)) {
        outbox_send(raft, RAFT_MESSAGE_TIMEOUT_NOW, target->id);
        raft->transfer.next_send_ms = raft->now_ms + raft->options.heartbeat_ms; /* if it is lost */
    }
}

static void check_own_disk(struct raft *raft)
{
    uint64_t timeout = raft->options.election_timeout_ms;
    raft_id to;

    if (raft->transfer.to != 0 || persist_oldest_age_ms(raft) <= timeout ||
        raft->now_ms < raft->transfer.slow_disk_retry_ms) {
        return;
    }
    to = best_target(raft, true);
    if (to != 0) {
        trace_warn(raft->options.trace, "own disk is slow age_ms=%llu",
                   (unsigned long long)persist_oldest_age_ms(raft));
        raft->transfer.slow_disk_retry_ms = raft->now_ms + SLOW_DISK_RETRY_TIMEOUTS * timeout;
        (void)transfer_begin(raft, to);
        ASSERT(raft->transfer.to == to);
    }
}

void transfer_tick(struct raft *raft)
{
    ASSERT(raft->role == RAFT_LEADER);
    /* "If leadership transfer does not complete after about an election timeout, the prior leader
     * aborts the transfer and resumes accepting client requests" (thesis 3.10). */
    if (raft->transfer.to != 0 && raft->now_ms >= raft->transfer.deadline_ms) {
        trace_info(raft->options.trace, "hand-over aborted to=%u", raft->transfer.to);
        raft->transfer.to = 0;
    }
    check_own_disk(raft);
}

void recv_timeout_now(struct raft *raft, const struct raft_message *message)
{
    ASSERT(message->term == raft->hard_state.term);
    if (!election_heard_leader(raft, message->from) || !election_is_eligible(raft)) {
        return;
    }
    election_begin_candidacy(raft, true);
    election_count_votes(raft);
}
