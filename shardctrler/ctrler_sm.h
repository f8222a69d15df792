/* ctrler_sm: the controller as a replicated state machine (a service of raft/rsm.h): the numbered
 * shard configurations, who confirmed which shard, the incarnations of the groups, and the sessions
 * of those who change them. Pure and deterministic: the same commands give the same bytes in the
 * state on every replica.
 *
 * The formats of the state are in shardctrler/README.md.
 */
#ifndef SHARDCTRLER_CTRLER_SM_H
#define SHARDCTRLER_CTRLER_SM_H

#include "client/shard_config.h"
#include "raft/rsm.h"
#include "shardctrler/ctrler_command.h"

struct ctrler_sm;

/* An empty machine over a state that outlives it; the group restores it from there. trace may be
 * NULL. */
struct ctrler_sm *ctrler_sm_create(struct io_state *state, const struct trace *trace);
void ctrler_sm_destroy(struct ctrler_sm **sm);

/* What group_create wants; the service pointer is the ctrler_sm, and owns them. role_changed does
 * nothing: the server looks at the group by itself. */
const struct rsm_service_ops *ctrler_sm_service_ops(const struct ctrler_sm *sm);

/* Whether INIT was applied: from then on there are a cluster id, a number of shards and a
 * configuration. */
bool ctrler_sm_is_initialized(const struct ctrler_sm *sm);
/* The latest configuration; before INIT an empty one without shards. Valid until the next apply. */
const struct shard_config *ctrler_sm_latest(const struct ctrler_sm *sm);

/* Any configuration, the caller's to release; a number above the last gives the latest. ST_OK,
 * ST_NOT_READY before INIT, or what is wrong with the state. */
enum status ctrler_sm_config(struct ctrler_sm *sm, config_num num, struct shard_config *config);
/* The same, encoded. Slices of the latest are cheap: it is encoded once. Valid until the next call
 * of any function of the machine. */
enum status ctrler_sm_config_bytes(struct ctrler_sm *sm, config_num num, struct slice *encoded);

/* What a JOIN, LEAVE, MOVE or PAUSE would come to now; nothing is changed. ST_OK: *next is the
 * configuration that it would make, or a copy of the latest if it would make none. Else *next is
 * {0}. *next is the caller's. */
struct ctrler_result ctrler_sm_plan(const struct ctrler_sm *sm,
                                    const struct ctrler_command *command,
                                    struct shard_config *next);

/* What a group that shows (gid, incarnation) is to the cluster. */
enum ctrler_identity {
    CTRLER_IDENTITY_STRANGER, /* the gid is not listed */
    CTRLER_IDENTITY_NEW,      /* listed, its incarnation not known yet: BIND it */
    CTRLER_IDENTITY_KNOWN,    /* listed under this incarnation */
    CTRLER_IDENTITY_OTHER     /* listed under another one */
};
enum ctrler_identity ctrler_sm_identify(const struct ctrler_sm *sm, uint32_t gid,
                                        uint64_t incarnation);

/* The group that last confirmed a shard, and the configuration under which it did; 0 and 0: nobody
 * yet. */
void ctrler_sm_owner(const struct ctrler_sm *sm, shard_id shard, uint32_t *gid, config_num *epoch);
uint32_t ctrler_sm_session_count(const struct ctrler_sm *sm);

#endif
