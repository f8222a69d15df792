/* kv_piece: a shard as a sequence of pieces, read by cursor, while it is served.
 *
 * A copy is the base (the records in order of key, then the sessions in order of client id), then
 * rounds of what changed since it was swept or sent (in order of the change log), then, once the
 * shard is frozen, the last changes and the END. The base is read from the state as it is when the
 * piece is read: what changes later is in the change log, so in the end the taker has it all.
 *
 * The cursor says where the next piece begins: the source keeps nothing between two pieces, so
 * whoever leads goes on from it. The taker hands the cursor back as it came.
 *
 * Format of a body: entries of u8 what, bytes key (or client id), and if `what` has one bytes
 * value. Of the END: u8 format = 2, two sums of 4 x u64 (records, sessions), u64 epoch, u64 floor,
 * u64 version counter, u32 milliseconds since it was frozen, then entries. Of a cursor: u8 format =
 * 2, u8 phase, bytes last key or client id (empty: from the phase's beginning), u64 number of the
 * last change that was sent, u64 number of the last change of this round, u32 rounds.
 */
#ifndef SHARDKV_KV_PIECE_H
#define SHARDKV_KV_PIECE_H

#include "client/proto.h"
#include "raft/rsm.h"
#include "shardkv/shard.h"

enum kv_entry_what {
    KV_ENTRY_RECORD = 1,         /* of the base: its key was not in any piece before */
    KV_ENTRY_SESSION = 2,        /* is like this now */
    KV_ENTRY_CHANGED = 3,        /* the record is like this now */
    KV_ENTRY_REMOVED = 4,        /* there is no record of the key */
    KV_ENTRY_SESSION_REMOVED = 5 /* of the client */
};

struct kv_entry {
    enum kv_entry_what what;
    struct slice key;
    struct slice value;
};
/* The next entry of a body; false at its end, or when it is malformed (then the reader is bad). */
bool kv_entry_next(struct reader *body, struct kv_entry *entry);
/* Whether the body is well-formed in full: lengths, record headers. It may be empty. */
bool kv_piece_body_is_valid(struct slice body);

/* A shard of which a copy goes out. */
struct kv_piece_source {
    struct io_state *state;
    const struct shard *shard;
    const struct session_table *sessions;
    uint64_t version;
};

struct kv_piece {
    struct buf body;
    struct buf cursor; /* for the next piece */
    bool is_all;       /* nothing is left to send as the shard is now */
};
void kv_piece_fini(struct kv_piece *piece);

/* So much may be left to send when a shard is frozen; it goes over in one piece then. A single
 * record may be 64 times as large: what is more goes over while the shard is served. */
#define KV_PIECE_FROZEN_BYTES (256u << 10)

/* What the source must do before it can go on from the cursor. */
enum kv_piece_need {
    KV_PIECE_READ,   /* nothing */
    KV_PIECE_SWEEP,  /* sweep on: all that is swept was sent */
    KV_PIECE_FREEZE, /* few changes of few bytes are left, or they don't get fewer */
    KV_PIECE_INVALID /* that is no cursor of this copy */
};
enum kv_piece_need kv_piece_needs(const struct kv_piece_source *source, struct slice cursor);

/* Reads the piece that begins at the cursor (empty: the first). max_bytes bounds the body; one
 * larger entry goes alone. ST_OK; ST_INVALID for a cursor that is none; or why the state can't be
 * read. */
enum status kv_piece_read(const struct kv_piece_source *source, struct slice cursor,
                          uint32_t max_bytes, struct kv_piece *piece);

/* Whether the cursor is behind the base: pieces are small, and the pause is near. */
bool kv_piece_is_in_rounds(struct slice cursor);
/* Which round it is in: 1, 2, …; 0: in the base. */
uint32_t kv_piece_round(struct slice cursor);

struct kv_piece_end {
    struct shard_sum records, sessions;
    config_num epoch;
    uint64_t floor;
    uint64_t version;
    uint32_t frozen_ms;
    struct slice entries;
};
/* Appends the END of a frozen shard with these last entries. */
void kv_piece_end_encode(const struct kv_piece_source *source, uint32_t frozen_ms,
                         struct slice entries, struct buf *out);
bool kv_piece_end_decode(struct slice body, struct kv_piece_end *end);
/* The sum over all sessions of a table. */
void kv_piece_sum_sessions(const struct session_table *sessions, struct shard_sum *sum);

#endif
