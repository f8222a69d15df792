/* Unit tests of the public library: servers that are reached, and refuse or must not be used. */
#include "tests/unit/kv_story.h"

/* It was reached: what keeps it from writing, and what can be done, is what to say. */
static void a_server_without_space_is_not_called_unreachable(void **state)
{
    struct story *story = *state;
    struct shardkv_result *result;

    story->server.refusal = ST_READ_ONLY;
    assert_int_equal(shardkv_put(story->handle, shardkv_text("k"), shardkv_text("1"), 200, &result),
                     SHARDKV_UNAVAILABLE);
    assert_non_null(strstr(result->message, story->server.url));
    assert_non_null(strstr(result->message, "lack of disk space"));
    assert_non_null(strstr(result->message, "takes writes again by itself"));
    assert_null(strstr(result->message, "reached"));
    shardkv_result_free(result);
}

static void restart_in_cluster(struct story *story, uint8_t cluster)
{
    server_stop(&story->server);
    story->server.cluster = cluster;
    server_start(&story->server);
}

/* Behind the same address there is another cluster after a reinstall. */
static void a_handle_speaks_to_one_cluster_only(void **state)
{
    struct story *story = *state;
    struct shardkv *kv = story->handle;
    struct shardkv_result *result;
    uint32_t writes;

    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("0"), 0, NULL), SHARDKV_OK);
    restart_in_cluster(story, 1); /* now the server knows its cluster, and the client learns it */
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("1"), 0, NULL), SHARDKV_OK);
    restart_in_cluster(story, 1);
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("2"), 0, NULL), SHARDKV_OK);
    restart_in_cluster(story, 2);
    /* A write could still be sent on the connection that just ended, and its end not be known. */
    assert_int_not_equal(shardkv_get(kv, shardkv_text("k"), 500, NULL), SHARDKV_OK);
    writes = story->server.writes;
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("3"), 500, &result),
                     SHARDKV_UNAVAILABLE);
    assert_non_null(strstr(result->message, "cluster"));
    shardkv_result_free(result);
    assert_int_equal(story->server.writes, writes);
    restart_in_cluster(story, 1);
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("4"), 0, NULL), SHARDKV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_server_without_space_is_not_called_unreachable),
        STORY(a_handle_speaks_to_one_cluster_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
