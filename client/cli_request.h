/* One line of `pipe`: a request parsed from JSON, and the reply to it as JSON. No input or output
 * here, so that all of it can be tested.
 *
 *   {"id":7,"op":"put","key":"k","arg":"v"}   ->  {"id":7,"ok":true,"out":null}
 *
 * A key or value is a JSON string, or {"base64":"..."} for any bytes.
 */
#ifndef CLIENT_CLI_REQUEST_H
#define CLIENT_CLI_REQUEST_H

#include "client/cli.h"

#define REQUEST_MAX_LINE (48u << 20)

enum request_op {
    REQUEST_GET,
    REQUEST_PUT,
    REQUEST_APPEND,
    REQUEST_DELETE,
    REQUEST_CAS,
    REQUEST_STATUS,
    REQUEST_CONFIG,
    REQUEST_JOIN,
    REQUEST_LEAVE,
    REQUEST_MOVE,
    REQUEST_TRANSFER,
    REQUEST_PAUSE,
    REQUEST_MEMBERS,
    REQUEST_REPLICA
};

enum request_change { REQUEST_REPLICA_ADD, REQUEST_REPLICA_REMOVE, REQUEST_REPLICA_RECOVER };

struct request {
    json_t *document;
    json_t *id; /* any JSON; borrowed from the document, or NULL: there is none */
    enum request_op op;
    /* Owned: */
    struct shardkv_bytes key, arg, arg2;
    bool has_arg; /* cas: whether a value is expected, or else the key's absence */
    /* Borrowed from the document: */
    const char *node, *cluster, *url;
    uint32_t timeout_ms;        /* status, members; 0: not given */
    enum request_change change; /* replica */
    uint32_t gid, shard, replica;
    bool paused;  /* moves */
    uint64_t num; /* config: SHARDKV_CONFIG_LATEST if not given; replica: configuration_index */
};

/* Parses a line without its newline. NULL: it is a request; else what is wrong with it, in `wrong`
 * or static memory, and the id is set if there was one. Release it with request_fini either way. */
const char *request_parse(struct request *request, const char *line, size_t len, char wrong[200]);
void request_fini(struct request *request);

/* Whether a failure is certain: reads and status never end as unknown. */
bool request_is_read(enum request_op op);

/* The reply to a request that ended so; a new reference. */
json_t *request_reply(const struct request *request, const struct shardkv_result *result);
/* The reply to what was not run at all, with the id (NULL: null). */
json_t *request_refusal(json_t *id, const char *why);

#endif
