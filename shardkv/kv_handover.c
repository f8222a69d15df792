/* kv_handover: what the groups that take shards over ask of this one: the pieces of a shard, and to
 * let go of it. Every answer follows from applied state. That a copy begins, goes on to sweep, and
 * that the shard is frozen are entries of the log, which the leader proposes when the next piece
 * needs them; the last pieces, once it is frozen, any replica can give. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_server_internal.h"

/* COPY_BEGIN, SWEEP and FREEZE, and once more if a copy is begun anew meanwhile. */
#define MAX_PULL_STEPS 6

static void answer_pull(struct kv_request *request);

static void pull_step_applied(void *context, enum status status, struct slice result)
{
    (void)result; /* what the state says now counts */
    if (status != ST_OK) {
        kv_request_refuse(context, status, NULL);
        return;
    }
    answer_pull(context);
}

/* The local state can't be read: this replica must stop, the taker asks another one. */
static void halt_on(struct kv_request *request, enum status status)
{
    const struct group_world *world = &request->server->world;

    kv_request_refuse(request, ST_SHUTDOWN, NULL);
    world->halt(world->halt_context, status, "the state can't be read");
}

static void propose(struct kv_request *request, struct kv_command *command,
                    group_proposal_done done)
{
    command->shard = request->shard;
    command->num = request->num;
    kv_context_propose(&request->server->context, command, done, request);
}

/* The state of this replica says "not yet". The leader knows that it is so, and the taker comes
 * back later; another replica may only be behind. */
static void refuse_for_now(struct kv_request *request)
{
    const struct kv_server *server = request->server;
    uint32_t gid_hint = 0;

    if (group_is_ready(server->group)) {
        (void)kv_sm_serves(server->sm, request->shard, &gid_hint);
        kv_request_wrong_group(request, gid_hint);
    } else {
        kv_request_refuse(request, group_is_leader(server->group) ? ST_NOT_READY : ST_NOT_LEADER,
                          NULL);
    }
}

/* ---- Pieces ---- */

static void respond_void(struct kv_request *request)
{
    struct proto_response response = {.status = ST_OK};

    response.shard_pull.piece = request->piece;
    response.shard_pull.kind = PROTO_PIECE_VOID;
    kv_request_respond(request, &response);
}

static void respond_piece(struct kv_request *request, const struct kv_piece_source *source,
                          const struct kv_piece *piece)
{
    struct kv_server *server = request->server;
    struct proto_response response = {.status = ST_OK};
    struct buf end = {0};

    response.shard_pull.piece = request->piece;
    response.shard_pull.load = server->context.load;
    response.shard_pull.strain = strain_percent(&server->context.strain);
    response.shard_pull.frozen = source->shard->state == SHARD_FROZEN;
    strain_note_copy(&server->context.strain);
    if (!census_find(server->census, request->shard, &response.shard_pull.keys_total,
                     &response.shard_pull.bytes_total)) {
        response.shard_pull.bytes_total =
            source->state->ops->range_bytes(source->state, source->shard->range);
    }
    if (piece->is_all && source->shard->state == SHARD_FROZEN) {
        kv_piece_end_encode(source, kv_server_frozen_ms(server, request->shard),
                            buf_slice(&piece->body), &end);
        response.shard_pull.kind = PROTO_PIECE_END;
        response.shard_pull.body = buf_slice(&end);
    } else {
        response.shard_pull.kind = PROTO_PIECE_MORE;
        response.shard_pull.body = buf_slice(&piece->body);
        response.shard_pull.cursor = buf_slice(&piece->cursor);
    }
    server->piece_bytes_sent += response.shard_pull.body.len;
    kv_request_respond(request, &response);
    buf_fini(&end);
}

static void note_freeze(struct kv_server *server, shard_id shard, config_num num)
{
    if (server->freezes == NULL) {
        server->freezes = mem_zalloc(kv_sm_meta(server->sm)->n_shards * sizeof(server->freezes[0]));
    }
    server->freezes[shard] = (struct kv_freeze){num, server->context.now_ms};
}

/* One that this replica proposed for an earlier move says nothing about this one. */
uint32_t kv_server_frozen_ms(const struct kv_server *server, shard_id shard)
{
    const struct shard_transition *head = shard_head(kv_sm_shard(server->sm, shard));
    const struct kv_freeze *freeze = server->freezes != NULL ? &server->freezes[shard] : NULL;

    if (freeze == NULL || head == NULL || freeze->num != head->num) {
        return 0;
    }
    return (uint32_t)(server->context.now_ms - freeze->since_ms);
}

/* A step of the log that the copy needs first. Only a ready leader proposes it. */
static void propose_step(struct kv_request *request, enum kv_command_kind kind)
{
    struct kv_server *server = request->server;
    const struct shard *shard = kv_sm_shard(server->sm, request->shard);
    struct kv_command command = {.kind = kind};

    if (!group_is_ready(server->group)) {
        refuse_for_now(request);
        return;
    }
    if (++request->steps > MAX_PULL_STEPS) {
        kv_request_refuse(request, ST_BUSY, NULL);
        return;
    }
    if (kind == KV_COMMAND_FREEZE) {
        note_freeze(server, request->shard, request->num);
    }
    command.copy.copy_id =
        kind == KV_COMMAND_COPY_BEGIN ? request->copy_id : shard->outgoing.copy_id;
    command.copy.from = buf_slice(&shard->outgoing.swept);
    /* A piece has more bytes for each record than the sweep counts: so it fits in one, unless
     * records are tiny. */
    command.copy.max_bytes = request->limit - request->limit / 8;
    propose(request, &command, pull_step_applied); /* the request may have ended by now */
    if (kind == KV_COMMAND_FREEZE) {
        group_hurry(server->group); /* the pause begins */
    }
}

static void read_piece(struct kv_request *request)
{
    uint32_t limit = request->limit;
    struct kv_piece_source source = kv_sm_piece_source(request->server->sm, request->shard);
    struct slice cursor = buf_slice(&request->bytes);
    struct kv_piece piece;
    enum status status;

    /* What is left once it is frozen goes over at once, however small pieces were before. */
    if (source.shard->state == SHARD_FROZEN && limit < KV_PIECE_FROZEN_BYTES) {
        limit = KV_PIECE_FROZEN_BYTES;
    }
    status = kv_piece_read(&source, cursor, limit, &piece);
    if (status != ST_OK) {
        halt_on(request, status);
        return;
    }
    /* A shard that fits in one piece goes over in one go, unless that is one large record. */
    if (piece.is_all && cursor.len == 0 && source.shard->state == SHARD_SERVING &&
        piece.body.len <= KV_PIECE_FROZEN_BYTES) {
        propose_step(request, KV_COMMAND_FREEZE);
    } else {
        respond_piece(request, &source, &piece);
    }
    kv_piece_fini(&piece);
}

/* Any copy can be read from what is swept and noted, from its beginning or further on. Only when a
 * copy turned out not to be what was said at its end, the sweep is done once more. */
static bool copy_must_begin(const struct kv_request *request)
{
    uint64_t copy_id = kv_sm_shard(request->server->sm, request->shard)->outgoing.copy_id;

    return copy_id == 0 || (request->anew && copy_id != request->copy_id);
}

static void go_on_with_copy(struct kv_request *request)
{
    struct kv_server *server = request->server;
    struct kv_piece_source source;

    if (copy_must_begin(request)) {
        propose_step(request, KV_COMMAND_COPY_BEGIN);
        return;
    }
    source = kv_sm_piece_source(server->sm, request->shard);
    /* While it changes, only the leader knows how it is. */
    if (source.shard->state != SHARD_FROZEN && !group_is_ready(server->group)) {
        refuse_for_now(request);
        return;
    }
    switch (kv_piece_needs(&source, buf_slice(&request->bytes))) {
    case KV_PIECE_READ:
        read_piece(request);
        return;
    case KV_PIECE_SWEEP:
        propose_step(request, KV_COMMAND_SWEEP);
        return;
    case KV_PIECE_FREEZE:
        propose_step(request, KV_COMMAND_FREEZE);
        return;
    case KV_PIECE_INVALID:
        kv_request_refuse(request, ST_CONFLICT, "that copy does not go on");
        return;
    }
}

static void answer_pull(struct kv_request *request)
{
    const struct kv_sm *sm = request->server->sm;
    const struct shard *shard = kv_sm_shard(sm, request->shard);
    enum shard_answer answer = SHARD_ANSWER_NOT_READY; /* no INIT yet */

    if (shard != NULL) {
        answer = shard_answer_pull(shard, request->num, request->to, kv_sm_meta(sm)->adopted);
    }
    switch (answer) {
    case SHARD_ANSWER_YES:
        go_on_with_copy(request);
        return;
    case SHARD_ANSWER_VOID:
        respond_void(request);
        return;
    case SHARD_ANSWER_NOT_READY:
        refuse_for_now(request);
        return;
    case SHARD_ANSWER_DONE:
    case SHARD_ANSWER_REFUSED:
        kv_request_refuse(request, ST_CONFLICT, "the shard goes to another group");
        return;
    }
}

void kv_server_pull(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request)
{
    struct kv_request *waiting = kv_request_create(server, ticket, request->shard_pull.shard);

    waiting->num = request->shard_pull.num;
    waiting->to = request->shard_pull.to;
    waiting->limit = request->shard_pull.max_bytes;
    if (waiting->limit > PROTO_MAX_CHUNK) {
        waiting->limit = PROTO_MAX_CHUNK; /* a sweep holds up the apply of every replica */
    }
    waiting->copy_id = request->shard_pull.copy_id;
    waiting->anew = request->shard_pull.anew;
    waiting->piece = request->shard_pull.piece;
    buf_put_slice(&waiting->bytes, request->shard_pull.cursor);
    answer_pull(waiting);
}

/* ---- Letting go ---- */

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

static void answer_release(struct kv_request *request)
{
    const struct kv_sm *sm = request->server->sm;
    const struct shard *shard = kv_sm_shard(sm, request->shard);
    struct kv_command command = {.kind = KV_COMMAND_DROP};
    struct proto_response response = {.status = ST_OK};
    enum shard_answer answer = SHARD_ANSWER_NOT_READY;

    if (shard != NULL) {
        answer = shard_answer_release(shard, request->num, request->to, kv_sm_meta(sm)->adopted);
    }
    switch (answer) {
    case SHARD_ANSWER_YES:
        if (group_is_ready(request->server->group)) {
            propose(request, &command, release_applied);
        } else {
            refuse_for_now(request);
        }
        return;
    case SHARD_ANSWER_DONE:
        kv_request_respond(request, &response);
        return;
    case SHARD_ANSWER_VOID:
    case SHARD_ANSWER_NOT_READY: /* it can't have what was never frozen: this replica is behind */
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
