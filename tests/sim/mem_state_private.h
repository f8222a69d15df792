/* Inside of mem_state: what mem_state.c and mem_state_snapshot.c share. */
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
    struct mem_image image; /* CHECKPOINT: what becomes durable */
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
    struct buf bytes;            /* what its slice points to */
    bool switches;               /* an installed snapshot becomes the live state */
    struct mem_image *installed; /* then: this one */
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
    bool drops_wait; /* since the last checkpoint began */
    struct mem_image durable;
    bool damaged;
    struct staging staging;
    uint64_t last_checkpoint; /* number of the newest checkpoint begun */
    bool checkpointing;
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

/* The snapshot part of the table, and of the work. */
void mem_state_snapshot_open(struct io_state *io, struct io_snapshot *snapshot);
void mem_state_snapshot_read(struct io_state *io, uint64_t id, uint64_t offset, size_t max_bytes,
                             uint64_t token);
void mem_state_snapshot_close(struct io_state *io, uint64_t id);
void mem_state_install_chunk(struct io_state *io, raft_index index, raft_term term, uint64_t offset,
                             struct slice data, bool done);
void mem_state_work_snapshot_read(struct mem_state *state, struct work *work);
void mem_state_work_install(struct mem_state *state, struct work *work);

#endif
