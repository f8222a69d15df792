/* Two replicas of one group, for tests of the links between them.
 */
#ifndef TESTS_UNIT_NET_PAIR_H
#define TESTS_UNIT_NET_PAIR_H

#include "tests/unit/net_harness.h"

/* Two replicas of one group, linked in both directions. */
struct pair {
    struct spec spec;
    struct node one, two;
};

static UNUSED_OK void pair_init(struct pair *pair)
{
    spec_on_free_ports(&pair->spec, 2);
    node_init(&pair->one);
    node_init(&pair->two);
    node_be_replica(&pair->one, &pair->spec, 1);
    node_be_replica(&pair->two, &pair->spec, 2);
}

static UNUSED_OK void pair_wait_linked(struct pair *pair)
{
    assert_true(node_wait(&pair->one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    assert_true(node_wait(&pair->two, IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
}

static UNUSED_OK void pair_start(struct pair *pair)
{
    pair_init(pair);
    node_start(&pair->one);
    node_start(&pair->two);
    pair_wait_linked(pair);
}

static UNUSED_OK void pair_fini(struct pair *pair)
{
    node_fini(&pair->one);
    node_fini(&pair->two);
}

#endif
