/* identity: the data directory of a process, its lock, and META, which says whose it is.
 *
 * META is a header and a body, little-endian:
 *
 *   offset size field
 *        0    4 magic "SKVM"
 *        4    4 format = 1
 *        8    4 length of the body
 *       12    4 CRC32C of bytes 0..11 and the body
 *       16      body of format 1: 16 bytes cluster id, u32 gid, u32 id, u64 incarnation,
 *               u64 SPEC fingerprint, u32 count, then per peer u32 id, u64 incarnation
 *
 * Every later format keeps the header, so that a newer file is told from a damaged one. META is
 * replaced as a whole: written beside as META.tmp, synced, renamed, the directory synced. A
 * directory becomes ours only when it is empty, or holds no more than a crash during the very first
 * start can have left: LOCK and META.tmp (and lost+found, where it is a mount point). Everything
 * else in it is made after META.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raft/store/disk.h"
#include "raft/util/assert.h"
#include "raft/util/crc32c.h"
#include "raft/util/mem.h"

#define META_MAGIC     0x4d564b53u /* "SKVM" read as little-endian */
#define META_FORMAT    1
#define META_HEADER    16
#define META_MAX_BYTES (64u << 10)
#define META_PEERS     (sizeof(((struct identity *)0)->peer_incarnations) / sizeof(uint64_t))

struct store_dir {
    char *path;
    int lock; /* held by flock while open */
};

static uint32_t identity_checksum(struct slice file)
{
    ASSERT(file.len >= META_HEADER);
    return crc32c(crc32c(0, file.data, 12), file.data + META_HEADER, file.len - META_HEADER);
}

static void identity_encode(const struct identity *identity, struct buf *out)
{
    uint32_t n = 0;

    buf_put_u32(out, META_MAGIC);
    buf_put_u32(out, META_FORMAT);
    buf_put_u32(out, 0);
    buf_put_u32(out, 0);
    buf_put(out, identity->cluster_id, sizeof(identity->cluster_id));
    buf_put_u32(out, identity->gid);
    buf_put_u32(out, identity->id);
    buf_put_u64(out, identity->incarnation);
    buf_put_u64(out, identity->spec_fingerprint);
    for (size_t i = 0; i < META_PEERS; i++) {
        n += identity->peer_incarnations[i] != 0;
    }
    buf_put_u32(out, n);
    for (size_t i = 0; i < META_PEERS; i++) {
        if (identity->peer_incarnations[i] != 0) {
            buf_put_u32(out, (uint32_t)i);
            buf_put_u64(out, identity->peer_incarnations[i]);
        }
    }
    buf_set_u32(out, 8, (uint32_t)(out->len - META_HEADER));
    buf_set_u32(out, 12, identity_checksum(buf_slice(out)));
    ASSERT(out->len <= META_MAX_BYTES);
}

static bool identity_decode_body(struct reader *reader, struct identity *identity)
{
    struct slice cluster = reader_take(reader, sizeof(identity->cluster_id));
    uint32_t n;

    identity->gid = reader_u32(reader);
    identity->id = reader_u32(reader);
    identity->incarnation = reader_u64(reader);
    identity->spec_fingerprint = reader_u64(reader);
    n = reader_u32(reader);
    if (!reader_ok(reader) || n > META_PEERS) {
        return false;
    }
    memcpy(identity->cluster_id, cluster.data, sizeof(identity->cluster_id));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = reader_u32(reader);
        uint64_t incarnation = reader_u64(reader);

        if (id >= META_PEERS || incarnation == 0 || identity->peer_incarnations[id] != 0) {
            return false;
        }
        identity->peer_incarnations[id] = incarnation;
    }
    return reader_done(reader);
}

static enum status identity_decode(struct slice file, struct identity *identity)
{
    struct reader reader = reader_of(file);
    uint32_t magic = reader_u32(&reader);
    uint32_t format = reader_u32(&reader);
    uint32_t len = reader_u32(&reader);
    uint32_t checksum = reader_u32(&reader);

    *identity = (struct identity){0};
    if (!reader_ok(&reader) || magic != META_MAGIC || len != reader_left(&reader) ||
        checksum != identity_checksum(file)) {
        return ST_CORRUPT;
    }
    if (format != META_FORMAT) {
        return ST_VERSION;
    }
    return identity_decode_body(&reader, identity) ? ST_OK : ST_CORRUPT;
}

static enum status identity_read(const char *path, struct identity *identity, char *error)
{
    char *file = disk_join(path, "META");
    struct buf content = {0};
    enum status status = disk_read_file(file, META_MAX_BYTES, &content, error);

    if (status == ST_OK) {
        status = identity_decode(buf_slice(&content), identity);
        if (status == ST_CORRUPT) {
            disk_format_error(error, "%s is damaged; " STORE_REBUILD, file);
        } else if (status == ST_VERSION) {
            disk_format_error(error, "%s is of format %u, this program reads up to %d", file,
                              get_u32(content.data + 4), META_FORMAT);
        }
    }
    buf_fini(&content);
    mem_free(file);
    return status;
}

static enum status identity_write(const char *path, const struct identity *identity, char *error)
{
    struct buf content = {0};
    enum status status;

    identity_encode(identity, &content);
    status = disk_write_file(path, "META", buf_slice(&content), error);
    buf_fini(&content);
    return status;
}

static bool identity_is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Whether the directory is that of the replica that was asked for. */
static enum status identity_match(const char *path, const struct identity *wanted,
                                  const struct identity *found, char *error)
{
    size_t bytes = sizeof(wanted->cluster_id);

    if (found->gid != wanted->gid || found->id != wanted->id) {
        disk_format_error(error, "%s belongs to group %u replica %u, not to group %u replica %u",
                          path, found->gid, found->id, wanted->gid, wanted->id);
        return ST_WRONG_NODE;
    }
    if (!identity_is_zero(wanted->cluster_id, bytes) &&
        !identity_is_zero(found->cluster_id, bytes) &&
        memcmp(wanted->cluster_id, found->cluster_id, bytes) != 0) {
        disk_format_error(error, "%s belongs to another cluster", path);
        return ST_WRONG_CLUSTER;
    }
    return ST_OK;
}

/* What a directory without META holds that no first start can have left. */
struct identity_strays {
    bool ours; /* wal or state: META was lost */
    char name[64];
};

static void identity_see(void *arg, const char *name)
{
    struct identity_strays *strays = arg;

    if (strcmp(name, "META") == 0 || strcmp(name, "META.tmp") == 0 || strcmp(name, "LOCK") == 0 ||
        strcmp(name, "lost+found") == 0) {
        return;
    }
    if (strcmp(name, "wal") == 0 || strcmp(name, "state") == 0) {
        strays->ours = true;
    }
    snprintf(strays->name, sizeof(strays->name), "%.60s", name);
}

/* A directory that exists, is not empty and has no META is refused, and nothing in it touched. */
static enum status identity_check_fresh(const char *path, char *error)
{
    struct identity_strays strays = {0};
    char *meta = disk_join(path, "META");
    bool has_meta = access(meta, F_OK) == 0;
    enum status status;

    mem_free(meta);
    status = disk_list_dir(path, identity_see, &strays, error);
    if (status != ST_OK || has_meta) {
        return status == ST_NOT_FOUND ? ST_OK : status;
    }
    if (strays.ours) {
        disk_format_error(error, "%s/META is missing, but there is data; " STORE_REBUILD, path);
        return ST_CORRUPT;
    }
    if (strays.name[0] != '\0') {
        disk_format_error(error, "%s is not empty and no data directory (it holds %s)", path,
                          strays.name);
        return ST_INVALID;
    }
    return ST_OK;
}

/* One process at a time uses a data directory. */
static enum status identity_lock(struct store_dir *dir, char *error)
{
    char *file = disk_join(dir->path, "LOCK");
    enum status status = ST_OK;

    dir->lock = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (dir->lock < 0) {
        status = disk_fail_open(error, "open", file, errno);
    } else if (flock(dir->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            disk_format_error(error, "%s is in use by another process", dir->path);
            status = ST_IN_USE;
        } else {
            status = disk_fail(error, "lock", file, errno);
        }
    }
    mem_free(file);
    return status;
}

/* With the lock held: reads META, or writes the first one. */
static enum status identity_load(const char *path, const struct identity *wanted,
                                 struct identity *found, char *error)
{
    enum status status = identity_read(path, found, error);

    if (status == ST_OK) {
        return identity_match(path, wanted, found, error);
    }
    if (status != ST_NOT_FOUND) {
        return status;
    }
    status = identity_check_fresh(path, error);
    if (status != ST_OK) {
        return status;
    }
    ASSERT(wanted->incarnation != 0);
    *found = *wanted;
    return identity_write(path, found, error);
}

enum status store_dir_open(const char *path, const struct identity *wanted, struct store_dir **dir,
                           struct identity *found, char *error)
{
    struct store_dir *self;
    enum status status;

    ASSERT(wanted->id > 0 && wanted->id < META_PEERS);
    *dir = NULL;
    status = disk_make_dir(path, error);
    if (status == ST_OK) {
        status = identity_check_fresh(path, error);
    }
    if (status != ST_OK) {
        return status;
    }
    self = mem_zalloc(sizeof(*self));
    self->path = mem_copy_string(path);
    self->lock = -1;
    status = identity_lock(self, error);
    if (status == ST_OK) {
        status = identity_load(path, wanted, found, error);
    }
    if (status != ST_OK) {
        store_dir_close(&self);
        return status;
    }
    *dir = self;
    return ST_OK;
}

void store_dir_close(struct store_dir **dir)
{
    struct store_dir *self = *dir;

    if (self == NULL) {
        return;
    }
    if (self->lock >= 0) {
        close(self->lock); /* and with it the lock goes */
    }
    mem_free(self->path);
    mem_free(self);
    *dir = NULL;
}

enum status store_dir_save(struct store_dir *dir, const struct identity *identity, char *error)
{
    ASSERT(dir->lock >= 0);
    ASSERT(identity->id > 0 && identity->id < META_PEERS);
    return identity_write(dir->path, identity, error);
}
