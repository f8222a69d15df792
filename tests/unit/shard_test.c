/* One shard's life: every transition as a story, every step out of turn, again, or for another
 * configuration, and random walks of several groups that share a shard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>

#include "raft/util/rng.h"
#include "shardkv/shard.h"

#define A 1u
#define B 2u
#define C 3u
#define D 4u

/* One group's view of one shard, with the group's number as `me`. */
struct view {
    uint32_t me;
    struct shard shard;
    uint64_t next_range;
    struct shard_effect effect;
};

static struct view view_of(uint32_t me)
{
    return (struct view){.me = me, .next_range = 1};
}

static void adopt(struct view *view, config_num num, uint32_t from, uint32_t owner)
{
    struct shard_change change = {.num = num, .me = view->me, .owner = owner, .from = from};

    assert_true(shard_can_adopt(&view->shard, &change));
    shard_adopt(&view->shard, &change, &view->next_range, &view->effect);
}

static bool freeze(struct view *view, config_num num)
{
    shard_freeze(&view->shard, num, &view->effect);
    return view->effect.changed;
}

static bool drop(struct view *view, config_num num)
{
    shard_drop(&view->shard, num, &view->effect);
    return view->effect.changed;
}

static bool chunk(struct view *view, config_num num, uint64_t copy_id, uint64_t piece)
{
    if (!shard_chunk(&view->shard, num, copy_id, piece, &view->next_range, &view->effect)) {
        return false;
    }
    shard_sum_add(&view->shard.copy.records, slice_of(&piece, sizeof(piece)), slice_text("v"));
    shard_chunk_end(&view->shard, slice_text("cursor"));
    return true;
}

/* The END of a copy of so many pieces, as chunk() makes them. */
static struct shard_end end_of(uint64_t copy_id, uint64_t pieces)
{
    struct shard_end end = {.copy_id = copy_id, .pieces = pieces};

    for (uint64_t i = 0; i < pieces; i++) {
        shard_sum_add(&end.records, slice_of(&i, sizeof(i)), slice_text("v"));
    }
    return end;
}

static bool install(struct view *view, config_num num, uint64_t copy_id, uint64_t pieces)
{
    struct shard_end end = end_of(copy_id, pieces);

    shard_install(&view->shard, num, &end, &view->next_range, &view->effect);
    return view->effect.installed;
}

static bool released(struct view *view, config_num num)
{
    shard_released(&view->shard, num, &view->effect);
    return view->effect.changed;
}

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

/* ---- Configurations ---------------------------------------------------------------------------
 */

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

/* ---- Giving away ------------------------------------------------------------------------------
 */

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

/* ---- Taking over ------------------------------------------------------------------------------
 */

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

/* ---- Bytes ------------------------------------------------------------------------------------
 */

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

/* ---- The sum ----------------------------------------------------------------------------------
 */

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

/* ---- Random walks -----------------------------------------------------------------------------
 * Four groups share one shard. A controller makes configurations; each group adopts them when it
 * likes; every step is tried at every moment, also old and early ones, but the pieces of a copy and
 * a drop only as the protocol allows: pieces from a frozen source, a drop after an install. The
 * data is one number that only a serving group may raise. */

#define WORLD_GROUPS  4
#define WORLD_CONFIGS 12

struct world {
    struct rng rng;
    uint32_t owner[WORLD_CONFIGS + 1], from[WORLD_CONFIGS + 1];
    struct view views[WORLD_GROUPS + 1];
    config_num adopted[WORLD_GROUPS + 1];
    uint64_t data[WORLD_GROUPS + 1];   /* of the live range */
    uint64_t staged[WORLD_GROUPS + 1]; /* of the staging range */
    uint64_t written;                  /* the last number that a server wrote */
};

static void world_init(struct world *world, uint64_t seed)
{
    uint32_t last = 0;

    *world = (struct world){0};
    rng_init(&world->rng, seed);
    for (config_num num = 1; num <= WORLD_CONFIGS; num++) {
        world->from[num] = last;
        world->owner[num] = (uint32_t)rng_below(&world->rng, WORLD_GROUPS + 1);
        last = world->owner[num] != 0 ? world->owner[num] : last;
    }
    for (uint32_t gid = 1; gid <= WORLD_GROUPS; gid++) {
        world->views[gid] = view_of(gid);
    }
}

static void world_copy(struct world *world, struct view *taker, config_num num)
{
    const struct shard_transition *head = shard_head(&taker->shard);
    struct view *source;
    uint64_t copy_id = 1 + rng_below(&world->rng, 2);

    if (head == NULL || head->kind != SHARD_RECEIVE) {
        assert_false(chunk(taker, num, copy_id, 0));
        assert_false(install(taker, num, copy_id, 1));
        return;
    }
    source = &world->views[head->gid];
    switch (shard_answer(&source->shard, head->num, taker->me, world->adopted[source->me])) {
    case SHARD_ANSWER_FREEZE:
        freeze(source, head->num);
        break;
    case SHARD_ANSWER_YES:
        if (chunk(taker, head->num, copy_id, 0)) {
            world->staged[taker->me] = world->data[source->me];
        }
        if (rng_below(&world->rng, 2) == 0 && install(taker, head->num, copy_id, 1)) {
            world->data[taker->me] = world->staged[taker->me];
        }
        break;
    case SHARD_ANSWER_NOT_READY:
        break;
    default:
        fail_msg("a taker that waits was told that the shard is gone");
    }
}

/* The source drops only what the taker says it has. */
static void world_release(struct world *world, struct view *taker)
{
    for (size_t i = 0; i < taker->shard.n_releases; i++) {
        struct shard_release pending = taker->shard.releases[i];
        struct view *source = &world->views[pending.gid];
        enum shard_answer answer =
            shard_answer(&source->shard, pending.num, taker->me, world->adopted[pending.gid]);

        assert_true(answer == SHARD_ANSWER_YES || answer == SHARD_ANSWER_DONE);
        if (answer == SHARD_ANSWER_YES) {
            assert_true(drop(source, pending.num));
            world->data[source->me] = 0;
        } else {
            assert_false(drop(source, pending.num));
            assert_true(released(taker, pending.num));
        }
        return;
    }
}

static void world_check(struct world *world)
{
    uint32_t serving = 0;

    for (uint32_t gid = 1; gid <= WORLD_GROUPS; gid++) {
        assert_true(shard_is_consistent(&world->views[gid].shard));
        if (world->views[gid].shard.state == SHARD_SERVING) {
            serving++;
            assert_int_equal(world->data[gid], world->written); /* has everything */
        }
    }
    assert_true(serving <= 1);
}

static void world_step(struct world *world)
{
    uint32_t gid = 1 + (uint32_t)rng_below(&world->rng, WORLD_GROUPS);
    struct view *view = &world->views[gid];
    config_num num = 1 + rng_below(&world->rng, WORLD_CONFIGS);

    switch (rng_below(&world->rng, 6)) {
    case 0:
        if (world->adopted[gid] < WORLD_CONFIGS) {
            num = ++world->adopted[gid];
            adopt(view, num, world->from[num], world->owner[num]);
        }
        break;
    case 1:
        if (view->shard.state == SHARD_SERVING) {
            world->data[gid] = ++world->written;
        }
        break;
    case 2: /* old, early and duplicate releases change nothing that matters */
        world_release(world, view);
        break;
    default:
        world_copy(world, view, num);
        break;
    }
    world_check(world);
}

static void at_most_one_group_serves_and_nothing_is_lost_whatever_the_order(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct world world;
        uint32_t owner;

        world_init(&world, seed);
        for (int step = 0; step < 1500; step++) {
            world_step(&world);
        }
        /* Given time, the shard is where the last configuration wants it, and only there. */
        owner = world.owner[WORLD_CONFIGS];
        for (uint32_t gid = 1; gid <= WORLD_GROUPS; gid++) {
            bool keeps = owner == 0 && gid == world.from[WORLD_CONFIGS];

            assert_int_equal(world.views[gid].shard.state, gid == owner ? SHARD_SERVING
                                                           : keeps      ? SHARD_FROZEN
                                                                        : SHARD_ABSENT);
            assert_true(shard_is_settled(&world.views[gid].shard));
            shard_fini(&world.views[gid].shard);
        }
    }
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
        cmocka_unit_test(damaged_encodings_are_refused_or_consistent),
        cmocka_unit_test(the_sum_does_not_depend_on_order_and_forgets_what_is_removed),
        cmocka_unit_test(at_most_one_group_serves_and_nothing_is_lost_whatever_the_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
