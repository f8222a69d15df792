/* tls: nng's TLS configurations, made from PEM files.
 */
#ifndef RAFT_NET_TLS_H
#define RAFT_NET_TLS_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include <stdbool.h>

#include "raft/util/status.h"

struct tls;

/* Reads and checks the files; each may be NULL, the certificate and key only together. All NULL:
 * *tls is NULL. Both sides of a connection must show a certificate of the CA. On failure ST_INVALID
 * or ST_IO, with one line in error[256]; a line in warning[256] tells why others will refuse us. */
enum status tls_create(const char *cert_path, const char *key_path, const char *ca_path,
                       struct tls **tls, char *error, char *warning);
void tls_destroy(struct tls **tls);

/* For listening; NULL if a certificate, its key or the CA is missing. Owned by tls. */
nng_tls_config *tls_server_config(const struct tls *tls);

/* For dialling this URL: the server's certificate must be of the CA and for the URL's host; without
 * a CA none is. NULL if the URL is not tls+tcp. To be released by tls_release_config. */
nng_tls_config *tls_client_config(const struct tls *tls, const char *url);
/* Whether the URL must not be dialled: it is plain tcp, and there are certificates. Whoever had it
 * put where we found it would hear in clear what others have to prove that they may hear. */
bool tls_forbids(const struct tls *tls, const char *url);
#define TLS_FORBIDDEN                                                                              \
    "a plain tcp:// URL, and there are TLS certificates: only tls+tcp:// is called"
void tls_release_config(nng_tls_config **config);

#endif
