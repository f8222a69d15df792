/* kv_admin: programs that change who owns what, as many as a scenario wants, at the same time, cut
 * off or gone in the middle of a change; and whether the shards have arrived where they belong, as
 * `shardkv-cli wait --shards` judges it.
 */
#ifndef TESTS_SIM_KV_ADMIN_H
#define TESTS_SIM_KV_ADMIN_H

#include "tests/sim/kv_cluster.h"

struct kv_admin;

struct kv_admin *kv_admin_create(struct kv_cluster *cluster);
/* As a crash: nobody asks any more for what is outstanding. Its changes end here. */
void kv_admin_destroy(struct kv_admin **admin);
/* Cuts it from every server, or joins it again. */
void kv_admin_cut(struct kv_admin *admin, bool cut);

/* Begins a change, for as long as two minutes. */
void kv_admin_join(struct kv_admin *admin, size_t group, struct kv_change *change);
void kv_admin_leave(struct kv_admin *admin, size_t group, struct kv_change *change);
/* The same for groups that need no servers, at URLs of their own (ctrler_machine_spec). */
void kv_admin_join_gids(struct kv_admin *admin, const uint32_t *gids, uint32_t n,
                        struct kv_change *change);
void kv_admin_leave_gids(struct kv_admin *admin, const uint32_t *gids, uint32_t n,
                         struct kv_change *change);
void kv_admin_move(struct kv_admin *admin, shard_id shard, uint32_t gid, struct kv_change *change);
/* Runs the world until the change has ended; false: it did not in time. */
bool kv_admin_wait(struct kv_admin *admin, const struct kv_change *change, uint64_t ms);

/* Whether every shard is served by its owner under the latest configuration of the controller that
 * leads, every member has a leader that has adopted it, and nothing is on its way. */
bool kv_cluster_is_settled(struct kv_cluster *cluster);
/* Shards that their owner does not serve, or not yet. SIZE_MAX if no controller leads. */
size_t kv_cluster_shards_missing(struct kv_cluster *cluster);
/* Runs until it is settled, asked after every event; the milliseconds that it took, UINT64_MAX if
 * longer than `ms`. */
uint64_t kv_cluster_settle(struct kv_cluster *cluster, uint64_t ms);

#endif
