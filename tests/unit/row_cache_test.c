/* The row cache: what it gives is what was kept last, within its bytes, and what is read stays. */
#include "raft/store/row_cache.h"
#include "tests/unit/state_kit.h"

static struct io_key numbered_key(uint64_t number, uint8_t bytes[8])
{
    set_u64(bytes, number);
    return (struct io_key){4, 1, slice_of(bytes, 8)};
}

static void keep_numbered(struct row_cache *cache, uint64_t number, size_t len)
{
    uint8_t bytes[8], value[ROW_CACHE_LARGEST + 1] = {0};

    set_u64(value, number);
    row_cache_keep(cache, numbered_key(number, bytes), slice_of(value, len));
}

static bool has_numbered(struct row_cache *cache, uint64_t number, size_t len)
{
    uint8_t bytes[8];
    struct buf value = {0};
    bool found = row_cache_get(cache, numbered_key(number, bytes), &value);

    if (found) {
        assert_int_equal(value.len, len);
        assert_int_equal(get_u64(value.data), number);
    } else {
        assert_int_equal(value.len, 0);
    }
    buf_fini(&value);
    return found;
}

/* Keys that are prefixes of each other, in several ranges and kinds. Appended to what is there. */
static void it_gives_what_was_kept_and_not_forgotten(void **state)
{
    enum { KEYS = 3 * 2 * 40 };
    static uint8_t key_bytes[40], value[300];

    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct row_cache *cache = row_cache_create(1000 << seed % 8);
        int known[KEYS] = {0}; /* the length of the value; 0: not kept since it was forgotten */
        uint64_t found = 0;
        struct rng rng;

        rng_init(&rng, seed);
        for (int step = 0; step < 20000; step++) {
            size_t at = rng_below(&rng, KEYS), len = rng_between(&rng, 1, sizeof(value));
            struct io_key key = {at % 3, (uint8_t)(at / 3 % 2), slice_of(key_bytes, at / 6)};
            struct buf got = {0};

            buf_put_u8(&got, 'x');
            if (rng_below(&rng, 4) == 0) {
                row_cache_forget(cache, key);
                known[at] = 0;
            } else if (row_cache_get(cache, key, &got)) {
                assert_int_equal(got.len, 1 + known[at]);
                assert_int_equal(got.data[0], 'x');
                assert_int_equal(got.data[1], (uint8_t)at);
                assert_int_equal(got.data[got.len - 1], (uint8_t)at);
                found++;
            } else {
                memset(value, (int)at, len);
                row_cache_keep(cache, key, slice_of(value, len));
                known[at] = (int)len;
            }
            buf_fini(&got);
        }
        assert_true(found > 0);
        row_cache_destroy(&cache);
        assert_null(cache);
    }
}

static void it_stays_within_its_bytes_and_uses_them(void **state)
{
    struct row_cache *cache = row_cache_create(1 << 20);

    (void)state;
    for (uint64_t i = 0; i < 50000; i++) {
        keep_numbered(cache, i, 8 + i * 7919 % 2000);
        assert_true(row_cache_bytes(cache) <= 1 << 20);
    }
    assert_true(row_cache_bytes(cache) > 900 << 10);
    row_cache_destroy(&cache);
}

/* Rows of the usual size that fit are kept, but for a few whose set is full. */
static void what_fits_is_kept(void **state)
{
    struct row_cache *cache = row_cache_create(4 << 20);
    int found = 0;

    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        keep_numbered(cache, i, 280);
    }
    for (uint64_t i = 0; i < 10000; i++) {
        found += has_numbered(cache, i, 280);
    }
    assert_true(found > 9500);
    row_cache_destroy(&cache);
}

static void what_is_read_stays(void **state)
{
    enum { HOT = 500 };
    struct row_cache *cache = row_cache_create(1 << 20);
    int found = 0;

    (void)state;
    for (uint64_t i = 0; i < 50000; i++) {
        if (!has_numbered(cache, i % HOT, 280)) {
            keep_numbered(cache, i % HOT, 280);
        }
        keep_numbered(cache, HOT + i, 280);
    }
    for (uint64_t i = 0; i < HOT; i++) {
        found += has_numbered(cache, i, 280);
    }
    assert_true(found > HOT * 95 / 100);
    row_cache_destroy(&cache);
}

static void a_large_value_is_not_kept(void **state)
{
    struct row_cache *cache = row_cache_create(1 << 20);
    struct row_cache *none = row_cache_create(0);

    (void)state;
    keep_numbered(cache, 1, ROW_CACHE_LARGEST);
    keep_numbered(cache, 2, ROW_CACHE_LARGEST + 1);
    assert_true(has_numbered(cache, 1, ROW_CACHE_LARGEST));
    assert_false(has_numbered(cache, 2, 0));
    keep_numbered(none, 1, 8);
    assert_false(has_numbered(none, 1, 8));
    row_cache_destroy(&cache);
    row_cache_destroy(&none);
}

/* In the state: a read after a change, or after another state was installed, finds the new value,
 * though the old one was read before and is in LevelDB. */
static void a_state_forgets_what_changes(void **state)
{
    struct kit kit;

    (void)state;
    kit_init(&kit);
    kit_open(&kit);
    kit_put(&kit, 3, "changed", "old");
    kit_put(&kit, 3, "removed", "old");
    kit_checkpoint(&kit, 10, (uint64_t[]){3}, 1);
    for (int i = 0; i < 2; i++) {
        kit_expect(&kit, 3, "changed", "old");
        kit_expect(&kit, 3, "removed", "old");
    }
    kit_put(&kit, 3, "changed", "new");
    kit_remove(&kit, 3, "removed");
    kit_checkpoint(&kit, 20, (uint64_t[]){3}, 1);
    for (int i = 0; i < 2; i++) {
        kit_expect(&kit, 3, "changed", "new");
        kit_expect(&kit, 3, "removed", NULL);
    }
    kit_fini(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_gives_what_was_kept_and_not_forgotten),
        cmocka_unit_test(it_stays_within_its_bytes_and_uses_them),
        cmocka_unit_test(what_fits_is_kept),
        cmocka_unit_test(what_is_read_stays),
        cmocka_unit_test(a_large_value_is_not_kept),
        cmocka_unit_test(a_state_forgets_what_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
