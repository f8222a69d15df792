/* history: what clients asked for and what they were told, operation by operation, for the
 * linearizability checker (tests/sim/linear.h).
 *
 * An operation is noted when it begins and when it ends. It belongs to one key. Writes of several
 * keys are noted once per key, as operations that take effect independently: weaker than the truth,
 * and still sound.
 */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

#include "client/clerk.h"

enum history_type {
    HISTORY_GET,
    HISTORY_PUT,
    HISTORY_APPEND,
    HISTORY_DELETE,
    HISTORY_CAS /* put if a condition on the same key holds */
};

enum history_outcome {
    HISTORY_PENDING, /* has not ended */
    HISTORY_OK,
    HISTORY_NOT_FOUND, /* a get of a key that is not there */
    HISTORY_MISMATCH,  /* a cas whose condition did not hold: it took effect, as a look */
    HISTORY_REFUSED,   /* certainly not applied, now or later */
    HISTORY_UNKNOWN    /* a write that may take effect at any time from its start on, or never */
};

struct history_operation {
    size_t key; /* by number, as the caller numbers them */
    size_t client;
    enum history_type type;
    enum history_outcome outcome;
    struct kv_condition condition; /* CAS; its value is the history's own copy */
    struct slice argument;         /* PUT, APPEND, CAS: the history's own copy */
    struct slice value;            /* GET that is OK: what was read, the history's own copy */
    uint64_t version;              /* GET that is OK; 0: not known (a record of a scan) */
    uint32_t output;               /* APPEND: the length after it; DELETE: 1 or 0 keys removed */
    uint64_t start_us, end_us;     /* end_us counts unless PENDING or UNKNOWN */
    /* The history's own, whatever the caller gives: numbers of the calls of history_begin and
     * history_end. At equal times, what was called first came first. */
    uint64_t begin_order, end_order;
};

struct history;

struct history *history_create(void);
void history_destroy(struct history **history);

/* Notes the beginning: key, client, type, condition, argument and start_us count. The number is for
 * history_end. Copies everything. */
size_t history_begin(struct history *history, const struct history_operation *operation);
/* Notes the end as the clerk told it: maps its status to an outcome. A status that no operation may
 * end with fails the test. A write's first output counts. */
void history_end(struct history *history, size_t number, uint64_t now_us,
                 const struct clerk_end *end);
/* Likewise for a write of several operations: outputs[output] is this one's. */
void history_end_output(struct history *history, size_t number, uint64_t now_us,
                        const struct clerk_end *end, size_t output);
/* Notes an operation that is over, as it stands: outcome, value, version, output, times. */
size_t history_add(struct history *history, const struct history_operation *operation);

size_t history_count(const struct history *history);
const struct history_operation *history_at(const struct history *history, size_t number);

/* "client 3 append \"x 3 17 y\" = 42, 10.250 to 10.911 ms": one operation for people; long values
 * cut. */
void history_print(const struct history_operation *operation, struct buf *text);
/* A value for people: quoted, its middle left out if it is long. */
void history_print_value(struct slice value, struct buf *text);

#endif
