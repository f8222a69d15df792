/* greeting: the beginning of a connection, until both sides know whether they talk: the frames of
 * raft/util/handshake.h, and whether the owner wants the other side.
 */
#ifndef RAFT_NET_GREETING_H
#define RAFT_NET_GREETING_H

#include "raft/net/conn.h"
#include "raft/util/frame.h"

/* The dialling side says hello. */
void greeting_begin(struct conn *conn, const struct hello *self);
/* A frame while the connection is GREETING: it ends it, one way or the other, or goes on with it.
 */
void greeting_on_frame(struct conn *conn, const struct frame *frame);
/* The other side does not want us, or no longer. */
void greeting_on_refuse(struct conn *conn, struct slice body);
/* What came is no frame: refuses it in words if it is TLS. */
bool greeting_refuse_tls(struct conn *conn);

#endif
