/* ctrler_request: see the header. */
#include "shardctrler/ctrler_request.h"

#include <string.h>

#include "raft/util/assert.h"

static struct session_key session_of(const struct proto_session *session)
{
    struct session_key key = {
        .seq = session->seq, .acked_seq = session->acked_seq, .issued_at = session->issued_at};

    memcpy(key.client.bytes, session->client, sizeof(key.client.bytes));
    return key;
}

bool ctrler_request_command(const struct proto_request *request, struct ctrler_command *command)
{
    memset(command, 0, sizeof(*command));
    switch (request->op) {
    case PROTO_JOIN:
        command->kind = CTRLER_JOIN;
        command->session = session_of(&request->join.session);
        command->n = request->join.n;
        command->groups = request->join.groups;
        return true;
    case PROTO_LEAVE:
        command->kind = CTRLER_LEAVE;
        command->session = session_of(&request->leave.session);
        command->n = request->leave.n;
        command->gids = request->leave.gids;
        return true;
    case PROTO_MOVE:
        command->kind = CTRLER_MOVE;
        command->session = session_of(&request->move.session);
        command->shard = request->move.shard;
        command->gid = request->move.gid;
        return true;
    case PROTO_PAUSE:
        command->kind = CTRLER_PAUSE;
        command->session = session_of(&request->pause.session);
        command->paused = request->pause.paused;
        return true;
    case PROTO_CONFIRM:
    case PROTO_BIND:
        command->kind = request->op == PROTO_BIND ? CTRLER_BIND : CTRLER_CONFIRM;
        command->gid = request->confirm.gid;
        command->incarnation = request->confirm.incarnation;
        command->n = request->confirm.n;
        command->confirms = request->confirm.shards;
        return true;
    case PROTO_REPORT:
        /* The controller's own replicas are known from its own log, never from a client. */
        if (request->report.gid == 0) {
            return false;
        }
        command->kind = CTRLER_REPLICAS;
        command->gid = request->report.gid;
        command->incarnation = request->report.incarnation;
        command->term = request->report.term;
        command->index = request->report.index;
        command->replicas = request->report.replicas;
        return true;
    default:
        ASSERT(!request->dry_run);
        return false;
    }
}
