/* Bytes as text and as JSON: what people see is harmless and unambiguous, what programs get comes
 * back as the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"

/* ---- Text ---- */

static void expect_text(const void *data, size_t len, const char *want)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    cli_print_text(file, (struct shardkv_bytes){data, len});
    fclose(file);
    assert_string_equal(text, want);
    assert_int_equal(size, strlen(want));
    free(text);
}

static void printable_text_stays_as_it_is(void **state)
{
    (void)state;
    expect_text("", 0, "");
    expect_text("hello, world \"'{}", 17, "hello, world \"'{}");
    expect_text("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xab", 15,
                "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xab");
}

static void controls_and_backslashes_are_escaped(void **state)
{
    (void)state;
    expect_text("a\nb\tc\rd\\e", 9, "a\\nb\\tc\\rd\\\\e");
    expect_text("\0\x01\x1b[31m\x7f", 8, "\\x00\\x01\\x1b[31m\\x7f");
    expect_text("\xc2\x9b", 2, "\\xc2\\x9b"); /* a terminal's other way to begin a sequence */
}

static void what_is_not_utf8_is_escaped(void **state)
{
    (void)state;
    expect_text("\xff\xfe", 2, "\\xff\\xfe");
    expect_text("a\xc3", 2, "a\\xc3");                          /* cut off */
    expect_text("\xc0\xaf", 2, "\\xc0\\xaf");                   /* overlong */
    expect_text("\xe0\x80\xaf", 3, "\\xe0\\x80\\xaf");          /* overlong */
    expect_text("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");          /* a surrogate */
    expect_text("\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80"); /* above U+10FFFF */
    expect_text("\xc3(", 2, "\\xc3(");
}

/* ---- JSON ---- */

static char *json_of(const void *data, size_t len)
{
    json_t *json = cli_json_bytes((struct shardkv_bytes){data, len});
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);

    json_decref(json);
    assert_non_null(text);
    return text;
}

static void expect_json(const void *data, size_t len, const char *want)
{
    char *text = json_of(data, len);

    assert_string_equal(text, want);
    free(text);
}

static void utf8_is_a_string_and_the_rest_base64(void **state)
{
    (void)state;
    expect_json("", 0, "\"\"");
    expect_json("a\"b\n", 4, "\"a\\\"b\\n\"");
    expect_json("\xc3\xbc", 2, "\"\xc3\xbc\"");
    expect_json("\xff", 1, "{\"base64\":\"/w==\"}");
    expect_json("a\0b", 3, "{\"base64\":\"YQBi\"}");
    expect_json("\xed\xa0\x80", 3, "{\"base64\":\"7aCA\"}");
}

static void comes_back(const void *data, size_t len)
{
    char *text = json_of(data, len);
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    void *back;
    size_t back_len;

    assert_non_null(json);
    assert_true(cli_json_to_bytes(json, &back, &back_len));
    assert_int_equal(back_len, len);
    assert_memory_equal(back, data, len);
    free(back);
    json_decref(json);
    free(text);
}

static void any_bytes_come_back(void **state)
{
    uint8_t bytes[300];
    struct rng rng;

    (void)state;
    rng_init(&rng, 7);
    for (unsigned byte = 0; byte < 256; byte++) {
        bytes[0] = (uint8_t)byte;
        comes_back(bytes, 1);
    }
    for (size_t round = 0; round < 2000; round++) {
        size_t len = rng_next(&rng) % sizeof(bytes);
        uint8_t mask = round % 2 == 0 ? 0x7f : 0xff;
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)rng_next(&rng) & mask;
        }
        comes_back(bytes, len);
    }
}

static void expect_no_bytes(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    void *data;
    size_t len;

    assert_non_null(json);
    assert_false(cli_json_to_bytes(json, &data, &len));
    json_decref(json);
}

static void other_json_is_no_bytes(void **state)
{
    (void)state;
    expect_no_bytes("5");
    expect_no_bytes("null");
    expect_no_bytes("[\"a\"]");
    expect_no_bytes("{}");
    expect_no_bytes("{\"base64\":5}");
    expect_no_bytes("{\"base64\":\"%\"}");
    expect_no_bytes("{\"base64\":\"abc\"}"); /* cut off */
    expect_no_bytes("{\"base64\":\"=\"}");
    expect_no_bytes("{\"base64\":\"ab c\"}");
    expect_no_bytes("{\"base64\":\"ab==abcd\"}");
    expect_no_bytes("{\"base64\":\"abcd\\n   \"}");
}

/* ---- Documents ---- */

static void a_configuration_shows_members_only_and_whether_moves_are_paused(void **state)
{
    const struct shardkv_replica replicas[] = {{1, "tcp://a:1"}, {2, "tcp://b:2"}};
    const struct shardkv_group groups[] = {
        {.gid = 5, .member = true, .n_replicas = 2, .replicas = replicas},
        {.gid = 6, .member = false, .n_replicas = 1, .replicas = replicas}};
    const uint32_t shards[] = {5, 5, 0};
    const struct shardkv_config config = {.num = 9,
                                          .n_shards = 3,
                                          .shards = shards,
                                          .n_groups = 2,
                                          .groups = groups,
                                          .moves_paused = true};
    json_t *json = cli_config_json(&config);
    char *text = json_dumps(json, JSON_COMPACT);

    (void)state;
    assert_string_equal(text,
                        "{\"num\":9,\"shards\":[5,5,0],\"groups\":{\"5\":{\"1\":\"tcp://a:1\","
                        "\"2\":\"tcp://b:2\"}},\"moves_paused\":true}");
    free(text);
    json_decref(json);
}

static void a_replica_that_is_down_has_a_row(void **state)
{
    const struct shardkv_node node = {.role = SHARDKV_PRE_CANDIDATE, .version = "1"};
    json_t *down = cli_node_json(1, 2, "tcp://c:3", NULL);
    json_t *up = cli_node_json(1, 2, "tcp://c:3", &node);
    char *text = json_dumps(down, JSON_COMPACT);

    (void)state;
    assert_string_equal(text, "{\"gid\":1,\"id\":2,\"url\":\"tcp://c:3\",\"up\":false}");
    assert_true(json_is_true(json_object_get(up, "up")));
    assert_string_equal(json_string_value(json_object_get(up, "role")), "candidate");
    free(text);
    json_decref(up);
    json_decref(down);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(printable_text_stays_as_it_is),
        cmocka_unit_test(controls_and_backslashes_are_escaped),
        cmocka_unit_test(what_is_not_utf8_is_escaped),
        cmocka_unit_test(utf8_is_a_string_and_the_rest_base64),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(other_json_is_no_bytes),
        cmocka_unit_test(a_configuration_shows_members_only_and_whether_moves_are_paused),
        cmocka_unit_test(a_replica_that_is_down_has_a_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
