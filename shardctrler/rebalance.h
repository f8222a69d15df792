/* rebalance: which group shall own which shard, after groups joined or left.
 *
 * A pure function of its arguments, so every replica of the controller comes to the same answer:
 * groups are taken in ascending order of gid and shards in ascending order, and nothing else
 * breaks a tie. Its three promises:
 *
 *   balance      the loads of any two groups differ by at most one;
 *   few moves    no assignment with that balance keeps more shards where they are, so a shard
 *                leaves a surviving group only if that group has too many, and a group that is
 *                not above its share never loses one;
 *   no groups    every shard is on gid 0.
 */
#ifndef SHARDCTRLER_REBALANCE_H
#define SHARDCTRLER_REBALANCE_H

#include <stddef.h>
#include <stdint.h>

/* shards[s] is the gid that has shard s now: a member, a group that is none any more, or 0; on
 * return, the gid that shall have it. gids: the members, ascending, without 0; more of them than
 * shards is fine. Returns how many shards changed. O(n_shards + n_gids). */
size_t rebalance(uint32_t *shards, size_t n_shards, const uint32_t *gids, size_t n_gids);

#endif
