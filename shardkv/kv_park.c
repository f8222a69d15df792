/* kv_park: requests for a shard that is about to be installed here wait for it, instead of being
 * sent back and forth between two groups of which neither serves. What waits is bounded in number,
 * bytes and time.
 *
 * They don't add to the pause. A read has the group confirm its state at once, as any read, and
 * waits confirmed: then the state only becomes newer, and that the shard is served is checked when
 * it is read. A write waits until INSTALL is proposed, then is proposed behind it: whether the
 * shard is served is decided when it is applied. */
#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "shardkv/kv_server_internal.h"

#define PARK_MS        100
#define MAX_PARKED     4096
#define MAX_PARK_BYTES (32u << 20)

struct kv_parked {
    struct serve_ticket ticket;
    shard_id shard;
    uint64_t until_ms;
    struct buf message;
    TAILQ_ENTRY(kv_parked) in_parked;
};

/* Not served yet, but in a moment. */
static bool is_awaited(const struct kv_server *server, shard_id shard)
{
    uint32_t gid_hint;

    return group_is_ready(server->group) && !kv_sm_serves(server->sm, shard, &gid_hint) &&
           migrate_is_nearly_here(server->migrate, shard);
}

bool kv_server_write_may_precede(const struct kv_server *server, shard_id shard)
{
    return is_awaited(server, shard) && migrate_takes_writes(server->migrate, shard);
}

bool kv_server_read_may_precede(const struct kv_server *server, shard_id shard)
{
    return is_awaited(server, shard) && server->n_parked_reads < MAX_PARKED;
}

bool kv_server_park_read(struct kv_server *server, struct kv_request *request)
{
    if (!kv_server_read_may_precede(server, request->shard)) {
        return false;
    }
    request->parked_until_ms = server->context.now_ms + PARK_MS;
    TAILQ_INSERT_TAIL(&server->parked_reads, request, in_parked_reads);
    server->n_parked_reads++;
    return true;
}

bool kv_server_park(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request, struct slice message)
{
    struct kv_parked *parked;
    shard_id shard = request->op == PROTO_WRITE ? request->write.shard : 0;

    if (request->op != PROTO_WRITE || shard >= kv_sm_meta(server->sm)->n_shards ||
        !is_awaited(server, shard) || migrate_takes_writes(server->migrate, shard) ||
        server->n_parked == MAX_PARKED || server->parked_bytes + message.len > MAX_PARK_BYTES) {
        return false;
    }
    parked = mem_zalloc(sizeof(*parked));
    parked->ticket = *ticket;
    parked->shard = shard;
    parked->until_ms = server->context.now_ms + PARK_MS;
    buf_put_slice(&parked->message, message);
    TAILQ_INSERT_TAIL(&server->parked, parked, in_parked);
    server->n_parked++;
    server->parked_bytes += message.len;
    return true;
}

static void take_out(struct kv_server *server, struct kv_parked *parked)
{
    TAILQ_REMOVE(&server->parked, parked, in_parked);
    server->n_parked--;
    server->parked_bytes -= parked->message.len;
}

static void handle(struct kv_server *server, struct kv_parked *parked)
{
    struct proto_request request;

    take_out(server, parked);
    if (!proto_request_decode(buf_slice(&parked->message), &request)) {
        UNREACHABLE("it was decoded when it came");
    }
    kv_server_dispatch(server, &parked->ticket, &request);
    proto_request_fini(&request);
    buf_fini(&parked->message);
    mem_free(parked);
}

static void take_read_out(struct kv_server *server, struct kv_request *request)
{
    ASSERT(server->n_parked_reads > 0);
    TAILQ_REMOVE(&server->parked_reads, request, in_parked_reads);
    server->n_parked_reads--;
}

/* One that waited for too long is told where the shard is, or not. */
static void unpark_reads(struct kv_server *server)
{
    struct kv_request *request = TAILQ_FIRST(&server->parked_reads), *next;

    for (; request != NULL; request = next) {
        next = TAILQ_NEXT(request, in_parked_reads);
        if (request->parked_until_ms <= server->context.now_ms ||
            !is_awaited(server, request->shard)) {
            take_read_out(server, request);
            if (request->is_abandoned) {
                kv_request_refuse(request, ST_SHUTDOWN, NULL);
            } else {
                request->read(request);
            }
        }
    }
}

void kv_server_unpark(struct kv_server *server)
{
    struct kv_parked *parked = TAILQ_FIRST(&server->parked), *next;

    unpark_reads(server);
    for (; parked != NULL; parked = next) {
        next = TAILQ_NEXT(parked, in_parked);
        if (parked->until_ms <= server->context.now_ms || !is_awaited(server, parked->shard) ||
            migrate_takes_writes(server->migrate, parked->shard)) {
            handle(server, parked);
        }
    }
}

uint64_t kv_server_park_deadline_ms(const struct kv_server *server)
{
    const struct kv_parked *first = TAILQ_FIRST(&server->parked);
    const struct kv_request *read = TAILQ_FIRST(&server->parked_reads);
    uint64_t due_ms = first != NULL ? first->until_ms : UINT64_MAX;

    return read != NULL && read->parked_until_ms < due_ms ? read->parked_until_ms : due_ms;
}

void kv_server_drop_parked(struct kv_server *server)
{
    struct kv_request *request;
    struct kv_parked *parked;

    while ((request = TAILQ_FIRST(&server->parked_reads)) != NULL) {
        take_read_out(server, request);
        kv_request_refuse(request, ST_SHUTDOWN, NULL);
    }
    while ((parked = TAILQ_FIRST(&server->parked)) != NULL) {
        take_out(server, parked);
        serve_refuse(server->serve, &parked->ticket, ST_SHUTDOWN, NULL);
        buf_fini(&parked->message);
        mem_free(parked);
    }
}
