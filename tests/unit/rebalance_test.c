/* Unit tests of shardctrler/rebalance: the small stories of the public suites, then the three
 * promises (balance, few moves, determinism) over many random assignments, the number of moves
 * against the theoretical lower bound. */
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "shardctrler/rebalance.h"
#include "tests/cmocka.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SHARDS 512
#define MAX_GIDS   600

/* An assignment and what it was before the last rebalance. */
struct world {
    size_t n_shards;
    uint32_t shards[MAX_SHARDS];
    uint32_t before[MAX_SHARDS];
    size_t n_gids;
    uint32_t gids[MAX_GIDS];
};

static bool is_member(const struct world *world, uint32_t gid)
{
    for (size_t i = 0; i < world->n_gids; i++) {
        if (world->gids[i] == gid) {
            return true;
        }
    }
    return false;
}

static size_t load_of(const uint32_t *shards, size_t n_shards, uint32_t gid)
{
    size_t load = 0;

    for (size_t s = 0; s < n_shards; s++) {
        load += shards[s] == gid;
    }
    return load;
}

static void set_members(struct world *world, size_t n, const uint32_t *gids)
{
    world->n_gids = n;
    memcpy(world->gids, gids, n * sizeof(*gids));
}

#define MEMBERS(world, ...)                                                                        \
    set_members((world), sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t),                     \
                (uint32_t[]){__VA_ARGS__})

/* Rebalances and gives the number of shards that changed, which must be what was returned. */
static size_t run(struct world *world)
{
    size_t changed;
    size_t seen = 0;

    memcpy(world->before, world->shards, sizeof(world->shards));
    changed = rebalance(world->shards, world->n_shards, world->gids, world->n_gids);
    for (size_t s = 0; s < world->n_shards; s++) {
        seen += world->before[s] != world->shards[s];
    }
    assert_int_equal(changed, seen);
    return changed;
}

/* The standing check: no shard on an unknown group, loads differ by at most one. */
static void assert_balanced(const struct world *world)
{
    size_t low = SIZE_MAX;
    size_t high = 0;

    for (size_t s = 0; s < world->n_shards; s++) {
        assert_true(world->n_gids == 0 ? world->shards[s] == 0
                                       : is_member(world, world->shards[s]));
    }
    for (size_t i = 0; i < world->n_gids; i++) {
        size_t load = load_of(world->shards, world->n_shards, world->gids[i]);

        low = load < low ? load : low;
        high = load > high ? load : high;
    }
    assert_true(world->n_gids == 0 || high - low <= 1);
}

static int descending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;

    return (x < y) - (x > y);
}

/* The most shards that any balanced assignment can keep: pair the largest loads with the largest
 * shares. Computed by sorting, unlike the code under test. */
static size_t lower_bound_of_moves(const struct world *world)
{
    size_t loads[MAX_GIDS];
    size_t kept = 0;

    for (size_t i = 0; i < world->n_gids; i++) {
        loads[i] = load_of(world->before, world->n_shards, world->gids[i]);
    }
    qsort(loads, world->n_gids, sizeof(loads[0]), descending);
    for (size_t i = 0; i < world->n_gids; i++) {
        size_t share =
            world->n_shards / world->n_gids + (i < world->n_shards % world->n_gids ? 1 : 0);

        kept += loads[i] < share ? loads[i] : share;
    }
    return world->n_shards - kept;
}

/* A shard leaves a surviving group only if that group had more than its plain share, and such a
 * group receives none: nothing moves between survivors without need. */
static void assert_no_needless_move(const struct world *world)
{
    for (size_t i = 0; i < world->n_gids; i++) {
        bool lost = false;
        bool gained = false;

        for (size_t s = 0; s < world->n_shards; s++) {
            lost |= world->before[s] == world->gids[i] && world->shards[s] != world->gids[i];
            gained |= world->before[s] != world->gids[i] && world->shards[s] == world->gids[i];
        }
        assert_false(lost && gained);
        if (lost) {
            assert_true(load_of(world->before, world->n_shards, world->gids[i]) >
                        world->n_shards / world->n_gids);
        }
    }
}

static void no_groups_put_every_shard_on_gid_0(void **state)
{
    struct world world = {.n_shards = 10};

    (void)state;
    assert_int_equal(run(&world), 0);
    MEMBERS(&world, 7);
    assert_int_equal(run(&world), 10);
    world.n_gids = 0;
    assert_int_equal(run(&world), 10);
    assert_balanced(&world);
}

static void the_first_group_gets_everything_and_the_second_half(void **state)
{
    struct world world = {.n_shards = 10};

    (void)state;
    MEMBERS(&world, 1);
    run(&world);
    assert_int_equal(load_of(world.shards, 10, 1), 10);
    MEMBERS(&world, 1, 2);
    assert_int_equal(run(&world), 5);
    assert_balanced(&world);
}

/* The public suite's MinimalAgain: join 1, 2, then 3, then leave 1; at most 10/3+1 = 4 move. */
static void minimal_again(void **state)
{
    struct world world = {.n_shards = 10};

    (void)state;
    MEMBERS(&world, 1);
    run(&world);
    MEMBERS(&world, 1, 2);
    run(&world);
    MEMBERS(&world, 1, 2, 3);
    assert_in_range(run(&world), 3, 4);
    for (size_t s = 0; s < 10; s++) {
        assert_true(world.shards[s] == world.before[s] || world.shards[s] == 3);
    }
    MEMBERS(&world, 2, 3);
    assert_in_range(run(&world), 3, 4);
    for (size_t s = 0; s < 10; s++) {
        assert_true(world.shards[s] == world.before[s] || world.before[s] == 1);
    }
    assert_balanced(&world);
}

static void a_balanced_assignment_stays_as_it_is(void **state)
{
    struct world world = {.n_shards = 16};

    (void)state;
    MEMBERS(&world, 5, 9, 1000);
    run(&world);
    assert_int_equal(run(&world), 0);
}

static void more_groups_than_shards_leaves_some_with_none(void **state)
{
    struct world world = {.n_shards = 10};

    (void)state;
    for (uint32_t n = 1; n <= 30; n++) {
        world.gids[n - 1] = 100 + n;
        world.n_gids = n;
        assert_true(run(&world) <= (n <= 10 ? 10 : 0));
        assert_balanced(&world);
    }
    /* Those without shards leave: nothing moves. */
    world.n_gids = 0;
    for (uint32_t gid = 101; gid <= 130; gid++) {
        if (load_of(world.shards, 10, gid) > 0) {
            world.gids[world.n_gids++] = gid;
        }
    }
    assert_int_equal(world.n_gids, 10);
    assert_int_equal(run(&world), 0);
}

/* The choice among equals is by gid and shard number: this very table, on every machine, forever;
 * replicas of different versions must agree. */
static void ties_are_broken_by_gid_and_shard_number(void **state)
{
    const uint32_t expected[10] = {1, 1, 1, 1, 2, 3, 3, 2, 2, 3};
    struct world world = {.n_shards = 10, .shards = {1, 1, 1, 1, 2, 1, 1, 2, 2, 2}};

    (void)state;
    MEMBERS(&world, 1, 2, 3);
    run(&world);
    assert_memory_equal(world.shards, expected, sizeof(expected));
}

/* Newcomers are served in order of gid, each its whole share, whatever the gids look like. */
static void newcomers_are_served_in_order_of_gid(void **state)
{
    const uint32_t expected[10] = {1, 1, 7, 7, 40, 41, 500, 1000000, 2000000000, 0x7fffffff};
    struct world world = {.n_shards = 10, .shards = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};

    (void)state;
    MEMBERS(&world, 1, 7, 40, 41, 500, 1000000, 2000000000, 0x7fffffff);
    assert_int_equal(run(&world), 8);
    assert_memory_equal(world.shards, expected, sizeof(expected));
}

static void remainder_goes_to_those_that_already_have_it(void **state)
{
    /* 7 shards, 3 groups: shares 3, 2, 2. Group 30 has 3 of them and may keep them. */
    struct world world = {.n_shards = 7, .shards = {30, 30, 30, 10, 10, 20, 20}};

    (void)state;
    MEMBERS(&world, 10, 20, 30);
    assert_int_equal(run(&world), 0);
}

/* Members ascending, without repeats, gids anywhere in the allowed range. */
static void random_members(struct world *world, struct rng *rng, size_t n)
{
    uint32_t gid = 0;

    world->n_gids = n;
    for (size_t i = 0; i < n; i++) {
        gid += 1 + (uint32_t)rng_below(rng, rng_below(rng, 4) == 0 ? 3000000 : 3);
        world->gids[i] = gid;
    }
}

/* Shards on members, on groups that are gone, on 0, evenly or all on a few. */
static void random_shards(struct world *world, struct rng *rng)
{
    size_t few = 1 + rng_below(rng, world->n_gids + 1);

    for (size_t s = 0; s < world->n_shards; s++) {
        switch (rng_below(rng, 8)) {
        case 0:
            world->shards[s] = 0;
            break;
        case 1:
            world->shards[s] = 0x7fffffff - (uint32_t)rng_below(rng, 5);
            break;
        default:
            world->shards[s] =
                world->n_gids == 0 ? 0 : world->gids[rng_below(rng, few) % world->n_gids];
            break;
        }
    }
}

static void random_assignments_become_balanced_with_the_fewest_moves(void **state)
{
    struct world world = {0};
    struct world again;
    struct rng rng;
    size_t changed;

    (void)state;
    rng_init(&rng, 20240607);
    for (int round = 0; round < 4000; round++) {
        world.n_shards = 1 + rng_below(&rng, round % 8 == 0 ? MAX_SHARDS : 40);
        random_members(&world, &rng, 1 + rng_below(&rng, round % 16 == 0 ? MAX_GIDS : 12));
        random_shards(&world, &rng);
        again = world;
        changed = run(&world);
        assert_int_equal(changed, lower_bound_of_moves(&world));
        assert_balanced(&world);
        assert_no_needless_move(&world);
        run(&again);
        assert_memory_equal(world.shards, again.shards, sizeof(world.shards));
        assert_int_equal(run(&world), 0);
    }
}

/* A long life of joins, leaves and moves: from balanced states, a join moves shards only to the
 * newcomers and a leave only those of the leavers. */
static void joins_and_leaves_never_move_shards_between_survivors(void **state)
{
    struct world world = {.n_shards = 256};
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    for (int round = 0; round < 2000; round++) {
        struct world old = world;
        bool join = world.n_gids == 0 || (world.n_gids < 64 && rng_below(&rng, 2) == 0);

        if (join) {
            uint32_t last = world.n_gids > 0 ? world.gids[world.n_gids - 1] : 0;
            world.gids[world.n_gids++] = last + 1 + (uint32_t)rng_below(&rng, 5);
        } else {
            size_t out = rng_below(&rng, world.n_gids);
            memmove(&world.gids[out], &world.gids[out + 1],
                    (world.n_gids - out - 1) * sizeof(world.gids[0]));
            world.n_gids--;
        }
        run(&world);
        assert_balanced(&world);
        for (size_t s = 0; s < world.n_shards; s++) {
            if (world.shards[s] != world.before[s]) {
                assert_false(is_member(&old, world.shards[s]) &&
                             is_member(&world, world.before[s]));
            }
        }
    }
}

static void the_largest_cluster_is_no_problem(void **state)
{
    size_t n_shards = 16384;
    uint32_t *shards = mem_zalloc(n_shards * sizeof(*shards));
    uint32_t gids[1024];

    (void)state;
    for (uint32_t i = 0; i < 1024; i++) {
        gids[i] = 0x7fffffff - 1023 * 2097152 + i * 2097152; /* alike in their low bits */
    }
    assert_int_equal(rebalance(shards, n_shards, gids, 1), 16384);
    assert_int_equal(rebalance(shards, n_shards, gids, 1024), 16384 - 16);
    assert_int_equal(load_of(shards, n_shards, gids[1023]), 16);
    assert_int_equal(rebalance(shards, n_shards, gids, 1023), 16);
    mem_free(shards);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_groups_put_every_shard_on_gid_0),
        cmocka_unit_test(the_first_group_gets_everything_and_the_second_half),
        cmocka_unit_test(minimal_again),
        cmocka_unit_test(a_balanced_assignment_stays_as_it_is),
        cmocka_unit_test(more_groups_than_shards_leaves_some_with_none),
        cmocka_unit_test(ties_are_broken_by_gid_and_shard_number),
        cmocka_unit_test(newcomers_are_served_in_order_of_gid),
        cmocka_unit_test(remainder_goes_to_those_that_already_have_it),
        cmocka_unit_test(random_assignments_become_balanced_with_the_fewest_moves),
        cmocka_unit_test(joins_and_leaves_never_move_shards_between_survivors),
        cmocka_unit_test(the_largest_cluster_is_no_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
