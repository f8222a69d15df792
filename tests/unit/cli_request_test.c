/* Lines of pipe: what is a request, what is not and how that is said, and the reply to each end. */
#include <stdlib.h>
#include <string.h>

#include "client/cli_request.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"

#define PAUSE "{\"id\":1,\"op\":\"moves\",\"paused\":true}"

/* ---- Parsing ---- */

static struct request must_parse(const char *line)
{
    struct request request;
    char buffer[200];
    const char *wrong = request_parse(&request, line, strlen(line), buffer);

    if (wrong != NULL) {
        fail_msg("%s: %s", line, wrong);
    }
    return request;
}

static void expect_bytes(struct shardkv_bytes bytes, const char *want, size_t len)
{
    assert_int_equal(bytes.len, len);
    assert_memory_equal(bytes.data, want, len);
}

static void each_operation_is_read_with_its_fields(void **state)
{
    struct request request;

    (void)state;
    request = must_parse("{\"id\":1,\"op\":\"get\",\"key\":\"k\"}");
    assert_int_equal(request.op, REQUEST_GET);
    expect_bytes(request.key, "k", 1);
    request_fini(&request);

    request = must_parse("{\"op\":\"append\",\"key\":\"k\",\"arg\":{\"base64\":\"AP8=\"}}");
    assert_int_equal(request.op, REQUEST_APPEND);
    expect_bytes(request.arg, "\0\xff", 2);
    assert_null(request.id);
    request_fini(&request);

    request = must_parse("{\"op\":\"put\",\"key\":\"a\\u0000b\",\"arg\":\"\"}");
    expect_bytes(request.key, "a\0b", 3);
    expect_bytes(request.arg, "", 0);
    request_fini(&request);

    request = must_parse("{\"op\":\"status\",\"node\":\"tcp://h:1\",\"timeout_ms\":400}");
    assert_string_equal(request.node, "tcp://h:1");
    assert_int_equal(request.timeout_ms, 400);
    request_fini(&request);

    request = must_parse("{\"op\":\"config\"}");
    assert_true(request.num == SHARDKV_CONFIG_LATEST);
    request_fini(&request);
    request = must_parse("{\"op\":\"config\",\"num\":0}");
    assert_true(request.num == 0);
    request_fini(&request);

    request = must_parse("{\"op\":\"join\",\"gid\":3,\"cluster\":\"1=tcp://h:1\"}");
    assert_int_equal(request.gid, 3);
    assert_string_equal(request.cluster, "1=tcp://h:1");
    request_fini(&request);

    request = must_parse(" {\"op\" : \"move\", \"shard\":0, \"gid\":2147483647} \r");
    assert_int_equal(request.shard, 0);
    assert_int_equal(request.gid, 2147483647);
    request_fini(&request);

    request = must_parse(PAUSE);
    assert_int_equal(request.op, REQUEST_PAUSE);
    assert_true(request.paused);
    request_fini(&request);
    request = must_parse("{\"op\":\"moves\",\"paused\":false}");
    assert_false(request.paused);
    request_fini(&request);
}

/* cas: arg null or missing means that the key must be absent; an empty string is a value. */
static void cas_tells_absent_from_empty(void **state)
{
    struct request request;

    (void)state;
    request = must_parse("{\"op\":\"cas\",\"key\":\"k\",\"arg\":null,\"arg2\":\"w\"}");
    assert_false(request.has_arg);
    expect_bytes(request.arg2, "w", 1);
    request_fini(&request);
    request = must_parse("{\"op\":\"cas\",\"key\":\"k\",\"arg2\":\"w\"}");
    assert_false(request.has_arg);
    request_fini(&request);
    request = must_parse("{\"op\":\"cas\",\"key\":\"k\",\"arg\":\"\",\"arg2\":\"w\"}");
    assert_true(request.has_arg);
    expect_bytes(request.arg, "", 0);
    request_fini(&request);
}

/* The reply to a line that is no request, as text; the caller frees it. */
static char *refusal_of(const char *line, size_t len)
{
    struct request request;
    char buffer[200];
    const char *wrong = request_parse(&request, line, len, buffer);
    json_t *reply = wrong != NULL ? request_refusal(request.id, wrong) : NULL;
    char *text = reply != NULL ? json_dumps(reply, JSON_COMPACT) : NULL;

    json_decref(reply);
    request_fini(&request);
    return text;
}

static void expect_refused(const char *line, const char *beginning)
{
    char *text = refusal_of(line, strlen(line));

    assert_non_null(text);
    if (strncmp(text, beginning, strlen(beginning)) != 0) {
        fail_msg("%s: %s", line, text);
    }
    free(text);
}

static void what_is_no_request_is_refused_with_its_id(void **state)
{
    (void)state;
    expect_refused("", "{\"id\":null,\"ok\":false,\"err\":\"not JSON");
    expect_refused("garbage", "{\"id\":null,\"ok\":false,\"err\":\"not JSON");
    expect_refused("\xff\xfe", "{\"id\":null,\"ok\":false,\"err\":\"not JSON");
    expect_refused("{\"id\":1,\"op\":\"get\",\"key\":\"k\"", "{\"id\":null,\"ok\":false,\"err\"");
    expect_refused("{\"id\":1} x", "{\"id\":null,\"ok\":false,\"err\":\"not JSON");
    expect_refused("5", "{\"id\":null,\"ok\":false,\"err\":\"a request is a JSON object\"}");
    expect_refused("[]", "{\"id\":null,\"ok\":false,\"err\":\"a request is a JSON object\"}");
    expect_refused("{\"id\":7}", "{\"id\":7,\"ok\":false,\"err\":\"\\\"op\\\" must be");
    expect_refused("{\"id\":[1,{}],\"op\":5}", "{\"id\":[1,{}],\"ok\":false");
    expect_refused("{\"id\":\"x\",\"op\":\"get\"}", "{\"id\":\"x\",\"ok\":false,\"err\":\"\\\"key");
    expect_refused("{\"id\":1,\"op\":\"get\",\"key\":5}", "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"put\",\"key\":\"k\"}", "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"put\",\"key\":\"k\",\"arg\":{\"base64\":\"=\"}}",
                   "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"cas\",\"key\":\"k\",\"arg\":\"v\"}",
                   "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"get\",\"key\":\"\"}",
                   "{\"id\":1,\"ok\":false,\"err\":\"a key has 1 to 4096 bytes\"}");
    expect_refused("{\"id\":1,\"op\":\"moves\"}", "{\"id\":1,\"ok\":false,\"err\":\"\\\"paused");
    expect_refused("{\"id\":1,\"op\":\"moves\",\"paused\":1}", "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"leave\",\"gid\":0}", "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"leave\",\"gid\":2147483648}", "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"leave\",\"gid\":-1}", "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"config\",\"num\":\"x\"}", "{\"id\":1,\"ok\":false");
    expect_refused("{\"id\":1,\"op\":\"status\",\"node\":\"a\\u0000b\"}", "{\"id\":1,\"ok\":false");
}

/* Every prefix of a request, and the request with bytes changed at random: never anything but a
 * request or a refusal that is one line of JSON. */
static void damaged_lines_are_survived(void **state)
{
    static const char line[] =
        "{\"id\":{\"a\":[1,2]},\"op\":\"cas\",\"key\":{\"base64\":\"AAH/\"},\"arg\":null,"
        "\"arg2\":\"w\\u00fc\"}";
    struct rng rng;

    (void)state;
    rng_init(&rng, 99);
    for (size_t len = 0; len < sizeof(line) - 1; len++) {
        char *text = refusal_of(line, len);
        assert_non_null(text);
        free(text);
    }
    for (size_t round = 0; round < 20000; round++) {
        char *copy = malloc(sizeof(line) - 1); /* exact, for the sanitizer */
        char *text;

        memcpy(copy, line, sizeof(line) - 1);
        for (size_t i = 0; i <= round % 3; i++) {
            copy[rng_next(&rng) % (sizeof(line) - 1)] = (char)rng_next(&rng);
        }
        text = refusal_of(copy, sizeof(line) - 1);
        assert_true(text == NULL || strchr(text, '\n') == NULL);
        free(text);
        free(copy);
    }
}

static void deep_nesting_is_refused(void **state)
{
    size_t len = 1000000;
    char *line = malloc(len), *text;

    (void)state;
    memset(line, '[', len);
    text = refusal_of(line, len);
    assert_non_null(text);
    free(text);
    free(line);
}

/* ---- Replies ---- */

static void expect_reply(const char *line, const struct shardkv_result *result, const char *want)
{
    struct request request = must_parse(line);
    json_t *reply = request_reply(&request, result);
    char *text = json_dumps(reply, JSON_COMPACT);

    assert_string_equal(text, want);
    free(text);
    json_decref(reply);
    request_fini(&request);
}

#define GET    "{\"id\":1,\"op\":\"get\",\"key\":\"k\"}"
#define PUT    "{\"id\":1,\"op\":\"put\",\"key\":\"k\",\"arg\":\"v\"}"
#define APPEND "{\"id\":1,\"op\":\"append\",\"key\":\"k\",\"arg\":\"v\"}"
#define DELETE "{\"id\":1,\"op\":\"delete\",\"key\":\"k\"}"
#define CAS    "{\"id\":1,\"op\":\"cas\",\"key\":\"k\",\"arg2\":\"v\"}"
#define JOIN   "{\"id\":1,\"op\":\"join\",\"gid\":1,\"cluster\":\"1=tcp://h:1\"}"

static void what_ran_is_answered_with_its_output(void **state)
{
    const uint32_t eleven = 11, none = 0;
    struct shardkv_result value = {.value = {"v\xff", 2}, .message = ""};
    struct shardkv_result done = {.n_outputs = 1, .outputs = &eleven, .message = ""};
    struct shardkv_result not_there = {.n_outputs = 1, .outputs = &none, .message = ""};
    struct shardkv_result absent = {.code = SHARDKV_NOT_FOUND, .message = ""};
    struct shardkv_result mismatch = {.code = SHARDKV_MISMATCH, .message = ""};
    struct shardkv_result changed = {.config_num = 4, .message = ""};

    (void)state;
    expect_reply(GET, &value, "{\"id\":1,\"ok\":true,\"out\":{\"base64\":\"dv8=\"}}");
    expect_reply(GET, &absent, "{\"id\":1,\"ok\":true,\"out\":null}");
    expect_reply(PUT, &done, "{\"id\":1,\"ok\":true,\"out\":null}");
    expect_reply(APPEND, &done, "{\"id\":1,\"ok\":true,\"out\":11}");
    expect_reply(DELETE, &not_there, "{\"id\":1,\"ok\":true,\"out\":0}");
    expect_reply(CAS, &done, "{\"id\":1,\"ok\":true,\"out\":1}");
    expect_reply(CAS, &mismatch, "{\"id\":1,\"ok\":true,\"out\":0}");
    expect_reply(PAUSE, &changed, "{\"id\":1,\"ok\":true,\"out\":4}");
    expect_reply(JOIN, &changed, "{\"id\":1,\"ok\":true,\"out\":4}");
}

static void an_unknown_end_is_told_from_a_certain_one(void **state)
{
    struct shardkv_result unknown = {.code = SHARDKV_UNKNOWN, .message = "lost"};
    struct shardkv_result timeout = {.code = SHARDKV_TIMEOUT, .message = "late"};

    (void)state;
    expect_reply(PUT, &unknown,
                 "{\"id\":1,\"ok\":\"unknown\",\"err\":\"lost\",\"code\":\"UNKNOWN\"}");
    expect_reply(PAUSE, &unknown,
                 "{\"id\":1,\"ok\":\"unknown\",\"err\":\"lost\",\"code\":\"UNKNOWN\"}");
    expect_reply(JOIN, &unknown,
                 "{\"id\":1,\"ok\":\"unknown\",\"err\":\"lost\",\"code\":\"UNKNOWN\"}");
    expect_reply(PUT, &timeout, "{\"id\":1,\"ok\":false,\"err\":\"late\",\"code\":\"TIMEOUT\"}");
    expect_reply(GET, &timeout, "{\"id\":1,\"ok\":false,\"err\":\"late\",\"code\":\"TIMEOUT\"}");
    expect_reply(GET, &unknown, "{\"id\":1,\"ok\":false,\"err\":\"lost\",\"code\":\"UNKNOWN\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_is_read_with_its_fields),
        cmocka_unit_test(cas_tells_absent_from_empty),
        cmocka_unit_test(what_is_no_request_is_refused_with_its_id),
        cmocka_unit_test(damaged_lines_are_survived),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(what_ran_is_answered_with_its_output),
        cmocka_unit_test(an_unknown_end_is_told_from_a_certain_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
