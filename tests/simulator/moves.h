/* moves: an administrator who joins, leaves and moves all the time, one change after the other, and
 * now and then pauses the moves for a while.
 *
 * A change may end unknown; a refusal is allowed only where the outcome of an earlier change is not
 * known, for then nobody can know whether the group is a member.
 */
#ifndef TESTS_SIMULATOR_MOVES_H
#define TESTS_SIMULATOR_MOVES_H

#include "tests/simulator/run.h"

struct moves *moves_create(struct run *run);
void moves_destroy(struct moves **moves);

/* In this millisecond: begins a change if it is time and none is under way. */
void moves_begin(struct moves *moves);
bool moves_is_busy(const struct moves *moves);

/* After the faults: each begins something that has ended when moves_is_busy says so. */
void moves_ask(struct moves *moves);
void moves_join_first(struct moves *moves);
void moves_resume(struct moves *moves);
/* The latest configuration that was asked for; NULL: there was no answer to the last question. */
const struct shard_config *moves_config(const struct moves *moves);

#endif
