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
    mem_image_fini(&work->image);
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

static void completion_free(struct completion *completion)
{
    if (completion == NULL) {
        return;
    }
    if (completion->installed != NULL) {
        mem_image_fini(completion->installed);
        mem_free(completion->installed);
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
        completion_free(completion);
    }
    state->events_end = &state->events;
    completion_free(state->taken);
    state->taken = NULL;
}

/* ---- Reading and writing ---- */

static void check_range(const struct mem_state *state, uint64_t range)
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
    check_range(state, key.range);
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
    check_range(state, key.range);
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
    check_range(state, key.range);
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
    check_range(iter->state, from.range);
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

/* ---- Ranges ---- */

static void remove_range(struct mem_state *state, uint64_t range)
{
    uint8_t prefix[8];
    struct slice key, value;

    set_u64_be(prefix, range);
    while (mem_map_seek(&state->live, slice_of(prefix, 8), false, &key, &value) &&
           mem_key_range(key) == range) {
        struct buf copy = {0};
        buf_put_slice(&copy, key);
        mem_map_remove(&state->live, buf_slice(&copy));
        buf_fini(&copy);
    }
}

/* Nobody may look at a dropped range, so its keys can go from the live state at once; the durable
 * one keeps them until the next checkpoint, as the contract wants. */
static void op_drop_range(struct io_state *io, uint64_t range)
{
    struct mem_state *state = mem_state_of(io);

    ASSERT(range != 0 && state->n_iters == 0);
    check_range(state, range);
    remove_range(state, range);
    MEM_GROW(state->dropped, state->dropped_capacity, state->n_dropped + 1);
    state->dropped[state->n_dropped++] = range;
    state->drops_wait = true;
}

static bool op_drops_wait(struct io_state *io)
{
    return mem_state_of(io)->drops_wait;
}

static void op_keep_ranges(struct io_state *io, const uint64_t *ranges, size_t n)
{
    struct mem_state *state = mem_state_of(io);
    struct mem_image wanted = {.ranges = (uint64_t *)(uintptr_t)ranges, .n_ranges = n};
    struct slice key, value;
    struct buf at = {0};

    ASSERT(state->n_iters == 0);
    while (mem_map_seek(&state->live, buf_slice(&at), false, &key, &value)) {
        uint64_t range = mem_key_range(key);
        if (!mem_image_has_range(&wanted, range)) {
            remove_range(state, range);
        }
        if (range == UINT64_MAX) {
            break;
        }
        buf_clear(&at);
        set_u64_be(buf_extend(&at, 8), range + 1);
    }
    buf_fini(&at);
}

/* ---- Checkpoints ---- */

static void op_checkpoint(struct io_state *io, const struct io_checkpoint *checkpoint)
{
    struct mem_state *state = mem_state_of(io);
    struct work *work;

    ASSERT(!state->checkpointing && state->n_iters == 0);
    ASSERT(checkpoint->index >= state->durable.index);
    for (work = state->work; work != NULL; work = work->next) {
        ASSERT(work->kind != WORK_INSTALL || !work->done); /* of a state about to be replaced */
    }
    work = mem_state_queue_work(state, WORK_CHECKPOINT);
    work->image.map = mem_map_copy(&state->live);
    work->image.ranges =
        mem_copy(checkpoint->ranges, checkpoint->n_ranges * sizeof(*checkpoint->ranges));
    work->image.n_ranges = checkpoint->n_ranges;
    work->image.checkpoint = ++state->last_checkpoint;
    work->image.index = checkpoint->index;
    work->image.term = checkpoint->term;
    buf_put_slice(&work->image.extra, checkpoint->extra);
    work->token = state->dirty;
    state->checkpointing = true;
    state->drops_wait = false;
    state->dirty = 0;
}

static void work_checkpoint(struct mem_state *state, struct work *work)
{
    enum status status = mem_state_take_fault(state, MEM_STATE_FAIL_CHECKPOINT);
    struct completion *completion = mem_state_queue_event(state, IO_EVENT_CHECKPOINT);

    completion->event.checkpoint.group = state->group;
    completion->event.checkpoint.number = work->image.checkpoint;
    completion->event.checkpoint.index = work->image.index;
    completion->event.checkpoint.status = status;
    state->checkpointing = false;
    if (status == ST_OK) {
        mem_image_fini(&state->durable);
        state->durable = work->image;
        work->image = (struct mem_image){0};
    } else {
        state->dirty += work->token;
    }
}

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
    .drop_range = op_drop_range,
    .keep_ranges = op_keep_ranges,
    .drops_wait = op_drops_wait,
    .checkpoint = op_checkpoint,
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
    buf_fini(&(*state)->staging.bytes);
    mem_free((*state)->dropped);
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
        work_checkpoint(state, work);
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
    completion_free(state->taken);
    state->taken = completion;
    if (completion->switches) {
        mem_map_fini(&state->live);
        state->live = mem_map_copy(&completion->installed->map);
        state->n_dropped = 0;
        state->drops_wait = false;
        state->dirty = 0;
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
    mem_map_fini(&state->live);
    state->live = mem_map_copy(&state->durable.map);
    state->dirty = 0;
    state->n_dropped = 0;
    state->drops_wait = false;
    state->checkpointing = false;
    state->last_checkpoint = state->durable.checkpoint;
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
