/* Who asks for gigabytes in one packet: what is read for clients in one turn is bounded, and what
 * is beyond waits for later turns; who asks for little does not wait behind it. */
#include <stdlib.h>

#include "tests/sim/kv_fixture.h"
#include "tests/sim/server_nodes.h"

#define BIG_BYTES (9u << 20) /* two of them are more than what is read in one turn */
#define N_READS   40

/* Between a server and its network: the order in which it answers. */
struct tap {
    struct io_net net; /* first */
    struct io_net *below;
};

struct story {
    struct fixture f;
    struct tap taps[3];              /* by replica */
    uint64_t n_sent, place[N_READS]; /* by request id: how many were answered up to it */
    uint64_t n_values;               /* of those, how many with a value */
    struct world_node_ops ops;       /* of its servers */
    size_t client;
    bool watches;
    uint64_t n_answered, most_in_a_step;
    bool ended[N_READS]; /* by request id */
    enum status ends[N_READS];
};

static struct story *only; /* a node's context is the fixture */

static uint64_t n_pending(const struct kv_server *server)
{
    static const char name[] = "\nshardkv_requests_pending ";
    struct buf text = {0};
    const char *at;
    uint64_t n;

    kv_server_metrics((struct kv_server *)(uintptr_t)server, &text);
    buf_put_u8(&text, 0);
    at = strstr((const char *)text.data, name);
    assert_non_null(at);
    n = strtoull(at + sizeof(name) - 1, NULL, 10);
    buf_fini(&text);
    return n;
}

static void tap_peer_send(struct io_net *net, group_id group, raft_id to, enum io_class class,
                          struct buf *message)
{
    struct io_net *below = ((struct tap *)net)->below;

    below->ops->peer_send(below, group, to, class, message);
}

static void tap_set_peers(struct io_net *net, group_id group, const struct io_peer *peers, size_t n,
                          bool open)
{
    struct io_net *below = ((struct tap *)net)->below;

    below->ops->set_peers(below, group, peers, n, open);
}

static void tap_reply(struct io_net *net, io_conn conn, struct buf *message)
{
    struct io_net *below = ((struct tap *)net)->below;
    struct proto_response response;

    if (only->watches) {
        assert_true(proto_response_decode(buf_slice(message), &response));
        if (response.op == PROTO_GET) {
            only->place[response.request_id] = ++only->n_sent;
            only->n_values += response.status == ST_OK;
        }
        proto_response_fini(&response);
    }
    below->ops->reply(below, conn, message);
}

static io_endpoint tap_endpoint(struct io_net *net, group_id gid, const char *url)
{
    struct io_net *below = ((struct tap *)net)->below;

    return below->ops->endpoint(below, gid, url);
}

static void tap_endpoint_send(struct io_net *net, io_endpoint endpoint, struct buf *message)
{
    struct io_net *below = ((struct tap *)net)->below;

    below->ops->endpoint_send(below, endpoint, message);
}

static const struct io_net_ops tap_ops = {.peer_send = tap_peer_send,
                                          .set_peers = tap_set_peers,
                                          .reply = tap_reply,
                                          .endpoint = tap_endpoint,
                                          .endpoint_send = tap_endpoint_send};

static void *create_tapped(void *context, const struct world_parts *parts)
{
    struct tap *tap = &only->taps[parts->id - 1];
    struct world_parts tapped = *parts;

    *tap = (struct tap){.net.ops = &tap_ops, .below = parts->io.net};
    tapped.io.net = &tap->net;
    return fixture_kv_ops.create(context, &tapped);
}

/* As every node's; and how many requests one event had answered. */
static void watched_step(void *server, const struct io_event *event)
{
    uint64_t before = only->watches ? n_pending(server) : 0, after;

    kv_node_step(server, event);
    if (only->watches && event->type != IO_EVENT_CLIENT_MESSAGE) {
        after = n_pending(server);
        if (before > after && before - after > only->most_in_a_step) {
            only->most_in_a_step = before - after;
        }
    }
}

static void on_message(void *client, uint64_t now_ms, struct slice message)
{
    struct story *story = client;
    struct proto_response response;

    (void)now_ms;
    assert_true(proto_response_decode(message, &response));
    assert_in_range(response.request_id, 0, N_READS - 1);
    assert_false(story->ended[response.request_id]); /* once */
    story->ended[response.request_id] = true;
    story->ends[response.request_id] = response.status;
    story->n_answered++;
    proto_response_fini(&response);
}

static const struct world_client_ops client_ops = {.message = on_message};

/* One group of three, so that the reads that come during one round are confirmed together. */
static void begin(struct story *story, uint64_t seed)
{
    struct fixture *f = &story->f;
    char *big = mem_zalloc(BIG_BYTES + 1);

    *story = (struct story){.ops = fixture_kv_ops};
    story->ops.step = watched_step;
    story->ops.create = create_tapped;
    only = story;
    fixture_init(f, 0, 3, seed);
    fixture_start(f);
    f->n_groups = 1;
    world_make_spec(f->world, fixture_gid(0), 3, &f->groups[0]);
    fixture_add(f, fixture_gid(0), &f->groups[0], &story->ops);
    fixture_settle(f, fixture_join(f, 0), 1);
    story->client = world_add_client(f->world, &client_ops, story);
    memset(big, 'b', BIG_BYTES);
    fixture_put(f, "big", big);
    mem_free(big);
}

static void end(struct story *story)
{
    story->watches = false;
    world_remove_client(story->f.world, story->client);
    fixture_fini(&story->f);
}

static void ask(struct story *story, size_t client, uint64_t id, const char *key)
{
    struct fixture *f = &story->f;
    struct proto_request request = fixture_get_request(key);
    struct buf message = {0};

    request.request_id = id;
    proto_request_encode(&request, &message);
    world_client_send(f->world, client, f->groups[0].replicas[fixture_leader(f, 0)].url, &message);
}

static void ask_for_all(struct story *story)
{
    story->watches = true;
    for (uint64_t id = 0; id < N_READS; id++) {
        ask(story, story->client, id, "big");
    }
}

static void what_one_turn_reads_is_bounded(void **state)
{
    struct story story;

    (void)state;
    begin(&story, 51);
    ask_for_all(&story);
    world_run_ms(story.f.world, 5000);
    assert_int_equal(story.n_answered, N_READS); /* all in the end */
    for (size_t i = 0; i < N_READS; i++) {
        assert_int_equal(story.ends[i], ST_OK);
    }
    assert_in_range(story.most_in_a_step, 1, 4);
    end(&story);
}

/* ---- Who goes first ---- */

#define LAST (N_READS - 1) /* the request that comes last */

static void cut_followers(struct story *story, bool cut)
{
    struct fixture *f = &story->f;
    size_t leader = fixture_leader(f, 0);

    for (size_t i = 0; i < 3; i++) {
        if (i != leader) {
            world_cut_pair(f->world, fixture_node(f, 0, leader), fixture_node(f, 0, i), cut);
        }
    }
}

/* Client i asks for "big" as number i, clients[LAST] for the key when all the others have; nothing
 * is confirmed before. Gives the place at which the last one was answered. */
static uint64_t place_of_last(struct story *story, const size_t clients[N_READS], const char *key)
{
    struct world *world = story->f.world;

    cut_followers(story, true);
    story->watches = true;
    for (uint64_t id = 0; id < LAST; id++) {
        ask(story, clients[id], id, "big");
    }
    world_run_ms(world, 2);
    ask(story, clients[LAST], LAST, key);
    world_run_ms(world, 2);
    assert_int_equal(story->n_sent, 0);
    cut_followers(story, false);
    world_run_ms(world, 5000);
    for (size_t i = 0; i < N_READS; i++) {
        assert_int_equal(story->ends[i], ST_OK);
    }
    assert_int_equal(story->n_sent, N_READS);
    return story->place[LAST];
}

/* One turn reads two of them; another two may be read before the last one is confirmed. */
#define SOON 6

static void who_asks_for_much_waits_for_it_and_others_do_not(void **state)
{
    struct story story;
    size_t clients[N_READS];

    (void)state;
    begin(&story, 53);
    for (size_t i = 0; i < LAST; i++) {
        clients[i] = story.client; /* all of it by one */
    }
    clients[LAST] = world_add_client(story.f.world, &client_ops, &story);
    assert_in_range(place_of_last(&story, clients, "big"), 1, SOON);
    world_remove_client(story.f.world, clients[LAST]);
    end(&story);
}

static void what_gave_much_when_last_read_waits_behind_what_did_not(void **state)
{
    struct story story;
    size_t clients[N_READS];

    (void)state;
    begin(&story, 54);
    fixture_put(&story.f, "small", "s");
    for (size_t i = 0; i < N_READS; i++) {
        clients[i] = world_add_client(story.f.world, &client_ops, &story);
    }
    assert_in_range(place_of_last(&story, clients, "small"), 1, SOON);
    for (size_t i = 0; i < N_READS; i++) {
        world_remove_client(story.f.world, clients[i]);
    }
    end(&story);
}

/* Two hundred that ask for large values and hang up would keep a server busy for a minute. */
static void nothing_is_read_for_who_is_gone(void **state)
{
    struct story story;
    size_t gone;

    (void)state;
    begin(&story, 55);
    gone = world_add_client(story.f.world, &client_ops, &story);
    cut_followers(&story, true);
    story.watches = true;
    for (uint64_t id = 0; id < LAST; id++) {
        ask(&story, gone, id, "big");
    }
    ask(&story, story.client, LAST, "big");
    world_run_ms(story.f.world, 2);
    world_remove_client(story.f.world, gone);
    world_run_ms(story.f.world, 2);
    assert_int_equal(story.n_sent, 0); /* nothing is confirmed yet */
    cut_followers(&story, false);
    world_run_ms(story.f.world, 5000);
    assert_int_equal(story.n_sent, N_READS);
    assert_int_equal(story.n_values, 1);
    assert_int_equal(story.ends[LAST], ST_OK);
    end(&story);
}

static bool some_wait(void *context)
{
    return ((struct story *)context)->most_in_a_step > 0;
}

/* No ticket is left over. */
static void a_server_may_end_while_reads_wait(void **state)
{
    struct story story;
    size_t leader;

    (void)state;
    begin(&story, 52);
    leader = fixture_leader(&story.f, 0);
    ask_for_all(&story);
    assert_true(world_run_until(story.f.world, 5000, some_wait, &story));
    assert_true(n_pending(fixture_server(&story.f, 0, leader)) > 10);
    story.watches = false;
    world_crash(story.f.world, fixture_node(&story.f, 0, leader));
    world_run_ms(story.f.world, 2000);
    fixture_put(&story.f, "key", "value");
    end(&story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_turn_reads_is_bounded),
        cmocka_unit_test(who_asks_for_much_waits_for_it_and_others_do_not),
        cmocka_unit_test(what_gave_much_when_last_read_waits_behind_what_did_not),
        cmocka_unit_test(nothing_is_read_for_who_is_gone),
        cmocka_unit_test(a_server_may_end_while_reads_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
