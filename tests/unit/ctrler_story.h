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

/* Joins group `gid` at the URLs of group `like`. */
static inline struct ctrler_result join_like(struct ctrler_machine *machine, uint32_t gid,
                                             uint32_t like)
{
    struct proto_join_group groups[2] = {
        {.gid = 77, .replicas = ctrler_machine_spec(77)},
        {.gid = gid, .replicas = ctrler_machine_spec(like)},
    };
    struct ctrler_command command = {.kind = CTRLER_JOIN, .n = 2, .groups = groups};

    command.session = ctrler_machine_session(1, ++machine->seq);
    return ctrler_machine_apply(machine, &command);
}

/* A cluster with two members whose every record is remembered: whatever `try` refuses must leave
 * them as they are. */
struct refusal {
    struct ctrler_machine machine;
    uint64_t sum;
    config_num num;
};

static inline void refusal_begin(struct refusal *refusal)
{
    ctrler_machine_init(&refusal->machine, SHARDS);
    assert_ok(ctrler_machine_join_one(&refusal->machine, 10, 7));
    assert_ok(ctrler_machine_join_one(&refusal->machine, 20, 7));
    refusal->sum = ctrler_machine_sum_without_sessions(&refusal->machine);
    refusal->num = latest(&refusal->machine)->num;
}

static inline void refusal_check(struct refusal *refusal, struct ctrler_result result,
                                 enum status status, enum ctrler_reason reason)
{
    assert_refused(result, status, reason);
    assert_int_equal(result.num, refusal->num);
    assert_int_equal(latest(&refusal->machine)->num, refusal->num);
    assert_true(ctrler_machine_sum_without_sessions(&refusal->machine) == refusal->sum);
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
