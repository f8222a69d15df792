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

static inline bool freeze(struct view *view, config_num num)
{
    shard_freeze(&view->shard, num, &view->effect);
    return view->effect.changed;
}

static inline bool drop(struct view *view, config_num num)
{
    shard_drop(&view->shard, num, &view->effect);
    return view->effect.changed;
}

static inline bool chunk(struct view *view, config_num num, uint64_t copy_id, uint64_t piece)
{
    if (!shard_chunk(&view->shard, num, copy_id, piece, &view->next_range, &view->effect)) {
        return false;
    }
    shard_sum_add(&view->shard.copy.records, slice_of(&piece, sizeof(piece)), slice_text("v"));
    shard_chunk_end(&view->shard, slice_text("cursor"));
    return true;
}

/* The END of a copy of so many pieces, as chunk() makes them. */
static inline struct shard_end end_of(uint64_t copy_id, uint64_t pieces)
{
    struct shard_end end = {.copy_id = copy_id, .pieces = pieces};

    for (uint64_t i = 0; i < pieces; i++) {
        shard_sum_add(&end.records, slice_of(&i, sizeof(i)), slice_text("v"));
    }
    return end;
}

static inline bool install(struct view *view, config_num num, uint64_t copy_id, uint64_t pieces)
{
    struct shard_end end = end_of(copy_id, pieces);

    shard_install(&view->shard, num, &end, &view->next_range, &view->effect);
    return view->effect.installed;
}

static inline bool released(struct view *view, config_num num)
{
    shard_released(&view->shard, num, &view->effect);
    return view->effect.changed;
}

#endif
