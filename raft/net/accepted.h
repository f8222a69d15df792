/* accepted: the connections that others opened to this process: peers that send to it, and clients.
 *
 * What one is, its hello says. A peer must be a replica of the own group (peers.h); a second
 * connection of the same peer replaces the first. A client gets a number (io_conn) that is never
 * used again. A client that lets too many answers pile up is no longer read, then closed; when all
 * together let too many pile up, the one with most of them is. One address may have only so many of
 * the connections. Who is refused, and why, is traced as a warning, seldom enough that nobody can
 * fill the disk with it.
 *
 * When all places are taken, the one that has been silent for longest gives way: whoever never said
 * hello, or has not proved that it is the peer it says it is, before any client; but no peer, and
 * nobody who was heard of just now or waits for an answer. So idle connections, however many, keep
 * nobody out, and who loses one dials again when it has something to say.
 */
#ifndef RAFT_NET_ACCEPTED_H
#define RAFT_NET_ACCEPTED_H

#include "raft/net/complaints.h"
#include "raft/net/conn.h"

struct visitor;
struct visitor_host;

struct accepted {
    struct visitor **slots; /* one per connection; NULL: free */
    uint32_t *free_slots;   /* the first n_slots - n are; the last of them is taken next */
    uint32_t n_slots, n;
    TAILQ_HEAD(strangers, visitor) strangers; /* who said no hello yet, the oldest first */
    struct visitor_host *hosts;               /* uthash: where they come from */
    uint64_t serial;                          /* of the last client */
    uint64_t waiting; /* bytes of answers, at most: what was sent since they were counted counts */
    struct inbox_pool pool;       /* of messages that clients have not finished */
    struct inbox_pool peers_pool; /* of those of peers: no client may keep them out */
    struct complaints complaints; /* of those who are refused */
};

void accepted_init(struct net *net);
void accepted_fini(struct net *net);

/* Takes over what the listener accepted, or refuses it. False: neither, as all places are taken and
 * nobody gives way yet; `may_wait` says that it will be asked again. */
bool accepted_add(struct net *net, nng_stream *stream, bool may_wait);
/* Takes the message over; drops it if the client is gone. */
void accepted_reply(struct net *net, io_conn number, struct buf *message);

/* The connection that a peer opened and that is up, or NULL. */
struct conn *accepted_peer_conn(struct net *net, raft_id id);
/* Closes the connections of peers that are none of these, or another incarnation. */
void accepted_keep_peers(struct net *net, const struct io_peer *peers, size_t n);
void accepted_check_cluster(struct net *net);

#endif
