/* state_sweep: the deletion of ranges that are no longer part of the state.
 *
 * A dropped range stays on disk until a checkpoint that does not contain it is durable: a crash
 * before that goes back to a checkpoint that does, and replays entries that may read it. Then the
 * background thread deletes it in steps, with pauses, while no job waits:
 *
 *   begin    notes the range under "msweep"; has LevelDB write its memory to a table
 *   delete   a piece of its keys; every few MiB, compacts the span that they were in
 *   end      compacts what is left; forgets the note
 *   tidy     once nothing is open that could hold replaced files, has LevelDB remove them
 *
 * So that nothing of it stays in LevelDB's files:
 * - A compaction drops a value whose key was deleted later, unless a snapshot is older than the
 *   deletion; then it may leave both in one table, where nothing would ever part them. So keys are
 *   deleted while there is no snapshot, and again if one was taken just then.
 * - A table that LevelDB writes from memory holds all versions of a key. So values are in tables
 *   before their keys are deleted.
 * - The deletes are not synced: what of them a crash forgets is deleted again after the start
 *   (keep_ranges), and a range that is noted is compacted again.
 * Compactions run on a thread of their own (state_compact.c); nothing here waits for one.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STATE_SWEEP_BYTES   (1u << 20)  /* of keys in one piece, at most about */
#define STATE_SWEEP_COMPACT (32u << 20) /* deleted bytes after which their span is compacted */
#define STATE_SWEEP_NOTE    14          /* bytes of the key of a note: "msweep", range */

void state_add_dropped(struct state *state, uint64_t range)
{
    ASSERT(range != 0); /* the service's own range is always part of the state */
    MEM_GROW(state->dropped, state->dropped_capacity, state->n_dropped + 1);
    state->dropped[state->n_dropped++] = range;
}

void state_sweep_drop(struct io_state *io, uint64_t range)
{
    state_add_dropped(state_of(io), range);
}

void state_sweep_add(struct state_worker *worker, const uint64_t *ranges, size_t n)
{
    struct state_sweep *sweep = &worker->sweep;

    if (n == 0) {
        return;
    }
    MEM_GROW(sweep->ranges, sweep->capacity, sweep->n_ranges + n);
    memcpy(sweep->ranges + sweep->n_ranges, ranges, n * sizeof(*ranges));
    sweep->n_ranges += n;
}

void state_sweep_reset(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;

    mem_free(sweep->ranges);
    buf_fini(&sweep->position);
    buf_fini(&sweep->span);
    if (sweep->again != NULL) {
        leveldb_writebatch_destroy(sweep->again);
    }
    *sweep = (struct state_sweep){0};
}

void state_sweep_begin_anew(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;

    if (sweep->again != NULL) {
        leveldb_writebatch_destroy(sweep->again);
        sweep->again = NULL;
    }
    sweep->phase = STATE_SWEEP_BEGIN;
    sweep->span_bytes = 0;
    if (sweep->tidy == STATE_TIDYING) {
        sweep->tidy = STATE_UNTIDY;
    }
}

bool state_sweep_waits(struct io_state *io)
{
    return state_of(io)->n_dropped > 0;
}

bool state_sweep_pending(const struct state_worker *worker)
{
    const struct state_sweep *sweep = &worker->sweep;

    return worker->failed == ST_OK && (sweep->n_ranges > 0 || sweep->tidy != STATE_TIDY);
}

/* ---- What a step consists of ---- */

static struct slice state_sweep_note(uint64_t range, uint8_t key[STATE_SWEEP_NOTE])
{
    memcpy(key, "msweep", 6);
    set_u64_be(key + 6, range);
    return slice_of(key, STATE_SWEEP_NOTE);
}

static void state_sweep_write(struct state_worker *worker, leveldb_writebatch_t *batch)
{
    char *reason = NULL;

    leveldb_write(worker->db->db, worker->db->loose, batch, &reason);
    if (reason != NULL) {
        worker->failed = state_db_fail(worker->db, "delete a range", reason, worker->failure);
    }
}

static void state_sweep_write_note(struct state_worker *worker, bool there)
{
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    uint8_t key[STATE_SWEEP_NOTE];
    struct slice note = state_sweep_note(worker->sweep.ranges[0], key);

    if (there) {
        leveldb_writebatch_put(batch, (const char *)note.data, note.len, "", 0);
    } else {
        leveldb_writebatch_delete(batch, (const char *)note.data, note.len);
    }
    state_sweep_write(worker, batch);
    leveldb_writebatch_destroy(batch);
}

/* Compacts from `span` on; the next span begins at `end`. */
static void state_sweep_compact(struct state_worker *worker, struct slice end)
{
    struct state_sweep *sweep = &worker->sweep;

    state_compact_begin(worker->db, buf_slice(&sweep->span), end, worker->unflushed);
    buf_clear(&sweep->span);
    buf_put_slice(&sweep->span, end);
    sweep->span_bytes = 0;
}

/* A compaction where no key can be: LevelDB writes its memory to a table, begins its log file anew
 * and removes the files that nothing holds any more. */
static void state_sweep_flush(struct state_worker *worker)
{
    state_compact_begin(worker->db, slice_text("a"), slice_text("a"), worker->unflushed);
}

/* How many snapshots were ever taken; false: there are some. */
static bool state_sweep_no_pins(struct state_worker *worker, uint64_t *made)
{
    bool none;

    pthread_mutex_lock(&worker->lock);
    none = worker->pins_alive == 0;
    *made = worker->pins_made;
    pthread_mutex_unlock(&worker->lock);
    return none;
}

/* ---- The steps ---- */

/* On with the next range. */
static void state_sweep_leave(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;

    ASSERT(sweep->n_ranges > 0 && sweep->again == NULL);
    sweep->n_ranges--;
    memmove(sweep->ranges, sweep->ranges + 1, sweep->n_ranges * sizeof(*sweep->ranges));
    sweep->phase = STATE_SWEEP_BEGIN;
    sweep->span_bytes = 0;
}

static bool state_sweep_has_keys(struct state_worker *worker, uint64_t range)
{
    leveldb_iterator_t *iter = leveldb_create_iterator(worker->db->db, worker->db->sweep);
    struct slice position = buf_slice(&worker->sweep.position);
    struct io_key key;
    bool has;

    leveldb_iter_seek(iter, (const char *)position.data, position.len);
    has = leveldb_iter_valid(iter) && state_db_parse_key(state_db_iter_key(iter), &key) &&
          key.range == range;
    leveldb_iter_destroy(iter);
    return has;
}

static void state_sweep_begin(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;
    char error[STORE_ERROR_BYTES];
    uint8_t key[STATE_SWEEP_NOTE];
    struct buf value = {0};
    enum status noted = state_db_get(worker->db, worker->db->sweep,
                                     state_sweep_note(sweep->ranges[0], key), &value, error);

    buf_fini(&value);
    if (noted != ST_OK && noted != ST_NOT_FOUND) {
        state_worker_tell(worker, error);
    }
    buf_clear(&sweep->position);
    buf_clear(&sweep->span);
    state_db_put_key(&sweep->position, (struct io_key){sweep->ranges[0], 0, {0}});
    buf_put_slice(&sweep->span, buf_slice(&sweep->position));
    if (noted != ST_OK && !state_sweep_has_keys(worker, sweep->ranges[0])) {
        state_sweep_leave(worker); /* none of it ever reached the disk */
        return;
    }
    state_sweep_write_note(worker, true);
    state_sweep_flush(worker);
    sweep->phase = STATE_SWEEP_DELETE;
    sweep->tidy = STATE_UNTIDY;
}

/* All keys are deleted. */
static void state_sweep_end(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;
    struct buf end = {0};

    state_db_put_key(&end, (struct io_key){sweep->ranges[0] + 1, 0, {0}});
    state_sweep_compact(worker, buf_slice(&end));
    buf_fini(&end);
    sweep->phase = STATE_SWEEP_END;
}

/* Adds the deletion of the keys from the iterator's place on to the batch, until the piece is full
 * or the range ends (then false). */
static bool state_sweep_fill(struct state_worker *worker, leveldb_iterator_t *iter,
                             leveldb_writebatch_t *batch)
{
    struct state_sweep *sweep = &worker->sweep;
    struct io_key key;
    size_t bytes = 0;

    for (uint32_t n = 0;; n++, leveldb_iter_next(iter)) {
        struct slice text;

        if (!leveldb_iter_valid(iter)) {
            return false;
        }
        text = state_db_iter_key(iter);
        if (!state_db_parse_key(text, &key) || key.range != sweep->ranges[0]) {
            return false;
        }
        if (n >= worker->options.sweep_keys || bytes >= STATE_SWEEP_BYTES) {
            buf_clear(&sweep->position);
            buf_put_slice(&sweep->position, text);
            return true;
        }
        leveldb_writebatch_delete(batch, (const char *)text.data, text.len);
        bytes += text.len;
        sweep->span_bytes += text.len + state_db_iter_value(iter).len;
    }
}

/* Writes the deletes; keeps them for another time if a snapshot came in between. */
static void state_sweep_write_deletes(struct state_worker *worker, leveldb_writebatch_t *batch,
                                      uint64_t pins_before)
{
    struct state_sweep *sweep = &worker->sweep;
    uint64_t pins_after;

    state_sweep_write(worker, batch);
    state_sweep_no_pins(worker, &pins_after);
    ASSERT(sweep->again == NULL && pins_after >= pins_before);
    if (pins_after != pins_before && worker->failed == ST_OK) {
        sweep->again = batch;
    } else {
        leveldb_writebatch_destroy(batch);
    }
}

static bool state_sweep_delete(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;
    leveldb_writebatch_t *batch = sweep->again;
    leveldb_iterator_t *iter;
    char error[STORE_ERROR_BYTES];
    uint64_t pins;
    bool damaged;

    if (!state_sweep_no_pins(worker, &pins)) {
        return false;
    }
    if (batch != NULL) {
        sweep->again = NULL;
        state_sweep_write_deletes(worker, batch, pins);
        return true;
    }
    if (sweep->position.len == 0) {
        state_sweep_end(worker);
        return true;
    }
    if (sweep->span_bytes >= STATE_SWEEP_COMPACT) {
        state_sweep_compact(worker, buf_slice(&sweep->position));
        return true;
    }
    batch = leveldb_writebatch_create();
    iter = leveldb_create_iterator(worker->db->db, worker->db->sweep);
    leveldb_iter_seek(iter, (const char *)sweep->position.data, sweep->position.len);
    if (!state_sweep_fill(worker, iter, batch)) {
        buf_clear(&sweep->position);
    }
    damaged = state_db_iter_status(worker->db, iter, error) != ST_OK;
    leveldb_iter_destroy(iter);
    if (damaged) {
        /* In a range that nobody reads: left alone, until the next start. Where it is, is said now:
         * it is looked for only once. */
        leveldb_writebatch_destroy(batch);
        state_worker_tell(worker, error);
        state_sweep_leave(worker);
    } else {
        state_sweep_write_deletes(worker, batch, pins);
    }
    return true;
}

/* Has replaced files removed, now that no iteration and no snapshot can hold them. */
static bool state_sweep_tidy(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;
    uint64_t pins;

    if (sweep->tidy == STATE_TIDYING) {
        sweep->tidy = STATE_TIDY;
        atomic_store(&worker->disk_bytes, disk_dir_bytes(worker->db->path));
        return true;
    }
    if (!state_sweep_no_pins(worker, &pins) || atomic_load(&worker->open_iters) > 0) {
        return false;
    }
    state_sweep_flush(worker);
    sweep->tidy = STATE_TIDYING;
    return true;
}

bool state_sweep_piece(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;

    if (state_compact_busy(worker->db) || !state_room_is_there(&worker->options)) {
        return false;
    }
    if (sweep->n_ranges == 0) {
        return state_sweep_tidy(worker);
    }
    /* Never what the durable checkpoint contains, nor the service's own range. */
    ASSERT(sweep->ranges[0] != 0);
    ASSERT(!state_meta_has_range(&worker->meta, sweep->ranges[0]));
    switch (sweep->phase) {
    case STATE_SWEEP_BEGIN:
        state_sweep_begin(worker);
        return true;
    case STATE_SWEEP_DELETE:
        return state_sweep_delete(worker);
    case STATE_SWEEP_END:
        break;
    }
    state_sweep_write_note(worker, false);
    state_sweep_leave(worker);
    return true;
}

/* ---- keep_ranges ---- */

struct state_keep_job {
    struct state_job job;
    struct state_db *db;
    struct state_meta keep; /* its ranges: not to be deleted */
};

/* The first range after `after` that holds keys; 0: none, or damage. */
static uint64_t state_sweep_next_range(struct state_keep_job *job, leveldb_iterator_t *iter,
                                       uint64_t after)
{
    struct buf key = {0};
    struct io_key found;
    uint64_t range = 0;

    state_db_put_key(&key, (struct io_key){after + 1, 0, {0}});
    leveldb_iter_seek(iter, (const char *)key.data, key.len);
    buf_fini(&key);
    if (state_db_iter_status(job->db, iter, job->job.note) == ST_OK && leveldb_iter_valid(iter) &&
        state_db_parse_key(state_db_iter_key(iter), &found)) {
        range = found.range;
        ASSERT(range > after);
    }
    return range;
}

/* The ranges that a note says were being deleted when the last run ended. */
static void state_sweep_add_noted(struct state_worker *worker, leveldb_iterator_t *iter,
                                  const struct state_meta *keep)
{
    uint8_t first[STATE_SWEEP_NOTE];
    struct slice note = state_sweep_note(0, first);

    leveldb_iter_seek(iter, (const char *)note.data, note.len);
    for (; leveldb_iter_valid(iter); leveldb_iter_next(iter)) {
        struct slice key = state_db_iter_key(iter);
        uint64_t range;

        if (key.len != note.len || memcmp(key.data, note.data, 6) != 0) {
            break;
        }
        range = get_u64_be(key.data + 6);
        if (range != 0 && !state_meta_has_range(keep, range)) {
            state_sweep_add(worker, &range, 1);
        }
    }
}

/* Jobs run in order: no checkpoint that began after the call is on disk yet, so ranges that are
 * given out later are not seen here. */
static void state_sweep_run_keep(struct state_worker *worker, struct state_job *base)
{
    struct state_keep_job *job = (struct state_keep_job *)base;
    leveldb_iterator_t *iter;
    uint64_t range = 0;

    if (job->db != worker->db || worker->failed != ST_OK) {
        return; /* an install replaced it */
    }
    iter = leveldb_create_iterator(job->db->db, job->db->sweep);
    state_sweep_add_noted(worker, iter, &job->keep);
    while (range != UINT64_MAX && (range = state_sweep_next_range(job, iter, range)) != 0) {
        if (!state_meta_has_range(&job->keep, range)) {
            state_sweep_add(worker, &range, 1);
        }
    }
    leveldb_iter_destroy(iter);
}

static void state_sweep_release_keep(struct state_job *base)
{
    state_meta_fini(&((struct state_keep_job *)base)->keep);
}

/* keep = a united with b, both ascending. */
static void state_sweep_unite(struct state_meta *keep, const uint64_t *b, size_t n)
{
    uint64_t *both = mem_alloc((keep->n_ranges + n) * sizeof(*both));
    size_t i = 0, j = 0, count = 0;

    while (i < keep->n_ranges || j < n) {
        uint64_t next =
            j == n || (i < keep->n_ranges && keep->ranges[i] <= b[j]) ? keep->ranges[i] : b[j];
        i += i < keep->n_ranges && keep->ranges[i] == next;
        j += j < n && b[j] == next;
        both[count++] = next;
    }
    mem_free(keep->ranges);
    keep->ranges = both;
    keep->n_ranges = count;
}

/* Ranges of a checkpoint that are not wanted any more wait for a checkpoint without them. */
static void state_sweep_wait(struct state *state, const struct state_meta *meta,
                             const struct state_meta *wanted)
{
    for (size_t i = 0; i < meta->n_ranges; i++) {
        if (!state_meta_has_range(wanted, meta->ranges[i])) {
            state_add_dropped(state, meta->ranges[i]);
        }
    }
}

void state_sweep_keep(struct io_state *io, const uint64_t *ranges, size_t n)
{
    struct state *state = state_of(io);
    const struct state_meta wanted = {.ranges = (uint64_t *)ranges, .n_ranges = n};
    struct state_keep_job *job;

    for (size_t i = 0; i < n; i++) {
        ASSERT(ranges[i] > (i > 0 ? ranges[i - 1] : 0));
    }
    state_sweep_wait(state, &state->meta, &wanted);
    state_sweep_wait(state, &state->next, &wanted);
    job = mem_zalloc(sizeof(*job));
    job->db = state->db;
    state_sweep_unite(&job->keep, ranges, n);
    state_sweep_unite(&job->keep, state->meta.ranges, state->meta.n_ranges);
    state_sweep_unite(&job->keep, state->next.ranges, state->next.n_ranges);
    job->job.run = state_sweep_run_keep;
    job->job.release = state_sweep_release_keep;
    state_worker_queue(state->worker, &job->job);
}
