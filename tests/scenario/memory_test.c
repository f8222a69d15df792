/* The memory tests of the single-server suites (2024's kvsrv, 2025's kvsrv1), on a replica group of
 * one server and of three, each server measured by itself (tests/sim/heap.h says what counts: all
 * that the server holds; not the disk, which mem_log and mem_state stand for).
 *
 * There, the server is a map in memory, so its values count. Ours are in the state, on disk; what
 * must not stay in memory is what a client was told, and the commands of the Raft log. Their bound
 * is the log's: it is compacted with each checkpoint, here (max_raft_state) after each 64 KiB and
 * with nothing kept behind it, as shipped after each 32 MiB with 16 MiB kept. So a large
 * command is gone as soon as its checkpoint is durable, and servers are measured then.
 *
 * Large values. Get: put 10 MiB, three gets by two clients on the unreliable network, overwrite.
 * Put: 10 MiB by one client, overwritten by another. Less than 10 MiB must be held. Append: the
 * suite appends 10 MiB twice to one key and allows 30 MiB, 1.5 times the data; our values end at 16
 * MiB (KV_MAX_VALUE), so it is 8 MiB twice, and 24 MiB allowed.
 *
 * Many clients. 100,000 clients, each new to the server and with one operation, 100 at a time: a
 * put of 1000 bytes to one key; or (kvsrv1) a compare-and-set of one of 100 keys to its next
 * version; or a get. At most 200 bytes may stay of a client that wrote, 10 of one that read: a
 * write's session must be remembered, so that a late repetition is not applied. max_sessions is
 * raised from 65,536 a shard to above 100,000: measured is every client's record, not the limit.
 */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/heap.h"
#include "tests/sim/kv_cluster.h"
#include "tests/sim/mem_state.h"

#define MIB            (1u << 20)
#define LARGE_BYTES    (10 * MIB)
#define APPENDED_BYTES (8 * MIB) /* twice this is KV_MAX_VALUE */
#define MANY_CLIENTS   100000
#define UNMEASURED     5000 /* clients, where the heap is not measured: only for the sanitizer */
#define MANY_AT_ONCE   100
#define SMALL_BYTES    1000
#define PUT_LIMIT      200 /* bytes a client */
#define GET_LIMIT      10
#define MAX_RAFT_STATE (64u << 10)
#define MAX_SESSIONS   (1u << 17)
#define DEADLINE_MS    60000
#define KEY            "k"

static struct kv_cluster *begin(const char *name, size_t servers, bool unreliable)
{
    struct kv_cluster_options options = {.n_ctrlers = 1,
                                         .n_groups = 1,
                                         .n_replicas = servers,
                                         .max_raft_state = MAX_RAFT_STATE,
                                         .max_sessions = MAX_SESSIONS,
                                         .seed = 3400 + servers};
    struct kv_cluster *c = kv_cluster_create(name, &options);

    kv_cluster_join_now(c, 0);
    kv_cluster_set_unreliable(c, unreliable);
    return c;
}

static struct buf random_value(struct kv_cluster *c, size_t len)
{
    struct buf value = {0};

    buf_reserve(&value, len);
    while (value.len < len) {
        buf_put_u64(&value, rng_next(world_rng(kv_cluster_world(c))));
    }
    ASSERT(value.len == len);
    return value;
}

static void await(struct kv_cluster *c, struct kv_outcome *outcome)
{
    kv_outcome_await(c, outcome, DEADLINE_MS + 1000);
    ASSERT(outcome->status == ST_OK);
}

static void put_key_now(struct kv_cluster *c, struct kv_client *client, const char *key,
                        struct slice value)
{
    struct kv_outcome outcome;

    kv_client_put(client, key, value, DEADLINE_MS, &outcome);
    await(c, &outcome);
    kv_outcome_fini(&outcome);
}

static void put_now(struct kv_cluster *c, struct kv_client *client, struct slice value)
{
    put_key_now(c, client, KEY, value);
}

static void append_now(struct kv_cluster *c, struct kv_client *client, struct slice value)
{
    struct kv_outcome outcome;

    kv_client_append(client, KEY, value, DEADLINE_MS, &outcome);
    await(c, &outcome);
    kv_outcome_fini(&outcome);
}

/* The value is `a`, then `b`. */
static void check_now(struct kv_cluster *c, struct kv_client *client, struct slice a,
                      struct slice b)
{
    struct kv_outcome outcome;

    kv_client_get(client, KEY, DEADLINE_MS, &outcome);
    await(c, &outcome);
    ASSERT(outcome.value.len == a.len + b.len);
    ASSERT(slice_equal(slice_of(outcome.value.data, a.len), a));
    ASSERT(slice_equal(slice_of(outcome.value.data + a.len, b.len), b));
    kv_outcome_fini(&outcome);
}

/* ---- Measuring ---- */

/* Logs are compacted, and no follower that lagged is being sent a snapshot, which is the disk's. */
static bool is_compacted(void *context)
{
    struct kv_cluster *c = context;

    for (size_t i = 0; i < kv_cluster_n_replicas(c, 0); i++) {
        size_t node = kv_cluster_node(c, 0, i);
        struct group *group = world_group(kv_cluster_world(c), node);
        if (raft_log_bytes(group_raft(group)) > 2 * MAX_RAFT_STATE ||
            mem_state_n_snapshots(world_state(kv_cluster_world(c), node)) > 0) {
            return false;
        }
    }
    return true;
}

/* The most that one replica of the group holds, once logs are compacted. */
static uint64_t held(struct kv_cluster *c)
{
    uint64_t most = 0;

    ASSERT(world_run_until(kv_cluster_world(c), 10000, is_compacted, c));
    for (size_t i = 0; i < kv_cluster_n_replicas(c, 0); i++) {
        uint64_t bytes = heap_of_server(kv_cluster_world(c), kv_cluster_node(c, 0, i));
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void check_large(struct kv_cluster *c, const char *name, uint64_t limit)
{
    uint64_t bytes = held(c);

    if (!heap_is_measured()) {
        printf("%s: heap not measured, the allocator is not glibc's\n", name);
        return;
    }
    printf("%s: %llu bytes of heap in a server, at most %llu\n", name, (unsigned long long)bytes,
           (unsigned long long)limit);
    fflush(stdout);
    ASSERT(bytes > 0 && bytes <= limit);
}

/* ---- Large values ---- */

static void run_get(const char *name, size_t servers)
{
    struct kv_cluster *c = begin(name, servers, true);
    struct kv_client *one = kv_client_create(c), *other = kv_client_create(c);
    struct buf value = random_value(c, LARGE_BYTES);

    put_now(c, one, buf_slice(&value));
    check_now(c, one, buf_slice(&value), slice_text(""));
    check_now(c, other, buf_slice(&value), slice_text(""));
    check_now(c, other, buf_slice(&value), slice_text(""));
    put_now(c, one, slice_text("0"));
    check_large(c, name, LARGE_BYTES - 1);
    check_now(c, other, slice_text("0"), slice_text(""));
    buf_fini(&value);
    kv_client_destroy(&one);
    kv_client_destroy(&other);
    kv_cluster_destroy(&c);
}

static void run_put(const char *name, size_t servers)
{
    struct kv_cluster *c = begin(name, servers, false);
    struct kv_client *one = kv_client_create(c), *other = kv_client_create(c);
    struct buf value = random_value(c, LARGE_BYTES);

    put_now(c, one, buf_slice(&value));
    put_now(c, other, slice_text(""));
    check_large(c, name, LARGE_BYTES - 1);
    check_now(c, one, slice_text(""), slice_text(""));
    buf_fini(&value);
    kv_client_destroy(&one);
    kv_client_destroy(&other);
    kv_cluster_destroy(&c);
}

static void run_append(const char *name, size_t servers)
{
    struct kv_cluster *c = begin(name, servers, false);
    struct kv_client *one = kv_client_create(c), *other = kv_client_create(c);
    struct buf first = random_value(c, APPENDED_BYTES), second = random_value(c, APPENDED_BYTES);

    append_now(c, one, buf_slice(&first));
    append_now(c, other, buf_slice(&second));
    check_large(c, name, 3 * APPENDED_BYTES);
    check_now(c, one, buf_slice(&first), buf_slice(&second));
    buf_fini(&first);
    buf_fini(&second);
    kv_client_destroy(&one);
    kv_client_destroy(&other);
    kv_cluster_destroy(&c);
}

static void large_get(void **state)
{
    (void)state;
    run_get("MemGet, 1 server", 1);
    run_get("MemGet, 3 servers", 3);
}

static void large_put(void **state)
{
    (void)state;
    run_put("MemPut, 1 server", 1);
    run_put("MemPut, 3 servers", 3);
}

static void large_append(void **state)
{
    (void)state;
    run_append("MemAppend, 1 server", 1);
    run_append("MemAppend, 3 servers", 3);
}

/* ---- Many clients ---- */

enum crowd_work { CROWD_PUTS, CROWD_GETS, CROWD_SETS };

struct crowd {
    struct kv_cluster *cluster;
    enum crowd_work work;
    struct buf value; /* of every key */
    struct buf next;  /* what sets make of it */
    struct kv_client *clients[MANY_AT_ONCE];
    struct kv_outcome outcomes[MANY_AT_ONCE];
    size_t n; /* that have not ended, from the first on */
};

static bool all_ended(void *context)
{
    struct crowd *crowd = context;

    while (crowd->n > 0 && crowd->outcomes[crowd->n - 1].ended) {
        crowd->n--;
    }
    return crowd->n == 0;
}

/* Clients that set have a key each, all of one shard; its value was the same as all others'. */
static const char *set_key(size_t i, char *text, size_t size)
{
    snprintf(text, size, "{" KEY "}%zu", i);
    return text;
}

static void set_first_values(struct crowd *crowd, struct kv_client *client)
{
    char key[16];

    for (size_t i = 0; i < MANY_AT_ONCE; i++) {
        put_key_now(crowd->cluster, client, set_key(i, key, sizeof(key)), buf_slice(&crowd->value));
    }
}

/* From the present version to the next. */
static void begin_set(struct crowd *crowd, size_t i)
{
    char key[16];

    kv_client_cas(crowd->clients[i], set_key(i, key, sizeof(key)), KV_IF_VALUE,
                  buf_slice(&crowd->value), buf_slice(&crowd->next), DEADLINE_MS,
                  &crowd->outcomes[i]);
}

static void begin_one(struct crowd *crowd, size_t i)
{
    switch (crowd->work) {
    case CROWD_PUTS:
        kv_client_put(crowd->clients[i], KEY, buf_slice(&crowd->value), DEADLINE_MS,
                      &crowd->outcomes[i]);
        break;
    case CROWD_GETS:
        kv_client_get(crowd->clients[i], KEY, DEADLINE_MS, &crowd->outcomes[i]);
        break;
    case CROWD_SETS:
        begin_set(crowd, i);
        break;
    }
}

/* New clients, one operation each, all at the same time. */
static void crowd_run(struct crowd *crowd)
{
    struct world *world = kv_cluster_world(crowd->cluster);

    crowd->n = MANY_AT_ONCE;
    buf_clear(&crowd->next);
    buf_put_slice(&crowd->next, buf_slice(&crowd->value));
    set_u64(crowd->next.data, get_u64(crowd->next.data) + 1);
    for (size_t i = 0; i < MANY_AT_ONCE; i++) {
        crowd->clients[i] = kv_client_create(crowd->cluster);
        begin_one(crowd, i);
    }
    ASSERT(world_run_until(world, DEADLINE_MS + 1000, all_ended, crowd));
    for (size_t i = 0; i < MANY_AT_ONCE; i++) {
        ASSERT(crowd->outcomes[i].status == ST_OK);
        ASSERT(crowd->work != CROWD_GETS ||
               slice_equal(buf_slice(&crowd->outcomes[i].value), buf_slice(&crowd->value)));
        kv_outcome_fini(&crowd->outcomes[i]);
        kv_client_destroy(&crowd->clients[i]);
    }
    if (crowd->work == CROWD_SETS) {
        set_u64(crowd->value.data, get_u64(crowd->next.data));
    }
}

static void crowd_run_many(struct crowd *crowd, size_t n_clients)
{
    for (size_t i = 0; i < n_clients; i += MANY_AT_ONCE) {
        crowd_run(crowd);
    }
}

static void check_per_client(const char *name, enum crowd_work work, uint64_t before,
                             uint64_t after)
{
    double per_client = ((double)after - (double)before) / MANY_CLIENTS;
    int limit = work == CROWD_GETS ? GET_LIMIT : PUT_LIMIT;

    if (!heap_is_measured()) {
        printf("%s: heap not measured, the allocator is not glibc's; %d clients only\n", name,
               UNMEASURED);
        return;
    }
    printf("%s: %.1f bytes of heap a client in a server, at most %d\n", name, per_client, limit);
    fflush(stdout);
    ASSERT(per_client <= limit);
    /* A record has at least the client's id, else it is not what was measured. */
    ASSERT(work == CROWD_GETS || per_client > 16);
}

static void run_many(const char *name, size_t servers, enum crowd_work work)
{
    struct kv_cluster *c = begin(name, servers, false);
    struct kv_client *first = kv_client_create(c);
    struct crowd crowd = {.cluster = c, .work = work, .value = random_value(c, SMALL_BYTES)};
    uint64_t before;

    put_now(c, first, buf_slice(&crowd.value));
    set_first_values(&crowd, first);
    crowd_run_many(&crowd, MANY_AT_ONCE); /* what is allocated once is there */
    before = held(c);
    crowd_run_many(&crowd, heap_is_measured() ? MANY_CLIENTS : UNMEASURED);
    check_per_client(name, work, before, held(c));
    buf_fini(&crowd.value);
    buf_fini(&crowd.next);
    kv_client_destroy(&first);
    kv_cluster_destroy(&c);
}

static void many_puts(void **state)
{
    (void)state;
    run_many("MemPutMany, 1 server", 1, CROWD_PUTS);
    run_many("MemPutMany, 3 servers", 3, CROWD_PUTS);
}

static void many_sets(void **state)
{
    (void)state;
    run_many("MemPutManyClients, 1 server", 1, CROWD_SETS);
}

static void many_gets(void **state)
{
    (void)state;
    run_many("MemGetMany, 1 server", 1, CROWD_GETS);
    run_many("MemGetMany, 3 servers", 3, CROWD_GETS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_get), cmocka_unit_test(large_put), cmocka_unit_test(large_append),
        cmocka_unit_test(many_puts), cmocka_unit_test(many_sets), cmocka_unit_test(many_gets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
