/* The replicated state of shard groups: the same commands give the same state on every replica,
 * restored or not; a shard is served by one group; sessions travel with it; and a migration ends
 * well whatever is repeated, restarted or dead, step by step. */
#include "tests/unit/kv_twins.h"

/* ---- Who the group is ---- */

static void the_first_init_wins(void **state)
{
    struct cluster *cluster = *state;
    struct kv_command again = {.kind = KV_COMMAND_INIT};

    again.init.incarnation = 77;
    again.init.n_shards = 32;
    assert_int_equal(apply(cluster, A, &again), ST_DUPLICATE);
    assert_int_equal(kv_sm_meta(sm_of(cluster, A))->incarnation, 1111);
    assert_int_equal(kv_sm_meta(sm_of(cluster, A))->n_shards, TWINS_SHARDS);
}

static void configurations_are_adopted_one_by_one(void **state)
{
    struct cluster *cluster = *state;

    config_give(cluster, S, A);
    assert_int_equal(adopt(cluster, A), ST_OK);
    assert_int_equal(adopt(cluster, A), ST_DUPLICATE);
    config_give(cluster, S, B);
    config_give(cluster, S, A);
    assert_int_equal(adopt(cluster, A), ST_DUPLICATE); /* 3 before 2 */
    assert_int_equal(kv_sm_meta(sm_of(cluster, A))->adopted, 1);
}

static void a_new_group_begins_at_its_join_and_nowhere_else(void **state)
{
    struct cluster *cluster = *state;

    config_give(cluster, S, A);
    config_give(cluster, S, B);
    assert_int_equal(adopt(cluster, B), ST_DUPLICATE); /* joined at 1: that comes first */
    cluster->config.groups[B - 1].joined_at = 2;
    assert_int_equal(adopt(cluster, B), ST_OK);
    assert_int_equal(kv_sm_meta(sm_of(cluster, B))->adopted, 2);
}

static void a_configuration_of_another_cluster_or_incarnation_is_refused(void **state)
{
    struct cluster *cluster = *state;
    uint64_t before;

    before = group_sum(cluster, A);
    config_give(cluster, S, A);
    cluster->config.cluster_id[3]++;
    assert_int_equal(adopt(cluster, A), ST_CONFLICT);
    cluster->config.cluster_id[3]--;
    cluster->config.groups[A - 1].incarnation = 5;
    assert_int_equal(adopt(cluster, A), ST_CONFLICT);
    assert_true(group_sum(cluster, A) == before);
    cluster->config.groups[A - 1].incarnation = 0; /* not known to the controller yet */
    assert_int_equal(adopt(cluster, A), ST_OK);
}

static void an_unknown_command_stops_the_replica(void **state)
{
    struct cluster *cluster = *state;
    struct buf result = {0};
    uint8_t later[] = {KV_COMMAND_FORMAT, KV_COMMAND_VOID + 1, 0, 0};
    uint8_t broken[] = {KV_COMMAND_FORMAT, KV_COMMAND_FREEZE, 0, 0};
    struct rsm_command entry = {.index = 9, .term = 1, .bytes = {later, sizeof(later)}};

    assert_int_equal(kv_sm_apply(sm_of(cluster, A), &entry, &result), ST_VERSION);
    entry.bytes = slice_of(broken, sizeof(broken));
    assert_int_equal(kv_sm_apply(sm_of(cluster, A), &entry, &result), ST_CORRUPT);
    buf_fini(&result);
}

/* ---- Writes ---- */

static void a_repeated_write_is_answered_and_not_applied_again(void **state)
{
    struct cluster *cluster = *state;
    const char *key;

    give(cluster, S, A);
    key = key_in(cluster, S, 0);
    assert_int_equal(write_to(cluster, A, 1, 1, KV_APPEND, key, "xy"), ST_OK);
    assert_int_equal(output(cluster), 2);
    assert_int_equal(write_to(cluster, A, 1, 1, KV_APPEND, key, "xy"), ST_OK);
    assert_int_equal(output(cluster), 2);
    assert_value(cluster, A, key, "xy");
    assert_int_equal(write_to(cluster, A, 1, 2, KV_APPEND, key, "z"), ST_OK);
    assert_int_equal(write_to(cluster, A, 1, 1, KV_APPEND, key, "xy"), ST_SESSION_STALE);
    assert_value(cluster, A, key, "xyz");
}

static void a_mismatch_is_a_kept_result_too(void **state)
{
    struct cluster *cluster = *state;
    struct kv_command command;
    struct reader reader;
    struct kv_write_result result;

    give(cluster, S, A);
    command = write_of(1, 1, KV_PUT, key_in(cluster, S, 0), "v");
    command.write.n_conditions = 1;
    command.write.conditions[0] =
        (struct kv_condition){KV_IF_VALUE, slice_text(cluster->key), slice_text("old")};
    assert_int_equal(apply(cluster, A, &command), ST_OK);
    assert_int_equal(write_to(cluster, A, 2, 1, KV_PUT, cluster->key, "old"), ST_OK);
    assert_int_equal(apply(cluster, A, &command), ST_OK); /* would match now */
    reader = reader_of(cluster->result.result);
    assert_true(kv_write_result_decode(&reader, &result));
    assert_int_equal(result.status, ST_MISMATCH);
    assert_value(cluster, A, cluster->key, "old");
    assert_int_equal(kv_sm_version(sm_of(cluster, A), S), 1); /* of what was written */
}

static void wrong_group_leaves_sessions_untouched_and_tells_the_owner(void **state)
{
    struct cluster *cluster = *state;
    uint64_t before;

    give(cluster, S, A);
    before = group_sum(cluster, B);
    assert_int_equal(write_to(cluster, B, 1, 1, KV_PUT, key_in(cluster, S, 0), "v"),
                     ST_WRONG_GROUP);
    assert_int_equal(cluster->result.gid_hint, A);
    assert_true(group_sum(cluster, B) == before);
    give(cluster, S, B);
    before = group_sum(cluster, B);
    assert_int_equal(write_to(cluster, B, 1, 1, KV_PUT, cluster->key, "v"), ST_WRONG_GROUP);
    assert_int_equal(cluster->result.gid_hint, A); /* it has it until the hand-over */
    assert_int_equal(write_to(cluster, A, 1, 1, KV_PUT, cluster->key, "v"), ST_OK);
    while (kv_sm_shard(sm_of(cluster, A), S)->state != SHARD_FROZEN) {
        assert_true(step(cluster));
    }
    before = group_sum(cluster, A); /* what is being copied must not change */
    assert_int_equal(write_to(cluster, A, 1, 2, KV_PUT, cluster->key, "w"), ST_WRONG_GROUP);
    assert_int_equal(cluster->result.gid_hint, B);
    assert_true(group_sum(cluster, A) == before);
    settle(cluster);
    before = group_sum(cluster, A);
    assert_int_equal(write_to(cluster, A, 1, 2, KV_PUT, cluster->key, "w"), ST_WRONG_GROUP);
    assert_int_equal(cluster->result.gid_hint, B);
    assert_true(group_sum(cluster, A) == before);
}

static void a_key_of_another_shard_is_invalid_and_touches_nothing(void **state)
{
    struct cluster *cluster = *state;
    struct kv_command command;
    uint64_t before;

    give(cluster, S, A);
    give(cluster, S + 1, A);
    before = group_sum(cluster, A);
    command = write_of(1, 1, KV_PUT, key_in(cluster, S, 0), "v");
    command.write.shard = S + 1;
    assert_int_equal(apply(cluster, A, &command), ST_INVALID);
    command.write.shard = TWINS_SHARDS;
    assert_int_equal(apply(cluster, A, &command), ST_WRONG_GROUP);
    assert_true(group_sum(cluster, A) == before);
}

static void a_full_session_table_raises_the_stamp_floor(void **state)
{
    struct cluster *cluster = *state;

    give(cluster, S, A);
    assert_int_equal(kv_sm_stamp_floor(sm_of(cluster, A)), 1);
    for (unsigned client = 1; client <= 110; client++) { /* max_sessions is 100 */
        assert_int_equal(
            write_to(cluster, A, (uint8_t)client, 1, KV_PUT, key_in(cluster, S, 0), "v"),
            client <= 101 ? ST_OK : ST_SESSION_EXPIRED);
    }
    assert_true(kv_sm_stamp_floor(sm_of(cluster, A)) > 1000);
    assert_int_equal(write_to(cluster, A, 1, 1, KV_PUT, cluster->key, "v"), ST_SESSION_EXPIRED);
    give(cluster, S, B);
    settle(cluster);
    assert_true(kv_sm_stamp_floor(sm_of(cluster, B)) > 1000); /* the floor travels */
    assert_int_equal(write_to(cluster, B, 1, 1, KV_PUT, cluster->key, "v"), ST_SESSION_EXPIRED);
}

/* ---- Moves ---- */

static void assert_gone(struct cluster *cluster, uint32_t gid, shard_id shard)
{
    const struct shard *life = kv_sm_shard(sm_of(cluster, gid), shard);

    assert_int_equal(life->state, SHARD_ABSENT);
    assert_true(shard_is_settled(life));
}

static void a_shard_moves_with_its_sessions(void **state)
{
    struct cluster *cluster = *state;

    give(cluster, S, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
    settle(cluster);
    check_data(cluster, B, S);
    assert_gone(cluster, A, S);
    assert_int_equal(kv_sm_shard(sm_of(cluster, B), S)->epoch, 2);
    give(cluster, S, A);
    settle(cluster);
    check_data(cluster, A, S);
    assert_gone(cluster, B, S);
}

static void nothing_is_left_of_a_shard_that_was_let_go(void **state)
{
    struct cluster *cluster = *state;
    uint64_t range;

    give(cluster, S, A);
    write_data(cluster, A, S);
    range = kv_sm_shard(sm_of(cluster, A), S)->range;
    assert_true(mem_state_range_keys(cluster->groups[A].replicas[0].memory, range) > 12);
    give(cluster, S, B);
    settle(cluster);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mem_state_range_keys(cluster->groups[A].replicas[i].memory, range), 0);
    }
}

/* Otherwise a checkpoint or a snapshot in the middle of a copy would lose what has arrived. */
static void what_is_staged_is_part_of_the_state(void **state)
{
    struct cluster *cluster = *state;
    const struct shard_copy *copy;
    uint64_t *ranges = NULL;
    size_t n = 0, capacity = 0;
    bool found = false;

    give(cluster, S, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
    copy = &kv_sm_shard(sm_of(cluster, B), S)->copy;
    while (copy->next_piece < 2) {
        assert_true(step(cluster));
    }
    kv_sm_ranges(sm_of(cluster, B), &ranges, &n, &capacity);
    for (size_t i = 0; i < n; i++) {
        found |= ranges[i] == copy->range;
    }
    assert_true(found);
    mem_free(ranges);
}

/* The stories below, each a list of configurations for some shards; where they end. */
struct story {
    const char *name;
    struct {
        shard_id shard;
        uint32_t owner;
    } moves[8]; /* after S and S + 1 were created at A and B */
    size_t n_moves;
    bool settle_between;
    uint32_t end_s, end_other; /* the owners of S and S + 1 at the end */
};

static const struct story stories[] = {
    {"A to B", {{S, B}}, 1, true, B, B},
    {"swap", {{S, B}, {S + 1, A}}, 2, false, B, A},
    {"there and back at once", {{S, B}, {S, A}}, 2, false, A, B},
    {"nobody, then another", {{S, 0}, {S, B}}, 2, false, B, B},
    {"nobody, settled, then another", {{S, 0}, {S, C}}, 2, true, C, B},
    {"nobody, then its keeper", {{S, 0}, {S, A}}, 2, false, A, B},
    {"nobody twice, then its keeper", {{S, 0}, {S + 1, 0}, {S, A}, {S + 1, B}}, 4, true, A, B},
    {"chain before the middle has it", {{S, B}, {S, C}, {S, 4}}, 3, false, 4, B},
    {"chain with nobody in it", {{S, B}, {S, 0}, {S, C}, {S, A}}, 4, false, A, B},
    {"round and round", {{S, B}, {S, A}, {S, B}, {S, A}, {S, C}}, 5, false, C, B},
};

static void begin_story(struct cluster *cluster, const struct story *story)
{
    cluster_init(cluster);
    give(cluster, S, A);
    give(cluster, S + 1, B);
    write_data(cluster, A, S);
    write_data(cluster, B, S + 1);
    for (size_t i = 0; i < story->n_moves; i++) {
        give(cluster, story->moves[i].shard, story->moves[i].owner);
        if (story->settle_between) {
            settle(cluster);
        }
    }
}

static void end_story(struct cluster *cluster, const struct story *story)
{
    settle(cluster);
    check_data(cluster, story->end_s, S);
    check_data(cluster, story->end_other, S + 1);
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        if (gid != story->end_s) {
            assert_gone(cluster, gid, S);
        }
        if (gid != story->end_other) {
            assert_gone(cluster, gid, S + 1);
        }
    }
    cluster_fini(cluster);
}

static void every_story_ends_well(void **state)
{
    struct cluster cluster;

    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        begin_story(&cluster, &stories[i]);
        end_story(&cluster, &stories[i]);
    }
}

/* After each step in turn: leaders change and restart (everything in memory is lost, the other
 * replica is asked), and every command so far arrives once more. */
static void every_story_ends_well_whatever_is_repeated_and_wherever_leaders_change(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        bool reached_end = false;

        for (int at = 0; !reached_end; at++) {
            struct cluster cluster;

            begin_story(&cluster, &stories[i]);
            for (int n = 0; n < at && !reached_end; n++) {
                reached_end = !step(&cluster);
            }
            restore_all(&cluster);
            cluster.reader = 1;
            apply_all_again(&cluster);
            end_story(&cluster, &stories[i]);
            assert_true(at < 1000);
        }
    }
}

/* One replica of each group is restored from its state after every single command. */
static void a_replica_that_restores_after_every_command_stays_equal(void **state)
{
    struct cluster cluster;

    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        struct story story = stories[i];

        begin_story(&cluster, &story);
        cluster.restore_always = true;
        end_story(&cluster, &story);
    }
}

/* After so many steps of the move to B, a later configuration says something else. Until the freeze
 * A follows it: then B gets nothing. From the freeze on B gets the shard first. */
static bool call_off(int steps, uint32_t owner, uint32_t end)
{
    struct cluster cluster;
    bool reached = true, froze;

    cluster_init(&cluster);
    give(&cluster, S, A);
    write_data(&cluster, A, S);
    give(&cluster, S, B);
    for (int n = 0; n < steps && reached; n++) {
        reached = step(&cluster);
    }
    froze = kv_sm_shard(sm_of(&cluster, A), S)->state != SHARD_SERVING;
    give(&cluster, S, owner);
    if (!froze && owner != 0) {
        assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->outgoing.copy_id, 0);
        assert_int_equal(kv_sm_shard(sm_of(&cluster, A), S)->state, SHARD_SERVING);
    }
    settle(&cluster);
    if (!froze && owner != B && owner != 0) {
        assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->epoch, 0); /* it never had it */
    }
    if (owner == 0) {
        assert_int_equal(kv_sm_shard(sm_of(&cluster, B), S)->state, SHARD_FROZEN);
        give(&cluster, S, end);
        settle(&cluster);
    }
    check_data(&cluster, end, S);
    for (uint32_t gid = 1; gid <= TWINS_GROUPS; gid++) {
        if (gid != end) {
            assert_gone(&cluster, gid, S);
        }
    }
    apply_all_again(&cluster);
    cluster_fini(&cluster); /* and no change log is left: group_sum knows every key */
    return reached;
}

static void a_move_may_be_called_off_after_any_step(void **state)
{
    const uint32_t owners[][2] = {{A, A}, {C, C}, {0, B}, {0, A}, {0, C}};

    (void)state;
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
        int steps = 0;

        while (call_off(steps, owners[i][0], owners[i][1])) {
            steps++;
            assert_true(steps < 1000);
        }
        assert_true(steps > 20);
    }
}

static void a_dead_source_holds_up_only_its_own_shard(void **state)
{
    struct cluster *cluster = *state;
    uint32_t hint;

    give(cluster, S, A);
    give(cluster, S + 1, B);
    write_data(cluster, B, S + 1);
    give(cluster, S + 2, C);
    cluster->dead = 1u << A;
    give(cluster, S, C); /* can't arrive */
    give(cluster, S + 1, C);
    settle(cluster);
    check_data(cluster, C, S + 1);
    assert_true(kv_sm_serves(sm_of(cluster, C), S + 2, &hint));
    assert_false(kv_sm_serves(sm_of(cluster, C), S, &hint));
    assert_int_equal(hint, A);
    give(cluster, S + 1, B); /* later configurations go on as well */
    settle(cluster);
    check_data(cluster, B, S + 1);
}

static void a_dead_source_is_released_when_it_returns(void **state)
{
    struct cluster *cluster = *state;
    struct kv_command late = {.kind = KV_COMMAND_FREEZE, .shard = S, .num = 3};

    give(cluster, S, A);
    give(cluster, S + 1, B);
    write_data(cluster, A, S);
    give(cluster, S, B);
    while (kv_sm_shard(sm_of(cluster, B), S)->state != SHARD_SERVING) {
        assert_true(step(cluster));
    }
    cluster->dead = 1u << A; /* B has it, A has not let go */
    settle(cluster);
    assert_int_equal(kv_sm_shard(sm_of(cluster, A), S)->state, SHARD_FROZEN);
    config_give(cluster, S, C);
    assert_int_equal(adopt(cluster, B), ST_OK);
    assert_int_equal(adopt(cluster, C), ST_OK);
    settle(cluster);
    check_data(cluster, C, S);
    cluster->dead = 0;
    assert_int_equal(apply(cluster, A, &late), ST_DUPLICATE);
    assert_int_equal(adopt(cluster, A), ST_OK);
    settle(cluster);
    assert_gone(cluster, A, S);
    assert_gone(cluster, B, S);
}

static void other_shards_of_the_same_groups_are_not_touched(void **state)
{
    struct cluster *cluster = *state;

    give(cluster, S, A);
    give(cluster, S + 1, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
    for (int i = 0; i < 1000; i++) {
        char key[32];

        strcpy(key, key_in(cluster, S + 1, 7));
        assert_int_equal(
            write_to(cluster, A, 9, (uint64_t)i + 1, KV_PUT, key, i % 2 ? "odd" : "even"), ST_OK);
        assert_value(cluster, A, key, i % 2 ? "odd" : "even");
        if (!step(cluster)) {
            break;
        }
    }
    check_data(cluster, B, S);
}

static void versions_never_go_back_through_moves(void **state)
{
    struct cluster *cluster = *state;
    uint64_t last = 0;

    give(cluster, S, A);
    for (uint64_t i = 0; i < 12; i++) {
        uint32_t gid = 1 + (uint32_t)(i % 3);

        assert_int_equal(write_to(cluster, gid, 1, i + 1, KV_PUT, key_in(cluster, S, 0), "v"),
                         ST_OK);
        assert_true(kv_sm_version(sm_of(cluster, gid), S) > last);
        last = kv_sm_version(sm_of(cluster, gid), S);
        give(cluster, S, 1 + (uint32_t)((i + 1) % 3));
        settle(cluster);
    }
}

/* ---- Known groups ---- */

static void a_group_is_remembered_while_a_shard_needs_it(void **state)
{
    struct cluster *cluster = *state;

    give(cluster, S, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
    /* A leaves and is gone from the configuration, before B has the shard. */
    config_give(cluster, S, B);
    memmove(cluster->config.groups, cluster->config.groups + 1,
            (TWINS_GROUPS - 1) * sizeof(cluster->config.groups[0]));
    cluster->config.n_groups--;
    assert_int_equal(adopt(cluster, B), ST_OK);
    assert_non_null(kv_sm_find_group(sm_of(cluster, B), A));
    settle(cluster);
    check_data(cluster, B, S);
    config_give(cluster, S, B);
    assert_int_equal(adopt(cluster, B), ST_OK);
    assert_null(kv_sm_find_group(sm_of(cluster, B), A));
    restore_all(cluster);
    assert_null(kv_sm_find_group(sm_of(cluster, B), A));
    assert_non_null(kv_sm_find_group(sm_of(cluster, B), C));
}

static int cluster_begin(void **state)
{
    struct cluster *cluster = mem_alloc(sizeof(*cluster));

    cluster_init(cluster);
    *state = cluster;
    return 0;
}

static int cluster_end(void **state)
{
    cluster_fini(*state);
    mem_free(*state);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, cluster_begin, cluster_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(the_first_init_wins),
        STORY(configurations_are_adopted_one_by_one),
        STORY(a_new_group_begins_at_its_join_and_nowhere_else),
        STORY(a_configuration_of_another_cluster_or_incarnation_is_refused),
        STORY(an_unknown_command_stops_the_replica),
        STORY(a_repeated_write_is_answered_and_not_applied_again),
        STORY(a_mismatch_is_a_kept_result_too),
        STORY(wrong_group_leaves_sessions_untouched_and_tells_the_owner),
        STORY(a_key_of_another_shard_is_invalid_and_touches_nothing),
        STORY(a_full_session_table_raises_the_stamp_floor),
        STORY(a_shard_moves_with_its_sessions),
        STORY(nothing_is_left_of_a_shard_that_was_let_go),
        STORY(what_is_staged_is_part_of_the_state),
        cmocka_unit_test(every_story_ends_well),
        cmocka_unit_test(every_story_ends_well_whatever_is_repeated_and_wherever_leaders_change),
        cmocka_unit_test(a_replica_that_restores_after_every_command_stays_equal),
        cmocka_unit_test(a_move_may_be_called_off_after_any_step),
        STORY(a_dead_source_holds_up_only_its_own_shard),
        STORY(a_dead_source_is_released_when_it_returns),
        STORY(other_shards_of_the_same_groups_are_not_touched),
        STORY(versions_never_go_back_through_moves),
        STORY(a_group_is_remembered_while_a_shard_needs_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
