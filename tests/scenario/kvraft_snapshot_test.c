/* The public key/value suite with snapshots (2024: 4B), with its numbers: 9 scenarios on one
 * replica group, maxraftstate 1000. Clients loop flat out; every history must be linearizable. */
#include "tests/cmocka.h"

#include "tests/sim/kv_suite.h"

KV_SUITE_ROW(recover_one, kv_suite_append_row, "SnapshotRecover", 1, 5, false, true, false, true,
             false)
KV_SUITE_ROW(recover_many, kv_suite_append_row, "SnapshotRecoverManyClients", 20, 5, false, true,
             false, true, false)
KV_SUITE_ROW(unreliable, kv_suite_append_row, "SnapshotUnreliable", 5, 5, true, false, false, true,
             false)
KV_SUITE_ROW(unreliable_recover, kv_suite_append_row, "SnapshotUnreliableRecover", 5, 5, true, true,
             false, true, false)
KV_SUITE_ROW(all_faults, kv_suite_append_row, "SnapshotUnreliableRecoverConcurrentPartition", 5, 5,
             true, true, true, true, false)
KV_SUITE_ROW(linearizable, kv_suite_append_row,
             "SnapshotUnreliableRecoverConcurrentPartitionLinearizable", 15, 7, true, true, true,
             true, true)

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
