/* state_send: a checkpoint as a stream of bytes, read in chunks on the background thread.
 *
 * The stream, little-endian:
 *
 *   header   u32 "SKSS", u16 version = 1, u16 0, u32 group, u64 index, u64 term,
 *            ranges (u32 count, u64 each), extra (u32 length, bytes)
 *   record   u8 1, u64 range, u8 kind, key (u32 length, bytes), value (u32 length, bytes)
 *   end      u8 2, u64 count of records, u32 CRC32C of everything before
 *
 * Records are those of range 0 and of the ranges of that checkpoint, in key order: the same state
 * gives the same bytes. A chunk ends between two of these elements. A snapshot keeps an iterator at
 * the place it was read to, so that reading on is cheap, and marks of the latest places where
 * chunks began, so that reading a chunk again is, too; from anywhere else the stream is run through
 * anew up to the offset.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

struct state_send_job {
    struct state_job job;
    struct state_snapshot *snapshot; /* NULL: there is none of that id */
    uint64_t snapshot_id;
    uint64_t offset;
    size_t max_bytes;
    uint64_t token;
    struct buf data;
    bool done;
    enum status status;
};

/* ---- On the background thread ---- */

static void state_send_seek(struct state_snapshot *snapshot, struct slice key)
{
    struct buf start = {0};

    if (key.len == 0) {
        state_db_put_key(&start, (struct io_key){0, 0, {0}});
        key = buf_slice(&start);
    }
    leveldb_iter_seek(snapshot->iter, (const char *)key.data, key.len);
    snapshot->range = 0;
    buf_fini(&start);
}

/* Moves the iterator to the next record of a range that belongs to the snapshot. False: there is
 * none (or damage, which the caller asks for). */
static bool state_send_settle(struct state_snapshot *snapshot, struct io_key *key)
{
    const struct state_meta *meta = &snapshot->meta;

    for (;;) {
        struct buf next = {0};
        uint64_t range;

        if (!leveldb_iter_valid(snapshot->iter) ||
            !state_db_parse_key(state_db_iter_key(snapshot->iter), key)) {
            return false;
        }
        for (;; snapshot->range++) {
            if (snapshot->range > meta->n_ranges) {
                return false;
            }
            range = snapshot->range == 0 ? 0 : meta->ranges[snapshot->range - 1];
            if (range >= key->range) {
                break;
            }
        }
        if (range == key->range) {
            return true;
        }
        state_db_put_key(&next, (struct io_key){range, 0, {0}});
        leveldb_iter_seek(snapshot->iter, (const char *)next.data, next.len);
        buf_fini(&next);
    }
}

static void state_send_put_header(const struct state_meta *meta, struct buf *out)
{
    buf_put_u32(out, STATE_STREAM_MAGIC);
    buf_put_u16(out, STATE_STREAM_VERSION);
    buf_put_u16(out, 0);
    buf_put_u32(out, meta->group);
    buf_put_u64(out, meta->index);
    buf_put_u64(out, meta->term);
    state_meta_put_ranges(out, meta->ranges, meta->n_ranges);
    buf_put_bytes(out, buf_slice(&meta->extra));
}

static void state_send_put_record(struct state_snapshot *snapshot, struct io_key key,
                                  struct buf *out)
{
    buf_put_u8(out, STATE_STREAM_RECORD);
    buf_put_u64(out, key.range);
    buf_put_u8(out, key.kind);
    buf_put_bytes(out, key.key);
    buf_put_bytes(out, state_db_iter_value(snapshot->iter));
}

/* Appends the next element of the stream and moves past it. */
static enum status state_send_step(struct state_snapshot *snapshot, struct buf *out, char *error)
{
    struct state_mark *at = &snapshot->at;
    size_t start = out->len;
    struct io_key key;
    bool record;
    enum status status;

    ASSERT(!at->ended);
    if (!at->begun) {
        state_send_put_header(&snapshot->meta, out);
        at->begun = true;
    } else {
        record = state_send_settle(snapshot, &key);
        status = state_db_iter_status(snapshot->pin->db, snapshot->iter, error);
        if (status != ST_OK) {
            return status;
        }
        if (record) {
            state_send_put_record(snapshot, key, out);
            leveldb_iter_next(snapshot->iter);
            at->count++;
        } else {
            buf_put_u8(out, STATE_STREAM_END);
            buf_put_u64(out, at->count);
            at->ended = true;
        }
    }
    at->crc = crc32c(at->crc, out->data + start, out->len - start);
    if (at->ended) {
        buf_put_u32(out, at->crc);
    }
    at->offset += out->len - start;
    return ST_OK;
}

static void state_send_copy_mark(struct state_mark *to, const struct state_mark *from)
{
    struct buf key = to->key;

    *to = *from;
    to->key = key;
    buf_clear(&to->key);
    buf_put_slice(&to->key, buf_slice(&from->key));
}

/* A chunk begins here: remembers how to come back. */
static void state_send_mark(struct state_snapshot *snapshot)
{
    struct state_mark *mark = &snapshot->marks[snapshot->n_marks++ % STATE_MARKS];

    state_send_copy_mark(mark, &snapshot->at);
    buf_clear(&mark->key);
    if (leveldb_iter_valid(snapshot->iter)) {
        buf_put_slice(&mark->key, state_db_iter_key(snapshot->iter));
    } else {
        buf_put_u8(&mark->key, 0xff); /* behind all keys */
    }
}

/* Goes to the mark nearest before the offset, or to the beginning. */
static void state_send_rewind(struct state_snapshot *snapshot, uint64_t offset)
{
    const struct state_mark begin = {0};
    const struct state_mark *best = &begin;
    size_t n = snapshot->n_marks < STATE_MARKS ? snapshot->n_marks : STATE_MARKS;

    for (size_t i = 0; i < n; i++) {
        if (snapshot->marks[i].offset <= offset && snapshot->marks[i].offset >= best->offset) {
            best = &snapshot->marks[i];
        }
    }
    ASSERT(best->offset <= offset);
    state_send_copy_mark(&snapshot->at, best);
    state_send_seek(snapshot, buf_slice(&best->key));
}

/* Brings the snapshot to the offset, which must be a place between two elements. */
static enum status state_send_goto(struct state_snapshot *snapshot, uint64_t offset, char *error)
{
    struct buf passed = {0};
    enum status status = ST_OK;

    if (snapshot->iter == NULL) {
        snapshot->read = leveldb_readoptions_create();
        leveldb_readoptions_set_verify_checksums(snapshot->read, 1);
        leveldb_readoptions_set_fill_cache(snapshot->read, 0);
        leveldb_readoptions_set_snapshot(snapshot->read, snapshot->pin->snapshot);
        snapshot->iter = leveldb_create_iterator(snapshot->pin->db->db, snapshot->read);
        state_send_seek(snapshot, slice_of(NULL, 0));
    }
    ASSERT(snapshot->iter != NULL);
    if (snapshot->at.offset != offset) {
        state_send_rewind(snapshot, offset);
    }
    while (status == ST_OK && snapshot->at.offset < offset && !snapshot->at.ended) {
        buf_clear(&passed);
        status = state_send_step(snapshot, &passed, error);
    }
    buf_fini(&passed);
    if (status == ST_OK && snapshot->at.offset != offset) {
        disk_format_error(error, "snapshot of %s: no chunk begins at %llu", snapshot->pin->db->path,
                          (unsigned long long)offset);
        status = ST_INVALID;
    }
    return status;
}

static void state_send_run(struct state_worker *worker, struct state_job *base)
{
    struct state_send_job *job = (struct state_send_job *)base;
    struct state_snapshot *snapshot = job->snapshot;

    (void)worker;
    job->status =
        snapshot->lost ? ST_CANCELLED : state_send_goto(snapshot, job->offset, job->job.note);
    if (job->status == ST_OK) {
        state_send_mark(snapshot);
    }
    while (job->status == ST_OK && !snapshot->at.ended && job->data.len < job->max_bytes) {
        job->status = state_send_step(snapshot, &job->data, job->job.note);
    }
    if (job->status != ST_OK) {
        buf_clear(&job->data);
        return;
    }
    job->done = snapshot->at.ended;
    ASSERT(snapshot->at.offset == job->offset + job->data.len);
}

/* Gives back what the background thread had of it. */
void state_send_stop(struct state_snapshot *snapshot)
{
    if (snapshot->iter != NULL) {
        leveldb_iter_destroy(snapshot->iter);
        leveldb_readoptions_destroy(snapshot->read);
        snapshot->iter = NULL;
    }
    buf_fini(&snapshot->at.key);
    for (size_t i = 0; i < STATE_MARKS; i++) {
        buf_fini(&snapshot->marks[i].key);
    }
}

static void state_send_run_close(struct state_worker *worker, struct state_job *base)
{
    (void)worker;
    state_send_stop(((struct state_send_job *)base)->snapshot);
}

/* ---- On the loop thread ---- */

static void state_send_free(struct state *state, struct state_snapshot *snapshot)
{
    LIST_REMOVE(snapshot, link);
    state_unref_pin(state, &snapshot->pin);
    state_meta_fini(&snapshot->meta);
    mem_free(snapshot);
}

static void state_send_finish_close(struct state *state, struct state_job *base)
{
    state_send_free(state, ((struct state_send_job *)base)->snapshot);
}

static void state_send_finish(struct state *state, struct state_job *base)
{
    struct state_send_job *job = (struct state_send_job *)base;
    struct io_event event = {.type = IO_EVENT_SNAPSHOT_READ};

    if (job->snapshot != NULL && job->snapshot->closed) {
        return; /* nobody waits for it any more */
    }
    event.snapshot.group = state->worker->options.group;
    event.snapshot.id = job->snapshot_id;
    event.snapshot.token = job->token;
    event.snapshot.offset = job->offset;
    event.snapshot.done = job->done;
    event.snapshot.data = buf_slice(&job->data);
    event.snapshot.status = job->status;
    state_deliver(state, &event);
}

static void state_send_release(struct state_job *base)
{
    buf_fini(&((struct state_send_job *)base)->data);
}

static struct state_snapshot *state_send_find(struct state *state, uint64_t id)
{
    struct state_snapshot *snapshot;

    LIST_FOREACH (snapshot, &state->snapshots, link) {
        if (snapshot->id == id && !snapshot->closed) {
            return snapshot;
        }
    }
    return NULL;
}

void state_send_open(struct io_state *io, struct io_snapshot *out)
{
    struct state *state = state_of(io);
    struct state_snapshot *snapshot;

    *out = (struct io_snapshot){0};
    if (state->meta.number == 0 || state->failed != ST_OK) {
        return;
    }
    ASSERT(state->pin == NULL || state->pin->db == state->db);
    snapshot = mem_zalloc(sizeof(*snapshot));
    snapshot->id = ++state->next_snapshot;
    state_meta_copy(&snapshot->meta, &state->meta);
    /* While a checkpoint is in flight LevelDB may or may not show it: the pin shows the last
     * finished one, which meta is about. Without one in flight LevelDB shows just that. */
    if (state->pin != NULL) {
        snapshot->pin = state->pin;
        snapshot->pin->references++;
    } else {
        snapshot->pin = state_pin_create(state);
    }
    LIST_INSERT_HEAD(&state->snapshots, snapshot, link);
    out->id = snapshot->id;
    out->index = snapshot->meta.index;
    out->term = snapshot->meta.term;
    out->extra = buf_slice(&snapshot->meta.extra);
}

/* A read of a snapshot that is not open is answered, too, in its turn. */
static void state_send_run_unknown(struct state_worker *worker, struct state_job *base)
{
    (void)worker;
    ((struct state_send_job *)base)->status = ST_INVALID;
}

void state_send_read(struct io_state *io, uint64_t id, uint64_t offset, size_t max_bytes,
                     uint64_t token)
{
    struct state *state = state_of(io);
    struct state_send_job *job = mem_zalloc(sizeof(*job));

    job->snapshot = state_send_find(state, id);
    job->snapshot_id = id;
    job->offset = offset;
    job->max_bytes = max_bytes > 0 ? max_bytes : 1;
    job->token = token;
    job->job.run = job->snapshot == NULL ? state_send_run_unknown : state_send_run;
    job->job.finish = state_send_finish;
    job->job.release = state_send_release;
    state_worker_queue(state->worker, &job->job);
}

void state_send_close(struct io_state *io, uint64_t id)
{
    struct state *state = state_of(io);
    struct state_snapshot *snapshot = state_send_find(state, id);
    struct state_send_job *job;

    if (snapshot == NULL) {
        return;
    }
    snapshot->closed = true;
    job = mem_zalloc(sizeof(*job));
    job->snapshot = snapshot;
    job->job.run = state_send_run_close;
    job->job.finish = state_send_finish_close;
    state_worker_queue(state->worker, &job->job);
}

void state_send_fini(struct state *state)
{
    ASSERT(state->closing);
    while (!LIST_EMPTY(&state->snapshots)) {
        struct state_snapshot *snapshot = LIST_FIRST(&state->snapshots);

        state_send_stop(snapshot);
        state_send_free(state, snapshot);
    }
}
