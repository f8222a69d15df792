/* Inside of mem_state: what mem_state.c, mem_state_checkpoint.c and mem_state_snapshot.c share. */
#ifndef TESTS_SIM_MEM_STATE_PRIVATE_H
#define TESTS_SIM_MEM_STATE_PRIVATE_H

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/mem_image.h"
#include "tests/sim/mem_state.h"

struct snapshot {
    struct snapshot *next;
    uint64_t id;
    struct mem_image image;
    struct buf stream;
};

enum work_kind { WORK_CHECKPOINT, WORK_SNAPSHOT_READ, WORK_INSTALL };

struct work {
    struct work *next;
    enum work_kind kind;
    uint64_t id, token, offset;
    size_t max_bytes;
    raft_index index;
    raft_term term;
    struct buf data;
    bool done;
};

struct completion {
    struct completion *next;
    struct io_event event;
    struct buf bytes;        /* what its slice points to */
    struct mem_image *shows; /* became durable: shown from now on; NULL: nothing did */
    bool switches;           /* and live too: an installed snapshot */
};

struct staging {
    raft_index index; /* 0: none */
    raft_term term;
    struct buf bytes;
};

struct mem_state {
    struct io_state io; /* first: the table's functions get a pointer to it */
    group_id group;
    struct mem_map live;
    uint64_t dirty;
    uint64_t *dropped; /* ranges that may not be touched any more */
    size_t n_dropped, dropped_capacity;
    uint64_t *waiting; /* of those, and of keep_ranges: for a checkpoint without them to begin */
    size_t n_waiting, waiting_capacity;
    struct mem_image durable;
    struct mem_image shown; /* the durable one that the group has heard of: snapshots are of it */
    struct mem_image next;  /* of the checkpoint under way, or of one that found no space */
    bool has_next;
    bool checkpointing; /* from checkpoint() until its event is taken */
    enum status failed; /* a checkpoint failed: nothing becomes durable any more */
    bool damaged;
    struct staging staging;
    uint32_t n_iters;
    struct snapshot *snapshots;
    uint64_t last_snapshot;
    struct work *work, **work_end;
    struct completion *events, **events_end;
    struct completion *taken; /* keeps the slices of the last event alive */
    struct {
        enum status status;
        uint32_t times;
    } faults[MEM_STATE_N_FAULTS];
};

struct mem_state *mem_state_of(struct io_state *io);
enum status mem_state_take_fault(struct mem_state *state, enum mem_state_fault fault);
/* Appends an empty piece of work, an empty completion, to be filled. */
struct work *mem_state_queue_work(struct mem_state *state, enum work_kind kind);
struct completion *mem_state_queue_event(struct mem_state *state, enum io_event_type type);

void mem_state_free_completion(struct completion *completion);
void mem_state_check_range(const struct mem_state *state, uint64_t range);

/* The part of the table about ranges and checkpoints, and of the work. */
void mem_state_drop_range(struct io_state *io, uint64_t range);
void mem_state_keep_ranges(struct io_state *io, const uint64_t *ranges, size_t n);
bool mem_state_drops_wait(struct io_state *io);
void mem_state_checkpoint(struct io_state *io, const struct io_checkpoint *checkpoint);
void mem_state_work_checkpoint(struct mem_state *state);
/* Its event is taken. */
void mem_state_take_checkpoint(struct mem_state *state, enum status status);
/* What was durable before is not any more: takes the image over, and has the completion show it. */
void mem_state_replace_durable(struct mem_state *state, struct mem_image *image,
                               struct completion *completion);

/* The snapshot part of the table, and of the work. */
void mem_state_snapshot_open(struct io_state *io, struct io_snapshot *snapshot);
void mem_state_snapshot_read(struct io_state *io, uint64_t id, uint64_t offset, size_t max_bytes,
                             uint64_t token);
void mem_state_snapshot_close(struct io_state *io, uint64_t id);
void mem_state_install_chunk(struct io_state *io, raft_index index, raft_term term, uint64_t offset,
                             struct slice data, bool done);
void mem_state_work_snapshot_read(struct mem_state *state, struct work *work);
void mem_state_work_install(struct mem_state *state, struct work *work);
/* Drops a half received snapshot that the durable state is not behind of any more. */
void mem_state_forget_outdated(struct mem_state *state);

#endif
