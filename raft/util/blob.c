#include "raft/util/blob.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

struct blob *blob_create_uninitialized(uint32_t len)
{
    struct blob *blob = mem_alloc(sizeof(*blob) + len);
    blob->references = 1;
    blob->len = len;
    return blob;
}

struct blob *blob_create(struct slice content)
{
    struct blob *blob;

    ASSERT(content.len <= UINT32_MAX);
    blob = blob_create_uninitialized((uint32_t)content.len);
    if (content.len > 0) {
        memcpy(blob->data, content.data, content.len);
    }
    return blob;
}

struct blob *blob_ref(struct blob *blob)
{
    ASSERT(blob->references > 0 && blob->references < UINT32_MAX);
    blob->references++;
    return blob;
}

void blob_unref(struct blob **blob)
{
    if (*blob == NULL) {
        return;
    }
    ASSERT((*blob)->references > 0);
    if (--(*blob)->references == 0) {
        mem_free(*blob);
    }
    *blob = NULL;
}
