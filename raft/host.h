/* host: what the two servers' main programs do the same: settings from the command line,
 * environment and a file; the data directory; wiring the log, the state and the network to one
 * service; signals; metrics; an orderly end. Decides nothing about replication.
 */
#ifndef RAFT_HOST_H
#define RAFT_HOST_H

#include "raft/io.h"
#include "raft/net.h"
#include "raft/rsm.h"
#include "raft/store.h"

/* Exit codes of the servers. */
enum {
    HOST_EXIT_OK = 0,
    HOST_EXIT_FAILED = 1,  /* the disk failed, or the end took too long */
    HOST_EXIT_REFUSED = 2, /* bad flags; the directory or port is not ours to use */
    HOST_EXIT_CORRUPT = 3  /* damaged data that can't be repaired safely */
};

#define HOST_DEFAULT UINT32_MAX /* of a number: it was not given */

/* Which optional flags a program has. */
enum { HOST_HAS_GID = 1 << 0, HOST_HAS_CTRLERS = 1 << 1, HOST_HAS_SHARDS = 1 << 2 };

struct host_settings {
    const char *program; /* its name, for messages */
    unsigned has;        /* HOST_HAS_* */
    uint32_t gid;        /* 0 without HOST_HAS_GID */
    uint32_t id;
    bool joins;   /* its first start is that of a replica which joins an existing group */
    bool rebuild; /* what is damaged or lost is set aside, and the group asked to replace it */
    struct spec cluster;
    struct spec ctrlers; /* n == 0 without HOST_HAS_CTRLERS */
    uint32_t shards;     /* 0: not given */
    uint32_t election_timeout_ms;
    uint32_t heartbeat_ms;
    uint32_t migration_mib_per_s; /* HOST_HAS_GID; 0: no bound */
    uint32_t migration_parallel;  /* likewise: shards at a time */
    uint32_t disk_reserve_mib;    /* HOST_DEFAULT: by the size of the disk; so is the next */
    uint32_t disk_low_mib;
    enum trace_level trace_level;
    char *data; /* these are owned; NULL if not given */
    char *metrics;
    char *tls_cert, *tls_key, *tls_ca;
    char *peer_key;
};

/* Reads the settings: the command line wins over the environment (SHARDKV_<NAME>), and that over
 * the file that --config names. Returns -1 to go on, or the exit code to end with (after --help,
 * --version or a one-line error on stderr). settings->program and ->has must be set before. */
int host_settings_read(struct host_settings *settings, int argc, char **argv);
void host_settings_fini(struct host_settings *settings);

/* What a service is created from. */
struct host_parts {
    const struct host_settings *settings;
    uint64_t seed;        /* random */
    uint64_t incarnation; /* of this replica */
    bool joins;           /* it joined an existing group, at this start or earlier */
    bool rejoins;         /* and shall have its group take it in, by itself */
    uint64_t now_ms;
    struct io_net *net;
    struct io_log *log;
    struct io_state *state;
    uint64_t checkpoint_bytes; /* as much as the disk's size allows */
    struct io_log_content *log_content;
    const struct io_state_meta *state_meta;
    const struct trace *trace;
    struct group_world world; /* the same tables again, with halt, as group_create wants them */
};

/* Options of the group as the settings say, with the bootstrap configuration of the SPEC, or with
 * none for a replica that joined. */
void host_group_options(const struct host_parts *parts, struct group_options *options);

/* What the host asks of a service; all on the loop thread. */
struct host_service {
    /* ST_OK, or a status with one line in error[STORE_ERROR_BYTES]. */
    enum status (*create)(const struct host_parts *parts, void **server, char *error);
    void (*destroy)(void **server);
    void (*step)(void *server, const struct io_event *event);
    uint64_t (*next_deadline_ms)(void *server);
    /* True once the cluster id is known. */
    bool (*cluster_id)(void *server, uint8_t cluster_id[16]);
    struct group *(*group)(void *server);
    /* Appends the service's own metrics in Prometheus' text format; may be NULL. */
    void (*metrics)(void *server, struct buf *text);
    /* Why it can't serve although its group could (static text); NULL: it can. May be NULL. */
    const char *(*trouble)(void *server);
};

/* Runs the server until a signal or a failure ends it; returns the exit code. Call once. */
int host_run(const struct host_settings *settings, const struct host_service *service);

#endif
