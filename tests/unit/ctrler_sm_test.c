/* Unit tests of shardctrler/ctrler_sm: the public suite's controller scenarios, part by part, on
 * the state machine alone (its 10 shards are our smallest 16); concurrency as random interleavings
 * of the clerks' operations, which is all that a log leaves of it. */
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/ctrler_story.h"

/* The encoded configuration `num`, the caller's. */
static struct buf encoded(struct ctrler_machine *machine, config_num num)
{
    struct buf copy = {0};
    struct slice bytes;

    assert_int_equal(ctrler_sm_config_bytes(machine->sm, num, &bytes), ST_OK);
    buf_put_slice(&copy, bytes);
    return copy;
}

/* How many shards moved to another group between two configurations, and that none moved between
 * two groups that are members of both. */
static uint32_t count_moves_and_check_survivors(struct ctrler_machine *machine, config_num before,
                                                config_num after)
{
    struct shard_config a, b;
    uint32_t moved = 0;

    assert_int_equal(ctrler_sm_config(machine->sm, before, &a), ST_OK);
    assert_int_equal(ctrler_sm_config(machine->sm, after, &b), ST_OK);
    for (uint32_t s = 0; s < a.n_shards; s++) {
        if (a.shards[s] != b.shards[s]) {
            const struct config_group *giver = shard_config_find(&b, a.shards[s]);
            const struct config_group *taker = shard_config_find(&a, b.shards[s]);

            assert_false(giver != NULL && giver->member && taker != NULL && taker->member);
            moved++;
        }
    }
    shard_config_fini(&a);
    shard_config_fini(&b);
    return moved;
}

/* ---- Basic ---- */

static void leave_join(void **state)
{
    struct ctrler_machine *machine = *state;

    assert_int_equal(latest(machine)->num, 0);
    ctrler_machine_check(machine, 0, NULL);
    assert_ok(ctrler_machine_join_one(machine, 1, 0));
    ctrler_machine_check(machine, GIDS(1));
    assert_ok(ctrler_machine_join_one(machine, 2, 0));
    ctrler_machine_check(machine, GIDS(1, 2));
    assert_ok(ctrler_machine_leave_one(machine, 1));
    ctrler_machine_check(machine, GIDS(2));
    assert_ok(ctrler_machine_leave_one(machine, 2));
    ctrler_machine_check(machine, 0, NULL);
    assert_int_equal(latest(machine)->num, 4);
}

static void each_change_makes_the_next_number_and_says_so(void **state)
{
    struct ctrler_machine *machine = *state;

    for (uint32_t gid = 1; gid <= 5; gid++) {
        assert_int_equal(ctrler_machine_join_one(machine, gid, 0).num, gid);
    }
    assert_int_equal(ctrler_machine_leave_one(machine, 3).num, 6);
}

/* The public suite keeps 6 configurations; here some hundred, so that wholes and differences of
 * several blocks are read, before and after a restart, in any order. */
static void historical_queries(void **state)
{
    enum { N = 300 };
    struct ctrler_machine machine;
    struct buf kept[N + 1];
    struct rng rng;

    (void)state;
    rng_init(&rng, 11);
    ctrler_machine_init(&machine, 64);
    kept[0] = encoded(&machine, UINT64_MAX);
    for (config_num num = 1; num <= N;) {
        uint32_t gid = 1 + (uint32_t)rng_below(&rng, 12);
        struct ctrler_result result;

        switch (rng_below(&rng, 4)) {
        case 0:
            result = ctrler_machine_join_one(&machine, gid, 0);
            break;
        case 1:
            result = ctrler_machine_leave_one(&machine, gid);
            break;
        case 2:
            result = ctrler_machine_pause(&machine, gid % 2 == 0);
            break;
        default:
            result = ctrler_machine_move(&machine, (shard_id)rng_below(&rng, 64), gid);
            break;
        }
        if (result.status == ST_OK && result.num == num) {
            kept[num++] = encoded(&machine, UINT64_MAX);
        }
    }
    for (int restart = 0; restart < 2; restart++) {
        for (config_num num = 0; num <= N; num++) {
            struct buf now = encoded(&machine, num);

            assert_true(slice_equal(buf_slice(&now), buf_slice(&kept[num])));
            buf_fini(&now);
        }
        assert_int_equal(ctrler_machine_restart(&machine), ST_OK);
    }
    for (config_num num = 0; num <= N; num++) {
        buf_fini(&kept[num]);
    }
    ctrler_machine_fini(&machine);
}

static void configuration_0_has_no_groups_and_every_shard_on_gid_0(void **state)
{
    struct ctrler_machine *machine = *state;
    struct shard_config config;

    ctrler_machine_join_one(machine, 1, 0);
    assert_int_equal(ctrler_sm_config(machine->sm, 0, &config), ST_OK);
    assert_int_equal(config.num, 0);
    assert_int_equal(config.n_groups, 0);
    assert_int_equal(ctrler_machine_load(&config, 0), SHARDS);
    shard_config_fini(&config);
}

static void a_number_above_the_last_gives_the_latest(void **state)
{
    struct ctrler_machine *machine = *state;
    struct shard_config config;
    const config_num asked[] = {2, 3, 1000, UINT64_MAX};

    ctrler_machine_join_one(machine, 1, 0);
    ctrler_machine_join_one(machine, 2, 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ctrler_sm_config(machine->sm, asked[i], &config), ST_OK);
        assert_int_equal(config.num, 2);
        shard_config_fini(&config);
    }
}

static void move_pins_shards_and_does_not_rebalance(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 503, 0);
    ctrler_machine_join_one(machine, 504, 0);
    for (shard_id s = 0; s < SHARDS; s++) {
        uint32_t gid = s < SHARDS / 2 ? 503 : 504;
        config_num before = latest(machine)->num;
        bool real = latest(machine)->shards[s] != gid;

        assert_int_equal(ctrler_machine_move(machine, s, gid).num, before + real);
        assert_int_equal(latest(machine)->num, before + real);
    }
    for (shard_id s = 0; s < SHARDS; s++) {
        assert_int_equal(latest(machine)->shards[s], s < SHARDS / 2 ? 503 : 504);
    }
    /* All to one group: nobody undoes it but the next join. */
    for (shard_id s = 0; s < SHARDS; s++) {
        ctrler_machine_move(machine, s, 503);
    }
    assert_int_equal(ctrler_machine_load(latest(machine), 503), SHARDS);
    ctrler_machine_join_one(machine, 505, 0);
    ctrler_machine_check(machine, GIDS(503, 504, 505));
}

/* ---- Concurrent clerks ---- */

/* Ten clerks with three operations each, in a random order that keeps each clerk's own. */
typedef void (*clerk_step)(struct ctrler_machine *machine, uint32_t clerk, int step);

static void interleave(struct ctrler_machine *machine, struct rng *rng, clerk_step run)
{
    int next[10] = {0};

    for (int done = 0; done < 30;) {
        uint32_t clerk = (uint32_t)rng_below(rng, 10);

        if (next[clerk] < 3) {
            run(machine, clerk, next[clerk]++);
            done++;
        }
    }
}

static void single_step(struct ctrler_machine *machine, uint32_t clerk, int step)
{
    uint32_t gid = 100 + clerk * 10;

    switch (step) {
    case 0:
        assert_ok(ctrler_machine_join_one(machine, gid + 1000, 0));
        break;
    case 1:
        assert_ok(ctrler_machine_join_one(machine, gid, 0));
        break;
    default:
        assert_ok(ctrler_machine_leave_one(machine, gid + 1000));
        break;
    }
}

/* Three groups in one call, two of them out again in one call. */
static void multi_step(struct ctrler_machine *machine, uint32_t clerk, int step)
{
    uint32_t gid = 100 + clerk * 10;

    switch (step) {
    case 0:
        assert_ok(ctrler_machine_join(machine, GIDS(gid, gid + 1000, gid + 2000)));
        break;
    case 1:
        assert_ok(ctrler_machine_leave(machine, GIDS(gid + 1000, gid + 2000)));
        break;
    default:
        break;
    }
}

static const uint32_t TEN[] = {100, 110, 120, 130, 140, 150, 160, 170, 180, 190};

static void concurrent_leave_join(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 42);
    for (int round = 0; round < 50; round++) {
        struct ctrler_machine machine;

        ctrler_machine_init(&machine, SHARDS);
        interleave(&machine, &rng, round % 2 == 0 ? single_step : multi_step);
        ctrler_machine_check(&machine, 10, TEN);
        ctrler_machine_fini(&machine);
    }
}

/* ---- Minimal transfers ---- */

/* Joins 5 groups to the ten and lets them leave again, one by one or all at once. The public suite
 * means to check that no survivor's shard moves to another survivor, but looks at gids that do not
 * exist; this checks it, and that the number of moves is the smallest possible. */
static void minimal_transfer(void **state)
{
    const uint32_t more[] = {205, 210, 215, 220, 225};

    (void)state;
    for (size_t at_once = 1; at_once <= 5; at_once += 4) {
        struct ctrler_machine machine;
        config_num num;

        ctrler_machine_init(&machine, 256);
        ctrler_machine_join(&machine, 10, TEN);
        for (size_t i = 0; i < 5; i += at_once) {
            num = ctrler_machine_join(&machine, at_once, more + i).num;
            /* Each newcomer gets its share and nothing else moves. */
            assert_int_equal(count_moves_and_check_survivors(&machine, num - 1, num),
                             256 / (10 + i + at_once) * at_once);
        }
        for (size_t i = 0; i < 5; i += at_once) {
            uint32_t held = 0;

            for (size_t j = i; j < i + at_once; j++) {
                held += ctrler_machine_load(latest(&machine), more[j]);
            }
            num = ctrler_machine_leave(&machine, at_once, more + i).num;
            assert_int_equal(count_moves_and_check_survivors(&machine, num - 1, num), held);
        }
        ctrler_machine_check(&machine, 10, TEN);
        ctrler_machine_fini(&machine);
    }
}

static void minimal_again(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 0);
    ctrler_machine_join_one(machine, 2, 0);
    ctrler_machine_join_one(machine, 3, 0);
    assert_in_range(count_moves_and_check_survivors(machine, 2, 3), 5, SHARDS / 3 + 1);
    ctrler_machine_leave_one(machine, 1);
    assert_in_range(count_moves_and_check_survivors(machine, 3, 4), 5, SHARDS / 3 + 1);
    ctrler_machine_check(machine, GIDS(2, 3));
}

static void more_groups_than_shards(void **state)
{
    struct ctrler_machine *machine = *state;
    uint32_t gids[40];

    for (uint32_t i = 0; i < 40; i++) {
        gids[i] = 3 * i + 1;
        assert_ok(ctrler_machine_join_one(machine, gids[i], 0));
        ctrler_machine_check(machine, i + 1, gids);
    }
    for (uint32_t i = 0; i < 40; i++) {
        assert_ok(ctrler_machine_leave_one(machine, gids[i]));
        ctrler_machine_check(machine, 39 - i, gids + i + 1);
    }
}

/* ---- Multi ---- */

static void multi_leave_join(void **state)
{
    struct ctrler_machine *machine = *state;

    assert_ok(ctrler_machine_join(machine, GIDS(1, 2)));
    ctrler_machine_check(machine, GIDS(1, 2));
    assert_int_equal(latest(machine)->num, 1);
    assert_ok(ctrler_machine_join_one(machine, 3, 0));
    ctrler_machine_check(machine, GIDS(1, 2, 3));
    assert_ok(ctrler_machine_leave(machine, GIDS(1, 3)));
    ctrler_machine_check(machine, GIDS(2));
    assert_ok(ctrler_machine_leave_one(machine, 2));
    ctrler_machine_check(machine, 0, NULL);
}

/* ---- All replicas agree ---- */

/* One random command for a cluster of some 20 gids; many of them refused. */
static void random_command(struct ctrler_machine *machine, struct rng *rng)
{
    uint32_t gid = 1 + (uint32_t)rng_below(rng, 20);
    shard_id shard = (shard_id)rng_below(rng, SHARDS);

    switch (rng_below(rng, 6)) {
    case 0:
        ctrler_machine_join(machine, GIDS(gid, gid % 20 + 1));
        break;
    case 1:
        ctrler_machine_join_one(machine, gid, rng_below(rng, 2) * 77);
        break;
    case 2:
        ctrler_machine_leave_one(machine, gid);
        break;
    case 3:
        ctrler_machine_move(machine, shard, gid);
        break;
    case 4:
        ctrler_machine_bind(machine, gid, 77 + rng_below(rng, 2));
        break;
    default:
        ctrler_machine_confirm(machine, ctrler_sm_latest(machine->sm)->shards[shard], 77, shard,
                               ctrler_sm_latest(machine->sm)->num);
        break;
    }
}

/* Two replicas, one of which is restarted from its state all the time, end with the same bytes. */
static void replicas_agree_byte_for_byte_also_over_restarts(void **state)
{
    struct ctrler_machine steady, restarted;
    struct rng a, b;

    (void)state;
    rng_init(&a, 5);
    rng_init(&b, 5);
    ctrler_machine_init(&steady, SHARDS);
    ctrler_machine_init(&restarted, SHARDS);
    for (int i = 0; i < 1500; i++) {
        struct buf x, y;

        random_command(&steady, &a);
        random_command(&restarted, &b);
        if (i % 7 == 0) {
            assert_int_equal(ctrler_machine_restart(&restarted), ST_OK);
        }
        x = encoded(&steady, UINT64_MAX);
        y = encoded(&restarted, UINT64_MAX);
        assert_true(slice_equal(buf_slice(&x), buf_slice(&y)));
        buf_fini(&x);
        buf_fini(&y);
    }
    assert_true(latest(&steady)->num > 200);
    assert_true(mem_state_sum(steady.state, NULL, 0) == mem_state_sum(restarted.state, NULL, 0));
    ctrler_machine_fini(&steady);
    ctrler_machine_fini(&restarted);
}

/* What every configuration promises, whatever led to it. */
static void check_invariants(struct ctrler_machine *machine, const struct shard_config *previous)
{
    const struct shard_config *config = latest(machine);

    for (uint32_t s = 0; s < config->n_shards; s++) {
        uint32_t owner = previous->shards[s] != 0 ? previous->shards[s] : previous->from[s];

        assert_int_equal(config->from[s], owner);
        assert_true(owner == 0 || shard_config_find(config, owner) != NULL);
    }
    for (size_t i = 0; i < config->n_groups; i++) {
        assert_in_range(config->groups[i].joined_at, 1, config->num);
    }
}

static void from_names_the_last_owner_of_every_shard(void **state)
{
    struct ctrler_machine machine;
    struct rng rng;

    (void)state;
    rng_init(&rng, 8);
    ctrler_machine_init(&machine, SHARDS);
    for (int i = 0; i < 1500; i++) {
        struct shard_config previous;

        shard_config_copy(&previous, latest(&machine));
        random_command(&machine, &rng);
        if (latest(&machine)->num != previous.num) {
            assert_int_equal(latest(&machine)->num, previous.num + 1);
            check_invariants(&machine, &previous);
        }
        shard_config_fini(&previous);
    }
    ctrler_machine_fini(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(leave_join),
        STORY(each_change_makes_the_next_number_and_says_so),
        cmocka_unit_test(historical_queries),
        STORY(configuration_0_has_no_groups_and_every_shard_on_gid_0),
        STORY(a_number_above_the_last_gives_the_latest),
        STORY(move_pins_shards_and_does_not_rebalance),
        cmocka_unit_test(concurrent_leave_join),
        cmocka_unit_test(minimal_transfer),
        STORY(minimal_again),
        STORY(more_groups_than_shards),
        STORY(multi_leave_join),
        cmocka_unit_test(replicas_agree_byte_for_byte_also_over_restarts),
        cmocka_unit_test(from_names_the_last_owner_of_every_shard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
