#include "raft/net/tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "raft/net/tls_check.h"
#include "raft/net/tls_engine.h"
#include "raft/util/assert.h"
#include "raft/util/bytes.h"
#include "raft/util/mem.h"

#define TLS_MAX_PEM  (1u << 20)
#define TLS_SCHEME   "tls+tcp://"
#define TLS_MAX_HOST 256

struct tls {
    char *cert, *key, *ca; /* PEM texts, or NULL */
    nng_tls_config *server;
};

static enum status read_pem(const char *path, char **text, char *error)
{
    struct buf content = {0};
    FILE *file;
    size_t got;
    bool failed;

    *text = NULL;
    if (path == NULL) {
        return ST_OK;
    }
    file = fopen(path, "r");
    if (file == NULL) {
        snprintf(error, 256, "cannot read %s: %s", path, strerror(errno));
        return ST_INVALID;
    }
    do {
        buf_reserve(&content, 4096);
        got = fread(content.data + content.len, 1, 4096, file);
        content.len += got;
    } while (got > 0 && content.len <= TLS_MAX_PEM);
    failed = ferror(file) != 0; /* a directory can be opened */
    fclose(file);
    buf_put_u8(&content, 0);
    if (failed || content.len > TLS_MAX_PEM || strlen((char *)content.data) + 1 != content.len) {
        snprintf(error, 256, "%s is not a PEM file", path);
        buf_fini(&content);
        return ST_INVALID;
    }
    *text = (char *)content.data;
    return ST_OK;
}

static int configure(const struct tls *tls, enum nng_tls_mode mode, const char *host,
                     nng_tls_config **config)
{
    int failed;

    tls_engine_use();
    failed = nng_tls_config_alloc(config, mode);
    if (failed != 0) {
        *config = NULL;
        return failed;
    }
    failed = nng_tls_config_auth_mode(*config, NNG_TLS_AUTH_MODE_REQUIRED);
    if (failed == 0 && tls != NULL && tls->ca != NULL) {
        failed = nng_tls_config_ca_chain(*config, tls->ca, NULL);
    }
    if (failed == 0 && tls != NULL && tls->cert != NULL) {
        failed = nng_tls_config_own_cert(*config, tls->cert, tls->key, NULL);
    }
    /* Without a server name nothing would be checked but the chain. */
    if (failed == 0 && host != NULL) {
        failed = nng_tls_config_server_name(*config, host);
    }
    if (failed != 0) {
        tls_release_config(config);
    }
    return failed;
}

static enum status make_server_config(struct tls *tls, char *error)
{
    int failed = configure(tls, NNG_TLS_MODE_SERVER, NULL, &tls->server);

    if (failed == 0) {
        return ST_OK;
    }
    snprintf(error, 256, "the TLS certificate, key or CA is not usable: %s", nng_strerror(failed));
    return ST_INVALID;
}

enum status tls_create(const char *cert_path, const char *key_path, const char *ca_path,
                       struct tls **out, char *error, char *warning)
{
    struct tls *tls;
    enum status status;

    *out = NULL;
    warning[0] = '\0';
    if ((cert_path == NULL) != (key_path == NULL)) {
        snprintf(error, 256, "a TLS certificate and its key belong together");
        return ST_INVALID;
    }
    if (cert_path == NULL && ca_path == NULL) {
        return ST_OK;
    }
    tls = mem_zalloc(sizeof(*tls));
    status = read_pem(cert_path, &tls->cert, error);
    if (status == ST_OK) {
        status = read_pem(key_path, &tls->key, error);
    }
    if (status == ST_OK) {
        status = read_pem(ca_path, &tls->ca, error);
    }
    if (status == ST_OK) {
        status = tls_check_pems((struct tls_pem){cert_path, tls->cert},
                                (struct tls_pem){key_path, tls->key},
                                (struct tls_pem){ca_path, tls->ca}, error, warning);
    }
    if (status == ST_OK) {
        status = make_server_config(tls, error);
    }
    if (status != ST_OK) {
        tls_destroy(&tls);
    }
    *out = tls;
    return status;
}

void tls_destroy(struct tls **tls_pointer)
{
    struct tls *tls = *tls_pointer;

    *tls_pointer = NULL;
    if (tls == NULL) {
        return;
    }
    tls_release_config(&tls->server);
    mem_free(tls->cert);
    if (tls->key != NULL) {
        explicit_bzero(tls->key, strlen(tls->key));
    }
    mem_free(tls->key);
    mem_free(tls->ca);
    mem_free(tls);
}

nng_tls_config *tls_server_config(const struct tls *tls)
{
    return tls != NULL && tls->cert != NULL && tls->ca != NULL ? tls->server : NULL;
}

/* The host of tls+tcp://host:port, without the brackets of an IPv6 address. */
static void url_host(const char *url, char host[TLS_MAX_HOST])
{
    const char *begin = url + strlen(TLS_SCHEME);
    const char *end = strrchr(begin, ':');
    size_t len = end != NULL ? (size_t)(end - begin) : strlen(begin);

    if (len >= 2 && begin[0] == '[' && begin[len - 1] == ']') {
        begin++;
        len -= 2;
    }
    len = len < TLS_MAX_HOST - 1 ? len : TLS_MAX_HOST - 1;
    memcpy(host, begin, len);
    host[len] = '\0';
}

nng_tls_config *tls_client_config(const struct tls *tls, const char *url)
{
    nng_tls_config *config = NULL;
    char host[TLS_MAX_HOST];

    if (strncmp(url, TLS_SCHEME, strlen(TLS_SCHEME)) != 0) {
        return NULL;
    }
    url_host(url, host);
    /* What tls_create accepted can be configured again; without memory nng fails the dial. */
    (void)configure(tls, NNG_TLS_MODE_CLIENT, host, &config);
    return config;
}

bool tls_forbids(const struct tls *tls, const char *url)
{
    return tls != NULL && strncmp(url, "tcp://", 6) == 0;
}

void tls_release_config(nng_tls_config **config)
{
    if (*config != NULL) {
        nng_tls_config_free(*config);
        *config = NULL;
    }
}
