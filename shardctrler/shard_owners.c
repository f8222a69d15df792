/* shard_owners: see the header. Claims are few: one for each move of the shard that its group has
 * not confirmed yet. So they are plain arrays, searched from the newest. */
#include "shardctrler/shard_owners.h"

#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define OWNER_FORMAT 1
#define CLAIM_BYTES  (4 + 8)

static void owner_fini(struct shard_owner *owner)
{
    mem_free(owner->claims);
    memset(owner, 0, sizeof(*owner));
}

void shard_owners_init(struct shard_owners *owners, uint32_t n_shards)
{
    owners->n_shards = n_shards;
    owners->shards = mem_zalloc(n_shards * sizeof(*owners->shards));
}

void shard_owners_fini(struct shard_owners *owners)
{
    for (uint32_t s = 0; s < owners->n_shards; s++) {
        owner_fini(&owners->shards[s]);
    }
    mem_free(owners->shards);
    memset(owners, 0, sizeof(*owners));
}

static struct shard_owner *owner_at(const struct shard_owners *owners, shard_id shard)
{
    ASSERT(shard < owners->n_shards);
    return &owners->shards[shard];
}

/* The oldest claim whose group claims the shard again later says nothing about who may hold it that
 * the later one does not say. Without one, n_claims. */
static size_t oldest_repeated(const struct shard_owner *owner)
{
    for (size_t i = 0; i < owner->n_claims; i++) {
        for (size_t j = i + 1; j < owner->n_claims; j++) {
            if (owner->claims[i].gid == owner->claims[j].gid) {
                return i;
            }
        }
    }
    return owner->n_claims;
}

static void remove_claims(struct shard_owner *owner, size_t from, size_t n)
{
    ASSERT(from + n <= owner->n_claims);
    memmove(&owner->claims[from], &owner->claims[from + n],
            (owner->n_claims - from - n) * sizeof(owner->claims[0]));
    owner->n_claims -= n;
}

void shard_owners_claim(struct shard_owners *owners, shard_id shard, uint32_t gid, config_num num)
{
    struct shard_owner *owner = owner_at(owners, shard);

    ASSERT(gid != 0);
    ASSERT(num > owner->epoch);
    ASSERT(owner->n_claims == 0 || owner->claims[owner->n_claims - 1].num < num);
    if (owner->n_claims >= SHARD_OWNERS_MAX_REPEATED) {
        size_t repeated = oldest_repeated(owner);

        if (repeated < owner->n_claims) {
            remove_claims(owner, repeated, 1);
        }
    }
    MEM_GROW(owner->claims, owner->capacity, owner->n_claims + 1);
    owner->claims[owner->n_claims++] = (struct shard_claim){gid, num};
}

/* How many claims are at or below the epoch: the last of them was in force at it. */
static size_t claims_up_to(const struct shard_owner *owner, config_num epoch)
{
    size_t n = owner->n_claims;

    while (n > 0 && owner->claims[n - 1].num > epoch) {
        n--;
    }
    return n;
}

enum shard_confirm_verdict shard_owners_judge(const struct shard_owners *owners, shard_id shard,
                                              uint32_t gid, config_num epoch)
{
    const struct shard_owner *owner = owner_at(owners, shard);
    size_t n = claims_up_to(owner, epoch);

    if (epoch <= owner->epoch) {
        return SHARD_CONFIRM_KNOWN;
    }
    if (n == 0) {
        return owner->gid == gid ? SHARD_CONFIRM_KNOWN : SHARD_CONFIRM_WRONG;
    }
    return owner->claims[n - 1].gid == gid ? SHARD_CONFIRM_NEWS : SHARD_CONFIRM_WRONG;
}

void shard_owners_confirm(struct shard_owners *owners, shard_id shard, uint32_t gid,
                          config_num epoch)
{
    struct shard_owner *owner = owner_at(owners, shard);

    ASSERT(shard_owners_judge(owners, shard, gid, epoch) == SHARD_CONFIRM_NEWS);
    remove_claims(owner, 0, claims_up_to(owner, epoch));
    owner->gid = gid;
    owner->epoch = epoch;
    ASSERT(owner->n_claims == 0 || owner->claims[0].num > epoch);
}

static int compare_gids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

struct gid_list {
    uint32_t *gids;
    size_t n;
    size_t capacity;
};

/* Neighbouring shards mostly have the same group: repeating it is left out at once. */
static void gid_list_add(struct gid_list *list, uint32_t gid)
{
    if (gid != 0 && (list->n == 0 || list->gids[list->n - 1] != gid)) {
        MEM_GROW(list->gids, list->capacity, list->n + 1);
        list->gids[list->n++] = gid;
    }
}

uint32_t *shard_owners_holders(const struct shard_owners *owners, size_t *n)
{
    struct gid_list list = {.gids = mem_alloc(0)};
    size_t unique = 0;

    for (uint32_t s = 0; s < owners->n_shards; s++) {
        const struct shard_owner *owner = &owners->shards[s];

        gid_list_add(&list, owner->gid);
        for (size_t i = 0; i < owner->n_claims; i++) {
            gid_list_add(&list, owner->claims[i].gid);
        }
    }
    qsort(list.gids, list.n, sizeof(list.gids[0]), compare_gids);
    for (size_t i = 0; i < list.n; i++) {
        if (unique == 0 || list.gids[unique - 1] != list.gids[i]) {
            list.gids[unique++] = list.gids[i];
        }
    }
    *n = unique;
    return list.gids;
}

bool shard_owners_is_holder(const uint32_t *holders, size_t n, uint32_t gid)
{
    return n > 0 && bsearch(&gid, holders, n, sizeof(gid), compare_gids) != NULL;
}

void shard_owner_encode(const struct shard_owner *owner, struct buf *out)
{
    ASSERT((owner->gid == 0) == (owner->epoch == 0));
    buf_put_u8(out, OWNER_FORMAT);
    buf_put_u32(out, owner->gid);
    buf_put_u64(out, owner->epoch);
    buf_put_u32(out, (uint32_t)owner->n_claims);
    for (size_t i = 0; i < owner->n_claims; i++) {
        buf_put_u32(out, owner->claims[i].gid);
        buf_put_u64(out, owner->claims[i].num);
    }
}

static bool decode_claims(struct reader *reader, struct shard_owner *owner)
{
    uint32_t n = reader_u32(reader);
    config_num last = owner->epoch;

    if (n > reader_left(reader) / CLAIM_BYTES) {
        return false;
    }
    MEM_GROW(owner->claims, owner->capacity, n);
    for (uint32_t i = 0; i < n; i++) {
        struct shard_claim *claim = &owner->claims[i];

        claim->gid = reader_u32(reader);
        claim->num = reader_u64(reader);
        if (claim->gid == 0 || claim->gid > CONFIG_MAX_GID || claim->num <= last) {
            return false;
        }
        last = claim->num;
    }
    owner->n_claims = n;
    return true;
}

bool shard_owner_decode(struct slice bytes, struct shard_owner *owner)
{
    struct reader reader = reader_of(bytes);
    uint8_t format = reader_u8(&reader);

    owner_fini(owner);
    owner->gid = reader_u32(&reader);
    owner->epoch = reader_u64(&reader);
    if (format != OWNER_FORMAT || owner->gid > CONFIG_MAX_GID ||
        (owner->gid == 0) != (owner->epoch == 0) || !decode_claims(&reader, owner) ||
        !reader_done(&reader)) {
        owner_fini(owner);
        return false;
    }
    return true;
}
