/* net: the loop thread, the connections of this process over nng's byte streams, and the clock. The
 * only place that knows any of the three.
 *
 * One thread at a time, "the loop thread", delivers events to the program's sink and carries out
 * struct io_net's operations: that which calls net_run, or, if it lets them, one that brings mail.
 */
#ifndef RAFT_NET_H
#define RAFT_NET_H

#include "raft/io.h"
#include "raft/util/frame.h"
#include "raft/util/histogram.h"
#include "raft/util/spec.h"

struct net;

struct net_sink {
    void *context;
    /* One event, on the loop thread. */
    void (*event)(void *context, const struct io_event *event);
    /* When the next TICK is due (monotonic ms); asked after each turn. UINT64_MAX: never. */
    uint64_t (*next_deadline_ms)(void *context);
    /* A remote showed its hello: ST_OK to talk, else refuse with *reason (static). NULL:
     * hello_check alone, knowing nothing. On the loop thread. self->who says in which role we meet:
     * HELLO_SERVER, we were dialled; HELLO_PEER, we dialled a replica of the own group;
     * HELLO_CLIENT, we dialled a server as its client. That a peer's gid is ours and its id that of
     * a peer is checked before. */
    enum status (*admit)(void *context, const struct hello *self, const struct hello *other,
                         const char **reason);
    /* A server that we called refuses us, or we it, in the hello or in TLS: it is not just down.
     * NULL: nobody wants to know (it is traced anyway). On the loop thread. */
    void (*refused)(void *context, const char *url, const char *reason);
};

struct net_limits {
    uint32_t max_connections;            /* accepted ones; beyond, the idlest client gives way */
    uint32_t max_connections_per_remote; /* of them, from one address */
    uint32_t max_client_queue_bytes;   /* answers waiting on one connection; beyond, it is closed */
    uint32_t max_peer_queue_bytes;     /* waiting for one peer; beyond, messages are dropped */
    uint32_t max_reassembly_bytes;     /* of unfinished fragmented messages, per connection */
    uint32_t max_endpoint_queue_bytes; /* requests waiting for one endpoint; beyond, dropped */
    /* Over all clients, over all peers, and over all endpoints. */
    uint64_t max_total_reassembly_bytes;
    uint32_t max_fragment_pause_ms; /* a client that leaves a message unfinished for it is closed */
    /* Answers waiting on all accepted connections; beyond, the client that has most of them is
     * closed. */
    uint64_t max_total_client_queue_bytes;
};

struct net_options {
    const char *listen_url; /* NULL: a client only */
    struct hello self;      /* who == HELLO_PEER for a replica, HELLO_CLIENT for a client */
    group_id group;         /* of the peers below */
    /* All replicas of the own group, self included, until the group names them (set_peers); n == 0
     * for a client. */
    struct spec peers;
    uint32_t
        election_timeout_ms; /* silence that closes a peer link; dial timeout and hello timeout */
    uint32_t heartbeat_ms;   /* pause after which an idle link sends a PING */
    struct net_limits limits;
    const char *tls_cert, *tls_key, *tls_ca; /* PEM files, or NULL */
    /* The file of the secret by which servers know each other, or NULL; for a server only. With it,
     * peers and servers that call must prove that they have it too, and client messages of others
     * are marked (io.h, client.is_stranger). */
    const char *peer_key;
    /* While net_run waits, its turns may run on the thread that brings what it waits for: one of
     * nng's, or one that calls net_bring. Never two at a time. */
    bool turns_anywhere;
    /* This process uses nng through net alone, and nothing in its callbacks waits for another one:
     * all of them may run on one thread, which is faster (nng_threads.h). Without effect with TLS,
     * whose work is worth several threads. */
    bool sole_nng_user;
    struct net_sink sink;
    const struct trace *trace;
};

void net_options_default(struct net_options *options);

/* Listens (if asked to) and prepares; nothing runs before net_run. On failure ST_IN_USE (address
 * taken), ST_INVALID or ST_IO, with one line in error[256]. */
enum status net_create(const struct net_options *options, struct net **net, char *error);
/* After net_run returned. Closes everything; waits for nng's callbacks. What was posted and not run
 * by then is dropped unrun (net_drain). */
void net_destroy(struct net **net);

struct io_net *net_io(struct net *net);

/* Runs the loop on the calling thread until net_stop. */
void net_run(struct net *net);
/* Any thread, or a signal's own thread: net_run returns after the present turn. */
void net_stop(struct net *net);
/* After net_run returned: one more turn without waiting. For a program that ends: once the threads
 * that post are joined, this runs what they still posted. */
void net_drain(struct net *net);

/* Any thread: run(arg) on the loop thread, in the order posted, then the turn ends. This is how the
 * disk threads hand completions over, and how a client library's callers hand requests over. */
void net_post(struct net *net, void (*run)(void *arg), void *arg);

/* The same, by a thread that may run a turn itself if the loop is idle (turns_anywhere): it holds
 * no lock that the sink may want, and returns only after the turn. */
void net_bring(struct net *net, void (*run)(void *arg), void *arg);

/* Whether the caller is inside a turn of this loop. */
bool net_is_in_turn(struct net *net);

/* On the loop thread: delivers an event to the sink with the present time filled in. */
void net_deliver(struct net *net, struct io_event *event);

/* On the loop thread: the machine is busy, and connections of clients with several requests under
 * way are read once in each span of so many milliseconds, counted from 0; 0: it is not. */
void net_set_gather(struct net *net, uint32_t ms);

/* The clock, for those who drive net. */
uint64_t net_now_ms(void);
uint64_t net_now_us(void);
uint64_t net_wall_us(void);

/* The hello that later connections show: when the cluster id becomes known. Connections whose other
 * side showed another cluster id, which was not refused while ours was not known, end now. On the
 * loop thread. */
void net_set_hello(struct net *net, const struct hello *self);

/* Why a message was dropped instead of sent. */
enum net_drop {
    NET_DROP_PEER_DOWN, /* no link to that peer now: Raft repeats */
    NET_DROP_PEER_FULL, /* too much waits for that peer */
    NET_DROP_CLIENT_GONE,
    NET_DROP_CLIENT_FULL, /* it does not read its answers */
    NET_DROP_SERVER_FULL, /* too much waits for a server that we call */
    NET_DROP_REASONS
};

#define NET_STATUSES 64 /* above every enum status */

struct net_stats {
    uint64_t frames_in, frames_out, bytes_in, bytes_out, messages_in, messages_out;
    uint64_t refused, malformed, dropped, connections, peer_links_up;
    uint64_t drops[NET_DROP_REASONS];     /* dropped, by reason */
    uint64_t refused_full;                /* refused: too many connections */
    uint64_t refused_hello[NET_STATUSES]; /* refused: the hello, by enum status */
    uint64_t greetings_failed;            /* accepted, and over before a good hello came */
    uint64_t reassembly_bytes;            /* unfinished messages in memory */
    uint64_t asleep_ms; /* how long the loop could not look, in all: see io_event's awake_ms */
    uint64_t mails, most_mails; /* handled; in one turn */
    uint64_t slowest_turn_us;
    struct histogram turn_us; /* the loop at work, from one wait to the next */
};
void net_statistics(const struct net *net, struct net_stats *stats); /* on the loop thread */

/* The links by which this process sends to the other replicas of its group. */
struct net_peer_stats {
    uint32_t id;
    bool up;
    uint64_t queue_bytes; /* that wait to be sent */
};
/* At most `max` of them; returns how many. On the loop thread. */
size_t net_peer_statistics(const struct net *net, struct net_peer_stats *peers, size_t max);

/* A small HTTP server for metrics and health; before net_run. handler fills in status code, content
 * type and body; query is what followed the '?', or "". It runs on the loop thread. On failure one
 * line in error[256]. */
typedef void (*net_http_handler)(void *context, const char *path, const char *query, int *status,
                                 const char **content_type, struct buf *body);
enum status net_http_start(struct net *net, const char *url, net_http_handler handler,
                           void *context, char *error);

#endif
