/* For the tests of copies of a shard: a move on the twins, and looks into their ranges. */
#ifndef TESTS_UNIT_KV_COPY_STORY_H
#define TESTS_UNIT_KV_COPY_STORY_H

#include "tests/unit/kv_twins.h"

/* ---- Looking at ranges ---- */

static inline void dump_kind(struct cluster *cluster, uint32_t gid, uint64_t range, uint8_t kind,
                             struct buf *text)
{
    struct io_state *state = mem_state_io(cluster->groups[gid].replicas[cluster->reader].memory);
    struct io_iter *iter = state->ops->iter_open(state, (struct io_key){range, kind, {NULL, 0}});
    struct slice key, value;

    while (state->ops->iter_next(iter, &key, &value)) {
        buf_put_u8(text, kind);
        buf_put_bytes(text, key);
        buf_put_bytes(text, value);
    }
    assert_int_equal(state->ops->iter_close(iter), ST_OK);
}

/* All that a client could ever see of the shard. */
static inline struct buf dump(struct cluster *cluster, uint32_t gid)
{
    uint64_t range = kv_sm_shard(sm_of(cluster, gid), S)->range;
    struct buf text = {0};

    kv_sm_save(sm_of(cluster, gid));
    dump_kind(cluster, gid, range, KV_KIND_DATA, &text);
    dump_kind(cluster, gid, range, KV_KIND_SESSION, &text);
    dump_kind(cluster, gid, range, KV_KIND_COUNTER, &text);
    return text;
}

/* The replicated sum is that of the keys that are swept, whatever was written since. */
static inline void check_sum(struct cluster *cluster)
{
    const struct shard *shard = kv_sm_shard(sm_of(cluster, A), S);
    struct io_state *state = mem_state_io(cluster->groups[A].replicas[cluster->reader].memory);
    struct shard_sum sum = {0};
    struct slice key, value;
    struct io_iter *iter;

    if (shard->outgoing.copy_id == 0) {
        return;
    }
    iter = state->ops->iter_open(state, (struct io_key){shard->range, KV_KIND_DATA, {NULL, 0}});
    while (state->ops->iter_next(iter, &key, &value)) {
        if (shard_notes_key(shard, key)) {
            shard_sum_add(&sum, key, value);
        }
    }
    assert_int_equal(state->ops->iter_close(iter), ST_OK);
    assert_true(shard_sum_equal(&sum, &shard->outgoing.records));
}

static inline size_t change_log_entries(struct cluster *cluster)
{
    const struct shard *shard = kv_sm_shard(sm_of(cluster, A), S);
    size_t keys =
        mem_state_range_keys(cluster->groups[A].replicas[0].memory, shard->outgoing.range);

    assert_int_equal(keys % 2, 0); /* by number and by key */
    return keys / 2;
}

/* S is at A with its data, and B is to have it; nothing has happened for that. */
static inline void begin_move(struct cluster *cluster, uint32_t max_sessions)
{
    cluster_init_with(cluster, max_sessions);
    give(cluster, S, A);
    write_data(cluster, A, S);
    give(cluster, S, B);
}

/* The key of S that is n-th in the order of the sweep. */
static inline void ordered_key(struct cluster *cluster, size_t n, char key[32])
{
    struct io_state *state = mem_state_io(cluster->groups[A].replicas[0].memory);
    uint64_t range = kv_sm_shard(sm_of(cluster, A), S)->range;
    struct io_iter *iter =
        state->ops->iter_open(state, (struct io_key){range, KV_KIND_DATA, {NULL, 0}});
    struct slice found, value;

    for (size_t i = 0; i <= n; i++) {
        assert_true(state->ops->iter_next(iter, &found, &value));
    }
    memcpy(key, found.data, found.len);
    key[found.len] = '\0';
    assert_int_equal(state->ops->iter_close(iter), ST_OK);
}

#endif
