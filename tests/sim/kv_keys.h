/* kv_keys: the sixty keys of the public suite of 2025, spread evenly over the shards, what each
 * must hold, and the checks of all of them. Every failed check fails the test.
 */
#ifndef TESTS_SIM_KV_KEYS_H
#define TESTS_SIM_KV_KEYS_H

#include "tests/sim/kv_cluster.h"

#define KV_KEYS 60

struct kv_keys {
    struct kv_cluster *cluster;
    struct kv_client *client;
    char names[KV_KEYS][16]; /* key i lies in shard i mod the number of shards */
    struct buf values[KV_KEYS];
};

/* Puts a random value of `len` letters at each key, one after the other. */
struct kv_keys *kv_keys_create(struct kv_cluster *cluster, size_t len);
void kv_keys_destroy(struct kv_keys **keys);

shard_id kv_keys_shard(const struct kv_keys *keys, size_t i);
/* Reads key i; reads them all, one after the other. */
void kv_keys_check_one(struct kv_keys *keys, size_t i);
void kv_keys_check(struct kv_keys *keys);
/* Puts to all of them what they hold. */
void kv_keys_put_again(struct kv_keys *keys);

/* Stops the group; 60 clients get one key each, until none has ended for 2 s. Fewer than 60 ended,
 * exactly those of other groups' shards, all with the right value. The group starts again: so do
 * the others. */
void kv_keys_check_shutdown(struct kv_keys *keys, size_t group);

#endif
