/* The scenarios of the key/value suites that follow a script; see kv_suite.h. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "tests/sim/kv_suite.h"
#include "tests/sim/mem_state.h"

#define LOG_LIMIT         8000  /* 8 x maxraftstate */
#define SPEED_LIMIT_MS    33333 /* of 1000 operations: a third of a heartbeat each */
#define LATE_OPERATION_MS 60000
#define MAX_GROWTH        500   /* bytes of state, by 800 operations on one key */
#define GROWTH_LIMIT_MS   20000 /* of those operations */
#define TEXT_BYTES        32

void kv_suite_speed(const char *name, bool snapshots, const struct kv_load_options *options)
{
    struct kv_cluster *c = kv_suite_cluster(name, 3, false, snapshots);
    struct kv_load *load = kv_load_create(c, options);
    uint64_t start_ms = world_now_ms(kv_cluster_world(c)), ms;

    ASSERT(options->n_clients == 1);
    while (kv_load_done(load) < options->max_operations) {
        kv_load_run_ms(load, 10);
        ASSERT(world_now_ms(kv_cluster_world(c)) - start_ms <= SPEED_LIMIT_MS);
    }
    ms = world_now_ms(kv_cluster_world(c)) - start_ms;
    printf("%s: %.2f ms an operation\n", name, (double)ms / (double)options->max_operations);
    kv_load_finish(load);
    kv_load_check_and_destroy(&load);
    kv_cluster_check_limits(c);
    kv_cluster_destroy(&c);
}

/* ---- Values with versions, or without ---- */

/* The value that text has as a key's version-th, 1 being the first. */
static const char *value_of(char *value, bool versioned, uint64_t version, const char *text)
{
    if (versioned) {
        snprintf(value, TEXT_BYTES, "%llu:%s", (unsigned long long)version, text);
    } else {
        snprintf(value, TEXT_BYTES, "%s", text);
    }
    return value;
}

/* Starts the put that makes `text` the key's next version after `version`, whose text is `old`. */
static void begin_put(struct kv_client *client, bool versioned, const char *key, uint64_t version,
                      const char *old, const char *text, struct kv_outcome *outcome)
{
    char before[TEXT_BYTES] = "", after[TEXT_BYTES];

    value_of(after, versioned, version + 1, text);
    if (!versioned) {
        kv_client_put(client, key, slice_text(after), LATE_OPERATION_MS, outcome);
        return;
    }
    if (version > 0) {
        value_of(before, true, version, old);
    }
    kv_client_cas(client, key, version == 0 ? KV_IF_ABSENT : KV_IF_VALUE, slice_text(before),
                  slice_text(after), LATE_OPERATION_MS, outcome);
}

static void put(struct kv_cluster *c, struct kv_client *client, bool versioned, const char *key,
                uint64_t version, const char *old, const char *text)
{
    struct kv_outcome outcome;

    begin_put(client, versioned, key, version, old, text, &outcome);
    kv_outcome_await(c, &outcome, LATE_OPERATION_MS + 1000);
    ASSERT(outcome.status == ST_OK);
    kv_outcome_fini(&outcome);
}

/* The key has exactly this version and text. */
static void check(struct kv_client *client, bool versioned, const char *key, uint64_t version,
                  const char *text)
{
    char value[TEXT_BYTES];

    kv_check_now(client, key, value_of(value, versioned, version, text));
}

/* ---- OnePartition ---- */

/* Cuts `client` from every server that is not on its side. */
static void keep_client_on(struct kv_cluster *c, struct kv_client *client, const bool *side,
                           bool which)
{
    for (size_t i = 0; i < 5; i++) {
        world_cut_client(kv_cluster_world(c), kv_client_number(client), kv_cluster_node(c, 0, i),
                         side[i] != which);
    }
}

static void join_client(struct kv_cluster *c, struct kv_client *client)
{
    for (size_t i = 0; i < 5; i++) {
        world_cut_client(kv_cluster_world(c), kv_client_number(client), kv_cluster_node(c, 0, i),
                         false);
    }
}

/* Ends within 3 s, and so. */
static void await_late(struct kv_cluster *c, struct kv_outcome *outcome, enum status status)
{
    kv_outcome_await(c, outcome, 3000);
    ASSERT(outcome->status == status);
}

void kv_suite_one_partition(const char *name, bool unreliable, bool versioned)
{
    struct kv_cluster *c = kv_suite_cluster(name, 5, unreliable, false);
    struct kv_client *all = kv_client_create(c), *majority = kv_client_create(c),
                     *writer = kv_client_create(c), *reader = kv_client_create(c);
    struct kv_outcome late_put, get;
    const char *key = kv_cluster_key(c, 1);
    bool minority[5] = {0};
    size_t leader;

    put(c, all, versioned, key, 0, NULL, "13");
    leader = kv_cluster_leader(c, 0) - kv_cluster_node(c, 0, 0);
    minority[leader] = minority[(leader + 1) % 5] = true;
    kv_suite_split(c, 5, minority);
    keep_client_on(c, majority, minority, false);
    keep_client_on(c, writer, minority, true);
    keep_client_on(c, reader, minority, true);

    /* Progress in the majority. */
    put(c, majority, versioned, key, 1, "13", "14");
    check(majority, versioned, key, 2, "14");
    /* None in the minority. */
    begin_put(writer, versioned, key, 2, "14", "15", &late_put);
    kv_client_get(reader, key, LATE_OPERATION_MS, &get);
    kv_cluster_sleep(c, 1000);
    ASSERT(!late_put.ended && !get.ended);
    check(majority, versioned, key, 2, "14");
    put(c, majority, versioned, key, 2, "14", "16");
    check(majority, versioned, key, 3, "16");
    ASSERT(!late_put.ended && !get.ended);

    /* Completion after the heal: of the put, and (what the suite forgets to look at) of the get. */
    kv_suite_heal(c, 5);
    join_client(c, writer);
    join_client(c, reader);
    kv_cluster_sleep(c, 1000);
    await_late(c, &late_put, versioned ? ST_MISMATCH : ST_OK);
    await_late(c, &get, ST_OK);
    if (versioned) { /* its writer asks again, for the version that there is */
        check(writer, versioned, key, 3, "16");
        put(c, writer, versioned, key, 3, "16", "15");
    }
    check(all, versioned, key, 4, "15");
    kv_cluster_check_limits(c);
    kv_outcome_fini(&late_put);
    kv_outcome_fini(&get);
    kv_client_destroy(&all);
    kv_client_destroy(&majority);
    kv_client_destroy(&writer);
    kv_client_destroy(&reader);
    kv_cluster_destroy(&c);
}

/* ---- Snapshots ---- */

void kv_suite_snapshot_rpc(const char *name, bool versioned)
{
    struct kv_cluster *c = kv_suite_cluster(name, 3, false, true);
    struct kv_client *client = kv_client_create(c);
    char text[16];

    put(c, client, versioned, "a", 0, NULL, "A");
    check(client, versioned, "a", 1, "A");
    /* The majority throws most of its log away. */
    kv_suite_split(c, 3, (const bool[]){false, false, true});
    for (int i = 0; i < 50; i++) {
        snprintf(text, sizeof(text), "%d", i);
        put(c, client, versioned, text, 0, NULL, text);
    }
    kv_cluster_sleep(c, 1000);
    put(c, client, versioned, "b", 0, NULL, "B");
    ASSERT(kv_cluster_max_log_bytes(c) <= LOG_LIMIT);

    /* Now the one that lags is needed. */
    kv_suite_split(c, 3, (const bool[]){false, true, false});
    put(c, client, versioned, "c", 0, NULL, "C");
    put(c, client, versioned, "d", 0, NULL, "D");
    check(client, versioned, "a", 1, "A");
    check(client, versioned, "b", 1, "B");
    check(client, versioned, "1", 1, "1");
    check(client, versioned, "49", 1, "49");
    ASSERT(group_statistics(world_group(kv_cluster_world(c), kv_cluster_node(c, 0, 2)))
               ->snapshots_installed > 0);

    kv_suite_heal(c, 3);
    put(c, client, versioned, "e", 0, NULL, "E");
    check(client, versioned, "c", 1, "C");
    check(client, versioned, "e", 1, "E");
    check(client, versioned, "1", 1, "1");
    kv_cluster_check_limits(c);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

/* The most that a replica's state holds, be it durable or not yet. */
static uint64_t state_bytes(struct kv_cluster *c)
{
    uint64_t most = 0;

    for (size_t i = 0; i < 3; i++) {
        size_t node = kv_cluster_node(c, 0, i);
        uint64_t live = mem_state_live_bytes(world_state(kv_cluster_world(c), node));
        uint64_t durable = world_state_bytes(kv_cluster_world(c), node);
        most = live > most ? live : most;
        most = durable > most ? durable : most;
    }
    return most;
}

void kv_suite_snapshot_growth(const char *name, bool versioned)
{
    struct kv_cluster *c = kv_suite_cluster_of_shards(name, 3, false, true, SHARD_MIN_COUNT);
    struct kv_client *client = kv_client_create(c);
    uint64_t empty, full, start_ms;

    kv_cluster_sleep(c, 1000); /* every replica has the shards */
    empty = state_bytes(c);
    start_ms = world_now_ms(kv_cluster_world(c));
    for (uint64_t i = 0; i < 200; i++) {
        put(c, client, versioned, "x", 2 * i, "1", "0");
        check(client, versioned, "x", 2 * i + 1, "0");
        put(c, client, versioned, "x", 2 * i + 1, "0", "1");
        check(client, versioned, "x", 2 * i + 2, "1");
    }
    ASSERT(world_now_ms(kv_cluster_world(c)) - start_ms < GROWTH_LIMIT_MS);
    full = state_bytes(c);
    printf("%s: log %llu bytes; state %llu bytes, of which %llu without any data\n", name,
           (unsigned long long)kv_cluster_max_log_bytes(c), (unsigned long long)full,
           (unsigned long long)empty);
    ASSERT(kv_cluster_max_log_bytes(c) <= LOG_LIMIT);
    ASSERT(empty > 0 && full > empty && full - empty <= MAX_GROWTH);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}
