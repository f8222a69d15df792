/* What the steps of step_case.h share: entries, and a mailbox without threads. */
#ifndef BENCH_STEP_WORLD_H
#define BENCH_STEP_WORLD_H

#include "raft/raft.h"
#include "raft/store.h"
#include "raft/util/assert.h"

#define STEP_SHARDS  16
#define STEP_CLIENTS 64

/* A command's bytes, as long as that of a put. */
static inline struct blob *step_command(void)
{
    struct blob *blob = blob_create_uninitialized(370);

    memset(blob->data, 7, blob->len);
    return blob;
}

/* BATCH entries from `first` on. */
static inline struct raft_entry *step_entries(raft_index first, raft_term term)
{
    struct raft_entry *entries = mem_zalloc(BATCH * sizeof(*entries));

    for (unsigned i = 0; i < BATCH; i++) {
        entries[i] = (struct raft_entry){first + i, term, RAFT_ENTRY_COMMAND, step_command()};
    }
    return entries;
}

/* Runs at once what is posted, and drops what is delivered. */
static inline void step_post(void *context, void (*run)(void *arg), void *arg)
{
    (void)context;
    run(arg);
}

static inline void step_deliver(void *context, struct io_event *event)
{
    (void)context;
    (void)event;
}

#endif
