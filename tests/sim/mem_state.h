/* mem_state: struct io_state in memory, for tests and the simulator.
 *
 * It keeps apart what is written (live) and what is durable (the last finished checkpoint or
 * installed snapshot). Background work does nothing by itself: its owner performs the oldest piece
 * of it (mem_state_work: now it is durable) and takes the completion that this queued
 * (mem_state_take: now the group may hear of it), each when it likes; in between the process may
 * crash. Everything is deterministic and on one thread.
 *
 * It is strict where the contract of io.h is: a write while an iteration is open, a key of a
 * dropped range, two checkpoints at once or an unknown snapshot end the test.
 */
#ifndef TESTS_SIM_MEM_STATE_H
#define TESTS_SIM_MEM_STATE_H

#include "raft/io.h"

struct mem_state;

/* An empty state of that group. */
struct mem_state *mem_state_create(group_id group);
void mem_state_destroy(struct mem_state **state);
struct io_state *mem_state_io(struct mem_state *state);

/* Where the durable state stands: what a start finds. The caller releases meta->extra. */
void mem_state_meta(const struct mem_state *state, struct io_state_meta *meta);

/* Performs the oldest piece of queued work; false if there is none. */
bool mem_state_work(struct mem_state *state);
/* Takes the oldest completion; false if there is none. Fills all of *event but its times; its
 * slices are valid until the next take, crash or destroy. An installed snapshot becomes the live
 * state here. */
bool mem_state_take(struct mem_state *state, struct io_event *event);
size_t mem_state_n_work(const struct mem_state *state);

/* The process died: the live state is the durable one again; queued work, completions and open
 * snapshots are gone. Chunks of a half received snapshot that were made durable stay. */
void mem_state_crash(struct mem_state *state);

/* ---- Faults: each hits the next pieces of work of its kind, `times` of them ---- */

enum mem_state_fault {
    MEM_STATE_FAIL_CHECKPOINT, /* ST_NO_SPACE: it is kept; another: no checkpoint ever again */
    MEM_STATE_FAIL_SNAPSHOT_READ,
    MEM_STATE_FAIL_INSTALL,       /* a chunk is refused before it is written: what is there stays */
    MEM_STATE_FAIL_INSTALL_WRITE, /* as it is written: its snapshot is given up */
    MEM_STATE_FAIL_GET,           /* hits get and iterations */
    MEM_STATE_N_FAULTS
};
void mem_state_fail(struct mem_state *state, enum mem_state_fault fault, enum status status,
                    uint32_t times);

/* Whether such a fault is still to come. */
bool mem_state_fails(const struct mem_state *state, enum mem_state_fault fault);

/* A bit of what is durable flips, as its checksums will show: nothing can be opened of it. False if
 * there is nothing yet. */
bool mem_state_damage(struct mem_state *state);
bool mem_state_is_damaged(const struct mem_state *state);

/* ---- For checkers ---- */

/* Bytes of all live keys and values: what the next checkpoint would hold. */
uint64_t mem_state_live_bytes(const struct mem_state *state);
/* An order-dependent sum over all live keys of range 0 and of `ranges`, and their number: replicas
 * that applied the same entries agree on it. */
uint64_t mem_state_sum(const struct mem_state *state, const uint64_t *ranges, size_t n);
/* Live keys that lie in none of `ranges` nor in range 0: what a service let go of without dropping
 * it. */
size_t mem_state_foreign_keys(const struct mem_state *state, const uint64_t *ranges, size_t n);
size_t mem_state_n_snapshots(const struct mem_state *state);    /* open ones */
uint64_t mem_state_staged_bytes(const struct mem_state *state); /* of a half received snapshot */
size_t mem_state_range_keys(const struct mem_state *state, uint64_t range); /* live */

#endif
