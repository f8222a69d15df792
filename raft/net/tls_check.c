#include "raft/net/tls_check.h"

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static enum status refuse(char *error, const char *path, const char *why)
{
    snprintf(error, 256, "%.150s is not usable: %.80s", path, why);
    return ST_INVALID;
}

/* No text: nothing is parsed, and that is fine. */
static bool parse_certificates(const struct tls_pem *pem, mbedtls_x509_crt *crt)
{
    return pem->text == NULL ||
           mbedtls_x509_crt_parse(crt, (const uint8_t *)pem->text, strlen(pem->text) + 1) == 0;
}

static void warn_of_expiry(const struct tls_pem *cert, const mbedtls_x509_crt *own, char *warning)
{
    if (mbedtls_x509_time_is_past(&own->valid_to)) {
        snprintf(warning, 256,
                 "our certificate %.100s has expired on %04d-%02d-%02d, others will refuse it: "
                 "renew it",
                 cert->path, own->valid_to.year, own->valid_to.mon, own->valid_to.day);
    } else if (mbedtls_x509_time_is_future(&own->valid_from)) {
        snprintf(warning, 256,
                 "our certificate %.100s is not valid yet, others will refuse it: check the clock",
                 cert->path);
    }
}

static void warn_of_issuer(const struct tls_pem *cert, mbedtls_x509_crt *own, mbedtls_x509_crt *ca,
                           char *warning)
{
    uint32_t flags = 0;

    mbedtls_x509_crt_verify(own, ca, NULL, NULL, &flags, NULL, NULL);
    if (warning[0] == '\0' && (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0) {
        snprintf(warning, 256,
                 "our certificate %.100s is not signed by our --tls-ca: who trusts only that "
                 "authority will refuse it",
                 cert->path);
    }
}

static void warn_of_mode(const struct tls_pem *key, char *warning)
{
    struct stat stat_key;

    if (warning[0] == '\0' && stat(key->path, &stat_key) == 0 && (stat_key.st_mode & 077) != 0) {
        snprintf(warning, 256, "the TLS key %.100s has mode %04o: others can use it; chmod 600",
                 key->path, (unsigned)(stat_key.st_mode & 07777));
    }
}

static enum status check_own(const struct tls_pem *cert, const struct tls_pem *key,
                             mbedtls_x509_crt *own, char *error)
{
    mbedtls_pk_context pk;
    enum status status = ST_OK;

    if (cert->text == NULL || key->text == NULL) {
        return ST_OK;
    }
    if (!parse_certificates(cert, own)) {
        return refuse(error, cert->path, "it holds no PEM certificate");
    }
    mbedtls_pk_init(&pk);
    if (mbedtls_pk_parse_key(&pk, (const uint8_t *)key->text, strlen(key->text) + 1, NULL, 0) !=
        0) {
        status = refuse(error, key->path, "it holds no PEM private key without a password");
    } else if (mbedtls_pk_check_pair(&own->pk, &pk) != 0) {
        status = refuse(error, key->path, "the key does not belong to the certificate");
    }
    mbedtls_pk_free(&pk);
    return status;
}

enum status tls_check_pems(struct tls_pem cert, struct tls_pem key, struct tls_pem ca, char *error,
                           char *warning)
{
    mbedtls_x509_crt own, authority;
    enum status status;

    warning[0] = '\0';
    mbedtls_x509_crt_init(&own);
    mbedtls_x509_crt_init(&authority);
    status = check_own(&cert, &key, &own, error);
    if (status == ST_OK && !parse_certificates(&ca, &authority)) {
        status = refuse(error, ca.path, "it holds no PEM certificate");
    }
    if (status == ST_OK && cert.text != NULL) {
        warn_of_expiry(&cert, &own, warning);
        if (ca.text != NULL) {
            warn_of_issuer(&cert, &own, &authority, warning);
        }
        warn_of_mode(&key, warning);
    }
    mbedtls_x509_crt_free(&own);
    mbedtls_x509_crt_free(&authority);
    return status;
}
