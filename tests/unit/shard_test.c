/* One shard's life: every transition as a story, every step out of turn, again, or for another
 * configuration. */
#include "tests/unit/shard_view.h"

/* The shard as text: "serving epoch 3 | send 5 to 2, receive 6 from 2 | release 3 at 1". */
static void assert_life(const struct view *view, const char *expected)
{
    static const char *const states[] = {"absent", "serving", "frozen"};
    const struct shard *shard = &view->shard;
    struct buf text = {0};

    buf_printf(&text, "%s epoch %d", states[shard->state], (int)shard->epoch);
    for (size_t i = 0; i < shard->n_queue; i++) {
        buf_printf(&text, "%s%s %d %s %u", i == 0 ? " | " : ", ",
                   shard->queue[i].kind == SHARD_SEND ? "send" : "receive",
                   (int)shard->queue[i].num, shard->queue[i].kind == SHARD_SEND ? "to" : "from",
                   shard->queue[i].gid);
    }
    for (size_t i = 0; i < shard->n_releases; i++) {
        buf_printf(&text, "%s%d at %u", i == 0 ? " | release " : ", ", (int)shard->releases[i].num,
                   shard->releases[i].gid);
    }
    buf_put_u8(&text, 0);
    assert_string_equal((const char *)text.data, expected);
    buf_fini(&text);
}

/* ---- Configurations ---- */

static void a_shard_that_nobody_ever_owned_is_created_empty_and_serves_at_once(void **state)
{
    struct view a = view_of(A), b = view_of(B);

    (void)state;
    adopt(&a, 1, 0, A);
    assert_life(&a, "serving epoch 1");
    assert_true(a.effect.created);
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

static void every_configuration_that_moves_the_shard_joins_the_queue(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, D); /* between others: not ours */
    adopt(&b, 5, D, B);
    adopt(&b, 6, B, 0);
    assert_life(&b,
                "absent epoch 0 | receive 2 from 1, send 3 to 3, receive 5 from 4, send 6 to 0");
    shard_fini(&b.shard);
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
    assert_false(drop(&a, 2)); /* nobody has it: there is nobody to let go to */
    assert_int_equal(shard_answer(&a.shard, 2, 0, 3), SHARD_ANSWER_REFUSED);
    shard_fini(&a.shard);
}

static void from_nobody_back_to_its_keeper_it_serves_again(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, 0);
    adopt(&a, 3, A, A);
    assert_life(&a, "serving epoch 1");
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
    assert_int_equal(shard_answer(&a.shard, 4, B, 4), SHARD_ANSWER_YES);
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
    assert_true(install(&b, 2, 7, 1));
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

static void a_shard_to_be_sent_serves_until_the_freeze(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_life(&a, "serving epoch 1 | send 2 to 2");
    assert_int_equal(shard_answer(&a.shard, 2, B, 2), SHARD_ANSWER_FREEZE);
    assert_false(freeze(&a, 1));
    assert_false(freeze(&a, 3));
    assert_false(drop(&a, 2)); /* never what still serves */
    assert_life(&a, "serving epoch 1 | send 2 to 2");
    assert_true(freeze(&a, 2));
    assert_life(&a, "frozen epoch 1 | send 2 to 2");
    assert_false(freeze(&a, 2));
    assert_int_equal(shard_answer(&a.shard, 2, B, 2), SHARD_ANSWER_YES);
    assert_int_equal(shard_answer(&a.shard, 2, C, 2), SHARD_ANSWER_REFUSED);
    shard_fini(&a.shard);
}

static void a_dropped_shard_is_gone_once(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    assert_true(freeze(&a, 2));
    assert_false(drop(&a, 1));
    assert_false(drop(&a, 3));
    assert_true(drop(&a, 2));
    assert_int_equal(a.effect.n_dropped, 1);
    assert_int_equal(a.effect.dropped[0], 1);
    assert_life(&a, "absent epoch 1");
    assert_false(drop(&a, 2));
    assert_int_equal(shard_answer(&a.shard, 2, B, 2), SHARD_ANSWER_DONE);
    assert_int_equal(shard_answer(&a.shard, 3, B, 2), SHARD_ANSWER_NOT_READY);
    shard_fini(&a.shard);
}

static void an_old_freeze_does_not_touch_the_shard_that_came_back(void **state)
{
    struct view a = view_of(A);

    (void)state;
    adopt(&a, 1, 0, A);
    adopt(&a, 2, A, B);
    adopt(&a, 3, B, A);
    adopt(&a, 4, A, C);
    assert_true(freeze(&a, 2) && drop(&a, 2));
    assert_life(&a, "absent epoch 1 | receive 3 from 2, send 4 to 3");
    assert_int_equal(shard_answer(&a.shard, 4, C, 4), SHARD_ANSWER_NOT_READY);
    assert_false(freeze(&a, 4)); /* not its turn */
    assert_true(chunk(&a, 3, 9, 0));
    assert_true(install(&a, 3, 9, 1));
    assert_false(freeze(&a, 2));
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
    assert_true(install(&b, 2, 7, 2));
    assert_life(&b, "serving epoch 2 | release 2 at 1");
    assert_int_equal(b.effect.n_dropped, 0); /* staging became live */
    assert_false(chunk(&b, 2, 7, 2));
    assert_false(chunk(&b, 2, 8, 0));
    assert_false(install(&b, 2, 7, 2));
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
    assert_int_equal(b.shard.copy.range, 2);
    assert_int_equal(b.shard.copy.next_piece, 1);
    assert_false(chunk(&b, 2, 7, 1));
    assert_false(install(&b, 2, 7, 1));
    assert_true(install(&b, 2, 8, 1));
    assert_int_equal(b.shard.range, 2);
    shard_fini(&b.shard);
}

static void an_incomplete_copy_is_not_installed(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(chunk(&b, 2, 7, 0));
    assert_false(install(&b, 2, 7, 2));
    assert_false(b.effect.changed);
    assert_false(install(&b, 2, 7, 0));
    assert_false(install(&b, 3, 7, 1));
    assert_true(install(&b, 2, 7, 1));
    shard_fini(&b.shard);
}

static void a_copy_with_another_sum_is_thrown_away_and_copied_again(void **state)
{
    struct view b = view_of(B);
    struct shard_end end = end_of(7, 1);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(chunk(&b, 2, 7, 0));
    end.records.low ^= 1;
    shard_install(&b.shard, 2, &end, &b.next_range, &b.effect);
    assert_true(b.effect.copy_was_broken);
    assert_false(b.effect.installed);
    assert_int_equal(b.effect.dropped[0], 1);
    assert_life(&b, "absent epoch 0 | receive 2 from 1");
    assert_int_equal(b.shard.copy.copy_id, 0);
    end = end_of(8, 1);
    assert_true(chunk(&b, 2, 8, 0));
    end.sessions.count = 1; /* a session is missing */
    shard_install(&b.shard, 2, &end, &b.next_range, &b.effect);
    assert_true(b.effect.copy_was_broken);
    assert_true(chunk(&b, 2, 9, 0));
    assert_true(install(&b, 2, 9, 1));
    shard_fini(&b.shard);
}

static void an_empty_shard_moves_without_a_piece(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(install(&b, 2, 7, 0));
    assert_true(b.shard.range != 0);
    assert_life(&b, "serving epoch 2 | release 2 at 1");
    shard_fini(&b.shard);
}

static void releases_are_kept_for_each_source_until_it_has_let_go(void **state)
{
    struct view b = view_of(B);

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(install(&b, 2, 7, 0));
    adopt(&b, 3, B, C);
    adopt(&b, 4, C, B);
    assert_true(freeze(&b, 3) && drop(&b, 3)); /* A is dead: this goes on without it */
    assert_true(install(&b, 4, 8, 0));
    assert_life(&b, "serving epoch 4 | release 2 at 1, 4 at 3");
    assert_false(released(&b, 3));
    assert_true(released(&b, 2));
    assert_false(released(&b, 2));
    assert_true(released(&b, 4));
    assert_life(&b, "serving epoch 4");
    shard_fini(&b.shard);
}

/* ---- Bytes ---- */

static void make_rich_shard(struct view *b)
{
    *b = view_of(B);
    adopt(b, 2, A, B);
    assert_true(install(b, 2, 7, 0));
    adopt(b, 3, B, C);
    adopt(b, 4, C, B);
    adopt(b, 5, B, 0);
    assert_true(freeze(b, 3) && drop(b, 3));
    assert_true(chunk(b, 4, 8, 0) && chunk(b, 4, 8, 1));
}

static void a_shard_survives_its_encoding(void **state)
{
    struct view b;
    struct shard again;
    struct buf bytes = {0}, second = {0};
    struct reader reader;

    (void)state;
    make_rich_shard(&b);
    shard_encode(&b.shard, &bytes);
    reader = reader_of(buf_slice(&bytes));
    assert_true(shard_decode(&reader, &again));
    assert_true(reader_done(&reader));
    shard_encode(&again, &second);
    assert_true(slice_equal(buf_slice(&bytes), buf_slice(&second)));
    shard_fini(&again);
    shard_fini(&b.shard);
    buf_fini(&bytes);
    buf_fini(&second);
}

/* A group keeps a record of every shard, also of those that it has nothing to do with. */
static void an_absent_shard_takes_eleven_bytes(void **state)
{
    struct view b = view_of(B);
    struct buf bytes = {0};

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(install(&b, 2, 7, 0) && released(&b, 2));
    shard_encode(&b.shard, &bytes);
    assert_int_equal(bytes.len, 19); /* and its range, while it is there */
    adopt(&b, 3, B, C);
    assert_true(freeze(&b, 3) && drop(&b, 3));
    buf_clear(&bytes);
    shard_encode(&b.shard, &bytes);
    assert_int_equal(bytes.len, 11);
    shard_fini(&b.shard);
    buf_fini(&bytes);
}

/* What an older program wrote: version 1, every part, whether it is empty or not. */
static void encode_version_1(const struct shard *shard, struct buf *out)
{
    buf_put_u8(out, 1);
    buf_put_u8(out, (uint8_t)shard->state);
    buf_put_u64(out, shard->epoch);
    buf_put_u64(out, shard->range);
    buf_put_u64(out, shard->copy.copy_id);
    buf_put_u64(out, shard->copy.range);
    buf_put_u64(out, shard->copy.next_piece);
    buf_put_bytes(out, buf_slice(&shard->copy.cursor));
    shard_sum_encode(&shard->copy.records, out);
    shard_sum_encode(&shard->copy.sessions, out);
    buf_put_u32(out, (uint32_t)shard->n_queue);
    for (size_t i = 0; i < shard->n_queue; i++) {
        buf_put_u8(out, (uint8_t)shard->queue[i].kind);
        buf_put_u64(out, shard->queue[i].num);
        buf_put_u32(out, shard->queue[i].gid);
    }
    buf_put_u32(out, (uint32_t)shard->n_releases);
    for (size_t i = 0; i < shard->n_releases; i++) {
        buf_put_u64(out, shard->releases[i].num);
        buf_put_u32(out, shard->releases[i].gid);
    }
}

static void check_version_1(const struct shard *shard)
{
    struct buf old = {0}, expected = {0}, found = {0};
    struct reader reader;
    struct shard again;

    encode_version_1(shard, &old);
    for (size_t len = 0; len < old.len; len++) {
        reader = reader_of(slice_of(old.data, len));
        assert_false(shard_decode(&reader, &again));
    }
    reader = reader_of(buf_slice(&old));
    assert_true(shard_decode(&reader, &again));
    assert_true(reader_done(&reader));
    shard_encode(shard, &expected);
    shard_encode(&again, &found);
    assert_true(slice_equal(buf_slice(&expected), buf_slice(&found)));
    shard_fini(&again);
    buf_fini(&old);
    buf_fini(&expected);
    buf_fini(&found);
}

static void version_1_is_still_read(void **state)
{
    struct view fresh = view_of(A), rich;

    (void)state;
    make_rich_shard(&rich);
    check_version_1(&fresh.shard);
    check_version_1(&rich.shard);
    shard_fini(&fresh.shard);
    shard_fini(&rich.shard);
}

/* One state, one encoding: sums over states are compared between replicas. */
static void a_part_that_is_there_is_not_empty(void **state)
{
    struct view b = view_of(B);
    struct buf bytes = {0};
    struct shard again;
    struct reader reader;

    (void)state;
    shard_encode(&b.shard, &bytes);
    assert_int_equal(bytes.data[10], 0);
    buf_put_u64(&bytes, 0);
    buf_put_u64(&bytes, 0);
    for (unsigned parts = 1; parts < 256; parts++) {
        bytes.data[10] = (uint8_t)parts;
        reader = reader_of(buf_slice(&bytes));
        assert_false(shard_decode(&reader, &again));
    }
    buf_fini(&bytes);
}

static void damaged_encodings_are_refused_or_consistent(void **state)
{
    struct view b;
    struct shard again;
    struct buf bytes = {0};
    struct reader reader;
    struct rng rng;

    (void)state;
    make_rich_shard(&b);
    shard_encode(&b.shard, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        reader = reader_of(slice_of(bytes.data, len));
        assert_false(shard_decode(&reader, &again));
    }
    rng_init(&rng, 5);
    for (int i = 0; i < 20000; i++) {
        size_t bit = rng_below(&rng, bytes.len * 8);

        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        reader = reader_of(buf_slice(&bytes));
        if (shard_decode(&reader, &again)) {
            assert_true(shard_is_consistent(&again));
            shard_fini(&again);
        }
        bytes.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    shard_fini(&b.shard);
    buf_fini(&bytes);
}

/* ---- The sum ---- */

static void the_sum_does_not_depend_on_order_and_forgets_what_is_removed(void **state)
{
    struct shard_sum a = {0}, b = {0}, c = {0};

    (void)state;
    shard_sum_add(&a, slice_text("k1"), slice_text("v1"));
    shard_sum_add(&a, slice_text("k2"), slice_text("v2"));
    shard_sum_add(&b, slice_text("k2"), slice_text("v2"));
    shard_sum_add(&b, slice_text("x"), slice_text("y"));
    shard_sum_add(&b, slice_text("k1"), slice_text("v1"));
    shard_sum_remove(&b, slice_text("x"), slice_text("y"));
    assert_true(shard_sum_equal(&a, &b));
    /* What belongs to the key and what to the value matters. */
    shard_sum_add(&c, slice_text("k"), slice_text("1v1"));
    shard_sum_add(&c, slice_text("k2v"), slice_text("2"));
    assert_false(shard_sum_equal(&a, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shard_that_nobody_ever_owned_is_created_empty_and_serves_at_once),
        cmocka_unit_test(configurations_that_do_not_concern_the_shard_change_nothing),
        cmocka_unit_test(every_configuration_that_moves_the_shard_joins_the_queue),
        cmocka_unit_test(nobody_freezes_at_once_and_keeps_the_data),
        cmocka_unit_test(from_nobody_back_to_its_keeper_it_serves_again),
        cmocka_unit_test(from_nobody_to_another_group_it_is_a_move_that_stays_frozen),
        cmocka_unit_test(nobody_behind_a_receive_freezes_when_its_turn_comes),
        cmocka_unit_test(a_configuration_that_contradicts_the_history_is_not_adopted),
        cmocka_unit_test(a_shard_to_be_sent_serves_until_the_freeze),
        cmocka_unit_test(a_dropped_shard_is_gone_once),
        cmocka_unit_test(an_old_freeze_does_not_touch_the_shard_that_came_back),
        cmocka_unit_test(pieces_are_applied_in_order_and_once),
        cmocka_unit_test(another_copy_begins_anew_and_drops_what_was_staged),
        cmocka_unit_test(an_incomplete_copy_is_not_installed),
        cmocka_unit_test(a_copy_with_another_sum_is_thrown_away_and_copied_again),
        cmocka_unit_test(an_empty_shard_moves_without_a_piece),
        cmocka_unit_test(releases_are_kept_for_each_source_until_it_has_let_go),
        cmocka_unit_test(a_shard_survives_its_encoding),
        cmocka_unit_test(an_absent_shard_takes_eleven_bytes),
        cmocka_unit_test(version_1_is_still_read),
        cmocka_unit_test(a_part_that_is_there_is_not_empty),
        cmocka_unit_test(damaged_encodings_are_refused_or_consistent),
        cmocka_unit_test(the_sum_does_not_depend_on_order_and_forgets_what_is_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
