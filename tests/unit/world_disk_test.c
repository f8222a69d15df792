/* The simulated world's disks: the shipped WAL and mem_log, crashes, errors, disks that are slow,
 * stuck and full, and damage. */
#include "raft/util/mem.h"
#include "tests/sim/kv_cluster.h"
#include "tests/sim/world_internal.h"
#include "tests/unit/world_story.h"

static void with_the_wal_a_group_lives_through_crashes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct raft_cluster *cluster = begin_with(true, seed % 2 == 0, seed);
        struct world *world = raft_cluster_world(cluster);
        uint64_t number = 0;
        raft_term term;

        for (uint64_t i = 0; i < 40; i++) {
            size_t node = rng_below(world_rng(world), N);
            raft_cluster_agree_u64(cluster, 3 * i, 1, true);
            for (uint64_t j = 1; j < 3; j++) { /* to be cut off in the middle of being written */
                raft_cluster_submit_u64(cluster, node, 3 * i + j, &number, &term);
            }
            raft_cluster_end_turns(cluster);
            world_run_ms(world, rng_below(world_rng(world), 2));
            world_crash(world, node);
            world_run_ms(world, rng_below(world_rng(world), 400));
            world_start(world, node);
        }
        raft_cluster_agree_u64(cluster, 1000, N, true);
        assert_true(world_log_bytes(world, 0) > 0);
        raft_cluster_destroy(&cluster);
    }
}

/* A write that a crash cut off is there whole after the start, or not at all; both happen, and now
 * and then the start finds it torn. */
static void a_crash_in_a_write_leaves_all_of_it_or_nothing(void **state)
{
    size_t all = 0, nothing = 0, torn = 0;
    uint8_t bytes[3000] = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= 120; seed++) {
        struct raft_cluster *cluster = begin_with(true, false, seed);
        struct world *world = raft_cluster_world(cluster);
        size_t leader = raft_cluster_check_leader(cluster);
        uint64_t number, damaged = world_counted(world)->torn;
        raft_index before = raft_last_index(group_raft(world_group(world, leader))), after;
        raft_term term;

        for (size_t i = 0; i < N; i++) {
            world_connect(world, i, false);
        }
        for (int i = 0; i < 3; i++) { /* one write of several records */
            assert_true(raft_cluster_submit(cluster, leader, slice_of(bytes, sizeof(bytes)),
                                            &number, &term));
            raft_cluster_end_turns(cluster);
        }
        world_crash(world, leader);
        world_start(world, leader);
        after = raft_last_index(group_raft(world_group(world, leader)));
        assert_true(after == before || after == before + 3);
        all += after == before + 3;
        nothing += after == before;
        torn += world_counted(world)->torn > damaged;
        world_heal(world);
        raft_cluster_agree_u64(cluster, 1, N, true);
        raft_cluster_destroy(&cluster);
    }
    printf("all %zu, nothing %zu, torn %zu\n", all, nothing, torn);
    assert_true(all > 5 && nothing > 5 && torn > 2);
}

/* Whether an entry that the leader alone has, its disk idle again, is gone after a crash. */
static bool a_crash_loses_it(uint64_t seed, bool skip_syncs)
{
    struct raft_cluster *cluster = begin_with(true, false, seed);
    struct world *world = raft_cluster_world(cluster);
    size_t leader = raft_cluster_check_leader(cluster);
    uint64_t number;
    raft_index before;
    raft_term term;
    bool lost;

    for (size_t i = 0; i < N; i++) {
        world_connect(world, i, false);
    }
    world->nodes[leader]->log.files->skip_syncs = skip_syncs;
    assert_true(raft_cluster_submit_u64(cluster, leader, 1, &number, &term));
    raft_cluster_end_turns(cluster);
    world_run_ms(world, 20);
    before = raft_last_index(group_raft(world_group(world, leader)));
    world_crash(world, leader);
    world->nodes[leader]->log.files->skip_syncs = false;
    world_start(world, leader);
    lost = raft_last_index(group_raft(world_group(world, leader))) < before;
    world_heal(world);
    raft_cluster_agree_u64(cluster, 2, N, true);
    raft_cluster_destroy(&cluster);
    return lost;
}

/* A crash is a power cut: what was written and not synced may go, what was synced never does. */
static void a_crash_loses_what_was_not_synced(void **state)
{
    size_t lost = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        assert_false(a_crash_loses_it(seed, false));
        lost += a_crash_loses_it(seed, true);
    }
    printf("not synced and lost: %zu of 60\n", lost);
    assert_true(lost > 3);
}

static void after_an_orderly_stop_nothing_is_lost(void **state)
{
    struct raft_cluster *cluster = begin_with(true, false, 21);
    struct world *world = raft_cluster_world(cluster);
    size_t leader = raft_cluster_check_leader(cluster);
    uint64_t number;
    raft_index last;
    raft_term term;

    (void)state;
    assert_true(raft_cluster_submit_u64(cluster, leader, 1, &number, &term));
    raft_cluster_end_turns(cluster);
    last = raft_last_index(group_raft(world_group(world, leader)));
    world_stop(world, leader); /* not synced yet */
    world_start(world, leader);
    assert_int_equal(raft_last_index(group_raft(world_group(world, leader))), last);
    raft_cluster_agree_u64(cluster, 2, N, true);
    raft_cluster_destroy(&cluster);
}

/* The replica with the fault ends by itself, the others go on, and it comes back. */
static void halts_and_comes_back(bool use_wal, enum world_disk_fault fault, uint64_t seed)
{
    struct raft_cluster *cluster = begin_with(use_wal, true, seed);
    struct world *world = raft_cluster_world(cluster);
    size_t node = follower_of(raft_cluster_check_leader(cluster));

    world_fail_disk(world, node, fault);
    for (uint64_t i = 0; i < 30; i++) {
        raft_cluster_agree_u64(cluster, i, N - 1, true);
    }
    assert_false(world_is_running(world, node));
    assert_non_null(world_halted(world, node));
    assert_null(world_unexplained_halt(world));
    world_start(world, node);
    assert_null(world_halted(world, node));
    raft_cluster_agree_u64(cluster, 99, N, true);
    raft_cluster_destroy(&cluster);
}

static void an_error_of_the_disk_ends_the_replica_alone(void **state)
{
    (void)state;
    halts_and_comes_back(true, WORLD_DISK_WRITE_ERROR, 31);
    halts_and_comes_back(true, WORLD_DISK_SYNC_ERROR, 32);
    halts_and_comes_back(false, WORLD_DISK_WRITE_ERROR, 33);
    halts_and_comes_back(false, WORLD_DISK_SYNC_ERROR, 34);
    halts_and_comes_back(true, WORLD_DISK_STATE_ERROR, 35);
}

static void a_slow_disk_is_slow_and_a_stuck_one_stands_still(void **state)
{
    struct raft_cluster *cluster = begin_with(true, false, 41);
    struct world *world = raft_cluster_world(cluster);
    size_t node = follower_of(raft_cluster_check_leader(cluster));
    struct looker looker;
    uint64_t number, start_us, usual_us;

    (void)state;
    look(cluster, &looker, node);
    start_us = world_now_us(world);
    raft_cluster_agree_u64(cluster, 1, N, true);
    usual_us = world_now_us(world) - start_us;
    for (size_t i = 0; i < N; i++) {
        world_set_disk(world, i, &(struct world_disk){.slow_factor = 200});
    }
    start_us = world_now_us(world);
    raft_cluster_agree_u64(cluster, 2, N, true);
    assert_true(world_now_us(world) - start_us > usual_us + 15000);
    for (size_t i = 0; i < N; i++) {
        world_set_disk(world, i, &(struct world_disk){.stuck = i == node});
    }
    looker.written = 0;
    number = raft_cluster_agree_u64(cluster, 3, N - 1, true);
    raft_cluster_sleep(cluster, 3000);
    assert_int_equal(raft_cluster_applied(cluster, number), N); /* committed by the others */
    assert_int_equal(looker.written, 0);
    world_set_disk(world, node, &(struct world_disk){0});
    raft_cluster_agree_u64(cluster, 4, N, true);
    assert_true(looker.written > 0);
    assert_true(world_is_running(world, node));
    raft_cluster_destroy(&cluster);
}

static void a_full_disk_makes_read_only_and_ends(bool use_wal, uint64_t seed)
{
    struct raft_cluster *cluster = begin_with(use_wal, true, seed);
    struct world *world = raft_cluster_world(cluster);
    size_t leader = raft_cluster_check_leader(cluster);
    struct looker looker;
    uint64_t number;
    raft_term term;

    look(cluster, &looker, leader);
    for (uint64_t i = 0; i < 5; i++) {
        raft_cluster_agree_u64(cluster, i, N, true);
    }
    world_set_disk(world, leader, &(struct world_disk){.full = true});
    raft_cluster_sleep(cluster, 1);
    assert_true(looker.told_low);
    assert_true(group_is_read_only(world_group(world, leader)));
    assert_false(raft_cluster_submit_u64(cluster, leader, 100, &number, &term));
    raft_cluster_sleep(cluster, 2000);
    world_set_disk(world, leader, &(struct world_disk){0});
    raft_cluster_sleep(cluster, 6000); /* until it tried to make a checkpoint again */
    assert_true(world_is_running(world, leader));
    assert_true(looker.told_room);
    assert_false(group_is_read_only(world_group(world, leader)));
    raft_cluster_agree_u64(cluster, 101, N, true);
    raft_cluster_destroy(&cluster);
}

static void a_full_disk_refuses_writes_until_there_is_room(void **state)
{
    (void)state;
    a_full_disk_makes_read_only_and_ends(true, 51);
    a_full_disk_makes_read_only_and_ends(false, 52);
}

/* A follower cannot refuse: it writes until it finds no space. Then it waits, acknowledging
 * nothing, and goes on by itself when there is some. */
static void a_full_follower_waits_and_comes_back(bool use_wal, uint64_t seed)
{
    struct raft_cluster *cluster = begin_with(use_wal, false, seed);
    struct world *world = raft_cluster_world(cluster);
    size_t node = follower_of(raft_cluster_check_leader(cluster));
    uint8_t bytes[5000] = {0};
    raft_index behind;

    world_set_disk(world, node, &(struct world_disk){.full = true});
    for (uint64_t i = 0; i < 60; i++) {
        set_u64(bytes, i);
        raft_cluster_agree(cluster, slice_of(bytes, sizeof(bytes)), N - 1, true);
    }
    raft_cluster_sleep(cluster, 3000);
    assert_true(world_is_running(world, node));
    behind = raft_last_index(group_raft(world_group(world, node)));
    world_set_disk(world, node, &(struct world_disk){0});
    raft_cluster_agree_u64(cluster, 1000, N, true);
    assert_true(raft_last_index(group_raft(world_group(world, node))) >= behind);
    raft_cluster_destroy(&cluster);
}

static void a_full_follower_comes_back_by_itself(void **state)
{
    (void)state;
    a_full_follower_waits_and_comes_back(true, 53);
    a_full_follower_waits_and_comes_back(false, 54);
}

static void a_flipped_bit_is_found_or_harmless(void **state)
{
    size_t found = 0, harmless = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 120; seed++) {
        struct raft_cluster *cluster = begin_with(true, true, seed);
        struct world *world = raft_cluster_world(cluster);
        size_t node = follower_of(raft_cluster_check_leader(cluster));
        raft_index durable;

        for (uint64_t i = 0; i < 15; i++) {
            raft_cluster_agree_u64(cluster, i, N, true);
        }
        durable = raft_commit_index(group_raft(world_group(world, node))); /* it acknowledged it */
        world_crash(world, node);
        assert_true(world_flip_bit(world, node));
        if (world_try_start(world, node)) {
            harmless++;
            assert_true(raft_last_index(group_raft(world_group(world, node))) >= durable);
            raft_cluster_agree_u64(cluster, 100, N, true);
        } else {
            found++;
            assert_false(world_is_running(world, node));
            raft_cluster_agree_u64(cluster, 100, N - 1, true);
        }
        raft_cluster_destroy(&cluster);
    }
    printf("flips found %zu, harmless %zu\n", found, harmless);
    assert_true(found > 0);
}

/* Whatever a server does about it, its clients get the right value, from it or from another. */
static void a_read_error_gives_no_wrong_answer(void **state)
{
    struct kv_cluster_options options = {
        .n_ctrlers = 1, .n_groups = 1, .n_replicas = 3, .snapshots = true, .seed = 55};
    struct kv_cluster *cluster = kv_cluster_create("a read error", &options);
    struct world *world = kv_cluster_world(cluster);
    struct kv_client *client;

    (void)state;
    kv_cluster_join_now(cluster, 0);
    client = kv_client_create(cluster);
    kv_put_now(client, "key", "value");
    for (int i = 0; i < 5; i++) {
        size_t leader = kv_cluster_leader(cluster, 0);

        assert_true(leader != SIZE_MAX);
        world_fail_disk(world, leader, WORLD_DISK_READ_ERROR);
        kv_check_now(client, "key", "value");
        kv_append_now(client, "other", "x");
        world_run_ms(world, 3000);
        if (!world_is_running(world, leader)) {
            world_start(world, leader);
            world_run_ms(world, 3000);
        }
    }
    kv_check_now(client, "other", "xxxxx");
    kv_client_destroy(&client);
    kv_cluster_destroy(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_the_wal_a_group_lives_through_crashes),
        cmocka_unit_test(a_crash_in_a_write_leaves_all_of_it_or_nothing),
        cmocka_unit_test(a_crash_loses_what_was_not_synced),
        cmocka_unit_test(after_an_orderly_stop_nothing_is_lost),
        cmocka_unit_test(an_error_of_the_disk_ends_the_replica_alone),
        cmocka_unit_test(a_slow_disk_is_slow_and_a_stuck_one_stands_still),
        cmocka_unit_test(a_full_disk_refuses_writes_until_there_is_room),
        cmocka_unit_test(a_full_follower_comes_back_by_itself),
        cmocka_unit_test(a_flipped_bit_is_found_or_harmless),
        cmocka_unit_test(a_read_error_gives_no_wrong_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
