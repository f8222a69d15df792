/* kv_context: see kv_context.h. */
#include "shardkv/kv_context.h"

void kv_context_propose(struct kv_context *context, const struct kv_command *command,
                        group_proposal_done done, void *done_context)
{
    struct buf bytes = {0};

    context->n_proposals++;
    kv_command_encode(command, &bytes);
    group_propose(context->group, buf_slice(&bytes), 0, 0, done, done_context);
    buf_fini(&bytes);
}

enum status kv_context_outcome(enum status status, struct slice result)
{
    struct kv_command_result outcome;

    if (status != ST_OK) {
        return status;
    }
    return kv_command_result_decode(result, &outcome) ? outcome.status : ST_CORRUPT;
}
