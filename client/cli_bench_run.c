/* Runs the clients of a benchmark; see cli_bench_run.h. */
#include "client/cli_bench_run.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_NS UINT64_C(250000000)
#define RETRY_NS    UINT64_C(1000000) /* of clients that the library was too busy for */
#define FIRST_READS 8                 /* of each handle: keys enough to meet every group, likely */

struct client {
    struct connection *connection;
    uint64_t random;
    uint64_t start_ns; /* of the operation: when it was due, or begun */
    bool drawn;        /* the operation is chosen but not yet accepted by the library */
    bool is_read;
    uint64_t key;
    size_t value_at; /* in the pool */
    STAILQ_ENTRY(client) link;
};

/* What belongs to a handle; changed on its thread only, once the run has begun. */
struct connection {
    struct bench *bench;
    struct shardkv *kv;
    _Atomic uint64_t ops, errors, unknown; /* read by the progress line meanwhile */
    uint64_t last_end_ns;
    int last_error;
    struct histogram latencies;
};

struct bench {
    /* Constant during the run. */
    const struct bench_options *options;
    uint64_t start_ns, end_ns; /* end: no operation starts after it */
    uint64_t max_ops;
    double interval_ns; /* between due times; 0: no rate */
    char *pool;         /* where values are cut from */
    size_t pool_len;

    _Atomic uint64_t started;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    STAILQ_HEAD(, client) idle; /* wait for the next due time, or for the library */
    size_t n_idle;
    size_t n_idle_drawn; /* of these: who the library was too busy for */
    size_t n_live;       /* clients that have not finished; before the start, reads */
};

/* ---- Keys and values ---- */

uint64_t bench_least_key_bytes(uint64_t keys)
{
    uint64_t digits = 1;

    while (keys > 10) {
        keys = (keys + 9) / 10;
        digits++;
    }
    return digits;
}

/* xorshift64*: good enough to choose keys, and cheap. */
static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* The key's number in decimal, with leading zeros. */
static void write_key(char *to, size_t len, uint64_t key)
{
    for (size_t i = len; i-- > 0; key /= 10) {
        to[i] = (char)('0' + key % 10);
    }
}

/* Bytes that don't compress; a value is a piece of them from anywhere. */
static void make_pool(struct bench *bench)
{
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

    bench->pool_len = bench->options->value_bytes + (1u << 20);
    bench->pool = malloc(bench->pool_len + sizeof(state));
    if (bench->pool == NULL) {
        abort();
    }
    for (size_t i = 0; i < bench->pool_len; i += sizeof(state)) {
        uint64_t word = draw(&state);
        memcpy(bench->pool + i, &word, sizeof(word));
    }
}

/* ---- Operations ---- */

static void on_end(void *context, struct shardkv_result *result);

static void choose(struct client *client, uint64_t number)
{
    const struct bench_options *options = client->connection->bench->options;
    double dice = (double)(draw(&client->random) >> 11) / 9007199254740992.0;

    client->is_read =
        options->op == BENCH_GET || (options->op == BENCH_MIXED && dice < options->read_ratio);
    client->key = (options->in_order ? number : draw(&client->random)) % options->keys;
    client->value_at = (size_t)(draw(&client->random) & ((1u << 20) - 1));
    client->drawn = true;
}

/* Hands the drawn operation to the library; false: it is too busy. */
static bool submit(struct client *client)
{
    struct bench *bench = client->connection->bench;
    const struct bench_options *options = bench->options;
    struct shardkv *kv = client->connection->kv;
    char text[CLI_MAX_KEY];
    struct shardkv_bytes key = {text, options->key_bytes};
    struct shardkv_bytes value = {bench->pool + client->value_at, options->value_bytes};
    int code;

    write_key(text, key.len, client->key);
    client->drawn = false; /* before: the end may come before the call returns */
    if (client->is_read) {
        code = shardkv_get_async(kv, key, 0, on_end, client, NULL);
    } else if (options->op == BENCH_APPEND) {
        code = shardkv_append_async(kv, key, value, 0, on_end, client, NULL);
    } else {
        code = shardkv_put_async(kv, key, value, 0, on_end, client, NULL);
    }
    if (code != SHARDKV_OK) {
        client->drawn = true;
    }
    return code == SHARDKV_OK;
}

/* The number of the next operation, if there is one more to start. */
static bool take_number(struct bench *bench, uint64_t now_ns, uint64_t *number)
{
    if (now_ns >= bench->end_ns) {
        return false;
    }
    *number = atomic_fetch_add_explicit(&bench->started, 1, memory_order_relaxed);
    return *number < bench->max_ops;
}

static uint64_t due_ns(const struct bench *bench, uint64_t number)
{
    return bench->start_ns + (uint64_t)((double)number * bench->interval_ns);
}

static void client_park(struct client *client)
{
    struct bench *bench = client->connection->bench;

    pthread_mutex_lock(&bench->mutex);
    STAILQ_INSERT_TAIL(&bench->idle, client, link);
    bench->n_idle++;
    bench->n_idle_drawn += client->drawn;
    pthread_cond_signal(&bench->changed);
    pthread_mutex_unlock(&bench->mutex);
}

/* One of n_live has come to its end. */
static void finish_one(struct bench *bench)
{
    pthread_mutex_lock(&bench->mutex);
    bench->n_live--;
    pthread_cond_signal(&bench->changed);
    pthread_mutex_unlock(&bench->mutex);
}

/* Starts the client's next operation, or lets it wait for a due time, or ends it. */
static void client_next(struct client *client, uint64_t now_ns)
{
    struct bench *bench = client->connection->bench;
    uint64_t number;

    if (bench->interval_ns > 0) {
        /* Only the number that is due may be taken; who comes too early waits. */
        uint64_t next = atomic_load_explicit(&bench->started, memory_order_relaxed);
        do {
            if (now_ns >= bench->end_ns || next >= bench->max_ops) {
                finish_one(bench);
                return;
            }
            if (due_ns(bench, next) > now_ns) {
                client_park(client);
                return;
            }
        } while (!atomic_compare_exchange_weak(&bench->started, &next, next + 1));
        number = next;
        client->start_ns = due_ns(bench, number);
    } else {
        if (!take_number(bench, now_ns, &number)) {
            finish_one(bench);
            return;
        }
        client->start_ns = now_ns;
    }
    choose(client, number);
    if (!submit(client)) {
        client_park(client);
    }
}

/* Only the handle's thread adds, so that a plain addition is enough. */
static void count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static void on_end(void *context, struct shardkv_result *result)
{
    struct client *client = context;
    struct connection *connection = client->connection;
    uint64_t now_ns = cli_now_ns();

    if (result->code == SHARDKV_OK || result->code == SHARDKV_NOT_FOUND) {
        count(&connection->ops);
    } else {
        count(result->code == SHARDKV_UNKNOWN ? &connection->unknown : &connection->errors);
        connection->last_error = result->code;
    }
    histogram_record(&connection->latencies,
                     now_ns > client->start_ns ? now_ns - client->start_ns : 0);
    connection->last_end_ns = now_ns;
    shardkv_result_free(result);
    client_next(client, now_ns);
}

/* ---- The main thread: due times, progress, the end ---- */

static uint64_t sum(struct connection *connections, uint64_t n, size_t offset)
{
    uint64_t total = 0;

    for (uint64_t i = 0; i < n; i++) {
        total += atomic_load_explicit((_Atomic uint64_t *)((char *)&connections[i] + offset),
                                      memory_order_relaxed);
    }
    return total;
}

static void show_progress(const struct bench *bench, struct connection *connections,
                          uint64_t *last_ops, uint64_t *last_ns)
{
    uint64_t n = bench->options->connections, now_ns = cli_now_ns();
    uint64_t ops = sum(connections, n, offsetof(struct connection, ops));

    fprintf(stderr, "\r%s %5.1f s  %9.0f ops/s  %llu done  %llu errors  %llu unknown ",
            bench->options->title, (double)(now_ns - bench->start_ns) / 1e9,
            (double)(ops - *last_ops) * 1e9 / (double)(now_ns - *last_ns + 1),
            (unsigned long long)ops,
            (unsigned long long)sum(connections, n, offsetof(struct connection, errors)),
            (unsigned long long)sum(connections, n, offsetof(struct connection, unknown)));
    *last_ops = ops;
    *last_ns = now_ns;
}

/* Wakes all who wait; those with nothing due yet come back. The mutex is held, and given up
 * meanwhile. */
static void wake_idle(struct bench *bench)
{
    for (size_t n = bench->n_idle; n > 0 && bench->n_idle > 0; n--) {
        struct client *client = STAILQ_FIRST(&bench->idle);
        uint64_t now_ns = cli_now_ns();
        bool nothing_due = !client->drawn && now_ns < bench->end_ns &&
                           atomic_load(&bench->started) < bench->max_ops &&
                           due_ns(bench, atomic_load(&bench->started)) > now_ns;

        if (nothing_due && bench->n_idle_drawn == 0) {
            return;
        }
        STAILQ_REMOVE_HEAD(&bench->idle, link);
        bench->n_idle--;
        bench->n_idle_drawn -= client->drawn;
        pthread_mutex_unlock(&bench->mutex);
        if (!client->drawn) {
            client_next(client, now_ns);
        } else if (!submit(client)) {
            client_park(client);
        }
        pthread_mutex_lock(&bench->mutex);
    }
}

static uint64_t min_ns(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the main thread has something to do again. The mutex is held. */
static uint64_t next_wake_ns(const struct bench *bench, uint64_t progress_ns)
{
    uint64_t wake_ns = progress_ns;

    if (bench->n_idle_drawn > 0) {
        wake_ns = min_ns(wake_ns, cli_now_ns() + RETRY_NS);
    }
    if (!STAILQ_EMPTY(&bench->idle) && bench->interval_ns > 0) {
        wake_ns = min_ns(wake_ns, due_ns(bench, atomic_load(&bench->started)));
        wake_ns = min_ns(wake_ns, bench->end_ns);
    }
    return wake_ns;
}

static void wait_until(struct bench *bench, uint64_t wake_ns)
{
    struct timespec at = {(time_t)(wake_ns / 1000000000), (long)(wake_ns % 1000000000)};

    pthread_cond_clockwait(&bench->changed, &bench->mutex, CLOCK_MONOTONIC, &at);
}

static void watch(struct bench *bench, struct connection *connections)
{
    bool show = isatty(STDERR_FILENO);
    uint64_t progress_ns = bench->start_ns + PROGRESS_NS;
    uint64_t last_ops = 0, last_ns = bench->start_ns;

    pthread_mutex_lock(&bench->mutex);
    while (bench->n_live > 0) {
        wait_until(bench, next_wake_ns(bench, progress_ns));
        wake_idle(bench);
        if (cli_now_ns() >= progress_ns) {
            progress_ns += PROGRESS_NS;
            if (show) {
                show_progress(bench, connections, &last_ops, &last_ns);
            }
        }
    }
    pthread_mutex_unlock(&bench->mutex);
    if (show) {
        fprintf(stderr, "\r%79s\r", "");
    }
}

/* ---- Before the clock starts ---- */

static void on_first_read(void *context, struct shardkv_result *result)
{
    shardkv_result_free(result);
    finish_one(context);
}

/* Each handle reads a few keys, whatever comes of it: it knows the configuration then, and is
 * connected, as a service's clients are for most of their lives. */
static void connect_all(struct bench *bench, struct connection *connections)
{
    const struct bench_options *options = bench->options;
    uint64_t random = UINT64_C(0x2545f4914f6cdd1d);
    char text[CLI_MAX_KEY];

    bench->n_live = options->connections * FIRST_READS;
    for (uint64_t i = 0; i < options->connections * FIRST_READS; i++) {
        struct shardkv_bytes key = {text, options->key_bytes};

        write_key(text, key.len, draw(&random) % options->keys);
        if (shardkv_get_async(connections[i / FIRST_READS].kv, key, 0, on_first_read, bench,
                              NULL) != SHARDKV_OK) {
            finish_one(bench);
        }
    }
    pthread_mutex_lock(&bench->mutex);
    while (bench->n_live > 0) {
        pthread_cond_wait(&bench->changed, &bench->mutex);
    }
    pthread_mutex_unlock(&bench->mutex);
}

/* ---- All of it ---- */

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void collect(const struct bench *bench, struct connection *connections,
                    struct bench_result *result)
{
    uint64_t last_ns = bench->start_ns + 1;

    *result = (struct bench_result){0};
    for (uint64_t i = 0; i < bench->options->connections; i++) {
        struct connection *connection = &connections[i];

        result->ops += connection->ops;
        result->errors += connection->errors;
        result->unknown += connection->unknown;
        result->last_error =
            connection->last_error != 0 ? connection->last_error : result->last_error;
        last_ns = connection->last_end_ns > last_ns ? connection->last_end_ns : last_ns;
        histogram_merge(&result->latencies, &connection->latencies);
    }
    result->seconds = (double)(last_ns - bench->start_ns) / 1e9;
}

void bench_run(const struct bench_options *options, struct shardkv **kv,
               struct bench_result *result)
{
    struct connection *connections = allocate(options->connections, sizeof(*connections));
    struct client *clients = allocate(options->clients, sizeof(*clients));
    struct bench bench = {.options = options};
    double cpu_before;

    pthread_mutex_init(&bench.mutex, NULL);
    pthread_cond_init(&bench.changed, NULL);
    STAILQ_INIT(&bench.idle);
    make_pool(&bench);
    bench.max_ops = options->ops > 0 ? options->ops : UINT64_MAX;
    bench.interval_ns = options->rate > 0 ? 1e9 / options->rate : 0;
    for (uint64_t i = 0; i < options->connections; i++) {
        connections[i].bench = &bench;
        connections[i].kv = kv[i];
    }
    connect_all(&bench, connections);
    bench.n_live = options->clients;
    cpu_before = cpu_seconds();
    bench.start_ns = cli_now_ns();
    bench.end_ns = options->ops > 0 ? UINT64_MAX : bench.start_ns + options->seconds * 1000000000;
    for (uint64_t i = 0; i < options->clients; i++) {
        clients[i].connection = &connections[i % options->connections];
        clients[i].random = bench.start_ns ^ (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
        client_next(&clients[i], cli_now_ns());
    }
    watch(&bench, connections);
    collect(&bench, connections, result);
    result->cpu_seconds = cpu_seconds() - cpu_before;
    pthread_cond_destroy(&bench.changed);
    pthread_mutex_destroy(&bench.mutex);
    free(bench.pool);
    free(clients);
    free(connections);
}
