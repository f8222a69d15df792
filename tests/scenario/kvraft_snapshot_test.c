/* The public key/value suite with snapshots (2024: 4B), with its numbers: 9 scenarios on one
 * replica group, maxraftstate 1000. Clients loop flat out; every history must be linearizable. */
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
SCENARIO(recover_one, "SnapshotRecover", 1, 5, false, true, false, true, false)
SCENARIO(recover_many, "SnapshotRecoverManyClients", 20, 5, false, true, false, true, false)
SCENARIO(unreliable, "SnapshotUnreliable", 5, 5, true, false, false, true, false)
SCENARIO(unreliable_recover, "SnapshotUnreliableRecover", 5, 5, true, true, false, true, false)
SCENARIO(all_faults, "SnapshotUnreliableRecoverConcurrentPartition", 5, 5, true, true, true, true,
         false)
SCENARIO(linearizable, "SnapshotUnreliableRecoverConcurrentPartitionLinearizable", 15, 7, true,
         true, true, true, true)

static void rpc(void **state)
{
    (void)state;
    kv_suite_snapshot_rpc("SnapshotRPC", false);
}

static void size(void **state)
{
    (void)state;
    kv_suite_snapshot_growth("SnapshotSize", false);
}

static void speed(void **state)
{
    const struct kv_load_options load = {.n_clients = 1, .max_operations = 1000};

    (void)state;
    kv_suite_speed("SpeedSnapshots", true, &load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rpc),
        cmocka_unit_test(size),
        cmocka_unit_test(speed),
        cmocka_unit_test(recover_one),
        cmocka_unit_test(recover_many),
        cmocka_unit_test(unreliable),
        cmocka_unit_test(unreliable_recover),
        cmocka_unit_test(all_faults),
        cmocka_unit_test(linearizable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
