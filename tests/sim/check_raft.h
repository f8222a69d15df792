/* check_raft: Raft's invariants between the replicas of every group of a simulated world, looked at
 * after every step of every node.
 *
 * It is one observer of the world. For each replica it keeps a shadow of its log (the terms, no
 * data), so that a look costs as much as what changed since the last one; the rules are in
 * check_election.c (terms, votes, leaders, promises) and check_log.c (entries, commit, apply), each
 * by the name that check_fail prints:
 *
 *   election safety           a group has at most one leader a term, over all history
 *   leader append-only        a leader neither removes nor replaces entries of its log
 *   truncation                a follower removes entries only for one that conflicts
 *   term monotonic            a replica's term never falls, nor below what it said, over crashes
 *   single vote               a replica votes for one candidate a term, over crashes
 *   acknowledged entries      what a replica acknowledged is in its log, crashes included, unless a
 *                             later leader replaced it or a snapshot covers it
 *   log matching              same (index, term): same data, and the same term before it
 *   commit monotonic          a commit index does not fall while a replica lives
 *   commit by own term        a leader commits by counting only entries of its own term
 *   committed entries         what any replica held committed is so, with the same content, for all
 *   leader completeness       a new leader has all that was committed in earlier terms
 *   state machine safety      entries are applied once each, in order, and only committed ones;
 *                             replicas that applied the same index agree on cluster time
 *   cluster time never falls  from entry to entry, as far as a replica was seen between them
 *
 * None of them asks who the members are: they hold over all configurations of a group's history.
 *
 * A wiped replica (world_wipe) is another one under an old name: it is looked at no more, unless it
 * is made to join its group anew (world_join); then it has promised nothing.
 */
#ifndef TESTS_SIM_CHECK_RAFT_H
#define TESTS_SIM_CHECK_RAFT_H

#include "tests/sim/world.h"

struct check_raft;

/* Observes the world from now on: before its first start. Outlives the world. */
struct check_raft *check_raft_create(struct world *world);
void check_raft_destroy(struct check_raft **check);
/* Looks at this node no more: before its first start, one of another cluster in the same world,
 * whose groups have numbers that are taken here. */
void check_raft_exclude(struct check_raft *check, size_t node);

/* Called once for each entry that is committed, when its group's first replica holds it so; in
 * order within the group. For further checkers. */
typedef void (*check_raft_committed)(void *context, group_id gid, const struct raft_entry *entry);
void check_raft_on_committed(struct check_raft *check, check_raft_committed committed,
                             void *context);

#endif
