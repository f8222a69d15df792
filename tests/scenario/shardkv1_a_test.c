/* Part A of the public sharded suite of 2025 (MIT 6.5840, shardkv1, 5A: 14 tests) on the simulated
 * world: groups join and leave, alone, many, with groups down, and under load.
 *
 * How its scenarios read here. Its controller is a program that keeps the configuration in one
 * server that never fails, and moves the shards itself: a join or leave returns when everything has
 * moved. Ours is a replicated service: a change returns as soon as it is decided, and the groups
 * pull the shards on their own. So "the join has finished" is kv_cluster_settle: every shard is
 * served by its new owner, which is what `shardkv-cli wait --shards` waits for. Where the suite
 * goes on after a join, so do these tests, without waiting: clerks find their way during moves.
 *
 * Numbers are the suite's: 60 keys, spread evenly; groups of 3; 200 ms between changes; 8 groups
 * that join and leave; limits in seconds. But its 12 shards are our smallest 16, so 60 keys are 3
 * or 4 a shard instead of 5. Its first group, number 1, is group 0 here.
 */
#include "tests/cmocka.h"

#include <stdio.h>

#include "raft/util/mem.h"
#include "tests/sim/kv_admin.h"
#include "tests/sim/kv_clerks.h"

#define N_JOINING  8
#define BETWEEN_MS 200
#define SETTLE_MS  10000

/* A cluster whose group 0 has joined. */
static struct kv_cluster *cluster_of(const char *name, size_t n_groups, bool unreliable)
{
    struct kv_cluster_options options = {.n_ctrlers = 3,
                                         .n_groups = n_groups,
                                         .n_replicas = 3,
                                         .unreliable = unreliable,
                                         .seed = 6000};
    struct kv_cluster *cluster = kv_cluster_create(name, &options);

    kv_cluster_join_now(cluster, 0);
    return cluster;
}

static void end(struct kv_cluster **cluster, struct kv_keys **keys)
{
    kv_keys_destroy(keys);
    kv_cluster_destroy(cluster);
}

static void assert_member(struct kv_cluster *cluster, size_t group, bool member)
{
    const struct config_group *found =
        shard_config_find(kv_cluster_config(cluster, CONFIG_LATEST), kv_cluster_gid(group));

    assert_true((found != NULL && found->member) == member);
}

static void assert_settles(struct kv_cluster *cluster)
{
    assert_true(kv_cluster_settle(cluster, SETTLE_MS) != UINT64_MAX);
}

static config_num latest_num(struct kv_cluster *cluster)
{
    return kv_cluster_config(cluster, CONFIG_LATEST)->num;
}

/* Groups `first` to `last` join one by one, or leave. */
static void join_groups(struct kv_cluster *cluster, size_t first, size_t last)
{
    for (size_t group = first; group <= last; group++) {
        kv_cluster_join_now(cluster, group);
        assert_member(cluster, group, true);
        kv_cluster_sleep(cluster, BETWEEN_MS);
    }
}

static void leave_groups(struct kv_cluster *cluster, size_t first, size_t last)
{
    for (size_t group = first; group <= last; group++) {
        kv_cluster_leave_now(cluster, group);
        assert_member(cluster, group, false);
        kv_cluster_sleep(cluster, BETWEEN_MS);
    }
}

/* InitQuery: the first configuration, read back: number 1, every shard on the first group. */
static void init_query(void **state)
{
    struct kv_cluster *c = cluster_of("InitQuery5A", 1, false);
    const struct shard_config *config = kv_cluster_config(c, CONFIG_LATEST);

    (void)state;
    assert_int_equal(config->num, 1);
    for (shard_id s = 0; s < config->n_shards; s++) {
        assert_int_equal(config->shards[s], kv_cluster_gid(0));
    }
    kv_cluster_destroy(&c);
}

/* StaticOneShardGroup: 60 puts; the group's leader stops; the other two know them all. */
static void static_one_shard_group(void **state)
{
    struct kv_cluster *c = cluster_of("StaticOneShardGroup5A", 1, false);
    struct kv_keys *keys = kv_keys_create(c, 5);

    (void)state;
    kv_keys_check(keys);
    world_crash(kv_cluster_world(c), kv_cluster_leader(c, 0));
    kv_keys_check(keys);
    end(&c, &keys);
}

/* JoinBasic: one more group; the configuration's number grows by one; all values; with either group
 * down exactly its shards are away. */
static void join_basic(void **state)
{
    struct kv_cluster *c = cluster_of("JoinBasic5A", 2, false);
    struct kv_keys *keys = kv_keys_create(c, 5);
    config_num before = latest_num(c);

    (void)state;
    kv_cluster_join_now(c, 1);
    assert_int_equal(latest_num(c), before + 1);
    assert_member(c, 1, true);
    kv_keys_check(keys);
    assert_settles(c);
    kv_keys_check_shutdown(keys, 0);
    kv_keys_check_shutdown(keys, 1);
    end(&c, &keys);
}

static uint64_t largest_state(const struct kv_cluster *c, size_t group)
{
    struct world *world = kv_cluster_world((struct kv_cluster *)(uintptr_t)c);
    uint64_t largest = 0;

    for (size_t i = 0; i < 3; i++) {
        uint64_t bytes = world_state_bytes(world, kv_cluster_node(c, group, i));
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

/* DeleteBasic: what a group gave away it deletes. 1000-byte values, a log of 10,000 bytes; the
 * largest snapshots of both groups together are no more than 10,000 bytes above the one group's
 * before. The suite forces snapshots by 5 x 60 reads; ours make no entries, so each value is also
 * put again, which does. A snapshot here is the state as the last checkpoint saved it. */
static void delete_basic(void **state)
{
    struct kv_cluster_options options = {
        .n_ctrlers = 3, .n_groups = 2, .n_replicas = 3, .max_raft_state = 10000, .seed = 6000};
    struct kv_cluster *c = kv_cluster_create("DeleteBasic5A", &options);
    struct kv_keys *keys;
    uint64_t before, after;

    (void)state;
    kv_cluster_join_now(c, 0);
    keys = kv_keys_create(c, 1000);
    before = largest_state(c, 0);
    assert_true(before >= 60 * 1000 - 10000); /* the last log's worth may not be in it */
    kv_cluster_join_now(c, 1);
    for (int round = 0; round < 5; round++) {
        kv_keys_check(keys);
        kv_keys_put_again(keys);
    }
    after = largest_state(c, 0) + largest_state(c, 1);
    printf("DeleteBasic5A: %llu bytes of snapshot before, %llu in both groups after\n",
           (unsigned long long)before, (unsigned long long)after);
    assert_true(after <= before + 10000);
    end(&c, &keys);
}

/* JoinLeaveBasic: the second group takes all over, the first one stops and comes back. */
static void join_leave_basic(void **state)
{
    struct kv_cluster *c = cluster_of("JoinLeaveBasic5A", 2, false);
    struct kv_keys *keys = kv_keys_create(c, 5);

    (void)state;
    kv_cluster_join_now(c, 1);
    kv_keys_check(keys);
    kv_cluster_leave_now(c, 0);
    assert_member(c, 0, false);
    assert_settles(c);
    kv_cluster_stop_group(c, 0);
    kv_keys_check(keys);
    kv_cluster_start_group(c, 0);
    kv_cluster_join_now(c, 0);
    assert_member(c, 0, true);
    kv_keys_check(keys);
    assert_settles(c);
    kv_keys_check_shutdown(keys, 1);
    end(&c, &keys);
}

/* ManyJoinLeave: 8 groups join one by one, then leave. */
static void many_join_leave(const char *name, bool unreliable)
{
    struct kv_cluster *c = cluster_of(name, 1 + N_JOINING, unreliable);
    struct kv_keys *keys = kv_keys_create(c, 5);

    join_groups(c, 1, N_JOINING);
    kv_keys_check(keys);
    leave_groups(c, 1, N_JOINING);
    kv_keys_check(keys);
    assert_settles(c);
    end(&c, &keys);
}

static void many_join_leave_reliable(void **state)
{
    (void)state;
    many_join_leave("ManyJoinLeaveReliable5A", false);
}

static void many_join_leave_unreliable(void **state)
{
    (void)state;
    many_join_leave("ManyJoinLeaveUnreliable5A", true);
}

/* Shutdown: two more groups join; all three stop, all start. */
static void shutdown_all(void **state)
{
    struct kv_cluster *c = cluster_of("Shutdown5A", 3, false);
    struct kv_keys *keys = kv_keys_create(c, 5);

    (void)state;
    join_groups(c, 1, 2);
    for (size_t group = 0; group < 3; group++) {
        kv_cluster_stop_group(c, group);
    }
    for (size_t group = 0; group < 3; group++) {
        kv_cluster_start_group(c, group);
    }
    kv_keys_check(keys);
    end(&c, &keys);
}

/* ProgressShutdown: four more groups join, two of them stop; all reads of what the others have end
 * within 2 s. (The suite reads only from the two others of the four; here from the first group as
 * well.) */
static void progress_shutdown(void **state)
{
    struct kv_cluster *c = cluster_of("ProgressShutdown5A", 5, false);
    struct kv_keys *keys = kv_keys_create(c, 5);
    uint32_t owners[KV_KEYS];
    uint64_t start_ms;
    size_t n = 0;

    (void)state;
    join_groups(c, 1, 4);
    for (size_t i = 0; i < KV_KEYS; i++) {
        shard_id shard = kv_keys_shard(keys, i);
        owners[i] = kv_cluster_config(c, CONFIG_LATEST)->shards[shard];
    }
    kv_cluster_stop_group(c, 1);
    kv_cluster_stop_group(c, 2);
    start_ms = world_now_ms(kv_cluster_world(c));
    for (size_t i = 0; i < KV_KEYS; i++) {
        if (owners[i] != kv_cluster_gid(1) && owners[i] != kv_cluster_gid(2)) {
            kv_keys_check_one(keys, i);
            n++;
        }
    }
    assert_in_range(n, 24, 45); /* three groups of five: 9 to 10 shards of 16 */
    assert_true(world_now_ms(kv_cluster_world(c)) - start_ms <= 2000);
    end(&c, &keys);
}

/* ---- ProgressJoin ---- */

#define PROGRESS_MS    4000
#define PROGRESS_LIMIT 8000
#define PROGRESS_GETS  100

/* Shards that stay where they are in a change, of groups that give something in it. */
static void find_quiet_shards(struct kv_cluster *c, config_num num, bool quiet[SHARD_MIN_COUNT])
{
    uint32_t before[SHARD_MIN_COUNT];
    bool gives[16] = {false};
    const struct shard_config *config = kv_cluster_config(c, num - 1);

    assert_int_equal(config->n_shards, SHARD_MIN_COUNT);
    memcpy(before, config->shards, sizeof(before));
    config = kv_cluster_config(c, num);
    for (shard_id s = 0; s < SHARD_MIN_COUNT; s++) {
        gives[before[s] - kv_cluster_gid(0)] |= config->shards[s] != before[s];
    }
    for (shard_id s = 0; s < SHARD_MIN_COUNT; s++) {
        quiet[s] = config->shards[s] == before[s] && gives[before[s] - kv_cluster_gid(0)];
    }
}

/* Another program that lets one group join and leave without end: a change at once after the last
 * one has settled. */
struct changer {
    struct kv_cluster *cluster;
    struct kv_admin *admin;
    struct kv_change change;
    size_t group;
    bool is_member;
    size_t n_changes;
};

static void changer_turn(struct changer *changer)
{
    if (!changer->change.ended || !kv_cluster_is_settled(changer->cluster)) {
        return;
    }
    assert_int_equal(changer->change.status, ST_OK);
    if (changer->is_member) {
        kv_admin_leave(changer->admin, changer->group, &changer->change);
    } else {
        kv_admin_join(changer->admin, changer->group, &changer->change);
    }
    changer->is_member = !changer->is_member;
    changer->n_changes++;
}

struct progress {
    struct kv_outcome outcome;
    struct changer *changer;
};

static bool progress_turn(void *context)
{
    struct progress *progress = context;

    changer_turn(progress->changer);
    return progress->outcome.ended;
}

/* ProgressJoin: four more groups joined; a fifth joins and leaves without end. Meanwhile, in 4 s,
 * at least 100 reads of shards that do not move, of groups that give some away, one after the
 * other; all of it within 8 s. */
static void progress_join(void **state)
{
    struct kv_cluster *c = cluster_of("ProgressJoin5A", 6, false);
    struct world *world = kv_cluster_world(c);
    struct kv_keys *keys = kv_keys_create(c, 5);
    struct changer changer = {.cluster = c, .group = 5};
    bool quiet[SHARD_MIN_COUNT];
    size_t gets = 0, candidates = 0;
    uint64_t start_ms, longest_us = 0;
    shard_id shards[KV_KEYS];

    (void)state;
    join_groups(c, 1, 4);
    kv_cluster_join_now(c, 5);
    find_quiet_shards(c, latest_num(c), quiet);
    changer.admin = kv_admin_create(c);
    changer.change = (struct kv_change){.ended = true, .status = ST_OK};
    changer.is_member = true;
    for (size_t i = 0; i < KV_KEYS; i++) {
        shards[i] = kv_keys_shard(keys, i);
        candidates += quiet[shards[i]];
    }
    assert_true(candidates > 0);
    start_ms = world_now_ms(world);
    for (size_t i = 0; world_now_ms(world) - start_ms < PROGRESS_MS; i = (i + 1) % KV_KEYS) {
        struct progress progress = {.changer = &changer};
        if (!quiet[shards[i]]) {
            continue;
        }
        kv_client_get(keys->client, keys->names[i], PROGRESS_LIMIT, &progress.outcome);
        assert_true(world_run_until(world, PROGRESS_LIMIT, progress_turn, &progress));
        assert_int_equal(progress.outcome.status, ST_OK);
        assert_true(slice_equal(buf_slice(&progress.outcome.value),
                                slice_text((const char *)keys->values[i].data)));
        if (progress.outcome.end_us - progress.outcome.start_us > longest_us) {
            longest_us = progress.outcome.end_us - progress.outcome.start_us;
        }
        kv_outcome_fini(&progress.outcome);
        gets++;
    }
    assert_true(kv_admin_wait(changer.admin, &changer.change, PROGRESS_LIMIT));
    assert_true(world_now_ms(world) - start_ms < PROGRESS_LIMIT);
    printf("ProgressJoin5A: %zu reads during %zu changes, the longest lasted %.1f ms\n", gets,
           changer.n_changes, (double)longest_us / 1000);
    assert_true(gets >= PROGRESS_GETS);
    assert_true(changer.n_changes >= 10);
    kv_admin_destroy(&changer.admin);
    kv_keys_check(keys);
    end(&c, &keys);
}

/* ---- Clerks at work ---- */

/* One or ten clerks for 20 s, while 8 groups join one by one and leave again; the history is
 * linearizable. pause_ms: between a clerk's operations, so that 20 s of them do not take minutes.
 */
static void concurrent_clerks(const char *name, size_t n_clerks, bool unreliable, uint64_t pause_ms)
{
    struct kv_cluster *c = cluster_of(name, 1 + N_JOINING, unreliable);
    struct world *world = kv_cluster_world(c);
    struct kv_keys *keys = kv_keys_create(c, 5);
    struct kv_clerks *clerks = kv_clerks_create(keys, n_clerks, pause_ms);
    uint64_t start_ms = world_now_ms(world);

    join_groups(c, 1, N_JOINING);
    leave_groups(c, 1, N_JOINING);
    assert_true(world_now_ms(world) - start_ms < 20000);
    kv_cluster_sleep(c, 20000 - (world_now_ms(world) - start_ms));
    assert_true(kv_clerks_done(clerks) >= 20 * n_clerks);
    kv_clerks_finish(&clerks, name);
    end(&c, &keys);
}

static void one_concurrent_clerk_reliable(void **state)
{
    (void)state;
    concurrent_clerks("OneConcurrentClerkReliable5A", 1, false, 1);
}

static void many_concurrent_clerks_reliable(void **state)
{
    (void)state;
    concurrent_clerks("ManyConcurrentClerkReliable5A", 10, false, 5);
}

static void one_concurrent_clerk_unreliable(void **state)
{
    (void)state;
    concurrent_clerks("OneConcurrentClerkUnreliable5A", 1, true, 0);
}

static void many_concurrent_clerks_unreliable(void **state)
{
    (void)state;
    concurrent_clerks("ManyConcurrentClerkUnreliable5A", 10, true, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_query),
        cmocka_unit_test(static_one_shard_group),
        cmocka_unit_test(join_basic),
        cmocka_unit_test(delete_basic),
        cmocka_unit_test(join_leave_basic),
        cmocka_unit_test(many_join_leave_reliable),
        cmocka_unit_test(many_join_leave_unreliable),
        cmocka_unit_test(shutdown_all),
        cmocka_unit_test(progress_shutdown),
        cmocka_unit_test(progress_join),
        cmocka_unit_test(one_concurrent_clerk_reliable),
        cmocka_unit_test(many_concurrent_clerks_reliable),
        cmocka_unit_test(one_concurrent_clerk_unreliable),
        cmocka_unit_test(many_concurrent_clerks_unreliable),
    };
    return cmocka_run_group_tests_name("shardkv1_a", tests, NULL, NULL);
}
