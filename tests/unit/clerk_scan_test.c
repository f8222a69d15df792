/* Unit tests of client/clerk: scans over all shards. */
#include <stdlib.h>

#include "tests/cmocka.h"
#include "tests/unit/clerk_story.h"

static void fill(struct story *story, int n)
{
    char key[64];

    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "%s%03d", i % 3 == 0 ? "apple" : "pear", i);
        fake_put(&story->world, key, "v");
    }
}

static void scan(struct story *story, const char *prefix, const char *after, uint32_t limit,
                 uint64_t timeout_ms)
{
    ended_init(story, &story->ended);
    clerk_scan(story->clerk, slice_text(prefix), slice_text(after), limit, story->world.now,
               story->world.now + timeout_ms, note_end, &story->ended);
}

/* What a scan should give, straight from the keys. */
static void assert_scanned(struct story *story, const char *prefix, const char *after,
                           uint32_t limit)
{
    struct fake_cluster *world = &story->world;
    size_t n = 0;
    bool more = false;

    qsort(world->keys, world->n_keys, sizeof(world->keys[0]), fake_compare_keys);
    for (size_t i = 0; i < world->n_keys; i++) {
        const char *key = world->keys[i].key;

        if (strncmp(key, prefix, strlen(prefix)) != 0 || strcmp(key, after) <= 0) {
            continue;
        }
        if (n == limit) {
            more = true;
            break;
        }
        assert_true(n < story->ended.n_records);
        assert_string_equal(story->ended.keys[n], key);
        n++;
    }
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(story->ended.n_records, n);
    assert_int_equal(story->ended.more, more);
}

static void a_scan_gives_the_keys_of_all_shards_in_order(void **state)
{
    struct story *story = *state;
    static const uint32_t limits[] = {1, 2, 7, 99, 100, 101, 299, 300, 301, 1000};

    fill(story, 300);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        scan(story, "", "", limits[i], 1000);
        run(story, 1000);
        assert_scanned(story, "", "", limits[i]);
        scan(story, "apple", "", limits[i], 1000);
        run(story, 1000);
        assert_scanned(story, "apple", "", limits[i]);
        scan(story, "pear", "pear150", limits[i], 1000);
        run(story, 1000);
        assert_scanned(story, "pear", "pear150", limits[i]);
    }
    scan(story, "none", "", 10, 1000);
    run(story, 1000);
    assert_scanned(story, "none", "", 10);
}

static void a_scan_takes_all_of_it_from_one_shard_if_it_lies_there(void **state)
{
    struct story *story = *state;
    char key[64];

    fill(story, 40);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof(key), "b{one}%03d", i); /* between the apples and the pears */
        fake_put(&story->world, key, "v");
    }
    for (uint32_t limit = 1; limit < 260; limit++) {
        scan(story, "", "", limit, 1000);
        run(story, 1000);
        assert_scanned(story, "", "", limit);
        scan(story, "b", "", limit, 1000);
        run(story, 1000);
        assert_scanned(story, "b", "", limit);
    }
}

static void a_scan_goes_on_through_moves_and_broken_connections(void **state)
{
    struct story *story = *state;

    fill(story, 300);
    warm_up(story);
    for (int round = 0; round < 20; round++) {
        scan(story, "", "", 500, 20000);
        for (int i = 0; i < 6; i++) {
            shard_id shard = (shard_id)rng_below(&story->world.rng, FAKE_SHARDS);

            fake_move(&story->world, shard, 1 + (shard + (uint32_t)i) % FAKE_GROUPS, true);
            fault_leader(story, 1 + (uint32_t)i % FAKE_GROUPS, FAULT_BREAK, 1);
            run(story, 1);
        }
        run(story, 20000);
        assert_int_equal(story->ended.times, 1);
        assert_scanned(story, "", "", 500);
    }
}

static void a_scan_that_cannot_reach_a_shard_fails_in_time(void **state)
{
    struct story *story = *state;
    uint64_t deadline;

    fill(story, 30);
    warm_up(story);
    fault_group(story, 2, FAULT_SILENT);
    deadline = story->world.now + 800;
    scan(story, "", "", 10, 800);
    fake_run(&story->world, deadline);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_TIMEOUT);
    assert_true(story->ended.at == deadline);
    assert_non_null(strstr(story->ended.reason, "g2"));
    assert_int_equal(clerk_outstanding(story->clerk), 0);
}

static void a_cancelled_scan_leaves_nothing_behind(void **state)
{
    struct story *story = *state;
    uint64_t id;

    fill(story, 30);
    ended_init(story, &story->ended);
    id = clerk_scan(story->clerk, slice_text(""), slice_text(""), 5, story->world.now,
                    story->world.now + 1000, note_end, &story->ended);
    run(story, 4);
    clerk_cancel(story->clerk, id, story->world.now);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_CANCELLED);
    run(story, 2000);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(clerk_outstanding(story->clerk), 0);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_scan_gives_the_keys_of_all_shards_in_order),
        STORY(a_scan_takes_all_of_it_from_one_shard_if_it_lies_there),
        STORY(a_scan_goes_on_through_moves_and_broken_connections),
        STORY(a_scan_that_cannot_reach_a_shard_fails_in_time),
        STORY(a_cancelled_scan_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
