#include "raft/net/stream.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "raft/net/tls_engine.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STREAM_FIRST_INPUT 4096

/* One operation at a time of one kind, and its way from nng's thread to the loop. */
struct stream_operation {
    struct mail mail;
    struct stream *stream;
    nng_aio *aio;
    bool pending; /* submitted, and its mail not run yet */
    int error;    /* written by the callback, read by the mail: the mailbox orders them */
    size_t count;
};

struct stream {
    struct loop *loop;
    nng_stream *nng;
    const struct stream_events *events;
    void *owner;
    bool closing;
    struct stream_operation receive, send;

    uint8_t *in; /* bytes [in_begin, in_end) are received and not consumed */
    size_t in_begin, in_end, in_capacity, in_max;

    struct buf out; /* being sent; bytes below out_sent are */
    size_t out_sent;
};

/* On a thread of nng's. */
static void stream_completed(void *arg)
{
    struct stream_operation *operation = arg;

    operation->error = nng_aio_result(operation->aio);
    operation->count = nng_aio_count(operation->aio);
    mailbox_post(&operation->stream->loop->mailbox, &operation->mail);
}

static void stream_operation_init(struct stream_operation *operation, struct stream *stream,
                                  void (*run)(struct mail *mail))
{
    operation->mail.run = run;
    operation->stream = stream;
    ASSERT(nng_aio_alloc(&operation->aio, stream_completed, operation) == 0);
    nng_aio_set_timeout(operation->aio, NNG_DURATION_INFINITE);
}

static void stream_free_if_done(struct stream *stream)
{
    if (!stream->closing || stream->receive.pending || stream->send.pending) {
        return;
    }
    nng_aio_free(stream->receive.aio); /* waits for the last callback's return */
    nng_aio_free(stream->send.aio);
    nng_stream_free(stream->nng);
    ASSERT(stream->loop->n_open > 0);
    stream->loop->n_open--;
    mem_free(stream->in);
    buf_fini(&stream->out);
    mem_free(stream);
}

void stream_close(struct stream **stream_pointer)
{
    struct stream *stream = *stream_pointer;

    *stream_pointer = NULL;
    if (stream == NULL) {
        return;
    }
    ASSERT(!stream->closing);
    stream->closing = true;
    stream->owner = NULL;
    nng_stream_close(stream->nng);
    stream_free_if_done(stream);
}

static void stream_submit(struct stream_operation *operation, void *data, size_t len,
                          void (*start)(nng_stream *, nng_aio *))
{
    nng_iov iov = {.iov_buf = data, .iov_len = len};

    ASSERT(!operation->stream->closing && !operation->pending && len > 0);
    ASSERT(nng_aio_set_iov(operation->aio, 1, &iov) == 0);
    operation->pending = true;
    start(operation->stream->nng, operation->aio);
}

static void stream_tell_broken(struct stream *stream, int error)
{
    char reason[TLS_ENGINE_REASON_BYTES];
    bool by_remote = false;

    if (tls_engine_failure(stream->nng, reason, &by_remote)) {
        stream->events->broken(stream->owner, ST_DENIED, reason, by_remote);
    } else {
        stream->events->broken(stream->owner, ST_UNAVAILABLE,
                               error != 0 ? nng_strerror(error) : "closed by the other side",
                               false);
    }
}

/* After an operation: true if the stream was closed, or is broken, which is told. It may be gone.
 */
static bool stream_has_ended(struct stream_operation *operation, bool broken)
{
    struct stream *stream = operation->stream;

    operation->pending = false;
    if (stream->closing) {
        stream_free_if_done(stream);
        return true;
    }
    if (broken) {
        stream_tell_broken(stream, operation->error);
    }
    return broken;
}

static void stream_on_received(struct mail *mail)
{
    struct stream_operation *operation = (struct stream_operation *)mail;
    struct stream *stream = operation->stream;

    if (stream_has_ended(operation, operation->error != 0 || operation->count == 0)) {
        return;
    }
    ASSERT(operation->count <= stream->in_capacity - stream->in_end);
    stream->in_end += operation->count;
    stream->events->received(stream->owner, operation->count);
}

static void stream_send_rest(struct stream *stream)
{
    stream_submit(&stream->send, stream->out.data + stream->out_sent,
                  stream->out.len - stream->out_sent, nng_stream_send);
}

static void stream_on_sent(struct mail *mail)
{
    struct stream_operation *operation = (struct stream_operation *)mail;
    struct stream *stream = operation->stream;

    if (stream_has_ended(operation, operation->error != 0)) {
        return;
    }
    stream->out_sent += operation->count;
    ASSERT(stream->out_sent <= stream->out.len);
    if (stream->out_sent < stream->out.len) {
        stream_send_rest(stream);
        return;
    }
    buf_fini(&stream->out);
    stream->events->sent(stream->owner);
}

struct stream *stream_create(struct loop *loop, nng_stream *nng, size_t max_input,
                             const struct stream_events *events, void *owner)
{
    struct stream *stream = mem_zalloc(sizeof(*stream));

    ASSERT(max_input >= STREAM_FIRST_INPUT);
    stream->loop = loop;
    stream->nng = nng;
    stream->events = events;
    stream->owner = owner;
    stream->in_max = max_input;
    stream_operation_init(&stream->receive, stream, stream_on_received);
    stream_operation_init(&stream->send, stream, stream_on_sent);
    loop->n_open++;
    return stream;
}

/* Makes room behind the input: moves it to the front, and doubles the memory when it is full;
 * halves it when little came last time. So memory follows the bytes that really come, not a length
 * that somebody wrote. */
static void stream_make_room(struct stream *stream)
{
    size_t unread = stream->in_end - stream->in_begin;

    if (stream->in_begin > 0) {
        memmove(stream->in, stream->in + stream->in_begin, unread);
        stream->in_begin = 0;
        stream->in_end = unread;
    }
    if (unread == 0 && stream->in_capacity > 4 * STREAM_FIRST_INPUT &&
        stream->receive.count < stream->in_capacity / 8) {
        stream->in_capacity /= 2;
        mem_free(stream->in);
        stream->in = mem_alloc(stream->in_capacity);
    }
    if (stream->in_end == stream->in_capacity) {
        size_t capacity = stream->in_capacity == 0 ? STREAM_FIRST_INPUT : 2 * stream->in_capacity;

        stream->in_capacity = capacity < stream->in_max ? capacity : stream->in_max;
        stream->in = mem_realloc(stream->in, stream->in_capacity);
    }
    ASSERT(stream->in_end < stream->in_capacity);
}

void stream_receive(struct stream *stream)
{
    if (stream->receive.pending) {
        return;
    }
    stream_make_room(stream);
    stream_submit(&stream->receive, stream->in + stream->in_end,
                  stream->in_capacity - stream->in_end, nng_stream_recv);
}

struct slice stream_input(const struct stream *stream)
{
    return slice_of(stream->in + stream->in_begin, stream->in_end - stream->in_begin);
}

void stream_consume(struct stream *stream, size_t n)
{
    ASSERT(n <= stream->in_end - stream->in_begin);
    stream->in_begin += n;
}

bool stream_is_sending(const struct stream *stream)
{
    return stream->send.pending;
}

void stream_send(struct stream *stream, struct buf *bytes)
{
    ASSERT(stream->out.len == 0 && bytes->len > 0);
    stream->out = buf_take(bytes);
    stream->out_sent = 0;
    stream_send_rest(stream);
}

/* The port, or -1: it has none. */
static int remote_address(nng_stream *nng, char host[STREAM_NAME_BYTES])
{
    nng_sockaddr address;

    snprintf(host, STREAM_NAME_BYTES, "?");
    if (nng_stream_get_addr(nng, NNG_OPT_REMADDR, &address) != 0) {
        return -1;
    }
    if (address.s_family == NNG_AF_INET) {
        inet_ntop(AF_INET, &address.s_in.sa_addr, host, STREAM_NAME_BYTES);
        return ntohs(address.s_in.sa_port);
    }
    if (address.s_family == NNG_AF_INET6) {
        char text[INET6_ADDRSTRLEN] = "?";

        inet_ntop(AF_INET6, address.s_in6.sa_addr, text, sizeof(text));
        snprintf(host, STREAM_NAME_BYTES, "[%s]", text);
        return ntohs(address.s_in6.sa_port);
    }
    snprintf(host, STREAM_NAME_BYTES, "local");
    return -1;
}

void stream_remote_host(nng_stream *stream, char host[STREAM_NAME_BYTES])
{
    (void)remote_address(stream, host);
}

void stream_remote_name(nng_stream *stream, char name[STREAM_NAME_BYTES])
{
    char host[STREAM_NAME_BYTES];
    int port = remote_address(stream, host);

    if (port < 0) {
        snprintf(name, STREAM_NAME_BYTES, "%s", host);
    } else {
        snprintf(name, STREAM_NAME_BYTES, "%.50s:%u", host, (unsigned)port & 0xffff);
    }
}
