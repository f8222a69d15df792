/* The parts of the simulated world: the queue of things to come, nodes, clients, streams. */
#ifndef TESTS_SIM_WORLD_INTERNAL_H
#define TESTS_SIM_WORLD_INTERNAL_H

#include "tests/sim/mem_log.h"
#include "tests/sim/mem_state.h"
#include "tests/sim/world.h"

#define WORLD_MAX_OWNERS    (WORLD_MAX_NODES + WORLD_MAX_CLIENTS)
#define WORLD_MAX_OBSERVERS 4

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
    ITEM_STATE_WORK     /* the state's disk finished a piece */
};

struct item {
    uint64_t at_us;
    uint64_t order; /* of creation: ties are first come, first served */
    enum item_type type;
    size_t node;    /* where it happens, or from which server it comes */
    owner_id owner; /* streams and clients */
    uint64_t life;  /* of the node, or version of the wake-up: stale ones are ignored */
    io_conn conn;   /* streams */
    raft_id from;   /* peers */
    bool up;        /* links */
    struct buf bytes;
};

struct stream {
    io_conn conn;                               /* 0: not open */
    uint64_t last_request_us, last_response_us; /* order within the stream is kept */
};

struct world_node {
    struct io_net net; /* first: the operations get back from it to the node */
    struct world *world;
    size_t number;
    group_id gid;
    raft_id id;
    struct spec spec;
    const struct world_node_ops *ops;
    void *context;
    struct mem_log *log;
    struct mem_state *state;
    int64_t clock_skew_us;
    void *server;  /* NULL: not running */
    uint64_t life; /* grows with every start and crash */
    bool connected;
    bool halted;
    char halt_reason[256];
    struct trace trace;
    uint64_t wake_us, wake_version;
    bool log_work_scheduled, state_work_scheduled;
    uint64_t rpcs;
};

struct world_client {
    const struct world_client_ops *ops; /* NULL: removed */
    void *client;
    uint64_t wake_us, wake_version;
};

struct world {
    struct rng rng;
    uint64_t now_us;
    uint64_t next_order;
    io_conn next_conn;
    struct world_faults faults;
    struct world_counts counts;

    struct item *heap;
    size_t n_items, capacity;

    struct world_node *nodes[WORLD_MAX_NODES];
    size_t n_nodes;
    struct world_client clients[WORLD_MAX_CLIENTS];
    size_t n_clients;
    bool cut[WORLD_MAX_NODES][WORLD_MAX_NODES];
    bool client_cut[WORLD_MAX_CLIENTS][WORLD_MAX_NODES];
    struct stream streams[WORLD_MAX_OWNERS][WORLD_MAX_NODES];
    struct world_observer observers[WORLD_MAX_OBSERVERS];
    size_t n_observers;
};

extern const struct io_net_ops world_net_ops;

/* ---- world.c ---- */
/* Adds a thing to come after `delay_us`; takes item->bytes over. */
void world_schedule(struct world *world, uint64_t delay_us, struct item *item);
/* One event for a running server, then its turn's end. */
void world_deliver(struct world *world, struct world_node *node, struct io_event *event);

/* ---- world_net.c ---- */
void world_send_request(struct world *world, owner_id owner, size_t node, struct buf *message);
void world_on_peer_message(struct world *world, struct item *item);
void world_on_peer_link(struct world *world, struct item *item);
void world_on_request(struct world *world, struct item *item);
void world_on_response(struct world *world, struct item *item);
void world_on_stream_down(struct world *world, struct item *item);
void world_on_stream_closed(struct world *world, struct item *item);
/* Links of a node with its running, reachable peers go up or down. */
void world_announce_links(struct world *world, struct world_node *node, bool up);
/* A node is gone: its streams break, on both sides. */
void world_break_streams(struct world *world, struct world_node *node);
size_t world_find_url(const struct world *world, const char *url); /* SIZE_MAX: none */

#endif
