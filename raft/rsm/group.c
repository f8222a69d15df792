/* A group: one event in, everything it leads to out. group_step hands the event to the file that
 * knows it, then settles: applies what is committed, ends reads, starts a checkpoint, tells the
 * service of a change of role. */
#include "raft/rsm/group.h"
#include "raft/wire.h"

void group_options_default(struct group_options *options, group_id group, raft_id id, uint64_t seed)
{
    *options = (struct group_options){
        .group = group,
        /* What a replica holds in memory while a shard arrives at full speed (README.md, Memory).
         */
        .checkpoint_log_bytes = 32u << 20,
        .checkpoint_dirty_bytes = 16u << 20,
        .checkpoint_rest_ms = 250,
        .max_dirty_bytes = 24u << 20,
        .large_bytes = 512u << 10,
        .drop_checkpoint_ms = 2000,
        .log_keep_bytes = 16u << 20,
        .max_log_bytes = 128u << 20,
        .company_ms = 3,
        .max_proposals = 65536,
        .max_reads = 65536,
        .snapshot_chunk_bytes = 512u << 10,
    };
    raft_options_default(&options->raft, id, seed);
}

enum status group_create(const struct group_options *options, const struct group_world *world,
                         const struct rsm_service_ops *service_ops, void *service,
                         struct io_log_content *log, const struct io_state_meta *state_meta,
                         uint64_t now_ms, struct group **group)
{
    struct group *made = mem_zalloc(sizeof(*made));
    uint64_t noted = log->checkpoint;
    enum status status;

    ASSERT(options->raft.id > 0 && options->snapshot_chunk_bytes > 0);
    ASSERT(world->net != NULL && world->log != NULL && world->state != NULL);
    ASSERT(world->halt != NULL && options->checkpoint_dirty_bytes > 0);
    made->options = *options;
    made->options.raft.trace = options->trace;
    made->world = *world;
    made->ops = service_ops;
    made->service = service;
    rsm_proposals_init(made);
    rsm_reads_init(made);
    rsm_senders_init(made);
    rsm_change_init(made);
    rsm_checkpoint_init(made);
    *group = NULL;
    status = rsm_open(made, log, state_meta, now_ms);
    if (status != ST_OK) {
        mem_free(made);
        return status;
    }
    *group = made;
    status = rsm_restore_service(made);
    if (status != ST_OK) {
        trace_error(options->trace, "the service could not be restored status=%s",
                    status_name(status));
        group_destroy(group);
        return status;
    }
    rsm_begin_raft(made);
    rsm_checkpoint_open(made, state_meta->checkpoint, noted);
    return ST_OK;
}

void group_destroy(struct group **group)
{
    struct group *gone = *group;

    if (gone == NULL) {
        return;
    }
    ASSERT(gone->raft != NULL);
    gone->stopping = true; /* callbacks that propose again are refused */
    rsm_proposals_refuse_gathered(gone, ST_SHUTDOWN);
    rsm_proposals_abandon_waiting(gone);
    rsm_reads_refuse_all(gone, ST_SHUTDOWN);
    rsm_change_abandon(gone);
    rsm_senders_fini(gone);
    rsm_receiver_fini(gone);
    rsm_persist_fini(gone);
    raft_destroy(&gone->raft);
    buf_fini(&gone->apply.result);
    mem_free(gone);
    *group = NULL;
}

void rsm_halt(struct group *group, enum status status, const char *reason)
{
    ASSERT(status != ST_OK);
    if (group->halted) {
        return;
    }
    group->halted = true;
    trace_error(group->options.trace, "halted group=%u status=%s: %s", group->options.group,
                status_name(status), reason);
    group->world.halt(group->world.halt_context, status, reason);
}

/* ---- Events ---- */

/* A follower whose applying lags (its state waits for the disk) takes no more entries than its log
 * may hold: they are as good as lost on the way, and come again. The leader's heartbeats are heard,
 * and what is committed goes on being applied, so the log gets shorter. */
static bool is_too_much(const struct group *group, const struct raft_message *message)
{
    return message->type == RAFT_MESSAGE_APPEND && message->append.n_entries > 0 &&
           raft_log_bytes(group->raft) > group->options.max_log_bytes &&
           group->apply.index < raft_commit_index(group->raft);
}

static void on_peer_message(struct group *group, const struct io_event *event)
{
    struct raft_message message;
    struct raft_event out = {
        .type = RAFT_EVENT_MESSAGE, .incarnation = event->peer.incarnation, .message = &message};

    group->stats.messages_received++;
    if (!wire_decode_message(event->peer.message, &message)) {
        trace_warn(group->options.trace, "malformed message from=%u", event->peer.id);
        return;
    }
    if (is_too_much(group, &message)) {
        raft_message_fini(&message);
        return;
    }
    if (message.from != event->peer.id || message.to != group->options.raft.id) {
        trace_warn(group->options.trace, "misdirected message from=%u to=%u link=%u", message.from,
                   message.to, event->peer.id);
    } else {
        rsm_set_away(group, message.from, false);
        out.pinned = group->pinned[message.from];
        rsm_step_raft(group, &out);
    }
    raft_message_fini(&message);
}

static void on_peer_link(struct group *group, const struct io_event *event)
{
    struct raft_event out = {.type = event->type == IO_EVENT_PEER_UP     ? RAFT_EVENT_PEER_UP
                                     : event->type == IO_EVENT_PEER_DOWN ? RAFT_EVENT_PEER_DOWN
                                                                         : RAFT_EVENT_PEER_GONE};

    out.peer = event->peer.id;
    out.incarnation = event->peer.incarnation;
    out.pinned = group->pinned[event->peer.id];
    rsm_set_away(group, event->peer.id, event->type != IO_EVENT_PEER_UP);
    rsm_step_raft(group, &out);
}

static enum status transfer(struct group *group, raft_id to)
{
    struct raft_event event = {.type = RAFT_EVENT_TRANSFER};

    ASSERT(!group->halted);
    event.transfer.to = to;
    return rsm_step_raft(group, &event).status;
}

/* Who shall lead instead: one after the other, by id, for who else has no room is not known here.
 * Always to take the first would leave out a third one, that has room, for good. */
static raft_id next_heir(struct group *group)
{
    raft_id self = group->options.raft.id;
    raft_id after = group->give_up_to == 0 ? self : group->give_up_to;
    struct raft_configuration configuration;
    raft_id lowest = 0, next = 0;

    raft_configuration_at(group->raft, group->apply.index, &configuration);
    for (size_t i = 0; i < configuration.n; i++) {
        struct raft_progress_info info;
        raft_id id = configuration.servers[i].id;

        if (id == self || (configuration.servers[i].flags & RAFT_VOTER) == 0 ||
            !raft_progress(group->raft, id, &info) || !info.recent_active) {
            continue;
        }
        lowest = lowest == 0 || id < lowest ? id : lowest;
        next = id > after && (next == 0 || id < next) ? id : next;
    }
    return next != 0 ? next : lowest;
}

/* A replica that can't write gives leadership to one that can, and again from time to time should
 * it be elected; not at once, or replicas that are all full would pass it round and round. */
static void give_up_leadership(struct group *group)
{
    bool read_only = group_is_read_only(group);
    bool due = !group->was_read_only || group->now_ms >= group->give_up_ms;

    group->was_read_only = read_only;
    if (!read_only || !due || raft_role(group->raft) != RAFT_LEADER) {
        return;
    }
    group->give_up_ms = group->now_ms + RSM_READ_ONLY_TRANSFER_MS;
    group->give_up_to = next_heir(group);
    transfer(group, group->give_up_to);
}

static void on_tick(struct group *group)
{
    struct raft_event event = {.type = RAFT_EVENT_TICK};

    rsm_step_raft(group, &event);
    if (!group->halted && group->stopping && raft_role(group->raft) == RAFT_LEADER) {
        transfer(group, 0); /* nobody had answered yet, or it came to nothing */
    }
    if (!group->halted) {
        rsm_checkpoint_tick(group);
        rsm_peers_follow(group);
    }
}

static void on_turn_end(struct group *group)
{
    rsm_proposals_admit_large(group);
    if (rsm_round_deadline_ms(group) <= group->now_ms) {
        rsm_reads_flush(group); /* first: so the Appends carry the round's number, too */
        if (!group->halted) {
            rsm_proposals_flush(group);
        }
    }
    group->apply.turn_over = true;
}

static void on_stop(struct group *group)
{
    group->stopping = true;
    rsm_proposals_refuse_gathered(group, ST_SHUTDOWN);
    if (raft_role(group->raft) == RAFT_LEADER) {
        transfer(group, 0);
    }
}

static void on_checkpoint(struct group *group, const struct io_event *event)
{
    rsm_checkpoint_done(group, event);
    if (!group->halted) {
        rsm_receiver_resume(group);
    }
}

/* Whether the event is about another group. */
static bool is_foreign(const struct group *group, const struct io_event *event)
{
    group_id own = group->options.group;

    switch (event->type) {
    case IO_EVENT_PEER_MESSAGE:
    case IO_EVENT_PEER_UP:
    case IO_EVENT_PEER_DOWN:
    case IO_EVENT_PEER_GONE:
        return event->peer.group != own;
    case IO_EVENT_LOG_WRITTEN:
        return event->log.group != own;
    case IO_EVENT_CHECKPOINT:
        return event->checkpoint.group != own;
    case IO_EVENT_SNAPSHOT_READ:
        return event->snapshot.group != own;
    case IO_EVENT_INSTALL_CHUNK:
    case IO_EVENT_INSTALLED:
        return event->install.group != own;
    default:
        return false;
    }
}

static void dispatch(struct group *group, const struct io_event *event)
{
    switch (event->type) {
    case IO_EVENT_TICK:
        on_tick(group);
        break;
    case IO_EVENT_TURN_END:
        on_turn_end(group);
        break;
    case IO_EVENT_PEER_MESSAGE:
        on_peer_message(group, event);
        break;
    case IO_EVENT_PEER_UP:
    case IO_EVENT_PEER_DOWN:
    case IO_EVENT_PEER_GONE:
        on_peer_link(group, event);
        break;
    case IO_EVENT_LOG_WRITTEN:
        rsm_persist_written(group, event->log.token, event->log.status);
        break;
    case IO_EVENT_CHECKPOINT:
        on_checkpoint(group, event);
        break;
    case IO_EVENT_SNAPSHOT_READ:
        rsm_senders_chunk(group, event);
        break;
    case IO_EVENT_INSTALL_CHUNK:
        rsm_receiver_stored(group, event);
        break;
    case IO_EVENT_INSTALLED:
        rsm_receiver_installed(group, event);
        break;
    case IO_EVENT_DISK_SPACE:
        group->disk_low = event->disk.low;
        break;
    case IO_EVENT_STOP:
        on_stop(group);
        break;
    case IO_EVENT_CLIENT_MESSAGE:
    case IO_EVENT_CLIENT_CLOSED:
    case IO_EVENT_ENDPOINT_MESSAGE:
    case IO_EVENT_ENDPOINT_DOWN:
        break; /* the service's */
    }
}

static void tell_role(struct group *group)
{
    if (group->role_changed) {
        group->role_changed = false;
        group->ops->role_changed(group->service, raft_role(group->raft),
                                 raft_current_term(group->raft), raft_leader(group->raft));
    }
}

/* The core is at rest: now what was noted is done, and callbacks may run. */
static void settle(struct group *group)
{
    rsm_apply_committed(group);
    if (!group->halted) {
        rsm_reads_settle(group);
        rsm_senders_settle(group);
        rsm_change_settle(group);
    }
    if (!group->halted) {
        give_up_leadership(group);
        rsm_checkpoint_maybe_start(group);
        tell_role(group);
    }
}

static void end_everything(struct group *group)
{
    rsm_proposals_refuse_gathered(group, ST_SHUTDOWN);
    rsm_proposals_abandon_waiting(group);
    rsm_reads_refuse_all(group, ST_SHUTDOWN);
    rsm_change_abandon(group);
}

void group_step(struct group *group, const struct io_event *event)
{
    if (group->halted || is_foreign(group, event)) {
        return;
    }
    ASSERT(event->now_ms >= group->now_ms);
    ASSERT(event->awake_ms == 0 || event->awake_ms >= group->awake_ms);
    group->awake_ms =
        event->awake_ms != 0 ? event->awake_ms : group->awake_ms + (event->now_ms - group->now_ms);
    group->now_ms = event->now_ms;
    group_tell_time(group, event);
    group->wall_us = event->wall_us;
    if (group->apply.turn_over) {
        group->apply.turn_over = false;
        group->apply.turn_entries = 0;
        group->apply.turn_bytes = 0;
    }
    dispatch(group, event);
    if (!group->halted) {
        settle(group);
    }
    if (group->halted) {
        end_everything(group);
    } else if (group->options.check_invariants) {
        rsm_check(group);
    }
}

/* On the clock of events, if this process listens all the time until then; else it is later. */
static uint64_t core_deadline_ms(const struct group *group)
{
    uint64_t deadline = raft_next_deadline_ms(group->raft);

    return deadline == UINT64_MAX ? deadline : deadline + (group->now_ms - group->awake_ms);
}

uint64_t group_next_deadline_ms(const struct group *group)
{
    uint64_t deadline;

    if (group->halted) {
        return UINT64_MAX;
    }
    if (rsm_apply_has_work(group)) {
        return group->now_ms;
    }
    deadline = core_deadline_ms(group);
    if (rsm_round_deadline_ms(group) < deadline) {
        deadline = rsm_round_deadline_ms(group);
    }
    if (rsm_proposals_deadline_ms(group) < deadline) {
        deadline = rsm_proposals_deadline_ms(group);
    }
    if (rsm_checkpoint_deadline_ms(group) < deadline) {
        deadline = rsm_checkpoint_deadline_ms(group);
    }
    if (rsm_peers_deadline_ms(group) < deadline) {
        deadline = rsm_peers_deadline_ms(group);
    }
    return deadline > group->now_ms ? deadline : group->now_ms;
}

enum status group_transfer(struct group *group, raft_id to)
{
    return group->halted ? ST_NOT_LEADER : transfer(group, to);
}

/* ---- What it looks like ---- */

const struct raft *group_raft(const struct group *group)
{
    return group->raft;
}

struct io_state *group_state(const struct group *group)
{
    return group->world.state;
}

raft_index group_applied_index(const struct group *group)
{
    return group->apply.index;
}

uint64_t group_last_stamp(const struct group *group)
{
    return group->apply.stamp;
}

bool group_is_leader(const struct group *group)
{
    return !group->halted && raft_role(group->raft) == RAFT_LEADER;
}

bool group_is_ready(const struct group *group)
{
    return group_is_leader(group) && raft_leader_ready(group->raft) &&
           group->apply.term == raft_current_term(group->raft);
}

bool group_is_read_only(const struct group *group)
{
    return group->disk_low || group->checkpoint.no_space;
}

bool group_is_halted(const struct group *group)
{
    return group->halted;
}

const struct group_stats *group_statistics(const struct group *group)
{
    return &group->stats;
}

void group_queues(const struct group *group, struct group_queues *queues)
{
    const struct rsm_sender *sender;

    *queues = (struct group_queues){
        .proposals = rsm_proposals_count(group),
        .reads = group->reads.n,
        .unsynced_writes = group->persist.queued - group->persist.durable,
        .snapshot_receiving = group->receiver.switching || group->receiver.deferred};
    TAILQ_FOREACH (sender, &group->senders.open, next) {
        queues->snapshots_sending++;
    }
}

void group_tell_time(struct group *group, const struct io_event *event)
{
    group->now_us = event->now_us != 0 ? event->now_us : event->now_ms * 1000;
}

uint64_t group_now_us(const struct group *group)
{
    return group->now_us;
}
