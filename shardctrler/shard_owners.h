/* shard_owners: who really has each shard, as far as the controller knows.
 *
 * Configurations say who shall own a shard; groups confirm when they have installed it. Between the
 * two, any group that was to own the shard since the last confirmation may hold it. Such a group
 * must not be forgotten while others may have to ask it, and must not come back with empty disks
 * under its old gid.
 *
 * Invariants, per shard: claims ascend strictly by num, all above epoch; the epoch only grows; a
 * confirmation drops the claims at or below its epoch.
 *
 * Encoded, per shard: u8 format = 1, u32 gid, u64 epoch, u32 n, n x (u32 gid, u64 num).
 */
#ifndef SHARDCTRLER_SHARD_OWNERS_H
#define SHARDCTRLER_SHARD_OWNERS_H

#include "client/shard_config.h"

/* A configuration gave the shard to a group, and nobody confirmed it since. */
struct shard_claim {
    uint32_t gid;
    config_num num;
};

struct shard_owner {
    uint32_t gid;     /* the last that confirmed; 0: nobody ever did */
    config_num epoch; /* the configuration under which it installed the shard; 0 with gid 0 */
    struct shard_claim *claims;
    size_t n_claims;
    size_t capacity;
};

struct shard_owners {
    uint32_t n_shards;
    struct shard_owner *shards;
};

/* Of that many repeated claims on one shard, old ones of a gid that claims it again are dropped. */
#define SHARD_OWNERS_MAX_REPEATED 256

/* {0} is an empty table; fini releases and zeroes it. */
void shard_owners_init(struct shard_owners *owners, uint32_t n_shards);
void shard_owners_fini(struct shard_owners *owners);

/* Configuration num, above all before, gives the shard to gid. */
void shard_owners_claim(struct shard_owners *owners, shard_id shard, uint32_t gid, config_num num);

enum shard_confirm_verdict {
    SHARD_CONFIRM_NEWS,  /* confirm it */
    SHARD_CONFIRM_KNOWN, /* confirmed already, or overtaken: nothing to do */
    SHARD_CONFIRM_WRONG  /* the group was not to own the shard at that epoch */
};
/* What a group's word that it installed the shard under `epoch` is worth. Changes nothing. */
enum shard_confirm_verdict shard_owners_judge(const struct shard_owners *owners, shard_id shard,
                                              uint32_t gid, config_num epoch);
/* Records it; the verdict must be SHARD_CONFIRM_NEWS. */
void shard_owners_confirm(struct shard_owners *owners, shard_id shard, uint32_t gid,
                          config_num epoch);

/* All groups that may hold a shard, ascending, each once, in mem_alloc'ed memory. */
uint32_t *shard_owners_holders(const struct shard_owners *owners, size_t *n);
bool shard_owners_is_holder(const uint32_t *holders, size_t n, uint32_t gid);

void shard_owner_encode(const struct shard_owner *owner, struct buf *out);
/* Replaces what `owner` held. False: malformed, and the owner is empty. */
bool shard_owner_decode(struct slice bytes, struct shard_owner *owner);

#endif
