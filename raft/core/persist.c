/* What is durable. Writes are handed out numbered and become durable in that order; a FIFO
 * remembers for each what it makes durable. Nothing else in the core knows whether a disk is fast
 * or slow: own votes and the leader's own match_index count from here. */
#include "raft/core/raft_internal.h"
#include "raft/util/mem.h"

void persist_entries(struct raft *raft, raft_index from)
{
    struct outbox *out = &raft->out;

    ASSERT(from > raft->log.snapshot_index && from <= last_index_of(raft));
    if (out->persist_from == 0 || from < out->persist_from) {
        out->persist_from = from;
    }
    /* What earlier writes hold from there on is being replaced. */
    if (raft->durable_index >= from) {
        raft->durable_index = from - 1;
    }
    for (size_t i = raft->n_writes; i > 0 && raft->writes[i - 1].last_index >= from; i--) {
        raft->writes[i - 1].last_index = from - 1;
    }
}

void persist_fill(struct raft *raft, struct raft_update *update)
{
    const struct raft_hard_state *last = raft->n_writes > 0
                                             ? &raft->writes[raft->n_writes - 1].hard_state
                                             : &raft->durable_hard_state;
    raft_index from = raft->out.persist_from;
    bool reset = raft->out.log_reset_index != 0;

    ASSERT(raft->hard_state.term >= last->term);
    update->hard_state = raft->hard_state;
    update->hard_state_changed = reset || last->term != raft->hard_state.term ||
                                 last->voted_for != raft->hard_state.voted_for;
    if (from != 0) {
        update->entries = raft_log_entry_at(&raft->log, from);
        update->n_entries = last_index_of(raft) - from + 1;
    }
    if (!update->hard_state_changed && from == 0) {
        return;
    }
    update->persist_seq = ++raft->last_seq;
    MEM_GROW(raft->writes, raft->writes_capacity, raft->n_writes + 1);
    raft->writes[raft->n_writes++] = (struct pending_write){
        .seq = raft->last_seq,
        .hard_state = raft->hard_state,
        .last_index = last_index_of(raft),
        .started_ms = raft->now_ms,
    };
}

void persist_done(struct raft *raft, uint64_t seq)
{
    size_t done = 0;

    ASSERT(seq <= raft->last_seq);
    while (done < raft->n_writes && raft->writes[done].seq <= seq) {
        raft->durable_hard_state = raft->writes[done].hard_state;
        if (raft->writes[done].last_index > raft->durable_index) {
            raft->durable_index = raft->writes[done].last_index;
        }
        done++;
    }
    raft->n_writes -= done;
    if (done > 0 && raft->n_writes > 0) {
        memmove(raft->writes, raft->writes + done, raft->n_writes * sizeof(*raft->writes));
    }
    ASSERT(raft->durable_index <= last_index_of(raft));
}

bool persist_holds_vote(const struct raft *raft)
{
    return raft->hard_state.voted_for != 0 &&
           (raft->durable_hard_state.term != raft->hard_state.term ||
            raft->durable_hard_state.voted_for != raft->hard_state.voted_for);
}

void persist_log_reset(struct raft *raft, raft_index snapshot_index)
{
    raft->durable_index = snapshot_index;
    for (size_t i = 0; i < raft->n_writes; i++) {
        if (raft->writes[i].last_index > snapshot_index) {
            raft->writes[i].last_index = snapshot_index;
        }
    }
    raft->out.persist_from = last_index_of(raft) > snapshot_index ? snapshot_index + 1 : 0;
}

uint64_t persist_oldest_age_ms(const struct raft *raft)
{
    return raft->n_writes == 0 ? 0 : raft->now_ms - raft->writes[0].started_ms;
}
