/* The linearizability checker against histories made by hand; the language is in linear_story.h. */
#include "tests/unit/linear_story.h"

#include "tests/cmocka.h"

struct story {
    const char *name;
    enum linear_verdict verdict;
    const char *text;
};

#define GOOD LINEAR_YES
#define BAD  LINEAR_NO

static const struct story stories[] = {
    /* ---- Gets and puts ---- */
    {"nothing happened", GOOD, ""},
    {"a key nobody wrote is not there", GOOD, "0-1 c1 get = -"},
    {"a get sees the put before it", GOOD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = a v1\n"},
    {"not found after an acknowledged put", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = -\n"},
    {"not found while the put goes on", GOOD,
     "0-10  c1 put a = ok\n"
     "5-30  c2 get = -\n"},
    {"a stale read after an acknowledged put", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c1 put b = ok\n"
     "40-50 c2 get = a v1\n"},
    {"a stale read that overlaps the put", GOOD,
     "0-10  c1 put a = ok\n"
     "20-45 c1 put b = ok\n"
     "40-50 c2 get = a v1\n"},
    {"a stale read right at the end: the end came first", BAD,
     "0-10  c1 put a = ok\n"
     "10-20 c1 put b = ok\n"
     "20-30 c2 get = a v1\n"},
    {"a read from the future", BAD,
     "0-10  c1 get = a v1\n"
     "20-30 c2 put a = ok\n"},
    {"a value that nobody wrote", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = z v1\n"},
    {"half a value", BAD,
     "0-10  c1 put abc = ok\n"
     "20-30 c2 get = ab v1\n"},
    {"two reads going back", BAD,
     "0-10   c1 put a = ok\n"
     "20-100 c1 put b = ok\n"
     "30-40  c2 get = b v2\n"
     "50-60  c3 get = a v1\n"},
    {"two reads going forward", GOOD,
     "0-10   c1 put a = ok\n"
     "20-100 c1 put b = ok\n"
     "30-40  c2 get = a v1\n"
     "50-60  c3 get = b v2\n"},
    {"concurrent puts seen in two orders", BAD,
     "0-100  c1 put a = ok\n"
     "0-100  c2 put b = ok\n"
     "10-20  c3 get = a v1\n"
     "30-40  c3 get = b v2\n"
     "50-60  c4 get = a v3\n"},
    {"a put that an acknowledged later one must have hidden", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 put b = ok\n"
     "40-50 c3 get = b v2\n"
     "60-70 c3 get = a v3\n"},
    {"concurrent puts, and reads that need a search", GOOD,
     "0-100  c1 put a = ok\n"
     "0-100  c2 put b = ok\n"
     "0-100  c3 put c = ok\n"
     "0-100  c4 put d = ok\n"
     "10-90  c5 get = d v3\n"
     "15-60  c6 get = a v7\n"
     "70-95  c6 get = c v8\n"
     "110-120 c7 get = b v9\n"},
    {"and the same where the last read can't be", BAD,
     "0-100  c1 put a = ok\n"
     "0-100  c2 put b = ok\n"
     "0-100  c3 put c = ok\n"
     "0-60   c4 put d = ok\n"
     "70-90  c5 get = c v8\n"
     "110-120 c7 get = d v9\n"},
    {"the same value written twice may be seen again", GOOD,
     "0-10  c1 put a = ok\n"
     "20-30 c1 put b = ok\n"
     "40-50 c1 put a = ok\n"
     "60-70 c2 get = a v3\n"},
    {"different keys know nothing of each other", GOOD,
     "0-10  c1 k1 put a = ok\n"
     "20-30 c1 k2 put b = ok\n"
     "40-50 c2 k1 get = a v1\n"
     "60-70 c2 k2 get = b v1\n"},
    {"one broken key breaks the history", BAD,
     "0-10  c1 k1 put a = ok\n"
     "20-30 c1 k2 put b = ok\n"
     "40-50 c2 k1 get = a v1\n"
     "60-70 c2 k2 get = a v1\n"},
    /* ---- Versions ---- */
    {"versions that go back", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = a v5\n"
     "40-50 c1 put b = ok\n"
     "60-70 c2 get = b v4\n"},
    {"versions that go back, and only time tells", BAD,
     "0-10   c1 put a = ok\n"
     "20-100 c1 put b = ok\n"
     "30-40  c2 get = b v4\n"
     "20-90  c3 get = a v5\n"},
    {"the same version with different values", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = a v5\n"
     "40-50 c1 put b = ok\n"
     "60-70 c2 get = b v5\n"},
    {"the same version with a write of the same value between", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = a v5\n"
     "40-50 c1 put a = ok\n"
     "60-70 c2 get = a v5\n"},
    {"a version that grew without a write", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = a v5\n"
     "60-70 c2 get = a v6\n"},
    {"a version that grew by a write of unknown end", GOOD,
     "0-10  c1 put a = ok\n"
     "15-?  c3 put a = ?\n"
     "20-30 c2 get = a v5\n"
     "60-70 c2 get = a v6\n"},
    {"version and time disagree about two concurrent reads", GOOD,
     "0-100 c1 put a = ok\n"
     "0-100 c2 put b = ok\n"
     "10-90 c3 get = b v6\n"
     "20-80 c4 get = a v5\n"},
    {"a read without a version fits anywhere its value does", GOOD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 get = a v5\n"
     "40-50 c2 get = a v0\n"
     "60-70 c2 get = a v5\n"},
    /* ---- Appends ---- */
    {"appends in a row", GOOD,
     "0-10  c1 append a = 1\n"
     "20-30 c2 append b = 2\n"
     "40-50 c3 get = ab v2\n"},
    {"a lost update", BAD,
     "0-10  c1 append a = 1\n"
     "20-30 c2 append b = 2\n"
     "40-50 c3 get = b v2\n"},
    {"a double append", BAD,
     "0-10  c1 append a = 1\n"
     "20-30 c2 append b = 2\n"
     "40-50 c3 get = abb v3\n"},
    {"appends in the wrong order", BAD,
     "0-10  c1 append a = 1\n"
     "20-30 c2 append b = 2\n"
     "40-50 c3 get = ba v2\n"},
    {"an append's length is wrong", BAD,
     "0-10  c1 append a = 1\n"
     "20-30 c2 append b = 3\n"},
    {"lengths tell the order of concurrent appends", GOOD,
     "0-100 c1 append aa = 5\n"
     "0-100 c2 append bbb = 3\n"
     "200-210 c3 get = bbbaa v2\n"},
    {"lengths tell another order than the value", BAD,
     "0-100 c1 append aa = 5\n"
     "0-100 c2 append bbb = 3\n"
     "200-210 c3 get = aabbb v2\n"},
    {"an append of unknown end that was done twice", BAD,
     "0-?   c1 append a = ?\n"
     "40-50 c3 get = aa v2\n"},
    {"an append of unknown end that lengths show", GOOD,
     "0-10  c2 append b = 1\n"
     "15-?  c1 append a = ?\n"
     "20-30 c2 append c = 3\n"},
    {"a length that no append of unknown end explains", BAD,
     "0-10  c2 append b = 1\n"
     "15-?  c1 append a = ?\n"
     "20-30 c2 append c = 4\n"},
    {"an append between a put and its read", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 append b = 2\n"
     "40-50 c3 put c = ok\n"
     "60-70 c3 get = cb v3\n"},
    /* ---- Deletes ---- */
    {"deleted and gone", GOOD,
     "0-10  c1 put a = ok\n"
     "20-30 c1 delete = 1\n"
     "40-50 c2 get = -\n"},
    {"deleted and still there", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c1 delete = 1\n"
     "40-50 c2 get = a v1\n"},
    {"a delete that says it removed nothing", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c1 delete = 0\n"},
    {"a delete that says it removed what was never there", BAD, "20-30 c1 delete = 1"},
    {"two deletes of one key both removed it", BAD,
     "0-10  c1 put a = ok\n"
     "20-40 c1 delete = 1\n"
     "20-40 c2 delete = 1\n"},
    {"two deletes of one key, one removed it", GOOD,
     "0-10  c1 put a = ok\n"
     "20-40 c1 delete = 0\n"
     "20-40 c2 delete = 1\n"},
    {"an append after a delete begins anew", GOOD,
     "0-10  c1 append a = 1\n"
     "20-30 c1 delete = 1\n"
     "40-50 c1 append a = 1\n"
     "60-70 c2 get = a v3\n"},
    {"a delete of unknown end that shows", GOOD,
     "0-10  c1 put a = ok\n"
     "5-?   c2 delete = ?\n"
     "20-30 c3 get = a v1\n"
     "40-50 c3 get = -\n"},
    {"a delete of unknown end can't undo itself", BAD,
     "0-10  c1 put a = ok\n"
     "5-?   c2 delete = ?\n"
     "20-30 c3 get = -\n"
     "40-50 c3 get = a v1\n"},
    /* ---- Compare and set ---- */
    {"two of one value both succeed", BAD,
     "0-10  c1 put a = ok\n"
     "20-40 c1 cas a b = ok\n"
     "20-40 c2 cas a c = ok\n"},
    {"two of one value, the second finds the first's", GOOD,
     "0-10  c1 put a = ok\n"
     "20-40 c1 cas b c = ok\n"
     "20-40 c2 cas a b = ok\n"
     "50-60 c3 get = c v3\n"},
    {"two creations both succeed", BAD,
     "20-40 c1 cas - b = ok\n"
     "20-40 c2 cas - c = ok\n"},
    {"two creations, one fails", GOOD,
     "20-40 c1 cas - b = ok\n"
     "20-40 c2 cas - c = mismatch\n"
     "50-60 c3 get = b v1\n"},
    {"a mismatch although the value is that", BAD,
     "0-10  c1 put a = ok\n"
     "20-40 c1 cas a b = mismatch\n"},
    {"a mismatch although there is no key", BAD, "20-40 c1 cas - b = mismatch"},
    {"a mismatch that wrote", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c1 cas x b = mismatch\n"
     "50-60 c3 get = b v2\n"},
    {"a mismatch while the value passes by", GOOD,
     "0-10  c1 put a = ok\n"
     "20-90 c1 cas a b = mismatch\n"
     "30-40 c2 put c = ok\n"
     "50-60 c2 put a = ok\n"
     "95-99 c3 get = a v3\n"},
    {"a success on a value that never was", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c1 cas x b = ok\n"},
    {"one of unknown end that shows", GOOD,
     "0-10  c1 put a = ok\n"
     "20-?  c1 cas a b = ?\n"
     "50-60 c3 get = b v2\n"},
    {"one of unknown end shows without its condition", BAD,
     "0-10  c1 put a = ok\n"
     "20-?  c1 cas x b = ?\n"
     "50-60 c3 get = b v2\n"},
    {"unknown ends one after the other, then a mismatch", GOOD,
     "0-10  c1 put a = ok\n"
     "20-?  c1 cas b c = ?\n"
     "20-?  c2 cas a b = ?\n"
     "50-60 c3 cas a x = mismatch\n"
     "70-80 c3 cas c d = ok\n"},
    /* ---- Ends that are not known ---- */
    {"a put of unknown end that shows", GOOD,
     "0-?   c1 put a = ?\n"
     "20-30 c2 get = a v1\n"},
    {"a put of unknown end that never shows", GOOD,
     "0-?   c1 put a = ?\n"
     "20-30 c2 get = -\n"
     "40-50 c2 get = -\n"},
    {"it shows after a later acknowledged put", GOOD,
     "0-?   c1 put a = ?\n"
     "20-30 c2 put b = ok\n"
     "40-50 c2 get = b v1\n"
     "60-70 c2 get = a v2\n"},
    {"it shows, and then what it hid comes back", BAD,
     "0-?   c1 put a = ?\n"
     "20-30 c2 put b = ok\n"
     "40-50 c2 get = a v2\n"
     "60-70 c2 get = b v3\n"},
    {"it shows twice", BAD,
     "0-?   c1 put a = ?\n"
     "20-30 c2 get = a v1\n"
     "40-50 c2 put b = ok\n"
     "60-70 c2 get = a v3\n"},
    {"it shows before it began", BAD,
     "0-10  c2 get = a v1\n"
     "20-?  c1 put a = ?\n"},
    {"a delete removed what a put of unknown end wrote", GOOD,
     "0-?   c1 put a = ?\n"
     "20-30 c2 delete = 1\n"},
    {"one put of unknown end can't be removed twice", BAD,
     "0-?   c1 put a = ?\n"
     "20-30 c2 delete = 1\n"
     "40-50 c2 delete = 1\n"},
    {"a put pending at the end that shows", GOOD,
     "0-?   c1 put a = ...\n"
     "20-30 c2 get = a v1\n"},
    {"a get pending at the end says nothing", GOOD,
     "0-10  c1 put a = ok\n"
     "20-?  c2 get = ...\n"},
    {"a refused put that shows", BAD,
     "0-10  c1 put a = refused\n"
     "20-30 c2 get = a v1\n"},
    {"a refused put that never shows", GOOD,
     "0-10  c1 put a = refused\n"
     "20-30 c2 get = -\n"},
    {"a refused append in the middle", BAD,
     "0-10  c1 append a = 1\n"
     "20-30 c2 append b = refused\n"
     "40-50 c1 append c = 3\n"
     "60-70 c3 get = abc v3\n"},
    {"a refused delete that deleted", BAD,
     "0-10  c1 put a = ok\n"
     "20-30 c2 delete = refused\n"
     "40-50 c3 get = -\n"},
};

static void test_stories(void **state)
{
    size_t wrong = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        struct history *history = story_history(stories[i].text);
        struct buf text = {0};
        enum linear_verdict verdict = linear_check(history, 0, &text);
        if (verdict != stories[i].verdict) {
            fprintf(stderr, "%s: %d instead of %d\n%s%.*s\n", stories[i].name, (int)verdict,
                    (int)stories[i].verdict, stories[i].text, (int)text.len,
                    (const char *)text.data);
            wrong++;
        }
        /* Only what fails is explained. */
        assert_int_equal(verdict == LINEAR_YES, text.len == 0);
        buf_fini(&text);
        history_destroy(&history);
    }
    assert_int_equal(wrong, 0);
}

static const char search_text[] = "0-100  c1 put a = ok\n"
                                  "0-100  c2 put b = ok\n"
                                  "0-100  c3 append c = 2\n"
                                  "110-120 c4 get = bc v9\n";

static void test_a_bound_too_small_decides_nothing(void **state)
{
    struct history *history = story_history(search_text);
    struct buf text = {0};

    (void)state;
    assert_int_equal(linear_check(history, 1, &text), LINEAR_UNDECIDED);
    assert_non_null(memmem(text.data, text.len, "not decided", 11));
    assert_int_equal(linear_check(history, 1, NULL), LINEAR_UNDECIDED);
    assert_int_equal(linear_check(history, 100, NULL), LINEAR_YES);
    buf_fini(&text);
    history_destroy(&history);
}

static void test_a_broken_key_outweighs_an_undecided_one(void **state)
{
    struct history *history = story_history("0-10 c1 k1 put a = ok\n"
                                            "20-30 c1 k1 get = a v1\n"
                                            "40-50 c1 k1 get = a v1\n"
                                            "0-10 c1 k2 get = x v1\n");

    (void)state;
    assert_int_equal(linear_check(history, 2, NULL), LINEAR_NO);
    history_destroy(&history);
}

static bool says(const struct buf *text, const char *what)
{
    return memmem(text->data, text->len, what, strlen(what)) != NULL;
}

static void test_the_explanation_names_what_cannot_follow(void **state)
{
    struct history *history = story_history("0-10   c1 k7 put first = ok\n"
                                            "1020-1030 c2 k7 append <second> = 13\n"
                                            "2040-2050 c3 k7 get = first v1\n");
    struct buf text = {0};

    (void)state;
    assert_int_equal(linear_check(history, 0, &text), LINEAR_NO);
    assert_true(says(&text, "key 7"));
    assert_true(says(&text, "client 1 put \"first\" = ok, 0.000 to 0.010 ms"));
    assert_true(says(&text, "client 3 get = \"first\" version 1, 2.040 to 2.050 ms"));
    buf_fini(&text);
    history_destroy(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_a_bound_too_small_decides_nothing),
        cmocka_unit_test(test_a_broken_key_outweighs_an_undecided_one),
        cmocka_unit_test(test_the_explanation_names_what_cannot_follow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
