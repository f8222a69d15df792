/* What the parts of move_load share: a program that loads a cluster while shards move, records
 * every operation as a client sees it, and knows in the end what must be there.
 * scripts/migration-test.sh starts the processes and tells it, by lines on its standard input, what
 * to do when.
 *
 * Reading order: move_load.c (the commands), move_keys.c (what is written, and how it is known
 * again), move_traffic.c (filling, the closed and the open loop, reading everything back),
 * move_tokens.c, move_records.c (what is recorded, and the figures made of it), move_watch.c
 * (changes of the configuration, memory of the servers), move_report.c (JSON and table).
 *
 * Threads: the main thread runs the commands; each library handle calls back on its own; one thread
 * starts the operations of the open loop when they are due; each client of tokens is one; one
 * watches a change, one the memory. What is shared says which mutex guards it.
 */
#ifndef TESTS_CLUSTER_MOVE_LOAD_H
#define TESTS_CLUSTER_MOVE_LOAD_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/cli_survey.h"
#include "client/kv.h"

/* Which operations: on the big shard that moves, on the keys of other shards, appends of tokens. */
enum load_class { LOAD_MOVING, LOAD_OTHERS, LOAD_TOKENS, LOAD_CLASSES };
enum load_kind { LOAD_GET, LOAD_PUT };
enum load_end { LOAD_OK, LOAD_UNKNOWN, LOAD_ERROR };

/* ---- Small things (move_util.c) ---- */

/* A line on stderr, exit 2. */
void load_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *load_allocate(size_t n, size_t size);
uint64_t load_draw(uint64_t *state); /* xorshift64* */
void load_sleep_until(uint64_t at_ns);

/* ---- Records (move_records.c) ---- */

struct record {
    uint64_t start_ns; /* when it was due; in the closed loop when it was begun */
    uint32_t latency_us;
    uint8_t kind, end;
};

/* Appended on the handle's thread, so the records are in the order of their ends. */
struct records {
    pthread_mutex_t mutex; /* of all below */
    struct record *items;
    size_t n, room;
};

/* What the operations that were due in a span of time came to. */
struct tally {
    uint64_t ops, ok, errors, unknown;
    double p50_ms, p99_ms, p999_ms, max_ms; /* of all, however they ended */
    /* The longest time between the ends of two successive successes, with its middle in the span:
     * of any, of reads, of writes. */
    double pause_ms, pause_reads_ms, pause_writes_ms;
};

/* One that did not succeed, with its reason. */
struct failure {
    uint64_t start_ns;
    uint8_t class, kind;
    int code;
    char message[160];
};

#define LOAD_MAX_FAILURES 20000 /* kept with their reasons; all are counted */

struct failures {
    pthread_mutex_t mutex;
    struct failure *items;
    size_t n;
};

void records_init(struct records *records);
void records_fini(struct records *records);
void records_add(struct records *records, uint64_t start_ns, uint64_t end_ns, enum load_kind kind,
                 enum load_end end);
/* Successes before `begin_ns`, the beginning of the load, don't begin a pause. */
void records_tally(struct records *records, uint64_t begin_ns, uint64_t from_ns, uint64_t to_ns,
                   struct tally *tally);
void failures_add(struct failures *failures, uint64_t start_ns, enum load_class class,
                  enum load_kind kind, const struct shardkv_result *result, int code);
enum load_end load_end_of(int code);

/* ---- Keys (move_keys.c) ---- */

#define LOAD_MARK    "mvload|" /* every value begins with it: to be found in files of databases */
#define LOAD_MAX_KEY 64

/* What is known of a key: its value is that of a generation; 0 is the fill's. A key has one write
 * outstanding at most, so their order is known. */
struct key_state {
    uint32_t issued;                      /* the last generation that was written or tried */
    uint32_t acked;                       /* the last that was acknowledged */
    uint32_t first_unknown, last_unknown; /* 0: no write had an unknown end */
    bool busy;                            /* a write is outstanding */
};

struct key_table {
    pthread_mutex_t mutex; /* of the states, random and the counters */
    uint32_t n_keys;
    size_t value_bytes;
    struct key_state *states;
    uint32_t n_tags;
    uint32_t *tags; /* numbers; key k has tag k mod n_tags */
    char letter;    /* 'm' moving, 'o' others: part of the tag */
    uint64_t random;
    /* Found while reading: a value that is not the key's, or older than one acknowledged before the
     * read began, or not there. */
    uint64_t wrong_reads, stale_reads, missing_reads;
};

/* n_tags tags of keys that all lie in the shard, or all outside it. */
void keys_init(struct key_table *table, char letter, uint32_t n_keys, size_t value_bytes,
               uint32_t n_tags, uint32_t shard, uint32_t n_shards, bool inside);
void keys_fini(struct key_table *table);
size_t keys_write_key(const struct key_table *table, uint32_t key, char text[LOAD_MAX_KEY]);
/* The content that the key has in that generation. */
void keys_write_value(const struct key_table *table, uint32_t key, uint32_t generation,
                      uint8_t *value);
/* The generation of a value, if it is that of the key byte for byte. */
bool keys_read_value(const struct key_table *table, uint32_t key, struct shardkv_bytes value,
                     uint32_t *generation);
/* Any key, for a read; *floor is the generation that must be there at least. */
uint32_t keys_begin_get(struct key_table *table, uint32_t *floor);
void keys_end_get(struct key_table *table, uint32_t key, uint32_t floor,
                  const struct shardkv_result *result);
/* Any key without an outstanding write; false if chance found none. */
bool keys_begin_put(struct key_table *table, uint32_t *key, uint32_t *generation);
void keys_end_put(struct key_table *table, uint32_t key, uint32_t generation, enum load_end end);
/* At the end, with nothing outstanding: whether the generation may be the last one. */
bool keys_may_hold(struct key_table *table, uint32_t key, uint32_t generation);

/* ---- The program ---- */

struct load;

/* The keys and the handle of moving or others, and what is outstanding there. */
struct lane {
    struct load *load;
    enum load_class class;
    struct shardkv *kv;
    struct key_table keys;
    struct records records;
    double interval_ns; /* of arrivals */
    _Atomic uint64_t outstanding;
};

struct token_client;

struct phase {
    char name[48];
    bool faults; /* processes were killed in it: failures are reported, not held against */
    uint64_t start_ns, end_ns; /* end 0: it goes on */
    uint64_t pacer_late_ns;    /* by how much the open loop itself was late at most */
};

#define LOAD_MAX_PHASES  512
#define LOAD_MAX_CHANGES 128

/* A join, leave or move. */
struct change {
    char name[48], verb[16];
    uint32_t from, to; /* of the big shard; equal if it stayed */
    bool faults, load; /* whether there was load */
    bool done, failed;
    uint64_t config_num;
    /* start: before the change was asked for; acked: the controller answered; served: the big shard
     * is seen to be served where it belongs; settled: so are all, and nothing moves. */
    uint64_t start_ns, acked_ns, served_ns, settled_ns;
    uint32_t shards_moved;
    size_t phase; /* its number; the one before it is the comparison */
};

#define LOAD_MAX_PROCESSES 64

struct process {
    char name[32];
    uint64_t rest_rss, rest_anon, max_rss, max_anon, high_water; /* KiB */
    uint64_t fill_anon;                                          /* the most before `rest` */
    long pid;
};

struct options {
    const char *ctrlers, *processes; /* processes: the folder with NAME.pid files */
    uint64_t bytes, value_bytes, other_keys, timeout_ms, clients, tokens;
    uint64_t read_percent, moving_percent;
};

struct load {
    struct options options;
    struct cli cli; /* for surveys and changes; of the main thread, or the watcher while it runs */
    uint32_t shard, n_shards;
    struct lane lanes[2]; /* LOAD_MOVING, LOAD_OTHERS */
    struct shardkv *token_kv;
    struct records token_records;
    struct token_client *token_clients;
    struct failures failures;

    double fill_seconds, peak_ops, rate;
    uint64_t fill_bytes, load_start_ns, load_end_ns;

    pthread_t pacer;
    bool pacing;
    _Atomic bool stopping;
    _Atomic uint64_t pacer_late_ns; /* the most since the phase began */

    struct phase phases[LOAD_MAX_PHASES];
    size_t n_phases;
    struct change changes[LOAD_MAX_CHANGES];
    size_t n_changes;
    bool faults;

    pthread_mutex_t watch_mutex; /* of the change under way, and of the processes */
    pthread_cond_t watch_changed;
    pthread_t watcher, sampler;
    bool watching, sampling;
    _Atomic bool watch_stopping, sample_stopping;
    struct process processes[LOAD_MAX_PROCESSES];
    size_t n_processes;

    json_t *notes;
    /* From the last reading of everything. */
    bool checked;
    uint64_t keys_read, keys_missing, keys_wrong, keys_unread;
    uint64_t tokens_acked, tokens_missing, tokens_twice, tokens_unordered, tokens_refused_there,
        tokens_strange;
};

/* ---- Traffic (move_traffic.c) ---- */

void traffic_fill(struct load *load);
/* Operations per second of the closed loop. */
double traffic_peak(struct load *load, double seconds);
void traffic_start(struct load *load, double rate);
/* Ends it and waits for what is outstanding. */
void traffic_stop(struct load *load);
/* Reads every key back and compares. */
void traffic_check(struct load *load);

/* ---- Tokens (move_tokens.c) ---- */

void tokens_start(struct load *load);
void tokens_stop(struct load *load);
void tokens_check(struct load *load);
void tokens_fini(struct load *load);

/* ---- Watching (move_watch.c) ---- */

void phase_begin(struct load *load, const char *name, uint64_t at_ns);
/* NULL, or why it could not be begun. */
const char *change_begin(struct load *load, char *name, char *verb, char *arguments);
/* The change that was begun last; its `done` says whether it is over. */
const struct change *change_await(struct load *load, double seconds);
void memory_start(struct load *load);
void memory_stop(struct load *load);
/* From now on: what it is now is rest. */
void memory_rest(struct load *load);

/* ---- Report (move_report.c) ---- */

/* Writes the document to the file (NULL: nowhere) and the table to `out`. *speed: whether all aims
 * of speed were reached. Returns whether nothing was lost, doubled or refused. */
bool report_write(struct load *load, const char *file, FILE *out, bool *speed);
/* One line for the script about a change. */
void report_change(struct load *load, const struct change *change, char *line, size_t size);

#endif
