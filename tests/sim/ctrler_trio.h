/* ctrler_trio: three replicas of the controller in a simulated world, and a client that speaks the
 * protocol by hand, so that every answer of every replica can be seen, not only what a library
 * makes of them. Each request has to be answered exactly once.
 */
#ifndef TESTS_SIM_CTRLER_TRIO_H
#define TESTS_SIM_CTRLER_TRIO_H

#include "client/proto.h"
#include "shardctrler/ctrler_server.h"
#include "tests/sim/world.h"

#define TRIO_N         3
#define TRIO_SHARDS    64
#define TRIO_MAX_ASKED 64

/* What became of a request. */
struct trio_asked {
    uint64_t request_id;
    int answers;
    struct buf bytes;
    struct proto_response response; /* its slices point into bytes */
};

struct trio {
    struct world *world;
    struct spec spec;
    size_t client;
    uint32_t shards[TRIO_N]; /* wanted by each replica when it starts */
    uint32_t max_pending;    /* of each replica; 0: the default */
    bool rejoins;            /* who joins the others (world_join) has itself taken in by them */
    struct trio_asked asked[TRIO_MAX_ASKED];
    size_t n_asked;
    uint64_t seq; /* of the last change */
};

/* Three running replicas with a leader; or three that the test starts itself. */
void trio_begin(struct trio *trio, uint64_t seed);
void trio_begin_without_start(struct trio *trio, uint64_t seed);
void trio_end(struct trio *trio);

struct ctrler_server *trio_server(const struct trio *trio, size_t node);
/* The replica that leads, is ready and can be reached; TRIO_N: none. */
size_t trio_leader_now(const struct trio *trio);
/* Waits until there is one and the others know it. */
size_t trio_leader(struct trio *trio);

/* Sends a request to a replica without waiting; its request_id is filled in. The place stays until
 * forget. */
struct trio_asked *trio_post(struct trio *trio, size_t node, struct proto_request *request);
/* Sends one and waits for the answer. */
const struct proto_response *trio_ask(struct trio *trio, size_t node,
                                      struct proto_request *request);
/* Makes room for further requests; all must have been answered. */
void trio_forget_answers(struct trio *trio);

struct proto_session trio_next_session(struct trio *trio);
/* Joins group gid with the replicas of ctrler_machine_spec; *group must outlive the request. */
struct proto_request trio_join_request(struct trio *trio, struct proto_join_group *group,
                                       uint32_t gid);
/* Cuts a replica off from the other two, or joins it again. */
void trio_cut_off(struct trio *trio, size_t node, bool cut);
/* Joins group gid at the leader; the number made. */
config_num trio_join(struct trio *trio, uint32_t gid);
struct proto_request trio_config_request(config_num num);
/* The configuration in an answer; the caller's. */
struct shard_config trio_config_in(const struct proto_response *response);
struct shard_config trio_query(struct trio *trio, config_num num);

#endif
