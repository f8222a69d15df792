/* faulty_files: see faulty_files.h. */
#include "tests/sim/faulty_inodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

/* ---- Faults ---- */

enum verdict { DO, DO_PART, DO_NOTHING };

/* What becomes of this call; *error is its result unless DO. */
static enum verdict judge(struct faulty_files *faulty, enum faulty_op op, int *error)
{
    *error = -EIO;
    if (faulty->crashed) {
        return DO_NOTHING;
    }
    faulty->counts[op]++;
    if (op != FAULTY_READ && op != FAULTY_OPEN) {
        faulty->changes++;
        if (faulty->crash_in > 0 && --faulty->crash_in == 0) {
            faulty->crashed = true;
            return DO_PART;
        }
    }
    if (faulty->fail_in[op] > 0 && --faulty->fail_in[op] == 0) {
        *error = -faulty->fail_errno[op];
        return DO_PART;
    }
    *error = 0;
    return DO;
}

static uint64_t used_bytes(const struct faulty_files *faulty)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < faulty->names->n; i++) {
        bytes += faulty->inodes[faulty->names->at[i].inode]->size;
    }
    return bytes;
}

static uint64_t free_bytes(const struct faulty_files *faulty)
{
    uint64_t used = used_bytes(faulty);

    if (faulty->quota_bytes == 0) {
        return UINT64_MAX;
    }
    return faulty->quota_bytes > used ? faulty->quota_bytes - used : 0;
}

/* ---- Operations ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static int open_file(struct faulty_files *faulty, const char *path, bool create, uint32_t block)
{
    const char *name = base_name(path);
    int error, at = faulty_names_find(faulty->names, name);

    if (judge(faulty, FAULTY_OPEN, &error) != DO) {
        return error;
    }
    if (at < 0 && !create) {
        return -ENOENT;
    }
    if (at < 0) {
        faulty_names_add(faulty->names, name, faulty_inode_create(faulty));
        faulty_names_version(faulty);
        at = faulty_names_find(faulty->names, name);
    }
    for (int fd = 0; fd < 64; fd++) {
        if (faulty->open[fd] == 0) {
            faulty->open[fd] = faulty->names->at[at].inode + 1;
            faulty->direct[fd] = block;
            return fd;
        }
    }
    return -EMFILE;
}

static int faulty_open(void *context, const char *path, bool create)
{
    return open_file(context, path, create, 0);
}

static int faulty_open_direct(void *context, const char *path, uint32_t *block)
{
    struct faulty_files *faulty = context;

    *block = faulty->block;
    return faulty->block > 0 ? open_file(faulty, path, false, faulty->block) : -EINVAL;
}

static struct faulty_inode *inode_open(struct faulty_files *faulty, int fd)
{
    ASSERT(fd >= 0 && fd < 64 && faulty->open[fd] > 0); /* a closed descriptor is a bug */
    return faulty->inodes[faulty->open[fd] - 1];
}

static void faulty_close(void *context, int fd)
{
    struct faulty_files *faulty = context;

    if (!faulty->crashed) {
        inode_open(faulty, fd);
    }
    faulty->open[fd] = 0;
}

static int64_t faulty_pread(void *context, int fd, void *data, size_t len, uint64_t offset)
{
    struct faulty_files *faulty = context;
    struct faulty_inode *inode;
    int error;

    if (judge(faulty, FAULTY_READ, &error) != DO) {
        return error;
    }
    inode = inode_open(faulty, fd);
    if (offset >= inode->size) {
        return 0;
    }
    len = len > inode->size - offset ? inode->size - offset : len;
    memcpy(data, inode->cache + offset, len);
    return (int64_t)len;
}

/* A direct write: it went past the cache. */
static void write_settle(struct faulty_inode *inode, size_t len, uint64_t offset)
{
    for (size_t i = offset / FAULTY_SECTOR; i < faulty_sectors(offset + len); i++) {
        faulty_sector_settle(inode, i, true);
    }
    inode->durable_size = inode->size > inode->durable_size ? inode->size : inode->durable_size;
}

static void check_block(uint32_t block, const void *data, size_t len, uint64_t offset)
{
    ASSERT(len > 0 && len % block == 0 && offset % block == 0);
    ASSERT((uintptr_t)data % block == 0);
}

/* Writes all of it, or some of its sectors. */
static void write_sectors(struct faulty_files *faulty, struct faulty_inode *inode,
                          const uint8_t *data, size_t len, uint64_t offset, bool all)
{
    size_t at = 0;

    while (at < len) {
        size_t n = FAULTY_SECTOR - (offset + at) % FAULTY_SECTOR;
        n = n > len - at ? len - at : n;
        if (all || rng_below(&faulty->rng, 2) == 0) {
            memcpy(inode->cache + offset + at, data + at, n);
            inode->dirty[(offset + at) / FAULTY_SECTOR] = 1;
        }
        at += n;
    }
}

static int64_t faulty_pwrite(void *context, int fd, const void *data, size_t len, uint64_t offset)
{
    struct faulty_files *faulty = context;
    struct faulty_inode *inode;
    int error;
    enum verdict verdict = judge(faulty, FAULTY_WRITE, &error);

    if (verdict == DO_NOTHING) {
        return error;
    }
    if (faulty->direct[fd] > 0) {
        check_block(faulty->direct[fd], data, len, offset);
        if (faulty->refuse_direct) {
            return -EINVAL;
        }
    }
    inode = inode_open(faulty, fd);
    faulty_inode_grow(inode, offset + len);
    if (offset <= inode->written && offset + len > inode->written) {
        inode->written = offset + len;
    }
    if (verdict == DO_PART && faulty->short_write && !faulty->crashed) {
        len = rng_below(&faulty->rng, len);
        write_sectors(faulty, inode, data, len, offset, true);
        return (int64_t)len;
    }
    write_sectors(faulty, inode, data, len, offset, verdict == DO);
    if (verdict == DO && faulty->direct[fd] > 0 && !faulty->skip_syncs) {
        write_settle(inode, len, offset);
    }
    return verdict == DO ? (int64_t)len : error;
}

static int faulty_fdatasync(void *context, int fd)
{
    struct faulty_files *faulty = context;
    struct faulty_inode *inode;
    int error;
    enum verdict verdict = judge(faulty, FAULTY_SYNC, &error);
    bool forget = rng_below(&faulty->rng, 2) == 0;

    if (verdict == DO_NOTHING) {
        return error;
    }
    if (faulty->skip_syncs) {
        return 0;
    }
    inode = inode_open(faulty, fd);
    for (size_t i = 0; i < faulty_sectors(inode->size); i++) {
        if (inode->dirty[i] == 0) {
            continue;
        }
        if (verdict == DO || rng_below(&faulty->rng, 2) == 0) {
            faulty_sector_settle(inode, i, true);
        } else if (forget) {
            inode->dirty[i] = 0;
        }
    }
    if (verdict == DO || rng_below(&faulty->rng, 2) == 0) {
        inode->durable_size = inode->size;
    }
    return error;
}

static int faulty_allocate(void *context, int fd, uint64_t len)
{
    struct faulty_files *faulty = context;
    struct faulty_inode *inode;
    int error;
    enum verdict verdict = judge(faulty, FAULTY_ALLOCATE, &error);

    if (verdict == DO_NOTHING) {
        return error;
    }
    inode = inode_open(faulty, fd);
    if (faulty->quota_bytes > 0 && len > inode->size && len - inode->size > free_bytes(faulty)) {
        faulty_inode_grow(inode, inode->size + free_bytes(faulty) / FAULTY_SECTOR * FAULTY_SECTOR);
        return -ENOSPC; /* as ext4 does: what could be had is kept */
    }
    faulty_inode_grow(inode, verdict == DO ? len : rng_below(&faulty->rng, len));
    return error;
}

static uint64_t faulty_written(void *context, int fd)
{
    return inode_open(context, fd)->written;
}

/* The bytes behind are gone for readers at once; power loss may bring any of them back. */
static int faulty_truncate(void *context, int fd, uint64_t len)
{
    struct faulty_files *faulty = context;
    struct faulty_inode *inode;
    int error;

    if (judge(faulty, FAULTY_TRUNCATE, &error) != DO) {
        return error;
    }
    inode = inode_open(faulty, fd);
    ASSERT(len <= inode->size && len % FAULTY_SECTOR == 0);
    memset(inode->cache + len, 0, inode->size - len);
    memset(inode->dirty + len / FAULTY_SECTOR, 1,
           faulty_sectors(inode->size) - len / FAULTY_SECTOR);
    inode->size = len;
    inode->written = inode->written < len ? inode->written : len;
    return 0;
}

static int64_t faulty_size(void *context, int fd)
{
    struct faulty_files *faulty = context;

    return faulty->crashed ? -EIO : (int64_t)inode_open(faulty, fd)->size;
}

static int faulty_rename(void *context, const char *from, const char *to)
{
    struct faulty_files *faulty = context;
    int error, at;

    if (judge(faulty, FAULTY_RENAME, &error) != DO) {
        return error;
    }
    at = faulty_names_find(faulty->names, base_name(from));
    if (at < 0) {
        return -ENOENT;
    }
    at = faulty->names->at[at].inode;
    faulty_names_remove(faulty->names, base_name(from));
    faulty_names_add(faulty->names, base_name(to), at);
    faulty_names_version(faulty);
    return 0;
}

static int faulty_unlink(void *context, const char *path)
{
    struct faulty_files *faulty = context;
    int error;

    if (judge(faulty, FAULTY_UNLINK, &error) != DO) {
        return error;
    }
    if (faulty_names_find(faulty->names, base_name(path)) < 0) {
        return -ENOENT;
    }
    faulty_names_remove(faulty->names, base_name(path));
    faulty_names_version(faulty);
    return 0;
}

static int faulty_sync_dir(void *context, const char *path)
{
    struct faulty_files *faulty = context;
    int error;

    (void)path;
    if (judge(faulty, FAULTY_SYNC_DIR, &error) != DO) {
        return error;
    }
    if (!faulty->skip_syncs) {
        faulty_names_settle(faulty, faulty->n_versions - 1);
    }
    return 0;
}

static int faulty_list(void *context, const char *path, void (*each)(void *arg, const char *name),
                       void *arg)
{
    struct faulty_files *faulty = context;

    (void)path;
    for (size_t i = 0; i < faulty->names->n; i++) {
        each(arg, faulty->names->at[i].name);
    }
    return faulty->crashed ? -EIO : 0;
}

static int faulty_make_dir(void *context, const char *path)
{
    struct faulty_files *faulty = context;

    (void)path;
    return faulty->crashed ? -EIO : 0;
}

static uint64_t faulty_free_bytes(void *context, const char *path)
{
    (void)path;
    return free_bytes(context);
}

/* ---- The test's side ---- */

void faulty_files_init(struct faulty_files *faulty, uint64_t seed)
{
    *faulty = (struct faulty_files){.files = {.context = faulty,
                                              .open = faulty_open,
                                              .open_direct = faulty_open_direct,
                                              .close = faulty_close,
                                              .pread = faulty_pread,
                                              .pwrite = faulty_pwrite,
                                              .fdatasync = faulty_fdatasync,
                                              .allocate = faulty_allocate,
                                              .written = faulty_written,
                                              .truncate = faulty_truncate,
                                              .size = faulty_size,
                                              .rename = faulty_rename,
                                              .unlink = faulty_unlink,
                                              .sync_dir = faulty_sync_dir,
                                              .list = faulty_list,
                                              .make_dir = faulty_make_dir,
                                              .free_bytes = faulty_free_bytes}};
    rng_init(&faulty->rng, seed);
    faulty->names = mem_zalloc(sizeof(*faulty->names));
    faulty_names_version(faulty);
}

void faulty_files_fini(struct faulty_files *faulty)
{
    for (size_t i = 0; i < faulty->n_inodes; i++) {
        faulty_inode_free(faulty->inodes[i]);
    }
    for (size_t i = 0; i < faulty->n_versions; i++) {
        mem_free(faulty->versions[i]);
    }
    mem_free(faulty->names);
}

void faulty_files_kill(struct faulty_files *faulty)
{
    memset(faulty->open, 0, sizeof(faulty->open));
    memset(faulty->fail_in, 0, sizeof(faulty->fail_in));
    faulty->crash_in = 0;
    faulty->crashed = false;
}

void faulty_files_power_loss(struct faulty_files *faulty)
{
    /* What the disk keeps of it: whole pages or single sectors, few, half or most of them. */
    size_t unit = rng_below(&faulty->rng, 2) == 0 ? 1 : 8;
    uint64_t odds = rng_below(&faulty->rng, 5);

    faulty_files_kill(faulty);
    faulty_names_settle(faulty, rng_below(&faulty->rng, faulty->n_versions));
    for (size_t i = 0; i < faulty->n_inodes; i++) {
        struct faulty_inode *inode = faulty->inodes[i];
        bool kept = false;

        if (rng_below(&faulty->rng, 4) < odds) {
            inode->durable_size = inode->size;
        }
        for (size_t s = 0; s < faulty_sectors(inode->capacity); s++) {
            if (s % unit == 0) {
                kept = rng_below(&faulty->rng, 4) < odds;
            }
            faulty_sector_settle(
                inode, s, kept && inode->dirty[s] != 0 && s < faulty_sectors(inode->durable_size));
        }
        memset(inode->cache + inode->durable_size, 0, inode->capacity - inode->durable_size);
        memset(inode->platter + inode->durable_size, 0, inode->capacity - inode->durable_size);
        inode->size = inode->durable_size;
    }
}

bool faulty_files_exists(const struct faulty_files *faulty, const char *name)
{
    return faulty_names_find(faulty->names, name) >= 0;
}

static bool has_suffix(const char *name, const char *suffix)
{
    return strlen(name) >= strlen(suffix) &&
           strcmp(name + strlen(name) - strlen(suffix), suffix) == 0;
}

size_t faulty_files_count(const struct faulty_files *faulty, const char *suffix)
{
    size_t n = 0;

    for (size_t i = 0; i < faulty->names->n; i++) {
        n += has_suffix(faulty->names->at[i].name, suffix) ? 1 : 0;
    }
    return n;
}

const char *faulty_files_name(const struct faulty_files *faulty, const char *suffix, size_t n)
{
    for (size_t i = 0; i < faulty->names->n; i++) {
        const char *name = faulty->names->at[i].name;
        size_t smaller = 0;
        for (size_t j = 0; j < faulty->names->n; j++) {
            const char *other = faulty->names->at[j].name;
            smaller += has_suffix(other, suffix) && strcmp(other, name) < 0 ? 1 : 0;
        }
        if (has_suffix(name, suffix) && smaller == n) {
            return name;
        }
    }
    return NULL;
}

uint8_t *faulty_files_bytes(struct faulty_files *faulty, const char *name, size_t *len)
{
    struct faulty_inode *inode = faulty_inode_of(faulty, name);

    ASSERT(inode != NULL);
    *len = inode->size;
    return inode->cache;
}

void faulty_files_flip(struct faulty_files *faulty, const char *name, size_t offset, uint8_t bits)
{
    struct faulty_inode *inode = faulty_inode_of(faulty, name);

    ASSERT(inode != NULL && offset < inode->size);
    inode->cache[offset] ^= bits;
    inode->platter[offset] ^= bits;
}

void faulty_files_remove(struct faulty_files *faulty, const char *name)
{
    faulty_names_remove(faulty->names, name);
    faulty_names_version(faulty);
    faulty_names_settle(faulty, faulty->n_versions - 1);
}

void faulty_files_copy(struct faulty_files *from, const char *name, struct faulty_files *to,
                       const char *as)
{
    struct faulty_inode *source = faulty_inode_of(from, name);
    int at = faulty_inode_create(to);
    struct faulty_inode *copy = to->inodes[at];

    ASSERT(source != NULL);
    faulty_inode_grow(copy, source->size);
    memcpy(copy->cache, source->cache, source->size);
    memcpy(copy->platter, source->cache, source->size);
    copy->durable_size = copy->size;
    faulty_names_add(to->names, as, at);
    faulty_names_version(to);
    faulty_names_settle(to, to->n_versions - 1);
}
