#include "tests/sim/faulty_inodes.h"

#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* ---- Inodes ---- */

size_t faulty_sectors(size_t bytes)
{
    return (bytes + FAULTY_SECTOR - 1) / FAULTY_SECTOR;
}

void faulty_inode_grow(struct faulty_inode *inode, size_t size)
{
    if (size > inode->capacity) {
        size_t old = inode->capacity;
        size_t capacity = faulty_sectors(mem_grown_capacity(old, size)) * FAULTY_SECTOR;
        inode->cache = mem_realloc(inode->cache, capacity);
        inode->platter = mem_realloc(inode->platter, capacity);
        inode->dirty = mem_realloc(inode->dirty, faulty_sectors(capacity));
        memset(inode->cache + old, 0, capacity - old);
        memset(inode->platter + old, 0, capacity - old);
        memset(inode->dirty + faulty_sectors(old), 0,
               faulty_sectors(capacity) - faulty_sectors(old));
        inode->capacity = capacity;
    }
    inode->size = size > inode->size ? size : inode->size;
}

void faulty_sector_settle(struct faulty_inode *inode, size_t sector, bool written)
{
    uint8_t *from = written ? inode->cache : inode->platter;
    uint8_t *to = written ? inode->platter : inode->cache;

    memcpy(to + sector * FAULTY_SECTOR, from + sector * FAULTY_SECTOR, FAULTY_SECTOR);
    inode->dirty[sector] = 0;
}

/* ---- Names ---- */

int faulty_names_find(const struct faulty_names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->at[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

void faulty_names_remove(struct faulty_names *names, const char *name)
{
    int at = faulty_names_find(names, name);

    if (at >= 0) {
        names->at[at] = names->at[--names->n];
    }
}

void faulty_names_add(struct faulty_names *names, const char *name, int inode)
{
    faulty_names_remove(names, name);
    ASSERT(names->n < FAULTY_MAX_NAMES);
    snprintf(names->at[names->n].name, sizeof(names->at[0].name), "%s", name);
    names->at[names->n++].inode = inode;
}

/* A change of names was made: power loss may keep it or not. */
void faulty_names_version(struct faulty_files *faulty)
{
    ASSERT(faulty->n_versions < 256);
    faulty->versions[faulty->n_versions++] = mem_copy(faulty->names, sizeof(*faulty->names));
}

/* The names become version `keep`, durably. */
void faulty_names_settle(struct faulty_files *faulty, size_t keep)
{
    ASSERT(keep < faulty->n_versions);
    *faulty->names = *faulty->versions[keep];
    for (size_t i = 0; i < faulty->n_versions; i++) {
        mem_free(faulty->versions[i]);
    }
    faulty->n_versions = 0;
    faulty_names_version(faulty);
}

struct faulty_inode *faulty_inode_of(const struct faulty_files *faulty, const char *name)
{
    int at = faulty_names_find(faulty->names, name);

    return at < 0 ? NULL : faulty->inodes[faulty->names->at[at].inode];
}

static bool inode_is_used(const struct faulty_files *faulty, int inode)
{
    for (int fd = 0; fd < 64; fd++) {
        if (faulty->open[fd] == inode + 1) {
            return true;
        }
    }
    for (size_t v = 0; v < faulty->n_versions; v++) {
        for (size_t i = 0; i < faulty->versions[v]->n; i++) {
            if (faulty->versions[v]->at[i].inode == inode) {
                return true;
            }
        }
    }
    return false;
}

void faulty_inode_free(struct faulty_inode *inode)
{
    mem_free(inode->cache);
    mem_free(inode->platter);
    mem_free(inode->dirty);
    mem_free(inode);
}

/* A new, empty file, in the place of one that nobody can see any more. */
int faulty_inode_create(struct faulty_files *faulty)
{
    size_t at = 0;

    while (at < faulty->n_inodes && inode_is_used(faulty, (int)at)) {
        at++;
    }
    if (at == faulty->n_inodes) {
        ASSERT(faulty->n_inodes < 512);
        faulty->n_inodes++;
    } else {
        faulty_inode_free(faulty->inodes[at]);
    }
    faulty->inodes[at] = mem_zalloc(sizeof(struct faulty_inode));
    return (int)at;
}
