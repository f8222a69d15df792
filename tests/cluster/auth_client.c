/* auth_client: says to a server of 127.0.0.1 what only other servers may say, without the peer key,
 * and prints how it ended: one line, "STATUS text".
 *
 *   auth_client PORT peer GID ID     calls as that replica of the group, without a key
 *   auth_client PORT claim GID ID    the same, claims to have the key and makes its proof up
 *   auth_client PORT echo GID ID     the same, and sends the server's own hello and frames back
 *   auth_client PORT pull|release|where|confirm|bind|config|get    asks so, as a client
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "client/proto.h"
#include "raft/util/frame.h"
#include "raft/util/handshake.h"

static int fd;
static struct buf input;

static void die(const char *what)
{
    fprintf(stderr, "auth_client: %s\n", what);
    exit(1);
}

static void dial(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct timeval patience = {5, 0};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        die("nobody listens there");
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

static void put_frame(enum frame_kind kind, struct slice body)
{
    struct buf out = {0};
    size_t at = frame_begin(&out, kind, 0);

    buf_put_slice(&out, body);
    frame_end(&out, at);
    if (send(fd, out.data, out.len, MSG_NOSIGNAL) != (ssize_t)out.len) {
        die("the server takes nothing");
    }
    buf_fini(&out);
}

/* The next frame; false when the server closes. Its body holds until the call after the next. */
static bool get_frame(struct frame *frame)
{
    static size_t taken;
    size_t need;
    enum status reason;

    memmove(input.data, input.data + taken, input.len - taken);
    input.len -= taken;
    while (frame_decode(buf_slice(&input), frame, &taken, &need, &reason) != FRAME_OK) {
        uint8_t bytes[4096];
        ssize_t got = recv(fd, bytes, sizeof(bytes), 0);

        if (got <= 0) {
            return false;
        }
        buf_put(&input, bytes, (size_t)got);
    }
    return true;
}

static void put_hello(enum hello_who who, uint16_t flags, const char *gid, const char *id)
{
    struct hello hello = {.who = who,
                          .protocol_low = HELLO_PROTOCOL_LOW,
                          .protocol_high = HELLO_PROTOCOL_HIGH,
                          .gid = (uint32_t)atoi(gid),
                          .id = (uint32_t)atoi(id),
                          .incarnation = 1,
                          .flags = flags};
    struct buf body = {0};

    hello_encode(&hello, &body);
    put_frame(FRAME_HELLO, buf_slice(&body));
    buf_fini(&body);
}

static void print_refusal(const struct frame *frame)
{
    enum status status;
    char text[REFUSE_MAX_TEXT + 1];

    if (!refuse_decode(frame->body, &status, text)) {
        die("a malformed refusal");
    }
    printf("%s %s\n", status_name(status), text);
}

static void act_as_peer(const char *how, const char *gid, const char *id)
{
    static const uint8_t made_up[HANDSHAKE_PROOF_BYTES] = {1, 2, 3};
    struct frame frame;

    put_hello(HELLO_PEER, strcmp(how, "peer") == 0 ? 0 : HELLO_KEYED, gid, id);
    while (get_frame(&frame)) {
        if (frame.kind == FRAME_REFUSE) {
            print_refusal(&frame);
            return;
        }
        if (frame.kind == FRAME_HELLO && strcmp(how, "peer") == 0) {
            printf("OK let in as a peer\n");
            return;
        }
        if (strcmp(how, "echo") == 0) {
            put_frame(frame.kind, frame.body);
        } else if (frame.kind == FRAME_HELLO) {
            put_frame(FRAME_PROOF, slice_of(made_up, sizeof(made_up)));
        } else {
            printf("OK let in as a peer\n");
            return;
        }
    }
    printf("CLOSED\n");
}

static struct proto_request make_request(const char *what)
{
    struct proto_request request = {.op = PROTO_GET, .request_id = 7, .deadline_ms = 1000};
    static struct proto_confirm shard = {.shard = 1, .epoch = 1};

    request.get.key = slice_text("k");
    if (strcmp(what, "pull") == 0) {
        request.op = PROTO_SHARD_PULL;
        memset(&request.shard_pull, 0, sizeof(request.shard_pull));
        request.shard_pull.num = 2;
        request.shard_pull.to = 2;
        request.shard_pull.copy_id = 1;
        request.shard_pull.max_bytes = 1024;
    } else if (strcmp(what, "release") == 0) {
        request.op = PROTO_SHARD_RELEASE;
        memset(&request.shard_release, 0, sizeof(request.shard_release));
    } else if (strcmp(what, "where") == 0) {
        request.op = PROTO_SHARD_WHERE;
        memset(&request.shard_where, 0, sizeof(request.shard_where));
    } else if (strcmp(what, "confirm") == 0 || strcmp(what, "bind") == 0) {
        request.op = strcmp(what, "bind") == 0 ? PROTO_BIND : PROTO_CONFIRM;
        memset(&request.confirm, 0, sizeof(request.confirm));
        request.confirm.gid = 1;
        request.confirm.incarnation = 1;
        request.confirm.n = request.op == PROTO_CONFIRM;
        request.confirm.shards = request.op == PROTO_CONFIRM ? &shard : NULL;
    } else if (strcmp(what, "config") == 0) {
        request.op = PROTO_CONFIG;
        request.config.num = UINT64_MAX;
        request.config.gid = 1;
        request.config.incarnation = 1;
    }
    return request;
}

static void print_answer(const struct frame *frame)
{
    struct reader body = reader_of(frame->body);
    struct proto_response response;
    struct slice message;
    uint32_t group;
    uint8_t type;

    if (!frame_next_message(&body, &group, &type, &message) ||
        !proto_response_decode(message, &response)) {
        die("a malformed answer");
    }
    printf("%s %.*s\n", status_name(response.status), (int)response.text.len,
           response.text.len > 0 ? (const char *)response.text.data : "");
    proto_response_fini(&response);
}

static void ask_as_client(const char *what)
{
    struct proto_request request = make_request(what);
    struct buf message = {0}, batch = {0};
    struct frame frame;

    put_hello(HELLO_CLIENT, 0, "0", "0");
    proto_request_encode(&request, &message);
    buf_put_u32(&batch, 0);
    buf_put_u32(&batch, FRAME_MESSAGE_REQUEST);
    buf_put_bytes(&batch, buf_slice(&message));
    put_frame(FRAME_BATCH, buf_slice(&batch));
    buf_fini(&message);
    buf_fini(&batch);
    while (get_frame(&frame)) {
        if (frame.kind == FRAME_REFUSE) {
            print_refusal(&frame);
            return;
        }
        if (frame.kind == FRAME_BATCH) {
            print_answer(&frame);
            return;
        }
    }
    printf("CLOSED\n");
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 5) {
        die("usage: auth_client PORT peer|claim|echo GID ID | PORT OP");
    }
    dial(argv[1]);
    if (argc == 5) {
        act_as_peer(argv[2], argv[3], argv[4]);
    } else {
        ask_as_client(argv[2]);
    }
    close(fd);
    buf_fini(&input);
    return 0;
}
