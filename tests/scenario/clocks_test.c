/* Clocks that are days apart, or jump by days: cluster time may differ from group to group, but
 * nobody is locked out. */
#include "tests/cmocka.h"

#include "raft/util/assert.h"
#include "tests/sim/kv_cluster.h"

#define HOUR_US (3600ll * 1000000)

static void set_clocks(struct kv_cluster *c, size_t first, size_t n, int64_t skew_us)
{
    for (size_t i = first; i < first + n; i++) {
        world_set_clock_skew(kv_cluster_world(c), i, skew_us);
    }
}

/* Two groups of one replica; key i lies in a shard of group i. */
static struct kv_cluster *begin(uint64_t seed)
{
    struct kv_cluster_options options = {
        .n_ctrlers = 1, .n_groups = 2, .n_replicas = 1, .seed = seed};
    struct kv_cluster *c = kv_cluster_create("clocks", &options);

    kv_cluster_join_many_now(c, (size_t[]){0, 1}, 2);
    for (shard_id shard = 0; shard < 2; shard++) {
        assert_int_equal(kv_cluster_move(c, shard, kv_cluster_gid(shard), NULL), ST_OK);
    }
    return c;
}

/* A client that has heard the time of a group whose clock is days ahead still writes to the other
 * one, and still finds the controller's ear. */
static void a_group_that_is_days_ahead_locks_nobody_out(void **state)
{
    struct kv_cluster *c = begin(1);
    struct kv_client *client = kv_client_create(c);

    (void)state;
    set_clocks(c, kv_cluster_node(c, 0, 0), 1, 48 * HOUR_US);
    for (int i = 0; i < 3; i++) {
        kv_append_now(client, kv_cluster_key(c, 0), "a");
        kv_append_now(client, kv_cluster_key(c, 1), "b");
    }
    kv_check_now(client, kv_cluster_key(c, 0), "aaa");
    kv_check_now(client, kv_cluster_key(c, 1), "bbb");
    /* The shard takes its sessions along to the group that is behind, and back. */
    assert_int_equal(kv_cluster_move(c, 0, kv_cluster_gid(1), NULL), ST_OK);
    kv_append_now(client, kv_cluster_key(c, 0), "c");
    assert_int_equal(kv_cluster_move(c, 0, kv_cluster_gid(0), NULL), ST_OK);
    kv_append_now(client, kv_cluster_key(c, 0), "d");
    kv_check_now(client, kv_cluster_key(c, 0), "aaacd");
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

/* The controller heard of no change for two days, and its last stamp is as old: a client that has
 * the present from a group may change the configuration all the same. */
static void a_controller_that_was_idle_for_days_takes_changes(void **state)
{
    struct kv_cluster *c = begin(2);
    struct kv_client *client = kv_client_create(c);
    struct world *world = kv_cluster_world(c);
    struct kv_change change = {0};

    (void)state;
    kv_append_now(client, kv_cluster_key(c, 0), "a");
    set_clocks(c, 0, 3, 48 * HOUR_US);
    kv_append_now(client, kv_cluster_key(c, 0), "b");
    ctrler_clerk_move(kv_client_admin(client), 0, kv_cluster_gid(1), world_now_ms(world),
                      world_now_ms(world) + 5000, kv_change_on_end, &change);
    world_reschedule(world, kv_client_number(client));
    assert_true(world_run_until(world, 6000, kv_change_has_ended, &change));
    assert_int_equal(change.status, ST_OK);
    kv_check_now(client, kv_cluster_key(c, 0), "ab");
    kv_client_destroy(&client);
    kv_cluster_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_that_is_days_ahead_locks_nobody_out),
        cmocka_unit_test(a_controller_that_was_idle_for_days_takes_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
