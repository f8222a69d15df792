/* Links between the replicas of a group: greeting, order, classes, breaks. */
#include "tests/unit/net_harness.h"

/* Two replicas of one group, linked in both directions. */
struct pair {
    struct spec spec;
    struct node one, two;
};

static void pair_init(struct pair *pair)
{
    spec_on_free_ports(&pair->spec, 2);
    node_init(&pair->one);
    node_init(&pair->two);
    node_be_replica(&pair->one, &pair->spec, 1);
    node_be_replica(&pair->two, &pair->spec, 2);
}

static void pair_wait_linked(struct pair *pair)
{
    assert_true(node_wait(&pair->one, IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    assert_true(node_wait(&pair->two, IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
}

static void pair_start(struct pair *pair)
{
    pair_init(pair);
    node_start(&pair->one);
    node_start(&pair->two);
    pair_wait_linked(pair);
}

static void pair_fini(struct pair *pair)
{
    node_fini(&pair->one);
    node_fini(&pair->two);
}

static void peers_find_each_other_and_talk(void **state)
{
    struct pair pair;
    struct record record;

    (void)state;
    pair_start(&pair);
    node_peer_send(&pair.one, 2, IO_NORMAL, "from one", 8);
    node_peer_send(&pair.two, 1, IO_URGENT, "from two!", 9);
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_MESSAGE, 2, 1, WITHIN_MS));
    record = node_get(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 0);
    assert_int_equal(record.len, 8);
    assert_memory_equal(record.head, "from one", 8);
    assert_memory_equal(node_get(&pair.one, IO_EVENT_PEER_MESSAGE, 2, 0).head, "from two!", 9);
    assert_int_equal(node_stats(&pair.one).peer_links_up, 1);
    pair_fini(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_find_each_other_and_talk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
