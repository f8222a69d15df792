/* state_sweep: the deletion of ranges that are no longer part of the state.
 *
 * A dropped range stays on disk until a checkpoint that does not contain it is durable: a crash
 * before that goes back to a checkpoint that does, and replays entries that may read it. Then the
 * background thread deletes its keys in pieces, with pauses, while no job waits. The deletes are
 * not synced: what of them a crash forgets is deleted again by keep_ranges after the start. When
 * enough has been deleted, LevelDB compacts that span, so that the space comes back.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STATE_SWEEP_BYTES   (256u << 10) /* of keys in one piece, at most about */
#define STATE_SWEEP_COMPACT (8u << 20)   /* deleted bytes after which their span is compacted */
#define STATE_SWEEP_WORTH   (1u << 20)   /* less than this at a range's end is left to LevelDB */

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
    *sweep = (struct state_sweep){0};
}

bool state_sweep_pending(const struct state_worker *worker)
{
    return worker->sweep.n_ranges > 0 && worker->failed == ST_OK;
}

static void state_sweep_compact(struct state_worker *worker, struct slice end)
{
    struct state_sweep *sweep = &worker->sweep;

    leveldb_compact_range(worker->db->db, (const char *)sweep->span.data, sweep->span.len,
                          (const char *)end.data, end.len);
    buf_clear(&sweep->span);
    buf_put_slice(&sweep->span, end);
    sweep->span_bytes = 0;
}

/* The first range is gone, or can't be deleted. */
static void state_sweep_finish_range(struct state_worker *worker, bool compact)
{
    struct state_sweep *sweep = &worker->sweep;
    struct buf end = {0};

    state_db_put_key(&end, (struct io_key){sweep->ranges[0] + 1, 0, {0}});
    if (compact && sweep->span_bytes >= STATE_SWEEP_WORTH) {
        state_sweep_compact(worker, buf_slice(&end));
    }
    buf_fini(&end);
    sweep->n_ranges--;
    memmove(sweep->ranges, sweep->ranges + 1, sweep->n_ranges * sizeof(*sweep->ranges));
    buf_clear(&sweep->position);
    buf_clear(&sweep->span);
    sweep->span_bytes = 0;
    if (sweep->n_ranges == 0) {
        atomic_store(&worker->disk_bytes, disk_dir_bytes(worker->db->path));
    }
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

void state_sweep_piece(struct state_worker *worker)
{
    struct state_sweep *sweep = &worker->sweep;
    leveldb_writebatch_t *batch;
    leveldb_iterator_t *iter;
    char error[STORE_ERROR_BYTES];
    char *reason = NULL;
    bool more, good;

    ASSERT(sweep->n_ranges > 0);
    /* Never what the durable checkpoint contains, nor the service's own range. */
    ASSERT(sweep->ranges[0] != 0);
    ASSERT(!state_meta_has_range(&worker->meta, sweep->ranges[0]));
    if (sweep->position.len == 0) {
        state_db_put_key(&sweep->position, (struct io_key){sweep->ranges[0], 0, {0}});
        buf_put_slice(&sweep->span, buf_slice(&sweep->position));
    }
    batch = leveldb_writebatch_create();
    iter = leveldb_create_iterator(worker->db->db, worker->db->sweep);
    leveldb_iter_seek(iter, (const char *)sweep->position.data, sweep->position.len);
    more = state_sweep_fill(worker, iter, batch);
    good = state_db_iter_status(worker->db, iter, error) == ST_OK;
    leveldb_iter_destroy(iter);
    leveldb_write(worker->db->db, worker->db->loose, batch, &reason);
    leveldb_writebatch_destroy(batch);
    if (reason != NULL) {
        worker->failed = state_db_fail(worker->db, "delete a range", reason, error);
    } else if (!more || !good) {
        /* Damage in a range that nobody reads: left alone, reported by whoever meets it next. */
        state_sweep_finish_range(worker, good);
    } else if (sweep->span_bytes >= STATE_SWEEP_COMPACT) {
        state_sweep_compact(worker, buf_slice(&sweep->position));
    }
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
