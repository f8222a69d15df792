/* state_room: the state on a full disk.
 *
 * LevelDB takes no write after one that failed for lack of room, nor after a compaction that did:
 * not until it is opened again. So it is asked for little where it could run short: a checkpoint or
 * a chunk of a snapshot is begun only when there is room for it, if need be the reserve's. Other
 * processes take room too, so it can fail all the same. Reads go on then. When a checkpoint is
 * asked for again and there is room, LevelDB is closed and opened again, as at a start: what it has
 * of the failed write is dropped or, if it was whole, found to be durable; either way the same
 * records are then written, again.
 *
 * Opening runs on the background thread, after all jobs before it, and the loop thread waits for
 * it: nobody reads meanwhile. Snapshots that were open are lost; their readers are told to begin
 * anew.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "raft/store/state_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STATE_REOPEN_TRIES    20 /* others may take the room that was just seen */
#define STATE_REOPEN_PAUSE_MS 25
#define STATE_REOPEN_ROOM     (4u << 20)
#define STATE_OPEN_ROOM       (1u << 20) /* for a manifest and what belongs to files */

static uint64_t state_room_lacking(const struct state_options *options, uint64_t bytes)
{
    uint64_t wanted = bytes + options->room_bytes;
    uint64_t room = options->room_bytes == 0 ? UINT64_MAX : store_free_bytes(options->path);

    return room >= wanted ? 0 : wanted - room;
}

bool state_room_is_there(const struct state_options *options)
{
    return state_room_lacking(options, 0) == 0;
}

bool state_room_ask(const struct state_options *options, uint64_t bytes)
{
    uint64_t lacking = state_room_lacking(options, bytes);

    return lacking == 0 || (store_reserve_yield(options->reserve, lacking) &&
                            state_room_lacking(options, bytes) == 0);
}

leveldb_t *state_room_open(const struct state_options *options, const struct state_db *db,
                           char **reason)
{
    uint64_t wanted = state_room_to_open(db->path) + STATE_OPEN_ROOM;
    bool more =
        store_free_bytes(options->path) >= wanted || store_reserve_yield(options->reserve, wanted);
    leveldb_t *opened = leveldb_open(db->options, db->path, reason);

    while (opened == NULL && more && strstr(*reason, "No space left") != NULL) {
        more = store_reserve_yield(options->reserve, wanted); /* others took what was there */
        if (more) {
            leveldb_free(*reason);
            *reason = NULL;
            opened = leveldb_open(db->options, db->path, reason);
        }
    }
    return opened;
}

uint64_t state_room_to_open(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    uint64_t bytes = 0;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        size_t len = strlen(entry->d_name);
        struct stat found;

        if (len > 4 && strcmp(entry->d_name + len - 4, ".log") == 0 &&
            fstatat(dirfd(directory), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0) {
            bytes += (uint64_t)found.st_size;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return bytes;
}

/* ---- Opening again ---- */

struct state_reopen_job {
    struct state_job job;
    struct state *state; /* its thread waits */
    pthread_mutex_t *lock;
    pthread_cond_t *ended;
    bool *has_ended;
};

/* Gives back everything that LevelDB must not outlive. */
static void state_reopen_let_go(struct state *state)
{
    struct state_snapshot *snapshot;
    struct state_pin *pin;

    LIST_FOREACH (snapshot, &state->snapshots, link) {
        if (snapshot->pin->db == state->db) {
            state_send_stop(snapshot);
            snapshot->lost = true;
        }
    }
    LIST_FOREACH (pin, &state->pins, link) {
        if (pin->db == state->db && pin->snapshot != NULL) {
            leveldb_release_snapshot(pin->db->db, pin->snapshot);
            pin->snapshot = NULL;
        }
    }
}

/* Opens it and reads where it stands. It counts only if no checkpoint is missing: see
 * state_open_torn, whose steps these are. */
static enum status state_reopen_try(struct state_worker *worker, struct state_meta *meta,
                                    char *error)
{
    const struct state_meta *before = &worker->meta;
    struct state_db *db = worker->db;
    enum status status = state_db_reopen(db, true, error);

    if (status == ST_CORRUPT) {
        status = state_db_reopen(db, false, error);
        if (status == ST_OK) {
            status = state_meta_load(db, worker->options.group, before->number, before->index, meta,
                                     error);
            state_meta_fini(meta);
        }
        if (status == ST_OK) {
            status = state_db_reopen(db, true, error);
        }
    }
    if (status == ST_OK) {
        status =
            state_meta_load(db, worker->options.group, before->number, before->index, meta, error);
    }
    if (status != ST_OK) {
        state_db_shut(db);
    }
    return status;
}

static void state_reopen_now(struct state_worker *worker, struct state_reopen_job *job)
{
    const struct timespec pause = {0, STATE_REOPEN_PAUSE_MS * 1000000L};
    struct state_meta meta = {0};
    enum status status = ST_NO_SPACE;

    ASSERT(worker->failed == ST_NO_SPACE && job->state->db == worker->db);
    state_reopen_let_go(job->state);
    for (int i = 0; i < STATE_REOPEN_TRIES && status == ST_NO_SPACE; i++) {
        if (i > 0) {
            store_reserve_yield(worker->options.reserve, worker->options.room_bytes);
            nanosleep(&pause, NULL);
        }
        status = state_reopen_try(worker, &meta, job->job.note);
    }
    if (status == ST_OK) {
        /* The write that failed may be there: then this is what LevelDB shows, and what a snapshot
         * is of. The loop thread waits. */
        state_meta_fini(&job->state->meta);
        state_meta_copy(&job->state->meta, &meta);
        state_meta_fini(&worker->meta);
        worker->meta = meta;
        worker->failed = ST_OK;
        worker->unflushed = 0;
        state_sweep_begin_anew(worker);
        disk_format_error(job->job.note, "%s: opened again, there is room", worker->db->path);
    } else {
        worker->failed = ST_IO; /* nothing can be read any more */
    }
}

/* What the loop thread knew may be out of date: a chunk that failed for lack of room can be
 * answered after LevelDB was opened again for a checkpoint. */
static void state_reopen_run(struct state_worker *worker, struct state_job *base)
{
    struct state_reopen_job *job = (struct state_reopen_job *)base;

    if (worker->failed == ST_NO_SPACE) {
        state_reopen_now(worker, job);
    }
    pthread_mutex_lock(job->lock);
    *job->has_ended = true;
    pthread_cond_signal(job->ended);
    pthread_mutex_unlock(job->lock);
}

static void state_reopen_finish(struct state *state, struct state_job *base)
{
    (void)state;
    (void)base; /* the note is traced */
}

void state_room_recover(struct state *state)
{
    struct state_options options = state->worker->options;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
    bool has_ended = false;
    struct state_reopen_job *job;

    ASSERT(state->broken && state->failed == ST_OK && !state->checkpointing);
    if (options.room_bytes < STATE_REOPEN_ROOM) {
        options.room_bytes = STATE_REOPEN_ROOM; /* once closed, it must open */
    }
    if (atomic_load(&state->worker->open_iters) > 0 ||
        !state_room_ask(&options, 2 * state_room_to_open(state->db->path))) {
        return;
    }
    job = mem_zalloc(sizeof(*job));
    job->state = state;
    job->lock = &lock;
    job->ended = &ended;
    job->has_ended = &has_ended;
    job->job.run = state_reopen_run;
    job->job.finish = state_reopen_finish;
    state_worker_queue(state->worker, &job->job);
    pthread_mutex_lock(&lock);
    while (!has_ended) {
        pthread_cond_wait(&ended, &lock);
    }
    pthread_mutex_unlock(&lock);
    state->broken = false;
    if (state->db->db == NULL) { /* nothing can be read any more: the next checkpoint ends it */
        state->failed = ST_IO;
    }
}
