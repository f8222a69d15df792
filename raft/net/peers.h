/* peers: the links to the other replicas of the own group.
 *
 * Each replica dials each other one and uses that link for sending only; what the other sends comes
 * on the link that it dialled, as an accepted connection. A link that breaks, or is silent for an
 * election timeout, is dialled again, each time with a fresh dialer, after a short pause with
 * jitter: so traffic is back within a fraction of a second after a partition heals, however long it
 * lasted. When nothing listens any more where the peer did, though its machine answers, and it has
 * no link to us either, its process has ended: that is told (PEER_GONE), once until the link is up.
 *
 * Who they are is what the SPEC says until the group says it (peers_set), again and again: links to
 * those that left end, in both directions, and new ones begin. A replica that joins does not know
 * them yet, and one that was away for long may know the wrong ones (`open`): it takes whoever is
 * admitted, and answers on the link that the other dialled.
 */
#ifndef RAFT_NET_PEERS_H
#define RAFT_NET_PEERS_H

#include "raft/net/conn.h"

struct peer;

struct peers {
    struct peer **links; /* self left out; those that are gone stay until their conn is closed */
    size_t n, capacity;
    bool open;    /* there may be others */
    bool started; /* the loop runs: links are dialled */
};

void peers_init(struct net *net);
void peers_start(struct net *net);
void peers_fini(struct net *net);

/* See struct io_net_ops. May be called while an event is delivered. */
void peers_set(struct net *net, const struct io_peer *peers, size_t n, bool open);
/* Whether it is the fingerprint of another replica's URL, and not of our own. */
bool peers_has_url(const struct net *net, uint64_t fingerprint);
/* Whether a replica of that id may be a peer. */
bool peers_has(const struct net *net, raft_id id);
/* The own hello changed: net_check_cluster on each link. The same in endpoints.h, accepted.h. */
void peers_check_cluster(struct net *net);

/* Takes the message over; drops it if there is no link or too much waits already. */
void peers_send(struct net *net, group_id group, raft_id to, enum io_class class,
                struct buf *message);

size_t peers_statistics(const struct peers *peers, struct net_peer_stats *stats, size_t max);

#endif
