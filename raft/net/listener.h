/* listener: accepts connections on one URL.
 *
 * After an error (no file descriptors left) it pauses a little instead of spinning. While the owner
 * has no place for a connection, some are held here, and the others wait in the kernel.
 */
#ifndef RAFT_NET_LISTENER_H
#define RAFT_NET_LISTENER_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "raft/net/loop.h"
#include "raft/util/status.h"

struct listener;

/* A connection, for the owner to take over. False: it has no place for it now; it is asked again,
 * and the last time `may_wait` is false: then it must take it over. */
typedef bool (*listener_accepted)(void *owner, nng_stream *stream, bool may_wait);

/* Binds and listens; accepts nothing before listener_start, then up to `at_once` in a turn. On
 * failure ST_IN_USE, ST_INVALID or ST_IO, with one line in error[256]. A socket file that a dead
 * process left is replaced. */
enum status listener_open(struct loop *loop, const char *url, nng_tls_config *tls, uint32_t at_once,
                          listener_accepted accepted, void *owner, struct listener **listener,
                          char *error);
void listener_start(struct listener *listener);
/* Clears the pointer; nothing is accepted any more. */
void listener_close(struct listener **listener);

#endif
