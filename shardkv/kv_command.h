/* kv_command: the entries of a shard group's log, as structs and as bytes, and what their apply
 * answers. Format: u8 format = 1, u8 kind, then by kind:
 *
 *   INIT      u64 incarnation of the group, 16 bytes cluster id, u32 number of shards
 *   CONFIG    an encoded shard_config
 *   WRITE     an encoded kv_write (client/proto.h)
 *   FREEZE, DROP, RELEASED    u32 shard, u64 num
 *   CHUNK     u32 shard, u64 num, u64 copy_id, u64 piece, u8 kind of piece, bytes body, bytes
 * cursor INSTALL   u32 shard, u64 num, u64 copy_id, u64 pieces, two sums of 4 x u64 (records,
 * sessions), u64 epoch at the source, u64 floor, u64 version counter, bytes chain (empty: place for
 * the chain of epochs)
 *
 * A kind or format that this program does not know halts the replica: it is never skipped.
 */
#ifndef SHARDKV_KV_COMMAND_H
#define SHARDKV_KV_COMMAND_H

#include "client/proto.h"
#include "shardkv/shard.h"

#define KV_COMMAND_FORMAT 1

enum kv_command_kind {
    KV_COMMAND_INIT = 1,     /* who this group is, once */
    KV_COMMAND_CONFIG = 2,   /* adopt the next configuration */
    KV_COMMAND_WRITE = 3,    /* a client's conditions and operations on one shard */
    KV_COMMAND_FREEZE = 4,   /* give away: stop serving */
    KV_COMMAND_CHUNK = 5,    /* take over: a piece of the copy */
    KV_COMMAND_INSTALL = 6,  /* take over: complete, serve */
    KV_COMMAND_DROP = 7,     /* give away: the taker has it, let go */
    KV_COMMAND_RELEASED = 8, /* take over: the source has let go */
    /* Numbers kept for copying before the freeze. */
    KV_COMMAND_COPY_BEGIN = 9,
    KV_COMMAND_CLEAR = 10,
    KV_COMMAND_ABANDON = 11,
    KV_COMMAND_AUDIT = 12
};

#define KV_MAX_CHAIN 16384u

struct kv_command {
    enum kv_command_kind kind;
    shard_id shard; /* FREEZE, DROP, RELEASED, CHUNK, INSTALL */
    config_num num; /* likewise */
    union {
        struct {
            uint64_t incarnation;
            uint8_t cluster_id[16];
            uint32_t n_shards;
        } init;
        struct slice config;
        struct kv_write write;
        struct {
            uint64_t copy_id;
            uint64_t piece;
            uint8_t kind; /* PROTO_PIECE_RECORDS or PROTO_PIECE_SESSIONS */
            struct slice body;
            struct slice cursor;
        } chunk;
        struct {
            struct shard_end end;
            uint64_t floor;
            uint64_t version;
            struct slice chain;
        } install;
    };
};

void kv_command_encode(const struct kv_command *command, struct buf *out);
/* Slices point into `bytes`. ST_OK; ST_VERSION for a format or kind not known here; ST_CORRUPT. */
enum status kv_command_decode(struct slice bytes, struct kv_command *command);

/* The result of an apply. Format: u16 status, u32 gid hint, then for a write that has a result its
 * encoding. Statuses of a write: OK (write.status says how it ended: OK, MISMATCH, TOO_LARGE),
 * WRONG_GROUP, SESSION_STALE, SESSION_EXPIRED, INVALID. Of the others: OK (it had its effect),
 * DUPLICATE (nothing to do: it was done before, or is not its turn), CONFLICT or INVALID (refused),
 * CORRUPT (INSTALL: the copy is broken, MALFORMED: a piece is). */
struct kv_command_result {
    enum status status;
    uint32_t gid_hint;   /* with WRONG_GROUP: who has the shard, 0: not known */
    struct slice result; /* of a write with OK: an encoded kv_write_result */
};
void kv_command_result_encode(const struct kv_command_result *outcome, struct buf *out);
bool kv_command_result_decode(struct slice bytes, struct kv_command_result *outcome);

#endif
