/* The public key/value suite (one replica group) on the simulated world. Here the group is a
 * shardkv group that owns every shard. */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/kv_load.h"

#define ITERATIONS   3
#define ITERATION_MS 5000

struct scenario {
    const char *name;
    size_t clients, servers;
    bool unreliable, restart, partition, snapshots;
};

static struct kv_cluster *cluster_of(const char *name, size_t servers, bool unreliable,
                                     bool snapshots)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = 1,
                                         .n_replicas = servers,
                                         .n_shards = 64,
                                         .snapshots = snapshots,
                                         .seed = 4000 + servers};
    struct kv_cluster *c = kv_cluster_create(name, &options);

    kv_cluster_join_now(c, 0);
    kv_cluster_set_unreliable(c, unreliable);
    return c;
}

/* Splits the servers into two random sets. */
static void partition_at_random(struct kv_cluster *c, size_t servers)
{
    struct rng *rng = world_rng(kv_cluster_world(c));
    bool side[9];

    for (size_t i = 0; i < servers; i++) {
        side[i] = rng_below(rng, 2) == 0;
    }
    for (size_t i = 0; i < servers; i++) {
        for (size_t j = i + 1; j < servers; j++) {
            world_cut_pair(kv_cluster_world(c), kv_cluster_node(c, 0, i), kv_cluster_node(c, 0, j),
                           side[i] != side[j]);
        }
    }
}

static void heal(struct kv_cluster *c, size_t servers)
{
    for (size_t i = 0; i < servers; i++) {
        for (size_t j = i + 1; j < servers; j++) {
            world_cut_pair(kv_cluster_world(c), kv_cluster_node(c, 0, i), kv_cluster_node(c, 0, j),
                           false);
        }
    }
}

static uint64_t max_log_bytes(struct kv_cluster *c, size_t servers)
{
    uint64_t most = 0;

    for (size_t i = 0; i < servers; i++) {
        uint64_t bytes = world_log_bytes(kv_cluster_world(c), kv_cluster_node(c, 0, i));
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void iterate(struct kv_cluster *c, const struct scenario *s, struct kv_load *load)
{
    struct rng *rng = world_rng(kv_cluster_world(c));

    if (s->partition) {
        kv_load_run_ms(load, 1000);
        for (int split = 0; split < 4; split++) {
            partition_at_random(c, s->servers);
            kv_load_run_ms(load, 1000 + rng_below(rng, 200));
        }
        heal(c, s->servers);
        kv_load_run_ms(load, 1000);
    } else {
        kv_load_run_ms(load, ITERATION_MS);
    }
    if (s->restart) {
        kv_cluster_stop_group(c, 0);
        kv_load_run_ms(load, 1000);
        kv_cluster_start_group(c, 0);
    }
}

static void run(const struct scenario *s)
{
    struct kv_cluster *c = cluster_of(s->name, s->servers, s->unreliable, s->snapshots);
    struct kv_load_options options = {.n_clients = s->clients, .get_ratio = 50, .pause_ms = 5};
    struct kv_load *load = kv_load_create(c, &options);

    for (int i = 0; i < ITERATIONS; i++) {
        iterate(c, s, load);
    }
    kv_load_finish(load);
    assert_true(kv_load_done(load) >= s->clients * ITERATIONS);
    kv_load_check_and_destroy(&load);
    kv_cluster_destroy(&c);
}

#define SCENARIO(function, ...)                                                                    \
    static void function(void **state)                                                             \
    {                                                                                              \
        const struct scenario scenario = {__VA_ARGS__};                                            \
        (void)state;                                                                               \
        run(&scenario);                                                                            \
    }

/*                                  name, clients, servers, unreliable, restart, partition,
 * snapshots */
SCENARIO(basic, "Basic", 1, 5, false, false, false, false)
SCENARIO(concurrent, "Concurrent", 5, 5, false, false, false, false)
SCENARIO(unreliable, "Unreliable", 5, 5, true, false, false, false)
SCENARIO(many_partitions_one, "ManyPartitionsOneClient", 1, 5, false, false, true, false)
SCENARIO(many_partitions_many, "ManyPartitionsManyClients", 5, 5, false, false, true, false)
SCENARIO(persist_one, "PersistOneClient", 1, 5, false, true, false, false)
SCENARIO(persist_many, "PersistConcurrent", 5, 5, false, true, false, false)
SCENARIO(persist_unreliable, "PersistConcurrentUnreliable", 5, 5, true, true, false, false)
SCENARIO(persist_partition, "PersistPartition", 5, 5, false, true, true, false)
SCENARIO(persist_partition_unreliable, "PersistPartitionUnreliable", 5, 5, true, true, true, false)
SCENARIO(snapshot_recover_one, "SnapshotRecover", 1, 5, false, true, false, true)
SCENARIO(snapshot_recover_many, "SnapshotRecoverManyClients", 20, 5, false, true, false, true)
SCENARIO(snapshot_unreliable, "SnapshotUnreliable", 5, 5, true, false, false, true)
SCENARIO(snapshot_unreliable_recover, "SnapshotUnreliableRecover", 5, 5, true, true, false, true)
SCENARIO(snapshot_all_faults, "SnapshotUnreliableRecoverPartition", 5, 5, true, true, true, true)

/* 1000 appends of one client, one after the other, in at most 33.3 s. */
static void speed_with(const char *name, bool snapshots)
{
    struct kv_cluster *c = cluster_of(name, 3, false, snapshots);
    struct kv_load_options options = {.n_clients = 1, .max_operations = 1000};
    struct kv_load *load = kv_load_create(c, &options);
    uint64_t start_ms = world_now_ms(kv_cluster_world(c)), ms;

    while (kv_load_done(load) < 1000) {
        kv_load_run_ms(load, 10);
        assert_true(world_now_ms(kv_cluster_world(c)) - start_ms <= 33300);
    }
    ms = world_now_ms(kv_cluster_world(c)) - start_ms;
    printf("%s: %.2f ms an operation\n", name, (double)ms / 1000);
    kv_load_finish(load);
    kv_load_check_and_destroy(&load);
    kv_cluster_destroy(&c);
}

static void speed(void **state)
{
    (void)state;
    speed_with("Speed", false);
    speed_with("SpeedSnapshots", true);
}

static void unreliable_one_key(void **state)
{
    struct kv_cluster *c = cluster_of("UnreliableOneKey", 3, true, false);
    struct kv_load_options options = {.n_clients = 5, .one_key = true, .max_operations = 10};
    struct kv_load *load = kv_load_create(c, &options);

    (void)state;
    kv_load_finish(load);
    assert_int_equal(kv_load_done(load), 50);
    kv_load_check_and_destroy(&load);
    kv_cluster_destroy(&c);
}

/* Cuts `client` from every server that is not on its side. */
static void keep_client_on(struct kv_cluster *c, struct kv_client *client, const bool *side,
                           bool which)
{
    for (size_t i = 0; i < 5; i++) {
        world_cut_client(kv_cluster_world(c), kv_client_number(client), kv_cluster_node(c, 0, i),
                         side[i] != which);
    }
}

static void one_partition(void **state)
{
    struct kv_cluster *c = cluster_of("OnePartition", 5, false, false);
    struct kv_client *all = kv_client_create(c), *majority = kv_client_create(c),
                     *writer = kv_client_create(c), *reader = kv_client_create(c);
    struct kv_outcome put, get;
    const char *key = kv_cluster_key(c, 1);
    bool minority[5] = {0};
    size_t leader;

    (void)state;
    kv_put_now(all, key, "13");
    leader = kv_cluster_leader(c, 0) - kv_cluster_node(c, 0, 0);
    minority[leader] = minority[(leader + 1) % 5] = true;
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = i + 1; j < 5; j++) {
            world_cut_pair(kv_cluster_world(c), kv_cluster_node(c, 0, i), kv_cluster_node(c, 0, j),
                           minority[i] != minority[j]);
        }
    }
    keep_client_on(c, majority, minority, false);
    keep_client_on(c, writer, minority, true);
    keep_client_on(c, reader, minority, true);

    kv_put_now(majority, key, "14");
    kv_check_now(majority, key, "14");
    kv_client_put(writer, key, slice_text("15"), 60000, &put);
    kv_client_get(reader, key, 60000, &get);
    kv_cluster_sleep(c, 1000);
    assert_false(put.ended);
    assert_false(get.ended);
    kv_check_now(majority, key, "14");
    kv_put_now(majority, key, "16");

    heal(c, 5);
    for (size_t i = 0; i < 5; i++) {
        world_cut_client(kv_cluster_world(c), kv_client_number(writer), kv_cluster_node(c, 0, i),
                         false);
        world_cut_client(kv_cluster_world(c), kv_client_number(reader), kv_cluster_node(c, 0, i),
                         false);
    }
    kv_cluster_sleep(c, 4000);
    assert_true(put.ended && put.status == ST_OK);
    assert_true(get.ended && get.status == ST_OK);
    kv_check_now(all, key, "15");
    kv_outcome_fini(&put);
    kv_outcome_fini(&get);
    kv_client_destroy(&all);
    kv_client_destroy(&majority);
    kv_client_destroy(&writer);
    kv_client_destroy(&reader);
    kv_cluster_destroy(&c);
}

/* A replica that was away while the others' logs were compacted is brought back by a snapshot. */
static void snapshot_rpc(void **state)
{
    struct kv_cluster *c = cluster_of("SnapshotRPC", 3, false, true);
    struct kv_client *client = kv_client_create(c);
    char value[16];
    size_t away = 2;

    (void)state;
    kv_put_now(client, "a", "A");
    kv_check_now(client, "a", "A");
    world_connect(kv_cluster_world(c), kv_cluster_node(c, 0, away), false);
    for (int i = 0; i < 50; i++) {
        snprintf(value, sizeof(value), "%d", i);
        kv_put_now(client, value, value);
    }
    kv_cluster_sleep(c, 1000);
    kv_put_now(client, "b", "B");
    kv_cluster_sleep(c, 500);
    assert_true(max_log_bytes(c, 3) <= 8 * 1000);

    world_connect(kv_cluster_world(c), kv_cluster_node(c, 0, 0), false);
    world_connect(kv_cluster_world(c), kv_cluster_node(c, 0, away), true);
    world_connect(kv_cluster_world(c), kv_cluster_node(c, 0, 0), true);
    world_connect(kv_cluster_world(c), kv_cluster_node(c, 0, 1), false);
    kv_put_now(client, "c", "C");
    kv_check_now(client, "a", "A");
    kv_check_now(client, "b", "B");
    kv_check_now(client, "49", "49");
    world_connect(kv_cluster_world(c), kv_cluster_node(c, 0, 1), true);
    kv_put_now(client, "e", "E");
    kv_check_now(client, "c", "C");
    kv_check_now(client, "e", "E");
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic),
        cmocka_unit_test(speed),
        cmocka_unit_test(concurrent),
        cmocka_unit_test(unreliable),
        cmocka_unit_test(unreliable_one_key),
        cmocka_unit_test(one_partition),
        cmocka_unit_test(many_partitions_one),
        cmocka_unit_test(many_partitions_many),
        cmocka_unit_test(persist_one),
        cmocka_unit_test(persist_many),
        cmocka_unit_test(persist_unreliable),
        cmocka_unit_test(persist_partition),
        cmocka_unit_test(persist_partition_unreliable),
        cmocka_unit_test(snapshot_rpc),
        cmocka_unit_test(snapshot_recover_one),
        cmocka_unit_test(snapshot_recover_many),
        cmocka_unit_test(snapshot_unreliable),
        cmocka_unit_test(snapshot_unreliable_recover),
        cmocka_unit_test(snapshot_all_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
