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
    if (state->durable.checkpoint == 0) {
        return;
    }
    opened = mem_zalloc(sizeof(*opened));
    opened->id = ++state->last_snapshot;
    opened->image = mem_image_copy(&state->durable);
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

void mem_state_snapshot_close(struct io_state *io, uint64_t id)
{
    struct snapshot **at = find_snapshot(mem_state_of(io), id);
    struct snapshot *closed = *at;

    ASSERT(closed != NULL);
    *at = closed->next;
    snapshot_free(closed);
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
    completion->event.snapshot.status = status;
    if (status != ST_OK) {
        return;
    }
    if (snapshot->stream.len == 0) {
        mem_image_to_stream(&snapshot->image, &snapshot->stream);
    }
    ASSERT(work->offset <= snapshot->stream.len);
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

static void staging_append(struct staging *staging, const struct work *work, bool *appended)
{
    if (staging->index != work->index || staging->term != work->term) {
        staging->index = work->index;
        staging->term = work->term;
        buf_clear(&staging->bytes);
    }
    *appended = work->offset == staging->bytes.len;
    if (*appended) {
        buf_put_slice(&staging->bytes, buf_slice(&work->data));
    }
}

/* The staged stream is whole: it becomes the durable state, and the live one when its event is
 * taken. */
static enum status switch_state(struct mem_state *state, struct completion *completion)
{
    struct mem_image image = {0};

    if (!mem_image_from_stream(buf_slice(&state->staging.bytes), &image)) {
        mem_image_fini(&image);
        return ST_CORRUPT;
    }
    image.index = state->staging.index;
    image.term = state->staging.term;
    image.checkpoint = ++state->last_checkpoint;
    mem_image_fini(&state->durable);
    state->durable = image;
    completion->switches = true;
    completion->installed = mem_alloc(sizeof(image));
    *completion->installed = mem_image_copy(&image);
    buf_put_slice(&completion->bytes, buf_slice(&image.extra));
    completion->event.install.extra = buf_slice(&completion->bytes);
    return ST_OK;
}

void mem_state_work_install(struct mem_state *state, struct work *work)
{
    enum status status = mem_state_take_fault(state, MEM_STATE_FAIL_INSTALL);
    bool appended = false;
    struct completion *completion;

    if (status == ST_OK) {
        staging_append(&state->staging, work, &appended);
    }
    completion = mem_state_queue_event(state, work->done && (appended || status != ST_OK)
                                                  ? IO_EVENT_INSTALLED
                                                  : IO_EVENT_INSTALL_CHUNK);
    completion->event.install.group = state->group;
    completion->event.install.index = work->index;
    completion->event.install.term = work->term;
    completion->event.install.offset = state->staging.bytes.len;
    if (status == ST_OK && work->done && appended) {
        status = switch_state(state, completion);
        buf_fini(&state->staging.bytes);
        state->staging.index = 0;
    }
    completion->event.install.status = status;
}
