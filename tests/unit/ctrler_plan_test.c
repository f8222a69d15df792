/* Unit tests of the controller: moves that are paused and resumed, and dry runs. */
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/ctrler_story.h"

/* ---- Pause and resume ---- */

static void a_pause_is_the_next_configuration_with_the_same_owners(void **state)
{
    struct ctrler_machine *machine = *state;
    struct shard_config before, after;

    ctrler_machine_join_one(machine, 1, 0);
    ctrler_machine_join_one(machine, 2, 0);
    assert_false(latest(machine)->moves_paused);
    assert_ok(ctrler_machine_pause(machine, true));
    assert_int_equal(latest(machine)->num, 3);
    assert_true(latest(machine)->moves_paused);
    assert_int_equal(ctrler_sm_config(machine->sm, 2, &before), ST_OK);
    assert_int_equal(ctrler_sm_config(machine->sm, 3, &after), ST_OK);
    assert_false(before.moves_paused);
    assert_memory_equal(before.shards, after.shards, SHARDS * sizeof(before.shards[0]));
    /* Nothing moves at this number: each comes from where it is. */
    assert_memory_equal(after.shards, after.from, SHARDS * sizeof(before.shards[0]));
    shard_config_fini(&before);
    shard_config_fini(&after);
    assert_int_equal(ctrler_machine_pause(machine, false).num, 4);
    assert_false(latest(machine)->moves_paused);
}

static void what_is_paused_already_makes_no_configuration(void **state)
{
    struct ctrler_machine *machine = *state;
    struct ctrler_result result;

    ctrler_machine_join_one(machine, 1, 0);
    assert_int_equal(ctrler_machine_pause(machine, false).num, 1);
    ctrler_machine_pause(machine, true);
    result = ctrler_machine_pause(machine, true);
    assert_ok(result);
    assert_int_equal(result.num, 2);
    assert_int_equal(latest(machine)->num, 2);
}

static void a_pause_stands_through_changes_and_restarts(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 0);
    ctrler_machine_pause(machine, true);
    ctrler_machine_join_one(machine, 2, 0);
    ctrler_machine_move(machine, 0, latest(machine)->shards[0] == 1 ? 2 : 1);
    ctrler_machine_leave_one(machine, 1);
    assert_true(latest(machine)->moves_paused);
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_int_equal(latest(machine)->num, 5);
    assert_true(latest(machine)->moves_paused);
    ctrler_machine_pause(machine, false);
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_false(latest(machine)->moves_paused);
    /* Through a whole configuration of the history too. */
    ctrler_machine_pause(machine, true);
    while (latest(machine)->num < 70) {
        ctrler_machine_pause(machine, !latest(machine)->moves_paused);
    }
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    for (config_num num = 8; num <= 70; num++) {
        struct shard_config config;

        assert_int_equal(ctrler_sm_config(machine->sm, num, &config), ST_OK);
        assert_int_equal(config.moves_paused, num % 2 == 1);
        shard_config_fini(&config);
    }
}

/* A late copy of a pause must not stop what was resumed since. */
static void a_retried_pause_is_answered_and_not_made_again(void **state)
{
    struct ctrler_machine *machine = *state;
    struct ctrler_command pause = {.kind = CTRLER_PAUSE, .paused = true};

    pause.session = ctrler_machine_session(9, 1);
    assert_int_equal(ctrler_machine_apply(machine, &pause).num, 1);
    assert_int_equal(ctrler_machine_pause(machine, false).num, 2);
    assert_int_equal(ctrler_machine_apply(machine, &pause).num, 1);
    assert_false(latest(machine)->moves_paused);
    assert_int_equal(latest(machine)->num, 2);
}

/* ---- Dry runs ---- */

static void assert_same_bytes(const struct shard_config *a, const struct shard_config *b)
{
    struct buf x = {0}, y = {0};

    shard_config_encode(a, &x);
    shard_config_encode(b, &y);
    assert_true(slice_equal(buf_slice(&x), buf_slice(&y)));
    buf_fini(&x);
    buf_fini(&y);
}

/* A random change; the groups that it names are static to the caller. */
static void draw_change(struct rng *rng, struct ctrler_command *command,
                        struct proto_join_group *group, uint32_t *gid)
{
    *gid = 1 + (uint32_t)rng_below(rng, 6);
    *group = (struct proto_join_group){.gid = *gid, .replicas = ctrler_machine_spec(*gid)};
    *command = (struct ctrler_command){.n = 1};
    switch (rng_below(rng, 4)) {
    case 0:
        command->kind = CTRLER_JOIN;
        command->groups = group;
        return;
    case 1:
        command->kind = CTRLER_LEAVE;
        command->gids = gid;
        return;
    case 2:
        command->kind = CTRLER_PAUSE;
        command->n = 0;
        command->paused = *gid % 2 == 0;
        return;
    default:
        command->kind = CTRLER_MOVE;
        command->n = 0;
        command->shard = (shard_id)rng_below(rng, SHARDS + 1);
        command->gid = *gid;
        return;
    }
}

/* Whatever is asked for: first dry, which leaves every byte of the state as it is, then in earnest,
 * with the same outcome. */
static void a_dry_run_tells_what_the_change_does_and_changes_nothing(void **state)
{
    struct ctrler_machine *machine = *state;
    struct rng rng;
    uint32_t made = 0, refused = 0, unneeded = 0;

    rng_init(&rng, 17);
    for (int round = 0; round < 600; round++) {
        struct ctrler_command command;
        struct proto_join_group group;
        struct ctrler_result dry, wet;
        struct shard_config planned;
        uint64_t sum = mem_state_sum(machine->state, NULL, 0);
        config_num before = latest(machine)->num;
        uint32_t gid;

        draw_change(&rng, &command, &group, &gid);
        dry = ctrler_sm_plan(machine->sm, &command, &planned);
        assert_true(mem_state_sum(machine->state, NULL, 0) == sum);
        assert_int_equal(latest(machine)->num, before);
        command.session = ctrler_machine_session(1, ++machine->seq);
        wet = ctrler_machine_apply(machine, &command);
        assert_int_equal(dry.status, wet.status);
        assert_int_equal(dry.num, wet.num);
        assert_int_equal(dry.reason, wet.reason);
        assert_int_equal(dry.a, wet.a);
        assert_int_equal(dry.b, wet.b);
        if (dry.status == ST_OK) {
            assert_same_bytes(&planned, latest(machine));
        } else {
            assert_null(planned.shards);
        }
        made += dry.status == ST_OK && dry.num == before + 1;
        unneeded += dry.status == ST_OK && dry.num == before;
        refused += dry.status != ST_OK;
        shard_config_fini(&planned);
    }
    assert_true(made > 50 && refused > 50 && unneeded > 20);
}

static void before_init_there_is_nothing_to_plan(void **state)
{
    struct ctrler_command leave = {.kind = CTRLER_LEAVE};
    struct ctrler_machine machine;
    struct shard_config planned;

    (void)state;
    ctrler_machine_init(&machine, 0);
    assert_refused(ctrler_sm_plan(machine.sm, &leave, &planned), ST_NOT_READY,
                   CTRLER_REASON_NOT_INITIALIZED);
    assert_null(planned.shards);
    ctrler_machine_fini(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_pause_is_the_next_configuration_with_the_same_owners),
        STORY(what_is_paused_already_makes_no_configuration),
        STORY(a_pause_stands_through_changes_and_restarts),
        STORY(a_retried_pause_is_answered_and_not_made_again),
        STORY(a_dry_run_tells_what_the_change_does_and_changes_nothing),
        cmocka_unit_test(before_init_there_is_nothing_to_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
