/* The public sharded key/value suite (2021-24), the scenarios whose ten clients work all the time:
 * concurrent changes, groups down as a whole, unreliable networks. See shardkv_test.c, which has
 * the other nine; numbers are the suite's.
 *
 * A client appends tokens to a key of its own (kv_load.h), instead of random letters: at the end
 * every token is there, once and in order. Every operation is in the history, too. */
#include "tests/cmocka.h"

#include "tests/sim/kv_load.h"

#define N_CLIENTS 10

static struct kv_cluster *cluster_of(const char *name, bool unreliable, uint64_t max_raft_state)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = 3,
                                         .n_replicas = 3,
                                         .unreliable = unreliable,
                                         .max_raft_state = max_raft_state,
                                         .record = true,
                                         .seed = 5000};
    return kv_cluster_create(name, &options);
}

static struct kv_load *appenders(struct kv_cluster *c, uint64_t pause_ms)
{
    struct kv_load_options options = {
        .n_clients = N_CLIENTS, .begin_with_put = true, .pause_ms = pause_ms};
    return kv_load_create(c, &options);
}

static void finish(struct kv_cluster **c, struct kv_load **load)
{
    kv_load_finish(*load);
    assert_true(kv_load_done(*load) >= 100);
    kv_load_check_and_destroy(load);
    kv_cluster_destroy(c);
}

static void concurrent1(void **state)
{
    struct kv_cluster *c = cluster_of("Concurrent1", false, 100);
    struct kv_load *load;

    (void)state;
    kv_cluster_join_now(c, 0);
    load = appenders(c, 10);
    kv_load_run_ms(load, 150);
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
    finish(&c, &load);
}

static void concurrent2(void **state)
{
    struct kv_cluster *c = cluster_of("Concurrent2", false, KV_NO_SNAPSHOTS);
    struct kv_load *load;

    (void)state;
    kv_cluster_join_now(c, 1);
    kv_cluster_join_now(c, 0);
    kv_cluster_join_now(c, 2);
    load = appenders(c, 50);
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
    kv_cluster_check_limits(c);
    finish(&c, &load);
}

static void concurrent3(void **state)
{
    struct kv_cluster *c = cluster_of("Concurrent3", false, 300);
    struct kv_load *load;
    struct rng *rng = world_rng(kv_cluster_world(c));
    uint64_t start_ms;

    (void)state;
    kv_cluster_join_now(c, 0);
    load = appenders(c, 0);
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
    finish(&c, &load);
}

/* Six changes, 0.15 to 0.5 s apart, under a load that appends (and reads) flat out. */
static void changes_under_load(const char *name, bool random_keys)
{
    const struct kv_load_options mixed = {
        .n_clients = N_CLIENTS, .random_keys = true, .get_ratio = 45, .put_ratio = 5};
    struct kv_cluster *c = cluster_of(name, true, 100);
    struct kv_load *load;

    kv_cluster_join_now(c, 0);
    load = random_keys ? kv_load_create(c, &mixed) : appenders(c, 0);
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
    finish(&c, &load);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(concurrent1), cmocka_unit_test(concurrent2), cmocka_unit_test(concurrent3),
        cmocka_unit_test(unreliable2), cmocka_unit_test(unreliable3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
