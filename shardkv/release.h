/* release: the leader tells the sources of shards that were installed here to let go of their
 * frozen copies, each until it says that it has, and proposes RELEASED then. A source that is down
 * is asked again for as long as it takes: it holds up nothing. */
#ifndef SHARDKV_RELEASE_H
#define SHARDKV_RELEASE_H

#include "shardkv/kv_context.h"

struct release;

struct release *release_create(struct kv_context *context);
/* Its proposals must have ended (group_destroy) and its calls (caller_destroy). */
void release_destroy(struct release **release);
void release_step(struct release *release);
uint64_t release_next_deadline_ms(const struct release *release);

#endif
