/* check_shards: who serves which shard, over all groups of a simulated world, and how often an
 * operation is applied; looked at after every step of every replica of a shard group.
 *
 * A group's state is a function of its committed entries, so the most advanced state that any of
 * its replicas ever showed is the group's state now; replicas that lag don't count. The rules, by
 * the name that check_fail prints:
 *
 *   one server a shard      no two groups serve a shard at any moment
 *   frozen is immutable     only a group that serves a shard writes to it
 *   shard epochs            whoever takes a shard over does so under a later configuration
 *   shard counters          a shard's version counter and its floor never fall, over moves too
 *   configurations          a group adopts every configuration, one by one, and the same number is
 *                           the same configuration for all
 *   equal states            replicas of a group that applied the same index have the same shards:
 *                           states, epochs, queues, counters, number of sessions
 *   applied once            see check_sessions.h
 *
 * Needs the checkers of check_raft.h in the same world, and before it. Every node whose gid is not
 * 0 must be a kv_server.
 */
#ifndef TESTS_SIM_CHECK_SHARDS_H
#define TESTS_SIM_CHECK_SHARDS_H

#include "tests/sim/check_raft.h"

struct check_shards;

struct check_shards *check_shards_create(struct world *world, struct check_raft *raft);
void check_shards_destroy(struct check_shards **check);

#endif
