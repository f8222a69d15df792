/* check_sessions: no operation is applied twice: not in one group, not in two after a move.
 *
 * What a client's operation is, (client, seq) on a shard, stands in the committed entries; whether
 * an entry had an effect is seen from the shard's version counter, which each write that changes
 * something raises by one. So between two looks at a group's state the counter may rise by no more
 * than the number of operations among the entries between them that were never applied before. A
 * look at a single entry decides about it; over several the bound still holds, and which of them
 * were applied is then known only if all new ones were. A look over an INSTALL is skipped: the
 * counter comes with the shard.
 *
 * What it can't see: whether an operation that a client was told to be refused is applied later, or
 * an acknowledged one is missing. The histories decide that (tests/sim/linear.h: what was REFUSED
 * has no place in the order, what was OK must have one), and the tokens of the chaos tests.
 */
#ifndef TESTS_SIM_CHECK_SESSIONS_H
#define TESTS_SIM_CHECK_SESSIONS_H

#include "client/shard_config.h"
#include "tests/sim/world.h"

struct check_sessions;

struct check_sessions *check_sessions_create(struct world *world);
void check_sessions_destroy(struct check_sessions **check);

/* An entry of a shard group is committed; each once, in order: for check_raft_on_committed. */
void check_sessions_committed(void *context, group_id gid, const struct raft_entry *entry);

#define CHECK_SESSIONS_UNKNOWN UINT64_MAX

/* The group's state went on to `applied`; the version counter of shard s rose by rises[s]. */
void check_sessions_applied(struct check_sessions *check, group_id gid, raft_index applied,
                            const uint64_t *rises, uint32_t n_shards);

#endif
