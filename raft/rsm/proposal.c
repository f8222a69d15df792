/* Proposals: gathered during a turn, appended together at its end, ended by what becomes of their
 * place in the log.
 *
 * A proposal that was appended at (index, term) is told one of three ends. ST_OK: the entry applied
 * at `index` has `term`, it is that very entry. ST_NOT_LEADER: an entry of another term was applied
 * at `index`, or one of a later term below it; what is committed stays, and terms never fall along
 * a log, so this entry will never be in a committed log. (The other term may also be an earlier
 * one: a later leader may commit what it had before this entry's leader was elected.) ST_UNKNOWN: a
 * snapshot jumped over `index`, or the group ended. Losing leadership ends nothing: another leader
 * may still commit the entry.
 */
#include "raft/rsm/group.h"
#include "raft/wire.h"

static int place_compare(const struct rsm_proposal *a, const struct rsm_proposal *b)
{
    if (a->index != b->index) {
        return a->index < b->index ? -1 : 1;
    }
    return a->term < b->term ? -1 : a->term > b->term;
}

RB_GENERATE_INTERNAL(rsm_proposal_tree, rsm_proposal, by_place, place_compare,
                     __attribute__((unused)) static)

void rsm_proposals_init(struct group *group)
{
    STAILQ_INIT(&group->proposals.large);
    STAILQ_INIT(&group->proposals.gathered);
    RB_INIT(&group->proposals.waiting);
}

static void count_end(struct group *group, enum status status)
{
    if (status == ST_OK) {
        group->stats.proposals_ok++;
    } else if (status == ST_UNKNOWN) {
        group->stats.proposals_unknown++;
    } else {
        group->stats.proposals_refused++;
        group->stats.refused[status < GROUP_STATUSES ? status : ST_INVALID]++;
    }
}

/* The one place where a proposal ends. */
static void proposal_end(struct group *group, struct rsm_proposal *proposal, enum status status,
                         struct slice result)
{
    group_proposal_done done = proposal->done;
    void *context = proposal->context;

    ASSERT(done != NULL && (status == ST_OK || result.len == 0));
    if (status == ST_OK) {
        histogram_add_span(&group->stats.proposal_us, proposal->begun_us, group->now_us);
    }
    if (proposal->is_running) {
        ASSERT(group->proposals.running_bytes >= proposal->len);
        group->proposals.running_bytes -= proposal->len;
    }
    blob_unref(&proposal->entry);
    mem_free(proposal);
    count_end(group, status);
    done(context, status, result);
}

static void end_list(struct group *group, struct rsm_proposal_list *list, enum status status)
{
    while (!STAILQ_EMPTY(list)) {
        struct rsm_proposal *proposal = STAILQ_FIRST(list);
        STAILQ_REMOVE_HEAD(list, next);
        proposal_end(group, proposal, status, slice_of(NULL, 0));
    }
}

/* ---- Gathering ---- */

uint32_t rsm_proposals_count(const struct group *group)
{
    const struct rsm_proposals *proposals = &group->proposals;

    return proposals->n_large + proposals->n_gathered + proposals->n_waiting;
}

/* Why a proposal can't be taken now; ST_OK: it can. */
static enum status refusal(const struct group *group)
{
    const struct rsm_proposals *proposals = &group->proposals;

    if (group->halted || group->stopping) {
        return ST_SHUTDOWN;
    }
    if (raft_role(group->raft) != RAFT_LEADER) {
        return ST_NOT_LEADER;
    }
    if (group_is_read_only(group)) {
        return ST_READ_ONLY;
    }
    if (rsm_proposals_count(group) >= group->options.max_proposals ||
        raft_log_bytes(group->raft) + proposals->large_bytes > group->options.max_log_bytes) {
        return ST_BUSY;
    }
    return ST_OK;
}

static void gather(struct group *group, struct rsm_proposal *proposal)
{
    struct rsm_proposals *proposals = &group->proposals;

    STAILQ_INSERT_TAIL(&proposals->gathered, proposal, next);
    proposals->n_gathered++;
    proposals->gathered_bytes += proposal->len;
    rsm_round_gathered(group);
}

void group_propose(struct group *group, struct slice command, uint64_t min_stamp, uint64_t trace_id,
                   group_proposal_done done, void *context)
{
    struct rsm_proposals *proposals = &group->proposals;
    struct rsm_entry_header header = {.stamp = 1, .trace_id = trace_id};
    struct rsm_proposal *proposal;
    enum status status = refusal(group);

    if (status == ST_OK && command.len > WIRE_MAX_ENTRY_BYTES - RSM_ENTRY_HEADER_BYTES) {
        status = ST_TOO_LARGE;
    }
    if (status != ST_OK) {
        count_end(group, status);
        done(context, status, slice_of(NULL, 0));
        return;
    }
    proposal = mem_zalloc(sizeof(*proposal));
    proposal->min_stamp = min_stamp;
    proposal->begun_us = group->now_us;
    proposal->done = done;
    proposal->context = context;
    proposal->entry = blob_create_uninitialized((uint32_t)command.len + RSM_ENTRY_HEADER_BYTES);
    rsm_entry_header_write(&header, proposal->entry->data); /* the stamp comes at the turn's end */
    if (command.len > 0) {
        memcpy(proposal->entry->data + RSM_ENTRY_HEADER_BYTES, command.data, command.len);
    }
    proposal->len = proposal->entry->len;
    if (proposal->len > group->options.large_bytes) {
        proposal->patience_ms = group->now_ms + RSM_LARGE_PATIENCE_MS;
        STAILQ_INSERT_TAIL(&proposals->large, proposal, next);
        proposals->n_large++;
        proposals->large_bytes += proposal->len;
    } else {
        gather(group, proposal);
    }
}

/* Whether the large one may go: the state has digested what came before it, and not much else of
 * its kind is on its way. */
static bool has_room_for(const struct group *group, const struct rsm_proposal *proposal)
{
    struct io_state *state = group->world.state;
    uint64_t running = group->proposals.running_bytes;

    if (raft_role(group->raft) != RAFT_LEADER || group->now_ms >= proposal->patience_ms) {
        return true;
    }
    return (running == 0 || running + proposal->len <= RSM_LARGE_RUNNING_BYTES) &&
           state->ops->dirty_bytes(state) < group->options.max_dirty_bytes / 2;
}

static struct rsm_proposal *take_first_large(struct group *group)
{
    struct rsm_proposals *proposals = &group->proposals;
    struct rsm_proposal *proposal = STAILQ_FIRST(&proposals->large);

    STAILQ_REMOVE_HEAD(&proposals->large, next);
    ASSERT(proposals->n_large > 0 && proposals->large_bytes >= proposal->len);
    proposals->n_large--;
    proposals->large_bytes -= proposal->len;
    return proposal;
}

static void refuse_large(struct group *group, enum status status)
{
    struct rsm_proposal_list list = STAILQ_HEAD_INITIALIZER(list);

    STAILQ_CONCAT(&list, &group->proposals.large);
    group->proposals.n_large = 0;
    group->proposals.large_bytes = 0;
    end_list(group, &list, status);
}

void rsm_proposals_admit_large(struct group *group)
{
    struct rsm_proposals *proposals = &group->proposals;

    if (group_is_read_only(group)) {
        refuse_large(group, ST_READ_ONLY);
    }
    while (!STAILQ_EMPTY(&proposals->large) &&
           has_room_for(group, STAILQ_FIRST(&proposals->large))) {
        struct rsm_proposal *proposal = take_first_large(group);

        proposal->is_running = true;
        proposals->running_bytes += proposal->len;
        gather(group, proposal);
    }
}

uint64_t rsm_proposals_deadline_ms(const struct group *group)
{
    const struct rsm_proposal *first = STAILQ_FIRST(&group->proposals.large);

    return first == NULL ? UINT64_MAX : first->patience_ms;
}

void group_hurry(struct group *group)
{
    group->proposals.hurry = group->proposals.n_gathered > 0;
}

/* ---- Appending at the turn's end ---- */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The lowest stamp that the next entry may have, but for its own min_stamp. */
static uint64_t stamp_base(struct group *group)
{
    uint64_t last = max_u64(group->proposals.last_stamp, group->apply.stamp);
    uint64_t base = max_u64(group->wall_us, last + 1);

    return max_u64(base, group->ops->stamp_floor(group->service));
}

/* Gives the proposal its stamp; false if its min_stamp is so far ahead that no client can have
 * heard of it honestly, which would carry cluster time away. */
static bool stamp_proposal(struct group *group, struct rsm_proposal *proposal, uint64_t base)
{
    uint64_t stamp = max_u64(base, group->proposals.last_stamp + 1);

    if (proposal->min_stamp > stamp && proposal->min_stamp - stamp > SESSION_MAX_AHEAD_US) {
        return false;
    }
    stamp = max_u64(stamp, proposal->min_stamp + 1);
    ASSERT(stamp > proposal->min_stamp && stamp > group->proposals.last_stamp);
    set_u64(proposal->entry->data + 4, stamp);
    group->proposals.last_stamp = stamp;
    return true;
}

/* Offers the first n of the list to the core. */
static struct rsm_answer offer(struct group *group, struct rsm_proposal_list *list, size_t n)
{
    struct raft_event event = {.type = RAFT_EVENT_PROPOSE};
    struct blob **commands = mem_alloc(n * sizeof(*commands));
    struct rsm_proposal *proposal = STAILQ_FIRST(list);
    struct rsm_answer answer;

    for (size_t i = 0; i < n; i++, proposal = STAILQ_NEXT(proposal, next)) {
        commands[i] = blob_ref(proposal->entry);
    }
    event.propose.commands = commands;
    event.propose.n = n;
    answer = rsm_step_raft(group, &event);
    ASSERT(answer.status != ST_OK || answer.first_index > group->apply.index);
    for (size_t i = 0; i < n && answer.status != ST_OK; i++) {
        blob_unref(&commands[i]);
    }
    mem_free(commands);
    return answer;
}

/* The first n of the list were appended from `answer` on: they wait for their end. */
static void move_to_waiting(struct group *group, struct rsm_proposal_list *list, size_t n,
                            const struct rsm_answer *answer)
{
    for (size_t i = 0; i < n; i++) {
        struct rsm_proposal *proposal = STAILQ_FIRST(list);
        struct rsm_proposal *other;

        STAILQ_REMOVE_HEAD(list, next);
        blob_unref(&proposal->entry);
        proposal->index = answer->first_index + i;
        proposal->term = answer->term;
        ASSERT(proposal->index > group->apply.index);
        other = RB_INSERT(rsm_proposal_tree, &group->proposals.waiting, proposal);
        ASSERT(other == NULL);
        group->proposals.n_waiting++;
    }
    group->proposals.appended_index = answer->first_index + n - 1;
    group->proposals.appended_term = answer->term;
    rsm_round_began(group);
}

/* Appends as much of the list as the core takes; what it does not take is refused. When the whole
 * is too much for the core's bound, a shorter beginning may not be. */
static void append_list(struct group *group, struct rsm_proposal_list *list, size_t n)
{
    struct rsm_answer answer = {.status = ST_OK};

    while (n > 0) {
        answer = offer(group, list, n);
        if (answer.status == ST_OK) {
            move_to_waiting(group, list, n, &answer);
            break;
        }
        n = answer.status == ST_BUSY ? n / 2 : 0;
    }
    end_list(group, list, answer.status == ST_OK ? ST_BUSY : answer.status);
}

bool rsm_proposals_are_running(const struct group *group)
{
    const struct rsm_proposals *proposals = &group->proposals;

    return proposals->appended_index > raft_commit_index(group->raft) &&
           proposals->appended_term == raft_current_term(group->raft);
}

bool rsm_proposals_hurry(const struct group *group)
{
    return group->proposals.hurry || group->proposals.gathered_bytes >= RSM_APPEND_FULL_BYTES;
}

void rsm_proposals_flush(struct group *group)
{
    struct rsm_proposals *proposals = &group->proposals;
    struct rsm_proposal_list list = STAILQ_HEAD_INITIALIZER(list);
    struct rsm_proposal_list refused = STAILQ_HEAD_INITIALIZER(refused);
    size_t n = 0, bytes = 0;
    uint64_t base;

    if (proposals->n_gathered == 0) {
        return;
    }
    proposals->hurry = false;
    base = stamp_base(group);
    /* A turn appends a bounded number of bytes (or one larger command): copying and checksumming
     * more at once would hold up the heartbeats. The rest goes with the next turns. */
    while (!STAILQ_EMPTY(&proposals->gathered) && bytes < RSM_APPEND_MAX_BYTES) {
        struct rsm_proposal *proposal = STAILQ_FIRST(&proposals->gathered);
        STAILQ_REMOVE_HEAD(&proposals->gathered, next);
        ASSERT(proposals->n_gathered > 0);
        proposals->n_gathered--;
        ASSERT(proposals->gathered_bytes >= proposal->entry->len);
        proposals->gathered_bytes -= proposal->entry->len;
        bytes += proposal->entry->len;
        if (stamp_proposal(group, proposal, base)) {
            STAILQ_INSERT_TAIL(&list, proposal, next);
            n++;
        } else {
            STAILQ_INSERT_TAIL(&refused, proposal, next);
        }
    }
    ASSERT(!group->stopping && !group->halted);
    append_list(group, &list, n);
    end_list(group, &refused, ST_INVALID);
}

/* ---- Ends ---- */

static void take_waiting(struct group *group, struct rsm_proposal *proposal,
                         struct rsm_proposal_list *list)
{
    RB_REMOVE(rsm_proposal_tree, &group->proposals.waiting, proposal);
    STAILQ_INSERT_TAIL(list, proposal, next);
    ASSERT(group->proposals.n_waiting > 0);
    group->proposals.n_waiting--;
}

/* Takes all that wait with a lower term: an entry of `term` was applied below or at their place. */
static void take_overtaken(struct group *group, raft_term term, struct rsm_proposal_list *list)
{
    struct rsm_proposal *proposal = RB_MIN(rsm_proposal_tree, &group->proposals.waiting);

    while (proposal != NULL) {
        struct rsm_proposal *next = RB_NEXT(rsm_proposal_tree, &group->proposals.waiting, proposal);
        if (proposal->term < term) {
            take_waiting(group, proposal, list);
        }
        proposal = next;
    }
}

void rsm_proposals_applied(struct group *group, raft_index index, raft_term term,
                           struct slice result)
{
    struct rsm_proposal_list lost = STAILQ_HEAD_INITIALIZER(lost);
    struct rsm_proposal_list applied = STAILQ_HEAD_INITIALIZER(applied);
    struct rsm_proposal *proposal;

    if (term > group->proposals.applied_term) {
        group->proposals.applied_term = term;
        take_overtaken(group, term, &lost);
    }
    while ((proposal = RB_MIN(rsm_proposal_tree, &group->proposals.waiting)) != NULL &&
           proposal->index <= index) {
        ASSERT(proposal->index == index);
        take_waiting(group, proposal, proposal->term == term ? &applied : &lost);
    }
    end_list(group, &lost, ST_NOT_LEADER);
    if (!STAILQ_EMPTY(&applied)) {
        proposal = STAILQ_FIRST(&applied);
        ASSERT(STAILQ_NEXT(proposal, next) == NULL);
        proposal_end(group, proposal, ST_OK, result);
    }
}

void rsm_proposals_jumped(struct group *group, raft_index index, raft_term term)
{
    struct rsm_proposal_list overtaken = STAILQ_HEAD_INITIALIZER(overtaken);
    struct rsm_proposal_list unknown = STAILQ_HEAD_INITIALIZER(unknown);
    struct rsm_proposal *proposal;

    while ((proposal = RB_MIN(rsm_proposal_tree, &group->proposals.waiting)) != NULL &&
           proposal->index <= index) {
        take_waiting(group, proposal, &unknown);
    }
    group->proposals.applied_term = max_u64(term, group->proposals.applied_term);
    take_overtaken(group, term, &overtaken);
    end_list(group, &unknown, ST_UNKNOWN);
    end_list(group, &overtaken, ST_NOT_LEADER);
}

void rsm_proposals_refuse_gathered(struct group *group, enum status status)
{
    struct rsm_proposal_list list = STAILQ_HEAD_INITIALIZER(list);

    STAILQ_CONCAT(&list, &group->proposals.gathered);
    group->proposals.n_gathered = 0;
    group->proposals.hurry = false;
    group->proposals.gathered_bytes = 0;
    end_list(group, &list, status);
    refuse_large(group, status);
}

void rsm_proposals_abandon_waiting(struct group *group)
{
    struct rsm_proposal_list list = STAILQ_HEAD_INITIALIZER(list);
    struct rsm_proposal *proposal;

    while ((proposal = RB_MIN(rsm_proposal_tree, &group->proposals.waiting)) != NULL) {
        take_waiting(group, proposal, &list);
    }
    end_list(group, &list, ST_UNKNOWN);
}

void rsm_proposals_check(struct group *group)
{
    const struct rsm_proposals *proposals = &group->proposals;
    struct rsm_proposal *proposal;
    uint32_t n = 0;

    STAILQ_FOREACH(proposal, &proposals->gathered, next)
    {
        ASSERT(proposal->index == 0 && proposal->entry != NULL);
        n++;
    }
    ASSERT(n == proposals->n_gathered && (n > 0) == (proposals->gathered_bytes > 0));
    /* What waits can still be decided: its place is not applied, its term not overtaken. */
    n = 0;
    RB_FOREACH (proposal, rsm_proposal_tree,
                (struct rsm_proposal_tree *)(uintptr_t)&proposals->waiting) {
        ASSERT(proposal->index > group->apply.index && proposal->entry == NULL);
        ASSERT(proposal->term >= proposals->applied_term);
        ASSERT(proposal->term <= raft_current_term(group->raft));
        n++;
    }
    ASSERT(n == proposals->n_waiting);
    n = 0;
    STAILQ_FOREACH(proposal, &proposals->large, next)
    {
        ASSERT(proposal->len > group->options.large_bytes && !proposal->is_running);
        n++;
    }
    ASSERT(n == proposals->n_large && (n > 0) == (proposals->large_bytes > 0));
    ASSERT(rsm_proposals_count(group) <= group->options.max_proposals);
}
