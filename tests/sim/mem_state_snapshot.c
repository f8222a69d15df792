/* mem_state: snapshots, sending and receiving. A stream is written out in full at its first read.
 */
#include "tests/sim/mem_state_private.h"

/* ---- Snapshots: sending ---- */

static struct snapshot **find_snapshot(struct mem_state *state, uint64_t id)
{
    struct snapshot **at = &state->snapshots;

    while (*at != NULL && (*at)->id != id) {
        at = &(*at)->next;
    }
    return at;
}

void mem_state_snapshot_open(struct io_state *io, struct io_snapshot *snapshot)
{
    struct mem_state *state = mem_state_of(io);
    struct snapshot *opened;

    *snapshot = (struct io_snapshot){0};
    if (state->shown.checkpoint == 0 || state->failed != ST_OK) {
        return;
    }
    opened = mem_zalloc(sizeof(*opened));
    opened->id = ++state->last_snapshot;
    opened->image = mem_image_copy(&state->shown);
    opened->next = state->snapshots;
    state->snapshots = opened;
    *snapshot = (struct io_snapshot){opened->id, opened->image.index, opened->image.term,
                                     buf_slice(&opened->image.extra)};
}

void mem_state_snapshot_read(struct io_state *io, uint64_t id, uint64_t offset, size_t max_bytes,
                             uint64_t token)
{
    struct work *work = mem_state_queue_work(mem_state_of(io), WORK_SNAPSHOT_READ);

    ASSERT(*find_snapshot(mem_state_of(io), id) != NULL && max_bytes > 0);
    work->id = id;
    work->offset = offset;
    work->max_bytes = max_bytes;
    work->token = token;
}

static void snapshot_free(struct snapshot *snapshot)
{
    mem_image_fini(&snapshot->image);
    buf_fini(&snapshot->stream);
    mem_free(snapshot);
}

/* Answers about a snapshot that was closed are nobody's. */
static void drop_answers(struct mem_state *state, uint64_t id)
{
    struct completion **at = &state->events;

    while (*at != NULL) {
        struct completion *completion = *at;

        if (completion->event.type == IO_EVENT_SNAPSHOT_READ &&
            completion->event.snapshot.id == id) {
            *at = completion->next;
            mem_state_free_completion(completion);
        } else {
            at = &completion->next;
        }
    }
    state->events_end = at;
}

void mem_state_snapshot_close(struct io_state *io, uint64_t id)
{
    struct mem_state *state = mem_state_of(io);
    struct snapshot **at = find_snapshot(state, id);
    struct snapshot *closed = *at;

    ASSERT(closed != NULL);
    *at = closed->next;
    snapshot_free(closed);
    drop_answers(state, id);
}

void mem_state_work_snapshot_read(struct mem_state *state, struct work *work)
{
    struct snapshot *snapshot = *find_snapshot(state, work->id);
    struct completion *completion;
    enum status status;
    size_t len;

    if (snapshot == NULL) {
        return; /* closed meanwhile: nobody waits */
    }
    status = mem_state_take_fault(state, MEM_STATE_FAIL_SNAPSHOT_READ);
    completion = mem_state_queue_event(state, IO_EVENT_SNAPSHOT_READ);
    completion->event.snapshot.group = state->group;
    completion->event.snapshot.id = work->id;
    completion->event.snapshot.token = work->token;
    completion->event.snapshot.offset = work->offset;
    if (snapshot->stream.len == 0) {
        mem_image_to_stream(&snapshot->image, state->group, &snapshot->stream);
    }
    if (status == ST_OK && work->offset > snapshot->stream.len) {
        status = ST_INVALID; /* no chunk ended there */
    }
    completion->event.snapshot.status = status;
    if (status != ST_OK) {
        return;
    }
    len = snapshot->stream.len - work->offset;
    len = len < work->max_bytes ? len : work->max_bytes;
    buf_put(&completion->bytes, snapshot->stream.data + work->offset, len);
    completion->event.snapshot.data = buf_slice(&completion->bytes);
    completion->event.snapshot.done = work->offset + len == snapshot->stream.len;
}

/* ---- Snapshots: receiving ---- */

void mem_state_install_chunk(struct io_state *io, raft_index index, raft_term term, uint64_t offset,
                             struct slice data, bool done)
{
    struct work *work = mem_state_queue_work(mem_state_of(io), WORK_INSTALL);

    ASSERT(index > 0 && !(done && mem_state_of(io)->checkpointing));
    work->index = index;
    work->term = term;
    work->offset = offset;
    work->done = done;
    buf_put_slice(&work->data, data);
}

static void staging_forget(struct staging *staging)
{
    buf_fini(&staging->bytes);
    *staging = (struct staging){0};
}

void mem_state_forget_outdated(struct mem_state *state)
{
    if (state->staging.index <= state->durable.index) {
        staging_forget(&state->staging);
    }
}

/* The staged stream is whole: it becomes the durable state, and the live one when its event is
 * taken. */
static enum status switch_state(struct mem_state *state, struct completion *completion)
{
    struct staging *staging = &state->staging;
    struct mem_image image = {0};

    if (!mem_image_from_stream(buf_slice(&staging->bytes), state->group, &image) ||
        image.index != staging->index || image.term != staging->term) {
        mem_image_fini(&image);
        return ST_CORRUPT;
    }
    buf_put_slice(&completion->bytes, buf_slice(&image.extra));
    completion->event.install.extra = buf_slice(&completion->bytes);
    completion->switches = true;
    mem_state_replace_durable(state, &image, completion);
    staging_forget(staging);
    return ST_OK;
}

/* A chunk that is the next one: it is kept, or all of its snapshot is given up. */
static enum status take_chunk(struct mem_state *state, const struct work *work,
                              struct completion *completion)
{
    enum status status = mem_state_take_fault(state, MEM_STATE_FAIL_INSTALL_WRITE);

    completion->event.type = work->done ? IO_EVENT_INSTALLED : IO_EVENT_INSTALL_CHUNK;
    if (status == ST_OK && work->offset == 0 && work->data.len == 0) {
        status = ST_CORRUPT; /* a stream begins in its first chunk */
    }
    if (status == ST_OK) {
        buf_put_slice(&state->staging.bytes, buf_slice(&work->data));
    }
    if (status == ST_OK && work->done) {
        status = switch_state(state, completion);
    }
    if (status != ST_OK) {
        staging_forget(&state->staging);
    }
    completion->event.install.offset = status == ST_OK ? work->offset + work->data.len : 0;
    return status;
}

static enum status install(struct mem_state *state, const struct work *work,
                           struct completion *completion)
{
    struct staging *staging = &state->staging;
    bool same = staging->index == work->index && staging->term == work->term;
    enum status status = ST_OK;

    completion->event.install.offset = same ? staging->bytes.len : 0;
    if (state->failed != ST_OK) {
        return ST_IO;
    }
    if (work->index < state->durable.index) {
        return ST_CONFLICT; /* a state never goes back */
    }
    if (!same && work->offset == 0) {
        staging_forget(staging);
        staging->index = work->index;
        staging->term = work->term;
        same = true;
        completion->event.install.offset = 0;
    }
    if (!same || work->offset != staging->bytes.len) {
        return ST_OK; /* not the next one: says where to go on */
    }
    /* A write that fails for lack of space comes before the first that is not begun for it. */
    if (!mem_state_fails(state, MEM_STATE_FAIL_INSTALL_WRITE)) {
        status = mem_state_take_fault(state, MEM_STATE_FAIL_INSTALL);
    }
    return status == ST_OK ? take_chunk(state, work, completion) : status;
}

void mem_state_work_install(struct mem_state *state, struct work *work)
{
    struct completion *completion = mem_state_queue_event(state, IO_EVENT_INSTALL_CHUNK);

    completion->event.install.group = state->group;
    completion->event.install.index = work->index;
    completion->event.install.term = work->term;
    completion->event.install.status = install(state, work, completion);
}
