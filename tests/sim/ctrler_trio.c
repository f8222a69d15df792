/* Three controllers, and requests made by hand; see ctrler_trio.h. */
#include "tests/sim/ctrler_trio.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/ctrler_machine.h"
#include "tests/sim/server_nodes.h"

/* ---- Replicas ---- */

static void *replica_create(void *context, const struct world_parts *parts)
{
    struct trio *trio = context;
    struct ctrler_server_options options;

    ctrler_server_options_default(&options, parts->id, parts->seed, &parts->spec);
    options.group.check_invariants = true;
    options.group.checkpoint_log_bytes = 2000; /* so that restarts find checkpoints */
    options.group.log_keep_bytes = 0;
    options.n_shards = trio->shards[parts->node];
    options.incarnation = 100 + parts->id; /* no other number of the replica */
    options.rejoins = trio->rejoins && parts->joins ? &parts->spec : NULL;
    if (trio->max_pending != 0) {
        options.max_pending = trio->max_pending;
    }
    return ctrler_node_create(&options, parts);
}

static const struct world_node_ops replica_ops = CTRLER_NODE_OPS(replica_create, NULL);

/* ---- The client ---- */

static void client_message(void *client, uint64_t now_ms, struct slice message)
{
    struct trio *trio = client;
    uint64_t id;
    enum proto_op op;
    struct trio_asked *asked;

    (void)now_ms;
    ASSERT(proto_response_peek(message, &id, &op));
    ASSERT(id >= 1 && id <= trio->n_asked);
    asked = &trio->asked[id - 1];
    ASSERT(asked->answers == 0); /* exactly once */
    asked->answers++;
    buf_put_slice(&asked->bytes, message);
    ASSERT(proto_response_decode(buf_slice(&asked->bytes), &asked->response));
}

static const struct world_client_ops client_ops = {.message = client_message};

/* Sends a request to a replica without waiting. */
struct trio_asked *trio_post(struct trio *trio, size_t node, struct proto_request *request)
{
    struct trio_asked *asked = &trio->asked[trio->n_asked++];
    struct buf message = {0};

    ASSERT(trio->n_asked <= TRIO_MAX_ASKED);
    request->request_id = trio->n_asked;
    asked->request_id = request->request_id;
    proto_request_encode(request, &message);
    world_client_send(trio->world, trio->client, trio->spec.replicas[node].url, &message);
    return asked;
}

static bool is_answered(void *context)
{
    return ((struct trio_asked *)context)->answers > 0;
}

/* Sends a request and waits for the answer. */
const struct proto_response *trio_ask(struct trio *trio, size_t node, struct proto_request *request)
{
    struct trio_asked *asked = trio_post(trio, node, request);

    ASSERT(world_run_until(trio->world, 5000, is_answered, asked));
    return &asked->response;
}

void trio_forget_answers(struct trio *trio)
{
    for (size_t i = 0; i < trio->n_asked; i++) {
        ASSERT(trio->asked[i].answers == 1);
        proto_response_fini(&trio->asked[i].response);
        buf_fini(&trio->asked[i].bytes);
        trio->asked[i] = (struct trio_asked){0};
    }
    trio->n_asked = 0;
}

/* ---- The three of them ---- */

struct ctrler_server *trio_server(const struct trio *trio, size_t node)
{
    return world_server(trio->world, node);
}

/* The replica that leads, is ready and can be reached; TRIO_N: none. */
size_t trio_leader_now(const struct trio *trio)
{
    size_t found = TRIO_N;
    raft_term term = 0;

    for (size_t node = 0; node < TRIO_N; node++) {
        struct group *group = world_group(trio->world, node);

        if (group != NULL && world_is_connected(trio->world, node) && group_is_ready(group) &&
            ctrler_server_cluster_id(trio_server(trio, node)) != NULL &&
            raft_current_term(group_raft(group)) > term) {
            term = raft_current_term(group_raft(group));
            found = node;
        }
    }
    return found;
}

static bool has_leader(void *context)
{
    return trio_leader_now(context) < TRIO_N;
}

size_t trio_leader(struct trio *trio)
{
    ASSERT(world_run_until(trio->world, 10000, has_leader, trio));
    world_run_ms(trio->world, 200); /* the others hear of it */
    return trio_leader_now(trio);
}

void trio_begin_without_start(struct trio *trio, uint64_t seed)
{
    memset(trio, 0, sizeof(*trio));
    trio->world = world_create(seed);
    world_make_spec(trio->world, 0, TRIO_N, &trio->spec);
    for (size_t node = 0; node < TRIO_N; node++) {
        trio->shards[node] = TRIO_SHARDS;
        world_add_node(trio->world, 0, (raft_id)node + 1, &trio->spec, &replica_ops, trio);
    }
    trio->client = world_add_client(trio->world, &client_ops, trio);
}

void trio_begin(struct trio *trio, uint64_t seed)
{
    trio_begin_without_start(trio, seed);
    for (size_t node = 0; node < TRIO_N; node++) {
        world_start(trio->world, node);
    }
    trio_leader(trio);
}

void trio_end(struct trio *trio)
{
    world_destroy(&trio->world);
    for (size_t i = 0; i < trio->n_asked; i++) {
        proto_response_fini(&trio->asked[i].response);
        buf_fini(&trio->asked[i].bytes);
    }
}

/* ---- Requests ---- */

struct proto_session trio_next_session(struct trio *trio)
{
    struct proto_session session = {.client = {7}, .issued_at = 1};

    session.seq = ++trio->seq;
    session.acked_seq = session.seq - 1;
    return session;
}

/* Joins group gid; `groups` must outlive the request. */
struct proto_request trio_join_request(struct trio *trio, struct proto_join_group *group,
                                       uint32_t gid)
{
    *group = (struct proto_join_group){.gid = gid, .replicas = ctrler_machine_spec(gid)};
    return (struct proto_request){
        .op = PROTO_JOIN, .join = {.session = trio_next_session(trio), .n = 1, .groups = group}};
}

config_num trio_join(struct trio *trio, uint32_t gid)
{
    struct proto_join_group group;
    struct proto_request request = trio_join_request(trio, &group, gid);
    const struct proto_response *response = trio_ask(trio, trio_leader(trio), &request);

    ASSERT(response->status == ST_OK);
    return response->admin.num;
}

struct proto_request trio_config_request(config_num num)
{
    return (struct proto_request){.op = PROTO_CONFIG, .config = {.num = num}};
}

/* The configuration in an answer; the caller's. */
struct shard_config trio_config_in(const struct proto_response *response)
{
    struct reader reader = reader_of(response->config_reply.encoded);
    struct shard_config config;

    ASSERT(response->status == ST_OK);
    ASSERT(shard_config_decode(&reader, &config) && reader_done(&reader));
    return config;
}

struct shard_config trio_query(struct trio *trio, config_num num)
{
    struct proto_request request = trio_config_request(num);

    return trio_config_in(trio_ask(trio, trio_leader(trio), &request));
}

void trio_cut_off(struct trio *trio, size_t node, bool cut)
{
    for (size_t other = 0; other < TRIO_N; other++) {
        if (other != node) {
            world_cut_pair(trio->world, node, other, cut);
        }
    }
}
