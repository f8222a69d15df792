/* Checkpoints make the applied state durable; then the log they cover can go.
 *
 * One at a time, and only when the own log holds durably everything that was applied (a state ahead
 * of its log would be a replica that remembers effects but not its promises). Compaction follows a
 * finished checkpoint: never beyond it, never past a snapshot that a follower is receiving (or what
 * it needs after it), and some log is kept behind for followers that lag a little.
 *
 * A dropped range is deleted after a checkpoint without it, and the log still tells of it too. So
 * a drop has a checkpoint made soon, however little happens, and then the log up to there goes as
 * soon as the followers have it, or after a while.
 *
 * The log notes checkpoints and compactions with its next write, so a crash may lose the notes of a
 * checkpoint that is durable. A start finds it in the state, and makes up for them.
 */
#include "raft/rsm/group.h"

#define SHARE_ALL     256
#define QUIET_DIVISOR 16
#define SAVED_PARTS   32u  /* at most */
#define PART_US       500u /* between two of them */

/* The log has grown to where compaction must not wait for the usual thresholds. */
static bool log_is_large(const struct group *group)
{
    return raft_log_bytes(group->raft) > group->options.max_log_bytes / 2;
}

/* Replicas apply the same, so all of them would make each checkpoint at the same moment, and on
 * none would commits go on undisturbed: each draws, for each, how many dirty bytes it waits for, up
 * to a quarter less or more than usual. Usual is little, if there is time, as a checkpoint takes
 * the processor and the disk for as long as it is large; more while much is written, as what
 * changes twice is written once: keys, and above all sessions. */
static void draw_share(struct rsm_checkpoint *checkpoint)
{
    checkpoint->dirty_share = (uint32_t)rng_between(&checkpoint->rng, SHARE_ALL - SHARE_ALL / 4,
                                                    SHARE_ALL + SHARE_ALL / 4);
}

void rsm_checkpoint_init(struct group *group)
{
    const struct group_options *options = &group->options;

    /* One is due before applying has to wait for it, whatever is drawn. */
    ASSERT(options->max_dirty_bytes >
           options->checkpoint_dirty_bytes + options->checkpoint_dirty_bytes / 4);
    rng_init(&group->checkpoint.rng, options->raft.seed);
    draw_share(&group->checkpoint);
}

static bool much_is_dirty(const struct group *group)
{
    const struct rsm_checkpoint *checkpoint = &group->checkpoint;
    struct io_state *state = group->world.state;
    uint64_t usual = group->options.checkpoint_dirty_bytes;

    if (group->now_us >= checkpoint->begun_us + group->options.checkpoint_rest_ms * 1000ull) {
        usual /= QUIET_DIVISOR;
    }
    return state->ops->dirty_bytes(state) > usual * checkpoint->dirty_share / SHARE_ALL;
}

static bool is_due(const struct group *group)
{
    const struct rsm_checkpoint *checkpoint = &group->checkpoint;

    if (checkpoint->running || group->now_ms < checkpoint->retry_ms ||
        group->apply.index == checkpoint->last_index) {
        return false;
    }
    /* One more can't free a log that is held for a follower. */
    return checkpoint->wanted || (log_is_large(group) && !checkpoint->bound_hit) ||
           (checkpoint->drop_ms > 0 && group->now_ms >= checkpoint->drop_ms) ||
           checkpoint->applied_bytes >= group->options.checkpoint_log_bytes || much_is_dirty(group);
}

bool rsm_checkpoint_due(const struct group *group)
{
    return group->checkpoint.is_saved && is_due(group);
}

/* What the service holds in memory only is written in parts, and between them commits go on: all of
 * it at once took 1 to 4 ms of the loop for 64 clients, 16 at the peak, and the slowest hundredth
 * of all puts waited for that. What changes again meanwhile is little. */
static void save_part(struct group *group)
{
    struct rsm_checkpoint *checkpoint = &group->checkpoint;

    if (checkpoint->is_saved ||
        (checkpoint->parts > 0 && group->now_us < checkpoint->part_us + PART_US)) {
        return;
    }
    checkpoint->part_us = group->now_us;
    checkpoint->parts++;
    checkpoint->is_saved = group->ops->save_part == NULL || rsm_apply_is_full(group) ||
                           !group->ops->save_part(group->service) ||
                           checkpoint->parts >= SAVED_PARTS;
}

static void forget_parts(struct rsm_checkpoint *checkpoint)
{
    checkpoint->parts = 0;
    checkpoint->is_saved = false;
}

static void start(struct group *group)
{
    struct rsm_extra extra = {.stamp = group->apply.stamp};
    struct io_checkpoint out = {.index = group->apply.index, .term = group->apply.term};
    struct buf bytes = {0};
    uint64_t *ranges = NULL;
    size_t n = 0, capacity = 0;

    if (group->ops->save != NULL) {
        group->ops->save(group->service);
    }
    raft_configuration_at(group->raft, group->apply.index, &extra.configuration);
    rsm_extra_encode(&extra, &bytes);
    group->ops->ranges(group->service, &ranges, &n, &capacity);
    for (size_t i = 0; i < n; i++) {
        ASSERT(ranges[i] > (i == 0 ? 0 : ranges[i - 1]));
    }
    out.extra = buf_slice(&bytes);
    out.ranges = ranges;
    out.n_ranges = n;
    forget_parts(&group->checkpoint);
    group->checkpoint.running = true;
    group->checkpoint.begun_us = group->now_us;
    draw_share(&group->checkpoint);
    group->checkpoint.wanted = false;
    group->checkpoint.applied_bytes = 0;
    group->checkpoint.drop_ms = 0;
    group->checkpoint.begun_index =
        group->world.state->ops->drops_wait(group->world.state) ? out.index : 0;
    group->world.state->ops->checkpoint(group->world.state, &out);
    mem_free(ranges);
    buf_fini(&bytes);
}

void rsm_checkpoint_maybe_start(struct group *group)
{
    if (group->checkpoint.drop_ms == 0 && group->world.state->ops->drops_wait(group->world.state)) {
        group->checkpoint.drop_ms = group->now_ms + group->options.drop_checkpoint_ms;
    }
    if (group->halted || group->receiver.switching || group->receiver.deferred || !is_due(group)) {
        forget_parts(&group->checkpoint);
        return;
    }
    save_part(group);
    if (group->checkpoint.is_saved && group->apply.index <= rsm_persist_durable_index(group)) {
        start(group);
    }
}

/* Up to where every other member has the log; only the leader knows. */
static raft_index followers_have(struct group *group)
{
    struct raft_configuration configuration;
    raft_index index = group->apply.index;

    if (raft_role(group->raft) != RAFT_LEADER) {
        return 0;
    }
    raft_configuration_at(group->raft, group->apply.index, &configuration);
    for (size_t i = 0; i < configuration.n; i++) {
        struct raft_progress_info info;

        if (raft_progress(group->raft, configuration.servers[i].id, &info) &&
            info.match_index < index) {
            index = info.match_index;
        }
    }
    return index;
}

/* Up to here the log is not kept for those that lag: it tells of ranges that are gone. */
static raft_index let_go_index(struct group *group)
{
    struct rsm_checkpoint *checkpoint = &group->checkpoint;
    raft_index have;

    if (checkpoint->let_go == 0) {
        return 0;
    }
    have = group->now_ms >= checkpoint->let_go_ms ? checkpoint->let_go : followers_have(group);
    if (have >= checkpoint->let_go) {
        have = checkpoint->let_go;
        checkpoint->let_go_ms = 0;
    }
    return have;
}

/* How far the log may go: up to the checkpoint, but log_keep_bytes stay (nothing does when the log
 * is too large, or tells of dropped ranges), and not past a snapshot in flight. */
static raft_index compaction_index(struct group *group)
{
    raft_index let_go = let_go_index(group);

    raft_index bound = raft_compaction_bound(group->raft);
    raft_index index = raft_first_index(group->raft) - 1;
    uint64_t keep = log_is_large(group) ? 0 : group->options.log_keep_bytes;
    uint64_t left = raft_log_bytes(group->raft);

    group->checkpoint.bound_hit = false;
    while (index < group->checkpoint.last_index) {
        const struct raft_entry *entry = raft_entry_at(group->raft, index + 1);
        uint64_t bytes = blob_slice(entry->data).len + RSM_ENTRY_OVERHEAD;

        if (left < keep + bytes && keep > 0 && index >= let_go) {
            break;
        }
        if (index >= bound) {
            group->checkpoint.bound_hit = true;
            break;
        }
        left = left > bytes ? left - bytes : 0;
        index++;
    }
    return index;
}

static void compact(struct group *group)
{
    raft_index index = compaction_index(group);
    struct raft_snapshot_meta meta = {.index = index};
    struct raft_event event = {.type = RAFT_EVENT_COMPACT, .compact = &meta};

    if (index < raft_first_index(group->raft)) {
        return;
    }
    ASSERT(index <= group->checkpoint.last_index);
    meta.term = raft_term_at(group->raft, index);
    rsm_step_raft(group, &event);
    group->world.log->ops->compact(group->world.log, group->options.group, index, meta.term);
}

void rsm_checkpoint_done(struct group *group, const struct io_event *event)
{
    struct rsm_checkpoint *checkpoint = &group->checkpoint;

    ASSERT(checkpoint->running);
    checkpoint->running = false;
    if (event->checkpoint.status == ST_NO_SPACE) {
        trace_warn(group->options.trace, "checkpoint found no space index=%llu",
                   (unsigned long long)event->checkpoint.index);
        checkpoint->no_space = true;
        group->stats.checkpoints_no_space++;
        checkpoint->retry_ms = group->now_ms + RSM_CHECKPOINT_RETRY_MS;
        checkpoint->wanted = true;
        return;
    }
    if (event->checkpoint.status != ST_OK) {
        rsm_halt(group, event->checkpoint.status, "the state could not be checkpointed");
        return;
    }
    ASSERT(event->checkpoint.index > checkpoint->last_index);
    ASSERT(event->checkpoint.index <= group->apply.index);
    checkpoint->no_space = false;
    checkpoint->last_index = event->checkpoint.index;
    if (checkpoint->begun_index > event->checkpoint.index) {
        /* It was one that had found no room before: now the one that was asked for. */
        checkpoint->wanted = true;
    } else if (checkpoint->begun_index > 0) {
        checkpoint->let_go = checkpoint->begun_index;
        checkpoint->let_go_ms = group->now_ms + RSM_DROP_LOG_MS;
    }
    group->stats.checkpoints++;
    histogram_add_span(&group->stats.checkpoint_us, checkpoint->begun_us, group->now_us);
    group->stats.checkpoint_index = event->checkpoint.index;
    group->world.log->ops->checkpoint(group->world.log, group->options.group,
                                      event->checkpoint.number, event->checkpoint.index);
    compact(group);
}

void rsm_checkpoint_open(struct group *group, uint64_t number, uint64_t noted)
{
    ASSERT(group->checkpoint.last_index == group->apply.index && !group->checkpoint.running);
    ASSERT(number >= noted);
    if (number > noted) {
        group->world.log->ops->checkpoint(group->world.log, group->options.group, number,
                                          group->checkpoint.last_index);
    }
    compact(group);
}

void rsm_checkpoint_tick(struct group *group)
{
    if (group->checkpoint.bound_hit || group->checkpoint.let_go_ms > 0) {
        compact(group);
    }
}

uint64_t rsm_checkpoint_deadline_ms(const struct group *group)
{
    const struct rsm_checkpoint *checkpoint = &group->checkpoint;
    bool is_saving = checkpoint->parts > 0 && !checkpoint->is_saved;
    const uint64_t wanted[] = {checkpoint->retry_ms, checkpoint->running ? 0 : checkpoint->drop_ms,
                               checkpoint->let_go_ms, is_saving ? group->now_ms + 1 : 0};
    uint64_t deadline = UINT64_MAX;

    /* What is overdue waits for something else, which will be an event. */
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (wanted[i] > group->now_ms && wanted[i] < deadline) {
            deadline = wanted[i];
        }
    }
    return deadline;
}
