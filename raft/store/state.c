/* state: the state of one group on LevelDB: opening and closing, reads and writes on the loop
 * thread, and the table of operations. state_private.h tells how the files divide the work.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

void state_options_default(struct state_options *options, const char *path, group_id group)
{
    /* The write buffer is as large as the largest ordinary checkpoint (LevelDB holds two in memory,
     * each with a checkpoint on top, which does not wait): the smaller it is, the more often
     * LevelDB merges what it has. A piece of a deletion is about 10 ms of the background thread's
     * time, the longest that a checkpoint waits for it. */
    *options = (struct state_options){
        .path = path,
        .group = group,
        .cache_bytes = 16u << 20,
        .row_cache_bytes = 48u << 20,
        .write_buffer_bytes = 16u << 20,
        .sweep_keys = 4096,
        .sweep_pause_ms = 2,
    };
}

/* ---- What is counted on the loop thread ---- */

struct state_discard_job {
    struct state_job job;
    struct state_db *db;
    struct overlay *overlay;
    struct row_cache *rows;
};

static void state_discard_release(struct state_job *base)
{
    struct state_discard_job *job = (struct state_discard_job *)base;

    state_db_close(&job->db);
    overlay_destroy(&job->overlay);
    row_cache_destroy(&job->rows);
}

static void state_discard_run(struct state_worker *worker, struct state_job *base)
{
    (void)worker;
    state_discard_release(base);
}

/* Closing a database, and freeing a large overlay or a cache, take time that the loop thread does
 * not have. */
static void state_discard(struct state *state, struct state_discard_job what)
{
    struct state_discard_job *job = mem_copy(&what, sizeof(what));

    job->job.run = state_discard_run;
    job->job.release = state_discard_release;
    if (state->closing) {
        state_discard_release(&job->job);
        mem_free(job);
        return;
    }
    state_worker_queue(state->worker, &job->job);
}

void state_db_ref(struct state_db *db)
{
    ASSERT(db->references > 0);
    db->references++;
}

void state_unref_db(struct state *state, struct state_db **db)
{
    struct state_db *self = *db;

    ASSERT(self->references > 0);
    *db = NULL;
    if (--self->references == 0) {
        state_discard(state, (struct state_discard_job){.db = self});
    }
}

void state_unref_overlay(struct state *state, struct overlay **overlay)
{
    struct overlay *self = *overlay;

    *overlay = NULL;
    if (overlay_unref(self)) {
        state_discard(state, (struct state_discard_job){.overlay = self});
    }
}

void state_renew_rows(struct state *state)
{
    if (state->rows != NULL) {
        state_discard(state, (struct state_discard_job){.rows = state->rows});
    }
    state->rows = row_cache_create(state->worker->options.row_cache_bytes);
}

struct state_pin *state_pin_create(struct state *state)
{
    struct state_pin *pin = mem_zalloc(sizeof(*pin));

    pin->db = state->db;
    state_db_ref(pin->db);
    /* Counted first: whoever finds the number unchanged knows that there is none in between. */
    pthread_mutex_lock(&state->worker->lock);
    state->worker->pins_made++;
    state->worker->pins_alive++;
    pthread_mutex_unlock(&state->worker->lock);
    pin->snapshot = leveldb_create_snapshot(pin->db->db);
    pin->references = 1;
    LIST_INSERT_HEAD(&state->pins, pin, link);
    return pin;
}

void state_unref_pin(struct state *state, struct state_pin **pin)
{
    struct state_pin *self = *pin;

    ASSERT(self->references > 0);
    *pin = NULL;
    if (--self->references > 0) {
        return;
    }
    LIST_REMOVE(self, link);
    if (self->snapshot != NULL) {
        leveldb_release_snapshot(self->db->db, self->snapshot);
    }
    pthread_mutex_lock(&state->worker->lock);
    ASSERT(state->worker->pins_alive > 0);
    state->worker->pins_alive--;
    pthread_mutex_unlock(&state->worker->lock);
    state_unref_db(state, &self->db);
    mem_free(self);
}

void state_deliver(struct state *state, struct io_event *event)
{
    const struct store_mail *mail = &state->worker->options.mail;

    mail->deliver(mail->context, event);
}

/* ---- Reads and writes ---- */

static enum status state_get(struct io_state *io, struct io_key key, struct buf *value)
{
    struct state *state = state_of(io);
    const struct overlay_entry *entry = overlay_find(state->active, key);
    size_t begin = value->len;
    char error[STORE_ERROR_BYTES];
    enum status status;

    if (entry == NULL && state->frozen != NULL) {
        entry = overlay_find(state->frozen, key);
    }
    if (entry != NULL) {
        if (entry->removed) {
            return ST_NOT_FOUND;
        }
        buf_put_slice(value, overlay_entry_value(entry));
        return ST_OK;
    }
    if (row_cache_get(state->rows, key, value)) {
        return ST_OK;
    }
    if (state->db->db == NULL) {
        return ST_IO; /* it could not be opened again */
    }
    buf_clear(&state->key);
    state_db_put_key(&state->key, key);
    status = state_db_get(state->db, state->db->read, buf_slice(&state->key), value, error);
    if (status == ST_OK) {
        row_cache_keep(state->rows, key, slice_of(value->data + begin, value->len - begin));
    } else if (status != ST_NOT_FOUND) {
        trace_error(state->worker->options.trace, "state read failed error=\"%s\"", error);
    }
    return status;
}

static void state_put(struct io_state *io, struct io_key key, struct slice value)
{
    struct state *state = state_of(io);

    ASSERT(atomic_load(&state->worker->open_iters) == 0);
    row_cache_forget(state->rows, key);
    overlay_put(state->active, key, value);
}

static void state_remove(struct io_state *io, struct io_key key)
{
    struct state *state = state_of(io);

    ASSERT(atomic_load(&state->worker->open_iters) == 0);
    row_cache_forget(state->rows, key);
    overlay_remove(state->active, key);
}

static uint64_t state_dirty_bytes(struct io_state *io)
{
    return overlay_bytes(state_of(io)->active);
}

static uint64_t state_disk_bytes(struct io_state *io)
{
    return atomic_load(&state_of(io)->worker->disk_bytes);
}

/* An estimate: LevelDB's, of its tables, and what the overlays hold; overwrites count twice. */
static uint64_t state_range_bytes(struct io_state *io, uint64_t range)
{
    struct state *state = state_of(io);
    struct buf from = {0}, to = {0};
    const char *starts[1], *limits[1];
    size_t start_lens[1], limit_lens[1];
    uint64_t bytes = 0;

    state_db_put_key(&from, (struct io_key){range, 0, {0}});
    state_db_put_key(&to, (struct io_key){range + 1, 0, {0}});
    starts[0] = (const char *)from.data;
    limits[0] = (const char *)to.data;
    start_lens[0] = from.len;
    limit_lens[0] = to.len;
    if (state->db->db != NULL) {
        leveldb_approximate_sizes(state->db->db, 1, starts, start_lens, limits, limit_lens, &bytes);
    }
    bytes += overlay_range_bytes(state->active, range);
    bytes += state->frozen == NULL ? 0 : overlay_range_bytes(state->frozen, range);
    buf_fini(&from);
    buf_fini(&to);
    return bytes;
}

static const struct io_state_ops state_ops = {
    .get = state_get,
    .put = state_put,
    .remove = state_remove,
    .iter_open = state_iter_open,
    .iter_next = state_iter_next,
    .iter_close = state_iter_close,
    .drop_range = state_sweep_drop,
    .keep_ranges = state_sweep_keep,
    .drops_wait = state_sweep_waits,
    .checkpoint = state_checkpoint_begin,
    .dirty_bytes = state_dirty_bytes,
    .disk_bytes = state_disk_bytes,
    .range_bytes = state_range_bytes,
    .snapshot_open = state_send_open,
    .snapshot_read = state_send_read,
    .snapshot_close = state_send_close,
    .install_chunk = state_install_chunk,
};

/* ---- Opening and closing ---- */

/* What state_open works with. */
struct state_opening {
    const struct state_options *options;
    uint64_t durable;
    raft_index durable_index;
    struct state_files files;
    struct state_db *db;
    struct state_meta meta;
};

/* Where an opened database stands, checked. Closes it again if that is not in order. */
static enum status state_open_load(struct state_opening *opening, char *error)
{
    enum status status = state_meta_load(opening->db, opening->options->group, opening->durable,
                                         opening->durable_index, &opening->meta, error);

    if (status != ST_OK) {
        state_db_close(&opening->db);
    }
    return status;
}

static enum status state_open_db(struct state_opening *opening, bool paranoid, char *error)
{
    return state_db_open(opening->options, opening->files.current, false, paranoid, &opening->db,
                         error);
}

/* Opens the database that CURRENT names. A crash can leave LevelDB's log file with an end whose
 * pages reached the disk in another order: a paranoid open refuses that. Then it is opened once
 * without, which drops what is damaged; the result counts only if no checkpoint is missing, and is
 * used only after a paranoid open again. */
static enum status state_open_torn(struct state_opening *opening, char *error)
{
    char reason[STORE_ERROR_BYTES];
    enum status status;

    memcpy(reason, error, sizeof(reason));
    status = state_open_db(opening, false, error);
    if (status == ST_OK) {
        status = state_open_load(opening, error);
    }
    if (status == ST_OK) {
        trace_warn(opening->options->trace, "state was torn at its end reason=\"%s\"", reason);
        state_db_close(&opening->db);
        state_meta_fini(&opening->meta);
        status = state_open_db(opening, true, error);
    }
    return status;
}

/* LevelDB may drop what is damaged as it opens, so where that is, is looked for before; of all
 * files, only if it says that some are. */
static enum status state_open_current(struct state_opening *opening, char *error)
{
    char *path = state_db_path(opening->options->path, opening->files.current);
    char place[STORE_ERROR_BYTES] = "a record can't be read; " STORE_REBUILD;
    bool found = state_verify_explain(path, true, place);
    enum status status = state_open_db(opening, true, error);

    if (status == ST_CORRUPT) {
        memcpy(place, error, sizeof(place));
        found = state_verify_explain(path, false, place);
        status = state_open_torn(opening, error);
    }
    if (status == ST_OK) {
        status = state_open_load(opening, error);
    }
    if (status == ST_CORRUPT && found) {
        memcpy(error, place, sizeof(place));
    }
    mem_free(path);
    return status;
}

/* Without CURRENT: a first start, or one that a crash cut short. A database that has had a
 * checkpoint says that CURRENT was lost. */
static enum status state_open_new(struct state_opening *opening, char *error)
{
    const struct state_options *options = opening->options;
    enum status status = ST_OK;

    if (opening->durable > 0 || opening->durable_index > 0) {
        disk_format_error(
            error, "%s/CURRENT is missing, but the log says that there was a state; " STORE_REBUILD,
            options->path);
        return ST_CORRUPT;
    }
    for (size_t i = 0; i < opening->files.n_others && status == ST_OK; i++) {
        struct state_meta meta = {0};
        bool lost;

        if (state_db_open(options, opening->files.others[i], false, false, &opening->db, error) ==
            ST_OK) {
            lost = state_meta_load(opening->db, options->group, 0, 0, &meta, error) != ST_OK ||
                   meta.number > 0;
            state_meta_fini(&meta);
            state_db_close(&opening->db);
            if (lost) {
                disk_format_error(error,
                                  "%s/CURRENT is missing, but db-%llu is not empty; " STORE_REBUILD,
                                  options->path, (unsigned long long)opening->files.others[i]);
                return ST_CORRUPT;
            }
        }
        status = state_db_destroy(options->path, opening->files.others[i], error);
    }
    opening->files.n_others = 0;
    opening->files.current = 1;
    if (status == ST_OK) {
        status = state_db_open(options, 1, true, true, &opening->db, error);
    }
    if (status == ST_OK) {
        status = state_db_sync_names(opening->db, error);
    }
    if (status == ST_OK) {
        status = disk_sync_dir(options->path, error);
    }
    if (status == ST_OK) {
        status = state_current_write(options->path, 1, error);
    }
    opening->meta.group = options->group;
    return status;
}

static struct state *state_create(struct state_opening *opening)
{
    struct state *state = mem_zalloc(sizeof(*state));
    struct state_files *files = &opening->files;
    struct state_worker *worker;
    uint64_t highest = files->n_others > 0 ? files->others[files->n_others - 1] : 0;

    state->io.ops = &state_ops;
    state->db = opening->db;
    state->meta = opening->meta;
    state->active = overlay_create();
    LIST_INIT(&state->snapshots);
    LIST_INIT(&state->pins);
    worker = state_worker_create(opening->options, state);
    worker->db = state->db;
    state_meta_copy(&worker->meta, &state->meta);
    worker->next_db = (highest > files->current ? highest : files->current) + 1;
    worker->leftovers = files->others;
    worker->n_leftovers = files->n_others;
    files->others = NULL;
    state->worker = worker;
    state_renew_rows(state);
    state_worker_start(worker);
    return state;
}

enum status state_open(const struct state_options *options, uint64_t durable,
                       raft_index durable_index, struct state **state, struct io_state_meta *meta,
                       char *error)
{
    struct state_opening opening = {
        .options = options, .durable = durable, .durable_index = durable_index};
    enum status status;

    ASSERT(options->mail.post != NULL && options->mail.deliver != NULL);
    ASSERT(options->sweep_keys > 0);
    *state = NULL;
    *meta = (struct io_state_meta){0};
    status = disk_make_dir(options->path, error);
    if (status == ST_OK) {
        status = state_current_read(options->path, &opening.files, error);
    }
    if (status == ST_OK) {
        status = opening.files.current == 0 ? state_open_new(&opening, error)
                                            : state_open_current(&opening, error);
    }
    if (status == ST_OK) {
        *state = state_create(&opening);
        meta->checkpoint = (*state)->meta.number;
        meta->index = (*state)->meta.index;
        meta->term = (*state)->meta.term;
        buf_put_slice(&meta->extra, buf_slice(&(*state)->meta.extra));
    } else {
        state_db_close(&opening.db);
        state_meta_fini(&opening.meta);
    }
    state_files_fini(&opening.files);
    return status;
}

void state_close(struct state **state)
{
    struct state *self = *state;
    struct state_worker *worker;

    if (self == NULL) {
        return;
    }
    ASSERT(atomic_load(&self->worker->open_iters) == 0);
    worker = self->worker;
    state_worker_stop(worker);
    self->closing = true;
    if (worker->db != self->db) {
        /* An install ended whose answer is still in the mail. */
        self->db->doomed = true;
        state_db_close(&worker->db);
    }
    state_send_fini(self);
    while (!LIST_EMPTY(&self->pins)) {
        struct state_pin *pin = LIST_FIRST(&self->pins);

        pin->references = 1;
        state_unref_pin(self, &pin);
    }
    state_unref_db(self, &self->db);
    state_unref_overlay(self, &self->active);
    if (self->frozen != NULL) {
        state_unref_overlay(self, &self->frozen);
    }
    row_cache_destroy(&self->rows);
    state_meta_fini(&self->meta);
    state_meta_fini(&self->next);
    mem_free(self->dropped);
    mem_free(self->kept_drops);
    buf_fini(&self->key);
    mem_free(self);
    state_worker_unref(worker);
    *state = NULL;
}

struct io_state *state_io(struct state *state)
{
    return &state->io;
}
