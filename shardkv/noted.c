/* noted: see noted.h. */
#include "shardkv/noted.h"

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define uthash_malloc(size)       mem_alloc(size)
#define uthash_free(memory, size) mem_free(memory)
#include <uthash.h>

struct node {
    UT_hash_handle hh;
    struct noted_entry entry;
    uint8_t name[];
};

struct noted {
    struct node *nodes;
    size_t max_entries;
    bool is_complete;
};

struct noted *noted_create(size_t max_entries, bool is_complete)
{
    struct noted *noted = mem_zalloc(sizeof(*noted));

    noted->max_entries = max_entries;
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

struct noted_entry *noted_find(const struct noted *noted, struct slice name)
{
    struct node *node;

    HASH_FIND(hh, noted->nodes, name.data, name.len, node);
    return node != NULL ? &node->entry : NULL;
}

struct noted_entry *noted_add(struct noted *noted, struct slice name)
{
    struct noted_entry *entry = noted_find(noted, name);
    struct node *node;

    ASSERT(name.len > 0);
    if (entry != NULL) {
        return entry;
    }
    if (HASH_COUNT(noted->nodes) >= noted->max_entries) {
        noted->is_complete = false;
        return NULL;
    }
    node = mem_zalloc(sizeof(*node) + name.len);
    memcpy(node->name, name.data, name.len);
    HASH_ADD_KEYPTR(hh, noted->nodes, node->name, name.len, node);
    return &node->entry;
}

bool noted_is_complete(const struct noted *noted)
{
    return noted->is_complete;
}
