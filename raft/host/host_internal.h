/* The parts of host: a running server, and who sees it. */
#ifndef RAFT_HOST_HOST_INTERNAL_H
#define RAFT_HOST_HOST_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "raft/host.h"

struct host {
    const struct host_settings *settings;
    const struct host_service *service;
    struct trace trace;

    struct store_dir *dir;
    struct identity identity;
    struct net *net;
    struct wal *wal;
    struct state *state;
    void *server;

    struct {
        struct store_reserve *reserve;
        uint64_t segment_bytes; /* of the log */
        uint64_t buffer_bytes;  /* of the state's checkpoints, and of what LevelDB holds */
        uint64_t low_bytes;     /* free: writes are refused below it */
        uint64_t next_check_ms;
        bool low;            /* as the service was told */
        uint64_t free_bytes; /* when it was last looked at; UINT64_MAX: not known */
    } space;
    struct {
        int fd;          /* of /proc/uptime; below 0: there is none */
        double up, idle; /* seconds, as of the last look; 0: there was none */
        double percent;
        uint64_t next_check_ms;
        uint32_t span_ms; /* as net and the group were told */
    } busy;
    struct {
        uint64_t next_check_ms;
        uint64_t own_bytes; /* after the last time that free ones went back, or fewer since */
        bool was_much;      /* more than may stay, at the last check */
    } memory;
    bool joins;            /* an empty directory is begun as that of a replica that joins */
    bool cluster_known;    /* the identity on disk holds the cluster id */
    raft_index pins_index; /* the configuration that META's pins were last held against */
    bool pins_known, pins_committed;
    uint64_t start_wall_us; /* when the process began */
    uint64_t stop_ms;       /* when the end began; 0: it did not */
    bool led_at_stop;       /* then */
    int exit_code;
    atomic_bool finished;       /* read by the signal thread: the end was reached in time */
    pthread_mutex_t stop_mutex; /* the signal thread posts to net under it, unless */
    bool closes;                /* net is about to go: the loop has ended */
};

/* ---- rebuild.c ---- */
/* The data can't be trusted: a note for the next start with --rebuild. */
void host_rebuild_mark(struct host *host, const char *reason);
/* With --rebuild: ST_CORRUPT if such a note lies in the directory. */
enum status host_rebuild_check(struct host *host, char *error);
/* With --rebuild: sets the damaged directory aside, so that an empty one takes its place. Whether
 * it did; if not, error says why in place of the damage. */
bool host_rebuild_set_aside(struct host *host, char *error);

/* Traces as lines on stderr: time, level, gid/id, text. One write a line, any thread. */
void host_trace_init(struct host *host);

/* metrics.c: appends everything that is known of this process, in Prometheus' text format. */
void host_put_metrics(struct host *host, struct buf *text);
/* metrics.c: samples of a family, one for each of the reasons and the rest of the total as "other".
 * `label` is what stands before the reason's word: outcome="refused_. */
struct host_reason {
    enum status status;
    const char *word;
};
void host_put_by_status(struct buf *text, const char *name, const char *label,
                        const struct host_reason *reasons, size_t n, const uint64_t *by_status,
                        uint64_t total);
/* metrics_group.c: its part about the replica of the Raft group. */
void host_put_group_metrics(const struct group *group, struct buf *text);
/* metrics_process.c: its part about the process, under the names that all programs use. */
void host_put_process_metrics(const struct host *host, struct buf *text);

/* health.c: appends the answer to /livez and /readyz; true: it is good. */
bool host_put_livez(struct host *host, bool verbose, struct buf *text);
bool host_put_readyz(struct host *host, bool verbose, struct buf *text);

/* Opens the reserve, and finds the sizes that fit the disk; before anything else is opened there.
 */
enum status host_space_open(struct host *host, char *error);
void host_space_close(struct host *host);
/* Looks at the disk, if it is time to. */
void host_space_check(struct host *host, uint64_t now_ms);

/* memory.c: how large blocks come and go. */
struct host_memory {
    uint64_t virtual_bytes, resident_bytes;
    uint64_t own_bytes; /* resident, and of no file */
};
void host_memory_open(void);
/* False: the system does not tell, and nothing is changed. */
bool host_memory_read(struct host_memory *memory);
/* Once a turn; gives back what is free for long. */
void host_memory_check(struct host *host, uint64_t now_ms);

/* busy.c: how busy the machine is. */
void host_busy_open(struct host *host);
void host_busy_close(struct host *host);
/* How long requests gather on a machine that is so busy, if it was span_ms so far. */
uint32_t host_busy_span(double percent, uint32_t span_ms);
/* Looks, if it is time to, and tells net and the group. */
void host_busy_check(struct host *host, uint64_t now_ms);
/* Refuses a data directory that others may change, and warns of one that they may look into. */
enum status host_check_access(struct host *host, char *error);

/* Serves /metrics, /livez and /readyz if the settings ask for it. */
enum status host_http_start(struct host *host, char *error);

#endif
