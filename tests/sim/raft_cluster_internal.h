/* What the parts of raft_cluster offer each other. */
#ifndef TESTS_SIM_RAFT_CLUSTER_INTERNAL_H
#define TESTS_SIM_RAFT_CLUSTER_INTERNAL_H

#include "tests/sim/raft_cluster.h"

/* One more node of the cluster's service, not started; its number. */
size_t raft_cluster_add_node(struct raft_cluster *cluster, const struct spec *spec);

#endif
