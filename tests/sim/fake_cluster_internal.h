/* What the parts of fake_cluster offer each other. */
#ifndef TESTS_SIM_FAKE_CLUSTER_INTERNAL_H
#define TESTS_SIM_FAKE_CLUSTER_INTERNAL_H

#include "tests/sim/fake_cluster.h"

/* ---- fake_cluster.c ---- */
struct fake_event *fake_schedule(struct fake_cluster *world, uint64_t delay,
                                 struct fake_server *server);
enum fault fake_take_fault(struct fake_server *server);

/* ---- fake_server.c ---- */
/* The request at a replica without faults. */
void fake_normal(struct fake_cluster *world, struct fake_server *server,
                 const struct proto_request *request, bool respond, uint64_t delay);
void fake_handle(struct fake_cluster *world, struct fake_server *server, struct slice message);

#endif
