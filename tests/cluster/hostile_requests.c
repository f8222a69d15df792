/* Messages and requests that no friendly client sends: cut at every length, with flipped bits, past
 * the limits, with shards that are not the key's. */
#include <stdio.h>
#include <unistd.h>

#include "tests/cluster/hostile.h"

#define NOBODY 0x0f0f0f0fu /* a gid that no single flipped bit turns into one that exists */

/* ---- Messages and requests ---- */

void hostile_send_messages(void)
{
    static const uint8_t types[] = {0, FRAME_MESSAGE_RAFT, FRAME_MESSAGE_RESPONSE, 4, 255};
    struct buf out = {0};
    size_t at;
    int fd;

    for (size_t i = 0; i < sizeof(types); i++) {
        out =
            hostile_batch_of(0, types[i], slice_of("0123456789012345678901234567890123456789", 40));
        hostile_put_buf(fd = hostile_dial_as_client(), &out);
        hostile_expect_closed(fd, "a message that clients don't send was accepted");
    }
    fd = hostile_dial_as_client();
    for (size_t len = 0; len < 30; len++) {
        out = hostile_batch_of(0, FRAME_MESSAGE_REQUEST,
                               slice_of("\1\1\0\0abcdefghijklmnopqrstuvwxyz0123", len));
        hostile_put_buf(fd, &out);
    }
    hostile_await(fd, 30, "short messages were not answered");
    close(fd);
    at = frame_begin(&out, FRAME_BATCH, 0);
    for (uint32_t i = 0; i < 20000; i++) {
        frame_put_message(&out, 0, FRAME_MESSAGE_REQUEST, slice_of(NULL, 0));
    }
    frame_end(&out, at);
    hostile_put_buf(fd = hostile_dial_as_client(), &out);
    hostile_await(fd, 20000, "empty messages were not answered");
    close(fd);
}

static struct proto_request write_request(const char *key, shard_id shard)
{
    struct proto_request request = {.op = PROTO_WRITE};
    struct kv_write *write = &request.write;

    memset(write->session.client, 0x77, sizeof(write->session.client));
    write->session.seq = 1 + rng_below(&hostile_rng, 1000000);
    write->shard = shard;
    write->n_conditions = 1;
    write->conditions[0] = (struct kv_condition){
        .type = KV_IF_VALUE, .key = slice_text(key), .value = slice_text("x")};
    write->n_operations = 2;
    write->operations[0] = (struct kv_operation){
        .type = KV_PUT, .key = slice_text(key), .value = slice_text("hostile")};
    write->operations[1] =
        (struct kv_operation){.type = KV_APPEND, .key = slice_text(key), .value = slice_text("!")};
    return request;
}

/* A valid request of each operation that changes nothing of worth. */
static struct buf sample(uint32_t which)
{
    static struct proto_join_group group;
    static uint32_t nobody = NOBODY;
    static struct proto_confirm rows[2] = {{3, 1}, {4, 9}};
    struct proto_session session = {.seq = 1 + rng_below(&hostile_rng, 1000),
                                    .client = "hostile admin.."};
    struct slice key = slice_text("key-1");
    shard_id shard = shard_of_key(key, 16);
    struct proto_request request = {.op = PROTO_PING};

    group = (struct proto_join_group){.gid = 1, .incarnation = 77};
    group.replicas.n = 1;
    group.replicas.replicas[0].id = 1;
    snprintf(group.replicas.replicas[0].url, sizeof(group.replicas.replicas[0].url), "%s",
             hostile_owner_url);
    switch (which) {
    case 0:
        request = (struct proto_request){.op = PROTO_GET, .get = {shard, key}};
        break;
    case 1:
        request = write_request("hostile", shard_of_key(slice_text("hostile"), 16));
        break;
    case 2:
        request = (struct proto_request){
            .op = PROTO_SCAN, .scan = {shard, slice_text("key"), slice_text("key-2"), 10}};
        break;
    case 3:
        request.op = PROTO_STATUS;
        break;
    case 4:
        request = (struct proto_request){.op = PROTO_TRANSFER, .transfer = {9}};
        break;
    case 5:
        request = (struct proto_request){.op = PROTO_CONFIG, .config = {1, NOBODY, 5}};
        break;
    case 6:
        request =
            (struct proto_request){.op = PROTO_SHARD_PULL,
                                   .shard_pull = {3, 2, NOBODY, 99, 0, slice_text("cursor"), 1000}};
        break;
    case 7:
        request =
            (struct proto_request){.op = PROTO_SHARD_RELEASE, .shard_release = {3, 2, NOBODY}};
        break;
    case 8:
        request = (struct proto_request){.op = PROTO_SHARD_WHERE, .shard_where = {3}};
        break;
    case 9:
        request = (struct proto_request){.op = PROTO_JOIN, .join = {session, 1, &group}};
        break;
    case 10:
        request = (struct proto_request){.op = PROTO_LEAVE, .leave = {session, 1, &nobody}};
        break;
    case 11:
        request = (struct proto_request){.op = PROTO_MOVE, .move = {session, 3, NOBODY}};
        break;
    case 12:
        request = (struct proto_request){.op = PROTO_CONFIRM,
                                         .confirm = {1, 0x1234567812345678, 2, rows}};
        break;
    case 13:
        request =
            (struct proto_request){.op = PROTO_BIND, .confirm = {1, 0x1234567812345678, 0, NULL}};
        break;
    case 14:
        request = (struct proto_request){
            .op = PROTO_REPLICA,
            .replica = {PROTO_REPLICA_ADD, NOBODY, 200, 1, slice_text("tcp://127.0.0.1:1")}};
        break;
    case 15:
        request = (struct proto_request){.op = PROTO_REPLICAS};
        break;
    case 16:
        request = (struct proto_request){
            .op = PROTO_REPORT, .report = {1, 0x1234567812345678, 99, 99, &group.replicas}};
        break;
    case 17:
        request = (struct proto_request){.op = PROTO_PAUSE, .pause = {session, false}};
        break;
    case 18:
        request =
            (struct proto_request){.op = PROTO_JOIN, .dry_run = true, .join = {session, 1, &group}};
        break;
    case 19:
        request = (struct proto_request){
            .op = PROTO_LEAVE, .dry_run = true, .leave = {session, 1, &nobody}};
        break;
    case 20:
        request =
            (struct proto_request){.op = PROTO_MOVE, .dry_run = true, .move = {session, 3, NOBODY}};
        break;
    case 21:
        request = (struct proto_request){.op = PROTO_REPLICA,
                                         .dry_run = true,
                                         .replica = {PROTO_REPLICA_REMOVE, NOBODY, 200, 1, {0}}};
        break;
    default:
        break;
    }
    return hostile_encode(request);
}
#define N_SAMPLES  23
#define N_HARMLESS 9 /* the first so many may be flipped in many places */

static void send_truncated_and_flipped(void)
{
    for (uint32_t which = 0; which < N_SAMPLES; which++) {
        int fd = hostile_dial_as_client();
        uint32_t n = 0;

        for (size_t len = 0;; len++) {
            struct buf request = sample(which);
            bool whole = len >= request.len;

            request.len = whole ? request.len : len;
            hostile_put_request(fd, &request);
            n++;
            if (whole) {
                break;
            }
        }
        for (uint32_t i = 0; i < 300; i++) {
            struct buf request = sample(which);
            uint32_t flips = which < N_HARMLESS ? 1 + rng_below(&hostile_rng, 8) : 1;

            while (flips-- > 0) {
                uint32_t bit = rng_below(&hostile_rng, (uint32_t)request.len * 8);
                request.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            }
            set_u32(request.data + 12, HOSTILE_DEADLINE_MS);
            hostile_put_request(fd, &request);
            n++;
        }
        hostile_await(fd, n, "malformed requests were not answered");
        close(fd);
    }
}

/* A message in pieces, as one above the size of a batch must travel. */
static void put_large(int fd, uint32_t stream, struct buf *message)
{
    struct buf out = {0};
    struct frame_fragment fragment = {
        .stream = stream, .type = FRAME_MESSAGE_REQUEST, .total = (uint32_t)message->len};

    while (fragment.offset < fragment.total) {
        uint32_t left = fragment.total - fragment.offset;

        fragment.bytes = slice_of(message->data + fragment.offset,
                                  left < FRAME_FRAGMENT_BYTES ? left : FRAME_FRAGMENT_BYTES);
        frame_put_fragment(&out, &fragment);
        fragment.offset += (uint32_t)fragment.bytes.len;
        hostile_put(fd, buf_slice(&out));
        buf_clear(&out);
    }
    buf_fini(&out);
    buf_fini(message);
}

static void send_oversize(void)
{
    int fd = hostile_dial_as_client();
    struct buf text = {0}, message;
    struct proto_request request;
    struct hostile_answers answers;

    memset(buf_extend(&text, KV_MAX_VALUE + 1), 'k', KV_MAX_VALUE + 1);
    request =
        (struct proto_request){.op = PROTO_GET, .get = {0, slice_of(text.data, KV_MAX_KEY + 1)}};
    message = hostile_encode(request);
    hostile_put_request(fd, &message);
    request = write_request("hostile", 0);
    request.write.operations[0].key = slice_of(text.data, KV_MAX_KEY + 1);
    message = hostile_encode(request);
    hostile_put_request(fd, &message);
    request = write_request("hostile", shard_of_key(slice_text("hostile"), 16));
    request.write.n_conditions = 0;
    request.write.operations[0].value = buf_slice(&text);
    message = hostile_encode(request);
    put_large(fd, 1, &message);
    answers = hostile_await(fd, 3, "requests past the limits were not answered");
    if (answers.ok != 0) {
        hostile_die("a request past the limits was carried out");
    }
    buf_fini(&text);
    close(fd);
}

/* A key has one shard: under every other number it must be refused. */
static void send_wrong_shards(void)
{
    int fd = hostile_dial_as_client();
    uint32_t n = 0;
    struct hostile_answers answers;

    for (shard_id shard = 0; shard < SHARD_MAX_COUNT; shard += shard < 40 ? 1 : 409) {
        struct buf get = hostile_encode(
            (struct proto_request){.op = PROTO_GET, .get = {shard, slice_text("key-1")}});
        struct proto_request request = write_request("key-1", shard);
        struct buf write;

        request.write.n_conditions = 0;
        request.write.operations[0] = (struct kv_operation){
            .type = KV_PUT, .key = slice_text("key-1"), .value = slice_text("value-1")};
        request.write.n_operations = 1;
        request.write.session.client[0] = (uint8_t)shard;
        write = hostile_encode(request);
        hostile_put_request(fd, &get);
        hostile_put_request(fd, &write);
        n += 2;
    }
    answers = hostile_await(fd, n, "requests with wrong shards were not answered");
    if (answers.ok > 2) {
        hostile_die("a key was served under the number of a shard that is not its own");
    }
    close(fd);
}

void hostile_send_requests(void)
{
    send_truncated_and_flipped();
    send_oversize();
    send_wrong_shards();
}
