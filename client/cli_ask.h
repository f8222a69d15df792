/* ask: one question to many replicas at once. */
#ifndef CLIENT_CLI_ASK_H
#define CLIENT_CLI_ASK_H

#include "client/kv.h"

/* shardkv_status_async, or shardkv_members_async. */
typedef int (*cli_ask_async)(struct shardkv *kv, const char *url, uint32_t timeout_ms,
                             shardkv_callback callback, void *context, uint64_t *id);

/* A replica, and where its answer goes: NULL stays there if the question could not be asked. */
struct cli_question {
    const char *url;
    struct shardkv_result **result;
};

/* Asks all of them, each for at most timeout_ms, and waits for their answers. Always ends. */
void cli_ask_all(struct shardkv *kv, const struct cli_question *questions, size_t n,
                 uint32_t timeout_ms, cli_ask_async ask);

#endif
