/* check_rest: what must hold at the end of a run, when the faults are off: every shard is with its
 * owner alone, no transition, copy or release is left, no range that nobody names, and the replicas
 * of each group, the controller's too, have equal states.
 *
 * Replicas that were wiped are left out, and those that the caller excludes: a lost replica need
 * not come back by itself. All others must run.
 */
#ifndef TESTS_SIM_CHECK_REST_H
#define TESTS_SIM_CHECK_REST_H

#include "tests/sim/kv_cluster.h"

struct check_rest {
    struct kv_cluster *cluster;
    bool (*excludes)(void *context, size_t node); /* NULL: nobody */
    void *context;
};

/* Whether every replica is at rest under that configuration; if not and `tell`, says on stderr who
 * is not, and why. */
bool check_rest_reached(const struct check_rest *rest, const struct shard_config *config,
                        bool tell);
/* Runs the world until all is at rest under the latest configuration, and 2 s more for the last
 * entries to reach every replica; fails ("at rest") if it takes longer than max_ms. */
void check_rest_settle(const struct check_rest *rest, uint64_t max_ms);
/* Fails ("equal states", "foreign keys") unless the replicas agree and hold no range that they
 * don't name. Nothing may be under way. */
void check_rest_states(const struct check_rest *rest);

#endif
