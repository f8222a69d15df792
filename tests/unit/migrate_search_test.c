/* Shards that are not where the configuration says: the group that it names is dead, and their
 * hand-over to it was called off. They are looked for at all others. */
#include "tests/sim/kv_fixture.h"

#define N_MOVED 12

/* Group 1 is dead and never got them: they go from group `has` to it, and on to group 2. */
static config_num call_off(struct fixture *f, size_t has)
{
    unsigned all = (1u << f->n_groups) - 1;
    config_num num = 0;

    for (shard_id shard = 0; shard < N_MOVED; shard++) {
        num = fixture_move(f, shard, has);
    }
    fixture_settle(f, num, all);
    fixture_crash_group(f, 1);
    for (shard_id shard = 0; shard < N_MOVED; shard++) {
        fixture_move(f, shard, 1);
        num = fixture_move(f, shard, 2);
    }
    return num;
}

static unsigned moved(const struct fixture *f)
{
    unsigned n = 0;

    for (shard_id shard = 0; shard < N_MOVED; shard++) {
        n += kv_sm_shard(fixture_sm(f, 2), shard)->state == SHARD_SERVING;
    }
    return n;
}

/* The first ones wait for an answer of group 1 in vain. The others don't: nobody waits for each. */
static void a_dead_group_is_not_waited_for_with_each_shard(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    fixture_init(&f, 3, 3, 71);
    f.max_copies = 2;
    fixture_start(&f);
    for (size_t g = 0; g < f.n_groups; g++) {
        fixture_settle(&f, fixture_join(&f, g), (2u << g) - 1);
    }
    fixture_put_everywhere(&f, "one");
    num = call_off(&f, 0);
    world_run_ms(f.world, 5000);
    assert_int_equal(moved(&f), N_MOVED);
    fixture_start_group(&f, 1);
    fixture_settle(&f, num, 7);
    fixture_check_everywhere(&f, "one");
    fixture_fini(&f);
}

/* Wherever it comes in their order. */
static void every_other_group_is_asked(void **state)
{
    (void)state;
    for (size_t n_groups = 4; n_groups <= FIXTURE_MAX_GROUPS; n_groups++) {
        struct fixture f;

        fixture_init(&f, n_groups, 1, 72);
        fixture_start(&f);
        for (size_t g = 0; g < n_groups; g++) {
            fixture_settle(&f, fixture_join(&f, g), (2u << g) - 1);
        }
        call_off(&f, n_groups - 1);
        world_run_ms(f.world, 5000);
        assert_int_equal(moved(&f), N_MOVED);
        fixture_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_group_is_not_waited_for_with_each_shard),
        cmocka_unit_test(every_other_group_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
