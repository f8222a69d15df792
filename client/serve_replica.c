/* serve_replica: the replicas of the own group, told and changed.
 *
 * REPLICAS is answered by this replica alone, from the configuration that it has: a group that has
 * lost its majority can still be looked at. REPLICA orders one change from the group (raft/rsm.h).
 *
 * A change names the configuration that it means, so a try that comes late does nothing to a later
 * one. And it may be repeated: to add who is there under that URL, and to remove who is not there,
 * is OK at once, so a caller whose answer got lost asks again. What holds already is judged by a
 * committed configuration only, and by none that is older than what the caller saw: this may be a
 * leader of the past. While a change is under way the group says that it is busy, and so the next
 * try finds it done.
 *
 * The ends on the wire: the group's ST_UNAVAILABLE (the quorum would break) becomes ST_CONFLICT,
 * which callers take for a definite refusal; the others stay.
 */
#include "client/serve_private.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* ---- Telling ---- */

/* What was heard of the member; NULL: nothing. */
static const struct serve_heard *find_heard(const struct serve *serve,
                                            const struct raft_server *server)
{
    const struct serve_heard *heard = serve->heard[server->id];

    for (int i = 0; i < 2; i++) {
        if (heard[i].at_ms != 0 &&
            (server->incarnation == 0 || heard[i].incarnation == server->incarnation)) {
            return &heard[i];
        }
    }
    return NULL;
}

static void fill_row(const struct serve *serve, const struct raft_server *server, uint64_t now_ms,
                     struct proto_replica *row)
{
    const struct raft *raft = group_raft(serve->options.group);
    struct raft_progress_info progress;
    const struct serve_heard *heard;

    *row = (struct proto_replica){.id = server->id,
                                  .flags = server->flags,
                                  .incarnation = server->incarnation,
                                  .url = slice_text(server->address),
                                  .heard_ms = PROTO_UNKNOWN};
    if (server->id == serve->options.id) {
        row->heard_ms = 0;
        row->match_index = raft_last_index(raft);
        return;
    }
    if (raft_progress(raft, server->id, &progress)) {
        row->match_index = progress.match_index;
    }
    heard = find_heard(serve, server);
    if (heard != NULL) {
        row->heard_ms = now_ms - heard->at_ms;
        row->heard_incarnation = heard->incarnation;
    }
}

void serve_replicas(struct serve *serve, const struct serve_ticket *ticket, uint64_t now_ms)
{
    const struct raft *raft = group_raft(serve->options.group);
    const struct raft_configuration *configuration = raft_latest_configuration(raft);
    struct proto_replica rows[PROTO_MAX_REPLICAS];
    struct proto_response response = {.status = ST_OK};
    struct proto_replicas *told = &response.replicas;

    _Static_assert(PROTO_MAX_REPLICAS == RAFT_MAX_SERVERS, "all of them can be told");
    _Static_assert((int)PROTO_REPLICA_VOTER == (int)RAFT_VOTER &&
                       (int)PROTO_REPLICA_VOTER_OLD == (int)RAFT_VOTER_OLD &&
                       (int)PROTO_REPLICA_LEARNER == (int)RAFT_LEARNER,
                   "flags are told as they are");
    *told = (struct proto_replicas){.gid = serve->options.gid,
                                    .id = serve->options.id,
                                    .incarnation = serve->options.incarnation,
                                    .configuration_index = raft_configuration_index(raft),
                                    .term = raft_current_term(raft),
                                    .leader = raft_leader(raft),
                                    .commit_index = raft_commit_index(raft),
                                    .last_index = raft_last_index(raft),
                                    .last_term = raft_term_at(raft, raft_last_index(raft)),
                                    .replicas = rows};
    told->committed = told->configuration_index <= told->commit_index;
    for (size_t i = 0; i < configuration->n; i++) {
        ASSERT(configuration->servers[i].id <= SPEC_MAX_ID);
        fill_row(serve, &configuration->servers[i], now_ms, &rows[told->n++]);
    }
    serve_send(serve, ticket, &response);
}

void serve_observe(struct serve *serve, const struct io_event *event)
{
    struct serve_heard *heard;

    group_tell_time(serve->options.group, event);
    if (event->type == IO_EVENT_CLIENT_CLOSED) {
        serve_share_close(&serve->share, event->client.conn);
    }
    if (event->type != IO_EVENT_PEER_MESSAGE || event->peer.group != serve->options.gid ||
        event->peer.id > SPEC_MAX_ID) {
        return;
    }
    heard = serve->heard[event->peer.id];
    if (heard[0].at_ms != 0 && heard[0].incarnation != event->peer.incarnation) {
        heard++;
    }
    *heard = (struct serve_heard){event->peer.incarnation, event->now_ms};
}

bool serve_voters(const struct group *group, struct spec *voters)
{
    const struct raft *raft = group_raft(group);
    const struct raft_configuration *configuration = raft_latest_configuration(raft);

    *voters = (struct spec){0};
    if (raft_configuration_index(raft) > raft_commit_index(raft)) {
        return false;
    }
    for (size_t i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        struct spec_replica *voter = &voters->replicas[voters->n];

        if ((server->flags & RAFT_VOTER_OLD) != 0) {
            return false;
        }
        if ((server->flags & RAFT_VOTER) == 0) {
            continue;
        }
        if (voters->n == SPEC_MAX_REPLICAS || spec_check_url(server->address) != NULL) {
            return false;
        }
        voter->id = server->id;
        memcpy(voter->url, server->address, sizeof(voter->url));
        voters->n++;
    }
    return voters->n > 0;
}

/* ---- Changing ---- */

static void change_done(void *context, enum status status, const char *reason,
                        raft_index configuration_index)
{
    struct serve_change *change = context;
    struct serve *serve = change->serve;
    struct proto_response response = {.status = status == ST_UNAVAILABLE ? ST_CONFLICT : status};

    LIST_REMOVE(change, entry);
    if (status == ST_OK) {
        response.replica.configuration_index = configuration_index;
        serve_respond(serve, &change->ticket, &response);
    } else {
        serve_refuse(serve, &change->ticket, response.status,
                     status == ST_NOT_LEADER ? NULL : reason);
    }
    mem_free(change);
}

void serve_drop_changes(struct serve *serve)
{
    struct serve_change *change;

    while ((change = LIST_FIRST(&serve->changes)) != NULL) {
        LIST_REMOVE(change, entry);
        serve_refuse(serve, &change->ticket, ST_UNKNOWN, "the server ended meanwhile");
        mem_free(change);
    }
}

/* Whether the group is already as the change would make it, for good. */
static bool holds_already(const struct serve *serve, const struct group_change *change)
{
    const struct raft *raft = group_raft(serve->options.group);
    const struct raft_server *server =
        raft_configuration_find(raft_latest_configuration(raft), change->id);

    if (raft_configuration_index(raft) > raft_commit_index(raft) ||
        raft_configuration_index(raft) < change->configuration_index) {
        return false;
    }
    if (change->kind == GROUP_ADD_REPLICA) {
        return server != NULL && (server->flags & RAFT_VOTER_OLD) == 0 &&
               strcmp(server->address, change->url) == 0;
    }
    return change->kind == GROUP_REMOVE_REPLICA && server == NULL;
}

/* NULL, or what is wrong with the order itself. */
static const char *check_change(const struct serve *serve, const struct proto_request *request,
                                const struct group_change *change)
{
    if (request->replica.gid != serve->options.gid) {
        return "this server belongs to another group";
    }
    if (change->kind == GROUP_ADD_REPLICA) {
        return spec_check_url(change->url);
    }
    if (change->kind == GROUP_FORCE_ALONE && change->id != serve->options.id) {
        return "another replica answers here than the one that shall go on alone";
    }
    return NULL;
}

static void begin_change(struct serve *serve, const struct serve_ticket *ticket,
                         const struct group_change *order)
{
    struct serve_change *change = mem_zalloc(sizeof(*change));

    change->serve = serve;
    change->ticket = *ticket;
    LIST_INSERT_HEAD(&serve->changes, change, entry);
    trace_info(serve->options.trace, "change of the replicas asked for kind=%d id=%u url=%s",
               (int)order->kind, (unsigned)order->id, order->url != NULL ? order->url : "-");
    group_change_replicas(serve->options.group, order, change_done, change);
}

void serve_replica(struct serve *serve, const struct serve_ticket *ticket,
                   const struct proto_request *request)
{
    struct proto_response response = {.status = ST_OK};
    char url[SPEC_MAX_URL + 1] = "";
    struct group_change change = {.kind = (enum group_change_kind)request->replica.kind,
                                  .id = request->replica.id,
                                  .configuration_index = request->replica.configuration_index};
    const char *wrong;

    _Static_assert((int)PROTO_REPLICA_ADD == (int)GROUP_ADD_REPLICA &&
                       (int)PROTO_REPLICA_REMOVE == (int)GROUP_REMOVE_REPLICA &&
                       (int)PROTO_REPLICA_ALONE == (int)GROUP_FORCE_ALONE,
                   "kinds are told as they are");
    if (change.kind == GROUP_ADD_REPLICA) {
        ASSERT(request->replica.url.len <= SPEC_MAX_URL);
        memcpy(url, request->replica.url.data, request->replica.url.len);
        change.url = url;
    }
    wrong = check_change(serve, request, &change);
    if (wrong != NULL) {
        serve_send_refusal(serve, ticket, ST_INVALID, wrong);
    } else if (change.kind != GROUP_FORCE_ALONE && !group_is_leader(serve->options.group)) {
        serve_send_refusal(serve, ticket, ST_NOT_LEADER, NULL);
    } else if (request->dry_run || holds_already(serve, &change)) {
        serve_send(serve, ticket, &response);
    } else if (!serve_share_take(&serve->share, ticket->conn, ticket->bytes)) {
        serve_send_refusal(serve, ticket, ST_BUSY, NULL);
    } else {
        begin_change(serve, ticket, &change);
    }
}
