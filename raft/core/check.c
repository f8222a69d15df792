/* raft_check: every invariant that can be seen from inside one replica. What needs two of them
 * (election safety, log matching, leader completeness) is checked by the tests' harnesses. */
#include "raft/core/raft_internal.h"

#define CHECK_MAX_ENTRIES 4096 /* of the log's end, so that a check stays cheap */

static void check_log(const struct raft *raft)
{
    raft_index last = last_index_of(raft);
    raft_index from = raft->log.snapshot_index + 1;

    ASSERT(raft->log.snapshot_index <= raft->commit_index && raft->commit_index <= last);
    ASSERT(raft->durable_index <= last);
    if (last > CHECK_MAX_ENTRIES && from < last - CHECK_MAX_ENTRIES) {
        from = last - CHECK_MAX_ENTRIES;
    }
    for (raft_index i = from; i <= last; i++) {
        const struct raft_entry *entry = raft_log_entry_at(&raft->log, i);

        ASSERT(entry != NULL && entry->index == i);
        ASSERT(entry->term >= raft_log_term_at(&raft->log, i - 1) || i == from);
        ASSERT(entry->term <= raft->hard_state.term);
        ASSERT((entry->type == RAFT_ENTRY_NOOP) == (entry->data == NULL));
    }
}

static void check_membership(const struct raft *raft)
{
    const struct membership *membership = &raft->membership;

    ASSERT(membership->n > 0 && membership->entries[0].index <= raft->log.snapshot_index);
    for (size_t i = 1; i < membership->n; i++) {
        const struct raft_entry *entry =
            raft_log_entry_at(&raft->log, membership->entries[i].index);

        ASSERT(membership->entries[i - 1].index < membership->entries[i].index);
        ASSERT(entry != NULL && entry->type == RAFT_ENTRY_CONFIGURATION);
    }
}

static void check_writes(const struct raft *raft)
{
    ASSERT(raft->durable_hard_state.term <= raft->hard_state.term);
    for (size_t i = 0; i < raft->n_writes; i++) {
        ASSERT(raft->writes[i].seq <= raft->last_seq);
        ASSERT(raft->writes[i].last_index <= last_index_of(raft));
        ASSERT(raft->writes[i].hard_state.term <= raft->hard_state.term);
        ASSERT(i == 0 || raft->writes[i - 1].seq < raft->writes[i].seq);
        ASSERT(i == 0 || raft->writes[i - 1].last_index <= raft->writes[i].last_index);
    }
}

static void check_role(const struct raft *raft)
{
    bool leads = raft->role == RAFT_LEADER;

    ASSERT(leads == (raft->leader == raft->options.id));
    ASSERT(leads == (raft->progress != NULL));
    ASSERT(leads || (raft->reads.n_waits == 0 && raft->transfer.to == 0));
    ASSERT(!leads || !raft->receive.installing);
    if (raft->role == RAFT_CANDIDATE || leads) {
        ASSERT(raft->hard_state.voted_for == raft->options.id);
    }
    if (raft->role == RAFT_CANDIDATE || raft->role == RAFT_PRE_CANDIDATE) {
        ASSERT(raft->leader == 0);
    }
    ASSERT(!raft->transfer_election || raft->role == RAFT_CANDIDATE);
}

static void check_leader(const struct raft *raft)
{
    uint64_t uncommitted = 0;

    /* A leader's term is durable: its vote for itself was. */
    ASSERT(raft->durable_hard_state.term == raft->hard_state.term);
    ASSERT(raft_log_last_term(&raft->log) == raft->hard_state.term);
    for (size_t i = 0; i < raft->n_progress; i++) {
        ASSERT((raft_configuration_find(configuration_of(raft), raft->progress[i].id) == NULL) ==
               (raft->progress[i].leaving_index != 0));
        ASSERT(i == 0 || raft->progress[i - 1].id < raft->progress[i].id);
        ASSERT(raft->progress[i].read_round <= raft->reads.round);
        progress_check(&raft->progress[i], last_index_of(raft));
    }
    for (raft_index i = raft->commit_index + 1; i <= last_index_of(raft); i++) {
        uncommitted += raft_log_entry_bytes(raft_log_entry_at(&raft->log, i));
    }
    ASSERT(uncommitted == raft->uncommitted_bytes);
}

static void check_reads(const struct raft *raft)
{
    const struct read_index *reads = &raft->reads;

    ASSERT(reads->n_assigned <= reads->n_waits);
    for (size_t i = 0; i < reads->n_waits; i++) {
        ASSERT((reads->waits[i].round != 0) == (i < reads->n_assigned));
        ASSERT(reads->waits[i].round <= reads->round);
        ASSERT(reads->waits[i].index <= raft->commit_index);
    }
}

void raft_check(const struct raft *raft)
{
    check_log(raft);
    check_membership(raft);
    check_writes(raft);
    check_role(raft);
    check_reads(raft);
    if (raft->role == RAFT_LEADER) {
        check_leader(raft);
    }
    ASSERT(raft->receive.durable <= raft->receive.next);
}
