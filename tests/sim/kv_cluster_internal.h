/* Shared by kv_cluster.c and kv_client.c. */
#ifndef TESTS_SIM_KV_CLUSTER_INTERNAL_H
#define TESTS_SIM_KV_CLUSTER_INTERNAL_H

#include "tests/sim/check_raft.h"
#include "tests/sim/check_shards.h"
#include "tests/sim/kv_cluster.h"

#define KV_CLUSTER_MAX_KEYS 64

struct kv_cluster {
    const char *name;
    struct kv_cluster_options options;
    struct world *world;
    struct check_raft *check;
    struct check_shards *check_shards;
    struct spec ctrlers;
    struct spec groups[KV_CLUSTER_MAX_GROUPS];
    struct kv_client *admin;
    struct shard_config config; /* the last one asked for */
    char keys[KV_CLUSTER_MAX_KEYS][16];
    uint64_t n_operations;
};

#endif
