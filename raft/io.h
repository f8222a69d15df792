/* io: everything that deciding code may ask of the world, as tables of operations, and everything
 * the world tells it, as events. Interfaces only.
 *
 * raft/net and raft/store implement the tables in production; tests/sim implements them in one
 * thread with virtual time. The code above (raft/rsm, shardctrler, shardkv) sees nothing else of
 * the world: no clock, no thread, no socket, no file.
 *
 * The turn. The world delivers events one after the other, all on one thread, and after a batch of
 * them one IO_EVENT_TURN_END: then the code above proposes, in one step, what has gathered, and the
 * implementations write and send, in one go each, what they were given. Operations never call back
 * into the code above: every completion is a later event.
 */
#ifndef RAFT_IO_H
#define RAFT_IO_H

#include "raft/raft.h"

/* ---- Network ----------------------------------------------------------------------------------
 */

typedef uint64_t io_conn;     /* an accepted client connection; never used again after it closed */
typedef uint32_t io_endpoint; /* a server that this process calls, by URL; 1.. ; 0 is none */

enum io_class {
    IO_URGENT, /* votes and heartbeats: ahead of everything */
    IO_NORMAL,
    IO_BULK /* snapshot chunks: behind everything, in fragments */
};

/* A replica of an own group, as its configuration names it. */
struct io_peer {
    raft_id id;
    const char *url;
    uint64_t incarnation; /* 0: not known */
};

struct io_net;
struct io_net_ops {
    /* To a replica of an own group. Takes the buffer over. Dropped without a word if there is no
     * link or its queue is full: Raft repeats. */
    void (*peer_send)(struct io_net *net, group_id group, raft_id to, enum io_class class,
                      struct buf *message);
    /* The replicas of an own group are these from now on, the own one among them or not; borrowed
     * for the call. Links to others end, links to new ones begin, one to a new address begins
     * anew. n == 0: those there are stay. open: they may be others (a replica that joins, or was
     * away for long): whoever shows the group's hello is taken for one of them too, and answered on
     * the link that it dialled. */
    void (*set_peers)(struct io_net *net, group_id group, const struct io_peer *peers, size_t n,
                      bool open);
    /* Answers on a client connection. Takes the buffer over. Dropped if the connection is gone. */
    void (*reply)(struct io_net *net, io_conn conn, struct buf *message);
    /* The endpoint of a URL, made when first asked for: the same URL and group give the same
     * number. A server deals there with a replica of that group alone (0: of the controllers); a
     * client with whoever answers, and names no group. */
    io_endpoint (*endpoint)(struct io_net *net, group_id gid, const char *url);
    /* Sends a request to another server, as its client; connects when needed. Takes the buffer
     * over. Answers come as IO_EVENT_ENDPOINT_MESSAGE; IO_EVENT_ENDPOINT_DOWN says that nothing
     * sent before it will be answered. */
    void (*endpoint_send)(struct io_net *net, io_endpoint endpoint, struct buf *message);
};
struct io_net {
    const struct io_net_ops *ops;
};

/* ---- The Raft log on disk ---- */

struct io_log_write {
    group_id group;
    uint64_t token; /* comes back in IO_EVENT_LOG_WRITTEN */
    bool has_hard_state;
    struct raft_hard_state hard_state;
    const struct raft_entry *entries; /* replace everything from entries[0].index on */
    size_t n_entries;
};

/* What was found at start. */
struct io_log_content {
    struct raft_hard_state hard_state;
    raft_index begin_index; /* the log begins after it */
    raft_term begin_term;
    struct raft_entry *entries;
    size_t n_entries;
    uint64_t checkpoint;         /* the highest checkpoint number said to be durable; 0: none */
    raft_index checkpoint_index; /* and its applied index */
};

struct io_log;
struct io_log_ops {
    /* Queues one atomic, synced write; writes are durable in the order they were queued. Copies
     * what it needs before it returns. IO_EVENT_LOG_WRITTEN follows. */
    void (*write)(struct io_log *log, const struct io_log_write *write);
    /* Entries up to index are not needed any more (a durable checkpoint holds their effects). */
    void (*compact)(struct io_log *log, group_id group, raft_index index, raft_term term);
    /* After a snapshot was installed: the log of the group begins after (index, term) with nothing
     * in it but what `write` holds. Queued like a write; IO_EVENT_LOG_WRITTEN(write->token)
     * follows. */
    void (*reset)(struct io_log *log, raft_index index, raft_term term,
                  const struct io_log_write *write);
    /* Records that a checkpoint is durable; rides with the next write. */
    void (*checkpoint)(struct io_log *log, group_id group, uint64_t number, raft_index index);
    /* Bytes on disk, for status. */
    uint64_t (*bytes)(struct io_log *log);
    /* What was queued goes to the disk now and not only when the turn ends: the caller goes on to
     * something that takes longer. NULL: the log has no use for it. */
    void (*flush)(struct io_log *log);
};
struct io_log {
    const struct io_log_ops *ops;
};

/* ---- The state of one group ---- */

/* Keys are ordered by (range, kind, key bytewise). Range 0 is the service's own and always part of
 * the state; the others are given out by the service and dropped as a whole. */
struct io_key {
    uint64_t range;
    uint8_t kind;
    struct slice key;
};

/* Where the state stands; written with every checkpoint and carried by every snapshot. */
struct io_state_meta {
    uint64_t checkpoint; /* number; 0: a new, empty state */
    raft_index index;    /* applied */
    raft_term term;
    struct buf extra; /* the runtime's own bytes (configuration, stamps) */
};

struct io_checkpoint {
    raft_index index;
    raft_term term;
    struct slice extra;
    const uint64_t *ranges; /* those that are part of the state at `index`, besides 0; ascending */
    size_t n_ranges;
};

/* An open snapshot: the state as of one finished checkpoint, as a stream of bytes. */
struct io_snapshot {
    uint64_t id;      /* for the calls below */
    raft_index index; /* 0: none could be opened now (no checkpoint yet) */
    raft_term term;
    struct slice extra; /* valid until snapshot_close */
};

struct io_iter; /* an open iteration */

/* What tests/unit/state_contract*_test.c hold every implementation to. */
struct io_state;
struct io_state_ops {
    /* Appends the value. ST_OK, ST_NOT_FOUND, ST_IO or ST_CORRUPT. */
    enum status (*get)(struct io_state *state, struct io_key key, struct buf *value);
    void (*put)(struct io_state *state, struct io_key key, struct slice value);
    void (*remove)(struct io_state *state, struct io_key key);

    /* Keys of one (range, kind) from `from.key` on, in ascending order. The state must not be
     * written while an iteration is open. iter_next gives false at the end or on an error; slices
     * hold until the next call. iter_close releases it and tells ST_OK or the error. */
    struct io_iter *(*iter_open)(struct io_state *state, struct io_key from);
    bool (*iter_next)(struct io_iter *iter, struct slice *key, struct slice *value);
    enum status (*iter_close)(struct io_iter *iter);

    /* A range is no longer part of the state: its keys are deleted in the background, after the
     * next checkpoint is durable, and while no snapshot is open, until the disk holds nothing of
     * it. It is not read or written again. */
    void (*drop_range)(struct io_state *state, uint64_t range);

    /* Deletes, in the background, what belongs to none of these ranges: after a start or an
     * install. What a checkpoint contains of it goes as if it were dropped now. */
    void (*keep_ranges)(struct io_state *state, const uint64_t *ranges, size_t n);
    /* Ranges wait, to be deleted, for a checkpoint without them to begin. */
    bool (*drops_wait)(struct io_state *state);

    /* Makes everything written so far durable, as one atomic checkpoint, in the background. At most
     * one at a time, and none while a last chunk is being installed. Writing goes on meanwhile.
     * IO_EVENT_CHECKPOINT follows, with the number and the index of the last checkpoint that is
     * durable then: on failure of the one before. One that found ST_NO_SPACE is kept, and is what
     * the next call writes, whatever that asks for: so an index below the one asked for can be
     * told. Any other failure is final: until a restart, what was read and written stays in memory,
     * every checkpoint and chunk fails alike, and no snapshot can be opened. */
    void (*checkpoint)(struct io_state *state, const struct io_checkpoint *checkpoint);
    /* Bytes written since the last checkpoint began, whether or not it succeeded. */
    uint64_t (*dirty_bytes)(struct io_state *state);
    /* Bytes on disk, for status. */
    uint64_t (*disk_bytes)(struct io_state *state);
    /* The approximate bytes of a range, for status. */
    uint64_t (*range_bytes)(struct io_state *state, uint64_t range);

    /* Sending a snapshot. Several may be open. It is of the last checkpoint or install whose event
     * was delivered, and stays that whatever comes after it. snapshot_read is answered by
     * IO_EVENT_SNAPSHOT_READ: a chunk of about max_bytes, at least one, that begins at offset; at
     * the end nothing, and `done`. The same (snapshot, offset) always gives the same bytes; offsets
     * are those that chunks ended at (or 0), another is ST_INVALID. ST_CANCELLED: the snapshot is
     * lost, another one must be opened. Reads of a closed one are not answered any more. */
    void (*snapshot_open)(struct io_state *state, struct io_snapshot *snapshot);
    void (*snapshot_read)(struct io_state *state, uint64_t id, uint64_t offset, size_t max_bytes,
                          uint64_t token);
    void (*snapshot_close)(struct io_state *state, uint64_t id);

    /* Receiving one, beside the live state. install_chunk makes the chunk durable and is answered
     * by IO_EVENT_INSTALL_CHUNK, with the offset that is durable now of that snapshot (index,
     * term). Chunks are answered in their order.
     *
     * - The first chunk (offset 0) of another snapshot begins anew, and what there was of the one
     *   before is given up. A chunk that does not begin at the durable offset changes nothing, be
     *   it the last one: the answer is ST_OK, and the offset says where to go on (0: with the
     *   first).
     * - With `done` the state is then switched, atomically and durably, and IO_EVENT_INSTALLED
     *   follows instead, with the offset where the snapshot ends, and `extra`. What was written and
     *   not yet durable is gone. After it nothing of the snapshot is kept: it could begin again.
     * - What is durable stays through a restart, unless the state is not behind it any more: then
     *   it is given up, as it is when a checkpoint gets there.
     * - ST_CONFLICT: the snapshot is older than the state.
     * - ST_CORRUPT (a damaged stream, one under another name, or a first chunk with nothing in it)
     *   or ST_IO: the snapshot is given up, the offset is 0, and the state is as before. If it was
     *   the last chunk that failed so, IO_EVENT_INSTALLED tells that.
     * - ST_NO_SPACE comes in both forms. Before the chunk is begun: IO_EVENT_INSTALL_CHUNK, also
     *   for the last one, what is durable stays and the chunk can be sent again. As it is written:
     *   as with ST_IO.
     * - After a write of the live state that failed: IO_EVENT_INSTALL_CHUNK, also for the last
     *   one, and nothing changes. ST_NO_SPACE if it was for lack of room, else ST_IO: nothing can
     *   be stored any more. */
    void (*install_chunk)(struct io_state *state, raft_index index, raft_term term, uint64_t offset,
                          struct slice data, bool done);
};
struct io_state {
    const struct io_state_ops *ops;
};

/* ---- Events -------------------------------------------------------------------------------------
 */

enum io_event_type {
    IO_EVENT_TICK,             /* a deadline passed, or time for its own sake */
    IO_EVENT_TURN_END,         /* after each batch of events */
    IO_EVENT_PEER_MESSAGE,     /* .peer */
    IO_EVENT_PEER_UP,          /* .peer: the link to a peer can carry messages */
    IO_EVENT_PEER_DOWN,        /* .peer */
    IO_EVENT_PEER_GONE,        /* .peer: its process has ended, by all appearances (net/peers.h) */
    IO_EVENT_CLIENT_MESSAGE,   /* .client */
    IO_EVENT_CLIENT_CLOSED,    /* .client */
    IO_EVENT_ENDPOINT_MESSAGE, /* .endpoint */
    IO_EVENT_ENDPOINT_DOWN,    /* .endpoint */
    IO_EVENT_LOG_WRITTEN,      /* .log */
    IO_EVENT_CHECKPOINT,       /* .checkpoint */
    IO_EVENT_SNAPSHOT_READ,    /* .snapshot */
    IO_EVENT_INSTALL_CHUNK,    /* .install */
    IO_EVENT_INSTALLED,        /* .install: the state now is that snapshot; read it anew */
    IO_EVENT_DISK_SPACE,       /* .disk: crossed the low watermark, in either direction */
    IO_EVENT_STOP              /* asked to end: hand leadership over, finish soon */
};

struct io_event {
    enum io_event_type type;
    uint64_t now_ms; /* monotonic */
    uint64_t now_us; /* the same, finer: for statistics and the pace of copies; 0: not told */
    /* The same, but it hardly moves while this process could not listen (it was stopped, or the
     * machine did not let it run): the silence of others is measured by it. 0: not told, it went on
     * as now_ms did */
    uint64_t awake_ms;
    uint64_t
        wall_us; /* microseconds since 1970, may jump: for cluster time only, never for safety */
    union {
        struct {
            group_id group;
            raft_id id;
            uint64_t incarnation; /* MESSAGE, UP: as the link showed it; 0: not known */
            struct slice message; /* valid during the call */
        } peer;
        struct {
            io_conn conn;
            struct slice message;
            /* Did not prove that it is a server though a peer key is configured: it may ask what
             * clients may, and nothing that only servers may. */
            bool is_stranger;
        } client;
        struct {
            io_endpoint endpoint;
            struct slice message;
        } endpoint;
        struct {
            group_id group;
            uint64_t token;
            enum status status; /* not OK: poisoned; the replica must stop */
        } log;
        struct {
            group_id group;
            uint64_t number;
            raft_index index;
            enum status status;
        } checkpoint;
        struct {
            group_id group;
            uint64_t id;
            uint64_t token;
            uint64_t offset;
            bool done;
            struct slice data;
            enum status status;
        } snapshot;
        struct {
            group_id group;
            raft_index index;
            raft_term term;
            uint64_t offset;
            struct slice extra; /* INSTALLED: the snapshot's io_state_meta.extra */
            enum status status;
        } install;
        struct {
            bool low;
        } disk;
    };
};

#endif
