/* rejoin: see rejoin.h. One request is outstanding at a time, or a pause. */
#include "client/rejoin.h"

#include <stdio.h>

#include "client/caller.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define LOOK_TIMEOUT_MS   2000
#define CHANGE_TIMEOUT_MS 10000
#define LOOK_PAUSE_MS     500
#define REFUSED_PAUSE_MS  2000
#define MAX_ENDPOINTS     64
#define ALIVE_TIMEOUTS    5           /* election timeouts without a word make a replica gone */
#define SEED_TAG          0x72656a6fu /* its numbers are other ones than the server's own */

struct rejoin {
    struct rejoin_options options;
    struct caller *caller;
    uint64_t now_ms;
    struct spec others;            /* whom to ask: the other replicas */
    size_t next;                   /* of them, who is asked next */
    char leader[SPEC_MAX_URL + 1]; /* who leads, as the last answer said; "" if unknown */
    char urls[MAX_ENDPOINTS][SPEC_MAX_URL + 1]; /* by endpoint number; "" if not ours */
    bool is_asking;
    bool done;
    uint64_t due_ms;
    const char *said; /* the last that was traced: the same is not said again and again */
};

/* ---- The way to the others ---- */

static void transport_send(void *context, uint32_t gid, const char *url, struct buf *message)
{
    struct rejoin *rejoin = context;
    struct io_net *net = rejoin->options.net;
    io_endpoint endpoint = net->ops->endpoint(net, gid, url);

    ASSERT(endpoint > 0 && strlen(url) <= SPEC_MAX_URL);
    if (endpoint < MAX_ENDPOINTS) {
        memcpy(rejoin->urls[endpoint], url, strlen(url) + 1);
    }
    net->ops->endpoint_send(net, endpoint, message);
}

static void say(struct rejoin *rejoin, enum trace_level level, const char *what)
{
    if (rejoin->said != what) {
        TRACE(rejoin->options.trace, level, "rebuild: %s", what);
        rejoin->said = what;
    }
}

static void rest(struct rejoin *rejoin, uint32_t pause_ms)
{
    ASSERT(!rejoin->is_asking);
    rejoin->due_ms = rejoin->now_ms + pause_ms;
}

/* ---- Changes ---- */

static void on_changed(void *context, const struct caller_end *end)
{
    struct rejoin *rejoin = context;

    ASSERT(rejoin->is_asking);
    rejoin->is_asking = false;
    rejoin->now_ms = end->now_ms;
    if (end->status == ST_OK) {
        rest(rejoin, 0);
        return;
    }
    if (end->status != ST_CANCELLED) {
        trace_warn(rejoin->options.trace, "rebuild: the group refused: status=%s reason=\"%s\"",
                   status_name(end->status), end->reason);
    }
    rejoin->said = NULL;
    rest(rejoin, REFUSED_PAUSE_MS);
}

/* The change means the configuration that was told. */
static void order(struct rejoin *rejoin, const struct proto_replicas *told,
                  enum proto_replica_change change)
{
    struct proto_request request = {.op = PROTO_REPLICA};
    struct caller_target target = {.gid = rejoin->options.gid, .replicas = rejoin->others};

    request.replica.kind = change;
    request.replica.gid = rejoin->options.gid;
    request.replica.id = rejoin->options.id;
    request.replica.configuration_index = told->configuration_index;
    if (change == PROTO_REPLICA_ADD) {
        request.replica.url =
            slice_text(spec_find(&rejoin->options.replicas, rejoin->options.id)->url);
    }
    memcpy(target.prefer, rejoin->leader, sizeof(target.prefer));
    rejoin->is_asking = true;
    caller_start(rejoin->caller, &target, &request, false, rejoin->now_ms,
                 rejoin->now_ms + CHANGE_TIMEOUT_MS, on_changed, rejoin);
}

/* ---- Looking ---- */

/* What the leader's list of the group asks for. */
static void act_on(struct rejoin *rejoin, const struct proto_replicas *told,
                   const struct proto_replica *self)
{
    if (self == NULL) {
        say(rejoin, TRACE_INFO, "asks the group to be added");
        order(rejoin, told, PROTO_REPLICA_ADD);
        return;
    }
    /* A learner without an incarnation was added and not heard from yet: that is this one. */
    if (self->incarnation == rejoin->options.incarnation ||
        (self->incarnation == 0 && (self->flags & PROTO_REPLICA_LEARNER) != 0)) {
        rejoin->done = (self->flags & PROTO_REPLICA_VOTER) != 0;
        say(rejoin, TRACE_INFO,
            rejoin->done ? "done: this replica votes" : "is a learner, and catches up");
        rest(rejoin, LOOK_PAUSE_MS);
        return;
    }
    /* Whoever is under this id now has other data: it may go only if it is gone. */
    if (self->heard_ms <= rejoin->options.alive_ms &&
        self->heard_incarnation != rejoin->options.incarnation) {
        say(rejoin, TRACE_WARN,
            "waits: another replica under this id is alive, or was just now; is it still running?");
        rest(rejoin, REFUSED_PAUSE_MS);
        return;
    }
    say(rejoin, TRACE_INFO, "asks the group to remove what this replica was before");
    order(rejoin, told, PROTO_REPLICA_REMOVE);
}

/* The others as the answer lists them: some may be new. */
static void learn_others(struct rejoin *rejoin, const struct proto_replicas *told)
{
    struct spec others = {0};

    for (uint32_t i = 0; i < told->n && others.n < SPEC_MAX_REPLICAS; i++) {
        const struct proto_replica *row = &told->replicas[i];
        struct spec_replica *other = &others.replicas[others.n];

        if (row->id == rejoin->options.id || (row->flags & PROTO_REPLICA_LEARNER) != 0) {
            continue;
        }
        ASSERT(row->url.len <= SPEC_MAX_URL);
        *other = (struct spec_replica){.id = row->id}; /* the one before may have been no URL */
        if (row->url.len > 0) {
            memcpy(other->url, row->url.data, row->url.len);
        }
        if (spec_check_url(other->url) != NULL) {
            continue;
        }
        others.n++;
        if (row->id == told->leader) {
            memcpy(rejoin->leader, other->url, sizeof(rejoin->leader));
        }
    }
    if (others.n > 0) {
        rejoin->others = others;
    }
}

static void on_told(void *context, const struct caller_end *end)
{
    struct rejoin *rejoin = context;
    const struct proto_replicas *told = end->status == ST_OK ? &end->response->replicas : NULL;
    const struct proto_replica *self = NULL;

    ASSERT(rejoin->is_asking);
    rejoin->is_asking = false;
    rejoin->now_ms = end->now_ms;
    rejoin->leader[0] = '\0';
    if (told == NULL || told->gid != rejoin->options.gid || told->n == 0 ||
        told->configuration_index == 0) {
        say(rejoin, TRACE_WARN, "waits for a replica of its group to answer");
        rejoin->next++;
        rest(rejoin, LOOK_PAUSE_MS);
        return;
    }
    learn_others(rejoin, told);
    if (told->leader != told->id) { /* the leader itself is asked next, if it is known */
        rejoin->next++;
        rest(rejoin, rejoin->leader[0] != '\0' ? 0 : LOOK_PAUSE_MS);
        return;
    }
    for (uint32_t i = 0; i < told->n; i++) {
        if (told->replicas[i].id == rejoin->options.id) {
            self = &told->replicas[i];
        }
    }
    act_on(rejoin, told, self);
}

static void look(struct rejoin *rejoin)
{
    struct proto_request request = {.op = PROTO_REPLICAS};
    struct caller_target target = {.gid = rejoin->options.gid, .only_prefer = true};
    const char *url = rejoin->leader[0] != '\0'
                          ? rejoin->leader
                          : rejoin->others.replicas[rejoin->next % rejoin->others.n].url;

    memcpy(target.prefer, url, strlen(url) + 1);
    rejoin->is_asking = true;
    caller_start(rejoin->caller, &target, &request, true, rejoin->now_ms,
                 rejoin->now_ms + LOOK_TIMEOUT_MS, on_told, rejoin);
}

/* ---- Life ---- */

struct rejoin *rejoin_create(const struct rejoin_options *options, uint64_t now_ms)
{
    struct rejoin *rejoin = mem_zalloc(sizeof(*rejoin));
    struct caller_options caller;

    ASSERT(spec_find(&options->replicas, options->id) != NULL);
    ASSERT(options->replicas.n >= 2 && options->incarnation != 0);
    rejoin->options = *options;
    rejoin->now_ms = rejoin->due_ms = now_ms;
    for (size_t i = 0; i < options->replicas.n; i++) {
        if (options->replicas.replicas[i].id != options->id) {
            rejoin->others.replicas[rejoin->others.n++] = options->replicas.replicas[i];
        }
    }
    caller_options_default(&caller);
    caller.seed = options->seed;
    caller.transport = (struct caller_transport){.context = rejoin, .send = transport_send};
    caller.trace = options->trace;
    rejoin->caller = caller_create(&caller);
    return rejoin;
}

struct rejoin *rejoin_create_for(const struct group_options *group, struct io_net *net,
                                 const struct spec *replicas, uint64_t seed, uint64_t now_ms)
{
    struct rejoin_options options = {.net = net,
                                     .gid = group->group,
                                     .id = group->raft.id,
                                     .incarnation = group->raft.incarnation,
                                     .alive_ms = ALIVE_TIMEOUTS * group->raft.election_timeout_ms,
                                     .seed = seed ^ SEED_TAG,
                                     .trace = group->trace};

    if (replicas == NULL) {
        return NULL;
    }
    options.replicas = *replicas;
    return rejoin_create(&options, now_ms);
}

void rejoin_destroy(struct rejoin **rejoin)
{
    if (*rejoin == NULL) {
        return;
    }
    caller_destroy(&(*rejoin)->caller);
    mem_free(*rejoin);
    *rejoin = NULL;
}

bool rejoin_is_done(const struct rejoin *rejoin)
{
    return rejoin->done;
}

static void endpoint_down(struct rejoin *rejoin, io_endpoint endpoint)
{
    char url[SPEC_MAX_URL + 1];

    if (endpoint < MAX_ENDPOINTS && rejoin->urls[endpoint][0] != '\0') {
        memcpy(url, rejoin->urls[endpoint], sizeof(url));
        caller_on_down(rejoin->caller, rejoin->now_ms, url);
    }
}

void rejoin_step(struct rejoin *rejoin, const struct io_event *event)
{
    if (rejoin == NULL) {
        return;
    }
    rejoin->now_ms = event->now_ms;
    switch (event->type) {
    case IO_EVENT_ENDPOINT_MESSAGE:
        caller_on_message(rejoin->caller, event->now_ms, event->endpoint.message);
        break;
    case IO_EVENT_ENDPOINT_DOWN:
        endpoint_down(rejoin, event->endpoint.endpoint);
        break;
    case IO_EVENT_TICK:
        caller_tick(rejoin->caller, event->now_ms);
        break;
    default:
        break;
    }
    if (!rejoin->done && !rejoin->is_asking && event->now_ms >= rejoin->due_ms) {
        look(rejoin);
    }
}

uint64_t rejoin_next_deadline_ms(const struct rejoin *rejoin)
{
    uint64_t next;

    if (rejoin == NULL || (rejoin->done && !rejoin->is_asking)) {
        return UINT64_MAX;
    }
    next = caller_next_deadline_ms(rejoin->caller);
    return !rejoin->is_asking && rejoin->due_ms < next ? rejoin->due_ms : next;
}
