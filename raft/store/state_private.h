/* state: what the files raft/store/state_*.c share. Nothing else includes this.
 *
 * Two threads. The loop thread owns struct state: it reads and writes the overlays, reads LevelDB
 * directly, and opens and closes snapshots. The background thread owns struct state_worker: it
 * alone writes to LevelDB. What passes between them is a job: made on the loop thread, run on the
 * background thread, finished on the loop thread (through store_mail). Jobs run one after the
 * other, in the order they were queued, so a job may use whatever the jobs before it left; what a
 * job holds (a database, a frozen overlay) is given back on the loop thread by its finish.
 *
 * Keys in LevelDB: 'm' and a name for the store's own ("mckpt\<n mod 64>", "mheader", "mincoming",
 * "mmeta", "msweep\<range>"); 'u', range (big-endian u64), kind, key for the state.
 */
#ifndef RAFT_STORE_STATE_PRIVATE_H
#define RAFT_STORE_STATE_PRIVATE_H

#include <leveldb/c.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "raft/store/disk.h"
#include "raft/store/overlay.h"
#include "raft/store/row_cache.h"
#include "raft/util/trace.h"

/* ---- One LevelDB database (state_db.c) ---- */

#define STATE_KEY_HEADER 10 /* 'u', range, kind */

struct state_db {
    leveldb_t *db;
    uint64_t number; /* N of db-N */
    char *path;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    leveldb_readoptions_t *read;   /* verifies checksums, fills the cache */
    leveldb_readoptions_t *sweep;  /* verifies checksums, leaves the cache alone */
    leveldb_writeoptions_t *sync;  /* durable when it returns */
    leveldb_writeoptions_t *loose; /* durable with the next synced write, or not at all */
    struct state_compactor
        *compactor; /* NULL before the first compaction; the background thread's */
    struct state_writeback *writeback; /* NULL: the system offers no watch */
    uint32_t references;               /* counted by the loop thread alone */
    bool doomed;                       /* destroyed when closed: an install replaced it */
    _Atomic bool explained;            /* where its damage is was looked for */
};

/* The path of db-N; the caller frees it. */
char *state_db_path(const char *directory, uint64_t number);
/* Puts in front of a line about damage in a database's directory which file it is in, and at which
 * offset; false if that can't be told (state_verify.c). */
bool state_verify_explain(const char *directory, bool manifests_only, char *error);

/* What LevelDB's error text means; frees it. */
enum status state_db_status(char *leveldb_error);
/* The same, with a line that names the database. */
enum status state_db_fail(const struct state_db *db, const char *what, char *leveldb_error,
                          char *error);

/* Opens (or with `create` makes) directory/db-N. */
enum status state_db_open(const struct state_options *options, uint64_t number, bool create,
                          bool paranoid, struct state_db **db, char *error);
/* Closes LevelDB, if it is open, and opens it again: db->db is another one, or NULL. */
enum status state_db_reopen(struct state_db *db, bool paranoid, char *error);
void state_db_shut(struct state_db *db); /* closes LevelDB alone: db->db is NULL */
/* Closes, and destroys if doomed; clears the pointer. */
void state_db_close(struct state_db **db);
/* Removes the files of directory/db-N, which is not open. */
enum status state_db_destroy(const char *directory, uint64_t number, char *error);

/* Keys. */
void state_db_put_key(struct buf *out, struct io_key key);
bool state_db_parse_key(struct slice text, struct io_key *key);
/* The value of a key as of `options`; ST_NOT_FOUND, or a failure with a line in error. */
enum status state_db_get(struct state_db *db, const leveldb_readoptions_t *options,
                         struct slice key, struct buf *value, char *error);
struct slice state_db_iter_key(const leveldb_iterator_t *iter);
struct slice state_db_iter_value(const leveldb_iterator_t *iter);
/* ST_OK while an iterator met no damage. LevelDB's iterators skip a damaged block and go on, so
 * this is asked before the end is believed. */
enum status state_db_iter_status(const struct state_db *db, const leveldb_iterator_t *iter,
                                 char *error);
/* Syncs the names in the database's directory: LevelDB does not when it begins a new log file. */
enum status state_db_sync_names(const struct state_db *db, char *error);

/* Compactions on a thread of their own (state_compact.c). Asked for by the background thread, one
 * at a time; `end` waits for the one in hand. `moves`: so many checkpoints are in LevelDB's log
 * file now, and will not be any more. */
void state_compact_begin(struct state_db *db, struct slice from, struct slice to, uint64_t moves);
bool state_compact_busy(const struct state_db *db);
void state_compact_wait(struct state_db *db); /* until it is not busy */
/* How many the compactions that are over moved; each is told once. */
uint64_t state_compact_moved(struct state_db *db);
void state_compact_end(struct state_db *db);

#define STATE_WORKER_NICE 10 /* of all threads that nobody waits for */

/* Has tables in the directory written to the disk as they grow, on a thread of its own; NULL if the
 * system offers no watch. `bytes`: so many went out that way; any thread. close waits for the piece
 * in hand, and clears the pointer; NULL is nothing to close. */
struct state_writeback *state_writeback_open(const char *path);
uint64_t state_writeback_bytes(const struct state_writeback *writeback);
void state_writeback_close(struct state_writeback **writeback);

/* A LevelDB snapshot with a count of its users, on the loop thread. */
struct state_pin {
    struct state_db *db;                /* a reference */
    const leveldb_snapshot_t *snapshot; /* NULL: lost, see state_room.c */
    uint32_t references;
    LIST_ENTRY(state_pin) link;
};
LIST_HEAD(state_pin_list, state_pin);

/* ---- Where the state stands (state_meta.c) ---- */

#define STATE_CHAIN 64 /* checkpoints whose numbers are kept: slots of ckpt/ */

struct state_meta {
    uint64_t number; /* of the checkpoint; 0: a new, empty state */
    uint64_t begin;  /* the first number of this database: numbers before it have no ckpt/ key */
    group_id group;
    raft_index index;
    raft_term term;
    struct buf extra;
    uint64_t *ranges; /* ascending, without 0 */
    size_t n_ranges;
};

void state_meta_fini(struct state_meta *meta);
void state_meta_copy(struct state_meta *to, const struct state_meta *from);
bool state_meta_has_range(const struct state_meta *meta, uint64_t range);
/* Adds the meta and the ckpt/ key of its number to a batch. */
void state_meta_put(const struct state_meta *meta, leveldb_writebatch_t *batch);
/* Reads it and checks the chain of numbers and what the log says was durable. */
enum status state_meta_load(struct state_db *db, group_id group, uint64_t durable,
                            raft_index durable_index, struct state_meta *meta, char *error);
/* Ascending ranges <-> bytes (u32 count, then u64 each). */
void state_meta_put_ranges(struct buf *out, const uint64_t *ranges, size_t n);
bool state_meta_get_ranges(struct reader *reader, uint64_t **ranges, size_t *n);

/* ---- CURRENT and the databases in the directory (state_current.c) ---- */

struct state_files {
    uint64_t current; /* the number that CURRENT names; 0: there is no CURRENT */
    uint64_t *others; /* numbers of the other db-N, ascending */
    size_t n_others;
    size_t capacity;
};
enum status state_current_read(const char *directory, struct state_files *files, char *error);
enum status state_current_write(const char *directory, uint64_t number, char *error);
void state_files_fini(struct state_files *files);

/* ---- Snapshots being sent (state_send.c) ---- */

struct state_mark { /* a place in the stream where a chunk may begin */
    uint64_t offset;
    uint64_t count; /* records before it */
    uint32_t crc;   /* of everything before it */
    struct buf key; /* where LevelDB's iterator goes on; empty: at the beginning */
    bool begun;     /* the header is before it */
    bool ended;     /* so is everything else */
};
#define STATE_MARKS 64

struct state_snapshot {
    /* Constant after snapshot_open. */
    uint64_t id;
    struct state_pin *pin;
    struct state_meta meta;
    /* The loop thread's. */
    LIST_ENTRY(state_snapshot) link;
    bool closed; /* closing on the background thread; answers still under way are dropped */
    /* The background thread's. */
    bool lost; /* its LevelDB was closed: nothing more can be read of it */
    leveldb_readoptions_t *read;
    leveldb_iterator_t *iter; /* NULL before the first read */
    struct state_mark at;     /* where the iterator stands (its key is not kept here) */
    size_t range;             /* position there: 0 is range 0, n the n-th of meta.ranges */
    struct state_mark marks[STATE_MARKS]; /* the latest places where chunks began */
    uint64_t n_marks;                     /* so many were made; the place is the rest mod 64 */
};

/* The stream: "SKSS", u16 version, u16 0, group, index, term, ranges, extra; then records (u8 1,
 * u64 range, u8 kind, key, value); then u8 2, u64 count of records, u32 CRC32C of all before. */
#define STATE_STREAM_MAGIC   0x53534b53u
#define STATE_STREAM_VERSION 1
#define STATE_STREAM_RECORD  1
#define STATE_STREAM_END     2

/* ---- A snapshot being received (state_install.c) ---- */

struct state_incoming {
    struct state_db *db; /* NULL: none */
    raft_index index;
    raft_term term;
    uint64_t offset; /* durable up to here */
    uint64_t count;
    uint32_t crc;
    bool has_meta; /* the header was read */
    struct state_meta meta;
    struct buf last_key; /* of the last record, as in LevelDB: they ascend */
};

/* ---- The background thread (state_worker.c) ---- */

struct state;
struct state_worker;

struct state_job {
    TAILQ_ENTRY(state_job) link;
    struct state_worker *worker;
    void (*run)(struct state_worker *worker, struct state_job *job);
    void (*finish)(struct state *state, struct state_job *job); /* loop thread; may be NULL */
    void (*release)(
        struct state_job *job);   /* gives back what it owns; either thread; may be NULL */
    char note[STORE_ERROR_BYTES]; /* traced by the loop thread if not empty */
};
TAILQ_HEAD(state_job_list, state_job);

/* Deletion of ranges, in pieces (state_sweep.c). */
enum state_sweep_phase {
    STATE_SWEEP_BEGIN,  /* of a range: nothing is done for it yet */
    STATE_SWEEP_DELETE, /* its keys, from `position` on */
    STATE_SWEEP_END     /* all are deleted, the last span is being compacted */
};

enum state_sweep_tidiness {
    STATE_TIDY,
    STATE_UNTIDY, /* files may be left that LevelDB needs no more */
    STATE_TIDYING
};

struct state_sweep {
    uint64_t *ranges; /* to delete, the first one first */
    size_t n_ranges;
    size_t capacity;
    enum state_sweep_phase phase;
    struct buf position;         /* where the first one's deletion goes on */
    struct buf span;             /* from here on nothing was compacted yet */
    uint64_t span_bytes;         /* deleted since */
    leveldb_writebatch_t *again; /* deletes to repeat: a snapshot may be older than them */
    enum state_sweep_tidiness tidy;
};

struct state_worker {
    const struct state_options options; /* constant */
    pthread_t thread;

    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct state_job_list jobs;
    bool stopping;
    uint64_t pins_made;  /* LevelDB snapshots: counted before they are taken, */
    uint32_t pins_alive; /* and until they are released */

    /* The loop thread's. */
    struct state *state; /* NULL after state_close: what is still in the mail is dropped */
    /* Both: the state and each job in the mail hold one. */
    _Atomic uint32_t references;
    _Atomic uint64_t disk_bytes; /* of the current database, refreshed in the background */
    _Atomic uint32_t open_iters; /* on the loop thread */

    /* The background thread's. */
    struct state_db *db;    /* the current one; the loop thread holds the reference */
    struct state_meta meta; /* its last checkpoint */
    enum status failed; /* LevelDB may not know what is on disk after a failed write: sticky, but
                           for NO_SPACE (state_room.c) */
    char failure[STORE_ERROR_BYTES]; /* of a failure between the jobs: the next one tells it */
    struct state_incoming incoming;
    struct state_sweep sweep;
    uint64_t next_db;    /* number for the next new database */
    uint64_t unflushed;  /* checkpoints that LevelDB's log file may hold */
    uint64_t *leftovers; /* databases found at start besides the current one */
    size_t n_leftovers;
};

struct state_worker *state_worker_create(const struct state_options *options, struct state *state);
void state_worker_start(struct state_worker *worker);
/* Lets the job that runs end, drops the others, and joins the thread. */
void state_worker_stop(struct state_worker *worker);
void state_worker_unref(struct state_worker *worker);
/* ST_OK, or how LevelDB failed before this job; what failed between the jobs becomes its note. */
enum status state_worker_failed(struct state_worker *worker, struct state_job *job);
/* On the background thread, while no job runs: has the loop thread trace a line. */
void state_worker_tell(struct state_worker *worker, const char *line);
/* Queues a job, which begins with a struct state_job and was mem_zalloc'ed. Takes it over. */
void state_worker_queue(struct state_worker *worker, struct state_job *job);

/* ---- The loop thread's side (state.c) ---- */

LIST_HEAD(state_snapshot_list, state_snapshot);

struct state {
    struct io_state io; /* first: the table is found through it */
    struct state_worker *worker;
    struct state_db *db;
    struct row_cache *rows; /* of what neither overlay has */
    struct state_meta meta; /* of the last finished checkpoint of db */
    struct overlay *active; /* written since the last checkpoint began */
    struct overlay *frozen; /* what a checkpoint in flight, or one that found no room, writes */
    bool checkpointing;     /* from checkpoint() to IO_EVENT_CHECKPOINT */
    struct state_meta next; /* of that checkpoint */
    struct state_pin *pin;  /* the state before the checkpoint in flight */
    enum status failed;     /* a checkpoint failed: no further one, no snapshot */
    bool broken;            /* LevelDB found no room and must be opened again before it writes */
    uint64_t *kept_drops; /* of a checkpoint that found no room: frozen, next and these are kept */
    size_t n_kept_drops;
    uint64_t *dropped; /* ranges to delete once a checkpoint without them is durable */
    size_t n_dropped;
    size_t dropped_capacity;
    struct state_snapshot_list snapshots;
    struct state_pin_list pins;
    uint64_t next_snapshot;
    bool closing;   /* the background thread has ended: what is given back is released at once */
    struct buf key; /* scratch */
};

static inline struct state *state_of(struct io_state *io)
{
    return (struct state *)io;
}

void state_db_ref(struct state_db *db);
/* Loop thread. The last reference closes the database, on the background thread. */
void state_unref_db(struct state *state, struct state_db **db);
void state_unref_overlay(struct state *state, struct overlay **overlay);
void state_renew_rows(struct state *state); /* an empty cache: db is another one */
struct state_pin *state_pin_create(struct state *state);
void state_unref_pin(struct state *state, struct state_pin **pin);
void state_deliver(struct state *state, struct io_event *event);
/* A range is to be deleted after a checkpoint without it. */
void state_add_dropped(struct state *state, uint64_t range);

/* The operations of the table, by file. state_iter.c: */
struct io_iter *state_iter_open(struct io_state *io, struct io_key from);
bool state_iter_next(struct io_iter *iter, struct slice *key, struct slice *value);
enum status state_iter_close(struct io_iter *iter);
/* state_checkpoint.c: */
void state_checkpoint_begin(struct io_state *io, const struct io_checkpoint *checkpoint);
/* state_sweep.c: */
void state_sweep_drop(struct io_state *io, uint64_t range);
void state_sweep_keep(struct io_state *io, const uint64_t *ranges, size_t n);
void state_sweep_add(struct state_worker *worker, const uint64_t *ranges, size_t n);
void state_sweep_reset(struct state_worker *worker);
/* LevelDB was opened again: of the range being deleted, everything is done once more. */
void state_sweep_begin_anew(struct state_worker *worker);
/* Whether there is something to delete or to tidy; does one piece of it. */
bool state_sweep_pending(const struct state_worker *worker);
bool state_sweep_piece(struct state_worker *worker); /* false: it has to wait for something */
/* Ranges wait for a checkpoint without them. */
bool state_sweep_waits(struct io_state *io);
/* state_send.c: */
void state_send_open(struct io_state *io, struct io_snapshot *snapshot);
void state_send_read(struct io_state *io, uint64_t id, uint64_t offset, size_t max_bytes,
                     uint64_t token);
void state_send_close(struct io_state *io, uint64_t id);
void state_send_stop(struct state_snapshot *snapshot); /* ends what reads it */
void state_send_fini(struct state *state);             /* the background thread has ended */
/* state_room.c: */
/* Whether options->room_bytes are free. */
bool state_room_is_there(const struct state_options *options);
/* Whether so much and options->room_bytes more is free; gives up of the reserve for it. */
bool state_room_ask(const struct state_options *options, uint64_t bytes);
/* What opening the LevelDB in a directory will write: the content of its log files, as tables. */
uint64_t state_room_to_open(const char *path);
/* leveldb_open with the options of db, where it is; with the reserve's space if it needs some. */
leveldb_t *state_room_open(const struct state_options *options, const struct state_db *db,
                           char **reason);
/* Opens a broken LevelDB again, if there is room. Loop thread; blocks it meanwhile. */
void state_room_recover(struct state *state);
/* state_install.c: */
void state_install_chunk(struct io_state *io, raft_index index, raft_term term, uint64_t offset,
                         struct slice data, bool done);
/* Drops an unfinished one whose snapshot is not ahead of the state any more. */
void state_install_outdated(struct state_worker *worker);
void state_install_discard(struct state_worker *worker);
/* Finds again, at start, what was being received. */
void state_install_resume(struct state_worker *worker);

#endif
