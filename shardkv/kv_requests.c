/* kv_requests: what clients ask of a shard: GET, SCAN, WRITE. Only the leader answers. A read waits
 * for the group to confirm that its state is current (ReadIndex), then the shard's ownership is
 * checked on that state. A write is checked before it is proposed only to spare the log; what
 * counts is decided at apply. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_ops.h"
#include "shardkv/kv_server_internal.h"

/* ---- Requests that wait ---- */

struct kv_request *kv_request_create(struct kv_server *server, const struct serve_ticket *ticket,
                                     shard_id shard)
{
    struct kv_request *request = mem_zalloc(sizeof(*request));

    request->server = server;
    request->ticket = *ticket;
    request->shard = shard;
    return request;
}

void kv_request_destroy(struct kv_request *request)
{
    buf_fini(&request->bytes);
    mem_free(request);
}

void kv_request_refuse(struct kv_request *request, enum status status, const char *text)
{
    serve_refuse(request->server->serve, &request->ticket, status, text);
    kv_request_destroy(request);
}

void kv_request_respond(struct kv_request *request, struct proto_response *response)
{
    struct kv_server *server = request->server;
    uint64_t now_us = group_now_us(server->group);

    if (request->ticket.op == PROTO_GET || request->ticket.op == PROTO_WRITE) {
        strain_add(&server->context.strain,
                   now_us > request->ticket.begun_us ? now_us - request->ticket.begun_us : 0);
    }
    serve_respond(request->server->serve, &request->ticket, response);
    kv_request_destroy(request);
}

static void respond_wrong_group(struct kv_server *server, const struct serve_ticket *ticket,
                                uint32_t gid_hint)
{
    struct proto_response response = {.status = ST_WRONG_GROUP, .gid_hint = gid_hint};

    serve_respond(server->serve, ticket, &response);
}

void kv_request_wrong_group(struct kv_request *request, uint32_t gid_hint)
{
    respond_wrong_group(request->server, &request->ticket, gid_hint);
    kv_request_destroy(request);
}

/* Whether a request about this shard may go on here; otherwise it is answered. may_precede: though
 * the shard is not here yet. */
static bool may_go_on(struct kv_server *server, const struct serve_ticket *ticket, shard_id shard,
                      bool may_precede)
{
    const struct kv_meta *meta = kv_sm_meta(server->sm);
    uint32_t gid_hint;

    if (!group_is_leader(server->group)) {
        serve_refuse(server->serve, ticket, ST_NOT_LEADER, NULL);
    } else if (config_watch_is_refused(server->watch)) {
        serve_refuse(server->serve, ticket, ST_NOT_READY,
                     "the controller knows another incarnation of this group");
    } else if (!meta->is_init) {
        serve_refuse(server->serve, ticket, ST_NOT_READY, "the group has not seen the controller");
    } else if (shard >= meta->n_shards) {
        serve_refuse(server->serve, ticket, ST_INVALID, "no such shard");
    } else if (kv_sm_serves(server->sm, shard, &gid_hint) || may_precede) {
        return true;
    } else if (group_is_ready(server->group)) {
        respond_wrong_group(server, ticket, gid_hint);
    } else {
        /* A new leader that has not applied everything yet does not know what it holds. */
        serve_refuse(server->serve, ticket, ST_NOT_READY, NULL);
    }
    return false;
}

/* ---- Reads ----
 *
 * A client can ask in one packet for gigabytes of values. So that no turn takes long, what one
 * reads for clients is bounded; confirmed reads beyond wait for the next turn. They stay
 * linearizable: the state only becomes newer, and that the shard is served is checked when it is
 * read. */

#define TURN_BYTES (16u << 20)

static bool *later_gave_much(struct kv_later_reads *later, const struct kv_request *request)
{
    return &later->gave_much[shard_of_key(buf_slice(&request->bytes), KV_LATER_KEYS)];
}

static void later_add(struct kv_later_reads *later, struct kv_request *request)
{
    uint32_t *waiting = &later->of_conn[request->ticket.conn % KV_LATER_CONNS];
    uint32_t level = *waiting + *later_gave_much(later, request);

    request->later_level = level < KV_LATER_LEVELS ? level : KV_LATER_LEVELS - 1;
    TAILQ_INSERT_TAIL(&later->levels[request->later_level], request, in_later_reads);
    (*waiting)++;
    later->n++;
}

static void later_remove(struct kv_later_reads *later, struct kv_request *request)
{
    uint32_t *waiting = &later->of_conn[request->ticket.conn % KV_LATER_CONNS];

    ASSERT(*waiting > 0 && later->n > 0);
    TAILQ_REMOVE(&later->levels[request->later_level], request, in_later_reads);
    (*waiting)--;
    later->n--;
}

static struct kv_request *later_first(const struct kv_later_reads *later)
{
    for (uint32_t i = 0; i < KV_LATER_LEVELS; i++) {
        if (!TAILQ_EMPTY(&later->levels[i])) {
            return TAILQ_FIRST(&later->levels[i]);
        }
    }
    return NULL;
}

/* So much was read for the request. */
static void count_read(const struct kv_request *request, size_t bytes)
{
    struct kv_server *server = request->server;

    server->turn_bytes += bytes;
    *later_gave_much(&server->later, request) = bytes > KV_SMALL_ANSWER;
}

static void read_confirmed(void *context, enum status status)
{
    struct kv_request *request = context;
    struct kv_server *server = request->server;

    TAILQ_REMOVE(&server->later.unconfirmed, request, in_later_reads);
    if (status != ST_OK || request->is_abandoned) {
        kv_request_refuse(request, status != ST_OK ? status : ST_SHUTDOWN, NULL);
    } else if (kv_server_park_read(server, request)) {
        return;
    } else if (server->turn_bytes >= TURN_BYTES || server->later.n > 0) {
        later_add(&server->later, request);
    } else {
        request->read(request);
    }
}

static void ask_to_read(struct kv_request *request)
{
    TAILQ_INSERT_TAIL(&request->server->later.unconfirmed, request, in_later_reads);
    group_read(request->server->group, read_confirmed, request);
}

void kv_server_read_later_ones(struct kv_server *server)
{
    struct kv_request *request;

    while (server->turn_bytes < TURN_BYTES && (request = later_first(&server->later)) != NULL) {
        later_remove(&server->later, request);
        if (request->ticket.deadline_ms <= server->context.now_ms) {
            kv_request_refuse(request, ST_TIMEOUT, NULL);
        } else {
            request->read(request);
        }
    }
}

/* Of those not confirmed the group knows, of those parked kv_park: they end when they are told. */
void kv_server_drop_reads(struct kv_server *server, io_conn conn)
{
    struct kv_request *request, *next;

    TAILQ_FOREACH (request, &server->later.unconfirmed, in_later_reads) {
        request->is_abandoned = request->is_abandoned || request->ticket.conn == conn;
    }
    TAILQ_FOREACH (request, &server->parked_reads, in_parked_reads) {
        request->is_abandoned = request->is_abandoned || request->ticket.conn == conn;
    }
    for (uint32_t i = 0; i < KV_LATER_LEVELS; i++) {
        for (request = TAILQ_FIRST(&server->later.levels[i]); request != NULL; request = next) {
            next = TAILQ_NEXT(request, in_later_reads);
            if (conn == 0 || request->ticket.conn == conn) {
                later_remove(&server->later, request);
                kv_request_refuse(request, ST_SHUTDOWN, NULL);
            }
        }
    }
}

/* Whether this group still serves the shard; if not, the request was answered. */
static bool may_read(struct kv_request *request)
{
    uint32_t gid_hint;

    if (!kv_sm_serves(request->server->sm, request->shard, &gid_hint)) {
        kv_request_wrong_group(request, gid_hint);
        return false;
    }
    return true;
}

/* The local state can't be read: this replica must stop, the client asks another one. */
static void halt_on(struct kv_request *request, enum status status)
{
    const struct group_world *world = &request->server->world;

    kv_request_refuse(request, ST_SHUTDOWN, NULL);
    world->halt(world->halt_context, status, "the state can't be read");
}

static void read_value(struct kv_request *request)
{
    struct proto_response response = {.status = ST_OK};
    struct buf memory = {0};
    struct kv_record record;
    enum status status;
    uint64_t range;

    if (!may_read(request)) {
        return;
    }
    range = kv_sm_shard(request->server->sm, request->shard)->range;
    status = kv_ops_read(request->server->world.state, range, buf_slice(&request->bytes), &memory,
                         &record);
    if (status == ST_OK) {
        count_read(request, record.value.len);
        response.get.value = record.value;
        response.get.version = record.version;
        kv_request_respond(request, &response);
    } else if (status == ST_NOT_FOUND) {
        count_read(request, 0);
        response.status = ST_NOT_FOUND;
        kv_request_respond(request, &response);
    } else {
        halt_on(request, status);
    }
    buf_fini(&memory);
}

void kv_server_get(struct kv_server *server, const struct serve_ticket *ticket,
                   const struct proto_request *request)
{
    uint32_t n_shards = kv_sm_meta(server->sm)->n_shards;
    struct kv_request *waiting;

    if (!may_go_on(server, ticket, request->get.shard,
                   kv_server_read_may_precede(server, request->get.shard))) {
        return;
    }
    if (shard_of_key(request->get.key, n_shards) != request->get.shard) {
        serve_refuse(server->serve, ticket, ST_INVALID, "the key does not lie in that shard");
        return;
    }
    waiting = kv_request_create(server, ticket, request->get.shard);
    buf_put_slice(&waiting->bytes, request->get.key);
    waiting->read = read_value;
    ask_to_read(waiting);
}

/* ---- Scans ---- */

/* One page: records end to end in memory, and where each begins. */
struct page {
    struct buf memory;
    size_t (*spans)[2]; /* lengths of key and value */
    size_t n, capacity;
    bool more;
};

static void page_add(struct page *page, struct slice key, struct slice value)
{
    MEM_GROW(page->spans, page->capacity, page->n + 1);
    page->spans[page->n][0] = key.len;
    page->spans[page->n++][1] = value.len;
    buf_put_slice(&page->memory, key);
    buf_put_slice(&page->memory, value);
}

/* Keys with the prefix and above `after`, from the first on. */
static struct slice scan_from(struct slice prefix, struct slice after, struct buf *memory)
{
    if (after.len == 0 || slice_compare(after, prefix) < 0) {
        return prefix;
    }
    buf_put_slice(memory, after);
    buf_put_u8(memory, 0);
    return buf_slice(memory);
}

static enum status read_page(struct io_state *state, uint64_t range,
                             const struct kv_request *request, struct page *page)
{
    struct slice prefix = slice_of(request->bytes.data, request->split);
    struct slice after =
        slice_of(request->bytes.data + request->split, request->bytes.len - request->split);
    struct buf memory = {0};
    struct io_iter *iter;
    struct slice key, value;
    struct kv_record record;
    enum status status = ST_OK, closed;

    iter = state->ops->iter_open(
        state, (struct io_key){range, KV_KIND_DATA, scan_from(prefix, after, &memory)});
    while (status == ST_OK && state->ops->iter_next(iter, &key, &value)) {
        if (!slice_has_prefix(key, prefix)) {
            break;
        }
        if (page->n == request->limit ||
            (page->n > 0 && page->memory.len + key.len + value.len > PROTO_SCAN_BYTES)) {
            page->more = true;
            break;
        }
        status = kv_record_decode(value, &record);
        if (status == ST_OK) {
            page_add(page, key, record.value);
        }
    }
    closed = state->ops->iter_close(iter);
    buf_fini(&memory);
    return status != ST_OK ? status : closed;
}

static void respond_page(struct kv_request *request, const struct page *page)
{
    struct proto_response response = {.status = ST_OK};
    struct proto_record *records = mem_alloc(page->n * sizeof(records[0]));
    const uint8_t *at = page->memory.data;

    for (size_t i = 0; i < page->n; i++) {
        records[i].key = slice_of(at, page->spans[i][0]);
        at += page->spans[i][0];
        records[i].value = slice_of(at, page->spans[i][1]);
        at += page->spans[i][1];
    }
    response.scan.more = page->more;
    response.scan.n = (uint32_t)page->n;
    response.scan.records = records;
    kv_request_respond(request, &response);
    mem_free(records);
}

static void read_scan(struct kv_request *request)
{
    struct page page = {0};
    enum status status;
    uint64_t range;

    if (!may_read(request)) {
        return;
    }
    range = kv_sm_shard(request->server->sm, request->shard)->range;
    status = read_page(request->server->world.state, range, request, &page);
    if (status == ST_OK) {
        count_read(request, page.memory.len);
        respond_page(request, &page);
    } else {
        halt_on(request, status);
    }
    buf_fini(&page.memory);
    mem_free(page.spans);
}

void kv_server_scan(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request)
{
    struct kv_request *waiting;

    if (!may_go_on(server, ticket, request->scan.shard,
                   kv_server_read_may_precede(server, request->scan.shard))) {
        return;
    }
    waiting = kv_request_create(server, ticket, request->scan.shard);
    waiting->limit = request->scan.limit;
    if (waiting->limit == 0 || waiting->limit > PROTO_MAX_SCAN) {
        waiting->limit = PROTO_MAX_SCAN;
    }
    buf_put_slice(&waiting->bytes, request->scan.prefix);
    waiting->split = waiting->bytes.len;
    buf_put_slice(&waiting->bytes, request->scan.after);
    waiting->read = read_scan;
    ask_to_read(waiting);
}

/* ---- Writes ---- */

static void respond_written(struct kv_request *request, const struct kv_command_result *outcome)
{
    struct proto_response response = {.status = ST_OK};
    struct reader reader = reader_of(outcome->result);

    if (!kv_write_result_decode(&reader, &response.write)) {
        UNREACHABLE("a kept result is what kv_sm wrote");
    }
    response.status = response.write.status;
    kv_request_respond(request, &response);
}

static void write_applied(void *context, enum status status, struct slice result)
{
    struct kv_request *request = context;
    struct kv_command_result outcome;

    TAILQ_REMOVE(&request->server->writes, request, in_writes);
    if (request->answered) {
        kv_request_destroy(request);
        return;
    }
    if (status != ST_OK) { /* INVALID: its issued_at was too far ahead after all */
        kv_request_refuse(request, status == ST_INVALID ? ST_SESSION_EXPIRED : status, NULL);
        return;
    }
    if (!kv_command_result_decode(result, &outcome)) {
        UNREACHABLE("the outcome is what kv_sm wrote");
    }
    switch (outcome.status) {
    case ST_OK:
        respond_written(request, &outcome);
        return;
    case ST_WRONG_GROUP:
        kv_request_wrong_group(request, outcome.gid_hint);
        return;
    default: /* of a session that is too old: the answer tells the cluster time */
        break;
    }
    kv_request_refuse(request, outcome.status, NULL);
}

/* An issued_at far ahead would drag the cluster's time along (design 6). An honest client has it
 * from another group, whose clock was wrong: it is told the time here, as one that is behind is. */
static bool is_too_far_ahead(const struct kv_server *server, uint64_t issued_at)
{
    uint64_t now_us = group_last_stamp(server->group);

    now_us = server->wall_us > now_us ? server->wall_us : now_us;
    return issued_at > now_us && issued_at - now_us > SESSION_MAX_AHEAD_US;
}

#define COMMAND_KEPT (64u << 10) /* so much memory is kept for the next command */

static void propose_write(struct kv_server *server, const struct serve_ticket *ticket,
                          const struct proto_request *request)
{
    struct kv_request *waiting = kv_request_create(server, ticket, request->write.shard);
    struct buf *command = &server->command;

    if (command->capacity > COMMAND_KEPT) {
        buf_fini(command);
    }
    buf_clear(command);
    kv_command_encode_write(&request->write, command);
    TAILQ_INSERT_TAIL(&server->writes, waiting, in_writes);
    group_propose(server->group, buf_slice(command), request->write.session.issued_at,
                  request->trace_id, write_applied, waiting);
}

void kv_server_give_writes_up(struct kv_server *server)
{
    struct kv_request *request;

    TAILQ_FOREACH (request, &server->writes, in_writes) {
        if (!request->answered) {
            serve_refuse(server->serve, &request->ticket, ST_UNKNOWN, "the leader was cut off");
            request->answered = true;
        }
    }
}

void kv_server_write(struct kv_server *server, const struct serve_ticket *ticket,
                     const struct proto_request *request)
{
    if (!may_go_on(server, ticket, request->write.shard,
                   kv_server_write_may_precede(server, request->write.shard))) {
        return;
    }
    if (!kv_ops_keys_fit(&request->write, kv_sm_meta(server->sm)->n_shards)) {
        serve_refuse(server->serve, ticket, ST_INVALID, "a key does not lie in that shard");
    } else if (is_too_far_ahead(server, request->write.session.issued_at)) {
        serve_refuse(server->serve, ticket, ST_SESSION_EXPIRED, "issued_at is too far ahead");
    } else {
        propose_write(server, ticket, request);
    }
}
