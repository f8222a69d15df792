/* How long a client of ours waits: puts every 10 ms, through one handle of the library, until one
 * is acknowledged that was begun after the start. With --kill-leader URL=PID,... of the replicas of
 * a group: after that it kills whichever of them says that it leads, and counts from there; and it
 * tells which that was, from 1 on. What `etcd_load --probe` is to etcd.
 */
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/kv.h"

#define PROBE_EVERY_NS INT64_C(10000000)
#define VALUE_BYTES    256
#define MAX_REPLICAS   9
#define STATUS_MS      1000

struct replica {
    const char *url;
    pid_t pid;
};

struct put {
    struct probe *probe;
    uint64_t start_ns;
};

struct probe {
    struct shardkv *kv;
    uint32_t timeout_ms;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t counts_from_ns; /* puts begun earlier don't count */
    uint64_t acknowledged_ns;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void on_end(void *context, struct shardkv_result *result)
{
    struct put *put = context;
    struct probe *probe = put->probe;
    uint64_t now = now_ns();

    pthread_mutex_lock(&probe->mutex);
    if (result->code == SHARDKV_OK && probe->acknowledged_ns == 0 &&
        put->start_ns >= probe->counts_from_ns) {
        probe->acknowledged_ns = now;
        pthread_cond_signal(&probe->changed);
    }
    pthread_mutex_unlock(&probe->mutex);
    shardkv_result_free(result);
    free(put);
}

static void begin(struct probe *probe)
{
    char value[VALUE_BYTES] = {0};
    struct put *put = malloc(sizeof(*put));

    if (put == NULL) {
        abort();
    }
    *put = (struct put){probe, now_ns()};
    if (shardkv_put_async(probe->kv, shardkv_text("probe"),
                          (struct shardkv_bytes){value, sizeof(value)}, probe->timeout_ms, on_end,
                          put, NULL) != SHARDKV_OK) {
        free(put);
    }
}

/* Puts until one succeeds or the time is up; when that was, 0: not in time. */
static uint64_t probe_until(struct probe *probe, uint64_t end_ns)
{
    uint64_t due_ns = now_ns(), at_ns;

    pthread_mutex_lock(&probe->mutex);
    probe->counts_from_ns = due_ns;
    probe->acknowledged_ns = 0;
    while (probe->acknowledged_ns == 0 && due_ns < end_ns) {
        struct timespec at;

        pthread_mutex_unlock(&probe->mutex);
        begin(probe);
        pthread_mutex_lock(&probe->mutex);
        due_ns += PROBE_EVERY_NS;
        at = (struct timespec){(time_t)(due_ns / 1000000000), (long)(due_ns % 1000000000)};
        while (probe->acknowledged_ns == 0 &&
               pthread_cond_clockwait(&probe->changed, &probe->mutex, CLOCK_MONOTONIC, &at) == 0) {
        }
    }
    at_ns = probe->acknowledged_ns;
    pthread_mutex_unlock(&probe->mutex);
    return at_ns;
}

/* ---- The leader ---- */

/* URL=PID,... in place. False: it is not that. */
static bool take_replicas(char *text, struct replica *replicas, size_t *n)
{
    char *rest = NULL;

    for (char *one = strtok_r(text, ",", &rest); one != NULL; one = strtok_r(NULL, ",", &rest)) {
        char *equals = strrchr(one, '=');

        if (*n == MAX_REPLICAS || equals == NULL || atoi(equals + 1) <= 1) {
            return false;
        }
        *equals = '\0';
        replicas[(*n)++] = (struct replica){one, (pid_t)atoi(equals + 1)};
    }
    return true;
}

/* Of those that say that they lead, the one in the highest term; n: nobody does. */
static size_t find_leader(struct probe *probe, const struct replica *replicas, size_t n)
{
    size_t found = n;
    uint64_t term = 0;

    for (size_t i = 0; i < n; i++) {
        struct shardkv_result *result;

        if (shardkv_status(probe->kv, replicas[i].url, STATUS_MS, &result) == SHARDKV_OK &&
            result->node->role == SHARDKV_LEADER && result->node->term > term) {
            term = result->node->term;
            found = i;
        }
        shardkv_result_free(result);
    }
    return found;
}

static uint64_t kill_leader(struct probe *probe, const struct replica *replicas, size_t n,
                            size_t *victim)
{
    *victim = find_leader(probe, replicas, n);
    if (*victim == n || kill(replicas[*victim].pid, SIGKILL) != 0) {
        fprintf(stderr, "kv_probe: no leader to kill\n");
        exit(1);
    }
    return now_ns();
}

static int run(struct probe *probe, uint64_t seconds, const struct replica *replicas, size_t n)
{
    uint64_t from_ns = now_ns(), end_ns = from_ns + seconds * 1000000000, at_ns;
    size_t victim = 0;

    at_ns = probe_until(probe, end_ns);
    if (at_ns != 0 && n > 0) {
        from_ns = kill_leader(probe, replicas, n, &victim);
        at_ns = probe_until(probe, end_ns);
    }
    if (at_ns == 0) {
        fprintf(stderr, "kv_probe: no put was acknowledged in time\n");
        return 1;
    }
    printf("{\"ms\":%.3f,\"victim\":%zu}\n", (double)(at_ns - from_ns) / 1e6, victim + 1);
    return 0;
}

int main(int argc, char **argv)
{
    const struct option known[] = {{"ctrlers", 1, NULL, 'c'},
                                   {"seconds", 1, NULL, 's'},
                                   {"kill-leader", 1, NULL, 'k'},
                                   {NULL, 0, NULL, 0}};
    struct shardkv_options options;
    struct probe probe = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    uint64_t seconds = 30;
    struct replica replicas[MAX_REPLICAS];
    size_t n_replicas = 0;
    bool wrong = false;
    int c, code;

    shardkv_options_init(&options, sizeof(options));
    options.sole_nng_user = 1;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'c') {
            options.ctrlers = optarg;
        } else if (c == 's') {
            seconds = strtoull(optarg, NULL, 10);
        } else if (c == 'k') {
            wrong |= !take_replicas(optarg, replicas, &n_replicas);
        } else {
            wrong = true;
        }
    }
    if (wrong || options.ctrlers == NULL || seconds == 0 || seconds > 3600) {
        fprintf(stderr,
                "usage: kv_probe --ctrlers URLS [--seconds 30] [--kill-leader URL=PID,...]\n");
        return 2;
    }
    probe.timeout_ms = (uint32_t)seconds * 1000;
    if (shardkv_open(&options, &probe.kv, NULL, 0) != SHARDKV_OK) {
        fprintf(stderr, "kv_probe: cannot open a handle\n");
        return 1;
    }
    code = run(&probe, seconds, replicas, n_replicas);
    shardkv_close(&probe.kv);
    return code;
}
