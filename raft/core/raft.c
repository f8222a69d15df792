/* Making a core from what the disk holds, and the questions one may ask it. */
#include "raft/core/raft_internal.h"
#include "raft/util/mem.h"

void raft_options_default(struct raft_options *options, raft_id id, uint64_t seed)
{
    *options = (struct raft_options){
        .id = id,
        .seed = seed,
        .election_timeout_ms = 300,
        .heartbeat_ms = 50,
        .commit_delay_ms = 10,
        .max_message_bytes = 256u << 10,
        .max_inflight_messages = 64,
        .max_inflight_bytes = 16u << 20,
        .max_uncommitted_bytes = 64u << 20,
        .max_chunks_inflight = 2,
    };
}

static void check_options(struct raft_options *options)
{
    ASSERT(options->id >= 1 && options->id <= SPEC_MAX_ID);
    ASSERT(options->heartbeat_ms > 0 && options->heartbeat_ms < options->election_timeout_ms);
    ASSERT(options->max_inflight_messages > 0 && options->max_inflight_bytes > 0);
    ASSERT(options->max_chunks_inflight > 0);
    if (options->max_chunks_inflight > SNAPSHOT_MAX_CHUNKS_INFLIGHT) {
        options->max_chunks_inflight = SNAPSHOT_MAX_CHUNKS_INFLIGHT;
    }
}

/* The log begins with the configuration as entry 1 of term 1, the same on every replica. A replica
 * that was given no configuration waits to be told by a leader. */
static void bootstrap(struct raft *raft, const struct raft_configuration *configuration)
{
    struct raft_entry entry = {.index = 1, .term = 1, .type = RAFT_ENTRY_CONFIGURATION};
    struct buf bytes = {0};

    ASSERT(last_index_of(raft) == 0);
    raft_configuration_encode(configuration, &bytes);
    entry.data = blob_create(buf_slice(&bytes));
    buf_fini(&bytes);
    ASSERT(membership_entry_is_valid(&entry));
    raft_log_append(&raft->log, entry);
    membership_adopt(&raft->membership, &entry);
    persist_entries(raft, 1);
    ASSERT(raft->hard_state.term == 0);
    raft->hard_state.term = 1;
}

struct raft *raft_create(const struct raft_options *options, const struct raft_start *start,
                         uint64_t now_ms)
{
    struct raft *raft = mem_zalloc(sizeof(*raft));

    raft->options = *options;
    check_options(&raft->options);
    rng_init(&raft->rng, options->seed);
    raft->now_ms = now_ms;
    raft->created_ms = now_ms;
    raft->out.reason = "";
    raft->hard_state = start->hard_state;
    raft->durable_hard_state = start->hard_state;
    raft_log_init(&raft->log, start->snapshot.index, start->snapshot.term);
    membership_init(&raft->membership, start->snapshot.index, &start->snapshot.configuration);
    for (size_t i = 0; i < start->n_entries; i++) {
        raft_log_append(&raft->log, start->entries[i]);
        membership_adopt(&raft->membership, &start->entries[i]);
    }
    raft->durable_index = last_index_of(raft);
    /* "When a server starts, it must be prepared for its configuration" and its commit index to be
     * old; what the state holds is known to be committed. */
    raft->commit_index =
        start->applied_index > start->snapshot.index ? start->applied_index : start->snapshot.index;
    ASSERT(raft->commit_index <= last_index_of(raft));
    ASSERT(raft_log_last_term(&raft->log) <= raft->hard_state.term);
    /* A term without an entry is that of a replica which joined and was told nothing yet: the log
     * that it will get begins with another entry than it would make. */
    if (last_index_of(raft) == 0 && start->snapshot.configuration.n > 0 &&
        start->hard_state.term == 0) {
        bootstrap(raft, &start->snapshot.configuration);
    }
    election_reset_deadline(raft);
    return raft;
}

void raft_destroy(struct raft **raft_p)
{
    struct raft *raft = *raft_p;

    if (raft == NULL) {
        return;
    }
    for (size_t i = 0; i < raft->n_progress; i++) {
        progress_fini(&raft->progress[i]);
    }
    mem_free(raft->progress);
    mem_free(raft->writes);
    mem_free(raft->reads.waits);
    outbox_fini(raft);
    membership_fini(&raft->membership);
    raft_log_fini(&raft->log);
    mem_free(raft);
    *raft_p = NULL;
}

uint64_t raft_next_deadline_ms(const struct raft *raft)
{
    uint64_t deadline_ms;

    if (raft->role != RAFT_LEADER) {
        return raft->election_deadline_ms;
    }
    deadline_ms = replicate_next_deadline_ms(raft);
    if (raft->transfer.to != 0 && raft->transfer.deadline_ms < deadline_ms) {
        return raft->transfer.deadline_ms;
    }
    return deadline_ms;
}

raft_id raft_self(const struct raft *raft)
{
    return raft->options.id;
}

enum raft_role raft_role(const struct raft *raft)
{
    return raft->role;
}

raft_term raft_current_term(const struct raft *raft)
{
    return raft->hard_state.term;
}

raft_id raft_leader(const struct raft *raft)
{
    return raft->leader;
}

raft_id raft_next_leader(const struct raft *raft)
{
    return raft->role == RAFT_LEADER && raft->transfer.to != 0 ? raft->transfer.to : raft->leader;
}

raft_index raft_commit_index(const struct raft *raft)
{
    return raft->commit_index;
}

raft_index raft_first_index(const struct raft *raft)
{
    return raft->log.snapshot_index + 1;
}

raft_index raft_last_index(const struct raft *raft)
{
    return last_index_of(raft);
}

uint64_t raft_log_bytes(const struct raft *raft)
{
    return raft->log.bytes;
}

bool raft_leader_ready(const struct raft *raft)
{
    return raft->role == RAFT_LEADER &&
           raft_log_term_at(&raft->log, raft->commit_index) == raft->hard_state.term;
}

const struct raft_entry *raft_entry_at(const struct raft *raft, raft_index index)
{
    return raft_log_entry_at(&raft->log, index);
}

raft_term raft_term_at(const struct raft *raft, raft_index index)
{
    return raft_log_term_at(&raft->log, index);
}

const struct raft_configuration *raft_latest_configuration(const struct raft *raft)
{
    return configuration_of(raft);
}

raft_index raft_configuration_index(const struct raft *raft)
{
    return membership_latest_index(&raft->membership);
}

void raft_configuration_at(const struct raft *raft, raft_index index,
                           struct raft_configuration *configuration)
{
    ASSERT(index >= raft->log.snapshot_index && index <= last_index_of(raft));
    *configuration = *membership_at(&raft->membership, index);
}

raft_index raft_compaction_bound(const struct raft *raft)
{
    raft_index bound = UINT64_MAX;

    for (size_t i = 0; i < raft->n_progress; i++) {
        const struct progress *progress = &raft->progress[i];

        if (progress->state == RAFT_SNAPSHOT && progress->snapshot.index != 0 &&
            progress->snapshot.index < bound) {
            bound = progress->snapshot.index;
        }
        if (progress->tail.target != 0 && progress->match_index < bound) {
            bound = progress->match_index;
        }
    }
    return bound;
}

bool raft_progress(const struct raft *raft, raft_id id, struct raft_progress_info *info)
{
    const struct progress *progress = replicate_find(raft, id);

    if (progress == NULL) {
        return false;
    }
    ASSERT(raft->role == RAFT_LEADER && progress->id == id);
    *info = (struct raft_progress_info){
        .id = id,
        .state = progress->state,
        .match_index = progress->match_index,
        .next_index = progress->next_index,
        .snapshot_offset = progress->snapshot.acked,
        .recent_active = raft->now_ms - progress->last_heard_ms < raft->options.election_timeout_ms,
    };
    return true;
}
