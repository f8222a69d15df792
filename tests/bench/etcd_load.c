/* The load generator for etcd: what `shardkv-cli bench` is to our servers, with the same options
 * and the same figures, so that scripts/bench.sh can put the two side by side.
 *
 * One thread and one epoll set; every client has one operation outstanding. Keys and values are
 * made as `shardkv-cli bench` makes them. --probe instead puts to every endpoint every 10 ms and
 * tells how long it took until one put, sent after the start (or after --kill PID was killed), was
 * acknowledged.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "client/cli_bench_run.h"
#include "tests/bench/etcd_conn.h"

#define MAX_ENDPOINTS  9
#define POOL_BYTES     (1u << 20)
#define PROBE_EVERY_NS UINT64_C(10000000)
#define PROBE_CALLS    4096
#define DRAIN_NS       UINT64_C(10000000000) /* calls outstanding at the end get so long */

struct options {
    struct sockaddr_in endpoints[MAX_ENDPOINTS];
    size_t n_endpoints;
    const char *op;
    bool is_read, in_order, probe;
    uint64_t clients, connections, key_bytes, value_bytes, keys, ops;
    double seconds;
    pid_t kill;
};

struct client {
    struct etcd_call call; /* first: a call is its client */
    struct etcd_conn *conn;
    uint64_t start_ns;
    bool outstanding;
};

struct load {
    const struct options *options;
    int epoll_fd;
    struct etcd_conn *conns;
    size_t n_conns;
    struct client *clients;
    char *pool; /* where values are cut from */
    uint64_t random, started, outstanding, ops, errors, end_ns, last_end_ns;
    uint64_t counts_from_ns, acknowledged_ns; /* probe: the first success of a put begun since */
    struct histogram latencies;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void fail(const char *what)
{
    fprintf(stderr, "etcd_load: %s\n", what);
    exit(1);
}

static uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* ---- Operations ---- */

static void begin(struct load *load, struct client *client, uint64_t start_ns)
{
    const struct options *options = load->options;
    uint64_t number = load->started++;
    uint64_t key = (options->in_order ? number : draw(&load->random)) % options->keys;
    struct etcd_call *call = &client->call;

    for (size_t i = options->key_bytes; i-- > 0; key /= 10) {
        call->key[i] = (char)('0' + key % 10);
    }
    call->key_len = options->key_bytes;
    call->is_read = options->is_read;
    call->value = load->pool + draw(&load->random) % POOL_BYTES;
    call->value_len = options->value_bytes;
    client->start_ns = start_ns;
    client->outstanding = true;
    load->outstanding++;
    etcd_conn_submit(client->conn, call);
}

static void on_end(void *context, struct etcd_call *call, bool ok)
{
    struct load *load = context;
    struct client *client = (struct client *)(void *)call;
    uint64_t now = now_ns();

    client->outstanding = false;
    load->outstanding--;
    load->ops += ok;
    load->errors += !ok;
    load->last_end_ns = now;
    histogram_record(&load->latencies, now - client->start_ns);
    if (ok && load->acknowledged_ns == 0 && client->start_ns >= load->counts_from_ns) {
        load->acknowledged_ns = now;
    }
    if (now < load->end_ns && (load->options->ops == 0 || load->started < load->options->ops)) {
        begin(load, client, now);
    }
}

static void pump(struct load *load, int timeout_ms, bool may_lose)
{
    struct epoll_event events[64];
    int n = epoll_wait(load->epoll_fd, events, 64, timeout_ms);

    for (int i = 0; i < n; i++) {
        struct etcd_conn *conn = events[i].data.ptr;

        if (!etcd_conn_turn(conn, events[i].events)) {
            if (!may_lose) {
                fail("connection lost");
            }
            etcd_conn_close(conn);
        }
    }
}

static void start(struct load *load, const struct options *options, size_t n_conns, size_t n_calls)
{
    *load = (struct load){.options = options, .n_conns = n_conns};
    load->random = now_ns() | 1;
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    load->conns = allocate(n_conns, sizeof(*load->conns));
    load->clients = allocate(n_calls, sizeof(*load->clients));
    load->pool = allocate(1, POOL_BYTES + options->value_bytes + sizeof(uint64_t));
    for (size_t i = 0; i < POOL_BYTES + options->value_bytes; i += sizeof(uint64_t)) {
        uint64_t word = draw(&load->random);
        memcpy(load->pool + i, &word, sizeof(word));
    }
    for (size_t i = 0; i < n_conns; i++) {
        load->conns[i].fd = -1;
        load->conns[i].on_end = on_end;
        load->conns[i].context = load;
    }
}

static void finish(struct load *load, size_t n_calls)
{
    for (size_t i = 0; i < load->n_conns; i++) {
        etcd_conn_close(&load->conns[i]);
    }
    for (size_t i = 0; i < n_calls; i++) {
        etcd_call_fini(&load->clients[i].call);
    }
    close(load->epoll_fd);
    free(load->conns);
    free(load->clients);
    free(load->pool);
}

/* ---- Load ---- */

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t percentile_us(const struct load *load, double fraction)
{
    return (histogram_percentile(&load->latencies, fraction) + 500) / 1000;
}

static void report(const struct load *load, double seconds, double cpu)
{
    const struct options *options = load->options;

    printf("{\"op\":\"%s\",\"clients\":%" PRIu64 ",\"connections\":%" PRIu64
           ",\"key_bytes\":%" PRIu64 ",\"value_bytes\":%" PRIu64 ",\"keys\":%" PRIu64
           ",\"ops\":%" PRIu64 ",\"p50_us\":%" PRIu64 ",\"p90_us\":%" PRIu64 ",\"p99_us\":%" PRIu64
           ",\"p999_us\":%" PRIu64 ",\"max_us\":%" PRIu64 ",\"errors\":%" PRIu64
           ",\"unknown\":0,\"seconds\":%.3f,\"ops_per_sec\":%.3f,\"client_cpu_seconds\":%.3f}\n",
           options->op, options->clients, options->connections, options->key_bytes,
           options->value_bytes, options->keys, load->ops, percentile_us(load, 0.5),
           percentile_us(load, 0.9), percentile_us(load, 0.99), percentile_us(load, 0.999),
           percentile_us(load, 1), load->errors, seconds, (double)load->ops / seconds, cpu);
}

static int run_load(const struct options *options)
{
    struct load *load = allocate(1, sizeof(*load));
    double cpu_before = cpu_seconds();
    uint64_t start_ns;
    int code;

    start(load, options, options->connections, options->clients);
    for (size_t i = 0; i < options->connections; i++) {
        if (!etcd_conn_open(&load->conns[i], &options->endpoints[i % options->n_endpoints],
                            load->epoll_fd)) {
            fail("cannot connect");
        }
    }
    start_ns = now_ns();
    load->end_ns = start_ns + (uint64_t)(options->seconds * 1e9);
    for (size_t i = 0; i < options->clients; i++) {
        load->clients[i].conn = &load->conns[i % options->connections];
        if (options->ops == 0 || load->started < options->ops) {
            begin(load, &load->clients[i], now_ns());
        }
    }
    for (size_t i = 0; i < options->connections; i++) {
        etcd_conn_flush(&load->conns[i]);
    }
    while (load->outstanding > 0 && now_ns() < load->end_ns + DRAIN_NS) {
        pump(load, 100, false);
    }
    if (load->outstanding > 0) {
        fail("operations were not answered");
    }
    report(load, (double)(load->last_end_ns - start_ns) / 1e9, cpu_seconds() - cpu_before);
    code = load->ops > 0 && load->errors == 0 ? 0 : 1;
    finish(load, options->clients);
    free(load);
    return code;
}

/* ---- Probe ---- */

/* A put to every endpoint that can be reached. */
static void probe_all(struct load *load, size_t *next)
{
    for (size_t i = 0; i < load->n_conns; i++) {
        struct etcd_conn *conn = &load->conns[i];
        struct client *client = &load->clients[*next];

        if (conn->fd < 0) {
            etcd_conn_open(conn, &load->options->endpoints[i], load->epoll_fd);
        }
        if (conn->fd < 0 || *next == PROBE_CALLS) {
            continue;
        }
        (*next)++;
        client->conn = conn;
        begin(load, client, now_ns());
        if (!etcd_conn_flush(conn)) {
            etcd_conn_close(conn);
        }
    }
}

/* Until the first success, or the time is up. Pauses end in the past, so that every put is one. */
static uint64_t probe_until(struct load *load, uint64_t end_ns, size_t *next)
{
    uint64_t due_ns = now_ns();

    load->acknowledged_ns = 0;
    load->counts_from_ns = due_ns;
    while (load->acknowledged_ns == 0 && now_ns() < end_ns) {
        if (now_ns() >= due_ns) {
            probe_all(load, next);
            due_ns += PROBE_EVERY_NS;
        }
        pump(load, 1, true);
    }
    return load->acknowledged_ns;
}

static int run_probe(const struct options *options)
{
    struct load *load = allocate(1, sizeof(*load));
    size_t next = 0;
    uint64_t from_ns = now_ns(), end_ns = from_ns + (uint64_t)(options->seconds * 1e9), at_ns;

    start(load, options, options->n_endpoints, PROBE_CALLS + 1);
    at_ns = probe_until(load, end_ns, &next);
    if (at_ns != 0 && options->kill > 0) {
        if (kill(options->kill, SIGKILL) != 0) {
            fail(strerror(errno));
        }
        from_ns = now_ns();
        at_ns = probe_until(load, end_ns, &next);
    }
    finish(load, PROBE_CALLS + 1);
    free(load);
    if (at_ns == 0) {
        fail("no put was acknowledged in time");
    }
    printf("{\"ms\":%.3f}\n", (double)(at_ns - from_ns) / 1e6);
    return 0;
}

/* ---- Options ---- */

static void usage(void)
{
    fprintf(stderr, "usage: etcd_load --endpoints HOST:PORT[,...] [--op put|get] [--clients 64]\n"
                    "  [--connections 1] [--key-bytes 16] [--value-bytes 256] [--keys 100000]\n"
                    "  [--seconds 5] [--ops N] [--in-order] [--probe [--kill PID]]\n");
    exit(2);
}

static void take_endpoints(struct options *options, char *text)
{
    char *rest = NULL;

    for (char *one = strtok_r(text, ",", &rest);
         one != NULL && options->n_endpoints < MAX_ENDPOINTS; one = strtok_r(NULL, ",", &rest)) {
        struct sockaddr_in *address = &options->endpoints[options->n_endpoints++];
        char *colon = strrchr(one, ':');

        if (colon == NULL) {
            usage();
        }
        *colon = '\0';
        address->sin_family = AF_INET;
        address->sin_port = htons((uint16_t)atoi(colon + 1));
        if (inet_pton(AF_INET, one, &address->sin_addr) != 1) {
            usage();
        }
    }
}

enum { OPTION_NUMBERS = 6 };

static void take_options(int argc, char **argv, struct options *options)
{
    const struct option known[] = {
        {"clients", 1, NULL, 0},     {"connections", 1, NULL, 1}, {"key-bytes", 1, NULL, 2},
        {"value-bytes", 1, NULL, 3}, {"keys", 1, NULL, 4},        {"ops", 1, NULL, 5},
        {"endpoints", 1, NULL, 'e'}, {"op", 1, NULL, 'o'},        {"seconds", 1, NULL, 's'},
        {"in-order", 0, NULL, 'i'},  {"probe", 0, NULL, 'p'},     {"kill", 1, NULL, 'k'},
        {NULL, 0, NULL, 0}};
    uint64_t *numbers[OPTION_NUMBERS] = {&options->clients,   &options->connections,
                                         &options->key_bytes, &options->value_bytes,
                                         &options->keys,      &options->ops};
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c >= 0 && c < OPTION_NUMBERS) {
            *numbers[c] = strtoull(optarg, NULL, 10);
        } else if (c == 'e') {
            take_endpoints(options, optarg);
        } else if (c == 'o') {
            options->op = optarg;
        } else if (c == 's') {
            options->seconds = atof(optarg);
        } else if (c == 'i') {
            options->in_order = true;
        } else if (c == 'p') {
            options->probe = true;
        } else if (c == 'k') {
            options->kill = (pid_t)atoi(optarg);
        } else {
            usage();
        }
    }
}

int main(int argc, char **argv)
{
    struct options options = {.op = "put", BENCH_DEFAULTS};

    take_options(argc, argv, &options);
    options.is_read = strcmp(options.op, "get") == 0;
    if (options.n_endpoints == 0 || options.connections == 0 || options.keys == 0 ||
        options.connections > options.clients || options.key_bytes == 0 ||
        options.key_bytes > ETCD_MAX_KEY || options.value_bytes > 16u << 20 ||
        options.seconds <= 0 || options.seconds > 86400 || options.kill < 0 ||
        (!options.is_read && strcmp(options.op, "put") != 0)) {
        usage();
    }
    signal(SIGPIPE, SIG_IGN);
    return options.probe ? run_probe(&options) : run_load(&options);
}
