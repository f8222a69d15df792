/* Unit tests of client/clerk: operations against a fake cluster in virtual time, told as stories.
 * Scans and the random test have files of their own. */
#include "tests/cmocka.h"
#include "tests/unit/clerk_story.h"

/* ---- The plain course ---- */

static void what_was_put_is_read(void **state)
{
    struct story *story = *state;

    put(story, "a", "1", 1000);
    assert_int_equal(story->ended.times, 0);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->ended.has_result);
    get_into(story, "a", 1000, &story->ended);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_string_equal(story->ended.value, "1");
    get_into(story, "b", 1000, &story->ended);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_NOT_FOUND);
    assert_int_equal(story->world.config_queries, 1);
    assert_int_equal(clerk_outstanding(story->clerk), 0);
    assert_true(clerk_next_deadline_ms(story->clerk) == UINT64_MAX);
}

static void what_is_past_the_limits_is_refused_at_the_next_tick(void **state)
{
    struct story *story = *state;
    uint8_t *big = mem_zalloc(KV_MAX_VALUE + 1);
    struct kv_write write = {.n_operations = 1};

    get_into(story, "", 1000, &story->ended);
    assert_int_equal(story->ended.times, 0);
    run(story, 0);
    assert_int_equal(story->ended.status, ST_INVALID);

    write.operations[0] =
        (struct kv_operation){KV_PUT, slice_text("a"), slice_of(big, KV_MAX_VALUE + 1)};
    clerk_write(story->clerk, &write, story->world.now, story->world.now + 10, note_end,
                &story->ended);
    run(story, 0);
    assert_int_equal(story->ended.status, ST_TOO_LARGE);

    write.operations[0].key = slice_of(big, KV_MAX_KEY + 1);
    clerk_write(story->clerk, &write, story->world.now, story->world.now + 10, note_end,
                &story->ended);
    run(story, 0);
    assert_int_equal(story->ended.status, ST_INVALID);

    write.n_operations = 3;
    for (int i = 0; i < 3; i++) {
        write.operations[i] =
            (struct kv_operation){KV_PUT, slice_text("{a}"), slice_of(big, KV_MAX_VALUE)};
    }
    clerk_write(story->clerk, &write, story->world.now, story->world.now + 10, note_end,
                &story->ended);
    run(story, 0);
    assert_int_equal(story->ended.status, ST_TOO_LARGE);
    assert_int_equal(story->ended.times, 4);
    assert_int_equal(story->world.n_applied, 0);
    mem_free(big);
}

static void the_keys_of_a_write_lie_in_one_shard(void **state)
{
    struct story *story = *state;
    struct kv_write write = {.n_operations = 2, .n_conditions = 1};

    write.conditions[0] = (struct kv_condition){KV_IF_ABSENT, slice_text("{t}c"), {0}};
    write.operations[0] = (struct kv_operation){KV_PUT, slice_text("{t}a"), slice_text("both")};
    write.operations[1] = (struct kv_operation){KV_DELETE, slice_text("{t}b"), {0}};
    ended_init(story, &story->ended);
    clerk_write(story->clerk, &write, story->world.now, story->world.now + 100, note_end,
                &story->ended);
    run(story, 100);
    assert_int_equal(story->ended.status, ST_OK);

    write.conditions[0].key = slice_text("elsewhere");
    clerk_write(story->clerk, &write, story->world.now, story->world.now + 100, note_end,
                &story->ended);
    run(story, 100);
    assert_int_equal(story->ended.status, ST_INVALID);
    assert_int_equal(fake_times_applied(&story->world, "both"), 1);
}

/* That keys lie in two shards is seen only once the configuration is known and the write began. */
static void writes_refused_after_they_began_leave_room_for_others(void **state)
{
    struct story *story = *state;
    struct kv_write write = {.n_operations = 2};

    warm_up(story);
    write.operations[0] = (struct kv_operation){KV_DELETE, slice_text("{t}a"), {0}};
    write.operations[1] = (struct kv_operation){KV_DELETE, slice_text("elsewhere"), {0}};
    for (int i = 0; i < 513; i++) { /* one more than there is room for */
        clerk_write(story->clerk, &write, story->world.now, story->world.now + 100, note_end,
                    &story->ended);
        run(story, 0);
        assert_int_equal(story->ended.status, ST_INVALID);
    }
    put(story, story->key, "good", 1000);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_OK);
}

/* ---- Moving shards ---- */

static void a_shard_that_moved_is_found_by_the_hint_at_once(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fake_move(&story->world, story->shard, 2, true);
    put(story, story->key, "moved", 1000);
    run(story, 4);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(leader_of(story, 1)->requests, 1);
    assert_int_equal(leader_of(story, 2)->requests, 1);
}

static void without_a_hint_the_configuration_is_read_anew(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fake_move(&story->world, story->shard, 2, true);
    story->world.hints = false;
    put(story, story->key, "moved", 1000);
    run(story, 20);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(story->world.config_queries, 2);
    assert_true(clerk_config(story->clerk)->num == 6);
}

static void wrong_group_does_not_change_the_sequence_number(void **state)
{
    struct story *story = *state;
    uint64_t seq;

    warm_up(story);
    put(story, story->key, "before", 1000);
    run(story, 10);
    seq = story->world.last_seq;
    /* Applied at the old owner, whose answer gets lost; the session moves with the shard. */
    fault_leader(story, 1, FAULT_APPLY_BREAK, 1);
    put(story, story->key, "once", 3000);
    run(story, 3);
    fake_move(&story->world, story->shard, 2, true);
    run(story, 3000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(fake_times_applied(&story->world, "once"), 1);
    assert_true(story->world.last_seq == seq + 1);
}

static void a_hand_over_that_takes_a_while_is_waited_for(void **state)
{
    struct story *story = *state;

    warm_up(story);
    story->world.holder[story->shard] = 0; /* frozen: nobody serves it */
    put(story, story->key, "waited", 5000);
    run(story, 2000);
    assert_int_equal(story->ended.times, 0);
    assert_in_range(story->world.config_queries, 2, 30); /* rate-limited */
    assert_in_range(leader_of(story, 1)->requests, 10, 100);
    story->world.holder[story->shard] = 3;
    fake_move(&story->world, story->shard, 3, true);
    run(story, 300);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(fake_times_applied(&story->world, "waited"), 1);
}

static void while_the_old_owner_still_serves_it_is_asked_directly(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fake_move(&story->world, story->shard, 2, false); /* copying */
    remake_clerk(story, 512, "");
    for (int i = 0; i < 10; i++) {
        put(story, story->key, "copying", 1000);
        run(story, 50);
        assert_int_equal(story->ended.status, ST_OK);
    }
    assert_int_equal(leader_of(story, 2)->requests, 1); /* which pointed to group 1 */
    story->world.holder[story->shard] = 2;
    put(story, story->key, "there", 1000);
    run(story, 50);
    assert_int_equal(story->ended.status, ST_OK);
}

static void a_dead_group_whose_shards_moved_is_left(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fault_group(story, 1, FAULT_SILENT);
    fake_move(&story->world, story->shard, 2, true);
    get_into(story, story->key, 5000, &story->ended);
    run(story, 1100);
    assert_int_equal(story->ended.status, ST_OK);
}

/* The clerk was served by the old owner after the configuration had moved the shard; then the shard
 * was handed over, and the old owner stopped for good. */
static void a_dead_group_that_served_to_the_last_is_left(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fake_move(&story->world, story->shard, 2, false);
    refuse_once(story, 1, ST_WRONG_GROUP); /* makes the clerk read the configuration */
    put(story, story->key, "before", 5000);
    run(story, 5000);
    assert_int_equal(story->ended.status, ST_OK);
    story->world.holder[story->shard] = 2;
    fault_group(story, 1, FAULT_UNREACHABLE);
    put(story, story->key, "after", 5000);
    run(story, 5000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(fake_times_applied(&story->world, "after"), 1);
}

static void a_shard_that_nobody_owns_is_waited_for(void **state)
{
    struct story *story = *state;
    char key[16];
    shard_id shard;

    key_of(story, 1, key);
    shard = shard_of_key(slice_text(key), FAKE_SHARDS);
    fake_move(&story->world, shard, 0, true);
    put(story, key, "early", 300);
    run(story, 300);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_non_null(strstr(story->ended.reason, "no group owns"));
    put(story, key, "late", 3000);
    run(story, 300);
    fake_move(&story->world, shard, 3, true);
    run(story, 500);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(fake_times_applied(&story->world, "early"), 0);
}

/* ---- How writes end ---- */

static void a_write_whose_group_cannot_be_reached_is_certainly_not_applied(void **state)
{
    struct story *story = *state;
    uint64_t deadline;
    char key[16];

    warm_up(story);
    fault_group(story, 1, FAULT_UNREACHABLE);
    run(story, 2);
    deadline = story->world.now + 1000;
    put(story, key_of(story, 1, key), "never", 1000);
    fake_run(&story->world, deadline);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    assert_true(story->ended.at == deadline);
    assert_non_null(strstr(story->ended.reason, "g1"));
    assert_non_null(strstr(story->ended.reason, "can't be reached"));
}

static void without_a_controller_nothing_is_applied(void **state)
{
    struct story *story = *state;

    fault_group(story, 0, FAULT_UNREACHABLE);
    put(story, "a", "never", 500);
    run(story, 500);
    assert_int_equal(story->ended.times, 1);
    assert_int_equal(story->ended.status, ST_UNAVAILABLE);
    fault_group(story, 0, FAULT_NONE);
    put(story, "a", "now", 5000);
    run(story, 5000);
    assert_int_equal(story->ended.status, ST_OK);
    assert_int_equal(story->world.n_applied, 1);
}

static void a_write_lost_with_its_connection_is_unknown(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fault_leader(story, 1, FAULT_APPLY_BREAK, 1);
    put(story, story->key, "perhaps", 1000);
    run(story, 3);
    fault_group(story, 1, FAULT_UNREACHABLE);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_int_equal(fake_times_applied(&story->world, "perhaps"), 1);
}

static void a_write_sent_to_a_silent_group_is_unknown_and_a_read_is_not(void **state)
{
    struct story *story = *state;
    struct ended *read = mem_alloc(sizeof(*read));

    warm_up(story);
    fault_group(story, 1, FAULT_APPLY_SILENT);
    put(story, story->key, "perhaps", 1000);
    get_into(story, story->key, 1000, read);
    run(story, 1000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_int_equal(read->status, ST_TIMEOUT);
    mem_free(read);
}

static void an_expired_session_is_renewed_if_nothing_was_applied(void **state)
{
    struct story *story = *state;
    uint64_t seq;

    warm_up(story);
    put(story, story->key, "first", 1000);
    run(story, 10);
    seq = story->world.last_seq;
    story->world.floor = story->world.time + 1000;
    put(story, story->key, "second", 1000);
    run(story, 10);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->world.last_seq == seq + 1);
    assert_true(story->world.last_issued_at > story->world.floor);
}

static void an_expired_session_leaves_a_lost_try_unknown(void **state)
{
    struct story *story = *state;

    warm_up(story);
    fault_leader(story, 1, FAULT_BREAK, 1);
    put(story, story->key, "perhaps", 3000);
    story->world.floor = story->world.time + 1000;
    run(story, 3000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
    assert_int_equal(fake_times_applied(&story->world, "perhaps"), 0);
}

static void a_stale_sequence_number_is_a_refusal_or_unknown(void **state)
{
    struct story *story = *state;

    warm_up(story);
    refuse_once(story, 1, ST_SESSION_STALE);
    put(story, story->key, "stale", 1000);
    run(story, 10);
    assert_int_equal(story->ended.status, ST_SESSION_STALE);
    fault_leader(story, 1, FAULT_BREAK, 1);
    put(story, story->key, "perhaps", 3000);
    run(story, 3);
    fault_group(story, 1, FAULT_REFUSE);
    for (uint32_t id = 1; id <= 3; id++) {
        fake_server(&story->world, 1, id)->refusal = ST_SESSION_STALE;
    }
    run(story, 3000);
    assert_int_equal(story->ended.status, ST_UNKNOWN);
}

static void issued_at_is_what_was_heard_and_stays(void **state)
{
    struct story *story = *state;
    uint64_t heard;

    warm_up(story);
    heard = story->world.time;
    fault_leader(story, 1, FAULT_REFUSE, 5);
    leader_of(story, 1)->refusal = ST_BUSY;
    put(story, story->key, "timed", 1000);
    story->world.time += 5000;
    run(story, 500);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->world.last_issued_at == heard);
    /* Nor does it change from group to group. */
    heard = story->world.time;
    fake_move(&story->world, story->shard, 2, true);
    put(story, story->key, "moved", 1000);
    story->world.time += 5000;
    run(story, 500);
    assert_int_equal(story->ended.status, ST_OK);
    assert_true(story->world.last_issued_at == heard);
    /* A group whose clock is behind does not turn it back. */
    heard = story->world.time;
    story->world.time -= 9000;
    for (int i = 0; i < 2; i++) {
        put(story, story->key, "later", 1000);
        run(story, 500);
        assert_true(story->world.last_issued_at == heard);
    }
}

static void a_broken_promise_about_order_is_told_in_acked_seq(void **state)
{
    struct story *story = *state;
    struct ended *ends = mem_zalloc(3 * sizeof(ends[0]));
    char one[16], two[16];
    uint64_t first;

    warm_up(story);
    key_of(story, 1, one);
    key_of(story, 2, two);
    fault_group(story, 1, FAULT_SILENT);
    put_into(story, one, "stuck", 2000, &ends[0]);
    run(story, 2);
    first = story->world.last_seq;
    for (int i = 0; i < 5; i++) {
        put_into(story, two, "goes on", 1000, &ends[1]);
        run(story, 10);
        assert_int_equal(ends[1].status, ST_OK);
    }
    assert_true(story->world.last_seq == first + 5);
    assert_true(story->world.last_acked == first - 1);
    run(story, 2000);
    assert_int_equal(ends[0].status, ST_UNKNOWN);
    put_into(story, two, "given up", 1000, &ends[2]);
    run(story, 10);
    assert_true(story->world.last_acked == story->world.last_seq - 1);
    mem_free(ends);
}

static void a_stuck_write_does_not_stop_thousands_of_others(void **state)
{
    struct story *story = *state;
    struct ended *stuck = mem_alloc(sizeof(*stuck));
    uint64_t id_before;
    char one[16], two[16];

    warm_up(story);
    key_of(story, 1, one);
    key_of(story, 2, two);
    id_before = story->world.last_client_low;
    fault_group(story, 1, FAULT_SILENT);
    put_into(story, one, "stuck", 60000, stuck);
    for (int i = 0; i < 3000; i++) {
        put(story, two, "goes on", 100);
        run(story, 3);
        assert_int_equal(story->ended.status, ST_OK);
        assert_true(story->world.last_seq <= story->world.last_acked + 1024);
    }
    assert_true(story->world.last_client_low != id_before);
    fault_group(story, 1, FAULT_NONE);
    run(story, 5000);
    assert_int_equal(stuck->status, ST_OK);
    assert_int_equal(fake_times_applied(&story->world, "stuck"), 1);
    mem_free(stuck);
}

static void too_many_writes_wait_and_still_end_in_time(void **state)
{
    struct story *story = *state;
    struct ended *ends = mem_zalloc(12 * sizeof(ends[0]));
    uint64_t deadline;

    remake_clerk(story, 4, "");
    warm_up(story);
    for (int i = 0; i < 12; i++) {
        put_into(story, story->key, "queued", 1000, &ends[i]);
    }
    run(story, 2);
    assert_int_equal(leader_of(story, 1)->requests, 4);
    run(story, 100);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(ends[i].status, ST_OK);
    }
    fault_group(story, 1, FAULT_SILENT);
    deadline = story->world.now + 1000;
    for (int i = 0; i < 12; i++) {
        put_into(story, story->key, "stuck", 1000, &ends[i]);
    }
    fake_run(&story->world, deadline);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(ends[i].times, 1);
        assert_int_equal(ends[i].status, i < 4 ? ST_UNKNOWN : ST_TIMEOUT);
        assert_true(ends[i].at == deadline);
    }
    mem_free(ends);
}

/* ---- Ends from outside ---- */

static void cancelled_operations_say_what_may_have_happened(void **state)
{
    struct story *story = *state;
    struct ended *ends = mem_zalloc(5 * sizeof(ends[0]));

    remake_clerk(story, 1, "");
    warm_up(story);
    fault_group(story, 1, FAULT_SILENT);
    put_into(story, story->key, "sent", 1000, &ends[0]);
    put_into(story, story->key, "never sent", 1000, &ends[1]);
    get_into(story, story->key, 1000, &ends[2]);
    put_into(story, story->key, "cancelled", 1000, &ends[3]);
    clerk_cancel(story->clerk, put_into(story, story->key, "cancelled", 1000, &ends[4]),
                 story->world.now);
    assert_int_equal(ends[4].status, ST_CANCELLED);
    story->world.clerk = NULL;
    clerk_destroy(&story->clerk);
    assert_int_equal(ends[0].status, ST_UNKNOWN);
    assert_int_equal(ends[1].status, ST_CANCELLED);
    assert_int_equal(ends[2].status, ST_CANCELLED);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ends[i].times, 1);
    }
    mem_free(ends);
}

struct chain {
    struct story *story;
    uint64_t own_id;
    int left;
};

/* Starts the next operation, and tries to cancel the one that just ended. */
static void go_on(void *context, const struct clerk_end *end)
{
    struct chain *chain = context;

    assert_int_equal(end->status, ST_OK);
    clerk_cancel(chain->story->clerk, chain->own_id, chain->story->world.now);
    if (--chain->left > 0) {
        struct kv_write write = {.n_operations = 1};

        write.operations[0] = (struct kv_operation){KV_PUT, slice_text("a"), slice_text("link")};
        chain->own_id = clerk_write(chain->story->clerk, &write, chain->story->world.now,
                                    chain->story->world.now + 1000, go_on, chain);
    }
}

static void the_end_of_one_operation_may_start_the_next(void **state)
{
    struct story *story = *state;
    struct chain chain = {.story = story, .left = 50};
    struct kv_write write = {.n_operations = 1};

    write.operations[0] = (struct kv_operation){KV_PUT, slice_text("a"), slice_text("link")};
    chain.own_id =
        clerk_write(story->clerk, &write, story->world.now, story->world.now + 1000, go_on, &chain);
    run(story, 1000);
    assert_int_equal(chain.left, 0);
    assert_int_equal(fake_times_applied(&story->world, "link"), 50);
}

static void the_preferred_replica_is_asked_first(void **state)
{
    struct story *story = *state;
    char key[16];

    remake_clerk(story, 512, "tcp://g1:3");
    warm_up(story);
    for (int i = 0; i < 4; i++) {
        put(story, key_of(story, 1, key), "x", 1000);
        run(story, 10);
        assert_int_equal(story->ended.status, ST_OK);
        put(story, key_of(story, 2, key), "x", 1000);
        run(story, 10);
        assert_int_equal(story->ended.status, ST_OK);
    }
    assert_int_equal(fake_server(&story->world, 1, 3)->requests, 4);
    assert_int_equal(fake_server(&story->world, 2, 3)->requests, 0);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, story_begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(what_was_put_is_read),
        STORY(what_is_past_the_limits_is_refused_at_the_next_tick),
        STORY(the_keys_of_a_write_lie_in_one_shard),
        STORY(writes_refused_after_they_began_leave_room_for_others),
        STORY(a_shard_that_moved_is_found_by_the_hint_at_once),
        STORY(without_a_hint_the_configuration_is_read_anew),
        STORY(wrong_group_does_not_change_the_sequence_number),
        STORY(a_hand_over_that_takes_a_while_is_waited_for),
        STORY(while_the_old_owner_still_serves_it_is_asked_directly),
        STORY(a_dead_group_whose_shards_moved_is_left),
        STORY(a_dead_group_that_served_to_the_last_is_left),
        STORY(a_shard_that_nobody_owns_is_waited_for),
        STORY(a_write_whose_group_cannot_be_reached_is_certainly_not_applied),
        STORY(without_a_controller_nothing_is_applied),
        STORY(a_write_lost_with_its_connection_is_unknown),
        STORY(a_write_sent_to_a_silent_group_is_unknown_and_a_read_is_not),
        STORY(an_expired_session_is_renewed_if_nothing_was_applied),
        STORY(an_expired_session_leaves_a_lost_try_unknown),
        STORY(a_stale_sequence_number_is_a_refusal_or_unknown),
        STORY(issued_at_is_what_was_heard_and_stays),
        STORY(a_broken_promise_about_order_is_told_in_acked_seq),
        STORY(a_stuck_write_does_not_stop_thousands_of_others),
        STORY(too_many_writes_wait_and_still_end_in_time),
        STORY(cancelled_operations_say_what_may_have_happened),
        STORY(the_end_of_one_operation_may_start_the_next),
        STORY(the_preferred_replica_is_asked_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
