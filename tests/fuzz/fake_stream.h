/* A stand-in for raft/net/stream.c, for targets that are whole connections: the bytes that come are
 * the script's, those that leave are kept for a look. Included by the one file of the target.
 *
 * What was received is copied into memory of just its size at every turn, so that AddressSanitizer
 * sees whoever keeps a slice of it for too long. */
#ifndef TESTS_FUZZ_FAKE_STREAM_H
#define TESTS_FUZZ_FAKE_STREAM_H

#include <stdio.h>

#include "raft/net/stream.h"
#include "tests/fuzz/fuzz.h"

struct stream {
    struct fake_end *end;
    const struct stream_events *events;
    void *owner;
    size_t max_input;
    uint8_t *in;
    size_t in_len;
    bool wants; /* more bytes */
    bool sending;
};

/* The other side of a stream, which outlives it. It is what the target hands over as nng_stream. */
struct fake_end {
    struct stream *stream; /* NULL: not made yet, or closed */
    bool closed;
    bool stalls;     /* takes what is sent only when fake_end_sent says so */
    struct buf sent; /* all of it */
};

struct stream *stream_create(struct loop *loop, nng_stream *nng, size_t max_input,
                             const struct stream_events *events, void *owner)
{
    struct stream *stream = mem_zalloc(sizeof(*stream));

    (void)loop;
    stream->end = (struct fake_end *)nng;
    stream->events = events;
    stream->owner = owner;
    stream->max_input = max_input;
    ASSERT(stream->end->stream == NULL && !stream->end->closed);
    stream->end->stream = stream;
    return stream;
}

void stream_close(struct stream **pointer)
{
    struct stream *stream = *pointer;

    *pointer = NULL;
    if (stream == NULL) {
        return;
    }
    stream->end->stream = NULL;
    stream->end->closed = true;
    mem_free(stream->in);
    mem_free(stream);
}

void stream_receive(struct stream *stream)
{
    ASSERT(stream->in_len < stream->max_input); /* there must be room */
    stream->wants = true;
}

struct slice stream_input(const struct stream *stream)
{
    return slice_of(stream->in, stream->in_len);
}

void stream_consume(struct stream *stream, size_t n)
{
    ASSERT(n <= stream->in_len);
    stream->in_len -= n;
    memmove(stream->in, stream->in + n, stream->in_len);
}

bool stream_is_sending(const struct stream *stream)
{
    return stream->sending;
}

bool stream_send(struct stream *stream, struct buf *bytes)
{
    ASSERT(!stream->sending && bytes->len > 0);
    stream->sending = stream->end->stalls;
    buf_put_slice(&stream->end->sent, buf_slice(bytes));
    buf_fini(bytes);
    return !stream->sending;
}

void stream_remote_name(nng_stream *stream, char name[STREAM_NAME_BYTES])
{
    (void)stream;
    snprintf(name, STREAM_NAME_BYTES, "fuzz:1");
}

void stream_remote_host(nng_stream *stream, char host[STREAM_NAME_BYTES])
{
    (void)stream;
    snprintf(host, STREAM_NAME_BYTES, "fuzz");
}

/* ---- For the target ---- */

/* Lets at most `len` of the bytes come, as many as there is room for; how many came. */
static inline size_t fake_end_deliver(struct fake_end *end, struct slice bytes, size_t len)
{
    struct stream *stream = end->stream;
    size_t room;
    uint8_t *in;

    if (stream == NULL || !stream->wants || bytes.len == 0) {
        return 0;
    }
    room = stream->max_input - stream->in_len;
    len = len < bytes.len ? len : bytes.len;
    len = len < room ? len : room;
    in = mem_alloc(stream->in_len + len);
    if (stream->in_len > 0) {
        memcpy(in, stream->in, stream->in_len);
    }
    memcpy(in + stream->in_len, bytes.data, len);
    mem_free(stream->in);
    stream->in = in;
    stream->in_len += len;
    stream->wants = false;
    stream->events->received(stream->owner, len);
    return len;
}

/* What was being sent has left. */
static inline void fake_end_sent(struct fake_end *end)
{
    if (end->stream != NULL && end->stream->sending) {
        end->stream->sending = false;
        end->stream->events->sent(end->stream->owner);
    }
}

static inline void fake_end_break(struct fake_end *end)
{
    if (end->stream != NULL) {
        end->stream->events->broken(end->stream->owner, ST_UNAVAILABLE, "broken by the script",
                                    false);
    }
}

#endif
