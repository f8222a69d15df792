/* The calls that an operation makes of groups, one at a time, until it has its end.
 *
 * Where an operation goes: to the group that the last answer pointed to; else to the one that
 * served the shard last; else to the owner in the configuration. A group that does not have the
 * shard says so (WRONG_GROUP) and points to the one that has it, as far as it knows; hints are
 * followed at once, but only a few in a row: while a shard is handed over, the two groups may point
 * at each other. Then a pause, and a look at the configuration. The sequence number stays the same
 * throughout. */
#include "client/clerk_private.h"

#include "raft/util/assert.h"

#define MAX_HOPS     2  /* hints followed in a row */
#define MAX_PAUSE_MS 50 /* a hand-over is short */
#define MAX_REISSUES 16 /* a server that goes on like this is broken */
/* After calling for so long without an end, the configuration is read anew: perhaps the shard is
 * elsewhere by now. */
#define SUSPECT_MS 1000

static void set_timer(struct operation *operation, uint64_t at)
{
    timers_set(&operation->clerk->timers, &operation->timer,
               at < operation->deadline_ms ? at : operation->deadline_ms);
}

/* The invariants of clerk_private.h, after each step that leaves the operation outstanding. */
static void check_operation(const struct operation *operation)
{
    bool calling = operation->state == OPERATION_CALLING;

    ASSERT(calling || operation->state == OPERATION_WAITING ||
           operation->state == OPERATION_REFUSED);
    ASSERT(calling == (operation->call != 0));
    ASSERT(!calling || (operation->gid != 0 && operation->hint_gid == 0));
    ASSERT(!calling || operation->type != OPERATION_WRITE || operation->session != NULL);
    ASSERT(operation->timer.place != 0 && operation->timer.at_ms <= operation->deadline_ms);
    ASSERT(operation->hops <= MAX_HOPS);
    ASSERT(operation->type == OPERATION_WRITE || !operation->maybe_applied);
}

/* The operation waits for a newer configuration, but no longer than the pause. */
static void wait_for_config(struct operation *operation, uint64_t now_ms)
{
    struct clerk *clerk = operation->clerk;
    uint32_t pause =
        operation->pause_ms == 0 ? clerk->options.caller.backoff_min_ms : 2 * operation->pause_ms;

    operation->state = OPERATION_WAITING;
    operation->awaits_config = true;
    operation->hops = 0;
    operation->hint_gid = 0;
    operation->pause_ms = pause < MAX_PAUSE_MS ? pause : MAX_PAUSE_MS;
    set_timer(operation, now_ms + 1 + operation->pause_ms -
                             rng_below(&clerk->rng, operation->pause_ms / 2 + 1));
    check_operation(operation);
    clerk_config_refresh(clerk, now_ms);
}

/* ---- Starting a call ---- */

/* But for the first operation's, by which the shard was found. */
static bool keys_lie_in_shard(const struct kv_write *write, uint32_t n_shards)
{
    for (uint8_t i = 0; i < write->n_conditions; i++) {
        if (shard_of_key(write->conditions[i].key, n_shards) != write->shard) {
            return false;
        }
    }
    for (uint8_t i = 1; i < write->n_operations; i++) {
        if (shard_of_key(write->operations[i].key, n_shards) != write->shard) {
            return false;
        }
    }
    return true;
}

/* The shard, now that their number is known. False: the keys of a write don't lie in one. */
static bool find_shard(struct operation *operation)
{
    uint32_t n_shards = operation->clerk->config.n_shards;

    if (operation->type == OPERATION_GET) {
        operation->shard = shard_of_key(operation->key, n_shards);
    } else if (operation->type == OPERATION_WRITE) {
        operation->shard = shard_of_key(operation->write->operations[0].key, n_shards);
        operation->write->shard = operation->shard;
        return keys_lie_in_shard(operation->write, n_shards);
    }
    ASSERT(operation->shard < n_shards);
    return true;
}

static const struct config_group *find_group(const struct operation *operation)
{
    const struct clerk *clerk = operation->clerk;
    uint32_t gid = operation->hint_gid;

    if (gid == 0) {
        gid = clerk->held_by[operation->shard];
    }
    if (gid == 0 || shard_config_find(&clerk->config, gid) == NULL) {
        gid = clerk->config.shards[operation->shard];
    }
    return shard_config_find(&clerk->config, gid);
}

static void make_request(struct operation *operation, struct proto_request *request)
{
    memset(request, 0, offsetof(struct proto_request, get));
    if (operation->type == OPERATION_GET) {
        request->op = PROTO_GET;
        request->get.shard = operation->shard;
        request->get.key = operation->key;
    } else if (operation->type == OPERATION_WRITE) {
        clerk_session_number(operation);
        request->op = PROTO_WRITE;
        kv_write_copy(&request->write, operation->write);
    } else {
        request->op = PROTO_SCAN;
        request->scan.shard = operation->shard;
        request->scan.prefix = operation->prefix;
        request->scan.after = operation->after;
        request->scan.limit = operation->limit;
    }
}

static void call_done(void *context, const struct caller_end *end);

static void start_call(struct operation *operation, const struct config_group *group,
                       uint64_t now_ms)
{
    struct clerk *clerk = operation->clerk;
    struct caller_target target;
    struct proto_request request;

    spec_copy(&target.replicas, &group->replicas);
    memcpy(target.prefer, clerk->options.prefer, strlen(clerk->options.prefer) + 1);
    target.only_prefer = false;
    make_request(operation, &request);
    operation->state = OPERATION_CALLING;
    operation->awaits_config = false;
    operation->suspect = false;
    operation->gid = group->gid;
    operation->hint_gid = 0;
    operation->call =
        caller_start(clerk->caller, &target, &request, operation->type != OPERATION_WRITE, now_ms,
                     operation->deadline_ms, call_done, operation);
    set_timer(operation, now_ms + SUSPECT_MS);
    check_operation(operation);
}

void clerk_call_dispatch(struct operation *operation, uint64_t now_ms)
{
    struct clerk *clerk = operation->clerk;
    const struct config_group *group;

    if (now_ms >= operation->deadline_ms) {
        operation->state = OPERATION_WAITING; /* its timer ends it */
        set_timer(operation, now_ms);
        return;
    }
    if (clerk->config.n_shards == 0) {
        wait_for_config(operation, now_ms);
        return;
    }
    if (operation->type == OPERATION_SCAN) {
        clerk_scan_start(operation, now_ms);
        return;
    }
    if (!find_shard(operation)) {
        operation->state = OPERATION_REFUSED;
        operation->refusal = ST_INVALID;
        clerk_operation_set_reason(operation, "the keys do not lie in one shard");
        set_timer(operation, now_ms);
        return;
    }
    group = find_group(operation);
    if (group == NULL) {
        clerk_operation_set_reason(operation, "no group owns shard %u", operation->shard);
        wait_for_config(operation, now_ms);
        return;
    }
    start_call(operation, group, now_ms);
}

/* ---- Ends of calls ---- */

/* The group does not have the shard. */
static void go_to_another_group(struct operation *operation, const struct proto_response *response,
                                uint64_t now_ms)
{
    struct clerk *clerk = operation->clerk;
    uint32_t hint = response->gid_hint;

    if (clerk->held_by[operation->shard] == operation->gid) {
        clerk->held_by[operation->shard] = 0;
    }
    if (hint != 0 && hint != operation->gid && operation->hops < MAX_HOPS &&
        shard_config_find(&clerk->config, hint) != NULL) {
        operation->hops++;
        operation->hint_gid = hint;
        if (response->config > clerk->config.num) {
            clerk_config_refresh(clerk, now_ms);
        }
        clerk_call_dispatch(operation, now_ms);
        return;
    }
    wait_for_config(operation, now_ms);
}

/* The record of this client was forgotten by the shard, or the time under which the write was
 * issued is far ahead of the group's (another group's clock was wrong); nothing was applied by the
 * try that was answered so. If no other try can have been, the write is issued anew under the
 * group's time. */
static void session_expired(struct operation *operation, const struct proto_response *response,
                            uint64_t now_ms)
{
    struct proto_session *session = &operation->write->session;

    if (operation->maybe_applied || ++operation->reissues > MAX_REISSUES) {
        clerk_operation_end(operation, ST_SESSION_EXPIRED, response);
        return;
    }
    session->issued_at = response->cluster_time != 0 && response->cluster_time != session->issued_at
                             ? response->cluster_time
                             : session->issued_at + 1;
    operation->hint_gid = operation->gid;
    clerk_call_dispatch(operation, now_ms);
}

static void note_holder(struct operation *operation)
{
    struct clerk *clerk = operation->clerk;
    uint32_t owner = clerk->config.shards[operation->shard];

    clerk->held_by[operation->shard] = operation->gid == owner ? 0 : operation->gid;
}

static void end_of_call(struct operation *operation, const struct caller_end *end)
{
    switch (end->status) {
    case ST_WRONG_GROUP:
        go_to_another_group(operation, end->response, end->now_ms);
        return;
    case ST_SESSION_EXPIRED:
        if (operation->type == OPERATION_WRITE) {
            session_expired(operation, end->response, end->now_ms);
            return;
        }
        break;
    case ST_OK:
    case ST_NOT_FOUND:
    case ST_MISMATCH:
        note_holder(operation);
        break;
    default:
        break;
    }
    if (operation->type == OPERATION_PAGE) {
        clerk_scan_page_done(operation, end->status, end->response, end->now_ms);
    } else {
        clerk_operation_end(operation, end->status, end->response);
    }
}

static void call_done(void *context, const struct caller_end *end)
{
    struct operation *operation = context;

    ASSERT(operation->state == OPERATION_CALLING);
    operation->call = 0;
    operation->maybe_applied = operation->maybe_applied || end->maybe_applied;
    if (end->status != ST_OK && end->status != ST_NOT_FOUND && end->status != ST_MISMATCH) {
        clerk_operation_set_reason(operation, "g%u: %s", operation->gid, end->reason);
    }
    if (operation->redirecting && end->status == ST_CANCELLED) {
        operation->redirecting = false;
        clerk_call_dispatch(operation, end->now_ms);
        return;
    }
    end_of_call(operation, end);
}

/* ---- Time and configurations ---- */

void clerk_call_timer(struct operation *operation, uint64_t now_ms)
{
    ASSERT(operation->state == OPERATION_WAITING || operation->state == OPERATION_CALLING);
    if (operation->state == OPERATION_CALLING) {
        /* At the deadline the caller ends the call by itself. */
        operation->suspect = true;
        set_timer(operation, now_ms + SUSPECT_MS);
        clerk_config_refresh(operation->clerk, now_ms);
        return;
    }
    clerk_call_dispatch(operation, now_ms);
}

/* Whether the configuration now says that the call goes to the wrong servers. */
static bool is_misdirected(const struct operation *operation)
{
    const struct clerk *clerk = operation->clerk;
    uint32_t owner = clerk->config.shards[operation->shard];
    const struct config_group *group = shard_config_find(&clerk->config, operation->gid);

    return operation->suspect &&
           ((owner != 0 && owner != operation->gid) ||
            (group != NULL && !caller_goes_to(clerk->caller, operation->call, &group->replicas)));
}

void clerk_call_config_changed(struct clerk *clerk, uint64_t now_ms)
{
    for (size_t slot = 0; slot < clerk->n_slots; slot++) {
        struct operation *operation = clerk->slots[slot];

        if (operation == NULL) {
            continue;
        }
        if (operation->state == OPERATION_WAITING && operation->awaits_config) {
            bool elsewhere = operation->gid == 0 || operation->type == OPERATION_SCAN ||
                             clerk->config.shards[operation->shard] != operation->gid;

            operation->awaits_config = false;
            if (elsewhere) {
                clerk_call_dispatch(operation, now_ms);
            }
        } else if (operation->state == OPERATION_CALLING && is_misdirected(operation)) {
            /* It may have served the shard before it handed it over. */
            if (clerk->held_by[operation->shard] == operation->gid) {
                clerk->held_by[operation->shard] = 0;
            }
            operation->redirecting = true;
            caller_cancel(clerk->caller, operation->call);
        }
    }
}
