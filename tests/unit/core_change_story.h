/* How the tests of configuration changes begin. */
#ifndef TESTS_UNIT_CORE_CHANGE_STORY_H
#define TESTS_UNIT_CORE_CHANGE_STORY_H

#include "tests/sim/core_harness.h"

static inline void propose_settled(struct cores *cores, raft_id id, int n)
{
    for (int i = 0; i < n; i++) {
        assert_int_equal(cores_propose(cores, id), ST_OK);
        cores_settle(cores);
    }
}

/* n voters, of which 1 leads and has committed something. */
static inline struct cores *cores_led(size_t n, uint64_t seed)
{
    struct cores *cores = cores_create(n, seed);

    cores_elect(cores, 1);
    propose_settled(cores, 1, 3);
    return cores;
}

/* One more replica, started and added; not told of it yet. */
static inline raft_id add_started(struct cores *cores, raft_id leader)
{
    raft_id id = cores_add_node(cores);

    cores_start(cores, id);
    assert_int_equal(cores_configure(cores, leader, RAFT_CHANGE_ADD, id), ST_OK);
    return id;
}

/* One that is in the leader's term durably, so that it answers, and whose disk stands still then.
 */
static inline raft_id add_with_stuck_disk(struct cores *cores, raft_id leader)
{
    raft_id id = cores_add_node(cores);
    struct raft_message message = {.type = RAFT_MESSAGE_HEARTBEAT,
                                   .from = leader,
                                   .to = id,
                                   .term = raft_current_term(core_of(cores, leader))};

    cores_start(cores, id);
    cores_inject(cores, &message);
    cores_settle(cores);
    cores->nodes[id].slow_disk = true;
    assert_int_equal(cores_configure(cores, leader, RAFT_CHANGE_ADD, id), ST_OK);
    return id;
}

static inline bool is_joint(struct cores *cores, raft_id id)
{
    return raft_configuration_is_joint(raft_latest_configuration(core_of(cores, id)));
}

#endif
