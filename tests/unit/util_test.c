/* Unit tests of raft/util: bytes, blobs, checksums, SPECs. */
#include "raft/util/blob.h"
#include "raft/util/crc32c.h"
#include "raft/util/rng.h"
#include "raft/util/spec.h"
#include "raft/util/status.h"
#include "tests/cmocka.h"

static void reader_reads_what_was_put(void **state)
{
    struct buf buf = {0};
    struct reader reader;

    (void)state;
    buf_put_u8(&buf, 0xab);
    buf_put_u16(&buf, 0x1234);
    buf_put_u32(&buf, 0xdeadbeef);
    buf_put_u64(&buf, 0x0123456789abcdef);
    buf_put_bytes(&buf, slice_text("hello"));
    reader = reader_of(buf_slice(&buf));
    assert_int_equal(reader_u8(&reader), 0xab);
    assert_int_equal(reader_u16(&reader), 0x1234);
    assert_int_equal(reader_u32(&reader), 0xdeadbeef);
    assert_true(reader_u64(&reader) == 0x0123456789abcdef);
    assert_true(slice_equal(reader_bytes(&reader, 5), slice_text("hello")));
    assert_true(reader_done(&reader));
    buf_fini(&buf);
}

static void reader_goes_bad_past_its_end_and_stays_bad(void **state)
{
    uint8_t bytes[6] = {255, 255, 255, 255, 1, 2};
    struct reader reader = reader_of(slice_of(bytes, sizeof(bytes)));

    (void)state;
    assert_int_equal(reader_bytes(&reader, UINT32_MAX).len, 0);
    assert_false(reader_ok(&reader));
    assert_int_equal(reader_u8(&reader), 0);
    reader = reader_of(slice_of(bytes, 3));
    assert_int_equal(reader_u32(&reader), 0);
    assert_false(reader_ok(&reader));
}

static void reader_bytes_refuses_more_than_the_bound(void **state)
{
    struct buf buf = {0};
    struct reader reader;

    (void)state;
    buf_put_bytes(&buf, slice_text("four"));
    reader = reader_of(buf_slice(&buf));
    reader_bytes(&reader, 3);
    assert_false(reader_ok(&reader));
    buf_fini(&buf);
}

static void crc32c_matches_the_published_values_in_both_versions(void **state)
{
    uint8_t zeros[32] = {0}; /* RFC 3720, B.4 */
    uint8_t bytes[1027];
    struct rng rng;

    (void)state;
    assert_int_equal(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    rng_init(&rng, 7);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)rng_next(&rng);
    }
    for (size_t len = 0; len < sizeof(bytes); len += 13) {
        assert_int_equal(crc32c(5, bytes, len), crc32c_portable(5, bytes, len));
    }
    assert_int_equal(crc32c(crc32c(0, bytes, 100), bytes + 100, 900), crc32c(0, bytes, 1000));
}

static void blob_is_freed_by_its_last_reference(void **state)
{
    struct blob *first = blob_create(slice_text("x"));
    struct blob *second = blob_ref(first);

    (void)state;
    blob_unref(&first);
    assert_null(first);
    assert_true(slice_equal(blob_slice(second), slice_text("x")));
    blob_unref(&second);
    blob_unref(&second);
}

/* One SPEC, one encoding: what configurations are compared by. */
static void an_encoded_spec_is_in_order(void **state)
{
    struct buf bytes = {0};
    struct reader reader;
    struct spec spec;

    (void)state;
    buf_put_u8(&bytes, 2);
    buf_put_u8(&bytes, 2);
    buf_put_bytes(&bytes, slice_text("tcp://h:1"));
    buf_put_u8(&bytes, 1);
    buf_put_bytes(&bytes, slice_text("tcp://g:1"));
    reader = reader_of(buf_slice(&bytes));
    assert_false(spec_decode(&reader, &spec));
    bytes.data[1] = 1;
    bytes.data[1 + 1 + 4 + 9] = 2;
    reader = reader_of(buf_slice(&bytes));
    assert_true(spec_decode(&reader, &spec));
    buf_fini(&bytes);
}

static void spec_parses_sorts_and_formats(void **state)
{
    struct spec spec, again;
    struct buf text = {0}, bytes = {0};
    struct reader reader;

    (void)state;
    assert_null(spec_parse("3=tcp://c:3,1=tcp://127.0.0.1:1,2=ipc:///tmp/x", &spec));
    assert_int_equal(spec.n, 3);
    assert_int_equal(spec.replicas[0].id, 1);
    spec_format(&spec, &text);
    assert_true(slice_equal(buf_slice(&text),
                            slice_text("1=tcp://127.0.0.1:1,2=ipc:///tmp/x,3=tcp://c:3")));
    spec_encode(&spec, &bytes);
    reader = reader_of(buf_slice(&bytes));
    assert_true(spec_decode(&reader, &again));
    assert_true(spec_fingerprint(&spec) == spec_fingerprint(&again));
    assert_true(spec_equal(&spec, &again));
    assert_string_equal(spec_find(&again, 3)->url, "tcp://c:3");
    assert_null(spec_find(&again, 4));
    buf_fini(&text);
    buf_fini(&bytes);
}

static void spec_refuses_what_is_wrong(void **state)
{
    static const char *const bad[] = {"",
                                      "1",
                                      "1=",
                                      "=tcp://a:1",
                                      "0=tcp://a:1",
                                      "256=tcp://a:1",
                                      "x=tcp://a:1",
                                      "1=tcp://a:1,1=tcp://a:2",
                                      "1=tcp://a:1,2=tcp://a:1",
                                      "1=udp://a:1",
                                      "1=tcp://a",
                                      "1=tcp://a:0",
                                      "1=tcp://a:65536",
                                      "1=tcp://a:1,",
                                      "1=ipc://",
                                      "1=ipc:///",
                                      "1=tcp://:1",
                                      "1=tcp://a:1/x",
                                      "1=tcp://a b:1",
                                      "99999999999=tcp://a:1"};
    struct spec spec;
    char longest[400];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_non_null(spec_parse(bad[i], &spec));
    }
    memset(longest, 'a', sizeof(longest));
    memcpy(longest, "1=tcp://", 8);
    memcpy(longest + sizeof(longest) - 4, ":12", 4);
    assert_non_null(spec_parse(longest, &spec));
    assert_non_null(spec_parse("1=tcp://a:1,2=tcp://a:2,3=tcp://a:3,4=tcp://a:4,5=tcp://a:5,"
                               "6=tcp://a:6,7=tcp://a:7,8=tcp://a:8,9=tcp://a:9,10=tcp://a:10",
                               &spec));
    assert_null(spec_parse_urls("tcp://a:1,tcp://b:1", &spec));
    assert_int_equal(spec.replicas[1].id, 2);
}

static void status_numbers_are_what_the_wire_says(void **state)
{
    (void)state;
    assert_int_equal(ST_OK, 0);
    assert_int_equal(ST_DUPLICATE, 28);
    assert_string_equal(status_name(ST_WRONG_GROUP), "WRONG_GROUP");
    assert_int_equal(ST_DENIED, 29);
    assert_true(status_is_valid(29));
    assert_false(status_is_valid(30));
}

static void bounded_random_numbers_stay_in_bounds(void **state)
{
    struct rng rng;
    bool low = false, high = false;

    (void)state;
    rng_init(&rng, 1);
    for (int i = 0; i < 1000; i++) {
        uint64_t n = rng_between(&rng, 3, 6);
        assert_in_range(n, 3, 6);
        low |= n == 3;
        high |= n == 6;
    }
    assert_true(low && high);
    assert_true(rng_below(&rng, 0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_reads_what_was_put),
        cmocka_unit_test(reader_goes_bad_past_its_end_and_stays_bad),
        cmocka_unit_test(reader_bytes_refuses_more_than_the_bound),
        cmocka_unit_test(crc32c_matches_the_published_values_in_both_versions),
        cmocka_unit_test(blob_is_freed_by_its_last_reference),
        cmocka_unit_test(spec_parses_sorts_and_formats),
        cmocka_unit_test(spec_refuses_what_is_wrong),
        cmocka_unit_test(status_numbers_are_what_the_wire_says),
        cmocka_unit_test(an_encoded_spec_is_in_order),
        cmocka_unit_test(bounded_random_numbers_stay_in_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
