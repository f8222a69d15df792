/* Unit tests of shardctrler/ctrler_sm: groups, and the controllers themselves, whose replicas come
 * and go. */
#include <stdio.h>

#include "tests/unit/ctrler_story.h"

/* Three replicas of group `gid`, the last one under another id, at another URL. */
static struct spec replaced(uint32_t gid, uint32_t last)
{
    struct spec spec = ctrler_machine_spec(gid);

    spec.replicas[2].id = last;
    snprintf(spec.replicas[2].url, sizeof(spec.replicas[2].url), "tcp://new-%u:%u", gid, last);
    return spec;
}

static struct ctrler_result report(struct ctrler_machine *machine, uint32_t gid,
                                   uint64_t incarnation, raft_term term, raft_index index,
                                   const struct spec *spec)
{
    struct spec copy = *spec;
    struct ctrler_command command = {.kind = CTRLER_REPLICAS,
                                     .gid = gid,
                                     .incarnation = incarnation,
                                     .term = term,
                                     .index = index,
                                     .replicas = &copy};

    return ctrler_machine_apply(machine, &command);
}

static void new_replicas_make_a_configuration_and_move_no_shard(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec spec = replaced(10, 4);
    struct shard_config before;

    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    assert_ok(ctrler_machine_join_one(machine, 20, 8));
    shard_config_copy(&before, latest(machine));
    assert_ok(report(machine, 10, 7, 3, 100, &spec));
    assert_int_equal(latest(machine)->num, before.num + 1);
    assert_true(spec_equal(&group(machine, 10)->replicas, &spec));
    assert_memory_equal(latest(machine)->shards, before.shards, SHARDS * sizeof(uint32_t));
    assert_int_equal(group(machine, 10)->joined_at, 1);
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_true(spec_equal(&group(machine, 10)->replicas, &spec));
    shard_config_fini(&before);
}

static void a_report_of_what_is_listed_changes_nothing(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec spec = ctrler_machine_spec(10);

    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    assert_ok(report(machine, 10, 7, 3, 100, &spec));
    assert_ok(report(machine, 10, 7, 3, 100, &spec));
    assert_int_equal(latest(machine)->num, 1);
}

/* A leader that was deposed may tell late what was, under a higher index even. */
static void only_a_newer_report_is_taken(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec newest = replaced(10, 5), old = replaced(10, 4);

    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    assert_ok(report(machine, 10, 7, 4, 100, &newest));
    assert_ok(report(machine, 10, 7, 4, 99, &old));
    assert_ok(report(machine, 10, 7, 4, 100, &old));
    assert_ok(report(machine, 10, 7, 3, 500, &old));
    assert_true(spec_equal(&group(machine, 10)->replicas, &newest));
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_ok(report(machine, 10, 7, 3, 500, &old));
    assert_true(spec_equal(&group(machine, 10)->replicas, &newest));
    assert_ok(report(machine, 10, 7, 5, 1, &old)); /* after a recovery the log may be shorter */
    assert_true(spec_equal(&group(machine, 10)->replicas, &old));
}

static void strangers_and_others_under_its_gid_report_nothing(void **state)
{
    struct refusal r;
    struct spec spec = replaced(10, 4);

    (void)state;
    refusal_begin(&r);
    refusal_check(&r, report(&r.machine, 10, 8, 9, 9, &spec), ST_CONFLICT,
                  CTRLER_REASON_INCARNATION);
    refusal_check(&r, report(&r.machine, 30, 7, 9, 9, &spec), ST_NO_GROUP, CTRLER_REASON_NOT_KNOWN);
    refusal_check(&r, report(&r.machine, 10, 0, 9, 9, &spec), ST_INVALID,
                  CTRLER_REASON_NO_INCARNATION);
    ctrler_machine_fini(&r.machine);
}

static void a_replica_at_another_groups_url_is_refused_and_changes_no_record(void **state)
{
    struct refusal r;
    struct spec spec = ctrler_machine_spec(10), other = ctrler_machine_spec(20);

    (void)state;
    refusal_begin(&r);
    memcpy(spec.replicas[2].url, other.replicas[0].url, sizeof(spec.replicas[2].url));
    refusal_check(&r, report(&r.machine, 10, 7, 9, 9, &spec), ST_CONFLICT,
                  CTRLER_REASON_SHARED_URL);
    ctrler_machine_fini(&r.machine);
}

static void a_group_that_comes_back_may_report_anew(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec spec = replaced(10, 4);

    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    assert_ok(report(machine, 10, 7, 3, 100, &spec));
    assert_ok(ctrler_machine_join_one(machine, 20, 8));
    assert_ok(ctrler_machine_leave_one(machine, 10));
    assert_ok(ctrler_machine_join_one(machine, 10, 7)); /* under what its operator remembers */
    assert_false(spec_equal(&group(machine, 10)->replicas, &spec));
    assert_ok(report(machine, 10, 7, 3, 100, &spec));
    assert_true(spec_equal(&group(machine, 10)->replicas, &spec));
}

static void a_group_that_left_and_still_holds_shards_is_followed(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec spec = replaced(10, 4);

    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    for (shard_id shard = 0; shard < SHARDS; shard++) {
        assert_ok(ctrler_machine_confirm(machine, 10, 7, shard, 1));
    }
    assert_ok(ctrler_machine_join_one(machine, 20, 8));
    assert_ok(ctrler_machine_leave_one(machine, 10));
    assert_ok(report(machine, 10, 7, 3, 100, &spec));
    assert_false(group(machine, 10)->member);
    assert_true(spec_equal(&group(machine, 10)->replicas, &spec));
}

/* With the configuration that its report makes, nobody names it any more. */
static void a_group_that_holds_nothing_is_forgotten_with_its_report(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec spec = replaced(10, 4);
    config_num num;

    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    assert_ok(ctrler_machine_join_one(machine, 20, 8));
    assert_ok(ctrler_machine_leave_one(machine, 10));
    num = latest(machine)->num;
    for (shard_id shard = 0; shard < SHARDS; shard++) {
        assert_ok(ctrler_machine_confirm(machine, 20, 8, shard, num));
    }
    assert_non_null(group(machine, 10));
    assert_ok(report(machine, 10, 7, 3, 100, &spec));
    assert_null(group(machine, 10));
}

/* ---- The controllers themselves ---- */

static void the_first_word_about_the_controllers_makes_no_configuration(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec first = ctrler_machine_spec(1000), next = replaced(1000, 4);

    assert_int_equal(latest(machine)->ctrlers.n, 0);
    assert_ok(report(machine, 0, 0, 2, 1, &first));
    assert_int_equal(latest(machine)->num, 0);
    assert_true(spec_equal(&latest(machine)->ctrlers, &first));
    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    assert_int_equal(latest(machine)->num, 1);
    assert_ok(report(machine, 0, 0, 2, 50, &next));
    assert_int_equal(latest(machine)->num, 2);
    assert_ok(report(machine, 0, 0, 2, 40, &first));
    assert_true(spec_equal(&latest(machine)->ctrlers, &next));
    assert_int_equal(ctrler_machine_restart(machine), ST_OK);
    assert_true(spec_equal(&latest(machine)->ctrlers, &next));
}

/* Those of then may be gone: who reads an old configuration wants to know whom to ask now. */
static void every_configuration_tells_the_controllers_of_today(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec first = ctrler_machine_spec(1000), next = replaced(1000, 4);
    struct shard_config config;

    assert_ok(report(machine, 0, 0, 2, 1, &first));
    assert_ok(ctrler_machine_join_one(machine, 10, 7));
    assert_ok(report(machine, 0, 0, 2, 50, &next));
    assert_int_equal(ctrler_sm_config(machine->sm, 1, &config), ST_OK);
    assert_int_equal(config.num, 1);
    assert_true(spec_equal(&config.ctrlers, &next));
    shard_config_fini(&config);
}

static void nobody_joins_at_a_controllers_url(void **state)
{
    struct ctrler_machine *machine = *state;
    struct spec ctrlers = ctrler_machine_spec(10);

    assert_ok(report(machine, 0, 0, 2, 1, &ctrlers));
    assert_refused(ctrler_machine_join_one(machine, 10, 7), ST_CONFLICT, CTRLER_REASON_SHARED_URL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(new_replicas_make_a_configuration_and_move_no_shard),
        STORY(a_report_of_what_is_listed_changes_nothing),
        STORY(only_a_newer_report_is_taken),
        cmocka_unit_test(strangers_and_others_under_its_gid_report_nothing),
        cmocka_unit_test(a_replica_at_another_groups_url_is_refused_and_changes_no_record),
        STORY(a_group_that_comes_back_may_report_anew),
        STORY(a_group_that_left_and_still_holds_shards_is_followed),
        STORY(a_group_that_holds_nothing_is_forgotten_with_its_report),
        STORY(the_first_word_about_the_controllers_makes_no_configuration),
        STORY(every_configuration_tells_the_controllers_of_today),
        STORY(nobody_joins_at_a_controllers_url),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
