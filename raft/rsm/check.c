/* The runtime's invariants, asserted after each event when options.check_invariants is set. What
 * they say of one replica at rest; what they imply for a group is in README.md. */
#include "raft/rsm/group.h"

static void check_persist(const struct group *group)
{
    const struct rsm_persist *persist = &group->persist;
    const struct rsm_write *write;
    const struct rsm_held *held;
    uint64_t number = persist->durable;

    /* The log completes in order: what is not durable yet is exactly what is queued. */
    STAILQ_FOREACH(write, &persist->writes, next)
    {
        ASSERT(write->number == ++number);
        ASSERT(write->first == 0 || write->last >= write->first);
    }
    ASSERT(number == persist->queued);
    /* A held message waits for something, and for nothing that was handed out after it. */
    number = persist->durable + 1;
    STAILQ_FOREACH(held, &persist->held, next)
    {
        ASSERT(held->number >= number && held->number <= persist->queued);
        ASSERT(held->to != group->options.raft.id);
        number = held->number;
    }
    ASSERT(rsm_persist_durable_index(group) <= persist->durable_index);
    ASSERT(persist->hard_state.term >= raft_term_at(group->raft, raft_last_index(group->raft)));
}

static void check_apply(const struct group *group)
{
    const struct rsm_apply *apply = &group->apply;

    /* Only what is committed is applied, and its entry's term is remembered. */
    ASSERT(apply->index <= raft_commit_index(group->raft));
    ASSERT(apply->index + 1 >= raft_first_index(group->raft));
    ASSERT((apply->index == 0) == (apply->term == 0));
    ASSERT(raft_term_at(group->raft, apply->index) == apply->term);
    ASSERT(apply->turn_entries <= RSM_APPLY_MAX_ENTRIES);
}

static void check_reads(const struct group *group)
{
    const struct rsm_round *round;
    size_t n = group->reads.gathering == NULL ? 0 : group->reads.gathering->n;

    TAILQ_FOREACH (round, &group->reads.rounds, next) {
        ASSERT(round->n > 0 && round->id <= group->reads.last_id);
        ASSERT(round->state != RSM_ROUND_CONFIRMED || round->index > group->apply.index ||
               group->receiver.switching);
        n += round->n;
    }
    ASSERT(n == group->reads.n && n <= group->options.max_reads);
}

static void check_state(const struct group *group)
{
    const struct rsm_checkpoint *checkpoint = &group->checkpoint;
    const struct rsm_sender *sender;

    /* The log is never compacted beyond what a durable checkpoint holds. */
    ASSERT(raft_first_index(group->raft) <= checkpoint->last_index + 1);
    ASSERT(checkpoint->last_index <= group->apply.index);
    /* Nothing is written to a state that is about to be replaced. */
    ASSERT(!(group->receiver.switching && checkpoint->running));
    ASSERT(!group->receiver.deferred || checkpoint->running);
    ASSERT(!group->receiver.switching || group->receiver.outstanding > 0);
    /* Snapshots are open only for followers that receive them. */
    TAILQ_FOREACH (sender, &group->senders.open, next) {
        ASSERT(raft_role(group->raft) == RAFT_LEADER && sender->meta.index > 0);
        ASSERT(sender->meta.index <= raft_commit_index(group->raft));
    }
    ASSERT(group->senders.n_refused == 0);
}

void rsm_check(struct group *group)
{
    ASSERT(!group->halted);
    check_persist(group);
    check_apply(group);
    rsm_proposals_check(group);
    check_reads(group);
    check_state(group);
}
