/* mem_state: see the header. Keys of the map are (range big-endian, kind, key), so that the map's
 * order is that of io.h. */
#include "raft/util/crc32c.h"
#include "tests/sim/mem_state_private.h"

static void key_encode(struct io_key key, struct buf *out)
{
    set_u64_be(buf_extend(out, 8), key.range);
    buf_put_u8(out, key.kind);
    buf_put_slice(out, key.key);
}

struct mem_state *mem_state_of(struct io_state *io)
{
    return (struct mem_state *)io;
}

enum status mem_state_take_fault(struct mem_state *state, enum mem_state_fault fault)
{
    if (state->faults[fault].times == 0) {
        return ST_OK;
    }
    state->faults[fault].times--;
    return state->faults[fault].status;
}

/* ---- Queues ---- */

struct work *mem_state_queue_work(struct mem_state *state, enum work_kind kind)
{
    struct work *work = mem_zalloc(sizeof(*work));

    work->kind = kind;
    *state->work_end = work;
    state->work_end = &work->next;
    return work;
}

static void work_free(struct work *work)
{
    buf_fini(&work->data);
    mem_free(work);
}

struct completion *mem_state_queue_event(struct mem_state *state, enum io_event_type type)
{
    struct completion *completion = mem_zalloc(sizeof(*completion));

    completion->event.type = type;
    *state->events_end = completion;
    state->events_end = &completion->next;
    return completion;
}

void mem_state_free_completion(struct completion *completion)
{
    if (completion == NULL) {
        return;
    }
    if (completion->shows != NULL) {
        mem_image_fini(completion->shows);
        mem_free(completion->shows);
    }
    buf_fini(&completion->bytes);
    mem_free(completion);
}

static void drop_queues(struct mem_state *state)
{
    while (state->work != NULL) {
        struct work *work = state->work;
        state->work = work->next;
        work_free(work);
    }
    state->work_end = &state->work;
    while (state->events != NULL) {
        struct completion *completion = state->events;
        state->events = completion->next;
        mem_state_free_completion(completion);
    }
    state->events_end = &state->events;
    mem_state_free_completion(state->taken);
    state->taken = NULL;
}

/* ---- Reading and writing ---- */

void mem_state_check_range(const struct mem_state *state, uint64_t range)
{
    for (size_t i = 0; i < state->n_dropped; i++) {
        ASSERT(state->dropped[i] != range);
    }
}

static enum status op_get(struct io_state *io, struct io_key key, struct buf *value)
{
    struct mem_state *state = mem_state_of(io);
    struct buf bytes = {0};
    struct slice found;
    bool there;
    enum status fault = mem_state_take_fault(state, MEM_STATE_FAIL_GET);

    if (fault != ST_OK) {
        return fault;
    }
    mem_state_check_range(state, key.range);
    key_encode(key, &bytes);
    there = mem_map_get(&state->live, buf_slice(&bytes), &found);
    buf_fini(&bytes);
    if (!there) {
        return ST_NOT_FOUND;
    }
    buf_put_slice(value, found);
    return ST_OK;
}

static void op_put(struct io_state *io, struct io_key key, struct slice value)
{
    struct mem_state *state = mem_state_of(io);
    struct buf bytes = {0};

    ASSERT(state->n_iters == 0);
    mem_state_check_range(state, key.range);
    key_encode(key, &bytes);
    mem_map_put(&state->live, buf_slice(&bytes), value);
    state->dirty += bytes.len + value.len;
    buf_fini(&bytes);
}

static void op_remove(struct io_state *io, struct io_key key)
{
    struct mem_state *state = mem_state_of(io);
    struct buf bytes = {0};

    ASSERT(state->n_iters == 0);
    mem_state_check_range(state, key.range);
    key_encode(key, &bytes);
    mem_map_remove(&state->live, buf_slice(&bytes));
    state->dirty += bytes.len;
    buf_fini(&bytes);
}

struct io_iter {
    struct mem_state *state;
    struct buf at; /* the last key given, or where to begin */
    bool after;
    enum status status;
};

static struct io_iter *op_iter_open(struct io_state *io, struct io_key from)
{
    struct io_iter *iter = mem_zalloc(sizeof(*iter));

    iter->state = mem_state_of(io);
    iter->status = mem_state_take_fault(iter->state, MEM_STATE_FAIL_GET);
    mem_state_check_range(iter->state, from.range);
    key_encode(from, &iter->at);
    iter->state->n_iters++;
    return iter;
}

static bool op_iter_next(struct io_iter *iter, struct slice *key, struct slice *value)
{
    struct slice full;

    if (iter->status != ST_OK ||
        !mem_map_seek(&iter->state->live, buf_slice(&iter->at), iter->after, &full, value) ||
        memcmp(full.data, iter->at.data, MEM_PREFIX_BYTES) != 0) {
        return false;
    }
    *key = slice_of(full.data + MEM_PREFIX_BYTES, full.len - MEM_PREFIX_BYTES);
    buf_clear(&iter->at);
    buf_put_slice(&iter->at, full);
    iter->after = true;
    return true;
}

static enum status op_iter_close(struct io_iter *iter)
{
    enum status status = iter->status;

    ASSERT(iter->state->n_iters > 0);
    iter->state->n_iters--;
    buf_fini(&iter->at);
    mem_free(iter);
    return status;
}

/* ---- Statistics ---- */

static uint64_t op_dirty_bytes(struct io_state *io)
{
    return mem_state_of(io)->dirty;
}

static uint64_t op_disk_bytes(struct io_state *io)
{
    return mem_state_of(io)->durable.map.bytes;
}

static uint64_t op_range_bytes(struct io_state *io, uint64_t range)
{
    struct mem_state *state = mem_state_of(io);
    uint8_t prefix[8];
    struct slice key, value;
    uint64_t bytes = 0;
    bool after = false;

    set_u64_be(prefix, range);
    key = slice_of(prefix, 8);
    while (mem_map_seek(&state->live, key, after, &key, &value) && mem_key_range(key) == range) {
        bytes += key.len + value.len;
        after = true;
    }
    return bytes;
}

/* ---- The owner's side ---- */

static const struct io_state_ops mem_state_ops = {
    .get = op_get,
    .put = op_put,
    .remove = op_remove,
    .iter_open = op_iter_open,
    .iter_next = op_iter_next,
    .iter_close = op_iter_close,
    .drop_range = mem_state_drop_range,
    .keep_ranges = mem_state_keep_ranges,
    .drops_wait = mem_state_drops_wait,
    .checkpoint = mem_state_checkpoint,
    .dirty_bytes = op_dirty_bytes,
    .disk_bytes = op_disk_bytes,
    .range_bytes = op_range_bytes,
    .snapshot_open = mem_state_snapshot_open,
    .snapshot_read = mem_state_snapshot_read,
    .snapshot_close = mem_state_snapshot_close,
    .install_chunk = mem_state_install_chunk,
};

struct mem_state *mem_state_create(group_id group)
{
    struct mem_state *state = mem_zalloc(sizeof(*state));

    state->io.ops = &mem_state_ops;
    state->group = group;
    state->work_end = &state->work;
    state->events_end = &state->events;
    return state;
}

void mem_state_destroy(struct mem_state **state)
{
    if (*state == NULL) {
        return;
    }
    mem_state_crash(*state);
    mem_map_fini(&(*state)->live);
    mem_image_fini(&(*state)->durable);
    mem_image_fini(&(*state)->shown);
    buf_fini(&(*state)->staging.bytes);
    mem_free((*state)->dropped);
    mem_free((*state)->waiting);
    mem_free(*state);
    *state = NULL;
}

struct io_state *mem_state_io(struct mem_state *state)
{
    return &state->io;
}

void mem_state_meta(const struct mem_state *state, struct io_state_meta *meta)
{
    *meta = (struct io_state_meta){.checkpoint = state->durable.checkpoint,
                                   .index = state->durable.index,
                                   .term = state->durable.term};
    buf_put_slice(&meta->extra, buf_slice(&state->durable.extra));
}

bool mem_state_work(struct mem_state *state)
{
    struct work *work = state->work;

    if (work == NULL) {
        return false;
    }
    state->work = work->next;
    if (state->work == NULL) {
        state->work_end = &state->work;
    }
    switch (work->kind) {
    case WORK_CHECKPOINT:
        mem_state_work_checkpoint(state);
        break;
    case WORK_SNAPSHOT_READ:
        mem_state_work_snapshot_read(state, work);
        break;
    case WORK_INSTALL:
        mem_state_work_install(state, work);
        break;
    }
    work_free(work);
    return true;
}

/* What is live is what is shown: nothing was written to it. */
static void begin_anew(struct mem_state *state)
{
    mem_map_fini(&state->live);
    state->live = mem_map_copy(&state->shown.map);
    mem_image_fini(&state->next);
    state->has_next = false;
    state->n_dropped = state->n_waiting = 0;
    state->dirty = 0;
}

bool mem_state_take(struct mem_state *state, struct io_event *event)
{
    struct completion *completion = state->events;

    if (completion == NULL) {
        return false;
    }
    state->events = completion->next;
    if (state->events == NULL) {
        state->events_end = &state->events;
    }
    mem_state_free_completion(state->taken);
    state->taken = completion;
    if (completion->event.type == IO_EVENT_CHECKPOINT) {
        mem_state_take_checkpoint(state, completion->event.checkpoint.status);
    }
    if (completion->shows != NULL) {
        mem_image_fini(&state->shown);
        state->shown = mem_image_copy(completion->shows);
    }
    if (completion->switches) {
        begin_anew(state);
    }
    *event = completion->event;
    return true;
}

size_t mem_state_n_work(const struct mem_state *state)
{
    size_t n = 0;

    for (const struct work *work = state->work; work != NULL; work = work->next) {
        n++;
    }
    return n;
}

void mem_state_crash(struct mem_state *state)
{
    ASSERT(state->n_iters == 0);
    drop_queues(state);
    while (state->snapshots != NULL) {
        mem_state_snapshot_close(&state->io, state->snapshots->id);
    }
    mem_image_fini(&state->shown);
    state->shown = mem_image_copy(&state->durable);
    begin_anew(state);
    state->checkpointing = false;
    state->failed = ST_OK;
    mem_state_forget_outdated(state);
}

void mem_state_fail(struct mem_state *state, enum mem_state_fault fault, enum status status,
                    uint32_t times)
{
    ASSERT(fault < MEM_STATE_N_FAULTS && status != ST_OK);
    state->faults[fault].status = status;
    state->faults[fault].times = times;
}

bool mem_state_fails(const struct mem_state *state, enum mem_state_fault fault)
{
    ASSERT(fault < MEM_STATE_N_FAULTS);
    return state->faults[fault].times > 0;
}

bool mem_state_damage(struct mem_state *state)
{
    state->damaged |= state->durable.checkpoint != 0;
    return state->damaged;
}

bool mem_state_is_damaged(const struct mem_state *state)
{
    return state->damaged;
}

uint64_t mem_state_live_bytes(const struct mem_state *state)
{
    return state->live.bytes;
}

uint64_t mem_state_sum(const struct mem_state *state, const uint64_t *ranges, size_t n)
{
    struct mem_image wanted = {.ranges = (uint64_t *)(uintptr_t)ranges, .n_ranges = n};
    struct slice key = slice_of(NULL, 0), value;
    bool after = false;
    uint32_t low = 0;
    uint64_t count = 0;

    while (mem_map_seek(&state->live, key, after, &key, &value)) {
        if (mem_image_has_range(&wanted, mem_key_range(key))) {
            low = crc32c(low, key.data, key.len);
            low = crc32c(low, value.data, value.len);
            count++;
        }
        after = true;
    }
    return count << 32 | low;
}

size_t mem_state_foreign_keys(const struct mem_state *state, const uint64_t *ranges, size_t n)
{
    struct mem_image wanted = {.ranges = (uint64_t *)(uintptr_t)ranges, .n_ranges = n};
    struct slice key = slice_of(NULL, 0), value;
    bool after = false;
    size_t count = 0;

    while (mem_map_seek(&state->live, key, after, &key, &value)) {
        count += !mem_image_has_range(&wanted, mem_key_range(key));
        after = true;
    }
    return count;
}

size_t mem_state_n_snapshots(const struct mem_state *state)
{
    size_t n = 0;

    for (const struct snapshot *at = state->snapshots; at != NULL; at = at->next) {
        n++;
    }
    return n;
}

uint64_t mem_state_staged_bytes(const struct mem_state *state)
{
    return state->staging.bytes.len;
}

size_t mem_state_range_keys(const struct mem_state *state, uint64_t range)
{
    uint8_t prefix[8];
    struct slice key, value;
    size_t n = 0;
    bool after = false;

    set_u64_be(prefix, range);
    key = slice_of(prefix, 8);
    while (mem_map_seek(&state->live, key, after, &key, &value) && mem_key_range(key) == range) {
        n++;
        after = true;
    }
    return n;
}
