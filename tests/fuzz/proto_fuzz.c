/* The client protocol: requests as a server gets them, responses as a client or another group gets
 * them, and the parts of both that stand elsewhere too (writes in the log, results in sessions).
 * The first byte says which. What is taken encodes to the same bytes. */
#include "client/proto_private.h"
#include "tests/fuzz/fuzz.h"

static void check_inside(struct slice whole, struct slice part)
{
    ASSERT(part.len == 0 ||
           (part.data >= whole.data && part.data + part.len <= whole.data + whole.len));
}

static void check_write(struct slice bytes, const struct kv_write *write)
{
    ASSERT(write->shard < SHARD_MAX_COUNT);
    ASSERT(write->n_operations >= 1 && write->n_operations <= KV_MAX_OPERATIONS);
    ASSERT(write->n_conditions <= KV_MAX_CONDITIONS);
    for (size_t i = 0; i < write->n_operations; i++) {
        ASSERT(write->operations[i].key.len >= 1 && write->operations[i].key.len <= KV_MAX_KEY);
        ASSERT(write->operations[i].value.len <= KV_MAX_VALUE);
        check_inside(bytes, write->operations[i].key);
        check_inside(bytes, write->operations[i].value);
    }
    for (size_t i = 0; i < write->n_conditions; i++) {
        ASSERT(write->conditions[i].key.len >= 1 && write->conditions[i].key.len <= KV_MAX_KEY);
        check_inside(bytes, write->conditions[i].value);
    }
}

static void fuzz_request(struct slice bytes)
{
    struct proto_request request, other;
    struct buf again = {0};

    if (!proto_request_decode(bytes, &request)) {
        return;
    }
    ASSERT(proto_op_is_valid((uint8_t)request.op));
    ASSERT(proto_request_peek_id(bytes) == request.request_id);
    if (request.op == PROTO_WRITE) {
        check_write(bytes, &request.write);
    }
    proto_request_encode(&request, &again);
    ASSERT(slice_equal(bytes, buf_slice(&again)));
    /* Another try differs in id and deadline alone. */
    proto_request_retry(&again, request.request_id + 1, 77);
    ASSERT(proto_request_decode(buf_slice(&again), &other));
    ASSERT(other.request_id == request.request_id + 1 && other.deadline_ms == 77);
    proto_request_retry(&again, request.request_id, request.deadline_ms);
    ASSERT(slice_equal(bytes, buf_slice(&again)));
    proto_request_fini(&other);
    proto_request_fini(&request);
    buf_fini(&again);
}

static void fuzz_response(struct slice bytes)
{
    struct proto_response response;
    struct buf again = {0};
    uint64_t id;
    enum proto_op op;
    bool peeked = proto_response_peek(bytes, &id, &op);

    if (!proto_response_decode(bytes, &response)) {
        return;
    }
    ASSERT(peeked && id == response.request_id && op == response.op);
    ASSERT(status_is_valid((uint32_t)response.status));
    check_inside(bytes, response.text);
    if (response.op == PROTO_SCAN && response.status == ST_OK) {
        for (uint32_t i = 1; i < response.scan.n; i++) {
            ASSERT(slice_compare(response.scan.records[i - 1].key, response.scan.records[i].key) <
                   0);
        }
    }
    proto_response_encode(&response, &again);
    ASSERT(slice_equal(bytes, buf_slice(&again)));
    proto_response_fini(&response);
    buf_fini(&again);
}

static void fuzz_write(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct kv_write write;
    struct buf again = {0};

    if (kv_write_decode(&reader, &write)) {
        check_write(bytes, &write);
        kv_write_encode(&write, &again);
        ASSERT(
            slice_equal(slice_of(bytes.data, bytes.len - reader_left(&reader)), buf_slice(&again)));
        buf_fini(&again);
    }
}

static void fuzz_write_result(struct slice bytes)
{
    struct reader reader = reader_of(bytes);
    struct kv_write_result result;
    struct buf again = {0};

    if (kv_write_result_decode(&reader, &result)) {
        kv_write_result_encode(&result, &again);
        ASSERT(again.len <= 64);
        ASSERT(
            slice_equal(slice_of(bytes.data, bytes.len - reader_left(&reader)), buf_slice(&again)));
        buf_fini(&again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct slice bytes) = {
        fuzz_request, fuzz_response, fuzz_request, fuzz_response, fuzz_write, fuzz_write_result};
    struct script script = script_of(data, size);
    uint32_t which = fuzz_below(&script, sizeof(targets) / sizeof(targets[0]));

    targets[which](fuzz_rest(&script));
    return 0;
}
