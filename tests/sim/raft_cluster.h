/* raft_cluster: one Raft group in a simulated world, with a service that only records what is
 * applied, and the helpers of the public Raft suites: submit, agree, connect, crash, count.
 *
 * Commands are numbered by the service (1, 2, …), apart from the entries of the log: no-ops and
 * configurations don't count. Always on: every replica applies the same command under the same
 * number, in order, and no term has two leaders.
 */
#ifndef TESTS_SIM_RAFT_CLUSTER_H
#define TESTS_SIM_RAFT_CLUSTER_H

#include "tests/sim/world.h"

#define RAFT_CLUSTER_MAX 9
#define NO_LEADER        SIZE_MAX

struct raft_cluster;

struct raft_cluster_options {
    size_t n;
    bool unreliable;
    bool snapshots; /* a checkpoint and a compacted log about every 10 commands */
    uint64_t seed;
    bool use_wal; /* see world_use_wal */
};

/* Starts n connected replicas. name: for the statistics line. */
struct raft_cluster *raft_cluster_create(const char *name,
                                         const struct raft_cluster_options *options);
/* Prints the statistics line: virtual seconds, peers, RPCs, bytes, commits. */
void raft_cluster_destroy(struct raft_cluster **cluster);

struct world *raft_cluster_world(struct raft_cluster *cluster);
size_t raft_cluster_size(const struct raft_cluster *cluster);

void raft_cluster_connect(struct raft_cluster *cluster, size_t i);
void raft_cluster_disconnect(struct raft_cluster *cluster, size_t i);
bool raft_cluster_is_connected(const struct raft_cluster *cluster, size_t i);
/* Cuts it off, and ends it if it runs. */
void raft_cluster_crash(struct raft_cluster *cluster, size_t i);
void raft_cluster_start(struct raft_cluster *cluster, size_t i);
/* Starts it if it does not run, and connects it. */
void raft_cluster_revive(struct raft_cluster *cluster, size_t i);
bool raft_cluster_is_running(const struct raft_cluster *cluster, size_t i);
/* One more replica of the group, which joins it: started, connected, not yet added. Its id is one
 * more than its number. */
size_t raft_cluster_add(struct raft_cluster *cluster);
/* Ends the replica if it runs; it comes back with an empty disk, as another one that joins. */
void raft_cluster_rejoin(struct raft_cluster *cluster, size_t i);
/* Orders replica i to change the configuration; done is called in a later step, or at once. */
void raft_cluster_order(struct raft_cluster *cluster, size_t i, enum group_change_kind kind,
                        raft_id about, group_change_done done, void *context);
/* Orders whoever leads, until one change ends well (about 20 s at most). */
void raft_cluster_change(struct raft_cluster *cluster, enum group_change_kind kind, raft_id about);
/* What replica i has in force, and what it says of another one; 0: it is no member. */
const struct raft_configuration *raft_cluster_configuration(const struct raft_cluster *cluster,
                                                            size_t i);
uint8_t raft_cluster_flags(const struct raft_cluster *cluster, size_t i, raft_id about);
void raft_cluster_sleep(struct raft_cluster *cluster, uint64_t ms);
void raft_cluster_set_unreliable(struct raft_cluster *cluster, bool unreliable, bool reordering);

/* Up to 10 tries of 450..549 ms each: the one connected leader of the highest term. Fails the test
 * if there is none. */
size_t raft_cluster_check_leader(struct raft_cluster *cluster);
/* No connected replica claims to lead. */
void raft_cluster_check_no_leader(struct raft_cluster *cluster);
/* All connected replicas are in the same term; returns it. */
raft_term raft_cluster_check_terms(struct raft_cluster *cluster);
bool raft_cluster_leads(const struct raft_cluster *cluster, size_t i);
raft_term raft_cluster_term(const struct raft_cluster *cluster, size_t i);

/* Submits to replica i. False: it does not lead. Else the number the command will have if it
 * commits, and the term. */
bool raft_cluster_submit(struct raft_cluster *cluster, size_t i, struct slice command,
                         uint64_t *number, raft_term *term);
bool raft_cluster_submit_u64(struct raft_cluster *cluster, size_t i, uint64_t command,
                             uint64_t *number, raft_term *term);
/* Ends the turn of those that were given commands: what is submitted at one instant is one turn, as
 * with a server that finds several requests in its inbox. Whatever lets time pass does it too. */
void raft_cluster_end_turns(struct raft_cluster *cluster);
/* Agreement: submits round-robin until one accepts, looks every 20 ms for up to 2 s
 * whether `expected` replicas applied that very command, and again (if retry) for 10 s in all.
 * Fails the test otherwise. Returns the number. */
uint64_t raft_cluster_agree(struct raft_cluster *cluster, struct slice command, size_t expected,
                            bool retry);
uint64_t raft_cluster_agree_u64(struct raft_cluster *cluster, uint64_t command, size_t expected,
                                bool retry);
/* How many replicas have applied that number. */
size_t raft_cluster_applied(const struct raft_cluster *cluster, uint64_t number);
/* Waits until n replicas applied the number (about 30 s at most). False if a term above `term` was
 * seen first. */
bool raft_cluster_wait(struct raft_cluster *cluster, uint64_t number, size_t n, raft_term term);
/* The command applied under a number; empty if none was. */
struct slice raft_cluster_command(const struct raft_cluster *cluster, uint64_t number);
uint64_t raft_cluster_last_number(const struct raft_cluster *cluster);
/* How many snapshots the replica installed in its present life. */
uint64_t raft_cluster_snapshots_installed(const struct raft_cluster *cluster, size_t i);
/* The largest Raft log of all disks, bytes. */
uint64_t raft_cluster_max_log_bytes(const struct raft_cluster *cluster);
/* Requests that reached a replica: what the suites' Count test counts. */
uint64_t raft_cluster_rpcs(const struct raft_cluster *cluster);
uint64_t raft_cluster_bytes(const struct raft_cluster *cluster);

#endif
