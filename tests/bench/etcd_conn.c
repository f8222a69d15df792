/* gRPC to etcd; see etcd_conn.h. A request is headers and one DATA frame with a gRPC message: a
 * byte 0 (not compressed), its length as u32 big-endian, then protobuf: field 1 the key, field 2
 * the value. A call ends with its stream; grpc-status is among the trailers. */
#include "tests/bench/etcd_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_FLUSH (1u << 18) /* so much is gathered at most before a send */

static void *grow(void *memory, size_t size)
{
    void *bigger = realloc(memory, size);

    if (bigger == NULL) {
        abort();
    }
    return bigger;
}

/* ---- What nghttp2 tells ---- */

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *context)
{
    static const char status[] = "grpc-status";
    struct etcd_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    (void)flags;
    (void)context;
    if (call != NULL && value_len > 0 && name_len == sizeof(status) - 1 &&
        memcmp(name, status, name_len) == 0) {
        call->grpc_status = atoi((const char *)value);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *context)
{
    struct etcd_conn *conn = context;
    struct etcd_call *call = nghttp2_session_get_stream_user_data(session, stream);

    if (call != NULL) {
        conn->on_end(conn->context, call, error == 0 && call->grpc_status == 0);
    }
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *context)
{
    struct etcd_call *call = source->ptr;
    size_t n = call->body_len - call->body_sent;

    (void)session;
    (void)stream;
    (void)context;
    n = n < room ? n : room;
    memcpy(to, call->body + call->body_sent, n);
    call->body_sent += n;
    if (call->body_sent == call->body_len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

/* ---- Opening and closing ---- */

static void open_session(struct etcd_conn *conn)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 16 << 20},
                                         {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 1 << 16}};

    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    if (nghttp2_session_client_new(&conn->session, callbacks, conn) != 0) {
        abort();
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, 3);
    nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, 64 << 20);
}

bool etcd_conn_open(struct etcd_conn *conn, const struct sockaddr_in *address, int epoll_fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    int one = 1;

    conn->epoll_fd = epoll_fd;
    conn->writable_wanted = false;
    conn->out_len = conn->out_sent = 0;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0 || connect(conn->fd, (const void *)address, sizeof(*address)) != 0) {
        etcd_conn_close(conn);
        return false;
    }
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(conn->fd, F_SETFL, fcntl(conn->fd, F_GETFL) | O_NONBLOCK);
    snprintf(conn->authority, sizeof(conn->authority), "%s:%u", inet_ntoa(address->sin_addr),
             ntohs(address->sin_port));
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event);
    open_session(conn);
    return true;
}

void etcd_conn_close(struct etcd_conn *conn)
{
    if (conn->fd >= 0) {
        close(conn->fd);
    }
    conn->fd = -1;
    nghttp2_session_del(conn->session);
    conn->session = NULL;
    free(conn->out);
    conn->out = NULL;
    conn->out_cap = 0;
}

/* ---- Sending ---- */

static size_t put_varint(uint8_t *to, uint64_t number)
{
    size_t n = 0;

    for (; number >= 128; number >>= 7) {
        to[n++] = (uint8_t)(number | 128);
    }
    to[n++] = (uint8_t)number;
    return n;
}

static size_t put_bytes(uint8_t *to, unsigned field, const char *bytes, size_t len)
{
    size_t n = put_varint(to, field << 3 | 2);

    n += put_varint(to + n, len);
    memcpy(to + n, bytes, len);
    return n + len;
}

static void write_body(struct etcd_call *call)
{
    size_t room = call->key_len + call->value_len + 64, n;

    if (call->body_cap < room) {
        call->body = grow(call->body, room);
        call->body_cap = room;
    }
    n = put_bytes(call->body + 5, 1, call->key, call->key_len);
    if (!call->is_read) {
        n += put_bytes(call->body + 5 + n, 2, call->value, call->value_len);
    }
    call->body[0] = 0;
    for (unsigned i = 0; i < 4; i++) {
        call->body[1 + i] = (uint8_t)(n >> (24 - 8 * i));
    }
    call->body_len = n + 5;
    call->body_sent = 0;
    call->grpc_status = -1;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value),
                        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

void etcd_conn_submit(struct etcd_conn *conn, struct etcd_call *call)
{
    const char *path = call->is_read ? "/etcdserverpb.KV/Range" : "/etcdserverpb.KV/Put";
    nghttp2_nv headers[] = {header(":method", "POST"),
                            header(":scheme", "http"),
                            header(":path", path),
                            header(":authority", conn->authority),
                            header("content-type", "application/grpc"),
                            header("te", "trailers")};
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = read_body};

    write_body(call);
    if (nghttp2_submit_request(conn->session, NULL, headers, 6, &body, call) < 0) {
        abort();
    }
}

static void want_writable(struct etcd_conn *conn, bool wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.ptr = conn};

    if (conn->writable_wanted != wanted) {
        epoll_ctl(conn->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
        conn->writable_wanted = wanted;
    }
}

/* Sends what has gathered. 1: all of it; 0: the socket is full; -1: lost. */
static int send_out(struct etcd_conn *conn)
{
    while (conn->out_sent < conn->out_len) {
        ssize_t n = send(conn->fd, conn->out + conn->out_sent, conn->out_len - conn->out_sent,
                         MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            want_writable(conn, true);
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        conn->out_sent += n > 0 ? (size_t)n : 0;
    }
    conn->out_len = conn->out_sent = 0;
    want_writable(conn, false);
    return 1;
}

bool etcd_conn_flush(struct etcd_conn *conn)
{
    int sent = send_out(conn);

    while (sent == 1) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(conn->session, &bytes);

        if (n < 0) {
            return false;
        }
        if (n == 0) {
            return send_out(conn) >= 0;
        }
        if (conn->out_len + (size_t)n > conn->out_cap) {
            conn->out_cap = (conn->out_len + (size_t)n) * 2;
            conn->out = grow(conn->out, conn->out_cap);
        }
        memcpy(conn->out + conn->out_len, bytes, (size_t)n);
        conn->out_len += (size_t)n;
        if (conn->out_len > OUT_FLUSH) {
            sent = send_out(conn);
        }
    }
    return sent >= 0;
}

/* ---- Receiving ---- */

bool etcd_conn_turn(struct etcd_conn *conn, uint32_t events)
{
    uint8_t bytes[1 << 16];
    ssize_t n;

    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        n = recv(conn->fd, bytes, sizeof(bytes), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            return false;
        }
        if (n > 0 && nghttp2_session_mem_recv(conn->session, bytes, (size_t)n) < 0) {
            return false;
        }
    }
    return etcd_conn_flush(conn);
}

void etcd_call_fini(struct etcd_call *call)
{
    free(call->body);
    call->body = NULL;
    call->body_cap = 0;
}
