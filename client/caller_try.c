/* The tries of a call: where the next one goes, and what the end of one means.
 *
 * A try ends certainly (a definite answer, which ends the call; or a refusal from before anything
 * was appended), or its end is unknown (the connection broke after it was sent; the server says so;
 * nothing came in time). A try without an answer in time is overdue: another replica is asked, but
 * an answer may still come and then counts.
 *
 * At once, without a pause, go: a hint, a replica after one whose connection broke or that was
 * silent. At most as many in a row as the group has replicas, so that stale hints don't chase a
 * call in circles; then a pause follows, which doubles.
 */
#include "client/caller_private.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define ELECTION_MS 1000
#define BYTES_PER_EXTRA_MS                                                                         \
    8192 /* a large request gets more time before another replica is asked                         \
          */

/* The invariants of caller_private.h, after each step that leaves the call outstanding. */
static void check_call(const struct call *call)
{
    ASSERT(call->n_tries <= CALL_MAX_TRIES);
    ASSERT(call->current_id == 0 || call->n_tries > 0);
    ASSERT(call->current_id == 0 || call->tries[call->n_tries - 1].request_id == call->current_id);
    ASSERT(!call->is_read || !call->lost);
    ASSERT(call->timer.place != 0 && call->timer.at_ms <= call->deadline_ms);
    ASSERT(call->rotation < call->group->replicas.n);
    ASSERT(call->quick <= call->group->replicas.n);
}

/* ---- Starting a try ---- */

static void remove_try(struct call *call, size_t index)
{
    ASSERT(index < call->n_tries);
    if (call->tries[index].request_id == call->current_id) {
        call->current_id = 0;
    }
    call->n_tries--;
    memmove(&call->tries[index], &call->tries[index + 1],
            (call->n_tries - index) * sizeof(call->tries[0]));
}

/* The try was received by nobody knows whom: a write may be applied. */
static void lose_try(struct call *call, size_t index)
{
    remove_try(call, index);
    call->lost = call->lost || !call->is_read;
}

static bool withdraw_try(struct call *call, size_t index)
{
    const struct caller_transport *transport = &call->caller->options.transport;
    const struct try *try = &call->tries[index];

    if (transport->withdraw == NULL ||
        !transport->withdraw(transport->context, caller_group_url(call->group, try->replica),
                             try->request_id)) {
        return false;
    }
    remove_try(call, index);
    return true;
}

void caller_try_withdraw(struct call *call)
{
    for (size_t i = call->n_tries; i-- > 0;) {
        withdraw_try(call, i);
    }
}

bool caller_try_maybe_applied(const struct call *call)
{
    return !call->is_read && (call->lost || call->n_tries > 0);
}

static void set_timer(struct call *call, uint64_t at, uint64_t now_ms)
{
    at = at > now_ms ? at : now_ms + 1;
    timers_set(&call->caller->timers, &call->timer,
               at < call->deadline_ms ? at : call->deadline_ms);
}

static uint32_t remaining_ms(const struct call *call, uint64_t now_ms)
{
    uint64_t left = call->deadline_ms > now_ms ? call->deadline_ms - now_ms : 1;

    return left < UINT32_MAX ? (uint32_t)left : 0; /* 0: none */
}

void caller_try_start(struct call *call, uint64_t now_ms, size_t replica)
{
    struct caller *caller = call->caller;
    struct buf copy = {0};
    uint64_t id;

    ASSERT(call->current_id == 0);
    ASSERT(replica < caller_group_size(call->group));
    if (call->n_tries == CALL_MAX_TRIES) {
        lose_try(call, 0);
    }
    id = (++caller->serial << CALL_SLOT_BITS | (call->id & ((1u << CALL_SLOT_BITS) - 1))) ^
         caller->id_mask;
    call->tries[call->n_tries++] = (struct try){id, replica};
    call->current_id = id;
    call->replica = replica;
    proto_request_retry(&call->message, id, remaining_ms(call, now_ms));
    buf_put_slice(&copy, buf_slice(&call->message));
    set_timer(call,
              now_ms + caller->options.try_timeout_ms + call->message.len / BYTES_PER_EXTRA_MS,
              now_ms);
    caller->options.transport.send(caller->options.transport.context, call->gid,
                                   caller_group_url(call->group, replica), &copy);
    check_call(call);
}

/* Pauses before the next try: doubling, of which the upper half is random, so that clients that
 * were refused together don't come back together. */
static void pause_at_most(struct call *call, uint64_t now_ms, size_t replica, uint32_t most_ms)
{
    const struct caller_options *options = &call->caller->options;
    uint32_t pause = call->pause_ms == 0 ? options->backoff_min_ms : 2 * call->pause_ms;

    ASSERT(call->current_id == 0 && most_ms > 0);
    call->pause_ms = pause < most_ms ? pause : most_ms;
    call->quick = 0;
    call->next_replica = replica;
    call->retry_at_ms =
        now_ms + call->pause_ms - rng_below(&call->caller->rng, (uint64_t)call->pause_ms / 2 + 1);
    set_timer(call, call->retry_at_ms, now_ms);
    check_call(call);
}

static void try_after_pause(struct call *call, uint64_t now_ms, size_t replica)
{
    pause_at_most(call, now_ms, replica, call->caller->options.backoff_max_ms);
}

/* Nobody leads, or knows who does. An election takes some hundred milliseconds, a hand-over some
 * ten: who pauses for long then waits on after its end. So the pauses grow with the time that it
 * takes, to a quarter of it. One that takes longer than a second is no election. */
static void try_after_election_pause(struct call *call, uint64_t now_ms, size_t replica)
{
    const struct caller_options *options = &call->caller->options;
    uint64_t since, most_ms;

    if (call->leaderless_since_ms == 0) {
        call->leaderless_since_ms = now_ms;
    }
    since = now_ms - call->leaderless_since_ms;
    if (since >= ELECTION_MS) {
        try_after_pause(call, now_ms, replica);
        return;
    }
    most_ms = since / 4 > options->backoff_min_ms ? since / 4 : options->backoff_min_ms;
    most_ms = most_ms < options->election_pause_ms ? most_ms : options->election_pause_ms;
    pause_at_most(call, now_ms, replica, (uint32_t)most_ms);
}

static void try_at_once(struct call *call, uint64_t now_ms, size_t replica)
{
    if (call->quick >= call->group->replicas.n) {
        try_after_election_pause(call, now_ms, replica);
        return;
    }
    call->quick++;
    caller_try_start(call, now_ms, replica);
}

/* ---- Answers ---- */

enum meaning {
    DEFINITE,  /* the call's end */
    REFUSED,   /* certainly not appended: try again */
    UNCERTAIN, /* may have been applied: try again */
};

static enum meaning meaning_of(enum status status)
{
    switch (status) {
    case ST_NOT_LEADER:
    case ST_BUSY:
    case ST_NOT_READY:
    case ST_READ_ONLY:
    case ST_SHUTDOWN:
    case ST_TIMEOUT:
        return REFUSED;
    case ST_UNKNOWN:
    case ST_UNAVAILABLE:
    case ST_IO:
    case ST_CORRUPT:
    case ST_NO_SPACE:
    case ST_CANCELLED:
        return UNCERTAIN;
    default:
        return DEFINITE;
    }
}

/* Who is not the leader tells its URL as well as its id: it may be a replica that joined the group
 * after the call's replicas were learnt. */
static size_t named_replica(const struct call *call, const struct proto_response *response)
{
    char url[SPEC_MAX_URL + 1];

    if (response->status != ST_NOT_LEADER || response->leader_hint == 0 ||
        response->text.len == 0 || response->text.len > SPEC_MAX_URL || call->only_prefer) {
        return NO_REPLICA;
    }
    memcpy(url, response->text.data, response->text.len);
    url[response->text.len] = '\0';
    return spec_check_url(url) == NULL ? caller_group_guest(call->group, response->leader_hint, url)
                                       : NO_REPLICA;
}

/* The index of the replica that the answer points to, if that is another one of the same group. */
static size_t hinted_replica(const struct call *call, size_t replica,
                             const struct proto_response *response)
{
    size_t named = named_replica(call, response);

    if (named != NO_REPLICA) {
        return named != replica ? named : NO_REPLICA;
    }
    for (size_t i = 0; !call->group->ids_unknown && i < call->group->replicas.n; i++) {
        if (call->group->replicas.replicas[i].id == response->leader_hint && i != replica) {
            return i;
        }
    }
    return NO_REPLICA;
}

/* Where to go without a hint: to the leader if another call found it meanwhile, else on in the
 * rotation. */
static size_t next_replica(struct call *call, size_t replica, uint64_t now_ms)
{
    const struct caller_group *group = call->group;

    if (group->leader != NO_REPLICA && group->leader != replica && group->confirmed) {
        return group->leader;
    }
    call->rotation = caller_group_after(group, call->rotation, now_ms);
    return call->rotation;
}

/* The current try was refused: by whom decides where to go next. */
static void go_on_after_refusal(struct call *call, uint64_t now_ms, size_t replica,
                                const struct proto_response *response)
{
    struct caller_group *group = call->group;
    size_t hint = hinted_replica(call, replica, response);
    bool may_lead = response->status == ST_BUSY || response->status == ST_TIMEOUT ||
                    (response->status == ST_NOT_READY && group->leader == replica);

    if (hint != NO_REPLICA && (group->leader == NO_REPLICA || group->leader == replica)) {
        group->leader = hint;
        group->confirmed = false;
    } else if (!may_lead && group->leader == replica) {
        group->leader = NO_REPLICA;
    }
    if (hint != NO_REPLICA) {
        try_at_once(call, now_ms, hint);
    } else if (may_lead) {
        try_after_pause(call, now_ms, replica);
    } else if (response->status == ST_NOT_LEADER || response->status == ST_UNKNOWN ||
               response->status == ST_SHUTDOWN) {
        try_after_election_pause(call, now_ms, next_replica(call, replica, now_ms));
    } else {
        try_after_pause(call, now_ms, next_replica(call, replica, now_ms));
    }
}

/* Who answers well leads, and the hint in its answer is its own id. */
static void note_leader(struct call *call, size_t replica, const struct proto_response *response)
{
    struct caller_group *group = call->group;

    if (response->status != ST_OK && response->status != ST_NOT_FOUND &&
        response->status != ST_MISMATCH) {
        return;
    }
    group->leader = replica;
    group->confirmed = true;
    if (replica < group->replicas.n) {
        group->ids_unknown = response->leader_hint != 0 &&
                             response->leader_hint != group->replicas.replicas[replica].id;
    }
}

/* A leader without disk space is the cause, whatever the others say who are asked in its place. */
static void tell_refusal(struct call *call, const char *url, const struct proto_response *response)
{
    if (response->status == ST_READ_ONLY) {
        call->read_only = true;
        caller_set_reason(call, url, status_text(ST_READ_ONLY),
                          slice_text("free some on its disk, or add a replica with more; then it "
                                     "takes writes again by itself"));
    } else if (!call->read_only || response->status != ST_NOT_LEADER) {
        call->read_only = false;
        caller_set_reason(call, url, status_text(response->status), response->text);
    }
}

void caller_try_answer(struct call *call, uint64_t now_ms, size_t index,
                       const struct proto_response *response)
{
    size_t replica = call->tries[index].replica;
    const char *url = caller_group_url(call->group, replica);
    bool was_current = call->tries[index].request_id == call->current_id;
    enum meaning meaning = meaning_of(response->status);

    call->group->silent_until_ms[replica] = 0;
    if (meaning == UNCERTAIN) {
        lose_try(call, index);
    } else {
        remove_try(call, index);
    }
    if (response->status != ST_OK && response->status != ST_NOT_FOUND &&
        response->status != ST_MISMATCH) {
        tell_refusal(call, url, response);
    }
    if (meaning == DEFINITE || call->only_prefer) {
        note_leader(call, replica, response);
        caller_end_call(call, response->status, response, url);
        return;
    }
    if (was_current) {
        go_on_after_refusal(call, now_ms, replica, response);
    }
}

void caller_try_garbled(struct call *call, uint64_t now_ms, size_t index)
{
    size_t replica = call->tries[index].replica;
    bool was_current = call->tries[index].request_id == call->current_id;

    caller_set_reason(call, caller_group_url(call->group, replica), "a malformed answer",
                      slice_of(NULL, 0));
    lose_try(call, index);
    if (was_current) {
        try_after_pause(call, now_ms, next_replica(call, replica, now_ms));
    }
}

/* ---- Silence and broken connections ---- */

void caller_try_broken(struct call *call, uint64_t now_ms, size_t index, bool unsent)
{
    size_t replica = call->tries[index].replica;
    bool was_current = call->tries[index].request_id == call->current_id;

    caller_set_reason(call, caller_group_url(call->group, replica),
                      unsent ? "can't be reached" : "the connection broke", slice_of(NULL, 0));
    if (unsent) {
        remove_try(call, index);
    } else {
        lose_try(call, index);
    }
    if (!was_current) {
        return;
    }
    if (call->only_prefer && (unsent || !call->is_read || call->retried)) {
        caller_end_call(call, caller_try_maybe_applied(call) ? ST_UNKNOWN : ST_UNAVAILABLE, NULL,
                        NULL);
        return;
    }
    call->retried = true;
    try_at_once(call, now_ms, next_replica(call, replica, now_ms));
}

/* The end at the deadline. UNAVAILABLE if somebody refused, TIMEOUT if nobody answered. */
static void end_at_deadline(struct call *call)
{
    enum status status;

    caller_try_withdraw(call);
    status = call->current_id != 0 ? ST_TIMEOUT : ST_UNAVAILABLE;
    if (call->reason == NULL) {
        caller_set_reason(call, caller_group_url(call->group, call->replica), "no answer",
                          slice_of(NULL, 0));
    }
    caller_end_call(call, caller_try_maybe_applied(call) ? ST_UNKNOWN : status, NULL, NULL);
}

/* The current try is overdue: it stays in tries, since an answer may still come. */
static void give_up_waiting(struct call *call, uint64_t now_ms)
{
    const char *url = caller_group_url(call->group, call->replica);

    ASSERT(call->n_tries > 0 && call->tries[call->n_tries - 1].request_id == call->current_id);
    caller_set_reason(call, url, "no answer", slice_of(NULL, 0));
    if (call->group->silent_until_ms[call->replica] <= now_ms) {
        caller_group_set_silent(call->caller, url, now_ms + call->caller->options.try_timeout_ms);
    }
    if (!withdraw_try(call, call->n_tries - 1)) {
        call->current_id = 0;
    }
    try_at_once(call, now_ms, next_replica(call, call->replica, now_ms));
}

void caller_try_timer(struct call *call, uint64_t now_ms)
{
    if (now_ms >= call->deadline_ms) {
        end_at_deadline(call);
    } else if (call->current_id != 0) {
        give_up_waiting(call, now_ms);
    } else {
        ASSERT(call->retry_at_ms <= now_ms);
        caller_try_start(call, now_ms, call->next_replica);
    }
}
