/* conn: one connection that speaks frames, dialled or accepted: hello, keep-alive, sending from a
 * send queue, putting messages together.
 *
 * The life of a connection:
 *
 *   GREETING  the handshake of raft/util/handshake.h: the dialling side has sent its hello and
 *             waits for the other's; the accepting side waits for a hello, then answers with its
 *             own or with a REFUSE; servers with a peer key then exchange proofs
 *   UP        messages pass
 *   REFUSING  a REFUSE was sent: waits a moment for the other side to read it and close
 *   FAILED    over; closed() is told, and the memory freed, by net's next net_reap_failed
 *
 * Window: between peers and towards servers, at most `window_bytes` are sent beyond what the other
 * side is known to have read; then only urgent messages leave. So what a vote or a heartbeat finds
 * in front of it, in all the buffers on the way, is bounded. A PING carries the count of bytes sent
 * before it, and its PONG says that they were read.
 *
 * Keep-alive: the dialling side sends a PING when it has sent nothing for `ping_ms`; the accepting
 * side answers a PING with a PONG, and also sends one when bytes arrive (a large message on a slow
 * path) while it has itself sent nothing for that long. So both sides hear something at least about
 * every ping_ms, and `silence_ms` without a single byte ends the connection. Any bytes count.
 */
#ifndef RAFT_NET_CONN_H
#define RAFT_NET_CONN_H

#include <bsd/sys/queue.h>

#include "raft/net.h"
#include "raft/net/inbox.h"
#include "raft/net/send_queue.h"
#include "raft/net/stream.h"
#include "raft/util/handshake.h"

#define CONN_REASON_BYTES 160

enum conn_state { CONN_GREETING, CONN_UP, CONN_REFUSING, CONN_FAILED };

struct conn;
struct conn_events {
    /* Dialled: whether the other side's hello is of whom we meant to call. Asked before we prove
     * anything: a proof is of no use to who passes it on to another server. NULL for accepted ones,
     * which prove themselves second. */
    enum status (*meant)(struct conn *conn, const struct hello *hello, const char **reason);
    /* The other side's hello, proved if it had to be. ST_OK, or why not to talk to it, with
     * *reason (static). */
    enum status (*hello)(struct conn *conn, const struct hello *hello, const char **reason);
    void (*up)(struct conn *conn);
    void (*message)(struct conn *conn, uint32_t group, uint8_t type, struct slice message);
    /* The last word: the conn is gone afterwards. refused: the other side sent a REFUSE. */
    void (*closed)(struct conn *conn, enum status status, const char *reason, bool refused);
};

struct conn {
    struct net *net;
    struct stream *stream;
    const struct conn_events *events;
    void *owner;
    bool accepted; /* else dialled */
    enum conn_state state;
    struct handshake handshake;
    struct send_queue send_queue;
    struct inbox inbox;

    struct timer timer;         /* the earliest of what follows */
    uint64_t end_ms;            /* GREETING and REFUSING must be over by then */
    uint64_t heard_ms;          /* when bytes last came, by the loop's awake clock */
    uint64_t sent_ms;           /* when bytes last were handed over */
    uint32_t ping_ms;           /* pause after which to send something; 0: never by itself */
    uint32_t silence_ms;        /* of the other side, after which it counts as gone */
    uint32_t window_bytes;      /* 0: no window */
    uint32_t fragment_pause_ms; /* how long an unfinished message may get no further; 0: for ever */
    uint64_t sent_bytes;        /* in all */
    uint64_t pinged_bytes;      /* sent_bytes at the last PING */
    uint64_t read_bytes;        /* by the other side, of sent_bytes */
    bool ping_due, pong_due;
    uint64_t pong_stamp;  /* of the last PING that came */
    uint32_t pause_bytes; /* read nothing more while so much waits to be sent; 0: read always */

    enum status status; /* FAILED: why */
    char reason[CONN_REASON_BYTES];
    bool refused; /* FAILED: by the other side, in words */
    bool was_up;
    bool is_dirty;       /* on net's list of those to flush */
    bool is_resting;     /* not read until the next boundary (gather.h) */
    uint32_t n_receives; /* since an answer left */
    uint32_t unanswered; /* requests of a client that were not answered yet */
    TAILQ_ENTRY(conn) dirty, failed, resting;
};
TAILQ_HEAD(conn_list, conn);

/* What a kind of connection needs. */
struct conn_settings {
    bool accepted;
    uint32_t greeting_ms, ping_ms, silence_ms, pause_bytes, max_reassembly_bytes, window_bytes,
        fragment_pause_ms;
    struct inbox_pool *pool;
};

/* Takes the nng stream over and begins the greeting. `self` is the hello a dialling side shows. */
struct conn *conn_create(struct net *net, nng_stream *stream, const struct conn_settings *settings,
                         const struct hello *self, const struct conn_events *events, void *owner);
/* Ends the connection; closed() follows, later in the turn. Failed already: nothing. */
void conn_fail(struct conn *conn, enum status status, const char *reason);
/* Closes and frees at once, without closed(): for who tells the owner itself, or is the owner.
 * Clears the pointer. */
void conn_destroy(struct conn **conn);

/* Queues a message, taken over. Only while UP. */
void conn_send(struct conn *conn, enum io_class class, uint32_t group, enum frame_message_type type,
               struct buf *message);
/* Queues everything that waits in another queue. Only while UP. */
void conn_send_all(struct conn *conn, struct send_queue *queue);
/* From now on; silence is counted from now too. */
void conn_set_keep_alive(struct conn *conn, uint32_t ping_ms, uint32_t silence_ms);

/* Whether this reason is another one than was told last, which it then is: so that attempts that
 * fail again and again for one reason are told once. */
bool conn_is_news(char told[CONN_REASON_BYTES], const char *reason);

/* Asks for more bytes, unless too much waits to be sent, or the connection rests. */
void conn_receive_more(struct conn *conn);

/* Gives to nng what waits, if nothing is on its way. */
void conn_flush(struct conn *conn);

/* ---- For the greeting (greeting.h) ---- */

void conn_put_greeting(struct conn *conn, enum frame_kind kind, struct slice body);
/* Says why not, and ends the connection when the other side has had time to read it. */
void conn_refuse(struct conn *conn, enum status status, const char *reason);
void conn_enter_up(struct conn *conn);
/* Counts it, and fails. */
void conn_malformed(struct conn *conn, const char *what);

#endif
