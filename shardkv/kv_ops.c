/* kv_ops: see kv_ops.h. A write is planned in full before its first effect: all-or-nothing needs no
 * undoing. */
#include "shardkv/kv_ops.h"

#include "raft/util/assert.h"

void kv_record_put_header(struct buf *out, uint64_t version)
{
    buf_put_u8(out, KV_RECORD_FORMAT);
    buf_put_u8(out, KV_RECORD_TYPE_BYTES);
    buf_put_u16(out, 0);
    buf_put_u64(out, 0);
    buf_put_u64(out, version);
}

enum status kv_record_decode(struct slice bytes, struct kv_record *record)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);
    uint8_t type = reader_u8(&reader);
    uint16_t flags = reader_u16(&reader);
    uint64_t expire_at = reader_u64(&reader);

    record->version = reader_u64(&reader);
    record->value = reader_take(&reader, reader_left(&reader));
    if (!reader_ok(&reader)) {
        return ST_CORRUPT;
    }
    if (format != KV_RECORD_FORMAT || type != KV_RECORD_TYPE_BYTES || flags != 0 ||
        expire_at != 0) {
        return ST_VERSION;
    }
    return record->value.len <= KV_MAX_VALUE ? ST_OK : ST_CORRUPT;
}

static struct io_key data_key(uint64_t range, struct slice key)
{
    return (struct io_key){range, KV_KIND_DATA, key};
}

enum status kv_ops_read(struct io_state *state, uint64_t range, struct slice key,
                        struct buf *memory, struct kv_record *record)
{
    enum status status;

    ASSERT(range != 0);
    buf_clear(memory);
    status = state->ops->get(state, data_key(range, key), memory);
    return status == ST_OK ? kv_record_decode(buf_slice(memory), record) : status;
}

static bool key_fits(struct slice key, shard_id shard, uint32_t n_shards)
{
    return key.len >= 1 && key.len <= KV_MAX_KEY && shard_of_key(key, n_shards) == shard;
}

bool kv_ops_keys_fit(const struct kv_write *write, uint32_t n_shards)
{
    for (size_t i = 0; i < write->n_conditions; i++) {
        if (!key_fits(write->conditions[i].key, write->shard, n_shards)) {
            return false;
        }
    }
    for (size_t i = 0; i < write->n_operations; i++) {
        if (!key_fits(write->operations[i].key, write->shard, n_shards)) {
            return false;
        }
    }
    return write->shard < n_shards;
}

/* ---- Conditions ---- */

static enum status check_condition(struct io_state *state, uint64_t range,
                                   const struct kv_condition *condition)
{
    struct buf memory = {0};
    struct kv_record record;
    enum status status = kv_ops_read(state, range, condition->key, &memory, &record);

    if (status == ST_OK) {
        status = condition->type == KV_IF_VALUE && slice_equal(record.value, condition->value)
                     ? ST_OK
                     : ST_MISMATCH;
    } else if (status == ST_NOT_FOUND) {
        status = condition->type == KV_IF_ABSENT ? ST_OK : ST_MISMATCH;
    }
    buf_fini(&memory);
    return status;
}

/* ---- Operations ---- */

/* What one operation will leave under its key. */
struct planned {
    bool exists;       /* false: no such key afterwards */
    struct buf record; /* header and value, if it exists */
};

struct plan {
    struct io_state *state;
    uint64_t range;
    uint64_t version;
    const struct kv_write *write;
    const struct kv_ops_watch *watch;
    struct planned planned[KV_MAX_OPERATIONS];
};

/* The last operation before `end` on the same key, or -1. */
static int earlier_operation(const struct plan *plan, struct slice key, size_t end)
{
    for (size_t i = end; i-- > 0;) {
        if (slice_equal(plan->write->operations[i].key, key)) {
            return (int)i;
        }
    }
    return -1;
}

/* The value that operation i finds: an earlier one's, or the state's. ST_OK or ST_NOT_FOUND. */
static enum status found_value(const struct plan *plan, size_t i, struct buf *memory,
                               struct slice *value)
{
    struct slice key = plan->write->operations[i].key;
    int earlier = earlier_operation(plan, key, i);
    struct kv_record record;
    enum status status;

    if (earlier >= 0) {
        const struct planned *planned = &plan->planned[earlier];

        *value = slice_of(NULL, 0);
        if (planned->exists) {
            *value = slice_of(planned->record.data + KV_RECORD_HEADER_BYTES,
                              planned->record.len - KV_RECORD_HEADER_BYTES);
        }
        return planned->exists ? ST_OK : ST_NOT_FOUND;
    }
    status = kv_ops_read(plan->state, plan->range, key, memory, &record);
    *value = status == ST_OK ? record.value : slice_of(NULL, 0);
    return status;
}

static void plan_record(struct plan *plan, size_t i, struct slice head, struct slice tail)
{
    struct planned *planned = &plan->planned[i];

    planned->exists = true;
    buf_reserve(&planned->record, KV_RECORD_HEADER_BYTES + head.len + tail.len);
    kv_record_put_header(&planned->record, plan->version);
    buf_put_slice(&planned->record, head);
    buf_put_slice(&planned->record, tail);
}

static enum status plan_put(struct plan *plan, size_t i, uint32_t *output)
{
    struct slice value = plan->write->operations[i].value;

    *output = 0;
    if (value.len > KV_MAX_VALUE) {
        return ST_TOO_LARGE;
    }
    plan_record(plan, i, value, slice_of(NULL, 0));
    return ST_OK;
}

static enum status plan_append(struct plan *plan, size_t i, uint32_t *output)
{
    struct slice tail = plan->write->operations[i].value;
    struct buf memory = {0};
    struct slice head;
    enum status status = found_value(plan, i, &memory, &head);

    if (status == ST_OK || status == ST_NOT_FOUND) {
        status = head.len + tail.len <= KV_MAX_VALUE ? ST_OK : ST_TOO_LARGE;
    }
    if (status == ST_OK) {
        plan_record(plan, i, head, tail);
        *output = (uint32_t)(head.len + tail.len);
    }
    buf_fini(&memory);
    return status;
}

static enum status plan_delete(struct plan *plan, size_t i, uint32_t *output)
{
    struct buf memory = {0};
    struct slice value;
    enum status status = found_value(plan, i, &memory, &value);

    plan->planned[i].exists = false;
    *output = status == ST_OK ? 1 : 0;
    buf_fini(&memory);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

static enum status plan_operation(struct plan *plan, size_t i, uint32_t *output)
{
    switch (plan->write->operations[i].type) {
    case KV_PUT:
        return plan_put(plan, i, output);
    case KV_APPEND:
        return plan_append(plan, i, output);
    case KV_DELETE:
        return plan_delete(plan, i, output);
    }
    UNREACHABLE("kv_write_decode checks the types");
}

static enum status write_record(const struct plan *plan, size_t i)
{
    struct io_state *state = plan->state;
    struct slice key = plan->write->operations[i].key;
    bool exists = plan->planned[i].exists;
    struct slice record = buf_slice(&plan->planned[i].record);
    enum status status = ST_OK;

    if (plan->watch != NULL) {
        status = plan->watch->changing(plan->watch->context, key, exists ? &record : NULL);
    }
    if (exists) {
        state->ops->put(state, data_key(plan->range, key), record);
    } else {
        state->ops->remove(state, data_key(plan->range, key));
    }
    return status;
}

/* Of several operations on one key only the last one's outcome is written. */
static enum status plan_carry_out(const struct plan *plan)
{
    const struct kv_write *write = plan->write;
    enum status status = ST_OK;

    for (size_t i = 0; i < write->n_operations && status == ST_OK; i++) {
        if (earlier_operation(plan, write->operations[i].key, write->n_operations) == (int)i) {
            status = write_record(plan, i);
        }
    }
    return status;
}

static bool is_outcome(enum status status)
{
    return status == ST_OK || status == ST_MISMATCH || status == ST_TOO_LARGE;
}

enum status kv_ops_write(struct io_state *state, uint64_t range, const struct kv_write *write,
                         uint64_t version, const struct kv_ops_watch *watch,
                         struct kv_write_result *result)
{
    struct plan plan; /* of what is planned, only so much as there are operations is used */
    enum status status = ST_OK;

    ASSERT(range != 0);
    ASSERT(write->n_operations <= KV_MAX_OPERATIONS);
    ASSERT(write->n_conditions <= KV_MAX_CONDITIONS);
    plan.state = state;
    plan.range = range;
    plan.version = version;
    plan.write = write;
    plan.watch = watch;
    memset(plan.planned, 0, write->n_operations * sizeof(plan.planned[0]));
    *result = (struct kv_write_result){0};
    for (size_t i = 0; i < write->n_conditions && status == ST_OK; i++) {
        status = check_condition(state, range, &write->conditions[i]);
    }
    for (size_t i = 0; i < write->n_operations && status == ST_OK; i++) {
        uint32_t output = 0;

        status = plan_operation(&plan, i, &output);
        if (i < KV_MAX_OUTPUTS) {
            result->outputs[i] = output;
        }
    }
    if (status == ST_OK) {
        status = plan_carry_out(&plan);
    }
    if (status == ST_OK) {
        result->n_outputs =
            write->n_operations < KV_MAX_OUTPUTS ? write->n_operations : KV_MAX_OUTPUTS;
    } else {
        memset(result->outputs, 0, sizeof(result->outputs));
    }
    for (size_t i = 0; i < write->n_operations; i++) {
        buf_fini(&plan.planned[i].record);
    }
    result->status = status;
    return is_outcome(status) ? ST_OK : status;
}
