/* shard_sum: the hash of a shard's content (see shard.h): the wrapping sum of one 128-bit hash an
 * entry. The order of the entries does not matter, an entry can be taken out again, and two
 * replicas or two groups that hold the same entries have the same sum. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "raft/util/assert.h"
#include "shardkv/shard.h"

/* XXH3 of the two hashes of key and value: no concatenation is taken for another. */
static XXH128_hash_t entry_hash(struct slice key, struct slice value)
{
    uint8_t parts[32];
    XXH128_hash_t hash = XXH3_128bits(key.data, key.len);

    set_u64(parts, hash.low64);
    set_u64(parts + 8, hash.high64);
    hash = XXH3_128bits(value.data, value.len);
    set_u64(parts + 16, hash.low64);
    set_u64(parts + 24, hash.high64);
    return XXH3_128bits(parts, sizeof(parts));
}

struct shard_sum shard_sum_of(struct slice key, struct slice value)
{
    XXH128_hash_t hash = entry_hash(key, value);

    return (struct shard_sum){hash.low64, hash.high64, 1, key.len + value.len};
}

void shard_sum_join(struct shard_sum *sum, const struct shard_sum *part)
{
    sum->low += part->low;
    sum->high += part->high;
    sum->count += part->count;
    sum->bytes += part->bytes;
}

void shard_sum_part(struct shard_sum *sum, const struct shard_sum *part)
{
    ASSERT(sum->count >= part->count && sum->bytes >= part->bytes);
    sum->low -= part->low;
    sum->high -= part->high;
    sum->count -= part->count;
    sum->bytes -= part->bytes;
}

void shard_sum_add(struct shard_sum *sum, struct slice key, struct slice value)
{
    const struct shard_sum entry = shard_sum_of(key, value);

    shard_sum_join(sum, &entry);
}

void shard_sum_remove(struct shard_sum *sum, struct slice key, struct slice value)
{
    const struct shard_sum entry = shard_sum_of(key, value);

    shard_sum_part(sum, &entry);
}

bool shard_sum_equal(const struct shard_sum *a, const struct shard_sum *b)
{
    return a->low == b->low && a->high == b->high && a->count == b->count && a->bytes == b->bytes;
}

void shard_sum_encode(const struct shard_sum *sum, struct buf *out)
{
    buf_put_u64(out, sum->low);
    buf_put_u64(out, sum->high);
    buf_put_u64(out, sum->count);
    buf_put_u64(out, sum->bytes);
}

void shard_sum_decode(struct reader *reader, struct shard_sum *sum)
{
    sum->low = reader_u64(reader);
    sum->high = reader_u64(reader);
    sum->count = reader_u64(reader);
    sum->bytes = reader_u64(reader);
}
