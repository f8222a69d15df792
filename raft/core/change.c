/* Changes of the configuration at run time (thesis 4): replicas come and go.
 *
 *   add     a configuration with the server as learner: one entry, as no majority changes
 *           ... it catches up, in rounds (thesis 4.2.1) ...
 *   promote C_old,new and then C_new, by the leader itself
 *   remove  a voter: C_old,new and then C_new; a learner: one entry
 *
 * Every change of who votes goes through a joint configuration (thesis 4.3), also where a single
 * step would do: one mechanism, and nothing to get wrong about which changes are small. Whoever
 * leads when C_old,new is committed appends C_new; so a change outlives the leader that began it.
 *
 * A leader that is not in C_new leads, without counting itself, until that is committed (thesis
 * 4.2.2), hands over to the most caught-up voter and steps down. */
#include "raft/core/raft_internal.h"
#include "raft/util/mem.h"

#define CATCH_UP_MAX_ROUNDS     10   /* thesis 4.2.1; then a pause */
#define CATCH_UP_PAUSE_TIMEOUTS 10   /* election timeouts */
#define FORCE_SILENT_TIMEOUTS   3    /* a replica without a leader asks for votes every two */
#define FORCE_TERM_GAP          1000 /* terms that the others might have begun unseen */

/* ---- Questions ---- */

static const struct raft_server *self_of(const struct raft *raft)
{
    return raft_configuration_find(configuration_of(raft), raft->options.id);
}

static size_t count_voters(const struct raft_configuration *configuration)
{
    size_t n = 0;

    for (size_t i = 0; i < configuration->n; i++) {
        n += (configuration->servers[i].flags & RAFT_VOTER) != 0;
    }
    return n;
}

/* The configuration says it; where it does not, first contact: as remembered by the driver, or by
 * this leader. Of a learner by this leader alone: the driver may remember the one that was removed
 * under this id, if it never saw a configuration without it. A learner's acknowledgements count in
 * no majority, and its promotion names the one that made them. */
bool change_is_known_incarnation(const struct raft *raft, raft_id id,
                                 const struct raft_event *event)
{
    const struct raft_server *server = raft_configuration_find(configuration_of(raft), id);
    const struct progress *progress = replicate_find(raft, id);
    bool is_learner = server != NULL && server->flags == RAFT_LEARNER;
    uint64_t known = server != NULL ? server->incarnation : 0;

    known = known == 0 && !is_learner ? event->pinned : known;
    known = known == 0 && progress != NULL ? progress->incarnation : known;
    return known == 0 || event->incarnation == 0 || known == event->incarnation;
}

/* A change that a leader makes must not leave a group that can't decide: of the voters of the
 * configuration to come, a majority answered within an election timeout. */
static bool hears_majority_of(const struct raft *raft, const struct raft_configuration *to_come)
{
    struct id_set heard = {0}, none = {0};

    id_set_add(&heard, raft->options.id);
    for (size_t i = 0; i < raft->n_progress; i++) {
        const struct progress *progress = &raft->progress[i];

        if (progress->heard &&
            raft->now_ms - progress->last_heard_ms < raft->options.election_timeout_ms) {
            id_set_add(&heard, progress->id);
        }
    }
    return quorum_vote(to_come, &heard, &none) == QUORUM_WON;
}

/* ---- Entries ---- */

static struct blob *encode(const struct raft_configuration *configuration)
{
    struct buf bytes = {0};
    struct blob *data;

    raft_configuration_encode(configuration, &bytes);
    data = blob_create(buf_slice(&bytes));
    buf_fini(&bytes);
    return data;
}

/* "The new configuration takes effect on each server as soon as it is added to that server's log"
 * (thesis 4.1). */
static void append(struct raft *raft, const struct raft_configuration *configuration)
{
    ASSERT(membership_latest_index(&raft->membership) <= raft->commit_index);
    ASSERT(count_voters(configuration) > 0);
    replicate_append_own(raft, RAFT_ENTRY_CONFIGURATION, encode(configuration));
    replicate_follow_configuration(raft);
}

static void remove_server(struct raft_configuration *configuration, size_t at)
{
    configuration->n--;
    memmove(configuration->servers + at, configuration->servers + at + 1,
            (configuration->n - at) * sizeof(configuration->servers[0]));
    memset(&configuration->servers[configuration->n], 0, sizeof(configuration->servers[0]));
}

/* The voters of `from` vote in the old half; those of `to` in the new one. A server of either is in
 * the result, with what `to` says of it. */
static void make_joint(const struct raft_configuration *from, const struct raft_configuration *to,
                       struct raft_configuration *joint)
{
    size_t old = 0, new = 0;

    joint->n = 0;
    while (old < from->n || new < to->n) {
        struct raft_server *server = &joint->servers[joint->n++];
        raft_id old_id = old < from->n ? from->servers[old].id : SPEC_MAX_ID + 1;
        raft_id new_id = new < to->n ? to->servers[new].id : SPEC_MAX_ID + 1;
        uint8_t flags = 0;

        ASSERT(joint->n <= RAFT_MAX_SERVERS);
        if (old_id <= new_id) {
            *server = from->servers[old++];
            flags = (server->flags & RAFT_VOTER) != 0 ? RAFT_VOTER_OLD : 0;
            server->flags = 0;
        }
        if (new_id <= old_id) {
            *server = to->servers[new ++];
        }
        server->flags |= flags;
    }
}

/* C_new of a joint configuration. */
static void make_final(const struct raft_configuration *joint, struct raft_configuration *final)
{
    *final = *joint;
    for (size_t i = final->n; i-- > 0;) {
        final->servers[i].flags &= (uint8_t)~RAFT_VOTER_OLD;
        if (final->servers[i].flags == 0) {
            remove_server(final, i);
        }
    }
}

/* ---- Orders ---- */

static void refuse(struct raft *raft, enum status status, const char *reason)
{
    raft->out.status = status;
    raft->out.reason = reason;
}

/* A change is meant for the configuration that was looked at. An order may come late, after others'
 * changes: then nobody means it any more. */
static bool is_meant(struct raft *raft, const struct raft_change *change)
{
    if (change->configuration_index != 0 &&
        change->configuration_index != membership_latest_index(&raft->membership)) {
        refuse(raft, ST_CONFLICT, "the configuration changed meanwhile: look again");
        return false;
    }
    return true;
}

/* Whether this leader may begin a change now. */
static bool may_begin(struct raft *raft)
{
    if (raft->role != RAFT_LEADER) {
        refuse(raft, ST_NOT_LEADER, "this replica is not the leader");
    } else if (!raft_leader_ready(raft)) {
        /* A leader of an earlier term may have left a change in some logs that this one must not
         * make void unseen: "a leader may not begin a membership change until it has committed an
         * entry from its current term" (Ongaro, 2015, on single-server changes). */
        refuse(raft, ST_BUSY, "the leader has not committed an entry of its term yet");
    } else if (membership_latest_index(&raft->membership) > raft->commit_index ||
               raft_configuration_is_joint(configuration_of(raft))) {
        /* "New configurations are only added when the previous one's entry is committed" (4.1). */
        refuse(raft, ST_BUSY, "another change of the configuration is under way");
    } else if (raft->transfer.to != 0) {
        refuse(raft, ST_BUSY, "leadership is being handed over");
    } else {
        return true;
    }
    return false;
}

static void add(struct raft *raft, const struct raft_change *change)
{
    struct raft_configuration next = *configuration_of(raft);
    size_t at = next.n;
    size_t len = change->address == NULL ? 0 : strlen(change->address);

    if (change->id < 1 || change->id > SPEC_MAX_ID || len == 0 || len > SPEC_MAX_URL) {
        refuse(raft, ST_INVALID, "an id is 1 to 255, and needs a URL");
        return;
    }
    if (raft_configuration_find(&next, change->id) != NULL) {
        refuse(raft, ST_INVALID, "the group has a replica of that id");
        return;
    }
    for (size_t i = 0; i < next.n; i++) {
        if (strcmp(next.servers[i].address, change->address) == 0) {
            refuse(raft, ST_INVALID, "a replica of the group has that URL");
            return;
        }
    }
    if (next.n >= SPEC_MAX_REPLICAS) {
        refuse(raft, ST_INVALID, "the group has as many replicas as it may have");
        return;
    }
    next.n++;
    for (; at > 0 && next.servers[at - 1].id > change->id; at--) {
        next.servers[at] = next.servers[at - 1];
    }
    next.servers[at] = (struct raft_server){.id = change->id, .flags = RAFT_LEARNER};
    memcpy(next.servers[at].address, change->address, len + 1);
    trace_info(raft->options.trace, "adds learner=%u", change->id);
    append(raft, &next);
}

static void remove_member(struct raft *raft, const struct raft_change *change)
{
    const struct raft_configuration *now = configuration_of(raft);
    const struct raft_server *server = raft_configuration_find(now, change->id);
    struct raft_configuration next = *now, joint;

    if (server == NULL) {
        refuse(raft, ST_INVALID, "the group has no replica of that id");
        return;
    }
    remove_server(&next, (size_t)(server - now->servers));
    if ((server->flags & RAFT_VOTER) == 0) {
        append(raft, &next);
        return;
    }
    if (count_voters(&next) == 0) {
        refuse(raft, ST_INVALID, "it is the last voter of the group");
        return;
    }
    if (!hears_majority_of(raft, &next)) {
        refuse(raft, ST_UNAVAILABLE, "a majority of the voters that would be left does not answer");
        return;
    }
    trace_info(raft->options.trace, "removes voter=%u", change->id);
    make_joint(now, &next, &joint);
    append(raft, &joint);
}

/* ---- The last resort ---- */

/* Whether a majority was heard lately, by anybody: a follower has only what came by itself. */
static bool heard_majority_lately(const struct raft *raft)
{
    uint64_t window = (uint64_t)FORCE_SILENT_TIMEOUTS * raft->options.election_timeout_ms;
    struct id_set heard = {0}, none = {0};

    id_set_add(&heard, raft->options.id);
    for (raft_id id = 1; id <= SPEC_MAX_ID; id++) {
        if (raft->heard_ms[id] != 0 && raft->now_ms - raft->heard_ms[id] < window) {
            id_set_add(&heard, id);
        }
    }
    return quorum_vote(configuration_of(raft), &heard, &none) == QUORUM_WON;
}

/* The entry is of a term that nobody led, above what anybody living is likely to have reached; then
 * this replica stands for election as everybody does, and needs nobody but itself. */
static void force_alone(struct raft *raft)
{
    uint64_t window = (uint64_t)FORCE_SILENT_TIMEOUTS * raft->options.election_timeout_ms;
    struct raft_configuration alone = {.n = 1};
    struct raft_entry entry = {.type = RAFT_ENTRY_CONFIGURATION};

    if (!election_is_eligible(raft)) {
        refuse(raft, ST_INVALID, "this replica is no voter of its group");
        return;
    }
    /* It might not have heard those that live yet, and one voter alone needs no force. */
    if (raft->now_ms - raft->created_ms < window) {
        refuse(raft, ST_BUSY, "it runs not long enough to know that the others are silent");
        return;
    }
    if (heard_majority_lately(raft)) {
        refuse(raft, ST_INVALID, "a majority of the voters is heard from");
        return;
    }
    alone.servers[0] = *election_find_self(raft);
    alone.servers[0].flags = RAFT_VOTER;
    alone.servers[0].incarnation = raft->options.incarnation;
    election_become_follower(raft, raft->hard_state.term + FORCE_TERM_GAP, 0);
    entry.index = last_index_of(raft) + 1;
    entry.term = raft->hard_state.term;
    entry.data = encode(&alone);
    raft_log_append(&raft->log, entry);
    membership_adopt(&raft->membership, &entry);
    persist_entries(raft, entry.index);
    trace_warn(raft->options.trace, "forced: the group is this replica alone index=%llu term=%llu",
               (unsigned long long)entry.index, (unsigned long long)entry.term);
    election_begin_candidacy(raft, false);
}

void change_begin(struct raft *raft, const struct raft_change *change)
{
    raft_index last = last_index_of(raft);

    if (change->kind == RAFT_CHANGE_FORCE_ALONE) {
        if (is_meant(raft, change)) {
            force_alone(raft);
        }
    } else if (may_begin(raft) && is_meant(raft, change)) {
        if (change->kind == RAFT_CHANGE_ADD) {
            add(raft, change);
        } else {
            ASSERT(change->kind == RAFT_CHANGE_REMOVE);
            remove_member(raft, change);
        }
    }
    ASSERT((raft->out.status == ST_OK) == (last_index_of(raft) == last + 1));
    if (raft->out.status == ST_OK) {
        raft->out.first_index = last + 1;
    }
}

/* ---- What follows by itself ---- */

static void begin_catch_up(struct raft *raft, struct catch_up *catch_up)
{
    catch_up->target = last_index_of(raft);
    catch_up->started_ms = raft->now_ms;
}

/* "The algorithm waits a fixed number of rounds (such as 10). If the last round lasts less than an
 * election timeout, then the leader adds the new server to the cluster" (thesis 4.2.1); each round
 * replicates what was in the log at its start. A learner that is too slow gets a pause and further
 * rounds: it may just have been given a snapshot by a busy leader. */
static bool has_caught_up(struct raft *raft, struct progress *progress)
{
    struct catch_up *catch_up = &progress->catch_up;
    uint64_t timeout = raft->options.election_timeout_ms;
    uint64_t took;

    if (!progress->heard || raft->now_ms - progress->last_heard_ms >= timeout ||
        raft->now_ms < catch_up->pause_ms) {
        return false;
    }
    if (catch_up->target == 0) {
        begin_catch_up(raft, catch_up);
    }
    if (progress->match_index < catch_up->target) {
        return false;
    }
    took = raft->now_ms - catch_up->started_ms;
    begin_catch_up(raft, catch_up);
    if (took < timeout) {
        return true;
    }
    if (++catch_up->n_rounds == CATCH_UP_MAX_ROUNDS) {
        catch_up->n_rounds = 0;
        catch_up->target = 0;
        catch_up->pause_ms = raft->now_ms + CATCH_UP_PAUSE_TIMEOUTS * timeout;
    }
    return false;
}

/* The learner becomes a voter, under the incarnation whose acknowledgements showed that it has the
 * log. */
static void promote(struct raft *raft, const struct progress *progress)
{
    struct raft_configuration next = *configuration_of(raft), joint;

    for (size_t i = 0; i < next.n; i++) {
        if (next.servers[i].id == progress->id) {
            ASSERT(next.servers[i].flags == RAFT_LEARNER);
            next.servers[i].flags = RAFT_VOTER;
            next.servers[i].incarnation = progress->incarnation;
        }
    }
    if (!hears_majority_of(raft, &next)) {
        return;
    }
    trace_info(raft->options.trace, "promotes learner=%u match=%llu", progress->id,
               (unsigned long long)progress->match_index);
    make_joint(configuration_of(raft), &next, &joint);
    append(raft, &joint);
}

static void promote_one(struct raft *raft)
{
    for (size_t i = 0; i < raft->n_progress; i++) {
        struct progress *progress = &raft->progress[i];
        const struct raft_server *server =
            raft_configuration_find(configuration_of(raft), progress->id);

        if (server != NULL && server->flags == RAFT_LEARNER && has_caught_up(raft, progress)) {
            promote(raft, progress);
            return;
        }
    }
}

/* "The leader steps down once C_new is committed" (thesis 4.2.2, 4.3); it tells a successor to
 * stand at once, as with any transfer, and waits for that no longer than for one. */
static void retire(struct raft *raft)
{
    if (raft->transfer.to != 0) {
        return;
    }
    if (raft->retiring || transfer_begin(raft, 0) != ST_OK) {
        trace_info(raft->options.trace, "steps down: no member any more term=%llu",
                   (unsigned long long)raft->hard_state.term);
        election_become_follower(raft, raft->hard_state.term, 0);
        return;
    }
    raft->retiring = true;
}

void change_advance(struct raft *raft)
{
    const struct raft_server *self = self_of(raft);
    struct raft_configuration final;

    ASSERT(raft->role == RAFT_LEADER);
    replicate_forget_told(raft);
    if (!raft_leader_ready(raft) ||
        membership_latest_index(&raft->membership) > raft->commit_index) {
        return;
    }
    if (raft_configuration_is_joint(configuration_of(raft))) {
        make_final(configuration_of(raft), &final);
        append(raft, &final);
    } else if (self == NULL || (self->flags & RAFT_VOTER) == 0) {
        retire(raft);
    } else if (raft->transfer.to == 0) {
        promote_one(raft);
    }
}
