/* What the tests of the controller's state machine say often. */
#ifndef TESTS_UNIT_CTRLER_STORY_H
#define TESTS_UNIT_CTRLER_STORY_H

#include "raft/util/mem.h"
#include "tests/cmocka.h"
#include "tests/sim/ctrler_machine.h"

#define SHARDS 16

#define GIDS(...)                                                                                  \
    sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), (const uint32_t[])                       \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static inline const struct shard_config *latest(const struct ctrler_machine *machine)
{
    return ctrler_sm_latest(machine->sm);
}

static inline const struct config_group *group(const struct ctrler_machine *machine, uint32_t gid)
{
    return shard_config_find(latest(machine), gid);
}

static inline void assert_ok(struct ctrler_result result)
{
    assert_int_equal(result.status, ST_OK);
    assert_int_equal(result.reason, CTRLER_REASON_NONE);
}

static inline void assert_refused(struct ctrler_result result, enum status status,
                                  enum ctrler_reason reason)
{
    assert_int_equal(result.status, status);
    assert_int_equal(result.reason, reason);
}

/* A story begins with a machine of SHARDS shards and ends with its end. */
static inline int story_begin(void **state)
{
    struct ctrler_machine *machine = mem_alloc(sizeof(*machine));

    ctrler_machine_init(machine, SHARDS);
    *state = machine;
    return 0;
}

static inline int story_end(void **state)
{
    ctrler_machine_fini(*state);
    mem_free(*state);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

#endif
