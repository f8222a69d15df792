/* Links: what the handle knows of its connection to each server, so that it is certain of a request
 * whether it left.
 *
 * The network queues requests while it connects; one whose time is over while it waits there would
 * be sent later all the same. So requests wait here instead, until the server has answered a PING:
 * from then on they go straight to the network. What waits here can be withdrawn, and if the
 * connection can't be made, it certainly never left. It costs one round trip per connection. */
#include <stdio.h>

#include "client/kv_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define uthash_malloc(size)       mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#include <uthash.h>

#define PING_REQUEST_ID 0 /* the caller's are never 0, but for a chance of 2^-64 */

enum link_state {
    LINK_DOWN,    /* nothing is under way, nothing waits */
    LINK_CALLING, /* the PING was sent; requests wait */
    LINK_UP
};

struct waiting {
    uint64_t request_id;
    struct buf message;
    UT_hash_handle hh; /* iterated in order of insertion */
};

struct kv_link {
    char url[SPEC_MAX_URL + 1];
    io_endpoint endpoint;
    enum link_state state;
    struct waiting *waiting; /* empty unless CALLING */
};

static struct kv_link *link_of_url(struct shardkv *handle, const char *url)
{
    struct io_net *io = net_io(handle->net);
    io_endpoint endpoint;
    struct kv_link *link;

    if (handle->last_link != NULL && strcmp(handle->last_link->url, url) == 0) {
        return handle->last_link;
    }
    endpoint = io->ops->endpoint(io, 0, url);
    while (handle->n_links <= endpoint) {
        MEM_GROW(handle->links, handle->links_capacity, handle->n_links + 1);
        handle->links[handle->n_links++] = NULL;
    }
    link = handle->links[endpoint];
    if (link == NULL) {
        link = handle->links[endpoint] = mem_zalloc(sizeof(*link));
        link->endpoint = endpoint;
        snprintf(link->url, sizeof(link->url), "%s", url);
    }
    handle->last_link = link;
    return link;
}

static struct kv_link *link_of_endpoint(const struct shardkv *handle, io_endpoint endpoint)
{
    ASSERT(endpoint < handle->n_links && handle->links[endpoint] != NULL);
    return handle->links[endpoint];
}

const char *kv_link_url(const struct shardkv *handle, io_endpoint endpoint)
{
    return link_of_endpoint(handle, endpoint)->url;
}

static void net_send(struct shardkv *handle, struct kv_link *link, struct buf *message)
{
    struct io_net *io = net_io(handle->net);

    io->ops->endpoint_send(io, link->endpoint, message);
}

static void send_ping(struct shardkv *handle, struct kv_link *link)
{
    struct proto_request ping = {.op = PROTO_PING, .request_id = PING_REQUEST_ID};
    struct buf message = {0};

    proto_request_encode(&ping, &message);
    link->state = LINK_CALLING;
    net_send(handle, link, &message);
}

void kv_link_send(void *context, uint32_t gid, const char *url, struct buf *message)
{
    struct shardkv *handle = context;
    struct kv_link *link = link_of_url(handle, url);
    struct waiting *waiting;

    (void)gid; /* any server that a client knows by its URL will do */
    if (link->state == LINK_UP) {
        net_send(handle, link, message);
        return;
    }
    waiting = mem_zalloc(sizeof(*waiting));
    waiting->request_id = proto_request_peek_id(buf_slice(message));
    waiting->message = buf_take(message);
    HASH_ADD(hh, link->waiting, request_id, sizeof(waiting->request_id), waiting);
    if (link->state == LINK_DOWN) {
        send_ping(handle, link);
    }
}

static void drop_waiting(struct kv_link *link, struct waiting *waiting)
{
    HASH_DEL(link->waiting, waiting);
    buf_fini(&waiting->message);
    mem_free(waiting);
}

bool kv_link_withdraw(void *context, const char *url, uint64_t request_id)
{
    struct kv_link *link = link_of_url(context, url);
    struct waiting *waiting;

    HASH_FIND(hh, link->waiting, &request_id, sizeof(request_id), waiting);
    if (waiting == NULL) {
        return false;
    }
    drop_waiting(link, waiting);
    return true;
}

bool kv_link_message(struct shardkv *handle, io_endpoint endpoint, struct slice message)
{
    struct kv_link *link = link_of_endpoint(handle, endpoint);
    struct waiting *waiting, *next;
    uint64_t request_id;
    enum proto_op op;

    if (link->state == LINK_UP) {
        return false;
    }
    if (!proto_response_peek(message, &request_id, &op) || op != PROTO_PING ||
        request_id != PING_REQUEST_ID) {
        return false;
    }
    link->state = LINK_UP;
    HASH_ITER (hh, link->waiting, waiting, next) {
        net_send(handle, link, &waiting->message);
        drop_waiting(link, waiting);
    }
    return true;
}

bool kv_link_down(struct shardkv *handle, io_endpoint endpoint)
{
    struct kv_link *link = link_of_endpoint(handle, endpoint);
    bool was_up = link->state == LINK_UP;
    struct waiting *waiting, *next;

    link->state = LINK_DOWN;
    HASH_ITER (hh, link->waiting, waiting, next) {
        drop_waiting(link, waiting);
    }
    return was_up;
}

void kv_link_fini(struct shardkv *handle)
{
    for (size_t i = 0; i < handle->n_links; i++) {
        if (handle->links[i] != NULL) {
            kv_link_down(handle, (io_endpoint)i);
            mem_free(handle->links[i]);
        }
    }
    mem_free(handle->links);
}
