/* Replication, the leader's side of sending (paper 5.3, thesis 10.2.1).
 *
 * Handlers only change what is known; whatever may be sent because of it leaves at the end of the
 * step, in replicate_flush, once a follower. So a step that takes a hundred proposals makes one
 * Append a follower, and every Append carries the newest commit index. The leader sends in parallel
 * with its own write and counts itself only when that is durable. */
#include "raft/core/raft_internal.h"
#include "raft/util/mem.h"

#define REPLICATE_MAX_ENTRIES 16384 /* in one Append; below the format's bound */
#define REPLICATE_FEW_ENTRIES 8     /* whose commit may be told late: applied in 0.1 ms */

struct progress *replicate_find(const struct raft *raft, raft_id id)
{
    for (size_t i = 0; i < raft->n_progress; i++) {
        if (raft->progress[i].id == id) {
            return &raft->progress[i];
        }
    }
    return NULL;
}

static void remove_progress(struct raft *raft, size_t at)
{
    ASSERT(at < raft->n_progress && raft->progress[at].leaving_index != 0);
    progress_fini(&raft->progress[at]);
    raft->n_progress--;
    memmove(raft->progress + at, raft->progress + at + 1,
            (raft->n_progress - at) * sizeof(*raft->progress));
}

/* No room for one more: those that left need not be told at any price. */
static void make_room(struct raft *raft)
{
    for (size_t i = 0; i < raft->n_progress && raft->n_progress == RAFT_MAX_SERVERS; i++) {
        if (raft->progress[i].leaving_index != 0) {
            remove_progress(raft, i);
        }
    }
    ASSERT(raft->n_progress < RAFT_MAX_SERVERS);
}

static void add_progress(struct raft *raft, raft_id id)
{
    size_t at;

    make_room(raft);
    at = raft->n_progress++;
    for (; at > 0 && raft->progress[at - 1].id > id; at--) {
        raft->progress[at] = raft->progress[at - 1];
    }
    /* "nextIndex: initialized to leader last log index + 1; matchIndex: to 0" (Figure 2). */
    progress_init(&raft->progress[at], id, last_index_of(raft) + 1, raft->now_ms);
}

/* A member again after it left: nothing of what was known of it holds, it may be another. */
static void forget_if_leaving(struct raft *raft, raft_id id)
{
    for (size_t i = 0; i < raft->n_progress; i++) {
        if (raft->progress[i].id == id && raft->progress[i].leaving_index != 0) {
            remove_progress(raft, i);
            return;
        }
    }
}

/* Those whom the configuration in force does not have any more, and what it says of the others. */
static void mark_leaving(struct raft *raft)
{
    for (size_t i = 0; i < raft->n_progress; i++) {
        struct progress *progress = &raft->progress[i];
        const struct raft_server *server =
            raft_configuration_find(configuration_of(raft), progress->id);

        if (server == NULL && progress->leaving_index == 0) {
            progress->leaving_index = membership_latest_index(&raft->membership);
        } else if (server != NULL && server->incarnation != 0) {
            progress->incarnation = server->incarnation;
        }
    }
}

/* The leader goes on telling a server that was removed until it has the entry and was sent word
 * that this is committed, or an election timeout after it was: then it stops standing for election
 * by itself, if the word came. */
void replicate_forget_told(struct raft *raft)
{
    for (size_t i = raft->n_progress; i-- > 0;) {
        struct progress *progress = &raft->progress[i];

        if (progress->leaving_index == 0 || raft->commit_index < progress->leaving_index) {
            continue;
        }
        if (progress->leaving_until_ms == 0) {
            progress->leaving_until_ms = raft->now_ms + raft->options.election_timeout_ms;
        }
        if (raft->now_ms >= progress->leaving_until_ms ||
            (progress->match_index >= progress->leaving_index &&
             progress->commit_sent >= progress->leaving_index)) {
            remove_progress(raft, i);
        }
    }
}

void replicate_follow_configuration(struct raft *raft)
{
    const struct raft_configuration *configuration = configuration_of(raft);

    ASSERT(raft->role == RAFT_LEADER && raft->progress != NULL);
    for (size_t i = 0; i < configuration->n; i++) {
        raft_id id = configuration->servers[i].id;

        forget_if_leaving(raft, id);
        if (id != raft->options.id && replicate_find(raft, id) == NULL) {
            add_progress(raft, id);
        }
    }
    mark_leaving(raft);
}

void replicate_begin(struct raft *raft)
{
    ASSERT(raft->role == RAFT_LEADER && raft->progress == NULL);
    raft->progress = mem_zalloc(RAFT_MAX_SERVERS * sizeof(*raft->progress));
    raft->n_progress = 0;
    replicate_follow_configuration(raft);
    raft->heartbeat_deadline_ms = raft->now_ms + raft->options.heartbeat_ms;
    raft->uncommitted_bytes = 0;
    for (raft_index i = raft->commit_index + 1; i <= last_index_of(raft); i++) {
        raft->uncommitted_bytes += raft_log_entry_bytes(raft_log_entry_at(&raft->log, i));
    }
}

void replicate_end(struct raft *raft)
{
    ASSERT(raft->role != RAFT_LEADER);
    for (size_t i = 0; i < raft->n_progress; i++) {
        progress_fini(&raft->progress[i]);
    }
    mem_free(raft->progress);
    raft->progress = NULL;
    raft->n_progress = 0;
    raft->uncommitted_bytes = 0;
    raft->transfer = (struct transfer){0};
    raft->retiring = false;
    read_index_fail_all(raft);
}

void replicate_append_own(struct raft *raft, enum raft_entry_type type, struct blob *data)
{
    struct raft_entry entry = {
        .index = last_index_of(raft) + 1,
        .term = raft->hard_state.term,
        .type = type,
        .data = data,
    };

    ASSERT(raft->role == RAFT_LEADER);
    raft_log_append(&raft->log, entry);
    membership_adopt(&raft->membership, &entry);
    raft->uncommitted_bytes += raft_log_entry_bytes(&entry);
    persist_entries(raft, entry.index);
}

void replicate_propose(struct raft *raft, const struct raft_event *event)
{
    uint64_t bytes = 0;

    if (raft->role != RAFT_LEADER) {
        raft->out.status = ST_NOT_LEADER;
        return;
    }
    for (size_t i = 0; i < event->propose.n; i++) {
        ASSERT(event->propose.commands[i] != NULL);
        bytes += RAFT_ENTRY_OVERHEAD + event->propose.commands[i]->len;
    }
    /* "The prior leader stops accepting new client requests" (thesis 3.10, step 1). */
    if (raft->transfer.to != 0 ||
        (raft->uncommitted_bytes > 0 &&
         raft->uncommitted_bytes + bytes > raft->options.max_uncommitted_bytes)) {
        raft->out.status = ST_BUSY;
        return;
    }
    raft->out.first_index = last_index_of(raft) + 1;
    for (size_t i = 0; i < event->propose.n; i++) {
        replicate_append_own(raft, RAFT_ENTRY_COMMAND, event->propose.commands[i]);
    }
}

void replicate_advance_commit(struct raft *raft)
{
    const struct raft_configuration *configuration = configuration_of(raft);
    uint64_t match[RAFT_MAX_SERVERS] = {0};
    raft_index index;

    ASSERT(raft->role == RAFT_LEADER);
    for (size_t i = 0; i < configuration->n; i++) {
        const struct progress *progress = replicate_find(raft, configuration->servers[i].id);

        /* The own log counts as far as it is durable: a quorum of followers may be ahead of it. */
        match[i] = configuration->servers[i].id == raft->options.id ? raft->durable_index
                   : progress != NULL                               ? progress->match_index
                                                                    : 0;
    }
    index = quorum_reached_value(configuration, match);
    /* "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and
     * log[N].term == currentTerm: set commitIndex = N" (Figure 2; 5.4.2 says why the term). */
    if (index <= raft->commit_index ||
        raft_log_term_at(&raft->log, index) != raft->hard_state.term) {
        return;
    }
    ASSERT(index <= last_index_of(raft));
    for (raft_index i = raft->commit_index + 1; i <= index; i++) {
        uint64_t bytes = raft_log_entry_bytes(raft_log_entry_at(&raft->log, i));

        ASSERT(raft->uncommitted_bytes >= bytes);
        raft->uncommitted_bytes -= bytes;
    }
    raft->commit_index = index;
}

/* Copies entries from next_index on, with references, up to the limit of bytes (but at least one).
 */
static uint64_t copy_entries(struct raft *raft, raft_index from, struct raft_append *append)
{
    uint64_t bytes = 0;
    size_t n = 0;

    while (from + n <= last_index_of(raft) && n < REPLICATE_MAX_ENTRIES) {
        uint64_t more = raft_log_entry_bytes(raft_log_entry_at(&raft->log, from + n));

        if (n > 0 && bytes + more > raft->options.max_message_bytes) {
            break;
        }
        bytes += more;
        n++;
    }
    append->entries = n == 0 ? NULL : mem_alloc(n * sizeof(*append->entries));
    append->n_entries = n;
    for (size_t i = 0; i < n; i++) {
        append->entries[i] = *raft_log_entry_at(&raft->log, from + i);
        if (append->entries[i].data != NULL) {
            blob_ref(append->entries[i].data);
        }
    }
    return bytes;
}

static void send_append(struct raft *raft, struct progress *progress, bool with_entries)
{
    struct raft_message *message = outbox_send(raft, RAFT_MESSAGE_APPEND, progress->id);
    raft_index prev = progress->next_index - 1;
    raft_index last;
    uint64_t bytes = 0;

    ASSERT(prev >= raft->log.snapshot_index && prev <= last_index_of(raft));
    message->append = (struct raft_append){
        .prev_log_index = prev,
        .prev_log_term = raft_log_term_at(&raft->log, prev),
        .commit_index = raft->commit_index,
        .read_round = read_index_round(raft),
    };
    if (with_entries) {
        bytes = copy_entries(raft, progress->next_index, &message->append);
    }
    last = prev + message->append.n_entries;
    progress_sent(progress, last, bytes);
    progress->commit_sent = raft->commit_index < last ? raft->commit_index : last;
    progress->last_sent_ms = raft->now_ms;
    progress->last_append_ms = raft->now_ms;
}

static void send_heartbeat(struct raft *raft, struct progress *progress)
{
    struct raft_message *message = outbox_send(raft, RAFT_MESSAGE_HEARTBEAT, progress->id);
    raft_index commit = raft->commit_index;

    /* Beyond match_index the follower's log may differ: it must not commit there. */
    if (commit > progress->match_index) {
        commit = progress->match_index;
    }
    message->heartbeat =
        (struct raft_heartbeat){.commit_index = commit, .read_round = read_index_round(raft)};
    progress->commit_sent = commit > progress->commit_sent ? commit : progress->commit_sent;
    progress->last_sent_ms = raft->now_ms;
    progress->heartbeat_due = false;
}

/* The follower has everything and does not know that all of it is committed. Told before it has the
 * entries, it might hear of the commit before them. */
static bool lacks_commit(const struct raft *raft, const struct progress *progress)
{
    raft_index last = last_index_of(raft);

    return progress->state == RAFT_REPLICATE && progress->match_index == last &&
           raft->commit_index == last && progress->commit_sent < last;
}

/* When an empty Append is to tell it, if nothing else does before. Nobody waits for a follower to
 * apply, and the next Append, or a ReadIndex round's heartbeat, tells it for nothing: two messages
 * each way less for a proposal that is alone. Many entries are told at once, so that they are not
 * applied between the next Append and its acknowledgement; and so is a change of the configuration.
 */
static uint64_t commit_due_ms(const struct raft *raft, const struct progress *progress)
{
    return progress->leaving_index != 0 ||
                   membership_latest_index(&raft->membership) > progress->commit_sent ||
                   raft->commit_index - progress->commit_sent > REPLICATE_FEW_ENTRIES
               ? raft->now_ms
               : progress->last_append_ms + raft->options.commit_delay_ms;
}

/* Streams what the follower does not have; and the commit index, when that is due. */
static void flush_replicate(struct raft *raft, struct progress *progress)
{
    while (progress->next_index <= last_index_of(raft) &&
           !progress_is_full(progress, &raft->options)) {
        send_append(raft, progress, true);
    }
    if (progress->gap_check || (lacks_commit(raft, progress) && !progress->heartbeat_due &&
                                commit_due_ms(raft, progress) <= raft->now_ms)) {
        send_append(raft, progress, false);
    }
}

uint64_t replicate_next_deadline_ms(const struct raft *raft)
{
    uint64_t deadline_ms = raft->heartbeat_deadline_ms;

    ASSERT(raft->role == RAFT_LEADER);
    for (size_t i = 0; i < raft->n_progress; i++) {
        const struct progress *progress = &raft->progress[i];

        if (lacks_commit(raft, progress) && commit_due_ms(raft, progress) < deadline_ms) {
            deadline_ms = commit_due_ms(raft, progress);
        }
    }
    return deadline_ms;
}

static void flush_one(struct raft *raft, struct progress *progress)
{
    if (progress->state != RAFT_SNAPSHOT && progress->next_index - 1 < raft->log.snapshot_index) {
        /* Its next entry is compacted. Only a follower that is there is worth a snapshot. */
        if (raft->now_ms - progress->last_heard_ms >= raft->options.election_timeout_ms) {
            return;
        }
        progress_become_snapshot(progress, raft->now_ms);
    }
    switch (progress->state) {
    case RAFT_PROBE:
        if (!progress->probe_sent) {
            send_append(raft, progress, !progress->probe_empty);
        }
        break;
    case RAFT_REPLICATE:
        flush_replicate(raft, progress);
        break;
    case RAFT_SNAPSHOT:
        send_snapshot_flush(raft, progress);
        break;
    }
}

void replicate_flush(struct raft *raft)
{
    ASSERT(raft->role == RAFT_LEADER);
    read_index_settle(raft);
    transfer_advance(raft);
    for (size_t i = 0; i < raft->n_progress; i++) {
        flush_one(raft, &raft->progress[i]);
        if (raft->progress[i].heartbeat_due) {
            send_heartbeat(raft, &raft->progress[i]);
        }
    }
}

/* "A leader steps down if an election timeout elapses without a successful round of heartbeats to a
 * majority of its cluster" (thesis 6.2). */
static bool hears_majority(const struct raft *raft)
{
    struct id_set heard = {0};
    struct id_set none = {0};

    id_set_add(&heard, raft->options.id);
    for (size_t i = 0; i < raft->n_progress; i++) {
        if (raft->now_ms - raft->progress[i].last_heard_ms < raft->options.election_timeout_ms) {
            id_set_add(&heard, raft->progress[i].id);
        }
    }
    return quorum_vote(configuration_of(raft), &heard, &none) == QUORUM_WON;
}

/* An Append says everything that a heartbeat does, but its answer may wait for a disk: it stands in
 * for one only while the follower is also heard. */
static bool heartbeat_is_due(const struct raft *raft, const struct progress *progress)
{
    return raft->now_ms - progress->last_sent_ms >= raft->options.heartbeat_ms ||
           raft->now_ms - progress->last_heard_ms >= raft->options.heartbeat_ms;
}

void replicate_tick(struct raft *raft)
{
    ASSERT(raft->role == RAFT_LEADER);
    transfer_tick(raft);
    if (raft->now_ms < raft->heartbeat_deadline_ms) {
        return;
    }
    raft->heartbeat_deadline_ms = raft->now_ms + raft->options.heartbeat_ms;
    if (!hears_majority(raft)) {
        trace_info(raft->options.trace, "steps down: no majority heard term=%llu",
                   (unsigned long long)raft->hard_state.term);
        election_become_follower(raft, raft->hard_state.term, 0);
        return;
    }
    read_index_tick(raft);
    for (size_t i = 0; i < raft->n_progress; i++) {
        struct progress *progress = &raft->progress[i];

        progress->heartbeat_due |= heartbeat_is_due(raft, progress);
        if (progress->state == RAFT_SNAPSHOT) {
            send_snapshot_tick(raft, progress);
        } else if (progress->tail.target != 0) {
            send_snapshot_tick_tail(raft, progress);
        }
    }
}

void replicate_peer_up(struct raft *raft, const struct raft_event *event)
{
    struct progress *progress = replicate_find(raft, event->peer);

    ASSERT(raft->role == RAFT_LEADER);
    if (progress != NULL) {
        progress_link_lost(progress);
        progress->snapshot.retry_ms = 0;
        if (progress->incarnation == 0 && change_is_known_incarnation(raft, event->peer, event)) {
            progress->incarnation = event->incarnation;
        }
    }
}

void replicate_peer_down(struct raft *raft, raft_id peer)
{
    struct progress *progress = replicate_find(raft, peer);

    ASSERT(raft->role == RAFT_LEADER);
    if (progress != NULL) {
        progress_link_lost(progress);
        /* Nothing more leaves before the link is up, or the follower is heard by another. */
        progress->probe_sent = progress->state == RAFT_PROBE;
        progress->snapshot.retry_ms = raft->now_ms + raft->options.election_timeout_ms;
    }
}
