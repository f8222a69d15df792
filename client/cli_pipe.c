/* pipe: JSON requests on standard input, one a line; JSON replies on standard output, one a line,
 * in the same order. One operation at a time and one session: what a test harness or a script
 * drives. The requests and replies themselves are in cli_request.c.
 */
#include <unistd.h>

#include "client/cli_lines.h"
#include "client/cli_request.h"

/* ---- Requests ---- */

static uint32_t node_timeout(const struct request *request, uint32_t timeout_ms)
{
    return request->timeout_ms > 0 && request->timeout_ms < timeout_ms ? request->timeout_ms
                                                                       : timeout_ms;
}

static void run_replica(struct shardkv *kv, const struct request *request, uint32_t timeout_ms,
                        struct shardkv_result **result)
{
    switch (request->change) {
    case REQUEST_REPLICA_ADD:
        shardkv_replica_add(kv, request->gid, request->num, request->replica, request->url,
                            timeout_ms, result);
        return;
    case REQUEST_REPLICA_REMOVE:
        shardkv_replica_remove(kv, request->gid, request->num, request->replica, timeout_ms,
                               result);
        return;
    case REQUEST_REPLICA_RECOVER:
        shardkv_replica_recover(kv, request->url, request->gid, request->num, request->replica,
                                timeout_ms, result);
        return;
    }
}

static void run(struct cli *cli, const struct request *request, uint32_t timeout_ms,
                struct shardkv_result **result)
{
    struct shardkv_join group = {request->gid, request->cluster};
    struct shardkv *kv = cli->kv;

    switch (request->op) {
    case REQUEST_GET:
        shardkv_get(kv, request->key, timeout_ms, result);
        break;
    case REQUEST_PUT:
        shardkv_put(kv, request->key, request->arg, timeout_ms, result);
        break;
    case REQUEST_APPEND:
        shardkv_append(kv, request->key, request->arg, timeout_ms, result);
        break;
    case REQUEST_DELETE:
        shardkv_delete(kv, request->key, timeout_ms, result);
        break;
    case REQUEST_CAS:
        shardkv_cas(kv, request->key, request->has_arg ? &request->arg : NULL, request->arg2,
                    timeout_ms, result);
        break;
    case REQUEST_MEMBERS:
        shardkv_members(kv, request->node, node_timeout(request, timeout_ms), result);
        break;
    case REQUEST_REPLICA:
        run_replica(kv, request, timeout_ms, result);
        break;
    case REQUEST_STATUS:
        shardkv_status(kv, request->node, node_timeout(request, timeout_ms), result);
        break;
    case REQUEST_CONFIG:
        shardkv_config(kv, request->num, timeout_ms, result);
        break;
    case REQUEST_JOIN:
        shardkv_join(kv, &group, 1, timeout_ms, result);
        break;
    case REQUEST_LEAVE:
        shardkv_leave(kv, &request->gid, 1, timeout_ms, result);
        break;
    case REQUEST_MOVE:
        shardkv_move(kv, request->shard, request->gid, timeout_ms, result);
        break;
    case REQUEST_TRANSFER:
        shardkv_transfer(kv, request->gid, request->replica, timeout_ms, result);
        break;
    case REQUEST_PAUSE:
        shardkv_pause_moves(kv, request->paused, timeout_ms, result);
        break;
    }
}

/* The reply to a line. The time counts from here, where the line was read. */
static json_t *answer(struct cli *cli, const char *line, size_t len)
{
    uint64_t deadline_ms = cli_now_ms() + cli->timeout_ms, now;
    struct shardkv_result *result = NULL;
    struct request request;
    char buffer[200];
    const char *wrong = request_parse(&request, line, len, buffer);
    json_t *reply;

    if (wrong != NULL) {
        reply = request_refusal(request.id, wrong);
    } else {
        now = cli_now_ms();
        run(cli, &request, now < deadline_ms ? (uint32_t)(deadline_ms - now) : 1, &result);
        reply = request_reply(&request, result);
        shardkv_result_free(result);
    }
    request_fini(&request);
    return reply;
}

int cli_pipe(struct cli *cli, int argc, char **argv)
{
    struct lines lines;
    enum line_kind kind;
    const char *line;
    size_t len;

    (void)argv;
    if (argc > 0) {
        return cli_usage_error("pipe", "takes no arguments");
    }
    if (cli_open(cli) == NULL) {
        return CLI_USAGE;
    }
    lines_init(&lines, STDIN_FILENO, REQUEST_MAX_LINE);
    while ((kind = lines_next(&lines, &line, &len)) != LINE_NONE && !ferror(stdout)) {
        cli_echo_json(kind == LINE_GIVEN ? answer(cli, line, len)
                                         : request_refusal(NULL, "the line is above 48 MiB"));
    }
    lines_fini(&lines);
    return CLI_DONE;
}
