/* rejoin: a replica that lost its data asks its group to be taken in again, by itself.
 *
 * It speaks to the group as a client: it looks at the group's replicas as their leader knows them,
 * has the one that it was before (the same id, another incarnation) removed, unless that one is
 * heard from, has itself added, and looks on until it votes. Every step may be repeated, and each
 * time it goes by what it finds, so it does not matter where an earlier process was interrupted.
 *
 * Pure: events in (raft/io.h), operations out. */
#ifndef CLIENT_REJOIN_H
#define CLIENT_REJOIN_H

#include "client/proto.h"
#include "raft/io.h"
#include "raft/rsm.h"

struct rejoin;

struct rejoin_options {
    struct io_net *net;
    uint32_t gid, id;
    uint64_t incarnation; /* of this replica, now */
    struct spec replicas; /* of the group as far as is known, this one among them */
    uint32_t alive_ms;    /* who was heard from within that time is alive, and not replaced */
    uint64_t seed;
    const struct trace *trace;
};

struct rejoin *rejoin_create(const struct rejoin_options *options, uint64_t now_ms);
/* The same for a server of the group: what is not given, the group's options say. NULL if replicas
 * is: the server's replica needs none. */
struct rejoin *rejoin_create_for(const struct group_options *group, struct io_net *net,
                                 const struct spec *replicas, uint64_t seed, uint64_t now_ms);
/* NULL inside is fine. */
void rejoin_destroy(struct rejoin **rejoin);
/* Every event of the server passes here as well; NULL is fine. */
void rejoin_step(struct rejoin *rejoin, const struct io_event *event);
uint64_t rejoin_next_deadline_ms(const struct rejoin *rejoin);
/* This replica votes again. */
bool rejoin_is_done(const struct rejoin *rejoin);

#endif
