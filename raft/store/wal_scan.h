/* wal_scan: reading a segment file, whatever is in it. Memory is bounded by the largest record, and
 * a length is believed only after its header's checksum. */
#ifndef RAFT_STORE_WAL_SCAN_H
#define RAFT_STORE_WAL_SCAN_H

#include "raft/store.h"
#include "raft/store/wal_format.h"

struct wal_source {
    const struct wal_files *files;
    int fd; /* -1: not open */
    uint64_t identity;
    uint64_t segment;
    uint64_t size;
    struct buf window; /* bytes of the file from window_at on */
    uint64_t window_at;
    int error; /* the negative errno of a read that failed; then everything looks absent */
};

/* 0 or a negative errno. */
int wal_source_open(struct wal_source *source, const struct wal_files *files, const char *path,
                    uint64_t identity, uint64_t segment);
void wal_source_close(struct wal_source *source);
/* So many bytes of the file; NULL if it ends before or can't be read. Valid until the next call. */
const uint8_t *wal_source_bytes(struct wal_source *source, uint64_t offset, uint64_t len);

/* The whole record at offset, payload checked; false if there is none. Its payload is valid until
 * the next call. */
bool wal_source_record(struct wal_source *source, uint64_t offset, struct wal_record *record);

/* A write read back: its records as they were before they were sealed, without those that only say
 * something about the segment (SEGMENT, SYNC_POINT, END, MOVED). */
struct wal_write {
    uint64_t number; /* 0: none */
    size_t segment;  /* for recovery: which of its segments it was found in */
    uint64_t offset;
    uint64_t end;
    bool begins_segment; /* its first record is SEGMENT */
    enum wal_kind only;  /* SYNC_POINT, END or MOVED if the write is just that; else 0 */
    uint64_t next;       /* END, MOVED: the segment named */
    struct buf records;
};
void wal_write_fini(struct wal_write *write);

/* Reads the write `number` at offset. False: it is not all there; *bad is where it breaks off. */
bool wal_source_write(struct wal_source *source, uint64_t offset, uint64_t number,
                      struct wal_write *write, uint64_t *bad);

/* The highest number of a write of which any header is at or after `offset`; 0: none. */
uint64_t wal_source_highest(struct wal_source *source, uint64_t offset);

#endif
