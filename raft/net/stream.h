/* stream: one connected byte stream of nng, used by the rules that keep nng 1.5.2 alive.
 *
 * Everything here runs on the loop thread; a receive's callback only posts a mail, and a send has
 * none. One receive and one send are outstanding at most. Both are submitted by the loop thread
 * only, and so is the close: `closing` is set before nng_stream_close and nothing is submitted
 * after it. (In nng 1.5.2 an operation submitted after the close of a TLS stream is never
 * completed.) A closed stream has no owner any more and frees itself once its last callback was
 * heard of.
 */
#ifndef RAFT_NET_STREAM_H
#define RAFT_NET_STREAM_H

#include <nng/nng.h>

#include "raft/net/loop.h"
#include "raft/util/bytes.h"
#include "raft/util/status.h"

#define STREAM_NAME_BYTES 64

struct stream;

/* What the owner is told. It may close the stream from each of them. */
struct stream_events {
    void (*received)(void *owner, size_t n); /* so many more bytes are in stream_input */
    void (*sent)(void *owner); /* stream_send had to wait for room; now all is on its way */
    /* By the other side or the network: ST_UNAVAILABLE; or TLS refused, ST_DENIED: we the other
     * side, or it us (by_remote). */
    void (*broken)(void *owner, enum status status, const char *reason, bool by_remote);
};

/* Takes the nng stream over. max_input: how large the input may grow. */
struct stream *stream_create(struct loop *loop, nng_stream *nng, size_t max_input,
                             const struct stream_events *events, void *owner);
/* Clears the pointer. No event follows. */
void stream_close(struct stream **stream);

/* Asks for more bytes; asked already: nothing. There must be room: what is consumed makes some. */
void stream_receive(struct stream *stream);
/* The bytes received and not consumed yet; valid until the next stream_receive. */
struct slice stream_input(const struct stream *stream);
void stream_consume(struct stream *stream, size_t n);

bool stream_is_sending(const struct stream *stream);
/* Sends the bytes, taken over; nothing may be on its way already. True: all went to the kernel, and
 * the next may be sent. False: `sent` or `broken` follows. */
bool stream_send(struct stream *stream, struct buf *bytes);

/* "host:port" of the other side, or "?", or "local". */
void stream_remote_name(nng_stream *stream, char name[STREAM_NAME_BYTES]);
/* The host alone. */
void stream_remote_host(nng_stream *stream, char host[STREAM_NAME_BYTES]);

#endif
