/* rebalance: three passes.
 *
 * 1. Count each member's shards, and give each member its share: n_shards / n_gids, and one more
 *    for the remainder. Who gets one more decides how many shards stay: a group that has more than
 *    the plain share keeps one shard more if it may, any other group gains nothing by it. So the
 *    groups above the plain share come first, in order of gid, then the others.
 * 2. Keep, for each member, its lowest-numbered shards up to its share. What is left over, and what
 *    belongs to no member, is free.
 * 3. Give the free shards, in ascending order, to the members below their share, in order of gid.
 *
 * The number of shards kept is the sum of min(load, share), which no other choice of balanced
 * shares exceeds: that is the lower bound that the tests compare with.
 */
#include "shardctrler/rebalance.h"

#include <stdbool.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct member {
    uint32_t gid;
    size_t load;  /* shards it has now */
    size_t share; /* shards it shall have */
    size_t kept;  /* counted up to its share in pass 2, and on in pass 3 */
};

/* Finds a member by gid in O(1): open addressing over slots of index + 1. Only ever asked for one
 * gid, never walked, so its order is not seen outside. */
struct member_index {
    unsigned bits; /* 2^bits slots, at least half of them empty */
    uint32_t *slots;
};

static size_t index_slot(const struct member_index *index, uint32_t gid)
{
    return (gid * 2654435761u) >> (32 - index->bits); /* Knuth's multiplicative hashing */
}

static size_t index_next(const struct member_index *index, size_t slot)
{
    return (slot + 1) & (((size_t)1 << index->bits) - 1);
}

static void index_init(struct member_index *index, const struct member *members, size_t n)
{
    index->bits = 2;
    while (((size_t)1 << index->bits) < 2 * n) {
        index->bits++;
    }
    index->slots = mem_zalloc(((size_t)1 << index->bits) * sizeof(*index->slots));
    for (size_t i = 0; i < n; i++) {
        size_t slot = index_slot(index, members[i].gid);

        while (index->slots[slot] != 0) {
            slot = index_next(index, slot);
        }
        index->slots[slot] = (uint32_t)i + 1;
    }
}

static struct member *index_find(const struct member_index *index, struct member *members,
                                 uint32_t gid)
{
    size_t slot = index_slot(index, gid);

    for (; index->slots[slot] != 0; slot = index_next(index, slot)) {
        struct member *member = &members[index->slots[slot] - 1];

        if (member->gid == gid) {
            return member;
        }
    }
    return NULL;
}

/* Pass 1, second half. `above`: whether to serve the members above the plain share or the others.
 * Returns how much of the remainder is left. */
static size_t give_extra(struct member *members, size_t n, size_t plain, bool above, size_t extra)
{
    for (size_t i = 0; i < n && extra > 0; i++) {
        if ((members[i].load > plain) == above) {
            members[i].share++;
            extra--;
        }
    }
    return extra;
}

static void set_shares(struct member *members, size_t n, size_t n_shards)
{
    size_t plain = n_shards / n;
    size_t extra = n_shards % n;

    for (size_t i = 0; i < n; i++) {
        members[i].share = plain;
    }
    extra = give_extra(members, n, plain, true, extra);
    extra = give_extra(members, n, plain, false, extra);
    ASSERT(extra == 0);
}

static struct member *members_create(const uint32_t *gids, size_t n)
{
    struct member *members = mem_zalloc(n * sizeof(*members));

    for (size_t i = 0; i < n; i++) {
        ASSERT(gids[i] != 0);
        ASSERT(i == 0 || gids[i - 1] < gids[i]);
        members[i].gid = gids[i];
    }
    return members;
}

/* Passes 2 and 3. Returns how many shards changed. */
static size_t assign(uint32_t *shards, size_t n_shards, const struct member_index *index,
                     struct member *members, size_t n)
{
    size_t taker = 0;
    size_t changed = 0;
    uint32_t *free_shards = mem_alloc(n_shards * sizeof(*free_shards));
    size_t n_free = 0;

    for (size_t s = 0; s < n_shards; s++) {
        struct member *member = index_find(index, members, shards[s]);

        if (member != NULL && member->kept < member->share) {
            member->kept++;
        } else {
            free_shards[n_free++] = (uint32_t)s;
        }
    }
    for (size_t i = 0; i < n_free; i++) {
        while (members[taker].kept == members[taker].share) {
            taker++;
            ASSERT(taker < n);
        }
        members[taker].kept++;
        ASSERT(shards[free_shards[i]] != members[taker].gid);
        shards[free_shards[i]] = members[taker].gid;
        changed++;
    }
    mem_free(free_shards);
    return changed;
}

static size_t clear(uint32_t *shards, size_t n_shards)
{
    size_t changed = 0;

    for (size_t s = 0; s < n_shards; s++) {
        changed += shards[s] != 0;
        shards[s] = 0;
    }
    return changed;
}

size_t rebalance(uint32_t *shards, size_t n_shards, const uint32_t *gids, size_t n_gids)
{
    struct member *members;
    struct member_index index;
    size_t changed;

    if (n_gids == 0) {
        return clear(shards, n_shards);
    }
    members = members_create(gids, n_gids);
    index_init(&index, members, n_gids);
    for (size_t s = 0; s < n_shards; s++) {
        struct member *member = index_find(&index, members, shards[s]);

        if (member != NULL) {
            member->load++;
        }
    }
    set_shares(members, n_gids, n_shards);
    changed = assign(shards, n_shards, &index, members, n_gids);
    for (size_t i = 0; i < n_gids; i++) {
        ASSERT(members[i].kept == members[i].share);
    }
    mem_free(index.slots);
    mem_free(members);
    return changed;
}
