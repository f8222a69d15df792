/* The linearizability checker against what an outage leaves behind: on one key, operations pile up
 * for seconds, and when it is over they all take effect within a moment, in any order; some never
 * say how they ended. Little is known of their order but what the answers tell. Such histories were
 * the first that the search could not decide. */
#include <stdio.h>

#include "tests/cmocka.h"
#include "tests/sim/linear.h"
#include "tests/unit/linear_register.h"

#define CALM_US   1000000u /* between outages */
#define OUTAGE_US 5000000u
#define BURST_US  20000u /* in which all that piled up takes effect */

struct outages {
    struct plan plan;
    uint32_t n;                   /* outages */
    uint32_t n_calm;              /* operations before each, one at a time */
    uint32_t n_ending, n_unknown; /* that each piles up */
    uint64_t answer_us;           /* at most, from the moment of an operation to its end */
};

struct story {
    const struct outages *outages;
    struct rng *rng;
    struct draft *drafts;
    size_t n;
};

static struct history_operation *next_draft(struct story *story, uint64_t start_us,
                                            uint64_t moment_us, uint64_t end_us)
{
    struct draft *draft = &story->drafts[story->n];
    struct plan plan = story->outages->plan;

    plan.length_us = 10;
    plan.unknown_percent = plan.refused_percent = 0;
    draw(&plan, story->rng, story->n, story->n, start_us, draft);
    draft->moment_us = moment_us;
    draft->operation.end_us = end_us;
    story->n++;
    return &draft->operation;
}

static void add_calm(struct story *story, uint64_t from_us)
{
    for (uint32_t i = 0; i < story->outages->n_calm; i++) {
        uint64_t start_us = from_us + i * (CALM_US / story->outages->n_calm);
        next_draft(story, start_us, start_us + 10, start_us + 20);
    }
}

/* A get is never of unknown end. */
static void add_unknown(struct story *story, uint64_t start_us, uint64_t moment_us)
{
    struct history_operation *operation;

    if (rng_below(story->rng, 2) == 0) {
        moment_us = UINT64_MAX;
    } else if (rng_below(story->rng, 4) == 0) {
        moment_us += rng_below(story->rng, CALM_US); /* it was under way for long */
    }
    operation = next_draft(story, start_us, moment_us, start_us);
    if (operation->type == HISTORY_GET) {
        operation->type = HISTORY_DELETE;
    }
    operation->outcome = HISTORY_UNKNOWN;
}

static void add_outage(struct story *story, uint64_t from_us)
{
    const struct outages *outages = story->outages;
    uint64_t over_us = from_us + OUTAGE_US;

    for (uint32_t i = 0; i < outages->n_ending + outages->n_unknown; i++) {
        uint64_t start_us = from_us + rng_below(story->rng, OUTAGE_US / 2);
        uint64_t moment_us = over_us + rng_below(story->rng, BURST_US);

        if (i < outages->n_unknown) {
            add_unknown(story, start_us, moment_us);
        } else {
            next_draft(story, start_us, moment_us,
                       moment_us + 1 + rng_below(story->rng, outages->answer_us));
        }
    }
}

static struct history *make_outages(const struct outages *outages, uint64_t seed)
{
    size_t n = (size_t)outages->n * (outages->n_calm + outages->n_ending + outages->n_unknown);
    struct rng rng;
    struct story story = {outages, &rng, mem_zalloc(n * sizeof(struct draft)), 0};
    struct history *history;

    rng_init(&rng, seed);
    for (uint32_t i = 0; i < outages->n; i++) {
        uint64_t from_us = i * (2 * (uint64_t)CALM_US + OUTAGE_US);
        add_calm(&story, from_us);
        add_outage(&story, from_us + CALM_US);
    }
    answer_drafts(&outages->plan, &rng, story.drafts, n);
    history = make_history(story.drafts, n);
    free_drafts(story.drafts, n);
    return history;
}

/* ---- The tests ---- */

#define MAX_CONFIGURATIONS 200000

static void all_are_decided(const struct outages *outages)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct history *history = make_outages(outages, seed);
        enum linear_verdict verdict = linear_check(history, MAX_CONFIGURATIONS, NULL);

        if (verdict != LINEAR_YES) {
            fail_msg("seed %llu: %d", (unsigned long long)seed, (int)verdict);
        }
        history_destroy(&history);
    }
}

static struct outages usual(void)
{
    return (struct outages){.plan = {.n_keys = 1,
                                     .n_clients = 1,
                                     .get = 6,
                                     .put = 3,
                                     .append = 4,
                                     .delete = 3,
                                     .cas = 1,
                                     .unversioned_percent = 30},
                            .n = 4,
                            .n_calm = 30,
                            .n_ending = 30,
                            .n_unknown = 15,
                            .answer_us = 1000};
}

static void test_answers_come_soon(void **state)
{
    struct outages outages = usual();

    (void)state;
    all_are_decided(&outages);
}

/* So that no operation is known to come before another. */
static void test_answers_come_after_all_moments(void **state)
{
    struct outages outages = usual();

    (void)state;
    outages.answer_us = 20 * BURST_US;
    all_are_decided(&outages);
}

static void test_without_versions(void **state)
{
    struct outages outages = usual();

    (void)state;
    outages.plan.unversioned_percent = 100;
    all_are_decided(&outages);
}

static void test_mostly_writes(void **state)
{
    struct outages outages = usual();

    (void)state;
    outages.plan.get = 2;
    all_are_decided(&outages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_come_soon),
        cmocka_unit_test(test_answers_come_after_all_moments),
        cmocka_unit_test(test_without_versions),
        cmocka_unit_test(test_mostly_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
