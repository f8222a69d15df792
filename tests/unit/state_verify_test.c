/* The search for the damaged place of a database, on files made up for it: their bytes may be
 * anything, with checksums that are right. */
#include "raft/store/state_private.h"
#include "raft/util/crc32c.h"
#include "tests/unit/state_kit.h"

#define FOOTER_BYTES 48

/* A block of a table: the bytes, its type (not compressed), its checksum as LevelDB masks it. */
static void put_block(struct buf *file, const void *bytes, size_t len)
{
    size_t at = file->len;
    uint32_t crc;

    if (len > 0) {
        buf_put(file, bytes, len);
    }
    buf_put_u8(file, 0);
    crc = crc32c(0, file->data + at, len + 1);
    buf_put_u32(file, ((crc >> 15) | (crc << 17)) + 0xa282ead8u);
}

/* The end of a table whose meta index and index are the one block at its beginning. */
static void put_footer(struct buf *file, uint8_t len)
{
    static const uint8_t magic[] = {0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb};
    uint8_t footer[FOOTER_BYTES] = {0, len, 0, len};

    memcpy(footer + sizeof(footer) - sizeof(magic), magic, sizeof(magic));
    buf_put(file, footer, sizeof(footer));
}

static bool explain(const struct buf *file, char *error)
{
    char directory[64], path[100];
    bool explained;
    FILE *out;

    kit_make_dir(directory);
    snprintf(path, sizeof(path), "%s/000005.ldb", directory);
    out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(file->data, 1, file->len, out), file->len);
    fclose(out);
    snprintf(error, STORE_ERROR_BYTES, "a checksum is wrong");
    explained = state_verify_explain(directory, false, error);
    kit_remove_tree(directory);
    return explained;
}

static void a_damaged_block_is_named_with_its_offset(void **state)
{
    char error[STORE_ERROR_BYTES];
    struct buf file = {0};
    /* One entry: nothing shared, a key of one byte, a handle (16, 3); one restart at 0. */
    uint8_t index[] = {0, 1, 2, 'k', 20, 3, 0, 0, 0, 0, 1, 0, 0, 0};

    (void)state;
    put_block(&file, index, sizeof(index));
    index[4] = (uint8_t)file.len;
    buf_clear(&file);
    put_block(&file, index, sizeof(index));
    put_block(&file, "abc", 3);
    put_footer(&file, sizeof(index));
    assert_false(explain(&file, error));
    assert_string_equal(error, "a checksum is wrong");
    file.data[index[4]] ^= 1;
    assert_true(explain(&file, error));
    assert_non_null(strstr(error, "000005.ldb is damaged at offset 19: a checksum is wrong"));
    buf_fini(&file);
}

/* An index block needs four bytes to say how many restarts it has. Behind a shorter one stands what
 * reads as an entry that points beyond the file, if it is read on. */
static void an_index_too_short_for_its_own_end_is_not_read(void **state)
{
    char error[STORE_ERROR_BYTES];

    (void)state;
    for (uint8_t len = 0; len < 4; len++) {
        struct buf file = {0};

        put_block(&file, "\0\0\0", len);
        memset(buf_extend(&file, 2u << 20), 0xff, 2u << 20);
        put_footer(&file, len);
        assert_false(explain(&file, error));
        buf_fini(&file);
    }
}

/* Any bytes at all: the search reads nothing but the file (under the sanitizers), and ends. */
static void whatever_an_index_holds_only_the_file_is_read(void **state)
{
    char error[STORE_ERROR_BYTES];
    uint8_t index[40];
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    for (int round = 0; round < 2000; round++) {
        uint8_t len = (uint8_t)rng_below(&rng, sizeof(index) + 1);
        struct buf file = {0};

        for (uint8_t i = 0; i < len; i++) {
            index[i] = (uint8_t)(rng_below(&rng, 2) == 0 ? rng_below(&rng, 4) : rng_next(&rng));
        }
        put_block(&file, index, len);
        put_footer(&file, len);
        (void)explain(&file, error);
        buf_fini(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_block_is_named_with_its_offset),
        cmocka_unit_test(an_index_too_short_for_its_own_end_is_not_read),
        cmocka_unit_test(whatever_an_index_holds_only_the_file_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
