/* ctrler_server: requests become reads and proposals of the group, and their ends become answers.
 *
 * Each open request is a struct pending in a list, from the message that brought it to its answer,
 * which is sent exactly once. What the group calls back during one of its steps only answers, or
 * puts the request into `to_propose`; proposals are made between steps, never inside one.
 */
#include "shardctrler/ctrler_server.h"

#include <stdio.h>
#include <sys/queue.h>

#include "client/rejoin.h"
#include "client/serve.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardctrler/ctrler_leader.h"
#include "shardctrler/ctrler_request.h"
#include "shardctrler/ctrler_sm.h"

#define DEFAULT_MAX_PENDING 4096

struct pending {
    TAILQ_ENTRY(pending) entry;
    struct ctrler_server *server;
    struct serve_ticket ticket;
    bool proposed;        /* its command is on its way: its end is unknown until the group tells */
    config_num num;       /* CONFIG: which one is asked for */
    uint32_t gid;         /* CONFIG, BIND: the group that asks; 0: a client */
    uint64_t incarnation; /* of it */
    struct buf plan;      /* a dry run: its command, encoded; else empty */
};
TAILQ_HEAD(pending_list, pending);

struct ctrler_server {
    struct ctrler_server_options options;
    struct group_world world; /* the caller's */
    struct ctrler_sm *sm;
    struct group *group;
    struct serve *serve;
    struct rejoin *rejoin;       /* NULL: the replica needs none */
    struct pending_list open;    /* all open requests but those to be proposed */
    struct pending_list to_bind; /* CONFIG requests whose BIND is to be proposed */
    struct ctrler_leader leader; /* what this replica does by itself when it leads */
    uint64_t wall_us;            /* of the event that is being handled */
    bool halted;
    bool closing;     /* everybody was answered */
    char reason[128]; /* why it halted, when it was by itself */
};

/* ---- Open requests ---- */

static struct pending *pending_open(struct ctrler_server *server, const struct serve_ticket *ticket)
{
    struct pending *pending = mem_zalloc(sizeof(*pending));

    ASSERT(!server->closing && !server->halted);
    pending->server = server;
    pending->ticket = *ticket;
    TAILQ_INSERT_TAIL(&server->open, pending, entry);
    return pending;
}

static void pending_close(struct pending *pending)
{
    ASSERT(pending->server != NULL);
    TAILQ_REMOVE(&pending->server->open, pending, entry);
    buf_fini(&pending->plan);
    mem_free(pending);
}

/* Once the server is being destroyed everybody has been answered: ends that still come in have
 * nobody to go to. True: ignore it. */
static bool pending_is_answered(const struct pending *pending)
{
    return pending->server->closing;
}

static void finish_refused(struct pending *pending, enum status status, const char *text)
{
    ASSERT(status != ST_OK);
    serve_refuse(pending->server->serve, &pending->ticket, status, text);
    pending_close(pending);
}

/* The outcome of an applied command: what was asked for, or why not. */
static void finish_result(struct pending *pending, const struct ctrler_result *result)
{
    struct proto_response response = {.status = result->status};
    struct buf text = {0};

    ASSERT(pending->proposed || pending->plan.len > 0);
    ASSERT(result->status != ST_OK || pending->ticket.op != PROTO_CONFIG);
    if (result->status == ST_OK) {
        response.admin.num = result->num;
    } else {
        ctrler_result_text(result, &text);
        response.text = buf_slice(&text);
    }
    serve_respond(pending->server->serve, &pending->ticket, &response);
    buf_fini(&text);
    pending_close(pending);
}

/* ---- Configurations, as they are and as they would be ---- */

static void on_halt(void *context, enum status status, const char *reason)
{
    struct ctrler_server *server = context;

    server->halted = true;
    if (server->world.halt != NULL) {
        server->world.halt(server->world.halt_context, status, reason);
    }
}

/* Answers from the state, which the caller knows to be current enough. */
static void finish_config(struct pending *pending)
{
    struct ctrler_server *server = pending->server;
    struct proto_response response = {0};

    ASSERT(pending->ticket.op == PROTO_CONFIG);
    response.status =
        ctrler_sm_config_bytes(server->sm, pending->num, &response.config_reply.encoded);
    if (response.status == ST_NOT_READY) {
        response.text = slice_text("the cluster is not initialized yet");
    }
    serve_respond(server->serve, &pending->ticket, &response);
    pending_close(pending);
    /* History that can't be read is damage like any other: this replica must stop. */
    if (response.status != ST_OK && response.status != ST_NOT_READY) {
        on_halt(server, response.status, "a configuration can't be read from the state");
    }
}

/* Answers with what the change would make of the configuration as it is now, or as the change
 * itself would be refused. Nothing is proposed, and no session hears of it. */
static void finish_plan(struct pending *pending)
{
    struct ctrler_server *server = pending->server;
    struct proto_response response = {0};
    struct ctrler_command command;
    struct shard_config next;
    struct ctrler_result result;
    struct buf bytes = {0};

    ctrler_command_decode(buf_slice(&pending->plan), &command);
    ASSERT(ctrler_command_has_session(command.kind)); /* take_plan encoded it */
    result = ctrler_sm_plan(server->sm, &command, &next);
    ctrler_command_fini(&command);
    if (result.status != ST_OK) {
        finish_result(pending, &result);
        return;
    }
    shard_config_encode(&next, &bytes);
    shard_config_fini(&next);
    response.admin.num = result.num;
    response.admin.planned = buf_slice(&bytes);
    serve_respond(server->serve, &pending->ticket, &response);
    buf_fini(&bytes);
    pending_close(pending);
}

/* A majority confirmed that this state is current. A group that shows its incarnation for the first
 * time is bound to it before it is answered: from its first configuration on, no other may take its
 * gid. */
static void on_read(void *context, enum status status)
{
    struct pending *pending = context;
    struct ctrler_server *server = pending->server;

    if (pending_is_answered(pending)) {
        return;
    }
    ASSERT(!pending->proposed);
    if (status != ST_OK) {
        finish_refused(pending, status, NULL);
        return;
    }
    if (pending->plan.len > 0) {
        finish_plan(pending);
        return;
    }
    if (pending->gid == 0 || pending->incarnation == 0) {
        finish_config(pending);
        return;
    }
    switch (ctrler_sm_identify(server->sm, pending->gid, pending->incarnation)) {
    case CTRLER_IDENTITY_NEW:
        TAILQ_REMOVE(&server->open, pending, entry);
        TAILQ_INSERT_TAIL(&server->to_bind, pending, entry);
        return;
    case CTRLER_IDENTITY_OTHER:
        finish_refused(pending, ST_CONFLICT,
                       "the group is known under another incarnation: its disks were replaced");
        return;
    case CTRLER_IDENTITY_STRANGER:
    case CTRLER_IDENTITY_KNOWN:
        finish_config(pending);
        return;
    }
    UNREACHABLE("the identities are listed above");
}

static void ask_config(struct ctrler_server *server, const struct serve_ticket *ticket,
                       const struct proto_request *request)
{
    struct pending *pending = pending_open(server, ticket);

    pending->num = request->config.num;
    pending->gid = request->config.gid;
    pending->incarnation = request->config.incarnation;
    group_read(server->group, on_read, pending);
}

static void take_plan(struct ctrler_server *server, const struct serve_ticket *ticket,
                      const struct ctrler_command *command)
{
    struct pending *pending = pending_open(server, ticket);

    ctrler_command_encode(command, &pending->plan);
    group_read(pending->server->group, on_read, pending);
}

/* ---- Proposals ---- */

static bool decode_result(struct slice bytes, struct ctrler_result *result)
{
    bool good = ctrler_result_decode(bytes, result);

    ASSERT(good); /* our own machine made it */
    return good;
}

/* The end of JOIN, LEAVE, MOVE, PAUSE, CONFIRM and BIND. */
static void on_applied(void *context, enum status status, struct slice bytes)
{
    struct pending *pending = context;
    struct ctrler_result result;

    if (pending_is_answered(pending)) {
        return;
    }
    if (status != ST_OK) { /* INVALID: its issued_at was too far ahead after all */
        finish_refused(pending, status == ST_INVALID ? ST_SESSION_EXPIRED : status, NULL);
        return;
    }
    decode_result(bytes, &result);
    finish_result(pending, &result);
}

/* The end of the BIND before a CONFIG. Binding again does no harm, so an unknown end is only a
 * reason to ask again. */
static void on_bound(void *context, enum status status, struct slice bytes)
{
    struct pending *pending = context;
    struct ctrler_result result;

    if (pending_is_answered(pending)) {
        return;
    }
    if (status != ST_OK) {
        finish_refused(pending, status == ST_UNKNOWN ? ST_NOT_READY : status, NULL);
        return;
    }
    decode_result(bytes, &result);
    if (result.status != ST_OK) {
        finish_result(pending, &result);
        return;
    }
    finish_config(pending);
}

static void propose(struct ctrler_server *server, const struct ctrler_command *command,
                    uint64_t trace_id, group_proposal_done done, void *context)
{
    struct buf bytes = {0};

    ctrler_command_encode(command, &bytes);
    group_propose(server->group, buf_slice(&bytes), command->session.issued_at, trace_id, done,
                  context);
    buf_fini(&bytes);
}

static void propose_binds(struct ctrler_server *server)
{
    struct pending *pending;

    while ((pending = TAILQ_FIRST(&server->to_bind)) != NULL) {
        struct ctrler_command command = {
            .kind = CTRLER_BIND, .gid = pending->gid, .incarnation = pending->incarnation};

        ASSERT(!pending->proposed && pending->incarnation != 0);
        TAILQ_REMOVE(&server->to_bind, pending, entry);
        TAILQ_INSERT_TAIL(&server->open, pending, entry);
        pending->proposed = true;
        propose(server, &command, 0, on_bound, pending);
    }
}

/* ---- Requests ---- */

/* What must not even be proposed. True: it was refused. */
static bool refuse_command(struct ctrler_server *server, const struct serve_ticket *ticket,
                           const struct ctrler_command *command)
{
    uint64_t now_us;

    /* Only a leader can say more than where the leader is. */
    if (!group_is_leader(server->group)) {
        serve_refuse(server->serve, ticket, ST_NOT_LEADER, NULL);
        return true;
    }
    if (!ctrler_sm_is_initialized(server->sm)) {
        serve_refuse(server->serve, ticket, ST_NOT_READY, "the cluster is not initialized yet");
        return true;
    }
    if (!ctrler_command_has_session(command->kind)) {
        return false;
    }
    if (command->session.seq == 0) {
        serve_refuse(server->serve, ticket, ST_INVALID, "sequence numbers begin at 1");
        return true;
    }
    /* Cluster time would jump to it, and every other session would look old (rsm.h): the client is
     * told the time here. The last stamp alone is not the present: there may be no command for
     * days. What a leader that has not applied everything yet takes for the present may itself be
     * old. */
    now_us = group_last_stamp(server->group);
    now_us = server->wall_us > now_us ? server->wall_us : now_us;
    if (command->session.issued_at > now_us &&
        command->session.issued_at - now_us > SESSION_MAX_AHEAD_US) {
        bool ready = group_is_ready(server->group);

        serve_refuse(server->serve, ticket, ready ? ST_SESSION_EXPIRED : ST_NOT_READY,
                     "issued_at is more than 24 hours ahead of the cluster's time");
        return true;
    }
    return false;
}

static void take_request(struct ctrler_server *server, const struct serve_ticket *ticket,
                         const struct proto_request *request)
{
    struct ctrler_command command;
    struct pending *pending;

    if (request->op == PROTO_CONFIG) {
        ask_config(server, ticket, request);
        return;
    }
    if (!ctrler_request_command(request, &command)) {
        serve_refuse(server->serve, ticket, ST_INVALID, "this is a controller: ask a group");
        return;
    }
    if (request->dry_run) {
        take_plan(server, ticket, &command);
        return;
    }
    if (refuse_command(server, ticket, &command)) {
        return;
    }
    pending = pending_open(server, ticket);
    pending->proposed = true;
    propose(server, &command, request->trace_id, on_applied, pending);
}

/* ---- The server ---- */

static void fill_status(void *context, struct proto_node_status *node)
{
    const struct ctrler_server *server = context;

    node->incarnation = server->options.incarnation;
    memcpy(node->cluster_id, ctrler_sm_latest(server->sm)->cluster_id, sizeof(node->cluster_id));
}

static config_num current_config(void *context)
{
    const struct ctrler_server *server = context;

    return ctrler_sm_latest(server->sm)->num;
}

void ctrler_server_options_default(struct ctrler_server_options *options, raft_id id, uint64_t seed,
                                   const struct spec *spec)
{
    memset(options, 0, sizeof(*options));
    group_options_default(&options->group, 0, id, seed);
    raft_configuration_from_spec(spec, &options->group.bootstrap);
    options->seed = seed;
    options->version = "";
    options->max_pending = DEFAULT_MAX_PENDING;
}

static struct serve *create_serve(struct ctrler_server *server, uint64_t now_ms)
{
    struct serve_options options = {
        .net = server->world.net,
        .log = server->world.log,
        .group = server->group,
        .gid = 0,
        .id = server->options.group.raft.id,
        .incarnation = server->options.incarnation,
        .version = server->options.version,
        .start_ms = now_ms,
        .max_pending = server->options.max_pending,
        .status = fill_status,
        .config = current_config,
        .context = server,
        .trace = server->options.trace,
    };

    return serve_create(&options);
}

enum status ctrler_server_create(const struct ctrler_server_options *options,
                                 const struct group_world *world, struct io_log_content *log,
                                 const struct io_state_meta *state_meta, uint64_t now_ms,
                                 struct ctrler_server **result)
{
    struct ctrler_server *server = mem_zalloc(sizeof(*server));
    struct group_world own_world = *world;
    enum status status;

    ASSERT(options->group.group == 0);
    ASSERT(options->max_pending > 0 && options->version != NULL);
    ASSERT(options->n_shards == 0 || shard_count_is_valid(options->n_shards));
    server->options = *options;
    server->world = *world;
    TAILQ_INIT(&server->open);
    TAILQ_INIT(&server->to_bind);
    server->sm = ctrler_sm_create(world->state, options->trace);
    own_world.halt = on_halt;
    own_world.halt_context = server;
    status = group_create(&options->group, &own_world, ctrler_sm_service_ops(server->sm),
                          server->sm, log, state_meta, now_ms, &server->group);
    if (status != ST_OK) {
        ctrler_sm_destroy(&server->sm);
        mem_free(server);
        return status;
    }
    server->serve = create_serve(server, now_ms);
    server->rejoin =
        rejoin_create_for(&options->group, world->net, options->rejoins, options->seed, now_ms);
    server->leader = (struct ctrler_leader){.group = server->group,
                                            .sm = server->sm,
                                            .seed = options->seed,
                                            .n_shards = options->n_shards};
    *result = server;
    return ST_OK;
}

/* Answers everybody; the requests themselves stay until the group has forgotten them too. */
static void answer_all(struct ctrler_server *server)
{
    struct pending *pending;

    ASSERT(!server->closing);
    TAILQ_CONCAT(&server->open, &server->to_bind, entry);
    TAILQ_FOREACH (pending, &server->open, entry) {
        bool changes = pending->proposed && pending->ticket.op != PROTO_CONFIG;

        serve_refuse(server->serve, &pending->ticket, changes ? ST_UNKNOWN : ST_SHUTDOWN, NULL);
    }
    server->closing = true;
}

void ctrler_server_destroy(struct ctrler_server **server_place)
{
    struct ctrler_server *server = *server_place;
    struct pending *pending;

    if (server == NULL) {
        return;
    }
    answer_all(server);
    group_destroy(&server->group);
    ASSERT(TAILQ_EMPTY(&server->to_bind));
    while ((pending = TAILQ_FIRST(&server->open)) != NULL) {
        pending_close(pending);
    }
    rejoin_destroy(&server->rejoin);
    serve_destroy(&server->serve);
    ctrler_sm_destroy(&server->sm);
    mem_free(server);
    *server_place = NULL;
}

static void take_message(struct ctrler_server *server, const struct io_event *event)
{
    struct proto_request request;
    struct serve_ticket ticket;

    if (serve_message(server->serve, event, &request, &ticket)) {
        take_request(server, &ticket, &request);
        proto_request_fini(&request);
    }
}

/* Flags must agree with the cluster's first log entry. A new replica, or one whose last checkpoint
 * is older, learns only by applying it that they do not. */
static void check_shards(struct ctrler_server *server)
{
    uint32_t shards;

    if (ctrler_server_shards_conflict(server, &shards)) {
        snprintf(server->reason, sizeof(server->reason),
                 "--shards is %u, but the cluster was created with %u", server->options.n_shards,
                 shards);
        on_halt(server, ST_CONFLICT, server->reason);
    }
}

void ctrler_server_step(struct ctrler_server *server, const struct io_event *event)
{
    if (server->halted) {
        return;
    }
    rejoin_step(server->rejoin, event);
    server->wall_us = event->wall_us;
    serve_observe(server->serve, event);
    if (event->type == IO_EVENT_CLIENT_MESSAGE) {
        take_message(server, event);
        return;
    }
    /* The turn's end is when the group appends what was proposed. */
    if (event->type == IO_EVENT_TURN_END) {
        ctrler_leader_act(&server->leader);
    }
    group_step(server->group, event);
    if (!server->halted) {
        propose_binds(server);
        check_shards(server);
    }
}

uint64_t ctrler_server_next_deadline_ms(const struct ctrler_server *server)
{
    uint64_t rejoin_ms = rejoin_next_deadline_ms(server->rejoin);
    uint64_t deadline_ms = group_next_deadline_ms(server->group);

    if (server->halted) {
        return UINT64_MAX;
    }
    return rejoin_ms < deadline_ms ? rejoin_ms : deadline_ms;
}

const uint8_t *ctrler_server_cluster_id(const struct ctrler_server *server)
{
    return ctrler_sm_is_initialized(server->sm) ? ctrler_sm_latest(server->sm)->cluster_id : NULL;
}

bool ctrler_server_shards_conflict(const struct ctrler_server *server, uint32_t *shards)
{
    *shards = ctrler_sm_latest(server->sm)->n_shards;
    ASSERT(*shards == 0 || shard_count_is_valid(*shards));
    return *shards != 0 && server->options.n_shards != 0 && server->options.n_shards != *shards;
}

struct group *ctrler_server_group(const struct ctrler_server *server)
{
    return server->group;
}

const struct ctrler_sm *ctrler_server_sm(const struct ctrler_server *server)
{
    return server->sm;
}

const struct serve *ctrler_server_serve(const struct ctrler_server *server)
{
    return server->serve;
}

bool ctrler_server_is_halted(const struct ctrler_server *server)
{
    return server->halted;
}
