#include "raft/net/stream.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "raft/net/tls_engine.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STREAM_FIRST_INPUT 4096
#define STREAM_MAX_LOOK_MS 16 /* between two looks at a send that waits for room */

/* A receive, one at a time: its callback runs on a thread of nng's and posts the mail. */
struct stream_receive {
    struct mail mail;
    struct stream *stream;
    nng_aio *aio;
    bool pending; /* submitted, and its mail not run yet */
    int error;    /* written by the callback, read by the mail: the mailbox orders them */
    size_t count;
};

/* A send, one at a time. nng hands the bytes to the kernel within nng_stream_send, as long as there
 * is room in the socket; a callback would cost a way over another thread each time, to say that it
 * is done already. So there is none: nng carries such an operation out in place, and a send that
 * found no room is looked at again a little later. */
struct stream_send {
    nng_aio *aio;
    bool pending;      /* submitted, and not seen to be done */
    struct timer look; /* when to look at it again */
    uint32_t pause_ms; /* and the pause after that */
    struct buf out;    /* what is being sent; the bytes below `done` are */
    size_t done;
};

struct stream {
    struct loop *loop;
    nng_stream *nng;
    const struct stream_events *events;
    void *owner;
    bool closing;
    struct stream_receive receive;
    struct stream_send send;

    uint8_t *in; /* bytes [in_begin, in_end) are received and not consumed */
    size_t in_begin, in_end, in_capacity, in_max;
};

/* On a thread of nng's. */
static void stream_receive_completed(void *arg)
{
    struct stream_receive *receive = arg;

    receive->error = nng_aio_result(receive->aio);
    receive->count = nng_aio_count(receive->aio);
    loop_bring(receive->stream->loop, &receive->mail, true);
}

static void stream_free(struct mail *mail)
{
    struct stream *stream = ((struct stream_receive *)mail)->stream;

    nng_aio_free(stream->receive.aio); /* waits for the last callback's return */
    nng_aio_free(stream->send.aio);    /* the close ended it */
    nng_stream_free(stream->nng);
    ASSERT(stream->loop->n_open > 0);
    stream->loop->n_open--;
    mem_free(stream->in);
    buf_fini(&stream->send.out);
    mem_free(stream);
}

static void stream_free_if_done(struct stream *stream)
{
    if (!stream->closing || stream->receive.pending) {
        return;
    }
    stream->receive.mail.run = stream_free;
    loop_leave_to_owner(stream->loop, &stream->receive.mail);
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
    timers_cancel(&stream->loop->timers, &stream->send.look);
    nng_stream_close(stream->nng);
    stream_free_if_done(stream);
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

static void stream_on_received(struct mail *mail)
{
    struct stream_receive *receive = (struct stream_receive *)mail;
    struct stream *stream = receive->stream;

    receive->pending = false;
    if (stream->closing) {
        stream_free_if_done(stream);
        return;
    }
    if (receive->error != 0 || receive->count == 0) {
        stream_tell_broken(stream, receive->error);
        return;
    }
    ASSERT(receive->count <= stream->in_capacity - stream->in_end);
    stream->in_end += receive->count;
    stream->events->received(stream->owner, receive->count);
}

/* ---- Sending ---- */

static void stream_submit(struct stream *stream, nng_aio *aio, void *data, size_t len,
                          void (*start)(nng_stream *, nng_aio *))
{
    nng_iov iov = {.iov_buf = data, .iov_len = len};

    ASSERT(!stream->closing && len > 0);
    ASSERT(nng_aio_set_iov(aio, 1, &iov) == 0);
    start(stream->nng, aio);
}

/* Whether the operation is done. nng 1.5.2 cannot be asked that without waiting, but begins each
 * with a count and a result of 0 and sets one of them at its end. */
static bool stream_send_is_done(const struct stream_send *send)
{
    if (nng_aio_count(send->aio) == 0 && nng_aio_result(send->aio) == 0) {
        return false;
    }
    nng_aio_wait(send->aio); /* for the last steps of another thread */
    return true;
}

/* Sends on until all is sent (true), or there is no room or an error: the timer is set then. */
static bool stream_send_on(struct stream *stream)
{
    struct stream_send *send = &stream->send;

    for (;;) {
        if (!send->pending) {
            send->pending = true;
            stream_submit(stream, send->aio, send->out.data + send->done,
                          send->out.len - send->done, nng_stream_send);
        }
        if (!stream_send_is_done(send) || nng_aio_result(send->aio) != 0) {
            timers_set(&stream->loop->timers, &send->look, stream->loop->now_ms + send->pause_ms);
            return false;
        }
        send->pending = false;
        send->pause_ms = 1;
        send->done += nng_aio_count(send->aio);
        ASSERT(send->done <= send->out.len);
        if (send->done == send->out.len) {
            buf_fini(&send->out);
            return true;
        }
    }
}

static void stream_look_at_send(void *owner)
{
    struct stream *stream = owner;
    struct stream_send *send = &stream->send;

    ASSERT(!stream->closing && send->pending);
    if (stream_send_is_done(send) && nng_aio_result(send->aio) != 0) {
        stream_tell_broken(stream, nng_aio_result(send->aio));
        return;
    }
    send->pause_ms = send->pause_ms < STREAM_MAX_LOOK_MS ? 2 * send->pause_ms : STREAM_MAX_LOOK_MS;
    if (stream_send_on(stream)) {
        stream->events->sent(stream->owner);
    }
}

bool stream_is_sending(const struct stream *stream)
{
    return stream->send.pending;
}

bool stream_send(struct stream *stream, struct buf *bytes)
{
    struct stream_send *send = &stream->send;

    ASSERT(!send->pending && send->out.len == 0 && bytes->len > 0);
    send->out = buf_take(bytes);
    send->done = 0;
    send->pause_ms = 1;
    return stream_send_on(stream);
}

/* ---- Receiving ---- */

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
    stream->receive.mail.run = stream_on_received;
    stream->receive.stream = stream;
    stream->send.look = (struct timer){.fired = stream_look_at_send, .owner = stream};
    ASSERT(nng_aio_alloc(&stream->receive.aio, stream_receive_completed, &stream->receive) == 0);
    ASSERT(nng_aio_alloc(&stream->send.aio, NULL, NULL) == 0);
    nng_aio_set_timeout(stream->receive.aio, NNG_DURATION_INFINITE);
    nng_aio_set_timeout(stream->send.aio, NNG_DURATION_INFINITE);
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
    stream->receive.pending = true;
    stream_submit(stream, stream->receive.aio, stream->in + stream->in_end,
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
