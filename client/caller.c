/* The calls of a caller: from start to end, each exactly once. */
#include "client/caller_private.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void caller_options_default(struct caller_options *options)
{
    *options = (struct caller_options){.try_timeout_ms = 1000,
                                       .backoff_min_ms = 5,
                                       .backoff_max_ms = 200,
                                       .election_pause_ms = 40};
}

struct caller *caller_create(const struct caller_options *options)
{
    struct caller *caller = mem_zalloc(sizeof(*caller));

    ASSERT(options->transport.send != NULL);
    ASSERT(options->try_timeout_ms > 0 && options->backoff_min_ms > 0);
    ASSERT(options->backoff_max_ms >= options->backoff_min_ms);
    ASSERT(options->election_pause_ms >= options->backoff_min_ms);
    caller->options = *options;
    rng_init(&caller->rng, options->seed);
    caller->id_mask = rng_next(&caller->rng);
    return caller;
}

void caller_destroy(struct caller **caller)
{
    struct caller *self = *caller;

    self->closing = true;
    for (size_t slot = 0; slot < self->n_slots; slot++) {
        if (self->slots[slot] != NULL) {
            caller_end_call(self->slots[slot], ST_CANCELLED, NULL, NULL);
        }
    }
    ASSERT(self->n_calls == 0);
    timers_fini(&self->timers);
    caller_group_fini(self);
    mem_free(self->slots);
    mem_free(self->free_slots);
    mem_free(self);
    *caller = NULL;
}

/* ---- Start and end ---- */

static uint32_t take_slot(struct caller *caller, struct call *call)
{
    uint32_t slot;

    if (caller->n_free > 0) {
        slot = caller->free_slots[--caller->n_free];
    } else {
        slot = (uint32_t)caller->n_slots;
        MEM_GROW(caller->slots, caller->slots_capacity, caller->n_slots + 1);
        caller->n_slots++;
    }
    ASSERT(slot < 1u << CALL_SLOT_BITS);
    caller->slots[slot] = call;
    caller->n_calls++;
    return slot;
}

static void release_call(struct call *call)
{
    struct caller *caller = call->caller;
    uint32_t slot = (uint32_t)(call->id & ((1u << CALL_SLOT_BITS) - 1));

    ASSERT(caller->slots[slot] == call && caller->n_calls > 0);
    caller->slots[slot] = NULL;
    caller->n_calls--;
    MEM_GROW(caller->free_slots, caller->free_capacity, caller->n_free + 1);
    caller->free_slots[caller->n_free++] = slot;
    timers_cancel(&caller->timers, &call->timer);
    ASSERT(call->group->n_calls > 0);
    call->group->n_calls--;
    buf_fini(&call->message);
    mem_free(call->reason);
    mem_free(call);
}

void caller_end_call(struct call *call, enum status status, const struct proto_response *response,
                     const char *url)
{
    caller_done done = call->done;
    void *context = call->context;
    char *reason = call->reason;
    bool is_answer = status == ST_OK || status == ST_NOT_FOUND || status == ST_MISMATCH;
    char answered_by[SPEC_MAX_URL + 1] = "";
    struct caller_end end = {.status = status,
                             .response = response,
                             .now_ms = call->caller->now_ms,
                             .reason = reason != NULL && !is_answer ? reason : status_text(status)};

    caller_try_withdraw(call);
    end.maybe_applied = caller_try_maybe_applied(call);
    if (url != NULL) {
        memcpy(answered_by, url, strlen(url) + 1);
        end.url = answered_by;
    }
    /* Released first: done may start calls, cancel others, and look at what is outstanding. */
    call->reason = NULL;
    release_call(call);
    done(context, &end);
    mem_free(reason);
}

void caller_set_reason(struct call *call, const char *url, const char *what, struct slice text)
{
    if (call->reason == NULL) {
        call->reason = mem_alloc(CALL_REASON_SIZE);
    }
    snprintf(call->reason, CALL_REASON_SIZE, "%s: %s%s%.*s", url, what, text.len > 0 ? ": " : "",
             (int)(text.len < 128 ? text.len : 128), text.len > 0 ? (const char *)text.data : "");
}

static size_t index_of_url(const struct spec *replicas, const char *url)
{
    for (size_t i = 0; url[0] != '\0' && i < replicas->n; i++) {
        if (strcmp(replicas->replicas[i].url, url) == 0) {
            return i;
        }
    }
    return NO_REPLICA;
}

/* The group that the call goes to: with only_prefer one of a single replica. */
static struct caller_group *group_of_target(struct caller *caller,
                                            const struct caller_target *target)
{
    struct spec alone;

    if (!target->only_prefer) {
        return caller_group_get(caller, &target->replicas);
    }
    ASSERT(target->prefer[0] != '\0');
    alone.n = 1;
    alone.replicas[0].id = 1;
    memcpy(alone.replicas[0].url, target->prefer, sizeof(alone.replicas[0].url));
    return caller_group_get(caller, &alone);
}

static size_t first_replica(const struct call *call, uint64_t now_ms)
{
    if (call->prefer != NO_REPLICA && call->group->silent_until_ms[call->prefer] <= now_ms) {
        return call->prefer;
    }
    return caller_group_first(call->group, now_ms);
}

uint64_t caller_start(struct caller *caller, const struct caller_target *target,
                      const struct proto_request *request, bool is_read, uint64_t now_ms,
                      uint64_t deadline_ms, caller_done done, void *context)
{
    struct call *call = mem_zalloc(sizeof(*call));
    size_t first;

    ASSERT(!caller->closing);
    ASSERT(done != NULL);
    caller->now_ms = now_ms;
    call->caller = caller;
    call->gid = target->gid;
    call->group = group_of_target(caller, target);
    call->group->n_calls++;
    call->group->last_use = ++caller->serial;
    call->prefer = index_of_url(&call->group->replicas, target->prefer);
    call->only_prefer = target->only_prefer;
    call->is_read = is_read;
    call->op = request->op;
    call->deadline_ms = deadline_ms;
    call->done = done;
    call->context = context;
    call->id = caller->serial << CALL_SLOT_BITS | take_slot(caller, call);
    call->timer.order = call->id;
    call->timer.owner = call;
    proto_request_encode(request, &call->message);
    first = first_replica(call, now_ms);
    call->rotation = first < call->group->replicas.n ? first : call->group->cursor;
    caller_try_start(call, now_ms, first);
    return call->id;
}

void caller_cancel(struct caller *caller, uint64_t call_id)
{
    size_t slot = call_id & ((1u << CALL_SLOT_BITS) - 1);

    if (slot < caller->n_slots && caller->slots[slot] != NULL &&
        caller->slots[slot]->id == call_id) {
        caller_end_call(caller->slots[slot], ST_CANCELLED, NULL, NULL);
    }
}

/* ---- Events ---- */

/* The call and try with that request id; NULL if nobody waits for it (any more). */
static struct call *find_try(struct caller *caller, uint64_t request_id, size_t *index)
{
    size_t slot = (request_id ^ caller->id_mask) & ((1u << CALL_SLOT_BITS) - 1);
    struct call *call = slot < caller->n_slots ? caller->slots[slot] : NULL;

    for (size_t i = 0; call != NULL && i < call->n_tries; i++) {
        if (call->tries[i].request_id == request_id) {
            *index = i;
            return call;
        }
    }
    return NULL;
}

bool caller_on_message(struct caller *caller, uint64_t now_ms, struct slice message)
{
    struct proto_response response;
    uint64_t request_id;
    enum proto_op op;
    size_t index = 0;
    struct call *call;

    caller->now_ms = now_ms;
    if (!proto_response_peek(message, &request_id, &op)) {
        return false;
    }
    call = find_try(caller, request_id, &index);
    if (call == NULL || op != call->op) {
        return false;
    }
    if (!proto_response_decode(message, &response)) {
        caller_try_garbled(call, now_ms, index);
        return true;
    }
    if (response.config > caller->config_heard) {
        caller->config_heard = response.config;
    }
    if (response.cluster_time > caller->cluster_time) {
        caller->cluster_time = response.cluster_time;
    }
    caller_try_answer(call, now_ms, index, &response);
    proto_response_fini(&response);
    return true;
}

/* Each call that had tries at that server goes on elsewhere. Tries sent meanwhile, by calls that go
 * on or by those that done starts, are on the next connection: they have higher ids. The URL is
 * copied: it may lie in a table of the transport's that grows when calls go on. */
static void server_lost(struct caller *caller, uint64_t now_ms, const char *lost_url, bool unsent)
{
    uint64_t limit = caller->serial;
    char url[SPEC_MAX_URL + 1];

    ASSERT(strlen(lost_url) <= SPEC_MAX_URL);
    memcpy(url, lost_url, strlen(lost_url) + 1);
    caller->now_ms = now_ms;
    caller_group_set_silent(caller, url, now_ms + caller->options.try_timeout_ms);
    for (size_t slot = 0; slot < caller->n_slots; slot++) {
        for (size_t i = CALL_MAX_TRIES; i-- > 0;) {
            struct call *call = caller->slots[slot]; /* may have ended meanwhile */
            uint64_t serial;

            if (call == NULL || i >= call->n_tries) {
                continue;
            }
            serial = (call->tries[i].request_id ^ caller->id_mask) >> CALL_SLOT_BITS;
            if (serial <= limit &&
                strcmp(caller_group_url(call->group, call->tries[i].replica), url) == 0) {
                caller_try_broken(call, now_ms, i, unsent);
            }
        }
    }
}

void caller_on_down(struct caller *caller, uint64_t now_ms, const char *url)
{
    server_lost(caller, now_ms, url, false);
}

void caller_on_unreachable(struct caller *caller, uint64_t now_ms, const char *url)
{
    server_lost(caller, now_ms, url, true);
}

void caller_tick(struct caller *caller, uint64_t now_ms)
{
    caller->now_ms = now_ms;
    /* Bounded: what done starts with a deadline that is past already waits for the next tick. */
    for (size_t budget = caller->timers.n; budget > 0; budget--) {
        struct timer *timer = timers_first_due(&caller->timers, now_ms);

        if (timer == NULL) {
            return;
        }
        caller_try_timer(timer->owner, now_ms);
    }
}

uint64_t caller_next_deadline_ms(const struct caller *caller)
{
    return timers_next_ms(&caller->timers);
}

size_t caller_outstanding(const struct caller *caller)
{
    return caller->n_calls;
}

uint64_t caller_config_heard(const struct caller *caller)
{
    return caller->config_heard;
}

bool caller_goes_to(const struct caller *caller, uint64_t call_id, const struct spec *replicas)
{
    size_t slot = call_id & ((1u << CALL_SLOT_BITS) - 1);
    const struct call *call = slot < caller->n_slots ? caller->slots[slot] : NULL;

    return call != NULL && call->id == call_id && spec_equal(&call->group->replicas, replicas);
}

uint64_t caller_cluster_time(const struct caller *caller)
{
    return caller->cluster_time;
}
