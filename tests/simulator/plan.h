/* plan: everything that a seed decides before the run begins: how many servers and clients there
 * are, what the clients do, which faults happen and how often.
 *
 * Each purpose draws from random numbers of its own (plan_stream), and whatever is asked for on the
 * command line is applied after everything was drawn. So a run with one fault switched off, or with
 * fewer clients, is the same run in all else that was drawn.
 */
#ifndef TESTS_SIMULATOR_PLAN_H
#define TESTS_SIMULATOR_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/util/rng.h"

#define PLAN_MAX_CTRLERS  5
#define PLAN_MAX_GROUPS   4
#define PLAN_MAX_REPLICAS 5
#define PLAN_MAX_CLIENTS  30
#define PLAN_STEP_MS      100 /* a step: what happens at random begins and ends at its borders */

enum fault_class {
    FAULT_OF_NETWORK = 1,
    FAULT_OF_CRASHES = 2,
    FAULT_OF_CLOCKS = 4,
    FAULT_OF_DISKS = 8,
    FAULT_OF_MOVES = 16,
    FAULT_OF_REPLICAS = 32
};

/* X(NAME, "name", class, weight: how often beside the others, longest duration in steps, what) */
#define FAULT_MAP(X)                                                                               \
    X(LOSS, "loss", NETWORK, 60, 30, "messages are lost, up to 30 %")                              \
    X(DUPLICATION, "duplication", NETWORK, 60, 30, "messages between replicas arrive twice")       \
    X(REORDERING, "reordering", NETWORK, 60, 30, "messages overtake each other")                   \
    X(TAIL, "tail", NETWORK, 60, 30, "some messages take up to seconds")                           \
    X(PARTITION, "partition", NETWORK, 60, 30, "some servers of a group, or of all, are cut off")  \
    X(ONE_WAY, "one-way", NETWORK, 60, 30, "what one server sends to another gets lost")           \
    X(CLOG, "clog", NETWORK, 60, 20, "what one server sends to another waits")                     \
    X(CLIENT_CUT, "client-cut", NETWORK, 60, 20, "a client is cut off from some servers")          \
    X(OLD_LEADER, "old-leader", NETWORK, 60, 30,                                                   \
      "a leader is alone with some clients, while others go on without it")                        \
    X(CRASH, "crash", CRASHES, 80, 20, "a power cut of one server")                                \
    X(CRASH_AT, "crash-at", CRASHES, 80, 10,                                                       \
      "a power cut after a server's n-th event from now on")                                       \
    X(RESTART, "restart", CRASHES, 40, 3, "an orderly end and a new start")                        \
    X(PAUSE, "pause", CRASHES, 60, 20, "a server does nothing for a while")                        \
    X(SWIZZLE, "swizzle", CRASHES, 25, 20, "a group's servers end one by one, start in any order") \
    X(GROUP_RESTART, "group-restart", CRASHES, 25, 10, "a power cut of a whole group")             \
    X(CLUSTER_RESTART, "cluster-restart", CRASHES, 10, 5, "a power cut of everything")             \
    X(WIPE, "wipe", CRASHES, 4, 20, "a server loses its disk, for good")                           \
    X(CLIENT_END, "client-end", CRASHES, 30, 1,                                                    \
      "a client ends amid its operations, another comes")                                          \
    X(CLOCK_JUMP, "clock-jump", CLOCKS, 60, 1, "a wall clock jumps, by up to days")                \
    X(CLOCK_DRIFT, "clock-drift", CLOCKS, 60, 60, "a server's clocks run at 0.5 to 2 of the time") \
    X(DISK_SLOW, "disk-slow", DISKS, 60, 30, "a disk takes 2 to 200 times as long")                \
    X(DISK_STUCK, "disk-stuck", DISKS, 40, 20, "a disk does nothing for a while")                  \
    X(DISK_FULL, "disk-full", DISKS, 40, 20, "a disk is full for a while")                         \
    X(WRITE_ERROR, "write-error", DISKS, 30, 20, "a write of the Raft log fails")                  \
    X(SYNC_ERROR, "sync-error", DISKS, 30, 20, "a sync of the Raft log fails")                     \
    X(STATE_ERROR, "state-error", DISKS, 30, 20, "a checkpoint or an install fails")               \
    X(READ_ERROR, "read-error", DISKS, 20, 20, "a read of the state fails")                        \
    X(BIT_FLIP, "bit-flip", DISKS, 8, 10, "a bit of a Raft log flips while its server is down")    \
    X(MOVES, "moves", MOVES, 0, 1, "joins, leaves and moves")                                      \
    X(REPLICAS, "replicas", REPLICAS, 0, 1, "replicas are added, removed and replaced")

enum fault {
#define FAULT_ENUM(name, text, class, weight, steps, what) FAULT_##name,
    FAULT_MAP(FAULT_ENUM)
#undef FAULT_ENUM
        FAULT_N
};

struct fault_kind {
    const char *name;
    enum fault_class class;
    uint32_t weight;
    uint32_t max_steps;
    const char *what;
};
extern const struct fault_kind fault_kinds[FAULT_N];
enum fault fault_find(const char *name); /* FAULT_N: there is none of that name */

struct profile {
    const char *name;
    const char *what;
    uint32_t classes; /* faults of these classes, ored */
    bool swarm;       /* a random half of them; or all */
    uint32_t faults_per_100_s_min, faults_per_100_s_max;
    uint32_t changes_per_100_s_min, changes_per_100_s_max;
    uint32_t steps;
};
extern const struct profile profiles[];
extern const size_t n_profiles;
const struct profile *profile_find(const char *name); /* NULL: there is none */

/* What the command line asks for; 0 and NULL: as the profile and the seed say. */
struct plan_wishes {
    const struct profile *profile; /* never NULL */
    uint32_t steps;
    uint32_t max_ctrlers, max_groups, max_replicas, max_clients;
    bool without[FAULT_N];
};

enum operation_kind {
    OPERATION_KIND_GET,
    OPERATION_KIND_PUT,
    OPERATION_KIND_APPEND,
    OPERATION_KIND_DELETE,
    OPERATION_KIND_CAS_ABSENT,
    OPERATION_KIND_CAS_VALUE,
    OPERATION_KIND_MANY, /* several keys of one shard */
    OPERATION_KIND_SCAN,
    OPERATION_KIND_N
};

struct plan {
    uint64_t seed;
    const struct profile *profile;
    uint32_t steps;

    uint32_t n_ctrlers, n_groups, n_clients;
    uint32_t replicas[PLAN_MAX_GROUPS];
    uint32_t n_shards;
    bool use_wal;
    bool snapshots;
    uint32_t max_raft_state, snapshot_chunk_bytes, max_sessions, piece_bytes;

    uint32_t max_copies, copy_bytes_per_s; /* of shards on their way to a group; 0: the default */

    uint32_t operations_per_100_s; /* begun, by all clients together */
    uint32_t follow_percent;       /* a write that succeeded is followed by another client's get */
    uint32_t max_outstanding;      /* of one client */
    uint32_t n_keys;
    uint32_t skew;                     /* 1: all keys alike; 2, 3: some are hot */
    uint32_t shares[OPERATION_KIND_N]; /* how often, beside the others */
    uint32_t operation_ms_min;         /* deadlines */
    uint32_t operation_ms_max;         /* */
    uint32_t large_ppm, large_bytes;   /* values, now and then */
    uint32_t changes_per_100_s;        /* of the configuration */
    uint32_t replicas_per_100_s;       /* changes of a team's replicas; 0: none, and who lost its
                                          disk stays away */
    uint32_t fault_ppm[FAULT_N];       /* begins, per step; 0: never */
};

void plan_make(struct plan *plan, uint64_t seed, const struct plan_wishes *wishes);
/* Random numbers for one purpose, by name. */
struct rng plan_stream(uint64_t seed, const char *purpose);

#endif
