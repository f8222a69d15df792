#include "raft/util/handshake.h"

#include "raft/util/assert.h"

#define HANDSHAKE_LABEL                                                                            \
    "ShardKV peer proof 1" /* what the MAC is for: the key may do other things */

enum { SIDE_DIALLING = 1, SIDE_ACCEPTING = 2 };

void handshake_fini(struct handshake *handshake)
{
    buf_fini(&handshake->first);
    buf_fini(&handshake->second);
}

/* Whether that side takes part as a server, and so must prove itself where there is a key. */
static bool is_server(const struct hello *hello)
{
    return hello->who != HELLO_CLIENT || (hello->flags & HELLO_SERVICE) != 0;
}

static void set_self(struct handshake *handshake, const struct hello *self,
                     const uint8_t nonce[HELLO_NONCE_BYTES], const struct handshake_key *key)
{
    ASSERT(self->protocol_high >= HELLO_PROTOCOL_HIGH || key == NULL);
    handshake->self = *self;
    handshake->key = key;
    memcpy(handshake->self.nonce, nonce, HELLO_NONCE_BYTES);
    handshake->self.flags &= (uint16_t)~HELLO_KEYED;
    if (key != NULL) {
        handshake->self.flags |= HELLO_KEYED;
    }
}

void handshake_open(struct handshake *handshake, const struct hello *self,
                    const uint8_t nonce[HELLO_NONCE_BYTES], const struct handshake_key *key)
{
    ASSERT(handshake->state == HANDSHAKE_IDLE);
    ASSERT(self->who != HELLO_SERVER);
    ASSERT(key == NULL || is_server(self));
    set_self(handshake, self, nonce, key);
    hello_encode(&handshake->self, &handshake->first);
    handshake->state = HANDSHAKE_ANSWER;
}

/* What can be told from two hellos whoever the sides are: a version that both speak, and one
 * cluster. The owner of the connection checks the rest, once the proofs are done. */
static enum status check_hellos(const struct handshake *handshake, const char **reason)
{
    *reason = "";
    if (hello_protocol(&handshake->self, &handshake->other) == 0) {
        *reason = "no version of the protocol is spoken by both";
        return ST_VERSION;
    }
    if (hello_clusters_differ(&handshake->self, &handshake->other)) {
        *reason = "the cluster ids differ";
        return ST_WRONG_CLUSTER;
    }
    return ST_OK;
}

/* Both have a key, or neither. The words are the same for whoever reads them on either side. */
static enum status check_keys(const struct handshake *handshake, const char **reason)
{
    bool other_keyed = (handshake->other.flags & HELLO_KEYED) != 0;
    bool caller_keyed = handshake->accepting ? other_keyed : handshake->key != NULL;

    if (other_keyed == (handshake->key != NULL)) {
        return ST_OK;
    }
    *reason = caller_keyed ? "the called server has no peer key, the caller has one: start all "
                             "servers with the same --peer-key"
                           : "the calling server has no peer key, the called one has one: start "
                             "all servers with the same --peer-key";
    return ST_DENIED;
}

/* After both hellos: what comes next. */
static enum status begin_proofs(struct handshake *handshake, const char **reason)
{
    const struct hello *caller = handshake->accepting ? &handshake->other : &handshake->self;
    enum status status = check_hellos(handshake, reason);

    if (status == ST_OK && is_server(caller)) {
        status = check_keys(handshake, reason);
    }
    if (status != ST_OK) {
        return status;
    }
    handshake->state =
        is_server(caller) && handshake->key != NULL ? HANDSHAKE_PROOF : HANDSHAKE_DONE;
    return ST_OK;
}

enum status handshake_accept(struct handshake *handshake, const struct hello *self,
                             const uint8_t nonce[HELLO_NONCE_BYTES],
                             const struct handshake_key *key, struct slice body,
                             const char **reason)
{
    ASSERT(handshake->state == HANDSHAKE_IDLE);
    handshake->accepting = true;
    set_self(handshake, self, nonce, key);
    handshake->self.who = HELLO_SERVER;
    if (!hello_decode(body, &handshake->other)) {
        *reason = "the hello is malformed";
        return ST_MALFORMED;
    }
    buf_put_slice(&handshake->first, body);
    hello_encode(&handshake->self, &handshake->second);
    return begin_proofs(handshake, reason);
}

enum status handshake_on_answer(struct handshake *handshake, struct slice body, const char **reason)
{
    ASSERT(handshake->state == HANDSHAKE_ANSWER && !handshake->accepting);
    if (!hello_decode(body, &handshake->other)) {
        *reason = "the hello is malformed";
        return ST_MALFORMED;
    }
    buf_put_slice(&handshake->second, body);
    return begin_proofs(handshake, reason);
}

/* ---- Proofs ---- */

static void make_proof(const struct handshake *handshake, uint8_t side,
                       uint8_t proof[HANDSHAKE_PROOF_BYTES])
{
    struct buf text = {0};

    ASSERT(handshake->key != NULL);
    ASSERT(handshake->first.len > 0 && handshake->second.len > 0);
    buf_put_bytes(&text, slice_text(HANDSHAKE_LABEL));
    buf_put_u8(&text, side);
    buf_put_bytes(&text, buf_slice(&handshake->first));
    buf_put_bytes(&text, buf_slice(&handshake->second));
    handshake->key->mac(handshake->key->context, buf_slice(&text), proof);
    buf_fini(&text);
}

void handshake_prove(const struct handshake *handshake, uint8_t proof[HANDSHAKE_PROOF_BYTES])
{
    /* The accepting side speaks second: a MAC is given only to who has shown one. */
    ASSERT(handshake->accepting ? handshake->proved : handshake->state == HANDSHAKE_PROOF);
    make_proof(handshake, handshake->accepting ? SIDE_ACCEPTING : SIDE_DIALLING, proof);
}

/* In a time that does not tell where they differ. */
static bool proofs_equal(const uint8_t *a, const uint8_t *b)
{
    uint8_t differing = 0;

    for (size_t i = 0; i < HANDSHAKE_PROOF_BYTES; i++) {
        differing |= (uint8_t)(a[i] ^ b[i]);
    }
    return differing == 0;
}

enum status handshake_on_proof(struct handshake *handshake, struct slice body, const char **reason)
{
    uint8_t expected[HANDSHAKE_PROOF_BYTES];

    ASSERT(handshake->state == HANDSHAKE_PROOF && !handshake->proved);
    if (body.len != HANDSHAKE_PROOF_BYTES) {
        *reason = "the proof is malformed";
        return ST_MALFORMED;
    }
    /* The other side's role: the own proof, sent back, is another one. */
    make_proof(handshake, handshake->accepting ? SIDE_DIALLING : SIDE_ACCEPTING, expected);
    if (!proofs_equal(expected, body.data)) {
        *reason = "the peer keys differ: start all servers with the same --peer-key";
        return ST_DENIED;
    }
    handshake->proved = true;
    handshake->state = HANDSHAKE_DONE;
    return ST_OK;
}
