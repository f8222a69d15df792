/* serve: the server's side of the client protocol, the same for the controller and the shards.
 *
 * A message takes one of three ways. What can't be decoded is refused with whatever request id its
 * bytes show, so that the client stops waiting. PING, STATUS and TRANSFER are answered here: by
 * this replica alone, without a quorum, also while it is overloaded. Everything else becomes a
 * ticket and goes to the service, as long as its connection has a share left (serve_share.h). What
 * only servers ask is refused to strangers: connections that did not prove the peer key, where
 * there is one.
 *
 * A ticket is a value: connection, request id, op, deadline. No table of them is kept, only their
 * number and who holds how many; when the connection closes meanwhile, the network drops the
 * answer.
 */
#include "client/serve_private.h"

#include "client/proto_private.h"
#include "client/serve_metrics.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/util/metrics.h"

#define STATUS_ROLE_LEARNER    9  /* proto_node_status.role of a replica that does not vote */
#define REQUEST_VERSION_OFFSET 0  /* of a request's header, see client/proto.h */
#define REQUEST_OP_OFFSET      1  /* u8 */
#define REQUEST_ID_OFFSET      4  /* u64 */
#define REQUEST_ID_END         12 /* a shorter message shows no request id */

struct serve *serve_create(const struct serve_options *options)
{
    struct serve *serve = mem_zalloc(sizeof(*serve));

    ASSERT(options->net != NULL);
    ASSERT(options->group != NULL);
    ASSERT(options->version != NULL);
    ASSERT(options->max_pending > 0);
    serve->options = *options;
    serve_share_init(&serve->share, options->max_pending,
                     options->max_pending_bytes != 0 ? options->max_pending_bytes
                                                     : SERVE_MAX_PENDING_BYTES);
    return serve;
}

void serve_destroy(struct serve **serve)
{
    if (*serve == NULL) {
        return;
    }
    serve_drop_changes(*serve);
    serve_share_fini(&(*serve)->share);
    mem_free(*serve);
    *serve = NULL;
}

uint32_t serve_pending(const struct serve *serve)
{
    return serve->share.requests;
}

/* The leader's URL, for who is told to go there: it may not know that replica yet. */
static struct slice leader_url(const struct serve *serve)
{
    const struct raft *raft = group_raft(serve->options.group);
    const struct raft_server *leader =
        raft_configuration_find(raft_latest_configuration(raft), raft_leader(raft));

    return slice_text(leader != NULL ? leader->address : "");
}

void serve_put_metrics(const struct serve *serve, struct buf *text)
{
    metrics_put_gauge(text, "shardkv_requests_pending",
                      "Requests that the service has taken and not answered yet.",
                      serve->share.requests);
    serve_metrics_put(&serve->metrics, text);
}

void serve_send(struct serve *serve, const struct serve_ticket *ticket,
                struct proto_response *response)
{
    const struct serve_options *options = &serve->options;
    struct buf message = {0};

    serve_metrics_count(&serve->metrics, ticket->op, response->status, ticket->begun_us,
                        group_now_us(options->group));
    response->op = ticket->op;
    response->request_id = ticket->request_id;
    response->leader_hint = response->status == ST_SHUTDOWN
                                ? raft_next_leader(group_raft(options->group))
                                : raft_leader(group_raft(options->group));
    response->config = options->config != NULL ? options->config(options->context) : 0;
    response->cluster_time = group_last_stamp(options->group);
    proto_response_encode(response, &message);
    ASSERT(message.len > 0);
    options->net->ops->reply(options->net, ticket->conn, &message);
}

void serve_send_refusal(struct serve *serve, const struct serve_ticket *ticket, enum status status,
                        const char *text)
{
    struct proto_response response = {.status = status};

    ASSERT(status != ST_OK);
    if (status == ST_NOT_LEADER) {
        response.text = leader_url(serve);
    } else if (text != NULL) {
        response.text = slice_text(text);
    }
    serve_send(serve, ticket, &response);
}

void serve_respond(struct serve *serve, const struct serve_ticket *ticket,
                   struct proto_response *response)
{
    serve_share_give_back(&serve->share, ticket->conn, ticket->bytes);
    serve_send(serve, ticket, response);
}

void serve_refuse(struct serve *serve, const struct serve_ticket *ticket, enum status status,
                  const char *text)
{
    serve_share_give_back(&serve->share, ticket->conn, ticket->bytes);
    serve_send_refusal(serve, ticket, status, text);
}

/* The replica's place in its group: a leader or candidate by role; otherwise the configuration says
 * whether it votes. */
static uint8_t status_role(const struct raft *raft)
{
    const struct raft_server *self =
        raft_configuration_find(raft_latest_configuration(raft), raft_self(raft));

    if (raft_role(raft) == RAFT_FOLLOWER &&
        (self == NULL || (self->flags & (RAFT_VOTER | RAFT_VOTER_OLD)) == 0)) {
        return STATUS_ROLE_LEARNER;
    }
    return (uint8_t)raft_role(raft);
}

/* A leader is ready when it can serve, a follower when it hears from a leader. */
static bool status_ready(const struct group *group)
{
    return group_is_leader(group) ? group_is_ready(group) : raft_leader(group_raft(group)) != 0;
}

static void fill_raft_status(const struct serve *serve, struct proto_node_status *node)
{
    const struct group *group = serve->options.group;
    const struct raft *raft = group_raft(group);
    raft_index checkpoint = group_statistics(group)->checkpoint_index;

    node->role = status_role(raft);
    node->ready = status_ready(group);
    node->read_only = group_is_read_only(group);
    node->term = raft_current_term(raft);
    node->leader = raft_leader(raft);
    node->first_index = raft_first_index(raft);
    node->last_index = raft_last_index(raft);
    node->commit_index = raft_commit_index(raft);
    node->applied_index = group_applied_index(group);
    node->snapshot_index = checkpoint > node->first_index - 1 ? checkpoint : node->first_index - 1;
    ASSERT(node->first_index >= 1);
}

static void fill_disk_status(const struct serve *serve, struct proto_node_status *node)
{
    struct io_state *state = group_state(serve->options.group);
    struct io_log *log = serve->options.log;

    node->db_bytes = state->ops->disk_bytes(state);
    node->log_bytes =
        log != NULL ? log->ops->bytes(log) : raft_log_bytes(group_raft(serve->options.group));
}

static void answer_status(struct serve *serve, const struct serve_ticket *ticket, uint64_t now_ms)
{
    const struct serve_options *options = &serve->options;
    struct proto_response response = {.status = ST_OK};
    struct proto_node_status *node = &response.node;

    node->gid = options->gid;
    node->id = options->id;
    node->version = slice_text(options->version);
    node->uptime_s = now_ms > options->start_ms ? (now_ms - options->start_ms) / 1000 : 0;
    node->config = options->config != NULL ? options->config(options->context) : 0;
    fill_raft_status(serve, node);
    fill_disk_status(serve, node);
    if (options->status != NULL) {
        options->status(options->context, node);
    }
    serve_send(serve, ticket, &response);
    mem_free(node->shards);
    mem_free(node->moves);
}

/* Leadership transfer (thesis 3.10) is only begun here: the answer says whether. */
static void answer_transfer(struct serve *serve, const struct serve_ticket *ticket, uint32_t to)
{
    struct proto_response response = {.status = group_transfer(serve->options.group, to)};

    if (response.status == ST_INVALID) {
        response.text = slice_text("no such replica, or it can't lead");
    }
    serve_send(serve, ticket, &response);
}

/* Answers what needs no service; false: the service must. */
static bool answer_here(struct serve *serve, const struct serve_ticket *ticket,
                        const struct proto_request *request, uint64_t now_ms)
{
    struct proto_response pong = {.status = ST_OK};

    switch (request->op) {
    case PROTO_PING:
        serve_send(serve, ticket, &pong);
        return true;
    case PROTO_STATUS:
        answer_status(serve, ticket, now_ms);
        return true;
    case PROTO_TRANSFER:
        answer_transfer(serve, ticket, request->transfer.to);
        return true;
    case PROTO_REPLICA:
        serve_replica(serve, ticket, request);
        return true;
    case PROTO_REPLICAS:
        serve_replicas(serve, ticket, now_ms);
        return true;
    default:
        return false;
    }
}

/* A message that is no request: the client learns it under the id that the bytes show, if any. An
 * op not known here can't be answered as such: it gets the answer of a PING. */
static void refuse_malformed(struct serve *serve, const struct io_event *event)
{
    struct slice message = event->client.message;
    struct serve_ticket ticket = {.conn = event->client.conn,
                                  .op = PROTO_PING,
                                  .deadline_ms = UINT64_MAX,
                                  .begun_us = group_now_us(serve->options.group)};
    bool other_version = message.len > 0 && message.data[REQUEST_VERSION_OFFSET] != PROTO_VERSION;

    if (message.len >= REQUEST_ID_END) {
        if (proto_op_is_valid(message.data[REQUEST_OP_OFFSET])) {
            ticket.op = (enum proto_op)message.data[REQUEST_OP_OFFSET];
        }
        ticket.request_id = get_u64(message.data + REQUEST_ID_OFFSET);
    }
    trace_debug(serve->options.trace, "malformed request conn=%llu bytes=%zu",
                (unsigned long long)ticket.conn, message.len);
    serve_send_refusal(serve, &ticket, other_version ? ST_VERSION : ST_MALFORMED,
                       other_version ? "the request is of a protocol version not known here"
                                     : NULL);
}

bool serve_message(struct serve *serve, const struct io_event *event, struct proto_request *request,
                   struct serve_ticket *ticket)
{
    ASSERT(event->type == IO_EVENT_CLIENT_MESSAGE);
    if (!proto_request_decode(event->client.message, request)) {
        refuse_malformed(serve, event);
        return false;
    }
    *ticket = (struct serve_ticket){
        .conn = event->client.conn,
        .bytes = event->client.message.len,
        .request_id = request->request_id,
        .op = request->op,
        .deadline_ms =
            request->deadline_ms == 0 ? UINT64_MAX : event->now_ms + request->deadline_ms,
        .begun_us = group_now_us(serve->options.group),
    };
    if (event->client.is_stranger && proto_is_for_servers(request)) {
        serve_send_refusal(serve, ticket, ST_DENIED,
                           "only a server that proved the peer key may ask it");
        proto_request_fini(request);
        return false;
    }
    if (answer_here(serve, ticket, request, event->now_ms)) {
        proto_request_fini(request);
        return false;
    }
    if (!serve_share_take(&serve->share, ticket->conn, ticket->bytes)) {
        serve_send_refusal(serve, ticket, ST_BUSY, NULL);
        proto_request_fini(request);
        return false;
    }
    return true;
}
