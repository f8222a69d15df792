/* Lines of the shell become words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "client/cli_words.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"

/* The words, each in brackets. */
static void expect_words(const char *line, const char *want)
{
    char *copy = strdup(line), got[1024] = "";
    char *words[WORDS_MAX + 1];
    const char *wrong = "";
    int n = words_split(copy, words, &wrong);

    if (n < 0) {
        fail_msg("%s: %s", line, wrong);
    }
    for (int i = 0; i < n; i++) {
        strcat(strcat(strcat(got, "["), words[i]), "]");
    }
    assert_null(words[n]);
    assert_string_equal(got, want);
    free(copy);
}

static void expect_wrong(const char *line)
{
    char *copy = strdup(line);
    char *words[WORDS_MAX + 1];
    const char *wrong = NULL;

    assert_int_equal(words_split(copy, words, &wrong), -1);
    assert_non_null(wrong);
    free(copy);
}

static void blanks_separate_words(void **state)
{
    (void)state;
    expect_words("", "");
    expect_words(" \t\r\n", "");
    expect_words("get k", "[get][k]");
    expect_words("  put \t k  v\n", "[put][k][v]");
}

static void quotes_keep_words_together(void **state)
{
    (void)state;
    expect_words("put k \"two words\"", "[put][k][two words]");
    expect_words("put \"\" ''", "[put][][]");
    expect_words("a\"b c\"d'e f'", "[ab cde f]");
    expect_words("'a\\nb\"c'", "[a\\nb\"c]");
    expect_words("a\\ b \\\"", "[a b][\"]");
    expect_words("\\", "[\\]");
}

static void escapes_are_those_of_printed_values(void **state)
{
    (void)state;
    expect_words("\"\\n\\t\\r\\\\\\\"\\x41\\xfF\"", "[\n\t\r\\\"A\xff]");
    expect_wrong("\"\\q\"");
    expect_wrong("\"\\x4\"");
    expect_wrong("\"\\x\"");
    expect_wrong("\"\\x00\"");
}

static void open_quotes_are_refused(void **state)
{
    (void)state;
    expect_wrong("put k \"v");
    expect_wrong("put k 'v");
    expect_wrong("\"\\");
}

static void too_many_words_are_refused(void **state)
{
    char line[2 * WORDS_MAX + 3];

    (void)state;
    for (size_t i = 0; i < sizeof(line); i++) {
        line[i] = i % 2 == 0 ? 'w' : ' ';
    }
    line[2 * WORDS_MAX] = '\0';
    {
        char copy[sizeof(line)], *words[WORDS_MAX + 1];
        const char *wrong;
        memcpy(copy, line, sizeof(copy));
        assert_int_equal(words_split(copy, words, &wrong), WORDS_MAX);
    }
    line[2 * WORDS_MAX] = 'w';
    line[2 * WORDS_MAX + 1] = '\0';
    expect_wrong(line);
}

/* What `get` prints can be typed back within quotes. */
static void printed_values_can_be_typed_back(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    for (size_t round = 0; round < 2000; round++) {
        char value[40], *text = NULL, *quoted, *words[WORDS_MAX + 1];
        size_t len = rng_next(&rng) % (sizeof(value) - 1), size = 0;
        const char *wrong = "";
        FILE *file = open_memstream(&text, &size);

        for (size_t i = 0; i < len; i++) {
            value[i] = (char)(1 + rng_next(&rng) % 255);
            value[i] = (char)(value[i] == '"' ? '\'' : value[i]);
        }
        value[len] = '\0';
        cli_print_text(file, (struct shardkv_bytes){value, len});
        fclose(file);
        quoted = malloc(size + 3);
        sprintf(quoted, "\"%s\"", text);
        assert_int_equal(words_split(quoted, words, &wrong), 1);
        assert_string_equal(words[0], value);
        free(quoted);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blanks_separate_words),
        cmocka_unit_test(quotes_keep_words_together),
        cmocka_unit_test(escapes_are_those_of_printed_values),
        cmocka_unit_test(open_quotes_are_refused),
        cmocka_unit_test(too_many_words_are_refused),
        cmocka_unit_test(printed_values_can_be_typed_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
