/* What clients asked for and were told; see history.h. */
#include "tests/sim/history.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/check.h"

#define SHOWN_BYTES 48 /* of a value, from both ends together */

struct history {
    struct history_operation *operations;
    size_t n, capacity;
    uint64_t order;
};

struct history *history_create(void)
{
    return mem_zalloc(sizeof(struct history));
}

static void free_slice(struct slice slice)
{
    mem_free((void *)(uintptr_t)slice.data);
}

void history_destroy(struct history **history)
{
    for (size_t i = 0; i < (*history)->n; i++) {
        struct history_operation *operation = &(*history)->operations[i];
        free_slice(operation->condition.value);
        free_slice(operation->argument);
        free_slice(operation->value);
    }
    mem_free((*history)->operations);
    mem_free(*history);
    *history = NULL;
}

static struct slice copy_slice(struct slice slice)
{
    return slice.len == 0 ? slice_of(NULL, 0)
                          : slice_of(mem_copy(slice.data, slice.len), slice.len);
}

static struct history_operation *new_operation(struct history *history)
{
    struct history_operation *operation;

    MEM_GROW(history->operations, history->capacity, history->n + 1);
    operation = &history->operations[history->n++];
    *operation = (struct history_operation){0};
    operation->begin_order = ++history->order;
    return operation;
}

size_t history_begin(struct history *history, const struct history_operation *operation)
{
    struct history_operation *begun = new_operation(history);

    begun->key = operation->key;
    begun->client = operation->client;
    begun->type = operation->type;
    begun->outcome = HISTORY_PENDING;
    if (operation->type == HISTORY_CAS) {
        begun->condition.type = operation->condition.type;
        begun->condition.value = copy_slice(operation->condition.value);
    }
    begun->argument = copy_slice(operation->argument);
    begun->start_us = operation->start_us;
    return history->n - 1;
}

size_t history_add(struct history *history, const struct history_operation *operation)
{
    size_t number = history_begin(history, operation);
    struct history_operation *added = &history->operations[number];

    added->outcome = operation->outcome;
    added->value = copy_slice(operation->value);
    added->version = operation->version;
    added->output = operation->output;
    added->end_us = operation->end_us;
    added->end_order = ++history->order;
    return number;
}

/* The clerk's contract (client/clerk.h): an answer, ST_UNKNOWN of a write, or certainly not
 * applied. What only servers say to clerks, or what a healthy cluster never says, is none of them.
 */
static enum history_outcome outcome_of(const struct history_operation *operation,
                                       enum status status)
{
    switch (status) {
    case ST_OK:
        return HISTORY_OK;
    case ST_NOT_FOUND:
        if (operation->type == HISTORY_GET) {
            return HISTORY_NOT_FOUND;
        }
        break;
    case ST_MISMATCH:
        if (operation->type == HISTORY_CAS) {
            return HISTORY_MISMATCH;
        }
        break;
    case ST_UNKNOWN:
        if (operation->type != HISTORY_GET) {
            return HISTORY_UNKNOWN;
        }
        break;
    case ST_TOO_LARGE:
        if (operation->type != HISTORY_GET) {
            return HISTORY_REFUSED;
        }
        break;
    case ST_INVALID:
    case ST_BUSY:
    case ST_TIMEOUT:
    case ST_SESSION_EXPIRED:
    case ST_UNAVAILABLE:
    case ST_SHUTDOWN:
    case ST_NO_GROUP:
    case ST_READ_ONLY:
    case ST_NOT_READY:
    case ST_CANCELLED:
        return HISTORY_REFUSED;
    default:
        break;
    }
    check_fail("outcomes", "client %zu, key %zu: an operation of type %d ended with %s",
               operation->client, operation->key, (int)operation->type, status_name(status));
}

static void take_output(struct history_operation *operation, const struct clerk_end *end,
                        size_t output)
{
    if (operation->type != HISTORY_APPEND && operation->type != HISTORY_DELETE) {
        return;
    }
    if (end->result == NULL || output >= end->result->n_outputs) {
        check_fail("outcomes", "client %zu, key %zu: a write is OK and has no output %zu",
                   operation->client, operation->key, output);
    }
    operation->output = end->result->outputs[output];
}

void history_end_output(struct history *history, size_t number, uint64_t now_us,
                        const struct clerk_end *end, size_t output)
{
    struct history_operation *operation = &history->operations[number];

    ASSERT(number < history->n);
    if (operation->outcome != HISTORY_PENDING) {
        check_fail("outcomes", "client %zu, key %zu: an operation ended twice", operation->client,
                   operation->key);
    }
    ASSERT(now_us >= operation->start_us);
    operation->outcome = outcome_of(operation, end->status);
    operation->end_us = now_us;
    operation->end_order = ++history->order;
    if (operation->outcome != HISTORY_OK) {
        return;
    }
    if (operation->type == HISTORY_GET) {
        operation->value = copy_slice(end->value);
        operation->version = end->version;
    } else {
        take_output(operation, end, output);
    }
}

void history_end(struct history *history, size_t number, uint64_t now_us,
                 const struct clerk_end *end)
{
    history_end_output(history, number, now_us, end, 0);
}

size_t history_count(const struct history *history)
{
    return history->n;
}

const struct history_operation *history_at(const struct history *history, size_t number)
{
    ASSERT(number < history->n);
    return &history->operations[number];
}

/* ---- For people ---- */

static void print_bytes(struct slice value, struct buf *text)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t byte = value.data[i];
        if (byte >= 32 && byte < 127 && byte != '"' && byte != '\\') {
            buf_put_u8(text, byte);
        } else {
            buf_printf(text, "\\x%02x", byte);
        }
    }
}

void history_print_value(struct slice value, struct buf *text)
{
    size_t half = SHOWN_BYTES / 2;

    buf_printf(text, "\"");
    if (value.len <= SHOWN_BYTES) {
        print_bytes(value, text);
        buf_printf(text, "\"");
        return;
    }
    print_bytes(slice_of(value.data, half), text);
    buf_printf(text, "\" … \"");
    print_bytes(slice_of(value.data + value.len - half, half), text);
    buf_printf(text, "\" (%zu bytes)", value.len);
}

static void print_question(const struct history_operation *operation, struct buf *text)
{
    static const char *const names[] = {"get", "put", "append", "delete", "cas"};

    buf_printf(text, "client %zu %s", operation->client, names[operation->type]);
    if (operation->type == HISTORY_CAS && operation->condition.type == KV_IF_ABSENT) {
        buf_printf(text, " if absent");
    } else if (operation->type == HISTORY_CAS) {
        buf_printf(text, " if ");
        history_print_value(operation->condition.value, text);
    }
    if (operation->type != HISTORY_GET && operation->type != HISTORY_DELETE) {
        buf_printf(text, " ");
        history_print_value(operation->argument, text);
    }
}

static void print_answer(const struct history_operation *operation, struct buf *text)
{
    static const char *const names[] = {"pending",  "ok",      "not found",
                                        "mismatch", "refused", "unknown"};

    buf_printf(text, " = ");
    if (operation->outcome == HISTORY_OK && operation->type == HISTORY_GET) {
        history_print_value(operation->value, text);
        buf_printf(text, " version %llu", (unsigned long long)operation->version);
    } else if (operation->outcome == HISTORY_OK &&
               (operation->type == HISTORY_APPEND || operation->type == HISTORY_DELETE)) {
        buf_printf(text, "%u", operation->output);
    } else {
        buf_printf(text, "%s", names[operation->outcome]);
    }
}

static void print_time(uint64_t us, struct buf *text)
{
    buf_printf(text, "%llu.%03u", (unsigned long long)(us / 1000), (unsigned)(us % 1000));
}

void history_print(const struct history_operation *operation, struct buf *text)
{
    print_question(operation, text);
    print_answer(operation, text);
    buf_printf(text, ", ");
    print_time(operation->start_us, text);
    buf_printf(text, " to ");
    if (operation->outcome == HISTORY_PENDING || operation->outcome == HISTORY_UNKNOWN) {
        buf_printf(text, "? ms");
    } else {
        print_time(operation->end_us, text);
        buf_printf(text, " ms");
    }
}
