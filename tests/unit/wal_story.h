/* The frame of the WAL's stories: each begins with a log that was just opened. */
#ifndef TESTS_UNIT_WAL_STORY_H
#define TESTS_UNIT_WAL_STORY_H

#include "tests/unit/wal_fixture.h"

static struct fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx, 42);
    fixture_must_open(&fx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    return 0;
}

/* Runs the stories on disks that are written through the page cache, and directly, in blocks of a
 * sector and of a page. */
#define RUN_STORIES(stories) run_stories(stories, sizeof(stories) / sizeof((stories)[0]))

static inline int run_stories(const struct CMUnitTest *stories, size_t n)
{
    static const uint32_t blocks[] = {0, 512, 4096};
    int failed = 0;

    for (size_t i = 0; i < 3; i++) {
        fixture_block = blocks[i];
        print_message("direct writes in blocks of %u\n", blocks[i]);
        failed += _cmocka_run_group_tests("stories", stories, n, NULL, NULL);
    }
    return failed;
}

#endif
