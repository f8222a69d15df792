/* A random test of what a clerk promises about how operations ended: servers that drop, delay,
 * refuse, break, forget and move shards, and a record of what was really applied. */
#include "tests/cmocka.h"
#include "tests/unit/clerk_story.h"

#define RANDOM_OPERATIONS 1500

struct random_operation {
    struct ended ended;
    char value[16];
    bool is_write;
    uint64_t deadline;
};

static void random_mischief(struct story *story)
{
    static const enum status refusals[] = {ST_NOT_LEADER, ST_BUSY,    ST_NOT_READY, ST_READ_ONLY,
                                           ST_SHUTDOWN,   ST_UNKNOWN, ST_TIMEOUT,   ST_WRONG_GROUP,
                                           ST_IO,         ST_INVALID};
    struct fake_cluster *world = &story->world;
    struct fake_server *server = &world->servers[rng_below(&world->rng, FAKE_SERVERS)];
    shard_id shard = (shard_id)rng_below(&world->rng, FAKE_SHARDS);
    uint32_t gid = (uint32_t)rng_below(&world->rng, FAKE_GROUPS + 1);

    server->fault = (enum fault)rng_below(&world->rng, FAULT_GARBLE + 1);
    server->times = 1 + (uint32_t)rng_below(&world->rng, 6);
    server->refusal = refusals[rng_below(&world->rng, 10)];
    server->hint = (uint32_t)rng_below(&world->rng, 5);
    server->slow_ms = rng_below(&world->rng, 2500);
    if (rng_below(&world->rng, 3) == 0) {
        world->leader[rng_below(&world->rng, FAKE_GROUPS + 1)] =
            1 + (uint32_t)rng_below(&world->rng, 3);
    }
    if (rng_below(&world->rng, 5) == 0) {
        fake_move(world, shard, gid, rng_below(&world->rng, 2) == 0);
    }
    if (rng_below(&world->rng, 5) == 0) {
        world->holder[shard] = world->config.shards[shard];
    }
    if (rng_below(&world->rng, 60) == 0) {
        world->floor = world->time;
    }
    world->hints = rng_below(&world->rng, 4) > 0;
}

static void start_random(struct story *story, struct random_operation *operation, size_t number)
{
    uint64_t timeout = 1 + rng_below(&story->world.rng, 3000);
    char key[16];

    snprintf(key, sizeof(key), "k%u", (unsigned)rng_below(&story->world.rng, 40));
    snprintf(operation->value, sizeof(operation->value), "v%zu", number);
    operation->deadline = story->world.now + timeout;
    operation->is_write = number % 3 != 0;
    if (operation->is_write) {
        put_into(story, key, operation->value, timeout, &operation->ended);
    } else if (number % 30 == 0) {
        ended_init(story, &operation->ended);
        clerk_scan(story->clerk, slice_text("k"), slice_text(""), 1 + (uint32_t)number % 50,
                   story->world.now, operation->deadline, note_end, &operation->ended);
    } else {
        get_into(story, key, timeout, &operation->ended);
    }
}

static void check_random(struct story *story, const struct random_operation *operation)
{
    size_t applied = fake_times_applied(&story->world, operation->value);
    enum status status = operation->ended.status;

    assert_int_equal(operation->ended.times, 1);
    assert_true(operation->ended.at <= operation->deadline);
    if (!operation->is_write) {
        assert_int_not_equal(status, ST_UNKNOWN);
        return;
    }
    assert_true(applied <= 1);
    if (status == ST_OK) {
        assert_int_equal(applied, 1);
    } else if (status != ST_UNKNOWN) {
        assert_int_equal(applied, 0); /* certainly not applied: not then, and not later */
    }
}

static void run_random(struct story *story, uint64_t seed, size_t counts[3])
{
    struct random_operation *operations = mem_zalloc(RANDOM_OPERATIONS * sizeof(operations[0]));

    rng_init(&story->world.rng, seed);
    for (size_t i = 0; i < RANDOM_OPERATIONS; i++) {
        random_mischief(story);
        start_random(story, &operations[i], i);
        run(story, rng_below(&story->world.rng, 25));
    }
    run(story, 3000); /* no operation lives longer */
    assert_int_equal(clerk_outstanding(story->clerk), 0);
    for (size_t i = 0; i < FAKE_SERVERS; i++) {
        story->world.servers[i].fault = FAULT_NONE;
    }
    run(story, 10000); /* what is applied late is applied now */
    for (size_t i = 0; i < RANDOM_OPERATIONS; i++) {
        check_random(story, &operations[i]);
        counts[operations[i].ended.status == ST_OK        ? 0
               : operations[i].ended.status == ST_UNKNOWN ? 1
                                                          : 2]++;
    }
    mem_free(operations);
}

static void no_end_is_ever_wrong(void **state)
{
    size_t counts[3] = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        void *own = NULL;

        story_begin(&own);
        run_random(own, seed, counts);
        story_end(&own);
    }
    /* The test means something only if all three ends are frequent. */
    assert_true(counts[0] > 1000 && counts[1] > 300 && counts[2] > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_end_is_ever_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
