/* Plans: what a dry run shows of the configuration that would follow the present one. */
#include "client/cli_dry_run.h"
#include "tests/unit/cli_survey_story.h"

struct story {
    struct survey_story now;
    uint32_t owners[STORY_SHARDS], from[STORY_SHARDS];
    struct shardkv_config planned;
    struct dry_run plan;
};

/* Number 6, as number 5 until the test says otherwise. */
static int begin(void **state)
{
    struct story *story = calloc(1, sizeof(*story));

    survey_story_init(&story->now);
    memcpy(story->owners, story->now.owners, sizeof(story->owners));
    memcpy(story->from, story->now.owners, sizeof(story->from));
    story->planned = story->now.config;
    story->planned.num = 6;
    story->planned.shards = story->owners;
    story->planned.from = story->from;
    *state = story;
    return 0;
}

static int end(void **state)
{
    struct story *story = *state;

    dry_run_fini(&story->plan);
    free(story);
    return 0;
}

static void make(struct story *story)
{
    assert_true(dry_run_make(&story->now.survey, &story->planned, &story->plan));
}

static void expect_text(const struct story *story, const char *want)
{
    char *text = NULL;

    PRINTED(text, dry_run_print(file, &story->plan));
    assert_string_equal(text, want);
    free(text);
}

static void expect_json(const struct story *story, const char *want)
{
    json_t *json = dry_run_json(&story->plan);
    char *text = json_dumps(json, JSON_COMPACT);

    assert_string_equal(text, want);
    free(text);
    json_decref(json);
}

static void a_move_is_one_row_with_its_size(void **state)
{
    struct story *story = *state;

    story->owners[3] = 2;
    make(story);
    expect_text(story, "dry run: configuration 6 would follow 5\n"
                       "from group 1 to group 2: shard 3, about 10 keys, 0.0 MB\n"
                       "from group 1 to group 2: 1 shard in all, about 10 keys, 0.0 MB\n");
    expect_json(story, "{\"dry_run\":true,\"num\":6,\"changes\":true,\"moves\":[{\"shard\":3,"
                       "\"from\":1,\"to\":2,\"keys\":10,\"bytes\":1000}],\"sums\":[{\"shards\":1,"
                       "\"from\":1,\"to\":2,\"keys\":10,\"bytes\":1000}]}");
}

static void sums_are_by_pair_of_groups(void **state)
{
    struct story *story = *state;

    story->now.owners[0] = story->now.owners[7] = 2; /* group 2 holds them, and tells nothing yet */
    story->owners[0] = 1;
    story->owners[7] = 2;
    for (uint32_t s = 10; s < STORY_SHARDS; s++) {
        story->owners[s] = s % 2 == 0 ? 2 : 3;
    }
    make(story);
    assert_int_equal(story->plan.n_rows, 7);
    assert_int_equal(story->plan.n_sums, 3);
    assert_int_equal(story->plan.sums[0].to, 2);
    assert_int_equal(story->plan.sums[0].shard, 3);
    assert_true(story->plan.sums[0].keys == 30 && story->plan.sums[0].bytes == 3000);
    assert_int_equal(story->plan.sums[1].to, 3);
    assert_int_equal(story->plan.sums[2].from, 2);
    assert_int_equal(story->plan.sums[2].shard, 1);
}

static void a_size_that_nobody_told_is_not_known(void **state)
{
    struct story *story = *state;

    story->now.results[1].code = SHARDKV_TIMEOUT; /* group 1 is down */
    story->owners[3] = 2;
    make(story);
    expect_text(story, "dry run: configuration 6 would follow 5\n"
                       "from group 1 to group 2: shard 3, size not known\n"
                       "from group 1 to group 2: 1 shard in all, size not known\n");
    expect_json(story, "{\"dry_run\":true,\"num\":6,\"changes\":true,\"moves\":[{\"shard\":3,"
                       "\"from\":1,\"to\":2,\"keys\":null,\"bytes\":null}],\"sums\":[{\"shards\":1,"
                       "\"from\":1,\"to\":2,\"keys\":null,\"bytes\":null}]}");
}

/* The first group creates shards; the last that leaves keeps them; it, or another, takes them. */
static void what_comes_from_or_goes_to_nobody_is_no_copy(void **state)
{
    struct story *story = *state;

    story->now.owners[0] = story->now.from[0] = 0; /* nobody ever had it */
    story->owners[1] = 0;                          /* nobody shall */
    story->now.owners[2] = 0;                      /* group 1 left with it, and comes back */
    make(story);
    assert_int_equal(story->plan.n_rows, 3);
    expect_text(story, "dry run: configuration 6 would follow 5\n"
                       "from nobody to group 1: shard 0, created empty\n"
                       "from group 1 to nobody: shard 1, kept there and not served\n"
                       "from group 1 to group 1: shard 2, served again without a copy\n"
                       "from nobody to group 1: 1 shard in all, created empty\n"
                       "from group 1 to nobody: 1 shard in all, kept there and not served\n"
                       "from group 1 to group 1: 1 shard in all, served again without a copy\n");
}

static void a_change_that_moves_nothing_says_so(void **state)
{
    struct story *story = *state;

    make(story);
    expect_text(story, "dry run: configuration 6 would follow 5; no shard would move\n");
}

static void a_change_that_is_not_needed_says_so(void **state)
{
    struct story *story = *state;

    story->planned = story->now.config;
    make(story);
    assert_false(story->plan.changes);
    expect_text(story, "dry run: nothing would change, configuration 5 stays\n");
    expect_json(story, "{\"dry_run\":true,\"num\":5,\"changes\":false,\"moves\":[],\"sums\":[]}");
}

/* Between the plan and the look at the cluster somebody else made a change: a difference of the two
 * would show that change undone. */
static void a_plan_from_before_another_change_is_made_anew(void **state)
{
    struct story *story = *state;

    story->planned.num = 5;
    story->owners[3] = 2;
    assert_false(dry_run_make(&story->now.survey, &story->planned, &story->plan));
    assert_null(story->plan.rows);
    story->planned.num = 4;
    assert_false(dry_run_make(&story->now.survey, &story->planned, &story->plan));
    story->planned.num = 7;
    assert_false(dry_run_make(&story->now.survey, &story->planned, &story->plan));
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_move_is_one_row_with_its_size),
        STORY(sums_are_by_pair_of_groups),
        STORY(a_size_that_nobody_told_is_not_known),
        STORY(what_comes_from_or_goes_to_nobody_is_no_copy),
        STORY(a_change_that_moves_nothing_says_so),
        STORY(a_change_that_is_not_needed_says_so),
        STORY(a_plan_from_before_another_change_is_made_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
