#include "raft/net/greeting.h"

#include "raft/net/net_internal.h"
#include "raft/util/assert.h"

void greeting_begin(struct conn *conn, const struct hello *self)
{
    struct hello shown = *self;
    uint8_t nonce[HELLO_NONCE_BYTES];

    if (self->who == HELLO_CLIENT && conn->net->self.who == HELLO_PEER) {
        shown.flags |= HELLO_SERVICE;
    }
    net_random(nonce, sizeof(nonce));
    handshake_open(&conn->handshake, &shown, nonce, peer_key_handshake(conn->net->peer_key));
    conn_put_greeting(conn, FRAME_HELLO, buf_slice(&conn->handshake.first));
}

static void put_proof(struct conn *conn)
{
    uint8_t proof[HANDSHAKE_PROOF_BYTES];

    handshake_prove(&conn->handshake, proof);
    conn_put_greeting(conn, FRAME_PROOF, slice_of(proof, sizeof(proof)));
}

/* The other side is who it says it is, as far as can be known: does the owner want it? Only now,
 * for the owner may remember what the hello says. */
static bool admit(struct conn *conn)
{
    const char *reason = "";
    enum status status = conn->events->hello(conn, &conn->handshake.other, &reason);

    ASSERT(conn->handshake.state == HANDSHAKE_DONE);
    if (status != ST_OK) {
        conn_refuse(conn, status, reason);
    }
    return status == ST_OK;
}

static void on_caller(struct conn *conn, struct slice body)
{
    struct handshake *handshake = &conn->handshake;
    uint8_t nonce[HELLO_NONCE_BYTES];
    const char *reason = "";
    enum status status;

    net_random(nonce, sizeof(nonce));
    status = handshake_accept(handshake, &conn->net->self, nonce,
                              peer_key_handshake(conn->net->peer_key), body, &reason);
    if (status != ST_OK) {
        conn_refuse(conn, status, reason);
    } else if (handshake->state != HANDSHAKE_DONE) {
        conn_put_greeting(conn, FRAME_HELLO, buf_slice(&handshake->second));
    } else if (admit(conn)) {
        conn_put_greeting(conn, FRAME_HELLO, buf_slice(&handshake->second));
        conn_enter_up(conn);
    }
}

static void on_answer(struct conn *conn, struct slice body)
{
    const char *reason = "";
    enum status status = handshake_on_answer(&conn->handshake, body, &reason);

    if (status == ST_OK) { /* the proof is for whom we meant alone (raft/util/handshake.h) */
        status = conn->events->meant(conn, &conn->handshake.other, &reason);
    }
    if (status != ST_OK) {
        conn_refuse(conn, status, reason);
    } else if (conn->handshake.state != HANDSHAKE_DONE) {
        put_proof(conn);
    } else if (admit(conn)) {
        conn_enter_up(conn);
    }
}

static void on_proof(struct conn *conn, struct slice body)
{
    const char *reason = "";
    enum status status = handshake_on_proof(&conn->handshake, body, &reason);

    if (status != ST_OK) {
        conn_refuse(conn, status, reason);
    } else if (admit(conn)) {
        if (conn->accepted) {
            put_proof(conn);
        }
        conn_enter_up(conn);
    }
}

void greeting_on_refuse(struct conn *conn, struct slice body)
{
    enum status status;
    char text[REFUSE_MAX_TEXT + 1];

    if (!refuse_decode(body, &status, text)) {
        conn_fail(conn, ST_MALFORMED, "malformed refusal");
        return;
    }
    conn->refused = true;
    conn_fail(conn, status, text);
}

/* Nothing but what the handshake waits for, or a refusal of what we said. */
void greeting_on_frame(struct conn *conn, const struct frame *frame)
{
    enum handshake_state awaited = conn->handshake.state;

    if (frame->kind == FRAME_HELLO && awaited == HANDSHAKE_IDLE) {
        on_caller(conn, frame->body);
    } else if (frame->kind == FRAME_HELLO && awaited == HANDSHAKE_ANSWER) {
        on_answer(conn, frame->body);
    } else if (frame->kind == FRAME_PROOF && awaited == HANDSHAKE_PROOF) {
        on_proof(conn, frame->body);
    } else if (frame->kind == FRAME_REFUSE && awaited != HANDSHAKE_IDLE) {
        greeting_on_refuse(conn, frame->body);
    } else {
        conn_malformed(conn, awaited == HANDSHAKE_PROOF ? "a frame before the proof"
                                                        : "a frame before the hello");
    }
}

/* The other side speaks TLS where we don't: said in words of its own, because it is a common
 * mistake. A record begins with its kind, 20 to 23, and the version 3.x (or 0.0, before mbedTLS has
 * found out what the other side speaks). */
bool greeting_refuse_tls(struct conn *conn)
{
    struct slice input = stream_input(conn->stream);

    if (conn->state != CONN_GREETING || input.len < 2 || input.data[0] < 20 || input.data[0] > 23 ||
        (input.data[1] != 3 && input.data[1] != 0)) {
        return false;
    }
    conn_refuse(conn, ST_DENIED,
                conn->accepted ? "the caller speaks TLS, this port is plain: tcp:// and tls+tcp:// "
                                 "are mixed up"
                               : "the port speaks TLS, we called it plain: tcp:// and tls+tcp:// "
                                 "are mixed up");
    return true;
}
