/* Raft's data as bytes: messages, entries, hard state, snapshot metadata. Little-endian; every
 * decoder checks bounds, types and counts and returns false for anything malformed, whatever the
 * bytes. */
#ifndef RAFT_WIRE_H
#define RAFT_WIRE_H

#include "raft/raft.h"

#define WIRE_MAX_ENTRY_BYTES   (40u << 20) /* of one entry's data */
#define WIRE_MAX_MESSAGE_BYTES (48u << 20)
#define WIRE_MAX_ENTRIES       65536u /* in one Append */

/* Appends the encoded message. Format: u8 version = 1, u8 type, u8 from, u8 to, u64 term, then the
 * fields of the type in the order of their struct (booleans as one u8 of flags). */
void wire_encode_message(const struct raft_message *message, struct buf *out);

/* Decodes a whole message. On success the caller owns it (raft_message_fini); on failure it owns
 * nothing. Entries' data is copied out of `bytes`. */
bool wire_decode_message(struct slice bytes, struct raft_message *message);

/* One entry: u64 index, u64 term, u8 type, u32 length, data. */
void wire_encode_entry(const struct raft_entry *entry, struct buf *out);
/* On success the caller owns entry->data. */
bool wire_decode_entry(struct reader *reader, struct raft_entry *entry);

/* u64 index, u64 term, then the configuration as bytes. */
void wire_encode_snapshot_meta(const struct raft_snapshot_meta *meta, struct buf *out);
bool wire_decode_snapshot_meta(struct reader *reader, struct raft_snapshot_meta *meta);

#endif
