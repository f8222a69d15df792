/* kv_sm: the replicated state of one shard group, a service of raft/rsm.h.
 *
 * Everything that decides who serves what, and what a write does, is here and happens at apply, the
 * same on every replica. All of it stands in the group's io_state; memory holds a copy of what is
 * small: who the group is, the configuration it has adopted, the specs of the groups that its
 * shards come from and go to, and for each shard its life (shardkv/shard.h), its session table and
 * its version counter. The last two change with each write, and so do, in its life, the sum and the
 * count of changes of a copy that goes out. They are brought up to date in the state only before
 * somebody reads them there: kv_sm_save, before a checkpoint; sessions at once while a copy goes
 * out, as its pieces are read from the state. The counter and the sum travel from memory.
 *
 * Range 0:  kind 1, empty key     u8 format = 1, u64 incarnation, 16 bytes cluster id, u32 number
 *                                 of shards, u64 adopted configuration, u64 next range
 *           kind 2, empty key     the adopted shard_config
 *           kind 3, u32 be gid    a known group's encoded SPEC
 *           kind 4, u32 be shard  struct shard
 * Other ranges are live or staging data of one shard, see enum kv_kind.
 */
#ifndef SHARDKV_KV_SM_H
#define SHARDKV_KV_SM_H

#include "raft/rsm.h"
#include "shardkv/kv_command.h"
#include "shardkv/kv_piece.h"

struct kv_sm;

struct kv_sm_options {
    uint32_t gid;
    struct io_state *state;
    uint32_t max_sessions;  /* records a shard; the same on every replica */
    size_t max_noted_bytes; /* known by heart for each shard that goes out; 0: the default */
    const struct trace *trace;
};

/* Empty until kv_sm_restore. */
struct kv_sm *kv_sm_create(const struct kv_sm_options *options);
void kv_sm_destroy(struct kv_sm **sm);

/* The operations of struct rsm_service_ops. Results are struct kv_command_result. */
enum status kv_sm_apply(struct kv_sm *sm, const struct rsm_command *command, struct buf *result);
void kv_sm_ranges(const struct kv_sm *sm, uint64_t **ranges, size_t *n, size_t *capacity);
enum status kv_sm_restore(struct kv_sm *sm);
/* Sessions, version counters, and the sum and the count of changes of a copy that goes out, stand
 * in the state as they are now only after this. */
void kv_sm_save(struct kv_sm *sm);
/* Writes some of them, those of one shard after the other; false: that was the last one. */
bool kv_sm_save_part(struct kv_sm *sm);
uint64_t kv_sm_stamp_floor(const struct kv_sm *sm);

/* ---- What it knows ---- */

struct kv_meta {
    bool is_init;         /* INIT was applied: the three below count */
    uint64_t incarnation; /* of this group */
    uint8_t cluster_id[16];
    uint32_t n_shards;
    config_num adopted; /* 0: none yet */
    uint64_t next_range;
};
const struct kv_meta *kv_sm_meta(const struct kv_sm *sm);
uint32_t kv_sm_gid(const struct kv_sm *sm);
/* The adopted configuration; NULL before the first. */
const struct shard_config *kv_sm_config(const struct kv_sm *sm);
/* Where a group can be reached; NULL if it is not known. */
const struct spec *kv_sm_find_group(const struct kv_sm *sm, uint32_t gid);

/* NULL for a shard that does not exist. */
const struct shard *kv_sm_shard(const struct kv_sm *sm, shard_id shard);
/* Whether the shard is served here. If not, *gid_hint is who has it as far as is known: until the
 * hand-over its source. */
bool kv_sm_serves(const struct kv_sm *sm, shard_id shard, uint32_t *gid_hint);
/* A shard of which a copy goes out, for kv_piece_read. Until the next event. */
struct kv_piece_source kv_sm_piece_source(const struct kv_sm *sm, shard_id shard);
const struct session_table *kv_sm_sessions(const struct kv_sm *sm, shard_id shard);
uint64_t kv_sm_version(const struct kv_sm *sm, shard_id shard);

/* Grows with every change of a shard's life or of the configuration: nothing to look at while it
 * stands still. */
uint64_t kv_sm_changes(const struct kv_sm *sm);

#endif
