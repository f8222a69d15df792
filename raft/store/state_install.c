/* state_install: a snapshot that arrives in chunks and becomes the state.
 *
 * It is built in a database of its own, db-N beside the current one. Each chunk is one synced batch
 * together with the key "mincoming" (how far it got), so that after a crash the transfer goes on
 * where it was; the stream's header is kept under "mheader" meanwhile. The last chunk is checked
 * (count of records, CRC32C of the stream), the meta of a fresh chain of checkpoint numbers is
 * written, everything is moved into tables, and then CURRENT is switched: the rename of that one
 * file is the moment of the change. A crash before it leaves the old state and a db-N that is
 * resumed or removed; a crash after it the new state and an old database that is removed.
 *
 * What arrives is hostile: a stream that breaks a rule of state_send.c is thrown away as a whole,
 * and the state is as before.
 */
#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

#define STATE_INCOMING_VERSION 1

static const char incoming_key[] = "mincoming";
static const char header_key[] = "mheader";

struct state_install_job {
    struct state_job job;
    raft_index index;
    raft_term term;
    uint64_t offset;
    struct buf data;
    bool done;
    /* Filled in by run. */
    uint64_t durable; /* offset */
    enum status status;
    bool broken;             /* LevelDB can't write before it was opened again */
    bool answered_installed; /* the answer is IO_EVENT_INSTALLED */
    struct state_db *db;     /* installed: the new current database */
    struct state_meta meta;  /* and where it stands */
};

/* ---- What is kept of it ---- */

static void state_install_forget(struct state_worker *worker)
{
    struct state_incoming *incoming = &worker->incoming;

    state_meta_fini(&incoming->meta);
    buf_fini(&incoming->last_key);
    *incoming = (struct state_incoming){0};
}

void state_install_discard(struct state_worker *worker)
{
    if (worker->incoming.db != NULL) {
        worker->incoming.db->doomed = true;
        state_db_close(&worker->incoming.db);
    }
    state_install_forget(worker);
}

void state_install_outdated(struct state_worker *worker)
{
    if (worker->incoming.db != NULL && worker->incoming.index <= worker->meta.index) {
        state_install_discard(worker);
    }
}

/* How far it got, as part of the chunk's batch. */
static void state_install_put_progress(const struct state_incoming *incoming,
                                       leveldb_writebatch_t *batch)
{
    struct buf value = {0};

    ASSERT(incoming->has_meta && incoming->offset > 0);
    buf_put_u16(&value, STATE_INCOMING_VERSION);
    buf_put_u64(&value, incoming->index);
    buf_put_u64(&value, incoming->term);
    buf_put_u64(&value, incoming->offset);
    buf_put_u64(&value, incoming->count);
    buf_put_u32(&value, incoming->crc);
    buf_put_bytes(&value, buf_slice(&incoming->last_key));
    leveldb_writebatch_put(batch, incoming_key, sizeof(incoming_key) - 1, (const char *)value.data,
                           value.len);
    buf_fini(&value);
}

/* Reads the header of a stream; the rest is left in the reader. */
static bool state_install_read_header(struct reader *reader, struct state_meta *meta)
{
    bool good = reader_u32(reader) == STATE_STREAM_MAGIC;

    good = reader_u16(reader) == STATE_STREAM_VERSION && good;
    good = reader_u16(reader) == 0 && good;
    meta->group = reader_u32(reader);
    meta->index = reader_u64(reader);
    meta->term = reader_u64(reader);
    good = good && state_meta_get_ranges(reader, &meta->ranges, &meta->n_ranges);
    if (good) {
        buf_put_slice(&meta->extra, reader_bytes(reader, reader_left(reader)));
    }
    return good && reader_ok(reader);
}

/* Reads back what state_install_put_progress and the header's key hold. */
static bool state_install_load(struct state_incoming *incoming)
{
    char error[STORE_ERROR_BYTES];
    struct buf value = {0}, header = {0};
    struct reader reader;
    bool good;

    good = state_db_get(incoming->db, incoming->db->read, slice_text(incoming_key), &value,
                        error) == ST_OK &&
           state_db_get(incoming->db, incoming->db->read, slice_text(header_key), &header, error) ==
               ST_OK;
    reader = reader_of(buf_slice(&value));
    good = reader_u16(&reader) == STATE_INCOMING_VERSION && good;
    incoming->index = reader_u64(&reader);
    incoming->term = reader_u64(&reader);
    incoming->offset = reader_u64(&reader);
    incoming->count = reader_u64(&reader);
    incoming->crc = reader_u32(&reader);
    buf_put_slice(&incoming->last_key, reader_bytes(&reader, reader_left(&reader)));
    good = reader_done(&reader) && good;
    reader = reader_of(buf_slice(&header));
    good = good && state_install_read_header(&reader, &incoming->meta) && reader_done(&reader);
    incoming->has_meta = true;
    buf_fini(&value);
    buf_fini(&header);
    return good;
}

/* Whether all the records of the chunks so far are there. */
static bool state_install_is_whole(const struct state_incoming *incoming)
{
    leveldb_iterator_t *iter = leveldb_create_iterator(incoming->db->db, incoming->db->sweep);
    char error[STORE_ERROR_BYTES];
    uint64_t count = 0;
    bool good;

    for (leveldb_iter_seek(iter, "u", 1); leveldb_iter_valid(iter); leveldb_iter_next(iter)) {
        count++;
    }
    good = state_db_iter_status(incoming->db, iter, error) == ST_OK;
    leveldb_iter_destroy(iter);
    return good && count == incoming->count;
}

/* Opens what was being received. If its end was torn (see state_open_torn), it is opened once
 * without paranoid checks, which may drop chunks, and counts only if it still has every record. */
static bool state_install_reopen(struct state_worker *worker, uint64_t number)
{
    struct state_incoming *incoming = &worker->incoming;
    char error[STORE_ERROR_BYTES];
    enum status status = state_db_open(&worker->options, number, false, true, &incoming->db, error);
    bool torn = status == ST_CORRUPT;

    if (torn) {
        status = state_db_open(&worker->options, number, false, false, &incoming->db, error);
        if (status == ST_OK) {
            state_db_close(&incoming->db);
            status = state_db_open(&worker->options, number, false, true, &incoming->db, error);
        }
    }
    return status == ST_OK && state_install_load(incoming) &&
           incoming->index > worker->meta.index && (!torn || state_install_is_whole(incoming));
}

void state_install_resume(struct state_worker *worker)
{
    char error[STORE_ERROR_BYTES];

    /* Only the last one can be an unfinished transfer; and it is of no use if it is damaged, or if
     * its snapshot is not ahead of the state. */
    for (size_t i = 0; i < worker->n_leftovers; i++) {
        uint64_t number = worker->leftovers[i];
        bool resumed = i + 1 == worker->n_leftovers && state_install_reopen(worker, number);

        ASSERT(number != worker->db->number);
        if (!resumed) {
            state_install_discard(worker);
            state_db_destroy(worker->options.path, number, error);
        }
    }
}

static enum status state_install_begin(struct state_worker *worker, struct state_install_job *job)
{
    struct state_incoming *incoming = &worker->incoming;
    uint64_t number = worker->next_db++;
    char error[STORE_ERROR_BYTES];
    enum status status;

    ASSERT(job->offset == 0);
    state_install_discard(worker);
    incoming->index = job->index;
    incoming->term = job->term;
    status = state_db_open(&worker->options, number, true, true, &incoming->db, job->job.note);
    if (status == ST_OK) {
        return disk_sync_dir(worker->options.path, job->job.note);
    }
    /* Each try has a number of its own, so what a failed one made would stay. */
    state_db_destroy(worker->options.path, number, error);
    return status;
}

/* ---- One chunk ---- */

static bool state_install_take_header(struct state_worker *worker, struct reader *reader,
                                      leveldb_writebatch_t *batch)
{
    struct state_incoming *incoming = &worker->incoming;
    const uint8_t *start = reader->at;

    if (!state_install_read_header(reader, &incoming->meta) ||
        incoming->meta.group != worker->options.group || incoming->meta.index != incoming->index ||
        incoming->meta.term != incoming->term) {
        return false;
    }
    incoming->has_meta = true;
    leveldb_writebatch_put(batch, header_key, sizeof(header_key) - 1, (const char *)start,
                           (size_t)(reader->at - start));
    return true;
}

static bool state_install_take_record(struct state_incoming *incoming, struct reader *reader,
                                      leveldb_writebatch_t *batch)
{
    struct buf text = {0};
    struct io_key key;
    struct slice value;
    bool good;

    key.range = reader_u64(reader);
    key.kind = reader_u8(reader);
    key.key = reader_bytes(reader, reader_left(reader));
    value = reader_bytes(reader, reader_left(reader));
    state_db_put_key(&text, key);
    /* Keys ascend, and belong to a range of the snapshot. */
    good = reader_ok(reader) &&
           slice_compare(buf_slice(&incoming->last_key), buf_slice(&text)) < 0 &&
           (key.range == 0 || state_meta_has_range(&incoming->meta, key.range));
    if (good) {
        leveldb_writebatch_put(batch, (const char *)text.data, text.len, (const char *)value.data,
                               value.len);
        incoming->count++;
        buf_fini(&incoming->last_key);
        incoming->last_key = buf_take(&text);
    }
    buf_fini(&text);
    return good;
}

/* Adds a chunk's records to the batch. False: it breaks a rule. The header must be in the first
 * chunk; the end of the stream, with count and checksum right, must be there if and only if this is
 * the last one. */
static bool state_install_parse(struct state_worker *worker, struct slice data, bool last,
                                leveldb_writebatch_t *batch)
{
    struct state_incoming *incoming = &worker->incoming;
    struct reader reader = reader_of(data);
    bool ended = false;

    while (reader_left(&reader) > 0 && !ended) {
        const uint8_t *start = reader.at;
        uint32_t crc = 0;
        uint8_t type = incoming->has_meta ? reader_u8(&reader) : 0;
        bool good = false;

        if (!incoming->has_meta) {
            good = state_install_take_header(worker, &reader, batch);
        } else if (type == STATE_STREAM_RECORD) {
            good = state_install_take_record(incoming, &reader, batch);
        } else if (type == STATE_STREAM_END) {
            good = reader_u64(&reader) == incoming->count;
            ended = true;
        }
        incoming->crc = crc32c(incoming->crc, start, (size_t)(reader.at - start));
        crc = ended ? reader_u32(&reader) : 0;
        if (!good || !reader_ok(&reader) || (ended && crc != incoming->crc)) {
            return false;
        }
    }
    incoming->offset += data.len;
    return incoming->has_meta && ended == last && reader_done(&reader);
}

static enum status state_install_write(struct state_worker *worker, leveldb_writebatch_t *batch,
                                       char *error)
{
    struct state_db *db = worker->incoming.db;
    char *reason = NULL;

    leveldb_write(db->db, db->sync, batch, &reason);
    if (reason != NULL) {
        return state_db_fail(db, "install", reason, error);
    }
    return state_db_sync_names(db, error);
}

/* Moves everything into tables. The chunks' batches are not numbered: none of them may be left in
 * LevelDB's log file, where damage could drop one unseen. LevelDB does not say whether a compaction
 * failed; then its log still holds something, and the next write, an empty one, tells why. */
static enum status state_install_flush(struct state_worker *worker, char *error)
{
    struct state_db *db = worker->incoming.db;
    leveldb_writebatch_t *nothing;
    enum status status;

    leveldb_compact_range(db->db, "a", 1, "a", 1);
    if (state_room_to_open(db->path) == 0) {
        return state_db_sync_names(db, error);
    }
    disk_format_error(error, "%s: what was received is not in tables", db->path);
    nothing = leveldb_writebatch_create();
    status = state_install_write(worker, nothing, error);
    leveldb_writebatch_destroy(nothing);
    return status == ST_OK ? ST_IO : status;
}

/* Whether CURRENT still names the database in use. */
static bool state_install_is_unchanged(const struct state_worker *worker)
{
    char error[STORE_ERROR_BYTES];
    struct state_files files;
    bool same = state_current_read(worker->options.path, &files, error) == ST_OK &&
                files.current == worker->db->number;

    state_files_fini(&files);
    return same;
}

/* The stream is complete: its database becomes the state. */
static enum status state_install_switch(struct state_worker *worker, struct state_install_job *job,
                                        leveldb_writebatch_t *batch)
{
    struct state_incoming *incoming = &worker->incoming;
    enum status status;

    ASSERT(incoming->has_meta && incoming->index >= worker->meta.index);
    ASSERT(incoming->db->number != worker->db->number);
    incoming->meta.number = worker->meta.number + 1;
    incoming->meta.begin = incoming->meta.number;
    state_meta_put(&incoming->meta, batch);
    leveldb_writebatch_delete(batch, incoming_key, sizeof(incoming_key) - 1);
    leveldb_writebatch_delete(batch, header_key, sizeof(header_key) - 1);
    status = state_install_write(worker, batch, job->job.note);
    status = status == ST_OK ? state_install_flush(worker, job->job.note) : status;
    if (status != ST_OK) {
        return status;
    }
    status = state_current_write(worker->options.path, incoming->db->number, job->job.note);
    if (status != ST_OK) {
        /* If the name was replaced, but not for certain durably, a crash may show either state:
         * stop, even if it is for lack of room, which may pass. */
        worker->failed = state_install_is_unchanged(worker) ? ST_OK : ST_IO;
        return worker->failed == ST_OK ? status : ST_IO;
    }
    worker->db = incoming->db;
    incoming->db = NULL;
    state_meta_fini(&worker->meta);
    state_meta_copy(&worker->meta, &incoming->meta);
    job->db = worker->db;
    job->meta = incoming->meta;
    incoming->meta = (struct state_meta){0};
    state_install_forget(worker);
    state_sweep_reset(worker); /* what was to be deleted is gone with the old database */
    worker->unflushed = 0;
    atomic_store(&worker->disk_bytes, disk_dir_bytes(worker->db->path));
    return ST_OK;
}

static enum status state_install_take(struct state_worker *worker, struct state_install_job *job)
{
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    enum status status;

    if (!state_install_parse(worker, buf_slice(&job->data), job->done, batch)) {
        disk_format_error(job->job.note,
                          "%s: the snapshot of index %llu is damaged in the chunk at %llu",
                          worker->incoming.db->path, (unsigned long long)job->index,
                          (unsigned long long)job->offset);
        status = ST_CORRUPT;
    } else if (job->done) {
        status = state_install_switch(worker, job, batch);
    } else {
        state_install_put_progress(&worker->incoming, batch);
        status = state_install_write(worker, batch, job->job.note);
    }
    leveldb_writebatch_destroy(batch);
    return status;
}

static void state_install_run(struct state_worker *worker, struct state_job *base)
{
    struct state_install_job *job = (struct state_install_job *)base;
    struct state_incoming *incoming = &worker->incoming;
    bool same =
        incoming->db != NULL && incoming->index == job->index && incoming->term == job->term;

    job->durable = same ? incoming->offset : 0;
    job->status = state_worker_failed(worker, base);
    if (job->status != ST_OK) {
        job->broken = job->status == ST_NO_SPACE;
        /* Not ST_CORRUPT: that says that what came is damaged, and is asked for again. */
        job->status = job->broken ? ST_NO_SPACE : ST_IO;
        return;
    }
    /* A follower never goes back: an older snapshot is refused. */
    if (job->index < worker->meta.index) {
        job->status = ST_CONFLICT;
        return;
    }
    /* A chunk of another snapshot begins anew, if it is that snapshot's first. */
    if (!same && job->offset == 0) {
        job->status = state_install_begin(worker, job);
        job->durable = 0;
        same = true;
    }
    if (job->status == ST_OK && (!same || job->offset != incoming->offset)) {
        return; /* not the next one: says where to go on */
    }
    if (job->status == ST_OK && !state_room_ask(&worker->options, 2 * job->data.len)) {
        job->status = ST_NO_SPACE; /* what is there of it stays */
        return;
    }
    if (job->status == ST_OK) {
        job->status = state_install_take(worker, job);
        job->answered_installed = job->done;
    }
    if (worker->failed != ST_OK) {
        state_db_close(&incoming->db); /* CURRENT may name it: the next start decides */
        state_install_forget(worker);
        job->durable = 0;
    } else if (job->status != ST_OK) {
        state_install_discard(worker);
        job->durable = 0;
    } else {
        job->durable = job->offset + job->data.len;
    }
}

/* ---- On the loop thread ---- */

/* The new database takes the place of the old one and of all that was written on top of it. */
static void state_install_adopt(struct state *state, struct state_install_job *job)
{
    ASSERT(job->db != state->db && job->db->references == 1);
    ASSERT(job->meta.number > state->meta.number && job->meta.index >= state->meta.index);
    state->db->doomed = true;
    state_unref_db(state, &state->db);
    state->db = job->db;
    job->db = NULL;
    state_meta_fini(&state->meta);
    state_meta_copy(&state->meta, &job->meta);
    state_meta_fini(&state->next);
    state_unref_overlay(state, &state->active);
    state->active = overlay_create();
    state_renew_rows(state);
    if (state->frozen != NULL) {
        state_unref_overlay(state, &state->frozen);
    }
    if (state->pin != NULL) {
        state_unref_pin(state, &state->pin);
    }
    state->n_dropped = 0;
    mem_free(state->kept_drops);
    state->kept_drops = NULL;
    state->broken = false;
}

static void state_install_finish(struct state *state, struct state_job *base)
{
    struct state_install_job *job = (struct state_install_job *)base;
    struct io_event event = {.type = IO_EVENT_INSTALL_CHUNK};

    event.install.group = state->worker->options.group;
    event.install.index = job->index;
    event.install.term = job->term;
    event.install.offset = job->durable;
    event.install.status = job->status;
    if (job->answered_installed) {
        event.type = IO_EVENT_INSTALLED;
    }
    state->broken |= job->broken;
    if (job->db != NULL) {
        ASSERT(job->status == ST_OK);
        state_install_adopt(state, job);
        event.install.extra = buf_slice(&job->meta.extra);
    }
    state_deliver(state, &event);
}

static void state_install_release(struct state_job *base)
{
    struct state_install_job *job = (struct state_install_job *)base;

    buf_fini(&job->data);
    state_meta_fini(&job->meta);
}

void state_install_chunk(struct io_state *io, raft_index index, raft_term term, uint64_t offset,
                         struct slice data, bool done)
{
    struct state *state = state_of(io);
    struct state_install_job *job = mem_zalloc(sizeof(*job));

    if (state->broken && state->failed == ST_OK && !state->checkpointing) {
        state_room_recover(state);
    }
    job->index = index;
    job->term = term;
    job->offset = offset;
    buf_put_slice(&job->data, data);
    job->done = done;
    job->job.run = state_install_run;
    job->job.finish = state_install_finish;
    job->job.release = state_install_release;
    state_worker_queue(state->worker, &job->job);
}
