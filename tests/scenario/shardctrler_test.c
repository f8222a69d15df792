/* The public controller suite (MIT 6.5840, shardctrler: Basic, MinimalAgain, Multi; 12 printed
 * parts) on the simulated world: three controllers, a reliable network, the shipped clerk. Each
 * part is a test of its own, on a cluster of its own.
 *
 * Its 10 shards are our smallest 16: so 8 instead of 5 are moved to each group, and MinimalAgain's
 * bound of NShards / 3 + 1 is 6 instead of 4. Its MinimalTransfer parts look at groups that do not
 * exist; here they check what they mean: a shard that a surviving group had does not go to another
 * one that was there before, and no more move than must.
 *
 * The same rules on the state machine alone, with many more groups and interleavings, are in
 * tests/unit/ctrler_sm_test.c and tests/unit/rebalance_test.c.
 */
#include "tests/cmocka.h"

#include "raft/util/mem.h"
#include "tests/sim/ctrler_machine.h"
#include "tests/sim/kv_admin.h"

#define N_SHARDS  SHARD_MIN_COUNT
#define N_CLERKS  10
#define CHANGE_MS 10000

#define GIDS(...)                                                                                  \
    sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), (const uint32_t[])                       \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

struct story {
    struct kv_cluster *cluster;
    struct kv_admin *admin;
};

static struct story begin(const char *name)
{
    struct kv_cluster_options options = {.n_ctrlers = 3, .n_replicas = 3, .seed = 4000};
    struct story story = {.cluster = kv_cluster_create(name, &options)};

    story.admin = kv_admin_create(story.cluster);
    return story;
}

static void end(struct story *story)
{
    kv_admin_destroy(&story->admin);
    kv_cluster_destroy(&story->cluster);
}

static config_num finish(struct story *story, const struct kv_change *change)
{
    assert_true(kv_admin_wait(story->admin, change, CHANGE_MS));
    assert_int_equal(change->status, ST_OK);
    return change->num;
}

static config_num join(struct story *story, size_t n, const uint32_t *gids)
{
    struct kv_change change;

    kv_admin_join_gids(story->admin, gids, (uint32_t)n, &change);
    return finish(story, &change);
}

static config_num leave(struct story *story, size_t n, const uint32_t *gids)
{
    struct kv_change change;

    kv_admin_leave_gids(story->admin, gids, (uint32_t)n, &change);
    return finish(story, &change);
}

static const struct shard_config *latest(struct story *story)
{
    return kv_cluster_config(story->cluster, CONFIG_LATEST);
}

static void check_servers(const struct shard_config *config, uint32_t gid)
{
    const struct spec joined = ctrler_machine_spec(gid);
    const struct spec *kept = &shard_config_find(config, gid)->replicas;

    assert_int_equal(kept->n, joined.n);
    for (size_t i = 0; i < joined.n; i++) {
        assert_int_equal(kept->replicas[i].id, joined.replicas[i].id);
        assert_string_equal(kept->replicas[i].url, joined.replicas[i].url);
    }
}

/* The suite's standing check: exactly these groups, each with its servers verbatim and in order; no
 * shard elsewhere; loads within one of each other. */
static void check(struct story *story, size_t n, const uint32_t *gids)
{
    const struct shard_config *config = latest(story);
    uint32_t low = UINT32_MAX, high = 0;

    assert_int_equal(config->n_shards, N_SHARDS);
    ctrler_machine_check_members(config, n, gids);
    for (size_t i = 0; i < n; i++) {
        uint32_t load = ctrler_machine_load(config, gids[i]);
        check_servers(config, gids[i]);
        low = load < low ? load : low;
        high = load > high ? load : high;
    }
    assert_true(n == 0 || high - low <= 1);
    assert_true(n != 0 || ctrler_machine_load(config, 0) == N_SHARDS);
}

/* The configuration as bytes: number, shards, groups; the caller's. */
static struct buf bytes_of(struct story *story, config_num num)
{
    struct buf bytes = {0};

    shard_config_encode(kv_cluster_config(story->cluster, num), &bytes);
    return bytes;
}

/* ---- Basic ---- */

static void join_and_leave_two(struct story *story)
{
    check(story, 0, NULL);
    assert_int_equal(join(story, GIDS(1)), 1);
    check(story, GIDS(1));
    assert_int_equal(join(story, GIDS(2)), 2);
    check(story, GIDS(1, 2));
    assert_int_equal(leave(story, GIDS(1)), 3);
    check(story, GIDS(2));
    assert_int_equal(leave(story, GIDS(2)), 4);
    check(story, 0, NULL);
}

static void basic_leave_join(void **state)
{
    struct story story = begin("Basic: LeaveJoin");

    (void)state;
    join_and_leave_two(&story);
    end(&story);
}

/* With each server stopped in turn, every configuration is what it was; six are remembered, one of
 * them number 0: no groups, every shard on gid 0. */
static void basic_historical_queries(void **state)
{
    struct story story = begin("Basic: HistoricalQueries");
    struct world *world = kv_cluster_world(story.cluster);
    struct buf kept[6];
    const struct shard_config *first;

    (void)state;
    join_and_leave_two(&story);
    join(&story, GIDS(3));
    for (config_num num = 0; num < 6; num++) {
        kept[num] = bytes_of(&story, num);
    }
    for (size_t i = 0; i < 3; i++) {
        world_crash(world, kv_cluster_ctrler(story.cluster, i));
        for (config_num num = 0; num < 6; num++) {
            struct buf now = bytes_of(&story, num);
            assert_true(slice_equal(buf_slice(&now), buf_slice(&kept[num])));
            buf_fini(&now);
        }
        first = kv_cluster_config(story.cluster, 0);
        assert_int_equal(first->num, 0);
        assert_int_equal(first->n_groups, 0);
        assert_int_equal(ctrler_machine_load(first, 0), N_SHARDS);
        world_start(world, kv_cluster_ctrler(story.cluster, i));
    }
    for (config_num num = 0; num < 6; num++) {
        buf_fini(&kept[num]);
    }
    end(&story);
}

/* Half of the shards to each group: the number grows on a real move and only then; afterwards they
 * are exactly there, and the groups may leave. */
static void basic_move(void **state)
{
    struct story story = begin("Basic: Move");

    (void)state;
    join(&story, GIDS(503));
    join(&story, GIDS(504));
    for (shard_id shard = 0; shard < N_SHARDS; shard++) {
        uint32_t gid = shard < N_SHARDS / 2 ? 503 : 504;
        config_num before = latest(&story)->num;
        bool real = latest(&story)->shards[shard] != gid;
        struct kv_change change;

        kv_admin_move(story.admin, shard, gid, &change);
        assert_int_equal(finish(&story, &change), before + real);
        assert_int_equal(latest(&story)->num, before + real);
    }
    for (shard_id shard = 0; shard < N_SHARDS; shard++) {
        assert_int_equal(latest(&story)->shards[shard], shard < N_SHARDS / 2 ? 503 : 504);
    }
    leave(&story, GIDS(503));
    leave(&story, GIDS(504));
    check(&story, 0, NULL);
    end(&story);
}

/* ---- Ten clerks at once ---- */

static const uint32_t TEN[N_CLERKS] = {100, 110, 120, 130, 140, 150, 160, 170, 180, 190};

/* One of ten clerks, each going through its steps as fast as it is answered. */
struct clerk_at_work {
    struct kv_admin *admin;
    struct kv_change change;
    uint32_t gid;
    int step; /* the next one */
};

/* Begins a step; false: that was the last one. */
typedef bool (*clerk_step)(struct clerk_at_work *clerk);

struct at_work {
    struct clerk_at_work clerks[N_CLERKS];
    clerk_step begin_step;
};

static bool single_step(struct clerk_at_work *clerk)
{
    uint32_t other = clerk->gid + 1000;

    switch (clerk->step++) {
    case 0:
        kv_admin_join_gids(clerk->admin, &other, 1, &clerk->change);
        return true;
    case 1:
        kv_admin_join_gids(clerk->admin, &clerk->gid, 1, &clerk->change);
        return true;
    case 2:
        kv_admin_leave_gids(clerk->admin, &other, 1, &clerk->change);
        return true;
    default:
        return false;
    }
}

/* Three groups in one call, two of them out again in one call. */
static bool multi_step(struct clerk_at_work *clerk)
{
    const uint32_t gids[3] = {clerk->gid, clerk->gid + 1000, clerk->gid + 2000};

    switch (clerk->step++) {
    case 0:
        kv_admin_join_gids(clerk->admin, gids, 3, &clerk->change);
        return true;
    case 1:
        kv_admin_leave_gids(clerk->admin, gids + 1, 2, &clerk->change);
        return true;
    default:
        return false;
    }
}

static bool all_done(void *context)
{
    struct at_work *work = context;
    bool done = true;

    for (size_t i = 0; i < N_CLERKS; i++) {
        struct clerk_at_work *clerk = &work->clerks[i];
        if (clerk->change.ended) {
            assert_int_equal(clerk->change.status, ST_OK);
            clerk->change.ended = false;
            if (!work->begin_step(clerk)) {
                clerk->gid = 0;
            }
        }
        done &= clerk->gid == 0;
    }
    return done;
}

/* Ten clerks at the same time; n_changes: of all of them, each a configuration. */
static void run_ten_clerks(struct story *story, clerk_step begin_step, config_num n_changes)
{
    struct at_work work = {.begin_step = begin_step};
    config_num before = latest(story)->num;

    for (size_t i = 0; i < N_CLERKS; i++) {
        work.clerks[i].admin = kv_admin_create(story->cluster);
        work.clerks[i].gid = TEN[i];
        assert_true(begin_step(&work.clerks[i]));
    }
    assert_true(world_run_until(kv_cluster_world(story->cluster), CHANGE_MS, all_done, &work));
    for (size_t i = 0; i < N_CLERKS; i++) {
        kv_admin_destroy(&work.clerks[i].admin);
    }
    assert_int_equal(latest(story)->num, before + n_changes);
    check(story, N_CLERKS, TEN);
}

static void basic_concurrent_leave_join(void **state)
{
    struct story story = begin("Basic: ConcurrentLeaveJoin");

    (void)state;
    run_ten_clerks(&story, single_step, 3 * N_CLERKS);
    end(&story);
}

static void multi_concurrent_leave_join(void **state)
{
    struct story story = begin("Multi: ConcurrentLeaveJoin");

    (void)state;
    run_ten_clerks(&story, multi_step, 2 * N_CLERKS);
    end(&story);
}

/* ---- Few moves ---- */

/* How many shards changed their group from one configuration to the next; none of them between two
 * groups that are members of both. */
static uint32_t count_moves(struct story *story, config_num after)
{
    struct shard_config before = {0};
    const struct shard_config *now;
    uint32_t moved = 0;

    shard_config_copy(&before, kv_cluster_config(story->cluster, after - 1));
    now = kv_cluster_config(story->cluster, after);
    for (shard_id s = 0; s < N_SHARDS; s++) {
        const struct config_group *giver = shard_config_find(now, before.shards[s]);
        const struct config_group *taker = shard_config_find(&before, now->shards[s]);
        bool survivors = giver != NULL && giver->member && taker != NULL && taker->member;

        assert_false(before.shards[s] != now->shards[s] && survivors);
        moved += before.shards[s] != now->shards[s];
    }
    shard_config_fini(&before);
    return moved;
}

/* Five more groups join the ten and leave again, `at_once` in a call; some come before the ten in
 * order, so that who is first has no advantage. */
static void minimal_transfer(const char *name, size_t at_once)
{
    static const uint32_t more[5] = {50, 60, 155, 300, 310};
    struct story story = begin(name);

    join(&story, N_CLERKS, TEN);
    for (size_t i = 0; i < 5; i += at_once) {
        config_num num = join(&story, at_once, more + i);
        /* Sixteen shards: each newcomer gets one, and nothing else moves. */
        assert_int_equal(count_moves(&story, num), at_once);
    }
    for (size_t i = 0; i < 5; i += at_once) {
        uint32_t held = 0;
        config_num num;

        for (size_t j = i; j < i + at_once; j++) {
            held += ctrler_machine_load(latest(&story), more[j]);
        }
        num = leave(&story, at_once, more + i);
        assert_int_equal(count_moves(&story, num), held);
    }
    check(&story, N_CLERKS, TEN);
    end(&story);
}

static void basic_minimal_transfer(void **state)
{
    (void)state;
    minimal_transfer("Basic: MinimalTransfer (join, leave)", 1);
}

static void multi_minimal_transfer(void **state)
{
    (void)state;
    minimal_transfer("Multi: MinimalTransfer (join, leave)", 5);
}

/* Two groups, a third joins, the first leaves: at most NShards / 3 + 1 move each time, and only
 * those that must. */
static void minimal_again(void **state)
{
    struct story story = begin("MinimalAgain");

    (void)state;
    join(&story, GIDS(1));
    join(&story, GIDS(2));
    assert_in_range(count_moves(&story, join(&story, GIDS(3))), N_SHARDS / 3, N_SHARDS / 3 + 1);
    assert_in_range(count_moves(&story, leave(&story, GIDS(1))), N_SHARDS / 3, N_SHARDS / 3 + 1);
    check(&story, GIDS(2, 3));
    end(&story);
}

/* ---- Multi ---- */

static void multi_leave_join(void **state)
{
    struct story story = begin("Multi: LeaveJoin");

    (void)state;
    check(&story, 0, NULL);
    assert_int_equal(join(&story, GIDS(1, 2)), 1);
    check(&story, GIDS(1, 2));
    assert_int_equal(join(&story, GIDS(3)), 2);
    check(&story, GIDS(1, 2, 3));
    assert_int_equal(leave(&story, GIDS(1, 3)), 3);
    check(&story, GIDS(2));
    assert_int_equal(leave(&story, GIDS(2)), 4);
    check(&story, 0, NULL);
    end(&story);
}

/* The same configuration from the leader and, when it is stopped, from the next one. */
static void multi_agree_config(void **state)
{
    struct story story = begin("Multi: AgreeConfig");
    struct buf before, after;
    size_t leader;

    (void)state;
    join(&story, N_CLERKS, TEN);
    before = bytes_of(&story, CONFIG_LATEST);
    leader = kv_cluster_ctrler_leader(story.cluster);
    assert_true(leader != SIZE_MAX);
    world_crash(kv_cluster_world(story.cluster), leader);
    after = bytes_of(&story, CONFIG_LATEST);
    assert_true(slice_equal(buf_slice(&before), buf_slice(&after)));
    assert_int_not_equal(kv_cluster_ctrler_leader(story.cluster), leader);
    buf_fini(&before);
    buf_fini(&after);
    end(&story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic_leave_join),
        cmocka_unit_test(basic_historical_queries),
        cmocka_unit_test(basic_move),
        cmocka_unit_test(basic_concurrent_leave_join),
        cmocka_unit_test(basic_minimal_transfer),
        cmocka_unit_test(minimal_again),
        cmocka_unit_test(multi_leave_join),
        cmocka_unit_test(multi_concurrent_leave_join),
        cmocka_unit_test(multi_minimal_transfer),
        cmocka_unit_test(multi_agree_config),
    };
    return cmocka_run_group_tests_name("shardctrler", tests, NULL, NULL);
}
