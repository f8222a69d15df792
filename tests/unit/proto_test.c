/* Unit tests of client/proto: every request and response as bytes and back, and hostile bytes. */
#include "client/proto.h"
#include "raft/util/mem.h"
#include "raft/util/rng.h"
#include "tests/cmocka.h"

static const struct proto_session session = {
    .client = "0123456789abcde", .seq = 9, .acked_seq = 7, .issued_at = 1700000000000000};

static struct proto_join_group join_groups[2] = {
    {.gid = 3, .incarnation = 5, .replicas = {1, {{1, "tcp://a:1"}}}},
    {.gid = 4, .replicas = {2, {{1, "tcp://b:1"}, {2, "ipc:///b2"}}}}};
static uint32_t gids[3] = {4, 5, 0x7fffffff};
static struct proto_confirm confirms[2] = {{0, 4}, {16383, 5}};

static void make_write(struct kv_write *write)
{
    memset(write, 0, sizeof(*write));
    write->shard = 16383;
    write->session = session;
    write->n_conditions = 2;
    write->conditions[0] = (struct kv_condition){KV_IF_ABSENT, slice_text("a"), {0}};
    write->conditions[1] = (struct kv_condition){KV_IF_VALUE, slice_text("b"), slice_text("1")};
    write->n_operations = 3;
    write->operations[0] = (struct kv_operation){KV_PUT, slice_text("a"), slice_of("\0\xff", 2)};
    write->operations[1] = (struct kv_operation){KV_APPEND, slice_text("b"), slice_text("")};
    write->operations[2] = (struct kv_operation){KV_DELETE, slice_text("c"), {0}};
}

static const enum proto_op all_ops[] = {
    PROTO_GET,      PROTO_WRITE,      PROTO_SCAN,          PROTO_STATUS,
    PROTO_TRANSFER, PROTO_PING,       PROTO_CONFIG,        PROTO_JOIN,
    PROTO_LEAVE,    PROTO_MOVE,       PROTO_CONFIRM,       PROTO_BIND,
    PROTO_PAUSE,    PROTO_SHARD_PULL, PROTO_SHARD_RELEASE, PROTO_SHARD_WHERE};
#define N_OPS (sizeof(all_ops) / sizeof(all_ops[0]))

/* A request of that kind with something in every field. */
static void make_admin_request(struct proto_request *request)
{
    switch (request->op) {
    case PROTO_TRANSFER:
        request->transfer.to = 255;
        break;
    case PROTO_CONFIG:
        request->config.num = UINT64_MAX;
        request->config.gid = 3;
        request->config.incarnation = 99;
        break;
    case PROTO_JOIN:
        request->join.session = session;
        request->join.n = 2;
        request->join.groups = join_groups;
        break;
    case PROTO_LEAVE:
        request->leave.session = session;
        request->leave.n = 3;
        request->leave.gids = gids;
        break;
    case PROTO_MOVE:
        request->move.session = session;
        request->move.shard = 12;
        request->move.gid = 3;
        break;
    case PROTO_PAUSE:
        request->pause.session = session;
        request->pause.paused = true;
        break;
    case PROTO_CONFIRM:
        request->confirm.n = 2;
        request->confirm.shards = confirms;
        request->confirm.gid = 3;
        request->confirm.incarnation = 4;
        break;
    case PROTO_BIND:
        request->confirm.gid = 3;
        request->confirm.incarnation = 4;
        break;
    default:
        break;
    }
}

static void make_request(enum proto_op op, struct proto_request *request)
{
    memset(request, 0, sizeof(*request));
    request->op = op;
    request->request_id = 0x1122334455667788;
    request->deadline_ms = 5000;
    request->trace_id = 42;
    if (op == PROTO_GET) {
        request->get.shard = 17;
        request->get.key = slice_text("key");
    } else if (op == PROTO_WRITE) {
        make_write(&request->write);
    } else if (op == PROTO_SCAN) {
        request->scan.shard = 17;
        request->scan.prefix = slice_text("k");
        request->scan.after = slice_text("key");
        request->scan.limit = PROTO_MAX_SCAN;
    } else if (op == PROTO_SHARD_PULL) {
        request->shard_pull.shard = 5;
        request->shard_pull.num = 6;
        request->shard_pull.to = 7;
        request->shard_pull.copy_id = 8;
        request->shard_pull.piece = 9;
        request->shard_pull.cursor = slice_text("cursor");
        request->shard_pull.max_bytes = 1 << 20;
        request->shard_pull.anew = true;
    } else if (op == PROTO_SHARD_RELEASE) {
        request->shard_release.shard = 5;
        request->shard_release.num = 6;
        request->shard_release.to = 7;
    } else if (op == PROTO_SHARD_WHERE) {
        request->shard_where.shard = 5;
    } else {
        make_admin_request(request);
    }
}

static struct proto_record records[2];
static struct proto_shard_status shard_rows[2] = {{1, PROTO_SHARD_SERVING, 4, 10, 1000},
                                                  {2, PROTO_SHARD_PULLING, 5, 0, 0}};
static struct proto_move_status move_rows[1] = {
    {2, 1, 9, 5, PROTO_MOVE_CATCHING_UP, 1, 2, 3, 4, 5, 6, PROTO_UNKNOWN}};

static void make_node(struct proto_node_status *node)
{
    *node = (struct proto_node_status){.gid = 1,
                                       .id = 2,
                                       .role = 2,
                                       .term = 3,
                                       .leader = 2,
                                       .first_index = 4,
                                       .last_index = 5,
                                       .commit_index = 6,
                                       .applied_index = 7,
                                       .snapshot_index = 8,
                                       .db_bytes = 9,
                                       .log_bytes = 10,
                                       .uptime_s = 11,
                                       .config = 12,
                                       .incarnation = 13,
                                       .group_incarnation = 14,
                                       .cluster_id = "0123456789abcde",
                                       .ready = true,
                                       .read_only = true,
                                       .version = slice_text("0.1.0"),
                                       .n_shards = 2,
                                       .shards = shard_rows,
                                       .n_moves = 1,
                                       .moves = move_rows};
}

static void make_response(enum proto_op op, struct proto_response *response)
{
    memset(response, 0, sizeof(*response));
    response->op = op;
    response->status = ST_OK;
    response->request_id = 0x8877665544332211;
    response->leader_hint = 2;
    response->gid_hint = 3;
    response->config = 4;
    response->cluster_time = 1700000000000001;
    if (op == PROTO_GET) {
        response->get.value = slice_of("v\0w", 3);
        response->get.version = 5;
    } else if (op == PROTO_WRITE) {
        response->write = (struct kv_write_result){ST_OK, 3, {0, 17, 1}};
    } else if (op == PROTO_SCAN) {
        records[0] = (struct proto_record){slice_text("a"), slice_text("1")};
        records[1] = (struct proto_record){slice_text("ab"), slice_text("")};
        response->scan.more = true;
        response->scan.n = 2;
        response->scan.records = records;
    } else if (op == PROTO_STATUS) {
        make_node(&response->node);
    } else if (op == PROTO_CONFIG) {
        response->config_reply.encoded = slice_text("opaque here");
    } else if (op == PROTO_JOIN || op == PROTO_LEAVE || op == PROTO_MOVE || op == PROTO_PAUSE) {
        response->admin.num = 8;
    } else if (op == PROTO_SHARD_PULL) {
        response->shard_pull.piece = 3;
        response->shard_pull.kind = PROTO_PIECE_MORE;
        response->shard_pull.keys_total = 0x123456789a;
        response->shard_pull.bytes_total = 0xa987654321;
        response->shard_pull.load = 3000000000;
        response->shard_pull.body = slice_text("records");
        response->shard_pull.cursor = slice_text("next");
    } else if (op == PROTO_SHARD_WHERE) {
        response->shard_where.held = true;
        response->shard_where.epoch = 6;
    }
}

/* Decodes a copy that ends where the bytes end, so that ASan sees a read past it; a message that is
 * taken must encode to the same bytes again: then no field was lost. */
static bool check_request(struct slice bytes)
{
    uint8_t *exact = mem_copy(bytes.data, bytes.len);
    struct proto_request request;
    struct buf again = {0};
    bool good = proto_request_decode(slice_of(exact, bytes.len), &request);

    if (good) {
        proto_request_encode(&request, &again);
        assert_true(slice_equal(buf_slice(&again), bytes));
        proto_request_fini(&request);
    }
    buf_fini(&again);
    mem_free(exact);
    return good;
}

static bool check_response(struct slice bytes)
{
    uint8_t *exact = mem_copy(bytes.data, bytes.len);
    struct proto_response response;
    struct buf again = {0};
    bool good = proto_response_decode(slice_of(exact, bytes.len), &response);

    if (good) {
        proto_response_encode(&response, &again);
        assert_true(slice_equal(buf_slice(&again), bytes));
        proto_response_fini(&response);
    }
    buf_fini(&again);
    mem_free(exact);
    return good;
}

/* Truncated at every length it is refused; with bits flipped it is refused or means itself. */
static void torture(struct buf *bytes, bool (*check)(struct slice bytes), uint64_t seed)
{
    struct rng rng;

    assert_true(check(buf_slice(bytes)));
    for (size_t len = 0; len < bytes->len; len++) {
        assert_false(check(slice_of(bytes->data, len)));
    }
    rng_init(&rng, seed);
    for (int i = 0; i < 3000; i++) {
        size_t bit = rng_below(&rng, bytes->len * 8);

        bytes->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        check(buf_slice(bytes));
        if (rng_below(&rng, 4) > 0) {
            bytes->data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
}

static void every_request_survives_bytes_and_hostile_bytes_do_no_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OPS; i++) {
        struct proto_request request;
        struct buf bytes = {0};

        make_request(all_ops[i], &request);
        proto_request_encode(&request, &bytes);
        torture(&bytes, check_request, i);
        buf_fini(&bytes);
    }
}

static void every_response_survives_bytes_and_hostile_bytes_do_no_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OPS; i++) {
        struct proto_response response;
        struct buf bytes = {0};

        make_response(all_ops[i], &response);
        proto_response_encode(&response, &bytes);
        torture(&bytes, check_response, i);
        buf_fini(&bytes);
    }
}

/* A dry run differs from the change itself by a flag that only changes may carry. */
static void a_dry_run_is_marked_in_the_header(void **state)
{
    static const enum proto_op changes[] = {PROTO_JOIN, PROTO_LEAVE, PROTO_MOVE};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct proto_request request;
        struct buf bytes = {0}, wet = {0};

        make_request(changes[i], &request);
        proto_request_encode(&request, &wet);
        request.dry_run = true;
        proto_request_encode(&request, &bytes);
        assert_int_equal(bytes.len, wet.len);
        assert_int_equal(bytes.data[2], 1);
        assert_int_equal(wet.data[2], 0);
        assert_true(proto_request_decode(buf_slice(&bytes), &request));
        assert_true(request.dry_run);
        proto_request_fini(&request);
        assert_true(proto_request_decode(buf_slice(&wet), &request));
        assert_false(request.dry_run);
        proto_request_fini(&request);
        torture(&bytes, check_request, 100 + i);
        buf_fini(&bytes);
        buf_fini(&wet);
    }
}

static void nothing_else_can_be_run_dry(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OPS; i++) {
        enum proto_op op = all_ops[i];
        struct proto_request request;
        struct buf bytes = {0};

        make_request(op, &request);
        proto_request_encode(&request, &bytes);
        bytes.data[2] = 1;
        assert_int_equal(check_request(buf_slice(&bytes)),
                         op == PROTO_JOIN || op == PROTO_LEAVE || op == PROTO_MOVE);
        bytes.data[2] = 2; /* not known here */
        assert_false(check_request(buf_slice(&bytes)));
        buf_fini(&bytes);
    }
}

static void a_dry_run_is_answered_with_a_configuration(void **state)
{
    struct proto_response response;
    struct buf bytes = {0}, wet = {0};

    (void)state;
    make_response(PROTO_LEAVE, &response);
    proto_response_encode(&response, &wet);
    response.admin.planned = slice_text("opaque here");
    proto_response_encode(&response, &bytes);
    assert_true(check_response(buf_slice(&bytes)));
    assert_true(proto_response_decode(buf_slice(&bytes), &response));
    assert_true(response.admin.num == 8);
    assert_true(slice_equal(response.admin.planned, slice_text("opaque here")));
    proto_response_fini(&response);
    /* Cut where the answer to the change itself would end, it means that; anywhere else, nothing.
     */
    for (size_t len = 0; len < bytes.len; len++) {
        assert_int_equal(check_response(slice_of(bytes.data, len)), len == wet.len);
    }
    buf_put_u32(&wet, 0); /* an empty one is none */
    assert_false(check_response(buf_slice(&wet)));
    buf_fini(&bytes);
    buf_fini(&wet);
}

static void a_row_of_a_move_means_the_same_after_the_wire(void **state)
{
    struct proto_response response;
    const struct proto_move_status *move;
    struct buf bytes = {0};

    (void)state;
    make_response(PROTO_STATUS, &response);
    proto_response_encode(&response, &bytes);
    assert_true(proto_response_decode(buf_slice(&bytes), &response));
    assert_int_equal(response.node.n_moves, 1);
    move = &response.node.moves[0];
    assert_int_equal(move->shard, 2);
    assert_int_equal(move->phase, PROTO_MOVE_CATCHING_UP);
    assert_true(move->keys_total == 4 && move->rate == 5 && move->seconds_left == 6);
    assert_true(move->pause_us == PROTO_UNKNOWN);
    proto_response_fini(&response);
    buf_fini(&bytes);
}

static void a_write_means_the_same_after_the_wire(void **state)
{
    struct proto_request request;
    struct buf bytes = {0};
    struct kv_write *write = &request.write;

    (void)state;
    make_request(PROTO_WRITE, &request);
    proto_request_encode(&request, &bytes);
    assert_true(proto_request_decode(buf_slice(&bytes), &request));
    assert_int_equal(request.op, PROTO_WRITE);
    assert_true(request.request_id == 0x1122334455667788);
    assert_int_equal(request.deadline_ms, 5000);
    assert_true(request.trace_id == 42);
    assert_int_equal(write->shard, 16383);
    assert_memory_equal(write->session.client, "0123456789abcde", 16);
    assert_true(write->session.seq == 9 && write->session.acked_seq == 7);
    assert_true(write->session.issued_at == 1700000000000000);
    assert_int_equal(write->n_conditions, 2);
    assert_int_equal(write->conditions[1].type, KV_IF_VALUE);
    assert_true(slice_equal(write->conditions[1].value, slice_text("1")));
    assert_int_equal(write->n_operations, 3);
    assert_true(slice_equal(write->operations[0].value, slice_of("\0\xff", 2)));
    assert_int_equal(write->operations[2].type, KV_DELETE);
    proto_request_fini(&request);
    buf_fini(&bytes);
}

static bool write_is_taken(const struct kv_write *write)
{
    struct buf bytes = {0};
    struct reader reader;
    struct kv_write again;
    bool taken;

    kv_write_encode(write, &bytes);
    reader = reader_of(buf_slice(&bytes));
    taken = kv_write_decode(&reader, &again) && reader_done(&reader);
    buf_fini(&bytes);
    return taken;
}

static void writes_past_the_limits_are_refused(void **state)
{
    struct kv_write write;
    uint8_t *big = mem_zalloc(KV_MAX_VALUE + 1);

    (void)state;
    make_write(&write);
    assert_true(write_is_taken(&write));
    write.operations[0].key = slice_of(big, KV_MAX_KEY);
    write.operations[0].value = slice_of(big, KV_MAX_VALUE);
    assert_true(write_is_taken(&write));
    write.operations[0].value = slice_of(big, KV_MAX_VALUE + 1);
    assert_false(write_is_taken(&write));
    make_write(&write);
    write.operations[0].key = slice_of(big, KV_MAX_KEY + 1);
    assert_false(write_is_taken(&write));
    write.operations[0].key = slice_text("");
    assert_false(write_is_taken(&write));
    make_write(&write);
    write.operations[2].value = slice_text("a deletion has no value");
    assert_false(write_is_taken(&write));
    make_write(&write);
    write.conditions[0].value = slice_text("an absent key has no value");
    assert_false(write_is_taken(&write));
    mem_free(big);
}

static void a_kept_result_fits_into_64_bytes(void **state)
{
    struct kv_write_result result = {.status = ST_OK, .n_outputs = KV_MAX_OUTPUTS}, again;
    struct buf bytes = {0};
    struct reader reader;

    (void)state;
    for (uint32_t i = 0; i < KV_MAX_OUTPUTS; i++) {
        result.outputs[i] = UINT32_MAX - i;
    }
    kv_write_result_encode(&result, &bytes);
    assert_in_range(bytes.len, 1, 64);
    reader = reader_of(buf_slice(&bytes));
    assert_true(kv_write_result_decode(&reader, &again));
    assert_memory_equal(&result, &again, sizeof(result));
    buf_fini(&bytes);
}

static void a_refusal_carries_a_text_and_no_body(void **state)
{
    struct proto_response response, again;
    struct buf bytes = {0};
    char text[3000];

    (void)state;
    make_response(PROTO_SCAN, &response);
    response.status = ST_WRONG_GROUP;
    response.text = slice_text("moving to g9");
    proto_response_encode(&response, &bytes);
    assert_true(proto_response_decode(buf_slice(&bytes), &again));
    assert_int_equal(again.status, ST_WRONG_GROUP);
    assert_int_equal(again.gid_hint, 3);
    assert_true(slice_equal(again.text, slice_text("moving to g9")));
    proto_response_fini(&again);

    memset(text, 'x', sizeof(text));
    response.text = slice_of(text, sizeof(text));
    buf_clear(&bytes);
    proto_response_encode(&response, &bytes);
    assert_true(proto_response_decode(buf_slice(&bytes), &again));
    assert_int_equal(again.text.len, 1024);
    proto_response_fini(&again);
    buf_fini(&bytes);
}

static void a_page_out_of_order_is_refused(void **state)
{
    struct proto_response response;
    struct buf bytes = {0};

    (void)state;
    make_response(PROTO_SCAN, &response);
    records[1].key = records[0].key;
    proto_response_encode(&response, &bytes);
    assert_false(check_response(buf_slice(&bytes)));
    buf_fini(&bytes);
}

static void unknown_versions_ops_and_statuses_are_refused(void **state)
{
    struct proto_request request;
    struct proto_response response;
    struct buf bytes = {0};

    (void)state;
    make_request(PROTO_PING, &request);
    proto_request_encode(&request, &bytes);
    assert_true(check_request(buf_slice(&bytes)));
    bytes.data[0] = 2;
    assert_false(check_request(buf_slice(&bytes)));
    bytes.data[0] = 1;
    bytes.data[1] = 99;
    assert_false(check_request(buf_slice(&bytes)));
    buf_clear(&bytes);
    make_response(PROTO_PING, &response);
    proto_response_encode(&response, &bytes);
    assert_true(check_response(buf_slice(&bytes)));
    set_u16(bytes.data + 2, 999);
    assert_false(check_response(buf_slice(&bytes)));
    buf_fini(&bytes);
}

static void a_response_shows_whom_it_answers_without_being_decoded(void **state)
{
    struct proto_response response;
    struct buf bytes = {0};
    uint64_t request_id;
    enum proto_op op;

    (void)state;
    make_response(PROTO_GET, &response);
    proto_response_encode(&response, &bytes);
    assert_true(
        proto_response_peek(slice_of(bytes.data, PROTO_RESPONSE_HEADER_BYTES), &request_id, &op));
    assert_true(request_id == 0x8877665544332211);
    assert_int_equal(op, PROTO_GET);
    assert_false(proto_response_peek(slice_of(bytes.data, PROTO_RESPONSE_HEADER_BYTES - 1),
                                     &request_id, &op));
    buf_fini(&bytes);
}

static void a_further_try_differs_in_id_and_deadline_only(void **state)
{
    struct proto_request request;
    struct buf bytes = {0};

    (void)state;
    make_request(PROTO_GET, &request);
    proto_request_encode(&request, &bytes);
    proto_request_retry(&bytes, 77, 250);
    assert_true(proto_request_decode(buf_slice(&bytes), &request));
    assert_true(request.request_id == 77);
    assert_int_equal(request.deadline_ms, 250);
    assert_true(request.trace_id == 42);
    assert_true(slice_equal(request.get.key, slice_text("key")));
    proto_request_fini(&request);
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_survives_bytes_and_hostile_bytes_do_no_harm),
        cmocka_unit_test(every_response_survives_bytes_and_hostile_bytes_do_no_harm),
        cmocka_unit_test(a_dry_run_is_marked_in_the_header),
        cmocka_unit_test(nothing_else_can_be_run_dry),
        cmocka_unit_test(a_dry_run_is_answered_with_a_configuration),
        cmocka_unit_test(a_row_of_a_move_means_the_same_after_the_wire),
        cmocka_unit_test(a_write_means_the_same_after_the_wire),
        cmocka_unit_test(writes_past_the_limits_are_refused),
        cmocka_unit_test(a_kept_result_fits_into_64_bytes),
        cmocka_unit_test(a_refusal_carries_a_text_and_no_body),
        cmocka_unit_test(a_page_out_of_order_is_refused),
        cmocka_unit_test(unknown_versions_ops_and_statuses_are_refused),
        cmocka_unit_test(a_response_shows_whom_it_answers_without_being_decoded),
        cmocka_unit_test(a_further_try_differs_in_id_and_deadline_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
