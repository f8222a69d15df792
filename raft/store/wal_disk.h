/* wal_disk: the side of the WAL that touches files: the segments, the write in progress, switching
 * and recycling. Owned by the disk thread (by the caller of wal_flush if there is none).
 *
 * Files of the directory: N.wal is segment N; N.free an emptied one, for reuse; N.new one that is
 * being made and was never a segment. A file gets its .wal name only after its first bytes were
 * zeroed and synced, so a preamble under a wrong name is a misplaced segment, never a leftover.
 *
 * Invariants: one write is in flight at a time; write n+1 begins after write n is synced. The
 * segments are a chain, each naming the one before and where that one ends. A segment is removed
 * only as the oldest, and the directory is synced before the next one is. After any failure to
 * write or sync `poison` is set and nothing is ever written again.
 */
#ifndef RAFT_STORE_WAL_DISK_H
#define RAFT_STORE_WAL_DISK_H

#include "raft/store.h"
#include "raft/store/wal_table.h"
#include "raft/store/wal_writer.h"

/* The highest index of a group that a segment holds entries for. */
struct wal_span {
    group_id group;
    raft_index last;
};

struct wal_segment {
    uint64_t id;
    uint64_t bytes; /* of the file */
    struct wal_span *spans;
    size_t n_spans;
    size_t capacity;
};

struct wal_next {
    bool ready;  /* the file is there, blank and synced, under its .wal name */
    bool failed; /* it could not be made for lack of space: tried again when idle, or needed */
    struct wal_file file;
    uint64_t id;
    uint64_t bytes;
};

struct wal_disk {
    const struct wal_files *files;
    struct wal_writer writer;
    const struct trace *trace; /* used while opening only: traces belong to the loop thread */
    char *path;
    uint64_t identity;
    uint64_t segment_bytes;
    uint32_t max_recycled;
    struct store_reserve *reserve; /* NULL: none */

    struct wal_table table;       /* what is durable */
    struct wal_segment *segments; /* oldest first; the last is the current one */
    size_t n_segments;
    size_t segments_capacity;
    struct wal_file file;  /* of the current segment */
    uint64_t offset;       /* where the next record goes */
    uint64_t write_number; /* of the last write */
    bool proven;           /* the last write was a sync point */
    struct wal_next next;
    uint64_t highest_id; /* of any file seen or made */

    uint64_t *spare; /* ids of the .free files */
    size_t n_spare;
    size_t spare_capacity;
    uint64_t spare_bytes;

    enum status poison; /* ST_OK, or how the log ended */
    char *error;        /* STORE_ERROR_BYTES: why */
    struct wal_stats stats;
};

void wal_disk_init(struct wal_disk *disk, const struct wal_options *options);
void wal_disk_fini(struct wal_disk *disk);

/* Makes the directory, and its name durable; on failure disk->error says why. */
enum status wal_disk_make_directory(struct wal_disk *disk);
/* Finds out what is there, makes it durable and leaves the disk ready to write (wal_recover.c).
 * content: the groups with their entries. On failure disk->error says why. */
enum status wal_recover(struct wal_disk *disk, struct wal_table *content);

/* Writes unsealed records as one write and syncs it; applies them to the table. Consumes nothing:
 * the bytes are sealed in place. ST_NO_SPACE: there is no room for the segment that it needs, and
 * nothing was changed; it may be tried again. Any other failure is the end of the log. */
enum status wal_disk_write(struct wal_disk *disk, struct buf *records);
/* The log was idle: says in the file that the last write is durable, unless that is said. */
enum status wal_disk_sync_point(struct wal_disk *disk);
/* Makes the next segment if it is missing and `idle`, or if the current one is half full. */
void wal_disk_prepare(struct wal_disk *disk, bool idle);
/* Writes some zeros ahead of the log, if they are short; true: there are more to write. */
bool wal_disk_zero_ahead(struct wal_disk *disk);
/* Makes segment `id`'s file of `bytes`, if so much is free. It isn't tried otherwise: failing, it
 * would take from everybody else, for a moment, all that there is. */
enum status wal_disk_create_ahead(struct wal_disk *disk, uint64_t id, uint64_t bytes,
                                  struct wal_file *file, uint64_t *size);
/* The same; for lack of space, of `least`, if need be with the reserve's space. Without poison if
 * even that is not to be had. */
enum status wal_disk_create_least(struct wal_disk *disk, uint64_t id, uint64_t bytes,
                                  uint64_t least, struct wal_file *file, uint64_t *size);
/* Recycles the oldest segments that no group needs. */
enum status wal_disk_release(struct wal_disk *disk);
uint64_t wal_disk_bytes(const struct wal_disk *disk);

/* ---- Shared with recovery ---- */

/* Files end at a multiple of this, so that the last block is a whole one. Where direct writes take
 * longer blocks, the last one may reach beyond the end, and the file gets longer. */
static inline uint64_t wal_disk_whole(uint64_t bytes)
{
    return (bytes + WAL_BLANK_BYTES - 1) / WAL_BLANK_BYTES * WAL_BLANK_BYTES;
}

enum wal_suffix { WAL_SUFFIX_SEGMENT, WAL_SUFFIX_FREE, WAL_SUFFIX_NEW };
#define WAL_PATH_BYTES 4096
/* The path of a file of the directory, in `path` of WAL_PATH_BYTES; returns it. */
const char *wal_disk_path(const struct wal_disk *disk, uint64_t id, enum wal_suffix suffix,
                          char *path);
/* Whether the name is that of such a file. */
bool wal_name_parse(const char *name, uint64_t *id, enum wal_suffix *suffix);
/* Sets poison by a negative errno, with a line that says what failed on which file. */
enum status wal_disk_fail(struct wal_disk *disk, int error, const char *what, uint64_t id,
                          enum wal_suffix suffix);
enum status wal_disk_sync_dir(struct wal_disk *disk, uint64_t id, enum wal_suffix suffix);
/* Makes segment `id`'s file, blank, of at least `bytes`, out of a spare one if there is one. Fails
 * without poison if there is no space; *file is open on ST_OK. */
enum status wal_disk_create(struct wal_disk *disk, uint64_t id, uint64_t bytes,
                            struct wal_file *file, uint64_t *size);
/* Space for at least `bytes`, synced; fails without poison if there is none, and the file is as
 * long as it was. */
enum status wal_disk_grow(struct wal_disk *disk, int fd, uint64_t id, enum wal_suffix suffix,
                          uint64_t bytes);
/* N.wal becomes N.free, or goes if there are enough of those. */
enum status wal_disk_recycle(struct wal_disk *disk, uint64_t id, uint64_t bytes);
void wal_disk_add_spare(struct wal_disk *disk, uint64_t id);
/* Seals, and writes durably at the offset. The bytes from `skip` on are records. */
enum status wal_disk_put(struct wal_disk *disk, struct wal_file *file, uint64_t id,
                         struct buf *bytes, size_t skip, uint64_t offset, uint64_t write);
struct wal_segment *wal_disk_add_segment(struct wal_disk *disk, uint64_t id, uint64_t bytes);
/* Notes where the record's entries are, or went, given that it is in the segment `at`. */
void wal_disk_note(struct wal_disk *disk, size_t at, const struct wal_record *record);
/* Preamble and header record, unsealed, of a segment that follows prev. */
void wal_disk_encode_header(const struct wal_disk *disk, const struct wal_table *table, uint64_t id,
                            uint64_t prev, uint64_t prev_end, uint64_t prev_write, struct buf *out);
/* Applies the records of a durable write in segment `at` to the table. */
void wal_disk_apply(struct wal_disk *disk, size_t at, struct slice records);

#endif
