/* The public key/value suite without snapshots (2024: 4A), with its numbers: the scenarios with
 * restarts of all servers; the others are in kvraft_test.c. */
#include "tests/cmocka.h"

#include "tests/sim/kv_suite.h"

KV_SUITE_ROW(persist_one, kv_suite_append_row, "PersistOneClient", 1, 5, false, true, false, false,
             false)
KV_SUITE_ROW(persist_many, kv_suite_append_row, "PersistConcurrent", 5, 5, false, true, false,
             false, false)
KV_SUITE_ROW(persist_unreliable, kv_suite_append_row, "PersistConcurrentUnreliable", 5, 5, true,
             true, false, false, false)
KV_SUITE_ROW(persist_partition, kv_suite_append_row, "PersistPartition", 5, 5, false, true, true,
             false, false)
KV_SUITE_ROW(persist_partition_unreliable, kv_suite_append_row, "PersistPartitionUnreliable", 5, 5,
             true, true, true, false, false)
KV_SUITE_ROW(persist_partition_linearizable, kv_suite_append_row,
             "PersistPartitionUnreliableLinearizable", 15, 7, true, true, true, false, true)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(persist_one),
        cmocka_unit_test(persist_many),
        cmocka_unit_test(persist_unreliable),
        cmocka_unit_test(persist_partition),
        cmocka_unit_test(persist_partition_unreliable),
        cmocka_unit_test(persist_partition_linearizable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
