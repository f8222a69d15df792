/* world: many replicas and clients in one thread and virtual time, on a simulated network and disk.
 *
 * It implements struct io_net, and owns a mem_log and a mem_state per replica for the other two
 * tables of raft/io.h; the servers and clerks that run in it are the shipped ones. One seed decides
 * everything: delays, losses, and through them every election. Nothing here knows what the servers
 * do: a node is a table of functions (world_node_ops), made anew from its disk at every start.
 *
 * Time is in microseconds; servers see milliseconds. Events of one instant for one node form a
 * turn.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdio.h>

#include "raft/io.h"
#include "raft/rsm.h"
#include "raft/util/rng.h"

#define WORLD_MAX_NODES   64
#define WORLD_MAX_CLIENTS 128

struct world;
struct world_node;
struct mem_state;

/* What a running server needs; like the host in production. */
struct world_parts {
    struct world *world;
    size_t node; /* its number */
    group_id gid;
    raft_id id;
    struct spec spec;
    uint64_t incarnation; /* of the replica: another one after world_wipe */
    bool joins;           /* an existing group: no bootstrap configuration */
    uint64_t seed;
    uint64_t now_ms;
    struct group_world io;
    const struct trace *trace; /* lines go to stderr if SIM_TRACE is set in the environment */
    struct io_log_content *log_content;
    const struct io_state_meta *state_meta;
};

struct world_node_ops {
    /* Makes the server from what its disk holds. context is the node's. NULL: that can't be read
     * (world_start then fails the test, world_try_start is false). */
    void *(*create)(void *context, const struct world_parts *parts);
    void (*destroy)(void **server);
    void (*step)(void *server, const struct io_event *event);
    uint64_t (*next_deadline_ms)(void *server);
    struct group *(*group)(void *server);
    /* Called after each step of this server; checks of one's own. May be NULL. */
    void (*after_step)(void *context, void *server, size_t node);
};

/* The public suites' network (scenarios of the 6.824 and 6.5840 courses). */
struct world_faults {
    bool unreliable;      /* 0..26 ms delay, 10 % of requests and 10 % of replies are lost */
    bool long_reordering; /* 2/3 of the replies are held back 200..2200 ms */
    uint32_t answer_bytes_per_ms; /* how fast answers come to clients and to servers as clients; 0:
                                     at once */
    /* Rates in parts per million, of messages between replicas and of requests and answers. A lost
     * message of a stream breaks the stream; streams neither duplicate nor reorder. */
    uint32_t loss_ppm;
    uint32_t duplicate_ppm;
    uint32_t reorder_ppm; /* held back by up to 20 ms, so that later ones overtake */
    uint32_t tail_ppm;    /* held back by up to tail_ms, most of them much less */
    uint32_t tail_ms;
    bool wrongly_gone; /* who is cut off from a living peer may be told that its process ended */
};

struct world_counts {
    uint64_t rpcs; /* requests sent between replicas: votes, appends, heartbeats, snapshots */
    uint64_t client_rpcs; /* requests sent by clients and by servers as clients */
    uint64_t bytes;       /* of requests sent and answers delivered, as the public suites count */
    uint64_t messages;
    uint64_t events;                                        /* delivered */
    uint64_t lost, duplicated, reordered, delayed, clogged; /* messages, by the faults */
    uint64_t torn; /* writes that a WAL found torn at a start */
};

struct world *world_create(uint64_t seed);
void world_destroy(struct world **world);

/* ---- Nodes ---- */

/* Adds a replica, not yet started; returns its number. Its URL is that of the spec under id. */
size_t world_add_node(struct world *world, group_id gid, raft_id id, const struct spec *spec,
                      const struct world_node_ops *ops, void *context);
/* A SPEC of n replicas (ids 1..n) with URLs of this world. */
void world_make_spec(struct world *world, group_id gid, size_t n, struct spec *spec);

void world_start(struct world *world, size_t node);
/* A power cut: what was not synced is lost; nothing more is sent. */
void world_crash(struct world *world, size_t node);
/* A power cut in the middle of the node's next event, before its turn ends. Forgotten when the
 * process ends otherwise. */
void world_crash_amid(struct world *world, size_t node);
/* An orderly end: as a crash, but everything queued for the disk is written first. */
void world_stop(struct world *world, size_t node);
bool world_is_running(const struct world *world, size_t node);
void *world_server(const struct world *world, size_t node); /* NULL if it does not run */
struct group *world_group(const struct world *world, size_t node);
size_t world_node_count(const struct world *world);
/* Bytes of the Raft log and of the whole state that the node's disk holds. */
uint64_t world_log_bytes(const struct world *world, size_t node);
uint64_t world_state_bytes(const struct world *world, size_t node);
/* The node's state, for checkers. */
const struct mem_state *world_state(const struct world *world, size_t node);
/* Why the node halted in its present or last life; NULL if it did not. After a fault of its disk it
 * ends, as its process would. Without one it stays, for a test to look at, and is a failure. */
const char *world_halted(const struct world *world, size_t node);
/* The first halt of any node without a fault of its disk; NULL: there was none. */
const char *world_unexplained_halt(const struct world *world);

/* The node's wall clock is so far from the world's; it may jump. */
void world_set_clock_skew(struct world *world, size_t node, int64_t skew_us);

/* ---- Network ---- */

void world_set_faults(struct world *world, const struct world_faults *faults);
/* A node that is not connected neither sends nor gets anything, from peers or clients. */
void world_connect(struct world *world, size_t node, bool connected);
bool world_is_connected(const struct world *world, size_t node);
/* Cuts or joins one pair of nodes, both directions. */
void world_cut_pair(struct world *world, size_t a, size_t b, bool cut);
/* Cuts or joins one client from one node. */
void world_cut_client(struct world *world, size_t client, size_t node, bool cut);

/* One direction of a pair: what `from` sends does not reach `to`. */
void world_cut_one_way(struct world *world, size_t from, size_t to, bool cut);
/* What `from` sends to `to` waits, in order, until the link is unclogged. */
void world_clog(struct world *world, size_t from, size_t to, bool clogged);
/* Every cut, clog and disconnection ends. */
void world_heal(struct world *world);

/* ---- Processes ---- */

/* As SIGSTOP and SIGCONT: a paused server does nothing, what is sent to it waits, time goes on. */
void world_pause(struct world *world, size_t node, bool paused);
bool world_is_paused(const struct world *world, size_t node);
/* A node that does not run loses its disk and comes back as another incarnation, which the peers'
 * links refuse (as raft/net does): it is a lost replica, and must do no harm. */
void world_wipe(struct world *world, size_t node);
bool world_is_wiped(const struct world *world, size_t node);
/* A node that does not run, with an empty disk, will join its group under its id: it starts without
 * a bootstrap configuration, takes any leader of the group, and is no lost replica any more. */
void world_join(struct world *world, size_t node);
/* How many replicas there were under this node's number: 1, and one more with each world_wipe. */
uint32_t world_incarnation(const struct world *world, size_t node);

/* ---- Clocks ---- */

/* The node's clocks, monotonic and wall, run at rate_ppm / 1,000,000 of the world's from now on. */
void world_set_clock_rate(struct world *world, size_t node, uint32_t rate_ppm);

/* ---- Disks ----
 *
 * With world_use_wal the log of nodes added later is the shipped WAL on a faulty disk in memory
 * (tests/sim/faulty_files.h): crashes tear and lose sectors that were not synced. Without, it is
 * mem_log. */
void world_use_wal(struct world *world, bool use);

struct world_disk {
    uint32_t slow_factor; /* writes and syncs last so many times as long; 0 and 1: as usual */
    bool stuck;           /* nothing ends until it is unstuck */
    bool full;            /* writes end with ST_NO_SPACE, and IO_EVENT_DISK_SPACE comes before */
};
/* All zero: the disk is well again, and errors that were to come don't. */
void world_set_disk(struct world *world, size_t node, const struct world_disk *disk);

enum world_disk_fault {
    WORLD_DISK_WRITE_ERROR, /* the log's next write fails (EIO) */
    WORLD_DISK_SYNC_ERROR,  /* the log's next sync fails, and may lose what it should have saved */
    WORLD_DISK_STATE_ERROR, /* the state's next checkpoint or install fails */
    WORLD_DISK_READ_ERROR,  /* the state's next read fails */
    WORLD_DISK_N_FAULTS
};
/* Until the process ends; of a node that does not run, at its next start or later. */
void world_fail_disk(struct world *world, size_t node, enum world_disk_fault fault);
/* Flips one bit of what the disk of a node that does not run holds: of the WAL's files or of the
 * state. At its start the damage is found, or it was in bytes that nobody needs: world_start then
 * may refuse, see world_try_start. Never in the last write of the log, whose damage nothing can
 * tell from a torn write. False if there is nothing to damage (mem_log can't be). */
bool world_flip_bit(struct world *world, size_t node);
/* As world_start, but a disk that can't be opened (damage, an error) is no failure of the test:
 * false, and the node stays down. */
bool world_try_start(struct world *world, size_t node);

/* ---- Observing ---- */

/* Called around everything a node does; what is NULL is not called. For checkers, which change
 * nothing. */
struct world_observer {
    void *context;
    void (*started)(void *context, struct world *world, size_t node);
    void (*stepped)(void *context, struct world *world, size_t node,
                    const struct io_event *event); /* after each event */
    void (*sent)(void *context, struct world *world, size_t node, raft_id to,
                 struct slice message); /* to a peer, before its fate */
    void (*stopping)(void *context, struct world *world, size_t node); /* still there */
};
/* Adds one more, up to 4; copies it. */
void world_observe(struct world *world, const struct world_observer *observer);

/* Every event delivered, as one line each, to this file (NULL: none): equal for equal seeds. */
void world_record(struct world *world, FILE *file);

/* ---- Clients ---- */

/* What is NULL is nothing to this client. */
struct world_client_ops {
    void (*message)(void *client, uint64_t now_ms, struct slice message);
    void (*down)(void *client, uint64_t now_ms, const char *url);
    void (*tick)(void *client, uint64_t now_ms);
    uint64_t (*next_deadline_ms)(void *client);
};
size_t world_add_client(struct world *world, const struct world_client_ops *ops, void *client);
void world_remove_client(struct world *world, size_t client);
/* The client's transport: sends to the server at the URL (takes the buffer over). */
void world_client_send(struct world *world, size_t client, const char *url, struct buf *message);

/* The client's next deadline may have changed: after an operation was started from outside. */
void world_reschedule(struct world *world, size_t client);

/* ---- Time ---- */

uint64_t world_now_ms(const struct world *world);
uint64_t world_now_us(const struct world *world);
/* Runs for so long. */
void world_run_ms(struct world *world, uint64_t ms);
/* Runs until done(context) is true, asked after every event and every millisecond, or `ms` passed;
 * returns whether it was. */
bool world_run_until(struct world *world, uint64_t ms, bool (*done)(void *context), void *context);
/* Tells the node that its turn ended: after something was proposed to it from outside. */
void world_kick(struct world *world, size_t node);

const struct world_counts *world_counted(const struct world *world);
/* Requests that this replica was sent and got. */
uint64_t world_rpcs_at(const struct world *world, size_t node);
/* Requests that it sent to its peers, and that clients and other servers sent to it. */
uint64_t world_issued_at(const struct world *world, size_t node);
struct rng *world_rng(struct world *world);

#endif
