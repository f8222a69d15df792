/* kv_command: the entries of a shard group's log, as structs and as bytes, and what their apply
 * answers. Format: u8 format = 2, u8 kind, then by kind:
 *
 *   INIT      u64 incarnation of the group, 16 bytes cluster id, u32 number of shards
 *   CONFIG    an encoded shard_config
 *   WRITE     an encoded kv_write (client/proto.h)
 *   DROP, RELEASED, VOID      u32 shard, u64 num
 *   COPY_BEGIN  u32 shard, u64 num, u64 copy_id, u32 max bytes to sweep at once
 *   SWEEP       u32 shard, u64 num, u64 copy_id, bytes from, u32 max bytes
 *   FREEZE      u32 shard, u64 num, u64 copy_id
 *   CHUNK       u32 shard, u64 num, u64 copy_id, u64 piece, bytes begin (cursor), bytes body,
 *               bytes cursor (where the next one begins)
 *   INSTALL     u32 shard, u64 num, u64 copy_id, u64 piece, bytes begin, bytes body, u32 gid of the
 *               source, two sums of 4 x u64 (records, sessions), u64 epoch at the source, u64
 * floor, u64 version counter
 *
 * A kind or format that this program does not know halts the replica: it is never skipped.
 */
#ifndef SHARDKV_KV_COMMAND_H
#define SHARDKV_KV_COMMAND_H

#include "client/proto.h"
#include "shardkv/shard.h"

#define KV_COMMAND_FORMAT 2

enum kv_command_kind {
    KV_COMMAND_INIT = 1,       /* who this group is, once */
    KV_COMMAND_CONFIG = 2,     /* adopt the next configuration */
    KV_COMMAND_WRITE = 3,      /* a client's conditions and operations on one shard */
    KV_COMMAND_FREEZE = 4,     /* give away: stop serving */
    KV_COMMAND_CHUNK = 5,      /* take over: a piece of the copy */
    KV_COMMAND_INSTALL = 6,    /* take over: the last piece; complete, serve */
    KV_COMMAND_DROP = 7,       /* give away: the taker has it, let go */
    KV_COMMAND_RELEASED = 8,   /* take over: the source has let go */
    KV_COMMAND_COPY_BEGIN = 9, /* give away: note changes from here on; sweeps a first part */
    KV_COMMAND_SWEEP = 10,     /* give away: account for the next part */
    KV_COMMAND_VOID = 11       /* take over: it was called off */
};

struct kv_command {
    enum kv_command_kind kind;
    shard_id shard; /* of all from FREEZE on */
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
            struct slice from;  /* SWEEP */
            uint32_t max_bytes; /* SWEEP, COPY_BEGIN */
        } copy;                 /* COPY_BEGIN, SWEEP, FREEZE */
        struct {
            struct shard_piece piece;
            struct slice body;
            struct slice cursor;  /* CHUNK */
            struct shard_end end; /* INSTALL, and so are these */
            uint64_t floor;
            uint64_t version;
        } arrival; /* CHUNK, INSTALL */
    };
};

void kv_command_encode(const struct kv_command *command, struct buf *out);
/* The same of a WRITE, which need not be copied into a command. */
void kv_command_encode_write(const struct kv_write *write, struct buf *out);
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
