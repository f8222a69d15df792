/* Random walks: several groups share one shard, and no order of events makes two of them serve it
 * or loses a write. A controller makes configurations; each group adopts them when it likes; every
 * step is tried at every moment, also old and early ones, but the pieces of a copy and a drop only
 * as the protocol allows: pieces from a frozen source, a drop after an install. The data is one
 * number that only a serving group may raise. */
#include "tests/unit/shard_view.h"

#define WORLD_GROUPS  4
#define WORLD_CONFIGS 12

struct world {
    struct rng rng;
    uint32_t owner[WORLD_CONFIGS + 1], from[WORLD_CONFIGS + 1];
    struct view views[WORLD_GROUPS + 1];
    config_num adopted[WORLD_GROUPS + 1];
    uint64_t data[WORLD_GROUPS + 1];   /* of the live range */
    uint64_t staged[WORLD_GROUPS + 1]; /* of the staging range */
    uint64_t written;                  /* the last number that a server wrote */
};

static void world_init(struct world *world, uint64_t seed)
{
    uint32_t last = 0;

    *world = (struct world){0};
    rng_init(&world->rng, seed);
    for (config_num num = 1; num <= WORLD_CONFIGS; num++) {
        world->from[num] = last;
        world->owner[num] = (uint32_t)rng_below(&world->rng, WORLD_GROUPS + 1);
        last = world->owner[num] != 0 ? world->owner[num] : last;
    }
    for (uint32_t gid = 1; gid <= WORLD_GROUPS; gid++) {
        world->views[gid] = view_of(gid);
    }
}

static void world_copy(struct world *world, struct view *taker, config_num num)
{
    const struct shard_transition *head = shard_head(&taker->shard);
    struct view *source;
    uint64_t copy_id = 1 + rng_below(&world->rng, 2);

    if (head == NULL || head->kind != SHARD_RECEIVE) {
        assert_false(chunk(taker, num, copy_id, 0));
        assert_false(install(taker, num, copy_id, 1));
        return;
    }
    source = &world->views[head->gid];
    switch (shard_answer(&source->shard, head->num, taker->me, world->adopted[source->me])) {
    case SHARD_ANSWER_FREEZE:
        freeze(source, head->num);
        break;
    case SHARD_ANSWER_YES:
        if (chunk(taker, head->num, copy_id, 0)) {
            world->staged[taker->me] = world->data[source->me];
        }
        if (rng_below(&world->rng, 2) == 0 && install(taker, head->num, copy_id, 1)) {
            world->data[taker->me] = world->staged[taker->me];
        }
        break;
    case SHARD_ANSWER_NOT_READY:
        break;
    default:
        fail_msg("a taker that waits was told that the shard is gone");
    }
}

/* The source drops only what the taker says it has. */
static void world_release(struct world *world, struct view *taker)
{
    for (size_t i = 0; i < taker->shard.n_releases; i++) {
        struct shard_release pending = taker->shard.releases[i];
        struct view *source = &world->views[pending.gid];
        enum shard_answer answer =
            shard_answer(&source->shard, pending.num, taker->me, world->adopted[pending.gid]);

        assert_true(answer == SHARD_ANSWER_YES || answer == SHARD_ANSWER_DONE);
        if (answer == SHARD_ANSWER_YES) {
            assert_true(drop(source, pending.num));
            world->data[source->me] = 0;
        } else {
            assert_false(drop(source, pending.num));
            assert_true(released(taker, pending.num));
        }
        return;
    }
}

static void world_check(struct world *world)
{
    uint32_t serving = 0;

    for (uint32_t gid = 1; gid <= WORLD_GROUPS; gid++) {
        assert_true(shard_is_consistent(&world->views[gid].shard));
        if (world->views[gid].shard.state == SHARD_SERVING) {
            serving++;
            assert_int_equal(world->data[gid], world->written); /* has everything */
        }
    }
    assert_true(serving <= 1);
}

static void world_step(struct world *world)
{
    uint32_t gid = 1 + (uint32_t)rng_below(&world->rng, WORLD_GROUPS);
    struct view *view = &world->views[gid];
    config_num num = 1 + rng_below(&world->rng, WORLD_CONFIGS);

    switch (rng_below(&world->rng, 6)) {
    case 0:
        if (world->adopted[gid] < WORLD_CONFIGS) {
            num = ++world->adopted[gid];
            adopt(view, num, world->from[num], world->owner[num]);
        }
        break;
    case 1:
        if (view->shard.state == SHARD_SERVING) {
            world->data[gid] = ++world->written;
        }
        break;
    case 2: /* old, early and duplicate releases change nothing that matters */
        world_release(world, view);
        break;
    default:
        world_copy(world, view, num);
        break;
    }
    world_check(world);
}

static void at_most_one_group_serves_and_nothing_is_lost_whatever_the_order(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct world world;
        uint32_t owner;

        world_init(&world, seed);
        for (int step = 0; step < 1500; step++) {
            world_step(&world);
        }
        /* Given time, the shard is where the last configuration wants it, and only there. */
        owner = world.owner[WORLD_CONFIGS];
        for (uint32_t gid = 1; gid <= WORLD_GROUPS; gid++) {
            bool keeps = owner == 0 && gid == world.from[WORLD_CONFIGS];

            assert_int_equal(world.views[gid].shard.state, gid == owner ? SHARD_SERVING
                                                           : keeps      ? SHARD_FROZEN
                                                                        : SHARD_ABSENT);
            assert_true(shard_is_settled(&world.views[gid].shard));
            shard_fini(&world.views[gid].shard);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_most_one_group_serves_and_nothing_is_lost_whatever_the_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
