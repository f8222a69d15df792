/* What a replica reads back of its state: what it had saved is there, and damage is not read over.
 */
#include "tests/unit/kv_twins.h"

static void put(struct twin *twin, uint8_t kind, const struct buf *key, const struct buf *value,
                size_t len)
{
    struct io_state *io = mem_state_io(twin->memory);

    io->ops->put(io, (struct io_key){0, kind, buf_slice(key)}, slice_of(value->data, len));
}

/* The first value of that kind of range 0. */
static void find(struct twin *twin, uint8_t kind, struct buf *key, struct buf *value)
{
    struct io_state *io = mem_state_io(twin->memory);
    struct io_iter *iter = io->ops->iter_open(io, (struct io_key){0, kind, {NULL, 0}});
    struct slice found_key, found;

    assert_true(io->ops->iter_next(iter, &found_key, &found));
    buf_put_slice(key, found_key);
    buf_put_slice(value, found);
    assert_int_equal(io->ops->iter_close(iter), ST_OK);
}

/* Who the group is, its configuration, the groups that it knows, its shards. */
static void what_is_cut_or_too_long_in_the_state_is_damage(void **state)
{
    struct cluster cluster;
    struct twin *twin = &cluster.groups[A].replicas[1];

    (void)state;
    cluster_init(&cluster);
    give(&cluster, S, A);
    for (uint8_t kind = 1; kind <= 4; kind++) {
        struct buf key = {0}, value = {0};
        size_t len;

        find(twin, kind, &key, &value);
        len = value.len;
        buf_put_u8(&value, 0);
        put(twin, kind, &key, &value, len + 1);
        assert_int_equal(kv_sm_restore(twin->sm), ST_CORRUPT);
        put(twin, kind, &key, &value, len - 1);
        assert_int_equal(kv_sm_restore(twin->sm), ST_CORRUPT);
        put(twin, kind, &key, &value, len);
        assert_int_equal(kv_sm_restore(twin->sm), ST_OK);
        buf_fini(&key);
        buf_fini(&value);
    }
    cluster_fini(&cluster);
}

/* How many sessions of the shard the state has. */
static uint32_t sessions_in_state(struct twin *twin, shard_id shard)
{
    struct io_state *io = mem_state_io(twin->memory);
    struct io_iter *iter = io->ops->iter_open(
        io, (struct io_key){kv_sm_shard(twin->sm, shard)->range, KV_KIND_SESSION, {NULL, 0}});
    struct slice key, value;
    uint32_t n = 0;

    while (io->ops->iter_next(iter, &key, &value)) {
        n += key.len > 0; /* under the empty one stands the floor */
    }
    assert_int_equal(io->ops->iter_close(iter), ST_OK);
    return n;
}

/* Shard by shard, in parts of 64 records. What all of them left is nothing. */
static void sessions_are_saved_in_parts(void **state)
{
    struct cluster cluster;
    struct twin *twin = &cluster.groups[A].replicas[0];
    uint32_t parts = 1, before = 0;

    (void)state;
    cluster_init(&cluster);
    for (shard_id shard = 0; shard < 4; shard++) {
        give(&cluster, shard, A);
        for (uint8_t client = 1; client <= 90; client++) {
            assert_int_equal(
                write_to(&cluster, A, client, 1, KV_APPEND, key_in(&cluster, shard, 1), "x"),
                ST_OK);
        }
        assert_int_equal(sessions_in_state(twin, shard), 0);
    }
    for (bool more = true; more; parts += more) {
        uint32_t saved = 0;

        more = kv_sm_save_part(twin->sm);
        for (shard_id shard = 0; shard < 4; shard++) {
            saved += sessions_in_state(twin, shard);
        }
        assert_int_equal(saved - before, more ? 64 : 360 % 64);
        before = saved;
    }
    assert_int_equal(parts, 360 / 64 + 1);
    assert_int_equal(before, 360);

    /* Whoever saves all of them ends the parts: the next ones begin with the first shard again. */
    for (shard_id shard = 0; shard < 4; shard++) {
        for (uint8_t client = 1; client <= 90; client++) {
            assert_int_equal(
                write_to(&cluster, A, client, 2, KV_APPEND, key_in(&cluster, shard, 1), "x"),
                ST_OK);
        }
    }
    assert_true(kv_sm_save_part(twin->sm));
    assert_true(kv_sm_save_part(twin->sm)); /* it is at the second shard */
    kv_sm_save(twin->sm);
    assert_int_equal(write_to(&cluster, A, 91, 1, KV_APPEND, key_in(&cluster, 0, 1), "x"), ST_OK);
    before = sessions_in_state(twin, 0);
    assert_false(kv_sm_save_part(twin->sm));
    assert_int_equal(sessions_in_state(twin, 0), before + 1);
    cluster_fini(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_are_saved_in_parts),
        cmocka_unit_test(what_is_cut_or_too_long_in_the_state_is_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
