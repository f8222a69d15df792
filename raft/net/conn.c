#include "raft/net/conn.h"

#include <stdio.h>

#include "raft/net/greeting.h"
#include "raft/net/net_internal.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define CONN_REFUSING_MS  500  /* how long a refused side may take to read the reason */
#define CONN_MAX_GREETING 1024 /* bytes of a HELLO or REFUSE */
#define CONN_MAX_INPUT    (FRAME_HEADER_BYTES + FRAME_MAX_BODY)

static struct loop *conn_loop(const struct conn *conn)
{
    return &conn->net->loop;
}

static void conn_mark_dirty(struct conn *conn)
{
    if (!conn->is_dirty && conn->state != CONN_FAILED) {
        conn->is_dirty = true;
        TAILQ_INSERT_TAIL(&conn->net->dirty, conn, dirty);
    }
}

static void conn_unmark_dirty(struct conn *conn)
{
    if (conn->is_dirty) {
        conn->is_dirty = false;
        TAILQ_REMOVE(&conn->net->dirty, conn, dirty);
    }
}

void conn_fail(struct conn *conn, enum status status, const char *reason)
{
    ASSERT(status != ST_OK);
    if (conn->state == CONN_FAILED) {
        return;
    }
    conn_unmark_dirty(conn);
    conn->net->stats.greetings_failed += conn->accepted && conn->state == CONN_GREETING;
    if (conn->state != CONN_REFUSING) { /* else the reason is that of the refusal */
        conn->status = status;
        snprintf(conn->reason, sizeof(conn->reason), "%s", reason);
    }
    conn->state = CONN_FAILED;
    TAILQ_INSERT_TAIL(&conn->net->failed, conn, failed);
}

/* ---- Keep-alive ---- */

/* The frame is made when the next send is. */
static void conn_put_ping(struct conn *conn)
{
    conn->ping_due = true;
    conn_mark_dirty(conn);
}

static void conn_put_pong(struct conn *conn)
{
    conn->pong_due = true;
    conn_mark_dirty(conn);
}

/* Whether we don't read because too much waits to be sent. */
static bool conn_is_paused(const struct conn *conn)
{
    return conn->pause_bytes > 0 && conn->send_queue.bytes >= conn->pause_bytes;
}

/* When an unfinished message will have got no further for too long, by the awake clock. */
static uint64_t conn_fragment_end_ms(const struct conn *conn)
{
    uint64_t since_ms = conn->fragment_pause_ms > 0 ? inbox_waits_since(&conn->inbox) : UINT64_MAX;

    return since_ms == UINT64_MAX ? UINT64_MAX : since_ms + conn->fragment_pause_ms;
}

static void conn_arm_timer(struct conn *conn)
{
    struct loop *loop = conn_loop(conn);
    uint64_t at_ms = conn->end_ms;

    if (conn->state == CONN_UP) {
        uint64_t silence_end_ms = conn->heard_ms + conn->silence_ms;
        uint64_t fragment_end_ms = conn_fragment_end_ms(conn);

        at_ms = loop_from_awake_ms(loop, fragment_end_ms < silence_end_ms ? fragment_end_ms
                                                                          : silence_end_ms);
        if (!conn->accepted && conn->sent_ms + conn->ping_ms < at_ms) {
            at_ms = conn->sent_ms + conn->ping_ms;
        }
    }
    if (conn->timer.place == 0 || conn->timer.at_ms > at_ms) { /* else it looks again earlier */
        timers_set(&loop->timers, &conn->timer, at_ms > loop->now_ms ? at_ms : loop->now_ms + 1);
    }
}

static void conn_on_timer(void *owner)
{
    struct conn *conn = owner;
    struct loop *loop = conn_loop(conn);

    if (conn->state == CONN_FAILED) {
        return;
    }
    if (conn->state != CONN_UP) {
        if (loop->now_ms >= conn->end_ms) {
            conn_fail(conn, ST_TIMEOUT,
                      conn->state == CONN_GREETING ? "no hello in time" : "refused");
            return;
        }
    } else if (loop_awake_ms(loop) >= conn->heard_ms + conn->silence_ms) {
        conn_fail(conn, ST_TIMEOUT, "silent for too long");
        return;
    } else if (loop_awake_ms(loop) >= conn_fragment_end_ms(conn)) {
        conn_fail(conn, ST_TIMEOUT, "a message was left unfinished for too long");
        return;
    } else if (!conn->accepted && loop->now_ms >= conn->sent_ms + conn->ping_ms) {
        conn_put_ping(conn);
        conn->sent_ms = loop->now_ms; /* due again after another pause, even if it can't leave */
    }
    conn_arm_timer(conn);
}

void conn_set_keep_alive(struct conn *conn, uint32_t ping_ms, uint32_t silence_ms)
{
    conn->ping_ms = ping_ms;
    conn->silence_ms = silence_ms;
    conn->heard_ms = loop_awake_ms(conn_loop(conn));
    if (conn->state == CONN_UP) {
        conn_arm_timer(conn);
    }
}

/* ---- Receiving ---- */

void conn_enter_up(struct conn *conn)
{
    ASSERT(conn->state == CONN_GREETING);
    conn->state = CONN_UP;
    conn->was_up = true;
    handshake_fini(&conn->handshake);
    conn->heard_ms = loop_awake_ms(conn_loop(conn));
    conn->sent_ms = conn_loop(conn)->now_ms;
    conn_arm_timer(conn);
    conn->events->up(conn);
}

void conn_put_greeting(struct conn *conn, enum frame_kind kind, struct slice body)
{
    send_queue_put_control(&conn->send_queue, kind, body);
    conn_mark_dirty(conn);
}

void conn_refuse(struct conn *conn, enum status status, const char *reason)
{
    struct buf body = {0};

    conn->net->stats.refused++;
    conn->net->stats.refused_hello[status < NET_STATUSES ? status : ST_INVALID]++;
    refuse_encode(status, reason, &body);
    conn_put_greeting(conn, FRAME_REFUSE, buf_slice(&body));
    buf_fini(&body);
    conn->status = status;
    snprintf(conn->reason, sizeof(conn->reason), "%s", reason);
    conn->state = CONN_REFUSING;
    conn->end_ms = conn_loop(conn)->now_ms + CONN_REFUSING_MS;
    conn_arm_timer(conn);
}

void conn_malformed(struct conn *conn, const char *what)
{
    conn->net->stats.malformed++;
    conn_fail(conn, ST_MALFORMED, what);
}

static void conn_on_batch(struct conn *conn, struct slice body)
{
    struct reader reader = reader_of(body);
    uint32_t group;
    uint8_t type;
    struct slice message;

    while (conn->state == CONN_UP && frame_next_message(&reader, &group, &type, &message)) {
        conn->net->stats.messages_in++;
        conn->events->message(conn, group, type, message);
    }
    if (!reader_ok(&reader)) {
        conn_malformed(conn, "malformed batch");
    }
}

static void conn_on_fragment(struct conn *conn, struct slice body)
{
    struct frame_fragment fragment;
    struct inbox_message message;
    bool finished;
    enum status status;

    if (!frame_decode_fragment(body, &fragment)) {
        conn_malformed(conn, "malformed fragment");
        return;
    }
    status =
        inbox_receive(&conn->inbox, &fragment, loop_awake_ms(conn_loop(conn)), &finished, &message);
    if (status == ST_MALFORMED) {
        conn_malformed(conn, "a fragment out of order");
    } else if (status != ST_OK) {
        conn_fail(conn, status, "too many bytes of unfinished messages");
    } else if (finished) {
        conn->net->stats.messages_in++;
        conn->events->message(conn, message.group, message.type,
                              slice_of(message.bytes, message.total));
        inbox_release(&message);
    } else {
        conn_arm_timer(conn);
    }
}

/* A PING, whose stamp goes back, or the PONG that brings one back. */
static void conn_on_stamp(struct conn *conn, const struct frame *frame)
{
    uint64_t stamp;

    if (frame->body.len != 8) {
        conn_malformed(conn, "malformed ping");
        return;
    }
    stamp = get_u64(frame->body.data);
    if (frame->kind == FRAME_PING) {
        conn->pong_stamp = stamp; /* one answer for all that wait */
        conn_put_pong(conn);
    } else if (stamp > conn->read_bytes && stamp <= conn->sent_bytes) {
        conn->read_bytes = stamp;
        conn_mark_dirty(conn);
    }
}

static void conn_on_frame(struct conn *conn, const struct frame *frame)
{
    conn->net->stats.frames_in++;
    if (conn->state == CONN_GREETING) {
        greeting_on_frame(conn, frame);
        return;
    }
    switch (frame->kind) {
    case FRAME_BATCH:
        conn_on_batch(conn, frame->body);
        return;
    case FRAME_FRAGMENT:
        conn_on_fragment(conn, frame->body);
        return;
    case FRAME_PING:
    case FRAME_PONG:
        conn_on_stamp(conn, frame);
        return;
    case FRAME_REFUSE:
        greeting_on_refuse(conn, frame->body);
        return;
    case FRAME_HELLO:
    case FRAME_PROOF:
        conn_malformed(conn, "a second hello");
        return;
    }
}

/* Handles all whole frames of the input. */
static void conn_decode(struct conn *conn)
{
    while (conn->state == CONN_GREETING || conn->state == CONN_UP) {
        struct frame frame;
        size_t taken, need;
        enum status reason;

        switch (frame_decode(stream_input(conn->stream), &frame, &taken, &need, &reason)) {
        case FRAME_NEED_MORE:
            if (conn->state == CONN_GREETING && need > CONN_MAX_GREETING) {
                conn_malformed(conn, "too long for a hello");
            }
            return;
        case FRAME_BAD:
            if (greeting_refuse_tls(conn)) {
                return;
            }
            if (reason == ST_VERSION && conn->state == CONN_GREETING) {
                conn_refuse(conn, ST_VERSION, "unknown version of the frame format");
                return;
            }
            conn_malformed(conn, reason == ST_VERSION ? "unknown version" : "not a frame");
            return;
        case FRAME_OK:
            conn_on_frame(conn, &frame);
            stream_consume(conn->stream, taken);
            break;
        }
    }
}

/* Who sends requests and does not read the answers is not listened to. */
void conn_receive_more(struct conn *conn)
{
    if (conn->state == CONN_REFUSING) {
        stream_consume(conn->stream, stream_input(conn->stream).len);
    }
    if (conn->state != CONN_FAILED && !conn_is_paused(conn) && !conn->is_resting) {
        stream_receive(conn->stream);
    }
}

static void conn_on_received(void *owner, size_t n)
{
    struct conn *conn = owner;
    uint64_t now_ms = conn_loop(conn)->now_ms, before = conn->net->stats.messages_in;

    conn->net->stats.bytes_in += n;
    conn->heard_ms = loop_awake_ms(conn_loop(conn));
    conn_decode(conn);
    if (conn->accepted && conn->state == CONN_UP && send_queue_is_empty(&conn->send_queue) &&
        now_ms >= conn->sent_ms + conn->ping_ms) {
        conn_put_pong(conn);
    }
    gather_or_receive(conn, conn->net->stats.messages_in - before);
}

/* ---- Sending ---- */

void conn_send(struct conn *conn, enum io_class class, uint32_t group, enum frame_message_type type,
               struct buf *message)
{
    ASSERT(conn->state == CONN_UP);
    send_queue_put(&conn->send_queue, class, group, type, message);
    conn_mark_dirty(conn);
}

void conn_send_all(struct conn *conn, struct send_queue *queue)
{
    ASSERT(conn->state == CONN_UP);
    send_queue_move(&conn->send_queue, queue);
    conn_mark_dirty(conn);
}

static void conn_put_stamp(struct conn *conn, enum frame_kind kind, uint64_t stamp)
{
    uint8_t body[8];

    set_u64(body, stamp);
    send_queue_put_control(&conn->send_queue, kind, slice_of(body, sizeof(body)));
}

static bool conn_window_is_full(const struct conn *conn)
{
    return conn->window_bytes > 0 && conn->sent_bytes - conn->read_bytes >= conn->window_bytes;
}

/* The keep-alives that are due, as frames; and a PING now and then to learn what was read. */
static void conn_put_stamps(struct conn *conn)
{
    if (conn->window_bytes > 0 && conn->sent_bytes - conn->pinged_bytes >= conn->window_bytes / 4) {
        conn->ping_due = true;
    }
    if (conn->ping_due) {
        conn_put_stamp(conn, FRAME_PING, conn->sent_bytes);
        conn->pinged_bytes = conn->sent_bytes;
    }
    if (conn->pong_due) {
        conn_put_stamp(conn, FRAME_PONG, conn->pong_stamp);
    }
    conn->ping_due = conn->pong_due = false;
}

static void conn_on_sent(void *owner)
{
    struct conn *conn = owner;

    if (conn_is_paused(conn)) { /* it reads what we send: it is alive, though we don't listen */
        conn->heard_ms = loop_awake_ms(conn_loop(conn));
        inbox_wait_from(&conn->inbox, conn->heard_ms);
    }
    if (conn->ping_due || conn->pong_due || !send_queue_is_empty(&conn->send_queue)) {
        conn_mark_dirty(conn); /* what came meanwhile, and the rest: in the next turn */
    }
}

void conn_flush(struct conn *conn)
{
    struct net_stats *stats = &conn->net->stats;
    struct buf bytes = {0};
    struct send_queue_filled filled;

    conn_unmark_dirty(conn);
    if (conn->state == CONN_FAILED || stream_is_sending(conn->stream)) {
        return;
    }
    conn_put_stamps(conn);
    filled = send_queue_fill(&conn->send_queue, conn_window_is_full(conn), &bytes);
    if (bytes.len == 0) {
        return;
    }
    stats->frames_out += filled.frames;
    stats->messages_out += filled.messages;
    stats->bytes_out += bytes.len;
    conn->sent_bytes += bytes.len;
    conn->sent_ms = conn_loop(conn)->now_ms;
    if (stream_send(conn->stream, &bytes)) {
        conn_on_sent(conn);
    }
    conn_receive_more(conn); /* if it was paused, it may be no longer */
}

static void conn_on_broken(void *owner, enum status status, const char *reason, bool by_remote)
{
    struct conn *conn = owner;

    if (status != ST_UNAVAILABLE && conn->state != CONN_FAILED) {
        conn->net->stats.refused++;
        conn->refused = by_remote;
    }
    conn_fail(conn, status, reason);
}

/* ---- Life ---- */

bool conn_is_news(char told[CONN_REASON_BYTES], const char *reason)
{
    char text[CONN_REASON_BYTES];

    snprintf(text, sizeof(text), "%s", reason);
    if (strcmp(told, text) == 0) {
        return false;
    }
    memcpy(told, text, sizeof(text));
    return true;
}

static const struct stream_events conn_stream_events = {
    .received = conn_on_received, .sent = conn_on_sent, .broken = conn_on_broken};

struct conn *conn_create(struct net *net, nng_stream *stream, const struct conn_settings *settings,
                         const struct hello *self, const struct conn_events *events, void *owner)
{
    struct conn *conn = mem_zalloc(sizeof(*conn));

    conn->net = net;
    conn->events = events;
    conn->owner = owner;
    conn->accepted = settings->accepted;
    conn->ping_ms = settings->ping_ms;
    conn->silence_ms = settings->silence_ms;
    conn->pause_bytes = settings->pause_bytes;
    conn->window_bytes = settings->window_bytes;
    conn->fragment_pause_ms = settings->fragment_pause_ms;
    conn->end_ms = net->loop.now_ms + settings->greeting_ms;
    conn->timer = (struct timer){.fired = conn_on_timer, .owner = conn};
    conn->stream = stream_create(&net->loop, stream, CONN_MAX_INPUT, &conn_stream_events, conn);
    send_queue_init(&conn->send_queue);
    inbox_init(&conn->inbox, settings->max_reassembly_bytes, settings->pool);
    if (!conn->accepted) {
        greeting_begin(conn, self);
    }
    conn_arm_timer(conn);
    stream_receive(conn->stream);
    return conn;
}

void conn_destroy(struct conn **conn_pointer)
{
    struct conn *conn = *conn_pointer;

    *conn_pointer = NULL;
    if (conn == NULL) {
        return;
    }
    if (conn->state == CONN_FAILED) {
        TAILQ_REMOVE(&conn->net->failed, conn, failed);
    }
    conn_unmark_dirty(conn);
    gather_forget(conn);
    timers_cancel(&conn->net->loop.timers, &conn->timer);
    stream_close(&conn->stream);
    handshake_fini(&conn->handshake);
    send_queue_fini(&conn->send_queue);
    inbox_fini(&conn->inbox);
    mem_free(conn);
}
