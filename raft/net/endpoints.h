/* endpoints: the servers that this process calls, by group and URL, as their client.
 *
 * An endpoint connects when something is sent to it. Requests wait (bounded) while it connects; any
 * break, a failed dial or a refusal drops them and is told once, as IO_EVENT_ENDPOINT_DOWN: nothing
 * sent before will be answered. While answers are outstanding the connection is pinged, so that a
 * silent partition shows within ENDPOINT_SILENCE_MS; an idle connection stays open.
 */
#ifndef RAFT_NET_ENDPOINTS_H
#define RAFT_NET_ENDPOINTS_H

#include "raft/net/conn.h"

#define ENDPOINT_SILENCE_MS 1000 /* while answers are outstanding; also the limit of a dial */

struct endpoint;

struct endpoints {
    struct endpoint *by_url; /* uthash: of each URL the first one made, which leads to the others */
    struct endpoint **all;   /* number - 1 */
    size_t n, capacity;
    struct inbox_pool pool; /* of all answers being put together */
};

void endpoints_init(struct net *net);
void endpoints_fini(struct net *net);

/* See struct io_net_ops. */
io_endpoint endpoints_intern(struct net *net, group_id gid, const char *url);
/* Takes the message over; drops it when too much waits already. */
void endpoints_send(struct net *net, io_endpoint number, struct buf *message);
void endpoints_check_cluster(struct net *net);

#endif
