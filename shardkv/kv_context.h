/* kv_context: what the parts of one server share. It belongs to kv_server; the parts (config_watch,
 * migrate, confirm) hold a pointer to it and act only while this replica leads and is ready. */
#ifndef SHARDKV_KV_CONTEXT_H
#define SHARDKV_KV_CONTEXT_H

#include "client/ctrler_clerk.h"
#include "raft/rsm.h"
#include "raft/util/rng.h"
#include "shardkv/kv_sm.h"
#include "shardkv/strain.h"

struct kv_context {
    struct group *group;
    const struct kv_sm *sm;
    struct caller *caller; /* to other groups and the controller */
    struct ctrler_clerk *clerk;
    struct rng rng;
    uint64_t now_ms;      /* of the event that is being handled */
    uint32_t load;        /* client operations a second that this server serves now */
    struct strain strain; /* what its clients feel of copies */
    uint64_t n_proposals; /* made by the parts, ever */
    const struct trace *trace;
};

/* Encodes and proposes. `done` may run before this returns, for an immediate refusal. */
void kv_context_propose(struct kv_context *context, const struct kv_command *command,
                        group_proposal_done done, void *done_context);

/* How a proposal ended, in one status: that of the proposal, or if it was applied the outcome's. */
enum status kv_context_outcome(enum status status, struct slice result);

#endif
