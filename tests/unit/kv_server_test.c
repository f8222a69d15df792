/* Whole shard servers, with a controller, in a simulated world: what clients and other groups get
 * to see. */
#include "tests/unit/kv_fixture.h"

static void a_group_serves_all_shards_once_it_has_joined(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request request = fixture_get_request("a");

    (void)state;
    fixture_init(&f, 1, 3, 1);
    fixture_start(&f);
    assert_int_equal(fixture_ask(&f, 0, &request, 2000, &answer), ST_WRONG_GROUP);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 0), NULL);
        fixture_put(&f, fixture_key(&f, shard, 0), "value");
        fixture_append(&f, fixture_key(&f, shard, 0), "+more");
        fixture_check(&f, fixture_key(&f, shard, 0), "value+more");
    }
    answer_fini(&answer);
    fixture_fini(&f);
}

static void shards_move_to_a_group_that_joins_and_back_when_it_leaves(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, 2, 3, 2);
    fixture_start(&f);
    fixture_join(&f, 0);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_put(&f, fixture_key(&f, shard, 0), "one");
    }
    fixture_settle(&f, fixture_join(&f, 1), 3);
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 0), "one");
        fixture_append(&f, fixture_key(&f, shard, 0), "+two");
    }
    fixture_settle(&f, fixture_leave(&f, 0), 3);
    fixture_crash_group(&f, 0); /* it is needed no more */
    for (shard_id shard = 0; shard < FIXTURE_SHARDS; shard++) {
        fixture_check(&f, fixture_key(&f, shard, 0), "one+two");
    }
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_serves_all_shards_once_it_has_joined),
        cmocka_unit_test(shards_move_to_a_group_that_joins_and_back_when_it_leaves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
