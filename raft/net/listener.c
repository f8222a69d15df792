#include "raft/net/listener.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define LISTENER_PAUSE_MS 20
#define LISTENER_AGAIN_MS 60000 /* a failure that lasts is told again after it */
#define LISTENER_QUEUE    4096  /* connections that wait to be accepted; the kernel may have less */
#define LISTENER_HOLD_MS  200   /* for so long the owner may have no place for a connection */
#define LISTENER_MAX_FD   4096  /* its own is lower: a process listens when it starts */

/* One accept of nng's after the other. Where there was one alone, one connection came in a turn:
 * who dialled anew while turns were long waited for seconds behind those that dialled before it. */
struct accept {
    struct mail mail;
    struct listener *listener;
    nng_aio *aio;
    bool pending; /* submitted, and its mail not run yet */
    int error;
    nng_stream *stream;     /* that the owner has not taken over yet */
    uint64_t hold_until_ms; /* while it has no place */
};

struct listener {
    struct mail mail;
    struct loop *loop;
    nng_stream_listener *nng;
    struct accept *accepts;
    uint32_t n_accepts;
    uint32_t n_pending;
    struct timer pause;
    listener_accepted accepted;
    void *owner;
    bool closing;     /* nothing is submitted any more */
    int told_error;   /* the failure that was told last, */
    uint64_t told_ms; /* and when; 0: none */
};

/* On a thread of nng's. */
static void accept_completed(void *arg)
{
    struct accept *accept = arg;

    accept->error = nng_aio_result(accept->aio);
    accept->stream = accept->error == 0 ? nng_aio_get_output(accept->aio, 0) : NULL;
    mailbox_post(&accept->listener->loop->mailbox, &accept->mail);
}

static void accept_submit(struct accept *accept)
{
    ASSERT(!accept->listener->closing && !accept->pending);
    accept->pending = true;
    accept->listener->n_pending++;
    nng_stream_listener_accept(accept->listener->nng, accept->aio);
}

static void listener_free(struct mail *mail)
{
    struct listener *listener = (struct listener *)mail;

    for (uint32_t i = 0; i < listener->n_accepts; i++) {
        nng_aio_free(listener->accepts[i].aio);
    }
    mem_free(listener->accepts);
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

/* Without descriptors each attempt fails, fifty times a second: said once a minute. */
static void listener_on_failed(struct listener *listener, int error)
{
    struct loop *loop = listener->loop;

    if (listener->told_ms == 0 || listener->told_error != error ||
        loop->now_ms >= listener->told_ms + LISTENER_AGAIN_MS) {
        listener->told_error = error;
        listener->told_ms = loop->now_ms;
        trace_warn(loop->trace, "accept failed error=\"%s\"", nng_strerror(error));
    }
    timers_set(&loop->timers, &listener->pause, loop->now_ms + LISTENER_PAUSE_MS);
}

static void accept_drop(struct accept *accept)
{
    if (accept->stream != NULL) {
        nng_stream_close(accept->stream);
        nng_stream_free(accept->stream);
    }
}

/* Gives the connection to the owner, and accepts the next one. */
static void accept_pass_on(struct accept *accept)
{
    struct listener *listener = accept->listener;
    struct loop *loop = listener->loop;
    nng_stream *stream = accept->stream;

    if (!listener->accepted(listener->owner, stream, loop->now_ms < accept->hold_until_ms)) {
        timers_set(&loop->timers, &listener->pause, loop->now_ms + LISTENER_PAUSE_MS);
        return;
    }
    accept->stream = NULL;
    accept_submit(accept);
}

static void accept_ended(struct mail *mail)
{
    struct accept *accept = (struct accept *)mail;
    struct listener *listener = accept->listener;

    accept->pending = false;
    listener->n_pending--;
    if (listener->closing) {
        accept_drop(accept);
        if (listener->n_pending == 0) {
            listener_end(listener);
        }
    } else if (accept->error != 0) {
        listener_on_failed(listener, accept->error);
    } else {
        accept->hold_until_ms = listener->loop->now_ms + LISTENER_HOLD_MS;
        accept_pass_on(accept);
    }
}

static void listener_accept(void *owner)
{
    struct listener *listener = owner;

    for (uint32_t i = 0; i < listener->n_accepts; i++) {
        struct accept *accept = &listener->accepts[i];

        if (accept->pending) {
            continue; /* a thread of nng's may be writing to it */
        }
        if (accept->stream != NULL) {
            accept_pass_on(accept);
        } else {
            accept_submit(accept);
        }
    }
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

enum status listener_open(struct loop *loop, const char *url, nng_tls_config *tls, uint32_t at_once,
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
    listener->accepts = mem_zalloc(at_once * sizeof(listener->accepts[0]));
    listener->n_accepts = at_once;
    listener->loop = loop;
    listener->nng = nng;
    listener->pause = (struct timer){.fired = listener_accept, .owner = listener};
    listener->accepted = accepted;
    listener->owner = owner;
    for (uint32_t i = 0; i < listener->n_accepts; i++) {
        struct accept *accept = &listener->accepts[i];

        accept->mail.run = accept_ended;
        accept->listener = listener;
        ASSERT(nng_aio_alloc(&accept->aio, accept_completed, accept) == 0);
    }
    loop->n_open++;
    *out = listener;
    return ST_OK;
}

void listener_start(struct listener *listener)
{
    if (listener->pause.place == 0) {
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
    for (uint32_t i = 0; i < listener->n_accepts; i++) {
        if (!listener->accepts[i].pending) {
            accept_drop(&listener->accepts[i]);
        }
    }
    nng_stream_listener_close(listener->nng);
    if (listener->n_pending == 0) {
        listener_end(listener);
    }
}
