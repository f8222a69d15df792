/* Migrations between whole groups in a simulated world: leaders die at any moment, groups are dead
 * or come back, configurations overtake the data, the network loses messages. fixture_check_owners
 * holds all the time: at most one group serves a shard. */
#include "tests/sim/kv_fixture.h"

#define ALL_KEYS 3 /* a shard */

static void write_all(struct fixture *f, const char *value)
{
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        for (unsigned n = 0; n < ALL_KEYS; n++) {
            fixture_put(f, fixture_key(f, shard, n), value);
        }
    }
}

static void append_all(struct fixture *f, const char *value)
{
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        for (unsigned n = 0; n < ALL_KEYS; n++) {
            fixture_append(f, fixture_key(f, shard, n), value);
        }
    }
}

static void check_all(struct fixture *f, const char *value)
{
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        for (unsigned n = 0; n < ALL_KEYS; n++) {
            fixture_check(f, fixture_key(f, shard, n), value);
        }
    }
}

/* Begins with group 0 alone, holding everything; pieces are small, so that there are many. */
static void begin(struct fixture *f, size_t n_groups, uint64_t seed)
{
    fixture_init(f, n_groups, 3, seed);
    f->piece_bytes = 30;
    f->checkpoints = true;
    fixture_start(f);
    fixture_settle(f, fixture_join(f, 0), 1);
    write_all(f, "one");
}

/* Every replica of the group has the same state, once it has applied the same entries. */
static bool group_is_equal(void *context)
{
    struct fixture *f = context;

    for (size_t g = 0; g < f->n_groups; g++) {
        for (size_t i = 1; i < f->n_replicas; i++) {
            if (group_applied_index(kv_server_group(fixture_server(f, g, i))) !=
                group_applied_index(kv_server_group(fixture_server(f, g, 0)))) {
                return false;
            }
        }
    }
    return true;
}

static void check_replicas_are_equal(struct fixture *f)
{
    assert_true(world_run_until(f->world, FIXTURE_WAIT_MS, group_is_equal, f));
    for (size_t g = 0; g < f->n_groups; g++) {
        for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
            struct buf first = {0};

            shard_encode(kv_sm_shard(kv_server_sm(fixture_server(f, g, 0)), shard), &first);
            for (size_t i = 1; i < f->n_replicas; i++) {
                struct buf other = {0};

                shard_encode(kv_sm_shard(kv_server_sm(fixture_server(f, g, i)), shard), &other);
                assert_true(slice_equal(buf_slice(&first), buf_slice(&other)));
                buf_fini(&other);
            }
            buf_fini(&first);
        }
    }
}

static void crash_leader(struct fixture *f, size_t group, size_t *crashed)
{
    *crashed = fixture_leader(f, group);
    if (*crashed != SIZE_MAX) {
        world_crash(f->world, fixture_node(f, group, *crashed));
    }
}

static void start_again(struct fixture *f, size_t group, size_t crashed)
{
    if (crashed != SIZE_MAX) {
        world_start(f->world, fixture_node(f, group, crashed));
    }
}

/* The number of changes that this group's state went through. */
struct moment {
    struct fixture *f;
    size_t group;
    uint64_t changes;
};

static bool moment_has_come(void *context)
{
    const struct moment *moment = context;
    const struct kv_sm *sm = fixture_sm(moment->f, moment->group);

    return sm != NULL && kv_sm_changes(sm) >= moment->changes;
}

/* Runs until so many steps of the migration are behind that group. False: it has fewer. */
static bool run_until_step(struct fixture *f, size_t group, uint64_t steps)
{
    struct moment moment = {f, group, 0};

    assert_true(world_run_until(f->world, 2000, moment_has_come, &moment)); /* it has a leader */
    moment.changes = kv_sm_changes(fixture_sm(f, group)) + steps;
    return world_run_until(f->world, 400, moment_has_come, &moment);
}

/* The leader of `first` dies after so many steps of it, that of the other group soon after. */
static bool migrate_with_deaths(size_t first, uint64_t steps)
{
    struct fixture f;
    size_t crashed[2];
    config_num num;
    bool reached;

    begin(&f, 2, 100 + steps);
    num = fixture_join(&f, 1);
    reached = run_until_step(&f, first, steps);
    crash_leader(&f, first, &crashed[first]);
    world_run_ms(f.world, steps % 3 * 5);
    crash_leader(&f, 1 - first, &crashed[1 - first]);
    world_run_ms(f.world, 600);
    start_again(&f, 0, crashed[0]);
    start_again(&f, 1, crashed[1]);
    fixture_settle(&f, num, 3);
    check_all(&f, "one");
    check_replicas_are_equal(&f);
    fixture_fini(&f);
    return reached;
}

static void leaders_may_die_after_any_step_of_a_migration(void **state)
{
    (void)state;
    for (size_t first = 0; first < 2; first++) {
        uint64_t steps = 1;

        while (migrate_with_deaths(first, steps)) {
            steps += 2;
            assert_true(steps < 1000);
        }
        assert_true(steps > 10);
    }
}

static bool migrate_with_restarts(size_t first, uint64_t steps)
{
    struct fixture f;
    config_num num;
    bool reached;

    begin(&f, 2, 200 + steps);
    num = fixture_join(&f, 1);
    reached = run_until_step(&f, first, steps);
    fixture_crash_group(&f, first);
    world_run_ms(f.world, steps);
    fixture_crash_group(&f, 1 - first);
    fixture_start_group(&f, 0);
    fixture_start_group(&f, 1);
    fixture_settle(&f, num, 3);
    append_all(&f, "+two");
    check_all(&f, "one+two");
    fixture_fini(&f);
    return reached;
}

static void whole_groups_may_restart_after_any_step_of_a_migration(void **state)
{
    (void)state;
    for (size_t first = 0; first < 2; first++) {
        for (uint64_t steps = 1; migrate_with_restarts(first, steps); steps += 3) {
            assert_true(steps < 1000);
        }
    }
}

static void two_groups_swap_shards_without_waiting_for_each_other(void **state)
{
    struct fixture f;
    config_num num = 0;

    (void)state;
    begin(&f, 2, 3);
    fixture_settle(&f, fixture_join(&f, 1), 3);
    for (int round = 0; round < 4; round++) {
        const struct shard_config *config = kv_sm_config(fixture_sm(&f, 0));
        uint32_t owners[FIXTURE_SHARDS];

        memcpy(owners, config->shards, sizeof(owners));
        for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
            num = fixture_move(&f, shard, owners[shard] == fixture_gid(0) ? 1 : 0);
        }
        fixture_settle(&f, num, 3);
        append_all(&f, "+");
    }
    check_all(&f, "one++++");
    check_replicas_are_equal(&f);
    fixture_fini(&f);
}

static void configurations_may_overtake_the_data(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin(&f, 4, 4);
    fixture_join(&f, 1);
    fixture_join(&f, 2);
    fixture_leave(&f, 0);
    fixture_join(&f, 3);
    fixture_leave(&f, 1);
    fixture_leave(&f, 2);
    num = fixture_join(&f, 0);
    fixture_settle(&f, num, 15);
    check_all(&f, "one");
    num = fixture_leave(&f, 3);
    fixture_settle(&f, num, 15);
    append_all(&f, "+two");
    check_all(&f, "one+two");
    check_replicas_are_equal(&f);
    fixture_fini(&f);
}

static void a_group_that_was_down_catches_up_over_several_configurations(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin(&f, 3, 5);
    fixture_crash_group(&f, 1);
    fixture_join(&f, 1); /* its shards wait for it */
    fixture_join(&f, 2);
    fixture_leave(&f, 1);
    num = fixture_move(&f, 0, 2);
    world_run_ms(f.world, 3000);
    fixture_start_group(&f, 1);
    fixture_settle(&f, num, 7);
    check_all(&f, "one");
    fixture_fini(&f);
}

static void when_everybody_left_the_next_group_gets_all(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request request;
    config_num num;

    (void)state;
    begin(&f, 2, 6);
    fixture_settle(&f, fixture_leave(&f, 0), 1);
    request = fixture_get_request("a");
    assert_int_equal(fixture_ask(&f, 0, &request, 1000, &answer), ST_WRONG_GROUP);
    num = fixture_join(&f, 1);
    fixture_settle(&f, num, 3);
    check_all(&f, "one");
    num = fixture_leave(&f, 1);
    fixture_settle(&f, num, 3);
    num = fixture_join(&f, 1); /* back to its keeper */
    fixture_settle(&f, num, 3);
    append_all(&f, "+two");
    check_all(&f, "one+two");
    answer_fini(&answer);
    fixture_fini(&f);
}

/* The public suites' challenge 2: what can't arrive holds up nothing else. */
static void a_dead_source_holds_up_only_what_it_holds(void **state)
{
    struct fixture f;
    bool was_on_1[FIXTURE_SHARDS], was_on_2[FIXTURE_SHARDS];
    const struct shard_config *config;

    (void)state;
    begin(&f, 3, 7);
    fixture_join(&f, 1);
    fixture_settle(&f, fixture_join(&f, 2), 7);
    config = kv_sm_config(fixture_sm(&f, 1));
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        was_on_1[shard] = config->shards[shard] == fixture_gid(1);
        was_on_2[shard] = config->shards[shard] == fixture_gid(2);
    }
    fixture_crash_group(&f, 0);
    fixture_leave(&f, 0);
    fixture_leave(&f, 2);
    world_run_ms(f.world, 1000);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        const struct shard *life = kv_sm_shard(fixture_sm(&f, 1), shard);

        if (was_on_1[shard] || was_on_2[shard]) {
            assert_int_equal(life->state, SHARD_SERVING);
            fixture_append(&f, fixture_key(&f, shard, 0), "+two");
            fixture_check(&f, fixture_key(&f, shard, 0), "one+two");
        } else {
            assert_int_equal(life->state, SHARD_ABSENT);
        }
    }
    fixture_start_group(&f, 0); /* and when it returns, all is well */
    fixture_settle(&f, kv_sm_meta(fixture_sm(&f, 1))->adopted, 7);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 1), "one");
    }
    fixture_fini(&f);
}

/* With few slots, a dead source would keep all of them busy, 2 s for each try of each shard. */
static void a_dead_source_does_not_take_the_slots_of_others(void **state)
{
    struct fixture f;
    config_num num = 0;

    (void)state;
    fixture_init(&f, 3, 3, 16);
    f.max_copies = 2;
    fixture_start(&f);
    fixture_join(&f, 0);
    fixture_join(&f, 1);
    fixture_settle(&f, fixture_join(&f, 2), 7);
    fixture_put_everywhere(&f, "one");
    for (shard_id shard = 0; shard < 15; shard++) { /* the first ones from the dead group */
        num = fixture_move(&f, shard, shard < 12 ? 0 : 1);
    }
    fixture_settle(&f, num, 7);
    fixture_crash_group(&f, 0);
    for (shard_id shard = 0; shard < 15; shard++) {
        num = fixture_move(&f, shard, 2);
    }
    world_run_ms(f.world, 3500);
    for (shard_id shard = 12; shard < 15; shard++) {
        assert_int_equal(kv_sm_shard(fixture_sm(&f, 2), shard)->state, SHARD_SERVING);
    }
    fixture_start_group(&f, 0);
    fixture_settle(&f, num, 7);
    fixture_check_everywhere(&f, "one");
    fixture_fini(&f);
}

static void a_shard_that_is_moving_is_served_by_its_source_until_it_is_asked_for(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, 2, 8);
    fixture_crash_group(&f, 1);
    fixture_join(&f, 1);
    world_run_ms(f.world, 1000);
    assert_int_equal(kv_sm_meta(fixture_sm(&f, 0))->adopted, 2);
    append_all(&f, "+two"); /* the taker is down: nobody notices */
    fixture_start_group(&f, 1);
    fixture_settle(&f, 2, 3);
    check_all(&f, "one+two");
    fixture_fini(&f);
}

static void a_retry_after_the_move_is_not_applied_twice(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request append;
    char key[32];

    (void)state;
    begin(&f, 2, 9);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        strcpy(key, fixture_key(&f, shard, 0));
        append = fixture_write_request(&f, KV_APPEND, key, "+once");
        assert_int_equal(fixture_ask_any(&f, &append, &answer), ST_OK);
    }
    fixture_settle(&f, fixture_join(&f, 1), 3);
    fixture_settle(&f, fixture_leave(&f, 0), 3);
    /* The answer was lost, as far as the client knows: it sends the last one again. */
    assert_int_equal(fixture_ask(&f, 1, &append, 5000, &answer), ST_OK);
    assert_int_equal(answer.write.outputs[0], 8);
    fixture_check(&f, key, "one+once");
    answer_fini(&answer);
    fixture_fini(&f);
}

static void shards_move_while_the_network_loses_messages_and_clients_write(void **state)
{
    struct world_faults faults = {.unreliable = true};

    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct fixture f;
        char expected[64] = "one";
        config_num num = 0;

        begin(&f, 3, 300 + seed);
        world_set_faults(f.world, &faults);
        for (int round = 0; round < 6; round++) {
            switch (round) {
            case 0:
                num = fixture_join(&f, 1);
                break;
            case 1:
                num = fixture_join(&f, 2);
                break;
            case 2:
                num = fixture_leave(&f, 0);
                break;
            case 3:
                num = fixture_leave(&f, 2);
                break;
            case 4:
                num = fixture_join(&f, 0);
                break;
            default:
                num = fixture_leave(&f, 1);
                break;
            }
            append_all(&f, "+x");
            strcat(expected, "+x");
        }
        faults.unreliable = false;
        world_set_faults(f.world, &faults);
        faults.unreliable = true;
        fixture_settle(&f, num, 7);
        check_all(&f, expected);
        check_replicas_are_equal(&f);
        fixture_fini(&f);
    }
}

static void large_values_travel_alone(void **state)
{
    struct fixture f;
    char *large = mem_alloc(3000001);

    (void)state;
    memset(large, 'x', 3000000);
    large[3000000] = '\0';
    fixture_init(&f, 2, 3, 10);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    for (shard_id shard = 0; shard < 4; shard++) {
        fixture_put(&f, fixture_key(&f, shard, 0), large);
        fixture_put(&f, fixture_key(&f, shard, 1), "small");
    }
    fixture_settle(&f, fixture_join(&f, 1), 3);
    fixture_settle(&f, fixture_leave(&f, 0), 3);
    for (shard_id shard = 0; shard < 4; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 0), large);
        fixture_check(&f, fixture_key(&f, shard, 1), "small");
    }
    mem_free(large);
    fixture_fini(&f);
}

/* However long the largest record takes: its shard is frozen and waits for it. */
static void a_large_value_arrives_over_a_slow_network(void **state)
{
    struct world_faults slow = {.answer_bytes_per_ms = 1000};
    struct world_faults none = {0};
    struct fixture f;
    config_num num;
    char *large = mem_alloc(3000001);

    (void)state;
    memset(large, 'x', 3000000);
    large[3000000] = '\0';
    fixture_init(&f, 2, 1, 11);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fixture_put(&f, fixture_key(&f, 0, 0), large);
    fixture_settle(&f, fixture_join(&f, 1), 3);
    world_set_faults(f.world, &slow);
    num = fixture_move(&f, 0, kv_sm_config(fixture_sm(&f, 0))->shards[0] == fixture_gid(0));
    fixture_settle(&f, num, 3);
    world_set_faults(f.world, &none);
    fixture_check(&f, fixture_key(&f, 0, 0), large);
    mem_free(large);
    fixture_fini(&f);
}

static bool at_most_two_are_on_their_way(void *context)
{
    const struct fixture *f = context;
    const struct kv_sm *sm = fixture_sm(f, 1);
    unsigned n = 0;
    bool all = true;

    for (shard_id shard = 0; sm != NULL && shard < FIXTURE_SHARDS; shard++) {
        const struct shard *life = kv_sm_shard(sm, shard);

        n += life->copy.copy_id != 0;
        all &= life->state == SHARD_SERVING;
    }
    assert_true(n <= 2);
    return all;
}

static void no_more_shards_arrive_at_a_time_than_allowed(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 2, 3, 36);
    f.piece_bytes = 30;
    f.max_copies = 2;
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    write_all(&f, "one");
    fixture_join(&f, 1);
    fixture_leave(&f, 0);
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, at_most_two_are_on_their_way, &f));
    check_all(&f, "one");
    fixture_fini(&f);
}

/* The configuration says "from group 1", which is dead and never got the shard: group 0 has it. */
static void the_shard_is_found_where_it_stayed(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    begin(&f, 3, 37);
    fixture_join(&f, 1);
    fixture_settle(&f, fixture_join(&f, 2), 7);
    fixture_settle(&f, fixture_move(&f, 0, 0), 7);
    fixture_crash_group(&f, 1);
    fixture_move(&f, 0, 1);
    num = fixture_move(&f, 0, 2);
    world_run_ms(f.world, 6000);
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 2), 0)->state, SHARD_SERVING);
    fixture_append(&f, fixture_key(&f, 0, 0), "+two");
    fixture_start_group(&f, 1);
    fixture_settle(&f, num, 7); /* group 1 learns that it will not get it */
    fixture_check(&f, fixture_key(&f, 0, 0), "one+two");
    assert_int_equal(kv_sm_shard(fixture_sm(&f, 1), 0)->epoch, 0);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaders_may_die_after_any_step_of_a_migration),
        cmocka_unit_test(whole_groups_may_restart_after_any_step_of_a_migration),
        cmocka_unit_test(two_groups_swap_shards_without_waiting_for_each_other),
        cmocka_unit_test(configurations_may_overtake_the_data),
        cmocka_unit_test(a_group_that_was_down_catches_up_over_several_configurations),
        cmocka_unit_test(when_everybody_left_the_next_group_gets_all),
        cmocka_unit_test(a_dead_source_holds_up_only_what_it_holds),
        cmocka_unit_test(a_dead_source_does_not_take_the_slots_of_others),
        cmocka_unit_test(a_shard_that_is_moving_is_served_by_its_source_until_it_is_asked_for),
        cmocka_unit_test(a_retry_after_the_move_is_not_applied_twice),
        cmocka_unit_test(shards_move_while_the_network_loses_messages_and_clients_write),
        cmocka_unit_test(large_values_travel_alone),
        cmocka_unit_test(a_large_value_arrives_over_a_slow_network),
        cmocka_unit_test(no_more_shards_arrive_at_a_time_than_allowed),
        cmocka_unit_test(the_shard_is_found_where_it_stayed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
