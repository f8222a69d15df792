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

#endif
