/* gather: on a busy machine, requests wait in the kernel's buffer and are read together.
 *
 * To receive one small frame costs two threads of nng a wake-up, three system calls and a turn:
 * about 35 us of CPU time, more than all else that a lone request costs its server besides its
 * round. A client with several requests under way loses little if its connection rests, after
 * something was read, until the next boundary of one or two milliseconds; what came meanwhile is
 * then one receive, and one round. All connections rest until the same boundaries, which are also
 * those of the rounds (group_set_pace).
 *
 * A connection with one or two requests under way never rests, nor one that brings many at once,
 * nor one whose requests are those of clients which just got their answers: nothing else would
 * come.
 */
#ifndef RAFT_NET_GATHER_H
#define RAFT_NET_GATHER_H

#include "raft/net/conn.h"

struct gather {
    uint32_t span_ms; /* 0: off */
    struct conn_list resting;
    struct timer timer; /* at the next boundary */
};

void gather_init(struct net *net);
void gather_fini(struct net *net);
/* After a receive that brought n messages: the connection rests, or receives on. */
void gather_or_receive(struct conn *conn, uint64_t n);
/* The connection ends. */
void gather_forget(struct conn *conn);

#endif
