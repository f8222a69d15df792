#include "raft/net/tls_engine.h"

#include <bsd/sys/queue.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <nng/supplemental/tls/engine.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define RECORD_ALERT     0x15 /* first bytes of a connection that speaks TLS */
#define RECORD_HANDSHAKE 0x16

struct nng_tls_engine_config {
    mbedtls_ssl_config ssl;
    mbedtls_x509_crt ca, own;
    mbedtls_pk_context key;
    char *server_name; /* a client's: whom it calls */
};

struct nng_tls_engine_conn {
    mbedtls_ssl_context ssl;
    void *stream; /* nng's, for the I/O below; what tls_engine_failure is asked about */
    const nng_tls_engine_config *config;
    bool is_listed;
    uint8_t first_byte; /* that came; 0: none yet */
    char subject[64];   /* of the other side's certificate */
    bool self_signed;
    char reason[TLS_ENGINE_REASON_BYTES]; /* with conns_mutex; empty: none */
    bool by_remote;
    LIST_ENTRY(nng_tls_engine_conn) entry;
};

static LIST_HEAD(, nng_tls_engine_conn) conns = LIST_HEAD_INITIALIZER(conns);
static pthread_mutex_t conns_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t engine_once = PTHREAD_ONCE_INIT;

static int engine_random(void *context, unsigned char *out, size_t len)
{
    (void)context;
    for (size_t done = 0; done < len;) {
        ssize_t got = getrandom(out + done, len - done, 0);

        if (got > 0) {
            done += (size_t)got;
        }
    }
    return 0;
}

/* ---- Why it failed ---- */

/* The first reason stays: what follows is its consequence. */
static void set_reason(nng_tls_engine_conn *conn, bool by_remote, const char *text,
                       const char *detail)
{
    pthread_mutex_lock(&conns_mutex);
    if (conn->reason[0] == '\0') {
        snprintf(conn->reason, sizeof(conn->reason), "TLS: %.110s%.40s", text, detail);
        conn->by_remote = by_remote;
    }
    pthread_mutex_unlock(&conns_mutex);
}

/* The other side's certificate does not pass. */
static void set_verify_reason(nng_tls_engine_conn *conn)
{
    uint32_t flags = mbedtls_ssl_get_verify_result(&conn->ssl);

    if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0 && conn->self_signed) {
        set_reason(conn, false,
                   "its certificate is self-signed, not by our --tls-ca: ", conn->subject);
    } else if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0) {
        set_reason(conn, false, "its certificate is not signed by our --tls-ca: ", conn->subject);
    } else if ((flags & MBEDTLS_X509_BADCERT_EXPIRED) != 0) {
        set_reason(conn, false, "its certificate has expired, renew it: ", conn->subject);
    } else if ((flags & MBEDTLS_X509_BADCERT_FUTURE) != 0) {
        set_reason(conn, false,
                   "its certificate is not valid yet, compare the clocks: ", conn->subject);
    } else if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0) {
        set_reason(conn, false, "its certificate does not carry the DNS name it was called by: ",
                   conn->config->server_name != NULL ? conn->config->server_name : "");
    } else {
        char text[80] = "";

        mbedtls_x509_crt_verify_info(text, sizeof(text), "", flags);
        text[strcspn(text, "\n")] = '\0';
        set_reason(conn, false, "its certificate is refused: ", text);
    }
}

/* The other side refuses us. */
static void set_alert_reason(nng_tls_engine_conn *conn, uint8_t alert)
{
    static const struct {
        uint8_t alert;
        const char *text;
    } alerts[] = {
        {MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE,
         "it refuses us: no certificate (--tls-cert, --tls-key), or nothing in common"},
        {MBEDTLS_SSL_ALERT_MSG_NO_CERT,
         "it wants a certificate of us: give --tls-cert and --tls-key"},
        {MBEDTLS_SSL_ALERT_MSG_BAD_CERT,
         "it refuses our certificate: not for the name that it called, or damaged"},
        {MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED, "it refuses our certificate: expired, renew it"},
        {MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED, "it refuses our certificate: revoked"},
        {MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA,
         "it refuses our certificate: not signed by its --tls-ca"},
        {MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION, "no version of TLS is spoken by both"},
        {MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE, "it refuses what we say: is it a TLS port?"},
    };
    char number[32];

    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
        if (alerts[i].alert == alert) {
            set_reason(conn, true, alerts[i].text, "");
            return;
        }
    }
    snprintf(number, sizeof(number), "alert %u", (unsigned)alert);
    set_reason(conn, true, "it refuses our certificate or handshake: ", number);
}

static bool is_end_of_connection(int failed)
{
    return failed == MBEDTLS_ERR_SSL_CONN_EOF || failed == MBEDTLS_ERR_NET_CONN_RESET ||
           failed == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY;
}

/* What mbedTLS ended with, as nng's error; and what it means, for people. */
static int engine_fail(nng_tls_engine_conn *conn, int failed)
{
    char text[100];

    if (failed == MBEDTLS_ERR_SSL_WANT_READ || failed == MBEDTLS_ERR_SSL_WANT_WRITE) {
        return NNG_EAGAIN;
    }
    if (is_end_of_connection(failed)) {
        return NNG_ECONNSHUT;
    }
    if (conn->first_byte != 0 && conn->first_byte != RECORD_HANDSHAKE &&
        conn->first_byte != RECORD_ALERT) {
        set_reason(conn, false, "the other side does not speak TLS: tcp:// and tls+tcp:// mixed up",
                   "");
        mbedtls_ssl_send_alert_message(&conn->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                       MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE);
    } else if (failed == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) {
        set_verify_reason(conn);
    } else if (failed == MBEDTLS_ERR_SSL_CA_CHAIN_REQUIRED) {
        set_reason(conn, false, "there is no --tls-ca to check its certificate by", "");
    } else if (failed == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE) {
        set_reason(conn, false, "it shows no certificate: give it --tls-cert and --tls-key", "");
        mbedtls_ssl_send_alert_message(&conn->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                       MBEDTLS_SSL_ALERT_MSG_NO_CERT);
    } else if (failed == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) {
        set_alert_reason(conn, conn->ssl.in_msg != NULL ? conn->ssl.in_msg[1] : 0);
    } else {
        mbedtls_strerror(failed, text, sizeof(text));
        set_reason(conn, false, "the handshake failed: ", text);
    }
    return NNG_EPEERAUTH;
}

bool tls_engine_failure(const nng_stream *stream, char reason[TLS_ENGINE_REASON_BYTES],
                        bool *by_remote)
{
    const nng_tls_engine_conn *conn;
    bool failed = false;

    pthread_mutex_lock(&conns_mutex);
    LIST_FOREACH (conn, &conns, entry) {
        if (conn->stream == stream) {
            failed = conn->reason[0] != '\0';
            memcpy(reason, conn->reason, TLS_ENGINE_REASON_BYTES);
            *by_remote = conn->by_remote;
            break;
        }
    }
    pthread_mutex_unlock(&conns_mutex);
    return failed;
}

/* ---- Connections ---- */

static int engine_write(void *context, const unsigned char *bytes, size_t len)
{
    nng_tls_engine_conn *conn = context;
    size_t n = len;

    switch (nng_tls_engine_send(conn->stream, bytes, &n)) {
    case 0:
        return (int)n;
    case NNG_EAGAIN:
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    default:
        return MBEDTLS_ERR_NET_CONN_RESET;
    }
}

static int engine_read(void *context, unsigned char *bytes, size_t len)
{
    nng_tls_engine_conn *conn = context;
    size_t n = len;

    switch (nng_tls_engine_recv(conn->stream, bytes, &n)) {
    case 0:
        if (conn->first_byte == 0 && n > 0) {
            conn->first_byte = bytes[0];
        }
        return (int)n;
    case NNG_EAGAIN:
        return MBEDTLS_ERR_SSL_WANT_READ;
    default:
        return MBEDTLS_ERR_NET_CONN_RESET;
    }
}

/* mbedTLS shows each certificate of the chain, and what is wrong with it; depth 0 is its owner's.
 */
static int engine_on_certificate(void *context, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    nng_tls_engine_conn *conn = context;

    (void)flags; /* judged by mbedTLS */
    if (depth == 0) {
        if (mbedtls_x509_dn_gets(conn->subject, sizeof(conn->subject), &crt->subject) < 0) {
            snprintf(conn->subject, sizeof(conn->subject), "?");
        }
        for (char *at = conn->subject; *at != '\0'; at++) { /* it ends in traces */
            *at = *at >= ' ' && *at <= '~' && *at != '"' ? *at : '?';
        }
        conn->self_signed = crt->issuer_raw.len == crt->subject_raw.len &&
                            memcmp(crt->issuer_raw.p, crt->subject_raw.p, crt->issuer_raw.len) == 0;
    }
    return 0;
}

static int conn_init(nng_tls_engine_conn *conn, void *stream, nng_tls_engine_config *config)
{
    conn->stream = stream;
    conn->config = config;
    mbedtls_ssl_init(&conn->ssl);
    if (mbedtls_ssl_setup(&conn->ssl, &config->ssl) != 0 ||
        (config->server_name != NULL &&
         mbedtls_ssl_set_hostname(&conn->ssl, config->server_name) != 0)) {
        return NNG_ENOMEM;
    }
    mbedtls_ssl_set_bio(&conn->ssl, conn, engine_write, engine_read, NULL);
    mbedtls_ssl_set_verify(&conn->ssl, engine_on_certificate, conn);
    pthread_mutex_lock(&conns_mutex);
    LIST_INSERT_HEAD(&conns, conn, entry);
    conn->is_listed = true;
    pthread_mutex_unlock(&conns_mutex);
    return 0;
}

static void conn_fini(nng_tls_engine_conn *conn)
{
    pthread_mutex_lock(&conns_mutex);
    if (conn->is_listed) { /* a dial that failed before TLS began was never */
        LIST_REMOVE(conn, entry);
    }
    pthread_mutex_unlock(&conns_mutex);
    mbedtls_ssl_free(&conn->ssl);
}

static void conn_close(nng_tls_engine_conn *conn)
{
    if (conn->is_listed) {
        mbedtls_ssl_close_notify(&conn->ssl);
    }
}

static int conn_handshake(nng_tls_engine_conn *conn)
{
    int failed = mbedtls_ssl_handshake(&conn->ssl);

    return failed == 0 ? 0 : engine_fail(conn, failed);
}

static int conn_recv(nng_tls_engine_conn *conn, uint8_t *bytes, size_t *len)
{
    int got = mbedtls_ssl_read(&conn->ssl, bytes, *len);

    if (got <= 0) {
        return got == 0 ? NNG_ECONNSHUT : engine_fail(conn, got);
    }
    *len = (size_t)got;
    return 0;
}

static int conn_send(nng_tls_engine_conn *conn, const uint8_t *bytes, size_t *len)
{
    int put = mbedtls_ssl_write(&conn->ssl, bytes, *len);

    if (put <= 0) {
        return engine_fail(conn, put);
    }
    *len = (size_t)put;
    return 0;
}

static bool conn_verified(nng_tls_engine_conn *conn)
{
    return mbedtls_ssl_get_verify_result(&conn->ssl) == 0;
}

/* ---- Configurations ---- */

static int config_init(nng_tls_engine_config *config, enum nng_tls_mode mode)
{
    mbedtls_ssl_config_init(&config->ssl);
    mbedtls_x509_crt_init(&config->ca);
    mbedtls_x509_crt_init(&config->own);
    mbedtls_pk_init(&config->key);
    if (mbedtls_ssl_config_defaults(
            &config->ssl,
            mode == NNG_TLS_MODE_SERVER ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
            MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
        return NNG_ENOMEM;
    }
    mbedtls_ssl_conf_rng(&config->ssl, engine_random, NULL);
    mbedtls_ssl_conf_min_version(&config->ssl, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3); /* TLS 1.2 */
    mbedtls_ssl_conf_authmode(&config->ssl, MBEDTLS_SSL_VERIFY_REQUIRED);
    return 0;
}

static void config_fini(nng_tls_engine_config *config)
{
    mbedtls_ssl_config_free(&config->ssl);
    mbedtls_x509_crt_free(&config->ca);
    mbedtls_x509_crt_free(&config->own);
    mbedtls_pk_free(&config->key);
    mem_free(config->server_name);
}

static int config_server(nng_tls_engine_config *config, const char *name)
{
    mem_free(config->server_name);
    config->server_name = mem_copy_string(name);
    return 0;
}

static int config_auth(nng_tls_engine_config *config, nng_tls_auth_mode mode)
{
    mbedtls_ssl_conf_authmode(&config->ssl, mode == NNG_TLS_AUTH_MODE_NONE ? MBEDTLS_SSL_VERIFY_NONE
                                            : mode == NNG_TLS_AUTH_MODE_OPTIONAL
                                                ? MBEDTLS_SSL_VERIFY_OPTIONAL
                                                : MBEDTLS_SSL_VERIFY_REQUIRED);
    return 0;
}

static int config_ca_chain(nng_tls_engine_config *config, const char *pem, const char *crl)
{
    ASSERT(crl == NULL); /* nobody here gives one */
    if (mbedtls_x509_crt_parse(&config->ca, (const uint8_t *)pem, strlen(pem) + 1) != 0) {
        return NNG_ECRYPTO;
    }
    mbedtls_ssl_conf_ca_chain(&config->ssl, &config->ca, NULL);
    return 0;
}

static int config_own_cert(nng_tls_engine_config *config, const char *pem, const char *key,
                           const char *password)
{
    if (mbedtls_x509_crt_parse(&config->own, (const uint8_t *)pem, strlen(pem) + 1) != 0 ||
        mbedtls_pk_parse_key(&config->key, (const uint8_t *)key, strlen(key) + 1,
                             (const uint8_t *)password,
                             password != NULL ? strlen(password) : 0) != 0 ||
        mbedtls_pk_check_pair(&config->own.pk, &config->key) != 0 ||
        mbedtls_ssl_conf_own_cert(&config->ssl, &config->own, &config->key) != 0) {
        return NNG_ECRYPTO;
    }
    return 0;
}

/* TLS 1.2 is what mbedTLS 2.28 has; nobody here asks for another. */
static int config_version(nng_tls_engine_config *config, nng_tls_version low, nng_tls_version high)
{
    (void)config;
    return low <= NNG_TLS_1_2 && high >= NNG_TLS_1_2 ? 0 : NNG_ENOTSUP;
}

/* ---- The engine ---- */

static nng_tls_engine_conn_ops conn_ops = {.size = sizeof(nng_tls_engine_conn),
                                           .init = conn_init,
                                           .fini = conn_fini,
                                           .close = conn_close,
                                           .handshake = conn_handshake,
                                           .recv = conn_recv,
                                           .send = conn_send,
                                           .verified = conn_verified};

static nng_tls_engine_config_ops config_ops = {.size = sizeof(nng_tls_engine_config),
                                               .init = config_init,
                                               .fini = config_fini,
                                               .server = config_server,
                                               .auth = config_auth,
                                               .ca_chain = config_ca_chain,
                                               .own_cert = config_own_cert,
                                               .version = config_version};

static const nng_tls_engine engine = {.version = NNG_TLS_ENGINE_VERSION,
                                      .config_ops = &config_ops,
                                      .conn_ops = &conn_ops,
                                      .name = "shardkv",
                                      .description = "mbedTLS, with reasons"};

static void engine_register(void)
{
    nng_tls_config *first;

    /* nng registers its own engine when it wakes up: wake it first. */
    if (nng_tls_config_alloc(&first, NNG_TLS_MODE_CLIENT) == 0) {
        nng_tls_config_free(first);
    }
    ASSERT(nng_tls_engine_register(&engine) == 0);
}

void tls_engine_use(void)
{
    pthread_once(&engine_once, engine_register);
}
