/* The clerk's operations, from start to end, each exactly once. */
#include "client/clerk_private.h"

#include <stdarg.h>
#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define SLOT_BITS 24

void clerk_options_default(struct clerk_options *options)
{
    *options = (struct clerk_options){.max_outstanding = 512};
    caller_options_default(&options->caller);
}

struct clerk *clerk_create(const struct clerk_options *options)
{
    struct clerk *clerk = mem_zalloc(sizeof(*clerk));

    ASSERT(options->ctrlers.n >= 1);
    ASSERT(options->max_outstanding >= 1 && options->max_outstanding <= 512);
    clerk->options = *options;
    clerk->caller = caller_create(&options->caller);
    clerk->ctrler = ctrler_clerk_create(clerk->caller, &options->ctrlers, options->client_id);
    rng_init(&clerk->rng, options->caller.seed ^ 0x636c65726bu);
    TAILQ_INIT(&clerk->queue);
    clerk_session_init(clerk);
    return clerk;
}

void clerk_destroy(struct clerk **clerk)
{
    struct clerk *self = *clerk;

    self->closing = true;
    for (size_t slot = 0; slot < self->n_slots; slot++) {
        if (self->slots[slot] != NULL && self->slots[slot]->type != OPERATION_PAGE) {
            clerk_operation_end_cancelled(self->slots[slot]);
        }
    }
    ASSERT(self->n_operations == 0);
    ctrler_clerk_destroy(&self->ctrler);
    caller_destroy(&self->caller);
    clerk_session_fini(self);
    timers_fini(&self->timers);
    shard_config_fini(&self->config);
    mem_free(self->held_by);
    mem_free(self->slots);
    mem_free(self->free_slots);
    mem_free(self);
    *clerk = NULL;
}

/* ---- Operations ---- */

struct operation *clerk_operation_create(struct clerk *clerk, enum operation_type type,
                                         uint64_t deadline_ms, clerk_done done, void *context)
{
    struct operation *operation = mem_zalloc(sizeof(*operation));
    uint32_t slot;

    ASSERT(!clerk->closing);
    if (clerk->n_free > 0) {
        slot = clerk->free_slots[--clerk->n_free];
    } else {
        slot = (uint32_t)clerk->n_slots;
        MEM_GROW(clerk->slots, clerk->slots_capacity, clerk->n_slots + 1);
        clerk->n_slots++;
    }
    ASSERT(slot < 1u << SLOT_BITS);
    clerk->slots[slot] = operation;
    clerk->n_operations += type != OPERATION_PAGE;
    operation->clerk = clerk;
    operation->id = ++clerk->serial << SLOT_BITS | slot;
    operation->timer.order = operation->id;
    operation->timer.owner = operation;
    operation->type = type;
    operation->state = OPERATION_REFUSED;
    operation->deadline_ms = deadline_ms;
    operation->done = done;
    operation->context = context;
    return operation;
}

static void admit_queued(struct clerk *clerk, uint64_t now_ms);

static void leave_queue(struct operation *operation)
{
    if (operation->state == OPERATION_QUEUED) {
        TAILQ_REMOVE(&operation->clerk->queue, operation, in_queue);
        operation->state = OPERATION_WAITING;
    }
    if (operation->counts) {
        ASSERT(operation->clerk->n_writes > 0);
        operation->counts = false;
        operation->clerk->n_writes--;
    }
}

/* The clerk knows it no more: neither its id nor its timer nor its sequence number. */
static void forget_operation(struct operation *operation)
{
    struct clerk *clerk = operation->clerk;
    uint32_t slot = (uint32_t)(operation->id & ((1u << SLOT_BITS) - 1));

    ASSERT(clerk->slots[slot] == operation);
    ASSERT(operation->call == 0);
    clerk->slots[slot] = NULL;
    MEM_GROW(clerk->free_slots, clerk->free_capacity, clerk->n_free + 1);
    clerk->free_slots[clerk->n_free++] = slot;
    clerk->n_operations -= operation->type != OPERATION_PAGE;
    timers_cancel(&clerk->timers, &operation->timer);
    clerk_session_end(operation);
}

static void free_operation(struct operation *operation)
{
    ASSERT(operation->timer.place == 0);
    if (!operation->write_is_lent) {
        mem_free(operation->write);
    }
    mem_free(operation->bytes);
    mem_free(operation->reason);
    mem_free(operation);
}

void clerk_operation_release(struct operation *operation)
{
    forget_operation(operation);
    free_operation(operation);
}

void clerk_operation_finish(struct operation *operation, const struct clerk_end *end)
{
    struct clerk *clerk = operation->clerk;

    ASSERT(operation->type != OPERATION_PAGE && operation->scan == NULL);
    ASSERT(end->reason != NULL);
    leave_queue(operation);
    forget_operation(operation);
    operation->done(operation->context, end);
    free_operation(operation);
    admit_queued(clerk, clerk->now_ms);
}

void clerk_operation_set_reason(struct operation *operation, const char *format, ...)
{
    va_list args;

    if (operation->reason == NULL) {
        operation->reason = mem_alloc(CLERK_REASON_SIZE);
    }
    va_start(args, format);
    vsnprintf(operation->reason, CLERK_REASON_SIZE, format, args);
    va_end(args);
}

/* Without a try of its own that failed, the controller may be what the operation waited for. */
const char *clerk_operation_reason(const struct operation *operation, enum status status)
{
    if (status == ST_OK || status == ST_NOT_FOUND || status == ST_MISMATCH) {
        return status_text(status);
    }
    if (operation->reason != NULL) {
        return operation->reason;
    }
    if (operation->clerk->config.n_shards > 0) {
        return status_text(status);
    }
    return operation->clerk->ctrler_reason[0] != '\0' ? operation->clerk->ctrler_reason
                                                      : "no controller has answered yet";
}

/* What the end of a call means for the operation as a whole. An outcome that the session rule keeps
 * stands, even if an earlier try got lost: that one would have been answered the same. */
static enum status final_status(const struct operation *operation, enum status status)
{
    switch (status) {
    case ST_OK:
    case ST_NOT_FOUND:
    case ST_MISMATCH:
    case ST_TOO_LARGE:
        return status;
    default:
        break;
    }
    if (operation->type == OPERATION_WRITE) {
        return operation->maybe_applied ? ST_UNKNOWN : status;
    }
    return status == ST_UNKNOWN ? ST_TIMEOUT : status;
}

void clerk_operation_end(struct operation *operation, enum status status,
                         const struct proto_response *response)
{
    struct kv_write_result too_large = {.status = ST_TOO_LARGE};
    struct clerk_end end = {.status = final_status(operation, status)};

    end.reason = clerk_operation_reason(operation, end.status);
    if (operation->type == OPERATION_GET && end.status == ST_OK) {
        end.value = response->get.value;
        end.version = response->get.version;
    } else if (operation->type == OPERATION_WRITE && end.status == ST_TOO_LARGE) {
        end.result = &too_large;
    } else if (operation->type == OPERATION_WRITE && response != NULL && end.status == status &&
               (status == ST_OK || status == ST_NOT_FOUND || status == ST_MISMATCH)) {
        end.result = &response->write;
    }
    clerk_operation_finish(operation, &end);
}

void clerk_operation_end_cancelled(struct operation *operation)
{
    if (operation->type == OPERATION_SCAN) {
        clerk_scan_fini(operation);
    }
    if (operation->state == OPERATION_CALLING) {
        operation->redirecting = false;
        caller_cancel(operation->clerk->caller, operation->call);
        return; /* its end was the operation's */
    }
    clerk_operation_end(operation, ST_CANCELLED, NULL);
}

static struct operation *find_operation(struct clerk *clerk, uint64_t id)
{
    size_t slot = id & ((1u << SLOT_BITS) - 1);
    struct operation *operation = slot < clerk->n_slots ? clerk->slots[slot] : NULL;

    return operation != NULL && operation->id == id ? operation : NULL;
}

void clerk_cancel(struct clerk *clerk, uint64_t operation_id, uint64_t now_ms)
{
    struct operation *operation = find_operation(clerk, operation_id);

    clerk->now_ms = now_ms;
    if (operation != NULL && operation->type != OPERATION_PAGE) {
        clerk_operation_end_cancelled(operation);
    }
}

/* ---- Starting ---- */

/* Ends at the next tick: done never runs before the verb returns. */
static uint64_t refuse(struct operation *operation, uint64_t now_ms, enum status status,
                       const char *reason)
{
    operation->state = OPERATION_REFUSED;
    operation->refusal = status;
    clerk_operation_set_reason(operation, "%s", reason);
    timers_set(&operation->clerk->timers, &operation->timer, now_ms);
    return operation->id;
}

static bool key_is_valid(struct slice key)
{
    return key.len >= 1 && key.len <= KV_MAX_KEY;
}

uint64_t clerk_get(struct clerk *clerk, struct slice key, uint64_t now_ms, uint64_t deadline_ms,
                   clerk_done done, void *context)
{
    struct operation *operation =
        clerk_operation_create(clerk, OPERATION_GET, deadline_ms, done, context);

    clerk->now_ms = now_ms;
    if (!key_is_valid(key)) {
        return refuse(operation, now_ms, ST_INVALID, "a key has 1 to 4096 bytes");
    }
    operation->bytes = mem_copy(key.data, key.len);
    operation->key = slice_of(operation->bytes, key.len);
    clerk_call_dispatch(operation, now_ms);
    return operation->id;
}

/* NULL, or what is wrong with the write. */
static const char *check_write(const struct kv_write *write, enum status *status)
{
    size_t total = 0;

    *status = ST_INVALID;
    if (write->n_conditions > KV_MAX_CONDITIONS || write->n_operations < 1 ||
        write->n_operations > KV_MAX_OPERATIONS) {
        return "a write has at most 16 conditions and 1 to 16 operations";
    }
    for (uint8_t i = 0; i < write->n_conditions + write->n_operations; i++) {
        bool is_condition = i < write->n_conditions;
        uint8_t at = is_condition ? i : (uint8_t)(i - write->n_conditions);
        struct slice key = is_condition ? write->conditions[at].key : write->operations[at].key;
        struct slice value =
            is_condition ? write->conditions[at].value : write->operations[at].value;

        if (!key_is_valid(key)) {
            return "a key has 1 to 4096 bytes";
        }
        if (value.len > KV_MAX_VALUE) {
            *status = ST_TOO_LARGE;
            return "a value has at most 16 MiB";
        }
        total += key.len + value.len;
    }
    *status = ST_TOO_LARGE;
    return total > KV_MAX_WRITE ? "a write has at most 40 MiB" : NULL;
}

static size_t write_bytes(const struct kv_write *write)
{
    size_t total = 0;

    for (uint8_t i = 0; i < write->n_conditions; i++) {
        total += write->conditions[i].key.len + write->conditions[i].value.len;
    }
    for (uint8_t i = 0; i < write->n_operations; i++) {
        total += write->operations[i].key.len + write->operations[i].value.len;
    }
    return total;
}

static struct slice copy_slice(uint8_t **at, struct slice slice)
{
    struct slice copy = slice_of(*at, slice.len);

    if (slice.len > 0) {
        memcpy(*at, slice.data, slice.len);
    }
    *at += slice.len;
    return copy;
}

static void copy_write(struct operation *operation, const struct kv_write *write)
{
    uint8_t *at = operation->bytes = mem_alloc(write_bytes(write));
    struct kv_write *copy = operation->write = mem_copy(write, sizeof(*write));

    for (uint8_t i = 0; i < copy->n_conditions; i++) {
        copy->conditions[i].key = copy_slice(&at, write->conditions[i].key);
        copy->conditions[i].value = copy_slice(&at, write->conditions[i].value);
    }
    for (uint8_t i = 0; i < copy->n_operations; i++) {
        copy->operations[i].key = copy_slice(&at, write->operations[i].key);
        copy->operations[i].value = copy_slice(&at, write->operations[i].value);
    }
}

static void begin_write(struct operation *operation, uint64_t now_ms)
{
    ASSERT(operation->type == OPERATION_WRITE && !operation->counts);
    operation->counts = true;
    operation->clerk->n_writes++;
    operation->state = OPERATION_WAITING;
    clerk_call_dispatch(operation, now_ms);
}

static void admit_queued(struct clerk *clerk, uint64_t now_ms)
{
    while (!clerk->closing && clerk->n_writes < clerk->options.max_outstanding) {
        struct operation *next = TAILQ_FIRST(&clerk->queue);

        /* What is past its deadline is ended by its timer. */
        if (next == NULL || next->deadline_ms <= now_ms) {
            return;
        }
        TAILQ_REMOVE(&clerk->queue, next, in_queue);
        begin_write(next, now_ms);
    }
}

/* Of the write that the operation has, unless `wrong` says what is wrong with it. */
static uint64_t start_write(struct operation *operation, uint64_t now_ms, enum status status,
                            const char *wrong)
{
    struct clerk *clerk = operation->clerk;

    clerk->now_ms = now_ms;
    if (wrong != NULL) {
        return refuse(operation, now_ms, status, wrong);
    }
    operation->write->session = (struct proto_session){0};
    if (clerk->n_writes < clerk->options.max_outstanding) {
        begin_write(operation, now_ms);
        return operation->id;
    }
    operation->state = OPERATION_QUEUED;
    TAILQ_INSERT_TAIL(&clerk->queue, operation, in_queue);
    timers_set(&clerk->timers, &operation->timer, operation->deadline_ms);
    return operation->id;
}

uint64_t clerk_write(struct clerk *clerk, const struct kv_write *write, uint64_t now_ms,
                     uint64_t deadline_ms, clerk_done done, void *context)
{
    struct operation *operation =
        clerk_operation_create(clerk, OPERATION_WRITE, deadline_ms, done, context);
    enum status status;
    const char *wrong = check_write(write, &status);

    if (wrong == NULL) {
        copy_write(operation, write);
    }
    return start_write(operation, now_ms, status, wrong);
}

uint64_t clerk_write_lent(struct clerk *clerk, struct kv_write *write, uint64_t now_ms,
                          uint64_t deadline_ms, clerk_done done, void *context)
{
    struct operation *operation =
        clerk_operation_create(clerk, OPERATION_WRITE, deadline_ms, done, context);
    enum status status;
    const char *wrong = check_write(write, &status);

    operation->write = write;
    operation->write_is_lent = true;
    return start_write(operation, now_ms, status, wrong);
}

uint64_t clerk_scan(struct clerk *clerk, struct slice prefix, struct slice after, uint32_t limit,
                    uint64_t now_ms, uint64_t deadline_ms, clerk_done done, void *context)
{
    struct operation *operation =
        clerk_operation_create(clerk, OPERATION_SCAN, deadline_ms, done, context);
    uint8_t *at;

    clerk->now_ms = now_ms;
    if (prefix.len > KV_MAX_KEY || after.len > KV_MAX_KEY || limit == 0) {
        return refuse(operation, now_ms, ST_INVALID,
                      "a scan has a limit, and a prefix and start of at most 4096 bytes");
    }
    at = operation->bytes = mem_alloc(prefix.len + after.len);
    operation->prefix = copy_slice(&at, prefix);
    operation->after = copy_slice(&at, after);
    operation->limit = limit;
    clerk_call_dispatch(operation, now_ms);
    return operation->id;
}

/* ---- Events ---- */

void clerk_on_message(struct clerk *clerk, uint64_t now_ms, struct slice message)
{
    clerk->now_ms = now_ms;
    caller_on_message(clerk->caller, now_ms, message);
    clerk_config_heard(clerk, now_ms);
}

void clerk_on_down(struct clerk *clerk, uint64_t now_ms, const char *url)
{
    clerk->now_ms = now_ms;
    caller_on_down(clerk->caller, now_ms, url);
}

void clerk_on_unreachable(struct clerk *clerk, uint64_t now_ms, const char *url)
{
    clerk->now_ms = now_ms;
    caller_on_unreachable(clerk->caller, now_ms, url);
}

/* The moment of an operation's timer came. */
static void operation_timer(struct operation *operation, uint64_t now_ms)
{
    if (operation->state == OPERATION_REFUSED) {
        clerk_operation_end(operation, operation->refusal, NULL);
    } else if (operation->state == OPERATION_QUEUED) {
        clerk_operation_set_reason(operation, "too many writes are outstanding");
        clerk_operation_end(operation, ST_TIMEOUT, NULL);
    } else if (operation->state == OPERATION_WAITING && now_ms >= operation->deadline_ms) {
        if (operation->type == OPERATION_PAGE) {
            clerk_scan_page_done(operation, ST_UNAVAILABLE, NULL, now_ms);
        } else {
            clerk_operation_end(operation, ST_UNAVAILABLE, NULL);
        }
    } else {
        clerk_call_timer(operation, now_ms);
    }
}

void clerk_tick(struct clerk *clerk, uint64_t now_ms)
{
    clerk->now_ms = now_ms;
    caller_tick(clerk->caller, now_ms);
    /* Bounded: what ends may start operations whose deadline is past already. */
    for (size_t budget = clerk->timers.n; budget > 0; budget--) {
        struct timer *timer = timers_first_due(&clerk->timers, now_ms);

        if (timer == NULL) {
            break;
        }
        operation_timer(timer->owner, now_ms);
    }
    clerk_config_tick(clerk, now_ms);
}

uint64_t clerk_next_deadline_ms(const struct clerk *clerk)
{
    uint64_t next = caller_next_deadline_ms(clerk->caller);
    uint64_t own = timers_next_ms(&clerk->timers);
    uint64_t config = clerk_config_next_ms(clerk);

    next = own < next ? own : next;
    return config < next ? config : next;
}

const struct shard_config *clerk_config(const struct clerk *clerk)
{
    return clerk->config.n_shards > 0 ? &clerk->config : NULL;
}

struct caller *clerk_caller(struct clerk *clerk)
{
    return clerk->caller;
}

size_t clerk_outstanding(const struct clerk *clerk)
{
    return clerk->n_operations;
}
