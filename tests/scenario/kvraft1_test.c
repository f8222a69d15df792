/* The versioned key/value suite (2025/26: 4B and 4C), with its numbers: 22 scenarios on one replica
 * group.
 *
 * There, put(key, value, version) is applied if the key's version is `version`, and answers OK,
 * ErrVersion, or ErrMaybe after a retry. Our service has conditions on whole values. So a value
 * here is "<version>:<token>", and a put at version v is a compare-and-set from the very value of
 * version v that the client read (KV_IF_ABSENT for version 0): the same condition, since a key has
 * one value per version. OK is OK, MISMATCH is ErrVersion, and UNKNOWN is ErrMaybe: the clerk tells
 * it only when a deadline passes while a try is out, since its sessions settle retries; so on
 * unreliable networks the deadline is 100 ms, for there to be any.
 *
 * At the end a key's version is the number of OK puts, or on unreliable networks between that and
 * OK plus unknown ones. Iterations last 1 s. All clients use the key "k", or 100 keys at random.
 */
#include "tests/cmocka.h"

#include <stdio.h>

#include "tests/sim/kv_suite.h"

#define ITERATION_MS           1000
#define UNRELIABLE_DEADLINE_MS 100

static void run(const struct kv_scenario *s)
{
    struct kv_load_options load = {.work = KV_LOAD_VERSIONS,
                                   .n_clients = s->clients,
                                   .random_keys = s->random_keys,
                                   .no_unknown = !s->unreliable,
                                   .deadline_ms = s->unreliable ? UNRELIABLE_DEADLINE_MS : 0};
    struct kv_cluster *c = kv_suite_cluster(s->name, s->servers, s->unreliable, s->snapshots);
    uint64_t unknown = kv_suite_run(c, s, ITERATION_MS, &load);

    if (s->unreliable) {
        printf("%s: %llu puts ended unknown\n", s->name, (unsigned long long)unknown);
    }
}

KV_SUITE_ROW(basic, run, "v Basic", 1, 5, false, false, false, false, false)
KV_SUITE_ROW(concurrent, run, "v Concurrent", 5, 5, false, false, false, false, false)
KV_SUITE_ROW(unreliable, run, "v Unreliable", 5, 5, true, false, false, false, false)
KV_SUITE_ROW(many_partitions_one, run, "v ManyPartitionsOneClient", 1, 5, false, false, true, false,
             false)
KV_SUITE_ROW(many_partitions_many, run, "v ManyPartitionsManyClients", 5, 5, false, false, true,
             false, false)
KV_SUITE_ROW(persist_one, run, "v PersistOneClient", 1, 5, false, true, false, false, false)
KV_SUITE_ROW(persist_many, run, "v PersistConcurrent", 5, 5, false, true, false, false, false)
KV_SUITE_ROW(persist_unreliable, run, "v PersistConcurrentUnreliable", 5, 5, true, true, false,
             false, false)
KV_SUITE_ROW(persist_partition, run, "v PersistPartition", 5, 5, false, true, true, false, false)
KV_SUITE_ROW(persist_partition_unreliable, run, "v PersistPartitionUnreliable", 5, 5, true, true,
             true, false, false)
KV_SUITE_ROW(persist_partition_linear, run, "v PersistPartitionUnreliableLinearizable", 15, 7, true,
             true, true, false, true)
KV_SUITE_ROW(recover_one, run, "v SnapshotRecover", 1, 5, false, true, false, true, false)
KV_SUITE_ROW(recover_many, run, "v SnapshotRecoverManyClients", 20, 5, false, true, false, true,
             false)
KV_SUITE_ROW(snapshot_unreliable, run, "v SnapshotUnreliable", 5, 5, true, false, false, true,
             false)
KV_SUITE_ROW(unreliable_recover, run, "v SnapshotUnreliableRecover", 5, 5, true, true, false, true,
             false)
KV_SUITE_ROW(all_faults, run, "v SnapshotUnreliableRecoverConcurrentPartition", 5, 5, true, true,
             true, true, false)
KV_SUITE_ROW(all_faults_linear, run, "v SnapshotUnreliableRecoverConcurrentPartitionLinearizable",
             15, 7, true, true, true, true, true)

/* A put and a get each: 2000 operations are 1000 puts. */
static const struct kv_load_options thousand = {
    .work = KV_LOAD_VERSIONS, .n_clients = 1, .no_unknown = true, .max_operations = 2000};

static void speed(void **state)
{
    (void)state;
    kv_suite_speed("v Speed", false, &thousand);
}

static void speed_snapshots(void **state)
{
    (void)state;
    kv_suite_speed("v SpeedSnapshots", true, &thousand);
}

static void one_partition(void **state)
{
    (void)state;
    kv_suite_one_partition("v OnePartition", true, true);
}

static void rpc(void **state)
{
    (void)state;
    kv_suite_snapshot_rpc("v SnapshotRPC", true);
}

static void size(void **state)
{
    (void)state;
    kv_suite_snapshot_growth("v SnapshotSize", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic),
        cmocka_unit_test(speed),
        cmocka_unit_test(concurrent),
        cmocka_unit_test(unreliable),
        cmocka_unit_test(one_partition),
        cmocka_unit_test(many_partitions_one),
        cmocka_unit_test(many_partitions_many),
        cmocka_unit_test(persist_one),
        cmocka_unit_test(persist_many),
        cmocka_unit_test(persist_unreliable),
        cmocka_unit_test(persist_partition),
        cmocka_unit_test(persist_partition_unreliable),
        cmocka_unit_test(persist_partition_linear),
        cmocka_unit_test(rpc),
        cmocka_unit_test(size),
        cmocka_unit_test(speed_snapshots),
        cmocka_unit_test(recover_one),
        cmocka_unit_test(recover_many),
        cmocka_unit_test(snapshot_unreliable),
        cmocka_unit_test(unreliable_recover),
        cmocka_unit_test(all_faults),
        cmocka_unit_test(all_faults_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
