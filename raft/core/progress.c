/* Progress: the state machine of one follower as its leader sees it.
 *
 *              the log matches
 *   PROBE  ─────────────────────▶  REPLICATE        each transition is a function of this file
 *     ▲  ◀─────────────────────       │
 *     │    a rejection, a lost link   │ the entries needed are compacted
 *     │                               ▼
 *     └──────── stalled ─────────  SNAPSHOT ──▶ REPLICATE when installed
 *
 * A probe is one Append at a time, so a follower that is down or far behind costs little. In
 * REPLICATE Appends are pipelined up to a number and a sum of bytes; next_index runs ahead of
 * match_index by what is in flight. match_index is only ever raised by an acknowledgement. */
#include "raft/core/progress.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

void progress_init(struct progress *progress, raft_id id, raft_index next_index, uint64_t now_ms)
{
    ASSERT(id > 0 && next_index > 0);
    *progress = (struct progress){
        .id = id, .state = RAFT_PROBE, .next_index = next_index, .last_heard_ms = now_ms};
}

void progress_fini(struct progress *progress)
{
    mem_free(progress->inflights);
    *progress = (struct progress){0};
}

/* Leaves whatever state it was in. */
static void progress_reset(struct progress *progress)
{
    progress->probe_sent = false;
    progress->probe_empty = false;
    progress->gap_check = false;
    progress->n_inflights = 0;
    progress->inflight_bytes = 0;
    progress->snapshot = (struct snapshot_send){0};
}

void progress_become_probe(struct progress *progress, raft_index next_index)
{
    ASSERT(next_index > progress->match_index);
    progress_reset(progress);
    progress->state = RAFT_PROBE;
    progress->next_index = next_index;
    progress->commit_sent = 0; /* what was told may be lost */
}

void progress_become_replicate(struct progress *progress)
{
    progress_reset(progress);
    progress->state = RAFT_REPLICATE;
    progress->next_index = progress->match_index + 1;
    ASSERT(progress->n_inflights == 0 && !progress->probe_sent);
}

void progress_become_snapshot(struct progress *progress, uint64_t now_ms)
{
    progress_reset(progress);
    progress->state = RAFT_SNAPSHOT;
    progress->tail = (struct tail){0};
    progress->next_index = progress->match_index + 1;
    progress->snapshot.last_progress_ms = now_ms;
    progress->snapshot.last_sent_ms = now_ms;
}

void progress_sent(struct progress *progress, raft_index last_index, uint64_t bytes)
{
    ASSERT(last_index + 1 >= progress->next_index);
    if (progress->state == RAFT_PROBE) {
        progress->probe_sent = true;
        progress->probe_empty = false;
        return;
    }
    progress->gap_check = false;
    if (last_index < progress->next_index) {
        return;
    }
    ASSERT(progress->state == RAFT_REPLICATE);
    MEM_GROW(progress->inflights, progress->capacity, progress->n_inflights + 1);
    progress->inflights[progress->n_inflights++] = (struct inflight){last_index, bytes};
    progress->inflight_bytes += bytes;
    progress->next_index = last_index + 1;
}

bool progress_is_full(const struct progress *progress, const struct raft_options *options)
{
    return progress->n_inflights >= options->max_inflight_messages ||
           progress->inflight_bytes >= options->max_inflight_bytes;
}

/* Forgets the Appends that an acknowledgement of match_index answers. */
static void free_inflights(struct progress *progress, raft_index match_index)
{
    size_t gone = 0;

    while (gone < progress->n_inflights && progress->inflights[gone].last_index <= match_index) {
        ASSERT(progress->inflight_bytes >= progress->inflights[gone].bytes);
        progress->inflight_bytes -= progress->inflights[gone++].bytes;
    }
    progress->n_inflights -= gone;
    if (gone > 0 && progress->n_inflights > 0) {
        memmove(progress->inflights, progress->inflights + gone,
                progress->n_inflights * sizeof(*progress->inflights));
    }
}

bool progress_acked(struct progress *progress, raft_index match_index, uint64_t now_ms)
{
    bool news = match_index > progress->match_index;

    if (news) {
        progress->match_index = match_index;
        progress->last_durable_ms = now_ms;
        if (progress->next_index <= match_index) {
            progress->next_index = match_index + 1;
        }
        free_inflights(progress, match_index);
    }
    ASSERT(progress->next_index > progress->match_index);
    return news;
}

bool progress_rejected(struct progress *progress, raft_index rejected_index, raft_index agree)
{
    raft_index next = agree < rejected_index ? agree + 1 : rejected_index;

    /* A rejection at or below what is known to match left before that was known; one of another
     * probe than the one that is out is stale, too. A snapshot under way settles it anyway. */
    if (rejected_index <= progress->match_index || rejected_index >= progress->next_index ||
        progress->state == RAFT_SNAPSHOT) {
        return false;
    }
    if (progress->state == RAFT_PROBE && rejected_index != progress->next_index - 1) {
        return false;
    }
    if (next <= progress->match_index) {
        next = progress->match_index + 1;
    }
    ASSERT(next <= rejected_index);
    progress_become_probe(progress, next);
    return true;
}

void progress_link_lost(struct progress *progress)
{
    if (progress->state == RAFT_SNAPSHOT) {
        progress_rewind_snapshot(progress, progress->snapshot.acked);
    } else if (progress->state == RAFT_REPLICATE) {
        progress_become_probe(progress, progress->match_index + 1);
    } else {
        progress_become_probe(progress, progress->next_index);
    }
}

void progress_rewind_snapshot(struct progress *progress, uint64_t offset)
{
    ASSERT(progress->state == RAFT_SNAPSHOT);
    progress->snapshot.acked = offset;
    progress->snapshot.next = offset;
    progress->snapshot.n_inflight = 0;
    progress->snapshot.all_read = false;
}

void progress_check(const struct progress *progress, raft_index last_index)
{
    uint64_t bytes = 0;

    ASSERT(progress->match_index < progress->next_index);
    ASSERT(progress->match_index <= last_index && progress->next_index <= last_index + 1);
    ASSERT(progress->state == RAFT_REPLICATE || progress->n_inflights == 0);
    ASSERT(progress->state == RAFT_PROBE || !progress->probe_sent);
    ASSERT(progress->state != RAFT_SNAPSHOT || progress->tail.target == 0);
    for (size_t i = 0; i < progress->n_inflights; i++) {
        ASSERT(progress->inflights[i].last_index > progress->match_index);
        ASSERT(progress->inflights[i].last_index < progress->next_index);
        ASSERT(i == 0 || progress->inflights[i - 1].last_index < progress->inflights[i].last_index);
        bytes += progress->inflights[i].bytes;
    }
    ASSERT(bytes == progress->inflight_bytes);
    ASSERT(progress->snapshot.acked <= progress->snapshot.next);
    ASSERT(progress->snapshot.n_inflight <= SNAPSHOT_MAX_CHUNKS_INFLIGHT);
}
