/* tls: nng's TLS configurations, made from PEM files.
 */
#ifndef RAFT_NET_TLS_H
#define RAFT_NET_TLS_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "raft/util/status.h"

struct tls;

/* Reads and checks the files; each may be NULL, the certificate and key only together. All NULL:
 * *tls is NULL. With a CA both sides must show a certificate of it. On failure ST_INVALID or ST_IO,
 * with one line in error[256]. */
enum status tls_create(const char *cert_path, const char *key_path, const char *ca_path,
                       struct tls **tls, char *error);
void tls_destroy(struct tls **tls);

/* For listening; NULL if there is no certificate. Owned by tls. */
nng_tls_config *tls_server_config(const struct tls *tls);

/* For dialling this URL: the certificate must be for its host. NULL if the URL is not tls+tcp. To
 * be released by tls_release_config. */
nng_tls_config *tls_client_config(const struct tls *tls, const char *url);
void tls_release_config(nng_tls_config **config);

#endif
