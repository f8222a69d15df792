/* The parts of the simulated world: the queue of things to come, nodes, clients, streams. */
#ifndef TESTS_SIM_WORLD_INTERNAL_H
#define TESTS_SIM_WORLD_INTERNAL_H

#include "raft/store.h"
#include "tests/sim/faulty_files.h"
#include "tests/sim/mem_log.h"
#include "tests/sim/mem_state.h"
#include "tests/sim/world.h"

#define WORLD_MAX_OWNERS    (WORLD_MAX_NODES + WORLD_MAX_CLIENTS)
#define WORLD_MAX_OBSERVERS 4
#define WORLD_URL_SLOTS     256
#define WORLD_NO_NODE       UINT8_MAX
#define WORLD_NO_SLOT       UINT32_MAX
#define WORLD_NEVER_US      UINT64_MAX

/* Who opens streams to servers: nodes (as clients of others) and clients share one numbering. */
typedef uint32_t owner_id; /* a node's number, or WORLD_MAX_NODES + a client's */

enum item_type {
    ITEM_PEER_MESSAGE,  /* replica -> replica */
    ITEM_PEER_LINK,     /* a link between replicas came up or broke */
    ITEM_REQUEST,       /* stream owner -> server */
    ITEM_RESPONSE,      /* server -> stream owner */
    ITEM_STREAM_DOWN,   /* the owner learns that the stream broke */
    ITEM_STREAM_CLOSED, /* the server learns it */
    ITEM_WAKE_NODE,     /* a deadline */
    ITEM_WAKE_CLIENT,   /* a deadline */
    ITEM_LOG_WORK,      /* the log's disk finished a piece */
    ITEM_LOG_IDLE,      /* the log was not written for a while */
    ITEM_STATE_WORK,    /* the state's disk finished a piece */
    ITEM_DISK_SPACE     /* the disk crossed the low watermark */
};

struct item {
    uint64_t at_us;
    enum item_type type;
    size_t node;    /* where it happens, or from which server it comes */
    owner_id owner; /* streams and clients; of peers, the node that sends */
    uint64_t life;  /* of the node: events for an earlier life are ignored */
    io_conn conn;   /* streams */
    raft_id from;   /* peers */
    bool up;        /* links; space: it is low */
    bool gone;      /* links that are not up: the peer's process seems to have ended */
    struct buf bytes;
};

/* Things to come, by time and then by order of creation: a binary heap of numbers of slots. */
struct queue_key {
    uint64_t at_us, order;
    uint32_t slot;
};

struct queue {
    struct queue_key *heap;
    size_t n, capacity;
    uint64_t next_order;
    struct item *slots;
    uint32_t *place; /* of each slot: where it is in the heap */
    size_t n_slots, slots_capacity, place_capacity;
    uint32_t *free; /* slots */
    size_t n_free, free_capacity;
};

/* Items that wait for something else than time. */
struct waiting_room {
    struct item *items; /* in order of arrival */
    size_t n, capacity;
};

struct stream {
    io_conn conn;                               /* 0: not open */
    uint64_t last_request_us, last_response_us; /* order within the stream is kept */
};

/* What the WAL posted to its loop, to be run there. */
struct posted {
    void (*run)(void *arg);
    void *arg;
};

/* A log on a disk: mem_log, or the shipped WAL on a faulty disk. */
struct world_log {
    struct io_log io; /* first: counts what passes to the WAL */
    struct mem_log *mem;
    struct faulty_files *files; /* NULL: mem_log is the log */
    struct wal *wal;            /* NULL: not open */
    size_t n_writes, n_notes;   /* not yet handed to the disk (of the WAL) */
    uint64_t n_flushes;         /* so far, to know an idle moment */
    uint64_t idle_after;        /* this flush an idle moment was scheduled for */
    struct trace trace;         /* what it says is looked at, then passed on */
    struct posted *posted;
    size_t n_posted, posted_capacity;
};

/* A clock: at world time base_world_us it showed base_local_us; since then it runs at rate_ppm. */
struct world_clock {
    uint64_t base_world_us, base_local_us;
    uint32_t rate_ppm;
    int64_t skew_us; /* of the wall clock alone */
};

struct world_node {
    struct io_net net; /* first: the operations get back from it to the node */
    struct world *world;
    size_t number;
    group_id gid;
    raft_id id;
    struct spec spec;
    const char *url;
    const struct world_node_ops *ops;
    void *context;
    struct world_log log;
    struct mem_state *state;
    struct world_clock clock;
    void *server;  /* NULL: not running */
    uint64_t life; /* grows with every start and crash */
    bool connected;
    struct trace trace;
    uint64_t wake_us;
    uint32_t wake_slot;             /* of its deadline in the queue */
    uint64_t rpcs;                  /* requests that it got */
    uint8_t peers[SPEC_MAX_ID + 1]; /* numbers of the nodes of its group, by id */

    bool crashing; /* a power cut comes in its next event, before the turn's end */
    bool halting;  /* it halted in the step that runs now: the process ends after it */
    bool halted;
    char halt_reason[256];

    bool paused;
    uint64_t paused_ms; /* since when, by its own clock */
    uint64_t asleep_ms; /* what raft/net would not have listened in: see io_event's awake_ms */
    bool ending;        /* while its links are told of it */
    struct waiting_room room; /* what came while it was paused */

    /* As raft/net pins them: the incarnation of each node that this one has met; 0: none. */
    uint32_t incarnation;
    bool joined; /* this incarnation did */
    bool joins;  /* see world_join; it forgets that with its first configuration */
    bool lost;   /* wiped, and not made to join anew */
    bool members[SPEC_MAX_ID + 1]; /* by id: those that its links go to */
    bool open;                     /* it does not know them yet, and takes anybody */
    uint32_t pinned[WORLD_MAX_NODES];
    uint64_t link_us[WORLD_MAX_NODES]; /* when the last news of the link to each node comes */

    struct world_disk disk;
    /* What may explain that it halts. */
    bool damaged; /* bits of it flipped */
    bool was_hit; /* an error struck in this life, and another one was asked for since */
    bool asked_for[WORLD_DISK_N_FAULTS]; /* errors, in this life or since the last one */
    bool log_work_scheduled, state_work_scheduled;
    bool log_work_stuck, state_work_stuck; /* was due, waits for a stuck disk */
    uint64_t issued;                       /* requests that it sent to peers, and others to it */
};

struct world_client {
    const struct world_client_ops *ops; /* NULL: removed */
    void *client;
    uint64_t wake_us;
    uint32_t wake_slot;
};

struct world {
    struct rng rng;
    uint64_t now_us;
    io_conn next_conn;
    struct world_faults faults;
    struct world_counts counts;
    struct queue queue;
    bool use_wal;
    FILE *record;
    struct buf record_bytes; /* scratch */

    char unexplained_halt[320]; /* empty: none */

    struct world_observer observers[WORLD_MAX_OBSERVERS];
    size_t n_observers;

    struct world_node *nodes[WORLD_MAX_NODES];
    size_t n_nodes;
    uint8_t urls[WORLD_URL_SLOTS]; /* a hash table of the nodes' numbers + 1 by URL */
    struct world_client clients[WORLD_MAX_CLIENTS];
    size_t n_clients;
    bool cut[WORLD_MAX_NODES][WORLD_MAX_NODES]; /* from, to */
    bool clogged[WORLD_MAX_NODES][WORLD_MAX_NODES];
    struct waiting_room clog; /* what was sent over clogged links */
    bool client_cut[WORLD_MAX_CLIENTS][WORLD_MAX_NODES];
    struct stream streams[WORLD_MAX_OWNERS][WORLD_MAX_NODES];
};

extern const struct io_net_ops world_net_ops;

/* ---- world_queue.c ---- */

/* Adds a thing to come after `delay_us`; takes item->bytes over. Returns its slot. */
uint32_t world_schedule(struct world *world, uint64_t delay_us, struct item *item);
/* Takes back what was scheduled and has not come yet. */
void world_unschedule(struct world *world, uint32_t slot);
/* Takes the next thing that comes until end_us, and moves the world's time there. */
bool world_queue_pop(struct world *world, uint64_t end_us, struct item *item);
void world_queue_fini(struct world *world);
void world_room_add(struct waiting_room *room, struct item *item);
void world_room_fini(struct waiting_room *room);

/* ---- world_process.c ---- */

/* One event for a running server, then its turn's end. If it halts, its process ends here: the node
 * may not run any more afterwards. */
void world_deliver(struct world *world, struct world_node *node, struct io_event *event);
/* Keeps what is for a paused node; false if the item may happen now. */
bool world_hold_paused(struct world *world, struct item *item);

/* ---- world_clock.c ---- */

void world_clock_init(struct world_clock *clock);
uint64_t world_clock_us(const struct world *world, const struct world_node *node);
uint64_t world_clock_wall_us(const struct world *world, const struct world_node *node);
/* The node's next deadline may have changed. */
void world_schedule_wake(struct world *world, struct world_node *node);
void world_cancel_wake(struct world *world, struct world_node *node);
void world_on_wake_node(struct world *world, struct item *item);
void world_on_wake_client(struct world *world, struct item *item);

/* ---- world_log.c ---- */

void world_log_init(struct world_node *node, bool use_wal, uint64_t seed);
void world_log_fini(struct world_node *node);
/* Empty again, for another incarnation. */
void world_log_wipe(struct world_node *node);
/* What a start finds. Not ST_OK: it could not be opened, error says why. */
enum status world_log_open(struct world_node *node, struct io_log_content *content, char *error);
struct io_log *world_log_io(struct world_node *node);
size_t world_log_n_writes(const struct world_node *node);
/* Everything that waits reaches the disk; then its completions are delivered. */
void world_log_work(struct world *world, struct world_node *node);
bool world_log_has_notes(const struct world_node *node);
void world_log_schedule_idle(struct world *world, struct world_node *node);
void world_log_idle(struct world *world, struct world_node *node, struct item *item);
/* The process ends, in the middle of it or (orderly) after writing everything that waits. */
void world_log_end(struct world *world, struct world_node *node, bool orderly);
uint64_t world_log_size(const struct world_node *node);
void world_log_fail(struct world *world, struct world_node *node, enum world_disk_fault fault);
/* Whether an error that was asked for is still to come. */
bool world_log_fails(const struct world_node *node, enum world_disk_fault fault);
void world_log_forget_errors(struct world_node *node);
/* The disk is full, or has room (again): nothing more can be allocated, or all can. */
void world_log_set_full(struct world_node *node, bool full);
/* False: there was nothing to flip, or no flip that could be told from a torn write. */
bool world_log_flip(struct world *world, struct world_node *node);

/* ---- world_disk.c ---- */

/* Schedules the disk's work, if there is some. */
void world_schedule_disk(struct world *world, struct world_node *node);
void world_on_log_work(struct world *world, struct item *item);
void world_on_state_work(struct world *world, struct item *item);
void world_on_disk_space(struct world *world, struct item *item);
/* Whether a fault of its disk hit the process, or its disk is damaged: then it may halt. */
bool world_disk_explains(const struct world_node *node);
/* A process began: it learns of a full disk. */
void world_disk_begin(struct world *world, struct world_node *node);
/* A process ended: faults that did not hit anything are forgotten. */
void world_disk_end(struct world *world, struct world_node *node, bool orderly);

/* ---- world_faults.c ---- */

/* Whether what `from` sends can reach `to`, links and cuts considered. */
bool world_can_send(const struct world *world, const struct world_node *from,
                    const struct world_node *to);
/* Whether two replicas of a group accept each other's incarnations; pins them if they do. */
bool world_admit(struct world_node *a, struct world_node *b);
/* Whether two replicas of a group have a link, dialled by either. */
bool world_are_linked(const struct world_node *a, const struct world_node *b);
/* The node's links go to these from now on. */
void world_set_members(struct world *world, struct world_node *node, const struct io_peer *peers,
                       size_t n, bool open);
/* A turn ended: what the node believes of its peers' incarnations follows its configuration. */
void world_follow_pins(struct world *world, struct world_node *node);
/* The server just started: it is told what its node believes. */
void world_tell_pins(struct world *world, struct world_node *node);
uint64_t world_incarnation_number(const struct world_node *node);
/* Links of a node with its running, reachable peers go up or down. */
void world_announce_links(struct world *world, struct world_node *node, bool up);
void world_on_peer_link(struct world *world, struct item *item);
/* Keeps what goes over a clogged link; false if it may go. */
bool world_hold_clogged(struct world *world, owner_id from, owner_id to, struct item *item);
/* The delay of a reliable network. */
uint64_t world_reliable_delay(struct world *world);
/* The fate of a message: false if it is lost, else its delay. */
bool world_draw_fate(struct world *world, bool request, uint64_t *delay_us);
bool world_hits(struct world *world, uint32_t ppm);

/* ---- world_net.c ---- */

void world_on_peer_message(struct world *world, struct item *item);
void world_add_url(struct world *world, struct world_node *node);
size_t world_find_url(const struct world *world, const char *url); /* SIZE_MAX: none */

/* ---- world_stream.c ---- */

void world_send_request(struct world *world, owner_id owner, size_t node, struct buf *message);
void world_send_reply(struct world *world, struct world_node *node, io_conn conn,
                      struct buf *message);
void world_on_request(struct world *world, struct item *item);
void world_on_response(struct world *world, struct item *item);
void world_on_stream_down(struct world *world, struct item *item);
void world_on_stream_closed(struct world *world, struct item *item);
/* A node is gone: its streams break, on both sides. */
void world_break_streams(struct world *world, struct world_node *node);
/* The owner is gone: servers hear of it, and nobody else. */
void world_close_streams_of(struct world *world, owner_id owner);

/* ---- world_observe.c ---- */

void world_tell_started(struct world *world, size_t node);
void world_tell_stepped(struct world *world, size_t node, const struct io_event *event);
void world_tell_sent(struct world *world, size_t node, raft_id to, struct slice message);
void world_tell_stopping(struct world *world, size_t node);
void world_record_event(struct world *world, size_t node, const struct io_event *event);
void world_record_client(struct world *world, size_t client, const char *what, struct slice bytes);
void world_record_life(struct world *world, size_t node, const char *what);

#endif
