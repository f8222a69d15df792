/* The files of the WAL's directory: names, making a segment's file, recycling one; and how the log
 * is poisoned. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "raft/store/wal_disk.h"
#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define WAL_SMALL_PART 16 /* a segment made on a full disk is such a part of a usual one */

void wal_disk_init(struct wal_disk *disk, const struct wal_options *options)
{
    ASSERT(options->segment_bytes >= 2 * WAL_BLANK_BYTES);
    *disk = (struct wal_disk){.files = options->files,
                              .trace = options->trace,
                              .path = mem_copy_string(options->path),
                              .identity = options->identity,
                              .segment_bytes = options->segment_bytes,
                              .max_recycled = options->max_recycled,
                              .reserve = options->reserve,
                              .file = {.fd = -1},
                              .next = {.file.fd = -1},
                              .error = mem_zalloc(STORE_ERROR_BYTES)};
    wal_writer_init(&disk->writer, options->files);
}

void wal_disk_fini(struct wal_disk *disk)
{
    wal_writer_close(&disk->writer, &disk->file);
    wal_writer_close(&disk->writer, &disk->next.file);
    wal_writer_fini(&disk->writer);
    for (size_t i = 0; i < disk->n_segments; i++) {
        mem_free(disk->segments[i].spans);
    }
    mem_free(disk->segments);
    mem_free(disk->spare);
    mem_free(disk->path);
    mem_free(disk->error);
    wal_table_fini(&disk->table);
    *disk = (struct wal_disk){.file.fd = -1};
}

/* ---- Names ---- */

static const char *const suffixes[] = {".wal", ".free", ".new"};

const char *wal_disk_path(const struct wal_disk *disk, uint64_t id, enum wal_suffix suffix,
                          char *path)
{
    int len =
        snprintf(path, WAL_PATH_BYTES, "%s/%08" PRIu64 "%s", disk->path, id, suffixes[suffix]);

    ASSERT(len > 0 && len < WAL_PATH_BYTES);
    return path;
}

bool wal_name_parse(const char *name, uint64_t *id, enum wal_suffix *suffix)
{
    uint64_t number = 0;
    const char *at = name;

    for (; *at >= '0' && *at <= '9'; at++) {
        if (number > (UINT64_MAX - 9) / 10) {
            return false;
        }
        number = number * 10 + (uint64_t)(*at - '0');
    }
    if (at - name < 8 || number == 0 || (at - name > 8 && name[0] == '0')) {
        return false; /* not as wal_disk_path spells it */
    }
    for (int i = WAL_SUFFIX_SEGMENT; i <= WAL_SUFFIX_NEW; i++) {
        if (strcmp(at, suffixes[i]) == 0) {
            *id = number;
            *suffix = (enum wal_suffix)i;
            return true;
        }
    }
    return false;
}

/* ---- Failure ---- */

enum status wal_disk_fail(struct wal_disk *disk, int error, const char *what, uint64_t id,
                          enum wal_suffix suffix)
{
    char path[WAL_PATH_BYTES];

    ASSERT(error <= 0);
    snprintf(disk->error, STORE_ERROR_BYTES,
             "write-ahead log: %s on %s failed%s%s; nothing more is written: free space or repair "
             "the disk, then restart",
             what, wal_disk_path(disk, id, suffix, path), error != 0 ? ": " : "",
             error != 0 ? strerror(-error) : "");
    disk->poison = ST_IO;
    return ST_IO;
}

static bool is_no_space(int error)
{
    return error == -ENOSPC || error == -EDQUOT;
}

/* A failure that left nothing half-written: a full disk is no reason to stop yet. */
static enum status disk_refused(struct wal_disk *disk, int error, const char *what, uint64_t id,
                                enum wal_suffix suffix)
{
    return is_no_space(error) ? ST_NO_SPACE : wal_disk_fail(disk, error, what, id, suffix);
}

enum status wal_disk_sync_dir(struct wal_disk *disk, uint64_t id, enum wal_suffix suffix)
{
    int error = disk->files->sync_dir(disk->files->context, disk->path);

    return error == 0 ? ST_OK : wal_disk_fail(disk, error, "directory sync", id, suffix);
}

/* ---- The directory ---- */

enum status wal_disk_make_directory(struct wal_disk *disk)
{
    const struct wal_files *files = disk->files;
    char *parent = mem_copy_string(disk->path);
    char *slash = strrchr(parent, '/');
    int error = files->make_dir(files->context, disk->path);

    if (slash != NULL) {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    if (error == 0) {
        error = files->sync_dir(files->context, slash == NULL ? "." : parent);
    }
    mem_free(parent);
    if (error == 0) {
        return ST_OK;
    }
    snprintf(disk->error, STORE_ERROR_BYTES, "write-ahead log: making %s failed: %s", disk->path,
             strerror(-error));
    return is_no_space(error) ? ST_NO_SPACE : ST_IO;
}

/* ---- Making a segment's file ---- */

/* Gives back what an allocation got that found no room for all. That it fails does no harm. */
static void grow_back(struct wal_disk *disk, int fd, int64_t before)
{
    const struct wal_files *files = disk->files;
    int64_t size = files->size(files->context, fd);

    if (before >= 0 && size > (int64_t)wal_disk_whole((uint64_t)before)) {
        (void)files->truncate(files->context, fd, wal_disk_whole((uint64_t)before));
    }
}

enum status wal_disk_grow(struct wal_disk *disk, int fd, uint64_t id, enum wal_suffix suffix,
                          uint64_t bytes)
{
    const struct wal_files *files = disk->files;
    int64_t before = files->size(files->context, fd);
    int error = files->allocate(files->context, fd, bytes);

    if (is_no_space(error)) {
        grow_back(disk, fd, before);
    }
    if (error != 0) {
        return disk_refused(disk, error, "allocation", id, suffix);
    }
    error = files->fdatasync(files->context, fd);
    return error == 0 ? ST_OK : wal_disk_fail(disk, error, "fdatasync", id, suffix);
}

static const uint8_t blank[WAL_BLANK_BYTES];

/* Space for the file, and nothing at its beginning that could be taken for a segment's. */
static enum status file_blank(struct wal_disk *disk, int fd, uint64_t id, enum wal_suffix suffix,
                              uint64_t bytes)
{
    int64_t n = disk->files->pwrite(disk->files->context, fd, blank, sizeof(blank), 0);

    if (n < 0) {
        return disk_refused(disk, (int)n, "write", id, suffix);
    }
    if (n != (int64_t)sizeof(blank)) {
        return wal_disk_fail(disk, 0, "short write", id, suffix);
    }
    return wal_disk_grow(disk, fd, id, suffix, bytes);
}

static uint64_t spare_take(struct wal_disk *disk)
{
    uint64_t id;

    ASSERT(disk->n_spare > 0 && disk->spare_bytes >= disk->segment_bytes);
    id = disk->spare[--disk->n_spare];
    disk->spare_bytes -= disk->segment_bytes;
    disk->stats.recycled++;
    return id;
}

enum status wal_disk_create(struct wal_disk *disk, uint64_t id, uint64_t bytes,
                            struct wal_file *file, uint64_t *size)
{
    const struct wal_files *files = disk->files;
    bool reuse = disk->n_spare > 0;
    enum wal_suffix suffix = reuse ? WAL_SUFFIX_FREE : WAL_SUFFIX_NEW;
    uint64_t from = reuse ? disk->spare[disk->n_spare - 1] : id;
    char path[WAL_PATH_BYTES], to[WAL_PATH_BYTES];
    enum status status;
    int64_t length;
    int error, fd;

    ASSERT(id > 0 && disk->poison == ST_OK);
    wal_disk_path(disk, from, suffix, path);
    bytes = wal_disk_whole(bytes);
    fd = files->open(files->context, path, !reuse);
    if (fd < 0) {
        return disk_refused(disk, fd, "opening", from, suffix);
    }
    status = file_blank(disk, fd, from, suffix, bytes);
    if (status == ST_OK) {
        error =
            files->rename(files->context, path, wal_disk_path(disk, id, WAL_SUFFIX_SEGMENT, to));
        status = error == 0 ? wal_disk_sync_dir(disk, id, WAL_SUFFIX_SEGMENT)
                            : disk_refused(disk, error, "renaming", from, suffix);
    }
    length = status == ST_OK ? files->size(files->context, fd) : 0;
    if (length < 0) {
        status = wal_disk_fail(disk, (int)length, "reading the size", id, WAL_SUFFIX_SEGMENT);
    }
    if (status != ST_OK) {
        files->close(files->context, fd);
        if (status == ST_NO_SPACE && !reuse) {
            files->unlink(files->context, path); /* it never held anything */
        }
        return status;
    }
    ASSERT((uint64_t)length >= bytes);
    if (reuse) {
        spare_take(disk);
    }
    disk->highest_id = id > disk->highest_id ? id : disk->highest_id;
    *size = (uint64_t)length;
    error = wal_writer_adopt(&disk->writer, fd, to, 0, file);
    ASSERT(error == 0); /* there is nothing to read */
    return ST_OK;
}

/* How long the file is that the next segment is made of; 0: it is a new one. */
static uint64_t spare_size(const struct wal_disk *disk)
{
    const struct wal_files *files = disk->files;
    char path[WAL_PATH_BYTES];
    int64_t size = 0;
    int fd;

    if (disk->n_spare == 0) {
        return 0;
    }
    wal_disk_path(disk, disk->spare[disk->n_spare - 1], WAL_SUFFIX_FREE, path);
    fd = files->open(files->context, path, false);
    if (fd >= 0) {
        size = files->size(files->context, fd);
        files->close(files->context, fd);
    }
    return size > 0 ? (uint64_t)size : 0;
}

static bool has_room(const struct wal_disk *disk, uint64_t bytes)
{
    uint64_t size = spare_size(disk);

    return bytes <= size ||
           disk->files->free_bytes(disk->files->context, disk->path) >= bytes - size;
}

enum status wal_disk_create_ahead(struct wal_disk *disk, uint64_t id, uint64_t bytes,
                                  struct wal_file *file, uint64_t *size)
{
    return has_room(disk, bytes) ? wal_disk_create(disk, id, bytes, file, size) : ST_NO_SPACE;
}

/* A segment need not be of the usual size: on a full disk, a small one keeps the log going. */
static uint64_t small_bytes(const struct wal_disk *disk, uint64_t least)
{
    uint64_t small = disk->segment_bytes / WAL_SMALL_PART;

    small = small < 2 * WAL_BLANK_BYTES ? 2 * WAL_BLANK_BYTES : small;
    return least > small ? least : small;
}

enum status wal_disk_create_least(struct wal_disk *disk, uint64_t id, uint64_t bytes,
                                  uint64_t least, struct wal_file *file, uint64_t *size)
{
    uint64_t small = small_bytes(disk, least);
    enum status status = small < bytes ? wal_disk_create_ahead(disk, id, bytes, file, size)
                                       : wal_disk_create(disk, id, bytes, file, size);

    if (status == ST_NO_SPACE && small < bytes) {
        status = wal_disk_create(disk, id, small, file, size);
    }
    if (status == ST_NO_SPACE && store_reserve_yield(disk->reserve, small + WAL_BLANK_BYTES)) {
        status = wal_disk_create(disk, id, small, file, size);
    }
    return status;
}

/* ---- Recycling ---- */

void wal_disk_add_spare(struct wal_disk *disk, uint64_t id)
{
    ASSERT(id > 0);
    MEM_GROW(disk->spare, disk->spare_capacity, disk->n_spare + 1);
    disk->spare[disk->n_spare++] = id;
    disk->spare_bytes += disk->segment_bytes;
}

enum status wal_disk_recycle(struct wal_disk *disk, uint64_t id, uint64_t bytes)
{
    const struct wal_files *files = disk->files;
    bool keep = disk->n_spare < disk->max_recycled && bytes <= disk->segment_bytes;
    char path[WAL_PATH_BYTES], to[WAL_PATH_BYTES];
    int error;

    ASSERT(disk->poison == ST_OK);
    wal_disk_path(disk, id, WAL_SUFFIX_SEGMENT, path);
    wal_disk_path(disk, id, WAL_SUFFIX_FREE, to);
    error = keep ? files->rename(files->context, path, to) : files->unlink(files->context, path);
    if (error != 0) {
        return wal_disk_fail(disk, error, "removal", id, WAL_SUFFIX_SEGMENT);
    }
    if (keep) {
        wal_disk_add_spare(disk, id);
    }
    return wal_disk_sync_dir(disk, id, WAL_SUFFIX_SEGMENT);
}
