/* net_internal: struct net, as its own files see it. */
#ifndef RAFT_NET_NET_INTERNAL_H
#define RAFT_NET_NET_INTERNAL_H

#include "raft/net.h"
#include "raft/net/accepted.h"
#include "raft/net/conn.h"
#include "raft/net/endpoints.h"
#include "raft/net/http.h"
#include "raft/net/listener.h"
#include "raft/net/loop.h"
#include "raft/net/peer_key.h"
#include "raft/net/peers.h"
#include "raft/net/tls.h"
#include "raft/util/rng.h"

struct net {
    struct io_net io; /* first: what net_io gives out */
    struct loop loop;
    struct net_options options; /* its texts are copies */
    struct hello self;
    struct rng rng; /* for jitter */
    struct net_stats stats;

    struct conn_list dirty;  /* have something to send */
    struct conn_list failed; /* are over and not reaped yet */

    struct tls *tls;           /* NULL: no certificates */
    struct peer_key *peer_key; /* NULL: servers need not prove that they are */
    struct listener *listener; /* NULL: a client only */
    struct accepted accepted;
    struct peers peers;
    struct endpoints endpoints;
    struct http *http; /* NULL: no metrics page */
};

/* What the hello of `other` is worth to us in the role of `self`. */
enum status net_admit(struct net *net, const struct hello *self, const struct hello *other,
                      const char **reason);

/* The own hello changed: ends the connection (or NULL) if the other side showed that it belongs to
 * another cluster, which could not be told before. */
void net_check_cluster(struct conn *conn);

/* Bytes that nobody can guess. */
void net_random(void *bytes, size_t len);

#endif
