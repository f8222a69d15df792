/* Shared by kv_cluster.c and kv_client.c. */
#ifndef TESTS_SIM_KV_CLUSTER_INTERNAL_H
#define TESTS_SIM_KV_CLUSTER_INTERNAL_H

#include "tests/sim/check_raft.h"
#include "tests/sim/check_shards.h"
#include "tests/sim/kv_cluster.h"

#define KV_CLUSTER_MAX_KEYS 64

struct key_number;

struct kv_cluster {
    const char *name;
    struct kv_cluster_options options;
    struct world *world;
    struct check_raft *check;
    struct check_shards *check_shards;
    uint64_t start_us;
    uint64_t longest_us; /* that an operation took: a shard was without service no longer */
    struct spec ctrlers, second_ctrlers;
    struct spec groups[KV_CLUSTER_MAX_GROUPS];
    struct kv_client *admin;
    struct shard_config config; /* the last one asked for */
    char keys[KV_CLUSTER_MAX_KEYS][16];
    uint64_t n_operations;
    uint64_t n_steps;        /* of all groups' replicas */
    struct history *history; /* NULL: nothing is recorded */
    struct key_number *key_numbers;
};

void kv_cluster_forget_keys(struct kv_cluster *cluster);

#endif
