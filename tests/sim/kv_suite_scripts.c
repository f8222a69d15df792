/* The scenarios of the key/value suites that follow a script; see kv_suite.h. */
#include <stdio.h>

#include "raft/util/assert.h"
#include "tests/sim/kv_suite.h"

#define LOG_LIMIT         8000  /* 8 x maxraftstate */
#define SPEED_LIMIT_MS    33333 /* of 1000 operations: a third of a heartbeat each */
#define LATE_OPERATION_MS 60000

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

static bool has_ended(void *context)
{
    return ((struct kv_outcome *)context)->ended;
}

/* Ends well within 3 s. */
static void await_late(struct kv_cluster *c, struct kv_outcome *outcome)
{
    ASSERT(world_run_until(kv_cluster_world(c), 3000, has_ended, outcome));
    ASSERT(outcome->status == ST_OK);
}

void kv_suite_one_partition(const char *name, bool unreliable)
{
    struct kv_cluster *c = kv_suite_cluster(name, 5, unreliable, false);
    struct kv_client *all = kv_client_create(c), *majority = kv_client_create(c),
                     *writer = kv_client_create(c), *reader = kv_client_create(c);
    struct kv_outcome put, get;
    const char *key = kv_cluster_key(c, 1);
    bool minority[5] = {0};
    size_t leader;

    kv_put_now(all, key, "13");
    leader = kv_cluster_leader(c, 0) - kv_cluster_node(c, 0, 0);
    minority[leader] = minority[(leader + 1) % 5] = true;
    kv_suite_split(c, 5, minority);
    keep_client_on(c, majority, minority, false);
    keep_client_on(c, writer, minority, true);
    keep_client_on(c, reader, minority, true);

    /* Progress in the majority. */
    kv_put_now(majority, key, "14");
    kv_check_now(majority, key, "14");
    /* None in the minority. */
    kv_client_put(writer, key, slice_text("15"), LATE_OPERATION_MS, &put);
    kv_client_get(reader, key, LATE_OPERATION_MS, &get);
    kv_cluster_sleep(c, 1000);
    ASSERT(!put.ended && !get.ended);
    kv_check_now(majority, key, "14");
    kv_put_now(majority, key, "16");
    kv_check_now(majority, key, "16");
    ASSERT(!put.ended && !get.ended);

    /* Completion after the heal: of the put, and (what the suite forgets to look at) of the get. */
    kv_suite_heal(c, 5);
    join_client(c, writer);
    join_client(c, reader);
    kv_cluster_sleep(c, 1000);
    await_late(c, &put);
    await_late(c, &get);
    kv_check_now(all, key, "15");
    kv_cluster_check_limits(c);
    kv_outcome_fini(&put);
    kv_outcome_fini(&get);
    kv_client_destroy(&all);
    kv_client_destroy(&majority);
    kv_client_destroy(&writer);
    kv_client_destroy(&reader);
    kv_cluster_destroy(&c);
}

/* ---- Snapshots ---- */

void kv_suite_snapshot_rpc(const char *name)
{
    struct kv_cluster *c = kv_suite_cluster(name, 3, false, true);
    struct kv_client *client = kv_client_create(c);
    char text[16];

    kv_put_now(client, "a", "A");
    kv_check_now(client, "a", "A");
    /* The majority throws most of its log away. */
    kv_suite_split(c, 3, (const bool[]){false, false, true});
    for (int i = 0; i < 50; i++) {
        snprintf(text, sizeof(text), "%d", i);
        kv_put_now(client, text, text);
    }
    kv_cluster_sleep(c, 1000);
    kv_put_now(client, "b", "B");
    ASSERT(kv_cluster_max_log_bytes(c) <= LOG_LIMIT);

    /* Now the one that lags is needed. */
    kv_suite_split(c, 3, (const bool[]){false, true, false});
    kv_put_now(client, "c", "C");
    kv_put_now(client, "d", "D");
    kv_check_now(client, "a", "A");
    kv_check_now(client, "b", "B");
    kv_check_now(client, "1", "1");
    kv_check_now(client, "49", "49");
    ASSERT(group_statistics(world_group(kv_cluster_world(c), kv_cluster_node(c, 0, 2)))
               ->snapshots_installed > 0);

    kv_suite_heal(c, 3);
    kv_put_now(client, "e", "E");
    kv_check_now(client, "c", "C");
    kv_check_now(client, "e", "E");
    kv_check_now(client, "1", "1");
    kv_cluster_check_limits(c);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

/* What the state of the group holds besides the key, as an empty shard group does: see the check.
 */
void kv_suite_snapshot_size(const char *name)
{
    struct kv_cluster *c = kv_suite_cluster(name, 3, false, true);
    struct kv_client *client = kv_client_create(c);
    uint64_t empty, full;

    kv_put_now(client, "y", "0"); /* past INIT and the first configuration */
    kv_cluster_sleep(c, 500);
    empty = world_state_bytes(kv_cluster_world(c), kv_cluster_node(c, 0, 0));
    for (int i = 0; i < 200; i++) {
        kv_put_now(client, "x", "0");
        kv_check_now(client, "x", "0");
        kv_put_now(client, "x", "1");
        kv_check_now(client, "x", "1");
    }
    full = 0;
    for (size_t i = 0; i < 3; i++) {
        uint64_t bytes = world_state_bytes(kv_cluster_world(c), kv_cluster_node(c, 0, i));
        full = bytes > full ? bytes : full;
    }
    printf("%s: log %llu bytes; state %llu bytes, of which %llu were there before\n", name,
           (unsigned long long)kv_cluster_max_log_bytes(c), (unsigned long long)full,
           (unsigned long long)empty);
    ASSERT(kv_cluster_max_log_bytes(c) <= LOG_LIMIT);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}
