/* kv_ops: what reads and writes do to the records of one shard's range.
 *
 * A record is a header of 20 bytes and the value: u8 format = 1, u8 type = 1 (bytes), u16 flags =
 * 0, u64 expire_at = 0 (never), u64 version. The version is the shard's write counter at the
 * record's last change; it travels with the shard and never goes back.
 */
#ifndef SHARDKV_KV_OPS_H
#define SHARDKV_KV_OPS_H

#include "client/proto.h"
#include "raft/io.h"

/* What a shard's range holds, and the range of its change log; those of range 0: kv_sm.h. */
enum kv_kind {
    KV_KIND_DATA = 1,    /* user key -> record */
    KV_KIND_SESSION = 2, /* client id -> its record, see session_table in raft/rsm.h */
    KV_KIND_COUNTER = 3, /* empty key -> u64 version counter */
    KV_KIND_CHANGE = 4,  /* u64 be number -> u8 kind (DATA or SESSION), its key: what changed */
    KV_KIND_NUMBER = 5   /* u8 kind, its key -> u64 number of the change that is noted */
};

#define KV_RECORD_FORMAT       1
#define KV_RECORD_TYPE_BYTES   1
#define KV_RECORD_HEADER_BYTES 20

struct kv_record {
    uint64_t version;
    struct slice value;
};

/* Appends the header; the value's bytes follow it. */
void kv_record_put_header(struct buf *out, uint64_t version);
/* ST_OK; ST_VERSION for a format or type not known here; ST_CORRUPT. */
enum status kv_record_decode(struct slice bytes, struct kv_record *record);

/* Reads the record of a key; its value points into *memory, which is overwritten. ST_OK,
 * ST_NOT_FOUND, or why it can't be read. */
enum status kv_ops_read(struct io_state *state, uint64_t range, struct slice key,
                        struct buf *memory, struct kv_record *record);

/* Whether every key of the write has a legal length and lies in write->shard. */
bool kv_ops_keys_fit(const struct kv_write *write, uint32_t n_shards);

/* Told of each record before it is written or removed (record NULL). ST_OK, or why the state can't
 * be read. */
struct kv_ops_watch {
    enum status (*changing)(void *context, struct slice key, const struct slice *record);
    void *context;
};

/* Checks all conditions, then does all operations, or nothing at all. Operations see what earlier
 * ones of the same write did. *result: OK with the outputs, MISMATCH, or TOO_LARGE. Reads only what
 * the conditions, appends and deletes need. `watch` may be NULL. Returns ST_OK, or why the state
 * can't be read: then this replica has to stop. */
enum status kv_ops_write(struct io_state *state, uint64_t range, const struct kv_write *write,
                         uint64_t version, const struct kv_ops_watch *watch,
                         struct kv_write_result *result);

#endif
