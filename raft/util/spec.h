/* Names of replicas: URLs, and the SPEC "ID=URL,ID=URL,…" that lists the replicas of a group. */
#ifndef RAFT_UTIL_SPEC_H
#define RAFT_UTIL_SPEC_H

#include <stddef.h>
#include <stdint.h>

#include "raft/util/bytes.h"

#define SPEC_MAX_REPLICAS 9
#define SPEC_MAX_ID       255
#define SPEC_MAX_URL      200 /* bytes, without the terminator */

struct spec_replica {
    uint32_t id;                /* 1..255 */
    char url[SPEC_MAX_URL + 1]; /* as given, checked */
};

/* The replicas of one group, in ascending order of id, ids and URLs without duplicates. */
struct spec {
    size_t n;
    struct spec_replica replicas[SPEC_MAX_REPLICAS];
};

/* Parses "1=tcp://host:port,2=…". Returns NULL, or one clause that says what is wrong (static). */
const char *spec_parse(const char *text, struct spec *spec);

/* Parses "URL,URL,…" (1 to SPEC_MAX_REPLICAS) into a spec with the ids 1, 2, …. Same errors. */
const char *spec_parse_urls(const char *text, struct spec *spec);

/* NULL if the text is a URL that a replica may have (tcp, tls+tcp with host and port; ipc with an
 * absolute path), else one clause that says what is wrong. */
const char *spec_check_url(const char *url);

/* The replica with that id, or NULL. */
const struct spec_replica *spec_find(const struct spec *spec, uint32_t id);

/* Copies the replicas that there are, and not the room for more. */
void spec_copy(struct spec *to, const struct spec *from);

/* The same ids under the same URLs, letter by letter. */
bool spec_equal(const struct spec *a, const struct spec *b);

/* The text form again, appended. */
void spec_format(const struct spec *spec, struct buf *text);

/* Encoded: u8 count, then per replica, in ascending order, u8 id and the URL as bytes. spec_decode
 * checks everything that spec_parse does, and the order; false means malformed. */
void spec_encode(const struct spec *spec, struct buf *out);
bool spec_decode(struct reader *reader, struct spec *spec);

/* The same for the same URL, letter by letter; never 0. */
uint64_t spec_url_fingerprint(const char *url);
/* An order-independent fingerprint of the same replicas under the same URLs, never 0. */
uint64_t spec_fingerprint(const struct spec *spec);

#endif
