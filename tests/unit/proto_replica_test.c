/* Unit tests of client/proto: changes of a group's replicas, what is told of them, and what a group
 * reports to the controller. */
#include <stdlib.h>

#include "client/proto.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"

#define FLIPS 3000

static struct proto_request change_of(enum proto_replica_change kind)
{
    struct proto_request request = {.op = PROTO_REPLICA, .dry_run = kind == PROTO_REPLICA_REMOVE};

    request.replica.kind = kind;
    request.replica.gid = 0x7ffffffe;
    request.replica.id = 254;
    request.replica.configuration_index = 0x1122334455667788;
    if (kind == PROTO_REPLICA_ADD) {
        request.replica.url = slice_text("tcp://somewhere:7000");
    }
    return request;
}

static void a_change_of_every_kind_comes_as_it_was_sent(void **state)
{
    struct buf bytes = {0};

    (void)state;
    for (int kind = PROTO_REPLICA_ADD; kind <= PROTO_REPLICA_ALONE; kind++) {
        struct proto_request request = change_of((enum proto_replica_change)kind), again;

        buf_clear(&bytes);
        proto_request_encode(&request, &bytes);
        assert_true(proto_request_decode(buf_slice(&bytes), &again));
        assert_int_equal(again.replica.kind, kind);
        assert_int_equal(again.replica.gid, 0x7ffffffe);
        assert_int_equal(again.replica.id, 254);
        assert_true(again.replica.configuration_index == 0x1122334455667788);
        assert_int_equal(again.dry_run, kind == PROTO_REPLICA_REMOVE);
        assert_true(slice_equal(again.replica.url, request.replica.url));
        proto_request_fini(&again);
    }
    buf_fini(&bytes);
}

/* A change that does not say which configuration it means. */
static void a_change_of_any_configuration_is_malformed(void **state)
{
    struct proto_request request = change_of(PROTO_REPLICA_REMOVE), again;
    struct buf bytes = {0};

    (void)state;
    proto_request_encode(&request, &bytes);
    assert_true(proto_request_decode(buf_slice(&bytes), &again));
    memset(bytes.data + PROTO_REQUEST_HEADER_BYTES + 9, 0, 8);
    assert_false(proto_request_decode(buf_slice(&bytes), &again));
    buf_fini(&bytes);
}

/* Offsets in the body: u8 kind, u32 gid, u32 id, u64 configuration_index, URL. */
static void a_change_that_makes_no_sense_is_malformed(void **state)
{
    static const struct {
        size_t at;
        uint8_t byte;
    } wrong[] = {{0, 0}, {0, 4}, {0, PROTO_REPLICA_REMOVE}, {4, 0x80}, {5, 0}, {6, 1}, {21, 0}};
    struct proto_request request = change_of(PROTO_REPLICA_ADD), again;
    struct buf bytes = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        buf_clear(&bytes);
        proto_request_encode(&request, &bytes);
        bytes.data[PROTO_REQUEST_HEADER_BYTES + wrong[i].at] = wrong[i].byte;
        assert_false(proto_request_decode(buf_slice(&bytes), &again));
    }
    buf_fini(&bytes);
}

static struct proto_response told_by(struct proto_replica rows[3])
{
    struct proto_response response = {.op = PROTO_REPLICAS, .status = ST_OK};

    for (uint32_t i = 0; i < 3; i++) {
        rows[i] = (struct proto_replica){.id = 10 * i + 1,
                                         .flags = (uint8_t)(1 << i),
                                         .incarnation = 0x1111111111111111 * i,
                                         .url = slice_text(i == 2 ? "" : "tcp://h:1"),
                                         .match_index = 77 + i,
                                         .heard_ms = i == 1 ? PROTO_UNKNOWN : i,
                                         .heard_incarnation = 0x99 + i};
    }
    response.replicas = (struct proto_replicas){.gid = 4,
                                                .id = 11,
                                                .incarnation = 0x2222222233333333,
                                                .configuration_index = 0x400000000,
                                                .committed = true,
                                                .term = 0x500000000,
                                                .leader = 1,
                                                .commit_index = 0x600000000,
                                                .last_index = 0x700000000,
                                                .last_term = 0x800000000,
                                                .n = 3,
                                                .replicas = rows};
    return response;
}

static void what_is_told_of_replicas_comes_as_it_was_sent(void **state)
{
    struct proto_replica rows[3];
    struct proto_response response = told_by(rows), again;
    struct buf bytes = {0};

    (void)state;
    proto_response_encode(&response, &bytes);
    assert_true(proto_response_decode(buf_slice(&bytes), &again));
    assert_int_equal(again.replicas.gid, 4);
    assert_int_equal(again.replicas.id, 11);
    assert_true(again.replicas.incarnation == 0x2222222233333333);
    assert_true(again.replicas.configuration_index == 0x400000000 && again.replicas.committed);
    assert_true(again.replicas.term == 0x500000000 && again.replicas.leader == 1);
    assert_true(again.replicas.commit_index == 0x600000000);
    assert_true(again.replicas.last_index == 0x700000000);
    assert_true(again.replicas.last_term == 0x800000000);
    assert_int_equal(again.replicas.n, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(again.replicas.replicas[i].id, rows[i].id);
        assert_int_equal(again.replicas.replicas[i].flags, rows[i].flags);
        assert_true(again.replicas.replicas[i].incarnation == rows[i].incarnation);
        assert_true(again.replicas.replicas[i].match_index == rows[i].match_index);
        assert_true(again.replicas.replicas[i].heard_ms == rows[i].heard_ms);
        assert_true(again.replicas.replicas[i].heard_incarnation == rows[i].heard_incarnation);
        assert_true(slice_equal(again.replicas.replicas[i].url, rows[i].url));
    }
    proto_response_fini(&again);
    buf_fini(&bytes);
}

static struct proto_request report_of(struct spec *replicas)
{
    struct proto_request request = {.op = PROTO_REPORT};

    assert_null(spec_parse("1=tcp://a:1,200=tcp://b:2", replicas));
    request.report.gid = 9;
    request.report.incarnation = 0x123456789abcdef0;
    request.report.term = 0x700000000;
    request.report.index = 0x800000000;
    request.report.replicas = replicas;
    return request;
}

static void a_report_comes_as_it_was_sent(void **state)
{
    struct spec replicas;
    struct proto_request request = report_of(&replicas), again;
    struct buf bytes = {0};

    (void)state;
    proto_request_encode(&request, &bytes);
    assert_true(proto_request_decode(buf_slice(&bytes), &again));
    assert_int_equal(again.report.gid, 9);
    assert_true(again.report.incarnation == 0x123456789abcdef0);
    assert_true(again.report.term == 0x700000000 && again.report.index == 0x800000000);
    assert_true(spec_equal(again.report.replicas, &replicas));
    proto_request_fini(&again);
    buf_fini(&bytes);
}

/* ---- Hostile bytes: nothing is read past the end, nothing is leaked (ASan looks) ---- */

static void decode_any(struct slice bytes, bool is_request)
{
    struct proto_request request;
    struct proto_response response;

    if (is_request && proto_request_decode(bytes, &request)) {
        proto_request_fini(&request);
    } else if (!is_request && proto_response_decode(bytes, &response)) {
        proto_response_fini(&response);
    }
}

static void attack(const struct buf *good, bool is_request, struct rng *rng)
{
    for (size_t len = 0; len < good->len; len++) {
        uint8_t *cut = malloc(len + 1); /* of just that size: ASan sees each byte beyond */
        struct proto_request request;
        struct proto_response response;

        assert_non_null(cut);
        memcpy(cut, good->data, len);
        if (is_request) {
            assert_false(proto_request_decode(slice_of(cut, len), &request));
        } else {
            assert_false(proto_response_decode(slice_of(cut, len), &response));
        }
        free(cut);
    }
    for (int i = 0; i < FLIPS; i++) {
        struct buf bad = {0};

        buf_put_slice(&bad, buf_slice(good));
        for (uint64_t n = rng_between(rng, 1, 3); n > 0; n--) {
            bad.data[rng_below(rng, bad.len)] ^= (uint8_t)(1u << rng_below(rng, 8));
        }
        decode_any(buf_slice(&bad), is_request);
        buf_fini(&bad);
    }
}

static void cut_and_flipped_bytes_do_no_harm(void **state)
{
    struct proto_replica rows[3];
    struct spec replicas;
    struct proto_request requests[] = {change_of(PROTO_REPLICA_ADD), report_of(&replicas)};
    struct proto_response response = told_by(rows);
    struct rng rng;

    (void)state;
    rng_init(&rng, 20);
    for (size_t i = 0; i < 2; i++) {
        struct buf bytes = {0};

        proto_request_encode(&requests[i], &bytes);
        attack(&bytes, true, &rng);
        buf_fini(&bytes);
    }
    for (int i = 0; i < 1; i++) {
        struct buf bytes = {0};

        proto_response_encode(&response, &bytes);
        attack(&bytes, false, &rng);
        buf_fini(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_of_every_kind_comes_as_it_was_sent),
        cmocka_unit_test(a_change_of_any_configuration_is_malformed),
        cmocka_unit_test(a_change_that_makes_no_sense_is_malformed),
        cmocka_unit_test(what_is_told_of_replicas_comes_as_it_was_sent),
        cmocka_unit_test(a_report_comes_as_it_was_sent),
        cmocka_unit_test(cut_and_flipped_bytes_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
