/* Unit tests of client/clerk: what a write of unknown end means for what follows it. */
#include "tests/cmocka.h"
#include "tests/unit/clerk_story.h"

/* What one group may have applied, no failure at the next one can deny. */
static void a_try_lost_at_one_group_is_remembered_at_the_next(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fault_leader(story, 1, FAULT_BREAK, 1);
    fault_group(story, 2, FAULT_UNREACHABLE);
    put(story, story->key, "perhaps", 1000);
    run(story, 1);
    fake_move(&story->world, story->shard, 2, true);
    run(story, 2000);
    assert_true(leader_of(story, 1)->requests > 0);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
}

static void the_number_of_an_unknown_write_is_not_used_again(void **state)
{
    struct story *story = *state;
    uint64_t seq;

    warm_up(story);
    fault_group(story, 1, FAULT_APPLY_SILENT);
    put(story, story->key, "first", 500);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    seq = story->world.last_seq;
    fault_group(story, 1, FAULT_NONE);
    put(story, story->key, "second", 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->world.last_seq > seq);
    assert_int_equal(fake_times_applied(&story->world, "second"), 1);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_try_lost_at_one_group_is_remembered_at_the_next),
        STORY(the_number_of_an_unknown_write_is_not_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
