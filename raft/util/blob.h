/* Blobs: immutable bytes with a count of references, shared by the log, the messages that carry an
 * entry and the apply queue without a copy. The count is not atomic: a blob belongs to one thread
 * (the loop); what another thread needs is copied. */
#ifndef RAFT_UTIL_BLOB_H
#define RAFT_UTIL_BLOB_H

#include "raft/util/bytes.h"

struct blob {
    uint32_t references;
    uint32_t len;
    uint8_t data[];
};

/* A new blob with one reference and a copy of the bytes. */
struct blob *blob_create(struct slice content);
/* A new blob of `len` bytes for the caller to fill before sharing it. */
struct blob *blob_create_uninitialized(uint32_t len);
/* One more reference to the same blob; returns it. */
struct blob *blob_ref(struct blob *blob);
/* Gives one reference back and clears the pointer; the last one frees. A NULL blob is fine. */
void blob_unref(struct blob **blob);

/* The content; empty for NULL. Valid while a reference is held. */
static inline struct slice blob_slice(const struct blob *blob)
{
    return blob == NULL ? slice_of(NULL, 0) : slice_of(blob->data, blob->len);
}

#endif
