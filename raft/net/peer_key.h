/* peer_key: the secret that all servers of a cluster share, from its file, as the MAC that the
 * handshake needs: HMAC-SHA256 by mbedTLS.
 */
#ifndef RAFT_NET_PEER_KEY_H
#define RAFT_NET_PEER_KEY_H

#include "raft/util/handshake.h"
#include "raft/util/status.h"

#define PEER_KEY_MIN_BYTES 16
#define PEER_KEY_MAX_BYTES 4096

struct peer_key;

/* Reads the file: its bytes are the key, without white space at the end. Refused, like ssh does,
 * if anybody but its owner has any right to it; and if it is no regular file, or too short or too
 * long for a key. path NULL: *key is NULL. On failure ST_INVALID, with one line in error[256]. */
enum status peer_key_load(const char *path, struct peer_key **key, char *error);
void peer_key_destroy(struct peer_key **key);

/* Valid as long as the key; NULL for no key. */
const struct handshake_key *peer_key_handshake(const struct peer_key *key);

#endif
