/* The fixture's cluster: servers, the client, the beginning and the end. */
#include "tests/sim/kv_fixture.h"
#include "tests/sim/server_nodes.h"

static void fixture_tune(const struct fixture *fixture, struct group_options *options)
{
    options->check_invariants = true;
    if (fixture->checkpoints) {
        options->checkpoint_log_bytes = 4000;
        options->log_keep_bytes = 0;
    }
}

static void *fixture_create_ctrler(void *context, const struct world_parts *parts)
{
    struct ctrler_server_options options;

    ctrler_server_options_default(&options, parts->id, parts->seed, &parts->spec);
    fixture_tune(context, &options.group);
    options.n_shards = FIXTURE_SHARDS;
    return ctrler_node_create(&options, parts);
}

static void *fixture_create_kv(void *context, const struct world_parts *parts)
{
    struct fixture *fixture = context;
    struct kv_server_options options;

    kv_server_options_default(&options, parts->gid, parts->id, parts->seed);
    fixture_tune(fixture, &options.group);
    options.ctrlers = fixture->ctrlers;
    options.rejoins = fixture->rejoins && parts->joins ? &parts->spec : NULL;
    if (fixture->piece_bytes != 0) {
        options.migrate.piece_bytes = fixture->piece_bytes;
    }
    options.migrate.bytes_per_s = fixture->bytes_per_s;
    if (fixture->max_copies != 0) {
        options.migrate.max_copies = fixture->max_copies;
    }
    if (fixture->max_sessions != 0) {
        options.max_sessions = fixture->max_sessions;
    }
    return kv_node_create(&options, parts);
}

static void fixture_message(void *client, uint64_t now_ms, struct slice message)
{
    caller_on_message(((struct fixture *)client)->caller, now_ms, message);
}

static void fixture_down(void *client, uint64_t now_ms, const char *url)
{
    caller_on_down(((struct fixture *)client)->caller, now_ms, url);
}

static void fixture_tick(void *client, uint64_t now_ms)
{
    caller_tick(((struct fixture *)client)->caller, now_ms);
}

static uint64_t fixture_next_deadline(void *client)
{
    return caller_next_deadline_ms(((struct fixture *)client)->caller);
}

static void fixture_send(void *context, group_id gid, const char *url, struct buf *message)
{
    struct fixture *fixture = context;

    (void)gid;
    world_client_send(fixture->world, fixture->client, url, message);
}

uint32_t fixture_gid(size_t group)
{
    return 100 + (uint32_t)group;
}

size_t fixture_node(const struct fixture *fixture, size_t group, size_t i)
{
    return fixture->ctrlers.n + group * fixture->n_replicas + i;
}

void fixture_init(struct fixture *fixture, size_t n_groups, size_t n_replicas, uint64_t seed)
{
    *fixture = (struct fixture){.n_ctrlers = 1, .n_groups = n_groups, .n_replicas = n_replicas};
    fixture->world = world_create(seed);
}

static const struct world_node_ops fixture_ctrler_ops =
    CTRLER_NODE_OPS(fixture_create_ctrler, NULL);
const struct world_node_ops fixture_kv_ops = KV_NODE_OPS(fixture_create_kv, fixture_check_owners);
static const struct world_client_ops fixture_client_ops = {fixture_message, fixture_down,
                                                           fixture_tick, fixture_next_deadline};

void fixture_add(struct fixture *fixture, group_id gid, const struct spec *spec,
                 const struct world_node_ops *ops)
{
    for (size_t i = 0; i < spec->n; i++) {
        world_start(fixture->world,
                    world_add_node(fixture->world, gid, spec->replicas[i].id, spec, ops, fixture));
    }
}

void fixture_start(struct fixture *fixture)
{
    struct caller_options options;
    uint8_t id[16] = "the test's admin";

    world_make_spec(fixture->world, 0, fixture->n_ctrlers, &fixture->ctrlers);
    fixture_add(fixture, 0, &fixture->ctrlers, &fixture_ctrler_ops);
    for (size_t g = 0; g < fixture->n_groups; g++) {
        world_make_spec(fixture->world, fixture_gid(g), fixture->n_replicas, &fixture->groups[g]);
        fixture_add(fixture, fixture_gid(g), &fixture->groups[g], &fixture_kv_ops);
    }
    caller_options_default(&options);
    options.seed = 7;
    options.transport = (struct caller_transport){.context = fixture, .send = fixture_send};
    fixture->caller = caller_create(&options);
    fixture->admin = ctrler_clerk_create(fixture->caller, &fixture->ctrlers, id);
    fixture->client = world_add_client(fixture->world, &fixture_client_ops, fixture);
    fixture->issued_at = 1;
}

void fixture_fini(struct fixture *fixture)
{
    for (size_t i = 0; i < world_node_count(fixture->world); i++) {
        assert_null(world_halted(fixture->world, i));
    }
    world_remove_client(fixture->world, fixture->client);
    ctrler_clerk_destroy(&fixture->admin);
    caller_destroy(&fixture->caller);
    world_destroy(&fixture->world);
}
