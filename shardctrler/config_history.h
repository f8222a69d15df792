/* config_history: every configuration that ever was, kept for good in the controller's state.
 *
 * Under the number of each configuration stands its difference against the one before, and for
 * every CONFIG_FULL_EVERY-th (0 included) the whole. So a change costs space by what it changed,
 * and reading any number costs one whole configuration and a bounded number of differences.
 *
 * A record: u8 format = 2, u8 type (1 whole, 2 difference), then the encoded shard_config, or
 *
 *   u32 n, n x (u16 first shard, u16 count - 1, u32 gid)       runs of shards with a new group
 *   u32 n, n x u32 gid                                         groups gone, ascending
 *   u32 n, n x (u32 gid, u8 member, u64 joined_at, u64 incarnation, SPEC)   new or changed groups
 *
 *   u8 moves_paused
 *
 * `from` needs no bytes: it follows from the configuration before. A difference of format 1 ends
 * without moves_paused, which stays as it was; such records are read, not written.
 */
#ifndef SHARDCTRLER_CONFIG_HISTORY_H
#define SHARDCTRLER_CONFIG_HISTORY_H

#include "client/shard_config.h"
#include "raft/io.h"

#define CONFIG_FULL_EVERY 64

/* Where a history lives: (range, kind) of a state, keys are u64 big-endian numbers. */
struct config_history {
    struct io_state *state;
    uint64_t range;
    uint8_t kind;
};

/* Adds `next`; previous is the configuration before it, NULL for number 0. */
void config_history_put(const struct config_history *history, const struct shard_config *previous,
                        const struct shard_config *next);

/* Reads configuration `num` into *config (owned by the caller on ST_OK). ST_NOT_FOUND: there is no
 * such number; ST_CORRUPT, ST_IO. */
enum status config_history_get(const struct config_history *history, config_num num,
                               struct shard_config *config);

/* For each shard, who owned it last up to and including `config`: shards[s], or from[s] while that
 * is 0. It is `from` of the next configuration. `out` has config->n_shards places. */
void config_present_owners(const struct shard_config *config, uint32_t *out);

/* The difference alone, as laid out above without format and type. apply turns *config (number n -
 * 1) into number n, or returns false and leaves it unusable but owned. */
void config_difference_encode(const struct shard_config *previous, const struct shard_config *next,
                              struct buf *out);
bool config_difference_apply(struct reader *reader, struct shard_config *config);

#endif
