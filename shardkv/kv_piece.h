/* kv_piece: a frozen shard as a sequence of pieces, read by cursor.
 *
 * A copy is RECORDS pieces (in order of key), then SESSIONS pieces (in order of client id), then
 * the END. The cursor says where the next piece begins and carries the sums of all that went before
 * it, so the source keeps nothing between two pieces: any replica that has applied the FREEZE reads
 * the same entries from the same cursor. The taker hands the cursor back as it came.
 *
 * Format of a RECORDS body: entries of (bytes key, bytes record). Of a SESSIONS body: entries of
 * (bytes client id, bytes record). Of the END: u8 format = 1, two sums of 4 x u64 (records,
 * sessions), u64 epoch, u64 floor, u64 version counter, bytes chain. Of a cursor: u8 format = 1, u8
 * phase (enum proto_piece_kind), bytes last key or client id of that phase (empty: from its
 * beginning), two sums.
 */
#ifndef SHARDKV_KV_PIECE_H
#define SHARDKV_KV_PIECE_H

#include "client/proto.h"
#include "raft/io.h"
#include "shardkv/shard.h"

/* The frozen shard. */
struct kv_piece_source {
    struct io_state *state;
    uint64_t range;
    config_num epoch;
    uint64_t floor;
    uint64_t version;
};

struct kv_piece {
    enum proto_piece_kind kind;
    struct buf body;
    struct buf cursor; /* for the next piece; empty with END */
};
void kv_piece_fini(struct kv_piece *piece);

/* Reads the piece that begins at the cursor (empty: the first). max_bytes bounds the body; one
 * larger entry goes alone. ST_OK; ST_INVALID for a cursor that is none; or why the state can't be
 * read. */
enum status kv_piece_read(const struct kv_piece_source *source, struct slice cursor,
                          uint32_t max_bytes, struct kv_piece *piece);

/* The next entry of a RECORDS or SESSIONS body; false at the end or when malformed (then the reader
 * is bad). */
bool kv_piece_next_entry(struct reader *body, struct slice *key, struct slice *value);
/* Whether the body is well-formed in full: lengths, record headers. */
bool kv_piece_body_is_valid(uint8_t kind, struct slice body);

struct kv_piece_end {
    struct shard_sum records, sessions;
    config_num epoch;
    uint64_t floor;
    uint64_t version;
    struct slice chain;
};
bool kv_piece_end_decode(struct slice body, struct kv_piece_end *end);

#endif
