/* A package index becomes records with unique keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/packages_index.h"
#include "tests/cmocka.h"

/* "key:length" of each record. */
static void expect_records(const char *text, size_t limit, const char *want)
{
    struct packages_index index;
    char got[1024] = "";
    size_t bytes = 0;

    packages_index_parse(&index, text, strlen(text), limit);
    for (size_t i = 0; i < index.n; i++) {
        char one[200];
        snprintf(one, sizeof(one), "%s%s:%zu", i > 0 ? " " : "", index.records[i].key,
                 index.records[i].value_len);
        strcat(got, one);
        bytes += index.records[i].value_len;
        assert_true(index.records[i].value >= text);
        assert_memory_equal(index.records[i].value, "Package:", 8);
    }
    assert_string_equal(got, want);
    assert_int_equal(index.bytes, bytes);
    packages_index_fini(&index);
}

static void stanzas_are_records(void **state)
{
    (void)state;
    expect_records("", 0, "");
    expect_records("\n\n\n", 0, "");
    expect_records("Package: a\nVersion: 1\n\nPackage: bb\n", 0, "a:21 bb:11");
    expect_records("\nPackage: a\n\n\n\nPackage: b", 0, "a:10 b:10");
}

static void the_name_is_the_field_at_the_beginning_of_a_line(void **state)
{
    const char text[] = "Source: x\nDescription: y\n Package: no\nXPackage: no\nPackage:  yes \n";
    struct packages_index index;

    (void)state;
    packages_index_parse(&index, text, strlen(text), 0);
    assert_int_equal(index.n, 1);
    assert_string_equal(index.records[0].key, "yes");
    packages_index_fini(&index);
}

static void a_stanza_without_a_name_is_no_record(void **state)
{
    (void)state;
    expect_records("Version: 1\n\nPackage: a\n\nPackage:\n\nPackage\n", 0, "a:10");
}

static void further_versions_have_keys_of_their_own(void **state)
{
    (void)state;
    expect_records("Package: a\nVersion: 1\n\nPackage: a\nVersion: 2\n\nPackage: a\nVersion: 3\n",
                   0, "a:21 a=2:21 a=3:21");
}

static void exact_repeats_are_left_out(void **state)
{
    (void)state;
    expect_records("Package: a\nVersion: 1\n\nPackage: a\nVersion: 1\n\nPackage: a\nVersion: 2\n\n"
                   "Package: a\nVersion: 2\n\nPackage: a\nVersion: 1\n",
                   0, "a:21 a=2:21");
}

static void the_same_version_with_other_text_is_kept(void **state)
{
    (void)state;
    expect_records("Package: a\nVersion: 1\n\nPackage: a\nVersion: 1\nX: 1\n\n"
                   "Package: a\nVersion: 1\nX: 2\n\nPackage: a\nVersion: 1\nX: 2\n",
                   0, "a:21 a=1:26 a=1#2:26");
}

static void the_limit_counts_records(void **state)
{
    (void)state;
    expect_records("Package: a\n\nPackage: a\n\nPackage: b\n\nPackage: c\n", 2, "a:10 b:10");
    expect_records("Package: a\n\nPackage: b\n", 5, "a:10 b:10");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stanzas_are_records),
        cmocka_unit_test(the_name_is_the_field_at_the_beginning_of_a_line),
        cmocka_unit_test(a_stanza_without_a_name_is_no_record),
        cmocka_unit_test(further_versions_have_keys_of_their_own),
        cmocka_unit_test(exact_repeats_are_left_out),
        cmocka_unit_test(the_same_version_with_other_text_is_kept),
        cmocka_unit_test(the_limit_counts_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
