/* A group tells the controller which shards it has taken over, until the controller knows: only
 * then is a group that left forgotten. */
#include "tests/sim/kv_fixture.h"

#define CONTROLLER 0 /* the only one: the first node */

static bool have_adopted(void *context)
{
    struct fixture *f = context;

    for (size_t group = 0; group < 2; group++) {
        const struct kv_sm *sm = fixture_sm(f, group);

        if (sm == NULL || kv_sm_meta(sm)->adopted < 2) {
            return false;
        }
    }
    return true;
}

static const struct config_group *listed(struct fixture *f, size_t group)
{
    return shard_config_find(kv_sm_config(fixture_sm(f, 1)), fixture_gid(group));
}

/* The controller is down when the shards arrive: they are confirmed when it is back. */
static void what_the_controller_missed_is_confirmed_when_it_is_back(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    fixture_init(&f, 3, 1, 41);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fixture_put_everywhere(&f, "value");
    num = fixture_join(&f, 1);
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, have_adopted, &f));
    world_crash(f.world, CONTROLLER);
    fixture_settle(&f, num, 3);
    world_run_ms(f.world, 3000);
    world_start(f.world, CONTROLLER);
    world_run_ms(f.world, 5000);
    fixture_settle(&f, fixture_leave(&f, 0), 2);
    assert_non_null(listed(&f, 0)); /* it still held the others' shards at that configuration */
    world_run_ms(f.world, 5000);
    num = fixture_join(&f, 2);
    fixture_settle(&f, num, 6);
    assert_null(listed(&f, 0));
    fixture_fini(&f);
}

/* Shards were to go to a group that is dead, and were called back before one of them was handed
 * over: nobody must take it for a group that may hold them. */
static void a_group_that_shards_were_called_back_from_is_forgotten(void **state)
{
    struct fixture f;
    config_num num;

    (void)state;
    fixture_init(&f, 3, 1, 42);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 1), 2);
    fixture_put_everywhere(&f, "value");
    fixture_crash_group(&f, 0);
    fixture_join(&f, 0);
    world_run_ms(f.world, 2000);
    fixture_settle(&f, fixture_leave(&f, 0), 2);
    world_run_ms(f.world, 5000);
    num = fixture_join(&f, 2);
    fixture_settle(&f, num, 6);
    assert_null(listed(&f, 0));
    fixture_check_everywhere(&f, "value");
    fixture_fini(&f);
}

#define LAST_SHARD 5

static const struct shard *last_shard(const struct fixture *f, size_t group)
{
    return kv_sm_shard(fixture_sm(f, group), LAST_SHARD);
}

static bool waits_to_tell(void *context)
{
    const struct fixture *f = context;

    return fixture_sm(f, 1) != NULL && last_shard(f, 1)->state == SHARD_SERVING &&
           last_shard(f, 1)->n_releases == 1;
}

/* It goes down right after its last shard was taken over, leaves, and is listed no more: it is told
 * that it may let go of the shard when it is back all the same. */
static void a_group_that_left_is_told_what_it_may_drop(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 3, 1, 43);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    fixture_put(&f, fixture_key(&f, LAST_SHARD, 0), "value");
    fixture_join(&f, 1);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_settle(&f, fixture_move(&f, shard, shard != LAST_SHARD), 3);
    }
    fixture_leave(&f, 0);
    assert_true(world_run_until(f.world, FIXTURE_WAIT_MS, waits_to_tell, &f));
    fixture_crash_group(&f, 0);
    world_run_ms(f.world, 5000);
    fixture_settle(&f, fixture_join(&f, 2), 4);
    assert_null(listed(&f, 0));
    assert_int_equal(last_shard(&f, 1)->n_releases, 1);
    /* What asks it knows where it is; after a restart only the state does. */
    fixture_crash_group(&f, 1);
    fixture_start_group(&f, 1);
    world_run_ms(f.world, 5000);
    fixture_start_group(&f, 0);
    world_run_ms(f.world, 10000);
    assert_int_equal(last_shard(&f, 1)->n_releases, 0);
    assert_int_equal(last_shard(&f, 0)->state, SHARD_ABSENT);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_controller_missed_is_confirmed_when_it_is_back),
        cmocka_unit_test(a_group_that_left_is_told_what_it_may_drop),
        cmocka_unit_test(a_group_that_shards_were_called_back_from_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
