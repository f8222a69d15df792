#include "raft/store/wal_writer.h"

#include <errno.h>
#include <time.h>

#include "raft/util/assert.h"
#include "raft/util/mem.h"

#define STAGE_BYTES     (1u << 20) /* a longer write goes in pieces of so much, one after another */
#define MAX_BLOCK_BYTES (64u << 10)
#define MIN_BLOCK_BYTES 512u

uint64_t wal_now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t round_down(uint64_t offset, uint32_t block)
{
    return offset - offset % block;
}

static uint64_t round_up(uint64_t offset, uint32_t block)
{
    return round_down(offset + block - 1, block);
}

void wal_writer_init(struct wal_writer *writer, const struct wal_files *files)
{
    ASSERT(files->pwrite != NULL && files->fdatasync != NULL);
    *writer = (struct wal_writer){.files = files};
    if (files->open_direct == NULL) {
        writer->buffered = true;
        writer->refusal = -EOPNOTSUPP;
    }
}

void wal_writer_fini(struct wal_writer *writer)
{
    mem_free(writer->memory);
    *writer = (struct wal_writer){0};
}

/* Untouched, the memory takes no space. */
static void writer_allocate(struct wal_writer *writer)
{
    if (writer->memory == NULL) {
        writer->memory = mem_zalloc(STAGE_BYTES + WAL_ZERO_BYTES + MAX_BLOCK_BYTES);
        writer->stage = writer->memory + MAX_BLOCK_BYTES -
                        (size_t)((uintptr_t)writer->memory % MAX_BLOCK_BYTES);
        writer->zeros = writer->stage + STAGE_BYTES;
    }
    ASSERT((uintptr_t)writer->stage % MAX_BLOCK_BYTES == 0);
}

static bool block_is_usable(uint32_t block)
{
    return block >= MIN_BLOCK_BYTES && block <= MAX_BLOCK_BYTES && (block & (block - 1)) == 0;
}

/* A descriptor of the same file for direct writes; below 0: there is none. */
static int file_open_direct(struct wal_writer *writer, const char *path, uint32_t *block)
{
    const struct wal_files *files = writer->files;
    int fd = writer->buffered ? -EOPNOTSUPP : files->open_direct(files->context, path, block);

    if (fd >= 0 && !block_is_usable(*block)) {
        files->close(files->context, fd);
        fd = -EINVAL;
    }
    return fd;
}

int wal_writer_adopt(struct wal_writer *writer, int fd, const char *path, uint64_t offset,
                     struct wal_file *file)
{
    const struct wal_files *files = writer->files;
    uint32_t block = 0;
    int direct = file_open_direct(writer, path, &block);

    ASSERT(fd >= 0);
    *file = (struct wal_file){.fd = fd};
    if (direct < 0) {
        writer->refusal = writer->direct || writer->buffered ? writer->refusal : direct;
        return 0;
    }
    writer_allocate(writer);
    if (offset % block > 0) {
        size_t front = offset % block;
        int64_t n = files->pread(files->context, fd, writer->stage, front, offset - front);

        if (n != (int64_t)front) {
            files->close(files->context, direct);
            return n < 0 ? (int)n : -EIO;
        }
        writer->tail = offset;
    }
    files->close(files->context, fd);
    *file = (struct wal_file){.fd = direct, .block = block};
    file->written = round_down(files->written(files->context, direct), block);
    return 0;
}

void wal_writer_close(struct wal_writer *writer, struct wal_file *file)
{
    if (file->fd >= 0) {
        writer->files->close(writer->files->context, file->fd);
    }
    *file = (struct wal_file){.fd = -1};
}

/* ---- Writing ---- */

static const char *put_buffered(struct wal_writer *writer, int fd, struct slice bytes,
                                uint64_t offset, int *error)
{
    const struct wal_files *files = writer->files;
    int64_t n = files->pwrite(files->context, fd, bytes.data, bytes.len, offset);
    uint64_t written_us;

    if (n < 0) {
        *error = (int)n;
        return "write";
    }
    if ((uint64_t)n != bytes.len) {
        return "short write";
    }
    written_us = wal_now_us();
    *error = files->fdatasync(files->context, fd);
    writer->sync_us = wal_now_us() - written_us;
    return *error == 0 ? NULL : "fdatasync";
}

/* Writes what the stage holds: `len` bytes of which the first `front` stood there before. What of
 * them is in the last block stays, for the next write. */
static const char *put_stage(struct wal_writer *writer, struct wal_file *file, size_t len,
                             uint64_t offset, int *error)
{
    const struct wal_files *files = writer->files;
    size_t padded = (size_t)round_up(len, file->block);
    size_t keep = len % file->block;
    int64_t n;

    ASSERT(padded <= STAGE_BYTES && offset % file->block == 0);
    memset(writer->stage + len, 0, padded - len);
    n = files->pwrite(files->context, file->fd, writer->stage, padded, offset);
    if (n < 0) {
        *error = (int)n;
        return "write";
    }
    if ((size_t)n != padded) {
        return "short write";
    }
    writer->direct = true;
    memmove(writer->stage, writer->stage + len - keep, keep);
    writer->tail = offset + len;
    file->written = offset + padded > file->written ? offset + padded : file->written;
    return NULL;
}

static const char *put_direct(struct wal_writer *writer, struct wal_file *file, struct slice bytes,
                              uint64_t offset, int *error)
{
    const char *failed = NULL;
    size_t done = 0;

    ASSERT(offset % file->block == 0 || offset == writer->tail);
    while (done < bytes.len && failed == NULL) {
        uint64_t begin = round_down(offset + done, file->block);
        size_t front = (size_t)(offset + done - begin);
        size_t n = bytes.len - done;

        n = n > STAGE_BYTES - front ? STAGE_BYTES - front : n;
        memcpy(writer->stage + front, bytes.data + done, n);
        failed = put_stage(writer, file, front + n, begin, error);
        done += n;
    }
    return failed;
}

const char *wal_writer_put(struct wal_writer *writer, struct wal_file *file, struct slice bytes,
                           uint64_t offset, int *error)
{
    uint64_t begin_us;
    const char *failed;

    ASSERT(file->fd >= 0 && bytes.len > 0);
    *error = 0;
    if (file->block == 0) {
        return put_buffered(writer, file->fd, bytes, offset, error);
    }
    begin_us = wal_now_us();
    failed = put_direct(writer, file, bytes, offset, error);
    writer->sync_us = wal_now_us() - begin_us;
    return failed;
}

/* ---- Where direct writes don't work ---- */

bool wal_writer_is_refused(const struct wal_writer *writer, const struct wal_file *file, int error)
{
    return file->block > 0 && !writer->direct && (error == -EINVAL || error == -EOPNOTSUPP);
}

void wal_writer_fall_back(struct wal_writer *writer, struct wal_file *file, int fd, int error)
{
    ASSERT(wal_writer_is_refused(writer, file, error) && fd >= 0);
    wal_writer_close(writer, file);
    *file = (struct wal_file){.fd = fd};
    writer->buffered = true;
    writer->refusal = error;
}

/* ---- Ahead of the log ---- */

const char *wal_writer_zero_ahead(struct wal_writer *writer, struct wal_file *file, uint64_t offset,
                                  uint64_t bytes, bool *more, int *error)
{
    const struct wal_files *files = writer->files;
    uint64_t end, from, step;
    int64_t n;

    *more = false;
    if (file->block == 0 || !writer->direct) {
        return NULL;
    }
    end = round_down(bytes, file->block);
    from = round_up(offset, file->block);
    from = file->written > from ? file->written : from;
    if (from >= end || from >= offset + WAL_AHEAD_BYTES) {
        return NULL;
    }
    step = end - from < WAL_ZERO_BYTES ? end - from : WAL_ZERO_BYTES;
    n = files->pwrite(files->context, file->fd, writer->zeros, (size_t)step, from);
    if (n == -ENOSPC || n == -EDQUOT) {
        file->written = end; /* not asked again */
        return NULL;
    }
    if (n != (int64_t)step) {
        *error = n < 0 ? (int)n : 0;
        return n < 0 ? "zeroing" : "short zeroing";
    }
    file->written = from + step;
    *more = file->written < end && file->written < offset + WAL_AHEAD_BYTES;
    return NULL;
}
