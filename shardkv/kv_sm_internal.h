/* Shared by kv_sm.c (what is kept and how it is read back), kv_apply.c (commands), kv_copy.c
 * (copies of shards) and kv_apply_config.c (configurations). */
#ifndef SHARDKV_KV_SM_INTERNAL_H
#define SHARDKV_KV_SM_INTERNAL_H

#include "shardkv/kv_ops.h"
#include "shardkv/kv_sm.h"
#include "shardkv/noted.h"

/* The kinds of range 0, see kv_sm.h. */
enum { KV_ROOT_META = 1, KV_ROOT_CONFIG = 2, KV_ROOT_GROUP = 3, KV_ROOT_SHARD = 4 };

/* One shard and what memory holds of its data. The tables belong to the ranges named beside them,
 * 0 and NULL while there is none. */
struct kv_shard {
    struct kv_sm *sm;
    struct shard life;
    struct session_table *live, *staged;
    uint64_t live_range, staged_range;
    uint64_t version;       /* the write counter */
    uint64_t saved_version; /* as it stands in the live range */
    struct noted *noted;    /* what is in the change log; while it is served and a copy goes out */
    bool is_unsaved;        /* the sum and the count of changes in `life` */
};

#define KV_SM_SAVED_IN_PART 64u /* records of sessions, of 2 to 4 us each */

struct kv_group {
    uint32_t gid;
    struct spec spec;
};

struct kv_sm {
    struct kv_sm_options options;
    struct kv_meta meta;
    bool has_config;
    struct shard_config config;
    struct kv_shard *shards; /* meta.n_shards */
    struct kv_group *groups; /* ascending by gid */
    size_t n_groups, groups_capacity;
    uint64_t floor; /* the highest floor of any shard that was held since the last restore */
    uint64_t changes;
    shard_id next_saved; /* by kv_sm_save_part */
    struct buf kept;     /* memory for the result of a write */
    enum status failure; /* the state could not be read where nobody could be told: not OK */
};

/* ---- Writing through ---- */

/* Once their number is known. */
void kv_sm_make_shards(struct kv_sm *sm);
void kv_sm_write_meta(struct kv_sm *sm);
void kv_sm_write_shard(struct kv_sm *sm, shard_id id);
void kv_sm_write_version(struct kv_sm *sm, struct kv_shard *shard);
/* The range and its counter are gone. */
void kv_sm_forget_version(struct kv_shard *shard);
/* Carries out what a step of a shard's life did: drops ranges, makes and moves tables, writes the
 * shard and the counters. */
void kv_sm_carry_out(struct kv_sm *sm, shard_id id, const struct shard_effect *effect);
void kv_sm_raise_floor(struct kv_sm *sm, const struct session_table *table);

/* ---- Groups ---- */

/* Where the gid is or would be. */
size_t kv_sm_group_position(const struct kv_sm *sm, uint32_t gid);
void kv_sm_put_group(struct kv_sm *sm, uint32_t gid, const struct spec *spec);
void kv_sm_remove_group(struct kv_sm *sm, size_t position);

/* ---- Commands ---- */

/* kv_copy.c. Each returns ST_OK, or what stops this replica; *outcome is the command's. */
enum status kv_copy_begin(struct kv_sm *sm, const struct kv_command *command, enum status *outcome);
enum status kv_copy_sweep(struct kv_sm *sm, const struct kv_command *command, enum status *outcome);
enum status kv_copy_chunk(struct kv_sm *sm, const struct kv_command *command, enum status *outcome);
enum status kv_copy_install(struct kv_sm *sm, const struct kv_command *command,
                            enum status *outcome);
/* Of a shard (struct kv_shard) of which a copy goes out: what changes is noted. */
enum status kv_copy_record_changing(void *shard, struct slice key, const struct slice *record);
void kv_copy_session_changed(void *shard, struct slice client);

/* kv_apply_config.c; the result is the outcome's status. */
enum status kv_apply_config(struct kv_sm *sm, struct slice encoded);

#endif
