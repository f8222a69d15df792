/* Histories: how a clerk's end becomes an outcome, and what ends the test. */
#include "tests/sim/history.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cmocka.h"
#include "tests/sim/linear.h"

static size_t begin(struct history *history, enum history_type type)
{
    return history_begin(history, &(struct history_operation){.key = 3,
                                                              .client = 2,
                                                              .type = type,
                                                              .condition = {.type = KV_IF_ABSENT},
                                                              .argument = slice_text("abc"),
                                                              .start_us = 10});
}

static enum history_outcome outcome(enum history_type type, enum status status)
{
    struct kv_write_result result = {.status = status, .n_outputs = 1};
    struct history *history = history_create();
    size_t number = begin(history, type);
    enum history_outcome outcome;

    history_end(history, number, 20, &(struct clerk_end){.status = status, .result = &result});
    outcome = history_at(history, number)->outcome;
    history_destroy(&history);
    return outcome;
}

/* Runs it in a child, which must abort. */
static void must_abort(void (*run)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        freopen("/dev/null", "w", stderr);
        signal(SIGABRT, SIG_DFL);
        run();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_statuses_become_outcomes(void **state)
{
    (void)state;
    assert_int_equal(outcome(HISTORY_GET, ST_OK), HISTORY_OK);
    assert_int_equal(outcome(HISTORY_GET, ST_NOT_FOUND), HISTORY_NOT_FOUND);
    assert_int_equal(outcome(HISTORY_GET, ST_TIMEOUT), HISTORY_REFUSED);
    assert_int_equal(outcome(HISTORY_PUT, ST_OK), HISTORY_OK);
    assert_int_equal(outcome(HISTORY_CAS, ST_MISMATCH), HISTORY_MISMATCH);
    assert_int_equal(outcome(HISTORY_APPEND, ST_UNKNOWN), HISTORY_UNKNOWN);
    assert_int_equal(outcome(HISTORY_APPEND, ST_TOO_LARGE), HISTORY_REFUSED);
    assert_int_equal(outcome(HISTORY_DELETE, ST_CANCELLED), HISTORY_REFUSED);
    assert_int_equal(outcome(HISTORY_PUT, ST_UNAVAILABLE), HISTORY_REFUSED);
}

static void get_of_unknown_end(void)
{
    outcome(HISTORY_GET, ST_UNKNOWN);
}

static void put_that_mismatches(void)
{
    outcome(HISTORY_PUT, ST_MISMATCH);
}

static void put_of_what_is_not_found(void)
{
    outcome(HISTORY_PUT, ST_NOT_FOUND);
}

static void what_only_servers_say(void)
{
    outcome(HISTORY_PUT, ST_NOT_LEADER);
}

static void end_twice(void)
{
    struct history *history = history_create();
    size_t number = begin(history, HISTORY_PUT);

    history_end(history, number, 20, &(struct clerk_end){.status = ST_OK});
    history_end(history, number, 20, &(struct clerk_end){.status = ST_OK});
}

static void append_without_its_length(void)
{
    struct history *history = history_create();

    history_end(history, begin(history, HISTORY_APPEND), 20, &(struct clerk_end){.status = ST_OK});
}

static void test_an_end_that_cannot_be_ends_the_test(void **state)
{
    (void)state;
    must_abort(get_of_unknown_end);
    must_abort(put_that_mismatches);
    must_abort(put_of_what_is_not_found);
    must_abort(what_only_servers_say);
    must_abort(end_twice);
    must_abort(append_without_its_length);
}

static void test_everything_is_copied(void **state)
{
    struct history *history = history_create();
    char text[] = "abc";
    uint32_t outputs = 7;
    struct kv_write_result result = {.n_outputs = 2, .outputs = {5, outputs}};
    size_t get, append;

    (void)state;
    append = begin(history, HISTORY_APPEND);
    get = begin(history, HISTORY_GET);
    history_end_output(history, append, 30, &(struct clerk_end){.result = &result}, 1);
    history_end(history, get, 40, &(struct clerk_end){.value = slice_of(text, 3), .version = 9});
    text[0] = 'x';
    assert_int_equal(history_count(history), 2);
    assert_int_equal(history_at(history, append)->output, 7);
    assert_int_equal(history_at(history, append)->end_us, 30);
    assert_true(slice_equal(history_at(history, get)->value, slice_text("abc")));
    assert_int_equal(history_at(history, get)->version, 9);
    history_destroy(&history);
    assert_null(history);
}

static void broken_history(void)
{
    struct history *history = history_create();

    history_add(history, &(struct history_operation){.type = HISTORY_GET,
                                                     .outcome = HISTORY_OK,
                                                     .value = slice_text("never"),
                                                     .version = 1,
                                                     .end_us = 1});
    linear_must_hold(history);
}

static void test_a_history_that_must_hold_and_does_not_ends_the_test(void **state)
{
    struct history *history = history_create();

    (void)state;
    begin(history, HISTORY_PUT);
    linear_must_hold(history);
    history_destroy(&history);
    must_abort(broken_history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses_become_outcomes),
        cmocka_unit_test(test_an_end_that_cannot_be_ends_the_test),
        cmocka_unit_test(test_everything_is_copied),
        cmocka_unit_test(test_a_history_that_must_hold_and_does_not_ends_the_test),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
