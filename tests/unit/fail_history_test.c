/* Unit tests of the judge of the failure tests: a test that can't fail would show nothing. Each
 * story is a recorded history, as fail_load writes them, with one thing wrong in it. */
#include <stdarg.h>

#include "tests/cluster/fail_history.h"
#include "tests/cmocka.h"

struct record {
    FILE *file;
    uint64_t now;
};

static void begin(struct record *record)
{
    *record = (struct record){.file = tmpfile()};
    assert_non_null(record->file);
}

/* One operation after the other: each begins when the last has ended. */
static void add(struct record *record, const char *type, const char *key, const char *outcome,
                const char *arg, const char *expect, const char *value, uint32_t output)
{
    uint64_t start = ++record->now, end = ++record->now;

    fprintf(record->file, "%s\t%s\t1\t%s\t%llu\t%llu\t%s\t%s\t%s\t0\t%u\n", type, key, outcome,
            (unsigned long long)start, (unsigned long long)end, arg, expect, value, output);
}

static struct fail_verdict judge(struct record *record, bool good)
{
    struct fail_verdict verdict;
    struct buf text = {0};

    rewind(record->file);
    fail_judge(record->file, &verdict, &text);
    fclose(record->file);
    assert_int_equal(fail_verdict_is_good(&verdict), good);
    assert_true(good || text.len > 0 || verdict.malformed > 0 || verdict.keys_unread > 0);
    buf_fini(&text);
    return verdict;
}

static void what_one_register_would_answer_is_right(void **state)
{
    struct record record;
    struct fail_verdict verdict;

    (void)state;
    begin(&record);
    add(&record, "get", "k", "not-found", "-", "-", "-", 0);
    add(&record, "put", "k", "ok", "1.1;", "-", "-", 0);
    add(&record, "append", "k", "ok", "1.2;", "-", "-", 8);
    add(&record, "cas", "k", "mismatch", "1.3;", "1.1;", "-", 0);
    add(&record, "cas", "k", "ok", "1.4;", "1.1;1.2;", "-", 0);
    add(&record, "put", "k", "refused", "1.5;", "-", "-", 0);
    add(&record, "get", "k", "ok", "-", "-", "1.4;", 0);
    add(&record, "delete", "k", "ok", "-", "-", "-", 1);
    add(&record, "cas", "k", "ok", "1.6;", "-", "-", 0);
    add(&record, "get", "k", "ok", "-", "-", "1.6;", 0);
    verdict = judge(&record, true);
    assert_int_equal(verdict.operations, 10);
    assert_int_equal(verdict.refused, 1);
}

static void a_stale_read_is_found(void **state)
{
    struct record record;

    (void)state;
    begin(&record);
    add(&record, "put", "k", "ok", "1.1;", "-", "-", 0);
    add(&record, "put", "k", "ok", "1.2;", "-", "-", 0);
    add(&record, "get", "k", "ok", "-", "-", "1.1;", 0);
    assert_int_equal(judge(&record, false).linear, LINEAR_NO);
}

static void a_lost_write_is_found(void **state)
{
    struct record record;

    (void)state;
    begin(&record);
    add(&record, "put", "k", "ok", "1.1;", "-", "-", 0);
    add(&record, "get", "k", "not-found", "-", "-", "-", 0);
    assert_int_equal(judge(&record, false).linear, LINEAR_NO);
}

static void a_refused_write_that_shows_is_found(void **state)
{
    struct record record;

    (void)state;
    begin(&record);
    add(&record, "put", "k", "refused", "1.1;", "-", "-", 0);
    add(&record, "get", "k", "ok", "-", "-", "1.1;", 0);
    assert_int_equal(judge(&record, false).linear, LINEAR_NO);
}

static void an_unknown_write_may_show_late_or_never_but_not_twice(void **state)
{
    struct record record;

    (void)state;
    begin(&record);
    add(&record, "append", "k", "unknown", "1.1;", "-", "-", 0);
    add(&record, "append", "j", "unknown", "1.2;", "-", "-", 0);
    add(&record, "get", "k", "not-found", "-", "-", "-", 0);
    add(&record, "get", "k", "ok", "-", "-", "1.1;", 0);
    add(&record, "get", "j", "not-found", "-", "-", "-", 0);
    assert_int_equal(judge(&record, true).unknown, 2);
    begin(&record);
    add(&record, "append", "k", "unknown", "1.1;", "-", "-", 0);
    add(&record, "get", "k", "ok", "-", "-", "1.1;1.1;", 0);
    assert_int_equal(judge(&record, false).linear, LINEAR_NO);
}

static void an_end_that_must_not_be_is_a_violation(void **state)
{
    struct record record;

    (void)state;
    begin(&record);
    add(&record, "get", "k", "bad", "-", "-", "-", 0);
    assert_int_equal(judge(&record, false).bad, 1);
    begin(&record);
    fprintf(record.file, "get\tk\tok\n");
    assert_int_equal(judge(&record, false).malformed, 1);
}

/* Tokens 1.0 (acknowledged), 1.1 (unknown), 1.2 (refused), 1.3 (acknowledged), and what stands
 * there in the end. */
static struct fail_verdict judge_tokens(const char *final, bool good)
{
    struct record record;

    begin(&record);
    add(&record, "token", "t", "ok", "1.0;", "-", "-", 4);
    add(&record, "token", "t", "unknown", "1.1;", "-", "-", 0);
    add(&record, "token", "t", "refused", "1.2;", "-", "-", 0);
    add(&record, "token", "t", "ok", "1.3;", "-", "-", 8);
    if (final != NULL) {
        add(&record, "tokens", "t", "ok", "-", "-", final, 0);
    }
    return judge(&record, good);
}

static void tokens_are_counted(void **state)
{
    (void)state;
    assert_int_equal(judge_tokens("1.0;1.3;", true).tokens_acked, 2);
    assert_int_equal(judge_tokens("1.0;1.3;1.1;", true).tokens_unknown, 1); /* it may come late */
    assert_int_equal(judge_tokens("1.0;", false).tokens_missing, 1);
    assert_int_equal(judge_tokens("-", false).tokens_missing, 2);
    assert_int_equal(judge_tokens("1.0;1.0;1.3;", false).tokens_twice, 1);
    assert_int_equal(judge_tokens("1.0;1.1;1.3;1.1;", false).tokens_twice, 1);
    assert_int_equal(judge_tokens("1.3;1.0;", false).tokens_unordered, 1);
    assert_int_equal(judge_tokens("1.0;1.2;1.3;", false).tokens_refused_there, 1);
    assert_int_equal(judge_tokens("1.0;1.3;7.7;", false).tokens_strange, 1);
    assert_int_equal(judge_tokens("1.0;1.3;7", false).tokens_strange, 1);
    assert_int_equal(judge_tokens(NULL, false).keys_unread, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_register_would_answer_is_right),
        cmocka_unit_test(a_stale_read_is_found),
        cmocka_unit_test(a_lost_write_is_found),
        cmocka_unit_test(a_refused_write_that_shows_is_found),
        cmocka_unit_test(an_unknown_write_may_show_late_or_never_but_not_twice),
        cmocka_unit_test(an_end_that_must_not_be_is_a_violation),
        cmocka_unit_test(tokens_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
