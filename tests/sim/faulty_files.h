/* faulty_files: a disk in memory, under the WAL, that does what disks do at their worst.
 *
 * Every file has two contents: what the page cache shows, and what is on the platter. A sync copies
 * one to the other, sector by sector. Power loss keeps, of what was not synced, any combination of
 * sectors or pages; a kill keeps the page cache. Names are durable after sync_dir; before that,
 * power loss keeps the first few of the changes. All by seed.
 *
 * A direct write is on the platter when it returns; before that, as any write, in part. Its memory,
 * offset and length must be whole blocks.
 *
 * A failed sync may leave sectors that the cache shows, that are not on the platter, and that no
 * later sync will write (as Linux does), unless they are written again.
 */
#ifndef TESTS_SIM_FAULTY_FILES_H
#define TESTS_SIM_FAULTY_FILES_H

#include "raft/store.h"
#include "raft/util/rng.h"

enum faulty_op {
    FAULTY_WRITE,
    FAULTY_SYNC,
    FAULTY_ALLOCATE,
    FAULTY_TRUNCATE,
    FAULTY_RENAME,
    FAULTY_SYNC_DIR,
    FAULTY_OPEN,
    FAULTY_UNLINK,
    FAULTY_READ,
    FAULTY_OPS
};

struct faulty_inode;
struct faulty_names; /* a directory: names to inodes */

struct faulty_files {
    struct wal_files files; /* hand &files to the WAL */
    struct rng rng;
    struct faulty_inode *inodes[512];
    size_t n_inodes;
    struct faulty_names *names;         /* as the process sees them */
    struct faulty_names *versions[256]; /* [0] is durable; the others, changes after it, in order */
    size_t n_versions;
    int open[64];        /* descriptor -> inode + 1; 0: closed */
    uint32_t direct[64]; /* the block of a descriptor whose writes are on the platter when they
                            return; 0: of any other */

    uint64_t counts[FAULTY_OPS]; /* calls so far */
    uint64_t changes;            /* calls so far that write, sync, allocate, rename or unlink */
    /* The n-th change from now (1: the next one) happens in part, and everything after it fails
     * until faulty_files_kill or _power_loss. 0: never. */
    uint64_t crash_in;
    bool crashed;
    /* The n-th call of the kind from now fails with the errno; a write, having written a part. */
    uint64_t fail_in[FAULTY_OPS];
    int fail_errno[FAULTY_OPS];
    bool short_write;     /* a failing write gives its short count instead of an error */
    uint64_t quota_bytes; /* of all files together; 0: no limit */
    bool skip_syncs;      /* lies: says synced, is not; to see whether tests notice */
    uint32_t block;       /* of direct writes; 0: they are refused */
    bool refuse_direct;   /* opening for them works, but every one fails with EINVAL */
};

void faulty_files_init(struct faulty_files *faulty, uint64_t seed);
void faulty_files_fini(struct faulty_files *faulty);
/* The process is gone; the page cache is not. */
void faulty_files_kill(struct faulty_files *faulty);
/* Everything not synced is gone, or in part. */
void faulty_files_power_loss(struct faulty_files *faulty);
/* For directed tests. Names without the directory; `bytes` of cache and platter alike. */
bool faulty_files_exists(const struct faulty_files *faulty, const char *name);
size_t faulty_files_count(const struct faulty_files *faulty, const char *suffix);
/* The n-th name in ascending order that ends so; NULL: there are fewer. */
const char *faulty_files_name(const struct faulty_files *faulty, const char *suffix, size_t n);
uint8_t *faulty_files_bytes(struct faulty_files *faulty, const char *name, size_t *len);
void faulty_files_flip(struct faulty_files *faulty, const char *name, size_t offset, uint8_t bits);
void faulty_files_remove(struct faulty_files *faulty, const char *name);
void faulty_files_copy(struct faulty_files *from, const char *name, struct faulty_files *to,
                       const char *as);

#endif
