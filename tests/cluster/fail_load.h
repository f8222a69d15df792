/* What the parts of fail_load share: the clients of the failure tests. scripts/failure-test.sh
 * makes the trouble; this program works on the cluster meanwhile, writes down what every operation
 * was told, with times of one monotonic clock, and tells whether the cluster has come together
 * again. It judges nothing: fail_check does, from the files written here.
 *
 * Reading order: fail_load.c (the commands), fail_sessions.c (who does what), fail_pipe.c (the same
 * through shardkv-cli pipe), fail_record.c (what is written down), fail_admin.c (moves, joins and
 * leaves; whether all is well again), fail_probe.c (recovery times).
 *
 * Work is laid out by slots. A slot is a tag, so all its keys lie in one shard; each session works
 * on one slot, so that a dead group stops only its own. A slot has one key at a time and goes on to
 * a fresh one after some operations: the checker's work grows with the operations of a key.
 *
 * Threads: the main thread runs the commands; each session is one, and the churn; the prober is
 * called back on its handle's. What is shared says which mutex guards it.
 */
#ifndef TESTS_CLUSTER_FAIL_LOAD_H
#define TESTS_CLUSTER_FAIL_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/cli_survey.h"
#include "client/kv.h"

#define FAIL_MAX_SLOTS 16
#define FAIL_MAX_KEY   64
#define FAIL_MAX_ARG   32
#define FAIL_MAX_URL   256

/* ---- Operations (fail_record.c) ---- */

enum fail_type { FAIL_GET, FAIL_PUT, FAIL_APPEND, FAIL_DELETE, FAIL_CAS, FAIL_TOKEN, FAIL_TYPES };

/* BAD: an end that the library promises never to give. */
enum fail_outcome {
    FAIL_OK,
    FAIL_NOT_FOUND,
    FAIL_MISMATCH,
    FAIL_REFUSED,
    FAIL_UNKNOWN,
    FAIL_BAD,
    FAIL_OUTCOMES
};

struct fail_op {
    enum fail_type type;
    uint32_t slot, client;
    char key[FAIL_MAX_KEY];
    char arg[FAIL_MAX_ARG];
    char *expect; /* CAS: the value expected, NULL: none; belongs to the operation */
    enum fail_outcome outcome;
    int code;
    char *value; /* GET that is OK; belongs to the operation */
    uint64_t version;
    uint32_t output; /* APPEND, DELETE */
    uint64_t start_us, end_us;
};

/* What came of a slot, since the round's beginning. */
struct fail_slot {
    uint32_t generation, n_ops; /* the present key, and operations on it */
    uint32_t n_token_keys;
    uint64_t last_ok_us, worst_gap_us; /* between two successes */
    bool served;                       /* a success since the faults ended */
};

struct fail_record {
    pthread_mutex_t mutex; /* of all below */
    FILE *file;            /* NULL between rounds */
    uint32_t round;
    uint32_t n_slots;
    struct fail_slot slots[FAIL_MAX_SLOTS];
    uint64_t ops, outcomes[FAIL_OUTCOMES];
    _Atomic uint64_t last_stamp;
};

/* Now, in microseconds; never the same twice, so that the order of events is the order of stamps.
 */
uint64_t fail_stamp(struct fail_record *record);
void fail_record_begin(struct fail_record *record, uint32_t round, FILE *file);
/* The present key of the slot, for one more operation. */
void fail_record_key(struct fail_record *record, uint32_t slot, char key[FAIL_MAX_KEY]);
/* Sets the outcome from what the library said. */
void fail_op_end(struct fail_op *op, int code, const struct shardkv_result *result);
/* Writes it down; `counts`: for the slot's availability. Releases what belongs to it. */
void fail_record_add(struct fail_record *record, struct fail_op *op, bool counts);
/* The faults are over: what serves from now on counts as served. */
void fail_record_heal(struct fail_record *record);
/* Slots without a success since then. */
uint32_t fail_record_unserved(struct fail_record *record);

/* ---- Sessions (fail_sessions.c, fail_pipe.c) ---- */

/* READER and WRITER go to the slots in turn, and ask first whom the test says: a replica that is
 * cut off, and one that may lead in its place. */
enum fail_kind { FAIL_MIXED, FAIL_TOKENS, FAIL_READER, FAIL_WRITER };

struct fail_pipe;

struct fail_session {
    struct fail *fail;
    enum fail_kind kind;
    uint32_t number, slot;
    pthread_t thread;
    uint64_t random;
    uint32_t counter;       /* of what it wrote: makes values unique */
    struct shardkv *kv;     /* NULL: it speaks through the pipe */
    struct fail_pipe *pipe; /* NULL: through the library */
    bool through_pipe;
    uint32_t prefer_version; /* of READER and WRITER: which preference it was opened with */
    char seen_key[FAIL_MAX_KEY];
    char *seen; /* the last value it saw, of seen_key: what cas expects */
};

struct fail_options {
    const char *cli_path; /* shardkv-cli */
    uint32_t n_slots, n_nodes, timeout_ms, think_ms;
    uint32_t sessions, pipes, tokens; /* per slot, altogether, altogether */
    uint64_t seed;
    const char *groups; /* "GID SPEC;GID SPEC": for joins */
};

struct fail_probe {
    pthread_t thread, watch_thread;
    bool running; /* of the main thread */
    _Atomic bool stopping;
    pthread_mutex_t mutex; /* of all below */
    uint64_t mark_us, last_ok_us;
    uint64_t gap_us, gap_end_us; /* the longest since the mark */
    uint64_t ops, failures;
    uint64_t stall_us; /* the longest time since the mark that this machine kept us waiting */
};

struct fail {
    struct fail_options options;
    struct cli cli; /* the main thread's own handle */
    struct fail_record record;
    struct fail_probe probe;
    struct fail_session *sessions;
    uint32_t n_sessions;

    pthread_mutex_t mutex; /* of all below, but the atomics */
    pthread_cond_t changed;
    bool working, quitting;
    uint32_t n_working; /* sessions in an operation */
    char read_first[FAIL_MAX_URL], write_first[FAIL_MAX_URL];
    uint32_t prefer_version;

    pthread_t churn_thread;
    bool churn_running; /* of the main thread */
    _Atomic bool churn_stopping;
    _Atomic uint32_t n_changes;
};

void fail_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *fail_allocate(size_t n, size_t size);
uint64_t fail_draw(uint64_t *state, uint64_t below);
void fail_sleep_us(uint64_t us);
/* A handle of its own; never NULL. */
struct shardkv *fail_open(const struct fail *fail, const char *prefer);

void sessions_start(struct fail *fail);
/* Lets them work, or waits until none does. */
void sessions_work(struct fail *fail, bool work);
void sessions_end(struct fail *fail);

/* A process of shardkv-cli pipe; prefer may be empty. */
struct fail_pipe *fail_pipe_open(const struct fail *fail, const char *prefer);
void fail_pipe_close(struct fail_pipe **pipe);
/* Does the operation and sets its end. */
void fail_pipe_run(struct fail_pipe *pipe, struct fail_op *op);

/* ---- The cluster as a whole (fail_admin.c) ---- */

void churn_start(struct fail *fail);
void churn_stop(struct fail *fail);
/* Whether every replica is up, ready and has applied what was committed when this was asked, every
 * group has a leader, no shard moves and every slot was served since the end of the faults. False:
 * `text` says what was missing at the end of the bound. */
bool fail_await(struct fail *fail, uint32_t bound_ms, char *text, size_t size);
/* The replica that leads the group, 0: none is known. */
uint32_t fail_leader(struct fail *fail, uint32_t gid);
/* Reads all keys of the round once more, so that what was lost shows. False: one can't be read. */
bool fail_read_all(struct fail *fail);
/* Deletes them, so that what the cluster holds does not grow from round to round. */
void fail_forget(struct fail *fail);
/* Puts n keys of so many bytes, many at a time. False: something was refused. */
bool fail_fill(struct fail *fail, uint32_t n, uint32_t bytes);

/* ---- Recovery times (fail_probe.c) ---- */

void probe_start(struct fail *fail);
void probe_stop(struct fail *fail);
void probe_mark(struct fail *fail);
struct probe_figures {
    double gap_ms;   /* the longest time between two acknowledgements since the mark */
    double after_ms; /* from the mark to its end */
    double stall_ms; /* the longest time that this machine kept a sleeper from waking */
};
/* Waits until settle_ms after the mark, and until puts have been acknowledged again. False: they
 * have not within the bound. */
bool probe_gap(struct fail *fail, uint32_t settle_ms, uint32_t bound_ms,
               struct probe_figures *figures);

#endif
