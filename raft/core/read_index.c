/* ReadIndex: linearizable reads without log entries (thesis 6.4).
 *
 * A read may be served once this leader is known to have led after the read arrived, from the state
 * at the commit index. To know it, the leader begins a numbered round: every heartbeat and Append
 * carries the number, every answer echoes it. A round confirms the reads that waited when it began,
 * because its messages left after they arrived; those that come later wait for the next round,
 * which begins when this one is confirmed, or with the next heartbeats: it may be lost. Which round
 * a majority has reached is the same question as which index a majority holds, so the same function
 * answers it. */
#include "raft/core/raft_internal.h"
#include "raft/util/mem.h"

uint64_t read_index_round(const struct raft *raft)
{
    return raft->reads.n_assigned > 0 ? raft->reads.round : 0;
}

static void answer(struct raft *raft, uint64_t id, enum status status, raft_index index)
{
    struct outbox *out = &raft->out;

    ASSERT(status != ST_OK || (index > 0 && index <= raft->commit_index));
    MEM_GROW(out->reads, out->reads_capacity, out->n_reads + 1);
    out->reads[out->n_reads++] =
        (struct raft_read_state){.id = id, .status = status, .index = index};
}

/* Gives every waiting read the next round and lets its messages leave. */
static void begin_round(struct raft *raft)
{
    struct read_index *reads = &raft->reads;
    raft_index index = raft_leader_ready(raft) ? raft->commit_index : 0;

    reads->round++;
    for (; reads->n_assigned < reads->n_waits; reads->n_assigned++) {
        ASSERT(reads->waits[reads->n_assigned].round == 0);
        reads->waits[reads->n_assigned].round = reads->round;
        reads->waits[reads->n_assigned].index = index;
    }
    for (size_t i = 0; i < raft->n_progress; i++) {
        const struct raft_server *server =
            raft_configuration_find(configuration_of(raft), raft->progress[i].id);

        raft->progress[i].heartbeat_due |= server != NULL && is_voter(server);
    }
}

void read_index_add(struct raft *raft, uint64_t id)
{
    struct read_index *reads = &raft->reads;

    if (raft->role != RAFT_LEADER) {
        raft->out.status = ST_NOT_LEADER;
        return;
    }
    MEM_GROW(reads->waits, reads->capacity, reads->n_waits + 1);
    reads->waits[reads->n_waits++] = (struct read_wait){.id = id};
}

/* The highest round that a majority has echoed; this replica itself is always up to date. */
static uint64_t confirmed_round(const struct raft *raft)
{
    const struct raft_configuration *configuration = configuration_of(raft);
    uint64_t rounds[RAFT_MAX_SERVERS] = {0};

    for (size_t i = 0; i < configuration->n; i++) {
        const struct progress *progress = replicate_find(raft, configuration->servers[i].id);

        rounds[i] = configuration->servers[i].id == raft->options.id ? raft->reads.round
                    : progress != NULL                               ? progress->read_round
                                                                     : 0;
    }
    return quorum_reached_value(configuration, rounds);
}

/* Answers the reads whose round is confirmed. "If the leader has not yet marked an entry from its
 * current term committed, it waits until it has done so" (thesis 6.4, step 1): before that it does
 * not know what is committed. */
static void answer_confirmed(struct raft *raft)
{
    struct read_index *reads = &raft->reads;
    uint64_t confirmed = confirmed_round(raft);
    size_t done = 0;

    ASSERT(confirmed <= reads->round);
    if (!raft_leader_ready(raft)) {
        return;
    }
    while (done < reads->n_assigned && reads->waits[done].round <= confirmed) {
        raft_index index = reads->waits[done].index;

        answer(raft, reads->waits[done].id, ST_OK, index != 0 ? index : raft->commit_index);
        done++;
    }
    reads->n_waits -= done;
    reads->n_assigned -= done;
    if (done > 0 && reads->n_waits > 0) {
        memmove(reads->waits, reads->waits + done, reads->n_waits * sizeof(*reads->waits));
    }
}

void read_index_settle(struct raft *raft)
{
    ASSERT(raft->role == RAFT_LEADER);
    if (raft->reads.n_assigned > 0) {
        answer_confirmed(raft);
    }
    if (raft->reads.n_assigned == 0 && raft->reads.n_waits > 0) {
        begin_round(raft);
        answer_confirmed(raft); /* a single voter is its own majority */
    }
}

void read_index_tick(struct raft *raft)
{
    /* The round under way may be lost; what leaves now left after all these reads arrived. */
    if (raft->reads.n_assigned < raft->reads.n_waits) {
        begin_round(raft);
    }
    ASSERT(raft->reads.n_assigned == raft->reads.n_waits);
}

void read_index_fail_all(struct raft *raft)
{
    for (size_t i = 0; i < raft->reads.n_waits; i++) {
        answer(raft, raft->reads.waits[i].id, ST_NOT_LEADER, 0);
    }
    raft->reads.n_waits = 0;
    raft->reads.n_assigned = 0;
}
