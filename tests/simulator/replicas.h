/* replicas: replicas come and go all the time.
 *
 * A team is a group or the controllers. Members are removed and added again, half of them with an
 * empty disk; servers that lost their disk, or refuse it, are replaced: emptied, started as
 * replicas that join, the old incarnation removed and the new one added. After the faults this goes
 * on until every server votes in its team again. */
#ifndef TESTS_SIMULATOR_REPLICAS_H
#define TESTS_SIMULATOR_REPLICAS_H

#include "tests/simulator/run.h"

struct replicas;

struct replicas *replicas_create(struct run *run);
void replicas_destroy(struct replicas **replicas);

/* In this millisecond: begins a change if it is time and none is under way. */
void replicas_begin(struct replicas *replicas);
bool replicas_is_busy(const struct replicas *replicas);

/* After the faults: one step towards teams of which everybody is a voter. True: they all are. */
bool replicas_complete(struct replicas *replicas);

/* Whether a late try of an order may still change the team: tries are delayed, and held up by
 * clogged links. It may not any more once the team has another configuration than the order meant;
 * that this holds is checked. Ask after replicas_are_certain. */
bool replicas_have_strays(const struct replicas *replicas, size_t team);
/* Whether the members of the team, and who of them votes, are certain for now: it has a leader that
 * has committed in its term, no change is under way, and none of ours may yet be. Gives the
 * configuration of that leader. */
bool replicas_are_certain(struct replicas *replicas, size_t team,
                          const struct raft_configuration **configuration);

#endif
