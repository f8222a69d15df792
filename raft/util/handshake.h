/* handshake: how the two ends of a connection find out who they deal with. Pure: the random nonces
 * and the keyed MAC come in, the bodies of frames go out.
 *
 *   dialling                           accepting
 *     HELLO (nonce A)         ->         handshake_accept
 *     handshake_on_answer     <-         HELLO (nonce B)
 *   and, if the dialling side is a server and has the peer key:
 *     PROOF                   ->         handshake_on_proof
 *     handshake_on_proof      <-         PROOF
 *
 * A proof is the MAC, under the peer key, of the prover's side and of both hellos as they went over
 * the wire, hence of both nonces, both cluster ids, gids, ids and roles. So a proof heard elsewhere
 * or earlier proves nothing (the verifier's nonce is new), a proof sent back proves nothing (the
 * side is in it), and no byte of either hello can be changed on the way. The caller proves itself
 * first: who does not know the key gets no MAC out of a server.
 *
 * Who is called could pass all of it on to another server, and be taken for the caller there. So
 * the owner of the connection looks before handshake_prove whether the other's hello is of whom it
 * meant: role, gid and id of a peer; a server of the group meant, if it calls as a client, for
 * somebody may have joined an address of its own as another group. Such a caller also says which
 * URL it called: the called one refuses what was meant for another replica of its group.
 *
 * Who must prove: every server that calls, as a peer or as another server's client, if either side
 * has a peer key. Clients need none, and pass for no server. It proves "a server of this cluster",
 * not which one: all share the key.
 */
#ifndef RAFT_UTIL_HANDSHAKE_H
#define RAFT_UTIL_HANDSHAKE_H

#include "raft/util/frame.h"

#define HANDSHAKE_PROOF_BYTES 32

/* The peer key, as the one operation that is needed of it. */
struct handshake_key {
    void *context;
    void (*mac)(void *context, struct slice text, uint8_t mac[HANDSHAKE_PROOF_BYTES]);
};

enum handshake_state {
    HANDSHAKE_IDLE,   /* nothing was said yet */
    HANDSHAKE_ANSWER, /* dialling: waits for the other's hello */
    HANDSHAKE_PROOF,  /* waits for the other's proof */
    HANDSHAKE_DONE
};

struct handshake {
    enum handshake_state state;
    bool accepting;
    bool proved;                     /* the other side has the peer key */
    const struct handshake_key *key; /* NULL: none */
    struct hello self, other;
    struct buf first, second; /* the bodies of the dialling and the accepting side's hello */
};

void handshake_fini(struct handshake *handshake);

/* Begins the dialling side's; `first` is the hello to send. The nonce and HELLO_KEYED are put in
 * here. A key is for servers only: a peer, or HELLO_SERVICE. */
void handshake_open(struct handshake *handshake, const struct hello *self,
                    const uint8_t nonce[HELLO_NONCE_BYTES], const struct handshake_key *key);

/* The accepting side got the other's hello. ST_OK: DONE, or a proof is awaited; `second` is the
 * hello to send. Else refuse with *reason (static). */
enum status handshake_accept(struct handshake *handshake, const struct hello *self,
                             const uint8_t nonce[HELLO_NONCE_BYTES],
                             const struct handshake_key *key, struct slice body,
                             const char **reason);

/* The dialling side got the other's hello. ST_OK: DONE, or it is time for the own proof. */
enum status handshake_on_answer(struct handshake *handshake, struct slice body,
                                const char **reason);

/* The own proof. The accepting side gives it only after it checked the other's. */
void handshake_prove(const struct handshake *handshake, uint8_t proof[HANDSHAKE_PROOF_BYTES]);
/* The other's. ST_OK: DONE. */
enum status handshake_on_proof(struct handshake *handshake, struct slice body, const char **reason);

#endif
