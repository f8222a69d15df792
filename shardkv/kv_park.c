/* kv_park: requests for a shard that is about to be installed here wait for it, instead of being
 * sent back and forth between two groups of which neither serves. What waits is bounded in number,
 * bytes and time; when it ends, a request is handled as if it had just come. */
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

static bool has_shard(const struct proto_request *request, shard_id *shard)
{
    switch (request->op) {
    case PROTO_GET:
        *shard = request->get.shard;
        return true;
    case PROTO_WRITE:
        *shard = request->write.shard;
        return true;
    case PROTO_SCAN:
        *shard = request->scan.shard;
        return true;
    default:
        return false;
    }
}

/* Not served yet, but in a moment. */
static bool is_awaited(const struct kv_server *server, shard_id shard)
{
    uint32_t gid_hint;

    return group_is_ready(server->group) && !kv_sm_serves(server->sm, shard, &gid_hint) &&
           migrate_is_nearly_here(server->migrate, shard);
}

bool kv_server_park(struct kv_server *server, const struct serve_ticket *ticket,
                    const struct proto_request *request, struct slice message)
{
    struct kv_parked *parked;
    shard_id shard;

    if (!has_shard(request, &shard) || shard >= kv_sm_meta(server->sm)->n_shards ||
        !is_awaited(server, shard) || server->n_parked == MAX_PARKED ||
        server->parked_bytes + message.len > MAX_PARK_BYTES) {
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

void kv_server_unpark(struct kv_server *server)
{
    struct kv_parked *parked = TAILQ_FIRST(&server->parked), *next;

    for (; parked != NULL; parked = next) {
        next = TAILQ_NEXT(parked, in_parked);
        if (parked->until_ms <= server->context.now_ms || !is_awaited(server, parked->shard)) {
            handle(server, parked);
        }
    }
}

uint64_t kv_server_park_deadline_ms(const struct kv_server *server)
{
    const struct kv_parked *first = TAILQ_FIRST(&server->parked);

    return first != NULL ? first->until_ms : UINT64_MAX;
}

void kv_server_drop_parked(struct kv_server *server)
{
    struct kv_parked *parked;

    while ((parked = TAILQ_FIRST(&server->parked)) != NULL) {
        take_out(server, parked);
        serve_refuse(server->serve, &parked->ticket, ST_SHUTDOWN, NULL);
        buf_fini(&parked->message);
        mem_free(parked);
    }
}
