/* The public key/value suite without snapshots (2024: 4A), with its numbers: 14 scenarios on one
 * replica group. Clients loop flat out; every history must be linearizable. */
#include "tests/cmocka.h"

#include "tests/sim/kv_suite.h"

#define ITERATION_MS 5000

static void run(const struct kv_scenario *s)
{
    struct kv_load_options load = {.n_clients = s->clients,
                                   .begin_with_put = true,
                                   .random_keys = s->random_keys,
                                   .get_ratio = s->random_keys ? 45 : 50,
                                   .put_ratio = 5};

    kv_suite_run(kv_suite_cluster(s->name, s->servers, s->unreliable, s->snapshots), s,
                 ITERATION_MS, &load);
}

#define SCENARIO(function, ...)                                                                    \
    static void function(void **state)                                                             \
    {                                                                                              \
        const struct kv_scenario scenario = {__VA_ARGS__};                                         \
        (void)state;                                                                               \
        run(&scenario);                                                                            \
    }

/* name, clients, servers, unreliable, restart, partition, snapshots, random keys */
SCENARIO(basic, "Basic", 1, 5, false, false, false, false, false)
SCENARIO(concurrent, "Concurrent", 5, 5, false, false, false, false, false)
SCENARIO(unreliable, "Unreliable", 5, 5, true, false, false, false, false)
SCENARIO(many_partitions_one, "ManyPartitionsOneClient", 1, 5, false, false, true, false, false)
SCENARIO(many_partitions_many, "ManyPartitionsManyClients", 5, 5, false, false, true, false, false)
SCENARIO(persist_one, "PersistOneClient", 1, 5, false, true, false, false, false)
SCENARIO(persist_many, "PersistConcurrent", 5, 5, false, true, false, false, false)
SCENARIO(persist_unreliable, "PersistConcurrentUnreliable", 5, 5, true, true, false, false, false)
SCENARIO(persist_partition, "PersistPartition", 5, 5, false, true, true, false, false)
SCENARIO(persist_partition_unreliable, "PersistPartitionUnreliable", 5, 5, true, true, true, false,
         false)
SCENARIO(persist_partition_linearizable, "PersistPartitionUnreliableLinearizable", 15, 7, true,
         true, true, false, true)

static void speed(void **state)
{
    const struct kv_load_options load = {.n_clients = 1, .max_operations = 1000};

    (void)state;
    kv_suite_speed("Speed", false, &load);
}

static void unreliable_one_key(void **state)
{
    struct kv_cluster *c = kv_suite_cluster("UnreliableOneKey", 3, true, false);
    struct kv_load_options options = {.n_clients = 5, .one_key = true, .max_operations = 10};
    struct kv_client *client = kv_client_create(c);
    struct kv_load *load;

    (void)state;
    kv_put_now(client, kv_cluster_key(c, 0), "");
    load = kv_load_create(c, &options);
    kv_load_finish(load);
    assert_int_equal(kv_load_done(load), 50);
    kv_load_check_and_destroy(&load);
    kv_cluster_check_limits(c);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

static void one_partition(void **state)
{
    (void)state;
    kv_suite_one_partition("OnePartition", false, false);
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
        cmocka_unit_test(persist_partition_linearizable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
