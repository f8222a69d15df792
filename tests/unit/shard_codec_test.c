/* One shard's life as bytes: every part survives, and nothing damaged passes for a shard; and the
 * sum over a shard's content. */
#include "raft/util/mem.h"
#include "tests/unit/shard_view.h"

/* ---- Bytes ---- */

/* Kept in a release of A, on its way back from C, and owned by nobody in the end. */
static struct view a_shard_that_arrives(void)
{
    struct view b = view_of(B);

    adopt(&b, 2, A, B);
    assert_true(take(&b, 2, A));
    adopt(&b, 3, B, C);
    assert_true(give(&b, 3));
    adopt(&b, 4, C, B);
    adopt(&b, 5, B, 0);
    assert_true(drop(&b, 3));
    assert_true(chunk(&b, 4, 8, 0) && chunk(&b, 4, 8, 1));
    return b;
}

/* Half swept, or to the end. */
static struct view a_shard_that_goes_out(bool is_swept)
{
    struct view b = view_of(B);

    adopt(&b, 2, A, B);
    assert_true(take(&b, 2, A));
    adopt(&b, 3, B, C);
    assert_true(copy_begin(&b, 3, 0x1122334455667788));
    assert_true(sweep(&b, 3, 0x1122334455667788, "", is_swept ? NULL : "some key"));
    b.shard.outgoing.n_noted = 77;
    shard_sum_add(&b.shard.outgoing.records, slice_text("k"), slice_text("v"));
    return b;
}

/* Of every kind: between them they have every part. */
#define N_SHARDS 5
static void make_shards(struct view shards[N_SHARDS])
{
    shards[0] = view_of(A);
    shards[1] = a_shard_that_arrives();
    shards[2] = a_shard_that_goes_out(false);
    shards[3] = a_shard_that_goes_out(true);
    shards[4] = a_shard_that_goes_out(true);
    assert_true(freeze(&shards[4], 3, 0x1122334455667788));
    adopt(&shards[4], 4, C, B);
}

static void fini_shards(struct view shards[N_SHARDS])
{
    for (size_t i = 0; i < N_SHARDS; i++) {
        shard_fini(&shards[i].shard);
    }
}

static void assert_same_outgoing(const struct shard_outgoing *a, const struct shard_outgoing *b)
{
    assert_true(a->copy_id == b->copy_id && a->range == b->range);
    assert_true(a->is_swept == b->is_swept && a->n_noted == b->n_noted);
    assert_true(slice_equal(buf_slice(&a->swept), buf_slice(&b->swept)));
    assert_true(shard_sum_equal(&a->records, &b->records));
}

static void assert_same_copy(const struct shard_copy *a, const struct shard_copy *b)
{
    assert_true(a->copy_id == b->copy_id && a->range == b->range);
    assert_true(a->next_piece == b->next_piece);
    assert_true(slice_equal(buf_slice(&a->cursor), buf_slice(&b->cursor)));
    assert_true(shard_sum_equal(&a->records, &b->records));
}

static void a_shard_survives_its_encoding(void **state)
{
    struct view shards[N_SHARDS];
    uint8_t parts = 0;

    (void)state;
    make_shards(shards);
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct buf bytes = {0}, second = {0};
        struct view again = view_of(B);
        struct buf text = {0};
        struct reader reader;

        shard_encode(&shards[i].shard, &bytes);
        parts |= bytes.data[10];
        reader = reader_of(buf_slice(&bytes));
        assert_true(shard_decode(&reader, &again.shard));
        assert_true(reader_done(&reader));
        view_describe(&again, &text);
        assert_life(&shards[i], (const char *)text.data);
        assert_true(again.shard.range == shards[i].shard.range);
        assert_same_copy(&again.shard.copy, &shards[i].shard.copy);
        assert_same_outgoing(&again.shard.outgoing, &shards[i].shard.outgoing);
        shard_encode(&again.shard, &second);
        assert_true(slice_equal(buf_slice(&bytes), buf_slice(&second)));
        shard_fini(&again.shard);
        buf_fini(&text);
        buf_fini(&bytes);
        buf_fini(&second);
    }
    assert_int_equal(parts, 31); /* all that there are */
    fini_shards(shards);
}

/* A group keeps a record of every shard, also of those that it has nothing to do with. */
static void an_absent_shard_takes_eleven_bytes(void **state)
{
    struct view b = view_of(B);
    struct buf bytes = {0};

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(take(&b, 2, A) && released(&b, 2));
    shard_encode(&b.shard, &bytes);
    assert_int_equal(bytes.len, 19); /* and its range, while it is there */
    adopt(&b, 3, B, C);
    assert_true(give(&b, 3) && drop(&b, 3));
    buf_clear(&bytes);
    shard_encode(&b.shard, &bytes);
    assert_int_equal(bytes.len, 11);
    shard_fini(&b.shard);
    buf_fini(&bytes);
}

/* A release names a group, and an installation here; each group and each installation once. */
static void releases_that_cannot_be_are_refused(void **state)
{
    static const struct shard_release bad[][2] = {
        {{2, 0}, {1, C}}, /* of no group */
        {{0, A}, {1, C}}, /* of no configuration */
        {{3, A}, {1, C}}, /* of one under which nothing came yet */
        {{2, A}, {1, A}}, /* a source twice */
        {{2, A}, {2, C}}, /* two sources of one installation */
    };
    struct view b = view_of(B), again = view_of(B);
    struct shard_release releases[2] = {{2, A}, {1, C}};
    struct buf bytes = {0};
    struct reader reader;

    (void)state;
    adopt(&b, 2, A, B);
    assert_true(take(&b, 2, A));
    b.shard.n_releases = 2;
    mem_free(b.shard.releases);
    b.shard.releases = mem_copy(releases, sizeof(releases));
    shard_encode(&b.shard, &bytes);
    reader = reader_of(buf_slice(&bytes));
    assert_true(shard_decode(&reader, &again.shard));
    shard_fini(&again.shard);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (size_t n = 0; n < 2; n++) {
            set_u64(bytes.data + bytes.len - 24 + 12 * n, bad[i][n].num);
            set_u32(bytes.data + bytes.len - 24 + 12 * n + 8, bad[i][n].gid);
        }
        reader = reader_of(buf_slice(&bytes));
        assert_false(shard_decode(&reader, &again.shard));
    }
    shard_fini(&b.shard);
    buf_fini(&bytes);
}

/* Only the format that is written is read. */
static void another_format_is_refused(void **state)
{
    struct view shards[N_SHARDS];

    (void)state;
    make_shards(shards);
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct buf bytes = {0};
        struct shard again;
        struct reader reader;

        shard_encode(&shards[i].shard, &bytes);
        for (unsigned format = 0; format < 256; format++) {
            bytes.data[0] = (uint8_t)format;
            reader = reader_of(buf_slice(&bytes));
            assert_int_equal(shard_decode(&reader, &again), format == 3);
            shard_fini(&again);
        }
        buf_fini(&bytes);
    }
    fini_shards(shards);
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
    for (size_t i = 0; i < 40; i++) {
        buf_put_u64(&bytes, 0); /* enough for all parts */
    }
    for (unsigned parts = 1; parts < 256; parts++) {
        bytes.data[10] = (uint8_t)parts;
        reader = reader_of(buf_slice(&bytes));
        assert_false(shard_decode(&reader, &again));
    }
    buf_fini(&bytes);
}

/* Parts that the flags do not name, or name and that are not there. */
static void the_flags_name_exactly_the_parts_that_follow(void **state)
{
    struct view shards[N_SHARDS];

    (void)state;
    make_shards(shards);
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct buf bytes = {0};
        uint8_t parts;

        shard_encode(&shards[i].shard, &bytes);
        parts = bytes.data[10];
        for (unsigned other = 0; other < 256; other++) {
            struct reader reader;
            struct shard again;
            bool taken;

            bytes.data[10] = (uint8_t)other;
            reader = reader_of(buf_slice(&bytes));
            taken = shard_decode(&reader, &again) && reader_done(&reader);
            assert_int_equal(taken, other == parts);
            shard_fini(&again);
        }
        buf_fini(&bytes);
    }
    fini_shards(shards);
}

static void damage(struct buf *bytes, struct rng *rng)
{
    struct reader reader;
    struct shard again;

    for (size_t len = 0; len < bytes->len; len++) {
        uint8_t *exact = mem_copy(bytes->data, len); /* ASan sees a read past the end */

        reader = reader_of(slice_of(exact, len));
        assert_false(shard_decode(&reader, &again));
        mem_free(exact);
    }
    for (int i = 0; i < 20000; i++) {
        size_t bit = rng_below(rng, bytes->len * 8), second = rng_below(rng, bytes->len * 8);

        bytes->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        bytes->data[second / 8] ^= (uint8_t)(1u << (second % 8));
        reader = reader_of(buf_slice(bytes));
        if (shard_decode(&reader, &again)) {
            assert_true(shard_is_consistent(&again));
            shard_fini(&again);
        }
        bytes->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (i % 2 == 0) { /* else damage adds up, up to a point */
            bytes->data[second / 8] ^= (uint8_t)(1u << (second % 8));
        }
    }
}

static void damaged_encodings_are_refused_or_consistent(void **state)
{
    struct view shards[N_SHARDS];
    struct rng rng;

    (void)state;
    rng_init(&rng, 5);
    make_shards(shards);
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct buf bytes = {0};

        shard_encode(&shards[i].shard, &bytes);
        damage(&bytes, &rng);
        buf_fini(&bytes);
    }
    fini_shards(shards);
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
        cmocka_unit_test(a_shard_survives_its_encoding),
        cmocka_unit_test(an_absent_shard_takes_eleven_bytes),
        cmocka_unit_test(releases_that_cannot_be_are_refused),
        cmocka_unit_test(another_format_is_refused),
        cmocka_unit_test(a_part_that_is_there_is_not_empty),
        cmocka_unit_test(the_flags_name_exactly_the_parts_that_follow),
        cmocka_unit_test(damaged_encodings_are_refused_or_consistent),
        cmocka_unit_test(the_sum_does_not_depend_on_order_and_forgets_what_is_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
