/* peers: the links to the other replicas of the own group.
 *
 * Each replica dials each other one and uses that link for sending only; what the other sends comes
 * on the link that it dialled, as an accepted connection. A link that breaks, or is silent for an
 * election timeout, is dialled again, each time with a fresh dialer, after a short pause with
 * jitter: so traffic is back within a fraction of a second after a partition heals, however long it
 * lasted.
 */
#ifndef RAFT_NET_PEERS_H
#define RAFT_NET_PEERS_H

#include "raft/net/conn.h"

struct peer;

struct peers {
    size_t n;
    struct peer *links[SPEC_MAX_REPLICAS]; /* in the order of the SPEC, self left out */
};

void peers_init(struct net *net);
void peers_start(struct net *net);
void peers_fini(struct net *net);

/* Takes the message over; drops it if there is no link or too much waits already. */
void peers_send(struct net *net, group_id group, raft_id to, enum io_class class,
                struct buf *message);

size_t peers_statistics(const struct peers *peers, struct net_peer_stats *stats, size_t max);

#endif
