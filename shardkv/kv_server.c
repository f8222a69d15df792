/* kv_server: see kv_server.h. Events go to those whom they concern; at the end of each turn the
 * parts that act by themselves (config_watch, migrate, release, confirm, report, census) take a
 * step, before the group so that their proposals ride along, and after it so that they see what was
 * applied. */
#include "shardkv/kv_server_internal.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define MAX_ENDPOINTS  65536
#define LOAD_WINDOW_MS 200

void kv_server_options_default(struct kv_server_options *options, group_id gid, raft_id id,
                               uint64_t seed)
{
    *options = (struct kv_server_options){.seed = seed,
                                          .version = "",
                                          .max_pending = 32768,
                                          .max_sessions = SESSION_MAX_RECORDS,
                                          .poll_ms = 100,
                                          .migrate = {.max_copies = 8, .piece_bytes = 256u << 10}};
    group_options_default(&options->group, gid, id, seed);
}

/* ---- The service of the group ---- */

static enum status service_apply(void *service, const struct rsm_command *command,
                                 struct buf *result)
{
    return kv_sm_apply(((struct kv_server *)service)->sm, command, result);
}

static void service_ranges(void *service, uint64_t **ranges, size_t *n, size_t *capacity)
{
    kv_sm_ranges(((struct kv_server *)service)->sm, ranges, n, capacity);
}

static enum status service_restore(void *service)
{
    return kv_sm_restore(((struct kv_server *)service)->sm);
}

static void service_save(void *service)
{
    kv_sm_save(((struct kv_server *)service)->sm);
}

static bool service_save_part(void *service)
{
    return kv_sm_save_part(((struct kv_server *)service)->sm);
}

static uint64_t service_stamp_floor(void *service)
{
    return kv_sm_stamp_floor(((struct kv_server *)service)->sm);
}

/* The parts look at the group's role themselves, at the end of each turn; only who waits for a
 * write is told at once. A leader that steps down within its term heard no majority (CheckQuorum,
 * thesis 6.2): what becomes of its entries it may learn much later, and a client that is told so
 * asks another replica, under the same sequence number. One that steps down for a higher term soon
 * learns their end from the new leader. */
static void service_role_changed(void *service, enum raft_role role, raft_term term, raft_id leader)
{
    struct kv_server *server = service;

    (void)leader;
    if (role == RAFT_LEADER) {
        server->led_term = term;
    } else if (term == server->led_term) {
        kv_server_give_writes_up(server);
    }
}

/* ---- The way to other servers ---- */

static void transport_send(void *context, group_id gid, const char *url, struct buf *message)
{
    struct kv_server *server = context;
    struct io_net *net = server->world.net;
    io_endpoint endpoint = net->ops->endpoint(net, gid, url);

    ASSERT(endpoint > 0);
    if (endpoint >= MAX_ENDPOINTS) { /* who joins ever new addresses gets no answer from the next */
        buf_fini(message);
        return;
    }
    if (endpoint >= server->n_urls) {
        size_t n = mem_grown_capacity(server->n_urls, endpoint + 1);

        server->urls = mem_realloc(server->urls, n * sizeof(server->urls[0]));
        memset(server->urls + server->n_urls, 0, (n - server->n_urls) * sizeof(server->urls[0]));
        server->n_urls = n;
    }
    ASSERT(strlen(url) <= SPEC_MAX_URL);
    memcpy(server->urls[endpoint], url, strlen(url) + 1);
    net->ops->endpoint_send(net, endpoint, message);
}

static void endpoint_down(struct kv_server *server, io_endpoint endpoint)
{
    char url[SPEC_MAX_URL + 1];

    if (endpoint < server->n_urls && server->urls[endpoint][0] != '\0') {
        /* A copy: calls go on to other servers meanwhile, and the table may move. */
        memcpy(url, server->urls[endpoint], sizeof(url));
        caller_on_down(server->caller, server->context.now_ms, url);
    }
}

/* ---- Life ---- */

static void create_sm(struct kv_server *server)
{
    struct kv_sm_options options = {.gid = server->options.group.group,
                                    .state = server->world.state,
                                    .max_sessions = server->options.max_sessions,
                                    .trace = server->options.group.trace};

    server->sm = kv_sm_create(&options);
    server->ops = (struct rsm_service_ops){.apply = service_apply,
                                           .ranges = service_ranges,
                                           .restore = service_restore,
                                           .stamp_floor = service_stamp_floor,
                                           .role_changed = service_role_changed,
                                           .save = service_save,
                                           .save_part = service_save_part};
}

static void create_clients(struct kv_server *server)
{
    struct caller_options options;
    uint8_t client_id[16];

    caller_options_default(&options);
    options.seed = rng_next(&server->context.rng);
    options.transport = (struct caller_transport){.context = server, .send = transport_send};
    options.trace = server->options.group.trace;
    server->caller = caller_create(&options);
    set_u64(client_id, rng_next(&server->context.rng));
    set_u64(client_id + 8, rng_next(&server->context.rng));
    server->clerk = ctrler_clerk_create(server->caller, &server->options.ctrlers, client_id);
}

static void create_serve(struct kv_server *server, uint64_t now_ms)
{
    struct serve_options options = {.net = server->world.net,
                                    .log = server->world.log,
                                    .group = server->group,
                                    .gid = server->options.group.group,
                                    .id = server->options.group.raft.id,
                                    .incarnation = server->options.incarnation,
                                    .version = server->options.version,
                                    .start_ms = now_ms,
                                    .max_pending = server->options.max_pending,
                                    .status = kv_server_status,
                                    .config = kv_server_config,
                                    .context = server,
                                    .trace = server->options.group.trace};

    server->serve = serve_create(&options);
}

static void create_parts(struct kv_server *server)
{
    server->context.group = server->group;
    server->context.sm = server->sm;
    server->context.caller = server->caller;
    server->context.clerk = server->clerk;
    server->context.trace = server->options.group.trace;
    server->watch = config_watch_create(&server->context, server->options.poll_ms);
    server->migrate = migrate_create(&server->context, &server->options.migrate);
    server->release = release_create(&server->context);
    server->confirm = confirm_create(&server->context);
    server->report = report_create(&server->context);
    server->census = census_create(&server->context, server->world.state);
    server->rejoin =
        rejoin_create_for(&server->options.group, server->world.net, server->options.rejoins,
                          server->options.seed, server->context.now_ms);
}

enum status kv_server_create(const struct kv_server_options *options,
                             const struct group_world *world, struct io_log_content *log,
                             const struct io_state_meta *state_meta, uint64_t now_ms,
                             struct kv_server **result)
{
    struct kv_server *server = mem_zalloc(sizeof(*server));
    enum status status;

    ASSERT(options->group.group != 0);
    ASSERT(options->ctrlers.n > 0);
    server->options = *options;
    server->world = *world;
    server->context.now_ms = now_ms;
    rng_init(&server->context.rng, options->seed);
    for (uint32_t i = 0; i < KV_LATER_LEVELS; i++) {
        TAILQ_INIT(&server->later.levels[i]);
    }
    TAILQ_INIT(&server->later.unconfirmed);
    TAILQ_INIT(&server->parked);
    TAILQ_INIT(&server->parked_reads);
    TAILQ_INIT(&server->writes);
    server->load_since_ms = now_ms;
    strain_init(&server->context.strain, now_ms);
    create_sm(server);
    status = group_create(&server->options.group, world, &server->ops, server, log, state_meta,
                          now_ms, &server->group);
    if (status != ST_OK) {
        kv_sm_destroy(&server->sm);
        mem_free(server);
        *result = NULL;
        return status;
    }
    create_clients(server);
    create_serve(server, now_ms);
    create_parts(server);
    *result = server;
    return ST_OK;
}

/* First those whose end answers what is outstanding, then those who are told. */
void kv_server_destroy(struct kv_server **server_pointer)
{
    struct kv_server *server = *server_pointer;

    if (server == NULL) {
        return;
    }
    kv_server_drop_reads(server, 0);
    kv_server_drop_parked(server);
    group_destroy(&server->group);
    ctrler_clerk_destroy(&server->clerk);
    caller_destroy(&server->caller);
    serve_destroy(&server->serve);
    rejoin_destroy(&server->rejoin);
    census_destroy(&server->census);
    confirm_destroy(&server->confirm);
    report_destroy(&server->report);
    release_destroy(&server->release);
    migrate_destroy(&server->migrate);
    config_watch_destroy(&server->watch);
    kv_sm_destroy(&server->sm);
    mem_free(server->urls);
    buf_fini(&server->command);
    mem_free(server->freezes);
    mem_free(server);
    *server_pointer = NULL;
}

/* ---- Events ---- */

void kv_server_dispatch(struct kv_server *server, const struct serve_ticket *ticket,
                        const struct proto_request *request)
{
    switch (request->op) {
    case PROTO_GET:
        kv_server_get(server, ticket, request);
        return;
    case PROTO_WRITE:
        kv_server_write(server, ticket, request);
        return;
    case PROTO_SCAN:
        kv_server_scan(server, ticket, request);
        return;
    case PROTO_SHARD_PULL:
        kv_server_pull(server, ticket, request);
        return;
    case PROTO_SHARD_RELEASE:
        kv_server_release(server, ticket, request);
        return;
    case PROTO_SHARD_WHERE:
        kv_server_where(server, ticket, request);
        return;
    default:
        serve_refuse(server->serve, ticket, ST_INVALID, "this is a shard server");
        return;
    }
}

static void client_message(struct kv_server *server, const struct io_event *event)
{
    struct proto_request request;
    struct serve_ticket ticket;

    if (serve_message(server->serve, event, &request, &ticket)) {
        server->load_count += request.op == PROTO_GET || request.op == PROTO_WRITE;
        if (!kv_server_park(server, &ticket, &request, event->client.message)) {
            kv_server_dispatch(server, &ticket, &request);
        }
        proto_request_fini(&request);
    }
}

static void measure_load(struct kv_server *server)
{
    uint64_t elapsed_ms = server->context.now_ms - server->load_since_ms;

    if (elapsed_ms >= LOAD_WINDOW_MS) {
        server->context.load = (uint32_t)(server->load_count * 1000ull / elapsed_ms);
        server->load_count = 0;
        server->load_since_ms = server->context.now_ms;
    }
}

/* The parts act for a leader that is ready, and count on a state machine that was read in full: not
 * so when the replica halted because it could not. */
static void step_parts(struct kv_server *server)
{
    if (group_is_halted(server->group)) {
        return;
    }
    config_watch_step(server->watch);
    migrate_step(server->migrate);
    release_step(server->release);
    confirm_step(server->confirm);
    report_step(server->report);
    census_step(server->census);
}

static void turn_end(struct kv_server *server, const struct io_event *event)
{
    uint64_t n_proposals;
    uint32_t n_parked;

    server->wake = false;
    server->turn_bytes = 0;
    kv_server_read_later_ones(server);
    step_parts(server);
    group_step(server->group, event);
    n_proposals = server->context.n_proposals;
    step_parts(server);
    n_parked = server->n_parked;
    kv_server_unpark(server);
    server->wake = server->context.n_proposals != n_proposals || n_parked != server->n_parked ||
                   server->later.n > 0;
}

void kv_server_step(struct kv_server *server, const struct io_event *event)
{
    server->context.now_ms = event->now_ms;
    server->wall_us = event->wall_us;
    measure_load(server);
    strain_step(&server->context.strain, event->now_ms);
    serve_observe(server->serve, event);
    switch (event->type) {
    case IO_EVENT_CLIENT_MESSAGE:
        client_message(server, event);
        break;
    case IO_EVENT_CLIENT_CLOSED: /* the network drops answers to it */
        kv_server_drop_reads(server, event->client.conn);
        break;
    case IO_EVENT_ENDPOINT_MESSAGE:
        caller_on_message(server->caller, event->now_ms, event->endpoint.message);
        break;
    case IO_EVENT_ENDPOINT_DOWN:
        endpoint_down(server, event->endpoint.endpoint);
        break;
    case IO_EVENT_TICK:
        caller_tick(server->caller, event->now_ms);
        group_step(server->group, event);
        break;
    case IO_EVENT_TURN_END:
        turn_end(server, event);
        break;
    default:
        group_step(server->group, event);
        break;
    }
    rejoin_step(server->rejoin, event);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t kv_server_next_deadline_ms(const struct kv_server *server)
{
    uint64_t deadline_ms = group_next_deadline_ms(server->group);

    if (server->wake) {
        return server->context.now_ms;
    }
    deadline_ms = earlier(deadline_ms, kv_server_park_deadline_ms(server));
    deadline_ms = earlier(deadline_ms, caller_next_deadline_ms(server->caller));
    deadline_ms = earlier(deadline_ms, config_watch_next_deadline_ms(server->watch));
    deadline_ms = earlier(deadline_ms, migrate_next_deadline_ms(server->migrate));
    deadline_ms = earlier(deadline_ms, release_next_deadline_ms(server->release));
    deadline_ms = earlier(deadline_ms, census_next_deadline_ms(server->census));
    deadline_ms = earlier(deadline_ms, report_next_deadline_ms(server->report));
    deadline_ms = earlier(deadline_ms, rejoin_next_deadline_ms(server->rejoin));
    return earlier(deadline_ms, confirm_next_deadline_ms(server->confirm));
}

const uint8_t *kv_server_cluster_id(const struct kv_server *server)
{
    const struct kv_meta *meta = kv_sm_meta(server->sm);

    return meta->is_init ? meta->cluster_id : NULL;
}

struct group *kv_server_group(struct kv_server *server)
{
    return server->group;
}

const struct kv_sm *kv_server_sm(const struct kv_server *server)
{
    return server->sm;
}
