/* dial: one attempt to connect to a URL, with a time limit.
 *
 * Each attempt has an nng dialer of its own, never used again: in nng 1.5.2 dialling twice with one
 * aborts the process. Success does not mean that the other side is there (nng may report it before
 * TCP has connected): only its hello does.
 */
#ifndef RAFT_NET_DIAL_H
#define RAFT_NET_DIAL_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "raft/net/loop.h"
#include "raft/net/tls.h"
#include "raft/util/status.h"

struct dial;

/* The end of the attempt, unless it was cancelled: ST_OK and the stream, for the owner to take
 * over; or NULL, with ST_UNAVAILABLE, ST_NOT_FOUND (nothing listens there), ST_TIMEOUT or
 * ST_DENIED, and the reason. The dial is gone then. */
typedef void (*dial_done)(void *owner, nng_stream *stream, enum status status, const char *reason);

/* own: the certificates of this process, or NULL; what they forbid (tls_forbids) is not called, and
 * ends with ST_DENIED. tls: the configuration for a tls+tcp URL, else NULL. done never runs before
 * this returns. */
struct dial *dial_start(struct loop *loop, const struct tls *own, const char *url,
                        nng_tls_config *tls, uint32_t timeout_ms, dial_done done, void *owner);
/* Clears the pointer; done will not be called. */
void dial_cancel(struct dial **dial);

#endif
