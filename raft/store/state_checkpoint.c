/* state_checkpoint: everything written so far becomes durable, as one batch.
 *
 * On the loop thread the active overlay is frozen and a new one begins; reads see active, frozen,
 * LevelDB, in this order. The background thread turns the frozen overlay into one synced batch with
 * the meta and the checkpoint's number. Back on the loop thread, once the batch is durable, the
 * frozen overlay goes: LevelDB now shows the same. Meanwhile a pin (a LevelDB snapshot taken when
 * the checkpoint began) stands for the last finished checkpoint.
 *
 * A failed write leaves it open what is on disk, and LevelDB takes no further one: the failure is
 * sticky, every later checkpoint ends with it, and reads go on as before. But a full disk passes:
 * the frozen overlay and what belongs to it are kept then, and the next checkpoint that is asked
 * for writes those again (state_room.c).
 */
#include <stdlib.h>

#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct state_checkpoint_job {
    struct state_job job;
    struct state_db *db;
    const struct overlay *overlay; /* frozen; the state holds the reference */
    struct state_meta meta;        /* number and begin are filled in by run */
    uint64_t *drops;               /* ascending: dropped before the checkpoint began */
    size_t n_drops;
    enum status status;
    bool broken; /* LevelDB can't write before it was opened again */
};

static bool state_checkpoint_drops(const struct state_checkpoint_job *job, uint64_t range)
{
    const struct state_meta drops = {.ranges = job->drops, .n_ranges = job->n_drops};

    return state_meta_has_range(&drops, range);
}

/* All entries of the frozen overlay, but those of ranges that are to be deleted anyway. In order:
 * LevelDB takes any, but then it looks for the place of each in memory that is in no cache. */
static void state_checkpoint_fill(const struct state_checkpoint_job *job,
                                  leveldb_writebatch_t *batch)
{
    const struct overlay_entry **sorted = overlay_sort(job->overlay);
    uint64_t last_range = 0;
    bool skip = false;
    struct buf key = {0};

    for (size_t i = 0; i < overlay_count(job->overlay); i++) {
        const struct overlay_entry *entry = sorted[i];

        if (entry->range->number != last_range) {
            last_range = entry->range->number;
            skip = state_checkpoint_drops(job, last_range);
        }
        if (skip) {
            continue;
        }
        buf_clear(&key);
        state_db_put_key(&key, (struct io_key){last_range, entry->kind, overlay_entry_key(entry)});
        if (entry->removed) {
            leveldb_writebatch_delete(batch, (const char *)key.data, key.len);
        } else {
            leveldb_writebatch_put(batch, (const char *)key.data, key.len,
                                   (const char *)entry->value, entry->value_len);
        }
    }
    mem_free(sorted);
    buf_fini(&key);
}

static enum status state_checkpoint_write(struct state_worker *worker,
                                          struct state_checkpoint_job *job)
{
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    char *reason = NULL;
    enum status status = ST_OK;

    state_checkpoint_fill(job, batch);
    state_meta_put(&job->meta, batch);
    leveldb_write(job->db->db, job->db->sync, batch, &reason);
    leveldb_writebatch_destroy(batch);
    if (reason != NULL) {
        status = state_db_fail(job->db, "checkpoint", reason, job->job.note);
    } else {
        /* LevelDB shows the records already: there is no way back to the checkpoint before, even if
         * it is for lack of room, which may pass. The next start decides. */
        status = state_db_sync_names(job->db, job->job.note);
        status = status == ST_NO_SPACE ? ST_IO : status;
    }
    worker->failed = status;
    return status;
}

static void state_checkpoint_run(struct state_worker *worker, struct state_job *base)
{
    struct state_checkpoint_job *job = (struct state_checkpoint_job *)base;

    job->status = state_worker_failed(worker, base);
    if (job->status != ST_OK) {
        job->broken = true;
        return;
    }
    if (job->db != worker->db) {
        job->status = ST_CANCELLED; /* an install replaced the state that it was of */
        return;
    }
    /* The batch goes to LevelDB's log, and into a table in its time. */
    if (!state_room_ask(&worker->options, 2 * overlay_bytes(job->overlay))) {
        job->status = ST_NO_SPACE;
        return;
    }
    job->meta.number = worker->meta.number + 1;
    job->meta.begin = worker->meta.number == 0 ? job->meta.number : worker->meta.begin;
    job->status = state_checkpoint_write(worker, job);
    job->broken = job->status != ST_OK;
    if (job->broken) {
        return;
    }
    state_meta_fini(&worker->meta);
    state_meta_copy(&worker->meta, &job->meta);
    worker->unflushed++;
    /* Only now may the dropped ranges go: the durable checkpoint does not contain them. */
    state_sweep_add(worker, job->drops, job->n_drops);
    state_install_outdated(worker);
    atomic_store(&worker->disk_bytes, disk_dir_bytes(worker->db->path));
}

/* No room: the same checkpoint is written when it is asked for again. */
static void state_checkpoint_keep(struct state *state, struct state_checkpoint_job *job)
{
    ASSERT(job->db == state->db && state->frozen != NULL && state->kept_drops == NULL);
    state->broken = job->broken;
    state->kept_drops = job->drops;
    state->n_kept_drops = job->n_drops;
    job->drops = NULL;
    state_unref_pin(state, &state->pin); /* LevelDB shows the last finished one by itself now */
}

static void state_checkpoint_finish(struct state *state, struct state_job *base)
{
    struct state_checkpoint_job *job = (struct state_checkpoint_job *)base;
    struct io_event event = {.type = IO_EVENT_CHECKPOINT};

    ASSERT(state->checkpointing);
    state->checkpointing = false;
    if (job->status != ST_NO_SPACE) {
        state_meta_fini(&state->next);
    }
    if (job->status == ST_OK) {
        ASSERT(job->db == state->db);
        ASSERT(job->meta.number > state->meta.number);
        state_meta_fini(&state->meta);
        state->meta = job->meta;
        job->meta = (struct state_meta){0};
        state_unref_overlay(state, &state->frozen);
        state_unref_pin(state, &state->pin);
    } else if (job->status == ST_NO_SPACE) {
        state_checkpoint_keep(state, job);
    } else if (job->status != ST_CANCELLED) {
        /* The frozen overlay stays: reads go on, though nothing becomes durable any more. */
        state->failed = job->status;
    }
    event.checkpoint.group = state->worker->options.group;
    event.checkpoint.number = state->meta.number;
    event.checkpoint.index = state->meta.index;
    event.checkpoint.status = job->status;
    state_deliver(state, &event);
}

static void state_checkpoint_release(struct state_job *base)
{
    struct state_checkpoint_job *job = (struct state_checkpoint_job *)base;

    state_meta_fini(&job->meta);
    mem_free(job->drops);
}

static int state_checkpoint_order(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* The dropped ranges that this checkpoint does not contain any more; the others wait on. */
static void state_checkpoint_take_drops(struct state *state, struct state_checkpoint_job *job)
{
    size_t waiting = 0;

    if (state->n_dropped == 0) {
        return;
    }
    job->drops = mem_alloc(state->n_dropped * sizeof(*job->drops));
    for (size_t i = 0; i < state->n_dropped; i++) {
        uint64_t range = state->dropped[i];

        if (state_meta_has_range(&job->meta, range)) {
            state->dropped[waiting++] = range;
        } else {
            job->drops[job->n_drops++] = range;
        }
    }
    state->n_dropped = waiting;
    qsort(job->drops, job->n_drops, sizeof(*job->drops), state_checkpoint_order);
}

void state_checkpoint_begin(struct io_state *io, const struct io_checkpoint *checkpoint)
{
    struct state *state = state_of(io);
    struct state_checkpoint_job *job = mem_zalloc(sizeof(*job));
    const struct state_meta meta = {
        .group = state->worker->options.group,
        .index = checkpoint->index,
        .term = checkpoint->term,
        .extra = {(uint8_t *)checkpoint->extra.data, checkpoint->extra.len, 0},
        .ranges = (uint64_t *)checkpoint->ranges,
        .n_ranges = checkpoint->n_ranges};

    /* At most one at a time, and the state never goes back. */
    ASSERT(!state->checkpointing);
    ASSERT(checkpoint->index >= state->meta.index);
    for (size_t i = 0; i < checkpoint->n_ranges; i++) {
        ASSERT(checkpoint->ranges[i] > (i > 0 ? checkpoint->ranges[i - 1] : 0));
    }
    if (state->broken && state->failed == ST_OK) {
        state_room_recover(state);
    }
    state->checkpointing = true;
    if (state->failed != ST_OK) {
        state_meta_copy(&job->meta, &meta);
    } else if (state->frozen != NULL) { /* one found no room: that one, again */
        state_meta_copy(&job->meta, &state->next);
        job->drops = state->kept_drops;
        job->n_drops = state->n_kept_drops;
        state->kept_drops = NULL;
        state->pin = state_pin_create(state);
    } else {
        ASSERT(state->pin == NULL);
        state_meta_copy(&job->meta, &meta);
        state->pin = state_pin_create(state);
        state->frozen = state->active;
        overlay_freeze(state->frozen);
        state->active = overlay_create();
        state_meta_copy(&state->next, &meta);
        state_checkpoint_take_drops(state, job);
    }
    job->db = state->db;
    job->overlay = state->frozen;
    job->job.run = state_checkpoint_run;
    job->job.finish = state_checkpoint_finish;
    job->job.release = state_checkpoint_release;
    state_worker_queue(state->worker, &job->job);
}
