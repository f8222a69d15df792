/* migrate: the leader's loop over shards that are to arrive. For each shard whose RECEIVE is at the
 * head of its queue it pulls piece after piece from the source group, proposes each as a CHUNK, and
 * the END as INSTALL. What was applied is the only memory: a new leader goes on from the last
 * applied piece, whatever became of the old one's calls.
 *
 * At most max_copies shards are on their way at a time. One that gets no piece for 2 s gives its
 * slot back and waits a while; a source that does not answer gets one slot at a time until it does,
 * so a dead group does not keep others waiting.
 */
#ifndef SHARDKV_MIGRATE_H
#define SHARDKV_MIGRATE_H

#include "shardkv/kv_context.h"

struct migrate;

struct migrate *migrate_create(struct kv_context *context, uint32_t max_copies,
                               uint32_t piece_bytes);
/* Its proposals must have ended (group_destroy) and its calls (caller_destroy). */
void migrate_destroy(struct migrate **migrate);

void migrate_step(struct migrate *migrate);
uint64_t migrate_next_deadline_ms(const struct migrate *migrate);

struct migrate_stats {
    uint64_t pieces, bytes; /* that arrived */
    uint64_t installed;     /* shards */
    uint64_t broken;        /* copies that were not what was sent */
};
const struct migrate_stats *migrate_statistics(const struct migrate *migrate);

#endif
