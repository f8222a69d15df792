/* migrate: the leader's loop over shards that are to arrive. For each shard whose RECEIVE is at the
 * head of its queue it pulls piece after piece from the source group, proposes each as a CHUNK, and
 * the END as INSTALL. What was applied is the only memory: a new leader goes on from the last
 * applied piece, whatever became of the old one's calls.
 *
 * At most max_copies shards are on their way at a time, at the pace of shardkv/copy_pace.h. One
 * that gets no piece for 2 s gives its slot back and waits a while; a source that does not answer
 * gets one slot at a time until it does, so a dead group does not keep others waiting. What is past
 * its base, and what the source may have frozen unheard, goes first, and when all slots are in use
 * gets an extra one, of which there are as many: nobody serves it, so it waits for no base. The
 * source is the group that the configuration names; if that one does not have the shard or does not
 * answer, the other groups are asked in turn: the hand-over to it may have been called off. Only
 * the shard that has the silent group's slot waits for that.
 *
 * While the operator holds copies up (moves_paused), no base is asked for, nor has one a slot; what
 * is past its base or frozen is handed over.
 */
#ifndef SHARDKV_MIGRATE_H
#define SHARDKV_MIGRATE_H

#include "shardkv/kv_context.h"

struct migrate;

struct migrate_options {
    uint32_t max_copies;  /* shards that arrive at the same time; more, if they may be frozen */
    uint32_t piece_bytes; /* of a shard in one piece */
    uint64_t bytes_per_s; /* of all that arrive together; 0: no bound */
};

struct migrate *migrate_create(struct kv_context *context, const struct migrate_options *options);
/* Its proposals must have ended (group_destroy) and its calls (caller_destroy). */
void migrate_destroy(struct migrate **migrate);

void migrate_step(struct migrate *migrate);
uint64_t migrate_next_deadline_ms(const struct migrate *migrate);

/* Whether the shard is about to be installed: a request for it may wait for that. */
bool migrate_is_nearly_here(const struct migrate *migrate, shard_id shard);

/* Whether INSTALL is proposed here: a write for the shard can be proposed behind it. Whether the
 * shard is served is decided when the write is applied, as ever. */
bool migrate_takes_writes(const struct migrate *migrate, shard_id shard);

enum migrate_phase {
    MIGRATE_WAITING,     /* for its turn, its source, or the operator */
    MIGRATE_COPYING,     /* the base */
    MIGRATE_CATCHING_UP, /* rounds of changes */
    MIGRATE_HANDING_OVER /* frozen at the source */
};
struct migrate_progress {
    enum migrate_phase phase;
    uint32_t from;
    uint64_t keys_total, bytes_total; /* estimates; 0: not known */
    uint64_t bytes_per_s;
};
/* Of a shard whose RECEIVE is at the head. */
void migrate_progress(const struct migrate *migrate, shard_id shard,
                      struct migrate_progress *progress);

/* A shard that this leader has installed. */
struct migrate_done {
    shard_id shard;
    config_num num;
    uint32_t from;
    uint64_t keys, bytes;
    uint32_t pause_ms; /* served by nobody for about so long */
    uint64_t done_ms;
};
#define MIGRATE_MAX_DONE 64
/* The last ones, the newest first, at most MIGRATE_MAX_DONE. Returns how many. */
size_t migrate_last_done(const struct migrate *migrate, struct migrate_done *done, size_t max);

struct migrate_stats {
    uint64_t pieces, bytes;    /* that arrived */
    uint64_t installed;        /* shards */
    uint64_t broken;           /* copies that were not what was sent */
    uint64_t called_off;       /* moves */
    uint64_t yielding_per_s;   /* bytes a second that may arrive now while clients are served */
    struct histogram pause_us; /* of those installed: served by nobody for about so long */
};
const struct migrate_stats *migrate_statistics(const struct migrate *migrate);

#endif
