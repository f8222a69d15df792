/* The engine of `bench`: many clients, each with one operation outstanding, on a few handles.
 *
 * A client is an independent session as far as the service can see the order of things: it starts
 * its next operation when the last one has ended. This happens in the callback, on the handle's
 * thread, and what a callback counts belongs to its handle, so nothing is locked on the way.
 *
 * The clock starts when every handle is connected.
 *
 * With a rate, operation k is due at start + k / rate whether the service keeps up or not; a free
 * client takes it, and if none is free it waits, and its latency counts from when it was due.
 */
#ifndef CLIENT_CLI_BENCH_RUN_H
#define CLIENT_CLI_BENCH_RUN_H

#include "client/cli.h"
#include "client/cli_histogram.h"

enum bench_op { BENCH_PUT, BENCH_GET, BENCH_APPEND, BENCH_MIXED };

struct bench_options {
    enum bench_op op;
    double read_ratio; /* of MIXED */
    uint64_t clients, connections;
    uint64_t key_bytes, value_bytes, keys;
    uint64_t seconds, ops; /* ops 0: as many as fit into the seconds */
    double rate;           /* operations per second of all clients; 0: as fast as they can */
    bool in_order;         /* each key once, one after the other, instead of any: to fill */
    const char *title;     /* of the progress line */
};

/* What holds unless options say otherwise; tests/bench/etcd_load.c has the same. */
#define BENCH_DEFAULTS                                                                             \
    .clients = 64, .connections = 1, .key_bytes = 16, .value_bytes = 256, .keys = 100000,          \
    .seconds = 5

struct bench_result {
    double seconds;     /* from the start to the end of the last operation */
    double cpu_seconds; /* of this process */
    uint64_t ops, errors, unknown;
    int last_error;             /* a code; 0 if there was none */
    struct histogram latencies; /* nanoseconds, of every operation, however it ended */
};

/* The digits that keys of these options need at least. */
uint64_t bench_least_key_bytes(uint64_t keys);

/* Runs it to its end. kv: `connections` handles. */
void bench_run(const struct bench_options *options, struct shardkv **kv,
               struct bench_result *result);

#endif
