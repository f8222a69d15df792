/* ctrler_leader: see the header.
 *
 * The first leader that is ready and finds no cluster proposes INIT; should two do so, the first in
 * the log wins and both learn it from the state.
 *
 * Whenever the committed configuration of the group lists other voters than the controller's state
 * says, the leader proposes REPLICAS for gid 0: so clients and groups, which follow the
 * configurations, learn of controllers that came and went.
 */
#include "shardctrler/ctrler_leader.h"

#include "client/serve.h"
#include "raft/util/assert.h"

static void propose(struct ctrler_leader *leader, const struct ctrler_command *command,
                    group_proposal_done done)
{
    struct buf bytes = {0};

    ctrler_command_encode(command, &bytes);
    group_propose(leader->group, buf_slice(&bytes), 0, 0, done, leader);
    buf_fini(&bytes);
}

static void on_initialized(void *context, enum status status, struct slice bytes)
{
    struct ctrler_leader *leader = context;

    (void)status;
    (void)bytes;
    ASSERT(leader->init_proposed);
    leader->init_proposed = false;
}

/* The cluster id: 128 bits of this leader's seed, which is random in production. */
static void draw_cluster_id(const struct ctrler_leader *leader, uint8_t cluster_id[16])
{
    struct rng rng;

    rng_init(&rng, leader->seed);
    set_u64(cluster_id, rng_next(&rng));
    set_u64(cluster_id + 8, rng_next(&rng) | 1); /* never all zero: that is "not known" */
}

static void propose_init(struct ctrler_leader *leader)
{
    struct ctrler_command command = {.kind = CTRLER_INIT};

    command.n_shards = leader->n_shards != 0 ? leader->n_shards : SHARD_DEFAULT_COUNT;
    draw_cluster_id(leader, command.cluster_id);
    leader->init_proposed = true;
    propose(leader, &command, on_initialized);
}

/* Applied, whatever the outcome: it would be the same for the same configuration again. */
static void on_reported(void *context, enum status status, struct slice bytes)
{
    struct ctrler_leader *leader = context;

    (void)bytes;
    ASSERT(leader->report_proposed);
    leader->report_proposed = false;
    if (status != ST_OK) {
        leader->term = 0;
    }
}

static void report_replicas(struct ctrler_leader *leader)
{
    const struct raft *raft = group_raft(leader->group);
    struct spec replicas;
    struct ctrler_command command = {.kind = CTRLER_REPLICAS,
                                     .term = raft_current_term(raft),
                                     .index = raft_configuration_index(raft),
                                     .replicas = &replicas};

    if ((leader->term == command.term && leader->index == command.index) ||
        leader->agreed_index == command.index || !serve_voters(leader->group, &replicas)) {
        return;
    }
    if (spec_equal(&replicas, &ctrler_sm_latest(leader->sm)->ctrlers)) {
        leader->agreed_index = command.index;
        return;
    }
    leader->report_proposed = true;
    leader->term = command.term;
    leader->index = command.index;
    propose(leader, &command, on_reported);
}

void ctrler_leader_act(struct ctrler_leader *leader)
{
    if (!group_is_ready(leader->group)) {
        return;
    }
    if (!ctrler_sm_is_initialized(leader->sm)) {
        if (!leader->init_proposed) {
            propose_init(leader);
        }
    } else if (!leader->report_proposed) {
        report_replicas(leader);
    }
}
