#include "client/serve_share.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define uthash_malloc(size)       mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_fatal(message)     UNREACHABLE(message)
#include <uthash.h>

struct serve_share_holder {
    uint64_t conn;
    uint32_t requests;
    bool closed; /* to be forgotten with the last request; not before: requests come again */
    uint64_t bytes;
    UT_hash_handle hh;
};

void serve_share_init(struct serve_share *share, uint32_t max_requests, uint64_t max_bytes)
{
    ASSERT(max_requests > 0 && max_bytes > 0);
    *share = (struct serve_share){.max_requests = max_requests, .max_bytes = max_bytes};
}

static void forget(struct serve_share *share, struct serve_share_holder *holder)
{
    ASSERT(holder->requests == 0 && holder->bytes == 0);
    HASH_DEL(share->holders, holder);
    mem_free(holder);
}

void serve_share_fini(struct serve_share *share)
{
    struct serve_share_holder *holder, *next;

    ASSERT(share->requests == 0 && share->bytes == 0);
    HASH_ITER (hh, share->holders, holder, next) {
        forget(share, holder);
    }
}

static struct serve_share_holder *find(struct serve_share *share, uint64_t conn)
{
    struct serve_share_holder *holder;

    HASH_FIND(hh, share->holders, &conn, sizeof(conn), holder);
    return holder;
}

static struct serve_share_holder *add(struct serve_share *share, uint64_t conn)
{
    struct serve_share_holder *holder = mem_zalloc(sizeof(*holder));

    holder->conn = conn;
    HASH_ADD(hh, share->holders, conn, sizeof(holder->conn), holder);
    return holder;
}

bool serve_share_take(struct serve_share *share, uint64_t conn, size_t bytes)
{
    struct serve_share_holder *holder = find(share, conn);

    if (share->requests == share->max_requests || share->bytes >= share->max_bytes) {
        return false;
    }
    /* No more than what is left for the others. */
    if (holder != NULL && (holder->requests >= share->max_requests - share->requests ||
                           holder->bytes + bytes > share->max_bytes - share->bytes)) {
        return false;
    }
    if (holder == NULL) {
        holder = add(share, conn);
    }
    holder->requests++;
    holder->bytes += bytes;
    share->requests++;
    share->bytes += bytes;
    ASSERT(share->requests <= share->max_requests);
    return true;
}

void serve_share_give_back(struct serve_share *share, uint64_t conn, size_t bytes)
{
    struct serve_share_holder *holder = find(share, conn);

    ASSERT(holder != NULL && holder->requests > 0 && holder->bytes >= bytes);
    ASSERT(share->requests >= holder->requests && share->bytes >= holder->bytes);
    holder->requests--;
    holder->bytes -= bytes;
    share->requests--;
    share->bytes -= bytes;
    if (holder->requests == 0 && holder->closed) {
        forget(share, holder);
    }
}

void serve_share_close(struct serve_share *share, uint64_t conn)
{
    struct serve_share_holder *holder = find(share, conn);

    if (holder == NULL) {
        return;
    }
    ASSERT(!holder->closed); /* a connection ends once */
    holder->closed = true;
    if (holder->requests == 0) {
        forget(share, holder);
    }
}
