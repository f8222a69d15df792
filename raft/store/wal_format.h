/* wal_format: the bytes of a segment file.
 *
 *   preamble   40 bytes: "SKVWAL\r\n", u32 version, u32 0, u64 identity, u64 segment id, u32 0,
 *              u32 CRC32C of the 36 bytes before. Its layout is the same in all versions.
 *   records    each at a multiple of 8: a header of 32 bytes, the payload, zeros up to 8.
 *
 * Record header:
 *    0 u32 header crc: CRC32C of identity, segment id, offset in the file (u64 each), bytes 4..31
 *    4 u32 payload crc: CRC32C of the payload
 *    8 u32 payload length
 *   12 u8  kind            13 u8 flags: 1 = last record of its write        14 u16 0
 *   16 u64 number of the write it belongs to
 *   24 u32 group           28 u32 0
 *
 * The header's checksum covers the payload's, and binds both to log, segment and offset: bytes that
 * a recycled file still holds from an earlier life, or that landed in the wrong place, never pass.
 * That it needs no payload lets recovery look for headers in a damaged area at a bounded cost.
 *
 * Payloads: SEGMENT u64 previous segment (0: none), u64 offset where that one ends, u64 number of
 * its last write, the table of all groups (wal_table.h). HARD_STATE u64 term, u32 voted_for.
 * ENTRIES u64 first index, u32 count, u32 0, the entries (u64 index, u64 term, u8 type, u32 length,
 * data). RESET and COMPACT u64 index, u64 term. CHECKPOINT u64 number, u64 index. SYNC_POINT
 * nothing. END and MOVED u64 the segment that follows.
 *
 * A write is a run of records with one number, the last one flagged; numbers rise by one from write
 * to write. A write is there when all of its records are.
 */
#ifndef RAFT_STORE_WAL_FORMAT_H
#define RAFT_STORE_WAL_FORMAT_H

#include "raft/raft.h"

#define WAL_VERSION        1u
#define WAL_PREAMBLE_BYTES 40u
#define WAL_HEADER_BYTES   32u
#define WAL_BLANK_BYTES    4096u       /* zeroed before a file becomes a segment */
#define WAL_MAX_PAYLOAD    (48u << 20) /* one entry of 40 MiB fits */
#define WAL_ENTRIES_BYTES  (1u << 20)  /* entries are put together in records of about this size */
#define WAL_END_BYTES      (WAL_HEADER_BYTES + 8u)
#define WAL_RESERVED_BYTES (WAL_HEADER_BYTES + WAL_END_BYTES) /* for a sync point and END */

enum wal_kind {
    WAL_SEGMENT = 1,    /* the first record of every segment */
    WAL_HARD_STATE = 2, /* term and vote of a group */
    WAL_ENTRIES = 3,    /* replace everything of the group from the first one on */
    WAL_RESET = 4,      /* the group's log is empty and begins after (index, term) */
    WAL_COMPACT = 5,    /* entries up to (index, term) are not needed any more */
    WAL_CHECKPOINT = 6, /* that checkpoint of the group's state is durable */
    WAL_SYNC_POINT = 7, /* everything before is durable */
    WAL_END = 8,        /* the log goes on in that segment, which exists already */
    WAL_MOVED = 9       /* the same, written by recovery: that segment is begun and durable */
};

/* What a record is bound to. */
struct wal_place {
    uint64_t identity;
    uint64_t segment;
    uint64_t offset;
};

struct wal_record {
    enum wal_kind kind;
    bool last; /* of its write */
    uint64_t write;
    group_id group;
    uint32_t payload_crc;
    uint32_t payload_len;
    struct slice payload; /* empty after wal_header_parse: set once it is checked */
};

/* The length of a record with its header and padding. */
static inline uint64_t wal_record_bytes(uint32_t payload_len)
{
    return WAL_HEADER_BYTES + (((uint64_t)payload_len + 7) & ~(uint64_t)7);
}

/* Encoding, in two steps: begin, payload, end give an unsealed record, which knows neither its
 * write nor its place; wal_seal makes a write of such records once both are known. */
size_t wal_record_begin(struct buf *out, enum wal_kind kind, group_id group);
void wal_record_end(struct buf *out, size_t at);
/* `place` is that of the first record. The bytes must be whole records. */
void wal_seal(uint8_t *records, size_t len, struct wal_place place, uint64_t write);

/* Checks a header against its place; false: not a record (the payload is not looked at). `bytes`
 * has at least WAL_HEADER_BYTES. */
bool wal_header_parse(const uint8_t *bytes, struct wal_place place, struct wal_record *record);

/* The next record of bytes that this process encoded or checked itself; false at the end. */
bool wal_record_next(struct slice records, size_t *at, struct wal_record *record);

enum wal_preamble { WAL_PREAMBLE_NONE, WAL_PREAMBLE_OK, WAL_PREAMBLE_NEWER };
void wal_preamble_encode(struct buf *out, uint64_t identity, uint64_t segment);
/* NONE: no whole preamble is there. NEWER: of a later version; identity and segment are given. */
enum wal_preamble wal_preamble_parse(const uint8_t *bytes, uint64_t *identity, uint64_t *segment);

void wal_encode_number(struct buf *out, enum wal_kind kind, uint64_t next); /* END, MOVED */
void wal_encode_sync_point(struct buf *out);
void wal_encode_hard_state(struct buf *out, group_id group, const struct raft_hard_state *state);
/* One or more ENTRIES records. */
void wal_encode_entries(struct buf *out, group_id group, const struct raft_entry *entries,
                        size_t n);
/* RESET, COMPACT: (index, term). CHECKPOINT: (number, index). */
void wal_encode_pair(struct buf *out, enum wal_kind kind, group_id group, uint64_t a, uint64_t b);

#endif
