/* What is written down. A line has the fields, with tabs between them:
 *   type key client outcome start_us end_us argument expected value version output
 * "-" stands for nothing. Tokens are appended under keys of their own; their final value is a line
 * of type "tokens". fail_check.c reads this. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/cluster/fail_load.h"

#define OPS_PER_KEY 150

static const char *const type_names[FAIL_TYPES] = {"get",    "put", "append",
                                                   "delete", "cas", "token"};
static const char *const outcome_names[FAIL_OUTCOMES] = {"ok",      "not-found", "mismatch",
                                                         "refused", "unknown",   "bad"};

uint64_t fail_stamp(struct fail_record *record)
{
    uint64_t last = atomic_load(&record->last_stamp), now = cli_now_ns() / 1000, stamp;

    do {
        stamp = now > last ? now : last + 1;
    } while (!atomic_compare_exchange_weak(&record->last_stamp, &last, stamp));
    return stamp;
}

void fail_record_begin(struct fail_record *record, uint32_t round, FILE *file)
{
    uint64_t now = fail_stamp(record);

    pthread_mutex_lock(&record->mutex);
    record->round = round;
    record->file = file;
    record->ops = 0;
    memset(record->outcomes, 0, sizeof(record->outcomes));
    for (uint32_t i = 0; i < record->n_slots; i++) {
        record->slots[i] = (struct fail_slot){.last_ok_us = now};
    }
    pthread_mutex_unlock(&record->mutex);
}

void fail_record_key(struct fail_record *record, uint32_t slot, char key[FAIL_MAX_KEY])
{
    struct fail_slot *state = &record->slots[slot];

    pthread_mutex_lock(&record->mutex);
    if (++state->n_ops > OPS_PER_KEY) {
        state->generation++;
        state->n_ops = 1;
    }
    snprintf(key, FAIL_MAX_KEY, "{s%u}r%u.%u", slot, record->round, state->generation);
    pthread_mutex_unlock(&record->mutex);
}

static char *copy_bytes(struct shardkv_bytes bytes)
{
    char *text = fail_allocate(bytes.len + 1, 1);

    if (bytes.len > 0) {
        memcpy(text, bytes.data, bytes.len);
    }
    return text;
}

/* What an operation may end with, by the library's contract (client/kv.h). */
static enum fail_outcome outcome_of(enum fail_type type, int code)
{
    switch (code) {
    case SHARDKV_OK:
        return FAIL_OK;
    case SHARDKV_NOT_FOUND:
        return type == FAIL_GET ? FAIL_NOT_FOUND : FAIL_BAD;
    case SHARDKV_MISMATCH:
        return type == FAIL_CAS ? FAIL_MISMATCH : FAIL_BAD;
    case SHARDKV_UNKNOWN:
        return type == FAIL_GET ? FAIL_BAD : FAIL_UNKNOWN;
    case SHARDKV_BUSY:
    case SHARDKV_TIMEOUT:
    case SHARDKV_UNAVAILABLE:
    case SHARDKV_SESSION_EXPIRED:
    case SHARDKV_READ_ONLY:
    case SHARDKV_NO_SPACE:
    case SHARDKV_NOT_READY:
    case SHARDKV_SHUTDOWN:
    case SHARDKV_NO_GROUP:
        return FAIL_REFUSED;
    default:
        return FAIL_BAD;
    }
}

void fail_op_end(struct fail_op *op, int code, const struct shardkv_result *result)
{
    op->code = code;
    op->outcome = outcome_of(op->type, code);
    if (op->outcome == FAIL_BAD) {
        fprintf(stderr, "fail_load: %s of %s ended with %s: %s\n", type_names[op->type], op->key,
                shardkv_err_name(code), result == NULL ? "" : result->message);
    }
    if (code != SHARDKV_OK || result == NULL) {
        return;
    }
    if (op->type == FAIL_GET) {
        op->value = copy_bytes(result->value);
        op->version = result->version;
    } else if (result->n_outputs > 0) {
        op->output = result->outputs[0];
    }
}

static const char *or_dash(const char *text)
{
    return text == NULL || text[0] == '\0' ? "-" : text;
}

/* Whether a client was served: negative answers are answers. */
static bool is_answer(enum fail_outcome outcome)
{
    return outcome == FAIL_OK || outcome == FAIL_NOT_FOUND || outcome == FAIL_MISMATCH;
}

void fail_record_add(struct fail_record *record, struct fail_op *op, bool counts)
{
    struct fail_slot *slot = &record->slots[op->slot];

    pthread_mutex_lock(&record->mutex);
    record->ops++;
    record->outcomes[op->outcome]++;
    if (counts && is_answer(op->outcome) && op->end_us > slot->last_ok_us) {
        if (op->end_us - slot->last_ok_us > slot->worst_gap_us) {
            slot->worst_gap_us = op->end_us - slot->last_ok_us;
        }
        slot->last_ok_us = op->end_us;
        slot->served = true;
    }
    if (record->file != NULL) {
        fprintf(record->file, "%s\t%s\t%u\t%s\t%llu\t%llu\t%s\t%s\t%s\t%llu\t%u\n",
                type_names[op->type], op->key, op->client, outcome_names[op->outcome],
                (unsigned long long)op->start_us, (unsigned long long)op->end_us, or_dash(op->arg),
                or_dash(op->expect), or_dash(op->value), (unsigned long long)op->version,
                op->output);
    }
    pthread_mutex_unlock(&record->mutex);
    free(op->expect);
    free(op->value);
    op->expect = op->value = NULL;
}

void fail_record_heal(struct fail_record *record)
{
    pthread_mutex_lock(&record->mutex);
    for (uint32_t i = 0; i < record->n_slots; i++) {
        record->slots[i].served = false;
    }
    pthread_mutex_unlock(&record->mutex);
}

uint32_t fail_record_unserved(struct fail_record *record)
{
    uint32_t n = 0;

    pthread_mutex_lock(&record->mutex);
    for (uint32_t i = 0; i < record->n_slots; i++) {
        n += !record->slots[i].served;
    }
    pthread_mutex_unlock(&record->mutex);
    return n;
}
