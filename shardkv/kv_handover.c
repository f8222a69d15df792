/* kv_handover: what the groups that take shards over ask of this one: the pieces of a frozen shard,
 * and to let go of it. Every answer follows from applied state, and what it asserts never becomes
 * untrue; so any replica may give it, and only what must be proposed first needs the leader. */
#include "raft/util/assert.h"
#include "shardkv/kv_server_internal.h"

static void answer_pull(struct kv_request *request, bool may_freeze);

static void freeze_applied(void *context, enum status status, struct slice result)
{
    (void)result;
    if (status != ST_OK) {
        kv_request_refuse(context, status, NULL);
        return;
    }
    answer_pull(context, false);
}

static void release_applied(void *context, enum status status, struct slice result)
{
    struct kv_request *request = context;
    struct proto_response response = {.status = ST_OK};

    (void)result; /* dropped now or before: either way it is gone */
    if (status != ST_OK) {
        kv_request_refuse(request, status, NULL);
        return;
    }
    kv_request_respond(request, &response);
}

static void propose(struct kv_request *request, enum kv_command_kind kind, group_proposal_done done)
{
    struct kv_command command = {.kind = kind, .shard = request->shard, .num = request->num};

    kv_context_propose(&request->server->context, &command, done, request);
}

static void respond_piece(struct kv_request *request)
{
    struct proto_response response = {.status = ST_OK};
    struct kv_piece_source source = kv_sm_piece_source(request->server->sm, request->shard);
    struct kv_piece piece;
    enum status status = kv_piece_read(&source, buf_slice(&request->bytes), request->limit, &piece);

    if (status == ST_OK) {
        response.shard_pull.piece = request->piece;
        response.shard_pull.kind = (uint8_t)piece.kind;
        response.shard_pull.body = buf_slice(&piece.body);
        response.shard_pull.cursor = buf_slice(&piece.cursor);
        kv_request_respond(request, &response);
        kv_piece_fini(&piece);
    } else if (status == ST_INVALID) {
        kv_request_refuse(request, ST_INVALID, "malformed cursor");
    } else {
        const struct group_world *world = &request->server->world;

        kv_request_refuse(request, ST_SHUTDOWN, NULL);
        world->halt(world->halt_context, status, "the state can't be read");
    }
}

/* The state of this replica says "not yet". The leader knows that it is so, and the taker comes
 * back later; another replica may only be behind. */
static void refuse_for_now(struct kv_request *request)
{
    if (group_is_ready(request->server->group)) {
        kv_request_wrong_group(request, 0);
    } else {
        kv_request_refuse(
            request, group_is_leader(request->server->group) ? ST_NOT_READY : ST_NOT_LEADER, NULL);
    }
}

static enum shard_answer shard_says(const struct kv_request *request)
{
    const struct kv_sm *sm = request->server->sm;
    const struct shard *shard = kv_sm_shard(sm, request->shard);

    if (shard == NULL) {
        return SHARD_ANSWER_NOT_READY; /* no INIT yet */
    }
    return shard_answer(shard, request->num, request->to, kv_sm_meta(sm)->adopted);
}

static void answer_pull(struct kv_request *request, bool may_freeze)
{
    switch (shard_says(request)) {
    case SHARD_ANSWER_YES:
        respond_piece(request);
        return;
    case SHARD_ANSWER_FREEZE:
        /* The taker is there: serving ends with the FREEZE, which only the leader proposes. */
        if (may_freeze && group_is_ready(request->server->group)) {
            propose(request, KV_COMMAND_FREEZE, freeze_applied);
            return;
        }
        refuse_for_now(request);
        return;
    case SHARD_ANSWER_NOT_READY:
        refuse_for_now(request);
        return;
    case SHARD_ANSWER_DONE:
        kv_request_refuse(request, ST_CONFLICT, "the shard was let go of");
        return;
    case SHARD_ANSWER_REFUSED:
        kv_request_refuse(request, ST_CONFLICT, "the shard goes to another group");
        return;
    }
}

void kv_server_pull(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request)
{
    struct kv_request *waiting = kv_request_create(server, ticket, request->shard_pull.shard);

    server->metrics.pulls++;
    waiting->num = request->shard_pull.num;
    waiting->to = request->shard_pull.to;
    waiting->limit = request->shard_pull.max_bytes;
    waiting->piece = request->shard_pull.piece;
    buf_put_slice(&waiting->bytes, request->shard_pull.cursor);
    answer_pull(waiting, true);
}

static void answer_release(struct kv_request *request)
{
    struct proto_response response = {.status = ST_OK};

    switch (shard_says(request)) {
    case SHARD_ANSWER_YES:
        if (group_is_ready(request->server->group)) {
            propose(request, KV_COMMAND_DROP, release_applied);
        } else {
            refuse_for_now(request);
        }
        return;
    case SHARD_ANSWER_DONE:
        kv_request_respond(request, &response);
        return;
    case SHARD_ANSWER_FREEZE: /* it can't have what was never frozen: this replica is behind */
    case SHARD_ANSWER_NOT_READY:
        refuse_for_now(request);
        return;
    case SHARD_ANSWER_REFUSED:
        kv_request_refuse(request, ST_CONFLICT, "the shard goes to another group");
        return;
    }
}

void kv_server_release(struct kv_server *server, const struct serve_ticket *ticket,
                       const struct proto_request *request)
{
    struct kv_request *waiting = kv_request_create(server, ticket, request->shard_release.shard);

    server->metrics.releases++;
    waiting->num = request->shard_release.num;
    waiting->to = request->shard_release.to;
    answer_release(waiting);
}

void kv_server_where(struct kv_server *server, const struct serve_ticket *ticket,
                     const struct proto_request *request)
{
    const struct shard *shard = kv_sm_shard(server->sm, request->shard_where.shard);
    struct proto_response response = {.status = ST_OK};

    if (!group_is_ready(server->group)) {
        serve_refuse(server->serve, ticket,
                     group_is_leader(server->group) ? ST_NOT_READY : ST_NOT_LEADER, NULL);
        return;
    }
    response.shard_where.held = shard != NULL && shard->state != SHARD_ABSENT;
    response.shard_where.epoch = shard != NULL ? shard->epoch : 0;
    serve_respond(server->serve, ticket, &response);
}
