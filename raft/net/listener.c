#include "raft/net/listener.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define LISTENER_PAUSE_MS 20
#define LISTENER_AGAIN_MS 60000 /* a failure that lasts is told again after it */
#define LISTENER_QUEUE    4096  /* connections that wait to be accepted; the kernel may have less */
#define LISTENER_MAX_FD   4096  /* its own is lower: a process listens when it starts */

struct listener {
    struct mail mail;
    struct loop *loop;
    nng_stream_listener *nng;
    nng_aio *aio;
    struct timer pause;
    listener_accepted accepted;
    void *owner;
    bool pending; /* an accept is submitted, and its mail not run yet */
    bool closing; /* nothing is submitted any more */
    int error;
    nng_stream *stream;
    int told_error;   /* the failure that was told last, */
    uint64_t told_ms; /* and when; 0: none */
};

/* On a thread of nng's. */
static void listener_completed(void *arg)
{
    struct listener *listener = arg;

    listener->error = nng_aio_result(listener->aio);
    listener->stream = listener->error == 0 ? nng_aio_get_output(listener->aio, 0) : NULL;
    mailbox_post(&listener->loop->mailbox, &listener->mail);
}

static void listener_free(struct mail *mail)
{
    struct listener *listener = (struct listener *)mail;

    nng_aio_free(listener->aio);
    nng_stream_listener_free(listener->nng);
    ASSERT(listener->loop->n_open > 0);
    listener->loop->n_open--;
    mem_free(listener);
}

static void listener_end(struct listener *listener)
{
    listener->mail.run = listener_free;
    loop_leave_to_owner(listener->loop, &listener->mail);
}

static void listener_accept(void *owner)
{
    struct listener *listener = owner;

    ASSERT(!listener->closing && !listener->pending);
    listener->pending = true;
    nng_stream_listener_accept(listener->nng, listener->aio);
}

/* Without descriptors each attempt fails, fifty times a second: said once a minute. */
static void listener_on_failed(struct listener *listener)
{
    struct loop *loop = listener->loop;

    if (listener->told_ms == 0 || listener->told_error != listener->error ||
        loop->now_ms >= listener->told_ms + LISTENER_AGAIN_MS) {
        listener->told_error = listener->error;
        listener->told_ms = loop->now_ms;
        trace_warn(loop->trace, "accept failed error=\"%s\"", nng_strerror(listener->error));
    }
    timers_set(&loop->timers, &listener->pause, loop->now_ms + LISTENER_PAUSE_MS);
}

static void listener_on_accepted(struct mail *mail)
{
    struct listener *listener = (struct listener *)mail;

    listener->pending = false;
    if (listener->closing) {
        if (listener->stream != NULL) {
            nng_stream_close(listener->stream);
            nng_stream_free(listener->stream);
        }
        listener_end(listener);
        return;
    }
    if (listener->error != 0) {
        listener_on_failed(listener);
        return;
    }
    listener->accepted(listener->owner, listener->stream);
    listener_accept(listener);
}

static enum status listener_fail(const char *url, int nng_error, char *error)
{
    snprintf(error, 256, "cannot listen on %s: %s", url, nng_strerror(nng_error));
    switch (nng_error) {
    case NNG_EADDRINUSE:
        return ST_IN_USE;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
    case NNG_ENOTSUP:
    case NNG_ENOENT: /* ipc: no such directory */
    case NNG_EPERM:
        return ST_INVALID;
    default:
        return ST_IO;
    }
}

static int socket_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        return -1;
    }
    switch (address.ss_family) {
    case AF_INET:
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    case AF_INET6:
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    default:
        return -1;
    }
}

/* nng lets 128 connections wait to be accepted, always. When all clients dial anew at once, after a
 * failure, the kernel drops the rest: they try again a second later, or are reset. nng does not
 * show the socket either: it is the one that listens on that port. */
static void listener_lengthen_queue(nng_stream_listener *nng)
{
    int port, listens;

    if (nng_stream_listener_get_int(nng, NNG_OPT_TCP_BOUND_PORT, &port) != 0) {
        return; /* not TCP: who dials waits for its turn */
    }
    for (int fd = 0; fd < LISTENER_MAX_FD; fd++) {
        socklen_t len = sizeof(listens);

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens != 0 &&
            socket_port(fd) == port) {
            listen(fd, LISTENER_QUEUE);
            return;
        }
    }
}

enum status listener_open(struct loop *loop, const char *url, nng_tls_config *tls,
                          listener_accepted accepted, void *owner, struct listener **out,
                          char *error)
{
    nng_stream_listener *nng;
    struct listener *listener;
    int failed = nng_stream_listener_alloc(&nng, url);

    if (failed != 0) {
        return listener_fail(url, failed, error);
    }
    if (tls != NULL) {
        failed = nng_stream_listener_set_ptr(nng, NNG_OPT_TLS_CONFIG, tls);
    }
    if (failed == 0) {
        /* As in dial.c, for what is sent on accepted connections. */
        failed = nng_stream_listener_set_bool(nng, NNG_OPT_TCP_NODELAY, true);
        failed = failed == NNG_ENOTSUP ? 0 : failed;
    }
    if (failed == 0) {
        failed = nng_stream_listener_listen(nng);
    }
    if (failed != 0) {
        nng_stream_listener_free(nng);
        return listener_fail(url, failed, error);
    }
    listener_lengthen_queue(nng);
    listener = mem_zalloc(sizeof(*listener));
    listener->mail.run = listener_on_accepted;
    listener->loop = loop;
    listener->nng = nng;
    listener->pause = (struct timer){.fired = listener_accept, .owner = listener};
    listener->accepted = accepted;
    listener->owner = owner;
    ASSERT(nng_aio_alloc(&listener->aio, listener_completed, listener) == 0);
    loop->n_open++;
    *out = listener;
    return ST_OK;
}

void listener_start(struct listener *listener)
{
    if (!listener->pending && listener->pause.place == 0) {
        listener_accept(listener);
    }
}

void listener_close(struct listener **listener_pointer)
{
    struct listener *listener = *listener_pointer;

    *listener_pointer = NULL;
    if (listener == NULL) {
        return;
    }
    listener->closing = true;
    timers_cancel(&listener->loop->timers, &listener->pause);
    nng_stream_listener_close(listener->nng);
    if (!listener->pending) {
        listener_end(listener);
    }
}
