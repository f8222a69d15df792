/* The overlay against a model, and its account of bytes. */
#include "raft/store/overlay.h"
#include "tests/unit/state_kit.h"

static void overlay_key(struct rng *rng, struct io_key *key, uint8_t bytes[MODEL_KEY])
{
    size_t len = rng_below(rng, 3);

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(rng_below(rng, 3) * 127);
    }
    *key = (struct io_key){rng_below(rng, 3), (uint8_t)rng_below(rng, 2), slice_of(bytes, len)};
}

/* Tombstones are entries: the model holds them as a value of one byte that no put writes. */
static void overlay_equals(struct overlay *overlay, const struct model *model)
{
    const struct overlay_entry **sorted = overlay_sort(overlay);
    const struct overlay_entry *entry = overlay_seek(overlay, (struct io_key){0});
    uint64_t bytes[3] = {0};

    assert_int_equal(overlay_count(overlay), model->n);
    for (size_t i = 0; i < model->n; i++, entry = overlay_next(entry)) {
        const struct model_item *item = &model->items[i];

        assert_non_null(entry);
        assert_ptr_equal(sorted[i], entry);
        assert_int_equal(entry->range->number, item->range);
        assert_int_equal(entry->kind, item->kind);
        assert_true(slice_equal(overlay_entry_key(entry), slice_of(item->key, item->key_len)));
        assert_int_equal(entry->removed, item->value_len == 1);
        if (!entry->removed) {
            assert_true(
                slice_equal(overlay_entry_value(entry), slice_of(item->value, item->value_len)));
            bytes[item->range] += (uint64_t)item->key_len + item->value_len;
        }
    }
    assert_null(entry);
    mem_free(sorted);
    for (uint64_t range = 0; range < 3; range++) {
        assert_int_equal(overlay_range_bytes(overlay, range), bytes[range]);
    }
}

static void an_overlay_is_an_ordered_map_with_tombstones(void **state)
{
    struct model *model = mem_zalloc(sizeof(*model));

    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct overlay *overlay = overlay_create();
        uint8_t bytes[MODEL_KEY], value[MODEL_VALUE] = {0};
        struct io_key key;
        struct rng rng;

        rng_init(&rng, seed);
        model->n = 0;
        for (int step = 0; step < 200; step++) {
            size_t len = rng_between(&rng, 2, sizeof(value));
            const struct overlay_entry *found;

            overlay_key(&rng, &key, bytes);
            value[0] = (uint8_t)rng_next(&rng);
            if (rng_below(&rng, 3) == 0) {
                overlay_remove(overlay, key);
                model_put(model, key, slice_of("", 1));
            } else {
                overlay_put(overlay, key, slice_of(value, len));
                model_put(model, key, slice_of(value, len));
            }
            overlay_key(&rng, &key, bytes);
            found = overlay_find(overlay, key);
            assert_int_equal(found != NULL, model_find(model, key) != NULL);
            if (rng_below(&rng, seed % 8 + 1) == 0) { /* few writes or many since the last time */
                found = overlay_seek(overlay, key);
                assert_int_equal(found != NULL, model_seek(model, key) < model->n);
            }
        }
        overlay_equals(overlay, model);
        overlay_freeze(overlay);
        overlay_equals(overlay, model);
        overlay_destroy(&overlay);
        assert_null(overlay);
    }
    mem_free(model);
}

/* Many entries are found as few are, and sorted as they are iterated, whoever asked for order
 * meanwhile. */
static void many_entries_are_found_and_sorted(void **state)
{
    struct overlay *overlay = overlay_create();
    const struct overlay_entry *entry, **sorted;
    char key[32];
    struct rng rng;

    (void)state;
    rng_init(&rng, 5);
    assert_null(overlay_find(overlay, kit_key(1, 1, "none")));
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof(key), "%d", i * 7919 % 20000);
        overlay_put(overlay, kit_key(1 + (uint64_t)i % 100, 1, key), slice_text(key));
        if (rng_below(&rng, 1000) == 0) {
            assert_non_null(overlay_seek(overlay, kit_key(1, 1, "")));
            overlay_put(overlay, kit_key(1, 1, "0"), slice_text("again"));
        }
    }
    assert_int_equal(overlay_count(overlay), 20000);
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof(key), "%d", i * 7919 % 20000);
        entry = overlay_find(overlay, kit_key(1 + (uint64_t)i % 100, 1, key));
        assert_true(slice_equal(overlay_entry_key(entry), slice_text(key)));
        assert_null(overlay_find(overlay, kit_key(1 + (uint64_t)i % 100, 2, key)));
    }
    /* Keys that differ in the first bytes, further behind, in length only, or in range only. */
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "%.*s%llu", (int)rng_below(&rng, 20), "long common beginning",
                 (unsigned long long)rng_below(&rng, 2000));
        overlay_put(overlay, kit_key(1 + rng_below(&rng, 3), 1, key), slice_text(key));
    }
    sorted = overlay_sort(overlay);
    entry = overlay_seek(overlay, (struct io_key){0});
    for (size_t i = 0; i < overlay_count(overlay); i++, entry = overlay_next(entry)) {
        assert_ptr_equal(sorted[i], entry);
    }
    assert_null(entry);
    mem_free(sorted);
    overlay_destroy(&overlay);
}

static void bytes_grow_with_what_is_held_and_not_with_overwrites(void **state)
{
    struct overlay *overlay = overlay_create();
    uint8_t value[10000] = {0};
    uint64_t one, small;

    (void)state;
    assert_int_equal(overlay_bytes(overlay), 0);
    overlay_put(overlay, kit_key(1, 1, "key"), slice_of(value, sizeof(value)));
    one = overlay_bytes(overlay);
    assert_true(one > sizeof(value));
    for (int i = 0; i < 100; i++) {
        overlay_put(overlay, kit_key(1, 1, "key"), slice_of(value, sizeof(value)));
    }
    assert_int_equal(overlay_bytes(overlay), one);
    overlay_put(overlay, kit_key(1, 1, "key"), slice_of(value, 1));
    small = overlay_bytes(overlay);
    assert_true(small < one / 2);
    for (size_t len = 1; len <= 1000; len++) { /* as appends make it grow */
        overlay_put(overlay, kit_key(1, 1, "key"), slice_of(value, len));
    }
    assert_true(overlay_bytes(overlay) < small + 4000);
    overlay_remove(overlay, kit_key(1, 1, "key"));
    assert_true(overlay_bytes(overlay) > 0);
    assert_int_equal(overlay_range_bytes(overlay, 1), 0);
    overlay_put(overlay, kit_key(1, 1, "key"), slice_of(value, sizeof(value)));
    overlay_remove(overlay, kit_key(1, 1, "key"));
    assert_true(overlay_bytes(overlay) < small + 5000);
    overlay_destroy(&overlay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overlay_is_an_ordered_map_with_tombstones),
        cmocka_unit_test(many_entries_are_found_and_sorted),
        cmocka_unit_test(bytes_grow_with_what_is_held_and_not_with_overwrites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
