/* Shared by faults.c (when), faults_network.c and faults_nodes.c (what). */
#ifndef TESTS_SIMULATOR_FAULTS_INTERNAL_H
#define TESTS_SIMULATOR_FAULTS_INTERNAL_H

#include "tests/simulator/faults.h"

#define MAX_CUTS    64
#define MAX_PLANNED 64

struct node_state {
    bool damaged;       /* its disk was wiped or its bits flipped: it may have lost something */
    bool lost;          /* for good */
    bool wiped;         /* it runs, but its peers will have nothing to do with it */
    bool joiner;        /* it was emptied to join again, and does not vote yet */
    bool is_down;       /* it was ended here, or seen to have ended by itself */
    uint32_t start_at;  /* step; while it is down */
    uint32_t resume_at; /* step; 0: it is not paused */
    uint32_t slow_until, stuck_until, full_until, drift_until; /* steps; 0: it is not */
    uint32_t slow_factor;
    uint64_t n_events;
    uint64_t crash_at; /* n_events; 0: never */
    bool crash_amid;   /* in the event after it, before its turn ends */
    uint32_t crash_steps;
};

enum cut_type {
    CUT_LINK,   /* what `from` sends to `to` gets lost */
    CUT_CLOG,   /* what `from` sends to `to` waits */
    CUT_CLIENT, /* clients of `from` from nodes of `to` */
    CUT_N
};

struct cut {
    enum cut_type type;
    bool both_ways;
    uint32_t until;    /* step */
    uint64_t from, to; /* sets of nodes, or of the workload's clients, as bits */
};

/* A server that goes down in a later step: a swizzle's. */
struct planned_crash {
    size_t node;
    uint32_t at, until; /* steps */
};

struct faults {
    struct run *run;
    struct world *world;
    struct rng streams[FAULT_N];
    uint32_t step;
    size_t n_nodes;
    struct node_state nodes[WORLD_MAX_NODES];
    bool crash_due;      /* a server reached the event that is its last */
    struct rng restarts; /* when servers that halted start anew */

    struct world_faults rates;
    uint32_t rate_until[FAULT_N]; /* of LOSS, DUPLICATION, REORDERING, TAIL */
    struct cut cuts[MAX_CUTS];
    size_t n_cuts;
    uint8_t cut_count[CUT_N][WORLD_MAX_NODES][WORLD_MAX_NODES]; /* how many cuts hold it */
    struct planned_crash planned[MAX_PLANNED];                  /* swizzles under way */
    size_t n_planned;
};

/* One fault of this kind: how long in steps, and the numbers that decide the rest. False: it can't
 * happen now. */
struct fault_draw {
    enum fault fault;
    uint32_t steps;
    uint64_t a, b, c; /* random */
};
/* The node that the fault hits: half of the time the leader of the team that was drawn, where
 * faults do most; else the node that was drawn. */
size_t faults_aim(const struct faults *faults, const struct fault_draw *draw);
bool faults_begin_network(struct faults *faults, const struct fault_draw *draw);
bool faults_begin_node(struct faults *faults, const struct fault_draw *draw);
bool faults_begin_disk(struct faults *faults, const struct fault_draw *draw);

void faults_end_network(struct faults *faults, bool all);
void faults_end_nodes(struct faults *faults, bool all);

/* The team's leader; SIZE_MAX: there is none. */
size_t faults_leader_of(const struct faults *faults, size_t team);
/* The server's clocks run at half the time, or it is paused for the first part of it, or neither.
 */
void faults_slow_down(struct faults *faults, size_t node, uint64_t random, uint32_t steps);
size_t faults_team_of(const struct faults *faults, size_t node);
void faults_crash(struct faults *faults, size_t node, uint32_t steps);

#endif
