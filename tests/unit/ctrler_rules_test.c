/* Unit tests of the controller's rules: how a cluster begins, what is refused, that a refusal
 * changes nothing, and the sessions of those who ask. */
#include <stdio.h>

#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/unit/ctrler_story.h"

/* ---- Before and at the beginning ---- */

static void before_init_nothing_is_applied_and_no_session_begun(void **state)
{
    struct ctrler_machine machine;
    struct slice bytes;
    uint64_t sum;

    (void)state;
    ctrler_machine_init(&machine, 0);
    sum = mem_state_sum(machine.state, NULL, 0);
    assert_false(ctrler_sm_is_initialized(machine.sm));
    assert_refused(ctrler_machine_join_one(&machine, 1, 0), ST_NOT_READY,
                   CTRLER_REASON_NOT_INITIALIZED);
    assert_refused(ctrler_machine_bind(&machine, 1, 7), ST_NOT_READY,
                   CTRLER_REASON_NOT_INITIALIZED);
    assert_int_equal(ctrler_sm_config_bytes(machine.sm, 0, &bytes), ST_NOT_READY);
    assert_true(mem_state_sum(machine.state, NULL, 0) == sum);
    assert_int_equal(ctrler_sm_session_count(machine.sm), 0);
    ctrler_machine_fini(&machine);
}

static void the_first_init_wins(void **state)
{
    struct ctrler_machine *machine = *state;
    struct ctrler_command init = {
        .kind = CTRLER_INIT, .cluster_id = "another cluster", .n_shards = 32};
    struct ctrler_result result;

    result = ctrler_machine_apply(machine, &init);
    assert_refused(result, ST_EXISTS, CTRLER_REASON_INITIALIZED);
    assert_int_equal(result.a, SHARDS);
    assert_int_equal(latest(machine)->n_shards, SHARDS);
    assert_string_equal((const char *)latest(machine)->cluster_id, "0123456789abcde");
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_int_equal(latest(machine)->n_shards, SHARDS);
    assert_string_equal((const char *)latest(machine)->cluster_id, "0123456789abcde");
}

static void init_wants_a_power_of_two_in_bounds(void **state)
{
    const uint32_t bad[] = {0, 1, 8, 17, 100, 16383, 32768, UINT32_MAX};
    struct ctrler_machine machine;

    (void)state;
    ctrler_machine_init(&machine, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ctrler_command init = {.kind = CTRLER_INIT, .n_shards = bad[i]};

        assert_refused(ctrler_machine_apply(&machine, &init), ST_INVALID,
                       CTRLER_REASON_BAD_SHARD_COUNT);
        assert_false(ctrler_sm_is_initialized(machine.sm));
    }
    ctrler_machine_fini(&machine);
}

static void an_unknown_command_halts_and_is_never_skipped(void **state)
{
    struct ctrler_machine *machine = *state;
    const uint8_t unknown_kind[] = {1, 9, 0, 0}, kind_zero[] = {1, 0}, later_format[] = {2, 1};
    struct ctrler_result result;

    assert_int_equal(ctrler_machine_apply_bytes(machine, slice_of(unknown_kind, 4), &result),
                     ST_VERSION);
    assert_int_equal(ctrler_machine_apply_bytes(machine, slice_of(kind_zero, 2), &result),
                     ST_VERSION);
    assert_int_equal(ctrler_machine_apply_bytes(machine, slice_of(later_format, 2), &result),
                     ST_VERSION);
    assert_int_equal(ctrler_machine_apply_bytes(machine, slice_of(NULL, 0), &result), ST_CORRUPT);
}

/* ---- Refusals ---- */

static void refused_joins_change_nothing(void **state)
{
    struct refusal r;
    struct ctrler_machine *m = &r.machine;

    (void)state;
    refusal_begin(&r);
    refusal_check(&r, ctrler_machine_join(m, GIDS(10)), ST_EXISTS, CTRLER_REASON_ALREADY_MEMBER);
    /* All or nothing: 30 would have been fine. */
    refusal_check(&r, ctrler_machine_join(m, GIDS(30, 20)), ST_EXISTS,
                  CTRLER_REASON_ALREADY_MEMBER);
    refusal_check(&r, ctrler_machine_join(m, GIDS(30, 30)), ST_INVALID, CTRLER_REASON_NAMED_TWICE);
    refusal_check(&r, ctrler_machine_join(m, GIDS(0)), ST_INVALID, CTRLER_REASON_BAD_GID);
    refusal_check(&r, ctrler_machine_join(m, GIDS(30, 0x80000000u)), ST_INVALID,
                  CTRLER_REASON_BAD_GID);
    refusal_check(&r, ctrler_machine_join(m, 0, NULL), ST_INVALID, CTRLER_REASON_NO_GROUPS_NAMED);
    /* At a member's URLs, and at those of the other group in the same request. */
    refusal_check(&r, join_like(m, 30, 20), ST_CONFLICT, CTRLER_REASON_SHARED_URL);
    refusal_check(&r, join_like(m, 30, 77), ST_CONFLICT, CTRLER_REASON_SHARED_URL);
    assert_ok(ctrler_machine_join(m, GIDS(0x7fffffff)));
    ctrler_machine_fini(m);
}

static void one_shared_url_is_enough_for_a_conflict(void **state)
{
    struct ctrler_machine *machine = *state;
    struct proto_join_group joining = {.gid = 2};
    struct ctrler_command command = {.kind = CTRLER_JOIN, .n = 1, .groups = &joining};
    struct ctrler_result result;

    assert_ok(ctrler_machine_join_one(machine, 1, 0));
    assert_null(spec_parse("1=tcp://x:1,2=tcp://g1-c:1", &joining.replicas));
    command.session = ctrler_machine_session(1, ++machine->seq);
    result = ctrler_machine_apply(machine, &command);
    assert_refused(result, ST_CONFLICT, CTRLER_REASON_SHARED_URL);
    assert_int_equal(result.a, 1);
    assert_int_equal(result.b, 2);
}

static void refused_leaves_change_nothing(void **state)
{
    struct refusal r;
    struct ctrler_machine *m = &r.machine;

    (void)state;
    refusal_begin(&r);
    refusal_check(&r, ctrler_machine_leave_one(m, 30), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    refusal_check(&r, ctrler_machine_leave(m, GIDS(10, 30)), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    refusal_check(&r, ctrler_machine_leave(m, GIDS(10, 10)), ST_INVALID, CTRLER_REASON_NAMED_TWICE);
    refusal_check(&r, ctrler_machine_leave(m, 0, NULL), ST_INVALID, CTRLER_REASON_NO_GROUPS_NAMED);
    assert_ok(ctrler_machine_leave_one(m, 10));
    assert_refused(ctrler_machine_leave_one(m, 10), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    ctrler_machine_fini(m);
}

static void refused_moves_change_nothing(void **state)
{
    struct refusal r;
    struct ctrler_machine *m = &r.machine;
    struct ctrler_result result;

    (void)state;
    refusal_begin(&r);
    refusal_check(&r, ctrler_machine_move(m, SHARDS, 10), ST_INVALID, CTRLER_REASON_BAD_SHARD);
    refusal_check(&r, ctrler_machine_move(m, 0, 30), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    refusal_check(&r, ctrler_machine_move(m, 0, 0), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    /* To where it is: no refusal, and no configuration. */
    result = ctrler_machine_move(m, 0, latest(m)->shards[0]);
    refusal_check(&r, result, ST_OK, CTRLER_REASON_NONE);
    ctrler_machine_fini(m);
}

/* A cluster takes 1024 groups, and says so at the next. */
static void a_cluster_has_at_most_1024_groups(void **state)
{
    struct ctrler_machine machine;
    uint32_t gids[PROTO_MAX_GROUPS];

    (void)state;
    ctrler_machine_init(&machine, SHARD_MAX_COUNT);
    for (uint32_t i = 0; i < CONFIG_MAX_GROUPS; i++) {
        gids[i % PROTO_MAX_GROUPS] = i + 1;
        if ((i + 1) % PROTO_MAX_GROUPS == 0) {
            assert_ok(ctrler_machine_join(&machine, PROTO_MAX_GROUPS, gids));
        }
    }
    assert_int_equal(latest(&machine)->n_groups, CONFIG_MAX_GROUPS);
    assert_int_equal(ctrler_machine_load(latest(&machine), 1024), 16);
    assert_refused(ctrler_machine_join_one(&machine, 2000, 0), ST_TOO_LARGE,
                   CTRLER_REASON_TOO_MANY_GROUPS);
    assert_int_equal(ctrler_machine_restart(&machine), ST_OK);
    assert_int_equal(latest(&machine)->n_groups, CONFIG_MAX_GROUPS);
    ctrler_machine_fini(&machine);
}

/* ---- Sessions ---- */

static void a_retried_join_gets_the_same_answer_and_is_not_already_joined(void **state)
{
    struct ctrler_machine *machine = *state;
    uint64_t sum;

    assert_int_equal(ctrler_machine_join_one(machine, 1, 0).num, 1);
    assert_int_equal(ctrler_machine_leave_one(machine, 1).num, 2);
    assert_int_equal(ctrler_machine_join_one(machine, 1, 0).num, 3);
    for (int restart = 0; restart < 2; restart++) {
        struct ctrler_result again;

        sum = mem_state_sum(machine->state, NULL, 0);
        machine->seq--; /* the same operation once more */
        again = ctrler_machine_join_one(machine, 1, 0);
        assert_ok(again);
        assert_int_equal(again.num, 3);
        assert_int_equal(latest(machine)->num, 3);
        assert_true(mem_state_sum(machine->state, NULL, 0) == sum);
        assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    }
}

/* A refusal is an outcome: a late copy of the request must not succeed after all. */
static void a_retried_refusal_stays_refused(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 0);
    assert_refused(ctrler_machine_leave_one(machine, 2), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    machine->seq += 1000; /* others do much meanwhile */
    {
        struct ctrler_command command = {.kind = CTRLER_JOIN, .n = 1};
        struct proto_join_group joining = {.gid = 2, .replicas = ctrler_machine_spec(2)};

        command.groups = &joining;
        command.session = ctrler_machine_session(9, 1);
        assert_ok(ctrler_machine_apply(machine, &command));
    }
    machine->seq -= 1001;
    assert_refused(ctrler_machine_leave_one(machine, 2), ST_NO_GROUP, CTRLER_REASON_NOT_MEMBER);
    assert_true(group(machine, 2)->member);
}

static void an_answered_operation_is_stale(void **state)
{
    struct ctrler_machine *machine = *state;

    ctrler_machine_join_one(machine, 1, 0);
    ctrler_machine_join_one(machine, 2, 0); /* acknowledges the first */
    machine->seq = 0;
    assert_int_equal(ctrler_machine_join_one(machine, 3, 0).status, ST_SESSION_STALE);
    assert_null(group(machine, 3));
    assert_int_equal(latest(machine)->num, 2);
}

static void an_operation_from_before_the_floor_is_expired(void **state)
{
    struct ctrler_machine *machine = *state;
    struct ctrler_command command = {.kind = CTRLER_MOVE, .shard = 0, .gid = 1};

    ctrler_machine_join_one(machine, 1, 0);
    command.session = ctrler_machine_session(2, 1);
    command.session.issued_at = 0; /* the floor of a new table is 0 */
    assert_int_equal(ctrler_machine_apply(machine, &command).status, ST_SESSION_EXPIRED);
    assert_int_equal(ctrler_sm_session_count(machine->sm), 1);
    assert_true(ctrler_sm_service_ops(machine->sm)->stamp_floor(machine->sm) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_init_nothing_is_applied_and_no_session_begun),
        STORY(the_first_init_wins),
        cmocka_unit_test(init_wants_a_power_of_two_in_bounds),
        STORY(an_unknown_command_halts_and_is_never_skipped),
        cmocka_unit_test(refused_joins_change_nothing),
        STORY(one_shared_url_is_enough_for_a_conflict),
        cmocka_unit_test(refused_leaves_change_nothing),
        cmocka_unit_test(refused_moves_change_nothing),
        cmocka_unit_test(a_cluster_has_at_most_1024_groups),
        STORY(a_retried_join_gets_the_same_answer_and_is_not_already_joined),
        STORY(a_retried_refusal_stays_refused),
        STORY(an_answered_operation_is_stale),
        STORY(an_operation_from_before_the_floor_is_expired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
