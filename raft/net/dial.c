#include "raft/net/dial.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct dial {
    struct mail mail;
    struct loop *loop;
    nng_stream_dialer *dialer; /* NULL if not even that could be made */
    nng_aio *aio;
    struct timer timeout;
    dial_done done; /* NULL: cancelled */
    void *owner;
    bool timed_out;
    const char *refusal; /* NULL: it was made */
    int error;           /* written before the mail is posted */
    nng_stream *stream;
};

/* On a thread of nng's. */
static void dial_completed(void *arg)
{
    struct dial *dial = arg;

    dial->error = nng_aio_result(dial->aio);
    dial->stream = dial->error == 0 ? nng_aio_get_output(dial->aio, 0) : NULL;
    mailbox_post(&dial->loop->mailbox, &dial->mail);
}

static void dial_free(struct mail *mail)
{
    struct dial *dial = (struct dial *)mail;

    nng_aio_free(dial->aio);
    if (dial->dialer != NULL) {
        nng_stream_dialer_close(dial->dialer);
        nng_stream_dialer_free(dial->dialer);
    }
    ASSERT(dial->loop->n_open > 0);
    dial->loop->n_open--;
    mem_free(dial);
}

static void dial_tell(const struct dial *dial)
{
    enum status status = ST_OK;
    const char *reason = "";

    if (dial->refusal != NULL) {
        status = ST_DENIED;
        reason = dial->refusal;
    } else if (dial->stream == NULL) {
        status = dial->timed_out                   ? ST_TIMEOUT
                 : dial->error == NNG_ECONNREFUSED ? ST_NOT_FOUND
                                                   : ST_UNAVAILABLE;
        reason = dial->timed_out ? "timed out" : nng_strerror(dial->error);
    }
    dial->done(dial->owner, dial->stream, status, reason);
}

static void dial_on_completed(struct mail *mail)
{
    struct dial *dial = (struct dial *)mail;

    timers_cancel(&dial->loop->timers, &dial->timeout);
    if (dial->done != NULL) {
        dial_tell(dial);
    } else if (dial->stream != NULL) {
        nng_stream_close(dial->stream);
        nng_stream_free(dial->stream);
    }
    dial->mail.run = dial_free;
    loop_leave_to_owner(dial->loop, &dial->mail);
}

static void dial_on_timeout(void *owner)
{
    struct dial *dial = owner;

    dial->timed_out = true;
    if (dial->dialer != NULL) {
        nng_stream_dialer_close(dial->dialer); /* completes the aio with an error */
    }
}

/* Small frames leave at once: with Nagle's algorithm the second one would wait for the other side's
 * delayed acknowledgement, 40 ms. ipc has no such option. */
static int dial_set_nodelay(nng_stream_dialer *dialer)
{
    int failed = nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true);

    return failed == NNG_ENOTSUP ? 0 : failed;
}

static struct dial *dial_create(struct loop *loop, dial_done done, void *owner)
{
    struct dial *dial = mem_zalloc(sizeof(*dial));

    dial->loop = loop;
    dial->mail.run = dial_on_completed;
    dial->timeout = (struct timer){.fired = dial_on_timeout, .owner = dial};
    dial->done = done;
    dial->owner = owner;
    loop->n_open++;
    ASSERT(nng_aio_alloc(&dial->aio, dial_completed, dial) == 0);
    return dial;
}

struct dial *dial_start(struct loop *loop, const struct tls *own, const char *url,
                        nng_tls_config *tls, uint32_t timeout_ms, dial_done done, void *owner)
{
    struct dial *dial = dial_create(loop, done, owner);

    if (tls_forbids(own, url)) {
        dial->refusal = TLS_FORBIDDEN;
        mailbox_post(&loop->mailbox, &dial->mail);
        return dial;
    }
    dial->error = nng_stream_dialer_alloc(&dial->dialer, url);
    if (dial->error == 0 && tls != NULL) {
        dial->error = nng_stream_dialer_set_ptr(dial->dialer, NNG_OPT_TLS_CONFIG, tls);
    }
    if (dial->error == 0) {
        dial->error = dial_set_nodelay(dial->dialer);
    }
    if (dial->error != 0) {
        mailbox_post(&loop->mailbox, &dial->mail);
        return dial;
    }
    timers_set(&loop->timers, &dial->timeout, loop->now_ms + timeout_ms);
    nng_stream_dialer_dial(dial->dialer, dial->aio);
    return dial;
}

void dial_cancel(struct dial **dial_pointer)
{
    struct dial *dial = *dial_pointer;

    *dial_pointer = NULL;
    if (dial == NULL) {
        return;
    }
    dial->done = NULL;
    timers_cancel(&dial->loop->timers, &dial->timeout);
    if (dial->dialer != NULL) {
        nng_stream_dialer_close(dial->dialer);
    }
}
