/* The WAL's bytes: bound to log, segment and offset; no bytes from outside break a decoder. */
#include "tests/unit/wal_fixture.h"

#include "raft/store/wal_format.h"
#include "raft/store/wal_table.h"

static struct buf three_records(void)
{
    struct raft_hard_state hard_state = {5, 2};
    struct raft_entry entries[2] = {{1, 5, RAFT_ENTRY_NOOP, NULL},
                                    {2, 5, RAFT_ENTRY_COMMAND, blob_create(slice_text("hello"))}};
    struct buf out = {0};

    wal_encode_hard_state(&out, 3, &hard_state);
    wal_encode_entries(&out, 3, entries, 2);
    wal_encode_pair(&out, WAL_COMPACT, 3, 1, 5);
    blob_unref(&entries[1].data);
    return out;
}

static void a_record_is_bound_to_its_place(void **state)
{
    struct wal_place place = {7, 8, 4096}, wrong;
    struct wal_record record;
    struct buf bytes = three_records();

    (void)state;
    wal_seal(bytes.data, bytes.len, place, 99);
    assert_true(wal_header_parse(bytes.data, place, &record));
    assert_int_equal(record.write, 99);
    assert_int_equal(record.kind, WAL_HARD_STATE);
    assert_int_equal(record.group, 3);
    assert_false(record.last);
    wrong = (struct wal_place){6, 8, 4096};
    assert_false(wal_header_parse(bytes.data, wrong, &record));
    wrong = (struct wal_place){7, 9, 4096};
    assert_false(wal_header_parse(bytes.data, wrong, &record));
    wrong = (struct wal_place){7, 8, 4104};
    assert_false(wal_header_parse(bytes.data, wrong, &record));
    buf_fini(&bytes);
}

static void every_bit_of_a_header_counts(void **state)
{
    struct wal_place place = {7, 8, 4096};
    struct wal_record record;
    struct buf bytes = three_records();

    (void)state;
    wal_seal(bytes.data, bytes.len, place, 99);
    for (size_t bit = 0; bit < WAL_HEADER_BYTES * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(wal_header_parse(bytes.data, place, &record));
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(wal_header_parse(bytes.data, place, &record));
    buf_fini(&bytes);
}

static void the_last_record_of_a_write_says_so(void **state)
{
    struct buf bytes = three_records();
    struct wal_record record;
    size_t at = 0, n = 0;

    (void)state;
    wal_seal(bytes.data, bytes.len, (struct wal_place){1, 1, 0}, 1);
    while (wal_record_next(buf_slice(&bytes), &at, &record)) {
        n++;
        assert_int_equal(record.last, n == 3);
    }
    assert_int_equal(n, 3);
    buf_fini(&bytes);
}

static void a_preamble_with_any_bit_flipped_is_none(void **state)
{
    struct buf bytes = {0};
    uint64_t identity = 0, segment = 0;

    (void)state;
    wal_preamble_encode(&bytes, 123456789, 42);
    assert_int_equal(bytes.len, WAL_PREAMBLE_BYTES);
    assert_int_equal(wal_preamble_parse(bytes.data, &identity, &segment), WAL_PREAMBLE_OK);
    assert_int_equal(identity, 123456789);
    assert_int_equal(segment, 42);
    for (size_t bit = 0; bit < WAL_PREAMBLE_BYTES * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(wal_preamble_parse(bytes.data, &identity, &segment), WAL_PREAMBLE_NONE);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_fini(&bytes);
}

static void records_add_up(void **state)
{
    struct wal_table table = {.keeps_entries = true};
    struct buf bytes = three_records();
    struct wal_record record;
    struct wal_group *group;
    size_t at = 0;

    (void)state;
    while (wal_record_next(buf_slice(&bytes), &at, &record)) {
        assert_true(wal_table_apply(&table, &record));
    }
    group = wal_table_find(&table, 3);
    assert_non_null(group);
    assert_null(wal_table_find(&table, 2));
    assert_int_equal(group->hard_state.term, 5);
    assert_int_equal(group->begin_index, 1);
    assert_int_equal(group->last_index, 2);
    assert_int_equal(group->n_entries, 1);
    assert_true(slice_equal(blob_slice(group->entries[0].data), slice_text("hello")));
    wal_table_fini(&table);
    buf_fini(&bytes);
}

static bool apply_one(struct wal_table *table, struct buf *bytes)
{
    struct wal_record record;
    size_t at = 0;
    bool good = wal_record_next(buf_slice(bytes), &at, &record) && wal_table_apply(table, &record);

    buf_clear(bytes);
    return good;
}

static bool apply_vote(struct wal_table *table, raft_term term, raft_id voted_for)
{
    struct raft_hard_state hard_state = {term, voted_for};
    struct buf bytes = {0};
    bool good;

    wal_encode_hard_state(&bytes, 1, &hard_state);
    good = apply_one(table, &bytes);
    buf_fini(&bytes);
    return good;
}

static bool apply_entry(struct wal_table *table, raft_index index)
{
    struct raft_entry entry = {index, 1, RAFT_ENTRY_NOOP, NULL};
    struct buf bytes = {0};
    bool good;

    wal_encode_entries(&bytes, 1, &entry, 1);
    good = apply_one(table, &bytes);
    buf_fini(&bytes);
    return good;
}

static void what_contradicts_itself_is_refused(void **state)
{
    struct wal_table table = {.keeps_entries = true};
    struct buf bytes = {0};

    (void)state;
    assert_true(apply_vote(&table, 5, 0));
    assert_true(apply_vote(&table, 5, 2));
    assert_true(apply_vote(&table, 5, 2));
    assert_false(apply_vote(&table, 5, 3)); /* two votes in a term */
    assert_false(apply_vote(&table, 5, 0));
    assert_false(apply_vote(&table, 4, 2)); /* a term that falls */
    assert_true(apply_vote(&table, 6, 3));
    assert_true(apply_entry(&table, 1));
    assert_true(apply_entry(&table, 2));
    assert_false(apply_entry(&table, 4)); /* a gap */
    wal_encode_pair(&bytes, WAL_COMPACT, 1, 2, 1);
    assert_true(apply_one(&table, &bytes));
    assert_false(apply_entry(&table, 2)); /* compacted */
    assert_true(apply_entry(&table, 3));
    buf_fini(&bytes);
    wal_table_fini(&table);
}

/* Truncated at every length, and with random bytes changed: refused or harmless, never worse. */
static void payloads_are_taken_with_suspicion(void **state)
{
    struct buf bytes = three_records();
    struct wal_record record;
    size_t at = 0;
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    while (wal_record_next(buf_slice(&bytes), &at, &record)) {
        struct slice payload = record.payload;
        for (size_t len = 0; len < payload.len; len++) {
            struct wal_table table = {.keeps_entries = true};
            record.payload = slice_of(mem_copy(payload.data, len), len);
            assert_false(wal_table_apply(&table, &record));
            mem_free((void *)(uintptr_t)record.payload.data);
            wal_table_fini(&table);
        }
        for (int i = 0; i < 20000; i++) {
            struct wal_table table = {.keeps_entries = true};
            uint8_t *copy = mem_copy(payload.data, payload.len);
            for (uint64_t n = rng_between(&rng, 1, 3); n > 0; n--) {
                copy[rng_below(&rng, payload.len)] = (uint8_t)rng_next(&rng);
            }
            record.payload = slice_of(copy, payload.len);
            wal_table_apply(&table, &record);
            wal_table_fini(&table);
            mem_free(copy);
        }
    }
    buf_fini(&bytes);
}

static void a_table_comes_back_from_its_bytes(void **state)
{
    struct wal_table table = {0}, back = {0};
    struct buf bytes = {0};
    struct reader reader;

    (void)state;
    for (group_id id = 50; id > 0; id -= 5) {
        struct wal_group *group = wal_table_group(&table, id);
        group->hard_state = (struct raft_hard_state){id, 3};
        group->begin_index = id * 10;
        group->last_index = id * 11;
        group->checkpoint = id;
    }
    wal_table_encode(&table, &bytes);
    reader = reader_of(buf_slice(&bytes));
    assert_true(wal_table_decode(&reader, &back));
    assert_true(reader_done(&reader));
    assert_true(wal_table_equal(&table, &back));
    wal_table_find(&back, 25)->begin_term = 1;
    assert_false(wal_table_equal(&table, &back));
    wal_table_fini(&back);
    for (size_t len = 0; len < bytes.len; len++) {
        reader = reader_of(slice_of(bytes.data, len));
        assert_false(wal_table_decode(&reader, &back));
        wal_table_fini(&back);
    }
    wal_table_fini(&table);
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_bound_to_its_place),
        cmocka_unit_test(every_bit_of_a_header_counts),
        cmocka_unit_test(the_last_record_of_a_write_says_so),
        cmocka_unit_test(a_preamble_with_any_bit_flipped_is_none),
        cmocka_unit_test(records_add_up),
        cmocka_unit_test(what_contradicts_itself_is_refused),
        cmocka_unit_test(payloads_are_taken_with_suspicion),
        cmocka_unit_test(a_table_comes_back_from_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
