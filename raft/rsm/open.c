/* Opening: the log and the state were written apart from each other; here they are made one again.
 *
 *   the state stands at an entry of the log, same term   the log goes on behind it
 *   the state is ahead of the log, or of another term    a crash between the switch to a snapshot
 *                                                        and the log's reset: what the log holds is
 *                                                        covered or void, it begins again there
 *   the state is behind where the log begins             damage: nothing can fill the gap
 */
#include "raft/rsm/group.h"

static raft_term log_term_at(const struct io_log_content *log, raft_index index)
{
    if (index == log->begin_index) {
        return log->begin_term;
    }
    if (index < log->begin_index || index - log->begin_index > log->n_entries) {
        return 0;
    }
    return log->entries[index - log->begin_index - 1].term;
}

static void drop_entries(struct io_log_content *log)
{
    for (size_t i = 0; i < log->n_entries; i++) {
        blob_unref(&log->entries[i].data);
    }
    log->n_entries = 0;
}

/* The log begins again where the state stands. A vote of an older term than the state's is over. */
static void begin_again(struct io_log_content *log, const struct io_state_meta *meta)
{
    ASSERT(meta->index > 0 && meta->term > 0);
    drop_entries(log);
    log->begin_index = meta->index;
    log->begin_term = meta->term;
    if (log->hard_state.term < meta->term) {
        log->hard_state = (struct raft_hard_state){.term = meta->term};
    }
}

/* What the log itself must satisfy whatever the state. */
static const char *check_log(const struct io_log_content *log)
{
    raft_term term = log->begin_term;

    if (term > log->hard_state.term) {
        return "the log begins in a term that the hard state does not know";
    }
    for (size_t i = 0; i < log->n_entries; i++) {
        if (log->entries[i].index != log->begin_index + 1 + i) {
            return "the log has a gap";
        }
        if (log->entries[i].term < term || log->entries[i].term > log->hard_state.term) {
            return "the log's terms are out of order";
        }
        term = log->entries[i].term;
    }
    return NULL;
}

static const char *check_state(const struct io_log_content *log, const struct io_state_meta *meta)
{
    if (meta->index < log->begin_index) {
        return "the state is behind the beginning of the log";
    }
    if (meta->index < log->checkpoint_index || meta->checkpoint < log->checkpoint) {
        return "the state is older than a checkpoint that was durable";
    }
    if ((meta->index == 0) != (meta->term == 0)) {
        return "the state's index and term contradict each other";
    }
    return NULL;
}

static void start_core(struct group *group, const struct io_log_content *log,
                       const struct io_state_meta *meta,
                       const struct raft_configuration *configuration, uint64_t now_ms)
{
    /* The configuration given for the log's beginning is the state's. It may be a later one, but
     * then its entry is in the log, applied, and never cut off again. */
    struct raft_start start = {.hard_state = log->hard_state,
                               .snapshot = {log->begin_index, log->begin_term, *configuration},
                               .entries = log->entries,
                               .n_entries = log->n_entries,
                               .applied_index = meta->index};

    ASSERT(group->raft == NULL && log->begin_index <= meta->index);
    group->now_ms = now_ms;
    group->awake_ms = now_ms;
    group->peers.led_ms = now_ms;
    group->raft = raft_create(&group->options.raft, &start, now_ms);
    ASSERT(raft_commit_index(group->raft) >= meta->index);
}

enum status rsm_open(struct group *group, struct io_log_content *log,
                     const struct io_state_meta *meta, uint64_t now_ms)
{
    struct rsm_extra extra = {.configuration = group->options.bootstrap};
    const char *damage = check_log(log);
    enum status status = ST_OK;
    bool reset;

    damage = damage == NULL ? check_state(log, meta) : damage;
    if (damage == NULL && meta->index > 0) {
        status = rsm_extra_decode(buf_slice(&meta->extra), &extra);
        damage = status == ST_OK ? NULL : "the state's extra bytes can't be read";
    }
    if (damage != NULL) {
        trace_error(group->options.trace, "can't open group=%u: %s; state=%llu log begins=%llu",
                    group->options.group, damage, (unsigned long long)meta->index,
                    (unsigned long long)log->begin_index);
        drop_entries(log);
        mem_free(log->entries);
        log->entries = NULL;
        return status == ST_OK ? ST_CORRUPT : status;
    }
    reset = log_term_at(log, meta->index) != meta->term;
    if (reset) {
        begin_again(log, meta);
    }
    group->apply.index = meta->index;
    group->apply.term = meta->term;
    group->apply.stamp = extra.stamp;
    group->proposals.applied_term = meta->term;
    group->checkpoint.last_index = meta->index;
    group->stats.checkpoint_index = meta->index;
    rsm_persist_init(group, &log->hard_state, log->begin_index + log->n_entries);
    if (reset) {
        rsm_persist_reset(group, meta->index, meta->term, 0);
    }
    start_core(group, log, meta, &extra.configuration, now_ms);
    mem_free(log->entries);
    log->entries = NULL;
    log->n_entries = 0;
    return ST_OK;
}

enum status rsm_restore_service(struct group *group)
{
    struct io_state *state = group->world.state;
    uint64_t *ranges = NULL;
    size_t n = 0, capacity = 0;
    enum status status = group->ops->restore(group->service);

    if (status != ST_OK) {
        return status;
    }
    group->ops->ranges(group->service, &ranges, &n, &capacity);
    ASSERT(n <= capacity);
    state->ops->keep_ranges(state, ranges, n);
    mem_free(ranges);
    return ST_OK;
}
