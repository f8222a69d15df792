/* Persisting: what the core wants durable goes to the log at once, in its order; messages that
 * promise it wait here until everything handed out before them is durable (struct raft_update,
 * field 3). The log completes writes in order, so one number says it all. */
#include "raft/rsm/group.h"

void rsm_persist_init(struct group *group, const struct raft_hard_state *hard_state,
                      raft_index durable_index)
{
    struct rsm_persist *persist = &group->persist;

    persist->hard_state = *hard_state;
    persist->durable_index = durable_index;
    STAILQ_INIT(&persist->writes);
    STAILQ_INIT(&persist->held);
}

static void held_pop(struct rsm_persist *persist)
{
    struct rsm_held *held = STAILQ_FIRST(&persist->held);

    STAILQ_REMOVE_HEAD(&persist->held, next);
    buf_fini(&held->bytes);
    mem_free(held);
}

void rsm_persist_fini(struct group *group)
{
    struct rsm_persist *persist = &group->persist;

    while (!STAILQ_EMPTY(&persist->held)) {
        held_pop(persist);
    }
    while (!STAILQ_EMPTY(&persist->writes)) {
        struct rsm_write *write = STAILQ_FIRST(&persist->writes);
        STAILQ_REMOVE_HEAD(&persist->writes, next);
        mem_free(write);
    }
}

static struct rsm_write *queue_write(struct rsm_persist *persist, uint64_t persist_seq)
{
    struct rsm_write *write = mem_zalloc(sizeof(*write));

    write->number = ++persist->queued;
    write->persist_seq = persist_seq;
    STAILQ_INSERT_TAIL(&persist->writes, write, next);
    return write;
}

/* Everything that the core's log still holds, for a log that begins anew. References are borrowed.
 */
static struct raft_entry *copy_core_log(const struct group *group, raft_index after, size_t *n)
{
    raft_index last = group->raft == NULL ? after : raft_last_index(group->raft);
    struct raft_entry *entries;

    ASSERT(last >= after);
    *n = (size_t)(last - after);
    entries = mem_alloc(*n * sizeof(*entries));
    for (size_t i = 0; i < *n; i++) {
        const struct raft_entry *entry = raft_entry_at(group->raft, after + 1 + i);
        ASSERT(entry != NULL);
        entries[i] = *entry;
    }
    return entries;
}

void rsm_persist_reset(struct group *group, raft_index index, raft_term term, uint64_t persist_seq)
{
    struct rsm_persist *persist = &group->persist;
    struct io_log_write out = {
        .group = group->options.group, .has_hard_state = true, .hard_state = persist->hard_state};
    struct raft_entry *entries;
    struct rsm_write *write;

    ASSERT(index > 0 && term > 0);
    entries = copy_core_log(group, index, &out.n_entries);
    write = queue_write(persist, persist_seq);
    write->first = out.n_entries > 0 ? index + 1 : 0;
    write->last = index + out.n_entries;
    out.token = write->number;
    out.entries = entries;
    group->world.log->ops->reset(group->world.log, index, term, &out);
    mem_free(entries);
}

static void write_update(struct group *group, const struct raft_update *update)
{
    struct rsm_persist *persist = &group->persist;
    struct rsm_write *write = queue_write(persist, update->persist_seq);
    struct io_log_write out = {.group = group->options.group,
                               .token = write->number,
                               .has_hard_state = update->hard_state_changed,
                               .hard_state = update->hard_state,
                               .entries = update->entries,
                               .n_entries = update->n_entries};

    if (update->n_entries > 0) {
        write->first = update->entries[0].index;
        write->last = update->entries[update->n_entries - 1].index;
        ASSERT(write->first > group->apply.index);
    }
    group->world.log->ops->write(group->world.log, &out);
}

void rsm_persist_update(struct group *group, const struct raft_update *update)
{
    struct rsm_persist *persist = &group->persist;

    if (update->hard_state_changed) {
        ASSERT(update->persist_seq > 0);
        ASSERT(update->hard_state.term >= persist->hard_state.term);
        persist->hard_state = update->hard_state;
    }
    if (update->log_reset_index > 0) {
        /* The reset holds the whole log and the hard state, so also what this update adds. */
        rsm_persist_reset(group, update->log_reset_index,
                          raft_term_at(group->raft, update->log_reset_index), update->persist_seq);
    } else if (update->persist_seq > 0) {
        write_update(group, update);
    }
}

static void send_held(struct group *group, struct rsm_held *held)
{
    if (rsm_is_away(group, held->to)) {
        buf_fini(&held->bytes);
        return;
    }
    group->stats.messages_sent++;
    group->world.net->ops->peer_send(group->world.net, group->options.group, held->to, held->class,
                                     &held->bytes);
}

void rsm_persist_hold(struct group *group, raft_id to, enum io_class class, struct buf *bytes)
{
    struct rsm_persist *persist = &group->persist;
    struct rsm_held *held = mem_zalloc(sizeof(*held));

    *held = (struct rsm_held){
        .number = persist->queued, .to = to, .class = class, .bytes = buf_take(bytes)};
    STAILQ_INSERT_TAIL(&persist->held, held, next);
    if (persist->durable == persist->queued) {
        ASSERT(STAILQ_FIRST(&persist->held) == held);
        send_held(group, held);
        held_pop(persist);
    }
}

/* Takes the writes up to `token` off the queue; returns the newest persist_seq among them. */
static uint64_t pop_writes(struct rsm_persist *persist, uint64_t token)
{
    uint64_t seq = 0;

    while (!STAILQ_EMPTY(&persist->writes) && STAILQ_FIRST(&persist->writes)->number <= token) {
        struct rsm_write *write = STAILQ_FIRST(&persist->writes);
        STAILQ_REMOVE_HEAD(&persist->writes, next);
        persist->durable_index = write->last > 0 ? write->last : persist->durable_index;
        seq = write->persist_seq > 0 ? write->persist_seq : seq;
        ASSERT(write->number == persist->durable + 1);
        persist->durable = write->number;
        mem_free(write);
    }
    return seq;
}

void rsm_persist_written(struct group *group, uint64_t token, enum status status)
{
    struct rsm_persist *persist = &group->persist;
    uint64_t seq;

    if (status != ST_OK) {
        rsm_halt(group, status, "the log could not be written");
        return;
    }
    ASSERT(token <= persist->queued);
    seq = pop_writes(persist, token);
    while (!STAILQ_EMPTY(&persist->held) &&
           STAILQ_FIRST(&persist->held)->number <= persist->durable) {
        send_held(group, STAILQ_FIRST(&persist->held));
        held_pop(persist);
    }
    if (seq > 0) {
        struct raft_event event = {.type = RAFT_EVENT_PERSISTED};
        event.persisted.seq = seq;
        rsm_step_raft(group, &event);
    }
}

raft_index rsm_persist_durable_index(const struct group *group)
{
    const struct rsm_persist *persist = &group->persist;
    raft_index durable = persist->durable_index;
    const struct rsm_write *write;

    /* What a write in flight replaces may be durable in its old form. */
    STAILQ_FOREACH(write, &persist->writes, next)
    {
        if (write->first > 0 && write->first - 1 < durable) {
            durable = write->first - 1;
        }
    }
    return durable;
}
