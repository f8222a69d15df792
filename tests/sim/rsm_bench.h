/* rsm_bench: the replicas of one group in one thread, for tests of the runtime.
 *
 * Each replica has a log and a state in memory, a clock of its own for cluster time, and a counter
 * as its service. Messages take one millisecond. A test drives time, cuts and joins replicas,
 * crashes and starts them, holds back a disk, and reads what became of its proposals and reads.
 *
 * Checked all the time: every end is told once; replicas that apply the same index apply the same
 * command at the same stamp; indices are applied in order; stamps grow; a halted replica is silent.
 */
#ifndef TESTS_SIM_RSM_BENCH_H
#define TESTS_SIM_RSM_BENCH_H

#include "raft/rsm.h"
#include "tests/sim/mem_log.h"
#include "tests/sim/mem_state.h"

#define BENCH_MAX_REPLICAS 6
#define BENCH_MAX_RESULT   64

#define BENCH_MAX_PEERS (2 * RAFT_MAX_SERVERS)

struct bench;

/* What a test waits for: a proposal's or a read's end. Zero it before use; it must outlive its end
 * or the bench. */
struct bench_call {
    uint32_t ended; /* times: 1 when told */
    enum status status;
    char result[BENCH_MAX_RESULT];
    int64_t value;      /* of a read: the counter at that moment */
    raft_index index;   /* of a change: its configuration's */
    const char *reason; /* likewise */
    uint64_t ended_ms;
    struct bench_replica *replica;
};

struct bench_replica {
    struct io_net net; /* first */
    struct bench *bench;
    raft_id id;
    struct mem_log *log;
    struct mem_state *state;
    struct group *group; /* NULL: down */
    bool cut;            /* no message passes */
    bool deaf;           /* receives nothing, may send */
    bool hold_log;       /* its log writes do not become durable */
    bool hold_state;     /* background work of its state stands still */
    bool halted;
    enum status halt_status;
    int64_t skew_us; /* of its wall clock */
    uint32_t sent;   /* messages, by all its lives */
    uint32_t restores, role_changes;
    bool was_leader;
    raft_index last_applied; /* in this life of its state */
    uint64_t last_stamp;
    uint64_t floor; /* what stamp_floor answers */
    bool late;      /* the counter is written to the state when a checkpoint begins */
    bool has_unsaved;
    int64_t unsaved;      /* the counter, if it was not written yet */
    uint32_t parts;       /* that it wants to write before a checkpoint; and those that it */
    uint32_t parts_saved; /* wrote, in all its lives */
    uint64_t incarnation;
    bool joins;                     /* starts without a bootstrap configuration */
    raft_id peers[BENCH_MAX_PEERS]; /* that the group wants links to */
    size_t n_peers;
    uint32_t peers_set; /* times */
    bool open;          /* and that others be let in */
};

/* The options of a replica are taken when it starts; `options.raft.id` and seed are set then. */
struct bench *bench_create(size_t n, uint64_t seed);
void bench_destroy(struct bench **bench);
struct group_options *bench_options(struct bench *bench);
uint64_t bench_now_ms(const struct bench *bench);
struct bench_replica *bench_replica(struct bench *bench, raft_id id); /* 1.. */

void bench_start(struct bench *bench, raft_id id);
/* One more replica, down and empty, that will join; its id. */
raft_id bench_add(struct bench *bench);
/* Loses the disk of a replica that is down: it comes back as another one, which joins. */
void bench_wipe(struct bench *bench, raft_id id);
void bench_start_all(struct bench *bench);
/* A crash; `survivors` of the log writes not yet synced had reached the disk. */
void bench_crash(struct bench *bench, raft_id id, size_t survivors);
enum status bench_try_start(struct bench *bench, raft_id id);

/* One millisecond of all replicas; many; until a condition holds (false: it did not in time). */
void bench_turn(struct bench *bench);
void bench_run(struct bench *bench, uint64_t ms);
bool bench_run_until_ended(struct bench *bench, const struct bench_call *call, uint64_t max_ms);

/* Runs until one connected replica leads and is ready; its id. Fails the test after 10 s. */
raft_id bench_leader(struct bench *bench);
/* Some other replica that is up. */
raft_id bench_other(struct bench *bench, raft_id id);

/* Commands: "inc", "dec", "null", "pad N" (N bytes of ballast), "bad" (unknown to the service). */
void bench_propose(struct bench *bench, raft_id id, const char *command, struct bench_call *call);
void bench_propose_stamped(struct bench *bench, raft_id id, const char *command, uint64_t min_stamp,
                           struct bench_call *call);
void bench_read(struct bench *bench, raft_id id, struct bench_call *call);
/* Asks a replica to add (at its URL), remove or leave alone the replica `about`. */
void bench_change(struct bench *bench, raft_id id, enum group_change_kind kind, raft_id about,
                  struct bench_call *call);
/* The flags of a replica in the configuration that another one has in force; 0: it is not in it. */
uint8_t bench_flags(struct bench *bench, raft_id at, raft_id about);
/* To whoever leads, until one try ends well; the result is the counter after it. */
int64_t bench_inc(struct bench *bench);
/* One event straight to a replica. */
void bench_event(struct bench *bench, raft_id id, struct io_event *event);

/* The counter as a replica's state has it. */
int64_t bench_counter(struct bench *bench, raft_id id);
/* Runs until all that are up and connected have applied the same, and asserts equal states. */
void bench_converge(struct bench *bench);
/* The test made another history up: what was applied at which index is not compared with before. */
void bench_forget_history(struct bench *bench);

#endif
