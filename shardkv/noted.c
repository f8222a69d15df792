/* noted: see noted.h. */
#include "shardkv/noted.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define uthash_malloc(size)       mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#define uthash_fatal(message)     UNREACHABLE(message)
#include <uthash.h>

struct node {
    UT_hash_handle hh;
    struct noted_entry entry;
    uint8_t name[];
};

struct noted {
    struct node *nodes;
    size_t bytes, max_bytes; /* of nodes with their names */
    uint64_t seed;
    bool is_complete;
};

struct noted *noted_create(size_t max_bytes, uint64_t seed, bool is_complete)
{
    struct noted *noted = mem_zalloc(sizeof(*noted));

    noted->max_bytes = max_bytes;
    noted->seed = seed;
    noted->is_complete = is_complete;
    return noted;
}

void noted_destroy(struct noted **noted)
{
    struct node *node, *next;

    if (*noted == NULL) {
        return;
    }
    HASH_ITER (hh, (*noted)->nodes, node, next) {
        HASH_DEL((*noted)->nodes, node);
        mem_free(node);
    }
    mem_free(*noted);
    *noted = NULL;
}

static unsigned hash_of(const struct noted *noted, struct slice name)
{
    return (unsigned)XXH3_64bits_withSeed(name.data, name.len, noted->seed);
}

static struct node *find_node(const struct noted *noted, struct slice name, unsigned hash)
{
    struct node *node;

    HASH_FIND_BYHASHVALUE(hh, noted->nodes, name.data, name.len, hash, node);
    return node;
}

struct noted_entry *noted_find(const struct noted *noted, struct slice name)
{
    struct node *node = find_node(noted, name, hash_of(noted, name));

    return node != NULL ? &node->entry : NULL;
}

struct noted_entry *noted_add(struct noted *noted, struct slice name)
{
    unsigned hash = hash_of(noted, name);
    struct node *node = find_node(noted, name, hash);
    size_t bytes = sizeof(*node) + name.len;

    ASSERT(name.len > 0);
    if (node != NULL) {
        return &node->entry;
    }
    ASSERT(noted->bytes <= noted->max_bytes);
    if (bytes > noted->max_bytes - noted->bytes) {
        noted->is_complete = false;
        return NULL;
    }
    node = mem_zalloc(bytes);
    noted->bytes += bytes;
    memcpy(node->name, name.data, name.len);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, noted->nodes, node->name, name.len, hash, node);
    return &node->entry;
}

bool noted_is_complete(const struct noted *noted)
{
    return noted->is_complete;
}
