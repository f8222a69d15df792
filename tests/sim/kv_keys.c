/* The sixty keys; see kv_keys.h. */
#include "tests/sim/kv_keys.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define SILENCE_MS 2000
#define GET_MS     60000
#define AFTER_MS   20000

static uint32_t shard_count(const struct kv_keys *keys)
{
    return kv_cluster_config(keys->cluster, CONFIG_LATEST)->n_shards;
}

/* The first names, in order of their numbers, that lie in the shards wanted. */
static void choose_names(struct kv_keys *keys)
{
    uint32_t n_shards = shard_count(keys);
    unsigned number = 0;

    for (size_t i = 0; i < KV_KEYS; i++) {
        do {
            snprintf(keys->names[i], sizeof(keys->names[i]), "key-%u", number++);
        } while (shard_of_key(slice_text(keys->names[i]), n_shards) != i % n_shards);
    }
}

struct kv_keys *kv_keys_create(struct kv_cluster *cluster, size_t len)
{
    struct kv_keys *keys = mem_zalloc(sizeof(*keys));
    struct rng *rng = world_rng(kv_cluster_world(cluster));

    keys->cluster = cluster;
    keys->client = kv_client_create(cluster);
    choose_names(keys);
    for (size_t i = 0; i < KV_KEYS; i++) {
        for (size_t letter = 0; letter < len; letter++) {
            buf_put_u8(&keys->values[i], (uint8_t)('a' + rng_below(rng, 26)));
        }
        buf_put_u8(&keys->values[i], 0);
        kv_put_now(keys->client, keys->names[i], (const char *)keys->values[i].data);
    }
    return keys;
}

void kv_keys_destroy(struct kv_keys **keys)
{
    kv_client_destroy(&(*keys)->client);
    for (size_t i = 0; i < KV_KEYS; i++) {
        buf_fini(&(*keys)->values[i]);
    }
    mem_free(*keys);
    *keys = NULL;
}

shard_id kv_keys_shard(const struct kv_keys *keys, size_t i)
{
    ASSERT(i < KV_KEYS);
    return shard_of_key(slice_text(keys->names[i]), shard_count(keys));
}

void kv_keys_check_one(struct kv_keys *keys, size_t i)
{
    ASSERT(i < KV_KEYS);
    kv_check_now(keys->client, keys->names[i], (const char *)keys->values[i].data);
}

void kv_keys_check(struct kv_keys *keys)
{
    for (size_t i = 0; i < KV_KEYS; i++) {
        kv_keys_check_one(keys, i);
    }
}

void kv_keys_put_again(struct kv_keys *keys)
{
    for (size_t i = 0; i < KV_KEYS; i++) {
        kv_put_now(keys->client, keys->names[i], (const char *)keys->values[i].data);
    }
}

/* ---- While a group is down ---- */

struct waiting {
    struct kv_client *client;
    struct kv_outcome outcome;
    bool must_wait; /* its shard's owner is down */
};

static size_t count_ended(const struct waiting readers[KV_KEYS])
{
    size_t ended = 0;

    for (size_t i = 0; i < KV_KEYS; i++) {
        ended += readers[i].outcome.ended;
    }
    return ended;
}

static void run_until_silence(struct kv_keys *keys, const struct waiting readers[KV_KEYS])
{
    for (size_t before = SIZE_MAX, ended = 0; ended != before; ended = count_ended(readers)) {
        before = ended;
        kv_cluster_sleep(keys->cluster, SILENCE_MS);
    }
}

static void check_reader(const struct kv_keys *keys, size_t i, const struct waiting *reader)
{
    struct slice value = slice_text((const char *)keys->values[i].data);

    ASSERT(reader->outcome.ended && reader->outcome.status == ST_OK);
    ASSERT(slice_equal(buf_slice(&reader->outcome.value), value));
}

void kv_keys_check_shutdown(struct kv_keys *keys, size_t group)
{
    struct waiting *readers = mem_zalloc(KV_KEYS * sizeof(*readers));
    const struct shard_config *config = kv_cluster_config(keys->cluster, CONFIG_LATEST);

    for (size_t i = 0; i < KV_KEYS; i++) {
        shard_id shard = shard_of_key(slice_text(keys->names[i]), config->n_shards);
        readers[i].must_wait = config->shards[shard] == kv_cluster_gid(group);
    }
    kv_cluster_stop_group(keys->cluster, group);
    for (size_t i = 0; i < KV_KEYS; i++) {
        readers[i].client = kv_client_create(keys->cluster);
        kv_client_get(readers[i].client, keys->names[i], GET_MS, &readers[i].outcome);
    }
    run_until_silence(keys, readers);
    ASSERT(count_ended(readers) < KV_KEYS);
    for (size_t i = 0; i < KV_KEYS; i++) {
        ASSERT(readers[i].outcome.ended == !readers[i].must_wait);
    }
    kv_cluster_start_group(keys->cluster, group);
    for (int ms = 0; ms < AFTER_MS && count_ended(readers) < KV_KEYS; ms += 20) {
        kv_cluster_sleep(keys->cluster, 20);
    }
    for (size_t i = 0; i < KV_KEYS; i++) {
        check_reader(keys, i, &readers[i]);
        kv_outcome_fini(&readers[i].outcome);
        kv_client_destroy(&readers[i].client);
    }
    mem_free(readers);
}
