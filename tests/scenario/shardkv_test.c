/* The public sharded key/value suite (2021-24) on the simulated world: static shards, joins and
 * leaves, snapshots, missed changes, whole groups down, unreliable networks, and the challenges. */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/kv_load.h"

#define N_KEYS 10

static struct kv_cluster *cluster_of(const char *name, bool unreliable, bool snapshots)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = 3,
                                         .n_replicas = 3,
                                         .unreliable = unreliable,
                                         .snapshots = snapshots,
                                         .record = true,
                                         .seed = 5000};
    return kv_cluster_create(name, &options);
}

/* What each key should hold; grown by appends. */
struct expected {
    struct buf values[16];
    size_t n;
};

static void random_text(struct kv_cluster *c, char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)('a' + rng_below(world_rng(kv_cluster_world(c)), 26));
    }
    text[len] = '\0';
}

static void put_all(struct kv_cluster *c, struct kv_client *client, struct expected *expected,
                    size_t n, size_t len)
{
    char text[1001];

    expected->n = n;
    for (size_t i = 0; i < n; i++) {
        random_text(c, text, len);
        expected->values[i] = (struct buf){0};
        buf_put_slice(&expected->values[i], slice_text(text));
        kv_put_now(client, kv_cluster_key(c, i), text);
    }
}

static void check_all(struct kv_cluster *c, struct kv_client *client,
                      const struct expected *expected)
{
    for (size_t i = 0; i < expected->n; i++) {
        struct buf value = {0};
        assert_true(kv_get_now(client, kv_cluster_key(c, i), &value));
        assert_true(slice_equal(buf_slice(&value), buf_slice(&expected->values[i])));
        buf_fini(&value);
    }
}

/* Read, compare, append to every key: the suite's phase. */
static void append_all(struct kv_cluster *c, struct kv_client *client, struct expected *expected)
{
    char text[21];

    check_all(c, client, expected);
    for (size_t i = 0; i < expected->n; i++) {
        random_text(c, text, 20);
        kv_append_now(client, kv_cluster_key(c, i), text);
        buf_put_slice(&expected->values[i], slice_text(text));
    }
}

static void expected_fini(struct expected *expected)
{
    for (size_t i = 0; i < expected->n; i++) {
        buf_fini(&expected->values[i]);
    }
}

static void static_shards(void **state)
{
    struct kv_cluster *c = cluster_of("StaticShards", false, false);
    struct kv_client *client = kv_client_create(c), *readers[N_KEYS];
    struct kv_outcome outcomes[N_KEYS];
    struct expected expected;
    const struct shard_config *config;
    size_t of_second = 0, ended = 0;

    (void)state;
    kv_cluster_join_now(c, 0);
    kv_cluster_join_now(c, 1);
    put_all(c, client, &expected, N_KEYS, 20);
    check_all(c, client, &expected);
    config = kv_cluster_config(c, CONFIG_LATEST);
    for (size_t i = 0; i < N_KEYS; i++) {
        of_second += config->shards[i] == kv_cluster_gid(1);
    }
    assert_in_range(of_second, 1, N_KEYS - 1);

    kv_cluster_stop_group(c, 1);
    for (size_t i = 0; i < N_KEYS; i++) {
        readers[i] = kv_client_create(c);
        kv_client_get(readers[i], kv_cluster_key(c, i), 60000, &outcomes[i]);
    }
    kv_cluster_sleep(c, 4000);
    for (size_t i = 0; i < N_KEYS; i++) {
        ended += outcomes[i].ended;
    }
    assert_int_equal(ended, N_KEYS - of_second);

    kv_cluster_start_group(c, 1);
    kv_cluster_sleep(c, 5000);
    for (size_t i = 0; i < N_KEYS; i++) {
        assert_true(outcomes[i].ended);
        assert_int_equal(outcomes[i].status, ST_OK);
        kv_outcome_fini(&outcomes[i]);
        kv_client_destroy(&readers[i]);
    }
    check_all(c, client, &expected);
    expected_fini(&expected);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

static void join_leave(void **state)
{
    struct kv_cluster *c = cluster_of("JoinLeave", false, false);
    struct kv_client *client = kv_client_create(c);
    struct expected expected;

    (void)state;
    kv_cluster_join_now(c, 0);
    put_all(c, client, &expected, N_KEYS, 5);
    check_all(c, client, &expected);
    kv_cluster_join_now(c, 1);
    append_all(c, client, &expected);
    kv_cluster_leave_now(c, 0);
    append_all(c, client, &expected);
    kv_cluster_sleep(c, 1000);
    kv_cluster_stop_group(c, 0);
    check_all(c, client, &expected);
    expected_fini(&expected);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

static void snapshot(void **state)
{
    struct kv_cluster *c = cluster_of("Snapshot", false, true);
    struct kv_client *client = kv_client_create(c);
    struct expected expected;

    (void)state;
    kv_cluster_join_now(c, 0);
    put_all(c, client, &expected, 16, 20);
    check_all(c, client, &expected);
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 2);
    kv_cluster_leave_now(c, 0);
    append_all(c, client, &expected);
    kv_cluster_leave_now(c, 1);
    kv_cluster_join_now(c, 0);
    append_all(c, client, &expected);
    kv_cluster_sleep(c, 1000);
    check_all(c, client, &expected);
    for (size_t g = 0; g < 3; g++) {
        kv_cluster_stop_group(c, g);
    }
    for (size_t g = 0; g < 3; g++) {
        kv_cluster_start_group(c, g);
    }
    check_all(c, client, &expected);
    expected_fini(&expected);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

static void miss_change(void **state)
{
    struct kv_cluster *c = cluster_of("MissChange", false, true);
    struct kv_client *client = kv_client_create(c);
    struct expected expected;

    (void)state;
    kv_cluster_join_now(c, 0);
    put_all(c, client, &expected, N_KEYS, 20);
    check_all(c, client, &expected);
    kv_cluster_join_now(c, 1);
    kv_cluster_stop_replica(c, 0);
    kv_cluster_join_now(c, 2);
    kv_cluster_leave_now(c, 1);
    kv_cluster_leave_now(c, 0);
    append_all(c, client, &expected);
    kv_cluster_join_now(c, 1);
    append_all(c, client, &expected);
    kv_cluster_start_replica(c, 0);
    append_all(c, client, &expected);
    kv_cluster_sleep(c, 2000);
    kv_cluster_stop_replica(c, 1);
    kv_cluster_join_now(c, 0);
    kv_cluster_leave_now(c, 2);
    append_all(c, client, &expected);
    kv_cluster_start_replica(c, 1);
    check_all(c, client, &expected);
    expected_fini(&expected);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

static struct kv_load *appenders(struct kv_cluster *c, uint64_t pause_ms, uint32_t get_ratio)
{
    struct kv_load_options options = {
        .n_clients = N_KEYS, .pause_ms = pause_ms, .get_ratio = get_ratio};
    return kv_load_create(c, &options);
}

static void finish(struct kv_cluster **c, struct kv_load **load, uint64_t at_least)
{
    kv_load_finish(*load);
    assert_true(kv_load_done(*load) >= at_least);
    kv_load_check_and_destroy(load);
    kv_cluster_destroy(c);
}

static void concurrent1(void **state)
{
    struct kv_cluster *c = cluster_of("Concurrent1", false, true);
    struct kv_load *load;

    (void)state;
    kv_cluster_join_now(c, 0);
    load = appenders(c, 10, 0);
    kv_cluster_join_now(c, 1);
    kv_load_run_ms(load, 500);
    kv_cluster_join_now(c, 2);
    kv_load_run_ms(load, 500);
    kv_cluster_leave_now(c, 0);
    for (size_t g = 0; g < 3; g++) {
        kv_cluster_stop_group(c, g);
        kv_load_run_ms(load, 100);
    }
    kv_cluster_leave_now(c, 2);
    kv_load_run_ms(load, 100);
    for (size_t g = 0; g < 3; g++) {
        kv_cluster_start_group(c, g);
    }
    kv_load_run_ms(load, 100);
    kv_cluster_join_now(c, 0);
    kv_cluster_leave_now(c, 1);
    kv_load_run_ms(load, 500);
    kv_cluster_join_now(c, 1);
    kv_load_run_ms(load, 1000);
    finish(&c, &load, 100);
}

static void concurrent2(void **state)
{
    struct kv_cluster *c = cluster_of("Concurrent2", false, false);
    struct kv_load *load;

    (void)state;
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 0);
    kv_cluster_join_now(c, 2);
    load = appenders(c, 50, 0);
    kv_cluster_leave_now(c, 0);
    kv_cluster_leave_now(c, 2);
    kv_load_run_ms(load, 3000);
    kv_cluster_join_now(c, 0);
    kv_cluster_join_now(c, 2);
    kv_cluster_leave_now(c, 1);
    kv_load_run_ms(load, 3000);
    kv_cluster_join_now(c, 1);
    kv_cluster_leave_now(c, 0);
    kv_cluster_leave_now(c, 2);
    kv_load_run_ms(load, 3000);
    kv_cluster_stop_group(c, 1);
    kv_cluster_stop_group(c, 2);
    kv_load_run_ms(load, 1000);
    kv_cluster_start_group(c, 1);
    kv_cluster_start_group(c, 2);
    kv_load_run_ms(load, 2000);
    finish(&c, &load, 100);
}

static void concurrent3(void **state)
{
    struct kv_cluster *c = cluster_of("Concurrent3", false, true);
    struct kv_load *load;
    struct rng *rng = world_rng(kv_cluster_world(c));
    uint64_t start_ms;

    (void)state;
    kv_cluster_join_now(c, 0);
    load = appenders(c, 0, 0);
    start_ms = world_now_ms(kv_cluster_world(c));
    while (world_now_ms(kv_cluster_world(c)) - start_ms < 12000) {
        kv_cluster_join_now(c, 2);
        kv_cluster_join_now(c, 1);
        kv_load_run_ms(load, rng_below(rng, 900));
        for (size_t g = 0; g < 3; g++) {
            kv_cluster_stop_group(c, g);
        }
        for (size_t g = 0; g < 3; g++) {
            kv_cluster_start_group(c, g);
        }
        kv_load_run_ms(load, rng_below(rng, 900));
        kv_cluster_leave_now(c, 1);
        kv_cluster_leave_now(c, 2);
        kv_load_run_ms(load, rng_below(rng, 900));
    }
    kv_load_run_ms(load, 2000);
    finish(&c, &load, 100);
}

static void unreliable1(void **state)
{
    struct kv_cluster *c = cluster_of("Unreliable1", true, true);
    struct kv_client *client = kv_client_create(c);
    struct expected expected;

    (void)state;
    kv_cluster_join_now(c, 0);
    put_all(c, client, &expected, N_KEYS, 5);
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 2);
    kv_cluster_leave_now(c, 0);
    append_all(c, client, &expected);
    append_all(c, client, &expected);
    kv_cluster_join_now(c, 0);
    kv_cluster_leave_now(c, 1);
    check_all(c, client, &expected);
    check_all(c, client, &expected);
    expected_fini(&expected);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

/* Six changes, 0.15 to 0.5 s apart, under a load that appends (and reads) flat out. */
static void changes_under_load(const char *name, bool random_keys)
{
    const struct kv_load_options mixed = {
        .n_clients = N_KEYS, .random_keys = true, .get_ratio = 45, .put_ratio = 5};
    struct kv_cluster *c = cluster_of(name, true, true);
    struct kv_load *load;

    kv_cluster_join_now(c, 0);
    load = random_keys ? kv_load_create(c, &mixed) : appenders(c, 0, 0);
    kv_load_run_ms(load, 150);
    kv_cluster_join_now(c, 1);
    kv_load_run_ms(load, 500);
    kv_cluster_join_now(c, 2);
    kv_load_run_ms(load, 500);
    kv_cluster_leave_now(c, 0);
    kv_load_run_ms(load, 500);
    kv_cluster_leave_now(c, 1);
    kv_load_run_ms(load, 500);
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 0);
    kv_load_run_ms(load, 2000);
    kv_cluster_set_unreliable(c, false);
    finish(&c, &load, 100);
}

static void unreliable2(void **state)
{
    (void)state;
    changes_under_load("Unreliable2", false);
}

static void unreliable3(void **state)
{
    (void)state;
    changes_under_load("Unreliable3", true);
}

/* Handed-over shards are deleted everywhere: what all replicas hold stays near the payload. */
static void challenge1_delete(void **state)
{
    struct kv_cluster *c = cluster_of("Challenge1Delete", false, true);
    struct kv_client *client = kv_client_create(c);
    struct expected expected;
    uint64_t bytes = 0;

    (void)state;
    kv_cluster_join_now(c, 0);
    put_all(c, client, &expected, 16, 1000);
    for (int cycle = 0; cycle < 2; cycle++) {
        kv_cluster_join_now(c, 1);
        kv_cluster_leave_now(c, 0);
        kv_cluster_join_now(c, 2);
        kv_cluster_sleep(c, 3000);
        kv_cluster_leave_now(c, 1);
        kv_cluster_join_now(c, 0);
        kv_cluster_leave_now(c, 2);
        kv_cluster_sleep(c, 3000);
    }
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 2);
    for (int i = 0; i < 3; i++) {
        kv_cluster_sleep(c, 1000);
        check_all(c, client, &expected);
    }
    for (size_t g = 0; g < 3; g++) {
        for (size_t i = 0; i < 3; i++) {
            size_t node = kv_cluster_node(c, g, i);
            bytes += world_log_bytes(kv_cluster_world(c), node) +
                     world_state_bytes(kv_cluster_world(c), node);
        }
    }
    /* The suite's bound is 117,000 for a payload of 90,000; ours is 48,000 of 16 keys. */
    printf("Challenge1Delete: %llu bytes in all replicas for a payload of 48000\n",
           (unsigned long long)bytes);
    assert_true(bytes <= 48000 + 9 * 12000);
    expected_fini(&expected);
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

/* Shards that stay where they are serve on while others can never arrive. */
static void challenge2_unaffected(void **state)
{
    struct kv_cluster *c = cluster_of("Challenge2Unaffected", true, true);
    struct kv_client *client = kv_client_create(c);
    const struct shard_config *config;
    bool of_second[N_KEYS];

    (void)state;
    kv_cluster_join_now(c, 0);
    for (size_t i = 0; i < N_KEYS; i++) {
        kv_put_now(client, kv_cluster_key(c, i), "100");
    }
    kv_cluster_join_now(c, 1);
    kv_cluster_sleep(c, 1000);
    config = kv_cluster_config(c, CONFIG_LATEST);
    for (size_t i = 0; i < N_KEYS; i++) {
        of_second[i] = config->shards[i] == kv_cluster_gid(1);
        if (of_second[i]) {
            kv_put_now(client, kv_cluster_key(c, i), "101");
        }
    }
    kv_cluster_stop_group(c, 0);
    kv_cluster_leave_now(c, 0);
    kv_cluster_sleep(c, 1000);
    for (size_t i = 0; i < N_KEYS; i++) {
        if (of_second[i]) {
            kv_check_now(client, kv_cluster_key(c, i), "101");
            kv_put_now(client, kv_cluster_key(c, i), "102");
            kv_check_now(client, kv_cluster_key(c, i), "102");
        }
    }
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

/* A shard serves as soon as it has arrived, although others cannot. */
static void challenge2_partial(void **state)
{
    struct kv_cluster *c = cluster_of("Challenge2Partial", true, true);
    struct kv_client *client = kv_client_create(c);
    const struct shard_config *config;
    const size_t all[3] = {0, 1, 2}, gone[2] = {0, 2};
    bool of_third[N_KEYS];

    (void)state;
    kv_cluster_join_many_now(c, all, 3);
    kv_cluster_sleep(c, 1000);
    config = kv_cluster_config(c, CONFIG_LATEST);
    for (size_t i = 0; i < N_KEYS; i++) {
        of_third[i] = config->shards[i] == kv_cluster_gid(2);
        kv_put_now(client, kv_cluster_key(c, i), "100");
    }
    kv_cluster_stop_group(c, 0);
    kv_cluster_leave_many_now(c, gone, 2);
    kv_cluster_sleep(c, 1000);
    for (size_t i = 0; i < N_KEYS; i++) {
        if (of_third[i]) {
            kv_check_now(client, kv_cluster_key(c, i), "100");
            kv_put_now(client, kv_cluster_key(c, i), "101");
            kv_check_now(client, kv_cluster_key(c, i), "101");
        }
    }
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_shards),      cmocka_unit_test(join_leave),
        cmocka_unit_test(snapshot),           cmocka_unit_test(miss_change),
        cmocka_unit_test(concurrent1),        cmocka_unit_test(concurrent2),
        cmocka_unit_test(concurrent3),        cmocka_unit_test(unreliable1),
        cmocka_unit_test(unreliable2),        cmocka_unit_test(unreliable3),
        cmocka_unit_test(challenge1_delete),  cmocka_unit_test(challenge2_unaffected),
        cmocka_unit_test(challenge2_partial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
