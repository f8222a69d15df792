/* The linearizability checker against histories made by chance: of a register that takes every
 * operation at one moment between its start and its end (always linearizable), the same with one
 * answer made wrong, and small ones of any kind, where a checker that tries every order must agree.
 */
#include <stdio.h>
#include <time.h>

#include "raft/util/assert.h"
#include "tests/cmocka.h"
#include "tests/sim/linear.h"
#include "tests/unit/linear_register.h"

/* ---- Every order ---- */

struct brute {
    const struct history_operation *operations[16];
    size_t n;
    bool placed[16];
};

static bool is_optional(const struct history_operation *operation)
{
    return operation->outcome == HISTORY_PENDING || operation->outcome == HISTORY_UNKNOWN;
}

static bool precedes(const struct history_operation *a, const struct history_operation *b)
{
    return !is_optional(a) &&
           (a->end_us < b->start_us || (a->end_us == b->start_us && a->end_order < b->begin_order));
}

static bool answers_agree(const struct history_operation *told, const struct history_operation *is)
{
    if (is_optional(told)) {
        return true;
    }
    if (told->outcome != is->outcome) {
        return false;
    }
    if (told->outcome != HISTORY_OK) {
        return true;
    }
    if (told->type == HISTORY_GET) {
        return slice_equal(told->value, is->value);
    }
    return (told->type != HISTORY_APPEND && told->type != HISTORY_DELETE) ||
           told->output == is->output;
}

/* A get's version against the last one seen: the same if nothing was written since, else higher. */
static bool version_fits(const struct history_operation *told, uint64_t seen, bool written)
{
    return told->type != HISTORY_GET || told->outcome != HISTORY_OK || told->version == 0 ||
           (written ? told->version > seen : told->version == seen);
}

static bool brute_from(struct brute *brute, const struct cell *cell, uint64_t seen, bool written)
{
    bool complete = true, found = false;

    for (size_t i = 0; i < brute->n; i++) {
        complete &= brute->placed[i] || is_optional(brute->operations[i]);
    }
    for (size_t i = 0; i < brute->n && !complete && !found; i++) {
        const struct history_operation *told = brute->operations[i];
        struct history_operation is = *told;
        struct cell next = {.exists = cell->exists};
        struct buf memory = {0};
        uint64_t counter = 0;
        bool may = !brute->placed[i];

        for (size_t j = 0; j < brute->n && may; j++) {
            may = brute->placed[j] || !precedes(brute->operations[j], told);
        }
        buf_put_slice(&next.value, buf_slice(&cell->value));
        cell_do(&next, &is, &counter, &memory);
        if (may && answers_agree(told, &is) && version_fits(told, seen, written)) {
            bool read =
                told->type == HISTORY_GET && told->outcome == HISTORY_OK && told->version > 0;
            brute->placed[i] = true;
            found = brute_from(brute, &next, read ? told->version : seen,
                               read ? false : written || counter > 0);
            brute->placed[i] = false;
        }
        buf_fini(&memory);
        buf_fini(&next.value);
    }
    return complete || found;
}

/* One key. */
static enum linear_verdict brute_check(const struct history *history)
{
    struct brute brute = {0};
    struct cell cell = {0};

    for (size_t i = 0; i < history_count(history); i++) {
        const struct history_operation *operation = history_at(history, i);
        if (operation->outcome != HISTORY_REFUSED &&
            !(operation->type == HISTORY_GET && is_optional(operation))) {
            ASSERT(brute.n < 16);
            brute.operations[brute.n++] = operation;
        }
    }
    return brute_from(&brute, &cell, 0, true) ? LINEAR_YES : LINEAR_NO;
}

/* ---- The tests ---- */

static void fail_with(const struct history *history, uint64_t seed, enum linear_verdict verdict)
{
    struct buf text = {0};

    for (size_t i = 0; i < history_count(history) && i < 40; i++) {
        buf_printf(&text, "k%zu ", history_at(history, i)->key);
        history_print(history_at(history, i), &text);
        buf_printf(&text, "\n");
    }
    linear_check(history, 0, &text);
    fail_msg("seed %llu: the checker says %d\n%.*s", (unsigned long long)seed, (int)verdict,
             (int)text.len, (const char *)text.data);
}

static void must_be(const struct history *history, enum linear_verdict wanted, uint64_t seed)
{
    enum linear_verdict verdict = linear_check(history, 0, NULL);

    if (verdict != wanted) {
        fail_with(history, seed, verdict);
    }
}

static struct plan draw_plan(struct rng *rng)
{
    struct plan plan = {.n_keys = (uint32_t)rng_between(rng, 1, 3),
                        .n_clients = (uint32_t)rng_between(rng, 1, 8),
                        .n_operations = (uint32_t)rng_between(rng, 1, 40),
                        .get = (uint32_t)rng_between(rng, 1, 5),
                        .put = (uint32_t)rng_below(rng, 4),
                        .append = (uint32_t)rng_below(rng, 4),
                        .delete = (uint32_t)rng_below(rng, 2),
                        .cas = (uint32_t)rng_below(rng, 3),
                        .pause_us = rng_below(rng, 30),
                        .length_us = rng_between(rng, 1, 100),
                        .few_values = rng_below(rng, 4) == 0};

    plan.unknown_percent = rng_below(rng, 2) == 0 ? 0 : (uint32_t)rng_below(rng, 40);
    plan.refused_percent = (uint32_t)rng_below(rng, 10);
    return plan;
}

static void test_what_a_register_did_is_linearizable(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        struct rng rng;
        struct plan plan;
        struct draft *drafts;
        struct history *history;
        size_t n;

        rng_init(&rng, seed);
        plan = draw_plan(&rng);
        n = (size_t)plan.n_clients * plan.n_operations;
        drafts = make_drafts(&plan, &rng);
        history = make_history(drafts, n);
        must_be(history, LINEAR_YES, seed);
        history_destroy(&history);
        free_drafts(drafts, n);
    }
}

/* Small, with few values, so that wrong answers are often right after all; half of them touched. */
static void touch(struct rng *rng, struct draft *drafts, size_t n)
{
    struct history_operation *operation = &drafts[rng_below(rng, n)].operation;

    switch (rng_below(rng, 8)) {
    case 0:
        operation->version = rng_below(rng, 6);
        break;
    case 1:
        operation->output = (uint32_t)rng_below(rng, 4);
        break;
    case 2:
        operation->value = drafts[rng_below(rng, n)].operation.argument;
        break;
    case 3:
        operation->start_us /= 2;
        break;
    case 4:
        operation->end_us += rng_below(rng, 50);
        break;
    case 5:
        operation->output = drafts[rng_below(rng, n)].operation.output;
        break;
    case 6:
        operation->version = 0;
        operation->value = drafts[rng_below(rng, n)].operation.value;
        break;
    default:
        if (operation->type == HISTORY_CAS) {
            operation->outcome = operation->outcome == HISTORY_OK ? HISTORY_MISMATCH : HISTORY_OK;
        } else if (operation->type != HISTORY_GET) {
            operation->outcome = rng_below(rng, 2) == 0 ? HISTORY_UNKNOWN : HISTORY_REFUSED;
        } else if (operation->outcome == HISTORY_NOT_FOUND) {
            operation->outcome = HISTORY_OK;
        }
        break;
    }
}

/* Of many at once, little is known but what the answers tell: mostly writes whose values differ,
 * seldom seen and then without a version, often of unknown end. */
static void crowd(struct plan *plan, struct rng *rng)
{
    plan->n_clients = (uint32_t)rng_between(rng, 5, 8);
    plan->n_operations = 1;
    plan->few_values = rng_below(rng, 8) == 0;
    plan->get = 2;
    plan->put = (uint32_t)rng_between(rng, 1, 3);
    plan->append = (uint32_t)rng_between(rng, 1, 3);
    plan->delete = (uint32_t)rng_below(rng, 4);
    plan->cas = (uint32_t)rng_below(rng, 3);
    plan->pause_us = 20;
    plan->unversioned_percent = (uint32_t)rng_below(rng, 3) * 50;
    plan->unknown_percent = (uint32_t)rng_below(rng, 3) * 30;
}

static void compare_small(uint64_t seed, size_t verdicts[2])
{
    struct rng rng;
    struct plan plan;
    struct draft *drafts;
    struct history *history;
    enum linear_verdict wanted;
    size_t n;

    rng_init(&rng, seed);
    plan = draw_plan(&rng);
    plan.n_keys = 1;
    plan.n_clients = (uint32_t)rng_between(&rng, 1, 4);
    plan.n_operations = (uint32_t)rng_between(&rng, 1, 7 / plan.n_clients);
    plan.few_values = rng_below(&rng, 4) != 0;
    plan.unversioned_percent = rng_below(&rng, 2) == 0 ? 0 : 40;
    if (seed % 2 == 0) {
        crowd(&plan, &rng);
    }
    n = (size_t)plan.n_clients * plan.n_operations;
    drafts = make_drafts(&plan, &rng);
    for (uint64_t i = rng_below(&rng, 4); i > 0; i--) {
        touch(&rng, drafts, n);
    }
    history = make_history(drafts, n);
    wanted = brute_check(history);
    verdicts[wanted == LINEAR_YES]++;
    must_be(history, wanted, seed);
    history_destroy(&history);
    free_drafts(drafts, n);
}

static void test_it_agrees_with_trying_every_order(void **state)
{
    size_t verdicts[2] = {0, 0};

    (void)state;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        compare_small(seed, verdicts);
    }
    printf("%zu linearizable, %zu not\n", verdicts[1], verdicts[0]);
    assert_true(verdicts[0] > 2000);
    assert_true(verdicts[1] > 2000);
}

/* ---- One wrong answer ---- */

/* Makes one answer certainly wrong, whatever the others are; false if this one can't be. */
static bool spoil(struct rng *rng, struct draft *draft, uint64_t number)
{
    struct history_operation *operation = &draft->operation;

    if (operation->outcome == HISTORY_MISMATCH && operation->condition.type == KV_IF_VALUE &&
        !slice_equal(operation->condition.value, slice_text("a"))) {
        return false; /* may have been absent, or become so */
    }
    if (operation->outcome == HISTORY_NOT_FOUND || operation->outcome == HISTORY_OK) {
        switch (operation->type) {
        case HISTORY_GET:
            /* A token that nobody wrote, in front or behind. */
            if (rng_below(rng, 2) == 0 && operation->outcome == HISTORY_OK) {
                buf_printf(&draft->seen, "!");
            } else {
                buf_clear(&draft->seen);
                buf_printf(&draft->seen, "!%llu", (unsigned long long)number);
                operation->version = operation->version > 0 ? operation->version : 1;
            }
            operation->outcome = HISTORY_OK;
            operation->value = buf_slice(&draft->seen);
            return true;
        case HISTORY_APPEND:
            operation->output = (uint32_t)operation->argument.len - 1;
            return true;
        case HISTORY_CAS:
            operation->condition.type = KV_IF_VALUE;
            operation->condition.value = slice_text("never");
            return true;
        default:
            return false;
        }
    }
    return false;
}

static void test_one_wrong_answer_is_found(void **state)
{
    size_t spoiled = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        struct rng rng;
        struct plan plan;
        struct draft *drafts;
        struct history *history;
        size_t n;

        rng_init(&rng, seed);
        plan = draw_plan(&rng);
        plan.few_values = false;
        n = (size_t)plan.n_clients * plan.n_operations;
        drafts = make_drafts(&plan, &rng);
        if (spoil(&rng, &drafts[rng_below(&rng, n)], seed)) {
            spoiled++;
            history = make_history(drafts, n);
            must_be(history, LINEAR_NO, seed);
            history_destroy(&history);
        }
        free_drafts(drafts, n);
    }
    assert_true(spoiled > 700);
}

/* ---- Volume ---- */

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void check_volume(const char *name, const struct plan *plan, uint64_t seed)
{
    size_t n = (size_t)plan->n_clients * plan->n_operations;
    struct rng rng;
    struct draft *drafts;
    struct history *history;
    double from;

    rng_init(&rng, seed);
    drafts = make_drafts(plan, &rng);
    history = make_history(drafts, n);
    from = seconds();
    must_be(history, LINEAR_YES, seed);
    printf("%s: %zu operations on %u keys in %.3f s\n", name, n, plan->n_keys, seconds() - from);
    history_destroy(&history);
    free_drafts(drafts, n);
}

/* The figures are for people; the test is that these are decided at all. */
static void test_large_histories_are_decided(void **state)
{
    struct plan plan = {.n_keys = 15,
                        .n_clients = 15,
                        .n_operations = 3000,
                        .get = 5,
                        .put = 2,
                        .append = 2,
                        .pause_us = 1000,
                        .length_us = 10000};

    (void)state;
    check_volume("gets, puts, appends", &plan, 1);
    plan.unknown_percent = 5;
    check_volume("the same, 5 % unknown", &plan, 2);
    plan.delete = plan.cas = 1;
    check_volume("with deletes and cas, 5 % unknown", &plan, 3);
    plan.n_clients = 30;
    plan.n_operations = 1000;
    check_volume("30 clients on 15 keys, of everything", &plan, 4);
    plan.n_keys = 1;
    plan.n_operations = 200;
    plan.pause_us = 100000;
    check_volume("30 clients on one key, 3 at a time", &plan, 5);
    plan.pause_us = 0;
    plan.append = plan.delete = plan.cas = 0;
    plan.get = plan.put = 1;
    check_volume("30 clients on one key at once, puts and gets", &plan, 6);
    plan.put = 0;
    plan.append = 1;
    check_volume("30 clients on one key at once, appends and gets", &plan, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_agrees_with_trying_every_order),
        cmocka_unit_test(test_what_a_register_did_is_linearizable),
        cmocka_unit_test(test_one_wrong_answer_is_found),
        cmocka_unit_test(test_large_histories_are_decided),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
