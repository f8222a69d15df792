/* The numbered shard configuration: which group owns which shard. Made by the controller, kept by
 * everybody. Also the rule that gives the shard of a key. */
#ifndef CLIENT_SHARD_CONFIG_H
#define CLIENT_SHARD_CONFIG_H

#include "raft/util/bytes.h"
#include "raft/util/spec.h"

typedef uint32_t shard_id;
typedef uint64_t config_num; /* 0: no groups, every shard on gid 0 */

#define SHARD_MIN_COUNT     16
#define SHARD_MAX_COUNT     16384
#define SHARD_DEFAULT_COUNT 256
#define SHARD_SLOTS         16384
#define CONFIG_MAX_GROUPS   1024                    /* members */
#define CONFIG_MAX_LISTED   (4 * CONFIG_MAX_GROUPS) /* and those that left and may hold shards */
#define CONFIG_MAX_GID      0x7fffffffu

struct config_group {
    uint32_t gid;
    bool member;          /* false: has left, but may still hold shards that `from` names */
    config_num joined_at; /* the configuration of its (last) join: where it begins */
    uint64_t incarnation; /* of the group; 0: not known yet */
    struct spec replicas;
};

/* shards[s] is the group that shall own s in this configuration; from[s] the last group (not 0)
 * that was to own it in an earlier one, 0: nobody ever did. So shard s moves at this configuration
 * if and only if shards[s] != 0 and shards[s] != from[s]; with from[s] == 0 it is created empty.
 * While shards[s] == 0, from[s] keeps it, frozen. */
struct shard_config {
    config_num num;
    uint8_t cluster_id[16];
    uint32_t n_shards; /* a power of two */
    uint32_t *shards;
    uint32_t *from;
    size_t n_groups;
    struct config_group *groups; /* ascending by gid */
    struct spec ctrlers; /* the controllers at present, whatever the number; n == 0: not known */
    bool moves_paused;   /* no shard is copied while this stands; what moves, waits where it is */
};

/* {0} is an empty configuration; fini releases and zeroes it. */
void shard_config_init(struct shard_config *config, uint32_t n_shards);
void shard_config_fini(struct shard_config *config);
void shard_config_copy(struct shard_config *to, const struct shard_config *from);
const struct config_group *shard_config_find(const struct shard_config *config, uint32_t gid);

/* Versioned, bounded, checked in full when decoded: power of two, ascending gids, every gid in
 * shards known as a member and every gid in from known. On failure nothing is owned. Runs of equal
 * (shards, from) pairs are run-length coded. */
void shard_config_encode(const struct shard_config *config, struct buf *out);
bool shard_config_decode(struct reader *reader, struct shard_config *config);

bool shard_count_is_valid(uint32_t n_shards);

/* Redis Cluster's rule: slot = CRC16/XMODEM(key, or the part between the first '{' and the next '}'
 * if that is not empty) mod 16384; shard = slot / (16384 / n_shards). */
uint32_t shard_slot_of_key(struct slice key);
shard_id shard_of_key(struct slice key, uint32_t n_shards);

#endif
