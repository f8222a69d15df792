/* store: what is on disk. The data directory of one process:
 *
 *   LOCK             held while the process runs (flock)
 *   META             who this is: format, cluster, gid, id, incarnation, peers' incarnations
 *   wal/N.wal        the Raft log of all groups of the process, in segments
 *   state/CURRENT    the name of the state database in use
 *   state/db-N/      LevelDB
 *
 * struct io_log is implemented by the WAL, struct io_state by the state store. Both are used from
 * the loop thread only; their own threads post completions through struct store_mail.
 */
#ifndef RAFT_STORE_H
#define RAFT_STORE_H

#include "raft/io.h"
#include "raft/util/histogram.h"

/* How a background thread reaches the loop thread: post() from any thread; deliver() only from what
 * was posted. (net_post and net_deliver in production.) */
struct store_mail {
    void *context;
    void (*post)(void *context, void (*run)(void *arg), void *arg);
    void (*deliver)(void *context, struct io_event *event);
};

#define STORE_ERROR_BYTES 512 /* one line: what, which file, at which offset, what to do */
/* What is done about damage; how such a line ends. */
#define STORE_REBUILD "start it with --rebuild to have it rebuilt from its peers"

/* ---- Identity ---- */

struct identity {
    uint8_t cluster_id[16]; /* zero: not known yet */
    uint32_t gid;
    uint32_t id;
    uint64_t incarnation;            /* of this replica: random, drawn at the first start */
    uint64_t spec_fingerprint;       /* of the SPEC at the first start */
    uint64_t peer_incarnations[256]; /* by id; 0: not met yet */
};

struct store_dir; /* an open, locked data directory */

/* Opens or makes the directory, takes its lock, and reads or writes META. `wanted` gives gid, id,
 * the SPEC's fingerprint and, for a first start, the incarnation. ST_OK: *found is what META holds
 * now. ST_IN_USE, ST_WRONG_NODE (another gid, id), ST_WRONG_CLUSTER (only if both ids are known),
 * ST_VERSION (newer format), ST_INVALID (a directory of something else: not empty, without META),
 * ST_CORRUPT, ST_IO, ST_NO_SPACE with a line in error. */
enum status store_dir_open(const char *path, const struct identity *wanted, struct store_dir **dir,
                           struct identity *found, char *error);
void store_dir_close(struct store_dir **dir);
/* Writes META anew, atomically and synced. Blocks. */
enum status store_dir_save(struct store_dir *dir, const struct identity *identity, char *error);

/* ---- The write-ahead log ---- */

/* File operations, so that tests can put a faulty disk underneath. All give 0 or a negative errno,
 * reads and writes the count. The production table is wal_posix_files. */
struct wal_files {
    void *context;
    int (*open)(void *context, const char *path, bool create); /* a descriptor >= 0 */
    /* A further descriptor of a file that is there, whose writes are durable when they return. They
     * must begin and end at multiples of *block, and so must the memory. Below 0, or not there:
     * the file system doesn't do that. */
    int (*open_direct)(void *context, const char *path, uint32_t *block);
    void (*close)(void *context, int fd);
    int64_t (*pread)(void *context, int fd, void *data, size_t len, uint64_t offset);
    int64_t (*pwrite)(void *context, int fd, const void *data, size_t len, uint64_t offset);
    int (*fdatasync)(void *context, int fd);
    /* Reserves space; without room for all, the file may keep what there was. */
    int (*allocate)(void *context, int fd, uint64_t len);
    /* Up to where the file was ever written, and not only allocated. Need not be exact. */
    uint64_t (*written)(void *context, int fd);
    int (*truncate)(void *context, int fd, uint64_t len); /* only ever to a smaller size */
    int64_t (*size)(void *context, int fd);
    int (*rename)(void *context, const char *from, const char *to);
    int (*unlink)(void *context, const char *path);
    int (*sync_dir)(void *context, const char *path);
    /* Calls each(arg, name) for every entry of the directory, in any order. */
    int (*list)(void *context, const char *path, void (*each)(void *arg, const char *name),
                void *arg);
    int (*make_dir)(void *context, const char *path); /* 0 also if it exists */
    /* Free bytes of the file system that holds the path; UINT64_MAX if unknown. */
    uint64_t (*free_bytes)(void *context, const char *path);
};
const struct wal_files *wal_posix_files(void);

struct store_reserve; /* see below */

struct wal_options {
    const char *path;  /* the wal directory; its parent exists */
    uint64_t identity; /* whose log this is (the replica's incarnation): no other's is accepted */
    uint64_t segment_bytes; /* at least 8 KiB; a longer write gets a larger segment */
    uint32_t max_recycled;  /* emptied segments kept for reuse */
    bool threaded;          /* false: write() runs at once, on the caller, for tests */
    const struct wal_files *files;
    struct store_reserve *reserve; /* tended in idle moments, used on a full disk; NULL: none */
    struct store_mail mail;
    const struct trace *trace;
};
void wal_options_default(struct wal_options *options, const char *path);

struct wal;
/* Opens or makes the log and recovers it. ST_CORRUPT (with file and offset in error) when damage is
 * found that is not a torn tail, ST_IO, ST_NO_SPACE, ST_VERSION.
 *
 * Once it is open, a full disk is no failure: a write that needs a new segment waits until there is
 * room for one, unanswered, and those behind it with it, as on a disk that stalls; what still waits
 * when the log is closed is dropped, never acknowledged. */
enum status wal_open(const struct wal_options *options, struct wal **wal, char *error);
/* Waits for what was queued to be written. */
void wal_close(struct wal **wal);
struct io_log *wal_io(struct wal *wal);
/* What recovery found for a group; moves the entries out: once per group. The caller owns the
 * entries array (mem_free) and the references. A group that is not there: everything 0. */
void wal_content(struct wal *wal, group_id group, struct io_log_content *content);
/* The turn ended: hands what was queued to the disk thread, if it is idle; else it goes with the
 * next write. On the loop thread. Without a thread, a flush of nothing is an idle moment. */
void wal_flush(struct wal *wal);

/* Since the log was opened, without what opening it wrote or read; but for the last two, as of the
 * last write that was answered. */
struct wal_stats {
    uint64_t writes, bytes, records;          /* writes: with sync points and ends of segments */
    uint64_t segments;                        /* in use now */
    uint64_t recycled;                        /* how often a file was used again */
    uint64_t last_write_us, slowest_write_us; /* of write and sync together */
    struct histogram write_us;                /* the same */
    struct histogram sync_us; /* of what makes it durable: fdatasync, or a direct write itself */
    uint64_t waiting;         /* io_log writes that no batch has taken up yet */
    uint64_t in_flight_us;    /* how long the disk thread is at its present work; 0: it waits */
    bool no_room; /* the disk has no room for the next segment: time to take no more writes */
};
void wal_statistics(const struct wal *wal, struct wal_stats *stats);

/* ---- The state of a group ---- */

struct state_options {
    const char *path; /* the state directory */
    group_id group;
    size_t cache_bytes, write_buffer_bytes; /* LevelDB's: blocks of tables; what is in none yet */
    size_t row_cache_bytes;                 /* values, found by key */
    bool compress;                          /* snappy; off by default: it costs processor time */
    struct store_reserve *reserve;          /* used on a full disk; NULL: none */
    /* A checkpoint begins only when so much more than it needs is free, for what LevelDB does
     * besides; 0: it begins in any case. */
    uint64_t room_bytes;
    /* Deletion of dropped ranges: so many keys at a time, then a pause, so that neither LevelDB nor
     * the loop is held up. */
    uint32_t sweep_keys;
    uint32_t sweep_pause_ms;
    struct store_mail mail;
    const struct trace *trace; /* used on the loop thread only */
};
void state_options_default(struct state_options *options, const char *path, group_id group);

struct state;
/* Opens or makes the database that CURRENT names. `durable` and `durable_index` are the highest
 * checkpoint that the log says was durable (io_log_content): an older state is damage. ST_CORRUPT
 * names the file; ST_WRONG_NODE: the state of another group; ST_VERSION, ST_IO, ST_NO_SPACE. *meta
 * is where the state stands (the caller releases meta->extra).
 *
 * Besides what raft/io.h says: a checkpoint that failed with ST_IO or ST_CORRUPT is final, every
 * later one ends alike and no snapshot can be opened, while reads go on. One that found no room
 * (ST_NO_SPACE) may be asked for again: that writes what the failed one was to write, and is
 * answered with the failed one's index. A checkpoint that an install overtook ends with
 * ST_CANCELLED. An INSTALL_CHUNK for a snapshot older than the state is
 * answered with ST_CONFLICT; a stream that breaks a rule with ST_CORRUPT and offset 0: everything
 * of it is thrown away. A snapshot_read of a place where no chunk begins, or of an unknown id, is
 * answered with ST_INVALID. */
enum status state_open(const struct state_options *options, uint64_t durable,
                       raft_index durable_index, struct state **state, struct io_state_meta *meta,
                       char *error);
/* Waits for background work to end. Writes nothing: what was not checkpointed is replayed. */
void state_close(struct state **state);
struct io_state *state_io(struct state *state);

/* ---- Disk space ---- */

/* Free bytes of the file system that holds the path, for the watermark; UINT64_MAX if unknown. */
uint64_t store_free_bytes(const char *path);
/* Its size; UINT64_MAX if unknown. */
uint64_t store_total_bytes(const char *path);

/* The reserve: files that hold nothing but space, so that on a full disk what must be written still
 * can be: the log's next segment, a checkpoint, the opening of the state. It is given up piece by
 * piece, and taken again piece by piece once there is room. Half of it is for starts alone:
 * whatever eats the other half, the next start finds room. Any thread may use it. */
struct store_reserve_options {
    const char *path;     /* a directory of its own; its parent exists */
    uint64_t piece_bytes; /* of each file */
    uint32_t pieces;      /* at most 16; 0: no reserve, and what there was is given up */
    const struct wal_files *files;
    uint64_t (*free_bytes)(const char *path);
};
/* So many bytes in all, in eight pieces. */
void store_reserve_options_default(struct store_reserve_options *options, const char *path,
                                   uint64_t bytes);
/* Finds what is there and takes what there is room for. A full disk is no failure, nor is one that
 * can't reserve. */
enum status store_reserve_open(const struct store_reserve_options *options,
                               struct store_reserve **reserve, char *error);
/* The files stay. */
void store_reserve_close(struct store_reserve **reserve);
/* Everything was opened: what the start did not need is taken again, and from now on half is kept.
 */
void store_reserve_started(struct store_reserve *reserve);
/* Gives up pieces of so many bytes together, or all that may go. False: there was none. NULL is a
 * reserve without pieces, here and below. */
bool store_reserve_yield(struct store_reserve *reserve, uint64_t bytes);
/* Takes one piece, if one is missing and as much again stays free. */
void store_reserve_refill(struct store_reserve *reserve);
bool store_reserve_is_short(struct store_reserve *reserve);
uint64_t store_reserve_bytes(struct store_reserve *reserve);

#endif
