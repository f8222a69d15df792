/* inbox: puts fragmented messages together again. Pure: no I/O.
 *
 * What a sender announces is counted against two limits before anything is allocated: one of the
 * connection, one of all connections that share a pool.
 */
#ifndef RAFT_NET_INBOX_H
#define RAFT_NET_INBOX_H

#include "raft/util/frame.h"

/* Bytes of unfinished messages over several inboxes. */
struct inbox_pool {
    uint64_t used, limit;
};

struct inbox_message {
    uint32_t stream, group;
    uint8_t type;
    uint32_t received; /* bytes so far: the next fragment's offset */
    uint32_t total;
    uint8_t *bytes;    /* total bytes */
    uint64_t heard_ms; /* when a fragment of it last came */
};

struct inbox {
    struct inbox_pool *pool;
    uint32_t limit;
    uint32_t used; /* the totals of the unfinished messages */
    size_t n, capacity;
    struct inbox_message *unfinished; /* at most FRAME_MAX_STREAMS */
};

void inbox_init(struct inbox *inbox, uint32_t limit, struct inbox_pool *pool);
void inbox_fini(struct inbox *inbox);

/* Takes a fragment that came at now_ms, by whatever clock. ST_OK: if it was the last, *finished is
 * set and *message is the whole message, for the caller to release with inbox_release.
 * ST_MALFORMED: it continues nothing, or not where it should. ST_BUSY: beyond a limit. */
enum status inbox_receive(struct inbox *inbox, const struct frame_fragment *fragment,
                          uint64_t now_ms, bool *finished, struct inbox_message *message);
void inbox_release(struct inbox_message *message);

/* Since when the unfinished message that waits for longest has not been continued; UINT64_MAX:
 * there is none. */
uint64_t inbox_waits_since(const struct inbox *inbox);
/* Nobody listened until now_ms: no message waits since earlier. */
void inbox_wait_from(struct inbox *inbox, uint64_t now_ms);

#endif
