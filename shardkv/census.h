/* census: how many keys and bytes each shard holds, for `status`. A write does not read what it
 * replaces, so nobody keeps exact numbers: the leader counts one shard after the other in small
 * steps, and shows what it found last. Estimates, not replicated, and off the write path. */
#ifndef SHARDKV_CENSUS_H
#define SHARDKV_CENSUS_H

#include "shardkv/kv_context.h"

struct census;

struct census *census_create(struct kv_context *context, struct io_state *state);
void census_destroy(struct census **census);
void census_step(struct census *census);
uint64_t census_next_deadline_ms(const struct census *census);

/* What was last counted of the shard as it is now installed here; false: not counted yet. */
bool census_find(const struct census *census, shard_id shard, uint64_t *keys, uint64_t *bytes);

#endif
