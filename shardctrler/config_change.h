/* config_change: what join, leave, move, pause and replicas make of a configuration: the next one,
 * or a refusal.
 *
 * Pure functions of the latest configuration, the table of owners and the request; all or nothing.
 * The rules:
 *
 *   join   gids from 1 to 2^31-1, each once, none a member; no two groups with the same replica
 *          URL, among the new ones, the members, and those that left and still hold shards; a group
 *          that may still hold shards comes back under the incarnation it was known by, or not at
 *          all. Then the shards are rebalanced.
 *   leave  members only, each once. Then the shards are rebalanced. With the last member gone every
 *          shard is on 0, and `from` keeps who has it.
 *   move   to a member; no rebalancing. A shard that is there already makes no new configuration.
 *   pause  copies stop, or go on; who owns what stays as it is. What is so already makes no new
 *          configuration.
 *   replicas  the voters of a group, or of the controller itself, changed: it is listed under its
 *          new replicas. No two groups share a URL, neither with the controller.
 *
 * A group that left stays listed, as no member, while `from` names it or it may hold a shard.
 */
#ifndef SHARDCTRLER_CONFIG_CHANGE_H
#define SHARDCTRLER_CONFIG_CHANGE_H

#include "shardctrler/ctrler_command.h"
#include "shardctrler/shard_owners.h"

/* True: *next is the next configuration, the caller's, and *result is ST_OK with its number. False:
 * *next is {0} and *result says why, or gives ST_OK with the present number if none is needed.
 * command is a JOIN, LEAVE, MOVE or PAUSE, or REPLICAS of gid 0 or of a group that is listed. */
bool config_change(const struct shard_config *latest, const struct shard_owners *owners,
                   const struct ctrler_command *command, struct shard_config *next,
                   struct ctrler_result *result);

#endif
