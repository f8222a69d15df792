/* A leader that is cut off from its group and still reached by clients: what they are told. */
#include "tests/sim/kv_fixture.h"

/* Not after the second that a client gives one try: when the leader hears no majority for an
 * election timeout. The same write then goes on at another replica, and has one effect. */
static void a_leader_that_is_cut_off_tells_who_waits_for_a_write(void **state)
{
    struct fixture f;
    struct answer answer = {0};
    struct proto_request append;
    size_t leader;
    uint64_t began_ms;

    (void)state;
    fixture_init(&f, 1, 3, 31);
    fixture_start(&f);
    fixture_settle(&f, fixture_join(&f, 0), 1);
    leader = fixture_leader(&f, 0);
    fixture_append(&f, "key", "one");
    append = fixture_write_request(&f, KV_APPEND, "key", "+two");
    for (size_t i = 0; i < 3; i++) {
        if (i != leader) {
            world_cut_pair(f.world, fixture_node(&f, 0, leader), fixture_node(&f, 0, i), true);
        }
    }
    began_ms = world_now_ms(f.world);
    assert_int_equal(fixture_ask_replica(&f, 0, leader, &append, &answer), ST_UNKNOWN);
    assert_in_range(world_now_ms(f.world) - began_ms, 100, 700);
    answer_fini(&answer);
    assert_int_equal(fixture_ask(&f, 0, &append, 5000, &answer), ST_OK);
    world_heal(f.world);
    world_run_ms(f.world, 2000);
    fixture_check(&f, "key", "one+two");
    answer_fini(&answer);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leader_that_is_cut_off_tells_who_waits_for_a_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
