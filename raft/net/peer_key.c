#include "raft/net/peer_key.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/md.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

_Static_assert(HANDSHAKE_PROOF_BYTES == 32, "a proof is an HMAC-SHA256");

struct peer_key {
    struct handshake_key handshake;
    size_t len;
    uint8_t bytes[PEER_KEY_MAX_BYTES + 1];
};

static void peer_key_mac(void *context, struct slice text, uint8_t mac[HANDSHAKE_PROOF_BYTES])
{
    const struct peer_key *key = context;
    int failed = mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), key->bytes, key->len,
                                 text.data, text.len, mac);

    ASSERT(failed == 0); /* only a wrong algorithm or no memory could be the reason */
}

static enum status refuse(char *error, const char *path, const char *why)
{
    snprintf(error, 256, "peer key %.120s: %.100s", path, why);
    return ST_INVALID;
}

/* What the file is, before a byte of it is believed. */
static enum status check_file(int fd, const char *path, char *error)
{
    struct stat stat;
    char why[100];

    if (fstat(fd, &stat) != 0) {
        return refuse(error, path, strerror(errno));
    }
    if (!S_ISREG(stat.st_mode)) {
        return refuse(error, path, "is not a regular file");
    }
    if ((stat.st_mode & 077) != 0) {
        snprintf(why, sizeof(why), "mode %04o lets others use it; run: chmod 600 on it",
                 (unsigned)(stat.st_mode & 07777));
        return refuse(error, path, why);
    }
    return ST_OK;
}

static enum status read_file(int fd, const char *path, struct peer_key *key, char *error)
{
    ssize_t got;

    do {
        got = read(fd, key->bytes + key->len, sizeof(key->bytes) - key->len);
        key->len += got > 0 ? (size_t)got : 0;
    } while (got > 0 && key->len < sizeof(key->bytes));
    if (got < 0) {
        return refuse(error, path, strerror(errno));
    }
    if (key->len > PEER_KEY_MAX_BYTES) {
        return refuse(error, path, "is too large for a key: at most 4096 bytes");
    }
    while (key->len > 0 && isspace(key->bytes[key->len - 1])) {
        key->len--;
    }
    if (key->len < PEER_KEY_MIN_BYTES) {
        return refuse(error, path,
                      key->len == 0 ? "is empty; make one with: openssl rand -hex 32"
                                    : "is too short for a key: at least 16 bytes");
    }
    return ST_OK;
}

enum status peer_key_load(const char *path, struct peer_key **out, char *error)
{
    struct peer_key *key;
    enum status status;
    int fd;

    *out = NULL;
    if (path == NULL) {
        return ST_OK;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold up the start */
    if (fd < 0) {
        return refuse(error, path, strerror(errno));
    }
    key = mem_zalloc(sizeof(*key));
    key->handshake = (struct handshake_key){.context = key, .mac = peer_key_mac};
    status = check_file(fd, path, error);
    if (status == ST_OK) {
        status = read_file(fd, path, key, error);
    }
    close(fd);
    if (status != ST_OK) {
        peer_key_destroy(&key);
    }
    *out = key;
    return status;
}

void peer_key_destroy(struct peer_key **key_pointer)
{
    struct peer_key *key = *key_pointer;

    *key_pointer = NULL;
    if (key != NULL) {
        explicit_bzero(key->bytes, sizeof(key->bytes));
        mem_free(key);
    }
}

const struct handshake_key *peer_key_handshake(const struct peer_key *key)
{
    return key == NULL ? NULL : &key->handshake;
}
