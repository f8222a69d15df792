/* One shard's life: every transition as a story, every step out of turn, again, or for another
 * configuration. What follows the newest configuration, and what a group answers, is in
 * shard_follow_test.c. */
#include "tests/unit/shard_view.h"

/* ---- Configurations ---- */

static void a_shard_that_nobody_ever_owned_is_created_empty_and_serves_at_once(void **state)
{
    struct view a = view_of(A), b = view_of(B);

    (void)state;
    adopt(&a, 1, 0, A);
    assert_life(&a, "serving epoch 1");
    assert_true(a.effect.changed);
    assert_int_equal(a.shard.range, 1);
    adopt(&b, 1, 0, A);
    assert_life(&b, "absent epoch 0");
    assert_false(b.effect.changed);
    shard_fini(&a.shard);
    shard_fini(&b.shard);
}

static void configurations_that_do_not_concern_the_shard_change_nothing(void **state)
{
    struct view a = view_of(A), b = view_of(B);

    (void)state;
    adopt(&a, 1, 0, A);
    for (config_num num = 2; num < 9; num++) {
        adopt(&a, num, A, A);
        assert_false(a.effect.changed);
        adopt(&b, num, A, A);
        assert_false(b.effect.changed);
    }
    assert_life(&a, "serving epoch 1");
    shard_fini(&a.shard);
    shard_fini(&b.shard);
}

static void a_frozen_hand_over_and_those_behind_it_stay_in_the_queue(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_true(give(&a, 2));
    adopt(&a, 3, B, C); /* between others: not ours */
    assert_false(a.effect.changed);
    adopt(&a, 4, C, A);
    adopt(&a, 5, A, 0);
    assert_life(&a, "frozen epoch 1 | send 2 to 2, receive 4 from 3, send 5 to 0");
    shard_fini(&a.shard);
}

static void nobody_freezes_at_once_and_keeps_the_data(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, 0);
    assert_life(&a, "frozen epoch 1 | send 2 to 0");
    adopt(&a, 3, A, 0);
    assert_false(a.effect.changed);
    assert_false(copy_begin(&a, 2, 7)); /* there is nobody to copy to */
    assert_false(drop(&a, 2));          /* nobody has it: there is nobody to let go to */
    shard_fini(&a.shard);
}

static void from_nobody_back_to_its_keeper_it_serves_again(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, 0);
    adopt(&a, 3, A, A);
    assert_life(&a, "serving epoch 3");
    assert_int_equal(a.shard.range, 1); /* the same data */
    shard_fini(&a.shard);
}

static void from_nobody_to_another_group_it_is_a_move_that_stays_frozen(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, 0);
    adopt(&a, 4, A, B);
    assert_life(&a, "frozen epoch 1 | send 4 to 2");
    assert_true(copy_begin(&a, 4, 7) && sweep(&a, 4, 7, "", NULL));
    assert_false(freeze(&a, 4, 7)); /* it is */
    assert_true(drop(&a, 4));
    assert_life(&a, "absent epoch 1");
    shard_fini(&a.shard);
}

static void nobody_behind_a_receive_freezes_when_its_turn_comes(void **state)
{
    struct view b = view_of(B), c = view_of(C);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, 0);
    assert_true(chunk(&b, 2, 7, 0));
    assert_true(install(&b, 2, 7, 1, A));
    assert_life(&b, "frozen epoch 2 | send 3 to 0 | release 2 at 1");
    adopt(&c, 2, A, C);
    adopt(&c, 3, C, 0);
    adopt(&c, 4, C, C); /* taken back before its turn: as if it had not been */
    assert_life(&c, "absent epoch 0 | receive 2 from 1");
    adopt(&c, 5, C, 0);
    adopt(&c, 6, C, D);
    assert_life(&c, "absent epoch 0 | receive 2 from 1, send 6 to 4");
    shard_fini(&b.shard);
    shard_fini(&c.shard);
}

static void a_configuration_that_contradicts_the_history_is_not_adopted(void **state)
{
    struct view a = view_of(A), b = view_of(B);
    struct shard_change stolen = {.num = 2, .me = A, .owner = B, .from = C};
    struct shard_change unowned = {.num = 3, .me = A, .owner = A, .from = 0};
    struct shard_change from_me = {.num = 3, .me = B, .owner = B, .from = B};

    (void)state;
    adopt(&a, 1, 0, A);
    assert_false(shard_can_adopt(&a.shard, &stolen));
    adopt(&a, 2, A, B);
    assert_false(shard_can_adopt(&a.shard, &unowned)); /* it was owned: it must come from there */
    assert_false(shard_can_adopt(&b.shard, &from_me));
    shard_fini(&a.shard);
    shard_fini(&b.shard);
}

/* ---- Giving away ---- */

static void a_copy_begins_only_for_the_send_at_the_head(void **state)
{
    struct view a = view_of(A), b = view_of(B);

    (void)state;
    adopt(&a, 1, 0, A);
    assert_false(copy_begin(&a, 1, 7)); /* nothing is to be sent */
    adopt(&a, 2, A, B);
    assert_false(copy_begin(&a, 1, 7));
    assert_false(copy_begin(&a, 3, 7));
    assert_false(copy_begin(&a, 2, 0));
    assert_int_equal(a.next_range, 2);
    assert_true(copy_begin(&a, 2, 7));
    assert_int_equal(a.shard.outgoing.range, 2);
    assert_int_equal(a.effect.n_dropped, 0);
    assert_life(&a, "serving epoch 1 | send 2 to 2"); /* it goes on serving */
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    assert_false(copy_begin(&b, 2, 7));
    assert_false(copy_begin(&b, 3, 7)); /* not its turn */
    shard_fini(&a.shard);
    shard_fini(&b.shard);
}

static void another_copy_begins_anew_and_the_same_one_goes_on(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_true(copy_begin(&a, 2, 7) && sweep(&a, 2, 7, "", "k"));
    a.shard.outgoing.n_noted = 5;
    assert_false(copy_begin(&a, 2, 7));
    assert_int_equal(a.effect.n_dropped, 0);
    assert_int_equal(a.shard.outgoing.n_noted, 5);
    assert_true(notes(&a, "k"));
    assert_true(copy_begin(&a, 2, 8)); /* another leader of the taker */
    assert_int_equal(a.effect.n_dropped, 1);
    assert_int_equal(a.effect.dropped[0], 2);
    assert_int_equal(a.shard.outgoing.range, 3);
    assert_int_equal(a.shard.outgoing.n_noted, 0);
    assert_int_equal(a.shard.outgoing.records.count, 0);
    assert_false(notes(&a, "k"));
    assert_false(sweep(&a, 2, 7, "k", NULL)); /* the old one does not go on */
    assert_true(sweep(&a, 2, 8, "", NULL));
    shard_fini(&a.shard);
}

static void the_sweep_goes_in_order_and_each_step_once(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    assert_false(sweep(&a, 1, 7, "", "f"));
    adopt(&a, 2, A, B);
    assert_false(sweep(&a, 2, 7, "", "f")); /* it has not begun */
    assert_false(sweep(&a, 2, 0, "", "f"));
    assert_true(copy_begin(&a, 2, 7));
    assert_false(sweep(&a, 1, 7, "", "f"));
    assert_false(sweep(&a, 2, 8, "", "f"));
    assert_false(sweep(&a, 2, 7, "f", "m"));
    assert_true(sweep(&a, 2, 7, "", "f"));
    assert_false(sweep(&a, 2, 7, "", "f")); /* proposed twice */
    assert_true(sweep(&a, 2, 7, "f", "m"));
    assert_false(sweep(&a, 2, 7, "f", "m"));
    assert_true(sweep(&a, 2, 7, "m", NULL));
    assert_false(sweep(&a, 2, 7, "m", NULL));
    assert_false(sweep(&a, 2, 7, "", NULL));
    shard_fini(&a.shard);
}

static void only_changes_of_what_is_swept_count(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_false(notes(&a, "a"));
    assert_true(copy_begin(&a, 2, 7));
    assert_false(notes(&a, "a")); /* the sweep will come to it */
    assert_true(sweep(&a, 2, 7, "", "f"));
    assert_true(notes(&a, "a"));
    assert_true(notes(&a, "f"));
    assert_false(notes(&a, "fa"));
    assert_false(notes(&a, "g"));
    assert_true(sweep(&a, 2, 7, "f", NULL));
    assert_true(notes(&a, "zzz"));
    shard_fini(&a.shard);
}

static void a_shard_freezes_once_all_of_it_is_swept_for_that_copy(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_false(freeze(&a, 2, 0));
    assert_false(freeze(&a, 2, 7));
    assert_true(copy_begin(&a, 2, 7));
    assert_false(freeze(&a, 2, 7));
    assert_true(sweep(&a, 2, 7, "", "f"));
    assert_false(freeze(&a, 2, 7)); /* the pause would depend on the shard's size */
    assert_true(sweep(&a, 2, 7, "f", NULL));
    assert_false(freeze(&a, 1, 7));
    assert_false(freeze(&a, 3, 7));
    assert_false(freeze(&a, 2, 8));
    assert_false(drop(&a, 2)); /* never what still serves */
    assert_life(&a, "serving epoch 1 | send 2 to 2");
    assert_true(freeze(&a, 2, 7));
    assert_life(&a, "frozen epoch 1 | send 2 to 2");
    assert_false(freeze(&a, 2, 7));
    shard_fini(&a.shard);
}

/* The taker's leader was another one when the shard froze. */
static void a_copy_can_begin_anew_from_the_frozen_shard(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_true(give(&a, 2));
    assert_true(copy_begin(&a, 2, 8));
    assert_life(&a, "frozen epoch 1 | send 2 to 2");
    assert_true(sweep(&a, 2, 8, "", NULL));
    assert_true(drop(&a, 2));
    shard_fini(&a.shard);
}

static void a_dropped_shard_is_gone_once_and_its_change_log_with_it(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_true(give(&a, 2));
    assert_false(drop(&a, 1));
    assert_false(drop(&a, 3));
    assert_true(drop(&a, 2));
    assert_int_equal(a.effect.n_dropped, 2);
    assert_int_equal(a.effect.dropped[0], 1);
    assert_int_equal(a.effect.dropped[1], 2);
    assert_int_equal(a.shard.outgoing.copy_id, 0);
    assert_life(&a, "absent epoch 1");
    assert_false(drop(&a, 2));
    shard_fini(&a.shard);
}

static void an_old_freeze_does_not_touch_the_shard_that_came_back(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_true(give(&a, 2));
    adopt(&a, 3, B, A);
    adopt(&a, 4, A, C);
    assert_true(drop(&a, 2));
    assert_life(&a, "absent epoch 1 | receive 3 from 2, send 4 to 3");
    assert_false(freeze(&a, 4, 52)); /* not its turn */
    assert_true(chunk(&a, 3, 9, 0));
    assert_true(install(&a, 3, 9, 1, B));
    assert_false(copy_begin(&a, 2, 52));
    assert_false(sweep(&a, 2, 52, "", NULL));
    assert_false(freeze(&a, 2, 52));
    assert_false(drop(&a, 2));
    assert_life(&a, "serving epoch 3 | send 4 to 3 | release 3 at 2");
    shard_fini(&a.shard);
}

/* ---- Taking over ---- */

static void pieces_are_applied_in_order_and_once(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_false(chunk(&b, 2, 7, 1)); /* begins with 0 */
    assert_false(chunk(&b, 1, 7, 0));
    assert_false(chunk(&b, 3, 7, 0));
    assert_false(chunk(&b, 2, 0, 0));
    assert_true(chunk(&b, 2, 7, 0));
    assert_false(chunk(&b, 2, 7, 0));
    assert_false(chunk(&b, 2, 7, 2));
    assert_false(chunk(&b, 2, 8, 1)); /* of another copy */
    assert_true(chunk(&b, 2, 7, 1));
    assert_int_equal(b.shard.copy.next_piece, 2);
    assert_life(&b, "absent epoch 0 | receive 2 from 1");
    assert_true(install(&b, 2, 7, 2, A));
    assert_life(&b, "serving epoch 2 | release 2 at 1");
    assert_int_equal(b.effect.n_dropped, 0); /* staging became live */
    assert_false(chunk(&b, 2, 7, 2));
    assert_false(chunk(&b, 2, 8, 0));
    assert_false(install(&b, 2, 7, 2, A));
    shard_fini(&b.shard);
}

/* Two leaders of the taker ask with the same number, and the source gives them different pieces. */
static void a_piece_must_begin_where_the_last_one_ended(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_false(piece_is_next(&b, 2, 7, 0, "one")); /* the first one begins at the beginning */
    assert_false(b.effect.changed);
    assert_int_equal(b.shard.copy.copy_id, 0);
    assert_true(chunk(&b, 2, 7, 0));
    assert_false(piece_is_next(&b, 2, 7, 1, ""));
    assert_false(piece_is_next(&b, 2, 7, 1, "on"));
    assert_false(piece_is_next(&b, 2, 7, 1, "two"));
    assert_false(piece_is_next(&b, 2, 7, 0, "one")); /* nor does the cursor alone count */
    assert_false(piece_is_next(&b, 2, 7, 2, "one"));
    assert_true(piece_is_next(&b, 2, 7, 1, "one"));
    shard_fini(&b.shard);
}

static void another_copy_begins_anew_and_drops_what_was_staged(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(chunk(&b, 2, 7, 0));
    assert_int_equal(b.shard.copy.range, 1);
    assert_true(chunk(&b, 2, 8, 0));
    assert_int_equal(b.effect.n_dropped, 1);
    assert_int_equal(b.effect.dropped[0], 1);
    assert_int_equal(b.shard.copy.range, 2);
    assert_int_equal(b.shard.copy.next_piece, 1);
    assert_false(chunk(&b, 2, 7, 1));
    assert_false(install(&b, 2, 7, 1, A));
    assert_true(install(&b, 2, 8, 1, A));
    assert_int_equal(b.shard.range, 2);
    shard_fini(&b.shard);
}

static void an_incomplete_copy_is_not_installed(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(chunk(&b, 2, 7, 0));
    assert_false(install(&b, 2, 7, 2, A));
    assert_false(b.effect.changed);
    assert_false(install(&b, 2, 7, 0, A));
    assert_false(install(&b, 3, 7, 1, A));
    assert_true(install(&b, 2, 7, 1, A));
    shard_fini(&b.shard);
}

static void a_copy_with_another_sum_is_thrown_away_and_copied_again(void **state)
{
    struct view b = view_of(B);
    struct shard_end end = end_of(A, 1);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(chunk(&b, 2, 7, 0));
    end.records.low ^= 1;
    assert_false(install_end(&b, 2, 7, 1, &end));
    assert_true(b.effect.copy_was_broken && b.effect.changed);
    assert_int_equal(b.effect.n_dropped, 1);
    assert_int_equal(b.effect.dropped[0], 1);
    assert_life(&b, "absent epoch 0 | receive 2 from 1");
    assert_int_equal(b.shard.copy.copy_id, 0);
    end = end_of(A, 1);
    assert_true(chunk(&b, 2, 8, 0));
    end.sessions.count = 1; /* a session is missing */
    assert_false(install_end(&b, 2, 8, 1, &end));
    assert_true(b.effect.copy_was_broken);
    assert_life(&b, "absent epoch 0 | receive 2 from 1");
    assert_true(chunk(&b, 2, 9, 0));
    assert_true(install(&b, 2, 9, 1, A));
    assert_false(b.effect.copy_was_broken);
    shard_fini(&b.shard);
}

static void an_empty_shard_moves_in_one_piece(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(install(&b, 2, 7, 0, A));
    assert_true(b.shard.range != 0);
    assert_life(&b, "serving epoch 2 | release 2 at 1");
    shard_fini(&b.shard);
}

static void releases_are_kept_for_each_source_until_it_has_let_go(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(take(&b, 2, A));
    adopt(&b, 3, B, C);
    assert_true(give(&b, 3));
    adopt(&b, 4, C, B);
    assert_true(drop(&b, 3)); /* A is dead: this goes on without it */
    assert_true(take(&b, 4, C));
    assert_life(&b, "serving epoch 4 | release 2 at 1, 4 at 3");
    assert_false(released(&b, 3));
    assert_true(released(&b, 2));
    assert_false(released(&b, 2));
    assert_true(released(&b, 4));
    assert_life(&b, "serving epoch 4");
    shard_fini(&b.shard);
}

static void a_release_names_the_group_that_the_shard_really_came_from(void **state)
{
    struct view c = view_of(C);

    (void)state;
    adopt(&c, 2, A, B);
    adopt(&c, 3, B, C); /* A did not freeze it for B, and hands it to C itself */
    assert_true(take(&c, 3, A));
    assert_life(&c, "serving epoch 3 | release 3 at 1");
    shard_fini(&c.shard);
}

static void a_source_that_gives_the_shard_again_has_dropped_the_earlier_copy(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(take(&b, 2, A));
    adopt(&b, 3, B, A);
    assert_true(give(&b, 3) && drop(&b, 3));
    adopt(&b, 4, A, B);
    assert_true(take(&b, 4, A));
    assert_life(&b, "serving epoch 4 | release 4 at 1");
    shard_fini(&b.shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shard_that_nobody_ever_owned_is_created_empty_and_serves_at_once),
        cmocka_unit_test(configurations_that_do_not_concern_the_shard_change_nothing),
        cmocka_unit_test(a_frozen_hand_over_and_those_behind_it_stay_in_the_queue),
        cmocka_unit_test(nobody_freezes_at_once_and_keeps_the_data),
        cmocka_unit_test(from_nobody_back_to_its_keeper_it_serves_again),
        cmocka_unit_test(from_nobody_to_another_group_it_is_a_move_that_stays_frozen),
        cmocka_unit_test(nobody_behind_a_receive_freezes_when_its_turn_comes),
        cmocka_unit_test(a_configuration_that_contradicts_the_history_is_not_adopted),
        cmocka_unit_test(a_copy_begins_only_for_the_send_at_the_head),
        cmocka_unit_test(another_copy_begins_anew_and_the_same_one_goes_on),
        cmocka_unit_test(the_sweep_goes_in_order_and_each_step_once),
        cmocka_unit_test(only_changes_of_what_is_swept_count),
        cmocka_unit_test(a_shard_freezes_once_all_of_it_is_swept_for_that_copy),
        cmocka_unit_test(a_copy_can_begin_anew_from_the_frozen_shard),
        cmocka_unit_test(a_dropped_shard_is_gone_once_and_its_change_log_with_it),
        cmocka_unit_test(an_old_freeze_does_not_touch_the_shard_that_came_back),
        cmocka_unit_test(pieces_are_applied_in_order_and_once),
        cmocka_unit_test(a_piece_must_begin_where_the_last_one_ended),
        cmocka_unit_test(another_copy_begins_anew_and_drops_what_was_staged),
        cmocka_unit_test(an_incomplete_copy_is_not_installed),
        cmocka_unit_test(a_copy_with_another_sum_is_thrown_away_and_copied_again),
        cmocka_unit_test(an_empty_shard_moves_in_one_piece),
        cmocka_unit_test(releases_are_kept_for_each_source_until_it_has_let_go),
        cmocka_unit_test(a_release_names_the_group_that_the_shard_really_came_from),
        cmocka_unit_test(a_source_that_gives_the_shard_again_has_dropped_the_earlier_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
