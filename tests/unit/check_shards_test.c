/* Each rule of check_shards.h, check_sessions.h and check_rest.h fires when it is broken: the
 * servers of a real cluster are tampered with, and the next entry that they apply shows it. */
#include "raft/rsm/group.h"
#include "shardkv/kv_server.h"
#include "shardkv/kv_sm_internal.h"
#include "tests/sim/check_rest.h"
#include "tests/sim/world_internal.h"
#include "tests/unit/check_story.h"

/* ---- Vocabulary ---- */

struct stage {
    struct kv_cluster *cluster;
    struct world *world;
    struct kv_client *client;
    const struct shard_config *config;
};

/* Both groups have joined and hold shards; every key is written. */
static struct stage begin_with(size_t n_replicas)
{
    struct kv_cluster_options options = {
        .n_ctrlers = 1, .n_groups = 2, .n_replicas = n_replicas, .seed = 1};
    struct stage stage = {.cluster = kv_cluster_create("check", &options)};

    stage.world = kv_cluster_world(stage.cluster);
    stage.client = kv_client_create(stage.cluster);
    kv_cluster_join_now(stage.cluster, 0);
    kv_cluster_join_now(stage.cluster, 1);
    world_run_ms(stage.world, 5000);
    for (size_t i = 0; i < SHARD_MIN_COUNT; i++) {
        kv_put_now(stage.client, kv_cluster_key(stage.cluster, i), "value");
    }
    stage.config = kv_cluster_config(stage.cluster, CONFIG_LATEST);
    return stage;
}

static struct stage begin(void)
{
    return begin_with(1);
}

/* The inside of a running replica. */
static struct kv_sm *inside(const struct stage *stage, size_t group, size_t i)
{
    return (struct kv_sm *)(uintptr_t)kv_cluster_sm(stage->cluster, group, i);
}

static shard_id shard_of(const struct stage *stage, size_t group)
{
    for (shard_id s = 0; s < stage->config->n_shards; s++) {
        if (stage->config->shards[s] == kv_cluster_gid(group)) {
            return s;
        }
    }
    UNREACHABLE("the group has a shard");
}

static void on_applied(void *context, enum status status, struct slice result)
{
    (void)context, (void)status, (void)result;
}

static void apply(const struct stage *stage, size_t group, const struct kv_command *command)
{
    size_t node = kv_cluster_leader(stage->cluster, group);
    struct buf bytes = {0};

    ASSERT(node != SIZE_MAX);
    kv_command_encode(command, &bytes);
    group_propose(world_group(stage->world, node), buf_slice(&bytes), 0, 0, on_applied, NULL);
    buf_fini(&bytes);
    world_kick(stage->world, node);
    world_run_ms(stage->world, 200);
}

/* An entry that changes nothing: the group's state is looked at. */
static void nudge(const struct stage *stage, size_t group)
{
    struct kv_command command = {.kind = KV_COMMAND_FREEZE, .shard = 9999, .num = 1};

    apply(stage, group, &command);
}

/* ---- Who serves ---- */

static void two_serve(void)
{
    struct stage stage = begin();
    shard_id s = shard_of(&stage, 0);

    inside(&stage, 1, 0)->shards[s].life.state = SHARD_SERVING;
    nudge(&stage, 1);
}

static void one_serves(void)
{
    struct stage stage = begin();

    nudge(&stage, 0);
    nudge(&stage, 1);
    kv_cluster_leave_now(stage.cluster, 0);
    world_run_ms(stage.world, 5000);
    kv_cluster_join_now(stage.cluster, 0);
    world_run_ms(stage.world, 5000);
    kv_client_destroy(&stage.client);
    kv_cluster_destroy(&stage.cluster);
}

/* Nobody shall own the shards: their last owner keeps them as they are. */
static void writes_to_frozen(void)
{
    struct stage stage = begin();
    shard_id s = shard_of(&stage, 1);
    const size_t both[] = {0, 1};

    kv_cluster_leave_many_now(stage.cluster, both, 2);
    world_run_ms(stage.world, 2000);
    ASSERT(inside(&stage, 1, 0)->shards[s].life.state == SHARD_FROZEN);
    nudge(&stage, 1);
    inside(&stage, 1, 0)->shards[s].version++;
    nudge(&stage, 1);
}

static void epoch_falls(void)
{
    struct stage stage = begin();

    inside(&stage, 1, 0)->shards[shard_of(&stage, 1)].life.epoch--;
    nudge(&stage, 1);
}

/* Taken over under the configuration under which another group had it. */
static void epoch_stays(void)
{
    struct stage stage = begin();
    shard_id s = shard_of(&stage, 0);

    inside(&stage, 0, 0)->shards[s].life.state = SHARD_FROZEN;
    nudge(&stage, 0);
    inside(&stage, 1, 0)->shards[s].life.state = SHARD_SERVING;
    inside(&stage, 1, 0)->shards[s].life.epoch = inside(&stage, 0, 0)->shards[s].life.epoch;
    nudge(&stage, 1);
}

static void version_falls(void)
{
    struct stage stage = begin();

    inside(&stage, 1, 0)->shards[shard_of(&stage, 1)].version--;
    nudge(&stage, 1);
}

static void floor_falls(void)
{
    struct stage stage = begin();
    struct kv_shard *shard = &inside(&stage, 1, 0)->shards[shard_of(&stage, 1)];

    session_raise_floor(shard->live, 5);
    nudge(&stage, 1);
    session_table_destroy(&shard->live);
    shard->live = session_table_create(world_group(stage.world, 2)->world.state, shard->live_range,
                                       KV_KIND_SESSION, 100);
    nudge(&stage, 1);
}

static void servers_are_checked(void **state)
{
    (void)state;
    story_holds(one_serves);
    story_breaks("one server a shard", two_serve);
    story_breaks("frozen is immutable", writes_to_frozen);
}

static void counters_are_checked(void **state)
{
    (void)state;
    story_breaks("shard epochs", epoch_falls);
    story_breaks("shard epochs", epoch_stays);
    story_breaks("shard counters", version_falls);
    story_breaks("shard counters", floor_falls);
}

/* ---- Configurations, replicas ---- */

static void skips_a_configuration(void)
{
    struct stage stage = begin();
    struct kv_sm *sm = inside(&stage, 1, 0);

    sm->meta.adopted = sm->config.num = sm->meta.adopted + 2;
    nudge(&stage, 1);
}

static void another_configuration(void)
{
    struct stage stage = begin();
    struct kv_sm *sm = inside(&stage, 1, 0);
    struct kv_command command = {.kind = KV_COMMAND_CONFIG};
    struct shard_config config = {0};
    struct buf bytes = {0};

    shard_config_copy(&config, &sm->config);
    config.shards[0] =
        config.shards[0] == kv_cluster_gid(0) ? kv_cluster_gid(1) : kv_cluster_gid(0);
    shard_config_encode(&config, &bytes);
    command.config = buf_slice(&bytes);
    apply(&stage, 1, &command);
}

static void replicas_differ(void)
{
    struct stage stage = begin_with(3);
    size_t first = kv_cluster_node(stage.cluster, 1, 0);
    size_t follower = kv_cluster_leader(stage.cluster, 1) == first ? 1 : 0;

    inside(&stage, 1, follower)->shards[shard_of(&stage, 1)].version += 7;
    nudge(&stage, 1);
}

static void configurations_are_checked(void **state)
{
    (void)state;
    story_breaks("configurations", skips_a_configuration);
    story_breaks("configurations", another_configuration);
}

static void replicas_are_compared(void **state)
{
    (void)state;
    story_breaks("equal states", replicas_differ);
}

/* ---- Sessions ---- */

static void put_session(struct stage *stage, uint64_t seq, const char *text)
{
    shard_id s = shard_of(stage, 1);
    struct kv_command command = {.kind = KV_COMMAND_WRITE};

    command.write.shard = s;
    command.write.session =
        (struct proto_session){.client = {1, 2, 3},
                               .seq = seq,
                               .issued_at = group_last_stamp(world_group(stage->world, 2))};
    command.write.n_operations = 1;
    command.write.operations[0] =
        (struct kv_operation){.type = KV_APPEND,
                              .key = slice_text(kv_cluster_key(stage->cluster, s)),
                              .value = slice_text(text)};
    apply(stage, 1, &command);
}

/* The table is forgotten between two tries. */
static void applies_twice(void)
{
    struct stage stage = begin();
    struct kv_shard *shard = &inside(&stage, 1, 0)->shards[shard_of(&stage, 1)];

    put_session(&stage, 1, "x");
    session_table_destroy(&shard->live);
    shard->live = session_table_create(world_group(stage.world, 2)->world.state, shard->live_range,
                                       KV_KIND_SESSION, 100);
    put_session(&stage, 1, "x");
}

static void tries_twice(void)
{
    struct stage stage = begin();
    shard_id s = shard_of(&stage, 1);
    uint64_t version = inside(&stage, 1, 0)->shards[s].version;

    put_session(&stage, 1, "x");
    put_session(&stage, 1, "x");
    put_session(&stage, 2, "y");
    ASSERT(inside(&stage, 1, 0)->shards[s].version == version + 2);
    kv_check_now(stage.client, kv_cluster_key(stage.cluster, s), "valuexy");
}

static void counts_without_a_write(void)
{
    struct stage stage = begin();

    inside(&stage, 1, 0)->shards[shard_of(&stage, 1)].version++;
    nudge(&stage, 1);
}

static void sessions_are_checked(void **state)
{
    (void)state;
    story_holds(tries_twice);
    story_breaks("applied once", applies_twice);
    story_breaks("applied once", counts_without_a_write);
}

/* ---- At rest ---- */

static void all_rest(void)
{
    struct stage stage = begin_with(3);
    struct check_rest rest = {.cluster = stage.cluster};

    check_rest_settle(&rest, 5000);
    check_rest_states(&rest);
}

static void one_is_down(void)
{
    struct stage stage = begin_with(3);
    struct check_rest rest = {.cluster = stage.cluster};

    world_crash(stage.world, kv_cluster_node(stage.cluster, 1, 2));
    check_rest_settle(&rest, 3000);
}

static bool is_third(void *context, size_t node)
{
    return node == kv_cluster_node(context, 1, 2);
}

static void one_is_excluded(void)
{
    struct stage stage = begin_with(3);
    struct check_rest rest = {
        .cluster = stage.cluster, .excludes = is_third, .context = stage.cluster};

    world_crash(stage.world, kv_cluster_node(stage.cluster, 1, 2));
    check_rest_settle(&rest, 3000);
    check_rest_states(&rest);
}

/* The taker is dead: what is to go there can't. */
static void a_move_hangs(void)
{
    struct stage stage = begin();
    struct check_rest rest = {.cluster = stage.cluster};

    kv_cluster_stop_group(stage.cluster, 1);
    kv_cluster_leave_now(stage.cluster, 0);
    check_rest_settle(&rest, 3000);
}

static void put_key(const struct stage *stage, size_t node, uint64_t range)
{
    struct io_state *state = world_group(stage->world, node)->world.state;

    state->ops->put(state, (struct io_key){range, 99, slice_text("key")}, slice_text("value"));
}

static void states_differ(void)
{
    struct stage stage = begin_with(3);
    struct check_rest rest = {.cluster = stage.cluster};

    check_rest_settle(&rest, 3000);
    put_key(&stage, kv_cluster_node(stage.cluster, 1, 2), 0);
    check_rest_states(&rest);
}

static void data_is_left_behind(void)
{
    struct stage stage = begin();
    struct check_rest rest = {.cluster = stage.cluster};

    check_rest_settle(&rest, 3000);
    put_key(&stage, kv_cluster_node(stage.cluster, 1, 0), 9999);
    check_rest_states(&rest);
}

static void rest_is_checked(void **state)
{
    (void)state;
    story_holds(all_rest);
    story_holds(one_is_excluded);
    story_breaks("at rest", one_is_down);
    story_breaks("at rest", a_move_hangs);
    story_breaks("equal states", states_differ);
    story_breaks("foreign keys", data_is_left_behind);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_are_checked),        cmocka_unit_test(counters_are_checked),
        cmocka_unit_test(configurations_are_checked), cmocka_unit_test(replicas_are_compared),
        cmocka_unit_test(sessions_are_checked),       cmocka_unit_test(rest_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
