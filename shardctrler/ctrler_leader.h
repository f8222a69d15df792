/* ctrler_leader: what the leader of the controllers proposes by itself: the cluster's beginning,
 * and who its own replicas are. */
#ifndef SHARDCTRLER_CTRLER_LEADER_H
#define SHARDCTRLER_CTRLER_LEADER_H

#include "raft/rsm.h"
#include "shardctrler/ctrler_sm.h"

struct ctrler_leader {
    /* Set by the owner. */
    struct group *group;
    struct ctrler_sm *sm;
    uint64_t seed;     /* random: the cluster id is drawn from it */
    uint32_t n_shards; /* of a new cluster; 0: SHARD_DEFAULT_COUNT */

    bool init_proposed;      /* and its end not known yet */
    bool report_proposed;    /* likewise */
    raft_index agreed_index; /* of a configuration that the state was seen to list */
    raft_term term;          /* of the last report that was applied, and the index it told of */
    raft_index index;
};

/* Before each end of a turn. Proposes what is due; does nothing on who does not lead. */
void ctrler_leader_act(struct ctrler_leader *leader);

#endif
