/* Frames, fragments, hello and refusal: what is written is read back, and nothing else is accepted:
 * every truncation, every flipped bit, random bytes. */
#include "raft/util/frame.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "raft/util/spec.h"
#include "tests/cmocka.h"

static struct frame must_decode(struct slice bytes)
{
    struct frame frame = {0};
    size_t taken, need;
    enum status reason;

    assert_int_equal(frame_decode(bytes, &frame, &taken, &need, &reason), FRAME_OK);
    assert_int_equal(taken, bytes.len);
    return frame;
}

static enum frame_result decode(struct slice bytes, size_t *need, enum status *reason)
{
    struct frame frame;
    size_t taken;

    return frame_decode(bytes, &frame, &taken, need, reason);
}

/* A copy of exactly the bytes, so that a sanitizer sees a read past them. */
static struct slice exact_copy(struct slice bytes)
{
    return slice_of(mem_copy(bytes.data, bytes.len), bytes.len);
}

static void put_sample_batch(struct buf *out)
{
    size_t offset = frame_begin(out, FRAME_BATCH, 5);

    frame_put_message(out, 5, FRAME_MESSAGE_RAFT, slice_text("first"));
    frame_put_message(out, 6, FRAME_MESSAGE_REQUEST, slice_text(""));
    frame_put_message(out, 7, FRAME_MESSAGE_RESPONSE, slice_text("third message"));
    frame_end(out, offset);
}

static void a_batch_comes_back_as_it_was_put(void **state)
{
    struct buf bytes = {0};
    struct frame frame;
    struct reader body;
    uint32_t group;
    uint8_t type;
    struct slice message;

    (void)state;
    put_sample_batch(&bytes);
    frame = must_decode(buf_slice(&bytes));
    assert_int_equal(frame.kind, FRAME_BATCH);
    assert_int_equal(frame.group, 5);
    body = reader_of(frame.body);
    assert_true(frame_next_message(&body, &group, &type, &message));
    assert_int_equal(group, 5);
    assert_int_equal(type, FRAME_MESSAGE_RAFT);
    assert_true(slice_equal(message, slice_text("first")));
    assert_true(frame_next_message(&body, &group, &type, &message));
    assert_int_equal(message.len, 0);
    assert_true(frame_next_message(&body, &group, &type, &message));
    assert_int_equal(group, 7);
    assert_true(slice_equal(message, slice_text("third message")));
    assert_false(frame_next_message(&body, &group, &type, &message));
    assert_true(reader_done(&body));
    buf_fini(&bytes);
}

static void the_header_is_as_documented(void **state)
{
    struct buf bytes = {0};
    size_t offset = frame_begin(&bytes, FRAME_PING, 0x01020304);
    static const uint8_t expected[16] = {'S', 'H', 'K', 'V', 1, 3, 0, 0, 4, 3, 2, 1, 2, 0, 0, 0};

    (void)state;
    buf_put(&bytes, "hi", 2);
    frame_end(&bytes, offset);
    assert_int_equal(bytes.len, FRAME_HEADER_BYTES + 2);
    assert_memory_equal(bytes.data, expected, sizeof(expected));
    assert_memory_equal(bytes.data + FRAME_HEADER_BYTES, "hi", 2);
    buf_fini(&bytes);
}

static void two_frames_in_a_row_are_taken_one_by_one(void **state)
{
    struct buf bytes = {0};
    struct frame frame;
    size_t taken, need;
    enum status reason;

    (void)state;
    put_sample_batch(&bytes);
    frame_end(&bytes, frame_begin(&bytes, FRAME_PONG, 0));
    assert_int_equal(frame_decode(buf_slice(&bytes), &frame, &taken, &need, &reason), FRAME_OK);
    assert_int_equal(taken, bytes.len - FRAME_HEADER_BYTES);
    frame = must_decode(slice_of(bytes.data + taken, bytes.len - taken));
    assert_int_equal(frame.kind, FRAME_PONG);
    buf_fini(&bytes);
}

static void every_truncation_asks_for_more(void **state)
{
    struct buf bytes = {0};

    (void)state;
    put_sample_batch(&bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        struct slice cut = exact_copy(slice_of(bytes.data, len));
        size_t need;
        enum status reason;

        assert_int_equal(decode(cut, &need, &reason), FRAME_NEED_MORE);
        assert_int_equal(need, len < FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES : bytes.len);
        mem_free((void *)cut.data);
    }
    buf_fini(&bytes);
}

static void every_flipped_bit_is_noticed(void **state)
{
    struct buf bytes = {0};

    (void)state;
    put_sample_batch(&bytes);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        size_t need;
        enum status reason;
        enum frame_result result;

        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        result = decode(buf_slice(&bytes), &need, &reason);
        /* A longer length, still allowed, can only be found out when the bytes are there. */
        assert_true(result == FRAME_BAD || (result == FRAME_NEED_MORE && bit / 8 >= 12 &&
                                            bit / 8 < 16 && need > bytes.len));
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_fini(&bytes);
}

static void another_version_is_told_apart_from_garbage(void **state)
{
    struct buf bytes = {0};
    size_t need;
    enum status reason;

    (void)state;
    put_sample_batch(&bytes);
    bytes.data[4] = 2;
    assert_int_equal(decode(buf_slice(&bytes), &need, &reason), FRAME_BAD);
    assert_int_equal(reason, ST_VERSION);
    assert_int_equal(decode(slice_of(bytes.data, 5), &need, &reason), FRAME_BAD);
    assert_int_equal(reason, ST_VERSION);
    assert_int_equal(decode(slice_text("GET"), &need, &reason), FRAME_BAD);
    assert_int_equal(reason, ST_MALFORMED);
    buf_fini(&bytes);
}

static void a_huge_length_is_refused_before_its_bytes_come(void **state)
{
    uint32_t lengths[] = {FRAME_MAX_BODY + 1, 1u << 30, 0x7fffffff, 0xffffffff};
    struct buf bytes = {0};
    size_t need;
    enum status reason;

    (void)state;
    frame_end(&bytes, frame_begin(&bytes, FRAME_BATCH, 0));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        buf_set_u32(&bytes, 12, lengths[i]);
        assert_int_equal(decode(buf_slice(&bytes), &need, &reason), FRAME_BAD);
    }
    buf_set_u32(&bytes, 12, FRAME_MAX_BODY);
    assert_int_equal(decode(buf_slice(&bytes), &need, &reason), FRAME_NEED_MORE);
    assert_int_equal(need, FRAME_HEADER_BYTES + FRAME_MAX_BODY);
    buf_fini(&bytes);
}

/* Reads all messages of a body; returns how many, and whether it was well formed. */
static size_t count_messages(struct slice bytes, bool *ok)
{
    struct reader body = reader_of(bytes);
    uint32_t group;
    uint8_t type;
    struct slice message;
    size_t n = 0;

    while (frame_next_message(&body, &group, &type, &message)) {
        n++;
    }
    *ok = reader_ok(&body);
    return n;
}

static void a_cut_batch_is_malformed_unless_cut_between_messages(void **state)
{
    struct buf bytes = {0};
    struct slice body;
    size_t whole = 0;

    (void)state;
    put_sample_batch(&bytes);
    body = must_decode(buf_slice(&bytes)).body;
    for (size_t len = 0; len <= body.len; len++) {
        struct slice cut = exact_copy(slice_of(body.data, len));
        bool ok;

        count_messages(cut, &ok);
        whole += ok;
        mem_free((void *)cut.data);
    }
    assert_int_equal(whole, 4); /* after none, one, two and all three */
    buf_fini(&bytes);
}

static void a_message_with_reserved_bits_or_too_long_is_malformed(void **state)
{
    struct buf body = {0};
    bool ok;

    (void)state;
    buf_put_u32(&body, 1);
    buf_put_u32(&body, 1u << 8 | FRAME_MESSAGE_RAFT);
    buf_put_u32(&body, 0);
    assert_int_equal(count_messages(buf_slice(&body), &ok), 0);
    assert_false(ok);

    buf_clear(&body);
    buf_put_u32(&body, 1);
    buf_put_u32(&body, FRAME_MESSAGE_RAFT);
    buf_put_u32(&body, FRAME_FRAGMENT_BYTES + 1);
    memset(buf_extend(&body, FRAME_FRAGMENT_BYTES + 1), 0, FRAME_FRAGMENT_BYTES + 1);
    assert_int_equal(count_messages(buf_slice(&body), &ok), 0);
    assert_false(ok);
    buf_fini(&body);
}

static const struct frame_fragment sample_fragment = {.stream = 9,
                                                      .group = 5,
                                                      .type = FRAME_MESSAGE_RAFT,
                                                      .total = 1000,
                                                      .offset = 990,
                                                      .bytes = {(const uint8_t *)"0123456789", 10}};

static void a_fragment_comes_back_as_it_was_put(void **state)
{
    struct buf bytes = {0};
    struct frame frame;
    struct frame_fragment fragment;

    (void)state;
    frame_put_fragment(&bytes, &sample_fragment);
    frame = must_decode(buf_slice(&bytes));
    assert_int_equal(frame.kind, FRAME_FRAGMENT);
    assert_true(frame_decode_fragment(frame.body, &fragment));
    assert_int_equal(fragment.stream, 9);
    assert_int_equal(fragment.group, 5);
    assert_int_equal(fragment.type, FRAME_MESSAGE_RAFT);
    assert_int_equal(fragment.total, 1000);
    assert_int_equal(fragment.offset, 990);
    assert_true(slice_equal(fragment.bytes, slice_text("0123456789")));
    buf_fini(&bytes);
}

static void a_fragment_outside_its_message_is_malformed(void **state)
{
    /* offset in the body, value: reserved, total too large, bytes past the total, offset past it,
     * offset that would wrap around, a total of zero */
    static const uint32_t wrong[][2] = {{8, 0x101}, {12, FRAME_MAX_MESSAGE + 1}, {12, 999},
                                        {16, 991},  {16, UINT32_MAX - 4},        {12, 0}};
    struct buf bytes = {0};
    struct frame_fragment fragment;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        buf_clear(&bytes);
        frame_put_fragment(&bytes, &sample_fragment);
        buf_set_u32(&bytes, FRAME_HEADER_BYTES + wrong[i][0], wrong[i][1]);
        assert_false(frame_decode_fragment(
            slice_of(bytes.data + FRAME_HEADER_BYTES, bytes.len - FRAME_HEADER_BYTES), &fragment));
    }
    buf_clear(&bytes);
    frame_put_fragment(&bytes, &sample_fragment);
    for (size_t len = 0; len <= FRAME_FRAGMENT_HEADER; len++) { /* without any bytes of its own */
        struct slice cut = exact_copy(slice_of(bytes.data + FRAME_HEADER_BYTES, len));

        assert_false(frame_decode_fragment(cut, &fragment));
        mem_free((void *)cut.data);
    }
    buf_fini(&bytes);
}

static void random_bytes_never_break_a_decoder(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 20240607);
    for (int round = 0; round < 20000; round++) {
        size_t len = rng_below(&rng, 120);
        uint8_t *bytes = mem_alloc(len);
        struct slice all = slice_of(bytes, len);
        struct frame_fragment fragment;
        struct hello hello;
        enum status status;
        char text[REFUSE_MAX_TEXT + 1];
        size_t need;
        bool ok;

        for (size_t i = 0; i < len; i++) { /* small numbers reach deeper */
            bytes[i] = (uint8_t)(rng_below(&rng, 3) == 0 ? rng_next(&rng) : rng_below(&rng, 4));
        }
        if (len >= FRAME_HEADER_BYTES && rng_below(&rng, 2) == 0) {
            set_u32(bytes, FRAME_MAGIC);
            bytes[4] = FRAME_VERSION;
        }
        (void)decode(all, &need, &status);
        (void)count_messages(all, &ok);
        if (frame_decode_fragment(all, &fragment)) {
            assert_true(fragment.offset + fragment.bytes.len <= fragment.total);
        }
        (void)hello_decode(all, &hello);
        if (refuse_decode(all, &status, text)) {
            assert_true(status != ST_OK && strlen(text) <= REFUSE_MAX_TEXT);
        }
        mem_free(bytes);
    }
}

/* ---- Hello ---- */

static struct hello sample_hello(void)
{
    return (struct hello){.who = HELLO_PEER,
                          .protocol_low = 1,
                          .protocol_high = 3,
                          .active_level = 2,
                          .cluster_id = {1, 2, 3, 16},
                          .gid = 5,
                          .id = 2,
                          .incarnation = 0x1122334455667788,
                          .spec_fingerprint = 77,
                          .flags = HELLO_KEYED,
                          .nonce = {9, 8, [31] = 7}};
}

/* Version 1 has no flags and no nonce, and goes on being understood. */
static void a_hello_of_the_first_version_ends_earlier(void **state)
{
    struct hello hello = sample_hello(), again;
    struct buf bytes = {0};

    (void)state;
    hello.protocol_high = 1;
    hello_encode(&hello, &bytes);
    assert_int_equal(bytes.len, 52);
    assert_true(hello_decode(buf_slice(&bytes), &again));
    assert_int_equal(again.flags, 0);
    assert_int_equal(again.incarnation, hello.incarnation);
    assert_false(hello_decode(slice_of(bytes.data, 51), &again));
    buf_fini(&bytes);
}

/* Servers that call as clients say which URL; one of an older version ends before it. */
static void a_service_says_which_url_it_called(void **state)
{
    struct hello hello = sample_hello(), again;
    struct buf bytes = {0};

    (void)state;
    hello.who = HELLO_CLIENT;
    hello.flags |= HELLO_SERVICE;
    hello.called = spec_url_fingerprint("tcp://kv1:7000");
    hello_encode(&hello, &bytes);
    assert_true(hello_decode(buf_slice(&bytes), &again));
    assert_true(again.called == hello.called);
    assert_true(hello.called != spec_url_fingerprint("tcp://kv1:7001"));
    assert_true(hello_decode(slice_of(bytes.data, bytes.len - 8), &again));
    assert_true(again.called == 0);
    assert_memory_equal(again.nonce, hello.nonce, sizeof(hello.nonce));
    buf_fini(&bytes);
}

static void the_highest_version_that_both_speak_is_spoken(void **state)
{
    struct hello old = {.protocol_low = 1, .protocol_high = 1};
    struct hello both = {.protocol_low = 1, .protocol_high = 2};
    struct hello new = {.protocol_low = 2, .protocol_high = 7};

    (void)state;
    assert_int_equal(hello_protocol(&old, &both), 1);
    assert_int_equal(hello_protocol(&both, &old), 1);
    assert_int_equal(hello_protocol(&both, &new), 2);
    assert_int_equal(hello_protocol(&new, &new), 7);
    assert_int_equal(hello_protocol(&old, &new), 0);
    assert_int_equal(hello_protocol(&new, &old), 0);
}

static void a_hello_comes_back_as_it_was_put(void **state)
{
    struct hello hello = sample_hello(), again;
    struct buf bytes = {0};

    (void)state;
    hello_encode(&hello, &bytes);
    assert_int_equal(bytes.len, 86);
    assert_true(hello_decode(buf_slice(&bytes), &again));
    assert_memory_equal(&hello, &again, sizeof(hello));
    buf_put_u64(&bytes, 1); /* bytes of a later minor format are skipped */
    assert_true(hello_decode(buf_slice(&bytes), &again));
    for (size_t len = 0; len < 86; len++) {
        struct slice cut = exact_copy(slice_of(bytes.data, len));

        assert_false(hello_decode(cut, &again));
        mem_free((void *)cut.data);
    }
    buf_fini(&bytes);
}

static void a_hello_with_wrong_fields_is_malformed(void **state)
{
    static const uint8_t wrong[][2] = {{0, 'h'}, {4, 2}, {5, 0}, {5, 4}, {6, 9}}; /* offset, byte */
    struct hello hello = sample_hello(), again;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct buf bytes = {0};

        hello_encode(&hello, &bytes);
        bytes.data[wrong[i][0]] = wrong[i][1];
        assert_false(hello_decode(buf_slice(&bytes), &again));
        buf_fini(&bytes);
    }
}

/* The server that hears a peer, and the peer. */
static void peers(struct hello *self, struct hello *other)
{
    *self = sample_hello();
    self->who = HELLO_SERVER;
    *other = sample_hello();
    other->id = 3;
    other->incarnation = 9;
}

static enum status check(const struct hello *self, const struct hello *other, uint64_t known)
{
    const char *reason = NULL;
    enum status status = hello_check(self, other, known, &reason);

    assert_non_null(reason);
    assert_true(status == ST_OK || strlen(reason) > 0);
    return status;
}

static void peers_talk_only_within_their_group(void **state)
{
    struct hello self, other;

    (void)state;
    peers(&self, &other);
    assert_int_equal(check(&self, &other, 0), ST_OK);
    other.gid = 6;
    assert_int_equal(check(&self, &other, 0), ST_WRONG_NODE);
    peers(&self, &other);
    other.id = self.id;
    assert_int_equal(check(&self, &other, 0), ST_WRONG_NODE);
    other.id = 0;
    assert_int_equal(check(&self, &other, 0), ST_WRONG_NODE);
}

static void a_replica_that_lost_its_disk_is_not_taken_for_the_one_it_was(void **state)
{
    struct hello self, other;

    (void)state;
    peers(&self, &other);
    assert_int_equal(check(&self, &other, 9), ST_OK);
    assert_int_equal(check(&self, &other, 10), ST_WRONG_NODE);
}

static void versions_must_overlap(void **state)
{
    struct hello self, other;

    (void)state;
    peers(&self, &other); /* 1..3 */
    other.protocol_low = 3;
    other.protocol_high = 9;
    assert_int_equal(check(&self, &other, 0), ST_OK);
    other.protocol_low = 4;
    assert_int_equal(check(&self, &other, 0), ST_VERSION);
    assert_int_equal(check(&other, &self, 0), ST_VERSION);
}

static void clusters_must_be_the_same(void **state)
{
    struct hello self, other;

    (void)state;
    peers(&self, &other);
    other.cluster_id[15] = 1;
    assert_int_equal(check(&self, &other, 0), ST_WRONG_CLUSTER);
    other.who = HELLO_CLIENT;
    assert_int_equal(check(&self, &other, 0), ST_WRONG_CLUSTER);
}

static void an_empty_replica_may_speak_to_peers_of_the_same_spec(void **state)
{
    struct hello self, other;

    (void)state;
    peers(&self, &other);
    memset(other.cluster_id, 0, 16);
    assert_int_equal(check(&self, &other, 0), ST_OK);
    assert_int_equal(check(&other, &self, 0), ST_OK);
    other.spec_fingerprint++;
    assert_int_equal(check(&self, &other, 0), ST_WRONG_CLUSTER);
    assert_int_equal(check(&other, &self, 0), ST_WRONG_CLUSTER);
    memset(self.cluster_id, 0, 16);
    assert_int_equal(check(&self, &other, 0), ST_WRONG_CLUSTER);
    other.spec_fingerprint--;
    assert_int_equal(check(&self, &other, 0), ST_OK);
}

static void a_client_need_not_know_the_cluster(void **state)
{
    struct hello self, client = {.who = HELLO_CLIENT, .protocol_low = 1, .protocol_high = 1};
    struct hello other;

    (void)state;
    peers(&self, &other);
    assert_int_equal(check(&self, &client, 0), ST_OK);
    assert_int_equal(check(&client, &self, 0), ST_OK);
    assert_int_equal(check(&client, &other, 0), ST_WRONG_NODE); /* a peer is no server */
    assert_int_equal(check(&client, &client, 0), ST_WRONG_NODE);
}

static void a_refusal_carries_its_reason_and_nothing_unprintable(void **state)
{
    struct buf bytes = {0};
    enum status status;
    char text[REFUSE_MAX_TEXT + 1];
    char longer[400];

    (void)state;
    refuse_encode(ST_WRONG_CLUSTER, "the cluster ids differ", &bytes);
    assert_true(refuse_decode(buf_slice(&bytes), &status, text));
    assert_int_equal(status, ST_WRONG_CLUSTER);
    assert_string_equal(text, "the cluster ids differ");

    buf_clear(&bytes);
    buf_put_u32(&bytes, 999999);
    buf_put(&bytes, "a\nb\0c\x1b", 6);
    assert_true(refuse_decode(buf_slice(&bytes), &status, text));
    assert_int_equal(status, ST_UNAVAILABLE);
    assert_string_equal(text, "a?b?c?");

    buf_clear(&bytes);
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    refuse_encode(ST_BUSY, longer, &bytes);
    assert_true(refuse_decode(buf_slice(&bytes), &status, text));
    assert_int_equal(strlen(text), REFUSE_MAX_TEXT);
    assert_false(refuse_decode(slice_of(bytes.data, 3), &status, text));
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_comes_back_as_it_was_put),
        cmocka_unit_test(the_header_is_as_documented),
        cmocka_unit_test(two_frames_in_a_row_are_taken_one_by_one),
        cmocka_unit_test(every_truncation_asks_for_more),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(another_version_is_told_apart_from_garbage),
        cmocka_unit_test(a_huge_length_is_refused_before_its_bytes_come),
        cmocka_unit_test(a_cut_batch_is_malformed_unless_cut_between_messages),
        cmocka_unit_test(a_message_with_reserved_bits_or_too_long_is_malformed),
        cmocka_unit_test(a_fragment_comes_back_as_it_was_put),
        cmocka_unit_test(a_fragment_outside_its_message_is_malformed),
        cmocka_unit_test(random_bytes_never_break_a_decoder),
        cmocka_unit_test(a_hello_comes_back_as_it_was_put),
        cmocka_unit_test(a_hello_of_the_first_version_ends_earlier),
        cmocka_unit_test(a_service_says_which_url_it_called),
        cmocka_unit_test(the_highest_version_that_both_speak_is_spoken),
        cmocka_unit_test(a_hello_with_wrong_fields_is_malformed),
        cmocka_unit_test(peers_talk_only_within_their_group),
        cmocka_unit_test(a_replica_that_lost_its_disk_is_not_taken_for_the_one_it_was),
        cmocka_unit_test(versions_must_overlap),
        cmocka_unit_test(clusters_must_be_the_same),
        cmocka_unit_test(an_empty_replica_may_speak_to_peers_of_the_same_spec),
        cmocka_unit_test(a_client_need_not_know_the_cluster),
        cmocka_unit_test(a_refusal_carries_its_reason_and_nothing_unprintable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
