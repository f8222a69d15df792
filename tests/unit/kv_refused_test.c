/* Unit tests of the public library: servers that are reached, and refuse or must not be used. */
#include "tests/unit/kv_story.h"

/* Reads, or writes a value, until what is said of the failure has the text: a busy machine may let
 * a try end before it met the server. Gives the last result, to be released. */
static struct shardkv_result *fail_saying(struct shardkv *kv, const char *value, const char *text)
{
    struct shardkv_result *result = NULL;

    for (int tries = 0; tries < 50; tries++) {
        int code = value == NULL
                       ? shardkv_get(kv, shardkv_text("k"), 300, &result)
                       : shardkv_put(kv, shardkv_text("k"), shardkv_text(value), 300, &result);

        assert_int_equal(code, SHARDKV_UNAVAILABLE);
        if (strstr(result->message, text) != NULL) {
            return result;
        }
        shardkv_result_free(result);
    }
    fail_msg("no failure says \"%s\"", text);
    return NULL;
}

/* It was reached: what keeps it from writing, and what can be done, is what to say. */
static void a_server_without_space_is_not_called_unreachable(void **state)
{
    struct story *story = *state;
    struct shardkv_result *result;

    story->server.refusal = ST_READ_ONLY;
    result = fail_saying(story->handle, "1", "lack of disk space");
    assert_non_null(strstr(result->message, story->server.url));
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
    uint32_t writes;

    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("0"), 0, NULL), SHARDKV_OK);
    restart_in_cluster(story, 1); /* now the server knows its cluster, and the client learns it */
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("1"), 0, NULL), SHARDKV_OK);
    restart_in_cluster(story, 1);
    assert_int_equal(shardkv_put(kv, shardkv_text("k"), shardkv_text("2"), 0, NULL), SHARDKV_OK);
    restart_in_cluster(story, 2);
    /* A write could still be sent on the connection that just ended, and its end not be known. */
    shardkv_result_free(fail_saying(kv, NULL, "cluster"));
    writes = story->server.writes;
    shardkv_result_free(fail_saying(kv, "3", "cluster"));
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
