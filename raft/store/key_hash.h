/* The hash of a key in the state, for tables in memory. */
#ifndef RAFT_STORE_KEY_HASH_H
#define RAFT_STORE_KEY_HASH_H

#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "raft/io.h"

/* A table has a seed of its own, so that nobody can choose keys that collide in it. */
static inline uint64_t key_hash_seed(void)
{
    uint64_t seed = 0;

    /* Without one, the table is only easier to attack. */
    (void)!getrandom(&seed, sizeof(seed), GRND_NONBLOCK);
    return seed;
}

static inline uint64_t key_hash(uint64_t seed, struct io_key key)
{
    uint64_t where = key.range << 8 ^ key.kind;

    return XXH3_64bits_withSeed(key.key.data, key.key.len, seed ^ where * 0x9e3779b97f4a7c15u);
}

#endif
