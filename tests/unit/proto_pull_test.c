/* Unit tests of client/proto: what groups ask and tell each other while a shard moves. */
#include "client/proto.h"
#include "tests/cmocka.h"

static void what_is_asked_for_comes_as_it_was_sent(void **state)
{
    struct proto_request request = {.op = PROTO_SHARD_PULL}, again;
    struct buf bytes = {0};

    (void)state;
    request.shard_pull.shard = 5;
    request.shard_pull.num = 0x600000000;
    request.shard_pull.to = 7;
    request.shard_pull.copy_id = 0x8877665544332211;
    request.shard_pull.piece = 0x900000000;
    request.shard_pull.cursor = slice_text("cursor");
    request.shard_pull.max_bytes = 1 << 20;
    for (int anew = 0; anew < 2; anew++) {
        request.shard_pull.anew = anew == 1;
        buf_clear(&bytes);
        proto_request_encode(&request, &bytes);
        assert_true(proto_request_decode(buf_slice(&bytes), &again));
        assert_int_equal(again.shard_pull.shard, 5);
        assert_true(again.shard_pull.num == 0x600000000);
        assert_int_equal(again.shard_pull.to, 7);
        assert_true(again.shard_pull.copy_id == 0x8877665544332211);
        assert_true(again.shard_pull.piece == 0x900000000);
        assert_true(slice_equal(again.shard_pull.cursor, slice_text("cursor")));
        assert_int_equal(again.shard_pull.max_bytes, 1 << 20);
        assert_int_equal(again.shard_pull.anew, anew == 1);
        proto_request_fini(&again);
    }
    buf_fini(&bytes);
}

static struct proto_response piece_of_kind(unsigned kind)
{
    struct proto_response response = {.op = PROTO_SHARD_PULL, .status = ST_OK};

    response.shard_pull.piece = 3;
    response.shard_pull.kind = (uint8_t)kind;
    response.shard_pull.keys_total = 0x123456789a;
    response.shard_pull.bytes_total = 0xa987654321;
    response.shard_pull.load = 3000000000;
    response.shard_pull.strain = 135;
    response.shard_pull.frozen = true;
    if (kind != PROTO_PIECE_VOID) {
        response.shard_pull.body = slice_text("records");
    }
    if (kind == PROTO_PIECE_MORE) {
        response.shard_pull.cursor = slice_text("next");
    }
    return response;
}

static void assert_same_piece(const struct proto_response *a, const struct proto_response *b)
{
    assert_true(a->shard_pull.piece == b->shard_pull.piece);
    assert_int_equal(a->shard_pull.kind, b->shard_pull.kind);
    assert_true(a->shard_pull.keys_total == b->shard_pull.keys_total);
    assert_true(a->shard_pull.bytes_total == b->shard_pull.bytes_total);
    assert_true(a->shard_pull.load == b->shard_pull.load);
    assert_true(a->shard_pull.strain == b->shard_pull.strain);
    assert_true(a->shard_pull.frozen == b->shard_pull.frozen);
    assert_true(slice_equal(a->shard_pull.body, b->shard_pull.body));
    assert_true(slice_equal(a->shard_pull.cursor, b->shard_pull.cursor));
}

static void a_piece_of_every_kind_comes_as_it_was_sent_and_no_other_kind(void **state)
{
    struct buf bytes = {0};

    (void)state;
    for (unsigned kind = 0; kind < 256; kind++) {
        struct proto_response response = piece_of_kind(kind), again;
        bool is_known =
            kind == PROTO_PIECE_MORE || kind == PROTO_PIECE_END || kind == PROTO_PIECE_VOID;

        buf_clear(&bytes);
        proto_response_encode(&response, &bytes);
        assert_int_equal(proto_response_decode(buf_slice(&bytes), &again), is_known);
        if (is_known) {
            assert_same_piece(&again, &response);
            proto_response_fini(&again);
        }
    }
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_comes_as_it_was_sent),
        cmocka_unit_test(a_piece_of_every_kind_comes_as_it_was_sent_and_no_other_kind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
