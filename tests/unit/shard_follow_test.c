/* One shard's life between groups: a hand-over that is not frozen follows the newest configuration,
 * the groups that wait for what was called off forget it, and what a group answers to the others.
 */
#include "tests/unit/shard_view.h"

/* ---- A hand-over that is not frozen follows the newest configuration ---- */

/* It serves, has adopted 2, which gives the shard to B, and the copy for that is under way. */
static struct view half_copied(void)
{
    struct view a = view_of(A);

    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_true(copy_begin(&a, 2, 7) && sweep(&a, 2, 7, "", NULL));
    return a;
}

static void the_newest_owner_gets_the_shard_and_the_copy_is_forgotten(void **state)
{
    struct view a = half_copied();

    (void)state;
    adopt(&a, 3, B, C);
    assert_life(&a, "serving epoch 1 | send 3 to 3");
    assert_true(a.effect.changed);
    assert_int_equal(a.effect.n_dropped, 1);
    assert_int_equal(a.effect.dropped[0], 2);
    assert_int_equal(a.shard.outgoing.copy_id, 0);
    assert_false(notes(&a, "k"));
    assert_false(freeze(&a, 2, 7)); /* proposed before, applied after */
    assert_false(freeze(&a, 3, 7));
    assert_false(copy_begin(&a, 2, 7));
    assert_true(give(&a, 3));
    shard_fini(&a.shard);
}

static void called_back_it_goes_on_serving(void **state)
{
    struct view a = half_copied();

    (void)state;
    adopt(&a, 3, B, A);
    assert_life(&a, "serving epoch 3"); /* which says that B will not have it */
    assert_int_equal(a.effect.n_dropped, 1);
    assert_int_equal(a.shard.outgoing.copy_id, 0);
    assert_false(freeze(&a, 2, 7));
    adopt(&a, 4, A, C); /* and can be given away again */
    assert_life(&a, "serving epoch 3 | send 4 to 3");
    shard_fini(&a.shard);
}

static void the_same_owner_again_changes_nothing(void **state)
{
    struct view a = half_copied();

    (void)state;
    adopt(&a, 3, B, B);
    assert_false(a.effect.changed);
    assert_life(&a, "serving epoch 1 | send 2 to 2");
    assert_true(freeze(&a, 2, 7)); /* the copy went on */
    shard_fini(&a.shard);
}

static void that_nobody_shall_own_it_waits_for_the_taker(void **state)
{
    struct view a = half_copied(), b = view_of(B);

    (void)state;
    adopt(&a, 3, B, 0);
    assert_false(a.effect.changed);
    assert_life(&a, "serving epoch 1 | send 2 to 2");
    assert_true(freeze(&a, 2, 7));
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, 0);
    assert_true(take(&b, 2, A));
    assert_life(&b, "frozen epoch 2 | send 3 to 0 | release 2 at 1");
    shard_fini(&a.shard);
    shard_fini(&b.shard);
}

static void what_is_frozen_goes_where_it_was_frozen_for(void **state)
{
    struct view a = half_copied(), again = half_copied();

    (void)state;
    assert_true(freeze(&a, 2, 7) && freeze(&again, 2, 7));
    adopt(&a, 3, B, C);
    assert_false(a.effect.changed);
    assert_life(&a, "frozen epoch 1 | send 2 to 2");
    assert_int_equal(a.shard.outgoing.copy_id, 7);
    adopt(&again, 3, B, A); /* it comes back, but only by way of B */
    assert_life(&again, "frozen epoch 1 | send 2 to 2, receive 3 from 2");
    shard_fini(&a.shard);
    shard_fini(&again.shard);
}

/* Frozen for nobody, then to go to B, of which nothing is heard: nobody can have a copy. */
static void what_was_frozen_for_nobody_follows_until_a_copy_begins(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, 0);
    adopt(&a, 3, A, B);
    adopt(&a, 4, B, 0);
    assert_life(&a, "frozen epoch 1 | send 3 to 2");
    adopt(&a, 5, B, C);
    assert_life(&a, "frozen epoch 1 | send 5 to 3");
    adopt(&a, 6, C, A);
    assert_life(&a, "serving epoch 6");
    adopt(&a, 7, A, 0);
    adopt(&a, 8, A, B);
    assert_true(copy_begin(&a, 8, 7) && sweep(&a, 8, 7, "", NULL));
    assert_true(copy_begin(&a, 8, 9)); /* the END of the other one may be out */
    adopt(&a, 9, B, C);
    assert_life(&a, "frozen epoch 6 | send 8 to 2");
    assert_int_equal(a.shard.outgoing.copy_id, 9);
    adopt(&a, 10, C, A);
    assert_life(&a, "frozen epoch 6 | send 8 to 2, receive 10 from 3");
    shard_fini(&a.shard);
}

static void a_send_behind_a_receive_follows_too(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    assert_life(&b, "absent epoch 0 | receive 2 from 1, send 3 to 3");
    assert_true(chunk(&b, 2, 7, 0));
    adopt(&b, 4, C, D);
    assert_life(&b, "absent epoch 0 | receive 2 from 1, send 4 to 4");
    assert_int_equal(b.effect.n_dropped, 0); /* what arrives goes on arriving */
    assert_int_equal(b.shard.copy.next_piece, 1);
    adopt(&b, 5, D, 0);
    assert_life(&b, "absent epoch 0 | receive 2 from 1, send 4 to 4");
    assert_true(install(&b, 2, 7, 1, A));
    assert_life(&b, "serving epoch 2 | send 4 to 4 | release 2 at 1");
    shard_fini(&b.shard);
}

/* Whether the first one happens at all is not known: its source may have kept the shard. */
static void called_back_behind_a_receive_both_are_kept_in_mind(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, B);
    assert_life(&b, "absent epoch 0 | receive 2 from 1, send 3 to 3, receive 4 from 3");
    assert_true(shard_is_held_at_end(&b.shard));
    adopt(&b, 5, B, D);
    assert_life(&b,
                "absent epoch 0 | receive 2 from 1, send 3 to 3, receive 4 from 3, send 5 to 4");
    adopt(&b, 6, D, C);
    assert_life(&b,
                "absent epoch 0 | receive 2 from 1, send 3 to 3, receive 4 from 3, send 6 to 3");
    shard_fini(&b.shard);
}

/* ---- After an install only the newest word counts ---- */

static void once_here_the_shard_goes_straight_where_the_newest_word_says(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, B);
    adopt(&b, 5, B, D);
    assert_true(take(&b, 2, A));
    assert_life(&b, "serving epoch 2 | send 5 to 4 | release 2 at 1");
    shard_fini(&b.shard);
}

static void once_here_the_shard_stays_if_the_newest_word_says_so(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, B);
    assert_true(take(&b, 2, A));
    assert_life(&b, "serving epoch 4 | release 2 at 1");
    adopt(&b, 5, B, C);
    assert_life(&b, "serving epoch 4 | send 5 to 3 | release 2 at 1");
    shard_fini(&b.shard);
}

static void once_here_the_shard_freezes_if_nobody_shall_own_it_in_the_end(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, B);
    adopt(&b, 5, B, 0);
    assert_true(take(&b, 2, A));
    assert_life(&b, "frozen epoch 2 | send 5 to 0 | release 2 at 1");
    adopt(&b, 6, B, B);
    assert_life(&b, "serving epoch 6 | release 2 at 1");
    shard_fini(&b.shard);
}

/* ---- Called off ---- */

static void a_receive_that_was_called_off_goes_with_the_send_behind_it(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(chunk(&b, 2, 7, 0));
    adopt(&b, 3, B, C);
    assert_false(call_off(&b, 1));
    assert_false(call_off(&b, 3));
    assert_true(call_off(&b, 2));
    assert_life(&b, "absent epoch 0");
    assert_int_equal(b.effect.n_dropped, 1); /* what was staged */
    assert_int_equal(b.effect.dropped[0], 1);
    assert_int_equal(b.shard.copy.copy_id, 0);
    assert_false(call_off(&b, 2));
    assert_false(chunk(&b, 2, 7, 1));
    adopt(&b, 4, C, B);
    assert_life(&b, "absent epoch 0 | receive 4 from 3");
    shard_fini(&b.shard);
}

static void what_is_behind_them_becomes_the_head(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, B);
    assert_false(call_off(&b, 4)); /* only the head */
    assert_true(call_off(&b, 2));
    assert_int_equal(b.effect.n_dropped, 0);
    assert_life(&b, "absent epoch 0 | receive 4 from 3");
    assert_true(take(&b, 4, A));
    assert_life(&b, "serving epoch 4 | release 4 at 1");
    shard_fini(&b.shard);
}

/* The configuration that called it off comes later: until then this group is to own the shard. */
static void a_receive_is_not_called_off_before_it_is_known_who_owns_the_shard(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_false(call_off(&b, 2));
    assert_life(&b, "absent epoch 0 | receive 2 from 1");
    shard_fini(&b.shard);
}

/* It is still B that the shard counts as kept by: configuration 4 may give it back from there. */
static void a_receive_is_not_called_off_while_this_group_is_to_keep_the_shard(void **state)
{
    struct view a = half_copied(), b = view_of(B);

    (void)state;
    adopt(&a, 3, B, 0);
    adopt(&a, 4, B, B);
    adopt(&a, 5, B, C);
    assert_int_equal(shard_answer_pull(&a.shard, 2, B, 5), SHARD_ANSWER_VOID);
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, 0);
    assert_false(call_off(&b, 2)); /* B is behind */
    assert_life(&b, "absent epoch 0 | receive 2 from 1, send 3 to 0");
    adopt(&b, 4, B, B);
    assert_false(call_off(&b, 2));
    adopt(&b, 5, B, C);
    assert_true(call_off(&b, 2));
    assert_life(&b, "absent epoch 0");
    shard_fini(&a.shard);
    shard_fini(&b.shard);
}

static void what_serves_or_was_never_to_come_is_not_called_off(void **state)
{
    struct view a = half_copied(), frozen = half_copied();

    (void)state;
    assert_false(call_off(&a, 2));
    assert_life(&a, "serving epoch 1 | send 2 to 2");
    assert_true(freeze(&frozen, 2, 7));
    adopt(&frozen, 3, B, A);
    assert_false(call_off(&frozen, 2));
    assert_false(call_off(&frozen, 3)); /* not its turn */
    assert_life(&frozen, "frozen epoch 1 | send 2 to 2, receive 3 from 2");
    shard_fini(&a.shard);
    shard_fini(&frozen.shard);
}

/* ---- Answers to a taker ---- */

static enum shard_answer pull(const struct view *view, config_num num, uint32_t to,
                              config_num adopted)
{
    return shard_answer_pull(&view->shard, num, to, adopted);
}

static enum shard_answer release(const struct view *view, config_num num, uint32_t to,
                                 config_num adopted)
{
    return shard_answer_release(&view->shard, num, to, adopted);
}

static void the_taker_gets_yes_from_the_head_on(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    assert_int_equal(pull(&a, 2, B, 1), SHARD_ANSWER_NOT_READY); /* never VOID: 2 is to come */
    adopt(&a, 2, A, B);
    assert_int_equal(pull(&a, 2, B, 2), SHARD_ANSWER_YES);
    assert_int_equal(pull(&a, 2, C, 2), SHARD_ANSWER_REFUSED);
    assert_int_equal(pull(&a, 2, 0, 2), SHARD_ANSWER_REFUSED);
    assert_int_equal(pull(&a, 3, C, 2), SHARD_ANSWER_NOT_READY);
    assert_true(give(&a, 2));
    assert_int_equal(pull(&a, 2, B, 2), SHARD_ANSWER_YES);
    assert_int_equal(pull(&a, 2, C, 2), SHARD_ANSWER_REFUSED);
    adopt(&a, 3, B, C);
    assert_int_equal(pull(&a, 3, C, 3), SHARD_ANSWER_NOT_READY); /* B will have it */
    assert_true(drop(&a, 2));
    assert_int_equal(pull(&a, 2, B, 3), SHARD_ANSWER_NOT_READY); /* others have it: no word of it */
    assert_int_equal(pull(&a, 3, C, 3), SHARD_ANSWER_NOT_READY);
    shard_fini(&a.shard);
}

static void a_send_whose_turn_has_not_come_is_not_ready(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    assert_int_equal(pull(&b, 3, C, 3), SHARD_ANSWER_NOT_READY);
    assert_int_equal(pull(&b, 3, D, 3), SHARD_ANSWER_REFUSED);
    assert_int_equal(pull(&b, 2, B, 3), SHARD_ANSWER_REFUSED); /* a RECEIVE */
    assert_int_equal(pull(&b, 1, D, 3), SHARD_ANSWER_NOT_READY);
    assert_true(take(&b, 2, A));
    assert_int_equal(pull(&b, 3, C, 3), SHARD_ANSWER_YES);
    shard_fini(&b.shard);
}

static void a_number_that_the_shard_has_gone_past_is_void(void **state)
{
    struct view a = half_copied();

    (void)state;
    adopt(&a, 3, B, C);
    assert_int_equal(pull(&a, 2, B, 3), SHARD_ANSWER_VOID);
    assert_int_equal(pull(&a, 3, C, 3), SHARD_ANSWER_YES);
    adopt(&a, 4, C, A);
    assert_int_equal(pull(&a, 2, B, 4), SHARD_ANSWER_VOID);
    assert_int_equal(pull(&a, 3, C, 4), SHARD_ANSWER_VOID);
    adopt(&a, 5, A, 0); /* frozen, but here */
    assert_int_equal(pull(&a, 3, C, 5), SHARD_ANSWER_VOID);
    assert_int_equal(pull(&a, 5, 0, 5), SHARD_ANSWER_REFUSED);
    adopt(&a, 6, A, D);
    assert_int_equal(pull(&a, 3, C, 6), SHARD_ANSWER_VOID);
    assert_int_equal(pull(&a, 6, D, 6), SHARD_ANSWER_YES);
    shard_fini(&a.shard);
}

/* It may still come to pass, at any other group. */
static void a_group_without_the_shard_never_says_void(void **state)
{
    struct view b = view_of(B), d = view_of(D);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, D);
    for (config_num num = 1; num <= 6; num++) {
        for (uint32_t to = A; to <= D; to++) {
            assert_int_not_equal(pull(&b, num, to, 4), SHARD_ANSWER_VOID);
            assert_int_equal(pull(&d, num, to, 9), SHARD_ANSWER_NOT_READY);
        }
    }
    shard_fini(&b.shard);
    shard_fini(&d.shard);
}

/* C learned that the shard went by without it, from whoever has it now. */
static void who_has_the_shard_now_knows_what_will_not_be(void **state)
{
    struct view d = view_of(D);

    (void)state;
    adopt(&d, 4, C, D);
    assert_int_equal(pull(&d, 3, C, 4), SHARD_ANSWER_NOT_READY);
    assert_true(take(&d, 4, A)); /* from A itself, which did not freeze it for C */
    assert_int_equal(pull(&d, 3, C, 4), SHARD_ANSWER_VOID);
    assert_int_equal(pull(&d, 5, C, 4), SHARD_ANSWER_NOT_READY);
    shard_fini(&d.shard);
}

/* A group's queue of hand-overs that the newest word made superfluous: those are void too. */
static void skipped_hand_overs_are_void(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, B);
    assert_int_equal(pull(&b, 3, C, 4), SHARD_ANSWER_NOT_READY); /* it may be: not frozen yet */
    assert_true(take(&b, 2, A));
    assert_int_equal(pull(&b, 3, C, 4), SHARD_ANSWER_VOID);
    shard_fini(&b.shard);
}

/* ---- Answers to a taker that has it ---- */

static void a_release_is_answered_by_what_became_of_the_frozen_copy(void **state)
{
    struct view a = half_copied();

    (void)state;
    assert_int_equal(release(&a, 3, B, 2), SHARD_ANSWER_NOT_READY); /* this replica is behind */
    assert_int_equal(release(&a, 2, B, 2), SHARD_ANSWER_NOT_READY); /* likewise: not frozen */
    assert_int_equal(release(&a, 2, C, 2), SHARD_ANSWER_REFUSED);
    assert_true(freeze(&a, 2, 7));
    assert_int_equal(release(&a, 2, B, 2), SHARD_ANSWER_YES);
    assert_int_equal(release(&a, 2, C, 2), SHARD_ANSWER_REFUSED);
    assert_int_equal(release(&a, 2, 0, 2), SHARD_ANSWER_REFUSED);
    assert_true(drop(&a, 2));
    assert_int_equal(release(&a, 2, B, 2), SHARD_ANSWER_DONE);
    assert_int_equal(release(&a, 3, B, 2), SHARD_ANSWER_NOT_READY);
    shard_fini(&a.shard);
}

static void a_release_of_a_send_further_back_is_not_ready(void **state)
{
    struct view a = half_copied();

    (void)state;
    assert_true(freeze(&a, 2, 7));
    adopt(&a, 3, B, A);
    adopt(&a, 4, A, C);
    assert_int_equal(release(&a, 4, C, 4), SHARD_ANSWER_NOT_READY);
    assert_int_equal(release(&a, 3, A, 4), SHARD_ANSWER_REFUSED); /* a RECEIVE */
    assert_int_equal(release(&a, 2, B, 4), SHARD_ANSWER_YES);
    shard_fini(&a.shard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_owner_gets_the_shard_and_the_copy_is_forgotten),
        cmocka_unit_test(called_back_it_goes_on_serving),
        cmocka_unit_test(the_same_owner_again_changes_nothing),
        cmocka_unit_test(that_nobody_shall_own_it_waits_for_the_taker),
        cmocka_unit_test(what_is_frozen_goes_where_it_was_frozen_for),
        cmocka_unit_test(what_was_frozen_for_nobody_follows_until_a_copy_begins),
        cmocka_unit_test(a_send_behind_a_receive_follows_too),
        cmocka_unit_test(called_back_behind_a_receive_both_are_kept_in_mind),
        cmocka_unit_test(once_here_the_shard_goes_straight_where_the_newest_word_says),
        cmocka_unit_test(once_here_the_shard_stays_if_the_newest_word_says_so),
        cmocka_unit_test(once_here_the_shard_freezes_if_nobody_shall_own_it_in_the_end),
        cmocka_unit_test(a_receive_that_was_called_off_goes_with_the_send_behind_it),
        cmocka_unit_test(what_is_behind_them_becomes_the_head),
        cmocka_unit_test(a_receive_is_not_called_off_before_it_is_known_who_owns_the_shard),
        cmocka_unit_test(a_receive_is_not_called_off_while_this_group_is_to_keep_the_shard),
        cmocka_unit_test(what_serves_or_was_never_to_come_is_not_called_off),
        cmocka_unit_test(the_taker_gets_yes_from_the_head_on),
        cmocka_unit_test(a_send_whose_turn_has_not_come_is_not_ready),
        cmocka_unit_test(a_number_that_the_shard_has_gone_past_is_void),
        cmocka_unit_test(a_group_without_the_shard_never_says_void),
        cmocka_unit_test(who_has_the_shard_now_knows_what_will_not_be),
        cmocka_unit_test(skipped_hand_overs_are_void),
        cmocka_unit_test(a_release_is_answered_by_what_became_of_the_frozen_copy),
        cmocka_unit_test(a_release_of_a_send_further_back_is_not_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
