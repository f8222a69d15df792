/* mem_state: which ranges are part of the state, and checkpoints.
 *
 * As in the real store, a checkpoint that found no space is kept, and is what the next one that is
 * asked for writes: its answer then tells the index of the kept one. Any other failure is final.
 */
#include "tests/sim/mem_state_private.h"

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

static void add_waiting(struct mem_state *state, uint64_t range)
{
    MEM_GROW(state->waiting, state->waiting_capacity, state->n_waiting + 1);
    state->waiting[state->n_waiting++] = range;
}

/* Nobody may look at a dropped range, so its keys can go from the live state at once; the durable
 * one keeps them until the next checkpoint, as the contract wants. */
void mem_state_drop_range(struct io_state *io, uint64_t range)
{
    struct mem_state *state = mem_state_of(io);

    ASSERT(range != 0 && state->n_iters == 0);
    mem_state_check_range(state, range);
    remove_range(state, range);
    MEM_GROW(state->dropped, state->dropped_capacity, state->n_dropped + 1);
    state->dropped[state->n_dropped++] = range;
    add_waiting(state, range);
}

bool mem_state_drops_wait(struct io_state *io)
{
    return mem_state_of(io)->n_waiting > 0;
}

/* Ranges of a checkpoint that are not wanted any more wait for a checkpoint without them. */
static void wait_for_unwanted(struct mem_state *state, const struct mem_image *checkpoint,
                              const struct mem_image *wanted)
{
    for (size_t i = 0; i < checkpoint->n_ranges; i++) {
        if (!mem_image_has_range(wanted, checkpoint->ranges[i])) {
            add_waiting(state, checkpoint->ranges[i]);
        }
    }
}

void mem_state_keep_ranges(struct io_state *io, const uint64_t *ranges, size_t n)
{
    struct mem_state *state = mem_state_of(io);
    struct mem_image wanted = {.ranges = (uint64_t *)(uintptr_t)ranges, .n_ranges = n};
    struct slice key, value;
    struct buf at = {0};

    ASSERT(state->n_iters == 0);
    wait_for_unwanted(state, &state->shown, &wanted);
    wait_for_unwanted(state, &state->next, &wanted);
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

/* What is live becomes what the checkpoint will write; dropped ranges that it still contains wait
 * on. */
static void freeze(struct mem_state *state, const struct io_checkpoint *checkpoint)
{
    struct mem_image *next = &state->next;
    size_t waiting = 0;

    next->map = mem_map_copy(&state->live);
    next->ranges = mem_copy(checkpoint->ranges, checkpoint->n_ranges * sizeof(*checkpoint->ranges));
    next->n_ranges = checkpoint->n_ranges;
    next->index = checkpoint->index;
    next->term = checkpoint->term;
    buf_put_slice(&next->extra, checkpoint->extra);
    state->has_next = true;
    state->dirty = 0;
    for (size_t i = 0; i < state->n_waiting; i++) {
        if (mem_image_has_range(next, state->waiting[i])) {
            state->waiting[waiting++] = state->waiting[i];
        }
    }
    state->n_waiting = waiting;
}

void mem_state_checkpoint(struct io_state *io, const struct io_checkpoint *checkpoint)
{
    struct mem_state *state = mem_state_of(io);

    ASSERT(!state->checkpointing && state->n_iters == 0);
    ASSERT(checkpoint->index >= state->shown.index);
    for (const struct work *work = state->work; work != NULL; work = work->next) {
        ASSERT(work->kind != WORK_INSTALL || !work->done); /* of a state about to be replaced */
    }
    mem_state_queue_work(state, WORK_CHECKPOINT);
    state->checkpointing = true;
    if (!state->has_next && state->failed == ST_OK) {
        freeze(state, checkpoint);
    }
}

void mem_state_replace_durable(struct mem_state *state, struct mem_image *image,
                               struct completion *completion)
{
    image->checkpoint = state->durable.checkpoint + 1;
    mem_image_fini(&state->durable);
    state->durable = *image;
    *image = (struct mem_image){0};
    completion->shows = mem_alloc(sizeof(*completion->shows));
    *completion->shows = mem_image_copy(&state->durable);
}

void mem_state_work_checkpoint(struct mem_state *state)
{
    struct completion *completion = mem_state_queue_event(state, IO_EVENT_CHECKPOINT);
    struct mem_image image;

    if (state->failed == ST_OK) {
        completion->event.checkpoint.status =
            mem_state_take_fault(state, MEM_STATE_FAIL_CHECKPOINT);
    } else {
        completion->event.checkpoint.status = state->failed;
    }
    if (completion->event.checkpoint.status == ST_OK) {
        image = mem_image_copy(&state->next);
        mem_state_replace_durable(state, &image, completion);
        mem_state_forget_outdated(state);
    } else if (completion->event.checkpoint.status != ST_NO_SPACE) {
        state->failed = completion->event.checkpoint.status;
    }
    completion->event.checkpoint.group = state->group;
    completion->event.checkpoint.number = state->durable.checkpoint;
    completion->event.checkpoint.index = state->durable.index;
}

void mem_state_take_checkpoint(struct mem_state *state, enum status status)
{
    ASSERT(state->checkpointing);
    state->checkpointing = false;
    if (status != ST_NO_SPACE) {
        mem_image_fini(&state->next);
        state->has_next = false;
    }
}
