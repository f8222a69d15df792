/* A cluster for the tests of the clerks: three controllers and some groups of three replicas, as
 * plain functions in virtual time. Servers do what the test tells them: serve, refuse, be silent,
 * break the connection before or after applying, apply much later than the client waits.
 *
 * What a server applies is recorded by client and sequence number, so that a test can ask what
 * really happened. The session rule is the real one's: a pair is applied at most once, sequence
 * numbers at or below acked_seq are refused, and so is what was issued at or below the floor. */
#ifndef TESTS_SIM_FAKE_CLUSTER_H
#define TESTS_SIM_FAKE_CLUSTER_H

#include "client/clerk.h"
#include "client/ctrler_clerk.h"
#include "raft/util/rng.h"

#define FAKE_SHARDS   16
#define FAKE_GROUPS   3 /* gid 1..3; 0 is the controller */
#define FAKE_LATENCY  1
#define FAKE_SERVERS  (3 * (FAKE_GROUPS + 1))
#define FAKE_MAX_KEYS 2048
#define FAKE_MAX_LOG  65536

enum fault {
    FAULT_NONE,
    FAULT_SILENT,       /* takes the request and says nothing */
    FAULT_REFUSE,       /* answers `refusal`, with `hint` */
    FAULT_BREAK,        /* the connection breaks before anything is applied */
    FAULT_APPLY_BREAK,  /* … after it */
    FAULT_APPLY_LATER,  /* says ST_UNKNOWN, and applies later */
    FAULT_APPLY_SILENT, /* applies and says nothing */
    FAULT_SLOW,         /* answers after `slow_ms` */
    FAULT_HELD,         /* the request waits for a connection, up to `slow_ms` */
    FAULT_UNREACHABLE,  /* no connection can be made */
    FAULT_GARBLE        /* answers bytes that mean nothing */
};

struct fake_server {
    char url[32];
    uint32_t gid, id;
    enum fault fault;
    uint32_t times; /* the fault goes away after so many requests; 0: it stays */
    enum status refusal;
    uint32_t hint;
    uint64_t slow_ms;
    uint32_t requests; /* received */
    uint64_t epoch;    /* of its connection: what was sent in an earlier one is lost */
    bool connected;
};

struct fake_event {
    uint64_t at, serial;
    enum { EVENT_REQUEST, EVENT_APPLY, EVENT_RESPONSE, EVENT_DOWN, EVENT_UNREACHABLE } type;
    struct fake_server *server;
    uint64_t epoch;
    bool held; /* REQUEST: has not left yet */
    struct buf message;
};

struct fake_applied {
    uint8_t client[16];
    uint64_t seq, issued_at;
    char value[32]; /* of its first operation */
    struct kv_write_result result;
};

struct fake_key {
    char key[64];
    char value[64];
};

struct fake_cluster {
    uint64_t now;
    uint64_t serial;
    struct rng rng;
    struct fake_server servers[FAKE_SERVERS];
    uint32_t leader[FAKE_GROUPS + 1]; /* replica ids */
    struct shard_config config;       /* the controller's */
    uint32_t holder[FAKE_SHARDS];     /* who serves it, whatever the configuration says */
    uint32_t id_shift; /* the servers' own ids are other than those in the spec, by so much */
    bool hints;        /* WRONG_GROUP points to the holder */
    uint64_t time;     /* cluster time */
    uint64_t floor;
    struct fake_event *events;
    size_t n_events, events_capacity;
    struct fake_key keys[FAKE_MAX_KEYS];
    size_t n_keys;
    struct fake_applied *applied;
    size_t n_applied;
    uint32_t config_queries;
    uint64_t last_client_low; /* of the last write received */
    uint64_t last_seq, last_acked, last_issued_at;
    uint32_t max_scans, scans; /* in flight at once */
    struct clerk *clerk;
    struct caller *caller; /* instead of the clerk */
};

/* ---- The cluster: fake_cluster.c ---- */
struct fake_server *fake_server(struct fake_cluster *world, uint32_t gid, uint32_t id);
void fake_spec(uint32_t gid, struct spec *spec);
void fake_init(struct fake_cluster *world, uint64_t seed);
void fake_fini(struct fake_cluster *world);
/* The controller moves the shard; `held` says whether the new owner has it already. */
void fake_move(struct fake_cluster *world, shard_id shard, uint32_t gid, bool held);
void fake_break(struct fake_cluster *world, struct fake_server *server, bool unsent);

/* ---- The servers' side: fake_server.c ---- */
void fake_put(struct fake_cluster *world, const char *key, const char *value);
/* How many writes with that value were applied. */
size_t fake_times_applied(const struct fake_cluster *world, const char *value);
int fake_compare_keys(const void *a, const void *b);
void fake_respond(struct fake_cluster *world, struct fake_server *server,
                  struct proto_response *response, uint64_t delay);

/* ---- In motion: fake_motion.c ---- */
struct fake_server *fake_server_of_url(struct fake_cluster *world, const char *url);
void fake_send(void *context, uint32_t gid, const char *url, struct buf *message);
bool fake_withdraw(void *context, const char *url, uint64_t request_id);
/* Lets everything happen that happens before `until`, at its moment; true if anything is left. */
bool fake_run(struct fake_cluster *world, uint64_t until);

#endif
