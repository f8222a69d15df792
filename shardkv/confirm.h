/* confirm: the leader reports to the controller which shards its group owns and since which
 * configuration (their epoch). Best effort, in batches, repeated until accepted; a new leader
 * reports everything again. Nothing waits for it: the controller only keeps it for groups that look
 * for a shard's last confirmed owner. */
#ifndef SHARDKV_CONFIRM_H
#define SHARDKV_CONFIRM_H

#include "shardkv/kv_context.h"

struct confirm;

struct confirm *confirm_create(struct kv_context *context);
void confirm_destroy(struct confirm **confirm);
void confirm_step(struct confirm *confirm);
uint64_t confirm_next_deadline_ms(const struct confirm *confirm);

#endif
