/* ctrler_command: what the controller writes into its log, and what applying it gives, as structs
 * and as bytes.
 *
 * A command: u8 format = 1, u8 kind, then by kind
 *
 *   INIT     16 bytes cluster id, u32 number of shards
 *   JOIN     session key (40 bytes), u16 n, n x (u32 gid, u64 incarnation, SPEC)
 *   LEAVE    session key, u16 n, n x u32 gid
 *   MOVE     session key, u32 shard, u32 gid
 *   CONFIRM  u32 gid, u64 incarnation, u32 n, n x (u32 shard, u64 epoch)
 *   BIND     u32 gid, u64 incarnation
 *   PAUSE    session key, u8 paused
 *   REPLICAS u32 gid, u64 incarnation, u64 term, u64 index, SPEC
 *
 * A result (21 bytes; kept for retries, so at most SESSION_MAX_RESULT): u8 format = 1, u16 status,
 * u64 configuration number, u16 reason, u32 a, u32 b. The reason and its
 * two numbers become a clause of text when somebody is answered: text itself is not replicated.
 */
#ifndef SHARDCTRLER_CTRLER_COMMAND_H
#define SHARDCTRLER_CTRLER_COMMAND_H

#include "client/proto.h"
#include "raft/rsm.h"

enum ctrler_command_kind {
    CTRLER_INIT = 1, /* the cluster's first: its id and its number of shards; later ones lose */
    CTRLER_JOIN = 2,
    CTRLER_LEAVE = 3,
    CTRLER_MOVE = 4,
    CTRLER_CONFIRM = 5, /* a group has installed shards */
    CTRLER_BIND = 6,    /* a group showed its incarnation for the first time */
    CTRLER_PAUSE = 7,   /* stops the copies of shards that move, or lets them go on */
    CTRLER_REPLICAS = 8 /* a group, or the controller itself (gid 0), says who its replicas are */
};

struct ctrler_command {
    enum ctrler_command_kind kind;
    struct session_key session;      /* JOIN, LEAVE, MOVE, PAUSE */
    uint32_t gid;                    /* MOVE, CONFIRM, BIND, REPLICAS */
    uint64_t incarnation;            /* CONFIRM, BIND, REPLICAS; 0 with gid 0 */
    raft_term term;                  /* REPLICAS: the leader's that says so */
    raft_index index;                /* REPLICAS: of the configuration's entry in its log */
    shard_id shard;                  /* MOVE */
    bool paused;                     /* PAUSE */
    uint8_t cluster_id[16];          /* INIT */
    uint32_t n_shards;               /* INIT */
    uint32_t n;                      /* of one of these, owned once decoded: ctrler_command_fini */
    struct proto_join_group *groups; /* JOIN, at most PROTO_MAX_GROUPS */
    uint32_t *gids;                  /* LEAVE, at most PROTO_MAX_GROUPS */
    struct proto_confirm *confirms;  /* CONFIRM, at most SHARD_MAX_COUNT */
    struct spec *replicas;           /* REPLICAS; owned once decoded as well */
};

void ctrler_command_encode(const struct ctrler_command *command, struct buf *out);
/* ST_OK; ST_VERSION: a format or kind that this program does not know; ST_CORRUPT: malformed.
 * Unless ST_OK nothing is owned. Whether gids and shards make sense is not checked here. */
enum status ctrler_command_decode(struct slice bytes, struct ctrler_command *command);
void ctrler_command_fini(struct ctrler_command *command);
/* Whether the session rule applies to commands of this kind. */
bool ctrler_command_has_session(enum ctrler_command_kind kind);

/* Why a command was refused. The numbers are in logs' results: add at the end. a and b are the
 * numbers that the clause names. */
enum ctrler_reason {
    CTRLER_REASON_NONE = 0,
    CTRLER_REASON_NOT_INITIALIZED = 1,
    CTRLER_REASON_INITIALIZED = 2,      /* a: shards */
    CTRLER_REASON_BAD_SHARD_COUNT = 3,  /* a: shards */
    CTRLER_REASON_NO_GROUPS_NAMED = 4,  /* an empty list */
    CTRLER_REASON_BAD_GID = 5,          /* a: gid */
    CTRLER_REASON_NAMED_TWICE = 6,      /* a: gid */
    CTRLER_REASON_ALREADY_MEMBER = 7,   /* a: gid */
    CTRLER_REASON_NOT_MEMBER = 8,       /* a: gid */
    CTRLER_REASON_SHARED_URL = 9,       /* a, b: gids */
    CTRLER_REASON_TOO_MANY_GROUPS = 10, /* a: how many at most */
    CTRLER_REASON_INCARNATION = 11,     /* a: gid */
    CTRLER_REASON_BAD_SHARD = 12,       /* a: shard, b: shards of the cluster */
    CTRLER_REASON_NEVER_OWNER = 13,     /* a: gid, b: shard */
    CTRLER_REASON_NO_INCARNATION = 14,  /* a: gid */
    CTRLER_REASON_NOT_KNOWN = 15,       /* a: gid, neither a member nor a holder of shards */
    CTRLER_REASON_TOO_MANY_LISTED = 16  /* a: how many at most */
};

struct ctrler_result {
    enum status status;
    config_num num; /* ST_OK: the configuration made, or the present one if none was needed */
    enum ctrler_reason reason;
    uint32_t a, b;
};

void ctrler_result_encode(const struct ctrler_result *result, struct buf *out);
bool ctrler_result_decode(struct slice bytes, struct ctrler_result *result);
/* Appends one clause for people; nothing for CTRLER_REASON_NONE. */
void ctrler_result_text(const struct ctrler_result *result, struct buf *text);

#endif
