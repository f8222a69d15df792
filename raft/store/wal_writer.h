/* wal_writer: writing to a segment's file so that what was written is durable, as cheaply as the
 * file system allows.
 *
 * Directly: past the page cache, each write durable when it returns, in whole blocks of the disk.
 * What stands before the write in its first block goes again, the same bytes, so that a torn block
 * changes nothing of it; behind its end the last block is zeros. A block that was only allocated
 * costs a commit of the file system's journal when it is written first: so blocks are written, with
 * zeros, some time before the log gets there. Segments that are used again are written already.
 *
 * Buffered: a write into the page cache and an fdatasync, wherever the file system refuses the
 * other way, and for files that are written once.
 *
 * Reads are ordinary ones either way: the kernel keeps the page cache in step.
 */
#ifndef RAFT_STORE_WAL_WRITER_H
#define RAFT_STORE_WAL_WRITER_H

#include "raft/store.h"

#define WAL_AHEAD_BYTES (1u << 20)   /* so much before the log's end is kept written */
#define WAL_ZERO_BYTES  (256u << 10) /* written ahead at a time: less than a millisecond */

/* A segment's file, open for writing. */
struct wal_file {
    int fd;           /* -1: not open */
    uint32_t block;   /* direct: of so many bytes; 0: buffered */
    uint64_t written; /* direct: the blocks up to here are written, not only allocated */
};

struct wal_writer {
    const struct wal_files *files;
    bool buffered; /* from now on, all files are */
    int refusal;   /* the errno why */
    bool direct;   /* something was written directly: it works */
    uint8_t *memory;
    uint8_t *stage;   /* in memory, aligned: bytes on their way, in whole blocks */
    uint8_t *zeros;   /* in memory, aligned */
    uint64_t tail;    /* the stage begins with what stands before this offset in its block; of the
                         file that was written last */
    uint64_t sync_us; /* how long the last write took to get durable */
};

uint64_t wal_now_us(void);

void wal_writer_init(struct wal_writer *writer, const struct wal_files *files);
void wal_writer_fini(struct wal_writer *writer);
/* Makes a file of the descriptor, which becomes its, to be written from `offset` on: directly if
 * that is possible. A negative errno: what stands before the offset can't be read. */
int wal_writer_adopt(struct wal_writer *writer, int fd, const char *path, uint64_t offset,
                     struct wal_file *file);
void wal_writer_close(struct wal_writer *writer, struct wal_file *file);

/* Writes durably, where the last write to this file ended or at its beginning. NULL, or what
 * failed, with its negative errno, 0 for a short write. */
const char *wal_writer_put(struct wal_writer *writer, struct wal_file *file, struct slice bytes,
                           uint64_t offset, int *error);
/* Whether that was a refusal of direct writes, before any was ever done: nothing was written, and
 * the same will do on the descriptor of an ordinary opening, which is given to the file. */
bool wal_writer_is_refused(const struct wal_writer *writer, const struct wal_file *file, int error);
void wal_writer_fall_back(struct wal_writer *writer, struct wal_file *file, int fd, int error);

/* Writes some zeros ahead of the log, which ends at `offset` of a file of `bytes`, if they are
 * short: one step; *more: a further one is due. NULL, or what failed. Zeros that find no room are
 * no failure: they are only there to save time. */
const char *wal_writer_zero_ahead(struct wal_writer *writer, struct wal_file *file, uint64_t offset,
                                  uint64_t bytes, bool *more, int *error);

#endif
