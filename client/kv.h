/* ShardKV's client library.
 *
 * A handle (struct shardkv) is one client: it knows the controllers, keeps the map of shards, finds
 * the leader of each group, follows shards while they move, retries until the deadline, and knows
 * how each operation ended. It has threads of its own; every function may be called from any
 * thread. All operations of a handle share its connections: those that are started at about the
 * same time travel together.
 *
 * Every operation exists twice. The plain one waits and returns the code. The one ending in _async
 * returns at once; if it returned SHARDKV_OK, the callback is called exactly once, on a thread of
 * the library's, one callback of a handle at a time, with no lock held. A callback may start
 * operations and cancel others, but must not wait (all handles share these threads): the plain
 * functions, called from a callback, return SHARDKV_INVALID, whichever handle they are for.
 *
 * How an operation ended, in three classes:
 *   - it ran: SHARDKV_OK, and the negative answers SHARDKV_NOT_FOUND and SHARDKV_MISMATCH;
 *   - it certainly did not and will not run: all other codes but one;
 *   - a write was sent, and its end is not known: SHARDKV_UNKNOWN. It may have been applied or not,
 *     or may be later. It is never applied twice, however often the library repeats it.
 * Reads never end as SHARDKV_UNKNOWN.
 *
 * Keys have 1 to 4096 bytes, values 0 to 16 MiB; both may hold any bytes. Inputs are copied before
 * a function returns. Operations of one handle that are outstanding at the same time have no order
 * among them.
 *
 * Codes, names and the meaning of each never change; structs marked with `size` may grow at their
 * end, and results are made by the library only, so programs built against an older version go on
 * working.
 */
#ifndef SHARDKV_KV_H
#define SHARDKV_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHARDKV_API __attribute__((visibility("default")))

/* ---- Version ---- */

#define SHARDKV_VERSION_MAJOR 0
#define SHARDKV_VERSION_MINOR 1
#define SHARDKV_VERSION_PATCH 0

/* The version of the library that runs: "0.1.0", and as major << 16 | minor << 8 | patch. */
SHARDKV_API const char *shardkv_version(void);
SHARDKV_API uint32_t shardkv_version_number(void);

/* ---- Codes ---- */

enum shardkv_code {
    SHARDKV_OK = 0,
    SHARDKV_NOT_FOUND = 1,   /* no such key */
    SHARDKV_MISMATCH = 2,    /* a condition did not hold; nothing was changed */
    SHARDKV_INVALID = 3,     /* wrong arguments */
    SHARDKV_TOO_LARGE = 4,   /* a key or value past the limit, or an append that would pass it */
    SHARDKV_NOT_LEADER = 5,  /* only from a replica asked alone */
    SHARDKV_WRONG_GROUP = 6, /* only from a replica asked alone */
    SHARDKV_BUSY = 7,        /* too much is outstanding */
    SHARDKV_TIMEOUT = 8,     /* no answer by the deadline; certainly not applied */
    SHARDKV_UNKNOWN = 9,     /* a write's end is not known */
    SHARDKV_SESSION_EXPIRED = 10,
    SHARDKV_SESSION_STALE = 11,
    SHARDKV_UNAVAILABLE = 12, /* refused or not reachable until the deadline */
    SHARDKV_SHUTDOWN = 13,    /* the handle is being closed */
    SHARDKV_IO = 14,
    SHARDKV_CORRUPT = 15,
    SHARDKV_NO_SPACE = 16,
    SHARDKV_BAD_VERSION = 17, /* the server speaks another version */
    SHARDKV_MALFORMED = 18,
    SHARDKV_EXISTS = 19,   /* join: the group is a member already */
    SHARDKV_NO_GROUP = 20, /* leave, move, transfer: no such group */
    SHARDKV_CONFLICT = 21, /* an administrative change against the present state */
    SHARDKV_WRONG_CLUSTER = 22,
    SHARDKV_WRONG_NODE = 23,
    SHARDKV_IN_USE = 24,
    SHARDKV_READ_ONLY = 25, /* for lack of disk space */
    SHARDKV_NOT_READY = 26,
    SHARDKV_CANCELLED = 27, /* by shardkv_cancel or shardkv_close; certainly not applied */
    SHARDKV_DUPLICATE = 28,
    SHARDKV_DENIED = 29 /* only servers that proved the peer key may ask that */
};

/* One clause for people; the code's name ("NOT_FOUND"); both for any number, in static memory. */
SHARDKV_API const char *shardkv_strerror(int code);
SHARDKV_API const char *shardkv_err_name(int code);
/* Whether the same call may end otherwise if it is made again. */
SHARDKV_API bool shardkv_retryable(int code);
/* Whether a write that ended so may have been applied: true for SHARDKV_OK and SHARDKV_UNKNOWN. */
SHARDKV_API bool shardkv_maybe_applied(int code);

/* ---- Results ---- */

struct shardkv_bytes {
    const void *data; /* may be NULL if len is 0 */
    size_t len;
};

/* The bytes of a C string without its terminator. */
SHARDKV_API struct shardkv_bytes shardkv_text(const char *text);

struct shardkv_record {
    struct shardkv_bytes key;
    struct shardkv_bytes value;
};

struct shardkv_replica {
    uint32_t id;
    const char *url;
};

struct shardkv_group {
    uint32_t gid;
    bool member; /* false: has left, but may still hold shards */
    uint64_t joined_at;
    uint64_t incarnation;
    size_t n_replicas;
    const struct shardkv_replica *replicas;
};

/* A numbered configuration: which group owns which shard. */
struct shardkv_config {
    uint64_t num;
    uint8_t cluster_id[16];
    uint32_t n_shards;
    const uint32_t *shards; /* the owner of each; 0: nobody */
    const uint32_t *from;   /* the last owner before it; 0: there was none */
    size_t n_groups;
    const struct shardkv_group *groups; /* ascending by gid */
    bool moves_paused;                  /* no shard is copied until they are resumed */
    size_t n_ctrlers;                   /* the controllers at present; 0: not known */
    const struct shardkv_replica *ctrlers;
};

enum shardkv_shard_state {
    SHARDKV_SHARD_ABSENT = 0,
    SHARDKV_SHARD_SERVING = 1,
    SHARDKV_SHARD_PULLING = 2,
    SHARDKV_SHARD_WAITING = 3,
    SHARDKV_SHARD_FROZEN = 4,
    SHARDKV_SHARD_DROPPING = 5
};

enum shardkv_role {
    SHARDKV_FOLLOWER = 0,
    SHARDKV_PRE_CANDIDATE = 1,
    SHARDKV_CANDIDATE = 2,
    SHARDKV_LEADER = 3,
    SHARDKV_LEARNER = 9
};

struct shardkv_shard_status {
    uint32_t shard;
    uint32_t state; /* enum shardkv_shard_state */
    uint64_t epoch;
    uint64_t keys, bytes; /* estimates */
};

enum shardkv_move_phase {
    SHARDKV_MOVE_WAITING = 0,
    SHARDKV_MOVE_COPYING = 1,      /* the old owner serves */
    SHARDKV_MOVE_CATCHING_UP = 2,  /* what changed meanwhile follows; the old owner serves */
    SHARDKV_MOVE_HANDING_OVER = 3, /* the pause */
    SHARDKV_MOVE_LETTING_GO = 4,   /* the new owner serves, the old one deletes its copy */
    SHARDKV_MOVE_DONE = 5          /* shown for a while after it is over */
};

#define SHARDKV_NOT_KNOWN UINT64_MAX

struct shardkv_move_status {
    uint32_t shard;
    uint32_t from, to; /* gids */
    uint32_t phase;    /* enum shardkv_move_phase */
    uint64_t config;
    uint64_t bytes_done, bytes_total, keys_done, keys_total; /* totals: estimates, or 0 */
    uint64_t rate_bytes_per_s; /* of late; 0: not known, or nothing arrives */
    uint64_t seconds_left;     /* until the new owner serves, or SHARDKV_NOT_KNOWN */
    uint64_t pause_us;         /* how long nobody served; SHARDKV_NOT_KNOWN until it is over */
};

/* What one replica says of itself. */
struct shardkv_node {
    uint32_t gid; /* 0: a controller */
    uint32_t id;
    uint32_t role; /* enum shardkv_role */
    uint32_t leader;
    uint64_t term;
    uint64_t first_index, last_index, commit_index, applied_index, snapshot_index;
    uint64_t db_bytes, log_bytes, uptime_s;
    uint64_t config;
    uint64_t incarnation, group_incarnation;
    uint8_t cluster_id[16];
    bool ready;
    bool read_only; /* too little disk space: it takes no writes */
    const char *version;
    size_t n_shards; /* only a leader tells shards and moves */
    const struct shardkv_shard_status *shards;
    size_t n_moves;
    const struct shardkv_move_status *moves;
};

enum shardkv_member_flags {
    SHARDKV_MEMBER_VOTER = 1,
    SHARDKV_MEMBER_VOTER_OLD = 2, /* voted before the change that is under way */
    SHARDKV_MEMBER_LEARNER = 4    /* receives everything, does not vote yet */
};

struct shardkv_member {
    uint32_t id;
    uint32_t flags; /* enum shardkv_member_flags */
    const char *url;
    uint64_t incarnation; /* 0: it was not heard from yet */
    uint64_t match_index; /* only a leader tells: it has the log up to here */
    uint64_t heard_ms;    /* how long ago who tells this heard from it; SHARDKV_NOT_KNOWN: never */
};

/* A group's replicas, as one of them knows them. */
struct shardkv_members {
    uint32_t gid, id; /* of the replica that tells */
    uint64_t incarnation;
    uint64_t configuration_index;
    bool committed; /* false: the last change of the replicas may yet be taken back */
    uint64_t term;
    uint32_t leader;
    uint64_t commit_index, last_index, last_term; /* of its log */
    size_t n_members;
    const struct shardkv_member *members; /* ascending by id */
};

/* The end of an operation. Made by the library, released as a whole by shardkv_result_free. */
struct shardkv_result {
    int code;                   /* enum shardkv_code */
    const char *message;        /* for people: what happened, and where; never NULL */
    struct shardkv_bytes value; /* get */
    uint64_t version;           /* get: grows with each change of the key */
    size_t n_outputs;           /* writes that ran: one for each operation */
    const uint32_t *outputs;    /* put: 0, append: the length after it, delete: keys removed */
    size_t n_records;           /* scan */
    const struct shardkv_record *records;  /* in bytewise order of the keys */
    bool more;                             /* scan: there are further keys after the last one */
    uint64_t config_num;                   /* join, leave, move, pause: the configuration made */
    const struct shardkv_config *config;   /* config, plans; else NULL */
    const struct shardkv_node *node;       /* status; else NULL */
    const struct shardkv_members *members; /* members; else NULL */
};

/* NULL is fine. */
SHARDKV_API void shardkv_result_free(struct shardkv_result *result);

/* Takes the result over: release it with shardkv_result_free, then or later. */
typedef void (*shardkv_callback)(void *context, struct shardkv_result *result);

/* ---- Handles ---- */

struct shardkv;

enum shardkv_trace_level {
    SHARDKV_TRACE_ERROR = 0,
    SHARDKV_TRACE_WARN = 1,
    SHARDKV_TRACE_INFO = 2,
    SHARDKV_TRACE_DEBUG = 3
};

struct shardkv_options {
    size_t size; /* of this struct, set by shardkv_options_init */
    /* "URL,URL,…" of the controllers; tcp://, tls+tcp:// or ipc://. The first server that answers
     * and knows its cluster settles which cluster the handle speaks to: it refuses any other one.
     */
    const char *ctrlers;
    uint32_t timeout_ms; /* of operations that give none; default 5000 */
    /* PEM files for tls+tcp:// URLs: the own certificate and its key, which servers ask for, and
     * the authority's, which servers must show a certificate of, for the host of their URL. */
    const char *tls_cert, *tls_key, *tls_ca;
    const char *prefer;       /* URL of a replica that is asked first for as long as it answers at
                                 all; NULL: none */
    uint32_t max_outstanding; /* operations at once; beyond, SHARDKV_BUSY. Default 65536 */
    /* Diagnostics, one line an event, on a thread of the library's; NULL: none. */
    void (*trace)(void *context, int level, const char *line);
    void *trace_context;
    int trace_level; /* default SHARDKV_TRACE_WARN */
    /* Not 0: this program uses nng through this library alone. Callbacks of all handles then run on
     * one thread (none may wait for another one's), which is about a quarter faster with many
     * small operations. For the whole process, for ever; without effect with TLS. Default 0. */
    int sole_nng_user;
};

/* Fills in the defaults: shardkv_options_init(&options, sizeof(options)). */
SHARDKV_API void shardkv_options_init(struct shardkv_options *options, size_t size);

/* Opens a handle. No server needs to be up. SHARDKV_OK; or SHARDKV_INVALID or SHARDKV_IO with one
 * line in error (which may be NULL). */
SHARDKV_API int shardkv_open(const struct shardkv_options *options, struct shardkv **handle,
                             char *error, size_t error_size);

/* Ends what is outstanding (writes that were sent as SHARDKV_UNKNOWN, all else as
 * SHARDKV_CANCELLED), waits for the callbacks, releases the handle and clears the pointer. Never
 * call it from a callback, and start nothing on the handle afterwards. */
SHARDKV_API void shardkv_close(struct shardkv **handle);

/* Ends an operation early, in the same way, by the id that its start gave. One that has ended
 * already is left alone. */
SHARDKV_API void shardkv_cancel(struct shardkv *handle, uint64_t id);

/* ---- Reading and writing ---------------------------------------------------------------------
 *
 * timeout_ms: 0 means the handle's own. result and id may be NULL. *result is always set,
 * whatever the code; the code returned is also in it.
 */

/* SHARDKV_OK with the value, or SHARDKV_NOT_FOUND. */
SHARDKV_API int shardkv_get(struct shardkv *handle, struct shardkv_bytes key, uint32_t timeout_ms,
                            struct shardkv_result **result);
SHARDKV_API int shardkv_get_async(struct shardkv *handle, struct shardkv_bytes key,
                                  uint32_t timeout_ms, shardkv_callback callback, void *context,
                                  uint64_t *id);

SHARDKV_API int shardkv_put(struct shardkv *handle, struct shardkv_bytes key,
                            struct shardkv_bytes value, uint32_t timeout_ms,
                            struct shardkv_result **result);
SHARDKV_API int shardkv_put_async(struct shardkv *handle, struct shardkv_bytes key,
                                  struct shardkv_bytes value, uint32_t timeout_ms,
                                  shardkv_callback callback, void *context, uint64_t *id);

/* Adds to the end of the value; a key that is not there begins empty. outputs[0]: the length. */
SHARDKV_API int shardkv_append(struct shardkv *handle, struct shardkv_bytes key,
                               struct shardkv_bytes value, uint32_t timeout_ms,
                               struct shardkv_result **result);
SHARDKV_API int shardkv_append_async(struct shardkv *handle, struct shardkv_bytes key,
                                     struct shardkv_bytes value, uint32_t timeout_ms,
                                     shardkv_callback callback, void *context, uint64_t *id);

/* outputs[0]: 1 if the key was there, else 0; both are SHARDKV_OK. */
SHARDKV_API int shardkv_delete(struct shardkv *handle, struct shardkv_bytes key,
                               uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_delete_async(struct shardkv *handle, struct shardkv_bytes key,
                                     uint32_t timeout_ms, shardkv_callback callback, void *context,
                                     uint64_t *id);

/* Puts `value` if the present value is *expected (NULL: if there is no such key); else
 * SHARDKV_MISMATCH. */
SHARDKV_API int shardkv_cas(struct shardkv *handle, struct shardkv_bytes key,
                            const struct shardkv_bytes *expected, struct shardkv_bytes value,
                            uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_cas_async(struct shardkv *handle, struct shardkv_bytes key,
                                  const struct shardkv_bytes *expected, struct shardkv_bytes value,
                                  uint32_t timeout_ms, shardkv_callback callback, void *context,
                                  uint64_t *id);

enum shardkv_condition_type { SHARDKV_IF_ABSENT = 1, SHARDKV_IF_VALUE = 2 };
struct shardkv_condition {
    enum shardkv_condition_type type;
    struct shardkv_bytes key;
    struct shardkv_bytes value; /* SHARDKV_IF_VALUE */
};
enum shardkv_operation_type { SHARDKV_PUT = 1, SHARDKV_APPEND = 2, SHARDKV_DELETE = 3 };
struct shardkv_operation {
    enum shardkv_operation_type type;
    struct shardkv_bytes key;
    struct shardkv_bytes value; /* put, append */
};

/* A transaction within one shard: if all conditions hold, all operations are done, else none
 * (SHARDKV_MISMATCH). At most 16 of each, at least one operation, 40 MiB together. All keys must
 * lie in one shard (else SHARDKV_INVALID): give them the same tag in braces, as in "{user7}.name".
 */
SHARDKV_API int shardkv_write(struct shardkv *handle, const struct shardkv_condition *conditions,
                              size_t n_conditions, const struct shardkv_operation *operations,
                              size_t n_operations, uint32_t timeout_ms,
                              struct shardkv_result **result);
SHARDKV_API int shardkv_write_async(struct shardkv *handle,
                                    const struct shardkv_condition *conditions, size_t n_conditions,
                                    const struct shardkv_operation *operations, size_t n_operations,
                                    uint32_t timeout_ms, shardkv_callback callback, void *context,
                                    uint64_t *id);

/* Up to `limit` records whose keys begin with `prefix` and are above `after` (both may be empty),
 * in bytewise order over all shards. Each record is as it was at some moment of the call; the whole
 * is not a snapshot. A result that would pass 32 MiB is cut, with `more` set. */
SHARDKV_API int shardkv_scan(struct shardkv *handle, struct shardkv_bytes prefix,
                             struct shardkv_bytes after, uint32_t limit, uint32_t timeout_ms,
                             struct shardkv_result **result);
SHARDKV_API int shardkv_scan_async(struct shardkv *handle, struct shardkv_bytes prefix,
                                   struct shardkv_bytes after, uint32_t limit, uint32_t timeout_ms,
                                   shardkv_callback callback, void *context, uint64_t *id);

/* ---- Administration ---- */

#define SHARDKV_CONFIG_LATEST UINT64_MAX

/* A configuration by number; a number above the last gives the latest. Linearizable. */
SHARDKV_API int shardkv_config(struct shardkv *handle, uint64_t num, uint32_t timeout_ms,
                               struct shardkv_result **result);
SHARDKV_API int shardkv_config_async(struct shardkv *handle, uint64_t num, uint32_t timeout_ms,
                                     shardkv_callback callback, void *context, uint64_t *id);

struct shardkv_join {
    uint32_t gid;         /* 1 to 2^31 - 1 */
    const char *replicas; /* "ID=URL,ID=URL,…" */
};

/* Changes of the configuration, with its new number in config_num. A change that was sent and not
 * answered in time is SHARDKV_UNKNOWN; repeated by the library it is never made twice. */
SHARDKV_API int shardkv_join(struct shardkv *handle, const struct shardkv_join *groups, size_t n,
                             uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_join_async(struct shardkv *handle, const struct shardkv_join *groups,
                                   size_t n, uint32_t timeout_ms, shardkv_callback callback,
                                   void *context, uint64_t *id);
SHARDKV_API int shardkv_leave(struct shardkv *handle, const uint32_t *gids, size_t n,
                              uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_leave_async(struct shardkv *handle, const uint32_t *gids, size_t n,
                                    uint32_t timeout_ms, shardkv_callback callback, void *context,
                                    uint64_t *id);
SHARDKV_API int shardkv_move(struct shardkv *handle, uint32_t shard, uint32_t gid,
                             uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_move_async(struct shardkv *handle, uint32_t shard, uint32_t gid,
                                   uint32_t timeout_ms, shardkv_callback callback, void *context,
                                   uint64_t *id);

/* Stops the copies of shards that move, or lets them go on: a change of the configuration like the
 * others, which every group learns of and which stands until it is undone. Pausing what is paused
 * is SHARDKV_OK and makes no new configuration. */
SHARDKV_API int shardkv_pause_moves(struct shardkv *handle, bool paused, uint32_t timeout_ms,
                                    struct shardkv_result **result);
SHARDKV_API int shardkv_pause_moves_async(struct shardkv *handle, bool paused, uint32_t timeout_ms,
                                          shardkv_callback callback, void *context, uint64_t *id);

/* Dry runs: what the change would make of the latest configuration, in config and config_num, or
 * what it would be refused with. A change that would make none gives the latest itself.
 * Linearizable; nothing is changed, and they never end as SHARDKV_UNKNOWN. */
SHARDKV_API int shardkv_plan_join(struct shardkv *handle, const struct shardkv_join *groups,
                                  size_t n, uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_plan_join_async(struct shardkv *handle, const struct shardkv_join *groups,
                                        size_t n, uint32_t timeout_ms, shardkv_callback callback,
                                        void *context, uint64_t *id);
SHARDKV_API int shardkv_plan_leave(struct shardkv *handle, const uint32_t *gids, size_t n,
                                   uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_plan_leave_async(struct shardkv *handle, const uint32_t *gids, size_t n,
                                         uint32_t timeout_ms, shardkv_callback callback,
                                         void *context, uint64_t *id);
SHARDKV_API int shardkv_plan_move(struct shardkv *handle, uint32_t shard, uint32_t gid,
                                  uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_plan_move_async(struct shardkv *handle, uint32_t shard, uint32_t gid,
                                        uint32_t timeout_ms, shardkv_callback callback,
                                        void *context, uint64_t *id);

/* What the replica at that URL says of itself, without a quorum. One that is down shows as
 * SHARDKV_UNAVAILABLE, soon; one that is silent as SHARDKV_TIMEOUT. */
SHARDKV_API int shardkv_status(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                               struct shardkv_result **result);
SHARDKV_API int shardkv_status_async(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                                     shardkv_callback callback, void *context, uint64_t *id);

/* Asks the leader of a group (0: of the controllers) to hand leadership over to replica `to` (0: to
 * whom it likes). SHARDKV_OK: it has begun to. */
SHARDKV_API int shardkv_transfer(struct shardkv *handle, uint32_t gid, uint32_t to,
                                 uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_transfer_async(struct shardkv *handle, uint32_t gid, uint32_t to,
                                       uint32_t timeout_ms, shardkv_callback callback,
                                       void *context, uint64_t *id);

/* The replicas of a group, as the replica at that URL knows them, without a quorum. */
SHARDKV_API int shardkv_members(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                                struct shardkv_result **result);
SHARDKV_API int shardkv_members_async(struct shardkv *handle, const char *url, uint32_t timeout_ms,
                                      shardkv_callback callback, void *context, uint64_t *id);

/* Adds a replica to a group (0: to the controllers), or removes one. It is added as a learner,
 * which votes by itself once it has caught up. configuration_index says which configuration of the
 * group is meant: that of a committed one as shardkv_members told it. If the group has another one
 * by now, nothing is done and the code is SHARDKV_CONFLICT: look again. But if the group already is
 * as the change would make it (the replica is there under that URL, or is not there), that is
 * SHARDKV_OK; so both may be repeated with the same index after SHARDKV_UNKNOWN. What would break
 * the quorum is SHARDKV_CONFLICT too. The index is that at which the replica which tells knows the
 * configuration to be in force: after a restart or with another leader it may be another one for
 * the same configuration, and then the refusal only costs another look. The configuration of the
 * cluster follows a moment later. */
SHARDKV_API int shardkv_replica_add(struct shardkv *handle, uint32_t gid,
                                    uint64_t configuration_index, uint32_t replica, const char *url,
                                    uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_replica_add_async(struct shardkv *handle, uint32_t gid,
                                          uint64_t configuration_index, uint32_t replica,
                                          const char *url, uint32_t timeout_ms,
                                          shardkv_callback callback, void *context, uint64_t *id);
SHARDKV_API int shardkv_replica_remove(struct shardkv *handle, uint32_t gid,
                                       uint64_t configuration_index, uint32_t replica,
                                       uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_replica_remove_async(struct shardkv *handle, uint32_t gid,
                                             uint64_t configuration_index, uint32_t replica,
                                             uint32_t timeout_ms, shardkv_callback callback,
                                             void *context, uint64_t *id);

/* For a group that has lost its majority for good: orders the replica at that URL to go on as the
 * only one, from the configuration that it told. What only the others had acknowledged is lost, and
 * they must never be started again. */
SHARDKV_API int shardkv_replica_recover(struct shardkv *handle, const char *url, uint32_t gid,
                                        uint64_t configuration_index, uint32_t replica,
                                        uint32_t timeout_ms, struct shardkv_result **result);
SHARDKV_API int shardkv_replica_recover_async(struct shardkv *handle, const char *url, uint32_t gid,
                                              uint64_t configuration_index, uint32_t replica,
                                              uint32_t timeout_ms, shardkv_callback callback,
                                              void *context, uint64_t *id);

#ifdef __cplusplus
}
#endif

#endif
