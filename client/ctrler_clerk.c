/* The controller's verbs on top of caller: what a change's identity is, and what its end means.
 *
 * A change keeps its sequence number and its issued_at through all tries of its call. If the
 * session rule (raft/rsm.h) answers SESSION_EXPIRED, nothing was applied by that try: with no other
 * try of unknown end the change is issued anew under the time that the answer told. */
#include "client/ctrler_clerk.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define MAX_REISSUES 16 /* a server that goes on like this is broken */
#define TEXT_SIZE    256

struct ctrler_clerk {
    struct caller *caller;
    struct caller_target target;
    struct spec original; /* those given at first */
    struct spec other;    /* asked when nobody of the target answers: those given at first, or
                             the last ones that were learnt */
    uint64_t turns;       /* how often the target's replicas changed */
    uint8_t client_id[16];
    uint64_t next_seq;
    uint64_t time; /* the highest that an answer told */
    const char *reason;
    struct ctrler_operation *first, *last; /* outstanding, oldest first */
};

struct ctrler_operation {
    struct ctrler_clerk *clerk;
    struct ctrler_operation *previous, *next;
    uint64_t call;
    uint64_t turn; /* clerk->turns when the call was made: whom it asks */
    uint64_t deadline_ms;
    struct proto_request request;  /* with memory of its own */
    struct proto_session *session; /* inside request; NULL for verbs without */
    uint32_t reissues;
    ctrler_clerk_config config_done;
    ctrler_clerk_changed changed;
    ctrler_clerk_planned planned;
    void *context;
};

struct ctrler_clerk *ctrler_clerk_create(struct caller *caller, const struct spec *ctrlers,
                                         const uint8_t client_id[16])
{
    struct ctrler_clerk *clerk = mem_zalloc(sizeof(*clerk));

    ASSERT(caller != NULL && ctrlers->n >= 1);
    clerk->caller = caller;
    clerk->target.replicas = *ctrlers;
    clerk->other = *ctrlers;
    clerk->original = *ctrlers;
    memcpy(clerk->client_id, client_id, sizeof(clerk->client_id));
    clerk->next_seq = 1;
    clerk->reason = "";
    return clerk;
}

void ctrler_clerk_destroy(struct ctrler_clerk **clerk)
{
    while ((*clerk)->first != NULL) {
        struct ctrler_operation *first = (*clerk)->first;

        caller_cancel((*clerk)->caller, first->call);
        ASSERT((*clerk)->first != first);
    }
    mem_free(*clerk);
    *clerk = NULL;
}

uint64_t ctrler_clerk_time(const struct ctrler_clerk *clerk)
{
    uint64_t heard = caller_cluster_time(clerk->caller);

    return heard > clerk->time ? heard : clerk->time;
}

void ctrler_clerk_follow(struct ctrler_clerk *clerk, const struct spec *ctrlers)
{
    ASSERT(ctrlers->n >= 1);
    if (!spec_equal(&clerk->target.replicas, ctrlers)) {
        clerk->target.replicas = *ctrlers;
        clerk->other = clerk->original;
        clerk->turns++;
    }
}

/* Nobody answered the operation: perhaps the controllers that were learnt are all gone, and those
 * that were given at first serve, or the reverse. Of several that asked the same ones in vain, the
 * first turns to the others. */
static void try_others(struct ctrler_clerk *clerk, const struct ctrler_operation *operation)
{
    struct spec target = clerk->target.replicas;

    if (operation->turn != clerk->turns) {
        return;
    }
    clerk->target.replicas = clerk->other;
    clerk->other = target;
    clerk->turns++;
}

const struct spec *ctrler_clerk_ctrlers(const struct ctrler_clerk *clerk)
{
    return &clerk->target.replicas;
}

const char *ctrler_clerk_reason(const struct ctrler_clerk *clerk)
{
    return clerk->reason;
}

/* ---- Operations ---- */

static struct ctrler_operation *operation_create(struct ctrler_clerk *clerk, enum proto_op op,
                                                 uint64_t deadline_ms, void *context)
{
    struct ctrler_operation *operation = mem_zalloc(sizeof(*operation));

    operation->clerk = clerk;
    operation->request.op = op;
    operation->deadline_ms = deadline_ms;
    operation->context = context;
    operation->previous = clerk->last;
    if (clerk->last != NULL) {
        clerk->last->next = operation;
    } else {
        clerk->first = operation;
    }
    clerk->last = operation;
    return operation;
}

static void operation_destroy(struct ctrler_operation *operation)
{
    struct ctrler_clerk *clerk = operation->clerk;

    if (operation->previous != NULL) {
        operation->previous->next = operation->next;
    } else {
        clerk->first = operation->next;
    }
    if (operation->next != NULL) {
        operation->next->previous = operation->previous;
    } else {
        clerk->last = operation->previous;
    }
    proto_request_fini(&operation->request);
    mem_free(operation);
}

/* All sequence numbers below the lowest outstanding one are answered or given up. Changes that had
 * to ask for the time first have theirs in the order of the answers, not of the list. */
static uint64_t acked_seq(const struct ctrler_clerk *clerk)
{
    uint64_t lowest = clerk->next_seq;

    for (const struct ctrler_operation *at = clerk->first; at != NULL; at = at->next) {
        if (at->session != NULL && at->session->seq != 0 && at->session->seq < lowest) {
            lowest = at->session->seq;
        }
    }
    return lowest - 1;
}

static void operation_done(void *context, const struct caller_end *end);

static bool is_read(const struct proto_request *request)
{
    return request->op == PROTO_CONFIG || request->dry_run;
}

static void ask(struct ctrler_operation *operation, const struct proto_request *request, bool reads,
                uint64_t now_ms, caller_done done)
{
    struct ctrler_clerk *clerk = operation->clerk;

    operation->turn = clerk->turns;
    operation->call = caller_start(clerk->caller, &clerk->target, request, reads, now_ms,
                                   operation->deadline_ms, done, operation);
}

static void start_call(struct ctrler_operation *operation, uint64_t now_ms)
{
    ask(operation, &operation->request, is_read(&operation->request), now_ms, operation_done);
}

/* Gives the change its identity and sends it. */
static void issue_change(struct ctrler_operation *operation, uint64_t now_ms)
{
    struct ctrler_clerk *clerk = operation->clerk;
    struct proto_session *session = operation->session;

    memcpy(session->client, clerk->client_id, sizeof(session->client));
    session->acked_seq = acked_seq(clerk);
    session->seq = clerk->next_seq++;
    session->issued_at = ctrler_clerk_time(clerk);
    ASSERT(session->acked_seq < session->seq);
    start_call(operation, now_ms);
}

static void time_learned(void *context, const struct caller_end *end);

/* A change whose issued_at were 0 would be answered SESSION_EXPIRED, and after a lost try that
 * leaves its end unknown: so a clerk that has not heard the cluster's time yet asks for it first,
 * by the smallest of all queries. */
static void start_change(struct ctrler_operation *operation, struct proto_session *session,
                         uint64_t now_ms)
{
    struct proto_request question = {.op = PROTO_CONFIG}; /* number 0 */

    operation->session = session;
    if (ctrler_clerk_time(operation->clerk) > 0) {
        issue_change(operation, now_ms);
        return;
    }
    ask(operation, &question, true, now_ms, time_learned);
}

/* ---- Ends ---- */

/* What the end means for the change as a whole. A result that the session rule keeps stands even if
 * an earlier try got lost: that try would have been answered the same. */
static enum status final_status(const struct caller_end *end)
{
    switch (end->status) {
    case ST_OK:
    case ST_NOT_FOUND:
    case ST_EXISTS:
    case ST_NO_GROUP:
    case ST_CONFLICT:
    case ST_TOO_LARGE:
        return end->status;
    default:
        return end->maybe_applied ? ST_UNKNOWN : end->status;
    }
}

static void end_query(struct ctrler_operation *operation, const struct caller_end *end)
{
    struct shard_config config;
    enum status status = end->status;
    struct reader reader;

    if (status == ST_OK) {
        reader = reader_of(end->response->config_reply.encoded);
        status = shard_config_decode(&reader, &config) ? ST_OK : ST_MALFORMED;
    }
    if (status == ST_OK && config.ctrlers.n > 0) {
        ctrler_clerk_follow(operation->clerk, &config.ctrlers);
    }
    operation->config_done(operation->context, status, status == ST_OK ? &config : NULL);
    if (status == ST_OK) {
        shard_config_fini(&config);
    }
}

/* What a refusal says, as a string; empty with ST_OK. */
static void copy_text(const struct caller_end *end, char text[TEXT_SIZE])
{
    size_t len = end->status == ST_OK ? 0 : end->response->text.len;

    len = len < TEXT_SIZE ? len : TEXT_SIZE - 1;
    memcpy(text, len > 0 ? (const char *)end->response->text.data : "", len);
    text[len] = '\0';
}

static void end_plan(struct ctrler_operation *operation, const struct caller_end *end)
{
    enum status status = end->status;
    struct shard_config config;
    struct reader reader;
    char text[TEXT_SIZE];

    ASSERT(!end->maybe_applied);
    if (status == ST_OK) {
        reader = reader_of(end->response->admin.planned);
        status = shard_config_decode(&reader, &config) ? ST_OK : ST_MALFORMED;
    }
    if (end->response != NULL) {
        copy_text(end, text);
    }
    operation->planned(operation->context, status, status == ST_OK ? &config : NULL,
                       end->response != NULL ? text : end->reason);
    if (status == ST_OK) {
        shard_config_fini(&config);
    }
}

/* Of the configuration made; what makes none tells the one that the controller is at. */
static config_num number_of(const struct ctrler_operation *operation, const struct caller_end *end)
{
    return operation->session != NULL ? end->response->admin.num : end->response->config;
}

static void end_change(struct ctrler_operation *operation, const struct caller_end *end)
{
    enum status status = final_status(end);
    bool answered = end->response != NULL && status == end->status;
    char text[TEXT_SIZE];

    if (answered) {
        copy_text(end, text);
    }
    operation->changed(operation->context, status, status == ST_OK ? number_of(operation, end) : 0,
                       answered ? text : end->reason);
}

/* SESSION_EXPIRED, and no try of unknown end: nothing was applied, and may be under the time told.
 */
static bool reissue(struct ctrler_operation *operation, const struct caller_end *end)
{
    if (end->status != ST_SESSION_EXPIRED || end->maybe_applied || operation->session == NULL ||
        ++operation->reissues > MAX_REISSUES) {
        return false;
    }
    /* It may be lower: what was heard from a group whose clock is wrong. */
    if (end->response->cluster_time == 0 ||
        end->response->cluster_time == operation->session->issued_at) {
        operation->session->issued_at++;
    } else {
        operation->session->issued_at = end->response->cluster_time;
    }
    start_call(operation, end->now_ms);
    return true;
}

static void operation_done(void *context, const struct caller_end *end)
{
    struct ctrler_operation *operation = context;
    struct ctrler_clerk *clerk = operation->clerk;

    if (end->response != NULL && end->response->cluster_time > clerk->time) {
        clerk->time = end->response->cluster_time;
    }
    if (end->response == NULL && (end->status == ST_UNAVAILABLE || end->status == ST_TIMEOUT)) {
        try_others(clerk, operation);
    }
    if (reissue(operation, end)) {
        return;
    }
    clerk->reason = end->reason;
    if (operation->config_done != NULL) {
        end_query(operation, end);
    } else if (operation->planned != NULL) {
        end_plan(operation, end);
    } else {
        end_change(operation, end);
    }
    clerk->reason = "";
    operation_destroy(operation);
}

static void time_learned(void *context, const struct caller_end *end)
{
    struct ctrler_operation *operation = context;

    if (end->status != ST_OK) {
        operation_done(operation, end); /* the change itself was never sent */
        return;
    }
    if (end->response->cluster_time > operation->clerk->time) {
        operation->clerk->time = end->response->cluster_time;
    }
    issue_change(operation, end->now_ms);
}

/* ---- Verbs ---- */

void ctrler_clerk_query(struct ctrler_clerk *clerk, config_num num, uint32_t gid,
                        uint64_t incarnation, uint64_t now_ms, uint64_t deadline_ms,
                        ctrler_clerk_config done, void *context)
{
    struct ctrler_operation *operation =
        operation_create(clerk, PROTO_CONFIG, deadline_ms, context);

    operation->config_done = done;
    operation->request.config.num = num;
    operation->request.config.gid = gid;
    operation->request.config.incarnation = incarnation;
    start_call(operation, now_ms);
}

void ctrler_clerk_join(struct ctrler_clerk *clerk, const struct proto_join_group *groups,
                       uint32_t n, uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                       void *context)
{
    struct ctrler_operation *operation = operation_create(clerk, PROTO_JOIN, deadline_ms, context);

    ASSERT(n >= 1 && n <= PROTO_MAX_GROUPS);
    operation->changed = done;
    operation->request.join.n = n;
    operation->request.join.groups = mem_copy(groups, n * sizeof(groups[0]));
    start_change(operation, &operation->request.join.session, now_ms);
}

void ctrler_clerk_leave(struct ctrler_clerk *clerk, const uint32_t *gids, uint32_t n,
                        uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                        void *context)
{
    struct ctrler_operation *operation = operation_create(clerk, PROTO_LEAVE, deadline_ms, context);

    ASSERT(n >= 1 && n <= PROTO_MAX_GROUPS);
    operation->changed = done;
    operation->request.leave.n = n;
    operation->request.leave.gids = mem_copy(gids, n * sizeof(gids[0]));
    start_change(operation, &operation->request.leave.session, now_ms);
}

void ctrler_clerk_move(struct ctrler_clerk *clerk, shard_id shard, uint32_t gid, uint64_t now_ms,
                       uint64_t deadline_ms, ctrler_clerk_changed done, void *context)
{
    struct ctrler_operation *operation = operation_create(clerk, PROTO_MOVE, deadline_ms, context);

    ASSERT(shard < SHARD_MAX_COUNT);
    operation->changed = done;
    operation->request.move.shard = shard;
    operation->request.move.gid = gid;
    start_change(operation, &operation->request.move.session, now_ms);
}

void ctrler_clerk_pause(struct ctrler_clerk *clerk, bool paused, uint64_t now_ms,
                        uint64_t deadline_ms, ctrler_clerk_changed done, void *context)
{
    struct ctrler_operation *operation = operation_create(clerk, PROTO_PAUSE, deadline_ms, context);

    operation->changed = done;
    operation->request.pause.paused = paused;
    start_change(operation, &operation->request.pause.session, now_ms);
}

void ctrler_clerk_plan(struct ctrler_clerk *clerk, const struct proto_request *change,
                       uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_planned done,
                       void *context)
{
    struct ctrler_operation *operation = operation_create(clerk, change->op, deadline_ms, context);
    struct proto_request *request = &operation->request;

    operation->planned = done;
    request->dry_run = true;
    if (change->op == PROTO_JOIN) {
        request->join.n = change->join.n;
        request->join.groups =
            mem_copy(change->join.groups, change->join.n * sizeof(change->join.groups[0]));
    } else if (change->op == PROTO_LEAVE) {
        request->leave.n = change->leave.n;
        request->leave.gids =
            mem_copy(change->leave.gids, change->leave.n * sizeof(change->leave.gids[0]));
    } else {
        ASSERT(change->op == PROTO_MOVE);
        request->move = change->move;
    }
    start_call(operation, now_ms);
}

void ctrler_clerk_confirm(struct ctrler_clerk *clerk, uint32_t gid, uint64_t incarnation,
                          const struct proto_confirm *shards, uint32_t n, uint64_t now_ms,
                          uint64_t deadline_ms, ctrler_clerk_changed done, void *context)
{
    struct ctrler_operation *operation =
        operation_create(clerk, PROTO_CONFIRM, deadline_ms, context);

    ASSERT(n <= SHARD_MAX_COUNT);
    operation->changed = done;
    operation->request.confirm.gid = gid;
    operation->request.confirm.incarnation = incarnation;
    operation->request.confirm.n = n;
    operation->request.confirm.shards = mem_copy(shards, n * sizeof(shards[0]));
    start_call(operation, now_ms);
}

void ctrler_clerk_report(struct ctrler_clerk *clerk, uint32_t gid, uint64_t incarnation,
                         uint64_t term, uint64_t index, const struct spec *replicas,
                         uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                         void *context)
{
    struct ctrler_operation *operation =
        operation_create(clerk, PROTO_REPORT, deadline_ms, context);

    ASSERT(replicas->n >= 1);
    operation->changed = done;
    operation->request.report.gid = gid;
    operation->request.report.incarnation = incarnation;
    operation->request.report.term = term;
    operation->request.report.index = index;
    operation->request.report.replicas = mem_copy(replicas, sizeof(*replicas));
    start_call(operation, now_ms);
}

void ctrler_clerk_bind(struct ctrler_clerk *clerk, uint32_t gid, uint64_t incarnation,
                       uint64_t now_ms, uint64_t deadline_ms, ctrler_clerk_changed done,
                       void *context)
{
    struct ctrler_operation *operation = operation_create(clerk, PROTO_BIND, deadline_ms, context);

    operation->changed = done;
    operation->request.confirm.gid = gid;
    operation->request.confirm.incarnation = incarnation;
    start_call(operation, now_ms);
}
