/* The protocol between clients and servers, and between the groups: requests and responses as
 * structs and as bytes. Little-endian, versioned, bounded; decoders copy nothing and point into the
 * message.
 *
 * A request's header: u8 version = 1, u8 op, u16 flags (1: dry run), u64 request_id, u32
 * deadline_ms, u64 trace_id. A response's header: u8 version = 1, u8 op, u16 status, u64
 * request_id, u32 leader hint, u32 gid hint, u64 config, u64 cluster_time. What follows depends on
 * op, and for a response is there only if the status is OK, NOT_FOUND or MISMATCH (a refusal may
 * carry a text instead).
 */
#ifndef CLIENT_PROTO_H
#define CLIENT_PROTO_H

#include "client/shard_config.h"
#include "raft/util/bytes.h"
#include "raft/util/status.h"

#define PROTO_VERSION               1
#define KV_MAX_KEY                  4096u
#define KV_MAX_VALUE                (16u << 20)
#define KV_MAX_WRITE                (40u << 20) /* keys and values of one write together */
#define KV_MAX_CONDITIONS           16
#define KV_MAX_OPERATIONS           16
#define PROTO_MAX_SCAN              10000u     /* keys in one page */
#define PROTO_SCAN_BYTES            (1u << 20) /* of one page, at least one record */
#define PROTO_MAX_CHUNK             (1u << 20) /* of a shard; a larger record goes alone */
#define PROTO_MAX_CURSOR            8192u /* of SHARD_PULL: a key and what the server adds to it */
#define PROTO_REQUEST_HEADER_BYTES  24
#define PROTO_RESPONSE_HEADER_BYTES 36

enum proto_op {
    /* shardkv, from clients */
    PROTO_GET = 1,
    PROTO_WRITE = 2, /* conditions and operations on one shard: put, append, delete, cas */
    PROTO_SCAN = 3,  /* one page of one shard */
    /* any server: answered by that replica alone */
    PROTO_STATUS = 10,
    PROTO_TRANSFER = 11,
    PROTO_PING = 12,
    PROTO_REPLICA = 13,  /* adds, removes or leaves alone a replica of the own group */
    PROTO_REPLICAS = 14, /* the replicas of the own group, as this one knows them */
    /* controller */
    PROTO_CONFIG = 20, /* a configuration by number */
    PROTO_JOIN = 21,
    PROTO_LEAVE = 22,
    PROTO_MOVE = 23,
    PROTO_CONFIRM = 24, /* a group reports that it owns shards now */
    PROTO_BIND = 25,    /* a group shows its incarnation */
    PROTO_PAUSE = 26,   /* stops the copies of shards that move, or lets them go on */
    PROTO_REPORT = 27,  /* a group reports who its replicas are */
    /* shardkv, from the group that takes a shard over */
    PROTO_SHARD_PULL = 40,    /* the next piece of a shard */
    PROTO_SHARD_RELEASE = 41, /* the taker has it for good */
    PROTO_SHARD_WHERE = 42    /* which epoch of a shard do you hold? */
};

struct proto_session {
    uint8_t client[16];
    uint64_t seq, acked_seq, issued_at;
};

/* ---- Writes ---- */

enum kv_condition_type {
    KV_IF_ABSENT = 1, /* there is no such key */
    KV_IF_VALUE = 2   /* its value is exactly this */
};

struct kv_condition {
    enum kv_condition_type type;
    struct slice key;
    struct slice value;
};

enum kv_operation_type { KV_PUT = 1, KV_APPEND = 2, KV_DELETE = 3 };

struct kv_operation {
    enum kv_operation_type type;
    struct slice key;
    struct slice value;
};

/* All conditions are checked, then all operations done, or none. Every key lies in `shard`.
 * Encoded: u16 shard, session (16 + 3 x u64), u8 conditions, u8 operations, then each as u8 type,
 * key and value as bytes. The same encoding is a command's body in the log. */
struct kv_write {
    shard_id shard;
    struct proto_session session;
    uint8_t n_conditions;
    uint8_t n_operations;
    struct kv_condition conditions[KV_MAX_CONDITIONS];
    struct kv_operation operations[KV_MAX_OPERATIONS];
};

/* The outcome, kept for retries: at most 64 bytes encoded. Encoded: u16 status, u8 n, n x u32.
 * outputs[i] of operation i: put 0, append the length after it, delete 1 or 0 keys removed. With
 * MISMATCH (a condition failed; nothing done) or TOO_LARGE (an append past the limit; nothing done)
 * n is 0. At most 15 outputs are kept; later ones are not. */
#define KV_MAX_OUTPUTS 15
struct kv_write_result {
    enum status status;
    uint8_t n_outputs;
    uint32_t outputs[KV_MAX_OUTPUTS];
};

/* Copies what is used of it: it has room for many more operations than most writes have. */
void kv_write_copy(struct kv_write *to, const struct kv_write *from);
void kv_write_encode(const struct kv_write *write, struct buf *out);
/* Checks counts, lengths of keys and values, types; not that keys lie in the shard. */
bool kv_write_decode(struct reader *reader, struct kv_write *write);
void kv_write_result_encode(const struct kv_write_result *result, struct buf *out);
bool kv_write_result_decode(struct reader *reader, struct kv_write_result *result);

/* ---- Replicas that come and go ---- */

enum proto_replica_change {
    PROTO_REPLICA_ADD = 1,    /* as a learner, which is promoted by itself when it has caught up */
    PROTO_REPLICA_REMOVE = 2, /* whoever has that id */
    PROTO_REPLICA_ALONE = 3   /* this one goes on without the others: their majority is lost */
};

/* A member of a group as one replica knows it. */
enum { PROTO_REPLICA_VOTER = 1, PROTO_REPLICA_VOTER_OLD = 2, PROTO_REPLICA_LEARNER = 4 };
struct proto_replica {
    uint32_t id;
    uint8_t flags;        /* as in struct raft_server; VOTER_OLD: until the change is committed */
    uint64_t incarnation; /* 0: not known yet */
    struct slice url;
    uint64_t match_index; /* told by a leader: it has the log up to here; else 0 */
    uint64_t heard_ms;    /* since a message of it last came; PROTO_UNKNOWN: not since the start */
    uint64_t heard_incarnation; /* whose message that was: `incarnation`, unless that is 0 */
};

#define PROTO_MAX_REPLICAS 18 /* old and new ones, while a change is under way */
struct proto_replicas {
    uint32_t gid, id; /* who says so */
    uint64_t incarnation;
    uint64_t configuration_index; /* of the entry that brought this configuration */
    bool committed;
    uint64_t term;
    uint32_t leader; /* 0: not known */
    uint64_t commit_index, last_index, last_term;
    uint32_t n;
    struct proto_replica *replicas; /* ascending by id */
};

/* ---- Requests ---- */

struct proto_request {
    enum proto_op op;
    uint64_t request_id;  /* the caller's; comes back */
    uint32_t deadline_ms; /* from receipt: after it nobody waits for the answer. 0: none */
    uint64_t trace_id;
    bool dry_run; /* JOIN, LEAVE, MOVE, REPLICA: change nothing, tell what it would make */
    union {
        struct {
            shard_id shard;
            struct slice key;
        } get;
        struct kv_write write;
        struct {
            shard_id shard;
            struct slice prefix;
            struct slice after; /* keys above this one; empty: from the beginning */
            uint32_t limit;
        } scan;
        struct {
            uint32_t to; /* 0: anyone */
        } transfer;
        struct {
            enum proto_replica_change kind;
            uint32_t gid; /* whose; compared with the server's own */
            uint32_t id;
            /* Which configuration is to be changed, as REPLICAS told it; at least 1. In another one
             * the change is refused, unless that already is as the change would make it. */
            uint64_t configuration_index;
            struct slice url; /* ADD: where it listens; else empty */
        } replica;
        struct {
            config_num num;       /* UINT64_MAX: the latest */
            uint32_t gid;         /* of the group that asks; 0: a client */
            uint64_t incarnation; /* of that group */
        } config;
        struct {
            struct proto_session session;
            uint32_t n;                      /* at most PROTO_MAX_GROUPS */
            struct proto_join_group *groups; /* the decoder's memory: proto_request_fini */
        } join;
        struct {
            struct proto_session session;
            uint32_t n;
            uint32_t *gids; /* likewise */
        } leave;
        struct {
            struct proto_session session;
            shard_id shard;
            uint32_t gid;
        } move;
        struct {
            struct proto_session session;
            bool paused;
        } pause;
        struct {
            uint32_t gid;
            uint64_t incarnation;
            uint32_t n;
            struct proto_confirm *shards; /* likewise */
        } confirm;                        /* CONFIRM; for BIND only gid and incarnation */
        struct {
            uint32_t gid;
            uint64_t incarnation;
            uint64_t term, index;  /* of the leader, and of the configuration's entry */
            struct spec *replicas; /* likewise; the voters */
        } report;
        struct {
            shard_id shard;
            config_num num;      /* the configuration that moves it */
            uint32_t to;         /* the group that asks */
            uint64_t copy_id;    /* of this copy: pieces of different copies don't mix */
            uint64_t piece;      /* 0, 1, …: number of the wanted one */
            struct slice cursor; /* the cursor that came with the last piece; empty for the first */
            uint32_t max_bytes;
            bool anew; /* first piece: the last copy was not what the source said at its end */
        } shard_pull;
        struct {
            shard_id shard;
            config_num num;
            uint32_t to;
        } shard_release;
        struct {
            shard_id shard;
        } shard_where;
    };
};

#define PROTO_MAX_GROUPS 64
struct proto_join_group {
    uint32_t gid;
    uint64_t incarnation; /* 0: not known; the controller learns it at first contact */
    struct spec replicas;
};
struct proto_confirm {
    shard_id shard;
    config_num epoch;
};

void proto_request_encode(const struct proto_request *request, struct buf *out);
/* On success, proto_request_fini releases what the decoder made; slices point into `message`. */
bool proto_request_decode(struct slice message, struct proto_request *request);
void proto_request_fini(struct proto_request *request);
/* Whether only servers ask such a thing, of other servers: the peer key guards it. */
bool proto_is_for_servers(const struct proto_request *request);
/* The request_id of an encoded request. */
uint64_t proto_request_peek_id(struct slice message);
/* Makes an encoded request the next try of itself: another id, another deadline. */
void proto_request_retry(struct buf *message, uint64_t request_id, uint32_t deadline_ms);

/* ---- Responses ---- */

/* One replica's row of `status`. */
struct proto_shard_status {
    shard_id shard;
    uint8_t state; /* enum proto_shard_state */
    config_num epoch;
    uint64_t keys, bytes; /* estimates */
};
enum proto_shard_state {
    PROTO_SHARD_ABSENT = 0,
    PROTO_SHARD_SERVING = 1,
    PROTO_SHARD_PULLING = 2, /* on its way here */
    PROTO_SHARD_WAITING = 3, /* to come, its source is not ready */
    PROTO_SHARD_FROZEN = 4,  /* handed over or about to be; not served */
    PROTO_SHARD_DROPPING = 5
};
struct proto_move_status {
    shard_id shard;
    uint32_t from, to;
    config_num num;
    uint8_t phase;                                           /* enum proto_move_phase */
    uint64_t bytes_done, bytes_total, keys_done, keys_total; /* totals: estimates, 0: not known */
    uint64_t rate;         /* bytes a second, of late; 0: not known, or nothing arrives */
    uint64_t seconds_left; /* until the shard is handed over; PROTO_UNKNOWN */
    uint64_t pause_us;     /* how long nobody served the shard; PROTO_UNKNOWN until it is over */
};
#define PROTO_UNKNOWN UINT64_MAX
/* A shard that is DONE is served by the taker; it may be listed for a while, with its pause. */
enum proto_move_phase {
    PROTO_MOVE_WAITING = 0,      /* not begun: its source is not ready, or others come first */
    PROTO_MOVE_COPYING = 1,      /* the base goes over, the source serves */
    PROTO_MOVE_CATCHING_UP = 2,  /* what changed meanwhile goes over, the source serves */
    PROTO_MOVE_HANDING_OVER = 3, /* frozen: the last changes go over, nobody serves */
    PROTO_MOVE_LETTING_GO = 4,   /* the taker serves, the source deletes its copy */
    PROTO_MOVE_DONE = 5
};
struct proto_node_status {
    uint32_t gid, id;
    uint8_t role; /* enum raft_role's numbers, 9: learner */
    uint64_t term;
    uint32_t leader;
    uint64_t first_index, last_index, commit_index, applied_index, snapshot_index;
    uint64_t db_bytes, log_bytes, uptime_s;
    config_num config;
    uint64_t incarnation;       /* of the replica */
    uint64_t group_incarnation; /* 0: not known yet */
    uint8_t cluster_id[16];
    bool ready;           /* the leader can serve; a follower hears from a leader */
    bool read_only;       /* the replica has too little disk space to take writes */
    struct slice version; /* of the program */
    uint32_t n_shards;    /* rows that follow: only a leader of a group sends them */
    struct proto_shard_status *shards;
    uint32_t n_moves;
    struct proto_move_status *moves;
};

struct proto_record {
    struct slice key;
    struct slice value;
};

/* A piece of a shard, see shardkv/kv_piece.h. */
enum proto_piece_kind {
    PROTO_PIECE_MORE = 1, /* others follow */
    PROTO_PIECE_END = 2,  /* the last one: the shard is frozen, and this is what it holds */
    PROTO_PIECE_VOID = 3  /* no piece: the move was called off, the shard stays or goes elsewhere */
};

struct proto_response {
    enum proto_op op;
    enum status status;
    uint64_t request_id;
    uint32_t leader_hint;  /* a replica id of the same group, 0: not known */
    uint32_t gid_hint;     /* with WRONG_GROUP: who has the shard, 0: not known */
    config_num config;     /* the number that the server is at */
    uint64_t cluster_time; /* microseconds */
    struct slice text;     /* with a refusal: one clause, may be empty; with NOT_LEADER: the URL of
                              the replica that leader_hint names, if it is known */
    union {
        struct {
            struct slice value;
            uint64_t version;
        } get;
        struct kv_write_result write;
        struct {
            bool more; /* the shard has further keys after the last one */
            uint32_t n;
            struct proto_record *records; /* the decoder's memory: proto_response_fini */
        } scan;
        struct proto_node_status node;
        struct {
            struct slice encoded; /* a shard_config; decode it with shard_config_decode */
        } config_reply;           /* CONFIG */
        struct {
            config_num num;       /* of the configuration made, or the present one */
            struct slice planned; /* a dry run: the encoded shard_config; else empty */
        } admin;                  /* JOIN, LEAVE, MOVE, PAUSE */
        struct {
            uint64_t configuration_index; /* of the change; 0: it was made before, or a dry run */
        } replica;
        struct proto_replicas replicas; /* with the decoder's memory: proto_response_fini */
        struct {
            uint64_t piece;
            uint8_t kind;
            uint64_t keys_total, bytes_total; /* of the shard: estimates; 0: not known */
            uint32_t load;     /* client operations a second that the source serves now */
            uint32_t strain;   /* how long its clients wait, percent of what is usual; 0: unknown */
            bool frozen;       /* nobody serves the shard any more: the rest is urgent */
            struct slice body; /* opaque to everyone but shardkv */
            struct slice cursor; /* for the next request; empty with END and VOID */
        } shard_pull;
        struct {
            bool held;        /* this group holds it (serving or frozen) */
            config_num epoch; /* under which it was installed here */
        } shard_where;
    };
};

void proto_response_encode(const struct proto_response *response, struct buf *out);
bool proto_response_decode(struct slice message, struct proto_response *response);
void proto_response_fini(struct proto_response *response);

/* Reads only the request_id and op of a response, to find who waits for it. */
bool proto_response_peek(struct slice message, uint64_t *request_id, enum proto_op *op);

#endif
