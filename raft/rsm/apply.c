/* Applying: committed entries reach the service in order, each once, a bounded number a turn, so
 * that heartbeats get their turn however much was committed at once.
 *
 * Stamps: an entry's effective stamp is max(its stamp, that of the last applied command + 1), the
 * same on every replica, so cluster time grows strictly whatever the leaders' clocks do.
 */
#include "raft/rsm/group.h"

/* More is dirty than memory should hold: applying waits for the checkpoint that is under way, or
 * for the space that it needs. Not on a leader without space: it takes no more writes, so little is
 * left to apply, and reads wait for that. */
bool rsm_apply_is_full(const struct group *group)
{
    struct io_state *state = group->world.state;

    if (raft_role(group->raft) == RAFT_LEADER && group_is_read_only(group)) {
        return false;
    }
    return state->ops->dirty_bytes(state) >= group->options.max_dirty_bytes;
}

/* How far apply may go now. */
static raft_index apply_limit(const struct group *group)
{
    raft_index limit = raft_commit_index(group->raft);

    if (group->halted || group->receiver.switching || rsm_apply_is_full(group)) {
        return group->apply.index;
    }
    /* A checkpoint may hold only what the own log holds durably, and takes the state as it is; a
     * quorum may commit without the own disk. So let the disk catch up before going on. */
    if (rsm_checkpoint_due(group)) {
        raft_index durable = rsm_persist_durable_index(group);
        limit = durable < limit ? durable : limit;
    }
    return limit > group->apply.index ? limit : group->apply.index;
}

bool rsm_apply_has_work(const struct group *group)
{
    return apply_limit(group) > group->apply.index;
}

static enum status apply_command(struct group *group, const struct raft_entry *entry)
{
    struct rsm_entry_header header;
    struct rsm_command command = {.index = entry->index, .term = entry->term};
    enum status status = rsm_entry_header_read(blob_slice(entry->data), &header, &command.bytes);

    if (status != ST_OK) {
        return status;
    }
    command.stamp = header.stamp > group->apply.stamp ? header.stamp : group->apply.stamp + 1;
    command.trace_id = header.trace_id;
    ASSERT(command.stamp > group->apply.stamp);
    status = group->ops->apply(group->service, &command, &group->apply.result);
    if (status == ST_OK) {
        group->apply.stamp = command.stamp;
    }
    return status;
}

static void apply_entry(struct group *group, const struct raft_entry *entry)
{
    struct rsm_apply *apply = &group->apply;
    size_t bytes = blob_slice(entry->data).len + RSM_ENTRY_OVERHEAD;
    enum status status = ST_OK;

    ASSERT(entry->index == apply->index + 1 && entry->term >= apply->term);
    buf_clear(&apply->result);
    if (entry->type == RAFT_ENTRY_COMMAND) {
        status = apply_command(group, entry);
    }
    if (status != ST_OK) {
        trace_error(group->options.trace, "apply failed index=%llu status=%s",
                    (unsigned long long)entry->index, status_name(status));
        rsm_halt(group, status, "a committed entry could not be applied");
        return;
    }
    apply->index = entry->index;
    apply->term = entry->term;
    apply->turn_entries++;
    apply->turn_bytes += bytes;
    group->checkpoint.applied_bytes += bytes;
    group->stats.entries_applied++;
}

/* The disk need not wait for the entries to be applied. */
static void flush_log(struct group *group)
{
    struct rsm_persist *persist = &group->persist;
    struct io_log *log = group->world.log;

    if (log->ops->flush != NULL && persist->flushed < persist->queued) {
        persist->flushed = persist->queued;
        log->ops->flush(log);
    }
}

void rsm_apply_committed(struct group *group)
{
    struct rsm_apply *apply = &group->apply;

    if (rsm_apply_has_work(group)) {
        flush_log(group);
    }
    while (apply->turn_entries < RSM_APPLY_MAX_ENTRIES && apply->turn_bytes < RSM_APPLY_MAX_BYTES &&
           rsm_apply_has_work(group)) {
        const struct raft_entry *found = raft_entry_at(group->raft, apply->index + 1);
        struct raft_entry entry;

        ASSERT(found != NULL);
        entry = *found;
        apply_entry(group, &entry);
        if (group->halted) {
            return;
        }
        /* The callback may step the core: nothing of the entry is used after it. */
        rsm_proposals_applied(group, apply->index, apply->term, buf_slice(&apply->result));
    }
}
