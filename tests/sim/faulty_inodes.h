/* faulty_inodes: for faulty_files alone: its files and their names, and what of both is durable. */
#ifndef TESTS_SIM_FAULTY_INODES_H
#define TESTS_SIM_FAULTY_INODES_H

#include "tests/sim/faulty_files.h"

#define FAULTY_SECTOR 512u

struct faulty_inode {
    uint8_t *cache;   /* `size` bytes, what reads give */
    uint8_t *platter; /* as many */
    uint8_t *dirty;   /* per sector: the next sync writes it */
    size_t size;
    size_t durable_size;
    size_t written;  /* the first byte that never was; what is behind may be, too */
    size_t capacity; /* of all three, in bytes of the file */
};

#define FAULTY_MAX_NAMES 128
struct faulty_names {
    size_t n;
    struct {
        char name[32];
        int inode;
    } at[FAULTY_MAX_NAMES];
};

size_t faulty_sectors(size_t bytes);
void faulty_inode_grow(struct faulty_inode *inode, size_t size);
/* The sector's cached bytes go to the platter, or what is on the platter is read again. */
void faulty_sector_settle(struct faulty_inode *inode, size_t sector, bool written);
/* A new, empty file, in the place of one that nobody can see any more. */
int faulty_inode_create(struct faulty_files *faulty);
void faulty_inode_free(struct faulty_inode *inode);
struct faulty_inode *faulty_inode_of(const struct faulty_files *faulty, const char *name);

int faulty_names_find(const struct faulty_names *names, const char *name);
void faulty_names_remove(struct faulty_names *names, const char *name);
void faulty_names_add(struct faulty_names *names, const char *name, int inode);
/* A change of names was made: power loss may keep it or not. */
void faulty_names_version(struct faulty_files *faulty);
/* The names become version `keep`, durably. */
void faulty_names_settle(struct faulty_files *faulty, size_t keep);

#endif
