/* Majorities, plain and joint: pure functions of a configuration. */
#ifndef RAFT_CORE_QUORUM_H
#define RAFT_CORE_QUORUM_H

#include "raft/raft.h"

/* A set of replica ids. */
struct id_set {
    uint64_t bits[4];
};

static inline void id_set_add(struct id_set *set, raft_id id)
{
    set->bits[(id & 255) / 64] |= 1ull << (id % 64);
}

static inline bool id_set_has(const struct id_set *set, raft_id id)
{
    return (set->bits[(id & 255) / 64] >> (id % 64)) & 1;
}

enum quorum_result { QUORUM_PENDING, QUORUM_WON, QUORUM_LOST };

/* How a vote stands: won by a majority of the voters and, while joint, also of the old voters; lost
 * as soon as one of the two can't be reached any more. */
enum quorum_result quorum_vote(const struct raft_configuration *configuration,
                               const struct id_set *granted, const struct id_set *rejected);

/* The highest value that a majority (both, while joint) has reached; values[i] belongs to
 * servers[i]. With match indexes this is the index that may commit (paper, Figure 2, last rule for
 * leaders); with confirmed rounds it is the round that a read may use. 0 without voters. */
uint64_t quorum_reached_value(const struct raft_configuration *configuration,
                              const uint64_t values[RAFT_MAX_SERVERS]);

#endif
