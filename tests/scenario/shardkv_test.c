/* The public sharded key/value suite (2021-24) on the simulated world: static shards, joins and
 * leaves, snapshots, missed changes, whole groups down, unreliable networks, and the challenges. */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "tests/sim/kv_cluster.h"

#define N_KEYS 10

static struct kv_cluster *cluster_of(const char *name, bool unreliable, bool snapshots)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = 3,
                                         .n_replicas = 3,
                                         .unreliable = unreliable,
                                         .snapshots = snapshots,
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_shards),
        cmocka_unit_test(join_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
