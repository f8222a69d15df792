/* The public key/value suite without snapshots (2024: 4A), with its numbers: on one replica group,
 * those of its 14 scenarios without restarts; the others are in kvraft_persist_test.c. Clients loop
 * flat out; every history must be linearizable. */
#include "tests/cmocka.h"

#include "tests/sim/kv_suite.h"

KV_SUITE_ROW(basic, kv_suite_append_row, "Basic", 1, 5, false, false, false, false, false)
KV_SUITE_ROW(concurrent, kv_suite_append_row, "Concurrent", 5, 5, false, false, false, false, false)
KV_SUITE_ROW(unreliable, kv_suite_append_row, "Unreliable", 5, 5, true, false, false, false, false)
KV_SUITE_ROW(many_partitions_one, kv_suite_append_row, "ManyPartitionsOneClient", 1, 5, false,
             false, true, false, false)
KV_SUITE_ROW(many_partitions_many, kv_suite_append_row, "ManyPartitionsManyClients", 5, 5, false,
             false, true, false, false)

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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
