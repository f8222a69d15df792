/* tls_check: what can be said of our own certificate, key and authority before anybody is called.
 */
#ifndef RAFT_NET_TLS_CHECK_H
#define RAFT_NET_TLS_CHECK_H

#include "raft/util/status.h"

/* A file and the PEM text that was read from it; text NULL: there is none. */
struct tls_pem {
    const char *path;
    const char *text;
};

/* Whether the three can be used: ST_OK, or ST_INVALID with one line in error[256]. Usable, but such
 * that others will refuse us (expired, of another authority), or readable by others: one line in
 * warning[256], else it is empty. */
enum status tls_check_pems(struct tls_pem cert, struct tls_pem key, struct tls_pem ca, char *error,
                           char *warning);

#endif
