/* The peers of a group change while the links run: new ones are dialled, those that left are closed
 * in both directions, others move to another address, and one that joins answers whoever comes. */
#include "tests/unit/net_pair.h"

struct members {
    struct io_peer peers[4];
    size_t n;
    bool open;
};

static void on_set_peers(struct node *node, void *arg)
{
    struct members *members = arg;
    struct io_net *io = net_io(node->net);

    io->ops->set_peers(io, 5, members->peers, members->n, members->open);
}

/* The replicas of the SPEC whose ids are in the text. */
static void node_set_peers(struct node *node, const struct spec *spec, const char *ids)
{
    struct members members = {.open = *ids == '\0'};

    for (; *ids != '\0'; ids++) {
        raft_id id = (raft_id)(*ids - '0');

        members.peers[members.n++] = (struct io_peer){.id = id, .url = spec_find(spec, id)->url};
    }
    node_call(node, on_set_peers, &members);
}

struct trio {
    struct spec spec; /* of all three */
    struct node nodes[3];
};

/* Nodes that know those of the ids, and no others. */
static void trio_init(struct trio *trio, const char *const knows[3])
{
    spec_on_free_ports(&trio->spec, 3);
    for (uint32_t i = 0; i < 3; i++) {
        struct node *node = &trio->nodes[i];

        node_init(node);
        node_be_replica(node, &trio->spec, i + 1);
        node->options.peers.n = 0;
        for (const char *id = knows[i]; *id != '\0'; id++) {
            node->options.peers.replicas[node->options.peers.n++] =
                *spec_find(&trio->spec, (uint32_t)(*id - '0'));
        }
        node_start(node);
    }
}

static void trio_fini(struct trio *trio)
{
    for (size_t i = 0; i < 3; i++) {
        node_fini(&trio->nodes[i]);
    }
}

static void a_peer_that_comes_is_dialled_and_let_in(void **state)
{
    struct trio trio;

    (void)state;
    trio_init(&trio, (const char *const[]){"12", "12", "123"});
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    /* It is no peer of theirs yet. */
    assert_true(node_wait_trace(&trio.nodes[2], "by=peer status=WRONG_NODE", WITHIN_MS));
    node_set_peers(&trio.nodes[0], &trio.spec, "123");
    node_set_peers(&trio.nodes[1], &trio.spec, "123");
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_UP, 3, 1, WITHIN_MS));
    assert_true(node_wait(&trio.nodes[2], IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
    assert_true(node_wait(&trio.nodes[2], IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    node_peer_send(&trio.nodes[0], 3, IO_NORMAL, "welcome", 7);
    node_peer_send(&trio.nodes[2], 1, IO_NORMAL, "thanks", 6);
    assert_true(node_wait(&trio.nodes[2], IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_MESSAGE, 3, 1, WITHIN_MS));
    /* What was there is not disturbed. */
    assert_int_equal(node_count(&trio.nodes[0], IO_EVENT_PEER_DOWN, 2), 0);
    trio_fini(&trio);
}

static void a_peer_that_leaves_is_closed_in_both_directions(void **state)
{
    struct trio trio;
    uint64_t before;

    (void)state;
    trio_init(&trio, (const char *const[]){"123", "123", "123"});
    for (uint32_t id = 2; id <= 3; id++) {
        assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_UP, id, 1, WITHIN_MS));
        assert_true(node_wait(&trio.nodes[id - 1], IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
    }
    node_set_peers(&trio.nodes[0], &trio.spec, "12");
    assert_true(node_wait(&trio.nodes[2], IO_EVENT_PEER_DOWN, 1, 1, WITHIN_MS));
    assert_true(
        node_wait_trace(&trio.nodes[2], "no other replica of the group has that id", WITHIN_MS));
    before = node_stats(&trio.nodes[0]).dropped;
    node_peer_send(&trio.nodes[0], 3, IO_NORMAL, "too late", 8);
    assert_int_equal(node_stats(&trio.nodes[0]).dropped, before + 1);
    node_peer_send(&trio.nodes[0], 2, IO_NORMAL, "still", 5);
    assert_true(node_wait(&trio.nodes[1], IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_int_equal(node_stats(&trio.nodes[0]).peer_links_up, 1);
    /* And comes back. */
    node_set_peers(&trio.nodes[0], &trio.spec, "123");
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_UP, 3, 2, WITHIN_MS));
    assert_true(node_wait(&trio.nodes[2], IO_EVENT_PEER_UP, 1, 2, WITHIN_MS));
    trio_fini(&trio);
}

static void a_peer_that_moves_is_dialled_where_it_is(void **state)
{
    struct trio trio;
    struct members members = {.n = 2};

    (void)state;
    /* 1 has 2 under an address where nobody is. */
    trio_init(&trio, (const char *const[]){"1", "12", "3"});
    members.peers[0] = (struct io_peer){.id = 1, .url = trio.spec.replicas[0].url};
    members.peers[1] = (struct io_peer){.id = 2, .url = "tcp://127.0.0.1:1"};
    node_call(&trio.nodes[0], on_set_peers, &members);
    assert_true(node_wait_trace(&trio.nodes[0], "peer dial failed id=2", WITHIN_MS));
    node_set_peers(&trio.nodes[0], &trio.spec, "12");
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_UP, 2, 1, WITHIN_MS));
    /* The same again changes nothing. */
    node_set_peers(&trio.nodes[0], &trio.spec, "12");
    node_peer_send(&trio.nodes[0], 2, IO_NORMAL, "there", 5);
    assert_true(node_wait(&trio.nodes[1], IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_int_equal(node_count(&trio.nodes[0], IO_EVENT_PEER_DOWN, 2), 0);
    trio_fini(&trio);
}

static void one_that_joins_answers_whoever_comes(void **state)
{
    struct trio trio;
    struct record record;

    (void)state;
    trio_init(&trio, (const char *const[]){"1", "12", "3"});
    node_set_peers(&trio.nodes[2], &trio.spec, ""); /* it does not know them */
    node_set_peers(&trio.nodes[0], &trio.spec, "123");
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_UP, 3, 1, WITHIN_MS));
    node_peer_send(&trio.nodes[0], 3, IO_NORMAL, "the log", 7);
    assert_true(node_wait(&trio.nodes[2], IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    node_peer_send(&trio.nodes[2], 1, IO_NORMAL, "got it", 6); /* it has no link of its own */
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_MESSAGE, 3, 1, WITHIN_MS));
    record = node_get(&trio.nodes[0], IO_EVENT_PEER_MESSAGE, 3, 0);
    assert_memory_equal(record.head, "got it", 6);
    assert_int_equal(node_count(&trio.nodes[2], IO_EVENT_PEER_UP, 0), 0);
    /* Then it is told who they are. */
    node_set_peers(&trio.nodes[2], &trio.spec, "123");
    assert_true(node_wait(&trio.nodes[2], IO_EVENT_PEER_UP, 1, 1, WITHIN_MS));
    node_peer_send(&trio.nodes[2], 1, IO_NORMAL, "again", 5);
    assert_true(node_wait(&trio.nodes[0], IO_EVENT_PEER_MESSAGE, 3, 2, WITHIN_MS));
    trio_fini(&trio);
}

/* A hello with a known id and another incarnation than the configuration names. */
static void another_incarnation_is_dropped_when_the_group_names_one(void **state)
{
    struct pair pair;
    struct members members = {.n = 2};

    (void)state;
    pair_start(&pair);
    members.peers[0] = (struct io_peer){.id = 1, .url = pair.spec.replicas[0].url};
    members.peers[1] =
        (struct io_peer){.id = 2, .url = pair.spec.replicas[1].url, .incarnation = 102};
    node_call(&pair.one, on_set_peers, &members); /* the one that is there */
    node_peer_send(&pair.one, 2, IO_NORMAL, "you", 3);
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_MESSAGE, 1, 1, WITHIN_MS));
    assert_int_equal(node_count(&pair.one, IO_EVENT_PEER_DOWN, 2), 0);
    members.peers[1].incarnation = 999;
    node_call(&pair.one, on_set_peers, &members);
    assert_true(node_wait(&pair.one, IO_EVENT_PEER_DOWN, 2, 1, WITHIN_MS));
    assert_true(node_wait(&pair.two, IO_EVENT_PEER_DOWN, 1, 1, WITHIN_MS));
    pair_fini(&pair);
}

#define ROUNDS 60

/* Peers come, go and move under traffic, faster than links can be made. */
static void quick_changes_leak_and_break_nothing(void **state)
{
    static const char *const sets[] = {"123", "12", "13", "1", "123", "13"};
    struct trio trio;

    (void)state;
    trio_init(&trio, (const char *const[]){"123", "123", "123"});
    for (int i = 0; i < ROUNDS; i++) {
        node_set_peers(&trio.nodes[i % 3], &trio.spec, sets[(i * 7) % 6]);
        for (uint32_t id = 2; id <= 3; id++) {
            node_peer_send(&trio.nodes[0], id, IO_BULK, NULL, 100000);
        }
        if (i % 4 == 0) {
            pause_ms(5);
        }
    }
    for (size_t i = 0; i < 3; i++) {
        node_set_peers(&trio.nodes[i], &trio.spec, "123");
    }
    for (int tries = 0;; tries++) {
        bool all_up = true;

        for (size_t i = 0; i < 3; i++) {
            all_up = all_up && node_stats(&trio.nodes[i]).peer_links_up == 2;
        }
        if (all_up) {
            break;
        }
        assert_true(tries < 1000);
        pause_ms(10);
    }
    trio_fini(&trio);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_that_comes_is_dialled_and_let_in),
        cmocka_unit_test(a_peer_that_leaves_is_closed_in_both_directions),
        cmocka_unit_test(a_peer_that_moves_is_dialled_where_it_is),
        cmocka_unit_test(one_that_joins_answers_whoever_comes),
        cmocka_unit_test(another_incarnation_is_dropped_when_the_group_names_one),
        cmocka_unit_test(quick_changes_leak_and_break_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
