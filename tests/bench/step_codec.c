/* Requests and messages to bytes and back; see step_case.h. */
#include <stdio.h>
#include <string.h>

#include "client/proto.h"
#include "client/shard_config.h"
#include "raft/util/mem.h"
#include "raft/wire.h"
#include "tests/bench/step_case.h"
#include "tests/bench/step_world.h"

static const uint8_t value[VALUE_BYTES] = {1, 2, 3};

void step_put(struct kv_write *write, uint64_t number, char *key)
{
    uint64_t client = number % STEP_CLIENTS, seq = number / STEP_CLIENTS + 1;

    snprintf(key, STEP_KEY_BYTES + 1, "%016llu", (unsigned long long)(number * 7919 % 4096));
    *write = (struct kv_write){.n_operations = 1};
    memcpy(write->session.client, &client, sizeof(client));
    write->session.seq = seq;
    write->session.acked_seq = seq - 1;
    write->session.issued_at = 1;
    write->operations[0] = (struct kv_operation){.type = KV_PUT,
                                                 .key = slice_of(key, STEP_KEY_BYTES),
                                                 .value = slice_of(value, sizeof(value))};
    write->shard = shard_of_key(write->operations[0].key, STEP_SHARDS);
}

struct codec {
    struct proto_request request;
    struct proto_response response;
    char key[STEP_KEY_BYTES + 1];
    struct raft_message append;
    struct buf bytes;
};

void *codec_create(const char *dir)
{
    struct codec *codec = mem_zalloc(sizeof(*codec));

    (void)dir;
    codec->request.op = PROTO_WRITE;
    step_put(&codec->request.write, 1, codec->key);
    codec->response.op = PROTO_WRITE;
    codec->response.write.n_outputs = 1;
    codec->append = (struct raft_message){
        .type = RAFT_MESSAGE_APPEND, .from = 1, .to = 2, .term = 2, .append.prev_log_index = 1};
    codec->append.append.entries = step_entries(2, 2);
    codec->append.append.n_entries = BATCH;
    return codec;
}

/* A put and its answer, as client and server write and read them. */
void codec_run_request(void *context)
{
    struct codec *codec = context;

    for (unsigned i = 0; i < FEW; i++) {
        struct proto_request request;
        struct proto_response response;

        buf_clear(&codec->bytes);
        proto_request_encode(&codec->request, &codec->bytes);
        ASSERT(proto_request_decode(buf_slice(&codec->bytes), &request));
        proto_request_fini(&request);
        buf_clear(&codec->bytes);
        proto_response_encode(&codec->response, &codec->bytes);
        ASSERT(proto_response_decode(buf_slice(&codec->bytes), &response));
        proto_response_fini(&response);
    }
}

void codec_run_append(void *context)
{
    struct codec *codec = context;
    struct raft_message message;

    buf_clear(&codec->bytes);
    wire_encode_message(&codec->append, &codec->bytes);
    ASSERT(wire_decode_message(buf_slice(&codec->bytes), &message));
    raft_message_fini(&message);
}
