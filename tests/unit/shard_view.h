/* For the tests of one shard's life: one group's view of it, and each step in a word. */
#ifndef TESTS_UNIT_SHARD_VIEW_H
#define TESTS_UNIT_SHARD_VIEW_H

#include "raft/util/rng.h"
#include "shardkv/shard.h"
#include "tests/cmocka.h"

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

static inline struct view view_of(uint32_t me)
{
    return (struct view){.me = me, .next_range = 1};
}

static inline void adopt(struct view *view, config_num num, uint32_t from, uint32_t owner)
{
    struct shard_change change = {.num = num, .me = view->me, .owner = owner, .from = from};

    assert_true(shard_can_adopt(&view->shard, &change));
    shard_adopt(&view->shard, &change, &view->next_range, &view->effect);
}

/* ---- Giving away ---- */

static inline bool copy_begin(struct view *view, config_num num, uint64_t copy_id)
{
    shard_copy_begin(&view->shard, num, copy_id, &view->next_range, &view->effect);
    return view->effect.changed;
}

/* From one key to another; to NULL: to the end. */
static inline bool sweep(struct view *view, config_num num, uint64_t copy_id, const char *from,
                         const char *to)
{
    if (!shard_sweep(&view->shard, num, copy_id, slice_text(from))) {
        return false;
    }
    shard_sweep_end(&view->shard, slice_text(to != NULL ? to : ""), to == NULL);
    assert_true(shard_is_consistent(&view->shard));
    return true;
}

static inline bool freeze(struct view *view, config_num num, uint64_t copy_id)
{
    shard_freeze(&view->shard, num, copy_id, &view->effect);
    return view->effect.changed;
}

/* All of it: the copy begins, is swept, and the shard freezes. */
static inline bool give(struct view *view, config_num num)
{
    return copy_begin(view, num, 50 + num) && sweep(view, num, 50 + num, "", NULL) &&
           freeze(view, num, 50 + num);
}

static inline bool drop(struct view *view, config_num num)
{
    shard_drop(&view->shard, num, &view->effect);
    return view->effect.changed;
}

static inline bool notes(const struct view *view, const char *key)
{
    return shard_notes_key(&view->shard, slice_text(key));
}

/* ---- Taking over ---- */

/* Whether the piece of that number, which begins at that cursor, is the next one. */
static inline bool piece_is_next(struct view *view, config_num num, uint64_t copy_id,
                                 uint64_t number, const char *begin)
{
    struct shard_piece piece = {copy_id, number, slice_text(begin)};

    return shard_chunk(&view->shard, num, &piece, &view->next_range, &view->effect);
}

/* Where piece `number` begins. */
static inline const char *cursor_of(uint64_t number)
{
    static const char *const cursors[] = {"", "one", "two", "three", "four"};

    assert_in_range(number, 0, 4);
    return cursors[number];
}

/* A piece that brings one record. */
static inline bool chunk(struct view *view, config_num num, uint64_t copy_id, uint64_t number)
{
    if (!piece_is_next(view, num, copy_id, number, cursor_of(number))) {
        return false;
    }
    shard_sum_add(&view->shard.copy.records, slice_of(&number, sizeof(number)), slice_text("v"));
    shard_chunk_end(&view->shard, slice_text(cursor_of(number + 1)));
    assert_true(shard_is_consistent(&view->shard));
    return true;
}

/* The END of a copy of so many chunks, as chunk() makes them. */
static inline struct shard_end end_of(uint32_t gid, uint64_t chunks)
{
    struct shard_end end = {.gid = gid};

    for (uint64_t i = 0; i < chunks; i++) {
        shard_sum_add(&end.records, slice_of(&i, sizeof(i)), slice_text("v"));
    }
    return end;
}

static inline bool install_end(struct view *view, config_num num, uint64_t copy_id, uint64_t chunks,
                               const struct shard_end *end)
{
    const struct shard_sum no_sessions = {0};

    if (!piece_is_next(view, num, copy_id, chunks, cursor_of(chunks))) {
        return false;
    }
    shard_install(&view->shard, end, &no_sessions, &view->effect);
    return view->effect.installed;
}

/* The last piece, after so many chunks, from that group. */
static inline bool install(struct view *view, config_num num, uint64_t copy_id, uint64_t chunks,
                           uint32_t gid)
{
    struct shard_end end = end_of(gid, chunks);

    return install_end(view, num, copy_id, chunks, &end);
}

/* An empty shard comes in one piece. */
static inline bool take(struct view *view, config_num num, uint32_t gid)
{
    return install(view, num, 70 + num, 0, gid);
}

static inline bool call_off(struct view *view, config_num num)
{
    shard_void(&view->shard, num, &view->effect);
    return view->effect.changed;
}

static inline bool released(struct view *view, config_num num)
{
    shard_released(&view->shard, num, &view->effect);
    return view->effect.changed;
}

/* The shard as text: "serving epoch 3 | send 5 to 2, receive 6 from 2 | release 3 at 1". */
static inline void view_describe(const struct view *view, struct buf *text)
{
    static const char *const states[] = {"absent", "serving", "frozen"};
    const struct shard *shard = &view->shard;

    buf_printf(text, "%s epoch %d", states[shard->state], (int)shard->epoch);
    for (size_t i = 0; i < shard->n_queue; i++) {
        buf_printf(text, "%s%s %d %s %u", i == 0 ? " | " : ", ",
                   shard->queue[i].kind == SHARD_SEND ? "send" : "receive",
                   (int)shard->queue[i].num, shard->queue[i].kind == SHARD_SEND ? "to" : "from",
                   shard->queue[i].gid);
    }
    for (size_t i = 0; i < shard->n_releases; i++) {
        buf_printf(text, "%s%d at %u", i == 0 ? " | release " : ", ", (int)shard->releases[i].num,
                   shard->releases[i].gid);
    }
    buf_put_u8(text, 0);
}

static inline void assert_life(const struct view *view, const char *expected)
{
    struct buf text = {0};

    view_describe(view, &text);
    assert_string_equal((const char *)text.data, expected);
    buf_fini(&text);
}

#endif
