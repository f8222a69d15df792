/* What the two files of ctrler_sm share: ctrler_sm.c applies commands, ctrler_sm_state.c reads and
 * writes the records of the state. */
#ifndef SHARDCTRLER_CTRLER_SM_PRIVATE_H
#define SHARDCTRLER_CTRLER_SM_PRIVATE_H

#include "shardctrler/config_history.h"
#include "shardctrler/ctrler_sm.h"
#include "shardctrler/shard_owners.h"

/* Kinds of keys, all in range 0. */
enum {
    KIND_CLUSTER = 1,     /* no key -> u8 format = 1, cluster id, u32 shards, u64 last number */
    KIND_CONFIG = 2,      /* config_history */
    KIND_OWNER = 3,       /* u16 shard big-endian -> shard_owners */
    KIND_INCARNATION = 4, /* u32 gid, u64 joined_at, both big-endian -> u64 incarnation */
    KIND_SESSIONS = 5,    /* the session table */
    KIND_REPLICAS = 6     /* u32 gid, u64 joined_at, both big-endian -> u8 format = 1, u64 term, u64
                             index, SPEC: what REPLICAS last said of the group */
};

struct ctrler_sm {
    struct rsm_service_ops service_ops;
    struct io_state *state;
    const struct trace *trace;
    struct config_history history;
    struct shard_config latest; /* no shards before INIT */
    struct shard_owners owners; /* as many as the latest has shards */
    struct session_table *sessions;
    struct buf latest_bytes; /* the latest, encoded; empty: not yet */
    struct buf query_bytes;  /* the last other answer */
};

/* The cluster's record: id, number of shards, number of the latest configuration. */
void ctrler_sm_write_cluster(struct ctrler_sm *sm);
void ctrler_sm_write_owner(struct ctrler_sm *sm, shard_id shard);
/* The incarnation of the latest configuration's group, learnt after its join. */
void ctrler_sm_write_incarnation(struct ctrler_sm *sm, const struct config_group *group);

/* What REPLICAS last said of the group that joined at that number (0 of gid 0: the controller
 * itself). ST_NOT_FOUND: nothing yet. */
struct ctrler_replicas {
    raft_term term;
    raft_index index;
    struct spec replicas;
};
enum status ctrler_sm_read_replicas(const struct ctrler_sm *sm, uint32_t gid, config_num joined_at,
                                    struct ctrler_replicas *said);
void ctrler_sm_write_replicas(struct ctrler_sm *sm, uint32_t gid, config_num joined_at,
                              const struct ctrler_replicas *said);

/* Forgets what is cached of the state; reads it anew. The sessions are not touched. */
void ctrler_sm_clear_cache(struct ctrler_sm *sm);
enum status ctrler_sm_read_cache(struct ctrler_sm *sm);

#endif
