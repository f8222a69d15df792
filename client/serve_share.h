/* serve_share: how the requests being worked on are shared out among connections, so that a flood
 * on one does not starve the others. Pure.
 *
 * A connection may hold as many requests, and as many bytes of them, as are still free. So one
 * alone gets half of all, two a third each, and something is always left for who comes next. A
 * connection that holds nothing gets one request in, whatever its size, while anything is free.
 */
#ifndef CLIENT_SERVE_SHARE_H
#define CLIENT_SERVE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct serve_share_holder; /* a connection that held something, until it closes */

struct serve_share {
    uint32_t max_requests;
    uint64_t max_bytes;
    uint32_t requests; /* held by all connections together */
    uint64_t bytes;
    struct serve_share_holder *holders; /* uthash, by connection; walked only at the end */
};

void serve_share_init(struct serve_share *share, uint32_t max_requests, uint64_t max_bytes);
/* Everything must have been given back. */
void serve_share_fini(struct serve_share *share);

/* Whether the connection may hold one more request of so many bytes; if so it does. */
bool serve_share_take(struct serve_share *share, uint64_t conn, size_t bytes);
/* Gives back what was taken; also after the connection closed. */
void serve_share_give_back(struct serve_share *share, uint64_t conn, size_t bytes);
/* The connection closed: it takes nothing any more, and is forgotten once it gave back all. */
void serve_share_close(struct serve_share *share, uint64_t conn);

#endif
