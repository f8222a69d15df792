/* tls_engine: nng's TLS by mbedTLS, as nng's own engine does it, but one that says why.
 *
 * nng 1.5.2's engine turns every failed handshake into "Cryptographic error", on both sides, and
 * sends no alert to a client without a certificate. Engines are nng's plug-in interface
 * (nng/supplemental/tls/engine.h), so this one takes its place in the whole process. It speaks TLS
 * 1.2, asks every side for a certificate of the authority, checks the name that a server was
 * called by, and keeps for each stream the reason why its handshake failed.
 *
 * nng calls the engine with the stream locked, on its own threads; the reasons are in a table of
 * their own under a mutex, by the stream they are about.
 */
#ifndef RAFT_NET_TLS_ENGINE_H
#define RAFT_NET_TLS_ENGINE_H

#include <nng/nng.h>
#include <stdbool.h>

#define TLS_ENGINE_REASON_BYTES 160

/* Puts the engine in; at the first call. Before any TLS configuration is made. */
void tls_engine_use(void);

/* Why TLS failed on this stream, which must not be freed yet, in words for people; *by_remote: it
 * was the other side that refused. False: it did not, or is no TLS stream. Any thread. */
bool tls_engine_failure(const nng_stream *stream, char reason[TLS_ENGINE_REASON_BYTES],
                        bool *by_remote);

#endif
