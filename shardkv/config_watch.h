/* config_watch: how a group learns of configurations. The ready leader asks the controller for the
 * one after the adopted one, every poll_ms and at once after adopting one, and proposes it as a
 * CONFIG entry. Before that it proposes INIT, once it has seen the controller: from then on the
 * group knows its cluster. Strictly one by one, none left out: what a configuration in between took
 * away and gave back must reach every shard's queue.
 *
 * A group that has adopted nothing begins at the configuration of its join. If it joined, left and
 * joined again before it ever ran, it begins at the first of these that others may still wait for.
 */
#ifndef SHARDKV_CONFIG_WATCH_H
#define SHARDKV_CONFIG_WATCH_H

#include "shardkv/kv_context.h"

struct config_watch;

struct config_watch *config_watch_create(struct kv_context *context, uint32_t poll_ms);
void config_watch_destroy(struct config_watch **watch);

void config_watch_step(struct config_watch *watch);
uint64_t config_watch_next_deadline_ms(const struct config_watch *watch);

/* The controller knows another incarnation under this gid: adopt nothing, serve nothing. */
bool config_watch_is_refused(const struct config_watch *watch);

#endif
