/* Moves in status and wait: rows, what is left, and the line that shows how far it is. */
#include "client/cli_moves.h"
#include "client/cli_progress.h"
#include "tests/unit/cli_survey_story.h"

/* ---- Rows ---- */

static void phases_have_names(void **state)
{
    (void)state;
    assert_string_equal(cli_move_phase_name(SHARDKV_MOVE_WAITING), "waiting");
    assert_string_equal(cli_move_phase_name(SHARDKV_MOVE_COPYING), "copying");
    assert_string_equal(cli_move_phase_name(SHARDKV_MOVE_CATCHING_UP), "catching-up");
    assert_string_equal(cli_move_phase_name(SHARDKV_MOVE_HANDING_OVER), "handing-over");
    assert_string_equal(cli_move_phase_name(SHARDKV_MOVE_LETTING_GO), "letting-go");
    assert_string_equal(cli_move_phase_name(SHARDKV_MOVE_DONE), "done");
    assert_string_equal(cli_move_phase_name(99), "?"); /* of a later server */
}

static void expect_json(const struct survey_story *story, const char *want)
{
    json_t *json = moves_json(&story->survey);
    char *text = json_dumps(json, JSON_COMPACT);

    assert_string_equal(text, want);
    free(text);
    json_decref(json);
}

static void what_is_not_known_is_null_or_a_dash(void **state)
{
    struct survey_story story;
    struct shardkv_move_status *move;
    char *text = NULL;

    (void)state;
    survey_story_init(&story);
    story.nodes[1].n_shards = 0; /* the source does not know either */
    move = survey_story_move(&story, 2, 7, SHARDKV_MOVE_COPYING);
    move->bytes_done = 2500000;
    move->keys_done = 12;
    expect_json(&story, "[{\"shard\":7,\"from\":1,\"to\":2,\"phase\":\"copying\",\"config\":5,"
                        "\"bytes_done\":2500000,\"bytes_total\":0,\"keys_done\":12,\"keys_total\":"
                        "0,\"rate_bytes_per_s\":0,\"seconds_left\":null,\"pause_us\":null}]");
    PRINTED(text, moves_print(file, &story.survey));
    assert_non_null(strstr(text, "SHARD "));
    assert_non_null(strstr(text, "\n7           1      2 copying             2.5M          -"));
    assert_non_null(strstr(text, "-         -\n"));
    free(text);
}

static void all_that_is_known_is_shown(void **state)
{
    struct survey_story story;
    struct shardkv_move_status *move;
    char *text = NULL;

    (void)state;
    survey_story_init(&story);
    move = survey_story_move(&story, 2, 7, SHARDKV_MOVE_DONE);
    *move =
        (struct shardkv_move_status){7, 1, 2, SHARDKV_MOVE_DONE, 5, 10, 20, 3, 4, 5000000, 6, 7000};
    expect_json(&story, "[{\"shard\":7,\"from\":1,\"to\":2,\"phase\":\"done\",\"config\":5,"
                        "\"bytes_done\":10,\"bytes_total\":20,\"keys_done\":3,\"keys_total\":4,"
                        "\"rate_bytes_per_s\":5000000,\"seconds_left\":6,\"pause_us\":7000}]");
    PRINTED(text, moves_print(file, &story.survey));
    assert_non_null(strstr(text, "5.0M/s"));
    assert_non_null(strstr(text, "6.0s"));
    assert_non_null(strstr(text, "7.0ms\n"));
    free(text);
}

static void without_moves_there_is_no_table(void **state)
{
    struct survey_story story;
    char *text = NULL;

    (void)state;
    survey_story_init(&story);
    PRINTED(text, moves_print(file, &story.survey));
    assert_string_equal(text, "");
    free(text);
    story.survey.config = NULL; /* no controller answers */
    expect_json(&story, "[]");
}

static void a_total_that_the_taker_does_not_know_is_what_the_source_has(void **state)
{
    struct survey_story story;
    struct shardkv_move_status *rows;
    size_t n;

    (void)state;
    survey_story_init(&story);
    survey_story_move(&story, 2, 7, SHARDKV_MOVE_COPYING);
    survey_story_move(&story, 2, 8, SHARDKV_MOVE_COPYING)->bytes_done = 1500; /* it grew */
    survey_story_move(&story, 2, 9, SHARDKV_MOVE_COPYING)->bytes_total = 77;
    rows = survey_moves(&story.survey, &n);
    assert_int_equal(n, 3);
    assert_true(rows[0].bytes_total == 1000 && rows[0].keys_total == 10);
    assert_true(rows[1].bytes_total == 1500);
    assert_true(rows[2].bytes_total == 77);
    free(rows);
}

/* ---- What is left ---- */

static void what_is_served_by_its_owner_is_settled(void **state)
{
    struct survey_story story;
    struct survey_left left;

    (void)state;
    survey_story_init(&story);
    assert_true(survey_all_settled(&story.survey, &left));
    assert_int_equal(left.shards, 0);
    assert_true(left.bytes == 0);
    story.nodes[2].config = 4; /* has not heard of the latest: it may bring moves */
    assert_false(survey_all_settled(&story.survey, &left));
}

static void what_is_left_counts_shards_and_bytes_to_come(void **state)
{
    struct survey_story story;
    struct survey_left left;

    (void)state;
    survey_story_init(&story);
    story.owners[7] = story.owners[8] = 2;
    survey_story_move(&story, 2, 7, SHARDKV_MOVE_COPYING)->bytes_done = 400;
    assert_false(survey_all_settled(&story.survey, &left));
    assert_int_equal(left.shards, 2);
    assert_true(left.bytes == 600 + 1000); /* of shard 8 the taker has not heard yet */
}

/* The new owner serves: that the old one deletes its copy, and that the row is still shown, holds
 * nobody up. */
static void letting_go_and_done_are_not_waited_for(void **state)
{
    struct survey_story story;
    struct survey_left left;

    (void)state;
    survey_story_init(&story);
    survey_story_move(&story, 1, 7, SHARDKV_MOVE_DONE);
    survey_story_move(&story, 1, 8, SHARDKV_MOVE_LETTING_GO);
    assert_true(survey_all_settled(&story.survey, &left));
    survey_story_move(&story, 1, 9, SHARDKV_MOVE_HANDING_OVER);
    assert_false(survey_all_settled(&story.survey, &left));
}

/* ---- The line ---- */

static void expect_line(const struct progress *progress, bool paused, const char *want)
{
    char line[160];

    progress_line(progress, paused, line, sizeof(line));
    assert_string_equal(line, want);
}

static void progress_is_what_has_come_of_all_that_was_to_come(void **state)
{
    struct progress progress = {0};
    uint64_t seconds;

    (void)state;
    progress_update(&progress, 1000, 4, 40000000);
    expect_line(&progress, false,
                "[--------------------]   0%, 4 shards left, 0.0 of 40.0 MB, 0.0 MB/s");
    assert_false(progress_seconds_left(&progress, &seconds));
    progress_update(&progress, 4000, 1, 10000000); /* 30 MB in 3 s */
    expect_line(&progress, false,
                "[###############-----]  75%, 1 shard left, 30.0 of 40.0 MB, 10.0 MB/s, "
                "about 2 s left");
    assert_true(progress_seconds_left(&progress, &seconds));
    assert_int_equal(seconds, 2);
    expect_line(&progress, true,
                "[###############-----]  75%, 1 shard left, 30.0 of 40.0 MB, 10.0 MB/s, "
                "moves are paused");
}

/* A group hears of a configuration late, and more shards are to come: nothing that has come is
 * forgotten. */
static void more_to_come_makes_the_whole_larger(void **state)
{
    struct progress progress = {0};

    (void)state;
    progress_update(&progress, 0, 1, 1000000);
    progress_update(&progress, 3000, 1, 500000);
    progress_update(&progress, 6000, 3, 1500000);
    assert_true(progress.bytes_done == 500000);
    expect_line(&progress, false,
                "[#####---------------]  25%, 3 shards left, 0.5 of 2.0 MB, 0.0 MB/s");
}

static void the_rate_is_that_of_the_last_seconds(void **state)
{
    struct progress progress = {0};
    uint64_t left = 1000000000;

    (void)state;
    progress_update(&progress, 0, 1, left);
    for (uint64_t ms = 100; ms <= 20000; ms += 100) {
        left -= 1000000; /* 10 MB/s */
        progress_update(&progress, ms, 1, left);
    }
    assert_in_range((uint64_t)progress.rate, 9900000, 10100000);
    for (uint64_t ms = 20100; ms <= 40000; ms += 100) {
        progress_update(&progress, ms, 1, left); /* it stands still */
    }
    assert_in_range((uint64_t)progress.rate, 0, 100000);
    progress_update(&progress, 40000, 1, left); /* no time has passed */
    assert_in_range((uint64_t)progress.rate, 0, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_have_names),
        cmocka_unit_test(what_is_not_known_is_null_or_a_dash),
        cmocka_unit_test(all_that_is_known_is_shown),
        cmocka_unit_test(without_moves_there_is_no_table),
        cmocka_unit_test(a_total_that_the_taker_does_not_know_is_what_the_source_has),
        cmocka_unit_test(what_is_served_by_its_owner_is_settled),
        cmocka_unit_test(what_is_left_counts_shards_and_bytes_to_come),
        cmocka_unit_test(letting_go_and_done_are_not_waited_for),
        cmocka_unit_test(progress_is_what_has_come_of_all_that_was_to_come),
        cmocka_unit_test(more_to_come_makes_the_whole_larger),
        cmocka_unit_test(the_rate_is_that_of_the_last_seconds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
