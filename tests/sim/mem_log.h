/* mem_log: struct io_log in memory, for tests and the simulator.
 *
 * What is written waits in a queue until its owner syncs it: mem_log_sync makes the oldest write
 * durable and queues its completion, mem_log_take hands that completion out. In between the process
 * may crash. Compaction and checkpoint notes wait in the same queue and ride with the next write,
 * as in the WAL. Any number of groups. Deterministic and on one thread.
 *
 * It is strict: a gap in the entries, a term that falls, or a compaction beyond the log ends the
 * test.
 */
#ifndef TESTS_SIM_MEM_LOG_H
#define TESTS_SIM_MEM_LOG_H

#include "raft/io.h"

struct mem_log;

struct mem_log *mem_log_create(void);
void mem_log_destroy(struct mem_log **log);
struct io_log *mem_log_io(struct mem_log *log);

/* What is durable of a group: what a start finds. The caller owns content->entries (mem_free) and a
 * reference of each entry's data. A group never written: all zero. */
void mem_log_content(const struct mem_log *log, group_id group, struct io_log_content *content);

/* The oldest write, and what rides with it, becomes durable; false if none is queued. */
bool mem_log_sync(struct mem_log *log);
/* Takes the oldest completion; false if there is none. Fills all of *event but its times. */
bool mem_log_take(struct mem_log *log, struct io_event *event);
size_t mem_log_n_writes(const struct mem_log *log); /* not yet durable */
/* Compactions and notes of checkpoints that wait for the next write. Written without one, at an
 * idle moment, as the WAL's thread does; nothing if a write waits or the log failed. */
size_t mem_log_n_notes(const struct mem_log *log);
void mem_log_write_notes(struct mem_log *log);

/* The process died. The first `survivors` of the writes not yet synced had reached the disk all the
 * same; the others, and all completions, are lost. */
void mem_log_crash(struct mem_log *log, size_t survivors);

/* The next write fails: it does not become durable, and its completion and all later ones carry the
 * status, until a crash. */
void mem_log_fail(struct mem_log *log, enum status status);
/* It was going to fail, but nothing was written meanwhile: it does not any more. */
void mem_log_heal(struct mem_log *log);
/* The disk is full: nothing that waits becomes durable until it is not, as in the WAL. */
void mem_log_set_full(struct mem_log *log, bool full);

#endif
