/* One seed, one run: two runs of a seed in one process record the same bytes, in every profile;
 * another seed, and another fault less, give another record. What the seed drew for one purpose
 * does not depend on what is asked of another. */
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/util/mem.h"
#include "tests/simulator/run.h"

struct record {
    char *text;
    size_t len;
    struct run_report report;
};

static void record_run(uint64_t seed, const struct plan_wishes *wishes, struct record *record)
{
    struct run *run = mem_zalloc(sizeof(*run));
    FILE *file = open_memstream(&record->text, &record->len);

    assert_non_null(file);
    plan_make(&run->plan, seed, wishes);
    run_all(run, file);
    fclose(file);
    record->report = run->report;
    mem_free(run);
}

/* Tells the first line that differs. */
static void must_be_equal(const struct record *a, const struct record *b)
{
    size_t line = 0;

    for (size_t i = 0; i < a->len && i < b->len; i++) {
        if (a->text[i] != b->text[i]) {
            fail_msg("the records differ at byte %zu:\n%.120s\n%.120s", i, a->text + line,
                     b->text + line);
        }
        line = a->text[i] == '\n' ? i + 1 : line;
    }
    assert_int_equal(a->len, b->len);
    assert_memory_equal(&a->report, &b->report, sizeof(a->report));
}

static bool are_equal(const struct record *a, const struct record *b)
{
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static void one_seed_gives_one_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_profiles; i++) {
        struct plan_wishes wishes = {.profile = &profiles[i], .steps = 60};

        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct record first, second;

            record_run(seed * 1000 + i, &wishes, &first);
            record_run(seed * 1000 + i, &wishes, &second);
            assert_true(first.len > 10000);
            must_be_equal(&first, &second);
            free(first.text);
            free(second.text);
        }
    }
}

static void another_seed_gives_another_run(void **state)
{
    struct plan_wishes wishes = {.profile = profile_find("standard"), .steps = 30};
    struct record first, second;

    (void)state;
    record_run(1, &wishes, &first);
    record_run(2, &wishes, &second);
    assert_false(are_equal(&first, &second));
    free(first.text);
    free(second.text);
}

static void a_fault_less_leaves_the_rest_of_the_plan(void **state)
{
    struct plan_wishes wishes = {.profile = profile_find("all"), .steps = 50};
    struct plan all, less;

    (void)state;
    plan_make(&all, 7, &wishes);
    wishes.without[FAULT_CRASH] = true;
    plan_make(&less, 7, &wishes);
    assert_true(all.fault_ppm[FAULT_CRASH] > 0);
    assert_int_equal(less.fault_ppm[FAULT_CRASH], 0);
    less.fault_ppm[FAULT_CRASH] = all.fault_ppm[FAULT_CRASH];
    assert_memory_equal(&all, &less, sizeof(all));
}

static void limits_only_cut_what_was_drawn(void **state)
{
    struct plan_wishes wishes = {.profile = profile_find("standard")};
    struct plan free_plan, small;

    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        plan_make(&free_plan, seed, &wishes);
        wishes.max_ctrlers = wishes.max_groups = wishes.max_replicas = wishes.max_clients = 2;
        plan_make(&small, seed, &wishes);
        wishes.max_ctrlers = wishes.max_groups = wishes.max_replicas = wishes.max_clients = 0;
        assert_true(small.n_ctrlers <= 2 && small.n_groups <= 2 && small.n_clients <= 2);
        assert_true(small.replicas[0] <= 2);
        assert_true(free_plan.n_groups > 2 || small.n_groups == free_plan.n_groups);
        assert_int_equal(small.n_keys, free_plan.n_keys);
        assert_memory_equal(small.fault_ppm, free_plan.fault_ppm, sizeof(small.fault_ppm));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_seed_gives_one_run),
        cmocka_unit_test(another_seed_gives_another_run),
        cmocka_unit_test(a_fault_less_leaves_the_rest_of_the_plan),
        cmocka_unit_test(limits_only_cut_what_was_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
