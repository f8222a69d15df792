/* kv_suite: the frame that the public key/value suites share: one group of replicas, a load, and
 * three iterations with partitions or restarts of all servers, after each of which every key is
 * read and the bounds on log and snapshots are checked.
 *
 * Here the group is a shardkv group that owns every shard.
 */
#ifndef TESTS_SIM_KV_SUITE_H
#define TESTS_SIM_KV_SUITE_H

#include "tests/sim/kv_load.h"

#define KV_SUITE_ITERATIONS 3

struct kv_scenario {
    const char *name;
    size_t clients, servers;
    bool unreliable, restart, partition, snapshots, random_keys;
};

/* A group that owns every shard, the network as said, and a history that is checked at the end.
 * snapshots: maxraftstate is 1000, else there are none. */
struct kv_cluster *kv_suite_cluster(const char *name, size_t servers, bool unreliable,
                                    bool snapshots);
struct kv_cluster *kv_suite_cluster_of_shards(const char *name, size_t servers, bool unreliable,
                                              bool snapshots, uint32_t n_shards);
/* The iterations, of so long each; the load is finished, checked and released, and so is the
 * cluster. Returns how many writes had an unknown end. */
uint64_t kv_suite_run(struct kv_cluster *cluster, const struct kv_scenario *scenario,
                      uint64_t iteration_ms, const struct kv_load_options *load);

/* One row of the suite of 2024: clients that append and get flat out, in iterations of 5 s. */
void kv_suite_append_row(const struct kv_scenario *scenario);
/* A test of one row. In order: name, clients, servers, unreliable, restart, partition, snapshots,
 * random keys. */
#define KV_SUITE_ROW(function, run, ...)                                                           \
    static void function(void **state)                                                             \
    {                                                                                              \
        const struct kv_scenario scenario = {__VA_ARGS__};                                         \
        (void)state;                                                                               \
        run(&scenario);                                                                            \
    }

/* side[i]: where server i is. */
void kv_suite_split(struct kv_cluster *cluster, size_t servers, const bool *side);
void kv_suite_heal(struct kv_cluster *cluster, size_t servers);

/* One client's operations, one after the other, in at most 33.3 ms each. */
void kv_suite_speed(const char *name, bool snapshots, const struct kv_load_options *load);
/* The scripts. versioned: each put has the version that it replaces for its condition, as a
 * compare-and-set of values "<version>:<text>". */

/* A leader in a minority serves nobody; what was asked of it is served after the heal, or refused
 * if it is versioned and came too late. */
void kv_suite_one_partition(const char *name, bool unreliable, bool versioned);
/* A replica that was away while the others' logs were compacted is brought back by a snapshot. */
void kv_suite_snapshot_rpc(const char *name, bool versioned);
/* 800 operations on one key leave a small log, and add at most 500 bytes to the state. The suite
 * bounds the whole snapshot, of a server without shards: here an empty one holds them already. */
void kv_suite_snapshot_growth(const char *name, bool versioned);

#endif
