/* The public sharded key/value suite (2021-24), the scenarios whose steps follow one another:
 * static shards, rejection, joins and leaves, snapshots, missed changes, and the challenges. Those
 * with clients that work all the time are in shardkv_load_test.c.
 *
 * The numbers are the suite's: three groups of three replicas, 10 or 30 keys, maxraftstate, waits,
 * and what is required. Two things differ, because a cluster here has at least 16 shards and the
 * suite has 10. Keys lie in as many different shards as there are keys or shards. And where the
 * suite counts on half of its keys being with one group, the keys are chosen so.
 *
 * maxraftstate (kv_cluster.h): a checkpoint whenever so many bytes of log were applied; -1: none at
 * all. Wherever the suite checks its logs, no replica may hold more log than eight times that, or,
 * at -1, any snapshot. */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/kv_admin.h"
#include "tests/sim/kv_cluster.h"

#define N_KEYS     10
#define MAX_KEYS   30
#define GET_MS     60000
#define SETTLE_MS  10000
#define SILENCE_MS 2000 /* nobody is waited for any more when none has ended for so long */

static struct kv_cluster *cluster_of(const char *name, bool unreliable, uint64_t max_raft_state,
                                     bool second_ctrlers)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = 3,
                                         .n_replicas = 3,
                                         .unreliable = unreliable,
                                         .max_raft_state = max_raft_state,
                                         .second_ctrlers = second_ctrlers,
                                         .record = true,
                                         .seed = 5000};
    return kv_cluster_create(name, &options);
}

/* ---- Keys and what they hold ---- */

struct expected {
    struct kv_cluster *cluster;
    struct kv_client *client;
    size_t n;
    const char *keys[MAX_KEYS];
    struct buf values[MAX_KEYS];
};

/* Ten keys are spread evenly over the 16 shards: each group gets some of them. */
static void expected_init(struct expected *expected, struct kv_cluster *c, size_t n)
{
    *expected = (struct expected){.cluster = c, .client = kv_client_create(c), .n = n};
    for (size_t i = 0; i < n; i++) {
        expected->keys[i] = kv_cluster_key(c, n == N_KEYS ? i * SHARD_MIN_COUNT / N_KEYS : i);
    }
}

/* And the cluster. */
static void expected_fini(struct expected *expected)
{
    kv_client_destroy(&expected->client);
    for (size_t i = 0; i < expected->n; i++) {
        buf_fini(&expected->values[i]);
    }
    kv_cluster_destroy(&expected->cluster);
}

static const char *random_text(struct kv_cluster *c, char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)('a' + rng_below(world_rng(kv_cluster_world(c)), 26));
    }
    text[len] = '\0';
    return text;
}

static void put_one(struct expected *expected, size_t i, size_t len)
{
    char text[1001];

    ASSERT(len < sizeof(text));
    random_text(expected->cluster, text, len);
    buf_clear(&expected->values[i]);
    buf_put_slice(&expected->values[i], slice_text(text));
    kv_put_now(expected->client, expected->keys[i], text);
}

static void check_one(struct expected *expected, size_t i)
{
    struct buf value = {0};

    assert_true(kv_get_now(expected->client, expected->keys[i], &value));
    assert_true(slice_equal(buf_slice(&value), buf_slice(&expected->values[i])));
    buf_fini(&value);
}

static void check_first(struct expected *expected, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        check_one(expected, i);
    }
}

static void check_all(struct expected *expected)
{
    check_first(expected, expected->n);
}

static void put_all(struct expected *expected, size_t len)
{
    for (size_t i = 0; i < expected->n; i++) {
        put_one(expected, i, len);
    }
}

/* Read, compare, append to every key: the suite's phase. */
static void append_all(struct expected *expected, size_t len)
{
    char text[21];

    ASSERT(len < sizeof(text));
    for (size_t i = 0; i < expected->n; i++) {
        check_one(expected, i);
        random_text(expected->cluster, text, len);
        kv_append_now(expected->client, expected->keys[i], text);
        buf_put_slice(&expected->values[i], slice_text(text));
    }
}

/* Which of the keys the group owns by the latest configuration. */
static size_t find_owned(struct expected *expected, size_t group, bool owned[MAX_KEYS])
{
    const struct shard_config *config = kv_cluster_config(expected->cluster, CONFIG_LATEST);
    size_t n = 0;

    for (size_t i = 0; i < expected->n; i++) {
        shard_id shard = shard_of_key(slice_text(expected->keys[i]), config->n_shards);
        owned[i] = config->shards[shard] == kv_cluster_gid(group);
        n += owned[i];
    }
    return n;
}

/* ---- 5A: whose shards are whose ---- */

/* Ten keys in ten shards, of which groups 0 and 1 own five each. */
static void choose_halves(struct expected *expected)
{
    const struct shard_config *config = kv_cluster_config(expected->cluster, CONFIG_LATEST);
    bool owned[MAX_KEYS];
    size_t n[2] = {0}, at = 0;

    for (shard_id shard = 0; shard < config->n_shards; shard++) {
        size_t group = config->shards[shard] - kv_cluster_gid(0);

        assert_in_range(group, 0, 1);
        if (n[group] < N_KEYS / 2) {
            n[group]++;
            expected->keys[at++] = kv_cluster_key(expected->cluster, shard);
        }
    }
    assert_int_equal(at, N_KEYS);
    assert_int_equal(find_owned(expected, 0, owned), N_KEYS / 2);
    assert_int_equal(find_owned(expected, 1, owned), N_KEYS / 2);
}

/* Two groups, and ten keys in ten shards, of which they own five each. The shards have arrived when
 * this returns: until then the first group serves, rightly, what is to go to the second. */
static void join_halves(struct expected *expected)
{
    kv_cluster_join_now(expected->cluster, 0);
    kv_cluster_join_now(expected->cluster, 1);
    assert_true(kv_cluster_settle(expected->cluster, SETTLE_MS) <= SETTLE_MS);
    choose_halves(expected);
    put_all(expected, 20);
    check_all(expected);
}

struct readers {
    struct kv_client *clients[N_KEYS];
    struct kv_outcome outcomes[N_KEYS];
};

static size_t count_ended(const struct readers *readers)
{
    size_t ended = 0;

    for (size_t i = 0; i < N_KEYS; i++) {
        ended += readers->outcomes[i].ended;
    }
    return ended;
}

static void check_reader(const struct expected *expected, size_t i,
                         const struct kv_outcome *outcome)
{
    assert_true(outcome->ended);
    assert_int_equal(outcome->status, ST_OK);
    assert_true(slice_equal(buf_slice(&outcome->value), buf_slice(&expected->values[i])));
}

/* Each reads its key; returns when none has ended for two seconds. Exactly the keys of group 0 have
 * ended, five of the ten, with the right values, and no other has said anything. */
static void read_halves(struct expected *expected, struct readers *readers)
{
    bool owned[MAX_KEYS];

    for (size_t i = 0; i < N_KEYS; i++) {
        kv_client_get(readers->clients[i], expected->keys[i], GET_MS, &readers->outcomes[i]);
    }
    for (size_t before = SIZE_MAX; before != count_ended(readers);) {
        before = count_ended(readers);
        kv_cluster_sleep(expected->cluster, SILENCE_MS);
    }
    assert_int_equal(count_ended(readers), find_owned(expected, 0, owned));
    assert_int_equal(count_ended(readers), N_KEYS / 2);
    for (size_t i = 0; i < N_KEYS; i++) {
        assert_int_equal(readers->outcomes[i].ended, owned[i]);
        if (owned[i]) {
            check_reader(expected, i, &readers->outcomes[i]);
        }
    }
}

static void readers_fini(struct readers *readers)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        kv_client_destroy(&readers->clients[i]);
        kv_outcome_fini(&readers->outcomes[i]);
    }
}

static void static_shards(void **state)
{
    struct kv_cluster *c = cluster_of("StaticShards", false, KV_NO_SNAPSHOTS, false);
    struct readers readers = {0};
    struct expected expected;

    (void)state;
    expected_init(&expected, c, N_KEYS);
    join_halves(&expected);
    kv_cluster_stop_group(c, 1);
    for (size_t i = 0; i < N_KEYS; i++) {
        readers.clients[i] = kv_client_create(c);
    }
    read_halves(&expected, &readers);
    kv_cluster_start_group(c, 1);
    check_all(&expected);
    for (int ms = 0; ms < SETTLE_MS && count_ended(&readers) < N_KEYS; ms += 100) {
        kv_cluster_sleep(c, 100);
    }
    for (size_t i = 0; i < N_KEYS; i++) {
        check_reader(&expected, i, &readers.outcomes[i]);
    }
    readers_fini(&readers);
    kv_cluster_check_limits(c);
    expected_fini(&expected);
}

/* Clerks of other controllers, who assign everything to group 0: that group does not serve what it
 * does not own, whatever the clerk believes, and does not say that there is no such key. */
static void rejection(void **state)
{
    struct kv_cluster *c = cluster_of("Rejection", false, KV_NO_SNAPSHOTS, true);
    struct readers readers = {0};
    struct expected expected;

    (void)state;
    expected_init(&expected, c, N_KEYS);
    join_halves(&expected);
    for (size_t i = 0; i < N_KEYS; i++) {
        readers.clients[i] = kv_client_create_astray(c);
    }
    kv_client_join_now(readers.clients[0], 0);
    read_halves(&expected, &readers);
    readers_fini(&readers);
    check_all(&expected);
    kv_cluster_check_limits(c);
    expected_fini(&expected);
}

/* ---- 5B: moving shards ---- */

static void join_leave(void **state)
{
    struct kv_cluster *c = cluster_of("JoinLeave", false, KV_NO_SNAPSHOTS, false);
    struct expected expected;

    (void)state;
    expected_init(&expected, c, N_KEYS);
    kv_cluster_join_now(c, 0);
    put_all(&expected, 5);
    check_all(&expected);
    kv_cluster_join_now(c, 1);
    append_all(&expected, 5);
    kv_cluster_leave_now(c, 0);
    append_all(&expected, 5);
    kv_cluster_sleep(c, 1000);
    kv_cluster_check_limits(c);
    kv_cluster_stop_group(c, 0);
    check_all(&expected);
    expected_fini(&expected);
}

static void snapshot(void **state)
{
    struct kv_cluster *c = cluster_of("Snapshot", false, 1000, false);
    struct expected expected;

    (void)state;
    expected_init(&expected, c, MAX_KEYS);
    kv_cluster_join_now(c, 0);
    put_all(&expected, 20);
    check_all(&expected);
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 2);
    kv_cluster_leave_now(c, 0);
    append_all(&expected, 20);
    kv_cluster_leave_now(c, 1);
    kv_cluster_join_now(c, 0);
    append_all(&expected, 20);
    kv_cluster_sleep(c, 1000);
    check_all(&expected);
    kv_cluster_sleep(c, 1000);
    kv_cluster_check_limits(c);
    for (size_t g = 0; g < 3; g++) {
        kv_cluster_stop_group(c, g);
    }
    for (size_t g = 0; g < 3; g++) {
        kv_cluster_start_group(c, g);
    }
    check_all(&expected);
    expected_fini(&expected);
}

static void miss_change(void **state)
{
    struct kv_cluster *c = cluster_of("MissChange", false, 1000, false);
    struct expected expected;

    (void)state;
    expected_init(&expected, c, N_KEYS);
    kv_cluster_join_now(c, 0);
    put_all(&expected, 20);
    check_all(&expected);
    kv_cluster_join_now(c, 1);
    kv_cluster_stop_replica(c, 0);
    kv_cluster_join_now(c, 2);
    kv_cluster_leave_now(c, 1);
    kv_cluster_leave_now(c, 0);
    append_all(&expected, 20);
    kv_cluster_join_now(c, 1);
    append_all(&expected, 20);
    kv_cluster_start_replica(c, 0);
    append_all(&expected, 20);
    kv_cluster_sleep(c, 2000);
    kv_cluster_stop_replica(c, 1);
    kv_cluster_join_now(c, 0);
    kv_cluster_leave_now(c, 2);
    append_all(&expected, 20);
    kv_cluster_start_replica(c, 1);
    check_all(&expected);
    expected_fini(&expected);
}

static void unreliable1(void **state)
{
    struct kv_cluster *c = cluster_of("Unreliable1", true, 100, false);
    struct expected expected;

    (void)state;
    expected_init(&expected, c, N_KEYS);
    kv_cluster_join_now(c, 0);
    put_all(&expected, 5);
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 2);
    kv_cluster_leave_now(c, 0);
    append_all(&expected, 5);
    append_all(&expected, 5);
    kv_cluster_join_now(c, 0);
    kv_cluster_leave_now(c, 1);
    check_all(&expected);
    check_all(&expected);
    expected_fini(&expected);
}

/* ---- Challenge 1: shards that were handed over are deleted ----
 *
 * The suite allows 117,000 bytes of raft state and snapshots in all nine replicas, for a payload of
 * 90,000: 27 keys once, three keys twice (what their last reads were answered is in the suite's
 * session tables; here reads leave nothing behind), and 2000 a replica of the largest group's three
 * for all the rest. Here it is 106,026:
 *
 *    90,000  values: 30 keys of 1000 bytes, three replicas
 *     1,800  headers of these records: format, type, flags, expiry, version
 *     1,326  their keys
 *     2,880  48 sessions (a client in 16 shards, three replicas), with their keys
 *     3,840  144 records of shards, most of them absent: 16 in each replica
 *     2,961  the adopted configuration, of all shards and groups
 *     2,403  the groups' SPECs, and who the own group is
 *       816  the shards' version counters
 *
 * The log is empty: compactions go to the disk with the next write, or after a moment without one.
 */

static void move_round(struct kv_cluster *c, struct expected *expected)
{
    kv_cluster_join_now(c, 1);
    kv_cluster_leave_now(c, 0);
    kv_cluster_join_now(c, 2);
    kv_cluster_sleep(c, 3000);
    check_first(expected, 3);
    kv_cluster_leave_now(c, 1);
    kv_cluster_join_now(c, 0);
    kv_cluster_leave_now(c, 2);
    kv_cluster_sleep(c, 3000);
    check_first(expected, 3);
}

/* What the replicas of all groups hold on their disks. */
static uint64_t count_bytes(struct kv_cluster *c)
{
    uint64_t log = 0, kept = 0;

    for (size_t g = 0; g < 3; g++) {
        for (size_t i = 0; i < 3; i++) {
            size_t node = kv_cluster_node(c, g, i);
            log += world_log_bytes(kv_cluster_world(c), node);
            kept += world_state_bytes(kv_cluster_world(c), node);
        }
    }
    printf("Challenge1Delete: %llu bytes of log + %llu of state = %llu in all replicas\n",
           (unsigned long long)log, (unsigned long long)kept, (unsigned long long)(log + kept));
    return log + kept;
}

static void challenge1_delete(void **state)
{
    struct kv_cluster *c = cluster_of("Challenge1Delete", false, 1, false);
    const uint64_t bound = 3 * ((MAX_KEYS - 3) * 1000 + 2 * 3 * 1000 + 6000);
    struct expected expected;

    (void)state;
    expected_init(&expected, c, MAX_KEYS);
    kv_cluster_join_now(c, 0);
    put_all(&expected, 1000);
    check_first(&expected, 3);
    move_round(c, &expected);
    move_round(c, &expected);
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 2);
    for (int i = 0; i < 3; i++) {
        kv_cluster_sleep(c, 1000);
        check_first(&expected, 3);
    }
    assert_true(count_bytes(c) <= bound);
    check_all(&expected);
    expected_fini(&expected);
}

/* ---- Challenge 2: what does not move, or has arrived, is served ---- */

/* Get, put and get of every key of these. */
static void check_service(struct expected *expected, const bool served[MAX_KEYS])
{
    for (size_t i = 0; i < expected->n; i++) {
        if (served[i]) {
            check_one(expected, i);
            put_one(expected, i, 3);
            check_one(expected, i);
        }
    }
}

/* Shards that stay where they are serve on while others can never arrive. */
static void challenge2_unaffected(void **state)
{
    struct kv_cluster *c = cluster_of("Challenge2Unaffected", true, 100, false);
    struct expected expected;
    bool owned[MAX_KEYS];

    (void)state;
    expected_init(&expected, c, N_KEYS);
    kv_cluster_join_now(c, 0);
    put_all(&expected, 3);
    kv_cluster_join_now(c, 1);
    kv_cluster_sleep(c, 1000);
    assert_true(find_owned(&expected, 1, owned) > 0);
    check_service(&expected, owned);
    kv_cluster_stop_group(c, 0);
    kv_cluster_leave_now(c, 0);
    kv_cluster_sleep(c, 1000);
    check_service(&expected, owned);
    expected_fini(&expected);
}

/* A shard serves as soon as it has arrived, although others cannot. */
static void challenge2_partial(void **state)
{
    struct kv_cluster *c = cluster_of("Challenge2Partial", true, 100, false);
    const size_t all[3] = {0, 1, 2}, gone[2] = {0, 2};
    struct expected expected;
    bool owned[MAX_KEYS], all_there[MAX_KEYS];

    (void)state;
    expected_init(&expected, c, N_KEYS);
    kv_cluster_join_many_now(c, all, 3);
    kv_cluster_sleep(c, 1000);
    put_all(&expected, 3);
    assert_true(find_owned(&expected, 2, owned) > 0);
    kv_cluster_stop_group(c, 0);
    kv_cluster_leave_many_now(c, gone, 2);
    kv_cluster_sleep(c, 1000);
    assert_int_equal(find_owned(&expected, 1, all_there), N_KEYS);
    check_service(&expected, owned);
    expected_fini(&expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_shards),      cmocka_unit_test(rejection),
        cmocka_unit_test(join_leave),         cmocka_unit_test(snapshot),
        cmocka_unit_test(miss_change),        cmocka_unit_test(unreliable1),
        cmocka_unit_test(challenge1_delete),  cmocka_unit_test(challenge2_unaffected),
        cmocka_unit_test(challenge2_partial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
